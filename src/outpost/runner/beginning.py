"""Where a worker begins: at the base, at what an earlier one pushed, or in its workspace."""

from __future__ import annotations

import os
import time

from outpost.runner.cache import Base, Cache
from outpost.runner.git import GitError
from outpost.runner.loop import Loop
from outpost.runner.place import Place
from outpost.runner.workspace import NOTHING_LEFT, Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from outpost.wire.orders import WorkOrder

LEAVES_S = 180.0  # an earlier worker may be saving its work; longer than a rescue takes
LOOK_S = 0.05


class Beginning:
    """Makes the workspace of one order; whoever has a lease to take does that before ``make``.

    Then ``follows`` tells whether it holds somebody's work already. ``start`` is the commit on the
    remote that it was made from, empty where that is the base or an earlier workspace.
    """

    def __init__(
        self, place: Place, order: WorkOrder, cache: Cache, workspace: Workspace, loop: Loop
    ) -> None:
        self.start = ""
        self.follows = False
        self._place = place
        self._order = order
        self._cache = cache
        self._workspace = workspace
        self._loop = loop
        self._left: dict[str, str] = {}

    def fetch_base(self) -> Base:
        """Fetch the base; empty where it is not there, but the branch to go on with is.

        So it is where the branch is the first of its repository, or the base was merged away.
        """
        if problem := self._order.get("unprepared"):
            raise GitError(problem, 1)
        try:
            return self._cache.fetch(self._order["base"], self._order.get("asked_at", time.time()))
        except GitError:
            if not self._order.get("resume") or not self._cache.fetch_branch(self._order["branch"]):
                raise
            return Base("", "")

    def make(self, base: Base) -> None:
        """Make the workspace, or go on in an earlier worker's; raises ``GitError``."""
        workspace, refs = self._workspace, self._order.get("from_refs") or []
        resume = self._order.get("resume")
        if resume:
            self._await_leaving(resume["worker_id"])
        if refs and workspace.is_there:
            self._left = self._cache.tips(refs)
        elif refs:
            self._left = self._cache.fetch_refs(refs)
            self.start = self._cache.newest(list(self._left.values())) if self._left else ""
        if resume:
            workspace.go_on(base, self.start)
        else:
            workspace.create(base, self.start)
            if refs and not self.start:
                workspace.warnings.append(NOTHING_LEFT)
        self.follows = bool(resume or self.start)

    def left_in(self, ref: str) -> str:
        """Return the commit that an earlier attempt left in a ref of the remote, or nothing."""
        return self._left.get(ref, "")

    def _await_leaving(self, worker_id: str) -> None:
        """Wait until an earlier worker, whose end is known already, has left its workspace."""
        earlier = Place(os.path.join(os.path.dirname(self._place.directory), worker_id))
        deadline = time.monotonic() + LEAVES_S
        while earlier.cared_for():
            if time.monotonic() > deadline:
                raise GitError(f"{worker_id} has not left the workspace {self._place.tree}", 1)
            self._loop.pause(LOOK_S)
