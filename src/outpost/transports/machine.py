"""What tells this machine from others."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path


def machine_id() -> str:
    """Return the id from the installation of this machine, else its name."""
    with contextlib.suppress(OSError):
        if known := Path("/etc/machine-id").read_text().strip():
            return known
    return socket.gethostname()
