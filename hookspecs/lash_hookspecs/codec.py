"""The four functions between values and the data that reaches disk or wire; `_structured`, `_unstructured` say how.

Unions are tagged like the seeds' (`type`, `op`, `status`, `kind`; snake_case names); optional fields that are absent
and empty collections are left out. Loading builds plain values only: an unknown tag is an `UnknownTag`, wrong shapes
are a `CodecError` with the path, a field that isn't known is passed over, and no stored name is ever imported.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from lash_hookspecs._structured import structured
from lash_hookspecs._unstructured import unstructured
from lash_hookspecs.canonical import LEVELS, plain_json
from lash_hookspecs.errors import CodecError, UnknownTag

if TYPE_CHECKING:
    from cattrs import Converter

__all__ = ["MAX_NESTING", "decode", "encode", "structure", "unstructure"]

MAX_NESTING = 200
"""How deep a value may be nested that a model or a tool made: a call's arguments, its result, a structured answer.

What is stored of it is deeper: about 30 levels are the turn, and calls in calls around it, and JSON ends at 254. So it
is refused while the turn can still say so, and not when the turn is stored.
"""

T = TypeVar("T")


@cache
def _converter(*, tells: bool = False) -> Converter:
    """The converter; with `tells`, one whose errors say where the fault is, which takes longer."""
    from lash_hookspecs._converter import make_converter  # it takes a while, and few need it

    return make_converter(tells=tells)


def unstructure(value: Any) -> Any:
    """A value as plain data: dicts, lists, text, numbers, booleans, None."""
    return unstructured(value)


def structure(data: Any, tp: type[T]) -> T:
    """Plain data as a value of `tp`. Raises `CodecError`, or its subclass `UnknownTag`, with the path of the fault."""
    try:
        return structured(data, tp)  # type: ignore[no-any-return]  # its type is what was asked for
    except Exception:  # it is told apart below
        return _structure_slowly(data, tp)


def _structure_slowly(data: Any, tp: type[T]) -> T:
    """The same of data that has a fault, or may have one: to find its place."""
    try:
        return _converter(tells=True).structure(data, tp)
    except Exception as error:
        from lash_hookspecs._converter import first_fault

        cause, path = first_fault(error, getattr(tp, "__name__", str(tp)))
        if isinstance(cause, UnknownTag):
            cause.path = path
            cause.add_note(f"at {path}")
            raise cause from None
        raise CodecError(str(cause), path) from error


def encode(value: Any, *, levels: int = LEVELS) -> bytes:
    """A value as compact JSON. Raises `CodecError` for what JSON can't say: NaN, lone surrogates, foreign objects.

    And for what is nested deeper than `levels`: `MAX_NESTING` for what will be a part of something larger.
    """
    try:
        return plain_json(unstructure(value), levels)
    except RecursionError as error:
        raise CodecError("can't be stored: it is nested too deeply, or holds itself") from error
    except (TypeError, ValueError) as error:
        raise CodecError(f"can't be stored: {error}") from error


def decode(tp: type[T], data: bytes | str) -> T:
    """A value of `tp` from JSON. Raises `CodecError` for broken JSON and wrong shapes."""
    try:
        parsed = orjson.loads(data)
    except ValueError as error:
        raise CodecError(f"not JSON: {error}") from error
    return structure(parsed, tp)
