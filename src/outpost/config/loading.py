"""Finds the configuration file, reads it, and checks it whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from outpost.config.checks import check, split_options
from outpost.config.document import Unreadable, read_document
from outpost.config.kinds import KindRegistry
from outpost.config.models import Config
from outpost.config.nodes import Lines, Node, Problem
from outpost.config.words import describe, problems_of
from outpost.errors import ConfigError

FILE_NAME = "outposts.yaml"
VARIABLE = "OUTPOST_CONFIG"
LARGEST_FILE_BYTES = 1 << 20
HINT = "`outpost config schema` describes every field"


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A place to look: ``shown`` is its name in messages, ``named_by`` who insists on it."""

    path: Path
    shown: str
    named_by: str = ""


def load(
    path: str | None = None,
    *,
    environment: Mapping[str, str],
    directory: Path,
    kinds: KindRegistry | None = None,
) -> Config:
    """Return the configuration from the first place that has one; raises ``ConfigError``.

    Looked at are ``path``, ``$OUTPOST_CONFIG`` (either must exist if given), ``outposts.yaml`` in
    ``directory`` and ``outpost/outposts.yaml`` in the user's configuration directory. Without any
    of them it is one outpost, this machine. Relative paths are relative to ``directory``.
    """
    for candidate in candidates(path, environment, directory):
        data = read_candidate(candidate)
        if data is not None:
            config = parse(data, file=candidate.shown, kinds=kinds)
            config._path = candidate.path.absolute()
            return config
    return Config()


def parse(data: bytes, *, file: str = FILE_NAME, kinds: KindRegistry | None = None) -> Config:
    """Return the configuration that ``data`` is; raises ``ConfigError`` with all its problems.

    ``file`` is what the problems call it.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        before = data[: exc.start].decode("utf-8-sig", "replace")
        # The faulty byte counts as a character, so that it can be pointed at.
        problem = Problem(len(before), "", f"byte 0x{data[exc.start]:02x} is not UTF-8 text")
        raise _error(file, Lines(before + "?"), [problem]) from None
    lines = Lines(text)
    try:
        document = read_document(text, lines)
    except Unreadable as exc:
        raise _error(file, lines, exc.problems) from None
    config, problems = _check(document.root, kinds or KindRegistry(), lines)
    problems += document.problems
    if config is None or problems:
        raise _error(file, lines, problems)
    return config


def candidates(
    path: str | None, environment: Mapping[str, str], directory: Path
) -> list[_Candidate]:
    if path is not None:
        return [_Candidate(directory / path, path, "--config")]
    if named := environment.get(VARIABLE):
        return [_Candidate(directory / named, named, f"${VARIABLE}")]
    found = [_Candidate(directory / FILE_NAME, FILE_NAME)]
    home = environment.get("HOME", "")
    # The XDG base directory specification says to ignore relative paths.
    folder = environment.get("XDG_CONFIG_HOME", "")
    user_folder = Path(folder) if folder.startswith("/") else Path(home, ".config")
    if user_folder.is_absolute():
        user_file = user_folder / "outpost" / FILE_NAME
        found.append(_Candidate(user_file, str(user_file)))
    return found


def read_candidate(candidate: _Candidate) -> bytes | None:
    """Return a file's bytes, ``None`` if it may be and is absent."""
    try:
        with candidate.path.open("rb") as file:
            data = file.read(LARGEST_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        if not candidate.named_by:
            return None
        message = f"{candidate.shown}: there is no such file (named by {candidate.named_by})"
        hint = f"without {candidate.named_by}, the usual places: outpost config check"
        raise ConfigError(message, hint=hint) from None
    except IsADirectoryError:
        raise ConfigError(
            f"{candidate.shown}: is a directory, not a file",
            hint=f"name the file in it, such as {Path(candidate.shown) / FILE_NAME}",
        ) from None
    except OSError as exc:
        raise ConfigError(f"{candidate.shown}: cannot be read: {exc.strerror}") from exc
    except ValueError:
        raise ConfigError(f"{candidate.shown!r}: no file can have such a name") from None
    if len(data) > LARGEST_FILE_BYTES:
        raise ConfigError(f"{candidate.shown}: is larger than {LARGEST_FILE_BYTES >> 20} MiB")
    return data


def _check(
    root: Node | None, kinds: KindRegistry, lines: Lines
) -> tuple[Config | None, list[Problem]]:
    if root is None or root.value is None:
        text = "the file is empty: write 'outposts:' and a list, or remove the file"
        return None, [Problem(0, "", text)]
    if not isinstance(root.value, dict):
        found = describe(root.plain())
        text = f"expected a mapping that begins with 'outposts:', got {found}"
        return None, [Problem(root.index, "", text)]
    # A section of which only comments are left counts as absent.
    plain = {key: value for key, value in root.plain().items() if value is not None}
    problems = list(check(root, plain, kinds, lines))
    try:
        config = Config.model_validate_json(json.dumps(split_options(plain)))
    except ValidationError as exc:
        return None, [*problems, *problems_of(exc, Config, root)]
    return config, problems


def _error(file: str, lines: Lines, problems: tuple[Problem, ...] | list[Problem]) -> ConfigError:
    shown = []
    for problem in sorted(set(problems)):
        line, column = lines.position(problem.index)
        field = f"{problem.path}: " if problem.path else ""
        shown.append(f"{file}:{line}:{column}: {field}{problem.text}")
    count = "1 problem" if len(shown) == 1 else f"{len(shown)} problems"
    return ConfigError(f"{file} has {count}:", problems=tuple(shown), hint=HINT)
