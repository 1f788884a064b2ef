"""The objects of a worker in a container that nobody can reach; see ``outpost.wire.jobs``."""

from __future__ import annotations

import contextlib
import itertools
import json
import re

from outpost.errors import OutpostFault
from outpost.transports.gcs import Bucket, Changed
from outpost.wire.jobs import RECORD, Record, letter, piece
from outpost.wire.orders import Message

REMOVALS = 3
WHY_CHARS = 200
_NAME = re.compile(r"[a-z0-9-]{1,99}")
_PIECE = re.compile(r".*/log/[0-9]{20}")


class JobFolder:
    """What lies in the bucket below ``name``. Raises ``OutpostFault``."""

    def __init__(self, bucket: Bucket, name: str, outpost: str) -> None:
        self.name = name
        self._bucket = bucket
        self._outpost = outpost

    async def record(self) -> tuple[Record, int] | None:
        """Return who works on it, and the generation of that; ``None`` where nobody ever does."""
        found = await self._bucket.get(self.name + RECORD)
        if found is None:
            return None
        try:
            return _read(found[0]), found[1]
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as exc:
            what = f"{self.name}{RECORD} in {self._bucket.name} is none of ours: {exc}"
            hint = f"gcloud storage rm --recursive gs://{self._bucket.name}/{self.name}"
            raise OutpostFault(what, outpost=self._outpost, hint=hint) from exc

    async def has_any(self) -> bool:
        """Whether anything is there, be it without a record."""
        return bool(await self._bucket.names(self.name, most=1))

    async def write(self, record: Record, generation: int) -> int:
        """Replace the record as of a generation (0: there is none); raises ``Changed``."""
        data = json.dumps(record).encode()
        return await self._bucket.put(self.name + RECORD, data, generation=generation)

    async def withdraw(self, generation: int) -> None:
        """Take an order back that nobody has taken."""
        await self._bucket.delete(self.name + RECORD, generation=generation)

    async def revoke(self, why: str) -> bool:
        """Take the order away, for good, unless it is taken; whether nobody takes it any more."""
        while found := await self.record():
            record, generation = found
            if "call" not in record:
                return bool(record.get("ended"))
            del record["call"]
            with contextlib.suppress(Changed):
                await self.write({**record, "ended": True, "why": why}, generation)
        return True

    async def piece(self, offset: int) -> bytes:
        """Return what the log holds from the end of another piece on; empty: nothing yet."""
        found = await self._bucket.get(self.name + piece(offset))
        return found[0] if found else b""

    async def size(self) -> int:
        """Return how much of the log is there, in bytes."""
        found = await self._bucket.names(f"{self.name}log/")
        names = [it for it in found if _PIECE.fullmatch(it)]
        if not names:
            return 0
        offset = int(names[-1].rpartition("/")[2])
        return offset + len(await self.piece(offset))

    async def post(self, message: Message) -> None:
        """Put a message behind those that are there, at the first number that is free."""
        data = json.dumps(message).encode()
        taken = set(await self._bucket.names(f"{self.name}inbox/"))
        for name in (self.name + letter(number) for number in itertools.count(1)):
            if name not in taken:
                with contextlib.suppress(Changed):
                    await self._bucket.put(name, data, generation=0)
                    return

    async def remove(self) -> None:
        """Remove all, verified gone; the record last, so that nothing is left that nobody sees."""
        for _ in range(REMOVALS):
            names = await self._bucket.names(self.name)
            if not names:
                return
            await self._bucket.delete(*(it for it in names if it != self.name + RECORD))
            await self._bucket.delete(self.name + RECORD)
        what = f"what lies below {self.name} in {self._bucket.name} comes back again and again"
        raise OutpostFault(what, outpost=self._outpost)


def _read(data: bytes) -> Record:
    """Return a record; names in it become part of resources' names. Raises ``ValueError``."""
    found: Record = json.loads(data)
    for name in (found["region"], found.get("execution") or "-"):
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name[:40]!r} is no name")
    found["asked_at"] = float(found["asked_at"])
    if "why" in found:
        found["why"] = str(found["why"]).partition("\n")[0][:WHY_CHARS]
    return found
