"""Containers that each run one worker, as a provider tells of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where ``runner serve`` answers: ``url`` has no path; ``headers`` are what leads there.

    The worker's own token is not among them.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Container:
    """One container of ours. ``address`` is ``None`` unless it runs and can be reached.

    A stopped one keeps its files and can be started again. ``detail`` says how it ended.
    """

    worker_id: str
    state: Literal["running", "stopped"]
    address: Address | None = None
    detail: str = ""
