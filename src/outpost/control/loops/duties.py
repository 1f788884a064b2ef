"""Carrying out what follows the end of tasks: pull requests, comments, closed beads."""

from __future__ import annotations

import logging
from typing import ClassVar

from outpost.control.duties import Duties
from outpost.control.loops import Loop
from outpost.model import DutyState

EVERY_S = 1.0

logger = logging.getLogger("outpost.controller.duties")


class CarryOut(Loop):
    """Carries out duties that are due."""

    name: ClassVar[str] = "duties"

    def __init__(self, duties: Duties) -> None:
        super().__init__()
        self.every_s = EVERY_S
        self._duties = duties

    async def round(self) -> None:
        for duty in await self._duties.carry_out():
            where = {"task": duty.task_id, "worker": duty.attempt_id or ""}
            if duty.state is DutyState.DONE:
                logger.info("%s: %s", duty.kind, duty.detail or "done", extra=where)
            else:
                logger.warning("%s: %s", duty.kind, duty.detail, extra=where)
