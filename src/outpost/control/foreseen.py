"""What nobody foresaw in one outpost's code is that outpost's fault, and no other's trouble."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from outpost.errors import OutpostError, OutpostFault

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def as_fault_of(name: str) -> Iterator[None]:
    """Turn whatever an outpost raises against its contract into an ``OutpostFault`` of it."""
    try:
        yield
    except OutpostError:
        raise
    except TimeoutError as exc:
        raise OutpostFault("no answer in time", outpost=name) from exc
    except Exception as exc:
        logger.debug("%s failed", name, exc_info=True, extra={"outpost": name})
        said = f"{type(exc).__name__}: {exc}".partition("\n")[0].removesuffix(": ")
        hint = "this is a bug in what serves outposts of its type"
        raise OutpostFault(f"it failed unforeseen: {said}", outpost=name, hint=hint) from exc
