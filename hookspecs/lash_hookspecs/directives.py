"""What a hook may ask of the turn. Each seam takes some of these; another one is an error that names the plugin."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Union

from attrs import field

from lash_hookspecs import _checks as checks
from lash_hookspecs.handoffs import CreateSession, HandoffSession
from lash_hookspecs.messages import MessageRole, PluginMessage
from lash_hookspecs.questions import AskPerson
from lash_hookspecs.tools import ToolCallOutput, ToolCallSuccess
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from attrs import Attribute

__all__ = [
    "AbortTurn",
    "AfterToolDirective",
    "AnsweredDirective",
    "BeforeToolDirective",
    "CheckpointDirective",
    "DenyToolCall",
    "EmitEvents",
    "EmitTrace",
    "EnqueueMessages",
    "FailLlmCall",
    "LlmCallDirective",
    "OwnedDirective",
    "ReplaceToolArgs",
    "ReplaceToolResult",
    "ShortCircuitTool",
    "SurfaceEvent",
    "TurnDirective",
]


@frozen
class AbortTurn:
    """End the turn as stopped by a plugin. What was enqueued is kept. The last abort wins."""

    tag: ClassVar[str] = "abort_turn"
    code: str = field(validator=checks.text)
    message: str = field(validator=checks.text)


def _messages(value: tuple[PluginMessage, ...] | list[PluginMessage]) -> tuple[PluginMessage, ...]:
    return checks.as_tuple(value)


def _are_messages(instance: object, attribute: Attribute[Any], value: object) -> None:
    try:
        checks.tuple_of(PluginMessage)(instance, attribute, value)
    except TypeError as error:
        given = value if not isinstance(value, tuple) else next(x for x in value if not isinstance(x, PluginMessage))
        if isinstance(given, str):
            write = f"write `EnqueueMessages.note({reprlib.repr(given)})`"
        elif isinstance(given, PluginMessage):
            write = "put it into a tuple"
        else:
            write = 'write `(PluginMessage(role="user", content="…"),)`'
        raise TypeError(f"{error}: {write}") from None


@frozen
class EnqueueMessages:
    """Append messages; only users' and systems'. Transient ones are shown in this turn's prompts and never stored."""

    tag: ClassVar[str] = "enqueue_messages"
    messages: tuple[PluginMessage, ...] = field(converter=_messages, validator=_are_messages)
    transient: bool = field(default=False, validator=checks.flag)

    @classmethod
    def note(cls, text: str, *, transient: bool = False) -> EnqueueMessages:
        """One note, which the model is told where it stands; what holds in all turns belongs into the prompt."""
        return cls((PluginMessage(role=MessageRole.SYSTEM, content=text),), transient)


@frozen(kw_only=True)
class SurfaceEvent:
    """Something to show to whoever watches. `payload` is plain JSON data."""

    name: str = field(validator=checks.text)
    payload: Any = None


def _events(value: tuple[SurfaceEvent, ...] | list[SurfaceEvent]) -> tuple[SurfaceEvent, ...]:
    return checks.as_tuple(value)


@frozen
class EmitEvents:
    """Show these to whoever watches; the plugin's id is added."""

    tag: ClassVar[str] = "emit_events"
    events: tuple[SurfaceEvent, ...] = field(converter=_events, validator=checks.tuple_of(SurfaceEvent))


@frozen
class EmitTrace:
    """Say something to the trace sinks, as `plugin.<id>.<name>`. It is in no record, and a replay doesn't repeat it."""

    tag: ClassVar[str] = "emit_trace"
    name: str = field(validator=checks.text)
    payload: Any = None


@frozen
class FailLlmCall:
    """Don't make this model call: it counts as failed with this code, before anything was spent."""

    tag: ClassVar[str] = "fail_llm_call"
    code: str = field(validator=checks.text)
    message: str = field(validator=checks.text)


TurnDirective = Union[AbortTurn, EnqueueMessages, EmitEvents, EmitTrace, CreateSession, HandoffSession]
CheckpointDirective = Union[AbortTurn, EnqueueMessages, EmitEvents, EmitTrace, CreateSession, HandoffSession]
LlmCallDirective = Union[AbortTurn, FailLlmCall, HandoffSession]


# ---- around a tool call ---------------------------------------------------------------------------------------------


@frozen
class ReplaceToolArgs:
    """Call the tool with these arguments; they are checked against its schema afterwards."""

    tag: ClassVar[str] = "replace_tool_args"
    args: Mapping[str, Any] = field(validator=checks.a(Mapping))


@frozen
class DenyToolCall:
    """Fail this call. Before the tool it never runs; after it its result is withheld. The model reads the message."""

    tag: ClassVar[str] = "deny_tool_call"
    message: str = field(validator=checks.text)
    code: str = field(default="denied", validator=checks.text)


def _as_output(value: object) -> ToolCallOutput:
    return value if isinstance(value, ToolCallOutput) else ToolCallOutput(ToolCallSuccess(value))


@frozen
class ShortCircuitTool:
    """Answer in the tool's place, which isn't run: a `ToolCallOutput`, or any JSON value, which is success."""

    tag: ClassVar[str] = "short_circuit_tool"
    output: ToolCallOutput = field(converter=_as_output)


@frozen
class ReplaceToolResult:
    """Have this count as what the tool returned: a `ToolCallOutput`, or any JSON value, which is success."""

    tag: ClassVar[str] = "replace_tool_result"
    output: ToolCallOutput = field(converter=_as_output)


BeforeToolDirective = Union[ReplaceToolArgs, DenyToolCall, AskPerson, ShortCircuitTool, EmitEvents, EmitTrace]
AnsweredDirective = Union[DenyToolCall, EmitEvents, EmitTrace]
AfterToolDirective = Union[ReplaceToolResult, DenyToolCall, EnqueueMessages, EmitEvents, EmitTrace]


@frozen
class OwnedDirective:
    """A directive, and the plugin whose hook returned it."""

    plugin_id: str
    directive: Union[AbortTurn, EnqueueMessages, EmitEvents, FailLlmCall, CreateSession, HandoffSession]
