"""A bad line: carries IP packets between two TUN devices late, or loses them.

Does to real packets what ``tc netem`` does, which many kernels lack, so TCP behaves as it does on
such a line. A program of its own, with the standard library only: ``ssh_way.py DEVICE DEVICE``.
Each line of JSON on its stdin changes ``Settings`` by name, and is answered with what holds then.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import itertools
import json
import os
import random
import select
import struct
import sys
import time
from dataclasses import asdict, dataclass, replace

TUNSETIFF = 0x400454CA
IFF_TUN = 0x0001
IFF_NO_PI = 0x1000
MOST_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the line is. ``cut_after_bytes`` cuts it once so much has gone from first to second."""

    delay_s: float = 0.0
    loss: float = 0.0
    cut: bool = False
    cut_after_bytes: int | None = None


class Way:
    """The line between two devices, each packet on its way with the time when it arrives."""

    def __init__(self, first: int, second: int) -> None:
        self._other = {first: second, second: first}
        self._first = first
        self._settings = Settings()
        self._carried = 0
        self._numbers = itertools.count()
        self._under_way: list[tuple[float, int, int, bytes]] = []
        self._chance = random.Random(7)

    def carry(self) -> None:
        """Carry packets until stdin ends."""
        while True:
            pause = self._under_way[0][0] - time.monotonic() if self._under_way else None
            ready, _, _ = select.select(
                [*self._other, 0], [], [], None if pause is None else max(pause, 0)
            )
            for source in ready:
                if source:
                    self._take(source)
                elif not self._obey():
                    return
            self._deliver()

    def _obey(self) -> bool:
        line = sys.stdin.buffer.readline()
        if not line:
            return False
        if changes := json.loads(line):
            self._settings = replace(self._settings, **changes)
            self._carried = 0
        print(json.dumps(asdict(self._settings)), flush=True)
        return True

    def _take(self, source: int) -> None:
        packet = os.read(source, MOST_BYTES)
        settings = self._settings
        if source == self._first:
            self._carried += len(packet)
            most = settings.cut_after_bytes
            if most is not None and self._carried > most:
                self._settings = settings = replace(settings, cut=True)
        if settings.cut or self._chance.random() < settings.loss:
            return
        arrives = time.monotonic() + settings.delay_s
        heapq.heappush(self._under_way, (arrives, next(self._numbers), self._other[source], packet))

    def _deliver(self) -> None:
        while self._under_way and self._under_way[0][0] <= time.monotonic():
            _, _, target, packet = heapq.heappop(self._under_way)
            if not self._settings.cut:
                # A device that is not up yet takes none (EIO).
                with contextlib.suppress(OSError):
                    os.write(target, packet)


def device(name: str) -> int:
    """Make a TUN device that is there as long as this program."""
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return fd


def main() -> None:
    way = Way(device(sys.argv[1]), device(sys.argv[2]))
    print(json.dumps({"ready": True}), flush=True)
    way.carry()


if __name__ == "__main__":
    main()
