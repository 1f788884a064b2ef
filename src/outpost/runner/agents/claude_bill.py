"""What Claude Code says its work cost, as deltas whose sums are its own totals."""

from __future__ import annotations

import math

from outpost.runner.agents.reading import number, object_, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Bill:
    """Counts tokens and money in deltas whose sums are the program's own totals.

    The program's totals go on across ``--resume``. Newer versions also say what is new; for older
    ones ``resumed_cost_microusd`` tells what the session had cost before this run.
    """

    def __init__(self, *, resumed: bool = False, resumed_cost_microusd: Any = None) -> None:
        self._resumed = resumed
        self._resumed_cost = resumed_cost_microusd
        self._messages: set[str] = set()
        self._counted: dict[str, list[int]] = {}
        self._before: dict[str, list[int]] | None = None
        self._before_usd = 0.0
        self._cost_microusd = 0

    def count(self, message: dict[str, Any]) -> dict[str, Any] | None:
        """Return a message's usage as an event, the first time the message is seen."""
        tokens = _tokens(object_(message.get("usage")))
        name = text(message.get("id"))
        if name in self._messages or not any(tokens):
            return None
        self._messages.add(name)
        return self._event(base_model(text(message.get("model"))), tokens, None)

    def settle(self, result: dict[str, Any], model: str) -> list[dict[str, Any]]:
        """Return the events that bring the sums to a result's totals; the last has the cost.

        The cost is null where the program does not know a model's price and only guesses.
        """
        model = base_model(model)
        totals, usd, guessed = self._totals(result, model)
        events = []
        for name in {**self._counted, **totals}:
            delta = _added(totals.get(name, [0] * 4), self._counted.get(name, [0] * 4), -1)
            if any(delta):
                events.append(self._event(name, delta, None))
        events = events or [self._event(model, [0] * 4, None)]
        if usd is not None and not guessed:
            # Rounded up to whole micro-dollars, but not for the last bit of a float.
            cost = max(math.ceil(round(usd * 1e6, 3)), 0)
            events[-1]["cost_microusd"] = cost - self._cost_microusd
            self._cost_microusd = cost
        return events

    def _totals(
        self, result: dict[str, Any], model: str
    ) -> tuple[dict[str, list[int]], float | None, bool]:
        """Return this run's tokens by model, its cost and whether that is a guess."""
        models = {name: object_(use) for name, use in object_(result.get("modelUsage")).items()}
        if not models:
            models = {model: object_(result.get("usage"))}
        usd = number(result.get("total_cost_usd"))
        if self._before is None:
            self._before = {}
            recent = result.get("model_usage_since_last_result")
            if self._resumed and isinstance(recent, dict):
                self._start_from(models, usd or 0.0, recent)
            elif self._resumed_cost is not None:
                self._before_usd = (number(self._resumed_cost) or 0.0) / 1e6
        totals: dict[str, list[int]] = {}
        for name, use in models.items():
            before = self._before.get(name, [0] * 4)
            new = _added(_tokens(use), before, -1)
            totals[base_model(name)] = _added(totals.get(base_model(name), [0] * 4), new)
        guessed = any(use.get("costBasis") == "unknown" for use in models.values())
        return totals, None if usd is None else usd - self._before_usd, guessed

    def _start_from(
        self, models: dict[str, dict[str, Any]], usd: float, recent: dict[str, Any]
    ) -> None:
        """Set what a resumed session had used before: its totals less what is recent."""
        self._before = {}
        for name, use in models.items():
            self._before[name] = _added(_tokens(use), _tokens(object_(recent.get(name))), -1)
        spent = [number(object_(use).get("costUSD")) or 0.0 for use in recent.values()]
        self._before_usd = usd - sum(spent)

    @property
    def session_cost_microusd(self) -> int | None:
        """What the session has cost so far, earlier runs included; ``None`` where it is unknown."""
        before = self._resumed_cost
        if self._before is not None:
            before = round(self._before_usd * 1e6)
        known = number(before) if before is not None or self._resumed else 0
        return None if known is None else int(known) + self._cost_microusd

    def _event(self, model: str, tokens: list[int], cost: int | None) -> dict[str, Any]:
        self._counted[model] = _added(self._counted.get(model, [0] * 4), tokens)
        return {
            "model": model,
            "input_tokens": tokens[0],
            "output_tokens": tokens[1],
            "cache_read_tokens": tokens[2],
            "cache_write_tokens": tokens[3],
            "cost_microusd": cost,
        }


def base_model(name: str) -> str:
    """Return a model's name without its variant: totals say ``claude-x[1m]``, messages do not."""
    return name.partition("[")[0]


def _tokens(usage: dict[str, Any]) -> list[int]:
    """Return input, output, cache read and cache write tokens, in either of the two spellings."""
    names = (
        ("input_tokens", "inputTokens"),
        ("output_tokens", "outputTokens"),
        ("cache_read_input_tokens", "cacheReadInputTokens"),
        ("cache_creation_input_tokens", "cacheCreationInputTokens"),
    )
    return [int(number(usage.get(snake, usage.get(camel))) or 0) for snake, camel in names]


def _added(tokens: list[int], others: list[int], sign: int = 1) -> list[int]:
    return [one + sign * other for one, other in zip(tokens, others, strict=True)]
