"""Which kinds of outposts there are, and which options each takes.

A kind is the name of an entry point in ``outpost.backends``; its object is the backend's class.
Backends are imported only when their options have to be checked.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, TypeAlias

from pydantic import BaseModel

ENTRY_POINTS = "outpost.backends"

# The kinds that Outpost brings itself stand here, so that using them looks up no entry points.
BUILT_IN: Mapping[str, str] = {
    "local": "outpost.backends.local:LocalOutpost",
    "ssh": "outpost.backends.ssh:SshOutpost",
    "cloudrun": "outpost.backends.cloudrun_modes:cloud_run",
    "docker": "outpost.backends.docker:DockerOutpost",
    "e2b": "outpost.backends.e2b:E2bOutpost",
    "fly": "outpost.backends.fly:FlyOutpost",
}
# Kinds all of whose options have defaults: without options there is nothing to import or check.
WITHOUT_REQUIRED_OPTIONS = frozenset({"docker", "local"})


class Backend(Protocol):
    """What the configuration needs of a backend's class."""

    Options: ClassVar[type[BaseModel]]


BackendClass: TypeAlias = type[Backend]


class KindRegistry:
    """The kinds that can be named in a configuration.

    ``backends`` maps a kind to its class or to ``module:Class``; with ``entry_points`` the kinds
    that other installed packages bring are known too.
    """

    def __init__(
        self,
        backends: Mapping[str, str | BackendClass] = BUILT_IN,
        *,
        entry_points: bool = True,
    ) -> None:
        self._backends: dict[str, str | BackendClass] = dict(backends)
        self._look_up = entry_points

    def installed(self, kind: str) -> bool:
        """Whether there is a backend for outposts of this kind."""
        if kind not in self._backends:
            self._add_entry_points()
        return kind in self._backends

    def names(self) -> tuple[str, ...]:
        """Return every kind that may be named, sorted."""
        self._add_entry_points()
        return tuple(sorted(self._backends))

    def backend(self, kind: str) -> BackendClass:
        """Import and return the class of an installed kind; raises ``ImportError``."""
        if kind not in self._backends:
            self._add_entry_points()
        target = self._backends[kind]
        if not isinstance(target, str):
            return target
        module, _, name = target.partition(":")
        try:
            backend: BackendClass = getattr(importlib.import_module(module), name)
        except AttributeError as exc:
            raise ImportError(f"module '{module}' has no class '{name}'") from exc
        return backend

    def parse_options(self, kind: str, options: Mapping[str, Any]) -> BaseModel:
        """Return the options of an installed kind as its own model.

        ``options`` are plain values as a configuration holds them (``OutpostConfig.options``).
        Raises ``pydantic.ValidationError`` and ``ImportError``.
        """
        model = self.backend(kind).Options
        return model.model_validate_json(json.dumps(options), strict=True)

    def _add_entry_points(self) -> None:
        if not self._look_up:
            return
        self._look_up = False
        from importlib.metadata import entry_points  # noqa: PLC0415 - only for a stranger's kind

        for entry in entry_points(group=ENTRY_POINTS):
            self._backends.setdefault(entry.name, entry.value)
