"""What a configuration holds, checked and frozen. Names are those of the YAML file."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from outpost.config.choices import (
    Condition,
    EntryPoint,
    LabelPairs,
    Labels,
    OnCapName,
    PlacementName,
    Preferences,
    Selectors,
    TimeZone,
)
from outpost.config.fields import (
    AgentName,
    ApiUrl,
    BranchTemplate,
    Dollars,
    OutpostName,
    PermissionPattern,
    PriorityName,
    StoreUrl,
    TimeLimit,
    VariableName,
)
from outpost.durations import parse_duration
from outpost.model import Priority
from outpost.model.option_fields import Duration
from outpost.runner.permissions import DEFAULT_RULES
from outpost.secrets import SecretRef

_T = TypeVar("_T")
DEFAULT_BRANCH = "outpost/{issue}-{attempt}"
DEFAULT_TIME_LIMIT = "2h"
DEFAULT_STOP_GRACE = "10s"
DEFAULT_SILENCE_LIMIT = "30m"
DEFAULT_ANSWER_LIMIT = "8h"
DEFAULT_BUSY_PAUSE = "30s"
DEFAULT_BURST_AFTER = "0s"
DEFAULT_INITIAL_BACKOFF = "10s"
DEFAULT_MAX_BACKOFF = "10m"
DEFAULT_RESET_TIMEOUT = "1m"
DEFAULT_TOKEN_BUDGET = 2
DEFAULT_CHECKPOINT = "5m"
DEFAULT_LOST_AFTER = "12h"
DEFAULT_SILENT_AFTER = "1m"
DEFAULT_CLAIM_GRACE = "2m"
DEFAULT_ORPHAN_GRACE = "10m"
DEFAULT_KEEP_ENDED = "30d"


def _field(default: _T, description: str, **more: Any) -> _T:
    """Declare an optional field with the sentence that editors show for it."""
    result: _T = Field(default=default, description=description, **more)
    return result


class _Section(BaseModel):
    # Parts are built as parts of Config, not once more for themselves: that halves the import.
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, defer_build=True, hide_input_in_errors=True
    )


class OutpostConfig(_Section):
    """A place that can run workers. Beside these fields it takes the options of its kind."""

    name: OutpostName = Field(description="What it is called; unique.")
    type: str = Field(description="Its kind, such as local or ssh.")
    max_workers: int | None = _field(
        None, "How many workers it runs at once; no limit if absent.", ge=1
    )
    enabled: bool = _field(True, "Whether new workers may be placed there.")
    labels: Labels = Field(
        default_factory=dict, description="Words of your own to choose outposts by, as region: eu."
    )
    price_hourly: Dollars | None = _field(None, "US dollars an hour of one worker.")
    price_vcpu_hourly: Dollars | None = _field(None, "US dollars an hour of one virtual CPU.")
    price_gib_hourly: Dollars | None = _field(None, "US dollars an hour of one GiB of memory.")
    allow_unpriced: bool = _field(False, "Whether to use it although its price is not known.")
    cost_cap_hourly: Dollars | None = _field(None, "US dollars it may cost in any 60 minutes.")
    cost_cap_daily: Dollars | None = _field(None, "US dollars it may cost in a day.")
    cost_cap_monthly: Dollars | None = _field(None, "US dollars it may cost in a month.")
    on_cap: OnCapName | None = _field(
        None, "At a cap: hold (nothing new starts) or stop (what runs is stopped, work kept)."
    )
    # From the loader; in a file the kind's options stand among the fields above.
    options: Mapping[str, Any] = Field(default_factory=dict)


class Override(_Section):
    """What else holds for the tasks that a condition holds for."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": [name]} for name in ("prefer", "require", "avoid", "deny")]
        }
    )
    condition: Condition = Field(description="Which tasks, such as priority >= P3.")
    prefer: Preferences = _field((), "The outposts to try first, best first; the rest follow.")
    require: Selectors = _field((), "The only outposts that will do.")
    avoid: Selectors = _field((), "The outposts to try last.")
    deny: Selectors = _field((), "The outposts that will not do.")


