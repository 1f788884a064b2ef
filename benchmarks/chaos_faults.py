"""What goes wrong in a run of chaos: one thing after the other, chosen at random."""

from __future__ import annotations

import math
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.chaos_world import SLOTS, ChaosWorld
from outpost.model import Attempt

SPAWN_FAULTS = (
    "not_dispatched",
    "no_capacity",
    "rate_limited:1",
    "fault",
    "ambiguous_lost",
    "ambiguous_started",
    "killed_before",
    "killed_after",
)
PAUSE_S = 3.0
LONGEST_PAUSE_S = 25.0
"""Longer than a controller's leases last: another takes its outposts over."""
LONGEST_ALONE_S = 10.0
"""Who is paused in a transaction on SQLite holds up everybody, who wait for half a minute."""
CUT_S, LONGEST_CUT_S = 5.0, 40.0
"""The longest make the controller give workers up that go on."""
COMMANDS_AT_ONCE = 3


@dataclass(slots=True)
class Trouble:
    """Brings faults over a world. ``injected`` counts by kind those that it does itself.
    ``given_up`` has the last words of controllers that ended although nobody killed them.

    Faults of an outpost's calls count once they have happened: ``happened`` reads them.
    """

    world: ChaosWorld
    chance: random.Random
    injected: Counter[str] = field(default_factory=Counter)
    given_up: list[str] = field(default_factory=list)
    _starts_at: dict[int, float] = field(default_factory=dict)
    _goes_on_at: dict[int, float] = field(default_factory=dict)
    _commands: dict[subprocess.Popen[bytes], float] = field(default_factory=dict)

    async def strike(self) -> None:
        """Let one thing go wrong."""
        acts: Mapping[Callable[[], None], int] = {
            self._kill_controller: 4,
            self._pause_controller: 3,
            self._break_spawn: 8,
            self._break_destroy: 2,
            self._break_find: 1,
            self._hide: 1,
            self._cut_off: 4,
            self._bend_time: 1,
            self._kill_worker: 5,
        }
        (act,) = self.chance.choices(list(acts), list(acts.values()))
        act()
        if self.chance.random() < 0.3:
            await self._command()

    def tick(self) -> None:
        """Do what is due: start what was killed, wake what was paused, kill commands half-way."""
        now = time.monotonic()
        for number, up in enumerate(self.world.controllers):
            if up.lives:
                self._starts_at[number] = now + self.chance.uniform(0, 2)
            elif now >= self._starts_at.get(number, 0.0):
                if up.code not in (0, -signal.SIGKILL):
                    self.given_up.append(up.last_words())
                up.start()
            if now >= self._goes_on_at.get(number, math.inf):
                del self._goes_on_at[number]
                up.signal(signal.SIGCONT)
        for command, killed_at in list(self._commands.items()):
            if command.poll() is not None:
                del self._commands[command]
            elif now >= killed_at:
                command.kill()
                self.injected["command killed"] += 1

    def end(self) -> None:
        """Wait for what is left of commands."""
        for command in self._commands:
            command.wait(60)

    def happened(self) -> Counter[str]:
        """Return all faults so far by kind."""
        counted = Counter(self.injected)
        for faults in self.world.faults.values():
            for call in ("spawn", "find", "destroy"):
                for made in faults.calls(call):
                    name = made["fault"].partition(":")[0]
                    if name not in ("ok", "partition"):
                        counted[f"{call}: {name}"] += 1
        return counted

    def _kill_controller(self) -> None:
        self.chance.choice(self.world.controllers).kill()
        self.injected["controller killed"] += 1

    def _pause_controller(self) -> None:
        number = self.chance.randrange(len(self.world.controllers))
        up = self.world.controllers[number]
        if up.lives and number not in self._goes_on_at:
            up.signal(signal.SIGSTOP)
            alone = len(self.world.controllers) == 1
            longest_s = LONGEST_ALONE_S if alone else LONGEST_PAUSE_S
            pause_s = min(self.chance.expovariate(1 / PAUSE_S), longest_s)
            self._goes_on_at[number] = time.monotonic() + pause_s
            self.injected["controller paused"] += 1

    def _break_spawn(self) -> None:
        faults = [self.chance.choice(SPAWN_FAULTS) for _ in range(self.chance.randint(1, 3))]
        self._change(spawn=faults)

    def _break_destroy(self) -> None:
        self._change(destroy=[self.chance.choice(("lost", "fault"))])

    def _break_find(self) -> None:
        self._change(find=[self.chance.choice(("fault", "none"))])

    def _hide(self) -> None:
        """Start a worker of which nobody learns: not from the start, nor by looking for it."""
        self._change(spawn=["ambiguous_started"], find=["none"])

    def _cut_off(self) -> None:
        cut_s = min(self.chance.expovariate(1 / CUT_S), LONGEST_CUT_S)
        self._change(partition_until=time.monotonic() + cut_s)
        self.injected["outpost cut off"] += 1

    def _bend_time(self) -> None:
        self._change(
            clock_skew_s=self.chance.choice((0, 0, -30, 30)),
            list_lags=self.chance.choice((0, 0, 2)),
            delay_s=self.chance.choice((0, 0, 0.3)),
        )
        self.injected["clock, list or start made late"] += 1

    def _kill_worker(self) -> None:
        if living := self.world.records.living():
            line = self.chance.choice(living)
            self.world.records.kill(line["outpost"], line["worker_id"])
            self.injected["worker killed"] += 1

    def _change(self, **faults: object) -> None:
        self.world.faults[self.chance.choice(list(SLOTS))].change(**faults)

    async def _command(self) -> None:
        """Start a command of the user's; every other is killed in the middle."""
        if len(self._commands) >= COMMANDS_AT_ONCE:
            return
        words = await self._words()
        home = self.chance.randrange(len(self.world.controllers))
        killed_at = math.inf
        if self.chance.random() < 0.5:
            killed_at = time.monotonic() + self.chance.uniform(0.05, 1.5)
        self._commands[self.world.command(home, *words)] = killed_at
        self.injected[f"command {words[0]}"] += 1

    async def _words(self) -> list[str]:
        if self.chance.random() < 0.4:
            attempts: list[Attempt] = await self.world.store.attempts()
            if attempts:
                return ["stop", self.chance.choice(attempts).id]
        if self.chance.random() < 0.3:
            queued = await self.world.store.queued(limit=20)
            if queued:
                return ["cancel", self.chance.choice(queued).id]
        return self.world.spawn_arguments(self.chance.randrange(10**6))
