"""Logins that end while a controller runs, as Google's own client tells of them over TLS."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import google.auth.transport.grpc
import google.auth.transport.requests
import grpc.aio  # type: ignore[import-untyped]
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from google.cloud import run_v2
from google.cloud.run_v2.services.executions.transports import ExecutionsGrpcAsyncIOTransport
from google.cloud.run_v2.services.jobs.transports import JobsGrpcAsyncIOTransport
from google.oauth2.credentials import Credentials

from outpost.backends.cloudrun_job_control import JobClients, JobControl, JobNaming
from outpost.errors import NotDispatched, OutpostFault
from tests.doubles.google_identity import GoogleIdentity
from tests.unit.cloudrun_values import PROJECT, REGION


@dataclass
class Person:
    """Whose login is over; opens Google's own clients, each time with what it has by then."""

    address: str
    certificate: bytes
    token_url: str
    opened: int = 0

    async def open_clients(self) -> JobClients:
        self.opened += 1
        untyped: Any = Credentials
        login = untyped(
            None, refresh_token="old", token_uri=self.token_url, client_id="a", client_secret="b"
        )
        plugin: Any = google.auth.transport.grpc.AuthMetadataPlugin
        request: Any = google.auth.transport.requests.Request
        both = grpc.composite_channel_credentials(
            grpc.ssl_channel_credentials(self.certificate),
            grpc.metadata_call_credentials(plugin(login, request())),
        )
        channel: Any = grpc.aio.secure_channel(self.address, both)
        return JobClients(
            jobs=run_v2.JobsAsyncClient(transport=JobsGrpcAsyncIOTransport(channel=channel)),
            executions=run_v2.ExecutionsAsyncClient(
                transport=ExecutionsGrpcAsyncIOTransport(channel=channel)
            ),
        )


@pytest.fixture
async def person() -> AsyncIterator[Person]:
    key, certificate = _certificate()
    server: Any = grpc.aio.server()
    port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([(key, certificate)]))
    await server.start()
    with GoogleIdentity() as google_identity:
        google_identity.failing = 400
        url = f"http://{google_identity.address}/token"
        yield Person(f"localhost:{port}", certificate, url)
    await server.stop(0)


async def test_a_login_that_is_over_starts_nothing_and_may_be_made_good(person: Person) -> None:
    naming = JobNaming(outpost="burst", project=PROJECT, service="worker-job")
    control = JobControl(naming, person.open_clients)
    with pytest.raises(NotDispatched, match=r"Google's tokens cannot be had: .*disabled") as caught:
        await control.run(REGION, "outpost/f-1/w-1/", "")
    assert caught.value.hint == "gcloud auth application-default login"
    with pytest.raises(OutpostFault, match="Google's tokens cannot be had"):
        await control.end_of(REGION, "run-1")
    assert person.opened == 2, "who has logged in again is known by the next call"
    await control.close()


def _certificate() -> tuple[bytes, bytes]:
    """Return a key and a certificate of this machine's own, in PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return pem, certificate.public_bytes(serialization.Encoding.PEM)
