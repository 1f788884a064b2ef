"""A worker's container: what it is given, and how it is told of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from outpost.backends.docker_options import MIB, DockerOptions
from outpost.transports.docker_engine import Seen

FEDERATION, OUTPOST, WORKER = "outpost.federation", "outpost.outpost", "outpost.worker"
TOKEN = "OUTPOST_SERVE_TOKEN"  # noqa: S105 - the variable's name
LOOPBACK = "127.0.0.1"
PORT = 8080
STOP_S = 30
"""How long ``docker stop``, and an engine that ends, waits for a worker to save its work."""
GRACE_S = 25
KILLED = 137  # 128 + SIGKILL, as shells count
GIB = 1 << 30
# What a container prints is of use for as long as it starts; the worker's log is elsewhere.
_LOG = ("--log-driver", "local", "--log-opt", "max-size=4m", "--log-opt", "max-file=2")
_CONFINED = ("--cap-drop", "ALL", "--security-opt", "no-new-privileges")


@dataclass(frozen=True, kw_only=True, slots=True)
class Owner:
    """Whose containers they are; ``labels`` tell them from all others of the engine."""

    federation_id: str
    outpost: str

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels that every container of theirs has."""
        return {FEDERATION: self.federation_id, OUTPOST: self.outpost}

    def owns(self, seen: Seen) -> bool:
        """Whether a container is theirs."""
        return bool(seen.labels.get(WORKER)) and self.labels.items() <= seen.labels.items()

    @property
    def cache(self) -> str:
        """The name of the volume of git objects that their workers share."""
        return f"outpost-{self.federation_id}-cache"


def run_argv(
    owner: Owner, worker_id: str, options: DockerOptions, *, publish: bool = True
) -> list[str]:
    """Return the arguments of ``docker`` that start a worker's container.

    The token is in the variable ``TOKEN`` of the program's own environment. Without ``publish``
    its server is reached from inside only.
    """
    said = ["--detach", "--name", worker_id, "--pull", options.pull, "--restart", "no"]
    said += [*_CONFINED, *_LOG, "--stop-timeout", str(STOP_S)]
    labels = {**owner.labels, WORKER: worker_id}
    said += [it for key, value in labels.items() for it in ("--label", f"{key}={value}")]
    said += ["--pids-limit", str(options.pids_limit)]
    if options.memory:
        # As much with swap as without: no swap, so that too much is too much.
        said += ["--memory", options.memory, "--memory-swap", options.memory]
    if options.cpus:
        said += ["--cpus", f"{options.cpus:g}"]
    said += [*_network(options, publish=publish), *_files(owner, options)]
    said += ["--env", TOKEN]
    variables = {**options.env, **_serving(options)}
    said += [it for key, value in variables.items() for it in ("--env", f"{key}={value}")]
    return ["run", *said, options.image]


def how_it_is(seen: Seen) -> str:
    """Say in a few words what there is to be said of a container; empty: it runs, or has ended."""
    limit = f"limit {_size(seen.memory_bytes)}" if seen.memory_bytes else "of the whole machine"
    match seen.status:
        case "paused":
            return "it is paused: docker unpause"
        case "created":
            return f"it was not started: {seen.error}" if seen.error else "it was not started yet"
        case "removing" | "dead":
            return "it is being removed"
        case _ if seen.out_of_memory and seen.exit_code in (0, KILLED):
            who = "it" if seen.exit_code else "a process in it"
            return f"{who} ran out of memory ({limit})"
        case "exited" if seen.exit_code == KILLED:
            return "it was killed"
        case "exited" if seen.exit_code:
            return f"it exited with {seen.exit_code}" + (f": {seen.error}" if seen.error else "")
        case _:
            return ""


def _network(options: DockerOptions, *, publish: bool) -> list[str]:
    said = ["--network", options.network]
    if publish and options.network != "host":
        host = options.address or LOOPBACK
        # Any port that is free there.
        said += ["--publish", f"{bracketed(host)}::{PORT}"]
    return said + [it for host in options.extra_hosts for it in ("--add-host", host)]


def _files(owner: Owner, options: DockerOptions) -> list[str]:
    said = ["--mount", "type=volume,dst=/work"]
    if options.cache:
        label = f"volume-label={FEDERATION}={owner.federation_id}"
        said += ["--mount", f"type=volume,src={owner.cache},dst=/cache,{label}"]
    if options.read_only:
        said += ["--read-only", "--tmpfs", "/tmp:rw,exec,nosuid,nodev,mode=1777"]  # noqa: S108
    return said + [it for mount in options.mounts for it in ("--mount", _mounted(mount))]


def _mounted(mount: str) -> str:
    """Return SOURCE:FOLDER[:ro] for ``--mount``, which makes no folder that is not there."""
    source, folder, *rest = mount.split(":")
    kind = "bind" if source.startswith("/") else "volume"
    only = ",readonly" if rest == ["ro"] else ""
    return f"type={kind},src={source},dst={folder}{only}"


def _serving(options: DockerOptions) -> dict[str, str]:
    """Return the options of ``runner serve``."""
    listen = f"0.0.0.0:{PORT}"
    if options.network == "host":
        listen = f"{bracketed(options.address or LOOPBACK)}:0"
    return {
        "OUTPOST_SERVE_LISTEN": listen,
        "OUTPOST_SERVE_IDLE_EXIT": f"{options.idle_exit_s:g}",
        "OUTPOST_SERVE_GRACE": str(GRACE_S),
    }


def bracketed(host: str) -> str:
    """Return a host as it stands before a port."""
    return f"[{host}]" if ":" in host else host


def _size(number: int) -> str:
    return f"{number // GIB}g" if number % GIB == 0 else f"{number // MIB}m"
