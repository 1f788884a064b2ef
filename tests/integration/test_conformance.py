"""The conformance kit: the local outpost passes all of it, and each check finds its fault."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

import pytest

from outpost.backends.local import LocalOptions, LocalOutpost
from outpost.control.environment import worker_environment
from outpost.errors import NotFound, OutpostFault, UserError
from outpost.model import Capabilities, Handle, Health
from outpost.ports import Setup
from outpost.testing import (
    CHECKS,
    Bench,
    BenchOptions,
    Check,
    Outcome,
    Result,
    conformance_test,
    declaring,
    ending,
    reading,
    run_check,
    run_checks,
    starting,
)
from outpost.testing.bench import MakeOutpost
from outpost.testing.live import check_configured
from outpost.wire.orders import Environment, WorkOrder
from tests.doubles.broken_outposts import FAULTS, Blind, Cut, Trusting, end_spared
from tests.world import World, pids_naming, remove_tmux_socket, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

BY_NAME = {check.name: check for check in CHECKS}
NEIGHBOURS = (
    "ping_says_how_it_is",
    "quote_is_pure",
    "handles_of_others_are_refused",
    "workers_are_of_one_federation",
    "events_resume_anywhere",
    "messages_arrive",
    "stop_may_be_repeated",
    "destroy_may_be_repeated",
)
"""Quick checks that must not notice another check's fault."""


def outpost(kind: type[LocalOutpost], world: World, federation_id: str) -> LocalOutpost:
    setup = Setup(
        name="local",
        federation_id=federation_id,
        data_folder=str(world.home),
        environment=world.environment,
    )
    return kind(setup, LocalOptions())


@contextlib.asynccontextmanager
async def bench_of(
    world: World, kind: type[LocalOutpost], *, cut: type[LocalOutpost] | None = None
) -> AsyncIterator[Bench]:
    """Yield a bench of a local outpost; at the end a sound one destroys whatever is there."""

    def maker(kind: type[LocalOutpost]) -> MakeOutpost:
        return lambda federation_id: outpost(kind, world, federation_id)

    world.homes.add(world.home)
    options = BenchOptions(
        make=maker(kind),
        make_unreachable=maker(cut) if cut else None,
        repo_url=world.remote.url,
        environment=worker_environment(world.environment, agent_variables=(), extra=()),
    )
    bench = Bench(options)
    try:
        yield bench
    finally:
        for federation_id in (bench.federation_id, bench.stranger_id):
            sound = outpost(LocalOutpost, world, federation_id)
            for sighting in [it async for it in sound.workers()]:
                await sound.destroy(sighting.handle)
            argv = ("tmux", "-L", f"outpost-{federation_id}", "kill-server")
            subprocess.run(argv, env=world.environment, capture_output=True, check=False)
            remove_tmux_socket(federation_id)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
async def test_the_local_outpost_keeps_the_contract(world: World, check: Check) -> None:
    async with bench_of(world, LocalOutpost, cut=Cut) as bench:
        result = await run_check(bench, check, slow=True)
    expected = Outcome.PASSED
    if check.name == "undeclared_abilities_are_refused":
        expected = Outcome.SKIPPED
    assert result.outcome is expected, f"{result.reason}\n{result.detail}"
    assert expected is Outcome.SKIPPED or result.detail == ""


@pytest.mark.parametrize(
    ("name", "kind"), FAULTS, ids=[f"{kind.__name__}-{name}" for name, kind in FAULTS]
)
async def test_a_fault_fails_its_check_and_no_other(
    world: World, name: str, kind: type[LocalOutpost]
) -> None:
    every = os.environ.get("OUTPOST_EVERY_CHECK") == "1"
    others = [it for it in CHECKS if it.name in NEIGHBOURS or every]
    checks = [BY_NAME[name], *(it for it in others if it.name != name)]
    async with bench_of(world, kind, cut=Cut) as bench:
        results = await run_checks(bench, checks)
    end_spared()
    failed = {it.name: it.reason for it in results if it.outcome is Outcome.FAILED}
    assert set(failed) == {name}, results
    assert failed[name]


