"""OpenRouter's `reasoning_details`: pieces of reasoning's opaque state, which it wants back as they were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
from attrs import evolve

from lash_hookspecs.llm import LlmOutputPart, ReasoningOutput, TextOutput
from lash_hookspecs.messages import ProviderReasoningMeta

__all__ = ["ReasoningDetails"]

# What a stream sends in pieces; everything else is sent whole, or repeated.
_GROWING = ("text", "summary", "data")


def _is_sendable(value: object) -> bool:
    """Whether it can go back: half a surrogate pair or a number of 70 bits can't, and would end the conversation."""
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        return False
    return True


class ReasoningDetails:
    """Gathers the details of an answer: pieces of one `index` and type are one."""

    def __init__(self) -> None:
        self._found: dict[tuple[object, object], dict[str, Any]] = {}

    def take(self, details: Any) -> None:
        """The details of a delta; what isn't in their form is passed over."""
        for each in details if isinstance(details, list) else ():
            if not isinstance(each, dict) or not _is_sendable(each):
                continue
            place = each.get("index")
            key = (place if isinstance(place, int) else len(self._found), str(each.get("type")))
            found = self._found.setdefault(key, {})
            for name, value in each.items():
                old = found.get(name)
                if name in _GROWING and isinstance(old, str) and isinstance(value, str):
                    found[name] = old + value
                elif value is not None or name not in found:
                    found[name] = value

    def kept_in(self, parts: Sequence[TextOutput | ReasoningOutput]) -> list[LlmOutputPart]:
        """The answer's parts, with the details as state of its reasoning, where some of them are opaque."""
        details = list(self._found.values())
        if not any(each.get("data") or each.get("signature") for each in details):
            return list(parts)  # shown text alone needs no way back
        state = ProviderReasoningMeta(encrypted_content=orjson.dumps(details).decode())
        for at, part in enumerate(parts):
            if isinstance(part, ReasoningOutput):
                return [*parts[:at], evolve(part, replay=state), *parts[at + 1 :]]
        return [ReasoningOutput(text="", replay=state), *parts]
