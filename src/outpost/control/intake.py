"""What comes in: issues become tasks, and configuration becomes what starting a task needs."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from outpost.config import Config
from outpost.config.models import AgentConfig
from outpost.control.environment import worker_environment
from outpost.control.follow_up import with_follow_up
from outpost.control.orders import Terms
from outpost.control.tasks import Defaults, SpawnOptions, build_task, microusd
from outpost.errors import UserError, nearest
from outpost.model import AgentSpec, Issue, Task
from outpost.ports import Clock, SourceRequest
from outpost.runner.agents import NAMES, load
from outpost.sources import resolve as resolve_issue
from outpost.sources.local_work import local_work
from outpost.sources.repository import clone_origin
from outpost.wire.orders import AgentOrder, Environment, Limits, PermissionRules, Price

ACP, COMMAND = "acp", "command"
GIT_S = 10.0
_NOT_OPTIONS = {"env", "permissions", "argv", "acp"}
_GITHUB_SHORT = re.compile(r"[\w.-]+/[\w.-]+")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://|[^/]+@[^/]+:")


@dataclass(frozen=True)
class Intake:
    """Resolves issues as seen from ``directory`` with our ``environment``."""

    config: Config
    environment: Mapping[str, str]
    directory: Path
    clock: Clock

    async def resolve(self, reference: str | Issue, options: SpawnOptions) -> Task:
        """Return the task for an issue; starts and stores nothing."""
        self._check_outpost(options.on)
        issue = reference
        if not isinstance(issue, Issue):
            issue = await resolve_issue(issue, self.request())
        repo = options.repo or issue.repo_url
        repo_url = await asyncio.to_thread(self.repository, repo)
        task = build_task(issue, options, self.defaults, repo_url=repo_url, now=self.clock.now())
        task = with_follow_up(task, options, self.config, self.request)
        return self.with_agent(task)

    async def local_work(self, task: Task) -> str:
        """Say what of the clone we stand in the task's worker will not see; empty if nothing."""
        where = str(self.directory)
        return await asyncio.to_thread(local_work, where, task.repo_url, task.base)

    @cached_property
    def defaults(self) -> Defaults:
        """What holds for a task that does not say otherwise."""
        given = self.config.defaults
        return Defaults(
            agent=given.agent,
            priority=given.priority,
            time_limit_s=given.time_limit_s,
            branch=given.branch,
            stop_grace_s=given.stop_grace_s,
            max_cost_microusd=None if given.max_cost is None else microusd(given.max_cost),
        )

    def terms(self, task: Task) -> Terms:
        """Return under which conditions a task's agent works."""
        given = self.config.defaults
        section = self._agent_section(task.agent.name)
        own_argv = task.agent.argv or section.acp or section.argv
        options = section.model_dump(mode="json", exclude_none=True, exclude=_NOT_OPTIONS)
        agent: AgentOrder = {
            "name": self._module(task.agent.name),
            "argv": list(own_argv),
            "options": {name: value for name, value in options.items() if value != []},
        }
        limits: Limits = {
            "time_s": task.time_limit_s,
            "grace_s": given.stop_grace_s,
            "silence_s": given.silence_limit_s,
            "answer_s": given.answer_limit_s,
            "busy_pause_s": given.busy_pause_s,
            "checkpoint_s": given.checkpoint_s,
        }
        rules = section.permissions
        permissions: PermissionRules = {
            "default": rules.default,
            "allow": list(rules.allow),
            "ask": list(rules.ask),
            "deny": list(rules.deny),
        }
        prices: dict[str, Price] = {
            model: {
                "input": price.input,
                "output": price.output,
                "cache_write": price.cache_write,
                "cache_read": price.cache_read,
            }
            for model, price in self.config.prices.items()
        }
        return Terms(agent=agent, limits=limits, permissions=permissions, prices=prices)

    def agent_names(self) -> list[str]:
        """Return the agents that can be asked for: ours, and those of the configuration."""
        own = [name for name in self.config.agents if name not in NAMES]
        return [*(name for name in NAMES if name != ACP or self._agent_section(ACP).acp), *own]

    def worker_environment(self, agent: str) -> Environment:
        """Return the variables a worker with this agent gets; an empty name: none for an agent."""
        if agent not in self._environments:
            variables = load(self._module(agent)).variables if agent else ()
            self._environments[agent] = worker_environment(
                self.environment,
                agent_variables=variables,
                extra=self._agent_section(agent).env,
            )
        return self._environments[agent]

    @cached_property
    def _environments(self) -> dict[str, Environment]:
        return {}

    @cached_property
    def git_identity(self) -> Mapping[str, str]:
        """Who the work is committed as: the user's own name and email, as git knows them."""
        try:
            done = subprocess.run(
                ["git", "config", "--get-regexp", r"^user\.(name|email)$"],
                cwd=self.directory,
                env=dict(self.environment),
                capture_output=True,
                text=True,
                check=False,
                timeout=GIT_S,
            )
        except (OSError, subprocess.TimeoutExpired):
            return {}
        rows = (line.partition(" ") for line in done.stdout.splitlines())
        return {key.removeprefix("user."): value for key, _, value in rows if value}

    def repository(self, named: str | None) -> str:
        """Return the URL of the repository named, or of the clone we stand in."""
        if named is None:
            url = clone_origin(str(self.directory))
            if url is None:
                raise UserError(
                    f"which repository? {self.directory} is in none, and the issue names none",
                    hint="outpost spawn --repo URL …, or go into a clone of it",
                )
            return url
        path = self.directory / Path(named).expanduser()
        if path.is_dir():
            bare = (path / "HEAD").is_file() and (path / "objects").is_dir()
            return str(path.resolve()) if bare else self._clone(path)
        if _URL.match(named):
            return named
        if _GITHUB_SHORT.fullmatch(named):
            return f"https://github.com/{named}.git"
        raise UserError(
            f"there is no repository at '{named}'",
            hint="give a URL, a path to a clone, or owner/name for GitHub",
        )

    @staticmethod
    def _clone(path: Path) -> str:
        url = clone_origin(str(path))
        if url is None:
            raise UserError(f"{path} is not a git repository", hint="give a URL or a clone")
        return url

    def request(self, folder: str | None = None) -> SourceRequest:
        """Return what sources may look at, as seen from ``folder``; by default from ours."""
        github, beads = self.config.sources.github, self.config.sources.beads
        token = github.token
        options: dict[str, object] = {
            "github_api_url": github.api_url,
            "beads_executable": beads.executable,
            "beads_actor": beads.actor,
        }
        if token is not None:
            options["github_token"] = lambda: token.resolve(self.environment)
        return SourceRequest(
            directory=folder or str(self.directory), environment=self.environment, options=options
        )

    def _check_outpost(self, name: str | None) -> None:
        known = [outpost.name for outpost in self.config.outposts]
        if name is not None and name not in known:
            raise UserError(
                f"there is no outpost '{name}'{nearest(name, known)}",
                hint=f"configured are: {', '.join(known)}",
            )

    def with_agent(self, task: Task) -> Task:
        """Check the agent, and settle its argv and its budget: the file may change while it waits.

        A command uses no tokens; what those of another agent may cost ``max_budget_usd`` says.
        """
        name, known = task.agent.name, self.agent_names()
        if name not in known:
            raise UserError(
                f"there is no agent '{name}'{nearest(name, known)}",
                hint=f"known are: {', '.join(known)}; any program runs as  -- ARGV…",
            )
        section = self._agent_section(name)
        if name != COMMAND:
            budget = section.max_budget_usd
            return replace(task, token_budget_microusd=None if budget is None else microusd(budget))
        argv = task.agent.argv or tuple(section.argv)
        if not argv:
            raise UserError(
                "the agent 'command' needs a command to run",
                hint="outpost spawn ISSUE -- PROGRAM …, or agents.command.argv in the file",
            )
        return replace(task, agent=AgentSpec(name=name, argv=argv), token_budget_microusd=0)

    def _agent_section(self, name: str) -> AgentConfig:
        return self.config.agents.get(name) or AgentConfig()

    def _module(self, agent: str) -> str:
        """Return which of the runner's agents runs one: of the user's own all are ``acp``."""
        return agent if agent in NAMES else ACP
