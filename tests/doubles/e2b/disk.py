"""Paths of a sandbox and where they are on this machine."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

HOME = "/home/user"
_HOME = re.compile(rf"(?<![\w./-]){HOME}(?![\w.-])")


class Disk:
    """``/home/user`` is the folder ``home``; every other absolute path is that of this machine.

    Nothing outside of the sandbox's folder and the temporary folder can be changed through envd.
    """

    def __init__(self, folder: Path, home: Path) -> None:
        self.home = home
        self._ours = (folder.resolve(), Path(tempfile.gettempdir()).resolve())

    def inside(self, path: str) -> Path:
        """Return where a path of the sandbox is, as envd resolves it; raises ``ValueError``."""
        if path.startswith("~") and path[1:2] not in ("", "/"):
            raise ValueError("cannot expand user-specific home dir")
        path = re.sub("^~", HOME, path)
        if path == HOME or path.startswith(f"{HOME}/"):
            path = path.removeprefix(HOME).lstrip("/")
        return self.home / path

    def shown(self, place: Path) -> str:
        """Return a path as the sandbox has it."""
        if place == self.home or self.home in place.parents:
            return str(Path(HOME) / place.relative_to(self.home))
        return str(place)

    def in_text(self, text: str) -> str:
        """Return a command or a value with the paths as they are on this machine."""
        return _HOME.sub(str(self.home), text)

    def check(self, place: Path) -> Path:
        """Return the place if it may be changed; raises ``PermissionError``."""
        parents = (place.parent.resolve() / place.name).parents
        if not any(folder in parents for folder in self._ours):
            raise PermissionError(f"open {place}: permission denied")
        return place
