"""From what `Annotated` says beyond a type to keywords of JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lash_hookspecs.errors import ConfigurationError

__all__ = ["constrained"]

_NUMBERS = ("integer", "number")
_KEYWORDS: Mapping[str, Mapping[str, str]] = {
    "ge": dict.fromkeys(_NUMBERS, "minimum"),
    "gt": dict.fromkeys(_NUMBERS, "exclusiveMinimum"),
    "le": dict.fromkeys(_NUMBERS, "maximum"),
    "lt": dict.fromkeys(_NUMBERS, "exclusiveMaximum"),
    "multiple_of": dict.fromkeys(_NUMBERS, "multipleOf"),
    "min_length": {"string": "minLength", "array": "minItems", "object": "minProperties"},
    "max_length": {"string": "maxLength", "array": "maxItems", "object": "maxProperties"},
    "pattern": {"string": "pattern"},
}
"""An attribute of metadata, and its keyword for each JSON type."""


def constrained(schema: Mapping[str, Any], metadata: Iterable[Any]) -> dict[str, Any]:
    """The schema with what the metadata says. Raises `ConfigurationError` for what no value of the type could meet."""
    made, kinds = dict(schema), frozenset(_kinds(schema))
    for each in metadata:
        if isinstance(each, str):
            made["description"] = each
            continue
        for attribute, keywords in _KEYWORDS.items():
            value = getattr(each, attribute, None)
            if value is None:
                continue
            said = {keyword: value for kind, keyword in keywords.items() if kind in kinds}
            if not said:
                for_what = " or ".join(sorted(keywords))
                raise ConfigurationError(f"`{each!r}` is for JSON of type {for_what}, and the hint allows none of it")
            _check(attribute, value)
            made |= said
    return made


def _check(attribute: str, value: Any) -> None:
    if attribute == "pattern":
        try:
            re.compile(value)
        except (re.error, TypeError) as error:
            raise ConfigurationError(f"`{value}` is no regular expression: {error}") from None
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(f"`{attribute}` is `{value!r}`; a constraint is given as a number")


def _kinds(schema: Mapping[str, Any]) -> Iterator[str]:
    """The JSON types that a schema of ours may be about; what says nothing may be anything."""
    if "type" in schema:
        yield schema["type"]
    elif "anyOf" in schema:
        for each in schema["anyOf"]:
            yield from _kinds(each)
    elif "enum" in schema or "const" in schema:
        return
    elif "$ref" in schema:
        yield "object"
    else:
        yield from ("string", "integer", "number", "array", "object")
