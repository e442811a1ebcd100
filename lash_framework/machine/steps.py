"""What a driver's step may be, and the answers that the machine itself gives to calls it refuses. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from lash_framework.machine.sequence import MessageSequence
from lash_framework.machine.table import CONTINUATIONS
from lash_hookspecs.checkpoints import CheckpointKind
from lash_hookspecs.errors import DriverError, EffectControllerError
from lash_hookspecs.tools import (
    CompletedToolCall,
    InvalidToolCall,
    ModelToolReturn,
    PendingToolCall,
    TextPart,
    ToolCallFailure,
    ToolCallOutput,
    ToolFailureClass,
    ToolFailureSource,
)
from lash_hookspecs.turn_effects import ToolCalls
from lash_hookspecs.turn_events import ToolCallEvent
from lash_hookspecs.turn_outcomes import Finished, Handoff, Stopped
from lash_hookspecs.turn_snapshot import Waiting
from lash_hookspecs.turn_steps import PrepareIteration, StartCheckpoint, StartLlm, StartTools, Step

__all__ = ["call_events", "check_step", "merge_results", "reject", "split_calls"]


def check_step(
    step: object,
    asked: str,
    conversation: MessageSequence,
    own_checkpoints: Collection[CheckpointKind] = (),
    *,
    may_repeat: bool = True,
    may_reject: bool = True,
) -> Step:
    """The step, if it is one that the machine can take; a `DriverError` that says what is wrong with it otherwise.

    Three answers lead to the driver's next question, as things stand: `PrepareIteration`, a checkpoint at which nobody
    speaks with it as `on_empty`, and a batch of nothing but refused calls. Where they could do so for ever they are an
    error: the former two unless `may_repeat` or the step advances, the last unless `may_reject`.
    """
    if not isinstance(step, Step):
        raise DriverError(f"`{asked}` must return a `Step`, got {type(step).__name__}")
    if type(step.next) not in CONTINUATIONS:
        raise DriverError(f"`{asked}`: `next` must say how the turn goes on, got {step.next!r}")
    fault = _fault(step, conversation, own_checkpoints, may_repeat, may_reject)
    if fault is not None:
        raise DriverError(f"`{asked}`: {fault}")
    return step


def _fault(
    step: Step,
    conversation: MessageSequence,
    own_checkpoints: Collection[CheckpointKind],
    may_repeat: bool,
    may_reject: bool,
) -> str | None:
    ids = [message.id for message in step.messages]
    if step.turn_limit_final is not None:
        ids.append(step.turn_limit_final.id)
    for each in ids:
        if ids.count(each) > 1 or conversation.position_of(each) is not None:
            return f"message id `{each}` is in the conversation already"
    match step.next:
        case StartTools(calls=calls):
            call_ids = [call.call_id for call in calls]
            if not calls:
                return "a batch of tool calls must not be empty"
            if len(set(call_ids)) != len(call_ids):
                return f"call ids must differ within a batch: {call_ids}"
            if not may_reject and all(isinstance(call, InvalidToolCall) for call in calls):
                return "a batch of nothing but invalid calls must follow an effect's response"
        case PrepareIteration() if not may_repeat and not step.advance:
            return "`PrepareIteration` without `advance` would ask the same question again"
        case StartCheckpoint(kind=kind, on_empty=on_empty):
            if not isinstance(on_empty, PrepareIteration | StartLlm | Finished | Stopped | Handoff):
                return f"`on_empty` must prepare the iteration, ask the model or end the turn, got {on_empty!r}"
            if isinstance(on_empty, PrepareIteration) and not may_repeat and not step.advance:
                return f"checkpoint `{kind}` without `advance` would come again and again: let `on_empty` ask the model"
            if kind.is_own and kind not in own_checkpoints:
                return (
                    f"checkpoint `{kind}` isn't declared: name it in `checkpoints` of the `ModeDriver` or `DriverWrap`"
                )
        case _:
            pass
    return None


# ---- refused calls --------------------------------------------------------------------------------------------------


def reject(call: InvalidToolCall) -> CompletedToolCall:
    """The result of a call whose arguments are no JSON object; nothing is run."""
    message = (
        f"The arguments of this call to `{call.tool_name}` are not a JSON object, so it was not run. "
        "Call it again with one JSON object that fits the tool's schema."
    )
    failure = ToolCallFailure(
        failure_class=ToolFailureClass.INVALID_REQUEST,
        code="invalid_tool_arguments",
        message=message,
        source=ToolFailureSource.RUNTIME,
        raw=call.input_json,
    )
    return CompletedToolCall(
        call_id=call.call_id,
        tool_name=call.tool_name,
        args={},
        output=ToolCallOutput(failure),
        model_return=ModelToolReturn(call.call_id, call.tool_name, (TextPart(message),)),
        replay=call.replay,
    )


def split_calls(
    calls: Sequence[PendingToolCall | InvalidToolCall],
) -> tuple[tuple[PendingToolCall, ...], tuple[tuple[int, CompletedToolCall], ...]]:
    """The calls to run, and the results of the others with their place in the batch."""
    rejected = [(index, reject(call)) for index, call in enumerate(calls) if isinstance(call, InvalidToolCall)]
    return tuple([call for call in calls if isinstance(call, PendingToolCall)]), tuple(rejected)


def merge_results(waiting: Waiting, results: Sequence[CompletedToolCall]) -> tuple[CompletedToolCall, ...]:
    """All results of a batch in the order of its calls. Raises `EffectControllerError` unless they answer the calls."""
    assert isinstance(waiting.effect, ToolCalls)
    owed = [call.call_id for call in waiting.effect.calls]
    given = [result.call_id for result in results]
    if given != owed:
        raise EffectControllerError("tool_results_mismatch", f"results are owed for calls {owed}, got {given}")
    merged = list(results)
    for index, result in waiting.rejected:  # ascending, so each insertion finds its final place
        merged.insert(index, result)
    return tuple(merged)


def call_events(results: Iterable[CompletedToolCall], parent_call_id: str | None = None) -> Iterator[ToolCallEvent]:
    """What is shown of calls that ended: each, and after it the calls that its tool made."""
    for each in results:
        yield ToolCallEvent(
            call_id=each.call_id,
            name=each.tool_name,
            args=each.args,
            output=each.output,
            duration_ms=each.duration_ms,
            parent_call_id=parent_call_id,
            interventions=each.interventions,
        )
        if each.children:
            yield from call_events(each.children, each.call_id)
