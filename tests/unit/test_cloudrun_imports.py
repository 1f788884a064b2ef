"""Google's libraries load late, and where they are absent the words to type are said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
HEAVY = ("google.auth", "google.api_core", "google.cloud", "grpc", "pyqwest", "requests")
MAKE = """
import asyncio, json, sys
from outpost.backends.cloudrun import CloudRunOutpost
from outpost.ports import Setup
from tests.unit.cloudrun_values import some_options
setup = Setup(name="burst", federation_id="f-1", data_folder=sys.argv[1], environment={"T": "t"})
outpost = CloudRunOutpost(setup, some_options(token="env://T", keep_alive="5m"))
"""


def told(code: str, folder: Path, *, first: str = "") -> Any:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "NO_GCE_CHECK": "true"}
    environment["PYTHONPATH"] = f"{first}:{ROOT}"
    done = subprocess.run(
        [sys.executable, "-c", f"{MAKE}\n{code}", str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


def test_what_an_outpost_is_and_costs_is_known_without_them(tmp_path: Path) -> None:
    code = (
        "greeting = asyncio.run(outpost.greet())\n"
        "price = outpost.quote(None).microusd_per_hour\n"
        f"loaded = [name for name in {HEAVY} if name in sys.modules]\n"
        "print(json.dumps([len(greeting.lines), price, loaded]))"
    )
    assert told(code, tmp_path) == [2, 208_800, []]


PING = (
    "health = asyncio.run(outpost.ping())\n"
    "print(json.dumps([health.ok, health.detail, health.hint]))"
)


def test_without_the_extra_the_command_that_installs_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "google").mkdir()
    (tmp_path / "google" / "__init__.py").write_text("")
    ok, detail, hint = told(PING, tmp_path, first=str(tmp_path))
    assert not ok
    assert detail == "google-cloud-run is not installed"
    assert hint == "pip install '.[cloudrun]'  in the checkout of outpost"


def test_without_credentials_nothing_is_asked_and_the_command_is_said(tmp_path: Path) -> None:
    ok, detail, hint = told(PING, tmp_path)
    assert not ok
    assert detail == "there are no Google credentials here"
    assert hint.startswith("gcloud auth application-default login\n")
