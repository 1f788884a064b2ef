"""The template of a worker's sandbox: Debian with git, gh and Python, and Node with Claude Code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from outpost.model.money import HOUR_S, MICROUSD

if TYPE_CHECKING:
    from e2b.template.main import TemplateClass

    from outpost.backends.e2b_options import E2bOptions
    from outpost.model import Quote

BASE = "node:22-trixie-slim"
PACKAGES = (
    *("ca-certificates", "curl", "gh", "git", "git-lfs", "openssh-client", "procps"),
    *("python3", "ripgrep"),
)
CLAUDE_CODE = "@anthropic-ai/claude-code"


def template(image: str | None) -> TemplateClass:
    """Return what the SDK builds: an image of the user's own as it is, or ours."""
    from e2b import AsyncTemplate  # noqa: PLC0415 - takes 0.4 s to load

    if image:
        return AsyncTemplate().from_image(image)
    return (
        AsyncTemplate()
        .from_image(BASE)
        .apt_install(list(PACKAGES), no_install_recommends=True)
        .npm_install(CLAUDE_CODE, g=True)
    )


def contents(image: str | None) -> Iterator[str]:
    """Yield a line for each part of the template."""
    if image:
        yield f"+   from the image {image}, as it is"
        return
    yield f"+   from the image {BASE}"
    yield f"+   Debian packages: {', '.join(PACKAGES)}"
    yield f"+   Node package: {CLAUDE_CODE}"


def costs(options: E2bOptions, found: Quote) -> Iterator[str]:
    """Yield a line for each thing that there is to know of the price and the plan."""
    each = found.microusd_per_hour or 0
    yield f"a sandbox costs ${each / MICROUSD:,.4f} an hour ({found.source})"
    if options.lifecycle == "pause":
        minutes = f"{options.pause_after_s / 60:g} min"
        yield f"a paused one costs nothing: after {minutes} of waiting for a person, and at its end"
    hours = options.session_s // HOUR_S
    yield f"plan {options.plan}: a sandbox runs for up to {hours} h without a pause"
