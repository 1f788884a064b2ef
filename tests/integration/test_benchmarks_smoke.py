"""The benchmarks that must hold, each for a few seconds with small numbers: that they still run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.postgres import programs

pytestmark = pytest.mark.integration

CHECKOUT = Path(__file__).parents[2]
DOES_NOT_HOLD = 1
CHAOS = ("benchmarks.chaos", "--seconds", "6", "--long", "3", "--every", "0.4")


def run(folder: Path, module: str, *options: str) -> tuple[int, str]:
    """Run a benchmark as a program of its own; return its exit code and what it said."""
    environment = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
    done = subprocess.run(
        [sys.executable, "-m", module, *options],
        cwd=CHECKOUT,
        env={**environment, "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def figure(said: str, what: str) -> float:
    """Return the figure that stands behind ``what`` in a table."""
    (row,) = [line for line in said.splitlines() if line.startswith(f"| {what} ")]
    return float(row.split("|")[2].split()[0].replace(",", ""))


def test_soak(tmp_path: Path) -> None:
    """How late the store is says nothing on a machine that runs other tests as well."""
    options = ("--workers", "20", "--rate", "5", "--seconds", "4")
    code, said = run(tmp_path, "benchmarks.soak", *options)
    assert code in (0, DOES_NOT_HOLD), said
    assert 300 < figure(said, "lines written") < 500
    assert figure(said, "memory, most") > 10
    assert 0 < figure(said, "lag, p50") < 10_000


def test_restart(tmp_path: Path) -> None:
    options = ("--workers", "5", "30", "--down", "1", "--runs", "1")
    code, said = run(tmp_path, "benchmarks.restart", *options)
    assert code == 0, said
    assert "| 30 workers attached again, slowest of 1 " in said
    assert said.count("| - lines written meanwhile ") == 2


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
def test_chaos(tmp_path: Path, store: str) -> None:
    """Also after some seconds nothing is lost, doubled or left over."""
    more = ["--postgres"] if store == "postgres" else []
    if more and programs() is None:
        pytest.skip("the programs of a PostgreSQL server are not installed")
    code, said = run(tmp_path, *CHAOS, *more)
    assert code == 0, said
    assert figure(said, "tasks done") > 0
    assert figure(said, "faults in all") > 3


@pytest.mark.parametrize("kind", ["fly", "e2b"])
def test_places(tmp_path: Path, kind: str) -> None:
    """How long starts take says nothing here, either; that all of them come about does."""
    code, said = run(tmp_path, "benchmarks.places", "--kinds", kind, "--runs", "1", "--many", "2")
    assert code in (0, DOES_NOT_HOLD), said
    assert figure(said, "- the same by hand") > 0
    assert figure(said, f"{kind}: 2 starts at 1 a second") > 0
    for mode in ("sequential", "staggered", "burst"):
        assert figure(said, f"{kind}, 2 {mode}: p50") > 0
    failed = [row.split("|")[2].strip() for row in said.splitlines() if "| - failed " in row]
    assert failed == ["0"] * 4, said


def test_a_limit_that_does_not_hold_is_said(tmp_path: Path) -> None:
    options = ("--workers", "2", "--seconds", "2", "--most-cores", "0")
    code, said = run(tmp_path, "benchmarks.soak", *options)
    assert code == DOES_NOT_HOLD, said
    assert "does not hold: controller's CPU" in said
