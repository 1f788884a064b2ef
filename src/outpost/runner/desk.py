"""The desk: one process on another machine that does all ``ports.Shell`` needs, over one channel.

It is sent there as source and run by a bare Python ≥ 3.10: this file imports nothing of ours and
nothing slow. Requests come on stdin, answers go to stdout, both as frames: the lengths of header
and payload, the header as a JSON object, the payload. Everything is done by one thread in pieces,
so that no request holds up another.

A request has an ``id``, never used twice, and a ``verb``. ``piece`` is more of what a ``put``
writes or a ``run`` or ``call`` reads, as long as the frame before said ``more``. An answer has the
``id``, and ``error`` if it failed; a ``run`` or ``call`` may have several: ``stdout`` says how much
of the payload that is, the rest is stderr, the last one has the ``exit_code``. Frame 0 tells about
the machine.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import selectors
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:  # "typing" alone would take as long to import as all the rest
    import socket
    from typing import IO, Any

    Header = dict[str, Any]

MOST_BYTES = 1 << 20  # of a header, and of a payload
PIECE_BYTES = 1 << 18
READ_BYTES = 1 << 16
COMMANDS_MOST = 128  # at a time; others wait for their turn
LOOK_EVERY_S = 0.05
LOOK_SHARE = 50  # looking at files that may grow takes at most this part of a processor
SILENCE_S = 120.0
VARIABLES = (
    *("USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE"),
    *("TMPDIR", "TMUX_TMPDIR", "XDG_RUNTIME_DIR"),
)
"""What of the machine's own variables those need who run there."""
_STDIN, _STDOUT = 0, 1
_WRITING = 1  # socket.SHUT_WR
_LENGTHS = struct.Struct(">II")


class Garbage(Exception):
    """What came is no frame, or no request."""


def frame(header: Header, payload: bytes | memoryview = b"") -> bytes:
    """Return a header and a payload as they travel."""
    head = json.dumps(header, separators=(",", ":")).encode()
    return b"".join((_LENGTHS.pack(len(head), len(payload)), head, payload))


class Frames:
    """Frames again, from bytes that come in pieces of any size; ``rest`` is no whole frame yet."""

    def __init__(self) -> None:
        self.rest = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Header, bytes]]:
        """Yield the header and payload of each frame that is whole now; raises ``Garbage``."""
        self.rest += data
        while len(self.rest) >= _LENGTHS.size:
            head, body = _LENGTHS.unpack_from(self.rest)
            if head > MOST_BYTES or body > MOST_BYTES:
                raise Garbage(f"a frame of {head} + {body} bytes")
            start = _LENGTHS.size + head
            if len(self.rest) < start + body:
                return
            text = bytes(self.rest[_LENGTHS.size : start])
            payload = bytes(self.rest[start : start + body])
            del self.rest[: start + body]
            try:
                header = json.loads(text)
            except (ValueError, RecursionError):
                header = None
            if not isinstance(header, dict) or type(header.get("id")) is not int:
                raise Garbage(f"a header that is none: {text[:80]!r}")
            yield header, payload


class Upload:
    """A file that is being written, under another name until it is whole."""

    def __init__(self, request: Header) -> None:
        self._path = _bytes(request["path"])
        self._new = self._path + b".%d-%d.new" % (os.getpid(), request["id"])
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        try:
            fd = os.open(self._new, flags, request["mode"])
        except FileNotFoundError:
            _make_folder(os.path.dirname(self._path))
            fd = os.open(self._new, flags, request["mode"])
        self._file = os.fdopen(fd, "wb")

    def write(self, data: bytes, more: bool) -> None:
        """Add to it, and with the last piece give it its name; if that fails, nothing is left."""
        try:
            self._file.write(data)
            if not more:
                self._file.close()
                os.replace(self._new, self._path)
        except OSError:
            self.discard()
            raise

    def discard(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._new)
            self._file.close()


