"""An open request that keeps an instance alive: for one worker, and for the next while it is warm.

The instance behind it is ours as long as the request is open. It is opened again where it was cut,
and before the platform would cut it; whether that leads to the same instance is for the platform to
say. A worker that cannot be found again for as long as its own lease is given up: by then it has
saved its work and ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING

from outpost.ports import Completed
from outpost.transports.containers import Address
from outpost.transports.http_client import Caller, Refusing, Unreachable
from outpost.transports.http_session import Cut, Session
from outpost.wire.work import DEAD_AFTER_S

if TYPE_CHECKING:
    from outpost.transports.held_files import HeldFiles
    from outpost.wire.work import Call, Said

INBOX_POLL_S = 0.1
PAUSE_LEAST_S, PAUSE_MOST_S = 0.5, 10.0
STEADY_S = 5.0
MENDING_S = 120.0
"""How long a worker that died without a result is held for whoever mends it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LinkTerms:
    """How long things may take, in seconds.

    ``keep_s``: how long an instance is kept warm after its last worker. ``request_s``: a request
    is opened anew once it is so old. ``lease_s``: a worker that nobody followed for so long has
    ended. ``patience_s``: how long the platform may take to have an instance answer.
    ``silent_s``: an instance that says nothing for so long is taken for dead.
    """

    keep_s: float
    request_s: float
    lease_s: float
    patience_s: float
    silent_s: float = DEAD_AFTER_S


