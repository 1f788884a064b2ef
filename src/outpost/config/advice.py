"""What is allowed in a configuration but probably not what its writer meant."""

from __future__ import annotations

from outpost.config.models import Config


def warnings_about(config: Config) -> list[str]:
    """Return one sentence for each thing that is accepted but has no effect as it stands."""
    warnings = []
    for number, group in enumerate(config.budget.groups):
        if group.hourly is group.daily is group.monthly is None:
            warnings.append(
                f"budget.groups[{number}]: limits nothing; say hourly, daily or monthly"
            )
    return warnings
