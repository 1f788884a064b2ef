"""The runner as one file: a zip archive that Python runs as it is.

Compiled modules lie beside the sources: the Python version that built the archive starts from
them, any other passes them over and compiles. ``python -m outpost.transports.archive FOLDER``
writes it there.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import marshal
import sys
import zipfile
from functools import cache
from pathlib import Path
from types import CodeType

_PACKAGE = Path(__file__).parent.parent
_PARTS = ("runner", "wire")
_MAIN = b"import sys\nfrom outpost.runner.main import main\nsys.exit(main(sys.argv[1:]))\n"
_EPOCH = (2020, 1, 1, 0, 0, 0)
_PYC_UNCHECKED = 0b01
_MARSHAL_PLAIN = 2


@cache
def runner_archive() -> tuple[str, bytes]:
    """Return the archive's file name, which carries its content's hash, and its bytes."""
    sources = {"__main__.py": _MAIN, "outpost/__init__.py": b""}
    for part in _PARTS:
        for path in sorted((_PACKAGE / part).rglob("*.py")):
            sources[f"outpost/{path.relative_to(_PACKAGE).as_posix()}"] = path.read_bytes()
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as archive:
        for name, source in sources.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), source)
            archive.writestr(zipfile.ZipInfo(name + "c", _EPOCH), _compiled(name, source))
    content = data.getvalue()
    return f"runner-{hashlib.sha256(content).hexdigest()[:16]}.pyz", content


def _compiled(name: str, source: bytes) -> bytes:
    """Return a module as a ``.pyc`` that is taken without a look at the source's time (PEP 552)."""
    code: CodeType = compile(source, name, "exec", dont_inherit=True)
    digest = importlib.util.source_hash(source)
    flags = _PYC_UNCHECKED.to_bytes(4, "little")
    # Later formats of marshal mark what is referred to more than once, which varies by process.
    return importlib.util.MAGIC_NUMBER + flags + digest + marshal.dumps(code, _MARSHAL_PLAIN)


if __name__ == "__main__":
    _name, _content = runner_archive()
    (Path(sys.argv[1]) / _name).write_bytes(_content)
