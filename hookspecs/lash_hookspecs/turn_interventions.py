"""What plugins did to a turn, by name: a stored turn tells who ended it, handed it off, or changed what was said."""

from __future__ import annotations

from enum import StrEnum

from lash_hookspecs.values import frozen

__all__ = ["TurnIntervention", "TurnInterventionKind"]


class TurnInterventionKind(StrEnum):
    """What a plugin did. What it did about a tool call is with that: `ToolInterventionKind`."""

    ENDED = "ended"
    HANDED_OFF = "handed_off"
    SESSION_MADE = "session_made"
    MESSAGES_ADDED = "messages_added"
    MODEL_CALL_REFUSED = "model_call_refused"
    REPLY_CHANGED = "reply_changed"
    """It rewrote what the model had answered."""
    STREAM_CHANGED = "stream_changed"
    """It changed a reply on its way to whoever watches."""
    REPLY_ENDED = "reply_ended"
    """It ended a reply before the model had."""
    CALL_CHANGED = "call_changed"
    """It stood around a model call, and answered in the model's place or changed the answer."""
    CALL_FAILED = "call_failed"
    """Its hook raised, or returned nonsense, and so a model call failed."""
    REQUEST_CHANGED = "request_changed"
    """Its driver asked a model something else than what shows the conversation."""
    CONTEXT_CHANGED = "context_changed"
    """It changed what the model was shown of the conversation before the turn."""


@frozen(kw_only=True)
class TurnIntervention:
    """What a plugin did, how often. `detail`: a code, a hook, a session's id, or what was changed."""

    plugin_id: str
    kind: TurnInterventionKind
    detail: str = ""
    count: int = 1
