"""Fly's published contract: what every request and every answer of the stand-in is held to.

The contract says less than is true: it has an operationId twice, describes no 401, 404, 408, 409,
412, 422 and 429, names no filter by metadata, and shows leases without the envelope in which they
come. What is not described is held to ``ErrorResponse``, and nothing may be in a request's body or
query that the contract does not name.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openapi_core import OpenAPI
from openapi_core.exceptions import OpenAPIError
from openapi_core.testing import MockRequest, MockResponse

from tests.doubles.fly.call import Call

SPEC = Path(__file__).parents[2] / "data/contracts/fly/openapi3.json"
HOST = "https://api.machines.dev"
BASE = "/v1"
FILTER = "metadata."
JSON = "application/json"
SCHEMAS = "#/components/schemas/"


@dataclass(frozen=True, kw_only=True)
class Contract:
    """The contract, ready to judge; ``spec`` is it as data, with its defects mended."""

    spec: Mapping[str, Any]
    judge: Any

    def request_faults(self, call: Call) -> list[str]:
        """Say what is wrong with a request; an empty list if nothing is."""
        operation = self._operation(call)
        if operation is None:
            return ["the contract has no such operation"]
        named = {it["name"] for it in operation.get("parameters", ()) if it["in"] == "query"}
        faults = [
            f"the query {name!r} is not in the contract"
            for name, _ in call.query
            if name not in named and not name.startswith(FILTER)
        ]
        try:
            self.judge.validate_request(_request(call))
        except OpenAPIError as exc:
            faults.append(_told(exc))
        return faults

    def answer_faults(self, call: Call, status: int, body: bytes) -> list[str]:
        """Say what is wrong with an answer; an empty list if nothing is."""
        described = (self._operation(call) or {}).get("responses", {}).get(str(status))
        if described is None:
            return self._error_faults(call, status, body)
        if status == 204 and body:
            return ["204 with a body"]
        if JSON not in described.get("content", {}):
            return []
        try:
            answer = MockResponse(body, status, content_type=JSON)
            self.judge.validate_response(_request(call), answer)
        except OpenAPIError as exc:
            return [_told(exc)]
        return []

    def _error_faults(self, call: Call, status: int, body: bytes) -> list[str]:
        if status < 400:
            return [f"the contract has no answer {status}"]
        if call.path.endswith("/lease"):
            return []  # these speak in an envelope of their own
        try:
            said = json.loads(body)
        except ValueError:
            return [] if status >= 500 else [f"a {status} that is no JSON"]
        return [] if isinstance(said.get("error"), str) else [f"a {status} without an error"]

    def _operation(self, call: Call) -> Mapping[str, Any] | None:
        words = call.path.removeprefix(BASE).strip("/").split("/")
        for pattern, operations in self.spec["paths"].items():
            parts = pattern.strip("/").split("/")
            if len(parts) == len(words) and all(
                part.startswith("{") or part == word
                for part, word in zip(parts, words, strict=True)
            ):
                found: Mapping[str, Any] | None = operations.get(call.method.lower())
                if found is not None:
                    return found
        return None


@functools.cache
def contract() -> Contract:
    """Read the contract, once in a process."""
    spec = json.loads(SPEC.read_text())
    metadata = spec["paths"]["/apps/{app_name}/machines/{machine_id}/metadata"]
    metadata["patch"]["operationId"] = "Machines_patch_metadata"
    _close(spec)
    return Contract(spec=spec, judge=OpenAPI.from_dict(copy.deepcopy(spec)))


def _close(spec: dict[str, Any]) -> None:
    """Have nothing pass in a request's body that the contract does not name."""
    schemas = spec["components"]["schemas"]
    left = _named(
        [
            operation["requestBody"]
            for operations in spec["paths"].values()
            for operation in operations.values()
            if "requestBody" in operation
        ]
    )
    done: set[str] = set()
    while left:
        name = left.pop()
        if name not in done:
            done.add(name)
            schema = schemas[name]
            if "properties" in schema:
                schema.setdefault("additionalProperties", False)
            left |= _named(schema)


def _named(value: object) -> set[str]:
    """Return the schemas that something refers to."""
    if isinstance(value, dict):
        reference = value.get("$ref")
        here = {reference.removeprefix(SCHEMAS)} if isinstance(reference, str) else set()
        return here.union(*(_named(it) for it in value.values()))
    if isinstance(value, list):
        return set().union(*(_named(it) for it in value))
    return set()


def _request(call: Call) -> Any:
    return MockRequest(
        HOST,
        call.method,
        call.path,
        args=dict(call.query),
        headers=dict(call.headers),
        data=call.body,
        content_type=call.headers.get("content-type", ""),
    )


def _told(error: Exception) -> str:
    """Say what an error of the library is about."""
    schema_errors = getattr(error.__cause__, "schema_errors", ())
    texts = [f"{'.'.join(map(str, it.path)) or 'body'}: {it.message}" for it in schema_errors]
    return "; ".join(texts) or f"{error} {error.__cause__ or ''}".strip()
