"""How an outpost is added: what is missing is asked for, the file changed, the outpost seen."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import typer

from outpost.cli.changes import Manner, agree, ask, make
from outpost.cli.failures import FAILED, say
from outpost.cli.kind_options import Flag
from outpost.cli.options import run
from outpost.cli.outposts import load_word, status_word
from outpost.config import Config, parse
from outpost.config.choices import Chosen, label_value
from outpost.config.document import resolve
from outpost.config.editing import has_outposts, with_outpost, with_preference
from outpost.config.files import ConfigFile, read
from outpost.config.rendering import inline
from outpost.errors import ConfigError, OutpostFault, Rejected, UserError

if TYPE_CHECKING:
    from outpost.control.overview import OutpostStatus
    from outpost.federation import Federation
    from outpost.ports import Greeting

Preference: TypeAlias = tuple[tuple[Chosen, ...], ...]

_PROBLEM = re.compile(r":\d+:\d+: (?:outposts\[0\]\.(\w+)[^\s:]*: )?(.*)", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """The outpost that is wished for; ``options`` are fields with their plain values.

    ``before`` names the outpost that it is to be tried before, ``first`` means all.
    """

    kind: str
    name: str | None
    options: Mapping[str, Any]
    labels: tuple[str, ...] = ()
    disabled: bool = False
    before: str | None = None
    first: bool = False

    def entry(self) -> dict[str, Any]:
        """Return the outpost as it stands in a configuration."""
        entry = {"name": self.name, "type": self.kind, **self.options}
        if self.disabled:
            entry["enabled"] = False
        if self.labels:
            entry["labels"] = dict(map(_label, self.labels))
        return entry


class Adding:
    """Adds one outpost to a configuration file, the one at ``path`` or a usual one."""

    def __init__(self, path: str | None, manner: Manner, found: Sequence[Flag]) -> None:
        self._path = path
        self._manner = manner
        self._flags = {flag.field: flag.option for flag in found} | {"labels": "--label"}

    def carry_out(self, wishes: Wishes, missing: Sequence[Flag]) -> None:
        """Add it and say how it is; exits with 1 if it is not well."""
        if wishes.before is not None and wishes.first:
            raise UserError("--before and --prefer-first exclude each other")
        file = read(self._path, environment=os.environ, directory=Path.cwd())
        wishes = self._complete(wishes, missing, file)
        config = self._check(wishes.entry())
        if not self._manner.dry_run:
            wishes = self._greeted(config, wishes)
        entry = wishes.entry()
        text = self._text(file, wishes, entry)
        if not make(file, text, self._manner):
            return
        typer.echo(f"added {wishes.name} ({wishes.kind}) to {file.path}")
        self._look(file, str(wishes.name))

    def _complete(self, wishes: Wishes, missing: Sequence[Flag], file: ConfigFile) -> Wishes:
        """Ask for what is missing. Raises ``UserError`` where there is nobody to ask."""
        taken = [outpost.name for outpost in file.config.outposts]
        absent = [*([] if wishes.name else ["--name"]), *(flag.option for flag in missing)]
        if absent and not self._manner.asks:
            raise UserError(
                f"an outpost of type '{wishes.kind}' needs {' and '.join(absent)}",
                hint=f"outpost add {wishes.kind} {' '.join(f'{it} …' for it in absent)}",
            )
        name = wishes.name or ask("name (what it is called)", _free(wishes.kind, taken))
        options = {flag.field: flag.answer(ask(_asked(flag))) for flag in missing}
        wishes = replace(wishes, name=name, options={**options, **wishes.options})
        fixed = taken if has_outposts(file.text) else []
        if name in fixed:
            raise UserError(
                f"an outpost is named '{name}' already, in {file.shown}",
                hint=f"give another name, such as --name {_free(name, taken)}",
            )
        return wishes

    def _check(self, entry: Mapping[str, Any]) -> Config:
        """Return what configures this outpost alone.

        Raises ``UserError`` for what no outpost may be, in terms of the flags.
        """
        try:
            return parse(f'{{"outposts": [{inline(entry, as_json=True)}]}}'.encode(), file="")
        except UnicodeEncodeError:
            raise UserError(
                "a configuration holds UTF-8 text only, which this is not",
                hint=f"outpost add {entry['type']} --help",
            ) from None
        except ConfigError as exc:
            shown = "\n".join(map(self._in_flags, exc.problems))
            raise UserError(shown, hint=f"outpost add {entry['type']} --help") from exc

    def _in_flags(self, problem: str) -> str:
        """Return what is wrong with a field as what is wrong with its flag."""
        found = _PROBLEM.fullmatch(problem)
        field, text = found.groups() if found else (None, problem)
        return f"{self._flags.get(field, f'--{field}')}: {text}" if field else str(text)

    def _greeted(self, config: Config, wishes: Wishes) -> Wishes:
        """Have the user agree to what the outpost is first; return the wishes with that in them.

        Raises ``UserError`` where there is nobody to ask, ``Rejected`` for one that must not be
        used so. One that does not answer now is asked for its state soon, and may say more then.
        """
        try:
            greeting = _greeting(config, str(wishes.name))
        except Rejected:
            raise
        except OutpostFault as exc:
            _note(f"{exc.message}; it can be added, but who it is has yet to be seen")
            return wishes
        if greeting is None:
            return wishes
        if greeting.question and not self._manner.asks:
            raise UserError("\n".join(greeting.lines), hint=greeting.hint)
        for line in greeting.lines:
            _note(line)
        if greeting.question:
            agree(greeting.question, default=False)
        return replace(wishes, options={**wishes.options, **greeting.options})

    def _text(self, file: ConfigFile, wishes: Wishes, entry: Mapping[str, Any]) -> str:
        """Return the text of the file with the outpost in it, and say what else was changed."""
        name = str(wishes.name)
        if file.data is None:
            _note(f"there is no configuration yet: {file.path} is made")
        others = [outpost.name for outpost in file.config.outposts if outpost.name != name]
        if others and not has_outposts(file.text):
            _note(f"the built-in outpost '{others[0]}' is written out too, so that it stays")
        preference = file.config.policy.default_preference
        if not preference:
            return with_outpost(file.text, entry, before=_follower(wishes, others))
        text = with_outpost(file.text, entry)
        at = _tier(wishes, preference, others)
        if at is None and _is_meant(entry, preference):
            return text
        place = "at its end" if at is None else f"as number {at + 1}"
        _note(f"policy.default_preference names it too, {place}")
        return with_preference(text, name, at=at)

    def _look(self, file: ConfigFile, name: str) -> None:
        """Say how the outpost is, as the federation sees it."""

        async def work(federation: Federation) -> OutpostStatus:
            return next(it for it in await federation.outposts() if it.name == name)

        status = run(str(file.path), work, read_only=True)
        if status.health.ok:
            more = f"; {status.health.detail}" if status.health.detail else ""
            typer.echo(f"{name}: {status_word(status)}, workers {load_word(status)}{more}")
            return
        say("error", f"{name} is in the file, but not well: {status.health.detail}", "31")
        say("hint", status.health.hint or f"outpost doctor  looks again at {name}", "36")
        raise typer.Exit(FAILED)


def _greeting(config: Config, name: str) -> Greeting | None:
    """Return what the federation has to say of an outpost that is not in the file yet."""
    import asyncio  # noqa: PLC0415 - help and completion do without

    from outpost.federation import Federation  # noqa: PLC0415 - as above

    async def greet() -> Greeting | None:
        async with Federation(config, read_only=True, actor="add") as federation:
            return await federation.greet(name)

    return asyncio.run(greet())


def _follower(wishes: Wishes, names: Sequence[str]) -> str | None:
    """Return the outpost that the new one comes before in the file, whose order is what counts."""
    if wishes.first:
        return names[0] if names else None
    if wishes.before is not None and wishes.before not in names:
        raise _unknown(wishes.before, names)
    return wishes.before


def _tier(wishes: Wishes, preference: Preference, names: Sequence[str]) -> int | None:
    """Return in front of which item of the default preference the new one comes."""
    if wishes.first:
        return 0
    if wishes.before is None:
        return None
    for number, tier in enumerate(preference):
        if wishes.before in tier:
            return number
    if wishes.before not in names:
        raise _unknown(wishes.before, names)
    raise UserError(
        f"policy.default_preference does not name '{wishes.before}'",
        hint="use --prefer-first, or put it there with an editor",
    )


def _is_meant(entry: Mapping[str, Any], preference: Preference) -> bool:
    """Whether a default preference means the new outpost already, by its labels."""
    labels = {key: label_value(value) for key, value in entry.get("labels", {}).items()}
    chosen = [it for tier in preference for it in tier if not isinstance(it, str)]
    return any(it.items() <= labels.items() for it in chosen)


def _unknown(name: str, names: Sequence[str]) -> UserError:
    from outpost.control.naming import unknown_outpost  # noqa: PLC0415 - here only

    unknown = unknown_outpost(name, names)
    hint = unknown.hint if names else "no other outpost is configured"
    return UserError(f"--before: {unknown.message}", hint=hint)


def _label(text: str) -> tuple[str, Any]:
    """Read ``region=eu``, or ``gpu`` for ``gpu=true``; numbers and truth values stay such."""
    key, separator, value = text.partition("=")
    if not separator:
        return key, True
    plain = resolve(value)
    return key, plain if plain is not None and str(plain).lower() == value else value


def _free(kind: str, taken: Sequence[str]) -> str:
    """Return a name that nobody has: the kind's own, or that with a number."""
    names = (kind if number == 1 else f"{kind}-{number}" for number in count(1))
    return next(name for name in names if name not in taken)


def _asked(flag: Flag) -> str:
    return f"{flag.field} ({flag.help})" if flag.help else flag.field


def _note(text: str) -> None:
    say("note", text, "36")
