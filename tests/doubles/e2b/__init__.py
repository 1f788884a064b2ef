"""A stand-in for E2B that behaves like it, with real processes in its sandboxes.

``cloud.E2bCloud`` is all of it; ``limits.Limits`` are the plan's and the platform's numbers,
``faults.Faults`` what goes wrong next. What it does is what the infrastructure's published source
does (github.com/e2b-dev/infra, 2026-08-21), and it is held to the published contract.
"""

from tests.doubles.e2b.cloud import E2bCloud
from tests.doubles.e2b.faults import Faults
from tests.doubles.e2b.limits import Limits

__all__ = ["E2bCloud", "Faults", "Limits"]
