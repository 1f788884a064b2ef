"""What clients say, made sure of: a ``Call``, a ``Said`` line, a ``Message``, an ``Environment``.

Fields that are not known are left alone: a newer client may say more.
"""

from __future__ import annotations

import json
import os
import re

from outpost.runner.agents import NAMES
from outpost.runner.serve.refused import malformed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from outpost.wire.orders import Environment, Message
    from outpost.wire.work import Call, Said

_WORKER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHOWN_CHARS = 40
_SPAN_MOST_S = 1e12
_TEXTS = (
    *("federation_id", "worker_id", "task_id", "issue_id", "repo_url", "branch"),
    *("title", "body", "prompt"),
)
_NUMBERS_OF_LIMITS = ("time_s", "silence_s", "answer_s", "wall_s", "checkpoint_s")
_ARGUMENTS_MOST = 64
_ARGUMENT_CHARS = 16 << 10


def read_object(line: bytes, what: str) -> dict[str, Any]:
    """Return a JSON object; raises ``Refused``."""
    try:
        value = json.loads(line)
    except RecursionError:
        raise malformed(f"{what} is nested too deep") from None
    except ValueError as exc:
        # Not what was read: that may hold secrets.
        raise malformed(f"{what} is no JSON: {getattr(exc, 'msg', 'not UTF-8')}") from None
    if not isinstance(value, dict):
        raise malformed(f"{what} is no JSON object")
    return value


def read_call(call: dict[str, Any]) -> Call:
    """Return the same as a ``Call``; raises ``Refused``."""
    worker_id = check_worker_id(call.get("worker_id"))
    for name in ("after", "offset"):
        value = call.setdefault(name, 0)
        if type(value) is not int or not 0 <= value < 1 << 62:
            raise malformed(f"{name} is no count: {_shown(value)}")
    if type(call.setdefault("hold", False)) is not bool:
        raise malformed("hold is neither true nor false")
    if call.get("order") is None:
        call.pop("order", None)
    else:
        _check_order(call["order"], worker_id)
    call["environment"] = read_environment(call.get("environment"))
    return call  # type: ignore[return-value]  # as was just made sure of


def check_worker_id(worker_id: object) -> str:
    """Return it if it can be one: it becomes part of paths. Raises ``Refused``."""
    if not isinstance(worker_id, str) or not _WORKER_ID.fullmatch(worker_id):
        raise malformed(f"worker_id is none: {_shown(worker_id)}")
    return worker_id


def read_environment(given: object) -> Environment:
    """Return variables for agent and git; what is not said is empty. Raises ``Refused``."""
    if given is None:
        return {"agent": {}, "git": {}}
    if not isinstance(given, dict):
        raise malformed("environment is no object")
    for name in ("agent", "git"):
        variables = given.setdefault(name, {})
        if not isinstance(variables, dict) or not all(map(_is_variable, variables.items())):
            raise malformed(f"environment.{name} is no object of variables and their values")
    return {"agent": given["agent"], "git": given["git"]}


def read_said(line: bytes) -> Said:
    """Return a further line of a request; raises ``Refused``."""
    said = read_object(line, "a line")
    kind = said.get("said")
    if kind == "message":
        check_message(said.get("message"))
        if not isinstance(said.get("id", ""), str):
            raise malformed("a message whose id is no text")
    elif kind == "ask":
        for name in ("id", "verb"):
            if not isinstance(said.get(name), str):
                raise malformed(f"an ask without {name}")
        check_arguments(said.setdefault("arguments", []))
        if not isinstance(said.setdefault("stdin", ""), str):
            raise malformed("an ask whose stdin is no text in base64")
    elif kind == "call":
        if not isinstance(said.get("call"), dict):
            raise malformed("a call without a call")
    else:
        raise malformed(f"a client says message, ask or call, not {_shown(kind)}")
    return said  # type: ignore[return-value]  # as was just made sure of


def check_message(message: object) -> Message:
    """Return it if it can go into a mailbox; raises ``Refused``. What is in it the runner reads."""
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise malformed("a message is an object with a type")
    return message  # type: ignore[return-value]  # as was just made sure of


def check_arguments(arguments: object) -> Sequence[str]:
    """Return them if a command can be given them; raises ``Refused``."""
    if not isinstance(arguments, list) or len(arguments) > _ARGUMENTS_MOST:
        raise malformed(f"arguments are a list of at most {_ARGUMENTS_MOST}")
    for it in arguments:
        if not isinstance(it, str) or len(it) > _ARGUMENT_CHARS or not _is_plain(it):
            raise malformed("an argument that no command can be given")
    return arguments


def _check_order(order: object, worker_id: str) -> None:
    if not isinstance(order, dict):
        raise malformed("order is no object")
    for name in _TEXTS:
        if not isinstance(order.get(name), str):
            raise malformed(f"order.{name} is no text")
    if order["worker_id"] != worker_id:
        raise malformed("order.worker_id is another than worker_id")
    if not order["federation_id"] or not order["repo_url"] or not order["branch"]:
        raise malformed("order: federation_id, repo_url and branch may not be empty")
    if type(order.get("version")) is not int:
        raise malformed("order.version is no number")
    if order.setdefault("base", None) is not None and not isinstance(order["base"], str):
        raise malformed("order.base is neither a text nor null")
    if type(order.setdefault("keep_workspace", False)) is not bool:
        raise malformed("order.keep_workspace is neither true nor false")
    _check_agent(order.get("agent"))
    _check_limits(order.get("limits"))
    _check_earlier(order)


def _check_agent(agent: object) -> None:
    if not isinstance(agent, dict):
        raise malformed("order.agent is no object")
    if agent.get("name") not in NAMES:
        raise malformed(f"order.agent.name is {_shown(agent.get('name'))}: it knows {NAMES}")
    argv = agent.setdefault("argv", [])
    if not isinstance(argv, list) or not all(isinstance(it, str) for it in argv):
        raise malformed("order.agent.argv is no list of texts")
    if not isinstance(agent.setdefault("options", {}), dict):
        raise malformed("order.agent.options is no object")


def _check_limits(limits: object) -> None:
    if not isinstance(limits, dict) or not _is_span(limits.get("grace_s")):
        raise malformed("order.limits.grace_s is no number of seconds")
    limits.setdefault("time_s", None)
    for name in _NUMBERS_OF_LIMITS:
        if limits.get(name) is not None and not _is_span(limits[name]):
            raise malformed(f"order.limits.{name} is neither a number of seconds nor null")


def _check_earlier(order: Mapping[str, Any]) -> None:
    """Make sure of what is said of earlier attempts."""
    for name, fields in (
        ("resume", ("worker_id", "tree")),
        ("transcript", ("session_id", "prompt")),
    ):
        value = order.get(name)
        if value is None:
            continue
        if not isinstance(value, dict) or not all(isinstance(value.get(it), str) for it in fields):
            raise malformed(f"order.{name} is no object with {' and '.join(fields)}")


def _is_span(value: object) -> bool:
    return isinstance(value, (int, float)) and value is not True and 0 <= value < _SPAN_MOST_S


def _is_variable(item: tuple[object, object]) -> bool:
    name, value = item
    if not isinstance(name, str) or not isinstance(value, str):
        return False
    return bool(name) and "=" not in name and _is_plain(name) and _is_plain(value)


def _is_plain(text: str) -> bool:
    """Whether a program can be given this: no NUL, nothing that is no character."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"
