"""What a controller and ``runner job`` say to each other through the objects of a bucket.

For work in a container that nobody can reach, such as a task of a Cloud Run job::

    outpost/FEDERATION/WORKER/worker        a ``Record`` (JSON): who works on it
                              log/OFFSET    the worker's log from that byte on, whole lines
                              inbox/NUMBER  a ``Message`` (JSON); they count from 1

``worker`` is written only as it is not there, or on top of the generation that was read, so two
never take the same order: whoever starts the container lays the order down in it, the container
takes it by writing the record without. An object under ``log`` begins where the one before ends,
and what was written is never changed: both sides know the name of the next one without a list.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NotRequired, TypedDict

    from outpost.wire.work import Call
else:
    TypedDict = dict  # Python 3.10, where the runner may run, knows no NotRequired

RECORD = "worker"
ROOT = "outpost"
PREFIX = "OUTPOST_JOB_"
BUCKET = f"{PREFIX}BUCKET"
FOLDER = f"{PREFIX}FOLDER"
GRACE = f"{PREFIX}GRACE"
"""Variables of ``runner job``: the bucket, the worker's folder there, and how many seconds lie
between SIGTERM and the end."""


class Record(TypedDict):
    """``region``: where the container is; ``asked_at``: when, in seconds since the epoch.

    ``execution``: the container's own name, once that is known; ``call``: the order, until it is
    taken; ``ended``: nothing runs any more, and all of the log is there; ``why``: why the order was
    taken away before anybody took it.
    """

    region: str
    asked_at: float
    execution: NotRequired[str]
    call: NotRequired[Call]
    ended: NotRequired[bool]
    why: NotRequired[str]


def folder(federation_id: str, worker_id: str = "") -> str:
    """Return what the names of a worker's objects begin with, or those of all of a federation."""
    return f"{ROOT}/{federation_id}/{worker_id}/" if worker_id else f"{ROOT}/{federation_id}/"


def piece(offset: int) -> str:
    """Return the name of the object with the log from a byte on, below the worker's folder."""
    return f"log/{offset:020d}"


def letter(number: int) -> str:
    """Return the name of a message, below the worker's folder."""
    return f"inbox/{number:09d}"
