"""The configuration file on disk: which one it is, and how a new text takes its place."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from outpost.config.kinds import KindRegistry
from outpost.config.loading import candidates, parse, read_candidate
from outpost.config.models import Config
from outpost.errors import UserError

_BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A configuration file as it was read: ``data`` is ``None`` for one that is yet to be made.

    ``shown`` is its name in messages.
    """

    path: Path
    shown: str
    data: bytes | None
    config: Config

    @property
    def text(self) -> str:
        """Its text without a byte order mark; empty for one that is yet to be made."""
        return (self.data or b"").decode("utf-8-sig")

    def replace(self, text: str, *, kinds: KindRegistry | None = None) -> Config:
        """Give the file another text, whole or not at all, and return what it configures.

        Mode, owner and extended attributes stay, and so do links to it. Raises ``ConfigError`` for
        a text that would not load, and ``UserError`` where the file cannot be written or was
        changed since it was read; then it stays as it is.
        """
        config = self.parse(text, kinds=kinds)
        data = self._encoded(text)
        target = Path(os.path.realpath(self.path))
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with _lock(target.parent):
                self._still(target)
                _put(target, data, like=None if self.data is None else target)
        except OSError as exc:
            hint = "see who may write there: ls -ld " + str(target.parent)
            raise UserError(f"{self.shown} cannot be written: {exc.strerror}", hint=hint) from exc
        return config

    def parse(self, text: str, *, kinds: KindRegistry | None = None) -> Config:
        """Return what a new text would configure. Raises ``ConfigError``."""
        return parse(self._encoded(text), file=self.shown, kinds=kinds)

    def _encoded(self, text: str) -> bytes:
        marked = (self.data or b"").startswith(_BYTE_ORDER_MARK.encode())
        try:
            return (_BYTE_ORDER_MARK + text if marked else text).encode()
        except UnicodeEncodeError:
            raise UserError("a configuration holds UTF-8 text only, which this is not") from None

    def _still(self, target: Path) -> None:
        """Raise ``UserError`` unless the file is what was read, and may be written."""
        try:
            present: bytes | None = target.read_bytes()
        except FileNotFoundError:
            present = None
        if present != self.data:
            message = f"{self.shown} was changed by somebody else meanwhile; nothing was written"
            raise UserError(message, hint="the same command again begins with what it is now")
        if present is not None and not os.access(target, os.W_OK):
            raise UserError(f"{self.shown} cannot be written", hint=f"chmod u+w {target}")


def read(
    path: str | None = None,
    *,
    environment: Mapping[str, str],
    directory: Path,
    kinds: KindRegistry | None = None,
) -> ConfigFile:
    """Return the configuration file that ``load`` would read, or the one that is yet to be made.

    The latter is the one that is named, else the user's own. Raises ``ConfigError``.
    """
    found = candidates(path, environment, directory)
    for candidate in found:
        # Also one that is named may be absent: it is the one to make then.
        data = read_candidate(replace(candidate, named_by=""))
        if data is not None:
            config = parse(data, file=candidate.shown, kinds=kinds)
            return ConfigFile(candidate.path, candidate.shown, data, config)
    last = found[-1]
    return ConfigFile(last.path, last.shown, None, Config())


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Keep others of us from changing a file in this folder; make lasting what was changed."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Some network file systems know no such locks; a change by others is seen all the same.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put(target: Path, data: bytes, *, like: Path | None) -> None:
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(
            os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb"
        ) as file:
            file.write(data)
            file.flush()
            if like is not None:
                _take_after(temporary, like)
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _take_after(path: Path, model: Path) -> None:
    """Give a file owner, mode and extended attributes of another, but not its time of change."""
    ours, theirs = path.stat(), model.stat()
    if (ours.st_uid, ours.st_gid) != (theirs.st_uid, theirs.st_gid):
        os.chown(path, theirs.st_uid, theirs.st_gid)
    shutil.copystat(model, path)
    os.utime(path)
