"""The outposts of a configuration, made from their backends once the federation has an id."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from outpost.config import Config, OutpostConfig
from outpost.config.kinds import KindRegistry
from outpost.control.situation import Site
from outpost.errors import NotFound, nearest
from outpost.model import Quote
from outpost.model.compute_prices import priced
from outpost.ports import Outpost, Setup


class Sites:
    """All configured outposts."""

    def __init__(
        self, config: Config, federation_id: str, home: Path, environment: Mapping[str, str]
    ) -> None:
        self._config = config
        self._backends: dict[str, Outpost] = {}
        kinds = KindRegistry()
        for configured in config.outposts:
            setup = Setup(
                name=configured.name,
                federation_id=federation_id,
                data_folder=str(home),
                environment=environment,
                max_workers=configured.max_workers,
                price=_price(configured),
                allow_unpriced=configured.allow_unpriced,
            )
            options = kinds.parse_options(configured.type, configured.options)
            backend: Any = kinds.backend(configured.type)
            self._backends[configured.name] = backend(setup, options)

    def enabled(self) -> list[Site]:
        """Return the outposts that may take work."""
        return [
            Site(
                name=configured.name,
                kind=configured.type,
                max_workers=configured.max_workers,
                outpost=self._backends[configured.name],
                labels=configured.labels,
                allow_unpriced=configured.allow_unpriced,
                price=_price(configured),
            )
            for configured in self._config.outposts
            if configured.enabled
        ]

    async def close(self) -> None:
        """Let go of what the outposts keep open."""
        await asyncio.gather(*(backend.close() for backend in self._backends.values()))

    def backend(self, name: str) -> Outpost:
        """Return an outpost by name; raises ``NotFound`` if it is gone."""
        if name not in self._backends:
            raise NotFound(
                f"outpost '{name}' is not in the configuration{nearest(name, self._backends)}",
                hint="outpost list  shows the outposts",
            )
        return self._backends[name]


def _price(configured: OutpostConfig) -> Callable[[Quote], Quote]:
    return partial(
        priced,
        price_hourly=configured.price_hourly,
        price_vcpu_hourly=configured.price_vcpu_hourly,
        price_gib_hourly=configured.price_gib_hourly,
    )
