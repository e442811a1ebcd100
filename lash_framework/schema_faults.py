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
        error = _closest(error, error.kind.context)
    place = _place(error.instance_path)
    expected = _EXPECTED.get(_keyword(error))
    if expected is None:
        return f"{_clipped(str(error.message))}{place}"
    return f"{expected(error.kind, error.instance)}{place}"


def _keyword(error: Any) -> str:
    return str(error.schema_path[-1]) if error.schema_path else ""


def _closest(error: Any, alternatives: Sequence[Sequence[Any]]) -> Any:
    """The fault that is deepest inside the data, where one of the alternatives was meant; else the whole."""
    flat = [each for alternative in alternatives for each in alternative[:_COUNTED]]
    deepest = max(flat, key=lambda each: len(each.instance_path), default=error)
    if len(deepest.instance_path) > len(error.instance_path):
        return deepest
    about_shape = [each for each in flat if _keyword(each) not in ("type", "enum", "const")]
    return about_shape[0] if len(about_shape) == 1 else error


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
    listed = ", ".join(_shown(each) for each in options[:20])
    return f"expected one of {listed}{', …' if len(options) > 20 else ''}, not {_shown(came)}"


def _unexpected(kind: Any, came: Any) -> str:
    names = ", ".join(f"`{each}`" for each in list(kind.unexpected)[:5])
    return f"there is no property {names}; leave it out"


def _fitting(kind: Any, came: Any) -> str:
    types = sorted(
        {
            each
            for alternative in kind.context
            for error in alternative
            if _keyword(error) == "type"
            for each in error.kind.types
        }
    )
    if not types:
        return f"{_shown(came)} fits none of what is allowed"
    return f"expected {' or '.join(types)}, not {_shown(came)}"


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
    "anyOf": _fitting,
    "oneOf": _fitting,
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
