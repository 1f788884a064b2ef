"""Secrets by reference: where to find a secret, never the secret itself."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from outpost.errors import UserError

HOW_TO_WRITE = (
    "a secret is never written here itself but as a reference to it:"
    " env://NAME, file:///PATH, file://~/PATH or cmd://COMMAND ARGUMENTS"
)
COMMAND_TIMEOUT_S = 10.0
LARGEST_FILE_BYTES = 1 << 20

_REFERENCE = re.compile(r"(env|file|cmd)://(.+)", re.DOTALL)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret is: ``env://NAME``, ``file://PATH`` or ``cmd://ARGV…``.

    It holds no secret, so it may be shown. ``resolve`` looks the value up each time.
    """

    reference: str

    @classmethod
    def parse(cls, text: object) -> SecretRef:
        """Return the reference that ``text`` is; raises ``ValueError``, which never quotes it."""
        match = _REFERENCE.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise ValueError(HOW_TO_WRITE)
        scheme, rest = match.groups()
        if scheme == "env" and not _VARIABLE.fullmatch(rest):
            raise ValueError("env:// is followed by the name of an environment variable")
        if scheme == "file" and not rest.startswith(("/", "~/")):
            raise ValueError("file:// is followed by a path that begins with / or ~/")
        if scheme == "cmd":
            _split(rest)
        return cls(match.group())

    def resolve(
        self, environment: Mapping[str, str], *, timeout_s: float = COMMAND_TIMEOUT_S
    ) -> str:
        """Return the secret, without the blank space around it.

        Blocks for up to ``timeout_s`` on ``cmd://``, of whose output the first line counts. Raises
        ``UserError``, which names the reference and never the value.
        """
        scheme, _, rest = self.reference.partition("://")
        if scheme == "env":
            value = self._from_environment(rest, environment)
        elif scheme == "file":
            value = self._from_file(rest, environment)
        else:
            value = self._from_command(rest, environment, timeout_s)
        if not value.strip():
            raise self._unresolved("what it refers to is empty")
        return value.strip()

    def resolve_token(self, environment: Mapping[str, str]) -> str:
        """Return a secret that goes into the header of a request; otherwise as ``resolve``.

        What no header can hold is refused here: HTTP libraries quote it in what they say of it.
        """
        value = self.resolve(environment)
        if not (value.isascii() and value.isprintable()):
            what = "it holds what no HTTP header can, such as a line break"
            raise self._unresolved(what)
        return value

    def _from_environment(self, name: str, environment: Mapping[str, str]) -> str:
        if name not in environment:
            raise self._unresolved(f"the variable {name} is not set", hint=f"export {name}=…")
        return environment[name]

    def _from_file(self, name: str, environment: Mapping[str, str]) -> str:
        if name.startswith("~/"):
            if "HOME" not in environment:
                raise self._unresolved("HOME is not set, so ~ means nothing")
            name = environment["HOME"] + name[1:]
        try:
            with Path(name).open("rb") as file:
                data = file.read(LARGEST_FILE_BYTES + 1)
        except OSError as exc:
            raise self._unresolved(f"{name}: {exc.strerror}") from exc
        except ValueError:
            raise self._unresolved("the path holds a character that no path can hold") from None
        if len(data) > LARGEST_FILE_BYTES:
            raise self._unresolved(f"{name} is larger than {LARGEST_FILE_BYTES >> 20} MiB")
        return self._text(data)

    def _from_command(self, command: str, environment: Mapping[str, str], timeout_s: float) -> str:
        try:
            process = subprocess.Popen(
                _split(command),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it cannot be run"
            raise self._unresolved(f"the command cannot be started: {reason}") from exc
        try:
            output, _ = process.communicate(timeout=timeout_s)
        except BaseException as exc:
            # Ctrl-C, too, must leave nothing running: the command is in a session of its own.
            _kill_group(process)
            if isinstance(exc, subprocess.TimeoutExpired):
                text = f"the command took longer than {timeout_s:g} seconds"
                hint = "it must not ask questions; run it by hand to see what it waits for"
                raise self._unresolved(text, hint=hint) from None
            raise
        if process.returncode != 0:
            text = f"the command ended with exit code {process.returncode}"
            raise self._unresolved(text, hint="run it by hand to see why")
        return self._text(output).strip().partition("\n")[0]

    def _text(self, data: bytes) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise self._unresolved("what it refers to is not UTF-8 text") from None

    def _unresolved(self, why: str, *, hint: str = "") -> UserError:
        return UserError(f"the secret {self.reference} cannot be read: {why}", hint=hint)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[Any], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, SecretRef) else cls.parse(value),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: value.reference
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "pattern": "^(env|file|cmd)://.+"}


def _split(command: str) -> list[str]:
    try:
        argv = shlex.split(command)
    except ValueError:
        raise ValueError("cmd:// is followed by a command with its quotes closed") from None
    if not argv:
        raise ValueError("cmd:// is followed by a command")
    return argv


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a command and whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    if process.stdout:
        process.stdout.close()
    process.wait()