class Command:
    """A command: what it is to read, its process, and what it said that is not sent yet.

    ``ready`` once all that it is to read has come. ``killed`` is the answer it gets for having been
    killed; an empty one: none, as nobody asks any more.
    """

    def __init__(self, request: Header) -> None:
        self.id: int = request["id"]
        self.argv = [_bytes(it) for it in request["argv"]]
        env = request["environment"]
        self.environment = env and {_bytes(name): _bytes(value) for name, value in env.items()}
        self.deadline = time.monotonic() + request["timeout_s"]
        self.stdin = bytearray()
        self.said = {"stdout": bytearray(), "stderr": bytearray()}
        self.ready = False
        self.begun = False
        self.process: subprocess.Popen[bytes] | None = None
        self.pipes: dict[int, tuple[str, IO[bytes] | Sending]] = {}
        self.killed: Header | None = None

    def start(self) -> None:
        pipe, env = subprocess.PIPE, self.environment
        stdin = pipe if self.stdin else subprocess.DEVNULL
        self.process = subprocess.Popen(
            self.argv, stdin=stdin, stdout=pipe, stderr=pipe, env=env, start_new_session=True
        )
        for name in ("stdin", "stdout", "stderr"):
            if end := getattr(self.process, name):
                os.set_blocking(end.fileno(), False)
                self.pipes[end.fileno()] = name, end

    def exited(self) -> bool:
        """Whether it has ended. Its number stays taken, so that its group can be killed safely."""
        if self.process is None:
            return self.begun or self.killed is not None
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.process.pid, options) is not None

    def kill(self) -> None:
        """Kill its whole process group."""
        if self.process:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def take(self) -> tuple[Header, bytes]:
        """Take what it said: an answer without an end, and its payload."""
        stdout, stderr = bytes(self.said["stdout"]), bytes(self.said["stderr"])
        self.said = {"stdout": bytearray(), "stderr": bytearray()}
        return {"id": self.id, "stdout": len(stdout)}, stdout + stderr


class Call(Command):
    """A call of whoever listens on a Unix socket: what is sent is its stdin, the answer stdout."""

    def start(self) -> None:
        import socket  # noqa: PLC0415 - takes a while to load

        line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        line.setblocking(False)
        folder, name = os.path.split(self.argv[0])
        # Through its folder: an address may be no longer than about a hundred bytes.
        here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            line.connect(b"/proc/self/fd/%d/%s" % (here, name))
        except OSError:
            line.close()
            raise
        finally:
            os.close(here)
        sending = Sending(line.dup())
        self.pipes[sending.fileno()] = "stdin", sending
        answer = line.makefile("rb")
        line.close()
        self.pipes[answer.fileno()] = "stdout", answer


