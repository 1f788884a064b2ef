"""The configuration: one YAML file, checked whole, with every fault named at its place."""

from __future__ import annotations

from outpost.config.kinds import KindRegistry
from outpost.config.loading import load, parse
from outpost.config.models import (
    AgentConfig,
    Config,
    DefaultsConfig,
    GitHubConfig,
    OutpostConfig,
    Override,
    PolicyConfig,
    SourcesConfig,
    StoreConfig,
)
from outpost.secrets import SecretRef

__all__ = [
    "AgentConfig",
    "Config",
    "DefaultsConfig",
    "GitHubConfig",
    "KindRegistry",
    "OutpostConfig",
    "Override",
    "PolicyConfig",
    "SecretRef",
    "SourcesConfig",
    "StoreConfig",
    "load",
    "parse",
]
