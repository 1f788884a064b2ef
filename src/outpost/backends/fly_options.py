"""What ``type: fly`` takes in the configuration, checked as far as no network is needed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from outpost.durations import parse_duration
from outpost.model.option_fields import (
    VARIABLE,
    Duration,
    one_or_more,
    one_or_more_schema,
    server_address,
)
from outpost.secrets import SecretRef

API_URL = "https://api.machines.dev"
TOKEN = SecretRef("env://FLY_API_TOKEN")
DEFAULT_IDLE_EXIT, DEFAULT_MACHINE_TTL = "1m", "1d"
LEAST_TTL_S = 60.0
OWNVARIABLES = "OUTPOST_SERVE_"
DEFAULT_CPUS = 2
LEAST_MEMORY_MIB = 2048
"""What a worker gets unless the configuration says otherwise: agents need that much."""
MEMORY_STEP_MIB = 256
SUSPEND_MOST_MIB = 2048
"""Fly advises against suspending larger ones (fly.io/docs/reference/suspend-resume, 2025-08)."""
_MEMORY_OF_CPU_MIB: Mapping[str, tuple[int, int]] = {
    "shared": (256, 2048),
    "performance": (2048, 8192),
}
"""The least and the most memory for each CPU, by its kind (fly.io/docs/about/pricing, 2026-08)."""
_CPUS: Mapping[str, tuple[int, ...]] = {"shared": (1, 2, 4, 8), "performance": (1, 2, 4, 8, 16)}
_SIZE = re.compile(r"(shared-cpu|performance)-([0-9]+)x")
_REGION = r"^[a-z]{3}$"
_UNITS = {"m": 1, "g": 1024}
_PRIVATE = (".internal",)
"""The ends of names that Fly's private network has, which encrypts by itself."""