class Sending:
    """The way to the other end of a socket; closing it ends what is sent, not what is answered."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self.fileno = line.fileno

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._line.shutdown(_WRITING)
        self._line.close()


class Desk:
    """Takes requests from stdin until that ends, or nobody has sent a word for ``SILENCE_S``.

    It waits for all that may happen; while an answer cannot be sent, for little else.
    """

    def __init__(self) -> None:
        self._unsent = bytearray()
        self._frames = Frames()
        self._heard_at = time.monotonic()
        self._uploads: dict[int, Upload] = {}
        self._commands: dict[int, Command] = {}
        self._waits: dict[int, Header] = {}
        self._ended, self._look_at = False, 0.0
        self._all, self._little = selectors.DefaultSelector(), selectors.DefaultSelector()

    def serve(self) -> None:
        """Answer requests; raises ``Garbage``, and ``ConnectionError`` if nobody listens."""
        os.set_blocking(_STDIN, False)
        os.set_blocking(_STDOUT, False)
        self._all.register(_STDIN, selectors.EVENT_READ, self._read)
        self._little.register(_STDOUT, selectors.EVENT_WRITE, lambda: None)
        self._heed_signals()
        self._send({"id": 0, **_facts()})
        while not self._ended:
            behind = self._answer()
            self._begin()
            self._look()
            watched = self._all if self._flush() else self._little
            pause_s = 0.0 if behind and watched is self._all else self._pause_s()
            for key, _ in watched.select(pause_s):
                # What was handled before may have closed this one, and its number be another's.
                if watched.get_map().get(key.fd) is key:
                    key.data()
            self._expire()

    def clear(self) -> None:
        """Kill the commands under way, and take away files that are not whole."""
        for command in self._commands.values():
            command.kill()
        for upload in self._uploads.values():
            upload.discard()

    def _heed_signals(self) -> None:
        hearing, telling = os.pipe()
        os.set_blocking(telling, False)

        def heard() -> None:
            os.read(hearing, READ_BYTES)
            for command in list(self._commands.values()):
                self._settle(command)

        for selector in (self._all, self._little):
            selector.register(hearing, selectors.EVENT_READ, heard)
        signal.set_wakeup_fd(telling, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self, "_ended", True))
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _send(self, header: Header, payload: bytes = b"") -> None:
        self._unsent += frame(header, payload)

    def _full(self) -> bool:
        return len(self._unsent) >= PIECE_BYTES

    def _flush(self) -> bool:
        """Send what can be sent now; returns whether that was all."""
        with contextlib.suppress(BlockingIOError):
            while self._unsent:
                del self._unsent[: os.write(_STDOUT, self._unsent[:PIECE_BYTES])]
        return not self._unsent

    def _pause_s(self) -> float:
        """Return for how long there is nothing to do unless something happens."""
        instants = [self._heard_at + SILENCE_S]
        instants += [it.deadline for it in self._commands.values() if it.killed is None]
        instants += [self._look_at] if self._waits else []
        return max(min(instants) - time.monotonic(), 0.0)

    def _expire(self) -> None:
        now = time.monotonic()
        self._ended = self._ended or now >= self._heard_at + SILENCE_S
        for command in list(self._commands.values()):
            if command.killed is None and now >= command.deadline:
                self._kill(command, _refusal(command.id, TimeoutError("not done in time")))

    def _read(self) -> None:
        data = os.read(_STDIN, READ_BYTES)
        self._ended = self._ended or not data
        self._heard_at = time.monotonic()
        self._frames.rest += data

    def _answer(self) -> bool:
        """Do what was asked for while there is room for answers; returns whether there is none."""
        for request, payload in () if self._full() else self._frames.feed(b""):
            verb = getattr(self, f"do_{request.get('verb')}", None)
            if verb is None:
                raise Garbage(f"an unknown verb: {request.get('verb')!r}")
            try:
                verb(request, payload)
            except (KeyError, TypeError, AttributeError) as exc:
                raise Garbage(f"a malformed request: {request['verb']}: {exc!r}") from exc
            except (OSError, ValueError) as exc:
                self._send(_refusal(request["id"], exc))
            if self._full():
                break
        return self._full()

    def do_ping(self, request: Header, _: bytes) -> None:
        self._send({"id": request["id"]})

    def do_cancel(self, request: Header, _: bytes) -> None:
        self._waits.pop(request["id"], None)
        if upload := self._uploads.pop(request["id"], None):
            upload.discard()
        if command := self._commands.get(request["id"]):
            self._kill(command, {})

    def do_piece(self, request: Header, payload: bytes) -> None:
        """Take more of a request; of one that was refused or cancelled meanwhile it is lost."""
        if upload := self._uploads.pop(request["id"], None):
            more = request.get("more", False)
            upload.write(payload, more)
            if more:
                self._uploads[request["id"]] = upload
            else:
                self._send({"id": request["id"]})
        elif command := self._commands.get(request["id"]):
            command.stdin += payload
            command.ready = not request.get("more")

    def do_put(self, request: Header, payload: bytes) -> None:
        self._uploads[request["id"]] = Upload(request)
        self.do_piece(request, payload)

    def do_get(self, request: Header, _: bytes) -> None:
        data = _pread(_bytes(request["path"]), MOST_BYTES, request["offset"])
        self._send({"id": request["id"]}, data)

    def do_wait(self, request: Header, _: bytes) -> None:
        now = time.monotonic()
        request.update(path=_bytes(request["path"]), until=now + request["seconds"])
        self._waits[request["id"]] = request
        self._tell_growth(request, now)

    def _look(self) -> None:
        """Look at the files that somebody waits for: the more there are the less often."""
        now = time.monotonic()
        if not self._waits or now < self._look_at:
            return
        before_s = time.process_time()
        for request in list(self._waits.values()):
            if self._full():
                break
            self._tell_growth(request, now)
        thrift_s = (time.process_time() - before_s) * LOOK_SHARE
        self._look_at = now + max(LOOK_EVERY_S, thrift_s)

    def _tell_growth(self, request: Header, now: float) -> None:
        """Answer who waits for a file if it has grown, or the time is over."""
        answer, data = {"id": request["id"]}, b""
        try:
            if os.stat(request["path"]).st_size > request["offset"]:
                data = _pread(request["path"], PIECE_BYTES, request["offset"])
        except FileNotFoundError:
            pass
        except OSError as exc:
            answer = _refusal(request["id"], exc)
        if data or "error" in answer or now >= request["until"]:
            self._send(answer, data)
            del self._waits[request["id"]]

    def do_run(self, request: Header, payload: bytes) -> None:
        self._commands[request["id"]] = Command(request)
        self.do_piece(request, payload)

    def do_call(self, request: Header, payload: bytes) -> None:
        self._commands[request["id"]] = Call({**request, "argv": [request["path"]]})
        self.do_piece(request, payload)

    def _begin(self) -> None:
        """Start the commands whose turn it is."""
        waiting = [it for it in self._commands.values() if it.ready and not it.begun]
        room = COMMANDS_MOST - sum(1 for it in self._commands.values() if it.begun)
        for command in waiting[:room]:
            command.begun = True
            try:
                command.start()
            except (OSError, ValueError) as exc:
                del self._commands[command.id]
                self._send(_refusal(command.id, exc))
            for fd, (name, _) in command.pipes.items():
                act = functools.partial(self._tell if name == "stdin" else self._hear, command, fd)
                mask = selectors.EVENT_WRITE if name == "stdin" else selectors.EVENT_READ
                self._all.register(fd, mask, act)

    def _tell(self, command: Command, fd: int) -> None:
        """Write to a command's stdin; one that will not read it all is no error."""
        try:
            del command.stdin[: os.write(fd, command.stdin[:READ_BYTES])]
        except BlockingIOError:
            return
        except OSError:
            command.stdin.clear()
        if not command.stdin:
            self._close(command, fd)
            self._settle(command)

    def _hear(self, command: Command, fd: int) -> None:
        try:
            data = os.read(fd, READ_BYTES)
        except ConnectionResetError:
            data = b""  # who was called went without a word: no more than that comes
        command.said[command.pipes[fd][0]] += data
        if sum(map(len, command.said.values())) >= PIECE_BYTES:
            self._send(*command.take())
        if not data:
            self._close(command, fd)
            self._settle(command)

    def _close(self, command: Command, fd: int) -> None:
        self._all.unregister(fd)
        command.pipes.pop(fd)[1].close()

    def _kill(self, command: Command, answer: Header) -> None:
        command.killed = answer
        command.kill()
        for fd in list(command.pipes):
            self._close(command, fd)
        self._settle(command)

    def _settle(self, command: Command) -> None:
        """Answer for a command once it has ended and nobody holds its output any more."""
        if command.pipes or not command.exited():
            return
        answer, said = command.take()
        answer["exit_code"] = command.process.wait() if command.process else None
        del self._commands[command.id]
        if command.killed is None:
            self._send(answer, said)
        elif command.killed:
            self._send(command.killed)


