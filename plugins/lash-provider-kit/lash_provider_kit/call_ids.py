"""The ids of tool calls within one answer."""

from __future__ import annotations

from uuid import uuid4

__all__ = ["own_id"]


def own_id(given: str, used: set[str]) -> str:
    """The id that a service gave a call, or a new one where it gave none or one that is `used`; then that is, too.

    A result can answer only one call, so the host drops what repeats an id.
    """
    call_id = given if given and given not in used else f"call_{uuid4().hex[:24]}"
    used.add(call_id)
    return call_id
