"""Workers in containers of a real Docker Engine: how confined, how ended, and whose they are."""

from __future__ import annotations

import json
import secrets
from dataclasses import replace
from typing import Any

import pytest

from outpost.errors import NotDispatched, Rejected
from outpost.model import Liveness
from outpost.testing.bench import lines
from outpost.wire.orders import Environment
from outpost.wire.tidying import TidyOrder
from tests.docker_engine import running_engine
from tests.integration.docker_outposts import FEDERATION, DockerWorld
from tests.world import Remote, World, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]
GIB = 1 << 30
ROOM = "python3 -c 'b = bytearray(1 << 30); b[::4096] = b[::4096]; print(len(b))'"


@pytest.fixture
def docker(world: World, served_remote: Remote) -> DockerWorld:
    """Return the real engine, with a home here and a remote there."""
    return DockerWorld(engine=running_engine(), world=world, remote=served_remote)


async def test_every_limit_is_the_engines(docker: DockerWorld) -> None:
    async with docker.using(memory="1g", cpus=0.5, pids_limit=300, read_only=True) as outpost:
        bench = docker.bench(outpost)
        handle = await bench.spawn("true")
        shown = docker.shown(handle.worker_id)
    host = shown["HostConfig"]
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"]) == (GIB, GIB, 500_000_000)
    assert host["PidsLimit"] == 300
    assert (host["CapDrop"], host["CapAdd"], host["Privileged"]) == (["ALL"], None, False)
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["ReadonlyRootfs"]
    assert host["RestartPolicy"]["Name"] == "no"
    assert host["LogConfig"] == {"Type": "local", "Config": {"max-size": "4m", "max-file": "2"}}
    assert shown["Config"]["StopTimeout"] == 30
    assert shown["Config"]["User"] == "worker"
    assert shown["Name"] == f"/{handle.worker_id}"
    assert [it["Destination"] for it in shown["Mounts"]] == ["/work"]
    ours = {key: it for key, it in shown["Config"]["Labels"].items() if key.startswith("outpost.")}
    assert ours == {
        "outpost.federation": FEDERATION,
        "outpost.outpost": "box",
        "outpost.worker": handle.worker_id,
    }


async def test_a_whole_task_is_done_where_nothing_but_its_own_can_be_written(
    docker: DockerWorld,
) -> None:
    script = (
        "grep -E 'NoNewPrivs|CapEff' /proc/self/status; touch /usr/x || echo locked;"
        " touch /tmp/x && echo room; echo $MINE; echo words > new.txt"
    )
    async with docker.using(read_only=True, cache=True, env={"MINE": "of-mine"}) as outpost:
        bench = docker.bench(outpost)
        order = bench.order(script)
        events = await bench.log(await bench.start(order))
        cached = docker.shown(order["worker_id"])["Mounts"]
        second = await bench.log(await bench.spawn("ls -d /cache/*"))
    assert events[-1].fields["outcome"] == "done"
    assert lines(events) == [
        *("CapEff:\t0000000000000000", "NoNewPrivs:\t1", "locked", "room", "of-mine")
    ]
    assert docker.remote.show(order["branch"], "new.txt") == "words"
    volumes = {it["Destination"]: it["Name"] for it in cached}
    assert volumes["/cache"] == f"outpost-{FEDERATION}-cache"
    assert [it for it in lines(second) if it.endswith(".git")], lines(second)
    docker.engine.docker("volume", "rm", volumes["/cache"])


async def test_out_of_memory_is_said_as_that(docker: DockerWorld) -> None:
    async with docker.using(memory="256m") as outpost:
        bench = docker.bench(outpost)
        handle = await bench.spawn(ROOM)
        result = (await bench.log(handle))[-1]
        docker.engine.docker("stop", handle.worker_id)
        seen = await outpost.worker(handle).status()
    assert result.fields["outcome"] == "failed"
    assert seen.detail == "a process in it ran out of memory (limit 256m)"


async def test_a_worker_whose_container_is_killed_is_mended(docker: DockerWorld) -> None:
    async with docker.using() as outpost:
        bench = docker.bench(outpost)
        order = bench.order("echo words > new.txt; echo begun; sleep 60")
        handle = await bench.start(order)
        await bench.wait_for_line(handle, "begun")
        docker.engine.docker("kill", handle.worker_id)
        worker = bench.restarted().worker(handle)
        seen = await worker.status()
        assert (seen.liveness, seen.detail) == (Liveness.DEAD, "it was killed")
        assert await worker.recover(docker.environment)
        events = [it async for it in worker.events()]
        assert lines(events) == ["begun"]
        assert events[-1].fields["outcome"] == "failed"
        assert docker.remote.show(events[-1].fields["branch"], "new.txt") == "words"


