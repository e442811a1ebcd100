"""A turn's model calls: across the effect boundary, with attachments' bytes, and every failure as a value."""

from __future__ import annotations

import logging

from attrs import evolve

from lash_framework.effects import envelope
from lash_framework.stream import ActivityStream
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.effects import (
    LlmCallCommand,
    LlmCallOutcome,
    RuntimeEffectEnvelope,
    RuntimeEffectOutcome,
    RuntimeScope,
    expect,
)
from lash_hookspecs.errors import LashError, LlmCallFailed
from lash_hookspecs.llm import LlmAttachment, LlmCallError, LlmRequest, LlmResponse
from lash_hookspecs.turns import LlmCall

__all__ = ["ask_model"]

log = logging.getLogger("lash.turn")


async def ask_model(plan: TurnPlan, stream: ActivityStream, effect: LlmCall, scope: RuntimeScope) -> LlmCallOutcome:
    """Ask the turn's model. What the user must mend (`ConfigurationError`) is raised; other failures are outcomes."""

    async def run(asked: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        try:
            request = await _with_bytes(plan, effect.request)
            result: LlmResponse | LlmCallError = await plan.provider().complete(request, stream.receive)
        except LlmCallFailed as failed:
            result = failed.error
        except LashError:
            raise  # nothing is committed
        except Exception as error:
            log.exception("provider `%s` raised", plan.provider_id)
            result = LlmCallError(message=f"provider `{plan.provider_id}` failed: {type(error).__name__}: {error}")
        return LlmCallOutcome(result, text_streamed=stream.text_streamed)

    wrapped = envelope(scope, LlmCallCommand(plan.provider_id, effect.request), str(effect.id))
    return expect(await plan.controller.execute(wrapped, run), LlmCallOutcome)


async def _with_bytes(plan: TurnPlan, request: LlmRequest) -> LlmRequest:
    """The request with its attachments' bytes, which no record holds."""
    if not request.attachments:
        return request
    loaded = []
    for each in request.attachments:
        data = each.data or await plan.get_blob(each.reference.id)
        if data is None:
            raise LlmCallFailed(LlmCallError(message=f"attachment `{each.reference.id}` is not in the store"))
        loaded.append(LlmAttachment(reference=each.reference, data=data))
    return evolve(request, attachments=tuple(loaded))
