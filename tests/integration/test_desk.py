"""What every ``Shell`` promises: on this machine directly, and through a desk."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from outpost.ports import Shell
from outpost.transports.this_machine import ThisMachine
from tests.integration.desk_world import desk_on, eventually, written_pid
from tests.world import alive

pytestmark = pytest.mark.integration
ODD_NAMES = ["plain", "with space", "é🙂", "new\nline", "-dash", "quote'\"$x", "byte-\udcff"]


@pytest_asyncio.fixture(params=["this machine", "desk"])
async def shell(request: pytest.FixtureRequest) -> AsyncIterator[Shell]:
    if request.param == "this machine":
        yield ThisMachine()
    else:
        async with desk_on() as desk:
            yield desk


@pytest.fixture
def sleeper(tmp_path: Path) -> tuple[str, Path, Path]:
    """Return a script that sleeps with a child that sleeps too, and where both leave their pids."""
    parent, child = tmp_path / "parent.pid", tmp_path / "child.pid"
    script = f"echo $$ > {parent}; sh -c 'echo $$ > {child}; sleep 300' & wait"
    return script, parent, child


async def test_a_command_is_run_to_its_end(shell: Shell) -> None:
    done = await shell.run(["sh", "-c", "cat; echo no >&2; exit 3"], stdin=b"in\0\xff")
    assert (done.exit_code, done.stdout, done.stderr) == (3, b"in\0\xff", b"no\n")


async def test_without_stdin_a_command_reads_nothing(shell: Shell) -> None:
    assert (await shell.run(["cat"])).stdout == b""


async def test_a_signal_is_a_negative_exit_code(shell: Shell) -> None:
    assert (await shell.run(["sh", "-c", "kill -9 $$"])).exit_code == -9


async def test_the_environment_is_the_given_one_and_no_other(shell: Shell) -> None:
    given = {"WORD": "é=\udcff", "PATH": os.defpath}
    assert (await shell.run(["env"], environment=given)).stdout.split(b"\n")[:-1] == [
        b"WORD=\xc3\xa9=\xff",
        b"PATH=" + os.defpath.encode(),
    ]
    assert (await shell.run(["/usr/bin/env"], environment={})).stdout == b""
    assert b"PATH=" in (await shell.run(["env"])).stdout


async def test_arguments_arrive_as_they_are(shell: Shell) -> None:
    done = await shell.run(["printf", "%s|", *ODD_NAMES, ""])
    assert done.stdout == b"".join(os.fsencode(it) + b"|" for it in [*ODD_NAMES, ""])


async def test_an_absent_program_is_not_found(shell: Shell) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        await shell.run(["no-such-program"])


async def test_a_file_that_is_no_program_is_refused(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("words")
    with pytest.raises(PermissionError):
        await shell.run([str(tmp_path / "text")])


async def test_a_zero_in_an_argument_is_refused(shell: Shell) -> None:
    with pytest.raises(ValueError, match="null"):
        await shell.run(["echo", "a\0b"])


async def test_a_command_that_is_too_long_is_refused_and_hurts_no_other(shell: Shell) -> None:
    other = asyncio.create_task(shell.run(["sh", "-c", "sleep 0.2; echo well"]))
    with pytest.raises(OSError, match="Argument list too long"):
        await shell.run(["echo", "x" * 3_000_000])
    with pytest.raises(OSError, match="Argument list too long"):
        await shell.run(["echo", "x" * 500_000])
    with pytest.raises(TypeError):
        await shell.run(["echo", object()])  # type: ignore[list-item]
    assert (await other).stdout == b"well\n"


async def test_a_command_that_takes_too_long_dies_with_its_children(
    shell: Shell, sleeper: tuple[str, Path, Path]
) -> None:
    script, parent, child = sleeper
    with pytest.raises(TimeoutError):
        await shell.run(["sh", "-c", script], timeout_s=0.5)
    pids = written_pid(parent), written_pid(child)
    assert None not in pids
    await eventually(lambda: not any(alive(pid or 0) for pid in pids), "both are dead")


async def test_a_cancelled_command_dies_with_its_children(
    shell: Shell, sleeper: tuple[str, Path, Path]
) -> None:
    script, parent, child = sleeper
    task = asyncio.create_task(shell.run(["sh", "-c", script]))
    await eventually(lambda: written_pid(parent) and written_pid(child), "both run")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    pids = written_pid(parent), written_pid(child)
    await eventually(lambda: not any(alive(pid or 0) for pid in pids), "both are dead")


async def test_what_detached_itself_goes_on(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    inner = f"echo $$ > {path}; exec sleep 300 < /dev/null > /dev/null 2>&1"
    assert (await shell.run(["setsid", "--fork", "sh", "-c", inner])).exit_code == 0
    await eventually(lambda: written_pid(path), "it runs")
    pid = written_pid(path)
    assert pid
    try:
        assert alive(pid)
        assert (await shell.run(["true"])).exit_code == 0
        assert alive(pid)
    finally:
        os.kill(pid, 9)


async def test_much_goes_in_and_out(shell: Shell) -> None:
    data = os.urandom(3 << 20)
    done = await shell.run(["sh", "-c", "tee /dev/stderr"], stdin=data)
    assert done.stdout == data
    assert done.stderr == data


async def test_stdin_that_is_not_read_is_no_error(shell: Shell) -> None:
    assert (await shell.run(["true"], stdin=bytes(2 << 20))).exit_code == 0


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_files_come_back_whatever_their_name(shell: Shell, tmp_path: Path, name: str) -> None:
    path = f"{tmp_path}/folder {name}/{name}"
    await shell.put(path, b"first")
    await shell.put(path, b"second")
    assert await shell.get(path) == b"second"
    assert await shell.get(path, offset=3) == b"ond"
    assert await shell.get(path, offset=6) == b""
    assert await shell.get(path, offset=1 << 40) == b""
    assert os.listdir(os.path.dirname(path)) == [name]  # noqa: PTH120, PTH208 - odd bytes


async def test_a_file_is_private_unless_told_otherwise(shell: Shell, tmp_path: Path) -> None:
    await shell.put(f"{tmp_path}/a/secret", b"x")
    await shell.put(f"{tmp_path}/a/program", b"x", mode=0o755)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a/secret").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "a/program").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("size", [0, 1, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 5_000_000])
async def test_a_file_of_any_size_is_put_whole(shell: Shell, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    await shell.put(f"{tmp_path}/file", data)
    assert (tmp_path / "file").read_bytes() == data
    assert await shell.get(f"{tmp_path}/file") == data[: 1 << 20]


async def test_absent_and_impossible_files_are_errors(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileNotFoundError, match="absent"):
        await shell.get(f"{tmp_path}/absent")
    with pytest.raises(IsADirectoryError):
        await shell.get(str(tmp_path))
    with pytest.raises(NotADirectoryError):
        await shell.get(f"{tmp_path}/file/below")
    with pytest.raises((NotADirectoryError, FileExistsError)):
        await shell.put(f"{tmp_path}/file/below", b"")
    with pytest.raises(OSError, match="directory"):
        await shell.put(str(tmp_path), b"")
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(OSError, match="dangling"):
        await shell.put(f"{tmp_path}/dangling/below/file", b"")
    assert sorted(os.listdir(tmp_path)) == ["dangling", "file"]  # noqa: PTH208 - names are enough


async def test_a_full_disk_refuses_a_file_and_keeps_the_old_one(
    shell: Shell, tmp_path: Path, small_disk: Callable[[Path, int], None]
) -> None:
    small_disk(tmp_path / "disk", 1)
    path = f"{tmp_path}/disk/file"
    await shell.put(path, b"old")
    with pytest.raises(OSError, match="No space left"):
        await shell.put(path, os.urandom(3 << 20))
    assert await shell.get(path) == b"old"
    assert os.listdir(tmp_path / "disk") == ["file"]  # noqa: PTH208 - a name is enough
    await shell.put(path, b"new")
    assert await shell.get(path) == b"new"


async def test_a_growing_file_is_followed_from_an_offset(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "log"
    seen = b""
    async with contextlib.aclosing(shell.stream(str(path), offset=2)) as pieces:
        async with asyncio.timeout(20):
            assert await anext(pieces) == b"", "an absent file has nothing to tell yet"
            path.write_bytes(b"abcd")
            async for piece in pieces:
                seen += piece
                if seen == b"cd":
                    with path.open("ab") as log:
                        log.write(b"e" * 3_000_000)
                if len(seen) == 3_000_002:
                    break
    assert seen == b"cd" + b"e" * 3_000_000


async def test_a_resting_file_gives_its_follower_time_to_look_around(
    shell: Shell, tmp_path: Path
) -> None:
    (tmp_path / "log").write_bytes(b"ab")
    async with contextlib.aclosing(shell.stream(f"{tmp_path}/log")) as pieces:
        async with asyncio.timeout(10):
            assert [await anext(pieces) for _ in range(3)] == [b"ab", b"", b""]


async def test_a_file_that_cannot_be_followed_is_an_error(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        await _followed(shell, f"{tmp_path}/file/below")


async def _followed(shell: Shell, path: str) -> bytes:
    """Return the first that comes of a file."""
    async with contextlib.aclosing(shell.stream(path)) as pieces:
        return await anext(piece async for piece in pieces if piece)
