"""Where a worker finds what an earlier one left: on its outpost, unless that keeps them apart."""

from __future__ import annotations

from pathlib import Path

from outpost.backends.docker import DockerOutpost
from outpost.backends.docker_options import DockerOptions
from outpost.backends.local import LocalOptions, LocalOutpost
from outpost.control.situation import Site
from outpost.ports import Outpost, Setup


def site(outpost: Outpost) -> Site:
    return Site(name="here", kind=outpost.kind, max_workers=None, outpost=outpost)


def test_only_what_is_shared_is_gone_on_in(tmp_path: Path) -> None:
    setup = Setup(
        name="here", federation_id="f-1", data_folder=str(tmp_path), environment={"PATH": "/bin"}
    )
    assert site(LocalOutpost(setup, LocalOptions())).shared == "here"
    assert site(DockerOutpost(setup, DockerOptions())).shared == ""
