"""Schemas of tools: what is refused before anything compiles them, and the checkers that they become.

A reference leads to a place of the same schema. Recursion is fine as long as it goes down into the data; what leads to
itself without doing so would never end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from lash_framework.schema_faults import told
from lash_hookspecs.errors import ConfigurationError

__all__ = ["LONGEST_CHAIN", "Validator", "check_references", "schema_fault"]

Validator = Callable[[Any], str | None]

LONGEST_CHAIN = 64
"""Through so many schemas a value may be led on without going down: far more than people write."""

# Where a schema holds others: about the same value, or about something inside it; alone, in a list, or by name.
_HERE = frozenset({"allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas"})
_BELOW = frozenset(
    {
        *("properties", "patternProperties", "additionalProperties", "propertyNames", "unevaluatedProperties"),
        *("items", "prefixItems", "additionalItems", "unevaluatedItems", "contains"),
    }
)
_BY_NAME = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")


def schema_fault(schema: Mapping[str, Any]) -> Validator:
    """A checker for values: the faults in words, or None. The schema is compiled once.

    Raises `ConfigurationError` for references that can't be followed, and `ValueError` for what is no schema.
    """
    check_references(schema)
    import jsonschema_rs  # here because compiling schemas is rare and the module is large

    validator = jsonschema_rs.validator_for(dict(schema), retriever=_refuse)

    def check(value: Any) -> str | None:
        return None if validator.is_valid(value) else told(validator.iter_errors(value))

    return check


def _refuse(uri: str) -> NoReturn:
    raise LookupError(f"`{uri}` is outside of the schema, and nothing is fetched")


def check_references(schema: Mapping[str, Any]) -> None:
    """Raise `ConfigurationError` for a reference that leads out of the schema, nowhere, or on and on."""
    waiting: list[Any] = [schema]
    seen: set[int] = set()
    lengths: dict[int, int] = {}
    while waiting:
        each = waiting.pop()
        if not isinstance(each, Mapping) or id(each) in seen:
            continue
        seen.add(id(each))
        _chain(schema, each, lengths, ())
        waiting += _inside(each, _BELOW | _HERE | {"$defs", "definitions"})
        waiting += (target for _, target in _targets(schema, each))


def _chain(root: Mapping[str, Any], schema: Any, lengths: dict[int, int], above: tuple[int, ...]) -> int:
    """Through how many schemas a value is led from here without going down."""
    if not isinstance(schema, Mapping):
        return 0
    if id(schema) in lengths:
        return lengths[id(schema)]
    if id(schema) in above:
        raise ConfigurationError("a reference leads to itself without going down into the data; it would never end")
    if len(above) >= LONGEST_CHAIN:
        raise _too_long()
    above = (*above, id(schema))
    longest = 0
    for each in (*_inside(schema, _HERE), *(target for _, target in _targets(root, schema))):
        longest = max(longest, _chain(root, each, lengths, above))
        if longest >= LONGEST_CHAIN:
            raise ConfigurationError(
                f"references lead through more than {LONGEST_CHAIN} schemas; refer to the last one"
            )
    lengths[id(schema)] = longest + 1
    return longest + 1


def _too_long() -> ConfigurationError:
    return ConfigurationError(f"references lead through more than {LONGEST_CHAIN} schemas; refer to the last one")


def _inside(schema: Mapping[str, Any], keywords: frozenset[str]) -> Iterator[Any]:
    for keyword in keywords & schema.keys():
        held = schema[keyword]
        if keyword in _BY_NAME:
            yield from held.values() if isinstance(held, Mapping) else ()
        elif isinstance(held, (list, tuple)):
            yield from held
        else:
            yield held


def _targets(root: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Where the schema's references lead. Anchors are left to the compiler, which knows them all."""
    for keyword in _REFERENCES:
        reference = schema.get(keyword)
        if not isinstance(reference, str):
            continue
        if not reference.startswith("#"):
            raise ConfigurationError(
                f"`{keyword}` leads to `{reference}`, outside of the schema: copy what it names to `$defs`, "
                'and refer to it as `"#/$defs/NAME"`'
            )
        if reference == "#" or reference.startswith("#/"):
            yield reference, _at(root, reference)


def _at(root: Mapping[str, Any], reference: str) -> Any:
    from urllib.parse import unquote

    found: Any = root
    for step in reference.split("/")[1:]:
        step = unquote(step).replace("~1", "/").replace("~0", "~")
        try:
            found = found[int(step) if isinstance(found, (list, tuple)) else step]
        except (LookupError, TypeError, ValueError):
            raise ConfigurationError(f"`{reference}` leads nowhere: the schema has no such place") from None
    return found
