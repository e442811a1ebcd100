"""Executing a model call: with attachments' bytes, and every failure as a value."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cache, partial
from operator import is_not
from typing import Any, get_args

from attrs import evolve, fields, has

from lash_framework.budget import charged
from lash_framework.faults import failure_text, leaves, pass_on, storable_text
from lash_framework.machine.answers import ENDING_REASONS, answer_text
from lash_framework.machine.projection import is_runtimes
from lash_framework.reply_pieces import ReplyPieces
from lash_framework.stream import ActivityStream
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.effect_outcomes import LlmCallOutcome
from lash_hookspecs.errors import ConfigurationError, LlmCallFailed, PluginError
from lash_hookspecs.llm import (
    LlmAttachment,
    LlmCallError,
    LlmOutputPart,
    LlmRequest,
    LlmResponse,
    LlmStreamEvent,
    ProviderFailureKind,
    TextOutput,
    TokenUsage,
)
from lash_hookspecs.llm_messages import ImageBlock, LlmBlock, LlmMessage, LlmRole, TextBlock, ToolResultBlock
from lash_hookspecs.models import ModelCapability
from lash_hookspecs.replay import foreign_origin, stamp_response
from lash_hookspecs.turn_interventions import TurnIntervention, TurnInterventionKind

__all__ = ["ask_aside", "call_failed", "call_model", "of_a_piece", "storable"]

log = logging.getLogger("lash.turn")


_PARTS = get_args(LlmOutputPart)


async def call_model(
    plan: TurnPlan, stream: ActivityStream, asked: LlmRequest, pieces: ReplyPieces | None = None
) -> LlmCallOutcome:
    """Ask the turn's model. What the user must mend (`ConfigurationError`) is raised; other failures are outcomes."""
    request, lost = await _with_bytes(plan, asked)  # a store's failure is raised: nothing is committed
    result: LlmResponse | LlmCallError
    try:
        stream.asking = True  # it costs
        if pieces is None:
            answer: object = await plan.provider.complete(request, stream.receive)
        else:
            answer = await pieces.through(partial(plan.provider.complete, request))
        result = answer if isinstance(answer, LlmCallError) and pieces is not None else _answer(plan, answer)
    except ConfigurationError:
        raise
    except BaseException as error:
        pass_on(error)
        result = _failed(plan, error)
    result = charged(plan, result)
    partial_text = _partial_text(result, stream) if plan.keep_partial else None
    # What a hook took out of the stream isn't shown behind it.
    streamed = stream.text_streamed or (pieces is not None and pieces.text_came)
    # What was paid for is kept: a lone surrogate in it would make the commit fail.
    did = () if pieces is None else pieces.did()
    if pieces is not None and pieces.failure is not None:
        did = (*did, call_failed(pieces.failure))
    return LlmCallOutcome(storable(result), streamed, lost, partial_text, did=did)


def call_failed(error: PluginError) -> TurnIntervention:
    """What is told of the plugin whose hook failed a call."""
    return TurnIntervention(plugin_id=error.plugin_id, kind=TurnInterventionKind.CALL_FAILED, detail=error.hook)


async def ask_aside(plan: TurnPlan, asked: LlmRequest) -> LlmResponse | LlmCallError:
    """Ask the plan's model aside from the conversation: nobody hears the answer come. Raises as `call_model` does."""
    request, _ = await _with_bytes(plan, asked)
    result: LlmResponse | LlmCallError
    try:
        result = _answer(plan, await plan.provider.complete(request, _unheard))
    except ConfigurationError:
        raise
    except BaseException as error:
        pass_on(error)
        result = _failed(plan, error)
    mended: LlmResponse | LlmCallError = storable(charged(plan, result))
    return mended


async def _unheard(events: Sequence[LlmStreamEvent]) -> None:
    """Nobody listens."""


def _failed(plan: TurnPlan, error: BaseException) -> LlmCallError:
    """What a provider raised, as a value."""
    alone, *others = leaves(error)
    if isinstance(alone, LlmCallFailed) and not others:
        return alone.error
    log.error("provider `%s` raised", plan.provider_id, exc_info=error)
    text = f"provider `{plan.provider_id}` failed: {failure_text(error)}"
    # Nobody knows how far the call had come.
    return LlmCallError(message=text, usage=TokenUsage(at_least=True))


def _partial_text(result: LlmResponse | LlmCallError, stream: ActivityStream) -> str | None:
    """What the model had said when its reply was cut off; None for one that is whole."""
    if isinstance(result, LlmCallError):
        return stream.reply()[0] or None
    return storable_text(answer_text(result)) or None if result.terminal_reason in ENDING_REASONS else None