class RetryConfig(_Section):
    """How often a task is tried anew when an outpost fails to start it."""

    max_attempts: int = _field(3, "How many goes through the outposts it has in all.", ge=1)
    initial_backoff_s: Duration = Field(
        default=parse_duration(DEFAULT_INITIAL_BACKOFF),
        alias="initial_backoff",
        json_schema_extra={"default": DEFAULT_INITIAL_BACKOFF},
        description="How long to wait before the second; doubles each time.",
    )
    max_backoff_s: Duration = Field(
        default=parse_duration(DEFAULT_MAX_BACKOFF),
        alias="max_backoff",
        json_schema_extra={"default": DEFAULT_MAX_BACKOFF},
        description="The longest to wait.",
    )


class BreakerConfig(_Section):
    """When an outpost that fails is left alone for a while."""

    failure_threshold: int = _field(3, "After how many failures in a row.", ge=1)
    reset_timeout_s: TimeLimit = Field(
        default=parse_duration(DEFAULT_RESET_TIMEOUT),
        alias="reset_timeout",
        json_schema_extra={"default": DEFAULT_RESET_TIMEOUT},
        description="For how long at first; doubles each time it fails again.",
    )
    max_tripped: float = _field(
        0.5, "Which part of the outposts may be left alone at once; one always may.", ge=0, le=1
    )


class PolicyConfig(_Section):
    """Where tasks run."""

    kind: Literal["rules", "python"] = _field(
        "rules", "What ranks the outposts: the rules here, or after them a function of your own."
    )
    entry: EntryPoint | None = _field(None, "That function, as package.module:function.")
    default_preference: Preferences = _field(
        (), "The outposts to try, best first; if empty, all in the order of the file."
    )
    overrides: tuple[Override, ...] = _field((), "What else holds for some tasks.")
    placement: PlacementName = _field(
        "in_order", "Which of equally preferred outposts is first: in_order, spread or pack."
    )
    burst_after_s: Duration = Field(
        default=parse_duration(DEFAULT_BURST_AFTER),
        alias="burst_after",
        json_schema_extra={"default": DEFAULT_BURST_AFTER},
        description="How long to wait for a free outpost before one that costs money is used.",
    )
    retry: RetryConfig = Field(
        default_factory=RetryConfig, description="How often outposts may fail a task."
    )
    circuit_breaker: BreakerConfig = Field(
        default_factory=BreakerConfig, description="When an outpost is left alone."
    )


class CapsConfig(_Section):
    """US dollars that may be spent."""

    hourly: Dollars | None = _field(None, "In any 60 minutes.")
    daily: Dollars | None = _field(None, "In a day.")
    monthly: Dollars | None = _field(None, "In a month.")
    on_cap: OnCapName | None = _field(None, "At a cap: hold or stop.")


class GroupConfig(CapsConfig):
    """What the outposts with some labels may cost together."""

    labels: LabelPairs = Field(description="The labels that an outpost of the group has.")


class BudgetConfig(CapsConfig):
    """What everything may cost together, compute and tokens."""

    time_zone: TimeZone = _field("UTC", "Whose days and months count, such as Europe/Berlin.")
    groups: tuple[GroupConfig, ...] = _field((), "What groups of outposts may cost.")


class PermissionsConfig(_Section):
    """What an agent may do: deny goes before ask, ask before allow, and ``default`` is the rest."""

    default: Literal["allow", "ask", "deny"] = _field(
        "ask", "What happens with an action that no pattern decides."
    )
    allow: tuple[PermissionPattern, ...] = _field(
        tuple(DEFAULT_RULES["allow"]), "Actions to allow, such as Bash(git *) or Edit(./docs/*)."
    )
    ask: tuple[PermissionPattern, ...] = _field(
        tuple(DEFAULT_RULES["ask"]), "Actions to ask a human about."
    )
    deny: tuple[PermissionPattern, ...] = _field((), "Actions to refuse.")


