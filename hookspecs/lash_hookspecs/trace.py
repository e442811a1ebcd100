"""What a host tells of its work, record by record, and the port of those who write it down: files, spans, counters.

A record holds names, numbers and codes. No prompt, argument, result or answer is in one, unless a plugin says it itself
with `EmitTrace`. An effect that is answered from a record was told of by the process that executed it, and isn't again.
"""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, Union

from lash_hookspecs.activity import TurnEnd
from lash_hookspecs.effect_commands import RuntimeEffectKind
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.prefix import PrefixChange
from lash_hookspecs.values import frozen

__all__ = [
    "TRACE_VERSION",
    "FlushingTraceSink",
    "TraceContext",
    "TraceEffectCompleted",
    "TraceEffectFailed",
    "TraceEffectStarted",
    "TraceEvent",
    "TraceLoadReport",
    "TraceOverruled",
    "TracePlugin",
    "TracePrefixChange",
    "TraceRecord",
    "TraceSink",
    "TraceToolCall",
    "TraceTurnEnded",
    "TraceTurnStarted",
]

TRACE_VERSION = 1
"""The version of what a `TraceRecord` looks like; it grows with every change that a reader must know of."""


@frozen(kw_only=True)
class TraceContext:
    """Where it happened; what is None has no meaning there. `effect_key` is the effect's replay key."""

    session_id: str | None = None
    turn_id: str | None = None
    turn_index: int | None = None
    iteration: int | None = None
    effect_id: str | None = None
    effect_key: str | None = None


# ---- what happened --------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class TraceLoadReport:
    """A host has started: its plugins by id, and of those that failed `id (stage)`."""

    tag: ClassVar[str] = "load_report"
    loaded: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()


@frozen(kw_only=True)
class TraceTurnStarted:
    """A run of a turn begins; after a crash there is a further one. `composition` is the key of mode and plugins."""

    tag: ClassVar[str] = "turn_started"
    mode_id: str
    model: str
    composition: str


@frozen(kw_only=True)
class TraceTurnEnded:
    """The run is over. Of a committed turn: its `outcome` by its tag, and what it has cost. `error`: what broke it.

    `difference`: where the turn can't go on since something else is asked than was recorded, each piece that differs,
    with its digest then and now; the error names the first eight.
    """

    tag: ClassVar[str] = "turn_ended"
    end: TurnEnd
    duration_ms: int
    outcome: str | None = None
    usage: TokenUsage | None = None
    durable: bool = False
    error: str | None = None
    difference: tuple[str, ...] = ()


@frozen(kw_only=True)
class TraceEffectStarted:
    """An effect is executed. `name`: the model that is asked, or the tool that is called, with its `plugin_id`."""

    tag: ClassVar[str] = "effect_started"
    kind: RuntimeEffectKind
    name: str | None = None
    plugin_id: str | None = None


@frozen(kw_only=True)
class TraceEffectCompleted:
    """An effect has an outcome. `code`: what a model or a tool failed with, which is an outcome too."""

    tag: ClassVar[str] = "effect_completed"
    kind: RuntimeEffectKind
    duration_ms: int
    name: str | None = None
    plugin_id: str | None = None
    usage: TokenUsage | None = None
    code: str | None = None


@frozen(kw_only=True)
class TraceEffectFailed:
    """An effect has no outcome: the boundary failed, or it was cancelled."""

    tag: ClassVar[str] = "effect_failed"
    kind: RuntimeEffectKind
    duration_ms: int
    error: str
    name: str | None = None
    plugin_id: str | None = None


@frozen(kw_only=True)
class TraceToolCall:
    """The turn has the result of a call, whoever made it: the tool, a hook, or nobody. `code`: why it failed."""

    tag: ClassVar[str] = "tool_call_completed"
    tool_name: str
    outcome: str
    duration_ms: int
    call_id: str | None = None
    plugin_id: str | None = None
    code: str | None = None
    parent_call_id: str | None = None


@frozen(kw_only=True)
class TraceOverruled:
    """A plugin wanted to decide a tool call, and another one did. `wanted` is the directive's tag."""

    tag: ClassVar[str] = "overruled"
    call_id: str
    tool_name: str
    winner: str
    loser: str
    wanted: str


@frozen
class TracePrefixChange:
    """Within a turn, a request doesn't begin as the one before it did: a provider's cache is of less use."""

    tag: ClassVar[str] = "prefix_changed"
    change: PrefixChange


@frozen(kw_only=True)
class TracePlugin:
    """What a plugin said with `EmitTrace`; its full name is `plugin.<plugin_id>.<name>`."""

    tag: ClassVar[str] = "plugin"
    plugin_id: str
    name: str
    payload: Any = None


TraceEvent = Union[
    TraceLoadReport,
    TraceTurnStarted,
    TraceTurnEnded,
    TraceEffectStarted,
    TraceEffectCompleted,
    TraceEffectFailed,
    TraceToolCall,
    TraceOverruled,
    TracePrefixChange,
    TracePlugin,
]


@frozen(kw_only=True)
class TraceRecord:
    """One thing that happened. `id` is nobody else's; `at_ms` is milliseconds since 1970."""

    schema_version: int = TRACE_VERSION
    id: str
    at_ms: int
    context: TraceContext
    event: TraceEvent


# ---- who writes it down ---------------------------------------------------------------------------------------------


class TraceSink(Protocol):
    """Takes records, in order. It is called on the event loop: what takes time belongs into a thread, or into `flush`.

    One that raises or is slow stops nothing. It is named in the log once, and switched off if it goes on.
    """

    def append(self, record: TraceRecord) -> None:
        """Take a record, and return at once."""
        ...


class FlushingTraceSink(TraceSink, Protocol):
    """A sink that holds records back."""

    async def flush(self) -> None:
        """The host closes: let go of what is held, within a few seconds."""
        ...
