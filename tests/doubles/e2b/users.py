"""The users of a sandbox; on this machine all of them are whoever runs the tests."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from connectrpc.code import Code
from connectrpc.errors import ConnectError

if TYPE_CHECKING:
    from connectrpc.request import RequestContext

USERS = ("user", "root")


def user_of(ctx: RequestContext[Any, Any]) -> str:
    """Return who a call is for (HTTP Basic, without a password); raises ``ConnectError``."""
    kind, _, encoded = ctx.request_headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return USERS[0]
    try:
        name = base64.b64decode(encoded).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        return USERS[0]
    if name not in USERS:
        raise ConnectError(Code.UNAUTHENTICATED, f"invalid username: '{name}'")
    return name
