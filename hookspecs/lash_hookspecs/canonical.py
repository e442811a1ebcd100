"""One canonical encoding for everything that is hashed: ids, intents, envelopes.

Canonical means: JSON with sorted keys, no spaces, UTF-8, finite numbers only, wrapped as `[domain, version, value]` so
that equal data of different meaning never shares a hash. Changing what this module prints changes every id ever made.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from lash_hookspecs.errors import CodecError

__all__ = ["canonical_bytes", "chain_hash", "content_hash", "stable_hash"]

_VERSION = 1


def canonical_bytes(value: Any) -> bytes:
    """Plain data as canonical JSON. Raises `CodecError` for NaN, infinities, lone surrogates, other keys than text."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        _require_text_keys(value)
        return text.encode()
    except RecursionError as error:
        raise CodecError("no canonical form: it is nested too deeply") from error
    except (TypeError, ValueError) as error:
        raise CodecError(f"no canonical form: {error}") from error


def _require_text_keys(value: Any) -> None:
    # json.dumps turns numbers, booleans and None into text keys, so {1: x} and {"1": x} would share a hash.
    if isinstance(value, dict):
        for key, inner in value.items():
            if type(key) is not str:
                raise TypeError(f"key {key!r} is not text")
            _require_text_keys(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            _require_text_keys(inner)


def stable_hash(domain: str, value: Any) -> str:
    """SHA-256, in hex, of `[domain, version, value]` in canonical form."""
    return hashlib.sha256(canonical_bytes([domain, _VERSION, value])).hexdigest()


def content_hash(data: bytes) -> str:
    """SHA-256 of bytes, in hex: the name of a blob."""
    return hashlib.sha256(data).hexdigest()


def chain_hash(previous: str, digest: str) -> str:
    """The hash of a sequence that goes on: what came before, then one more digest."""
    return hashlib.sha256(f"{previous}\n{digest}".encode()).hexdigest()
