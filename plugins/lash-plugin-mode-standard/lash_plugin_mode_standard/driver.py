"""The standard protocol: ask, run every tool that the model calls, ask again, until it answers in words.

Pure: everything comes in as arguments and goes out as a `Step`. It knows of no provider, no tool and no clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from attrs import evolve

from lash_hookspecs.checkpoints import CheckpointKind
from lash_hookspecs.codec import MAX_NESTING, encode
from lash_hookspecs.errors import CodecError, DriverError
from lash_hookspecs.handoffs import HandoffSession, handoff_to
from lash_hookspecs.llm import LlmOutputPart, LlmResponse, ReasoningOutput, TextOutput, ToolCallOutputPart
from lash_hookspecs.messages import Message, MessageRole, Part, PartKind, ProviderReasoningMeta, text_message
from lash_hookspecs.tools import (
    AttachmentPart,
    CompletedToolCall,
    ExecResponse,
    FailControl,
    FinishControl,
    InvalidToolCall,
    PendingToolCall,
    TextPart,
)
from lash_hookspecs.turn_events import ErrorEnvelope, ErrorEvent, LlmResponseEvent, SessionEvent, TextDelta
from lash_hookspecs.turn_outcomes import AssistantMessage, Finished, Handoff, Stopped, StopReason, ToolFailed, ToolValue
from lash_hookspecs.turn_steps import DriverContextView, PrepareIteration, StartCheckpoint, StartLlm, StartTools, Step

__all__ = ["StandardDriver"]


class StandardDriver:
    """The `ProtocolDriver` of the mode `standard`."""

    def prepare_protocol_iteration(self, ctx: DriverContextView) -> Step:
        """Ask the model, with tools."""
        return Step(next=StartLlm(ctx.project_llm_request()))

    def handle_llm_success(
        self, ctx: DriverContextView, response: LlmResponse, text_streamed: bool, driver_state: Any
    ) -> Step:
        """Run what it calls, or take its words as the answer."""
        parts = usable_parts(response)
        pieces = [part.text for part in parts if isinstance(part, TextOutput)]
        text = join_pieces(pieces)
        emits: list[SessionEvent] = [] if text_streamed else [TextDelta(piece) for piece in spaced(pieces)]
        emits.append(LlmResponseEvent(protocol_iteration=ctx.protocol_iteration, content=text))
        if any(isinstance(part, ToolCallOutputPart) for part in parts):
            calls = tuple(parse_call(part) for part in parts if isinstance(part, ToolCallOutputPart))
            return Step(emits=tuple(emits), messages=(said(ctx, "calls", parts),), next=StartTools(calls))
        if pieces:
            answer = Finished(AssistantMessage(text))
            return Step(
                emits=tuple(emits),
                messages=(said(ctx, "answer", parts),),
                next=StartCheckpoint(kind=CheckpointKind.BEFORE_COMPLETION, on_empty=answer),
            )
        if just_saw_results(ctx.turn_messages):
            # Some models end a turn without a word once their last tool has done what was asked.
            silence = Finished(AssistantMessage(""))
            return Step(
                emits=tuple(emits), next=StartCheckpoint(kind=CheckpointKind.BEFORE_COMPLETION, on_empty=silence)
            )
        return Step(emits=(*emits, _EMPTY_RESPONSE), next=Stopped(StopReason.PROVIDER_ERROR))

    def handle_tool_results(self, ctx: DriverContextView, completed: Sequence[CompletedToolCall]) -> Step:
        """Show the results to the model, unless one of them ends the turn or the limit is reached."""
        ends = [(each, end) for each in completed if (end := ending(ctx, each)) is not None]
        if ends:
            (first, end), *others = ends
            late = [each for each, other in others if isinstance(other, Handoff)]
            lost = {each.call_id for each in late}
            shown = [not_handed_off(each, first) if each.call_id in lost else each for each in completed]
            emits = tuple(handoff_lost(each, first) for each in late)
            return Step(emits=emits, messages=(results_message(ctx, shown),), next=end)
        results = results_message(ctx, completed)
        limit = ctx.max_turns
        if limit is not None and ctx.protocol_iteration + 1 >= ctx.protocol_run_offset + limit:
            note = limit_note(ctx, limit)
            return Step(messages=(results, note), advance=True, next=Stopped(StopReason.MAX_TURNS))
        return Step(
            messages=(results,),
            advance=True,
            next=StartCheckpoint(kind=CheckpointKind.AFTER_WORK, on_empty=PrepareIteration()),
        )

    def handle_exec_result(self, ctx: DriverContextView, result: ExecResponse | str, driver_state: Any) -> Step:
        """Never asked: this mode runs no code."""
        raise DriverError("the mode `standard` runs no code, yet it got the result of some")


_EMPTY_RESPONSE = ErrorEvent(
    "the model returned an empty answer",
    ErrorEnvelope(
        kind="llm_provider",
        code="empty_response",
        user_message="the model returned an empty answer: neither text nor tool calls",
        retryable=False,
    ),
)


# ---- how a call ends the turn ---------------------------------------------------------------------------------------


def ending(ctx: DriverContextView, call: CompletedToolCall) -> Finished | Stopped | Handoff | None:
    """How a call ends the turn, if it does."""
    match call.output.control if call.output.is_success else None:
        case FinishControl(value=value):
            return Finished(ToolValue(call.tool_name, value))
        case FailControl(value=value):
            return Stopped(StopReason.TOOL_ERROR, ToolFailed(call.tool_name, value))
        case HandoffSession() as asked:
            return handoff_to(ctx.session_id, ctx.turn_id, call.call_id, asked)
        case _:
            return None


def handoff_lost(call: CompletedToolCall, first: CompletedToolCall) -> ErrorEvent:
    """Tells of a handoff that came to nothing: a turn ends once, and its tool said that it had handed it off."""
    text = f"{_lost(call, first)}; what it was to tell is lost"
    return ErrorEvent(text, ErrorEnvelope(kind="handoff", code="second_handoff", user_message=text, retryable=False))


def not_handed_off(call: CompletedToolCall, first: CompletedToolCall) -> CompletedToolCall:
    """The same for the models of later turns, in the place of what the tool said."""
    return evolve(call, model_return=evolve(call.model_return, parts=(TextPart(f"Error: {_lost(call, first)}"),)))


def _lost(call: CompletedToolCall, first: CompletedToolCall) -> str:
    return (
        f"`{call.tool_name}` ({call.call_id}) did not hand the turn off: `{first.tool_name}` ({first.call_id}), called "
        "beside it, had ended it"
    )


# ---- reading an answer ----------------------------------------------------------------------------------------------


def usable_parts(response: LlmResponse) -> list[LlmOutputPart]:
    """What of an answer is kept, in the order in which the model made it.

    Blank text and empty reasoning are left out, repeated call ids too; and text of the phase `commentary` where there
    is text of the phase `final_answer`.
    """
    given: Sequence[LlmOutputPart] = response.parts or (TextOutput(text=response.full_text),)
    texts = [part for part in given if isinstance(part, TextOutput) and part.text.strip()]
    has_final = any(_phase(part) == "final_answer" for part in texts)
    seen: set[str] = set()
    kept: list[LlmOutputPart] = []
    for part in given:
        match part:
            case TextOutput(text=text):
                if text.strip() and not (has_final and _phase(part) == "commentary"):
                    kept.append(part)
            case ReasoningOutput(text=text, replay=replay):
                if text.strip() or _has_content(replay):
                    kept.append(part)
            case ToolCallOutputPart(call_id=call_id):
                if call_id not in seen:  # a result can answer only one call of an id
                    seen.add(call_id)
                    kept.append(part)
    return kept


def _phase(part: TextOutput) -> str | None:
    return part.response_meta.phase if part.response_meta else None


def _has_content(replay: ProviderReasoningMeta | None) -> bool:
    return replay is not None and bool(
        replay.item_id or replay.encrypted_content or replay.signature or replay.redacted or replay.summary
    )


def spaced(pieces: Sequence[str]) -> Iterator[str]:
    """The pieces, each but the first led in by what separates it from the one before: at least one blank line."""
    before = ""
    for piece in pieces:
        newlines = len(before) - len(before.rstrip("\n")) + len(piece) - len(piece.lstrip("\n"))
        yield ("\n" * max(0, 2 - newlines) if before else "") + piece
        before = piece


def join_pieces(pieces: Sequence[str]) -> str:
    """The text of an answer."""
    return "".join(spaced(pieces))


def parse_call(part: ToolCallOutputPart) -> PendingToolCall | InvalidToolCall:
    """A call with its arguments, or an invalid one if they are no JSON object that can be stored."""
    try:
        args = json.loads(part.input_json)
        # Python reads more than JSON can say: NaN, endless numbers, lone surrogates.
        encode(args, levels=MAX_NESTING)
    except (ValueError, RecursionError, CodecError):
        args = None
    if isinstance(args, dict):
        return PendingToolCall(call_id=part.call_id, tool_name=part.tool_name, args=args, replay=part.replay)
    return InvalidToolCall(
        call_id=part.call_id, tool_name=part.tool_name, input_json=part.input_json, replay=part.replay
    )


# ---- messages -------------------------------------------------------------------------------------------------------


def message_id(ctx: DriverContextView, purpose: str) -> str:
    """The same for the same turn, iteration and purpose, so that a replay makes the same messages."""
    return f"m_standard_{ctx.turn_id}_{ctx.protocol_iteration}_{purpose}"


def said(ctx: DriverContextView, purpose: str, parts: Sequence[LlmOutputPart]) -> Message:
    """What the model said, as one message in its own order: services check that order when they get it back."""
    new_id = message_id(ctx, purpose)
    stored = tuple(_stored(f"{new_id}.p{index}", part) for index, part in enumerate(parts))
    return Message(id=new_id, role=MessageRole.ASSISTANT, parts=stored)


def _stored(id: str, part: LlmOutputPart) -> Part:
    match part:
        case TextOutput(text=text, response_meta=meta):
            return Part(id=id, kind=PartKind.PROSE, content=text, response_meta=meta)
        case ReasoningOutput(text=text, replay=replay):
            return Part(id=id, kind=PartKind.REASONING, content=text, reasoning_meta=replay)
        case ToolCallOutputPart():
            return Part(
                id=id,
                kind=PartKind.TOOL_CALL,
                content=part.input_json,
                tool_call_id=part.call_id,
                tool_name=part.tool_name,
                tool_replay=part.replay,
            )


def results_message(ctx: DriverContextView, completed: Sequence[CompletedToolCall]) -> Message:
    """One result per call, whatever it holds, each followed by its attachments in order."""
    new_id = message_id(ctx, "results")
    parts: list[Part] = []
    for each in completed:
        text = "\n".join(part.text for part in each.model_return.parts if isinstance(part, TextPart))
        attachments = [part.reference for part in each.model_return.parts if isinstance(part, AttachmentPart)]
        pieces = [(PartKind.TOOL_RESULT, text, None), *((PartKind.IMAGE, "", reference) for reference in attachments)]
        for kind, content, attachment in pieces:
            parts.append(
                Part(
                    id=f"{new_id}.p{len(parts)}",
                    kind=kind,
                    content=content,
                    attachment=attachment,
                    tool_call_id=each.call_id,
                    tool_name=each.tool_name,
                )
            )
    return Message(id=new_id, role=MessageRole.USER, parts=tuple(parts))


def limit_note(ctx: DriverContextView, limit: int) -> Message:
    """Tells the next turn's model why this one ended. Only for reading: the outcome says so to programs."""
    text = f"The turn was stopped here: it had used its limit of {limit} model call{'s' if limit > 1 else ''}."
    return text_message(message_id(ctx, "limit"), MessageRole.SYSTEM, text, kind=PartKind.ERROR)


def just_saw_results(messages: Sequence[Message]) -> bool:
    """Whether tool results came in since the assistant last spoke."""
    for message in reversed(messages):
        if message.role is MessageRole.ASSISTANT:
            return False
        if any(part.kind is PartKind.TOOL_RESULT for part in message.parts):
            return True
    return False
