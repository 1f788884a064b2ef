"""``POST /work`` as it goes on: the worker's log goes out, and what the client says comes in.

Two tasks: one hears the client, one tells it everything, so that a line of the server's own never
stands within one of the log. Whoever goes away ends both.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import time

from outpost.runner.serve.asking import TOO_MUCH, Done
from outpost.runner.serve.calls import read_call, read_object, read_said
from outpost.runner.serve.exchange import LINES, Gone, as_line
from outpost.runner.serve.log_lines import LogLines
from outpost.runner.serve.refused import Refused, malformed
from outpost.wire.events import timestamp
from outpost.wire.work import CALL_MOST_BYTES, LINE_MOST_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from outpost.runner.place import Place
    from outpost.runner.serve.exchange import Answer, Body
    from outpost.runner.serve.server import Server
    from outpost.runner.serve.works import Start
    from outpost.wire.work import Call, Said

CALL_S = 60.0
ASKS_MOST = 16
LOOK_S = 1.0
"""How often a silent worker is looked at."""
END_LOOK_S, END_LOOK_MOST_S = 0.01, 0.25
"""The same once it has said how it ended."""


class Stream:
    """One client's stream. ``leave`` tells it that this instance ends."""

    def __init__(self, server: Server, body: Body, answer: Answer) -> None:
        self._server = server
        self._body = body
        self._answer = answer
        self._wake = asyncio.Event()
        self._saying: list[bytes] = []
        self._said_at = 0.0
        self._call: Call | None = None
        self._place: Place | None = None
        self._start: Start | None = None
        self._asks: set[asyncio.Task[Done]] = set()

    async def run(self) -> None:
        """Serve the client to its end; raises ``Refused`` before anything was answered."""
        try:
            line = await asyncio.wait_for(self._body.line(CALL_MOST_BYTES), CALL_S)
        except asyncio.TimeoutError:
            raise malformed(f"no call came within {CALL_S:g} s") from None
        if not line:
            raise malformed("the first line is a call, and there is none")
        await self._attend(read_call(read_object(line, "the call")))
        await self._answer.begin(200, LINES)
        # Before anything else: the client waits for it, and the start is only on its way.
        await self._tell_said()
        telling = asyncio.ensure_future(self._tell())
        hearing = asyncio.ensure_future(self._hear())
        try:
            await asyncio.wait({telling, hearing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (telling, hearing):
                task.cancel()
            outcomes = await asyncio.gather(telling, hearing, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(
                outcome, (asyncio.CancelledError, Gone)
            ):
                raise outcome

    def leave(self) -> None:
        """Tell the client that this instance ends; the worker's end is still told."""
        if self._call is not None:  # the first that is said is that it is attached
            self._say({"said": "leaving"})

    async def _attend(self, call: Call) -> None:
        """Find a call's worker, or start it; raises ``Refused``."""
        place, start = await self._server.works.attend(call)
        # What is not needed any more holds secrets.
        call.pop("environment", None)
        call.pop("order", None)
        self._say(
            {
                "said": "attached",
                "worker_id": place.worker_id,
                "instance": self._server.instance,
                "liveness": self._server.works.row(place.worker_id)["liveness"],
                "started": start is not None,
            }
        )
        self._call, self._place, self._start = call, place, start
        if self._server.works.leaving:
            self.leave()

    async def _tell(self) -> None:
        """Tell of one worker after the other, until there is to be no further one."""
        while self._call and self._place:
            call, place = self._call, self._place
            with contextlib.ExitStack() as stack:
                stack.enter_context(self._server.following.stream(place.worker_id))
                stack.enter_context(self._server.growth.watched(place.directory, self._wake))
                log = stack.enter_context(LogLines(place.path("events.jsonl")))
                await self._wait_for_start()
                await log.seek(call["after"], call.get("offset", 0))
                await self._tell_log(log, place)
            self._place = None
            self._say({"said": "ended", "worker_id": place.worker_id, "liveness": "dead"})
            await self._wait_for_more(bool(call.get("hold")))
        await self._answer.end()

    async def _wait_for_more(self, hold: bool) -> None:
        """Wait for answers to what was asked, and with ``hold`` for another call."""
        while True:
            self._wake.clear()
            await self._tell_said()
            held = hold and not self._server.works.leaving
            if self._place or not (held or self._asks):
                return
            await self._pause(self._server.heartbeat_s)

    async def _wait_for_start(self) -> None:
        """Wait until the worker is started, and say so if it could not be."""
        if self._start is None:
            return
        self._start.add_done_callback(lambda _: self._wake.set())
        while not self._start.done():
            self._wake.clear()
            await self._tell_said()
            await self._pause(self._server.heartbeat_s)
        if problem := self._start.result():
            self._say({"said": "refused", "code": "not_started", "message": problem})

    async def _tell_log(self, log: LogLines, place: Place) -> None:
        """Tell a worker's log as it grows, until its worker is dead and all was told."""
        look_at, look_s, dead = 0.0, END_LOOK_S, False
        while True:
            self._wake.clear()
            if not log.within_line:
                await self._tell_said()
            if piece := log.piece():
                await self._write(piece)
                if log.ended:
                    look_at, look_s = 0.0, END_LOOK_S
                continue
            if dead:
                return
            now = time.monotonic()
            if now >= look_at:
                dead = not place.cared_for()
                look_s = min(2 * look_s, END_LOOK_MOST_S) if log.ended else LOOK_S
                look_at = now + look_s
            if not dead:
                await self._pause(look_at - now)

    async def _tell_said(self) -> None:
        """Say what there is to say, and if there was nothing for a while, that we are here."""
        if not self._saying and time.monotonic() - self._said_at >= self._server.heartbeat_s:
            self._say({"said": "heartbeat", "time": timestamp()})
        while self._saying:
            await self._write(self._saying.pop(0))

    async def _write(self, data: bytes) -> None:
        await self._answer.write(data)
        self._said_at = time.monotonic()

    async def _pause(self, seconds: float) -> None:
        """Wait until something happens, a heartbeat is due, or so long."""
        silent_s = time.monotonic() - self._said_at
        seconds = max(0.0, min(seconds, self._server.heartbeat_s - silent_s))
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    def _say(self, said: Said) -> None:
        self._saying.append(as_line(said))
        self._wake.set()

    async def _hear(self) -> None:
        """Hear the client out, and then wait for it to go away."""
        try:
            while True:
                # With ``hold`` it may be a call again.
                held = self._call is not None and self._call.get("hold")
                line = await self._body.line(CALL_MOST_BYTES if held else LINE_MOST_BYTES)
                if line is None:
                    break
                if line.strip():
                    await self._heed_line(line)
        except Refused as exc:
            self._refuse(exc)  # a line too long: where the next one begins is not known
        await self._body.gone()

    async def _heed_line(self, line: bytes) -> None:
        try:
            said = read_said(line)
            if said["said"] == "message":
                self._post(said)
            elif said["said"] == "ask":
                self._ask(said)
            else:
                await self._call_again(said)
        except Refused as exc:
            self._refuse(exc)

    def _post(self, said: Said) -> None:
        assert self._call
        place = self._server.works.place(self._call["worker_id"])
        self._server.post(place, [said["message"]])  # type: ignore[list-item]  # it was checked
        if "id" in said:
            self._say({"said": "taken", "id": said["id"]})

    def _ask(self, said: Said) -> None:
        assert self._call
        if len(self._asks) >= ASKS_MOST:
            self._tell_done(said["id"], Done(TOO_MUCH, stderr=b"too many asks at once"))
            return
        try:
            stdin = binascii.a2b_base64(said["stdin"])
        except ValueError:
            raise malformed("an ask whose stdin is no base64") from None
        place = self._server.works.place(self._call["worker_id"])
        task = self._server.asking.begin(place, said["verb"], said["arguments"], stdin)
        self._asks.add(task)
        task.add_done_callback(self._asks.discard)
        task.add_done_callback(lambda done: self._tell_done(said["id"], done.result()))

    def _tell_done(self, number: str, done: Done) -> None:
        stdout, stderr = (base64.b64encode(it).decode() for it in (done.stdout, done.stderr))
        exit_code = done.exit_code
        self._say(
            {
                "said": "answer",
                "id": number,
                "exit_code": exit_code,
                "stdout": stdout,
                "stderr": stderr,
            }
        )

    async def _call_again(self, said: Said) -> None:
        if self._place is not None:
            raise Refused(409, "not_yet", "the worker of the call before has not ended")
        if not (self._call and self._call.get("hold")):
            raise Refused(409, "not_held", "a further call needs hold in the one before")
        await self._attend(read_call(said["call"]))  # type: ignore[arg-type]  # it is checked there

    def _refuse(self, refused: Refused) -> None:
        refusal = refused.refusal
        self._say({"said": "refused", "code": refusal["code"], "message": refusal["message"]})
