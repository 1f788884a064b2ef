"""With the official client sandboxes of the stand-in run commands and keep files as E2B's do."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from e2b import (
    AsyncSandbox,
    AuthenticationException,
    CommandExitException,
    FileNotFoundException,
    InvalidArgumentException,
    NotFoundException,
    SandboxException,
    TimeoutException,
)

from tests.doubles.e2b import E2bCloud, machine_init
from tests.doubles.e2b.machine_init import DIGITS
from tests.doubles.e2b.trying import FAST, create, out, plain, until
from tests.world import alive
from tests.world import until as wait_until

pytestmark = pytest.mark.integration


@pytest.fixture
def e2b(tmp_path: Path) -> Iterator[E2bCloud]:
    with E2bCloud(tmp_path / "e2b", limits=FAST) as cloud:
        yield cloud


async def test_a_command_runs_in_the_sandbox(tmp_path: Path) -> None:
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "greet").write_text("#!/bin/sh\necho $GREETING $1\n")
    (bin_ / "greet").chmod(0o755)
    environment = {"PATH": f"{bin_}:/usr/bin:/bin", "GREETING": "hello"}
    with E2bCloud(tmp_path / "e2b", environment=environment) as e2b:
        sandbox = await create(e2b, envs={"COLOUR": "green"})
        home = e2b.sandboxes()[0].home
        assert await out(sandbox, "greet $COLOUR") == "hello green"
        assert await out(sandbox, "greet $COLOUR", envs={"COLOUR": "red"}) == "hello red"
        assert await out(sandbox, "echo $HOME; pwd; cd /home/user; pwd") == "\n".join(
            [str(home)] * 3
        )
        assert await out(sandbox, "pwd", cwd="/tmp") == "/tmp"
        assert await out(sandbox, "echo $E2B_SANDBOX_ID", user="root") == sandbox.sandbox_id
        with pytest.raises(CommandExitException) as failed:
            await sandbox.commands.run("echo one; echo two >&2; exit 7")
        seen = failed.value
        assert (seen.exit_code, seen.stdout, seen.stderr) == (7, "one\n", "two\n")
        with pytest.raises(InvalidArgumentException, match="does not exist"):
            await sandbox.commands.run("true", cwd="/home/user/nowhere")
        with pytest.raises(AuthenticationException, match="nobody"):
            await sandbox.commands.run("true", user="nobody")


async def test_git_python_and_tmux_are_there(e2b: E2bCloud) -> None:
    sandbox = await create(e2b)
    assert "git version" in await out(sandbox, "git --version")
    assert await out(sandbox, "python3 -c 'print(6 * 7)'") == "42"
    await sandbox.commands.run("tmux -L t new-session -d -s one 'sleep 300'")
    assert await out(sandbox, "tmux -L t ls -F '#S'") == "one"
    other = await create(e2b)
    with pytest.raises(CommandExitException):
        await other.commands.run("tmux -L t ls")


async def test_a_command_in_the_background_is_listed_talked_to_and_killed(e2b: E2bCloud) -> None:
    sandbox = await create(e2b)
    handle = await sandbox.commands.run(
        "while read x; do echo got $x; done; echo end", background=True, stdin=True, timeout=0
    )
    assert [it.pid for it in await sandbox.commands.list()] == [handle.pid]
    await sandbox.commands.send_stdin(handle.pid, "a\n")
    await handle.send_stdin(b"b\n")
    await handle.close_stdin()
    assert (await handle.wait()).stdout == "got a\ngot b\nend\n"
    killed = await sandbox.commands.run("sleep 300", background=True, timeout=0)
    assert await killed.kill()
    with pytest.raises(CommandExitException) as seen:
        await killed.wait()
    assert (seen.value.exit_code, seen.value.error) == (-1, "signal: killed")
    await until(lambda: not alive(killed.pid), "it is gone")
    assert not await sandbox.commands.kill(killed.pid)
    async with sandbox.commands.stream_input((await _cat(sandbox)).pid) as stream:
        await stream.send("more\n")


async def _cat(sandbox: AsyncSandbox) -> Any:
    return await sandbox.commands.run("cat", background=True, stdin=True, timeout=0)


async def test_a_second_client_hears_only_what_is_new_and_the_end_for_a_while(
    e2b: E2bCloud,
) -> None:
    sandbox = await create(e2b)
    command = "echo old; read x; echo new; exit 4"
    heard: list[str] = []
    handle = await sandbox.commands.run(
        command, background=True, stdin=True, timeout=0, on_stdout=heard.append
    )
    await until(lambda: heard, "the first one hears it")
    await handle.disconnect()
    again = await sandbox.commands.connect(handle.pid, timeout=0)
    await again.send_stdin("\n")
    for _ in range(2):  # once it hears it happen, once it is told
        with pytest.raises(CommandExitException) as seen:
            await again.wait()
        assert seen.value.exit_code == 4
        assert "old" not in seen.value.stdout
        again = await sandbox.commands.connect(handle.pid, timeout=0)
    await again.disconnect()
    await asyncio.sleep(FAST.exit_kept_s)
    with pytest.raises(NotFoundException):
        await sandbox.commands.connect(handle.pid)


async def test_the_deadline_of_a_call_kills_its_command_and_nothing_else(e2b: E2bCloud) -> None:
    sandbox = await create(e2b)
    with pytest.raises(TimeoutException):
        await sandbox.commands.run("echo $$ > pid; sleep 300 & echo $! > child; wait", timeout=3)
    pid, child = [int(await sandbox.files.read(name)) for name in ("pid", "child")]
    await until(lambda: not alive(pid), "the command is gone")
    assert alive(child)


async def test_a_client_that_goes_away_kills_nothing(e2b: E2bCloud) -> None:
    sandbox = await create(e2b)
    handle = await sandbox.commands.run("sleep 300", background=True, timeout=0)
    await handle.disconnect()
    running = asyncio.ensure_future(sandbox.commands.run("echo $$ > pid; sleep 300"))
    place = e2b.sandboxes()[0].home / "pid"
    await until(lambda: place.exists() and place.read_text(), "the second one runs")
    running.cancel()
    await asyncio.wait({running})
    assert e2b.cut() > 0
    assert {it.pid for it in await sandbox.commands.list()} == {handle.pid, int(place.read_text())}


async def test_who_holds_the_output_holds_the_command_and_daemons_stay(e2b: E2bCloud) -> None:
    sandbox = await create(e2b)
    began = time.monotonic()
    assert await out(sandbox, "(sleep 0.6; echo late) & echo soon") == "soon\nlate"
    assert time.monotonic() - began > 0.5
    pid = int(await out(sandbox, "setsid sleep 300 >/dev/null 2>&1 </dev/null & echo $!"))
    assert await sandbox.commands.list() == []
    assert pid in e2b.sandboxes()[0].pids
    await sandbox.kill()
    assert not alive(pid)


async def test_files(e2b: E2bCloud) -> None:
    sandbox = await create(e2b)
    home, files = e2b.sandboxes()[0].home, sandbox.files
    written = await files.write("/home/user/a/b.txt", "äöü\n")
    assert (written.path, written.name) == ("/home/user/a/b.txt", "b.txt")
    assert (home / "a" / "b.txt").read_text() == await files.read("a/b.txt") == "äöü\n"
    data = bytes(range(256)) * 4000
    await files.write("big", data, use_octet_stream=True, gzip=True)
    assert await files.read("~/big", format="bytes", gzip=True) == data
    pieces = [piece async for piece in await files.read("big", format="stream")]
    assert b"".join(pieces) == data
    both = [{"path": "one", "data": b"1"}, {"path": "/home/user/two", "data": "2"}]
    assert [it.path for it in await files.write_files(both)] == ["/home/user/one", "/home/user/two"]  # type: ignore[arg-type]
    assert await files.make_dir("dir/deep")
    assert not await files.make_dir("dir")
    assert await files.exists("dir/deep")
    assert not await files.exists("none")
    (home / "link").symlink_to("one")
    found = {it.name: it for it in await files.list("/home/user", depth=2)}
    assert {"a", "b.txt", "big", "deep", "dir", "link", "one", "two"} <= set(found)
    assert (found["b.txt"].size, found["link"].symlink_target) == (7, "one")
    assert (await files.rename("one", "new/uno")).path == "/home/user/new/uno"
    await files.remove("new")
    assert not (home / "new").exists()
    for path, why in (("none", FileNotFoundException), ("dir", InvalidArgumentException)):
        with pytest.raises(why):
            await files.read(path)
    with pytest.raises(FileNotFoundException):
        await files.list("none")


async def test_nothing_of_this_machine_can_be_changed(e2b: E2bCloud) -> None:
    sandbox = await create(e2b)
    with TemporaryDirectory(dir="/var/tmp") as elsewhere:
        ours, place = Path(elsewhere) / "ours", Path(elsewhere) / "never-made"
        ours.touch()
        with pytest.raises(SandboxException, match="permission denied"):
            await sandbox.files.write(str(place), "x")
        with pytest.raises(SandboxException, match="permission denied"):
            await sandbox.files.make_dir(str(place))
        with pytest.raises(SandboxException, match="permission denied"):
            await sandbox.files.remove(str(ours))
        assert ours.exists()
        assert not place.exists()


async def test_a_file_is_downloaded_with_a_signature(e2b: E2bCloud) -> None:
    sandbox = await create(e2b)
    await sandbox.files.write("x", "signed")
    async with plain(
        e2b, **{"E2b-Sandbox-Id": sandbox.sandbox_id, "E2b-Sandbox-Port": "49983"}
    ) as http:
        signed = sandbox.download_url("x", use_signature_expiration=60)
        assert (await http.get(signed)).text == "signed"
        assert (await http.get(signed + "1")).status_code == 401
        rpc = f"{e2b.sandbox_url}/process.Process/List"
        refused = await http.post(rpc, json={}, headers={"X-Access-Token": "wrong"})
        assert (refused.status_code, "unauthorized" in refused.text) == (401, True)


async def test_the_end_leaves_nothing(tmp_path: Path) -> None:
    with E2bCloud(tmp_path / "e2b") as e2b:
        running, paused = await create(e2b), await create(e2b)
        for sandbox in (running, paused):
            await sandbox.commands.run("setsid sleep 300 >/dev/null 2>&1 &")
        await paused.pause()
        e2b.faults.slow_boot_s = 60
        with pytest.raises(httpx.TimeoutException):
            await create(e2b, request_timeout=0.1)
        pids = [pid for it in e2b.sandboxes() for pid in it.pids]
        assert len(pids) == 2
    assert not any(alive(pid) for pid in pids)
    assert list((tmp_path / "e2b").iterdir()) == []


def test_everything_ends_with_the_stand_in_though_it_had_more_to_tell(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with theirs, (tmp_path / "out").open("w+b") as file:
        argv = [sys.executable, "-I", "-S", machine_init.__file__]
        process = subprocess.Popen(argv, stdin=theirs.fileno())
        files = [file.fileno()] * 3
        for command in ("echo $$; exec sleep 300", "exit 0"):
            told = {"argv": ["/bin/sh", "-c", command], "cwd": "/", "environment": {"PATH": "/bin"}}
            data = json.dumps(told).encode()
            socket.send_fds(ours, [f"{len(data):0{DIGITS}}".encode()], files)
            ours.sendall(data)
        ours.recv(1 << 16, socket.MSG_PEEK)  # what it tells is left unread
        pid = int(wait_until((tmp_path / "out").read_text, "it runs"))
        ours.close()
        assert process.wait(10) == 0
    assert not alive(pid)
