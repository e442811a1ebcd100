"""What is wrong with a value, in words that a model can act on: where, what was expected, what came. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import orjson

__all__ = ["MOST_FAULTS", "told"]

MOST_FAULTS = 5
"""So many are told at once: enough to mend a call in one go, and no flood where every entry of a list is wrong."""
_COUNTED = 100
_NO_SUCH = ("additionalProperties", "unevaluatedProperties")
_LONGEST = 80


def told(errors: Iterable[Any]) -> str:
    """The first faults of a validator's, and how many more there are."""
    found = list(islice(errors, _COUNTED))
    texts = [_fault(each) for each in found[:MOST_FAULTS]]
    if len(found) > MOST_FAULTS:
        more = len(found) - MOST_FAULTS
        texts.append(f"and {more}{' or more' if len(found) == _COUNTED else ''} others")
    return "; ".join(texts)


def _fault(error: Any) -> str:
    if _keyword(error) in ("anyOf", "oneOf"):
        return _none_fits(error)
    place = _place(error.instance_path)
    expected = _EXPECTED.get(_keyword(error))
    if expected is None:
        return f"{_clipped(str(error.message))}{place}"
    return f"{expected(error.kind, error.instance)}{place}"


def _keyword(error: Any) -> str:
    return str(error.schema_path[-1]) if error.schema_path else ""


# ---- alternatives ---------------------------------------------------------------------------------------------------

_Alternative = Sequence[Any]
"""The faults of one."""


def _none_fits(error: Any) -> str:
    """What is wrong with the alternative that was meant, where that can be told; else what all of them would take."""
    possible = _of_its_type(error)
    if (tags := _tags_of_all(error, possible)) is not None:
        return tags
    meant = _of_its_tag(error, possible) or possible
    if len(meant) == 1:
        deepest = max(meant[0][:_COUNTED], key=_depth)
        if _depth(deepest) > _depth(error):
            return _fault(deepest)
        return "; ".join(_fault(each) for each in sorted(meant[0], key=_is_extra)[:MOST_FAULTS])
    flat = [each for alternative in meant or error.kind.context for each in alternative[:_COUNTED]]
    deepest = max(flat, key=_depth, default=error)
    if _depth(deepest) > _depth(error):
        return _fault(deepest)
    about_shape = [each for each in flat if _keyword(each) not in ("type", "enum", "const")]
    if len(about_shape) == 1:
        return _fault(about_shape[0])
    if meant:
        first = (min(alternative, key=_is_extra) for alternative in meant[:MOST_FAULTS])
        lacks = dict.fromkeys(map(_fault, first))
        return f"{_shown(error.instance)} fits none of what is allowed: {', or '.join(lacks)}"
    return f"{_fitting(error)}{_place(error.instance_path)}"


def _depth(error: Any) -> int:
    return len(error.instance_path)


def _is_extra(error: Any) -> bool:
    """Whether something is too much, which is less telling than what is missing."""
    return _keyword(error) in _NO_SUCH


def _of_its_type(error: Any) -> list[_Alternative]:
    """The alternatives that take what is of this type at all."""

    def takes(alternative: _Alternative) -> bool:
        return not any(_keyword(each) == "type" and _depth(each) == _depth(error) for each in alternative)

    return [alternative for alternative in error.kind.context if alternative and takes(alternative)]


def _fitting(error: Any) -> str:
    came = _shown(error.instance)
    types = {
        kind
        for alternative in error.kind.context
        for each in alternative
        if _keyword(each) == "type"
        for kind in each.kind.types
    }
    if not types:
        return f"{came} fits none of what is allowed"
    return f"expected {' or '.join(sorted(types))}, not {came}"


# Classes that are told apart by a tag: a property that may have one value only.


def _refused_tag(error: Any, alternative: _Alternative) -> Any:
    """The fault of a tag that has another value: this alternative isn't meant."""
    tags = (each for each in alternative if _depth(each) == _depth(error) + 1 and len(_tags(each)) == 1)
    return next(tags, None)


def _tags(error: Any) -> list[Any]:
    if _keyword(error) == "const":
        return [error.kind.expected_value]
    return list(error.kind.options) if _keyword(error) == "enum" else []


