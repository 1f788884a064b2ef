"""What a worker's machine and its agent may try: nobody else's work suffers by it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from outpost.backends.local import LocalOptions, LocalOutpost
from outpost.errors import OutpostFault
from outpost.model import State
from outpost.ports import Completed, Parcel, Setup
from outpost.runner.place import Place
from outpost.transports import relay
from outpost.transports.place import ShellPlace
from outpost.transports.relay import Relay
from outpost.transports.this_machine import ThisMachine
from outpost.wire.events import encode, timestamp
from outpost.wire.orders import Environment
from tests.integration.desk_world import desk_on
from tests.integration.relayed_world import eventually, relayed_config, wait_for
from tests.world import CONFIG, Remote, World

pytestmark = pytest.mark.integration
COMMIT = "c0ffee" * 6 + "c0ff"


class EndlessMachine(ThisMachine):
    """Answers whatever it is asked, and has more to say of any file."""

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
    ) -> Completed:
        said = f"{COMMIT} refs/heads/mine\n".encode()
        return Completed(exit_code=0, stdout=said, stderr=b"")

    async def get(self, path: str, *, offset: int = 0) -> bytes:
        await asyncio.sleep(0)
        return bytes(1 << 18)


class EndlessOutpost(LocalOutpost):
    """An outpost on such a machine."""

    def place(self) -> ShellPlace:
        return replace(super().place(), shell=EndlessMachine())


def carrier_of(tmp_path: Path, remote: Remote) -> tuple[Relay, Environment]:
    """Return what carries from there, and the variables for it."""
    environment = dict(remote.environment)
    setup = Setup(
        name="endless",
        federation_id="attacks",
        data_folder=str(tmp_path),
        environment=environment,
    )
    outpost = EndlessOutpost(setup, LocalOptions())
    carrier = Relay(outpost, "/there", str(tmp_path / "mirrors"), remote.url)
    return carrier, {"agent": {}, "git": environment}


def parcel_for(remote: Remote) -> Parcel:
    return Parcel(
        worker_id="w-mine",
        task_id="t-mine",
        fence=1,
        repo_url=remote.url,
        branch="mine",
        commit=COMMIT,
        ended=True,
    )


async def test_who_is_called_and_hangs_up_ends_no_other_command(tmp_path: Path) -> None:
    """A nursery may die while somebody waits to be let in."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(tmp_path / "nursery"))
        listener.listen()
        async with desk_on() as shell, asyncio.timeout(20):
            other = asyncio.create_task(shell.run(["sh", "-c", "sleep 0.5; echo done"]))
            await shell.facts()
            call = asyncio.create_task(shell.call(str(tmp_path / "nursery"), b"request"))
            answering, _ = await asyncio.to_thread(listener.accept)
            with answering:
                await asyncio.to_thread(answering.recv, 1, socket.MSG_PEEK)
            # It has gone, and has not read what it was sent.
            assert await call == b""
            assert (await other).stdout == b"done\n"
            assert shell.traffic.connections == 1


async def test_a_bundle_without_an_end_is_not_taken(
    tmp_path: Path, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "BUNDLE_MOST_BYTES", 1 << 20)
    carrier, environment = carrier_of(tmp_path, remote)
    async with asyncio.timeout(20):
        with pytest.raises(OutpostFault, match=r"cannot read from endless: .*too large"):
            await carrier.carry(parcel_for(remote), environment)
    assert not list(tmp_path.glob("mirrors/w-*"))


async def test_no_room_for_an_errand_is_a_fault_with_its_place(
    tmp_path: Path, remote: Remote
) -> None:
    (tmp_path / "mirrors").touch()
    carrier, environment = carrier_of(tmp_path, remote)
    with pytest.raises(OutpostFault, match=r"cannot write to .*mirrors: File exists"):
        await carrier.carry(parcel_for(remote), environment)


async def test_refs_that_an_agent_invents_are_in_nobodys_way(
    world: World, remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Below another task's checkpoint they would be in its way; as another worker's, for good."""
    config, before = relayed_config(world, monkeypatch), remote.refs()
    names = ("t-other/0123456789ab", "w-other/0123456789ab", "w-other", "../../heads/main")
    pushes = "; ".join(f"git push -q origin HEAD:refs/outpost/wip/{name}" for name in names)
    evil = f"git commit -q --allow-empty -m evil; {pushes}; echo good > new.txt"
    async with world.federation(config=config) as federation:
        attempt = await (await world.spawn(federation, evil)).result()
        assert attempt.state is State.DONE, attempt.reason
    made = {ref for ref in remote.refs() if ref not in before}
    assert made == {f"refs/heads/{attempt.branch}"}


@pytest.mark.parametrize("relayed", [True, False])
async def test_a_forged_result_names_no_branch_that_is_gone_on_with(
    world: World, remote: Remote, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, relayed: bool
) -> None:
    """Who goes on from a worker pushes to its branch: that is the ordered one."""
    config = relayed_config(world, monkeypatch) if relayed else CONFIG
    go, before = tmp_path / "go", remote.refs()
    async with world.federation(config=config) as federation:
        script = f"if [ -e {go} ]; then echo evil > evil.txt; else echo talking; {wait_for(go)}; fi"
        worker = await world.spawn(federation, script)
        own = worker.attempt.branch
        world.wait_for_line(worker.id, "talking")
        log = world.place(worker.id) / "events.jsonl"
        kept = {"how": "remote", "where": "main"}
        forged = {"outcome": "done", "branch": "main", "commit": None, "kept": kept}
        seq = len(log.read_bytes().splitlines()) + 1
        with log.open("ab") as file:
            file.write(encode(seq, timestamp(), "result", forged))
        assert (await worker.result()).branch == own
        go.touch()
        await eventually(
            lambda: not Place(str(world.place(worker.id))).cared_for(), "the first is gone"
        )
        again = (await federation.resume(worker, "go on")).worker
        assert again
        assert (await again.result()).branch == own
    assert remote.refs()["refs/heads/main"] == before["refs/heads/main"]
