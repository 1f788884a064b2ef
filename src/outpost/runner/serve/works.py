"""The workers of this server: starting one or finding it, who is there, and how many may be."""

from __future__ import annotations

import asyncio
import binascii
import json
import os

from outpost.runner.place import Place
from outpost.runner.serve.refused import Refused, malformed, unknown
from outpost.runner.transcript import FILE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from outpost.runner.serve.nursery import Nursery
    from outpost.wire.orders import Environment, Message, WorkOrder
    from outpost.wire.work import Call, Row

    Start = asyncio.Task[str]

LOG, ORDER, INBOX = "events.jsonl", "order.json", "inbox.jsonl"
BUSY_S, LEAVING_S = 5, 1
"""When it is worth asking again, here or at another instance."""


class Works:
    """``leaving``: no new work is taken any more. ``variables`` are the place's own.

    Whatever an order's environment does not say, a worker gets from them. An order is taken once
    it lies on the disk: its worker is started by then or a few milliseconds later, and counts as
    alive meanwhile.
    """

    def __init__(
        self, root: str, nursery: Nursery, max_workers: int, variables: Mapping[str, str]
    ) -> None:
        self.max_workers = max_workers
        self.leaving = False
        self._folder = os.path.join(root, "workers")
        self._trees = os.path.join(root, "trees")
        self._nursery = nursery
        self._variables = variables
        self._starting: dict[str, Start] = {}
        self._rests: set[str] = set()  # seen dead, and nobody has woken them since

    async def attend(self, call: Call) -> tuple[Place, Start | None]:
        """Return the place of a call's worker, and its start, if this very call has begun it.

        A start goes on whether or not anybody waits for it; it returns why nothing came of it,
        or an empty text. Raises ``Refused``.
        """
        worker_id = call["worker_id"]
        while (start := self._starting.get(worker_id)) and not start.done():
            await asyncio.wait({start})
        place = self._place(worker_id)
        order = call.get("order")
        known = _order(place)
        if order and known and known.get("federation_id") != order["federation_id"]:
            raise Refused(409, "another_federation", f"{worker_id} is another federation's")
        if known and _was_started(place):
            return place, None
        if not order:
            raise unknown(worker_id)
        self._check_room()
        try:
            _put_order(place, order)
        except OSError as exc:
            what = f"the order cannot be laid down: {exc.strerror}"
            raise Refused(500, "not_started", what) from exc
        self.woken(place)
        start = asyncio.ensure_future(self._start(place, call["environment"]))
        self._starting[worker_id] = start
        start.add_done_callback(lambda _: self._starting.pop(worker_id, None))
        return place, start

    def place(self, worker_id: str) -> Place:
        """Return the place of a worker; raises ``Refused`` where there is none."""
        place = self._place(worker_id)
        tree = os.path.join(self._trees, worker_id)
        if not os.path.isdir(place.directory) and not os.path.isdir(tree):
            raise unknown(worker_id)
        return place

    def rows(self) -> list[Row]:
        """Return all workers that are or were here."""
        return [self._row(place) for place in self._places()]

    def row(self, worker_id: str) -> Row:
        """Return one of them; raises ``Refused`` where there is none."""
        place = self._place(worker_id)
        if not os.path.exists(place.path(ORDER)):
            raise unknown(worker_id)
        return self._row(place)

    def living(self) -> list[Place]:
        """Return the places of those that live."""
        found = []
        for place in self._places():
            if place.worker_id in self._rests:
                continue
            if place.cared_for():
                found.append(place)
            elif place.worker_id not in self._starting:
                self._rests.add(place.worker_id)
        return found

    def woken(self, place: Place) -> None:
        """Take note that a worker may live again."""
        self._rests.discard(place.worker_id)

    def busy(self) -> int:
        """Return how many live, or are about to."""
        return len({place.worker_id for place in self.living()} | set(self._starting))

    def with_ours(self, environment: Environment) -> Environment:
        """Return variables together with those of this place."""
        return {
            "agent": {**self._variables, **environment["agent"]},
            "git": {**self._variables, **environment["git"]},
        }

    @staticmethod
    def post(place: Place, messages: Sequence[Message]) -> None:
        """Put messages in a worker's mailbox, all or none; raises ``OSError``."""
        # Whatever a sender that was killed left half is a line of its own then.
        data = b"".join(b"\n" + json.dumps(it).encode() + b"\n" for it in messages)
        fd = os.open(place.path(INBOX), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            while data:
                data = data[os.write(fd, data) :]
        finally:
            os.close(fd)

    def _place(self, worker_id: str) -> Place:
        return Place(os.path.join(self._folder, worker_id))

    def _places(self) -> Iterator[Place]:
        try:
            names = sorted(os.listdir(self._folder))
        except FileNotFoundError:
            return
        for place in map(self._place, names):
            if place.worker_id in self._rests or os.path.exists(place.path(ORDER)):
                yield place

    def _check_room(self) -> None:
        if self.leaving:
            raise Refused(
                *(503, "leaving", "this instance is about to end: ask another one"),
                headers={"retry-after": str(LEAVING_S)},
            )
        if self.busy() >= self.max_workers:
            raise Refused(
                *(503, "busy", f"no room: {self.max_workers} may run here at once"),
                headers={"retry-after": str(BUSY_S)},
            )

    async def _start(self, place: Place, environment: Environment) -> str:
        given = json.dumps(self.with_ours(environment)).encode()
        try:
            started = await self._nursery.start(place.directory, given)
        except OSError as exc:
            return f"the runner cannot be started: {exc}"
        return "" if started else "the runner died at its start"

    def _row(self, place: Place) -> Row:
        alive = place.worker_id in self._starting or place.cared_for()
        return {"worker_id": place.worker_id, "liveness": "alive" if alive else "dead"}


def _put_order(place: Place, order: WorkOrder) -> None:
    """Lay an order down; the conversation that it may have goes apart, and before it.

    An order that nobody carries out would stand there like a worker.
    """
    transcript = order.get("transcript")
    os.makedirs(place.directory, mode=0o700, exist_ok=True)
    if transcript is not None:
        try:
            data = binascii.a2b_base64(transcript.pop("data", ""))
        except (ValueError, TypeError) as exc:
            raise malformed(f"order.transcript.data is no base64: {exc}") from exc
        if data:
            place.write(FILE, data)
    place.write(ORDER, json.dumps(order).encode())


def _order(place: Place) -> WorkOrder | None:
    try:
        return place.order()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def _was_started(place: Place) -> bool:
    """Whether an order was not only laid down: its start may have been cut short."""
    return os.path.exists(place.path(LOG)) or place.cared_for()
