"""What ``type: cloudrun`` takes in the configuration, checked as far as no network is needed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
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
from outpost.model.option_fields import (
    AS_DURATION,
    VARIABLE,
    Duration,
    one_or_more,
    one_or_more_schema,
)
from outpost.secrets import SecretRef

REQUEST_MOST_S = 3600
REQUEST_LEAST_S = 60
LEASE_LEAST_S = 5
TASK_MOST_S = 168 * 3600
OWN_PREFIX, JOB_PREFIX = "OUTPOST_SERVE_", "OUTPOST_JOB_"
NAME_CHARS = 49
JOB_SUFFIX = "-job"
"""What the name of a job has behind that of the service."""
MEMORY_GIB: Mapping[int, tuple[float, float]] = {
    1: (0.5, 4),
    2: (0.5, 8),
    4: (2, 16),
    6: (4, 24),
    8: (4, 32),
}
"""The least and the most memory by vCPUs (https://cloud.google.com/run/docs/configuring/services)."""

_REGION = r"^[a-z]+(-[a-z]+)+[0-9]+$"
_SECRET = r"^(projects/[^/\s]+/secrets/)?[A-Za-z0-9_-]{1,255}:(latest|[1-9][0-9]*)$"  # noqa: S105
_ACCOUNT = r"^[^\s@]+@[^\s@]+$"
_AN_ACCOUNT = "worker@my-project.iam.gserviceaccount.com"
_FILE = re.compile(r"(/[A-Za-z0-9._-]+){2,}")
_MEMORY = r"^[0-9]+(\.[0-9]+)?(Mi|Gi)$"


def _request_timeout(seconds: float) -> float:
    if not REQUEST_LEAST_S <= seconds <= REQUEST_MOST_S:
        raise ValueError("Cloud Run's requests may take up to 60m, ours need at least 1m")
    return seconds


def _lease(seconds: float) -> float:
    if seconds < LEASE_LEAST_S:
        raise ValueError(f"a worker needs at least {LEASE_LEAST_S}s, as connections do break")
    return seconds


def _task_timeout(seconds: float) -> float:
    if not REQUEST_LEAST_S <= seconds <= TASK_MOST_S:
        raise ValueError("a task of Cloud Run may take up to 168h, ours need at least 1m")
    return seconds


RequestTimeout: TypeAlias = Annotated[
    float, BeforeValidator(duration_field), AfterValidator(_request_timeout), AS_DURATION
]
Lease: TypeAlias = Annotated[
    float, BeforeValidator(duration_field), AfterValidator(_lease), AS_DURATION
]
TaskTimeout: TypeAlias = Annotated[
    float, BeforeValidator(duration_field), AfterValidator(_task_timeout), AS_DURATION
]
Regions: TypeAlias = Annotated[
    tuple[Annotated[str, StringConstraints(pattern=_REGION)], ...],
    BeforeValidator(one_or_more),
    Field(min_length=1),
    one_or_more_schema(_REGION),
]
SecretVersion: TypeAlias = Annotated[str, StringConstraints(pattern=_SECRET)]
OF_SERVICES = (
    *("token", "token_secret", "impersonate", "billing", "min_instances", "concurrency"),
    *("keep_alive_s", "lease_s", "request_timeout_s"),
)
OF_JOBS = ("bucket", "task_timeout_s")


class CloudRunOptions(BaseModel):
    """What ``type: cloudrun`` takes besides what every outpost takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    project: str = Field(
        pattern=r"^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$",
        examples=["my-project"],
        description="The project's id.",
    )
    regions: Regions = Field(
        alias="region",
        examples=["us-central1", "europe-west1"],
        description="Where the service is; of several regions the one to use first is first.",
    )
    service: str = Field(
        pattern=r"^[a-z]([a-z0-9-]{0,47}[a-z0-9])?$",
        examples=["outpost-worker"],
        description="The service's name.",
    )
    mode: Literal["service", "job"] = Field(
        default="service",
        description="Whether workers are instances of a service, or runs of a job, which nobody"
        " has to hold.",
    )
    bucket: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$",
        examples=["my-bucket"],
        description="For a job: the bucket that orders, logs and messages go through.",
    )
    task_timeout_s: TaskTimeout = Field(
        default=24 * 3600.0,
        alias="task_timeout",
        json_schema_extra={"default": "24h"},
        description="For a job: how long a worker may take, at most 168h; then it saves its work"
        " and ends.",
    )
    image: str | None = Field(
        default=None,
        pattern=r"^[^\s]+$",
        examples=["us-central1-docker.pkg.dev/my-project/outpost/worker:1"],
        description="The worker image, as outpost deploy takes it.",
    )
    cpu: Literal[1, 2, 4, 6, 8] = Field(default=2, description="Virtual CPUs of an instance.")
    memory: str = Field(
        default="4Gi",
        pattern=_MEMORY,
        examples=["4Gi", "512Mi"],
        description="Memory of an instance, such as 4Gi or 512Mi.",
    )
    billing: Literal["request", "instance"] = Field(
        default="request", description="Whether Cloud Run bills by request or by instance."
    )
    min_instances: int = Field(
        default=0, ge=0, le=1000, description="Instances that are kept, and paid for, all the time."
    )
    keep_alive_s: Duration = Field(
        default=0.0,
        alias="keep_alive",
        json_schema_extra={"default": "0s"},
        description="How long an instance is held warm after the last work there.",
    )
    lease_s: Lease = Field(
        default=120.0,
        alias="lease",
        json_schema_extra={"default": "2m"},
        description="How long a worker goes on that no controller follows; then it saves its work"
        " and ends.",
    )
    request_timeout_s: RequestTimeout = Field(
        default=float(REQUEST_MOST_S),
        alias="request_timeout",
        json_schema_extra={"default": "60m"},
        description="How long one request may take; longer work goes on in the next one.",
    )
    concurrency: int = Field(
        default=1, ge=1, le=100, description="How many workers share an instance."
    )
    service_account: str | None = Field(
        default=None,
        pattern=_ACCOUNT,
        examples=[_AN_ACCOUNT],
        description="Who workers are; else the project's default.",
    )
    secrets: Mapping[str, SecretVersion] = Field(
        default_factory=dict,
        description="Secrets of Secret Manager, as NAME:VERSION, by the variable or file"
        " that workers find them in.",
    )
    env: Mapping[str, str] = Field(
        default_factory=dict, description="Variables of workers there; no secrets."
    )
    token: SecretRef | None = Field(
        default=None, description="A reference to the token that the service asks us for."
    )
    token_secret: SecretVersion = Field(
        default="outpost-token:latest",
        examples=["outpost-token:latest"],
        description="The same token in Secret Manager, where the service finds it.",
    )
    impersonate: str | None = Field(
        default=None,
        pattern=_ACCOUNT,
        examples=[_AN_ACCOUNT],
        description="The service account to call the service as; else whoever we are here.",
    )

    @property
    def memory_gib(self) -> float:
        """The memory of an instance."""
        return float(memory_mib(self.memory) / 1024)

    @model_validator(mode="after")
    def _check(self) -> Self:
        least, most = MEMORY_GIB[self.cpu]
        if not least <= self.memory_gib <= most:
            raise ValueError(
                f"with cpu: {self.cpu} memory is between {least:g}Gi and {most:g}Gi,"
                f" not {self.memory}"
            )
        if len(set(self.regions)) < len(self.regions):
            raise ValueError("a region stands there twice")
        self._check_mode()
        self._check_names()
        return self

    def _check_mode(self) -> None:
        """Make sure that nothing is set which would have no effect."""
        idle = OF_SERVICES if self.mode == "job" else OF_JOBS
        if found := [name for name in idle if name in self.model_fields_set]:
            raise ValueError(f"{found[0].removesuffix('_s')} means nothing with mode: {self.mode}")
        if self.mode == "job" and self.bucket is None:
            raise ValueError("mode: job takes a bucket, which orders and logs go through")
        if self.mode == "job" and len(self.service + JOB_SUFFIX) > NAME_CHARS:
            most = NAME_CHARS - len(JOB_SUFFIX)
            raise ValueError(f"with mode: job the service's name has at most {most} characters")

    def _check_names(self) -> None:
        folders = [name.rpartition("/")[0] for name in self.secrets if "/" in name]
        if len(set(folders)) < len(folders):
            raise ValueError("secrets: each file needs a folder of its own")
        for name in self.secrets:
            if not (_FILE.fullmatch(name) or VARIABLE.fullmatch(name)):
                raise ValueError(
                    f"secrets: {name[:63]!r} is neither a variable nor the path of a file"
                    " in a folder, such as /secrets/key"
                )
        for name in self.env:
            if not VARIABLE.fullmatch(name):
                raise ValueError(f"env: {name[:63]!r} is no name of a variable")
        for name in (*self.env, *self.secrets):
            for prefix in (OWN_PREFIX, JOB_PREFIX):
                if name.startswith(prefix):
                    raise ValueError(f"{name}: variables that begin with {prefix} are set by us")
        if twice := sorted({*self.env} & {*self.secrets}):
            raise ValueError(f"{twice[0]} stands both in env and in secrets")


def memory_mib(text: str) -> Fraction:
    """Return the MiB that a quantity such as ``4Gi`` means; raises ``ValueError`` for others."""
    units = {"Ki": Fraction(1, 1024), "Mi": Fraction(1), "Gi": Fraction(1024)}
    unit = units.get(text[-2:])
    if unit is None:
        return Fraction(text) / (1 << 20)
    return Fraction(text[:-2]) * unit
