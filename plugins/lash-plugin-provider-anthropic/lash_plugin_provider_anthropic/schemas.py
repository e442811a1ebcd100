"""JSON Schemas as structured output takes them: closed objects, and without bounds.

What the service refuses (bounds, patterns, odd formats) is told to the model in the description instead. The host
checks the answer with the schema as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

__all__ = ["output_schema"]

_UNSUPPORTED = frozenset(
    {
        "contains",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "maxContains",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minContains",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "pattern",
        "patternProperties",
        "propertyNames",
        "uniqueItems",
    }
)
_FORMATS = frozenset({"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"})
_NAMED = ("$defs", "definitions", "properties")
_LISTED = ("allOf", "anyOf", "oneOf", "prefixItems")


def output_schema(schema: Any) -> Any:
    """`schema`, a plain JSON value, as the service takes it. The given one stays as it is."""
    if not isinstance(schema, Mapping):
        return schema
    made: dict[str, Any] = {}
    told: dict[str, Any] = {}
    for name, value in schema.items():
        if _is_refused(name, value):
            told[name] = value
        elif name in _NAMED and isinstance(value, Mapping):
            made[name] = {key: output_schema(each) for key, each in value.items()}
        elif name in _LISTED and isinstance(value, list):
            made["anyOf" if name == "oneOf" else name] = [output_schema(each) for each in value]
        elif name in ("items", "not"):
            made[name] = output_schema(value)
        else:
            made[name] = value
    if "properties" in made or made.get("type") == "object":
        made["additionalProperties"] = False
    if told:
        note = "; ".join(f"{name}: {orjson.dumps(value).decode()}" for name, value in told.items())
        made["description"] = f"{made['description']} ({note})" if made.get("description") else f"({note})"
    return made


def _is_refused(name: str, value: Any) -> bool:
    if name == "format":
        return value not in _FORMATS
    if name == "minItems":
        return value not in (0, 1)
    return name in _UNSUPPORTED
