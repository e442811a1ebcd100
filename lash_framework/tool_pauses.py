"""The pause between two attempts of a tool call: an effect of its own, so that a crash doesn't begin it anew."""

from __future__ import annotations

import anyio

from lash_framework.effects import envelope
from lash_framework.open_calls import OpenCall
from lash_framework.stream import ActivityStream
from lash_framework.tool_retries import retry_status
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.effect_commands import SleepCommand
from lash_hookspecs.effect_outcomes import RetryLater, RuntimeEffectOutcome, SleepOutcome, expect
from lash_hookspecs.effects import RuntimeEffectEnvelope, child_key

__all__ = ["pause"]


async def pause(plan: TurnPlan, stream: ActivityStream, call: OpenCall, again: RetryLater) -> None:
    """Sleep before the next attempt, across the boundary: after a crash, for as long as is left."""
    call_id, attempt = call.asked.call_id, call.attempt

    async def run(_: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        seconds = max(0, min(again.delay_ms, again.until_ms - plan.now_ms())) / 1000
        await stream.tool_pauses(call_id, retry_status(plan.tools.catalog, call, seconds))
        await anyio.sleep(seconds)
        return SleepOutcome()

    key = child_key(call.place.key, "", f"pause:{attempt}")
    wrapped = envelope(call.place.scope, SleepCommand(again.delay_ms), f"{call_id} pause {attempt}", key=key)
    expect(await plan.controller.execute(wrapped, run), SleepOutcome)
