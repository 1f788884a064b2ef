"""The runner as one file: always the same, complete, and of the standard library alone."""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import outpost
from outpost.transports.archive import runner_archive

PACKAGE = Path(outpost.__file__).parent
# Programs of their own that are packed as well, and what they alone may import.
OWN = {
    "runner/acp": {"acp"},
    "runner/builtin": {"anthropic", "httpx2"},
    "runner/serve": {"granian"},
}
MODULES = [*(PACKAGE / "runner").rglob("*.py"), *(PACKAGE / "wire").rglob("*.py")]


def imports(path: Path) -> set[str]:
    """Return the absolute names of all modules a file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} imports relatively"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_runner_imports_the_standard_library_and_itself(path: Path) -> None:
    known = sys.stdlib_module_names | OWN.get(path.relative_to(PACKAGE).parent.as_posix(), set())
    for name in imports(path):
        ours = name.startswith(("outpost.runner", "outpost.wire"))
        assert ours or name.partition(".")[0] in known, f"{name} in {path}"


def test_it_holds_runner_and_wire_and_nothing_else() -> None:
    _, content = runner_archive()
    names = set(zipfile.ZipFile(io.BytesIO(content)).namelist())
    sources = {name for name in names if name.endswith(".py")}
    expected = {f"outpost/{path.relative_to(PACKAGE)}" for path in MODULES}
    assert sources == expected | {"__main__.py", "outpost/__init__.py"}
    assert names == sources | {name + "c" for name in sources}


def test_it_is_the_same_in_every_process() -> None:
    name = runner_archive()[0]
    code = "from outpost.transports.archive import runner_archive; print(runner_archive()[0])"
    for seed in ("0", "1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", f"import asyncio, json, pydantic; {code}"],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == name


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / runner_archive()[0]
    path.write_bytes(runner_archive()[1])
    return path


def bare(archive: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the archive as a bare machine would: no site packages, no variables, another folder."""
    return subprocess.run(
        [sys.executable, "-I", "-S", str(archive), *arguments],
        env={},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_runs_on_a_bare_python(archive: Path, tmp_path: Path) -> None:
    usage = bare(archive)
    assert usage.returncode == 2
    assert usage.stderr.startswith("usage: runner start")
    worker = tmp_path / "root" / "workers" / "w-1"
    worker.mkdir(parents=True)
    (worker / "order.json").write_text(json.dumps({"federation_id": "f-1"}))
    (tmp_path / "root" / "workers" / "w-2").mkdir()
    found = bare(archive, "probe", str(tmp_path / "root"), "f-1")
    assert json.loads(found.stdout) == {
        "worker_id": "w-1",
        "liveness": "dead",
        "directory": str(worker),
    }
    assert bare(archive, "probe", str(tmp_path / "root"), "f-2").stdout == ""
    assert bare(archive, "probe", str(tmp_path / "nowhere"), "f-1").returncode == 0


def test_every_module_imports_on_a_bare_python(archive: Path) -> None:
    shared = [path for path in MODULES if path.relative_to(PACKAGE).parent.as_posix() not in OWN]
    modules = [_module(path) for path in shared if path.name != "__main__.py"]
    code = (
        "import sys, importlib; sys.path.insert(0, sys.argv[1])\n"
        f"for name in {modules}: importlib.import_module(name)\n"
        "files = [getattr(m, '__file__', None) or '' for m in sys.modules.values()]\n"
        "print([file for file in files if 'site-packages' in file])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(archive)],
        env={},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[]", "")


def _module(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")
