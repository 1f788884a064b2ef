"""A decision as a table: who is chosen, who else could, and why the others cannot."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from rich.cells import cell_len
from rich.console import Console

from outpost.cli.candidates import candidates, span_exact
from outpost.cli.documents import decision_document
from outpost.model import Candidate, Decision, Estimate, Refusal, Refused

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
PAID = Estimate(compute_microusd=1_016_667, tokens_microusd=2_000_000, held_s=7320)
FULL = Refused(
    outpost="local",
    code=Refusal.FULL,
    detail="full 4/4",
    numbers={"active": 4, "max_workers": 4},
    microusd_per_hour=0,
    estimate=Estimate(),
)
CAPPED = Refused(
    outpost="cloudrun-burst",
    code=Refusal.OVER_CAP,
    detail="needs $0.12 of its hourly cap, $0.05 left until 14:00: 7 cents are missing",
    numbers={"needed": 0.12, "left": 0.05},
    until=datetime(2026, 11, 21, 14, 0, tzinfo=UTC),
    microusd_per_hour=60_000,
    estimate=Estimate(compute_microusd=120_000, held_s=7200),
)
UNPRICED = Refused(outpost="e2b", code=Refusal.UNPRICED, detail="its price is not known")
DECISION = Decision(
    task_id="t-1",
    decided_at=NOW,
    ranked=(
        Candidate(
            outpost="gce-worker-1",
            why="preference 2 of 3",
            microusd_per_hour=500_000,
            estimate=PAID,
        ),
        Candidate(outpost="spare", why="first in the configuration that can take it"),
    ),
    refused=(FULL, CAPPED, UNPRICED),
    notes=("override 1 does not apply: the task has no epic",),
)


def shown(decision: Decision, width: int = 80, *, colour: bool = False) -> list[str]:
    out = io.StringIO()
    system = "standard" if colour else None
    console = Console(
        file=out,
        width=width,
        color_system=system,  # type: ignore[arg-type]
        force_terminal=colour,
        markup=False,
        highlight=False,
    )
    for renderable in candidates(decision, console):
        console.print(renderable)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_the_whole_table_at_80_columns() -> None:
    assert shown(DECISION) == [
        "     OUTPOST           PRICE  AT MOST  VERDICT",
        "→ 1  gce-worker-1    $0.50/h    $3.02  preference 2 of 3",
        "  2  spare              free        -  first in the configuration that can take",
        "                                       it",
        "  -  local              free        -  full 4/4",
        "  -  cloudrun-burst  $0.06/h    $0.12  needs $0.12 of its hourly cap, $0.05 left",
        "                                       until 14:00: 7 cents are missing",
        "  -  e2b             unknown        -  its price is not known",
        "",
        "at most  $3.016667: compute $1.016667 ($0.50/h for 2h 2m), tokens $2.00",
        "note     override 1 does not apply: the task has no epic",
    ]


@pytest.mark.parametrize("width", [60, 80, 100, 160, 1000])
def test_no_reason_is_cut_and_no_line_is_wider(width: int) -> None:
    lines = shown(DECISION, width)
    assert max(cell_len(line) for line in lines) <= width
    assert "…" not in "".join(lines)
    words = " ".join(" ".join(lines).split())
    assert "7 cents are missing" in words


def test_the_chosen_row_stands_out_with_and_without_colour() -> None:
    assert [line for line in shown(DECISION, colour=True) if "\x1b[1;32m" in line] == [
        line for line in shown(DECISION, colour=True) if "gce-worker-1" in line
    ]
    assert sum("→" in line for line in shown(DECISION)) == 1


def test_where_nobody_can_take_it_no_row_is_marked() -> None:
    nobody = Decision(task_id="t-1", decided_at=NOW, refused=(FULL,))
    assert shown(nobody) == [
        "   OUTPOST  PRICE  AT MOST  VERDICT",
        "-  local     free        -  full 4/4",
    ]


def test_without_any_outpost_there_is_no_table() -> None:
    assert shown(Decision(task_id="t-1", decided_at=NOW)) == []


def test_the_document_has_every_number() -> None:
    document = decision_document(DECISION)
    assert document is not None
    assert document["candidates"] == ["gce-worker-1", "spare"]
    assert document["notes"] == list(DECISION.notes)
    offers, refused = document["offers"], document["refused"]
    assert isinstance(offers, list)
    assert isinstance(refused, list)
    assert offers[0] == {
        "rank": 1,
        "outpost": "gce-worker-1",
        "why": "preference 2 of 3",
        "price_hourly_usd": 0.5,
        "estimate": {
            "compute_usd": 1.016667,
            "tokens_usd": 2.0,
            "total_usd": 3.016667,
            "held_s": 7320,
        },
    }
    assert [item["code"] for item in refused] == ["full", "over_cap", "unpriced"]
    assert refused[1]["until"] == "2026-11-21T14:00:00Z"
    assert refused[2]["price_hourly_usd"] is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45s"), (120, "2m"), (7320, "2h 2m"), (7200.5, "2h"), (90_000, "1d 1h"), (0, "0s")],
)
def test_a_span_in_two_units(seconds: float, text: str) -> None:
    assert span_exact(seconds) == text