@pytest.mark.parametrize(("cut", "reason"), [(Blind, "unseen"), (Trusting, "stop must raise")])
async def test_wrong_words_of_what_is_unseen_fail_their_check(
    world: World, cut: type[LocalOutpost], reason: str
) -> None:
    async with bench_of(world, LocalOutpost, cut=cut) as bench:
        result = await run_check(bench, BY_NAME["what_cannot_be_seen_is_not_dead"])
    assert result.outcome is Outcome.FAILED
    assert reason in result.reason


def test_every_check_has_a_fault_that_it_finds() -> None:
    found = {name for name, _ in FAULTS} | {"what_cannot_be_seen_is_not_dead"}
    # The large one does the same as the other, only more of it.
    assert found == set(BY_NAME) - {"very_large_logs_take_little_memory"}


def test_every_check_is_in_the_catalogue_and_says_what_it_demands() -> None:
    written = {
        value
        for module in (declaring, ending, reading, starting)
        for value in vars(module).values()
        if isinstance(value, Check)
    }
    assert written == set(CHECKS)
    assert len(BY_NAME) == len(CHECKS)
    assert [it.name for it in CHECKS if not it.contract.endswith(".")] == []


async def test_a_check_without_what_it_needs_is_skipped(world: World) -> None:
    class Mute(LocalOutpost):
        capabilities: ClassVar[Capabilities] = Capabilities(attach=True, send=False, stop=True)

    async with bench_of(world, Mute) as bench:
        checks = [
            BY_NAME["messages_arrive"],
            BY_NAME["very_large_logs_take_little_memory"],
            BY_NAME["what_cannot_be_seen_is_not_dead"],
        ]
        results = await run_checks(bench, checks)
    assert {it.outcome for it in results} == {Outcome.SKIPPED}
    assert [it.reason for it in results] == [
        "it does not declare: send",
        "it is slow and was not asked for",
        "the bench cannot make this outpost unreachable",
    ]


async def test_whatever_a_backend_raises_hides_no_other_check(world: World) -> None:
    class Wild(LocalOutpost):
        async def ping(self) -> Health:
            raise ZeroDivisionError("by nought")

    reported: list[Result] = []
    checks = [BY_NAME["ping_says_how_it_is"], BY_NAME["quote_is_pure"]]
    async with bench_of(world, Wild) as bench:
        results = await run_checks(bench, checks, report=reported.append)
    assert [it.outcome for it in results] == [Outcome.FAILED, Outcome.PASSED]
    assert results[0].detail == "raised ZeroDivisionError: by nought"
    assert reported == results


async def test_what_cannot_be_taken_away_fails_the_check_that_left_it(world: World) -> None:
    class Keeps(LocalOutpost):
        async def destroy(self, handle: Handle) -> None:
            raise OutpostFault("not today", outpost=self.name)

    async with bench_of(world, Keeps) as bench:
        result = await run_check(bench, BY_NAME["find_of_nobody_is_none"])
    assert result.outcome is Outcome.FAILED
    assert result.detail.endswith("not today")


async def test_a_start_that_was_cut_off_is_looked_for_again(world: World) -> None:
    class Shows(LocalOutpost):
        """Shows what it has started only a while later."""

        began: ClassVar[float] = time.monotonic()

        async def probe(self, worker_id: str | None = None) -> list[dict[str, str]]:
            late = time.monotonic() > Shows.began + 1.0
            return await super().probe(worker_id) if late else []

    async with bench_of(world, Shows) as bench:
        Shows.began = time.monotonic()
        starting = asyncio.create_task(bench.spawn("sleep 60"))
        workers = Path(outpost(Shows, world, bench.federation_id).place().root) / "workers"
        await bench.until(lambda: _exists(workers), "the worker's folder")
        starting.cancel()
        assert await bench.clear() == []
        assert list(workers.iterdir()) == []


