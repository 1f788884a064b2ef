"""``outpost config``: look at the configuration without starting anything."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from outpost.cli.failures import say
from outpost.config import Config, KindRegistry, load
from outpost.config.advice import warnings_about

app = typer.Typer(help="Check the configuration; print its schema.", no_args_is_help=True)

ConfigOption = Annotated[
    str | None, typer.Option("--config", metavar="PATH", help="The configuration file to use.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("check")
def check(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """Check the configuration and show what it configures. Exits with 2 if it cannot be used."""
    loaded = load(config, environment=os.environ, directory=Path.cwd())
    warnings = warnings_about(loaded)
    if as_json:
        typer.echo(json.dumps({**_summary(loaded), "warnings": warnings}, indent=2))
        return
    typer.echo(f"configuration: {loaded.path or 'none found, using the defaults'}")
    for line in _table(loaded):
        typer.echo(line)
    for warning in warnings:
        say("warning", warning, "33")


@app.command("schema")
def schema() -> None:
    """Print the JSON schema of the configuration, for editors."""
    from outpost.config.schema import json_schema  # noqa: PLC0415 - imports every backend

    typer.echo(json.dumps(json_schema(KindRegistry()), indent=2))


def _summary(config: Config) -> dict[str, object]:
    return {
        "path": str(config.path) if config.path else None,
        "outposts": [
            {
                "name": outpost.name,
                "type": outpost.type,
                "max_workers": outpost.max_workers,
                "enabled": outpost.enabled,
            }
            for outpost in config.outposts
        ],
    }


def _table(config: Config) -> list[str]:
    rows = [("NAME", "TYPE", "MAX WORKERS", "STATUS")]
    for outpost in config.outposts:
        status = "enabled" if outpost.enabled else "disabled"
        limit = "no limit" if outpost.max_workers is None else str(outpost.max_workers)
        rows.append((outpost.name, outpost.type, limit, status))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
        for row in rows
    ]