def _refusal(request_id: int, exc: Exception) -> Header:
    number, text = getattr(exc, "errno", None), getattr(exc, "strerror", None) or str(exc)
    return {"id": request_id, "error": type(exc).__name__, "errno": number, "text": text}


def _facts() -> Header:
    """Return what whoever sent the desk wants to know of this machine at once."""
    return {
        "python": sys.executable,
        "version": ".".join(map(str, sys.version_info[:3])),
        "home": os.path.expanduser("~"),
        "path": os.environ.get("PATH", os.defpath),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "machine": _machine(),
        "pid": os.getpid(),
    }


def _machine() -> str:
    """Return the id from the machine's installation; empty where it has none."""
    try:
        with open("/etc/machine-id") as file:
            return file.read().strip()
    except OSError:
        return ""


def _bytes(text: str) -> bytes:
    """Return a path or an argument as it is on disk, whatever this machine's locale."""
    return text.encode("utf-8", "surrogateescape")


def _pread(path: bytes, size: int, offset: int) -> bytes:
    # Without O_NONBLOCK a named pipe would hold up everything.
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.pread(fd, size, offset)
    finally:
        os.close(fd)


def _make_folder(path: bytes) -> None:
    if path and not os.path.isdir(path):
        _make_folder(os.path.dirname(path))
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)


def main() -> int:
    """Serve stdin and stdout; returns the exit code."""
    desk = Desk()
    try:
        with contextlib.suppress(ConnectionError):  # nobody listens any more
            desk.serve()
    except Garbage as exc:
        os.set_blocking(2, True)  # it may be stdout's own
        print(f"the desk does not understand: {exc}", file=sys.stderr)
        return 2
    finally:
        desk.clear()
    return 0
