"""What a machine is given, and the pace that is kept with Fly."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from outpost.backends.fly_machine import Owner, machine_config, spec_of, worker_metadata
from outpost.backends.fly_options import FlyOptions
from outpost.transports.fly_rates import Rate, Rates, TooLong
from outpost.transports.fly_seen import read_machine

OWNER = Owner(federation_id="f1", outpost="burst")
MARKS = {**OWNER.metadata, **worker_metadata("w-1", "t-1")}


def options(**more: Any) -> FlyOptions:
    return FlyOptions.model_validate({"app": "workers", "region": "iad", **more})


def test_a_machine_is_never_restarted_nor_lost_and_woken_by_us_alone() -> None:
    config = machine_config(options(), MARKS, token="secret")
    assert config["restart"] == {"policy": "no"}
    assert config["auto_destroy"] is False
    assert config["rootfs"] == {"persist": "always"}
    [service] = config["services"]
    assert (service["autostart"], service["autostop"]) == (False, "off")
    assert service["ports"][0]["http_options"] == {"h2_backend": True}
    assert config["stop_config"] == {"signal": "SIGTERM", "timeout": "60s"}
    assert config["env"]["OUTPOST_SERVE_TOKEN"] == "secret"
    assert float(config["env"]["OUTPOST_SERVE_GRACE"]) < 60
    assert config["env"]["OUTPOST_SERVE_LEASE"] == "86400"


def test_files_are_on_the_root_file_system_or_on_a_volume() -> None:
    config = machine_config(options(disk_gb=20), MARKS, token="x")
    assert config["rootfs"] == {"persist": "always", "size_gb": 20}
    config = machine_config(options(volume_gb=3), MARKS, token="x", volume="vol_1")
    assert config["mounts"] == [{"volume": "vol_1", "path": "/work"}]
    assert "rootfs" not in config


def test_the_make_says_what_matters_to_a_worker() -> None:
    usual = spec_of(options())
    assert spec_of(options(warm=3)) == usual
    for other in ({"image": "a:b"}, {"memory": "4g"}, {"env": {"A": "b"}}, {"volume_gb": 1}):
        assert spec_of(options(**other)) != usual


@pytest.mark.parametrize(
    ("metadata", "ours"),
    [
        (MARKS, True),
        ({**OWNER.metadata, "outpost_warm": "1"}, True),
        (dict(OWNER.metadata), False),
        ({**MARKS, "outpost_federation": "f2"}, False),
        ({**MARKS, "outpost_outpost": "other"}, False),
        ({}, False),
    ],
)
def test_whose_a_machine_is(metadata: dict[str, str], ours: bool) -> None:
    said = {"id": "1", "state": "started", "config": {"metadata": metadata}}
    assert OWNER.owns(read_machine(said, 0.0)) is ours


def test_names_of_volumes_fit_what_fly_allows() -> None:
    name = OWNER.prefix + "0" * 12
    assert len(name) <= 30
    assert name.replace("_", "").isalnum()
    assert OWNER.prefix != Owner(federation_id="f1", outpost="other").prefix


async def test_turns_are_taken_one_after_the_other_after_a_burst() -> None:
    rates, rate = Rates(), Rate(per_s=4.0, burst=3)
    loop = asyncio.get_running_loop()
    began, at = loop.time(), []
    for _ in range(6):
        await rates.turn(("create", ""), rate, most_s=10)
        at.append(loop.time() - began)
    assert at[2] < 0.2
    assert at[5] >= 3 / 4
    before = loop.time()
    await rates.turn(("start", "another"), rate, most_s=10)
    assert loop.time() - before < 0.2, "what is about another machine has a queue of its own"


async def test_a_turn_that_takes_too_long_is_not_waited_for() -> None:
    rates, rate = Rates(), Rate(per_s=1.0, burst=1)
    await rates.turn(("create", ""), rate, most_s=10)
    rates.rest(("create", ""), rate, 60)
    with pytest.raises(TooLong) as caught:
        await rates.turn(("create", ""), rate, most_s=10)
    assert 59 < caught.value.seconds <= 60
