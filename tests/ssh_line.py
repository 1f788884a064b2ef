"""A network namespace at the other end of a line that can be cut, slow or lossy."""

from __future__ import annotations

import ipaddress
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LINES = ipaddress.ip_network("198.18.0.0/15")  # for tests of networks: RFC 2544
_numbers = itertools.count()


def skip(reason: str) -> None:
    """Skip the test; where all have to run, fail it."""
    if os.environ.get("OUTPOST_REQUIRE_ALL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


class Line:
    """A network namespace and the line to it; what is changed holds until it is changed again."""

    def __init__(self) -> None:
        if not (os.getuid() == 0 and shutil.which("ip") and Path("/dev/net/tun").exists()):
            skip("network namespaces and TUN devices are for root, with iproute2 and the kernel's")
        number = next(_numbers)
        self.name = f"op{os.getpid()}-{number}"
        # Four addresses for each line, and lines of their own for each process.
        network = int(LINES.network_address) + ((os.getpid() % 2048) * 16 + number % 16) * 4
        near, far = (str(ipaddress.ip_address(network + it)) for it in (1, 2))
        self.address = far
        self.enter = ("nsenter", f"--net=/run/netns/{self.name}")
        devices = (f"{self.name}a", f"{self.name}b")
        program = [sys.executable, "-I", "-S", str(Path(__file__).with_name("ssh_way.py"))]
        try:
            _ip("netns", "add", self.name)
        except subprocess.CalledProcessError as exc:
            skip(f"no network of our own can be made: {exc.stderr.decode().strip()}")
        try:
            self._way = subprocess.Popen(
                [*program, *devices], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            self._hear()
            _ip("link", "set", devices[1], "netns", self.name)
            _ip("address", "add", near, "peer", far, "dev", devices[0])
            _ip("link", "set", devices[0], "up")
            inside = ("-n", self.name)
            _ip(*inside, "address", "add", far, "peer", near, "dev", devices[1])
            _ip(*inside, "link", "set", devices[1], "up")
            _ip(*inside, "link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise

    def set(self, **settings: float | None) -> dict[str, Any]:
        """Change ``delay_s`` (each way), ``loss``, ``cut`` or ``cut_after_bytes``.

        Returns all of them as they are now.
        """
        assert self._way.stdin is not None
        self._way.stdin.write(json.dumps(settings).encode() + b"\n")
        self._way.stdin.flush()
        return self._hear()

    @property
    def is_cut(self) -> bool:
        return bool(self.set()["cut"])

    def cut(self) -> None:
        """Lose every packet from now on: nobody is told that a connection has ended."""
        self.set(cut=True)

    def mend(self) -> None:
        """Make the line a good one again."""
        self.set(cut=False, cut_after_bytes=None, delay_s=0, loss=0)

    def close(self) -> None:
        """Take the line away. Idempotent."""
        if hasattr(self, "_way"):
            self._way.communicate()
        subprocess.run(["ip", "netns", "delete", self.name], capture_output=True, check=False)

    def _hear(self) -> dict[str, Any]:
        assert self._way.stdout is not None
        said = self._way.stdout.readline()
        assert said, "the line's program died"
        return dict(json.loads(said))


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
