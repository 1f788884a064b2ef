"""``outpost doctor``: what keeps work from being done, and what to type about it."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from outpost.cli.documents import print_json
from outpost.cli.failures import FAILED, colourful
from outpost.cli.lines import fitted
from outpost.cli.options import ConfigOption, JsonOption, complete_outpost, run
from outpost.errors import UserError
from outpost.wire.render import harmless

if TYPE_CHECKING:
    from outpost.control.checks import Check
    from outpost.control.doctor import Diagnosis
    from outpost.federation import Federation

app = typer.Typer()

_COLOURS = {"ok": "32", "fixed": "36", "warning": "33", "problem": "31"}
_WIDTH = max(map(len, _COLOURS))


@app.command()
def doctor(
    fix: Annotated[
        bool,
        typer.Option(
            "--fix", help="Mend what can be mended safely: save lost work, remove litter."
        ),
    ] = False,
    conformance: Annotated[
        str | None,
        typer.Option(
            metavar="OUTPOST",
            help="Try out with real workers whether this outpost keeps its contract.",
            autocompletion=complete_outpost,
        ),
    ] = None,
    repo: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="With --conformance: a repository that workers there may push to.",
        ),
    ] = None,
    slow: Annotated[
        bool, typer.Option("--slow", help="With --conformance: the long checks too.")
    ] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Look for what keeps work from being done. Exits with 1 if there is a problem."""
    if conformance is not None:
        if fix:
            raise UserError("--fix mends nothing of what --conformance checks")
        _conformance(config, conformance, repo=repo, slow=slow, as_json=as_json)
        return
    if repo or slow:
        raise UserError(
            "--repo and --slow belong to --conformance", hint="outpost doctor --conformance OUTPOST"
        )

    async def work(federation: Federation) -> Diagnosis:
        return await federation.diagnose(fix=fix)

    # A store is never made here: where there is none, nothing can be wrong with it.
    diagnosis = run(config, work, read_only=True)
    if as_json:
        print_json(_document(diagnosis))
    else:
        sys.stdout.write(_text(diagnosis))
    if not diagnosis.ok:
        raise typer.Exit(FAILED)


def _conformance(
    config: str | None, outpost: str, *, repo: str | None, slow: bool, as_json: bool
) -> None:
    from outpost.cli import conformance as kit  # noqa: PLC0415 - here only

    asked = kit.Asked(outpost=outpost, repo_url=repo, slow=slow)
    results = kit.carry_out(config, asked, quiet=as_json)
    ok = all(result.outcome.value != "failed" for result in results)
    if as_json:
        print_json(kit.document(outpost, results, ok=ok))
    else:
        sys.stdout.write(f"\n{kit.summary(results)}\n")
    if not ok:
        raise typer.Exit(FAILED)


def _text(diagnosis: Diagnosis) -> str:
    colour = colourful(1)
    lines = []
    for part, checks in diagnosis.parts.items():
        lines.append(f"\x1b[1m{part}\x1b[0m" if colour else part)
        lines += [line for check in checks for line in _lines(check, colour=colour)]
    return "\n".join([*lines, "", _summary(diagnosis), ""])


def _lines(check: Check, *, colour: bool) -> list[str]:
    """Return a check's lines: its word, what it is, and below what to type."""
    word = check.level.value.ljust(_WIDTH)
    mark = f"\x1b[{_COLOURS[check.level]}m{word}\x1b[0m" if colour else word
    indent = _WIDTH + 4
    hints = [f"{' ' * indent}→ {line}" for line in harmless(check.hint).splitlines()]
    return [f"  {mark}  {fitted(harmless(check.detail), 1, indent)}", *hints]


def _summary(diagnosis: Diagnosis) -> str:
    counts = Counter(check.level.value for check in diagnosis.checks)
    named = []
    for level, several in (("problem", "problems"), ("warning", "warnings"), ("fixed", "fixed")):
        if count := counts[level]:
            named.append(f"{count} {level if count == 1 else several}")
    return f"{', '.join(named)}." if named else "All is well."


def _document(diagnosis: Diagnosis) -> dict[str, object]:
    return {
        "ok": diagnosis.ok,
        "checks": [
            {
                "part": part.lower(),
                "about": check.about,
                "level": check.level.value,
                "detail": check.detail,
                "hint": check.hint,
            }
            for part, checks in diagnosis.parts.items()
            for check in checks
        ],
    }
