"""Workers without a process: their logs only ever grow, and what is counted of them is true."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from outpost.errors import NotDispatched, OutpostFault
from outpost.federation import Federation, SpawnOptions
from outpost.model import Handle, Liveness, State
from outpost.ports import Setup
from outpost.testing import CHECKS, Bench, BenchOptions, Outcome, run_check
from outpost.testing.faults import FaultFile
from outpost.wire.events import Event
from outpost.wire.orders import Environment, WorkOrder
from tests.doubles.virtual_outpost import VirtualOptions, VirtualOutpost, bring
from tests.doubles.virtual_records import Records
from tests.unit.orders import work_order
from tests.world import Remote, make_environment, until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

NO_VARIABLES: Environment = {"agent": {}, "git": {}}
# All but those that look at a real repository, at processes, or at what a whole shell prints.
KEPT = (
    "ping_says_how_it_is",
    "quote_is_pure",
    "find_of_nobody_is_none",
    "spawn_is_idempotent",
    "find_adopts",
    "handles_of_others_are_refused",
    "workers_are_of_one_federation",
    "events_resume_anywhere",
    "lines_come_while_work_runs",
    "declared_abilities_work",
    "undeclared_abilities_are_refused",
    "stop_may_be_repeated",
    "status_tells_the_living_from_the_dead",
    "what_cannot_be_seen_is_not_dead",
    "destroy_may_be_repeated",
    "cancelled_reading_leaves_nothing",
    "cancelled_ends_may_be_repeated",
)
