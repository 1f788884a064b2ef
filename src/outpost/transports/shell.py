"""Workers reached through a shell: upload and start the runner, read its log, signal it.

Everything that ``local``, ``ssh`` and ``e2b`` have in common. A backend hands over a ``Shell``, the
folder it may use there and the programs to call; all else is here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import posixpath
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace

from outpost.errors import Ambiguous, NotDispatched, OutpostFault, Rejected
from outpost.model import Handle, Liveness, Observation, Sighting
from outpost.ports import Completed, Outpost, Worker
from outpost.runner.transcript import MOST_BYTES, is_name
from outpost.transports.archive import runner_archive
from outpost.transports.handles import check_owner
from outpost.transports.ordering import order_at, put_order
from outpost.transports.place import Refused, ShellPlace, hint_of
from outpost.transports.tidying import leftover
from outpost.transports.variables import as_there
from outpost.transports.view import TMUX_CONF, tmux, view_of
from outpost.wire.events import Event, EventReader, LogDamaged
from outpost.wire.orders import Environment, Message, WorkOrder
from outpost.wire.tidying import Leftover, TidyOrder

STOP_MARGIN_S = 30.0
_LACKING = 'for p in "$@"; do command -v "$p" >/dev/null 2>&1 || printf "%s\\n" "$p"; done'
NO_FILE_CODE, NO_FILE = 2, b"can't open file"  # Python's, if the runner is not there
ABSENT = 3  # the runner's exit code for a diff of a workspace that is not there
PROBED = ".\n"
RUNNER_S = 300.0
NURSERY_S = 5.0  # it answers in milliseconds; all that it does can be done without it
NURSERY_TRIES = 2
VIEW_S = 3.0
VIEW_POLL_S = 0.1
START_S = 20.0


class ShellOutpost(Outpost):
    """The part of an outpost that needs nothing but a shell."""

    _uploaded = ""

    def place(self) -> ShellPlace:
        """Return where workers run; called often, must be cheap, and only once ``reach`` was."""
        raise NotImplementedError

    async def reach(self) -> ShellPlace:
        """Return the same; where it is known only there, ask. Raises ``OutpostFault``."""
        return self.place()

    async def spawn(self, order: WorkOrder, environment: Environment) -> Handle:
        try:
            place = await self.reach()
            order, environment = await self.prepare(place, order, environment)
        except Rejected:
            raise
        except OutpostFault as exc:
            raise NotDispatched(exc.message, outpost=self.name, hint=exc.hint) from exc
        handle = self.handle_of(order["worker_id"])
        directory = handle.data["directory"]
        order = order_at(place, order)
        if self.capabilities.attach:
            order["view"] = view_of(place, order, self.runner_path(), directory)
        try:
            # The runner first: an order that nobody carries out would stand there like a worker.
            if self._uploaded != self.runner_path():
                await self._upload(place)
            await put_order(place, directory, order)
        except OSError as exc:
            what = f"cannot write to {self.name}: {exc.strerror or exc}"
            raise NotDispatched(what, outpost=self.name, hint=hint_of(exc)) from exc
        answer = await self.start(directory, environment)
        if not answer:
            raise NotDispatched(f"the runner on {self.name} died at its start", outpost=self.name)
        return handle

    async def prepare(
        self, place: ShellPlace, order: WorkOrder, environment: Environment
    ) -> tuple[WorkOrder, Environment]:
        """Return what a worker there is to get, once all that it needs besides is there.

        Nothing of the worker is there yet. Raises ``OutpostFault``: then it is not started.
        """
        return order, environment

    async def lacking(self, programs: Sequence[str]) -> list[str]:
        if (await self.reach()).is_here:
            return []
        done = await self.run(["sh", "-c", _LACKING, "sh", *programs])
        return done.stdout.decode("utf-8", "replace").splitlines()

    async def find(self, worker_id: str) -> Handle | None:
        async for sighting in self._sightings(worker_id):
            return sighting.handle
        return None

    def workers(self) -> AsyncIterator[Sighting]:
        return self._sightings()

    def worker(self, handle: Handle) -> ShellWorker:
        check_owner(self, handle)
        return ShellWorker(self, handle)

    async def destroy(self, handle: Handle) -> None:
        await self.reach()
        await self.worker(handle).kill()
        await self.call_runner("remove", handle.data["directory"])

    async def tidy(self, order: TidyOrder, handles: Sequence[Handle]) -> list[Leftover]:
        place = await self.reach()
        strangers = [it for it in handles if not self._is_ours(it)]
        names = {handle.worker_id for handle in strangers}
        whole: TidyOrder = {
            **order,
            "workers": [name for name in order["workers"] if name not in names],
            "federation_id": place.federation_id,
            "tmux": tmux(place),
            "archive": runner_archive()[0],
            "cache_max_mib": place.cache_max_mib,
        }
        said = await self.call_runner(
            *("tidy", place.root), stdin=json.dumps(whole).encode(), program=self.reading_program()
        )
        return [_elsewhere(it) for it in strangers] + [json.loads(it) for it in said.splitlines()]

    def reading_program(self) -> Sequence[str]:
        """Return the arguments that make Python there run the runner, for a mere look; empty: the
        one uploaded.
        """
        return ()

    def runner_path(self) -> str:
        """Return where the runner's archive lies there; its name carries its content's hash."""
        return posixpath.join(self.place().root, "runner", runner_archive()[0])

    async def call_runner(
        self, *arguments: str, stdin: bytes = b"", program: Sequence[str] = ()
    ) -> str:
        """Run one of the runner's own commands there and return what it prints.

        ``program`` are the arguments that make Python run it; if empty it is uploaded and run.
        """
        done = await self.try_runner(*arguments, stdin=stdin, program=program)
        if done.exit_code:
            what = f"the runner on {self.name} failed: {done.complaint}"
            raise OutpostFault(what, outpost=self.name)
        return done.stdout.decode("utf-8", "replace")

    async def try_runner(
        self, *arguments: str, stdin: bytes = b"", program: Sequence[str] = ()
    ) -> Completed:
        """Run one of the runner's own commands there, however it ends; see ``call_runner``."""
        place = await self.reach()
        python = (place.python, "-I", "-S")
        if program:
            return await self.run([*python, *program, *arguments], stdin=stdin, timeout_s=RUNNER_S)
        argv = [*python, self.runner_path(), *arguments]
        if self._uploaded == self.runner_path():
            done = await self.run(argv, stdin=stdin, timeout_s=RUNNER_S)
            if done.exit_code != NO_FILE_CODE or NO_FILE not in done.stderr:
                return done
        try:
            await self._upload(place)
        except OSError as exc:
            raise self.fault(exc) from exc
        return await self.run(argv, stdin=stdin, timeout_s=RUNNER_S)

    async def probe(self, worker_id: str | None = None) -> list[dict[str, str]]:
        """Return the runner's view of one worker, or of all of our federation."""
        return await self.probe_at((await self.reach()).root, worker_id)

    async def probe_at(self, root: str, worker_id: str | None = None) -> list[dict[str, str]]:
        """Return the same of a folder that may be another outpost's, or this one's of old."""
        only = [worker_id] if worker_id else []
        probe = ("probe", root, self.place().federation_id, *only)
        rows, end, _ = (await self._ask_nursery(probe) or "").rpartition(PROBED)
        text = rows if end else await self.call_runner(*probe)
        try:
            found = [json.loads(line) for line in text.splitlines()]
            return [
                {"worker_id": it["worker_id"], "liveness": Liveness(it["liveness"])} for it in found
            ]
        except (ValueError, KeyError, TypeError, RecursionError) as exc:
            what = f"{self.name} says nothing sensible of its workers: {text[:80]!r}"
            raise OutpostFault(what, outpost=self.name) from exc

    async def run(
        self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float = 30
    ) -> Completed:
        """Run a command there; the connection's trouble becomes an ``OutpostFault``."""
        place = await self.reach()
        try:
            return await place.shell.run(
                argv, stdin=stdin, environment=place.environment, timeout_s=timeout_s
            )
        except OSError as exc:
            raise self.fault(exc) from exc
        except ValueError as exc:
            raise OutpostFault(f"{self.name} refuses: {exc}", outpost=self.name) from exc

    async def start(self, directory: str, environment: Environment) -> str:
        """Start the runner on an order that lies ready; idempotent, as it takes the worker's lock.

        The nursery starts it, itself started first where there is none. Returns what was said, an
        empty text if it died at once.
        """
        there = json.dumps(as_there(environment, self.place())).encode()
        most = self.place().cache_max_mib
        for _ in range(NURSERY_TRIES):
            answer = await self._ask_nursery(("start", directory), there)
            if answer:
                return answer
            if answer is None:
                break
            with contextlib.suppress(OutpostFault):
                limit = [] if most is None else [str(most)]
                await self.call_runner("nursery", self._nursery_path(), *limit)
        try:
            return await self.call_runner("start", directory, stdin=there)
        except OutpostFault as exc:
            raise Ambiguous(exc.message, outpost=self.name) from exc

    async def _ask_nursery(self, argv: Sequence[str], payload: bytes = b"") -> str | None:
        """Return what the nursery answers; empty where it does not, and so where there is none.

        ``None`` where nobody can call one.
        """
        request = json.dumps(argv).encode() + b"\n" + payload
        shell, path = self.place().shell, self._nursery_path()
        try:
            answer = await shell.call(path, request, timeout_s=NURSERY_S)
            return answer.decode("utf-8", "replace")
        except OSError as exc:
            return None if exc.errno == errno.EOPNOTSUPP else ""

    def _nursery_path(self) -> str:
        return self.runner_path().removesuffix(".pyz") + ".sock"

    def fault(self, why: OSError) -> OutpostFault:
        """Return what the trouble of a connection means."""
        if isinstance(why, Refused) or isinstance(getattr(why, "why", None), Refused):
            return Rejected(str(why), outpost=self.name, hint=hint_of(why))
        what = f"{self.name} does not answer: {why}"
        return OutpostFault(what, outpost=self.name, hint=hint_of(why))

    def on_terminal(self, argv: Sequence[str]) -> Sequence[str]:
        """Return what to run here so that a command there has the user's terminal."""
        return argv

    async def _upload(self, place: ShellPlace) -> None:
        """Put the runner there, once for each version of it, and how its tmux is to look."""
        path = self.runner_path()
        try:
            await place.shell.get(path, offset=1 << 40)
        except FileNotFoundError:
            conf = posixpath.join(place.root, "runner", "tmux.conf")
            # The runner last: where that is, the rest is.
            await place.shell.put(conf, TMUX_CONF)
            await place.shell.put(path, runner_archive()[1])
        self._uploaded = path

    async def _sightings(self, worker_id: str | None = None) -> AsyncIterator[Sighting]:
        for row in await self.probe(worker_id):
            yield Sighting(
                handle=self.handle_of(row["worker_id"]), liveness=Liveness(row["liveness"])
            )

    def _is_ours(self, handle: Handle) -> bool:
        """Whether a handle means this place; what an older one does not say counts as ours."""
        ours = self.handle_of(handle.worker_id)
        return replace(handle, data={**ours.data, **handle.data}) == ours

    def handle_of(self, worker_id: str) -> Handle:
        """Return the handle of a worker here, whether or not there is one.

        It says on which machine, as an outpost may lead to another one later.
        """
        place = self.place()
        return Handle(
            outpost=self.name,
            kind=self.kind,
            worker_id=worker_id,
            data={
                "directory": posixpath.join(place.root, "workers", worker_id),
                "machine": place.machine,
            },
        )


