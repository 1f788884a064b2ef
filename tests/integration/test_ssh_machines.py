"""Machines as people have them: without programs, full of noise, with full or closed disks."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from outpost.errors import NotDispatched
from outpost.model import State
from tests.faulty_world import refused
from tests.integration.ssh_outposts import SECRET, bench_of, outpost_at, trouble_at, works
from tests.ssh_hosts import Host
from tests.ssh_world import SshWorld

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

OLD = '[ "$1" = -V ] && echo "Python 3.8.10" || exit 93'


def without(*programs: str) -> Callable[[Host], None]:
    return lambda host: host.only(without=programs)


async def test_no_python_says_how_to_install_one(ssh: SshWorld) -> None:
    trouble = await trouble_at(ssh, ssh.host("a", prepare=without("python")))
    assert isinstance(trouble.fault, NotDispatched)
    for said, hint in (
        (trouble.health.detail, trouble.health.hint),
        (trouble.fault.message, trouble.fault.hint),
    ):
        assert "no Python there" in said
        assert "sudo apt-get install python3" in hint


async def test_an_old_python_is_named_and_a_newer_one_beside_it_taken(ssh: SshWorld) -> None:
    host = ssh.host("a", prepare=without("python"))
    host.program("python3", OLD)
    trouble = await trouble_at(ssh, host)
    assert "no Python 3.10 or newer there: python3 is Python 3.8.10" in trouble.fault.message
    assert "install Python 3.10 or newer" in trouble.fault.hint
    newer = host.program("python3.12", 'exec /usr/bin/python3 "$@"')
    await works(ssh, host)
    newer.rename(host.folder / "python")
    assert (await trouble_at(ssh, host)).fault
    await works(ssh, host, python=str(host.folder / "python"))


@pytest.mark.parametrize("program", ["tmux", "git"])
async def test_a_program_that_is_missing_costs_a_task_nothing(ssh: SshWorld, program: str) -> None:
    bare, sound = ssh.host("a", prepare=without(program)), ssh.host("b")
    async with outpost_at(ssh, bare) as outpost:
        health = await outpost.ping()
    assert not health.ok
    assert health.detail == f"{program} is not installed there"
    assert health.hint.endswith(f" {program}")
    async with ssh.federation(bare, sound) as federation:
        options = ssh.world.options("true", ssh.world.remote)
        submitted = await federation.submit(await federation.resolve("text:Mend", options))
        assert submitted.worker
        attempt = await submitted.worker.result()
    assert (attempt.outpost, attempt.state) == ("b", State.DONE)
    assert health.detail in refused(submitted.decision, "a").detail


@pytest.mark.parametrize(
    "noise",
    [
        "echo Welcome to the box; echo on stderr >&2",
        "printf 'no newline at the end'; set -o vi; alias sh=echo",
        "trap 'echo bye' EXIT; echo \"$BASH_EXECUTION_STRING\"",
    ],
)
async def test_noise_of_start_up_files_does_not_matter(ssh: SshWorld, noise: str) -> None:
    host = ssh.host("a")
    (host.home / ".bashrc").write_text(noise + "\n")
    await works(ssh, host)


async def test_a_start_up_file_that_ends_the_session_is_shown(ssh: SshWorld) -> None:
    host = ssh.host("a")
    (host.home / ".bashrc").write_text("echo This account is not available.; exit 1\n")
    trouble = await trouble_at(ssh, host)
    assert "This account is not available." in trouble.fault.message
    assert ".bashrc" in trouble.fault.hint
    assert isinstance(trouble.fault, NotDispatched)


async def test_one_session_is_enough_for_everything(ssh: SshWorld) -> None:
    host = ssh.host("a", MaxSessions="1")
    async with outpost_at(ssh, host) as outpost:
        bench = bench_of(ssh, outpost)
        handles = [await bench.spawn("echo begun; sleep 60") for _ in range(3)]
        for handle in handles:
            await bench.wait_for_line(handle, "begun")
        assert len(await bench.seen()) == 3
        await outpost.worker(handles[0]).stop(grace_s=2, reason="enough")
        assert (await bench.log(handles[0]))[-1].fields["outcome"] == "stopped"
    assert host.logins() == 1


async def test_workers_live_in_the_home_of_their_machine(ssh: SshWorld) -> None:
    host = ssh.host("a")
    (host.home / "mark").write_text("of the host\n")
    async with outpost_at(ssh, host, env={"GREETING": "hello there"}) as outpost:
        bench = bench_of(ssh, outpost)
        script = 'cd; pwd; cat mark; echo "$GREETING"; echo "[$TOKEN]" | tr a-z A-Z'
        handle = await bench.spawn(script)
        lines = [it.fields["text"] for it in await bench.log(handle) if it.type == "log"]
    assert lines[-4:] == [str(host.home), "of the host", "hello there", f"[{SECRET.upper()}]"]


@pytest.fixture
def closed(ssh: SshWorld) -> Callable[[Path], None]:
    """Return a function that lets nobody write to a folder any more."""

    def close(folder: Path) -> None:
        subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
        ssh.at_the_end(lambda: subprocess.run(["umount", "-l", str(folder)], check=True))
        subprocess.run(["mount", "-o", "remount,ro,bind", str(folder)], check=True)

    return close


async def test_a_closed_home_is_named_and_another_folder_does(
    ssh: SshWorld, closed: Callable[[Path], None]
) -> None:
    host = ssh.host("a", prepare=lambda host: closed(host.home))
    trouble = await trouble_at(ssh, host)
    assert str(host.home) in trouble.health.detail
    assert "work_dir" in trouble.health.hint
    assert isinstance(trouble.fault, NotDispatched)
    assert "Read-only file system" in trouble.fault.message
    await works(ssh, host, work_dir=str(host.folder / "work"))


# The disk comes first, so that it goes last: whoever is there has ended by then.
async def test_a_full_disk_is_named_and_work_goes_elsewhere(
    small_disk: Callable[[Path, int], None], ssh: SshWorld
) -> None:
    full, sound = ssh.host("a", prepare=lambda host: small_disk(host.root, 1)), ssh.host("b")
    trouble = await trouble_at(ssh, full)
    assert isinstance(trouble.fault, NotDispatched)
    assert "No space left on device" in trouble.fault.message
    assert not list(full.root.glob("runner/*.pyz*")), "no half of it stays"
    async with ssh.federation(full, sound) as federation:
        options = ssh.world.options("true", ssh.world.remote)
        submitted = await federation.submit(await federation.resolve("text:Mend", options))
        assert submitted.worker
        assert (await submitted.worker.result()).outpost == "b"
    assert "No space left on device" in refused(submitted.decision, "a").detail


async def test_too_little_room_is_named_before_anything_is_started(
    small_disk: Callable[[Path, int], None], ssh: SshWorld
) -> None:
    host = ssh.host("a", prepare=lambda host: small_disk(host.root, 8))
    async with outpost_at(ssh, host, min_free_mib=100) as outpost:
        health = await outpost.ping()
    assert not health.ok
    assert health.detail.startswith("only 8 MiB are free at ")
    assert health.hint == "outpost prune"


async def test_a_worker_that_fills_its_disk_loses_no_work(
    small_disk: Callable[[Path, int], None], ssh: SshWorld
) -> None:
    host = ssh.host("a", prepare=lambda host: small_disk(host.root, 48))
    script = "echo right > words.txt; cat /dev/zero > large.ignored; true"
    async with ssh.federation(host) as federation:
        worker = await ssh.world.spawn(federation, script)
        attempt = await worker.result()
    assert (attempt.state, attempt.activity) == (
        State.DONE,
        "cat: write error: No space left on device",
    )
    assert ssh.world.remote.show(attempt.branch, "words.txt") == "right"
