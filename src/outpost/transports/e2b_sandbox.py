"""One sandbox of E2B as a place that holds one worker.

Only what needs the worker itself wakes a paused one: whoever merely looks, or follows its log, is
told what is known here, and waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import posixpath
import zlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from outpost.errors import Ambiguous, NotDispatched, OutpostFault, Rejected, Unsupported
from outpost.model import Capabilities, Handle, Health, Liveness, Observation, Quote, Task
from outpost.transports.archive import runner_archive
from outpost.transports.desk import DeskShell
from outpost.transports.desk_outpost import DeskOutpost
from outpost.transports.e2b_api import Gone
from outpost.transports.e2b_pipe import E2bPipe, as_os_errors
from outpost.transports.place import ShellPlace
from outpost.transports.shell import NO_FILE, NO_FILE_CODE, RUNNER_S, ShellWorker
from outpost.transports.variables import as_there

if TYPE_CHECKING:
    from e2b import AsyncSandbox

    from outpost.ports import Completed, Setup
    from outpost.transports.e2b_api import E2bApi, Sandbox
    from outpost.transports.log_copy import LogCopy
    from outpost.wire.events import EventReader
    from outpost.wire.orders import Environment, Message

KIND = "e2b"
CAPABILITIES = Capabilities(send=True, stop=True, paid=True, apart=True, tended=True, metered=True)
FOLDER = ".outpost"
LOOK_EVERY_S = 10.0
POLL_S = 0.3
ASLEEP_LOOK_S = 3.0
LOOK_LEASE_S = 1.0
"""For so long a sandbox runs on for who merely looks: the least that there is."""
PAUSED = "paused"
OVER = "over"
"""The file beside the copy of a log that says that its worker was stopped."""
NOT_WRITTEN = 73  # the exit code of what is below, and of nothing of the runner's
_BRING = f"""\
import os, sys, zlib
path, size = sys.argv[1:3]
packed = sys.stdin.buffer.read(int(size))
if not os.path.exists(path):
    runner, new, mask = zlib.decompress(packed), path + ".%d.new" % os.getpid(), os.umask(0o077)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(new, "wb") as file: file.write(runner)
        os.replace(new, path)
    except OSError as exc:
        print(exc, file=sys.stderr)
        sys.exit({NOT_WRITTEN})
    os.umask(mask)
sys.argv[:3] = [path]
sys.path.insert(0, path)
from outpost.runner.main import main
sys.exit(main(sys.argv[1:]))
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """How sandboxes are used: ``lease_s`` is for how long one runs that nobody looks after.

    ``paused`` is told of each that is seen paused.
    """

    lease_s: float
    env: Mapping[str, str]
    min_free_mib: int
    quote: Quote
    paused: Callable[[Sandbox], None]


class Asleep(ConnectionError):
    """The sandbox is paused, and whoever asks is not to wake it."""


