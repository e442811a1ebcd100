"""Values of any mapping and sequence as plain JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lash_plugin_provider_anthropic.blocks import refuse

__all__ = ["plain"]


def plain(value: Any, where: str) -> Any:
    """`value` as plain dicts and lists, which is what the encoder takes; refuses numbers that JSON doesn't have."""
    if isinstance(value, Mapping):
        return {str(name): plain(each, where) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each, where) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        refuse(f"{where} holds {value!r}, which JSON can't", "invalid_generation_option")
    return value
