"""What the stand-in takes from E2B's documents, and a test may set otherwise."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """A plan's numbers and the platform's times in seconds.

    ``concurrent``, ``session_max_s`` and ``creations_per_s``: Hobby has 20, one hour and 1/s, Pro
    100, 24 hours and 5/s ("Pricing" and "Rate limits", e2b.dev/docs); the rate is off here unless
    a test sets it, and ``creations_burst`` is how many may come at once. ``default_timeout_s``: a
    sandbox's time where the request has none. ``boot_s``: what the platform takes to start one,
    ``build_s`` to build a template. ``exit_kept_s``: how long the exit of a process is known
    (``terminatedRetentionTTL`` of envd). ``keys_kept_s``: how long an idempotency key is known.
    ``streams``: how many requests one HTTP/2 connection may have open. ``clock``: whose seconds
    are metered.
    """

    concurrent: int = 20
    session_max_s: float = 3600.0
    creations_per_s: float = math.inf
    creations_burst: int = 1
    default_timeout_s: int = 300
    boot_s: float = 0.0
    build_s: float = 0.0
    exit_kept_s: float = 30.0
    keys_kept_s: float = 24 * 3600.0
    streams: int = 100
    clock: Callable[[], float] = time.monotonic
