"""Workers run by the runner alone, from orders that a test writes: no store, no federation."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from outpost.control.fold import fold
from outpost.model import Attempt, State
from outpost.runner.place import Place
from outpost.wire.events import Event, EventReader
from outpost.wire.orders import ORDER_VERSION, AgentOrder, PermissionRules
from outpost.wire.prices import cost_microusd
from tests.doubles.messages_api import Tokens
from tests.integration.agent_drive import tokens_of
from tests.integration.claude_program import claude_environment, require_claude
from tests.world import Remote, pids_marked, until

ALLOW_ALL: PermissionRules = {"default": "allow", "allow": [], "ask": [], "deny": []}
BORN = Attempt(
    id="",
    task_id="t-1",
    issue_id="words-1",
    number=1,
    fence=1,
    outpost="local",
    kind="local",
    branch="",
    created_at=datetime.now(UTC),
)


def priced(tokens: Tokens, model: str) -> int | None:
    """Return what tokens cost by the dated table."""
    return cost_microusd(
        model,
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        cache_read_tokens=tokens.cache_read,
        cache_write_tokens=tokens.cache_write,
    )


@dataclass
class LoneWorker:
    """One worker, seen as the controller sees it: its log, its mailbox, its processes."""

    place: Place
    environment: Mapping[str, str]
    messages: int = 0
    killed: bool = False

    @property
    def tree(self) -> Path:
        return Path(self.place.tree)

    def start(self, environment: Mapping[str, object]) -> None:
        said = self._runner("start", self.place.directory, stdin=json.dumps(environment))
        assert said == "started"

    def events(self, type_: str = "") -> list[Event]:
        """Return what the log holds now, of one type."""
        log = Path(self.place.path("events.jsonl"))
        data = log.read_bytes() if log.exists() else b""
        return [event for event in EventReader().feed(data) if type_ in ("", event.type)]

    def fields(self, type_: str) -> list[dict[str, Any]]:
        return [event.fields for event in self.events(type_)]

    def texts(self, type_: str) -> list[str]:
        return [fields["text"] for fields in self.fields(type_)]

    def attempt(self) -> Attempt:
        """Return what the log says of the attempt."""
        attempt = replace(BORN, branch=self.place.order()["branch"])
        for event in self.events():
            attempt = fold(attempt, event)
        return attempt

    def tokens(self) -> Tokens:
        return tokens_of(self.fields("usage"))

    def until(self, look: Callable[[], bool], what: str) -> None:
        """Wait for something; fail as soon as the worker has ended without it."""

        def seen_or_ended() -> bool:
            ended = bool(self.events("result"))
            return look() or ended

        until(seen_or_ended, f"{what} by {self.place.worker_id}", deadline_s=60)
        assert look(), f"ended without {what}: {self.attempt()}"

    def wait_for(self, type_: str, number: int = 1) -> dict[str, Any]:
        """Wait for the n-th event of a type and return its fields."""
        self.until(lambda: len(self.events(type_)) >= number, f"{number} of {type_}")
        return self.fields(type_)[number - 1]

    def wait_for_text(self, type_: str, text: str) -> None:
        self.until(lambda: any(text in told for told in self.texts(type_)), f"{type_} {text!r}")

    def result(self) -> Attempt:
        """Wait for the end, and for every process of the worker to be gone."""
        self.wait_for("result")
        until(lambda: not pids_marked({self.place.worker_id}), "no process is left")
        until(lambda: not self.place.pids("runner.pid"), "no runner is left")
        return self.attempt()

    def send(self, text: str, **more: str) -> dict[str, Any]:
        """Send a text and return the fields of the event that says what became of it."""
        self.messages += 1
        message_id = f"m-{self.messages}"
        self.post({"type": "text", "text": text, "message_id": message_id, **more})
        return self.fate(message_id)

    def fate(self, message_id: str, number: int = 1) -> dict[str, Any]:
        """Wait for the n-th event about a message and return its fields."""

        def told() -> list[dict[str, Any]]:
            found = self.fields("message")
            return [fields for fields in found if fields["message_id"] == message_id]

        self.until(lambda: len(told()) >= number, f"event {number} about {message_id}")
        return told()[number - 1]

    def stop(self, grace_s: float = 4.0) -> None:
        self.post({"type": "stop", "grace_s": grace_s, "reason": "stopped by the test"})

    def post(self, message: Mapping[str, object]) -> None:
        with Path(self.place.path("inbox.jsonl")).open("a") as inbox:
            inbox.write(json.dumps(message) + "\n")

    def kill(self) -> None:
        """Kill all of it; nothing is saved, and it never ends by its own word."""
        self.killed = True
        self._runner("kill", self.place.directory)

    def recover(self) -> None:
        """Finish for a runner and a guard that both died, as the controller has it done."""
        environment = {"agent": {}, "git": dict(self.environment)}
        self._runner("recover", self.place.directory, stdin=json.dumps(environment))

    def _runner(self, *arguments: str, stdin: str = "") -> str:
        argv = [sys.executable, "-m", "outpost.runner", *arguments]
        done = subprocess.run(
            argv,
            env=dict(self.environment),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{argv} exited {done.returncode}: {done.stderr}"
        return done.stdout.strip()


@dataclass
class Workers:
    """Makes lone workers on one repository; ``end`` ends them, and fails if any had not ended."""

    folder: Path
    environment: dict[str, str]
    remote: Remote
    made: list[LoneWorker] = field(default_factory=list)
    # Its processes are found by it, on all of the machine.
    name: str = field(default_factory=lambda: secrets.token_hex(4))

    def claude(self, api_url: str, prompt: str = "Mend the words.", **more: Any) -> LoneWorker:
        """Start a worker whose agent is the real Claude Code.

        ``limits`` and ``options`` add to the order's, ``variables`` to the environment, and
        whatever else is given to the order.
        """
        home = Path(self.environment["HOME"])
        variables = {**claude_environment(home, api_url), "CLAUDE_CODE_MAX_RETRIES": "1"}
        options = {"executable": require_claude(), **more.pop("options", {})}
        agent = AgentOrder(name="claude", argv=[], options=options)
        more = {"permissions": ALLOW_ALL, **more}
        return self.start(agent, prompt, {**variables, **more.pop("variables", {})}, **more)

    def start(
        self, agent: AgentOrder, prompt: str, variables: Mapping[str, str], **more: Any
    ) -> LoneWorker:
        worker_id = f"w-lone{len(self.made)}{self.name}"
        place = Place(str(self.folder / "site" / "workers" / worker_id))
        Path(place.directory).mkdir(parents=True)
        order: dict[str, Any] = {
            "version": ORDER_VERSION,
            "federation_id": "f-test",
            "worker_id": worker_id,
            "task_id": "t-1",
            "issue_id": "words-1",
            "repo_url": self.remote.url,
            "base": None,
            "branch": f"outpost/words-1-{worker_id}",
            "title": "Mend the words",
            "body": "They are wrong.",
            "prompt": prompt,
            "agent": agent,
            "limits": {"time_s": None, "grace_s": 4.0, **more.pop("limits", {})},
            "keep_workspace": True,
            **more,
        }
        ours = self.environment
        environment = {"agent": {**ours, **variables}, "git": ours}
        place.write("order.json", json.dumps(order).encode())
        worker = LoneWorker(Place(place.directory), self.environment)
        self.made.append(worker)
        worker.start(environment)
        return worker

    def pushed(self, worker: LoneWorker, path: str) -> str:
        """Return a file as it is on the branch that a worker pushed."""
        return self.remote.show(f"outpost/words-1-{worker.place.worker_id}", path)

    def end(self) -> None:
        waited_for = [worker for worker in self.made if not worker.killed]
        left = [worker for worker in waited_for if worker.attempt().state not in ENDED]
        for worker in left:
            worker.kill()
        marked = pids_marked({worker.place.worker_id for worker in self.made})
        assert not left, f"still at work: {[worker.attempt() for worker in left]}"
        assert not marked, f"processes left behind: {marked}"


ENDED = {State.DONE, State.FAILED, State.STOPPED}