Regions: TypeAlias = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=_REGION)], ...],
    BeforeValidator(one_or_more),
    Field(min_length=1),
    one_or_more_schema(_REGION),
]
Address: TypeAlias = Annotated[
    str,
    StringConstraints(pattern=r"^https?://[^\s/?#]+/?$"),
    AfterValidator(partial(server_address, within=_PRIVATE)),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Guest:
    """What a machine has, as Fly counts it."""

    cpu_kind: str
    cpus: int
    memory_mib: int

    @property
    def size(self) -> str:
        """Fly's name for it, without its memory."""
        return f"{'shared-cpu' if self.cpu_kind == 'shared' else self.cpu_kind}-{self.cpus}x"


class FlyOptions(BaseModel):
    """What ``type: fly`` takes besides what every outpost takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    app: str = Field(
        pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        examples=["my-workers"],
        description="The app that workers are in.",
    )
    regions: Regions = Field(
        alias="region",
        examples=["iad", "fra"],
        description="Where workers run; of several regions the one to try first is first.",
    )
    image: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9]\S*$",
        examples=["registry.fly.io/my-workers:worker"],
        description="The worker image; else registry.fly.io/APP:worker.",
    )
    size: str | None = Field(
        default=None,
        pattern=f"^({_SIZE.pattern})$",
        examples=["shared-cpu-4x", "performance-2x"],
        description="A size of Fly's, such as shared-cpu-4x or performance-2x.",
    )
    cpus: int | None = Field(default=None, ge=1, description="The same as a number of shared CPUs.")
    memory: str | None = Field(
        default=None,
        pattern=r"^[0-9]+[mgMG]$",
        examples=["4g", "512m"],
        description="Memory of a worker, such as 4g; else what the size has, at least 2g.",
    )
    disk_gb: int | None = Field(
        default=None, ge=1, le=50, description="Size of a worker's root file system, in GB."
    )
    volume_gb: int | None = Field(
        default=None,
        ge=1,
        le=500,
        description="Size of a volume for each worker's files, in GB; else its root file system.",
    )
    warm: int = Field(
        default=0, ge=0, le=50, description="How many machines wait, stopped, for the next workers."
    )
    warm_state: Literal["stopped", "suspended"] = Field(
        default="stopped", description="How they wait; suspended ones start quicker."
    )
    machine_ttl_s: Duration = Field(
        default=parse_duration(DEFAULT_MACHINE_TTL),
        alias="machine_ttl",
        json_schema_extra={"default": DEFAULT_MACHINE_TTL},
        description="How old a machine gets; then its work is saved, and it goes.",
    )
    idle_exit_s: Duration = Field(
        default=parse_duration(DEFAULT_IDLE_EXIT),
        alias="idle_exit",
        json_schema_extra={"default": DEFAULT_IDLE_EXIT},
        description="How long a machine runs on after its work, for whoever asks about it.",
    )
    env: Mapping[str, str] = Field(
        default_factory=dict, description="Variables of workers there; no secrets."
    )
    token: SecretRef = Field(
        default=TOKEN,
        json_schema_extra={"default": TOKEN.reference},
        description="A reference to a token for the app, from fly tokens create.",
    )
    api_url: Address = Field(
        default=API_URL, examples=[API_URL], description="Where Fly's Machines API answers."
    )
    url: Address | None = Field(
        default=None,
        examples=["https://workers.example.com"],
        description="Where the app answers; else https://APP.fly.dev.",
    )
    requests_per_s: float = Field(
        default=1.0,
        gt=0,
        description="How often Fly lets us do one thing; more, if Fly has raised yours.",
    )

    @property
    def guest(self) -> Guest:
        """What a worker's machine has."""
        cpus = DEFAULT_CPUS if self.cpus is None else self.cpus
        found = _SIZE.fullmatch(self.size or f"shared-cpu-{cpus}x")
        assert found
        kind, cpus = found[1].removesuffix("-cpu"), int(found[2])
        least, _ = _MEMORY_OF_CPU_MIB[kind]
        own_mib = max(least * cpus, LEAST_MEMORY_MIB)
        memory_mib = _mib(self.memory) if self.memory else own_mib
        return Guest(cpu_kind=kind, cpus=cpus, memory_mib=memory_mib)

    @property
    def worker_image(self) -> str:
        """The image that machines run."""
        return self.image or f"registry.fly.io/{self.app}:worker"

    @property
    def app_url(self) -> str:
        """Where the app answers."""
        return (self.url or f"https://{self.app}.fly.dev").rstrip("/")

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._check_guest()
        if len(set(self.regions)) < len(self.regions):
            raise ValueError("a region stands there twice")
        if self.disk_gb and self.volume_gb:
            raise ValueError("disk_gb is for workers without volume_gb: keep one of them")
        if self.warm_state == "suspended" and self.guest.memory_mib > SUSPEND_MOST_MIB:
            raise ValueError("warm_state: suspended is for machines with 2g of memory at most")
        if self.idle_exit_s <= 0:
            raise ValueError("idle_exit must be longer than 0s")
        if self.machine_ttl_s < LEAST_TTL_S:
            raise ValueError(f"machine_ttl must be at least {LEAST_TTL_S:g}s")
        for name in self.env:
            if not VARIABLE.fullmatch(name) or name.startswith(OWNVARIABLES):
                raise ValueError(f"env: {name[:63]!r} is no name of a variable of yours")
        return self

    def _check_guest(self) -> None:
        if self.size and self.cpus is not None:
            raise ValueError("size and cpus both say how many CPUs: keep one of them")
        guest = self.guest
        known = _CPUS[guest.cpu_kind]
        if guest.cpus not in known:
            numbers = ", ".join(map(str, known))
            raise ValueError(f"Fly has {guest.cpu_kind} CPUs by {numbers}, not by {guest.cpus}")
        least, most = (guest.cpus * it for it in _MEMORY_OF_CPU_MIB[guest.cpu_kind])
        if not least <= guest.memory_mib <= most or guest.memory_mib % MEMORY_STEP_MIB:
            raise ValueError(
                f"memory of {guest.size} is between {least}m and {most}m in steps of"
                f" {MEMORY_STEP_MIB}m, not {self.memory or f'{guest.memory_mib}m'}"
            )


def _mib(text: str) -> int:
    return int(text[:-1]) * _UNITS[text[-1].lower()]
