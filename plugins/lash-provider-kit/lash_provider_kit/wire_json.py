"""JSON as services write it and take it, where text may hold half a surrogate pair, for which UTF-8 has no bytes."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import orjson

__all__ = ["dump", "dumps", "load", "place_of", "text_of"]


def load(data: bytes | bytearray) -> Any:
    """The value that `data` is: a service that escapes its text may cut it between the halves of a surrogate pair."""
    try:
        return orjson.loads(data)
    except ValueError as refused:
        if b"\\ud" not in data and b"\\uD" not in data:
            raise
        try:
            return json.loads(data, parse_constant=_refuse)
        except (ValueError, RecursionError):
            raise refused from None


def dump(value: Any) -> str:
    """JSON as text that is kept: half a surrogate pair stays what it is."""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        return json.dumps(value, separators=(",", ":"))


def dumps(value: Any) -> bytes:
    """JSON as it is sent: half a surrogate pair, as text from files or processes may hold, becomes `?`."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return orjson.dumps(_mended(value))


def text_of(value: Any) -> str:
    """The text that a value is. Raises `TypeError`, as reading what is misshapen does."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def place_of(value: Any) -> int:
    """The place in a list that a value is; what is sorted by it in the end has to be a number from the start."""
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no place")
    return value


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_mended(name): _mended(each) for name, each in value.items()}
    return [_mended(each) for each in value] if isinstance(value, list) else value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
