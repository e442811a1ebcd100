"""What a tool says that a call would do, for a person who is asked about it. Nothing hangs on it: it may be missing."""

from __future__ import annotations

import logging

import anyio

from lash_framework.faults import storable_text
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.tools import PendingToolCall

__all__ = ["preview_of"]

log = logging.getLogger("lash.tools")

LIMIT_S = 5.0
LONGEST = 32_000  # characters; nobody reads more before they answer


async def preview_of(plan: TurnPlan, call: PendingToolCall) -> str | None:
    """What the tool says; None if it says nothing, fails, or takes too long."""
    owned = plan.tools.catalog.tools.get(call.tool_name)
    preview = getattr(None if owned is None else owned.tool, "preview", None)
    if preview is None:
        return None
    said: object = None
    with anyio.move_on_after(LIMIT_S) as limit:
        try:
            said = await preview(call.args)
        except Exception as error:
            log.warning("the tool `%s` could not say what a call of it would do: %s", call.tool_name, error)
    if limit.cancelled_caught:
        log.warning("the tool `%s` took too long to say what a call of it would do", call.tool_name)
    if not isinstance(said, str) or not said:
        return None
    cut = len(said) - LONGEST
    return storable_text(said if cut <= 0 else f"{said[:LONGEST]}\n… {cut:,} more characters")
