"""A repository whose URL holds a password: it works, and the password shows nowhere."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace

import pytest

from outpost.model import State
from outpost.wire.orders import Environment
from outpost.wire.urls import Credentials, apart
from tests.doubles.git_http import git_over_http
from tests.integration.proc_watcher import Watcher
from tests.world import Remote, World, events_of, until

pytestmark = pytest.mark.integration
USER, PASSWORD = "sam", "pass%2Fw0rd-1234"
SECRET = "pass/w0rd-1234"


def watched(remote: Remote, watcher: Watcher) -> AbstractContextManager[str]:
    """Serve a repository to nobody whom the watcher has not seen."""
    return git_over_http(remote.path.parent, USER, SECRET, first=watcher.look_around)


async def test_the_password_works_and_shows_nowhere(world: World, remote: Remote) -> None:
    with Watcher() as watcher, watched(remote, watcher) as address:
        host = address.removeprefix("http://")
        url = f"http://{USER}:{PASSWORD}@{host}/{remote.path.name}"
        async with world.federation() as federation:
            worker = await world.spawn(
                federation,
                "echo mended > words.txt; cat .git/config; env",
                remote=replace(remote, url=url),
            )
            attempt = await worker.result()
            log = str([event.to_json() for event in await events_of(worker)])
    assert attempt.state is State.DONE, attempt.reason
    assert remote.git("show", f"{attempt.branch}:words.txt") == "mended"
    assert watcher.rounds > 3
    assert any("git-remote-http" in line for line in watcher.seen)
    for secret in (SECRET, PASSWORD):
        assert not [line for line in watcher.seen if secret in line]
        assert secret not in log


async def test_what_was_pushed_is_compared_without_showing_it(world: World, remote: Remote) -> None:
    with Watcher() as watcher, watched(remote, watcher) as address:
        host = address.removeprefix("http://")
        url = f"http://{USER}:{PASSWORD}@{host}/{remote.path.name}"
        async with world.federation() as federation:
            script = "echo mended > words.txt"
            worker = await world.spawn(federation, script, remote=replace(remote, url=url))
            await worker.result()
            until(lambda: not world.tree(worker.id).exists(), "the workspace is gone")
            patch = await worker.diff()
    assert b"+mended" in patch
    assert any("git-remote-http" in line for line in watcher.seen)
    for secret in (SECRET, PASSWORD):
        assert not [line for line in watcher.seen if secret in line]


async def test_a_wrong_password_is_told_without_it(world: World, remote: Remote) -> None:
    with git_over_http(remote.path.parent, USER, SECRET) as address:
        host = address.removeprefix("http://")
        url = f"http://{USER}:wrong-one@{host}/{remote.path.name}"
        attempt = await world.outcome("true", remote=replace(remote, url=url))
    assert attempt.state is State.FAILED
    assert "uthentication" in attempt.reason
    assert "wrong-one" not in attempt.reason


@pytest.mark.parametrize(
    ("url", "shown", "user", "password"),
    [
        ("https://u:p%40ss@host/o/r.git", "https://host/o/r.git", "u", "p@ss"),
        ("https://token@host:8443/o/r", "https://host:8443/o/r", "token", ""),
        ("https://host/o/r@v1.git", "https://host/o/r@v1.git", "", ""),
        ("ssh://git@host/o/r", "ssh://git@host/o/r", "", ""),
        ("git@host:o/r.git", "git@host:o/r.git", "", ""),
        ("/srv/a@b/r.git", "/srv/a@b/r.git", "", ""),
    ],
)
def test_credentials_are_told_from_the_rest(url: str, shown: str, user: str, password: str) -> None:
    credentials = Credentials(url)
    assert (credentials.url, credentials.user, credentials.password) == (shown, user, password)


def test_a_password_travels_apart_from_the_order() -> None:
    given: Environment = {"agent": {"A": "1"}, "git": {"G": "2"}}
    url, environment = apart("https://u:p%40ss@host/o/r.git", given)
    assert url == "https://host/o/r.git"
    assert environment["agent"] == {"A": "1"}
    assert environment["git"] == {
        "G": "2",
        "OUTPOST_GIT_USER": "u",
        "OUTPOST_GIT_PASSWORD": "p@ss",
    }
    assert given == {"agent": {"A": "1"}, "git": {"G": "2"}}
    assert apart("ssh://git@host/o/r", given) == ("ssh://git@host/o/r", given)