class SandboxOutpost(DeskOutpost):
    """A sandbox, reached through a desk in it; ``entry`` is the SDK's own way in, if known."""

    kind: ClassVar[str] = KIND
    capabilities: ClassVar[Capabilities] = CAPABILITIES

    def __init__(self, setup: Setup, terms: Terms, api: E2bApi, sandbox_id: str) -> None:
        self.sandbox_id = sandbox_id
        self.entry: AsyncSandbox | None = None
        self._federation_id = setup.federation_id
        self._terms = terms
        self._api = api
        shell = DeskShell(self._open, name=f"the sandbox {sandbox_id}")
        super().__init__(setup.name, shell, called=sandbox_id)

    @property
    def was_reached(self) -> bool:
        """Whether we were ever in there: else nothing of ours is, by us."""
        return self._place is not None

    async def look(self) -> Sandbox | None:
        """Return the sandbox as it is; ``None``: there is none. Raises ``OutpostFault``."""
        seen = await self._api.look(self.sandbox_id)
        if seen is None or seen.paused:
            await self.close()  # nobody answers there
        if seen is not None and seen.paused:
            self._terms.paused(seen)
        return seen

    async def wake(self) -> bool:
        """Have it run, for the whole lease from now on; returns whether it was paused.

        That its end moves tells others that somebody came. Raises ``OutpostFault``.
        """
        seen = await self.look()
        if seen is None:
            raise Gone(f"the sandbox {self.sandbox_id} is gone", outpost=self.name)
        self.entry = await self._api.connect(self.sandbox_id, self._terms.lease_s)
        return seen.paused

    async def pause(self) -> None:
        """Pause it, and let go of it. Raises ``OutpostFault``."""
        await self._api.pause(self.sandbox_id)
        await self.look()

    async def remove(self) -> None:
        """Remove it with all that is in it. Raises ``OutpostFault``."""
        await self._api.kill(self.sandbox_id)
        await self.close()

    async def close(self) -> None:
        self.entry = None
        await super().close()

    async def ping(self) -> Health:
        try:
            await self.reach()
        except OutpostFault as exc:
            return Health(ok=False, detail=exc.message, hint=exc.hint)
        return Health(ok=True)

    def quote(self, task: Task | None) -> Quote:
        return self._terms.quote

    async def start(self, directory: str, environment: Environment) -> str:
        """Start the runner, which comes along, on an order that lies ready; idempotent.

        There is no nursery: nobody starts a second worker there.
        """
        there = json.dumps(as_there(environment, self.place())).encode()
        try:
            done = await self._bring("start", directory, stdin=there)
        except OSError as exc:
            what = f"cannot write to {self.name}: {exc.strerror}"
            raise NotDispatched(what, outpost=self.name) from exc
        except OutpostFault as exc:
            raise Ambiguous(exc.message, outpost=self.name) from exc
        if done.exit_code:
            what = f"the runner on {self.name} failed: {done.complaint}"
            raise Ambiguous(what, outpost=self.name)
        return done.stdout.decode("utf-8", "replace")

    async def try_runner(
        self, *arguments: str, stdin: bytes = b"", program: Sequence[str] = ()
    ) -> Completed:
        await self.reach()
        there = program or (self.runner_path(),)
        done = await super().try_runner(*arguments, stdin=stdin, program=there)
        if program or done.exit_code != NO_FILE_CODE or NO_FILE not in done.stderr:
            return done
        try:
            return await self._bring(*arguments, stdin=stdin)
        except OSError as exc:
            raise self.fault(exc) from exc

    async def _upload(self, place: ShellPlace) -> None:
        """Do nothing: the runner comes along with the command that needs it."""

    async def _bring(self, *arguments: str, stdin: bytes) -> Completed:
        """Run one of the runner's own commands; the runner comes along, packed, and stays.

        One Python does both: every sandbox is new, and the way there may be narrow. Raises
        ``OSError`` where it cannot be written there; nothing ran then.
        """
        place, packed = await self.reach(), _packed()
        argv = [place.python, "-I", "-S", "-c", _BRING, self.runner_path(), str(len(packed))]
        done = await self.run([*argv, *arguments], stdin=packed + stdin, timeout_s=RUNNER_S)
        if done.exit_code == NOT_WRITTEN:
            raise OSError(errno.EIO, done.complaint)
        return done

    async def _ask_nursery(self, argv: Sequence[str], payload: bytes = b"") -> str | None:
        return None

    async def _open(self) -> E2bPipe:
        entry, self.entry = self.entry, None
        if entry is not None:
            with contextlib.suppress(ConnectionError):
                return await self._opened(entry)
        with as_os_errors():
            seen = await self._api.look(self.sandbox_id)
            if seen is not None and seen.paused:
                raise Asleep(errno.EHOSTDOWN, "it is paused")
            entry = await self._api.connect(self.sandbox_id, LOOK_LEASE_S)
        return await self._opened(entry)

    async def _opened(self, entry: AsyncSandbox) -> E2bPipe:
        pipe = E2bPipe(self._api)
        await pipe.open(entry)
        return pipe

    def _placed(self, facts: Mapping[str, Any]) -> ShellPlace:
        home = str(facts["home"])
        variables = {**facts["variables"], "HOME": home, "TERM": "dumb"}
        variables["PATH"] = f"{facts['path']}:{home}/.local/bin"
        return ShellPlace(
            shell=self._shell,
            root=posixpath.join(home, FOLDER),
            python=str(facts["python"]),
            tmux="tmux",
            socket=f"outpost-{self._federation_id}",
            federation_id=self._federation_id,
            environment={**variables, **self._terms.env},
            min_free_mib=self._terms.min_free_mib,
            look_every_s=LOOK_EVERY_S,
            poll_s=POLL_S,
        )


