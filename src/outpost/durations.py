"""Durations as people write them: ``45s``, ``30m``, ``2h``, ``1h30m``, ``1d``."""

from __future__ import annotations

import re

PATTERN = r"^(?=[0-9])([0-9]{1,5}d)?([0-9]{1,5}h)?([0-9]{1,5}m)?([0-9]{1,7}s)?$"
"""The same rule as a regular expression, for editors and schemas."""

_SECONDS_OF_UNIT = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_WHOLE = re.compile(PATTERN)


def parse_duration(text: str) -> float:
    """Return the seconds that ``text`` means; raises ``ValueError`` that says how to write one."""
    match = _WHOLE.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{text[:40]!r} is no duration: write days, hours, minutes and seconds"
            " in that order, such as 45s, 30m, 2h, 1h30m or 1d"
        )
    parts = [part for part in match.groups() if part]
    return float(sum(int(part[:-1]) * _SECONDS_OF_UNIT[part[-1]] for part in parts))


def duration_field(value: object) -> float:
    """Return the seconds of a duration as it stands in a configuration; raises ``ValueError``."""
    if not isinstance(value, str):
        raise ValueError("write a duration with its unit, such as 45s, 30m, 2h, 1h30m or 1d")  # noqa: TRY004 - pydantic collects ValueError
    return parse_duration(value)
