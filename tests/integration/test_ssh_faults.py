"""Connections as they are in real life: late, lossy, cut, and ended in the middle of something."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from outpost.backends.ssh import SshOutpost
from outpost.errors import Ambiguous, NotDispatched, OutpostFault
from outpost.model import Handle, Liveness
from outpost.testing import Bench
from tests.integration.desk_world import eventually
from tests.integration.ssh_outposts import (
    Hasty,
    bench_of,
    environment_of,
    outpost_at,
    trouble_at,
)
from tests.ssh_hosts import Host
from tests.ssh_line import Line
from tests.ssh_world import USER, SshWorld

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

COUNT = "i=0; while [ ! -e {go} ]; do i=$((i+1)); echo line $i; sleep 0.05; done"
"""A script that counts until it may end."""


class Counting:
    """A worker that counts, and somebody who reads along."""

    def __init__(self, ssh: SshWorld, bench: Bench) -> None:
        self.go = ssh.world.folder / "go"
        self.lines: list[str] = []
        self.worker_id = bench.new_id()
        self._ssh = ssh
        self._bench = bench

    async def start(self) -> Handle:
        order = self._bench.order(COUNT.format(go=self.go), worker_id=self.worker_id)
        return await self._bench.outpost.spawn(order, environment_of(self._ssh))

    async def read(self, handle: Handle) -> str:
        """Read to the end; return the outcome."""
        seq = 0
        outcome = ""
        events = self._bench.outpost.worker(handle).events(follow=True)
        async with contextlib.aclosing(events):
            async for event in events:
                assert event.seq == seq + 1, "none lost, none twice"
                seq = event.seq
                if event.fields.get("stream") == "stdout":
                    self.lines.append(event.fields["text"])
                outcome = event.fields.get("outcome", outcome)
        return outcome

    async def more(self, number: int = 5) -> None:
        """Wait until so many lines more were read."""
        had = len(self.lines)
        await eventually(lambda: len(self.lines) >= had + number, "it reads on", deadline_s=20)

    def check_whole(self) -> None:
        assert self.lines == [f"line {it}" for it in range(1, len(self.lines) + 1)]


@contextlib.asynccontextmanager
async def counting(
    ssh: SshWorld, host: Host, *, kind: type[SshOutpost] = Hasty
) -> AsyncIterator[Counting]:
    """Yield a worker that counts while it is followed; at the end it must have come to its own."""
    async with outpost_at(ssh, host, kind=kind) as outpost:
        count = Counting(ssh, bench_of(ssh, outpost))
        handle = await count.start()
        async with asyncio.timeout(40), asyncio.TaskGroup() as group:
            reading = group.create_task(count.read(handle))
            await count.more()
            yield count
            await count.more()
            count.go.touch()
        assert reading.result() == "done"
        count.check_whole()


def line_of(host: Host) -> Line:
    assert host.line
    return host.line


async def test_a_late_and_lossy_line_loses_nothing(ssh: SshWorld) -> None:
    host = ssh.host("a", line=True)
    line_of(host).set(delay_s=0.1, loss=0.05)
    async with counting(ssh, host, kind=SshOutpost):
        pass


async def test_a_cut_line_is_caught_up(ssh: SshWorld) -> None:
    host = ssh.host("a", line=True)
    async with counting(ssh, host, kind=SshOutpost) as count:
        line_of(host).cut()
        had = len(count.lines)
        await asyncio.to_thread(host.wait_for_line, count.worker_id, f"line {had + 40}")
        assert len(count.lines) < had + 20
        line_of(host).mend()


@pytest.mark.parametrize("act", ["hang_up", "restart"])
async def test_a_connection_that_ends_is_made_again(ssh: SshWorld, act: str) -> None:
    host = ssh.host("a")
    async with counting(ssh, host) as count:
        getattr(host, act)()
        await count.more()
        assert host.logins() == 2
        getattr(host, act)()


async def test_a_connection_that_ends_in_the_middle_of_the_upload_leaves_no_half(
    ssh: SshWorld,
) -> None:
    host = ssh.host("a", line=True)
    line = line_of(host)
    async with outpost_at(ssh, host) as outpost:
        bench = bench_of(ssh, outpost)
        order = bench.order("true")
        line.set(cut_after_bytes=150_000)
        starting = asyncio.create_task(outpost.spawn(order, environment_of(ssh)))
        await eventually(lambda: line.is_cut, "it is on its way")
        host.hang_up()
        line.mend()
        with pytest.raises(NotDispatched, match="cannot write to a: the connection was lost"):
            await starting
        await eventually(lambda: not list(host.root.glob("runner/*pyz*")), "no half of it stays")
        handle = await outpost.spawn(order, environment_of(ssh))
        assert (await bench.log(handle))[-1].fields["outcome"] == "done"


async def test_a_start_whose_answer_is_lost_is_found(ssh: SshWorld) -> None:
    host = ssh.host("a", line=True)
    line = line_of(host)
    begun = ssh.world.folder / "begun"
    async with outpost_at(ssh, host) as outpost:
        bench = bench_of(ssh, outpost)
        await anext(outpost.workers(), None)
        line.set(delay_s=0.25)
        order = bench.order(f"touch {begun}; sleep 60")
        starting = asyncio.create_task(outpost.spawn(order, environment_of(ssh)))
        await eventually(begun.exists, "it works, and nobody here knows")
        line.cut()
        with pytest.raises(Ambiguous, match="a does not answer"):
            await starting
        line.mend()
        async with asyncio.timeout(15):
            handle = await _found(bench, order["worker_id"])
        assert (await outpost.worker(handle).status()).liveness is Liveness.ALIVE
        assert await outpost.spawn(order, environment_of(ssh)) == handle
        assert list(await bench.seen()) == [order["worker_id"]]


async def _found(bench: Bench, worker_id: str) -> Handle:
    while True:
        with contextlib.suppress(OutpostFault):
            if handle := await bench.outpost.find(worker_id):
                return handle
        await asyncio.sleep(0.05)


async def test_an_sshd_that_is_down_is_named(ssh: SshWorld) -> None:
    host = ssh.host("a")
    host.stop()
    trouble = await trouble_at(ssh, host)
    assert isinstance(trouble.fault, NotDispatched)
    for said in (trouble.health.detail, trouble.fault.message):
        assert said == "a does not answer: Connection refused"
    assert trouble.fault.hint.startswith(f"try it by hand: ssh -l {USER} -p {host.port} -i ")


async def test_a_name_that_nobody_has_is_named(ssh: SshWorld) -> None:
    trouble = await trouble_at(ssh, ssh.host("a"), host="nobody.invalid")
    assert isinstance(trouble.fault, NotDispatched)
    assert "name" in trouble.fault.message.lower()
    assert trouble.fault.hint.endswith(" nobody.invalid")
