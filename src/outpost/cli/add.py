"""``outpost add``: put an outpost into the configuration, and see whether it can take work."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from outpost.cli.adding import Adding, Wishes
from outpost.cli.changes import DryRunOption, Manner, YesOption
from outpost.cli.kind_options import Flag, flags
from outpost.cli.options import ConfigOption, complete_outpost
from outpost.cli.plain import PlainCommand
from outpost.config import KindRegistry, OutpostConfig
from outpost.errors import UserError, nearest

# Fields of all outposts that have a flag of another form, or none.
_OTHERWISE = ("name", "type", "enabled", "labels", "options")
_RESERVED = (
    *("name", "label", "disabled", "before", "prefer-first", "yes", "dry-run", "config", "help"),
)
_DISTRIBUTION = "outpost"

NameOption = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="What it is called; unique.")
]
LabelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="KEY[=VALUE]",
        help="A word of your own to choose outposts by; may be given again.",
    ),
]
DisabledOption = Annotated[
    bool, typer.Option("--disabled", help="Place no workers there for the time being.")
]
BeforeOption = Annotated[
    str | None,
    typer.Option(
        "--before",
        metavar="OUTPOST",
        help="Have it tried before this one, instead of after all others.",
        autocompletion=complete_outpost,
    ),
]
FirstOption = Annotated[
    bool, typer.Option("--prefer-first", help="Have it tried before all others.")
]


class Kinds(TyperGroup):
    """One command for each kind that is installed, with the kind's own options."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the kinds that can be added."""
        kinds = KindRegistry()
        return list(kinds.names())

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command for a kind; raises ``UserError`` for one that cannot be added."""
        try:
            app = _app_for(cmd_name, KindRegistry())
        except UserError:
            if ctx.resilient_parsing:
                # Somebody is in the middle of typing: this is no place to complain.
                return None
            raise
        command = get_command(app)
        command.name = cmd_name
        return command

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what the usage line shows behind the command's name."""
        return [self.subcommand_metavar]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the kinds without loading what runs them."""
        kinds = self.list_commands(ctx)
        with formatter.section("Kinds"):
            formatter.write_dl([(kind, f"outpost add {kind} --help") for kind in kinds])


app = typer.Typer(cls=Kinds, no_args_is_help=True, subcommand_metavar="KIND [OPTIONS]")


@app.callback()
def add() -> None:
    """Add an outpost to the configuration file.

    Its comments, order and style stay. On a terminal it asks for what is missing, and before it
    writes. Then the outpost is asked how it is: exits with 1 if it is added, but not well.
    """


def _app_for(kind: str, kinds: KindRegistry) -> typer.Typer:
    """Return the app with one command, whose options are those of the kind and of all outposts."""
    own = _own_flags(kind, kinds)
    common = flags(OutpostConfig.model_json_schema())
    found = [*own, *(flag for flag in common if flag.field not in _OTHERWISE)]

    def command(  # noqa: PLR0913 - one parameter for each option
        *,
        context: typer.Context,
        name: NameOption = None,
        label: LabelOption = None,
        disabled: DisabledOption = False,
        before: BeforeOption = None,
        prefer_first: FirstOption = False,
        yes: YesOption = False,
        dry_run: DryRunOption = False,
        config: ConfigOption = None,
        **options: Any,
    ) -> None:
        given = {flag: value for flag in found if (value := options[flag.key]) not in (None, [])}
        wishes = Wishes(
            kind=kind,
            name=name,
            options={flag.field: flag.value(value) for flag, value in given.items()},
            labels=tuple(label or ()),
            disabled=disabled,
            before=before,
            first=prefer_first,
        )
        missing = [flag for flag in found if flag.required and flag not in given]
        path = config or context.find_root().params.get("config")
        Adding(path, Manner(yes=yes, dry_run=dry_run), found).carry_out(wishes, missing)

    _show(command, found)
    command.__doc__ = f"Add an outpost of type {kind} to the configuration file."
    made = typer.Typer(rich_markup_mode=None, add_completion=False)
    made.command(cls=PlainCommand)(command)
    return made


def _own_flags(kind: str, kinds: KindRegistry) -> list[Flag]:
    """Return the flags for what a kind takes. Raises ``UserError`` where it cannot be used."""
    if not kinds.installed(kind):
        known = kinds.names()
        raise UserError(
            f"there is no type of outpost named {kind[:40]!r}{nearest(kind, known)}",
            hint=f"outpost add KIND; installed: {', '.join(known)}",
        )
    try:
        options = kinds.backend(kind).Options
    except ImportError as exc:
        raise UserError(
            f"outposts of type '{kind}' need what is not installed: {exc}", hint=_install(kind)
        ) from exc
    return flags(options.model_json_schema(), kind=kind, reserved=_RESERVED)


def _install(kind: str) -> str:
    from importlib.metadata import PackageNotFoundError, metadata  # noqa: PLC0415 - seldom needed

    try:
        extras = metadata(_DISTRIBUTION).get_all("Provides-Extra") or []
    except PackageNotFoundError:
        extras = []
    if kind in extras:
        return f"pip install '.[{kind}]'  in the checkout of outpost"
    return "pip install the package that brings it, with all that it depends on"


def _show(command: Callable[..., None], found: Sequence[Flag]) -> None:
    """Have a function that takes anything show the parameters that it really has."""
    annotations = inspect.get_annotations(command, eval_str=True)
    *fixed, _ = inspect.signature(command).parameters.values()
    fixed = [it.replace(annotation=annotations[it.name]) for it in fixed]
    # The name first, then what makes the outpost, then what is done about it.
    parameters = [*fixed[:2], *(flag.parameter() for flag in found), *fixed[2:]]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {it.name: it.annotation for it in parameters}
