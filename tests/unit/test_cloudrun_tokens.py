"""ID tokens: fetched ahead of expiry, one at a time, from each kind of Google's credentials."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from outpost.errors import OutpostFault, Rejected
from outpost.transports.google_tokens import AHEAD, IdToken, IdTokens, google_fetch
from tests.doubles.google_identity import GoogleIdentity

AUDIENCE = "https://worker.example.run.app"
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
LIFE = timedelta(hours=1)


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.time = BEGIN

    def now(self) -> datetime:
        return self.time


class Mint:
    """Numbers the tokens that it makes; fails while ``failing``."""

    def __init__(self, clock: Hands) -> None:
        self.clock = clock
        self.made = 0
        self.failing: OutpostFault | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, audience: str) -> IdToken:
        await self.gate.wait()
        if self.failing:
            raise self.failing
        self.made += 1
        return IdToken(f"{audience}#{self.made}", self.clock.now() + LIFE)


@pytest.fixture
async def made() -> tuple[IdTokens, Mint, Hands]:
    clock = Hands()
    mint = Mint(clock)
    return IdTokens(mint, clock), mint, clock


async def test_a_token_is_kept_until_shortly_before_it_expires(
    made: tuple[IdTokens, Mint, Hands],
) -> None:
    tokens, mint, clock = made
    assert await tokens.token("a") == "a#1"
    clock.time = BEGIN + LIFE - AHEAD - timedelta(seconds=1)
    assert await tokens.token("a") == "a#1"
    clock.time = BEGIN + LIFE - AHEAD
    assert await tokens.token("a") == "a#2"
    assert await tokens.token("b") == "b#3"
    assert mint.made == 3


async def test_a_hundred_that_ask_at_once_ask_google_once(
    made: tuple[IdTokens, Mint, Hands],
) -> None:
    tokens, mint, _ = made
    mint.gate.clear()
    asking = [asyncio.create_task(tokens.token("a")) for _ in range(100)]
    await asyncio.sleep(0)
    mint.gate.set()
    assert {await it for it in asking} == {"a#1"}
    assert mint.made == 1


async def test_one_that_was_refused_is_replaced_once(made: tuple[IdTokens, Mint, Hands]) -> None:
    tokens, mint, _ = made
    first = await tokens.token("a")
    both = await asyncio.gather(*(tokens.token("a", refused=first) for _ in range(2)))
    assert both == ["a#2", "a#2"]
    assert await tokens.token("a") == "a#2"
    assert await tokens.token("a", refused=first) == "a#2"
    assert mint.made == 2


async def test_where_no_new_one_comes_the_old_one_is_used_to_its_end(
    made: tuple[IdTokens, Mint, Hands],
) -> None:
    tokens, mint, clock = made
    first = await tokens.token("a")
    mint.failing = OutpostFault("no network", outpost="burst")
    clock.time = BEGIN + LIFE - timedelta(seconds=1)
    assert await tokens.token("a") == first
    with pytest.raises(OutpostFault, match="no network"):
        await tokens.token("a", refused=first)
    clock.time = BEGIN + LIFE
    with pytest.raises(OutpostFault, match="no network"):
        await tokens.token("a")
    mint.failing = None
    assert await tokens.token("a") == "a#2"


async def test_who_waits_in_vain_and_leaves_keeps_nobody_else_from_it(
    made: tuple[IdTokens, Mint, Hands],
) -> None:
    tokens, mint, _ = made
    mint.gate.clear()
    leaving, staying = (asyncio.create_task(tokens.token("a")) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    mint.gate.set()
    assert await staying == "a#1"


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[GoogleIdentity]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path / "gcloud"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    with GoogleIdentity() as identity:
        yield identity


def use_key_file(
    google: GoogleIdentity, monkeypatch: pytest.MonkeyPatch, folder: Path, **changed: str
) -> None:
    path = google.key_file(folder)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))


async def test_a_key_file_is_exchanged_for_tokens(
    google: GoogleIdentity, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_key_file(google, monkeypatch, tmp_path)
    google.life_s = 1800
    token = await google_fetch("burst", None)(AUDIENCE)
    assert google.asked == [AUDIENCE]
    assert token.text.count(".") == 2
    left = token.expires_at - datetime.now(UTC)
    assert timedelta(minutes=29) < left <= timedelta(minutes=30)


async def test_an_account_that_google_refuses_is_rejected(
    google: GoogleIdentity, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_key_file(google, monkeypatch, tmp_path)
    google.failing = 400
    with pytest.raises(Rejected, match="does not take the credentials here") as caught:
        await google_fetch("burst", None)(AUDIENCE)
    assert "Account disabled" in caught.value.message


async def test_a_google_that_is_out_of_reach_is_no_refusal(
    google: GoogleIdentity, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use_key_file(google, monkeypatch, tmp_path, token_uri="http://127.0.0.1:9/token")
    with pytest.raises(OutpostFault, match="Google's tokens cannot be had") as caught:
        await google_fetch("burst", None)(AUDIENCE)
    assert not isinstance(caught.value, Rejected)


async def test_a_persons_credentials_say_what_to_do(
    google: GoogleIdentity, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "person.json"
    person = {"client_id": "a", "client_secret": "b", "refresh_token": "c"}
    path.write_text(json.dumps({"type": "authorized_user", **person}))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(Rejected, match="are a person's") as caught:
        await google_fetch("burst", None)(AUDIENCE)
    assert "impersonate: NAME@PROJECT" in caught.value.hint
    assert "roles/iam.serviceAccountTokenCreator" in caught.value.hint


@pytest.mark.parametrize("named", [False, True])
async def test_without_credentials_the_command_is_said(
    google: GoogleIdentity, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: bool
) -> None:
    if named:
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    with pytest.raises(Rejected, match="no Google credentials here") as caught:
        await google_fetch("burst", None)(AUDIENCE)
    assert caught.value.hint.startswith("gcloud auth application-default login\n")
    assert ("absent.json was not found" in caught.value.message) is named


@pytest.mark.parametrize("content", [None, "[]", '{"type": "service_account", "private_key": "x"}'])
async def test_credentials_that_cannot_be_read_are_none(
    google: GoogleIdentity, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "key.json"
    if content is None:
        path.mkdir()
    else:
        path.write_text(content)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    with pytest.raises(Rejected, match="no Google credentials here: ") as caught:
        await google_fetch("burst", None)(AUDIENCE)
    assert "key.json" in caught.value.message


async def test_on_google_s_machines_the_metadata_server_gives_them(
    google: GoogleIdentity, tmp_path: Path
) -> None:
    # google-auth looks up where that server is as it is loaded.
    code = (
        "import asyncio; from outpost.transports.google_tokens import google_fetch\n"
        f"print(asyncio.run(google_fetch('burst', None)({AUDIENCE!r})).text)"
    )
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **google.metadata}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code), env=environment, stdout=subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode == 0
    assert google.asked == [AUDIENCE]
    assert out.strip().count(b".") == 2