class SandboxWorker(ShellWorker):
    """The worker in a sandbox; ``copy`` is what is here of its log."""

    def __init__(self, sandbox: SandboxOutpost, handle: Handle, copy: LogCopy) -> None:
        # Where its files are is known once the sandbox was reached.
        data = {"directory": "", "sandbox": sandbox.sandbox_id}
        super().__init__(
            sandbox,
            Handle(outpost=handle.outpost, kind=handle.kind, worker_id=handle.worker_id, data=data),
        )
        self._sandbox = sandbox
        self._copy = copy

    async def status(self) -> Observation:
        try:
            return await self.seen_as(await self._sandbox.look())
        except OutpostFault as exc:
            return Observation(liveness=Liveness.UNSEEN, detail=exc.message)

    async def seen_as(self, seen: Sandbox | None) -> Observation:
        """Return how it is in a sandbox that is like this. Raises ``OutpostFault``."""
        if seen is None:
            return Observation(liveness=Liveness.ABSENT)
        if seen.paused:
            liveness = Liveness.DEAD if is_over(self._copy) else Liveness.ALIVE
            return Observation(liveness=liveness, detail=PAUSED, paused=True)
        rows = await self._sandbox.probe(self.id)
        # One whose order never arrived is there as a sandbox, and will never do anything.
        return Observation(liveness=Liveness(rows[0]["liveness"]) if rows else Liveness.DEAD)

    async def send(self, message: Message) -> None:
        await self._sandbox.wake()
        await super().send(message)

    async def stop(self, *, grace_s: float, reason: str) -> None:
        seen = await self._sandbox.look()
        if seen is None or (seen.paused and is_over(self._copy)):
            return
        await self._sandbox.wake()
        if await self._removed_if_empty():
            return
        await super().stop(grace_s=grace_s, reason=reason)
        await self._note_end()

    async def _note_end(self) -> None:
        """Have it known here that it is over, so that a pause does not make it alive again."""
        # What is not known here is only looked into once more.
        with contextlib.suppress(OSError):
            self._copy.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._copy.folder / OVER).touch()
        with contextlib.suppress(OutpostFault):
            async for _event in self.events():
                pass

    async def _removed_if_empty(self) -> bool:
        """Remove the sandbox if no order ever came into it; returns whether it did.

        There is nothing in it to keep, nor to wake it for again; and a start that is still under
        way, of a controller that was killed, comes to nothing.
        """
        if await self._sandbox.probe(self.id):
            return False
        await self._sandbox.remove()
        return True

    async def kill(self) -> None:
        await self._sandbox.wake()
        await super().kill()

    async def recover(self, environment: Environment) -> bool:
        await self._sandbox.wake()
        return not await self._removed_if_empty() and await super().recover(environment)

    async def transcript(self, session_id: str, environment: Environment) -> bytes | None:
        await self._sandbox.wake()
        return await super().transcript(session_id, environment)

    async def unsaved(self) -> str:
        await self._sandbox.wake()
        return await super().unsaved()

    async def diff(self, options: Sequence[str]) -> bytes | None:
        await self._sandbox.wake()
        return await super().diff(options)

    async def attach(self) -> Sequence[str]:
        raise Unsupported(
            f"workers on {self.outpost} have no terminal to attach to",
            hint=f"outpost logs -f {self.id}",
        )

    async def _reach(self) -> ShellPlace:
        place = await super()._reach()
        self._directory = posixpath.join(place.root, "workers", self.id)
        return place

    async def _read(self, reader: EventReader) -> AsyncGenerator[bytes, None]:
        """Yield what is here, then what is there if that is awake."""
        while data := self._copy.read(reader.read_offset):
            yield data
        seen = await self._sandbox.look()
        if seen is None or seen.paused:
            return
        async with contextlib.aclosing(self._there(reader)) as pieces:
            async for data in self._lines(reader, pieces):
                yield data

    async def _stream(self, reader: EventReader) -> AsyncGenerator[bytes, None]:
        """Yield the same as it grows; while the sandbox is paused there is nothing new."""
        while data := self._copy.read(reader.read_offset):
            yield data
        seen: Sandbox | None = None
        while seen := await self._looked(seen):
            if seen.paused:
                yield b""
                await asyncio.sleep(ASLEEP_LOOK_S)
                continue
            try:
                await self._reach()
                async with contextlib.aclosing(super()._stream(reader)) as pieces:
                    async for data in self._lines(reader, pieces):
                        yield data
            except (OSError, OutpostFault):
                # Cut off by a pause is not cut off; whatever else it was is the caller's trouble.
                seen = await self._sandbox.look()
                if seen is not None and not seen.paused:
                    raise
            else:
                return

    async def _looked(self, last: Sandbox | None) -> Sandbox | None:
        """Look again; one that was paused counts as it was for as long as E2B does not say."""
        try:
            return await self._sandbox.look()
        except Rejected:
            raise
        except OutpostFault:
            if last is None or not last.paused:
                raise
            return last

    async def _there(self, reader: EventReader) -> AsyncGenerator[bytes, None]:
        """Yield what is there now."""
        shell, offset = (await self._reach()).shell, reader.read_offset
        with contextlib.suppress(FileNotFoundError):
            while data := await shell.get(f"{self._directory}/events.jsonl", offset=offset):
                offset += len(data)
                yield data

    async def _lines(
        self, reader: EventReader, pieces: AsyncGenerator[bytes, None]
    ) -> AsyncGenerator[bytes, None]:
        """Yield whole lines of the log only, once they are in the copy."""
        rest = b""
        async for data in pieces:
            whole, newline, rest = (rest + data).rpartition(b"\n")
            if newline:
                self._copy.add(reader.read_offset, whole + newline)
            yield whole + newline


def is_over(copy: LogCopy) -> bool:
    """Whether what is here of a worker says that it is done."""
    return copy.has_result or (copy.folder / OVER).exists()


@cache
def _packed() -> bytes:
    return zlib.compress(runner_archive()[1])
