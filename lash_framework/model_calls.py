"""A turn's model calls: across the effect boundary, with attachments' bytes, and every failure as a value."""

from __future__ import annotations

import logging
from functools import cache
from operator import is_not
from typing import Any

from attrs import evolve, fields, has

from lash_framework.effects import envelope
from lash_framework.faults import failure_text, leaves, pass_on, storable_text
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
from lash_hookspecs.errors import ConfigurationError, LlmCallFailed
from lash_hookspecs.llm import LlmAttachment, LlmCallError, LlmRequest, LlmResponse, TokenUsage
from lash_hookspecs.turns import LlmCall

__all__ = ["ask_model"]

log = logging.getLogger("lash.turn")


async def ask_model(plan: TurnPlan, stream: ActivityStream, effect: LlmCall, scope: RuntimeScope) -> LlmCallOutcome:
    """Ask the turn's model. What the user must mend (`ConfigurationError`) is raised; other failures are outcomes."""

    async def run(asked: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
        try:
            request = await _with_bytes(plan, effect.request)  # a store's failure is raised: nothing is committed
        except LlmCallFailed as failed:
            return LlmCallOutcome(failed.error, text_streamed=stream.text_streamed)
        result: LlmResponse | LlmCallError
        try:
            result = _answer(plan.provider_id, await plan.provider.complete(request, stream.receive))
        except ConfigurationError:
            raise
        except BaseException as error:
            pass_on(error)
            alone, *others = leaves(error)
            if isinstance(alone, LlmCallFailed) and not others:
                result = alone.error
            else:
                log.error("provider `%s` raised", plan.provider_id, exc_info=error)
                text = f"provider `{plan.provider_id}` failed: {failure_text(error)}"
                # Nobody knows how far the call had come.
                result = LlmCallError(message=text, usage=TokenUsage(at_least=True))
        # What was paid for is kept: a lone surrogate in it would make the commit fail.
        return LlmCallOutcome(_storable(result), text_streamed=stream.text_streamed)

    wrapped = envelope(scope, LlmCallCommand(plan.provider_id, effect.request), str(effect.id))
    return expect(await plan.controller.execute(wrapped, run), LlmCallOutcome)


def _answer(provider_id: str, answer: object) -> LlmResponse | LlmCallError:
    """What the provider returned, or that it is no answer."""
    if isinstance(answer, LlmResponse):
        return answer
    what = "None" if answer is None else f"a `{type(answer).__name__}`"
    return LlmCallError(
        message=f"provider `{provider_id}` returned {what}, where a `LlmResponse` was expected",
        usage=TokenUsage(at_least=True),
    )


def _storable(value: Any) -> Any:
    """The value with every text in it fit to store; nearly always the very same."""
    if isinstance(value, str):
        return storable_text(value) if type(value) is str else value
    if isinstance(value, tuple):
        mended = tuple(_storable(each) for each in value)
        return mended if any(map(is_not, mended, value)) else value
    changed, cls = {}, value.__class__
    for name in _field_names(cls):
        before = getattr(value, name)
        if before is not None and (after := _storable(before)) is not before:
            changed[name] = after
    return evolve(value, **changed) if changed else value


@cache
def _field_names(cls: type) -> tuple[str, ...]:
    return tuple(each.name for each in fields(cls)) if has(cls) else ()


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
