"""What the stand-in takes from Fly's documents, and a test may set otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Rates:
    """How many requests a second one action may make of one machine (or app), and at once.

    "1 request, per second, per action (i.e. Create Machine, Start Machine etc.) — with a short-term
    burst limit up to 3 req/s"; 5 and 10 for "Get Machine" ("Working with the Machines API",
    fly.io/docs, 2026-08-07).
    """

    per_s: float = 1.0
    burst: int = 3
    get_per_s: float = 5.0
    get_burst: int = 10


@dataclass(kw_only=True)
class Limits:
    """The platform's times, in seconds, and numbers; all may be changed while it runs.

    ``boot_s``: how long a new machine is ``created``, which is when its image is fetched and its
    disk made ("low double digit seconds": Machines overview). ``start_s``: from ``stopped`` to
    ``started``; ``resume_s`` from ``suspended``. ``settle_s``: how long after ``stopped`` a start
    is still refused (0.4 s was seen). ``remembered_s``: how long a destroyed machine is told of
    before it is 404, ``detach_s`` how long its volume stays bound to it. ``wait_most_s``: what
    ``wait`` takes at most. ``stop_s``: between the signal and SIGKILL where nobody says otherwise
    (``kill_timeout``, app configuration). ``exec_s``: after which ``exec`` is 408.
    ``patience_s``: how long the proxy tries to reach a machine whose port does not answer yet;
    ``idle_s``: after which it ends a connection on which nothing came (``idle_timeout``).
    ``autostop_s``: how long a machine has to be without a request until the proxy stops it, where
    its service says so. ``rates``: ``None`` for as many as one likes. ``max_machines``: of the
    organisation. ``clock``: whose seconds are metered.
    """

    boot_s: float = 0.05
    start_s: float = 0.02
    resume_s: float = 0.01
    settle_s: float = 0.0
    remembered_s: float = 3.0
    detach_s: float = 0.0
    wait_most_s: int = 60
    stop_s: float = 5.0
    exec_s: float = 30.0
    patience_s: float = 5.0
    idle_s: float = 60.0
    autostop_s: float = 300.0
    rates: Rates | None = None
    max_machines: int | None = None
    clock: Callable[[], float] = time.monotonic