class Link:
    """One open request, and the worker that is held by it at present.

    ``address`` says where to send requests now, ``token`` is the server's; ``told`` hears of each
    refusal of a request that was to be opened again. ``requests`` counts how often one was opened.
    """

    def __init__(
        self,
        caller: Caller,
        address: Callable[[], Awaitable[Address]],
        token: str,
        terms: LinkTerms,
        *,
        told: Callable[[Refusing], object],
    ) -> None:
        self.files: HeldFiles | None = None
        self.requests = 0
        self._caller = caller
        self._address = address
        self._token = token
        self._terms = terms
        self._told = told
        self._session: Session | None = None
        self._attached: asyncio.Future[None] | None = None
        self._ended = asyncio.Event()
        self._grown = asyncio.Event()
        self._warm = False
        self._opened_at = 0.0
        self._cookies: dict[str, str] = {}
        self._life: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether the request is open now."""
        return self._session is not None

    def holds(self, worker_id: str) -> bool:
        """Whether it holds a worker, or tries to."""
        living = self._life is not None and not self._life.done()
        return living and self.files is not None and self.files.worker_id == worker_id

    @property
    def over(self) -> bool:
        """Whether it will hold nothing any more."""
        return self._life is not None and self._life.done()

    def is_warm(self, for_s: float) -> bool:
        """Whether an instance waits for its next worker, for at least so long."""
        age_s = asyncio.get_running_loop().time() - self._opened_at
        return self._warm and self.connected and age_s + for_s < self._terms.request_s

    async def begin(self, call: Call, files: HeldFiles) -> None:
        """Open the request with its first worker; returns once the server has it.

        Raises ``Refusing`` and ``Unreachable``; the link is of no use then.
        """
        self.files = files
        self._life = asyncio.create_task(self._live(call))
        await self._until_attached()

    async def again(self, call: Call, files: HeldFiles) -> None:
        """Have the warm instance take its next worker; as ``begin``."""
        assert self._session is not None
        assert self.files is not None
        self.files.let_go()
        self._warm = False
        self.files = files
        self._ended.clear()
        self._attached = None
        self._session.call(call)
        await self._until_attached()

    def take_up(self, files: HeldFiles) -> None:
        """Begin to hold a worker that lives already, wherever that is."""
        self.files = files
        self._life = asyncio.create_task(self._live(None))

    async def ask(self, verb: str, arguments: Sequence[str], stdin: bytes) -> Completed:
        """Run a command of the runner there. Raises ``ConnectionError``, ``TimeoutError``."""
        if self._session is None:
            raise Unreachable("its instance is out of reach at present")
        return await self._session.ask(verb, arguments, stdin)

    async def grown(self, timeout_s: float) -> None:
        """Wait until there is something new of the worker, or so long."""
        event = self._grown
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await event.wait()

    async def close(self) -> None:
        """End the request; its instance is no longer held."""
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait([self._life])

    async def _until_attached(self) -> None:
        self._attached = asyncio.get_running_loop().create_future()
        assert self._life is not None
        try:
            await asyncio.wait([self._attached, self._life], return_when=asyncio.FIRST_COMPLETED)
            if not self._attached.done():
                self._attached.set_exception(Unreachable("the request ended at once"))
            self._attached.result()
        except BaseException:
            # The files are the caller's again: nothing here may go on with them.
            self.files = None
            await self.close()
            raise

    async def _live(self, call: Call | None) -> None:
        try:
            if call is not None:
                await self._open(call, first=True)
            while not self._over():
                if self._attached is not None and not self._attached.done():
                    # Whether the call for the next worker has arrived, nobody knows.
                    self.files = None
                    return
                # Whatever ends requests as soon as they are open is not to be stormed.
                if asyncio.get_running_loop().time() - self._opened_at < STEADY_S:
                    await asyncio.sleep(PAUSE_LEAST_S)
                await self._open_again()
        finally:
            self._warm = False
            if self.files is not None:
                self.files.let_go()
            self._news()

    async def _open_again(self) -> None:
        """Attach again to the worker that was being held; gives it up once that is hopeless."""
        assert self.files is not None
        loop = asyncio.get_running_loop()
        gone_at, pause_s = loop.time(), PAUSE_LEAST_S
        while True:
            call: Call = {
                "worker_id": self.files.worker_id,
                "after": 0,
                "offset": self.files.copy.size(),
                "hold": True,
            }
            try:
                await self._open(call, first=False)
            except (Refusing, Unreachable) as exc:
                if isinstance(exc, Refusing):
                    self._told(exc)
                if loop.time() - gone_at > self._terms.lease_s:
                    self.files.lose(f"its instance is gone: {exc}")
                    return
            else:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_MOST_S)

    async def _open(self, call: Call, *, first: bool) -> None:
        """Hold one request open until it ends, or is so old that another one is due.

        Raises what kept it from being opened, where it is the ``first`` through ``_attached``.
        """
        try:
            address = self._leading_back(await self._address())
            patience_s = self._terms.patience_s
            async with self._caller.session(
                address, self._token, call, patience_s=patience_s
            ) as session:
                self._opened(session)
                await self._hold(session)
        except (Refusing, Unreachable) as exc:
            if not first:
                raise
            assert self._attached is not None
            self._attached.set_exception(exc)
            self.files = None
        finally:
            self._session = None
            self._news()

    def _opened(self, session: Session) -> None:
        assert self.files is not None
        self._session = session
        self.requests += 1
        self._opened_at = asyncio.get_running_loop().time()
        for cookie in session.cookies:
            with contextlib.suppress(CookieError):
                parsed = SimpleCookie(cookie)
                self._cookies |= {name: morsel.value for name, morsel in parsed.items()}
        self._is_attached()

    def _is_attached(self) -> None:
        assert self.files is not None
        self.files.note_attached()
        self.files.heard()
        if self._attached is not None and not self._attached.done():
            self._attached.set_result(None)
        self._news()

    async def _hold(self, session: Session) -> None:
        deadline = self._opened_at + self._terms.request_s
        try:
            async with asyncio.timeout_at(deadline), asyncio.TaskGroup() as group:
                beside = [
                    group.create_task(self._send(session)),
                    group.create_task(self._close_when_cold(session)),
                ]
                async with contextlib.aclosing(session.read()) as lines:
                    async for said in lines:
                        self._take(said)
                self._warm = False
                for task in beside:
                    task.cancel()
        except* OSError:
            # Cut, too old, or no room on the disk: it is opened again while there is what to hold.
            pass

    def _take(self, said: bytes | Said) -> None:
        files = self.files
        if files is None:
            return
        files.heard()
        if isinstance(said, bytes):
            if said:
                self._keep(files, said)
        elif said["said"] == "ended":
            files.note_ended()
            self._warm = files.has_result
            self._ended.set()
            self._news()
        elif said["said"] == "taken":
            whose, _, offset = said.get("id", "").rpartition(":")
            if whose == files.worker_id and offset.isdecimal():
                files.note_sent(int(offset))
        elif said["said"] == "attached":
            self._is_attached()
        elif said["said"] == "refused" and self._attached is not None:
            problem = Refusing(str(said.get("message")), status=503, code=said.get("code", ""))
            if not self._attached.done():
                self._attached.set_exception(problem)

    def _keep(self, files: HeldFiles, lines: bytes) -> None:
        try:
            files.copy.add(files.copy.size(), lines)
        except OSError as exc:
            # What there is no room for is asked for again.
            raise Cut(str(exc)) from exc
        self._news()

    async def _send(self, session: Session) -> None:
        """Send what is posted to the worker; what does not arrive is sent again by the next."""
        files, sent = self.files, -1
        while True:
            if files is not self.files or sent < 0:
                files, sent = self.files, self.files.sent() if self.files else 0
            if files is not None and not self._ended.is_set():
                for end, message in files.posted(sent):
                    if message["type"] == "kill":
                        await session.ask("kill", (), b"")
                        files.note_sent(end)
                    else:
                        session.tell(message, f"{files.worker_id}:{end}")
                    sent = end
            await asyncio.sleep(INBOX_POLL_S)

    async def _close_when_cold(self, session: Session) -> None:
        """End the request once nobody has had work for the instance for long enough."""
        while True:
            await self._ended.wait()
            files = self.files
            await asyncio.sleep(self._terms.keep_s if self._warm else MENDING_S)
            if self._ended.is_set() and self.files is files:
                self._warm = False
                session.close()
                raise Cut("it is no longer needed")

    def _over(self) -> bool:
        return self.files is None or self._ended.is_set() or bool(self.files.lost)

    def _leading_back(self, address: Address) -> Address:
        """Return the address with what leads to the same instance again."""
        if not self._cookies:
            return address
        cookie = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        return Address(url=address.url, headers={**address.headers, "cookie": cookie})

    def _news(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()