async def test_docker_stop_saves_the_work_and_it_goes_on_elsewhere(docker: DockerWorld) -> None:
    async with docker.using() as outpost:
        bench = docker.bench(outpost)
        order = bench.order("echo words > new.txt; echo begun; sleep 60")
        handle = await bench.start(order)
        await bench.wait_for_line(handle, "begun")
        docker.engine.docker("stop", handle.worker_id)
        state = docker.shown(handle.worker_id)["State"]
        assert (state["Status"], state["ExitCode"]) == ("exited", 0)
        result = [it async for it in outpost.worker(handle).events()][-1]
    assert result.type == "result"
    assert docker.remote.show(result.fields["branch"], "new.txt") == "words"


async def test_a_container_ends_by_itself_and_wakes_for_whoever_asks(docker: DockerWorld) -> None:
    async with docker.using(idle_exit="3s") as outpost:
        bench = docker.bench(outpost)
        handle = await bench.spawn("echo words > new.txt")
        events = await bench.log(handle)

        def stopped() -> bool:
            status: str = docker.shown(handle.worker_id)["State"]["Status"]
            return status == "exited"

        until(stopped, "the container ends")
        assert (await outpost.worker(handle).status()).liveness is Liveness.DEAD
        outpost.copy_of(handle.worker_id).remove()
        again = [it async for it in bench.restarted().worker(handle).events()]
        assert [it.to_json() for it in again] == [it.to_json() for it in events]
        assert await outpost.worker(handle).unsaved() == ""


async def test_a_paused_worker_is_out_of_sight_and_not_dead(docker: DockerWorld) -> None:
    async with docker.using() as outpost:
        bench = docker.bench(outpost)
        handle = await bench.spawn("echo begun; sleep 60")
        await bench.wait_for_line(handle, "begun")
        docker.engine.docker("pause", handle.worker_id)
        (container,) = await outpost.look(handle.worker_id)
        assert container.state == "running"
        assert container.detail == "it is paused: docker unpause"
        await outpost.wake(handle.worker_id)
        assert (await outpost.worker(handle).status()).liveness is Liveness.ALIVE


async def test_a_strangers_container_of_that_name_is_left_alone(docker: DockerWorld) -> None:
    async with docker.using() as outpost:
        bench = docker.bench(outpost)
        order = bench.order("true")
        options = ("--network", "host", "--label", f"outpost.federation={FEDERATION}")
        name, image = order["worker_id"], docker.engine.image("slim")
        stranger = docker.engine.docker(
            "run", "--detach", "--name", name, *options, image, "sleep", "60"
        )
        try:
            with pytest.raises(Rejected, match="is not ours") as caught:
                await outpost.spawn(order, docker.environment)
            assert caught.value.hint == f"docker inspect {name}"
            assert await outpost.find(name) is None
            assert not [it async for it in outpost.workers()]
            await outpost.destroy(outpost.handle_of(name))
            assert docker.shown(name)["Id"] == stranger
            assert docker.shown(name)["State"]["Running"]
        finally:
            docker.engine.docker("rm", "--force", "--volumes", stranger)


async def test_federations_and_outposts_of_one_engine_never_touch_each_other(
    docker: DockerWorld,
) -> None:
    async with (
        docker.using() as ours,
        docker.using("another") as theirs,
        docker.using(name="box2") as beside,
    ):
        bench = docker.bench(ours)
        handle = await bench.spawn("echo begun; sleep 60")
        await bench.wait_for_line(handle, "begun")
        for stranger in (theirs, beside):
            assert await stranger.find(handle.worker_id) is None
            assert not [it async for it in stranger.workers()]
            await stranger.destroy(stranger.handle_of(handle.worker_id))
        assert (await ours.worker(handle).status()).liveness is Liveness.ALIVE


async def test_nothing_is_left_of_what_is_destroyed(docker: DockerWorld) -> None:
    async with docker.using() as outpost:
        bench = docker.bench(outpost)
        handles = [await bench.spawn("echo begun; sleep 60") for _ in range(2)]
        mounts = [it for name in handles for it in docker.shown(name.worker_id)["Mounts"]]
        volumes = {it["Name"] for it in mounts if it["Type"] == "volume"}
        assert len(volumes) == 2, "/work of each"
        found = {it.handle.worker_id async for it in docker.outpost().workers()}
        assert found == {it.worker_id for it in handles}
        for handle in handles:
            await docker.outpost().destroy(handle)
        assert not found & docker.names()
        assert not volumes & docker.volumes()


async def test_the_engine_knows_no_secret_but_the_token(docker: DockerWorld) -> None:
    secret = secrets.token_hex(20)
    given = docker.environment
    environment: Environment = {
        "agent": {**given["agent"], "A_SECRET": secret},
        "git": {**given["git"], "G_SECRET": secret},
    }
    async with docker.using() as outpost:
        bench = docker.bench(outpost)
        order = bench.order("test -n $A_SECRET && echo begun; sleep 60")
        handle = await bench.start(order, environment=environment)
        await bench.wait_for_line(handle, "begun")
        shown = json.dumps(docker.shown(handle.worker_id))
        printed = docker.engine.docker("logs", handle.worker_id)
        token = outpost.token_of(handle.worker_id)
    assert secret not in shown + printed
    assert shown.count(token) == 1
    assert token not in printed


