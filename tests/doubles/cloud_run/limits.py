"""What the stand-in takes from Google's documents, and a test may set otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The platform's times, in seconds, and numbers.

    ``queue_s``: how long a request waits where no instance has room and none may be started, and
    is answered 429 then ("requests are queued up to 3.5 times the average startup time, or 10
    seconds, whichever is greater": "About instance autoscaling", cloud.google.com/run/docs).
    ``idle_s``: after which an instance without a request is ended ("may be kept idle for up to 15
    minutes": same page). ``grace_s``: between SIGTERM and SIGKILL ("Container runtime contract",
    instance shutdown). ``startup_s``: within which an instance has to listen (240 by default:
    "Container health checks"). ``cold_start_s``: what the platform itself takes to start one.
    ``operation_s``: how long an operation of the control plane takes. ``streams``: how many
    requests one HTTP/2 connection of a client may have open. ``clock``: whose seconds are billed.
    """

    queue_s: float = 10.0
    idle_s: float = 15 * 60.0
    grace_s: float = 10.0
    startup_s: float = 240.0
    cold_start_s: float = 0.0
    operation_s: float = 0.0
    streams: int = 100
    clock: Callable[[], float] = time.monotonic
