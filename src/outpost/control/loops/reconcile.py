"""Comparing what our outposts really run with the store, again and again."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from typing import ClassVar

from outpost.control.loops import Leased, Loop
from outpost.control.loops.beside import Beside
from outpost.control.reconciler import NO_RESULT, STILL_AT_WORK, Reconciler
from outpost.control.reconciling import LOOKS, Finding, Kind, Looks
from outpost.errors import OutpostError
from outpost.ports import Clock

EVERY_S = 30.0
LEAST_S = 1.0

logger = logging.getLogger("outpost.controller.reconcile")


class Reconcile(Loop):
    """Stops what nobody knows of or needs, reads on where somebody came back, says who is missing.

    What is found has to be found by two looks, and what nobody knows of is left alone for
    ``orphan_grace_s`` besides. Stops go on beside the rounds.
    """

    name: ClassVar[str] = "reconcile"

    def __init__(
        self, reconciler: Reconciler, clock: Clock, *, leased: Leased, orphan_grace_s: float
    ) -> None:
        super().__init__()
        self.every_s = min(EVERY_S, max(LEAST_S, orphan_grace_s / 2))
        self._reconciler = reconciler
        self._clock = clock
        self._leased = leased
        self._grace = timedelta(seconds=orphan_grace_s)
        self._looks = Looks()
        self._read: set[str] = set()
        self._beside = Beside()

    async def round(self) -> None:
        """Look once, and begin to settle what is due.

        Raises ``OutpostError`` once that has begun, where an outpost could not be asked or an
        earlier stop failed.
        """
        look = await self._reconciler.look(self._leased.names())
        now = self._clock.now()
        findings = self._looks.note(look.findings, look.asked, now)
        self._read &= {it.worker_id for it in findings}
        for finding in findings:
            _report(finding)
        unread = [it for it in findings if it.worker_id not in self._read]
        self.waiting = sum(it.kind is not Kind.MISSING for it in unread)
        self._beside.keep_at(
            {
                f"{it.outpost} {it.worker_id}": partial(self._settle, it)
                for it in unread
                if it.is_due(now, self._grace)
            }
        )
        self.doing = _said(unread)
        troubles = [f"{key}: {trouble}" for key, trouble in self._beside.troubles.items()]
        for name, answer in look.answers.items():
            if isinstance(answer, OutpostError):
                troubles.append(f"cannot ask {name}: {answer.message}")
        if troubles:
            raise OutpostError("; ".join(troubles))

    async def close(self) -> None:
        """Let go of what goes on; the next controller finds the same."""
        await self._beside.close()

    async def _settle(self, finding: Finding) -> None:
        try:
            outcome = await self._reconciler.settle(finding)
        except OutpostError as exc:
            logger.warning("%s: %s", finding.worker_id, exc.message, extra=_where(finding))
            raise
        if outcome not in (STILL_AT_WORK, NO_RESULT):
            logger.info("%s: %s", finding.worker_id, outcome, extra=_where(finding))
        if finding.kind is Kind.RETURNED and outcome == NO_RESULT:
            # Its log says nothing more from now on.
            self._read.add(finding.worker_id)


def _said(findings: Iterable[Finding]) -> str:
    counts = Counter(it.kind for it in findings if it.looks >= _certain_after(it))
    return ", ".join(f"{counts[kind]} {kind}" for kind in Kind if counts[kind])


def _report(finding: Finding) -> None:
    """Say once what is new; of the dead nothing is but what their logs say."""
    if finding.looks == _certain_after(finding) and (finding.alive or finding.kind is Kind.MISSING):
        logger.warning("%s: %s", finding.worker_id, finding.why, extra=_where(finding))


def _certain_after(finding: Finding) -> int:
    """Return after how many looks something is worth a word: some are only just on their way."""
    return LOOKS if finding.kind in (Kind.MISSING, Kind.ZOMBIE) else 1


def _where(finding: Finding) -> dict[str, str]:
    task = finding.attempt.task_id if finding.attempt else ""
    return {"worker": finding.worker_id, "task": task, "outpost": finding.outpost}