async def test_a_start_that_cannot_be_says_what_to_type(docker: DockerWorld) -> None:
    async def refused(**options: Any) -> tuple[type[Exception], str, str]:
        outpost = docker.outpost(**options)
        health = await outpost.ping()
        with pytest.raises((NotDispatched, Rejected)) as caught:
            await outpost.spawn(docker.bench(outpost).order("true"), docker.environment)
        error = caught.value
        assert health.ok or (health.detail, health.hint) != ("", "")
        return type(error), error.message, error.hint

    before = docker.names()
    assert await refused(image="outpost-worker:none") == (
        *(Rejected, "No such image: outpost-worker:none"),
        "worker_image/build.sh --tag outpost-worker:none",
    )
    kind, message, _ = await refused(network="nowhere")
    assert (kind, message) == (Rejected, "network nowhere not found")
    kind, message, _ = await refused(cpus=4096)
    assert kind is Rejected
    assert message.startswith("Range of CPUs")
    kind, message, hint = await refused(host="unix:///nowhere/socket")
    assert kind is NotDispatched
    assert message.startswith("Cannot connect to the Docker daemon")
    assert "systemctl start docker" in hint
    assert docker.names() == before


async def test_absent_on_another_engine_is_not_gone(docker: DockerWorld) -> None:
    async with docker.using() as outpost:
        bench = docker.bench(outpost)
        handle = await bench.spawn("true")
        await outpost.destroy(handle)
        assert (await outpost.worker(handle).status()).liveness is Liveness.ABSENT
        elsewhere = replace(handle, data={"engine": "another"})
        seen = await bench.restarted().worker(elsewhere).status()
    assert seen.liveness is Liveness.UNSEEN
    assert "another Docker Engine" in seen.detail


async def test_a_context_leads_to_the_engine(docker: DockerWorld) -> None:
    docker.engine.docker("version")
    folder = docker.world.folder / "docker"
    way = f"host={docker.engine.host}"
    argv = ("--config", str(folder), "context", "create", "there", "--docker", way)
    docker.engine.docker(*argv)
    variables = {**docker.world.environment, "DOCKER_CONFIG": str(folder)}
    there = replace(docker, world=replace(docker.world, environment=variables))
    assert there.engine.host not in there.world.environment.values()
    health = await there.outpost(context="there").ping()
    assert health.ok, health
    missing = await there.outpost(context="nowhere").ping()
    assert (missing.ok, missing.hint) == (False, "docker context ls")


async def test_tidying_takes_what_nobody_needs_and_keeps_what_is_nowhere_else(
    docker: DockerWorld,
) -> None:
    async with docker.using() as outpost:
        bench = docker.bench(outpost)
        done = await bench.spawn("echo words > new.txt")
        await bench.log(done)
        alive = await bench.spawn("echo begun; sleep 60")
        await bench.wait_for_line(alive, "begun")
        docker.remote.reject_pushes("not today")
        unsaved = await bench.spawn("echo words > other.txt")
        await bench.log(unsaved)
        never = bench.order("true")
        await outpost.provide(never)
        names = [it.worker_id for it in (done, alive, unsaved)]
        order = TidyOrder(
            kinds=["cache"],
            dry_run=True,
            workers=names,
            orphans=[never["worker_id"]],
            grace_s=0.0,
            cache_idle_s=0.0,
        )
        would = await docker.outpost().tidy(order, [done, alive, unsaved])
        assert {*names, never["worker_id"]} <= docker.names()
        told = await outpost.tidy({**order, "dry_run": False}, [done, alive, unsaved])
        left = docker.names()
    assert told == would
    assert [(it["kind"], it["name"], it["kept"]) for it in told] == [
        ("worker", done.worker_id, ""),
        ("worker", alive.worker_id, "it still runs"),
        ("worker", unsaved.worker_id, "1 unpushed commit: there and nowhere else"),
        ("orphan", never["worker_id"], ""),
    ]
    assert told[2]["hint"].startswith(f"docker start {unsaved.worker_id} && docker exec -it")
    assert not {done.worker_id, never["worker_id"]} & left
    assert {alive.worker_id, unsaved.worker_id} <= left


async def test_several_starts_of_one_worker_make_one_container(docker: DockerWorld) -> None:
    async with docker.using() as outpost:
        bench = docker.bench(outpost)
        order = bench.order("echo begun; sleep 60")
        await outpost.provide(order)
        (first,) = await outpost.look()
        await docker.outpost().provide(order)
        assert [it.worker_id for it in await outpost.look()] == [first.worker_id]
        handle = await bench.start(order)
        await bench.wait_for_line(handle, "begun")
