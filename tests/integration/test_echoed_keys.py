"""A provider's answer that repeats the key it was asked with: that is said, and stored, nowhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.integration.cli_world import Cli
from tests.world import World

pytestmark = pytest.mark.integration

FLY_TOKEN = "FlyV1 fm2_l0ngAndSecret0123456789"
E2B_KEY = "e2b_" + "0123456789abcdef" * 2


class Echo(BaseHTTPRequestHandler):
    """Refuses everything, and quotes the headers."""

    def do_GET(self) -> None:
        given = " ".join(self.headers.values())
        body = json.dumps({"message": f"not known: {given}", "error": f"not known: {given}"})
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body.encode())

    do_POST = do_GET  # noqa: N815 - as the base class wants it

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as above
        pass


@pytest.fixture
def cli(world: World) -> Cli:
    return Cli(world)


@pytest.fixture(params=[401, 403, 500])
def api_url(request: pytest.FixtureRequest) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.status = request.param  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_no_listing_and_no_store_holds_a_key_that_came_back(
    cli: Cli, world: World, api_url: str
) -> None:
    # A file's secret is none of the environment's, which complaints are looked through for.
    (world.folder / "fly").write_text(FLY_TOKEN)
    (world.folder / "e2b").write_text(E2B_KEY)
    world.environment["OUTPOST_CONFIG"] = world.config(f"""\
outposts:
  - {{name: ship, type: fly, app: a, region: iad, api_url: "{api_url}",
     token: "file://{world.folder}/fly", requests_per_s: 100}}
  - {{name: box, type: e2b, api_url: "{api_url}", api_key: "file://{world.folder}/e2b"}}
policy:
  default_preference: [ship, box]
""")
    spawn = ("spawn", "-m", "Mend the words", "--repo", world.remote.url, "--json", "--", "true")
    spawned = cli(*spawn)
    said = [
        spawned,
        cli("list"),
        cli("status", "ship"),
        cli("doctor", code=1),
        cli("queue"),
        cli("explain", spawned.json()["task"]),
        cli("prune", code=1),
    ]
    shown = "".join(ran.out + ran.err for ran in said)
    assert shown.count("not known: ") > 3
    assert "[redacted]" in shown
    stored = b"".join(it.read_bytes() for it in world.home.glob("outpost.db*"))
    assert b"[redacted]" in stored
    for secret in (FLY_TOKEN, FLY_TOKEN.split()[1], E2B_KEY):
        assert secret not in shown
        assert secret.encode() not in stored
