"""A host that nobody can reach for a while: its workers go on, and everything is caught up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime

import pytest

from outpost.model import State
from tests.integration.cli_world import Cli
from tests.integration.lost_world import LostWorld
from tests.ssh_hosts import Host
from tests.ssh_world import SshWorld
from tests.world import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

COUNT = """\
i=0; while [ ! -e {go} ]; do i=$((i+1)); echo line $i; sleep 0.05; done; echo right > words.txt
"""


class Watched(LostWorld):
    """Hosts with real controllers that are quick to say that they see nothing."""

    def __init__(self, ssh: SshWorld, *hosts: Host) -> None:
        self.world = ssh.world
        self.remote = ssh.world.remote
        self.go = ssh.world.folder / "go"
        patience = "controller: {silent_after: 2s, lost_after: 60s}"
        config = ssh.world.config(ssh.config(*hosts, more=patience))
        ssh.world.environment["OUTPOST_CONFIG"] = config
        self.cli = Cli(ssh.world)
        self._controllers = []

    def count(self, host: Host) -> str:
        """Start a worker that counts until it may go on; return its id once it does."""
        worker: str = self.spawn(COUNT.format(go=self.go))["worker"]
        host.wait_for_line(worker, "line 5")
        return worker

    def until_pushed(self, worker: str) -> None:
        """Wait until the work of a worker is on the remote."""
        branch = self.stored(worker)["branch"]
        until(lambda: self.remote.tip(branch), "the work was pushed")
        assert self.remote.show(branch, "words.txt") == "right"


MakeWorld = Callable[..., Watched]


@pytest.fixture
def watch(ssh: SshWorld) -> Iterator[MakeWorld]:
    """Return what makes a world of hosts that controllers look after."""
    with ExitStack() as stack:

        def make(*hosts: Host) -> Watched:
            watched = Watched(ssh, *hosts)
            stack.callback(watched.end)
            return watched

        yield make


def counted(text: str) -> list[str]:
    return [line.rpartition("│ ")[2] for line in text.splitlines() if "│ line " in line]


def expected(host: Host, worker: str) -> list[str]:
    """Return all that a worker counted, which must be whole by itself."""
    lines = [it["text"] for it in host.events(worker) if it.get("stream") == "stdout"]
    assert lines == [f"line {it}" for it in range(1, len(lines) + 1)]
    return lines


@contextmanager
def reading_along(watched: Watched, worker: str) -> Iterator[Callable[[], list[str]]]:
    """Follow a worker's log from outside, once lines of it came.

    Yields what waits for the end and returns all that was counted.
    """
    with watched.cli.start("logs", "-f", worker) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        first = next(line for line in lines if counted(line))

        def rest() -> list[str]:
            assert process.stderr is not None
            out = "".join([first, *lines])
            assert process.wait() == 0, process.stderr.read()
            return counted(out)

        try:
            yield rest
        finally:
            process.kill()


def check_once(watched: Watched, host: Host, worker: str) -> None:
    """Check that a worker is known to have done its work, once, and all that it said."""
    done = watched.until_state(worker, "done")
    assert done["seq"] == len(host.events(worker))
    assert [it["state"] for it in watched.attempts_stored(done["task_id"])] == ["done"]
    after = [it["after"] for it in watched.moves(done["task_id"])]
    assert after.count("unknown") == 1
    assert after[-1] == "done"
    assert "lost" not in after


def test_behind_a_cut_line_work_goes_on_and_is_caught_up(ssh: SshWorld, watch: MakeWorld) -> None:
    host = ssh.host("a", line=True)
    assert host.line
    watched = watch(host)
    watched.up()
    worker = watched.count(host)
    with reading_along(watched, worker) as rest:
        host.line.cut()
        unseen = watched.until_state(worker, "unknown")
        assert unseen["reason"] == "it has said nothing for 2 s"
        watched.go.touch()
        watched.until_pushed(worker)
        assert watched.stored(worker)["state"] == "unknown"
        host.line.mend()
        assert rest() == expected(host, worker)
    check_once(watched, host, worker)


def test_who_reads_along_is_shown_all_after_an_outage(ssh: SshWorld, watch: MakeWorld) -> None:
    host = ssh.host("a")
    watched = watch(host)
    watched.up()
    worker = watched.count(host)
    with reading_along(watched, worker) as rest:
        host.stop()
        watched.until_state(worker, "unknown")
        host.start()
        watched.go.touch()
        assert rest() == expected(host, worker)
    check_once(watched, host, worker)


def test_a_controller_that_was_killed_meanwhile_catches_up_too(
    ssh: SshWorld, watch: MakeWorld
) -> None:
    host = ssh.host("a")
    watched = watch(host)
    first = watched.up()
    worker = watched.count(host)
    host.stop()
    unseen = watched.until_state(worker, "unknown")
    first.kill()
    first.wait()
    watched.go.touch()
    watched.until_pushed(worker)
    watched.up()
    shown = watched.cli("status", worker, "--json").json()
    assert (shown["state"], shown["reason"]) == ("unknown", "a does not answer: Connection refused")
    seen_at = datetime.fromisoformat(shown["seen_at"])
    assert abs(seen_at.timestamp() - unseen["seen_at"] / 1e6) < 1e-3, "since when"
    host.start()
    check_once(watched, host, worker)
    assert counted(watched.cli("logs", worker).out) == expected(host, worker)
    assert "in contact again" in watched.said()


async def test_without_a_controller_who_waits_is_told_and_told_of_the_end(ssh: SshWorld) -> None:
    host = ssh.host("a")
    go = ssh.world.folder / "go"
    troubles: list[str] = []
    async with ssh.federation(host) as federation:
        worker = await ssh.world.spawn(federation, COUNT.format(go=go))
        waiting = asyncio.create_task(worker.result(on_trouble=troubles.append))
        await asyncio.to_thread(host.wait_for_line, worker.id, "line 5")
        host.stop()
        async with asyncio.timeout(20):
            while not troubles:
                await asyncio.sleep(0.05)
        (unseen,) = await federation.workers()
        assert unseen.state is State.UNKNOWN
        assert unseen.reason.startswith("a does not answer: ")
        go.touch()
        await asyncio.to_thread(host.wait_for_result, worker.id)
        host.start()
        attempt = await waiting
    assert attempt.state is State.DONE
    assert troubles[0] == "a does not answer: Connection refused"
    assert ssh.world.remote.show(attempt.branch, "words.txt") == "right"


async def test_another_machine_at_the_same_address_is_no_proof_of_death(ssh: SshWorld) -> None:
    host = ssh.host("a", prepare=lambda host: setattr(host, "machine_id", "1" * 32))
    go = ssh.world.folder / "go"
    async with ssh.federation(host) as federation:
        worker = await ssh.world.spawn(federation, COUNT.format(go=go))
        await asyncio.to_thread(host.wait_for_line, worker.id, "line 5")
        home, host.home, host.machine_id = host.home, host.folder / "new", "2" * 32
        host.home.mkdir()
        host.restart()
        other = f"a is another machine than the one that {worker.id} was started on"
        async with asyncio.timeout(20):
            while (unseen := await worker.status()).reason != other:
                assert unseen.state in (State.WORKING, State.UNKNOWN)
        assert unseen.state is State.UNKNOWN
        assert (await federation.refresh())[0].state is State.UNKNOWN
        host.home, host.machine_id = home, "1" * 32
        host.restart()
        go.touch()
        assert (await worker.result()).state is State.DONE
