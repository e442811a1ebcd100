"""What a hook may ask of the turn. Each seam takes some of these; another one is an error that names the plugin."""

from __future__ import annotations

from typing import Any, ClassVar, Union

from attrs import frozen

from lash_hookspecs.messages import MessageRole, PluginMessage

__all__ = ["AbortTurn", "CheckpointDirective", "EmitEvents", "EnqueueMessages", "SurfaceEvent", "TurnDirective"]


@frozen
class AbortTurn:
    """End the turn as stopped by a plugin. What was enqueued is kept. The last abort wins."""

    tag: ClassVar[str] = "abort_turn"
    code: str
    message: str


@frozen
class EnqueueMessages:
    """Append messages; only users' and systems'. Transient ones are shown in this turn's prompts and never stored."""

    tag: ClassVar[str] = "enqueue_messages"
    messages: tuple[PluginMessage, ...]
    transient: bool = False

    @classmethod
    def note(cls, text: str, *, transient: bool = False) -> EnqueueMessages:
        """One system note."""
        return cls((PluginMessage(role=MessageRole.SYSTEM, content=text),), transient)


@frozen(kw_only=True)
class SurfaceEvent:
    """Something to show to whoever watches. `payload` is plain JSON data."""

    name: str
    payload: Any = None


@frozen
class EmitEvents:
    """Show these to whoever watches; the plugin's id is added."""

    tag: ClassVar[str] = "emit_events"
    events: tuple[SurfaceEvent, ...]


TurnDirective = Union[AbortTurn, EnqueueMessages, EmitEvents]
CheckpointDirective = Union[AbortTurn, EnqueueMessages, EmitEvents]