def _of_its_tag(error: Any, possible: Sequence[_Alternative]) -> list[_Alternative]:
    """The one alternative that is meant, where the others say by a tag that they aren't; else none."""
    refused = [each for each in (_refused_tag(error, alternative) for alternative in possible) if each is not None]
    meant = [alternative for alternative in possible if _refused_tag(error, alternative) is None]
    if len(meant) != 1:
        return []
    names = {each.instance_path[-1] for each in refused}
    unknown = {name for each in meant[0] if _keyword(each) in _NO_SUCH for name in each.kind.unexpected}
    return meant if len(names) == 1 and not names & unknown else []


def _tags_of_all(error: Any, possible: Sequence[_Alternative]) -> str | None:
    """What a tag may be, where it is none of what the alternatives have."""
    refused = [each for each in (_refused_tag(error, alternative) for alternative in possible) if each is not None]
    places = {tuple(each.instance_path) for each in refused}
    if len(refused) < 2 or len(refused) != len(possible) or len(places) != 1:
        return None
    came, place = refused[0].instance, _place(refused[0].instance_path)
    return f"expected one of {_listed([_tags(each)[0] for each in refused])}, not {_shown(came)}{place}"


def _place(path: Iterable[Any]) -> str:
    steps = "/".join(str(each) for each in path)
    return f" (at `{steps}`)" if steps else ""


# ---- what was expected, by keyword ----------------------------------------------------------------------------------


def _clipped(text: str) -> str:
    return text if len(text) <= 2 * _LONGEST else text[: 2 * _LONGEST - 1] + "…"


def _shown(value: Any) -> str:
    """What came, in short: nobody needs a long text back to see that it is no number."""
    if isinstance(value, Mapping):
        named = ", ".join(str(each)[:20] for each in islice(value, 4))
        return f"an object with {named}{', …' if len(value) > 4 else ''}" if value else "an empty object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    try:
        text = orjson.dumps(value[: _LONGEST + 1] if isinstance(value, str) else value).decode()
    except orjson.JSONEncodeError:
        text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _options(kind: Any, came: Any) -> str:
    options = list(kind.options) if not isinstance(kind.options, str) else [kind.options]
    return f"expected one of {_listed(options)}, not {_shown(came)}"


def _listed(options: Sequence[Any]) -> str:
    return ", ".join(_shown(each) for each in options[:20]) + (", …" if len(options) > 20 else "")


def _unexpected(kind: Any, came: Any) -> str:
    names = ", ".join(f"`{each}`" for each in list(kind.unexpected)[:5])
    return f"there is no property {names}; leave it out"


def _length(less_or_more: str, of: str) -> Callable[[Any, Any], str]:
    return lambda kind, came: f"expected at {less_or_more} {kind.limit} {of}, not {len(came)}"


def _number(words: str) -> Callable[[Any, Any], str]:
    return lambda kind, came: f"expected a number {words} {kind.limit}, not {_shown(came)}"


_EXPECTED: Mapping[str, Callable[[Any, Any], str]] = {
    "type": lambda kind, came: f"expected {' or '.join(sorted(map(str, kind.types)))}, not {_shown(came)}",
    "required": lambda kind, came: f"`{kind.property}` is missing",
    "additionalProperties": _unexpected,
    "unevaluatedProperties": _unexpected,
    "enum": _options,
    "const": lambda kind, came: f"expected {_shown(kind.expected_value)}, not {_shown(came)}",
    "minimum": _number("of at least"),
    "maximum": _number("of at most"),
    "exclusiveMinimum": _number("above"),
    "exclusiveMaximum": _number("below"),
    "multipleOf": lambda kind, came: f"expected a multiple of {kind.multiple_of}, not {_shown(came)}",
    "pattern": lambda kind, came: f"expected text that matches `{kind.pattern}`, not {_shown(came)}",
    "minLength": _length("least", "characters"),
    "maxLength": _length("most", "characters"),
    "minItems": _length("least", "entries"),
    "maxItems": _length("most", "entries"),
    "minProperties": _length("least", "properties"),
    "maxProperties": _length("most", "properties"),
    "uniqueItems": lambda kind, came: "expected entries that differ from one another",
}
