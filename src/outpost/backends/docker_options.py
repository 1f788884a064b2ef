"""What ``type: docker`` takes in the configuration."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from outpost.durations import parse_duration
from outpost.model.option_fields import VARIABLE, Duration

IMAGE = "outpost-worker:full"
DEFAULT_IDLE_EXIT = "1m"
OWNVARIABLES = "OUTPOST_SERVE_"
MIB = 1 << 20
LEAST_MEMORY_MIB = 256
_UNITS = {"k": 1 << 10, "m": MIB, "g": 1 << 30, "t": 1 << 40}
_OWN_FOLDERS = ("/", "/work", "/cache", "/tmp")  # noqa: S108 - a folder of the container


def _memory(text: str) -> str:
    if memory_bytes(text) < LEAST_MEMORY_MIB * MIB:
        raise ValueError(f"no agent runs in less than {LEAST_MEMORY_MIB}m")
    return text


def _address(text: str) -> str:
    if ipaddress.ip_address(text).is_unspecified:
        raise ValueError(f"{text} is every address: name the one that only you can reach")
    return text


def _network(text: str) -> str:
    if text == "none" or text.startswith("container:"):
        raise ValueError("workers need a network of their own to reach the repository and a model")
    return text


def _mount(text: str) -> str:
    parts = text.split(":")
    if len(parts) not in (2, 3) or not all(parts) or parts[2:] not in ([], ["ro"], ["rw"]):
        raise ValueError("expected SOURCE:FOLDER or SOURCE:FOLDER:ro")
    if not re.fullmatch(r"/[^,\"]*|[A-Za-z0-9][\w.-]+", parts[0]):
        raise ValueError(f"{parts[0][:63]!r} is neither a whole path nor the name of a volume")
    if not re.fullmatch(r"/[^,\"]*", parts[1]) or (parts[1].rstrip("/") or "/") in _OWN_FOLDERS:
        raise ValueError(f"{parts[1]} is not a folder for something of yours, such as /data")
    return text


Mount: TypeAlias = Annotated[str, AfterValidator(_mount)]
Host: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][^\s:]*:[^\s]+$")]


class DockerOptions(BaseModel):
    """What ``type: docker`` takes besides what every outpost takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str | None = Field(
        default=None,
        pattern=r"^(unix|tcp|ssh|npipe)://\S+$",
        examples=["ssh://sam@vm", "unix:///run/docker.sock"],
        description="Where the engine is, such as ssh://sam@vm; else what the program docker uses.",
    )
    context: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][\w.+-]*$",
        examples=["default"],
        description="The same as a docker context.",
    )
    image: str = Field(
        default=IMAGE,
        pattern=r"^[A-Za-z0-9]\S*$",
        examples=[IMAGE],
        description="The worker image.",
    )
    pull: Literal["missing", "always", "never"] = Field(
        default="never", description="When the engine fetches the image from its registry."
    )
    cpus: float | None = Field(default=None, gt=0, description="Virtual CPUs of a worker.")
    memory: Annotated[
        str | None,
        Field(pattern=r"^[0-9]+(\.[0-9]+)?[kmgtKMGT]$"),
        AfterValidator(lambda text: text if text is None else _memory(text)),
    ] = Field(
        default=None,
        examples=["4g", "512m"],
        description="Memory of a worker, such as 4g; it gets no swap besides.",
    )
    pids_limit: int = Field(default=4096, ge=64, description="Processes and threads of a worker.")
    network: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.:-]*$"), AfterValidator(_network)] = (
        Field(
            default="bridge",
            examples=["bridge", "my-network"],
            description="bridge, host, or the name of a network of yours.",
        )
    )
    address: Annotated[
        str | None, AfterValidator(lambda text: text if text is None else _address(text))
    ] = Field(
        default=None,
        description="IP address of the engine's machine at which workers listen; by default"
        " they are reached through the engine where that is another machine.",
    )
    extra_hosts: tuple[Host, ...] = Field(
        default=(), description="Further names that workers know, as NAME:ADDRESS."
    )
    read_only: bool = Field(
        default=False, description="Whether workers can write to nothing but /work, /cache, /tmp."
    )
    cache: bool = Field(
        default=True, description="Whether workers share a volume of fetched git objects."
    )
    mounts: tuple[Mount, ...] = Field(
        default=(), description="Further folders or volumes of the engine's, as SOURCE:FOLDER[:ro]."
    )
    env: Mapping[str, str] = Field(
        default_factory=dict, description="Variables of workers there; no secrets."
    )
    idle_exit_s: Duration = Field(
        default=parse_duration(DEFAULT_IDLE_EXIT),
        alias="idle_exit",
        json_schema_extra={"default": DEFAULT_IDLE_EXIT},
        description="How long a container runs on after its work, for whoever asks about it.",
    )
    min_free_mib: int = Field(
        default=1024, ge=0, description="No work is begun with less room on its disk; 0: always."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.host and self.context:
            raise ValueError("host and context both say where the engine is: keep one of them")
        for name in self.env:
            if not VARIABLE.fullmatch(name) or name.startswith(OWNVARIABLES):
                raise ValueError(f"env: {name[:63]!r} is no name of a variable of yours")
        if self.idle_exit_s <= 0:
            raise ValueError("idle_exit must be longer than 0s")
        return self


def memory_bytes(text: str) -> int:
    """Return the bytes that a size such as ``4g`` means, as Docker reads it."""
    return int(float(text[:-1]) * _UNITS[text[-1].lower()])
