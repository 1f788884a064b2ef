"""Why something that was asked for is not done, as an answer of HTTP."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from outpost.wire.work import Refusal


class Refused(Exception):
    """``status`` is HTTP's; ``code`` and the message are a ``Refusal``."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.refusal: Refusal = {"code": code, "message": message}


def malformed(message: str) -> Refused:
    return Refused(400, "malformed", message)


def too_large(message: str) -> Refused:
    return Refused(413, "too_large", message)


def unknown(worker_id: str) -> Refused:
    return Refused(404, "unknown_worker", f"there is no worker {worker_id} here")