async def test_what_a_start_uploaded_that_was_cut_off_goes_too(world: World) -> None:
    class Hangs(LocalOutpost):
        """Stops at its first start, before the order is there."""

        cut: ClassVar[set[str]] = set()

        async def spawn(self, order: WorkOrder, environment: Environment) -> Handle:
            if not self.cut:
                self.cut.add(order["worker_id"])
                folder = self.handle_of(order["worker_id"]).data["directory"]
                await self.place().shell.put(f"{folder}/order.json.new", b"{}")
                await asyncio.Event().wait()
            return await super().spawn(order, environment)

    async with bench_of(world, Hangs) as bench:
        starting = asyncio.create_task(bench.spawn("sleep 60"))
        workers = Path(outpost(Hangs, world, bench.federation_id).place().root) / "workers"
        await bench.until(lambda: _exists(workers), "the worker's folder")
        starting.cancel()
        assert await bench.clear() == []
        assert list(workers.iterdir()) == []


async def _exists(path: Path) -> bool:
    return path.exists()


async def test_a_cancelled_run_leaves_no_worker(world: World) -> None:
    async with bench_of(world, LocalOutpost) as bench:
        running = asyncio.create_task(run_checks(bench, [BY_NAME["lines_come_while_work_runs"]]))

        async def started() -> bool:
            return bool(await bench.seen())

        await bench.until(started, "the check's worker")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await bench.seen() == {}


async def test_a_configured_outpost_is_checked_beside_its_own_work(world: World) -> None:
    checks = [BY_NAME["work_is_pushed"], BY_NAME["stop_may_be_repeated"]]
    reported: list[Result] = []
    async with world.federation() as federation:
        worker = await world.spawn(federation, "sleep 60")
        results = await check_configured(
            federation.config,
            "local",
            home=federation.home,
            environment=federation.environment,
            checks=checks,
            report=reported.append,
        )
        (attempt,) = await federation.workers()
        assert not attempt.state.ended
        await worker.stop()
        with pytest.raises(NotFound, match="loca"):
            await check_configured(
                federation.config,
                "loca",
                home=federation.home,
                environment=federation.environment,
            )
    assert [it.outcome for it in results] == [Outcome.PASSED, Outcome.PASSED], results
    assert reported == results
    until(lambda: world.worker_ids() == {worker.id}, "the kit's workers are gone")


async def test_a_repository_that_cannot_be_had_is_no_fault_of_the_outpost(world: World) -> None:
    reported: list[Result] = []
    async with world.federation() as federation:
        with pytest.raises(UserError, match="cannot use /no/such/repository") as caught:
            await check_configured(
                federation.config,
                "local",
                home=federation.home,
                environment=federation.environment,
                repo_url="/no/such/repository",
                report=reported.append,
            )
    assert "--repo URL" in caught.value.hint
    assert reported == []
    assert world.worker_ids() == set()


async def test_destroy_closes_a_view_that_is_just_opening(world: World) -> None:
    async with bench_of(world, LocalOutpost) as bench:
        for delay_s in (0.0, 0.01, 0.02, 0.04, 0.08, 0.12):
            handle = await bench.spawn("echo begun; sleep 60")
            await bench.wait_for_line(handle, "begun")
            await asyncio.sleep(delay_s)
            await bench.outpost.destroy(handle)
        viewers = f"cat {world.home}"
        until(lambda: not pids_naming(viewers), "no view of a destroyed worker is open")


def test_the_kit_needs_no_pytest() -> None:
    code = "import sys, outpost.testing, outpost.testing.live; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_tests_for_pytest_are_one_for_each_check() -> None:
    test = conformance_test(lambda _federation_id, _folder: pytest.fail("not called"))
    (mark,) = test.pytestmark  # type: ignore[attr-defined]  # pytest's own
    assert mark.args == ("check", CHECKS)
