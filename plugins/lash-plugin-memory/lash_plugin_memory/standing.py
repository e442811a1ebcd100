"""What the notes of a conversation are, and what is shown because of them: one pure walk over its messages.

Notes are messages like others, stored with the turn at whose end they were made. All else follows from their places, so
there is no state that could say otherwise: a fork has the notes that its messages have, and a branch that was left has
its own. Whether notes take the place of messages is decided where a note stands, and only there: between two notes the
prompt keeps its beginning.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lash_hookspecs.context_views import PreparedContext
from lash_hookspecs.messages import Message, MessageRole, PluginMessage, PluginOrigin
from lash_hookspecs.transcripts import estimated_tokens
from lash_hookspecs.values import frozen
from lash_plugin_memory.info import MemoryOptions

__all__ = ["Standing", "is_note", "note", "reflection", "standing", "tokens_of", "view"]

_PLUGIN = "memory"
_NOTE = "memory-note-"
_REFLECTION = "memory-reflection-"


@frozen(kw_only=True)
class Standing:
    """`shown` are the notes that stand for what isn't shown, `tail` is what is shown in full.

    `notes` are those that count by now: the latest reflection, and what was noted since. `unobserved` is the end of the
    tail that no note tells of.
    """

    shown: tuple[Message, ...]
    tail: tuple[Message, ...]
    notes: tuple[Message, ...]
    unobserved: tuple[Message, ...]


def standing(messages: Iterable[Message], activate_tokens: int) -> Standing:
    """How the notes of a conversation stand."""
    shown: tuple[Message, ...] = ()
    notes: list[Message] = []
    tail: list[Message] = []
    covered = size = 0
    for each in messages:
        if not is_note(each):
            tail.append(each)
            size += estimated_tokens(each)
            continue
        notes = [each] if each.id.startswith(_REFLECTION) else [*notes, each]
        covered = _covered(tail, covered)
        if size >= activate_tokens or not tail:
            shown, tail, covered = tuple(notes), tail[covered:], 0
            size = tokens_of(tail)
    return Standing(
        shown=shown,
        tail=tuple(tail),
        notes=tuple(notes),
        unobserved=tuple(tail[covered:]),
    )


def _covered(tail: Sequence[Message], before: int) -> int:
    """How many messages of the tail a note behind it tells of: all but what plugins said at the end of the same turn.

    What they said there the observer may not have seen yet.
    """
    end = len(tail)
    while end > before and tail[end - 1].role is MessageRole.SYSTEM and isinstance(tail[end - 1].origin, PluginOrigin):
        end -= 1
    return end


def view(options: MemoryOptions, prepared: PreparedContext) -> PreparedContext | None:
    """What a turn shows; None where there are no notes yet."""
    found = standing(prepared.messages, options.activate_tokens)
    return prepared.showing((*found.shown, *found.tail)) if found.notes else None


# ---- messages -------------------------------------------------------------------------------------------------------


def is_note(message: Message) -> bool:
    """Whether this plugin made it."""
    origin = message.origin
    return isinstance(origin, PluginOrigin) and origin.plugin_id == _PLUGIN


def tokens_of(messages: Iterable[Message]) -> int:
    """That of all of them."""
    return sum(map(estimated_tokens, messages))


def note(turn_id: str, text: str) -> PluginMessage:
    """Notes on what was said up to the end of a turn; no message of the system, since they tell what anybody wanted."""
    content = f"Notes on an earlier part of this conversation, which is left out:\n\n{text}"
    return PluginMessage(role=MessageRole.USER, content=content, id=f"{_NOTE}{turn_id}")


def reflection(turn_id: str, text: str) -> PluginMessage:
    """Notes in the place of all notes before it."""
    content = f"Notes on all earlier parts of this conversation, which are left out:\n\n{text}"
    return PluginMessage(role=MessageRole.USER, content=content, id=f"{_REFLECTION}{turn_id}")
