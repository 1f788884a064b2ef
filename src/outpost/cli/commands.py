"""The commands, each in a module of its own that is loaded when the command is called."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from outpost.cli.plain import PlainCommand

MODULES = {
    "spawn": "spawn",
    "ps": "ps",
    "queue": "queue",
    "logs": "logs",
    "attach": "attach",
    "send": "send",
    "stop": "stop",
    "cancel": "cancel",
    "resume": "resume",
    "diff": "diff",
    "open": "open",
    "rm": "rm",
    "prune": "prune",
    "reconcile": "reconcile",
    "status": "status",
    "explain": "explain",
    "events": "events",
    "cost": "cost",
    "list": "outposts",
    "add": "add",
    "deploy": "deploy",
    "remove": "remove",
    "up": "up",
    "down": "down",
    "doctor": "doctor",
    "config": "config",
}
"""The module in this package that holds a command's typer app, in the order of the help."""


class Commands(TyperGroup):
    """The commands by name; importing one costs nothing to the others."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # The names alone: they are listed and compared with misspelt ones; see get_command.
        self.commands = dict.fromkeys(MODULES)  # type: ignore[assignment]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command by its name, ``None`` where there is none."""
        if cmd_name not in MODULES:
            return None
        command = get_command(load(cmd_name))
        command.name = cmd_name
        return command


def load(name: str) -> typer.Typer:
    """Return a command's typer app, told to print plain help."""
    app: typer.Typer = import_module(f"outpost.cli.{MODULES[name]}").app
    app.rich_markup_mode = None
    # Completion is installed once, for the whole of outpost.
    app._add_completion = False
    for command in app.registered_commands:
        if command.cls is TyperCommand:
            command.cls = PlainCommand
    return app


app = typer.Typer(
    cls=Commands,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from outpost import __version__  # noqa: PLC0415 - here only

        typer.echo(f"outpost {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    config: Annotated[
        str | None,
        typer.Option("--config", metavar="PATH", help="The configuration file to use."),
    ] = None,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Print the version."
        ),
    ] = False,
) -> None:
    """Run AI coding agents wherever there is room for them: issues in, pushed branches out.

    Start one with `outpost spawn ISSUE`, look with `outpost ps`, answer with `outpost send`.
    """
    if config is not None:
        # Every command takes --config too; what stands in front of it is its default.
        given: dict[str, Any] = {name: {"config": config} for name in MODULES}
        given["config"] = {"check": {"config": config}}
        context.default_map = given
