"""Compaction: a session goes on in a new frame, which begins with what a plugin made of the frame before.

Nothing is rewritten: the messages of older frames stay stored, and are loaded no more.
"""

from __future__ import annotations

from enum import StrEnum

from attrs import field

from lash_hookspecs import _checks as checks
from lash_hookspecs.context_views import ContextPiece
from lash_hookspecs.messages import Message
from lash_hookspecs.turn_effects import ProtocolEvent
from lash_hookspecs.values import frozen

__all__ = ["CompactReason", "CompactRequest", "Compacted", "Compaction", "FrameSeed"]


class CompactReason(StrEnum):
    """Why a conversation is compacted."""

    REQUESTED = "requested"
    """Somebody asked for it."""
    THRESHOLD = "threshold"
    """The last model call came near the end of the model's context window."""
    OVERFLOW = "overflow"
    """A model call didn't fit the window: it is made once more in the new frame."""


@frozen(kw_only=True)
class CompactRequest:
    """What a turn is asked for that only compacts. `instructions` are for the plugin that does it."""

    instructions: str = field(default="", validator=checks.text)


# Written out, since type checkers take no generic function for a converter of a field.
def _messages(value: tuple[Message, ...] | list[Message]) -> tuple[Message, ...]:
    return checks.as_tuple(value)


def _events(value: tuple[ProtocolEvent, ...] | list[ProtocolEvent]) -> tuple[ProtocolEvent, ...]:
    return checks.as_tuple(value)


@frozen(kw_only=True)
class FrameSeed:
    """What the new frame begins with, as `lash_compact` returns it.

    A message of the old frame that is passed on is kept as it is; every other one gets the plugin's name. `events` are
    the protocol's records that the mode still needs; those of the old frame aren't loaded any more.
    """

    messages: tuple[Message, ...] = field(default=(), converter=_messages, validator=checks.tuple_of(Message))
    events: tuple[ProtocolEvent, ...] = field(default=(), converter=_events, validator=checks.tuple_of(ProtocolEvent))


@frozen(kw_only=True)
class Compaction:
    """What one compaction decided, as it is recorded: the new frame is made of this, by every replay the same."""

    plugin_id: str
    reason: CompactReason
    before: int
    pieces: tuple[ContextPiece, ...] = ()
    events: tuple[ProtocolEvent, ...] = ()


@frozen(kw_only=True)
class Compacted:
    """A compaction as a turn tells of it: whose it was, why, how many messages there were before, and after."""

    plugin_id: str
    reason: CompactReason
    before: int
    after: int
    frame_key: str
