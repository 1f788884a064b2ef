"""The conformance kit: what every backend has to do, ours and yours, as checks that run.

In a test module of a backend's own package, with pytest::

    from outpost.testing import conformance_test

    def make(federation_id, folder):
        return MyOutpost(Setup(name="mine", federation_id=federation_id, ...), MyOptions())

    test_conformance = conformance_test(make)

Without pytest: ``run_checks(Bench(BenchOptions(...)), CHECKS)`` returns a ``Result`` for each. Only
the core dependencies are needed, and git; pytest is imported by ``conformance_test``.

``outpost.testing.faulty`` is the other side: an outpost that fails as it is told, for whoever has
to live with outposts that do.
"""

from outpost.testing.adapter import conformance_test
from outpost.testing.bench import Bench, BenchOptions
from outpost.testing.catalogue import CHECKS
from outpost.testing.contract import Check, ContractBroken, NotApplicable
from outpost.testing.repository import sample_repository
from outpost.testing.running import Outcome, Result, run_check, run_checks

__all__ = [
    "CHECKS",
    "Bench",
    "BenchOptions",
    "Check",
    "ContractBroken",
    "NotApplicable",
    "Outcome",
    "Result",
    "conformance_test",
    "run_check",
    "run_checks",
    "sample_repository",
]
