"""Having outposts do what they need done from time to time, such as renewing what runs out."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from outpost.control.loops import Leased, Loop
from outpost.control.loops.beside import Beside
from outpost.model import Attempt, State
from outpost.ports import Tended

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from outpost.ports import Clock, Outpost, Store

EVERY_S = 20.0


class Tend(Loop):
    """Tends those of ``outposts`` (by name) that are ours; none waits for another.

    How long a worker has waited is counted from when this controller saw it wait first.
    """

    name: ClassVar[str] = "tend"

    def __init__(
        self, store: Store, clock: Clock, outposts: Mapping[str, Outpost], *, leased: Leased
    ) -> None:
        super().__init__()
        self.every_s = EVERY_S
        self._store = store
        self._clock = clock
        self._outposts = outposts
        self._leased = leased
        self._waiting_since: dict[str, datetime] = {}
        self._beside = Beside()

    async def round(self) -> None:
        """Begin to tend each outpost; one that takes long does not hold up the next round."""
        ours = {name: it for name, it in self._outposts.items() if self._leased.mine(name)}
        workers: dict[str, list[Tended]] = {name: [] for name in ours}
        waiting_since: dict[str, datetime] = {}
        now = self._clock.now()
        for attempt in await self._store.attempts() if ours else ():
            if attempt.handle is None or attempt.outpost not in ours or attempt.state.ended:
                continue
            if _waits(attempt):
                waiting_since[attempt.id] = self._waiting_since.get(attempt.id, now)
            since = waiting_since.get(attempt.id)
            waiting_s = None if since is None else max(0.0, (now - since).total_seconds())
            tended = Tended(handle=attempt.handle, waiting_s=waiting_s)
            workers[attempt.outpost].append(tended)
        self._waiting_since = waiting_since
        self._beside.keep_at({it: partial(ours[it].tend, workers[it]) for it in ours})
        troubles = self._beside.troubles
        self.doing = "; ".join(f"{name}: {why}" for name, why in sorted(troubles.items()))

    async def close(self) -> None:
        """Let go of what goes on: the next controller does it again."""
        await self._beside.close()


def _waits(attempt: Attempt) -> bool:
    """Whether it waits for a person: as it told last, if it is out of sight."""
    state = attempt.told if attempt.state is State.UNKNOWN else attempt.state
    return state is State.WAITING and not attempt.stop_asked
