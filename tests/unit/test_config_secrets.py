"""Secrets by reference: found late, never shown."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import traceback
from pathlib import Path

import pytest

from outpost.config import SecretRef, parse
from outpost.errors import UserError

VALUE = "s3cr3t-value"
PATH = {"PATH": os.environ["PATH"]}


def test_each_way_finds_the_secret(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"  {VALUE}\n\n")
    assert SecretRef.parse("env://TOKEN").resolve({"TOKEN": f"{VALUE}\n"}) == VALUE
    assert SecretRef.parse(f"file://{file}").resolve({}) == VALUE
    assert SecretRef.parse("file://~/token").resolve({"HOME": str(tmp_path)}) == VALUE
    assert SecretRef.parse(f"cmd://cat '{file}'").resolve(PATH) == VALUE
    assert SecretRef.parse(f"cmd://printf '{VALUE}\\nuser: x\\n'").resolve(PATH) == VALUE


def test_a_command_is_split_but_no_shell_sees_it() -> None:
    assert SecretRef.parse("cmd://echo $HOME ; 'a  b'").resolve(PATH) == "$HOME ; a  b"


def test_a_command_sees_the_environment_given_to_it() -> None:
    reference = SecretRef.parse("cmd://printenv SOURCE")
    assert reference.resolve({**PATH, "SOURCE": VALUE}) == VALUE


def test_nothing_is_looked_up_at_load() -> None:
    config = parse(b"sources: {github: {token: 'cmd://no-such-program'}}")
    assert config.sources.github.token == SecretRef("cmd://no-such-program")
    assert VALUE not in repr(config)


BAD = ["", VALUE, "env://", "env://A B", "env://A=b", "file://relative", "cmd://", "cmd:// ",
       "cmd://'open", "http://x", None, 3]  # fmt: skip


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_reference(text: object) -> None:
    with pytest.raises(ValueError, match=r"(env|file|cmd)://") as caught:
        SecretRef.parse(text)
    assert VALUE not in str(caught.value)


def failure(reference: str, environment: dict[str, str], timeout_s: float = 10.0) -> str:
    with pytest.raises(UserError) as caught:
        SecretRef.parse(reference).resolve(environment, timeout_s=timeout_s)
    shown = "".join(traceback.format_exception(caught.value)) + caught.value.hint
    assert VALUE not in shown
    return caught.value.message.removeprefix(f"the secret {reference} cannot be read: ")


def test_what_cannot_be_found_says_why_and_never_the_value(tmp_path: Path) -> None:
    assert failure("env://TOKEN", {}) == "the variable TOKEN is not set"
    assert failure("env://TOKEN", {"TOKEN": " \n"}) == "what it refers to is empty"
    assert failure(f"file://{tmp_path}/x", {}) == f"{tmp_path}/x: No such file or directory"
    assert failure(f"file://{tmp_path}", {}) == f"{tmp_path}: Is a directory"
    assert failure("file://~/x", {}) == "HOME is not set, so ~ means nothing"
    (tmp_path / "binary").write_bytes(VALUE.encode() + b"\xff")
    assert failure(f"file://{tmp_path}/binary", {}) == "what it refers to is not UTF-8 text"
    (tmp_path / "big").write_bytes(b"x" * (1 << 21))
    assert failure(f"file://{tmp_path}/big", {}) == f"{tmp_path}/big is larger than 1 MiB"
    assert failure("cmd://no-such-program x", PATH) == (
        "the command cannot be started: No such file or directory"
    )
    script = tmp_path / "fails"
    script.write_text(f"#!/bin/sh\necho {VALUE}\necho {VALUE} >&2\nexit 3\n")
    script.chmod(0o700)
    assert failure(f"cmd://{script}", PATH) == "the command ended with exit code 3"
    assert failure("cmd://true", PATH) == "what it refers to is empty"


@pytest.mark.parametrize("token", ["one\nhunter2", "hunt\u00e9r2", "hunt\x1b[1mer2"])
def test_a_token_that_no_header_can_hold_is_refused_and_not_quoted(token: str) -> None:
    reference = SecretRef.parse("env://KEY")
    assert reference.resolve_token({"KEY": " FlyV1 one,two "}) == "FlyV1 one,two"
    with pytest.raises(UserError, match="no HTTP header can") as caught:
        reference.resolve_token({"KEY": token})
    assert "hunt" not in caught.value.message + caught.value.hint


def test_a_slow_command_is_ended_with_all_it_started(tmp_path: Path) -> None:
    script = tmp_path / "slow"
    script.write_text(f"#!/bin/sh\nsleep 300 &\necho $! > {tmp_path}/pid\necho {VALUE}\nwait\n")
    script.chmod(0o700)
    message = failure(f"cmd://{script}", PATH, timeout_s=1.0)
    assert message == "the command took longer than 1 seconds"
    pid = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 10
    while is_running(pid):
        assert time.monotonic() < deadline, "the command's child is still running"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], check=False, capture_output=True, text=True
    ).stdout.strip()
    return bool(state) and not state.startswith("Z")


def test_the_reference_is_what_is_shown() -> None:
    code = "from outpost.config import SecretRef; print(repr(SecretRef.parse('env://TOKEN')))"
    environment = {**os.environ, "TOKEN": VALUE}
    shown = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment
    ).stdout
    assert shown == "SecretRef(reference='env://TOKEN')\n"
