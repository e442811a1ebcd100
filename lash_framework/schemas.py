"""Schemas of tools: what is refused before anything compiles them, and the checkers that they become.

A reference leads to a place of the same schema. Recursion is fine as long as it goes down into the data; what leads to
itself without doing so would never end. A schema may be a stranger's, such as a server's: one of a few lines can make
its checker look at a value more often than there is time for, so looks are counted before it begins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

from lash_framework.schema_faults import told
from lash_hookspecs.codec import MAX_NESTING
from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.read_only_data import own_copy

__all__ = ["LONGEST_CHAIN", "MOST_LOOKS", "Validator", "check_references", "schema_fault"]

Validator = Callable[[Any], str | None]

LONGEST_CHAIN = 64
"""Through so many schemas a value may be led on without going down: far more than people write."""

MOST_LOOKS = 1_000_000
"""So often schemas may be held against a value and what is in it, along one path down: more would hold the process."""

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

    validator = jsonschema_rs.validator_for(own_copy(schema), retriever=_refuse)  # it takes no subclass of `dict`
    looks = _Looks(schema)

    def check(value: Any) -> str | None:
        if looks.are_too_many(value):
            return f"so deep a value takes more than {MOST_LOOKS:,} looks: its schema leads to the same place too often"
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
        if each is not schema and "$id" in each and _has_references(each):
            raise ConfigurationError("a schema within a schema has an `$id` and references: leave the `$id` out")
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
            raise _too_long()
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
    """Where the schema's references lead."""
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
        else:
            yield reference, _anchored(root, reference[1:])


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


def _anchored(root: Mapping[str, Any], name: str) -> Any:
    for each in _mappings(root):
        if name in (each.get("$anchor"), each.get("$dynamicAnchor")):
            return each
    raise ConfigurationError(f"`#{name}` leads nowhere: the schema has no such anchor")


def _has_references(schema: Mapping[str, Any]) -> bool:
    return any(not each.keys().isdisjoint(_REFERENCES) for each in _mappings(schema))


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    """All that are in a value, whatever they are there for."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Mapping):
            yield each
            waiting += each.values()
        elif isinstance(each, (list, tuple)):
            waiting += each


class _Looks:
    """How often schemas are held against a value and what is in it, along one path down, by the value's depth."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._here: dict[int, list[int]] = {}
        self._below: dict[int, list[list[int]]] = {}
        self._deepest: float | None = None
        waiting: list[Any] = [root]
        while waiting:
            each = waiting.pop()
            if not isinstance(each, Mapping) or id(each) in self._here:
                continue
            here = [*_inside(each, _HERE), *(target for _, target in _targets(root, each))]
            here *= 1 if _UNEVALUATED.isdisjoint(each) else 2
            below = list(_groups(each))
            self._here[id(each)] = [id(one) for one in here if isinstance(one, Mapping)]
            self._below[id(each)] = [[id(one) for one in group if isinstance(one, Mapping)] for group in below]
            waiting += [*here, *(one for group in below for one in group)]

    def are_too_many(self, value: Any) -> bool:
        """Whether they are for this value."""
        if self._deepest is None:
            self._deepest = self._depth_in_time()
        return self._deepest < math.inf and _depth(value) > self._deepest

    def _depth_in_time(self) -> float:
        """How deep a value may be: as deep as it wants, where each level adds as much as the one before."""
        level, added = dict.fromkeys(self._here, 0), dict.fromkeys(self._here, -1)
        for depth in range(MAX_NESTING + 1):
            before, level = level, dict[int, int]()
            self._count(level, before)
            if level.get(id(self._root), 0) > MOST_LOOKS:
                return depth - 1
            more = {at: count - before[at] for at, count in level.items()}
            if more == added:
                return math.inf
            added = more
        # What grows so slowly isn't too much in what is twice as deep, and nothing deeper can be stored.
        return math.inf if level[id(self._root)] ** 2 <= MOST_LOOKS else MAX_NESTING

    def _count(self, level: dict[int, int], below: Mapping[int, int]) -> None:
        """Those of each schema, where those of what is in the value are known."""

        def looks(at: int) -> int:
            if at not in level:
                within = sum(max((below.get(each, 0) for each in group), default=0) for group in self._below[at])
                level[at] = min(1 + within + sum(map(looks, self._here[at])), MOST_LOOKS + 1)
            return level[at]

        for each in self._here:
            looks(each)


_ONE_OF_THESE = (
    frozenset({"properties", "additionalProperties", "unevaluatedProperties"}),
    frozenset({"items", "prefixItems", "additionalItems", "unevaluatedItems"}),
    frozenset({"contains"}),
    frozenset({"propertyNames"}),
)
_UNEVALUATED = frozenset({"unevaluatedProperties", "unevaluatedItems"})
"""To know what is left for these, all that is held against the same value is held against it once more."""


def _groups(schema: Mapping[str, Any]) -> Iterator[list[Any]]:
    """The schemas of what is in a value, together where at most one of them is for each member."""
    yield from (list(_inside(schema, keywords)) for keywords in _ONE_OF_THESE)
    yield from ([each] for each in _inside(schema, frozenset({"patternProperties"})))


def _depth(value: Any) -> int:
    """How many tables and arrays are in each other."""
    found, level = 0, [value]
    while level := [
        inner
        for each in level
        if isinstance(each, (Mapping, list, tuple))
        for inner in (each.values() if isinstance(each, Mapping) else each)
    ]:
        found += 1
    return found