class AgentConfig(_Section):
    """How a coding program is run."""

    model: str | None = _field(None, "The model it is told to use.")
    executable: str | None = _field(None, "The program to run, if not the usual one.")
    args: tuple[str, ...] = _field((), "Further arguments for it.")
    permissions: PermissionsConfig = Field(
        default_factory=PermissionsConfig, description="What it may do, and what it asks for."
    )
    max_steps: int | None = _field(
        None, "Steps after which it ends itself; for 'claude' and 'builtin'.", ge=1
    )
    max_budget_usd: Dollars | None = _field(
        None, "US dollars after which it ends itself; for 'claude' and 'builtin'."
    )
    env: tuple[VariableName, ...] = _field(
        (), "Names of further environment variables that it may see."
    )
    argv: tuple[str, ...] = _field((), "The whole command line; for the agent 'command' only.")
    acp: tuple[str, ...] = _field(
        (), "The command line of a program that speaks the Agent Client Protocol.", min_length=1
    )


class DefaultsConfig(_Section):
    """What holds for a task that does not say otherwise."""

    agent: AgentName = _field("claude", "The agent to use.")
    branch: BranchTemplate = _field(DEFAULT_BRANCH, "How workers' branches are named.")
    # Defaults are given as values here, and as one writes them to whoever reads the schema.
    time_limit_s: TimeLimit = Field(
        default=parse_duration(DEFAULT_TIME_LIMIT),
        alias="time_limit",
        json_schema_extra={"default": DEFAULT_TIME_LIMIT},
        description="How long an agent may work.",
    )
    stop_grace_s: Duration = Field(
        default=parse_duration(DEFAULT_STOP_GRACE),
        alias="stop_grace",
        json_schema_extra={"default": DEFAULT_STOP_GRACE},
        description="How long a worker may take to stop before it is killed.",
    )
    silence_limit_s: TimeLimit | None = Field(
        default=parse_duration(DEFAULT_SILENCE_LIMIT),
        alias="silence_limit",
        json_schema_extra={"default": DEFAULT_SILENCE_LIMIT},
        description="How long an agent may say nothing before it is taken for stuck.",
    )
    answer_limit_s: TimeLimit | None = Field(
        default=parse_duration(DEFAULT_ANSWER_LIMIT),
        alias="answer_limit",
        json_schema_extra={"default": DEFAULT_ANSWER_LIMIT},
        description="How long a question waits for a human before the answer is no.",
    )
    busy_pause_s: TimeLimit = Field(
        default=parse_duration(DEFAULT_BUSY_PAUSE),
        alias="busy_pause",
        json_schema_extra={"default": DEFAULT_BUSY_PAUSE},
        description="How long to wait first where a model's API is too busy; doubles each time.",
    )
    checkpoint_s: TimeLimit | None = Field(
        default=parse_duration(DEFAULT_CHECKPOINT),
        alias="checkpoint",
        json_schema_extra={"default": DEFAULT_CHECKPOINT},
        description="How often work in progress is pushed to a ref of its own; null: never.",
    )
    pr: Literal["draft", "ready"] | None = _field(
        None, "Whether to open a pull request for work that is done: draft or ready."
    )
    max_cost: Dollars | None = _field(
        None, "US dollars that all attempts of a task may cost together."
    )
    token_budget: Dollars = Field(
        default=Decimal(DEFAULT_TOKEN_BUDGET),
        json_schema_extra={"default": DEFAULT_TOKEN_BUDGET},
        description="US dollars that a worker's tokens may cost where a cap counts them and"
        " nothing else says how much.",
    )
    priority: PriorityName = Field(
        default=Priority.P2,
        json_schema_extra={"default": Priority.P2.name},
        description="How urgent a task is: P0 is the most urgent.",
    )


