"""What all requests to one server share."""

from __future__ import annotations

import errno
import os

from outpost.runner.serve.asking import Asking
from outpost.runner.serve.following import Following
from outpost.runner.serve.growth import Growth
from outpost.runner.serve.nursery import Nursery, runner_argv
from outpost.runner.serve.refused import Refused, unknown
from outpost.runner.serve.works import Works
from outpost.wire.work import PROTOCOL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from outpost.runner.place import Place
    from outpost.runner.serve.options import Options
    from outpost.runner.serve.stream import Stream
    from outpost.wire.orders import Message
    from outpost.wire.work import ServerHealth


class Server:
    """Made in a running loop. ``streams`` are those of ``POST /work`` that are open."""

    def __init__(self, options: Options, variables: Mapping[str, str]) -> None:
        self.instance = f"i-{os.urandom(5).hex()}"
        self.heartbeat_s = options.heartbeat_s
        self.token = options.token
        self.nursery = Nursery(options.root)
        self.works = Works(options.root, self.nursery, options.max_workers, variables)
        self.growth = Growth()
        self.asking = Asking(self.works)
        self.following = Following()
        self.streams: set[Stream] = set()
        self._version = _version()

    def health(self) -> ServerHealth:
        """Return what is said to whoever asks how it is."""
        return {
            "protocol": PROTOCOL,
            "version": self._version,
            "instance": self.instance,
            "capacity": self.works.max_workers,
            "workers": self.works.busy(),
            "leaving": self.works.leaving,
        }

    def post(self, place: Place, messages: Sequence[Message]) -> None:
        """Put messages in a worker's mailbox; raises ``Refused``."""
        try:
            self.works.post(place, messages)
        except FileNotFoundError:
            raise unknown(place.worker_id) from None
        except OSError as exc:
            full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
            hint = "; its disk is full: ask for terminate" if full else ""
            what = f"{place.worker_id} takes no message: {exc.strerror}{hint}"
            raise Refused(500, "not_delivered", what) from exc


def _version() -> str:
    """Return which runner this is: its archive's name carries its content's hash."""
    path = runner_argv()[-1]
    return os.path.basename(path).removesuffix(".pyz") if path.endswith(".pyz") else "source"
