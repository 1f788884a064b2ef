"""The agents that the configuration speaks of: their programs, and the keys they would find."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from outpost.control.checks import Check, problem, warning, well
from outpost.control.checks.programs import check_program, version
from outpost.runner.agents import Agent, load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from outpost.wire.orders import AgentOrder, WorkOrder

LIBRARIES = {"builtin": ("anthropic", "builtin"), "acp": ("agent-client-protocol", "acp")}
"""For agents that are programs of ours: the package each needs, and our extra that brings it."""


@dataclass(frozen=True, slots=True)
class Login:
    """How an agent gets at its model: variables, any of which will do, or a file in its home."""

    variables: tuple[str, ...]
    file: str = ""
    hint: str = ""


_ANTHROPIC = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
LOGINS = {
    "claude": Login(
        (*_ANTHROPIC, "CLAUDE_CODE_OAUTH_TOKEN"),
        ".claude/.credentials.json",
        "log in once: claude, then /login; or: export ANTHROPIC_API_KEY=…",
    ),
    "builtin": Login(_ANTHROPIC, "", "export ANTHROPIC_API_KEY=…"),
    "codex": Login(
        ("CODEX_API_KEY", "OPENAI_API_KEY"),
        ".codex/auth.json",
        "log in once: codex login; or: export OPENAI_API_KEY=…",
    ),
    "gemini": Login(
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        ".gemini/oauth_creds.json",
        "log in once: gemini; or: export GEMINI_API_KEY=…",
    ),
}
GITHUB = ("GITHUB_TOKEN", "GH_TOKEN", "GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN")


async def check_agents(
    orders: Mapping[str, AgentOrder], environment: Mapping[str, str]
) -> list[Check]:
    """Look at the program of each agent, given what the order of a task would say of it."""
    found = await asyncio.gather(
        *(_agent(name, order, environment) for name, order in orders.items())
    )
    return [check for checks in found for check in checks]


def programs_of(orders: Mapping[str, AgentOrder]) -> dict[str, str]:
    """Return the programs that agents start, each with how to get it."""
    return {program: how for program, how in map(_program, orders.values()) if program}


def check_keys(agents: Sequence[str], environment: Mapping[str, str]) -> list[Check]:
    """Say which keys there are and how long they are; never any part of one."""
    checks = []
    names = [name for agent in agents if agent in LOGINS for name in LOGINS[agent].variables]
    for name in dict.fromkeys((*names, *GITHUB)):
        if name in environment:
            checks.append(_key(name, environment[name]))
    home = environment.get("HOME", "")
    for agent in agents:
        login = LOGINS.get(agent)
        if login is None or any(environment.get(name, "").strip() for name in login.variables):
            continue
        if login.file and home and (Path(home) / login.file).exists():
            checks.append(well(agent, f"{agent} is logged in: {Path(home) / login.file}"))
        else:
            checks.append(warning(agent, f"{agent} finds no key here, and no login", login.hint))
    return checks


def _key(name: str, value: str) -> Check:
    if not value.strip():
        return warning(name, f"{name} is set, but empty", f"unset {name}")
    if value != value.strip():
        detail = f"{name} is set, with blank space before or behind its {len(value.strip())}"
        return problem(name, f"{detail} characters", f"export {name} anew, without the blanks")
    return well(name, f"{name} is set: {len(value)} characters")


async def _agent(name: str, order: AgentOrder, environment: Mapping[str, str]) -> list[Check]:
    checks = []
    if order["name"] in LIBRARIES:
        checks.append(await _library(name, order, environment))
    program, missing = _program(order)
    if program:
        checks.append(
            await check_program(program, environment, missing=missing, arguments=["--version"])
        )
    return checks


def _program(order: AgentOrder) -> tuple[str, str]:
    """Return the program that an agent starts, empty for one of ours, and how to get it."""
    if order["argv"]:
        return order["argv"][0], f"install it, or give its path: {order['argv'][0]}"
    if order["name"] in LIBRARIES or order["name"] == "command":
        return "", ""
    whole: WorkOrder = {
        "version": 0,
        "federation_id": "",
        "worker_id": "w-none",
        "task_id": "",
        "issue_id": "",
        "repo_url": "",
        "base": None,
        "branch": "",
        "title": "",
        "body": "",
        "prompt": "",
        "agent": order,
        "limits": {"time_s": None, "grace_s": 0.0},
        "keep_workspace": True,
    }
    agent: Agent = load(order["name"])(whole, "/nowhere", "/nowhere/task.md")
    return agent.argv()[0], agent.missing().partition("; ")[2] or agent.missing()


async def _library(name: str, order: AgentOrder, environment: Mapping[str, str]) -> Check:
    """Look whether the Python that runs an agent of ours has what it needs."""
    package, extra = LIBRARIES[order["name"]]
    python = str(order["options"].get("executable") or sys.executable)
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    try:
        failed, said = await version((python, "-P", "-c", code), environment)
    except OSError as exc:
        return problem(name, f"{name}: {python} cannot be run: {exc.strerror}")
    if failed:
        hint = f"{python} -m pip install '.[{extra}]'  in the checkout of outpost"
        return problem(name, f"{name} needs the package {package}, which {python} lacks", hint)
    return well(name, f"{package} {said}, for {name}")
