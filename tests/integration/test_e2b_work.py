"""Whole federations whose work goes to E2B: to a pushed branch, through a question, by command."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from outpost.control.loops.supervise import Supervise
from outpost.control.loops.tend import Tend
from outpost.federation import Federation, SpawnOptions
from outpost.model import State
from outpost.spawned import SpawnedWorker
from tests.doubles.e2b.cloud import E2bCloud
from tests.e2b_world import KEY, TEMPLATE, config_for, sandbox_of
from tests.faulty_world import SteppedClock
from tests.integration.cli_world import Cli
from tests.integration.loops_world import Ours
from tests.world import DEADLINE_S, World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

AGENT = Path(__file__).with_name("acp_agent.py")
ASKS = [
    ["ask", {"title": "Run", "kind": "execute", "rawInput": {"command": "make release"}}],
    ["write", "words.txt", "the words are right\n"],
]


@pytest.fixture
def e2b(world: World, tmp_path: Path) -> Iterator[E2bCloud]:
    with E2bCloud(tmp_path / "e2b") as e2b:
        e2b.add_template(TEMPLATE)
        world.environment[KEY] = e2b.api_key
        yield e2b


@contextlib.asynccontextmanager
async def federation_on(world: World, e2b: E2bCloud, more: str = "") -> AsyncIterator[Federation]:
    async with world.federation(config=config_for(e2b) + more) as federation:
        yield federation


async def test_a_task_ends_with_a_pushed_branch(world: World, e2b: E2bCloud) -> None:
    async with federation_on(world, e2b) as federation:
        worker = await world.spawn(federation, "echo mended > words.txt; env")
        attempt = await worker.result()
        assert attempt.state is State.DONE, attempt.reason
        assert attempt.branch
        assert world.remote.show(attempt.branch, "words.txt") == "mended"
        sandbox = sandbox_of(e2b, worker.id)
        assert sandbox.template == TEMPLATE
        assert dict(sandbox.metadata) == {
            "outpost_federation": world.federation_id(),
            "outpost_outpost": "cloud",
            "outpost_worker": worker.id,
            "outpost_task": attempt.task_id,
            "outpost_attempt": worker.id,
        }
        said = [event.fields.get("text", "") async for event in worker.events(follow=False)]
        assert not [line for line in said if KEY in line or e2b.api_key in line]
        await worker.remove()
        assert e2b.sandboxes() == []


async def test_a_question_pauses_its_sandbox_until_it_is_answered(
    world: World, e2b: E2bCloud
) -> None:
    agent = {
        "acp": [sys.executable, str(AGENT)],
        "executable": sys.executable,
        "permissions": {"default": "ask", "allow": ["Edit(./*)"]},
    }
    more = f"agents: {json.dumps({'mine': agent})}\n"
    async with federation_on(world, e2b, more) as federation:
        outpost = (await federation.parts.sites()).backend("cloud")
        clock = SteppedClock()
        follower = replace(await federation.parts.follower(), clock=clock)
        supervise = Supervise(
            follower, leased=Ours("cloud"), silent_after_s=6.0, ended=lambda: None
        )
        tend = Tend(federation.store, clock, {"cloud": outpost}, leased=Ours("cloud"))
        options = SpawnOptions(repo=world.remote.url, agent="mine")
        worker = await federation.spawn(f"text:Release\n\n{json.dumps(ASKS)}", options)

        async def until(state: State | None = None, sandbox: str = "") -> None:
            async with asyncio.timeout(DEADLINE_S):
                while not await _is(federation, e2b, worker, state, sandbox):
                    await supervise.round()
                    await tend.round()
                    await asyncio.sleep(0.1)

        await until(State.WAITING)
        await tend.round()  # from here on its waiting is counted
        clock.step(timedelta(seconds=121).total_seconds())
        await until(sandbox="paused")
        asked = len(e2b.requests())
        for _ in range(65):
            await supervise.round()
            await asyncio.sleep(0.1)
        assert await _is(federation, e2b, worker, State.WAITING, "paused"), "silent is not lost"
        assert len(e2b.requests()) - asked < 20
        assert (await worker.status()).state is State.WAITING
        await worker.send("yes")
        assert sandbox_of(e2b, worker.id).state == "running"
        await until(State.DONE)
        await supervise.close()
        await tend.close()
        assert worker.attempt.branch
        assert world.remote.show(worker.attempt.branch, "words.txt") == "the words are right"


async def _is(
    federation: Federation,
    e2b: E2bCloud,
    worker: SpawnedWorker,
    state: State | None,
    sandbox: str,
) -> bool:
    [stored] = await federation.store.attempts_of(worker.attempt.task_id)
    right = state is None or stored.state is state
    return right and sandbox in ("", sandbox_of(e2b, worker.id).state)


def test_by_command_every_exit_status_is_the_commands_own(world: World, e2b: E2bCloud) -> None:
    cli = Cli(world)
    (cli.here / "outposts.yaml").write_text(config_for(e2b))
    row = cli.spawn("echo mended > words.txt", "--wait")
    assert world.remote.show(row["branch"], "words.txt") == "mended"
    name = row["worker"]
    assert "ok" in cli("list").out
    assert "mended" not in cli("logs", name).out
    e2b.faults.key_revoked = True
    assert "does not take the API key" in cli("list").out
    e2b.faults.key_revoked = False
    assert name in cli("prune", "--before", "0s").out
    assert e2b.sandboxes() == []


def test_a_template_is_planned_and_built(world: World, tmp_path: Path) -> None:
    with E2bCloud(tmp_path / "e2b") as e2b:
        world.environment[KEY] = e2b.api_key
        cli = Cli(world)
        (cli.here / "outposts.yaml").write_text(config_for(e2b, cpus=4, memory="8Gi"))
        assert "E2B has no template outpost-worker of yours" in cli("list").out
        planned = cli("deploy", "e2b", "cloud", "--dry-run")
        assert "+ template outpost-worker with 4 vCPUs, 8Gi of memory" in planned.out + planned.err
        assert "$0.3" in planned.out + planned.err
        cli("deploy", "e2b", "cloud", "--yes")
        assert "E2B has no template" not in cli("list").out
