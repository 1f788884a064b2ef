"""What dies, and what refuses: no process left, the work safe, state and reason right."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from outpost.federation import Federation
from outpost.model import Attempt, State
from outpost.spawned import SpawnedWorker
from tests.world import CONFIG, SlowGit, World, alive, pids_marked, run, text_of, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

MEND = "echo 'the words are right' > words.txt"
# Children of every sort: in the group, in a session of their own, without our mark.
FAMILY = "sleep 300 & setsid sleep 301 & env -i sleep 302 & setsid sh -c 'env -i sleep 303; :' &"
BUSY = f"{MEND}; {FAMILY} echo busy; sleep 304"
SAVED = "its runner was killed; the work was saved afterwards"


async def busy(world: World, federation: Federation, script: str = BUSY) -> SpawnedWorker:
    """Start a worker and wait until its agent has said that it is busy."""
    worker = await world.spawn(federation, script)
    world.wait_for_line(worker.id, '"busy"')
    return worker


def family(world: World, worker: SpawnedWorker) -> set[int]:
    """Return the pids of a busy agent and of all that it started."""
    agent = world.agent_pid(worker.id)
    parents = {int(e.name): _parent(e) for e in Path("/proc").iterdir() if e.name.isdigit()}
    found, grew = {agent}, True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in found}
        grew = not more <= found
        found |= more
    return found


def _parent(entry: Path) -> int:
    with contextlib.suppress(OSError):
        return int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    return 0


def all_gone(world: World, worker: SpawnedWorker, pids: set[int]) -> None:
    world.gone(worker.id)
    until(lambda: not [pid for pid in pids if alive(pid)], "the agent's family is gone")


def arrived(world: World, attempt: Attempt) -> None:
    assert world.remote.tip(attempt.branch) == attempt.commit
    assert world.remote.show(attempt.branch, "words.txt") == "the words are right"
    assert attempt.kept_how == "remote"


async def test_an_agent_killed_fails_and_its_work_arrives(world: World) -> None:
    async with world.federation() as federation:
        worker = await busy(world, federation)
        pids = family(world, worker)
        assert len(pids) >= 5
        os.kill(world.agent_pid(worker.id), signal.SIGKILL)
        attempt = await worker.result()
        assert (attempt.state, attempt.reason) == (
            State.FAILED,
            "the agent was killed by signal 9",
        )
        arrived(world, attempt)
        all_gone(world, worker, pids)


async def test_a_runner_killed_is_stood_in_for(world: World) -> None:
    async with world.federation() as federation:
        worker = await busy(world, federation)
        pids = family(world, worker)
        os.kill(world.pids(worker.id)[1], signal.SIGKILL)
        attempt = await worker.result()
        assert (attempt.state, attempt.reason) == (State.FAILED, SAVED)
        arrived(world, attempt)
        all_gone(world, worker, pids)


@pytest.mark.parametrize("how", ["refresh", "result", "stop", "events"])
async def test_runner_and_understudy_killed_at_once_are_recovered(world: World, how: str) -> None:
    async with world.federation() as federation:
        worker = await busy(world, federation)
        pids = family(world, worker)
        carers = world.pids(worker.id)
        for pid in carers:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not any(map(alive, carers)), "both are dead")
        assert [pid for pid in pids if alive(pid)], "nobody is there to end the agent"
        if how == "stop":
            attempt = await worker.stop()
        elif how == "result":
            attempt = await worker.result()
        elif how == "events":
            assert [event.type async for event in worker.events()][-1] == "log"
            attempt = await worker.result()
        else:
            (attempt,) = await federation.refresh()
        assert (attempt.state, attempt.reason) == (State.FAILED, SAVED)
        assert (await federation.worker(worker.id)).attempt.state is State.FAILED
        arrived(world, attempt)
        all_gone(world, worker, pids)


@pytest.mark.parametrize("how", ["kill-server", "kill-session", "kill -9"])
async def test_losing_tmux_stops_the_worker_and_saves_its_work(world: World, how: str) -> None:
    async with world.federation() as federation:
        worker = await busy(world, federation)
        pids = family(world, worker)
        world.wait_for_view(worker.id, "working")
        if how == "kill -9":
            os.kill(world.tmux_pid(), signal.SIGKILL)
        elif how == "kill-session":
            run(*world.tmux("kill-session", "-t", worker.id), environment=world.environment)
        else:
            run(*world.tmux("kill-server"), environment=world.environment)
        attempt = await worker.result()
        assert (attempt.state, attempt.reason) == (State.STOPPED, "its tmux session was closed")
        arrived(world, attempt)
        all_gone(world, worker, pids)


@pytest.mark.parametrize(
    ("number", "reason"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
)
async def test_a_signal_to_the_runner_stops_it(world: World, number: int, reason: str) -> None:
    async with world.federation() as federation:
        worker = await busy(world, federation)
        pids = family(world, worker)
        os.kill(world.pids(worker.id)[1], number)
        attempt = await worker.result()
        assert (attempt.state, attempt.reason) == (State.STOPPED, reason)
        arrived(world, attempt)
        all_gone(world, worker, pids)


DEAF = {
    "to nothing": "",
    "to SIGINT": "trap '' INT; ",
    "to SIGINT and SIGTERM": "trap '' INT TERM; ",
}


@pytest.mark.parametrize("deaf", DEAF.values(), ids=DEAF.keys())
async def test_a_stop_ends_an_agent_however_deaf(world: World, deaf: str) -> None:
    loop = "while :; do sleep 0.1; done"
    async with world.federation() as federation:
        worker = await busy(world, federation, f"{deaf}{MEND}; {FAMILY} echo busy; {loop}")
        pids = family(world, worker)
        began = time.monotonic()
        attempt = await worker.stop(grace_s=1.0, reason="no longer wanted")
        took_s = time.monotonic() - began
        assert (attempt.state, attempt.reason) == (State.STOPPED, "no longer wanted")
        assert took_s < 8, took_s
        if "TERM" in deaf:
            assert took_s >= 1.0, "it had its whole grace"
        arrived(world, attempt)
        all_gone(world, worker, pids)
        again = await worker.stop()
        assert again == attempt


async def test_an_agent_gets_sigint_first_and_may_end_in_order(world: World) -> None:
    script = (
        f"trap 'echo sorry > late.txt; exit 0' INT; {MEND}; echo busy; while :; do sleep 0.1; done"
    )
    async with world.federation() as federation:
        worker = await busy(world, federation, script)
        attempt = await worker.stop()
        assert attempt.state is State.STOPPED
        assert world.remote.show(attempt.branch, "late.txt") == "sorry"


async def test_the_time_limit_stops_the_agent(world: World) -> None:
    async with world.federation() as federation:
        worker = await world.spawn(federation, BUSY, time_limit_s=1.0)
        attempt = await worker.result()
        assert (attempt.state, attempt.reason) == (State.STOPPED, "reached its time limit of 1 s")
        arrived(world, attempt)
        world.gone(worker.id)


async def test_a_stop_right_after_the_spawn_is_heard(world: World) -> None:
    async with world.federation() as federation:
        worker = await world.spawn(federation, BUSY)
        attempt = await worker.stop(reason="a slip")
        assert (attempt.state, attempt.reason) == (State.STOPPED, "a slip")
        world.gone(worker.id)


async def test_a_stop_while_preparing_is_heard(world: World, slow_git: SlowGit) -> None:
    slow_git.wait_in("fetch")
    async with world.federation() as federation:
        worker = await world.spawn(federation, MEND)
        slow_git.pid()
        began = time.monotonic()
        attempt = await worker.stop(reason="changed my mind", grace_s=2)
        assert time.monotonic() - began < 5
        assert (attempt.state, attempt.reason) == (State.STOPPED, "changed my mind")
        assert attempt.kept_how == "nothing"
        world.gone(worker.id)


async def test_a_runner_killed_while_preparing_leaves_no_git_behind(
    world: World, slow_git: SlowGit
) -> None:
    slow_git.wait_in("fetch")
    async with world.federation() as federation:
        worker = await world.spawn(federation, MEND)
        fetching = slow_git.pid()
        os.kill(world.pids(worker.id)[1], signal.SIGKILL)
        attempt = await worker.result()
        assert (attempt.state, attempt.reason) == (State.FAILED, SAVED)
        world.gone(worker.id)
        assert not alive(fetching)
        slow_git.go_on()
        # What a killed git leaves in the cache stops nobody after it.
        (cache,) = world.home.glob("outposts/local/cache/*.git")
        for name in ("config.lock", "packed-refs.lock", "shallow.lock", "HEAD.lock"):
            (cache / name).touch()
        following = await (await world.spawn(federation, MEND)).result()
        assert (following.state, following.reason) == (State.DONE, "")


async def test_a_stop_while_pushing_lets_the_push_end(world: World, slow_git: SlowGit) -> None:
    slow_git.wait_in("push")
    async with world.federation() as federation:
        worker = await world.spawn(federation, MEND)
        slow_git.pid()
        os.kill(world.pids(worker.id)[1], signal.SIGTERM)
        os.kill(world.pids(worker.id)[1], signal.SIGINT)
        slow_git.go_on()
        attempt = await worker.result()
        assert (attempt.state, attempt.reason) == (State.DONE, "")
        arrived(world, attempt)


async def test_a_push_that_hangs_is_given_up_after_a_stop(world: World, slow_git: SlowGit) -> None:
    slow_git.wait_in("push")
    async with world.federation() as federation:
        worker = await world.spawn(federation, MEND)
        slow_git.pid()
        attempt = await worker.stop(grace_s=0.2)
        assert attempt.state is State.FAILED
        assert "not pushed" in attempt.reason
        assert attempt.kept_how == "bundle"
        world.remote.git("bundle", "verify", "--quiet", attempt.kept_where)
        world.gone(worker.id)


async def test_a_runner_killed_while_pushing_is_pushed_for(world: World, slow_git: SlowGit) -> None:
    slow_git.wait_in("push")
    async with world.federation() as federation:
        worker = await world.spawn(federation, MEND)
        slow_git.pid()
        os.kill(world.pids(worker.id)[1], signal.SIGKILL)
        slow_git.go_on()
        attempt = await worker.result()
        assert (attempt.state, attempt.reason) == (State.FAILED, SAVED)
        arrived(world, attempt)
        world.gone(worker.id)


async def test_children_left_behind_are_ended_with_the_agent(world: World) -> None:
    say = "echo $! >&2"
    children = f"sleep 300 & {say}; setsid sleep 301 & {say}; env -i sleep 302 & {say}"
    async with world.federation() as federation:
        worker = await world.spawn(federation, f"{MEND}; {children}")
        began = time.monotonic()
        attempt = await worker.result()
        assert time.monotonic() - began < 8
        assert attempt.state is State.DONE
        world.gone(worker.id)
        pids = [int(line) for line in await text_of(worker, "stderr")]
        assert len(pids) == 3
        assert not [pid for pid in pids if alive(pid)]


async def test_an_agent_that_closes_its_output_early_runs_on(world: World) -> None:
    attempt = await world.outcome(f"exec >&- 2>&-; sleep 1; {MEND}")
    assert (attempt.state, attempt.reason) == (State.DONE, "")
    arrived(world, attempt)


async def test_ten_megabytes_in_one_line_arrive_whole(world: World) -> None:
    async with world.federation() as federation:
        worker = await world.spawn(
            federation, "head -c 10000000 /dev/zero | tr '\\0' x; echo; echo end"
        )
        assert (await worker.result()).state is State.DONE
        lines = await text_of(worker)
    assert lines[-1] == "end"
    assert sum(map(len, lines[:-1])) == 10_000_000
    assert set("".join(lines[:-1])) == {"x"}


async def test_binary_output_is_no_trouble(world: World) -> None:
    script = "head -c 200000 /dev/urandom; printf '\\n\\377\\0\\033[31m\\n'; echo end"
    async with world.federation() as federation:
        worker = await world.spawn(federation, script)
        assert (await worker.result()).state is State.DONE
        lines = await text_of(worker)
    assert lines[-2:] == ["\ufffd\0\x1b[31m", "end"]


async def test_a_flood_of_lines_arrives_in_order_with_nobody_watching(world: World) -> None:
    async with world.federation() as federation:
        worker = await world.spawn(federation, "seq 100000")
        assert (await worker.result()).state is State.DONE
        assert await text_of(worker) == [str(number) for number in range(1, 100_001)]


async def test_a_tmux_server_that_hangs_does_not_hold_up_the_work(world: World) -> None:
    async with world.federation() as federation:
        worker = await busy(
            world, federation, f"{MEND}; echo busy; read go < go.fifo.ignored || sleep 1; seq 20000"
        )
        world.wait_for_view(worker.id, "busy")
        server = world.tmux_pid()
        os.kill(server, signal.SIGSTOP)
        try:
            attempt = await worker.result()
            assert attempt.state is State.DONE
            arrived(world, attempt)
            assert (await text_of(worker))[-1] == "20000"
        finally:
            os.kill(server, signal.SIGCONT)
        world.gone(worker.id)


async def test_a_worker_whose_machine_is_slow_to_start_is_waited_for(world: World) -> None:
    slow = world.folder / "slow-python"
    python = run(
        "sh", "-c", "command -v python3.11 || command -v python3", environment=world.environment
    )
    slow.write_text(f'#!/bin/sh\nsleep 4\nexec {python} "$@"\n')
    slow.chmod(0o755)
    config = CONFIG.replace("type: local", f"type: local\n    python: {slow}")
    async with world.federation(config=config) as federation:
        worker = await world.spawn(federation, MEND)
        types = [event.type async for event in worker.events()]
        assert types[-1] == "result"
        assert (await worker.result()).state is State.DONE


async def test_an_order_nobody_can_encode_fails_and_says_why(world: World) -> None:
    async with world.federation() as federation:
        worker = await world.spawn(federation, MEND, issue="text:half a \ud83d pair")
        attempt = await worker.result()
    assert attempt.state in (State.DONE, State.FAILED)
    assert "its runner was killed" not in attempt.reason


def test_no_marked_process_is_ours() -> None:
    assert os.getpid() not in pids_marked({"w-0"})
