"""One canonical encoding for everything that is hashed: ids, intents, envelopes.

Canonical means: JSON with sorted keys, no spaces, UTF-8, finite numbers only, wrapped as `[domain, version, value]` so
that equal data of different meaning never shares a hash. Changing what this module prints changes every id ever made.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cache
from math import isfinite
from typing import Any

from lash_hookspecs.errors import CodecError

__all__ = ["canonical_bytes", "content_hash", "hash_of_plain", "stable_hash"]

_VERSION = 1

LEVELS = 254
"""How deep lists and objects may lie in one another: what orjson writes."""


def canonical_bytes(value: Any) -> bytes:
    """Plain data as canonical JSON.

    Raises `CodecError` for NaN, infinities, lone surrogates, integers beyond 64 bits, and more than 254 lists and
    objects in one another. A key is a `str` and nothing else: an enum's member is refused, though it be text.
    """
    try:
        return plain_json(value)
    except (TypeError, ValueError) as error:
        raise CodecError(f"no canonical form: {error}") from error


def plain_json(value: Any, levels: int = LEVELS) -> bytes:
    """Plain data as JSON, keys sorted. Raises `TypeError` or `ValueError` for anything else, and what is deeper."""
    if type(value) not in _PLAIN:
        _require_plain(value, levels, levels)
    return _dumps()(value, option=_SORTED)


_SORTED = 1 << 5  # `orjson.OPT_SORT_KEYS`


@cache
def _dumps() -> Callable[..., bytes]:
    import orjson  # when something is encoded: plugins are looked for without it

    return orjson.dumps


_PLAIN = frozenset({str, int, bool, type(None)})


def _require_plain(data: Any, left: int, levels: int) -> None:
    # orjson writes NaN and infinities as null, dates and UUIDs as text: what comes back would be another value.
    is_object = isinstance(data, dict)
    if is_object or isinstance(data, (list, tuple)):
        if not left:
            raise ValueError(f"it is nested more than {levels} levels deep, or holds itself")
        for inner in data.values() if is_object else data:
            if type(inner) not in _PLAIN:
                _require_plain(inner, left - 1, levels)
    elif isinstance(data, float):
        if not isfinite(data):
            raise ValueError(f"{data} is no finite number")
    elif data is not None and not isinstance(data, (str, int)):
        raise TypeError(f"a `{type(data).__name__}` is no plain data")


def stable_hash(domain: str, value: Any) -> str:
    """SHA-256, in hex, of `[domain, version, value]` in canonical form."""
    try:
        if type(value) not in _PLAIN:
            _require_plain(value, LEVELS - 1, LEVELS)
    except (TypeError, ValueError) as error:
        raise CodecError(f"no canonical form: {error}") from error
    return hash_of_plain(domain, value)


def hash_of_plain(domain: str, value: Sequence[str | int | None]) -> str:
    """The same of what needs no look at it: texts, and numbers that are whole."""
    try:
        data = _dumps()([domain, _VERSION, value], option=_SORTED)
    except (TypeError, ValueError) as error:
        raise CodecError(f"no canonical form: {error}") from error
    return hashlib.sha256(data).hexdigest()


def content_hash(data: bytes) -> str:
    """SHA-256 of bytes, in hex: the name of a blob."""
    return hashlib.sha256(data).hexdigest()
