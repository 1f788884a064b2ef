"""envd's filesystem service, as its source has it, on the sandbox's folder."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import shutil
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from e2b.envd.filesystem.filesystem_connect import Filesystem
from e2b.envd.filesystem.filesystem_pb import (
    EntryInfo,
    FileType,
    ListDirRequest,
    ListDirResponse,
    MakeDirRequest,
    MakeDirResponse,
    MoveRequest,
    MoveResponse,
    RemoveRequest,
    RemoveResponse,
    StatRequest,
    StatResponse,
)
from protobuf.wkt.google.protobuf.timestamp_pb import Timestamp

from tests.doubles.e2b.disk import Disk
from tests.doubles.e2b.users import user_of

if TYPE_CHECKING:
    from connectrpc.request import RequestContext

FOLDER_MODE = 0o755


class Files(Filesystem):
    """The files of one sandbox; nobody can watch them."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    async def stat(self, request: StatRequest, ctx: RequestContext[Any, Any], /) -> StatResponse:
        return StatResponse(entry=self._entry(self._place(request.path, ctx)))

    async def make_dir(
        self, request: MakeDirRequest, ctx: RequestContext[Any, Any], /
    ) -> MakeDirResponse:
        place = self._place(request.path, ctx)
        if place.is_dir():
            raise ConnectError(Code.ALREADY_EXISTS, f"directory already exists: {request.path}")
        if place.exists():
            what = f"path already exists but it is not a directory: {request.path}"
            raise ConnectError(Code.INVALID_ARGUMENT, what)
        with _internal("error creating directory"):
            self._disk.check(place).mkdir(parents=True, mode=FOLDER_MODE)
        return MakeDirResponse(entry=self._entry(place))

    async def move(self, request: MoveRequest, ctx: RequestContext[Any, Any], /) -> MoveResponse:
        source = self._place(request.source, ctx)
        destination = self._place(request.destination, ctx)
        if not os.path.lexists(source):
            raise ConnectError(Code.NOT_FOUND, f"source file not found: {request.source}")
        with _internal("error renaming"):
            self._disk.check(source)
            self._disk.check(destination).parent.mkdir(parents=True, exist_ok=True)
            source.rename(destination)
        return MoveResponse(entry=self._entry(destination))

    async def list_dir(
        self, request: ListDirRequest, ctx: RequestContext[Any, Any], /
    ) -> ListDirResponse:
        place = self._place(request.path, ctx)
        if not place.exists():
            raise ConnectError(Code.NOT_FOUND, f"path not found: {request.path}")
        if not place.is_dir():
            raise ConnectError(Code.INVALID_ARGUMENT, f"path is not a directory: {request.path}")
        entries = []
        for found in _walk(place, request.depth or 1):
            with contextlib.suppress(ConnectError):  # gone meanwhile
                entries.append(self._entry(found))
        return ListDirResponse(entries=entries)

    async def remove(
        self, request: RemoveRequest, ctx: RequestContext[Any, Any], /
    ) -> RemoveResponse:
        place = self._place(request.path, ctx)
        with _internal("error removing file or directory"):
            self._disk.check(place)
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)
        return RemoveResponse()

    def _place(self, path: str, ctx: RequestContext[Any, Any]) -> Path:
        user_of(ctx)
        try:
            return self._disk.inside(path)
        except ValueError as exc:
            raise ConnectError(Code.INVALID_ARGUMENT, str(exc)) from exc

    def _entry(self, place: Path) -> EntryInfo:
        shown = self._disk.shown(place)
        try:
            itself = place.lstat()
        except (FileNotFoundError, NotADirectoryError) as exc:
            raise ConnectError(Code.NOT_FOUND, f"file not found: stat {shown}") from exc
        link = stat.S_ISLNK(itself.st_mode)
        target = itself
        with contextlib.suppress(OSError):
            target = place.stat()
        return EntryInfo(
            name=place.name,
            type=_type_of(target.st_mode),
            path=shown,
            size=itself.st_size,
            mode=stat.S_IMODE(itself.st_mode),
            permissions=stat.filemode(itself.st_mode),
            owner=_name(pwd.getpwuid, itself.st_uid),
            group=_name(grp.getgrgid, itself.st_gid),
            modified_time=Timestamp.from_datetime(datetime.fromtimestamp(itself.st_mtime, UTC)),
            symlink_target=str(place.readlink()) if link else None,
            is_symlink=link,
        )


@contextlib.contextmanager
def _internal(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise ConnectError(Code.INTERNAL, f"{what}: {exc}") from exc


def _walk(folder: Path, depth: int) -> Iterator[Path]:
    for place in sorted(folder.iterdir()):
        yield place
        if depth > 1 and place.is_dir() and not place.is_symlink():
            yield from _walk(place, depth - 1)


def _type_of(mode: int) -> FileType:
    if stat.S_ISDIR(mode):
        return FileType.DIRECTORY
    return FileType.FILE if stat.S_ISREG(mode) else FileType.UNSPECIFIED


def _name(lookup: Any, number: int) -> str:
    try:
        return str(lookup(number)[0])
    except KeyError:
        return str(number)
