"""What ``type: e2b`` takes, and what it costs."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from outpost.backends.e2b import E2bOutpost
from outpost.backends.e2b_options import E2bOptions
from outpost.errors import Rejected
from outpost.model import Handle
from outpost.ports import Setup

ROOT = Path(__file__).parents[2]
HEAVY = ("e2b", "httpx", "pyqwest", "connectrpc")
MAKE = """
import asyncio, json, sys
from outpost.backends.e2b import E2bOutpost, E2bOptions
from outpost.ports import Setup
variables = {"E2B_API_KEY": "k"}
setup = Setup(name="box", federation_id="f-1", data_folder=sys.argv[1], environment=variables)
outpost = E2bOutpost(setup, E2bOptions())
"""


def outpost_of(max_workers: int | None = None, **options: Any) -> E2bOutpost:
    setup = Setup(
        name="box",
        federation_id="f-1",
        data_folder="/nowhere",
        environment={},
        max_workers=max_workers,
    )
    return E2bOutpost(setup, E2bOptions(**options))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout": "2h"}, "the plan hobby run up to 1h at a stretch"),
        ({"timeout": "25h", "plan": "pro"}, "the plan pro run up to 24h"),
        ({"timeout": "30s"}, "at least 60s"),
        ({"timeout": 900}, "timeout"),
        ({"memory": "256Mi"}, "at least 512Mi"),
        ({"memory": "1025Mi"}, "even number"),
        ({"memory": "4096"}, "memory"),
        ({"lifecycle": "keep"}, "'pause' or 'kill'"),
        ({"template": "--rm"}, "template"),
        ({"deny": ["a b"]}, "deny"),
        ({"env": {"NOT-A-NAME": "x"}}, "is no name of a variable"),
        ({"api_key": "e2b_0123456789"}, "a secret is never written here itself"),
        ({"api_url": "ftp://e2b"}, "api_url"),
        ({"api_url": "http://e2b.example.com"}, "https:// is needed"),
        ({"sandbox_url": "http://sandbox.internal"}, "https:// is needed"),
        ({"api_url": "https://e2b:e2b_0123456789@example.com"}, "no user and no password here"),
        ({"sandbox_url": "https://e2b.example.com:99999"}, "expected an address"),
        ({"auto_resume": True}, "auto_resume"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        E2bOptions(**options)
    assert said in str(caught.value)
    assert "e2b_0123456789" not in str(caught.value.errors()[0]["msg"])


def test_e2b_on_machines_of_one_s_own_has_addresses_of_its_own() -> None:
    made = E2bOptions(api_url="https://e2b.example.com/api", sandbox_url="http://127.0.0.1:8080")
    assert made.api_url == "https://e2b.example.com/api"
    assert made.sandbox_url == "http://127.0.0.1:8080"


def test_a_pro_team_may_have_longer_leases() -> None:
    options = E2bOptions.model_validate({"timeout": "2h", "plan": "pro"})
    assert options.timeout_s == 7200


def test_it_costs_what_cpus_and_memory_cost() -> None:
    assert outpost_of().quote(None).microusd_per_hour == 165_600
    found = outpost_of(cpus=4, memory="512Mi").quote(None)
    # 4 * 0.000014 + 0.5 * 0.0000045 = 0.00005825 US dollars a second
    assert found.microusd_per_hour == 209_700
    assert (found.vcpus, found.memory_gib) == (4, 0.5)


def test_what_is_to_know_of_costs_is_said_before_the_first_use() -> None:
    greeting = asyncio.run(outpost_of(max_workers=30).greet())
    assert greeting
    assert not greeting.question
    assert greeting.lines[0].startswith("a sandbox costs $0.1656 an hour (E2B's prices, ")
    assert "plan hobby: at most 20 sandboxes run at once" in greeting.lines
    within = asyncio.run(outpost_of(max_workers=20).greet())
    assert within
    assert not any("at once" in line for line in within.lines)


def test_a_stranger_s_handle_is_refused() -> None:
    with pytest.raises(Rejected):
        outpost_of().worker(Handle(outpost="other", kind="e2b", worker_id="w-1", data={}))


def told(code: str, folder: Path, *, first: str = "") -> Any:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": f"{first}:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", f"{MAKE}\n{code}", str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return json.loads(done.stdout)


def test_what_it_is_and_costs_is_known_without_its_library(tmp_path: Path) -> None:
    code = (
        "asyncio.run(outpost.greet()); outpost.quote(None)\n"
        f"print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    )
    assert told(code, tmp_path) == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_module", "is not installed"),
        ("raise ImportError('libssl is not there')", "cannot be loaded (libssl is not there)"),
    ],
)
def test_without_the_extra_the_command_that_installs_it_is_said(
    tmp_path: Path, source: str, said: str
) -> None:
    (tmp_path / "e2b.py").write_text(f"{source}\n")
    code = (
        "health = asyncio.run(outpost.ping())\n"
        "print(json.dumps([health.ok, health.detail, health.hint]))"
    )
    ok, detail, hint = told(code, tmp_path, first=str(tmp_path))
    assert not ok
    assert detail == f"E2B's SDK {said}: pip install '.[e2b]' in the checkout of outpost"
    assert hint == "after that, have it tried again: outpost doctor --fix"
