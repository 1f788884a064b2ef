"""Help in the form that manual pages have: ``WORKER``, ``[WORKER]`` and ``WORKER...``."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand


class PlainCommand(TyperCommand):
    """Shows of an argument its name and what it is, without types and braces around it."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return what the usage line shows behind the command's name."""
        arguments = [param for param in self.get_params(ctx) if _is_argument(param)]
        return ["[OPTIONS]", *map(_usage, arguments)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write what there is to give, arguments first."""
        params: list[Any] = self.get_params(ctx)
        arguments = [(param.metavar, param.help) for param in params if _is_argument(param)]
        # Of an option's record its name: the other half would show its range as a formula.
        options = [
            (param.get_help_record(ctx)[0], _meaning(param))
            for param in params
            if not _is_argument(param) and not getattr(param, "hidden", False)
        ]
        for title, rows in (("Arguments", arguments), ("Options", options)):
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


def _is_argument(param: Any) -> bool:
    return bool(param.param_type_name == "argument")


def _usage(argument: Any) -> str:
    # One of several words says by itself how many there may be.
    is_all = argument.nargs == 1 or " " in argument.metavar
    name = argument.metavar if is_all else f"{argument.metavar}..."
    return name if argument.required else f"[{name}]"


def _meaning(option: Any) -> str:
    default = f"  [default: {option.default}]" if option.default and not option.is_flag else ""
    return f"{option.help}{default}"
