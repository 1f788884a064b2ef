"""Holds requests and answers to a provider's published contract; what breaks it is written down."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from openapi_core import OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.exceptions import OpenAPIError
from werkzeug.datastructures import Headers

from tests.doubles.e2b.calls import Call, Refused, Reply

FOLDER = Path(__file__).parents[2] / "data" / "contracts" / "e2b"
HOST = "https://contract"
ANYWHERE = {"400": "400", "401": "401", "404": "404", "422": "400", "429": "429", "503": "503"}
"""Statuses that any call of the API may be answered with, and which of its errors they have."""


class Contract:
    """One contract; ``violations`` are sentences, and none of them may be there in the end."""

    def __init__(self, openapi: OpenAPI) -> None:
        self._openapi = openapi
        self.violations: list[str] = []

    @classmethod
    def of_api(cls) -> Contract:
        return cls(_api())

    @classmethod
    def of_envd(cls) -> Contract:
        return cls(_envd())

    def check_request(self, call: Call) -> None:
        """Raises ``Refused`` for what the contract does not allow."""
        try:
            self._openapi.validate_request(_Request(call))
        except OpenAPIError as exc:
            what = self._note(f"{call.method} {call.path}: request", exc)
            raise Refused(400, what) from exc

    def check_answer(self, call: Call, reply: Reply) -> None:
        try:
            self._openapi.validate_response(_Request(call), _Answer(reply))
        except OpenAPIError as exc:
            self._note(f"{call.method} {call.path}: answer {reply.status}", exc)

    def _note(self, about: str, exc: OpenAPIError) -> str:
        causes: list[BaseException] = [exc]
        while cause := causes[-1].__cause__:
            causes.append(cause)
        details = [str(error.message) for error in getattr(causes[-1], "schema_errors", ())]
        text = f"{about}: {'; '.join(map(str, [*causes, *details]))}"
        self.violations.append(text)
        return text


class _Request:
    """A call as the library wants it."""

    def __init__(self, call: Call) -> None:
        self.host_url = HOST
        self.path = call.raw_path
        self.method = call.method.lower()
        self.body = call.body or None
        self.content_type = call.content_type
        self.parameters = RequestParameters(query=call.query, header=call.headers)


class _Answer:
    """A reply as the library wants it."""

    def __init__(self, reply: Reply) -> None:
        self.status_code = reply.status
        self.content_type = reply.content_type
        self.headers = Headers(list(reply.headers.items()))
        self.data = reply.body or None


@functools.cache
def api_document() -> dict[str, Any]:
    """Return E2B's contract, with what its own client calls and the contract does not describe.

    These are the second versions of two calls, as the models of ``e2b`` 2.63 have them, and errors
    that its infrastructure answers anywhere.
    """
    document = _read("openapi.yml")
    schemas, paths = document["components"]["schemas"], document["paths"]
    created = {**schemas["NewSandbox"]["properties"]}
    del created["secure"]  # the second version always is
    connected = {**schemas["ConnectSandbox"]["properties"], "memory": {"type": "boolean"}}
    _add_second(document, "/sandboxes", "NewSandboxV2", created, required=["templateID"])
    _add_second(document, "/sandboxes/{sandboxID}/connect", "ConnectSandboxV2", connected)
    for operations in paths.values():
        for operation in operations.values():
            if isinstance(operation, dict) and "responses" in operation:
                for status, error in ANYWHERE.items():
                    reference = {"$ref": f"#/components/responses/{error}"}
                    operation["responses"].setdefault(status, reference)
    return document


def _add_second(
    document: dict[str, Any],
    path: str,
    name: str,
    properties: dict[str, Any],
    required: Sequence[str] = (),
) -> None:
    """Add the second version of a call whose body has these properties and no others."""
    schema = {"type": "object", "properties": properties, "additionalProperties": False}
    document["components"]["schemas"][name] = schema | ({"required": required} if required else {})
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    second = {
        **document["paths"][path]["post"],
        "requestBody": {"required": True, "content": content},
    }
    document["paths"].setdefault(f"/v2{path}", {})["post"] = second


@functools.cache
def _api() -> OpenAPI:
    return _openapi(api_document())


@functools.cache
def _envd() -> OpenAPI:
    return _openapi(_read("envd.yaml"))


def _read(name: str) -> dict[str, Any]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    contract: dict[str, Any] = yaml.load((FOLDER / name).read_text(), Loader=loader)
    return contract


def _openapi(contract: dict[str, Any]) -> OpenAPI:
    return OpenAPI.from_dict({**contract, "servers": [{"url": HOST}]})