class ControllerConfig(_Section):
    """How patient the controller is."""

    silent_after_s: TimeLimit = Field(
        default=parse_duration(DEFAULT_SILENT_AFTER),
        alias="silent_after",
        json_schema_extra={"default": DEFAULT_SILENT_AFTER},
        description="How long a worker's log may say nothing before contact counts as lost.",
    )
    lost_after_s: TimeLimit | None = Field(
        default=parse_duration(DEFAULT_LOST_AFTER),
        alias="lost_after",
        json_schema_extra={"default": DEFAULT_LOST_AFTER},
        description="How long a worker may be out of contact before it is given up, where its"
        " place is free; one that is paid for is given up at its own time limit. null: never.",
    )
    claim_grace_s: TimeLimit = Field(
        default=parse_duration(DEFAULT_CLAIM_GRACE),
        alias="claim_grace",
        json_schema_extra={"default": DEFAULT_CLAIM_GRACE},
        description="How long a process may be at starting a worker before it counts as dead.",
    )
    orphan_grace_s: TimeLimit = Field(
        default=parse_duration(DEFAULT_ORPHAN_GRACE),
        alias="orphan_grace",
        json_schema_extra={"default": DEFAULT_ORPHAN_GRACE},
        description="How long a worker that nobody knows of is left alone before it is stopped.",
    )
    keep_ended_s: TimeLimit | None = Field(
        default=parse_duration(DEFAULT_KEEP_ENDED),
        alias="keep_ended",
        json_schema_extra={"default": DEFAULT_KEEP_ENDED},
        description="How long what ended is kept before it is pruned; null: for ever.",
    )


class GitHubConfig(_Section):
    """Where and how issues are read from GitHub."""

    token: SecretRef | None = _field(None, "A reference to the token to use.")
    api_url: ApiUrl = _field("https://api.github.com", "The REST API, for GitHub Enterprise.")
    comment: bool = _field(False, "Whether to tell the issue the branch, the outcome and the cost.")


class BeadsConfig(_Section):
    """How beads are read and told what became of them."""

    executable: str = _field("bd", "The program to call.")
    actor: str | None = _field(None, "Who claims a bead; by default outpost/ and the task's id.")
    close: bool = _field(False, "Whether to close a bead once its work is done.")


class PriceConfig(_Section):
    """US dollars for a million tokens of a model."""

    input: float = Field(ge=0, description="Tokens neither read from nor written to a cache.")
    output: float = Field(ge=0, description="Tokens the model wrote.")
    cache_write: float = _field(0.0, "Tokens written to the cache.", ge=0)
    cache_read: float = _field(0.0, "Tokens read from the cache.", ge=0)


class SourcesConfig(_Section):
    """Where issues come from."""

    github: GitHubConfig = Field(default_factory=GitHubConfig)
    beads: BeadsConfig = Field(default_factory=BeadsConfig)


class StoreConfig(_Section):
    """Where tasks and attempts are kept."""

    url: StoreUrl | None = _field(None, "A SQLite or PostgreSQL URL, or a reference to one.")


def default_outposts() -> tuple[OutpostConfig, ...]:
    """Return what is there without any configuration: this machine, with a few workers.

    An agent mostly waits for its model: four run well on any machine that builds the project.
    """
    workers = max(4, os.cpu_count() or 1)
    return (OutpostConfig(name="local", type="local", max_workers=workers),)


class Config(_Section):
    """A whole configuration."""

    model_config = ConfigDict(defer_build=False)

    outposts: tuple[OutpostConfig, ...] = Field(
        default_factory=default_outposts,
        json_schema_extra={"minItems": 1},
        description="The places that can run workers; if absent, this machine.",
    )
    policy: PolicyConfig = Field(default_factory=PolicyConfig)
    budget: BudgetConfig = Field(default_factory=BudgetConfig)
    agents: Mapping[AgentName, AgentConfig] = Field(
        default_factory=dict,
        description="How coding programs are run, by name; those of your own have acp.",
    )
    defaults: DefaultsConfig = Field(default_factory=DefaultsConfig)
    prices: Mapping[str, PriceConfig] = Field(
        default_factory=dict, description="What models cost, by name; goes before our own table."
    )
    controller: ControllerConfig = Field(default_factory=ControllerConfig)
    sources: SourcesConfig = Field(default_factory=SourcesConfig)
    store: StoreConfig = Field(default_factory=StoreConfig)
    _path: pathlib.Path | None = PrivateAttr(default=None)

    @property
    def path(self) -> pathlib.Path | None:
        """The file it was read from, absolute; ``None`` if there was none."""
        return self._path
