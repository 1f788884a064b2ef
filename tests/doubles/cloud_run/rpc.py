"""gRPC services made from the official message types, without generated server code.

The types of ``google.cloud.run_v2`` are proto-plus, those of operations and policies plain
protobuf; both are read and written here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc  # type: ignore[import-untyped]
import proto  # type: ignore[import-untyped]

Code = grpc.StatusCode
Call = Callable[[Any], Awaitable[Any]]


class Refused(Exception):
    """A call's status that is not OK."""

    def __init__(self, code: Any, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, kw_only=True)
class Method:
    """One remote procedure: its function with the types of what it takes and returns."""

    call: Call
    takes: Any
    returns: Any


Around = Callable[[str, Call, Any], Awaitable[Any]]
"""Runs a call of a name: what the faults on demand hook into."""


def handler(service: str, methods: Mapping[str, Method], around: Around) -> Any:
    """Return what a gRPC server takes for one service."""
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            _served(name, method, around),
            request_deserializer=_reader(method.takes),
            response_serializer=_writer(method.returns),
        )
        for name, method in methods.items()
    }
    return grpc.method_handlers_generic_handler(service, handlers)


def plain(message: Any) -> Any:
    """Return a message as protobuf has it."""
    return type(message).pb(message) if isinstance(message, proto.Message) else message


def _served(name: str, method: Method, around: Around) -> Callable[[Any, Any], Awaitable[Any]]:
    async def serve(request: Any, context: Any) -> Any:
        try:
            return await around(name, method.call, request)
        except Refused as refused:
            return await context.abort(refused.code, str(refused))

    return serve


def _reader(kind: Any) -> Callable[[bytes], Any]:
    read: Callable[[bytes], Any]
    read = kind.deserialize if issubclass(kind, proto.Message) else kind.FromString
    return read


def _writer(kind: Any) -> Callable[[Any], bytes]:
    def write(message: Any) -> bytes:
        data: bytes = plain(message).SerializeToString()
        return data

    return write
