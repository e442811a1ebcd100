"""What all of a request's encoders share: bytes from values, and refusals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NoReturn

import orjson

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import LlmCallError, ProviderFailureKind

__all__ = ["INVALID_OPTION", "dumps", "plain", "refuse"]

INVALID_OPTION = "invalid_generation_option"


def refuse(message: str, code: str, kind: ProviderFailureKind = ProviderFailureKind.VALIDATION) -> NoReturn:
    """Raise the failure of a request that isn't worth sending."""
    raise LlmCallFailed(LlmCallError(message=f"google: {message}", kind=kind, code=code))


def dumps(value: Any) -> bytes:
    """JSON. Half a surrogate pair, as text from files or processes may hold, has no bytes in UTF-8 and becomes `?`."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return orjson.dumps(_mended(value))


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_mended(name): _mended(each) for name, each in value.items()}
    return [_mended(each) for each in value] if isinstance(value, list) else value


def plain(value: Any, where: str) -> Any:
    """`value` as plain dicts and lists, which is what the encoder takes; refuses numbers that JSON doesn't have."""
    if isinstance(value, Mapping):
        return {str(name): plain(each, where) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each, where) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        refuse(f"{where} holds {value!r}, which JSON can't", INVALID_OPTION)
    return value
