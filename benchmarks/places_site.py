"""The stand-in for a provider as a process of its own, and the outpost of a home that leads to it.

``python -m benchmarks.places_site KIND FOLDER LIMITS`` prints a line of JSON that says where things
are, then for each line on its standard input how many requests it has refused for their rate. It
ends with its input, and exits 1 where the provider's contract was violated.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.doubles.e2b.cloud import E2bCloud
from tests.doubles.e2b.limits import Limits as E2bLimits
from tests.doubles.fly.cloud import FlyCloud
from tests.doubles.fly.limits import Limits as FlyLimits
from tests.doubles.fly.limits import Rates
from tests.doubles.in_thread import InThread
from tests.e2b_world import TEMPLATE
from tests.fly_world import UNLIMITED

from benchmarks.figures import NotMeasured
from outpost.backends.e2b_options import CONCURRENCY, CREATIONS_PER_S

ROOT = Path(__file__).parents[1]
KINDS = ("fly", "e2b")
TOO_MANY = 429
END_S, CLOSE_S = 300.0, 240.0
"""A hundred machines, each a few processes, take their time to end on a small machine."""
OUTPOST = "cloud"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """How many starts a second a provider allows, and how many at once after a rest.

    ``plan`` is E2B's, ``most`` how many workers may be there at once.
    """

    per_s: float = UNLIMITED
    burst: int = 3
    plan: str = "pro"
    most: int = 10_000

    @property
    def limits(self) -> bool:
        return self.per_s < UNLIMITED


class Site:
    """``with Site("fly", folder) as site``: ``entry`` is the outpost's configuration."""

    def __init__(self, kind: str, folder: Path, pace: Pace | None = None) -> None:
        self.kind = kind
        self.pace = pace or Pace()
        limits: dict[str, Any] = {"concurrent": self.pace.most}
        if self.pace.limits:
            limits |= {"per_s": self.pace.per_s, "burst": self.pace.burst}
        argv = [sys.executable, "-m", "benchmarks.places_site", kind, str(folder)]
        self._process = subprocess.Popen(
            [*argv, json.dumps(limits)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        said = self._said()
        self.variables: Mapping[str, str] = said["variables"]
        self.options: Mapping[str, Any] = said["options"]

    @property
    def entry(self) -> str:
        """The outpost in a configuration."""
        own: dict[str, object] = {"plan": self.pace.plan}
        if self.kind == "fly":
            own = {"requests_per_s": self.pace.per_s}
        whole = {"name": OUTPOST, "type": self.kind, "max_workers": 1000, **self.options, **own}
        return json.dumps({"outposts": [whole]})

    def refused(self) -> int:
        """Return how many requests came too quickly."""
        assert self._process.stdin
        self._process.stdin.write("?\n")
        self._process.stdin.flush()
        return int(self._said()["refused"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._process.communicate(timeout=END_S)
        finally:
            self._process.kill()
            code = self._process.wait()
        if code and error is None:
            raise NotMeasured(f"the stand-in for {self.kind} ended with {code}")

    def _said(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise NotMeasured(f"the stand-in for {self.kind} has ended")
        said: dict[str, Any] = json.loads(line)
        return said


def pace_of(kind: str, many: int, plan: str | None) -> Pace:
    """Return what a provider allows, by its documents; raises ``NotMeasured``.

    Without a ``plan`` it is the smallest that has so many workers at once.
    """
    if kind == "fly":
        rates = Rates()
        return Pace(per_s=rates.per_s, burst=rates.burst)
    for name in (plan,) if plan else CONCURRENCY:
        if CONCURRENCY[name] >= many:
            return Pace(per_s=CREATIONS_PER_S[name], burst=1, plan=name, most=CONCURRENCY[name])
    raise NotMeasured(f"E2B has no {many} at once: fewer with --many, or --plan pro")


def _fly(folder: Path, limits: Mapping[str, Any]) -> None:
    rates = Rates(per_s=limits["per_s"], burst=limits["burst"]) if "per_s" in limits else None
    with FlyCloud(folder, limits=FlyLimits(rates=rates)) as fly:
        options = {"app": fly.app, "region": "iad", "api_url": fly.api_url, "url": fly.url}
        _tell(options=options, variables={"FLY_API_TOKEN": fly.token})
        _answer(fly)


def _e2b(folder: Path, limits: Mapping[str, Any]) -> None:
    found = E2bLimits(
        concurrent=limits["concurrent"],
        creations_per_s=limits.get("per_s", math.inf),
        creations_burst=limits.get("burst", 1),
    )
    with E2bCloud(folder, limits=found) as e2b:
        e2b.add_template(TEMPLATE)
        options = {"template": TEMPLATE, "min_free_mib": 0}
        options |= {"api_url": e2b.api_url, "sandbox_url": e2b.sandbox_url}
        _tell(options=options, variables={"E2B_API_KEY": e2b.api_key})
        _answer(e2b)


def _answer(cloud: FlyCloud | E2bCloud) -> None:
    while sys.stdin.readline():
        _tell(refused=sum(status == TOO_MANY for _, _, status in cloud.requests()))


def _tell(**said: Any) -> None:
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    InThread.close_s = FlyCloud.answer_s = CLOSE_S
    {"fly": _fly, "e2b": _e2b}[sys.argv[1]](Path(sys.argv[2]), json.loads(sys.argv[3]))
