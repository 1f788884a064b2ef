"""The command line of a world, and controllers of it that are processes of their own."""

from __future__ import annotations

import subprocess
from typing import Any

from tests.integration.cli_world import OUTPOST, Cli
from tests.world import World, until


class ControlledWorld:
    """Submits tasks by command; ``up`` starts a controller, ``end`` ends all of them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cli = Cli(world)
        self._controllers: list[subprocess.Popen[bytes]] = []

    def configure(self, text: str) -> None:
        """Write the configuration that commands and controllers find."""
        (self.cli.here / "outposts.yaml").write_text(text)

    def up(self) -> subprocess.Popen[bytes]:
        with (self.world.folder / "up.log").open("ab") as log:
            process = subprocess.Popen(
                [*OUTPOST, "up"],
                cwd=self.cli.here,
                env={**self.world.environment, "OUTPOST_HOME": str(self.world.home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._controllers.append(process)
        return process

    def end(self) -> None:
        for process in self._controllers:
            process.terminate()
        for process in self._controllers:
            process.wait(30)

    def spawn(self, script: str) -> str:
        """Submit a task; return its id."""
        return str(self.cli.spawn(script)["task"])

    def rows(self) -> list[dict[str, Any]]:
        """Return all workers, the oldest first."""
        found: list[dict[str, Any]] = self.cli("ps", "--all", "--json").json()
        return found

    def row(self, task: str) -> dict[str, Any]:
        """Return the newest worker of a task."""
        return next((it for it in reversed(self.rows()) if it["task"] == task), {})

    def until(self, task: str, state: str) -> dict[str, Any]:
        """Wait until the newest worker of a task is in a state; return it."""
        until(lambda: self.row(task).get("state") == state, f"{task} {state}", deadline_s=60)
        return self.row(task)
