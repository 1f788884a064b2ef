"""The JSON schema of the configuration, so that editors can complete and check it."""

from __future__ import annotations

from typing import Any

from outpost.config.checks import COMMON_FIELDS, OUR_AGENTS
from outpost.config.kinds import KindRegistry
from outpost.config.models import Config

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema(kinds: KindRegistry | None = None) -> dict[str, Any]:
    """Return the schema; each installed kind of outpost brings its own fields.

    Imports the backends of all installed kinds; raises ``ImportError``.
    """
    kinds = kinds or KindRegistry()
    schema = Config.model_json_schema()
    definitions = schema["$defs"]
    common = definitions.pop("OutpostConfig")
    fields = {name: common["properties"][name] for name in COMMON_FIELDS}
    variants = [_installed(kind, kinds, fields, definitions) for kind in kinds.names()]
    definitions["Outpost"] = {"oneOf": variants}
    schema["properties"]["outposts"]["items"] = {"$ref": "#/$defs/Outpost"}
    _name_agents(schema["properties"]["agents"])
    return {"$schema": DIALECT, **schema, "title": "Outpost configuration"}


def _name_agents(agents: dict[str, Any]) -> None:
    """Let an agent have one of the known names, or a command line of its own."""
    ((pattern, section),) = agents.pop("patternProperties").items()
    agents["propertyNames"] = {"pattern": pattern}
    agents["properties"] = dict.fromkeys(OUR_AGENTS, section)
    agents["additionalProperties"] = {**section, "required": ["acp"]}


def _installed(
    kind: str, kinds: KindRegistry, fields: dict[str, Any], definitions: dict[str, Any]
) -> dict[str, Any]:
    options = kinds.backend(kind).Options.model_json_schema(
        ref_template=f"#/$defs/{kind}.{{model}}"
    )
    for name, definition in options.pop("$defs", {}).items():
        definitions[f"{kind}.{name}"] = definition
    variant = _variant(fields, {"const": kind}, options.get("description", ""))
    variant["properties"].update(options.get("properties", {}))
    variant["required"] += options.get("required", [])
    variant["additionalProperties"] = options.get("additionalProperties", True)
    return variant


def _variant(fields: dict[str, Any], kind: dict[str, Any], description: str) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "properties": {**fields, "type": {**fields["type"], **kind}},
        "required": ["name", "type"],
    }
