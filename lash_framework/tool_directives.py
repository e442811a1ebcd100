"""What hooks around a tool call may ask for, checked where they ask for it, and what it makes of a call. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import orjson
from attrs import evolve

from lash_framework.directives import enqueued, owned_directives
from lash_framework.emitted_traces import check_traces, tell_overruled, tell_traces
from lash_framework.tool_calls import MAX_RESULT_BYTES, failure, model_return
from lash_framework.tool_fold import Clash, Ruling, Said
from lash_hookspecs.codec import MAX_NESTING, decode, encode
from lash_hookspecs.directives import (
    DenyToolCall,
    EmitEvents,
    EmitTrace,
    EnqueueMessages,
    OwnedDirective,
    ReplaceToolArgs,
    ReplaceToolResult,
    ShortCircuitTool,
)
from lash_hookspecs.effect_commands import ToolSeam
from lash_hookspecs.effect_outcomes import ToolHooksOutcome
from lash_hookspecs.errors import CodecError, PluginError
from lash_hookspecs.questions import AskPerson, PersonAnswer, PersonQuestion
from lash_hookspecs.tool_interventions import ToolIntervention, ToolInterventionKind
from lash_hookspecs.tools import (
    CompletedToolCall,
    ModelToolReturn,
    PendingToolCall,
    ToolCallCancelled,
    ToolCallOutput,
    ToolFailureClass,
    ToolFailureSource,
)

if TYPE_CHECKING:
    from lash_framework.tracing import TurnTrace

__all__ = [
    "ALLOWED",
    "CONFLICT",
    "asked_part",
    "checked",
    "denied_part",
    "failed_output",
    "failed_part",
    "interventions",
    "lasting",
    "named_blobs",
    "ruled_output",
    "trace",
    "with_after",
]

ALLOWED: dict[ToolSeam, tuple[type, ...]] = {
    ToolSeam.BEFORE: (ReplaceToolArgs, DenyToolCall, AskPerson, ShortCircuitTool, EmitEvents, EmitTrace),
    ToolSeam.ANSWERED: (DenyToolCall, EmitEvents, EmitTrace),
    ToolSeam.AFTER: (ReplaceToolResult, DenyToolCall, EnqueueMessages, EmitEvents, EmitTrace),
}
"""What may be returned where. All else fails the call, in the name of the plugin."""

CONFLICT = "tool_hooks_conflict"
"""The code of a call that two plugins changed, each in its own way."""

_Kind = ToolInterventionKind


# ---- what they say --------------------------------------------------------------------------------------------------


def checked(hook: str, found: Iterable[tuple[str, Any]]) -> list[Said]:
    """What hooks returned, as it can be stored: nobody changes it afterwards. Raises `PluginError`."""
    return [(plugin_id, _checked(plugin_id, hook, directive)) for plugin_id, directive in found]


def _checked(plugin_id: str, hook: str, directive: Any) -> Any:
    try:
        match directive:
            case ReplaceToolArgs(args=args):
                return ReplaceToolArgs(orjson.loads(_encoded(plugin_id, hook, directive, dict(args))))
            case ShortCircuitTool(output=output) | ReplaceToolResult(output=output):
                return evolve(directive, output=decode(ToolCallOutput, _encoded(plugin_id, hook, directive, output)))
            case EmitTrace():
                check_traces([(plugin_id, directive)], hook)
            case EnqueueMessages() | EmitEvents():
                return owned_directives([(plugin_id, directive)], hook)[0].directive
    except CodecError as error:
        raise PluginError(plugin_id, hook, f"what its `{type(directive).__name__}` holds {error}") from error
    return directive


def _encoded(plugin_id: str, hook: str, directive: Any, value: Any) -> bytes:
    """What a directive holds, as bytes: of results, whoever makes them, there is one limit."""
    data = encode(value, levels=MAX_NESTING)
    if len(data) > MAX_RESULT_BYTES:
        text = f"what its `{type(directive).__name__}` holds has {len(data):,} bytes, and may have {MAX_RESULT_BYTES:,}"
        raise PluginError(plugin_id, hook, text)
    return data


def named_blobs(said: Iterable[Said]) -> Iterator[tuple[str, str]]:
    """The attachments in what was said, by plugin and id."""
    for plugin_id, directive in said:
        match directive:
            case ShortCircuitTool(output=output) | ReplaceToolResult(output=output):
                if not isinstance(output.outcome, ToolCallCancelled):
                    yield from ((plugin_id, each.id) for each in output.outcome.attachments)
            case EnqueueMessages():
                for _, message in enqueued([OwnedDirective(plugin_id, directive)]):
                    yield from ((plugin_id, each.id) for each in message.images)


def lasting(said: Iterable[Said]) -> tuple[OwnedDirective, ...]:
    """What a record keeps of it besides the decision: messages and events."""
    return tuple(OwnedDirective(each, what) for each, what in said if isinstance(what, EnqueueMessages | EmitEvents))


def trace(said: Iterable[Said], ruling: Ruling, call: PendingToolCall, told: TurnTrace | None) -> None:
    """Tell what is to be traced, the conflicts among it."""
    tell_traces(said, told)
    tell_overruled(ruling, call, told)


# ---- what comes of it -----------------------------------------------------------------------------------------------


def ruled_output(seam: ToolSeam, ruling: Ruling, tool_name: str) -> ToolCallOutput | None:
    """The output of a call that is decided; None where it goes on, or stays as it is."""
    if ruling.clash is not None:
        text = _clash_text(seam, ruling.clash, tool_name)
        return failure(CONFLICT, text, ToolFailureClass.INTERNAL, ToolFailureSource.PLUGIN)
    match ruling.decided:
        case None:
            return None
        case (_, DenyToolCall(message=message, code=code)):
            return failure(code, message, ToolFailureClass.PERMISSION_DENIED, ToolFailureSource.POLICY)
        case (_, decided):
            output: ToolCallOutput = decided.output
            return output


def _clash_text(seam: ToolSeam, clash: Clash, tool_name: str) -> str:
    what, did = (
        (f"`{tool_name}` was not called", "its arguments")
        if seam is ToolSeam.BEFORE
        else (f"`{tool_name}` ran, and its result is withheld", "that")
    )
    one, other = clash.first, clash.second
    who = f"plugin `{one}` changes {did} twice" if one == other else f"plugins `{one}` and `{other}` both change {did}"
    return f"{what}: {who}, each time in another way; let one change say all, or switch one of the plugins off"


def failed_output(seam: ToolSeam, error: PluginError, tool_name: str) -> ToolCallOutput:
    """The output of a call whose hook failed."""
    did = "ran, and its result is withheld" if seam is ToolSeam.AFTER else "was not called"
    text = f"`{tool_name}` {did}: {error}"
    return failure(f"{seam}_tool_call_failed", text, ToolFailureClass.INTERNAL, ToolFailureSource.PLUGIN)


def failed_part(error: PluginError) -> ToolIntervention:
    """The plugin whose hook failed."""
    return ToolIntervention(plugin_id=error.plugin_id, kind=_Kind.FAILED, detail=error.hook)


def asked_part(question: PersonQuestion, answer: PersonAnswer) -> ToolIntervention:
    """The plugin that asked a person, and what was said."""
    return ToolIntervention(plugin_id=question.plugin_id, kind=_Kind.ASKED, detail=answer.choice or "no answer")


def denied_part(plugin_id: str, output: ToolCallOutput) -> ToolIntervention:
    """The plugin in whose name a call is denied."""
    return ToolIntervention(plugin_id=plugin_id, kind=_Kind.DENIED, detail=getattr(output.outcome, "code", None))


_DID = {
    DenyToolCall: _Kind.DENIED,
    ShortCircuitTool: _Kind.SHORT_CIRCUITED,
    ReplaceToolResult: _Kind.RESULT_REPLACED,
}


def interventions(ruling: Ruling) -> tuple[ToolIntervention, ...]:
    """Who decided or changed a call, and who was overruled."""
    found: list[ToolIntervention] = []
    if ruling.clash is not None:
        both = dict.fromkeys((ruling.clash.first, ruling.clash.second))
        found = [ToolIntervention(plugin_id=each, kind=_Kind.FAILED, detail=CONFLICT) for each in both]
    elif ruling.decided is not None:
        plugin_id, value = ruling.decided
        code = value.code if isinstance(value, DenyToolCall) else None
        found.append(ToolIntervention(plugin_id=plugin_id, kind=_DID[type(value)], detail=code))
    elif ruling.changed is not None:
        found.append(ToolIntervention(plugin_id=ruling.changed.plugin_id, kind=_Kind.ARGS_REPLACED))
    found += [
        ToolIntervention(plugin_id=each.loser, kind=_Kind.OVERRULED, detail=each.wanted.tag, by=each.winner)
        for each in ruling.overruled
    ]
    return tuple(found)


def with_after(done: CompletedToolCall, found: ToolHooksOutcome) -> CompletedToolCall:
    """The call as it is once its hooks have seen it."""
    if found.output is None and found.view is None and not found.interventions:
        return done
    output = found.output or done.output
    view = done.model_return if found.output is None else model_return(done.call_id, done.tool_name, output.outcome)
    if found.view is not None:
        view = ModelToolReturn(done.call_id, done.tool_name, found.view)
    return evolve(done, output=output, model_return=view, interventions=(*done.interventions, *found.interventions))