class ShellWorker(Worker):
    """A worker whose files are reached through a shell."""

    def __init__(self, outpost: ShellOutpost, handle: Handle) -> None:
        self.id = handle.worker_id
        self.outpost = outpost.name
        self._outpost = outpost
        self._directory = handle.data["directory"]
        self._machine = handle.data.get("machine", "")

    async def status(self) -> Observation:
        try:
            rows = await self._rows()
        except OutpostFault as exc:
            return Observation(liveness=Liveness.UNSEEN, detail=exc.message)
        if not rows:
            return Observation(liveness=Liveness.ABSENT)
        return Observation(liveness=Liveness(rows[0]["liveness"]))

    async def events(
        self, *, after: int = 0, offset: int = 0, follow: bool = False
    ) -> AsyncGenerator[Event, None]:
        reader = EventReader(after if offset else 0, offset)
        pieces = self._stream(reader) if follow else self._read(reader)
        try:
            async with contextlib.aclosing(pieces):
                async for data in pieces:
                    for event in reader.feed(data):
                        if event.seq > after:
                            yield event
                        if follow and event.type == "result":
                            return
        except LogDamaged as exc:
            raise OutpostFault(f"its log is damaged: {exc}", outpost=self.outpost) from exc
        except (ConnectionError, TimeoutError, Refused) as exc:
            raise self._outpost.fault(exc) from exc
        except OSError as exc:
            raise OutpostFault(f"cannot read its log: {exc}", outpost=self.outpost) from exc

    async def send(self, message: Message) -> None:
        await self._reach()
        path = posixpath.join(self._directory, "inbox.jsonl")
        script = 'cat >> "$1"'
        # Whatever a sender that was killed left half is a line of its own then.
        line = b"\n" + json.dumps(message).encode() + b"\n"
        done = await self._outpost.run(["sh", "-c", script, "sh", path], stdin=line)
        if done.exit_code:
            what = f"cannot write to {self.id}: {done.complaint}"
            raise OutpostFault(what, outpost=self.outpost)

    async def stop(self, *, grace_s: float, reason: str) -> None:
        if await self._may_run():
            try:
                await self.send({"type": "stop", "grace_s": grace_s, "reason": reason})
            except OutpostFault:
                # A full disk takes no message.
                await self._outpost.call_runner("terminate", self._directory)
            if await self._ended_within(grace_s + STOP_MARGIN_S):
                return
            await self.kill()

    async def kill(self) -> None:
        """Kill the runner, its understudy and everything of the worker; saves nothing."""
        await self._reach()
        await self._outpost.call_runner("kill", self._directory)

    async def recover(self, environment: Environment) -> bool:
        there = as_there(environment, await self._reach())
        await self._outpost.call_runner(
            "recover", self._directory, stdin=json.dumps(there).encode()
        )
        async for event in self.events():
            if event.type == "result":
                return True
        return False

    async def transcript(self, session_id: str, environment: Environment) -> bytes | None:
        if not is_name(session_id):
            return None
        there = json.dumps(as_there(environment, await self._reach())).encode()
        done = await self._outpost.try_runner(
            "transcript", self._directory, session_id, stdin=there
        )
        whole = not done.exit_code and len(done.stdout) <= MOST_BYTES
        return done.stdout if whole else None

    async def unsaved(self) -> str:
        await self._reach()
        return (await self._outpost.call_runner("unsaved", self._directory)).strip()

    async def diff(self, options: Sequence[str]) -> bytes | None:
        await self._reach()
        done = await self._outpost.try_runner("diff", self._directory, *options)
        if done.exit_code == ABSENT:
            return None
        if done.exit_code:
            what = f"cannot compare on {self.outpost}: {done.complaint}"
            raise OutpostFault(what, outpost=self.outpost)
        return done.stdout

    async def attach(self) -> Sequence[str]:
        client = tmux(await self._outpost.reach())
        for _ in range(round(VIEW_S / VIEW_POLL_S)):
            done = await self._outpost.run([*client, "has-session", "-t", f"={self.id}"])
            if done.exit_code == 0:
                return self._outpost.on_terminal([*client, "attach-session", "-t", f"={self.id}"])
            await asyncio.sleep(VIEW_POLL_S)
        raise OutpostFault(
            f"{self.id} has no live view: its tmux session is not there",
            outpost=self.outpost,
            hint=f"outpost logs -f {self.id}",
        )

    async def _rows(self) -> list[dict[str, str]]:
        """Look where it was started: by now the outpost may have another folder, or home."""
        root = posixpath.dirname(posixpath.dirname(self._directory))
        if root == (await self._reach()).root:
            return await self._outpost.probe(self.id)
        return await self._outpost.probe_at(root, self.id)

    async def _reach(self) -> ShellPlace:
        """Return its place; raises ``Rejected`` if that is on another machine by now."""
        place = await self._outpost.reach()
        if self._machine and place.machine and self._machine != place.machine:
            raise Rejected(
                f"{self.outpost} is another machine than the one that {self.id} was started on",
                outpost=self.outpost,
                hint=f"lead {self.outpost} back to it, and give the other one a name of its own",
            )
        return place

    async def _ended_within(self, seconds: float) -> bool:
        poll_s = (await self._reach()).poll_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while await self._may_run():  # noqa: ASYNC110 - another process
                    await asyncio.sleep(poll_s)
                return True
        return False

    async def _may_run(self) -> bool:
        """Whether it lives, cannot be seen, or has yet to take its lock."""
        liveness = (await self.status()).liveness
        if liveness is not Liveness.DEAD:
            return liveness is not Liveness.ABSENT
        async with contextlib.aclosing(self.events()) as events:
            async for _event in events:
                return False
        return True

    async def _read(self, reader: EventReader) -> AsyncGenerator[bytes, None]:
        path = posixpath.join(self._directory, "events.jsonl")
        shell = (await self._reach()).shell
        while True:
            try:
                data = await shell.get(path, offset=reader.read_offset)
            except FileNotFoundError:
                return
            if not data:
                return
            yield data

    async def _stream(self, reader: EventReader) -> AsyncGenerator[bytes, None]:
        """Yield the growing log; ends when the worker is dead and nothing more came."""
        path = posixpath.join(self._directory, "events.jsonl")
        place = await self._reach()
        stream = place.shell.stream(path, offset=reader.read_offset)
        loop = asyncio.get_running_loop()
        began = loop.time()
        look_at = began + place.look_every_s
        dead = False
        async with contextlib.aclosing(stream):
            async for data in stream:
                yield data
                if data:
                    look_at = loop.time() + place.look_every_s
                elif dead:
                    return
                elif loop.time() >= look_at:
                    look_at = loop.time() + place.look_every_s
                    liveness = (await self.status()).liveness
                    # One that has not said a word may be about to start.
                    starting = not reader.seq and loop.time() < began + START_S
                    dead = liveness in (Liveness.DEAD, Liveness.ABSENT) and not starting


def _elsewhere(handle: Handle) -> Leftover:
    """Say that a worker's files are not where this outpost has its own now."""
    directory = handle.data.get("directory", "")
    kept = f"its files are at {directory}, and the outpost's folder is another one now"
    hint = "set the outpost's root back, then: outpost prune"
    return leftover("worker", handle.worker_id, path=directory, kept=kept, hint=hint)