def _answer(plan: TurnPlan, answer: object) -> LlmResponse | LlmCallError:
    """What the provider returned, its opaque state stamped with where it is from; or that it is no answer."""
    if isinstance(answer, LlmResponse):
        if (fault := _fault_of(answer)) is not None:
            text = f"provider `{plan.provider_id}` returned a `LlmResponse` {fault}"
            return LlmCallError(message=text, usage=TokenUsage(at_least=True))
        if (origin := foreign_origin(answer, plan.route)) is not None:
            return LlmCallError(
                message=f"provider `{plan.provider_id}` returned state of `{origin.provider_id}` at {origin.endpoint}"
                ": the answer is refused, since such state belongs to the route that made it",
                kind=ProviderFailureKind.VALIDATION,
                code="foreign_replay_state",
                usage=evolve(answer.usage, at_least=True),
            )
        return stamp_response(answer, plan.route)
    what = "None" if answer is None else f"a `{type(answer).__name__}`"
    return LlmCallError(
        message=f"provider `{plan.provider_id}` returned {what}, where a `LlmResponse` was expected",
        usage=TokenUsage(at_least=True),
    )


def _fault_of(answer: LlmResponse) -> str | None:
    """What of an answer nobody could work with, such as a provider's author forgets; None: nothing."""
    given: dict[str, tuple[object, type, str]] = {
        "full_text": (answer.full_text, str, "text"),
        "parts": (answer.parts, tuple, "a tuple"),
        "usage": (answer.usage, TokenUsage, "a `TokenUsage`"),
    }
    for name, (value, wanted, words) in given.items():
        if not isinstance(value, wanted):
            return f"whose `{name}` is a `{type(value).__name__}`; expected is {words}"
    for part in answer.parts:
        if not isinstance(part, _PARTS):
            return f"with a `{type(part).__name__}` among its `parts`: write `TextOutput(text=…)`, for instance"
    return None


def of_a_piece(before: LlmResponse, after: LlmResponse) -> LlmResponse:
    """An answer that a plugin rewrote, with the `full_text` of its parts.

    Raises `ValueError` where only `full_text` is new: what was to be taken out of the answer would stay in its parts.
    """
    was, now = _texts(before), _texts(after)
    if not after.parts or (now != was) == (after.full_text != before.full_text):
        return after
    if now != was:
        return evolve(after, full_text="".join(now))
    raise ValueError("has another `full_text`, and the texts of before in `parts`, which count: change both")


def _texts(response: LlmResponse) -> list[str]:
    return [each.text for each in response.parts if isinstance(each, TextOutput)]


def storable(value: Any) -> Any:
    """The value with every text in it fit to store; nearly always the very same."""
    if isinstance(value, str):
        return storable_text(value) if type(value) is str else value
    if isinstance(value, tuple):
        mended = tuple(storable(each) for each in value)
        return mended if any(map(is_not, mended, value)) else value
    changed, cls = {}, value.__class__
    for name in _field_names(cls):
        before = getattr(value, name)
        # Most fields say nothing.
        if before and before.__class__ not in _INERT and (after := storable(before)) is not before:
            changed[name] = after
    return evolve(value, **changed) if changed else value


_INERT = frozenset({type(None), bool, int, float})


@cache
def _field_names(cls: type) -> tuple[str, ...]:
    return tuple(each.name for each in fields(cls)) if has(cls) else ()


async def _with_bytes(plan: TurnPlan, request: LlmRequest) -> tuple[LlmRequest, tuple[str, ...]]:
    """The request with its attachments' bytes, which no record holds, and the ids of those that are lost.

    In the place of a lost one the model reads that it is: every later request has it too, and none would be answered.
    So it does in the place of what a tool returned, or a user sent before, and the model is known not to take. What
    a user sends now, a provider refuses.
    """
    if not request.attachments:
        return request, ()
    attachments, lost, untaken = [], {}, {}
    for index, each in enumerate(request.attachments):
        media_type = each.reference.media_type
        data = each.data or await plan.get_blob(each.reference.id)
        if data is None:
            lost[index] = f"[{'An image' if media_type.startswith('image/') else 'A document'} was here. It is lost.]"
        elif not _takes(plan.capability, media_type):
            untaken[index] = f"[An attachment that this model doesn't take: {media_type}, {len(data)} bytes.]"
        attachments.append(LlmAttachment(reference=each.reference, data=data or b""))
    messages = request.messages
    if lost or untaken:
        asked = max((at for at, each in enumerate(messages) if _is_asked(each)), default=0)
        messages = tuple(
            _with_notes(each, lost if at == asked else {**untaken, **lost}) for at, each in enumerate(messages)
        )
    ids = dict.fromkeys(request.attachments[index].reference.id for index in lost)
    return evolve(request, messages=messages, attachments=tuple(attachments)), tuple(ids)


def _takes(can: ModelCapability, media_type: str) -> bool:
    """What isn't known is tried."""
    kinds = {"image": can.images, "audio": can.audio, "video": can.video}
    return kinds.get(media_type.partition("/")[0], can.documents) is not False


def _is_asked(message: LlmMessage) -> bool:
    """Whether a user said it; results of tools, notes and events have the same role."""
    is_result = any(isinstance(each, ToolResultBlock) for each in message.blocks)
    return message.role is LlmRole.USER and not is_result and not is_runtimes(message)


def _with_notes(message: LlmMessage, notes: Mapping[int, str]) -> LlmMessage:
    def shown(block: LlmBlock) -> LlmBlock:
        note = notes.get(block.attachment_idx) if isinstance(block, ImageBlock) else None
        return block if note is None else TextBlock(text=note)

    blocks = tuple(map(shown, message.blocks))
    return message if blocks == message.blocks else LlmMessage(message.role, blocks)
