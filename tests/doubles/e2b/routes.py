"""What a part of the API answers: a method, a pattern of the path as it is sent, and who does."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from tests.doubles.e2b.calls import Call, Reply

Handler = Callable[[Call, re.Match[str]], Awaitable[Reply]]
Route = tuple[str, str, Handler]
