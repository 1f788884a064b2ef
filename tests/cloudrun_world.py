"""``cloudrun`` outposts whose control plane and identity are stand-ins on loopback."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc.aio  # type: ignore[import-untyped]
from google.cloud import run_v2
from google.cloud.run_v2.services.services.transports import ServicesGrpcAsyncIOTransport

from outpost.backends.cloudrun import CloudRunOutpost
from outpost.backends.cloudrun_control import OpenClient
from outpost.backends.cloudrun_options import CloudRunOptions
from outpost.ports import Setup
from outpost.transports.google_tokens import IdToken
from tests.doubles.cloud_run.tokens import LIFE_S, Tokens

ROOT = Path(__file__).parents[1]
ADDRESS = "LOOPBACK_CLOUD_RUN"
KIND = "loopback-cloudrun"
TOKEN, TOKEN_SECRET = "the-token-of-the-service", "outpost-token"


def client_at(address: str) -> OpenClient:
    """Return what opens Google's own client on a stand-in, as it is."""

    async def open_client() -> run_v2.ServicesAsyncClient:
        channel: Any = grpc.aio.insecure_channel(address)
        return run_v2.ServicesAsyncClient(transport=ServicesGrpcAsyncIOTransport(channel=channel))

    return open_client


class LoopbackCloudRun(CloudRunOutpost):
    """The kind as it is for commands, with the control plane at an address in the environment."""

    def __init__(self, setup: Setup, options: CloudRunOptions) -> None:
        super().__init__(setup, options, open_client=client_at(setup.environment[ADDRESS]))


def installed(folder: Path, address: str) -> Mapping[str, str]:
    """Install that kind for processes that have these variables."""
    info = folder / "loopback_cloudrun-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loopback-cloudrun\nVersion: 1\n")
    entry = f"{KIND} = tests.cloudrun_world:{LoopbackCloudRun.__name__}"
    (info / "entry_points.txt").write_text(f"[outpost.backends]\n{entry}\n")
    return {"PYTHONPATH": f"{folder}:{ROOT}", ADDRESS: address}


def loopback_outpost(
    address: str, options: CloudRunOptions, folder: Path, tokens: Tokens, **more: Any
) -> CloudRunOutpost:
    """Return an outpost for tests in this process, whose ID tokens are the stand-in's."""

    async def fetch(audience: str) -> IdToken:
        expires_at = datetime.now(UTC) + timedelta(seconds=LIFE_S)
        return IdToken(tokens.mint(audience), expires_at)

    fields: dict[str, Any] = {
        "name": "burst",
        "federation_id": "f-0123456789",
        "data_folder": str(folder),
        "environment": {"OUTPOST_TOKEN": TOKEN},
        "max_workers": 20,
        **more,
    }
    return CloudRunOutpost(Setup(**fields), options, open_client=client_at(address), fetch=fetch)


def sample_argv() -> tuple[str, ...]:
    """Return the command of an image whose instances answer."""
    return (sys.executable, "-m", "tests.doubles.cloud_run.sample_app")


def serve_argv() -> tuple[str, ...]:
    """Return the command of an image whose instances take workers."""
    return (sys.executable, "-m", "outpost.runner", "serve")
