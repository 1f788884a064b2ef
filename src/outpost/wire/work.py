"""The HTTP work protocol between a controller and ``runner serve``, which runs in a container.

HTTP/2 with prior knowledge or HTTP/1.1, always with ``Authorization: Bearer TOKEN``.

===========================================  ====================================================
request                                      answer
===========================================  ====================================================
``POST /work``, a line of JSON: ``Call``,    200, lines: ``Said`` ``attached``, then the worker's
then, as long as the client goes on          log from there on, byte for byte, and between its
writing, ``Said`` lines                      lines further ``Said`` lines; ends after ``ended``
``GET /work``                                200, lines: ``Row``, one for each worker there
``GET /work/ID``                             200, ``Row``
``GET /work/ID/events?after=N&offset=B``     200, the lines of the log behind event ``after`` (or
``&wait=S``                                  byte ``offset``); with ``wait`` not before there is
                                             one, or ``wait`` seconds (60 at most) have passed
``POST /work/ID/messages``, lines:           204, once they are in the worker's mailbox
``Message``
``POST /work/ID/VERB?argument=A``, bytes     200, what that command of the runner printed, with
                                             its exit code in the header ``outpost-exit-code``
                                             and the end of its stderr, quoted as in a URL, in
                                             ``outpost-stderr``; ``VERB`` is one of ``VERBS``
``GET /health``                              200, ``ServerHealth``
===========================================  ====================================================

A line of the log begins with ``{"seq":``, a line of the server's own with ``SAID``. Whoever was cut
off asks again for what follows the last line seen, here or at the next instance. A start is
idempotent by ``worker_id``: a second one attaches to what the first has started.

Whatever else is answered is a ``Refusal``: 400 (malformed), 401 (token), 404 (no such worker or
path here), 405 (method), 409 (the worker is another federation's), 413 (too large), 500
(``not_started``, ``not_delivered``, ``fault``), 503 with ``Retry-After``
(``busy``: no room for another worker; ``leaving``: this instance is about to end).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NotRequired, TypedDict

    from outpost.wire.orders import Environment, WorkOrder
else:
    TypedDict = dict  # Python 3.10, where the runner may run, knows no NotRequired

PROTOCOL = 1
SAID = b'{"said":'
HEARTBEAT_S = 15.0
DEAD_AFTER_S = 45.0
"""A peer that has not said anything for so long is taken for dead."""
VERBS = ("kill", "terminate", "recover", "unsaved", "diff", "transcript", "remove")
CALL_MOST_BYTES = 64 << 20  # an order may carry a conversation
LINE_MOST_BYTES = 1 << 20
EXIT_CODE_HEADER = "outpost-exit-code"
STDERR_HEADER = "outpost-stderr"


class Call(TypedDict):
    """The first line of ``POST /work``: start a worker, or (without ``order``) only attach to it.

    ``after`` is the last event that was seen, ``offset`` the byte behind it (0: unknown, look for
    it). ``hold``: the answer does not end with the worker, so that the instance stays warm; a
    further line may be a ``Call`` again then.
    """

    worker_id: str
    after: int
    offset: NotRequired[int]
    order: NotRequired[WorkOrder]
    environment: NotRequired[Environment]
    hold: NotRequired[bool]


class Said(TypedDict):
    """A line that is not of the log.

    ``said`` by the server: ``attached`` (``worker_id``, ``instance``, ``liveness``, ``started``:
    by this very call; its order lies there, the rest follows within milliseconds), ``heartbeat``
    (after ``HEARTBEAT_S`` of silence), ``answer`` (``id``, ``exit_code``, ``stdout`` and
    ``stderr`` in base64), ``taken`` (``id``: that message is in the mailbox), ``ended``
    (``liveness``: ``dead``; all of the log was sent), ``refused`` (``code``, ``message``: a
    further line cannot be met, or ``not_started``: nothing came of the start), ``leaving`` (the
    platform ends this instance; its workers save their work now).

    ``said`` by the client: ``message`` (``message``; with ``id``: answered with ``taken``), ``ask``
    (``id``, ``verb``, ``arguments``, ``stdin`` in base64: answered with ``answer``), ``call``
    (``call``: a ``Call``, once the worker of the one before has ended).
    """

    said: str
    time: NotRequired[str]
    worker_id: NotRequired[str]
    instance: NotRequired[str]
    liveness: NotRequired[str]
    started: NotRequired[bool]
    id: NotRequired[str]
    verb: NotRequired[str]
    arguments: NotRequired[list[str]]
    stdin: NotRequired[str]
    exit_code: NotRequired[int]
    stdout: NotRequired[str]
    stderr: NotRequired[str]
    code: NotRequired[str]
    message: NotRequired[object]
    call: NotRequired[Call]


class Row(TypedDict):
    """A worker as it is seen there: ``liveness`` is ``alive`` or ``dead``."""

    worker_id: str
    liveness: str


class ServerHealth(TypedDict):
    """``capacity``: how many workers may run at once; ``workers``: how many do."""

    protocol: int
    version: str
    instance: str
    capacity: int
    workers: int
    leaving: bool


class Refusal(TypedDict):
    """The body of an answer that is not a 2xx."""

    code: str
    message: str
