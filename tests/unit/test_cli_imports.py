"""What starting the command line loads: nothing that a command does not need."""

from __future__ import annotations

import json
import subprocess
import sys

HEAVY = {
    "sqlalchemy",
    "alembic",
    "pydantic",
    "yaml",
    "httpx",
    "httpx2",
    "asyncssh",
    "pyqwest",
    "google",
    "grpc",
    "sqlite3",
    "rich",
}


def loaded_by(code: str) -> set[str]:
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


def heavy(modules: set[str]) -> set[str]:
    backends = {name for name in modules if name.startswith("outpost.backends.")}
    return backends | (HEAVY & modules)


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    assert not heavy(loaded_by("import outpost.cli"))


def test_the_list_of_commands_loads_nothing_heavy() -> None:
    assert not heavy(loaded_by("import outpost.cli.commands"))


def test_spawn_itself_loads_no_backend_and_no_database_before_it_runs() -> None:
    assert not heavy(loaded_by("import outpost.cli.spawn")) - {"sqlite3"}


def test_ps_in_an_empty_home_loads_no_backend_no_database_layer_and_no_http(
    tmp_path: object,
) -> None:
    code = (
        "import os; from outpost.cli.commands import app\n"
        f"os.environ['OUTPOST_HOME'] = {str(tmp_path)!r}; os.environ.pop('OUTPOST_CONFIG', None)\n"
        f"os.environ['HOME'] = {str(tmp_path)!r}; os.chdir({str(tmp_path)!r})\n"
        "try: app(['ps'])\nexcept SystemExit: pass"
    )
    loaded = loaded_by(code)
    assert "outpost.cli.ps" in loaded
    assert not heavy(loaded) - {"pydantic", "yaml", "sqlite3"}
