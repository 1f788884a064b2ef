"""What ``type: e2b`` takes in the configuration, checked as far as no network is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping
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

from outpost.durations import duration_field
from outpost.model.option_fields import AS_DURATION, VARIABLE, Duration, server_address
from outpost.secrets import SecretRef

TEMPLATE = "outpost-worker"
API_KEY = "env://E2B_API_KEY"
LEASE_LEAST_S = 60
MEMORY_LEAST_MIB = 512
HOUR_S = 3600
SESSION_S: Mapping[str, int] = {"hobby": HOUR_S, "pro": 24 * HOUR_S}
"""For how long a sandbox may run without a pause (e2b.dev/docs, Sandbox, 2026-11-21)."""
CONCURRENCY: Mapping[str, int] = {"hobby": 20, "pro": 100}
"""How many may run at once (e2b.dev/docs, Pricing, 2026-11-21)."""
CREATIONS_PER_S: Mapping[str, int] = {"hobby": 1, "pro": 5}
"""How many may be made in a second (e2b.dev/docs, Rate limits, 2026-11-21)."""


def _lease(seconds: float) -> float:
    if seconds < LEASE_LEAST_S:
        raise ValueError(f"it needs at least {LEASE_LEAST_S}s, as a controller comes by every 20s")
    return float(math.ceil(seconds))


Lease: TypeAlias = Annotated[
    float, BeforeValidator(duration_field), AfterValidator(_lease), AS_DURATION
]
Address: TypeAlias = Annotated[
    str,
    StringConstraints(pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$"),
    AfterValidator(server_address),
]
Destination: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.:*/_-]+$")]


class E2bOptions(BaseModel):
    """What ``type: e2b`` takes besides what every outpost takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    template: str = Field(
        default=TEMPLATE,
        pattern=r"^[a-z0-9][a-z0-9._:/-]*$",
        examples=[TEMPLATE],
        description="The template of its sandboxes, as outpost deploy builds it.",
    )
    cpus: int = Field(default=2, ge=1, le=64, description="Virtual CPUs that the template gives.")
    memory: str = Field(
        default="4Gi",
        pattern=r"^[0-9]+(\.[0-9]+)?(Mi|Gi)$",
        examples=["4Gi", "512Mi"],
        description="Memory that the template gives, such as 4Gi or 512Mi.",
    )
    timeout_s: Lease = Field(
        default=900.0,
        alias="timeout",
        json_schema_extra={"default": "15m"},
        description="How long a sandbox runs on that no controller looks after.",
    )
    lifecycle: Literal["pause", "kill"] = Field(
        default="pause",
        description="What becomes of it then; with kill, work that was not pushed is lost.",
    )
    pause_after_s: Duration = Field(
        default=120.0,
        alias="pause_after",
        json_schema_extra={"default": "2m"},
        description="How long a worker waits for a person until its sandbox is paused;"
        " the answer resumes it.",
    )
    plan: Literal["hobby", "pro"] = Field(
        default="hobby",
        description="The team's plan: a sandbox runs up to 1h (hobby) or 24h (pro) at a stretch.",
    )
    allow_internet: bool = Field(
        default=True, description="Whether sandboxes reach the internet; what allow names, always."
    )
    allow: tuple[Destination, ...] = Field(
        default=(), description="Addresses, networks and names they may reach in spite of deny."
    )
    deny: tuple[Destination, ...] = Field(
        default=(), description="Addresses and networks they may not reach, such as 0.0.0.0/0."
    )
    env: Mapping[str, str] = Field(
        default_factory=dict, description="Variables of workers there; no secrets."
    )
    api_key: SecretRef = Field(
        default=SecretRef(API_KEY),
        json_schema_extra={"default": API_KEY},
        description="A reference to the team's API key.",
    )
    api_url: Address | None = Field(
        default=None,
        examples=["https://e2b.example.com"],
        description="Address of the API, where it is not E2B's own.",
    )
    sandbox_url: Address | None = Field(
        default=None,
        examples=["https://sandboxes.example.com"],
        description="Address of all sandboxes, where it is not E2B's.",
    )
    min_free_mib: int = Field(
        default=512, ge=0, description="No work is begun with less room on its disk; 0: always."
    )

    @property
    def memory_mib(self) -> int:
        """The memory of a sandbox."""
        return round(float(self.memory[:-2]) * (1024 if self.memory.endswith("Gi") else 1))

    @property
    def session_s(self) -> int:
        """For how long a sandbox may run at a stretch."""
        return SESSION_S[self.plan]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.timeout_s > self.session_s:
            raise ValueError(
                f"timeout: sandboxes of the plan {self.plan} run up to"
                f" {self.session_s // HOUR_S}h at a stretch"
            )
        if self.memory_mib < MEMORY_LEAST_MIB or self.memory_mib % 2:
            raise ValueError(f"memory: at least {MEMORY_LEAST_MIB}Mi, and an even number of MiB")
        for name in self.env:
            if not VARIABLE.fullmatch(name):
                raise ValueError(f"env: {name[:63]!r} is no name of a variable")
        return self
