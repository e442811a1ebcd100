"""Options and modes as plain data that hashes alike in every process: for the key of a composition, and for locks."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import attrs

__all__ = ["as_plain"]

# What the values of these modules' classes say of themselves is all that there is to them.
_TELLING = frozenset({"datetime", "decimal", "fractions", "ipaddress", "pathlib", "uuid"})


def as_plain(value: Any) -> Any:
    """Any option or mode as data that hashes alike in every process: code by its name, the rest by what it holds.

    What is neither is only known by its class, since its own text may tell where it lies in memory.
    """
    if isinstance(value, enum.Enum):
        return as_plain(value.value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(as_plain(key)): as_plain(each) for key, each in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted((as_plain(each) for each in value), key=repr)
    if isinstance(value, (bytes, bytearray, complex)):
        return str(value)
    if isinstance(value, Sequence):
        return [as_plain(each) for each in value]
    if isinstance(value, partial):
        return ["partial", as_plain(value.func), as_plain(value.args), as_plain(value.keywords)]
    cls = value if hasattr(value, "__qualname__") else type(value)
    name = f"{getattr(cls, '__module__', None)}.{cls.__qualname__}"
    if cls is value:
        return name
    if attrs.has(cls):
        return [name, {each.name: as_plain(getattr(value, each.name)) for each in attrs.fields(cls)}]
    return [name, str(value)] if str(cls.__module__).partition(".")[0] in _TELLING else name
