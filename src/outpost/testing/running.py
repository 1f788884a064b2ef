"""Carrying checks out, one after the other, and saying what came of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from outpost.errors import OutpostError
from outpost.testing.bench import Bench
from outpost.testing.contract import Check, ContractBroken, NotApplicable

STEPS_OF_A_CHECK = 10  # so many times the patience for one thing is the limit for a check


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What came of a check. ``reason``: what the contract demands and was not kept, or why it was
    skipped. ``detail``: what was seen instead, and what could not be taken away afterwards.
    """

    name: str
    contract: str
    outcome: Outcome
    seconds: float
    reason: str = ""
    detail: str = ""


async def run_checks(
    bench: Bench,
    checks: Sequence[Check],
    *,
    slow: bool = False,
    report: Callable[[Result], None] | None = None,
) -> list[Result]:
    """Carry out checks on one bench and clear it after each; ``report`` gets each result at once.

    No check hides another. Cancelled, it clears the bench before it ends.
    """
    results = []
    for check in checks:
        result = await run_check(bench, check, slow=slow)
        if report:
            report(result)
        results.append(result)
    return results


async def run_check(bench: Bench, check: Check, *, slow: bool = False) -> Result:
    """Carry out one check and destroy what it left."""
    began = time.monotonic()
    outcome, reason, detail = await _outcome(bench, check, slow=slow)
    left = await bench.clear()
    if left and outcome is not Outcome.FAILED:
        outcome, reason = Outcome.FAILED, "what a check has started must go when it is destroyed"
    detail = "; ".join(filter(None, [detail, *left]))
    return Result(
        name=check.name,
        contract=check.contract,
        outcome=outcome,
        seconds=time.monotonic() - began,
        reason=reason,
        detail=detail,
    )


async def _outcome(bench: Bench, check: Check, *, slow: bool) -> tuple[Outcome, str, str]:
    capabilities = bench.outpost.capabilities
    missing = [need for need in check.needs if not getattr(capabilities, need)]
    if missing:
        return Outcome.SKIPPED, f"it does not declare: {', '.join(missing)}", ""
    if check.slow and not slow:
        return Outcome.SKIPPED, "it is slow and was not asked for", ""
    limit_s = bench.options.patience_s * STEPS_OF_A_CHECK
    try:
        async with asyncio.timeout(limit_s):
            await check(bench)
    except NotApplicable as exc:
        return Outcome.SKIPPED, str(exc), ""
    except ContractBroken as exc:
        return Outcome.FAILED, exc.demanded, exc.seen
    except TimeoutError:
        return Outcome.FAILED, f"{check.contract} It took too long.", ""
    except OutpostError as exc:
        return Outcome.FAILED, check.contract, f"raised {type(exc).__name__}: {exc.message}"
    except BaseExceptionGroup as exc:
        return Outcome.FAILED, check.contract, f"raised {exc.exceptions!r}"
    except asyncio.CancelledError:
        await bench.clear()
        raise
    except Exception as exc:  # noqa: BLE001 - a stranger's backend may raise anything
        return Outcome.FAILED, check.contract, f"raised {type(exc).__name__}: {exc}"
    return Outcome.PASSED, "", ""
