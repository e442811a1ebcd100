"""What the notes of a conversation are, and what is shown because of them: one pure walk over its messages.

Notes are messages like others, stored with the turn at whose end they were made. All else follows from their places, so
there is no state that could say otherwise: a fork has the notes that its messages have, and a branch that was left has
its own. Whether notes take the place of messages is decided where a note stands, and only there: between two notes the
prompt keeps its beginning. The note says so itself: the walk begins at the latest that does, however long the
conversation was before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lash_hookspecs.context_views import PreparedContext
from lash_hookspecs.messages import Message, MessageRole, PluginMessage, PluginOrigin
from lash_hookspecs.transcripts import estimated_tokens
from lash_hookspecs.values import frozen

__all__ = ["Standing", "is_note", "note", "reflection", "standing", "tokens_of", "view"]

_PLUGIN = "memory"
_NOTE = "memory-note-"
_REFLECTION = "memory-reflection-"
_TAKES_PLACE = "memory-shown-"
"""What stands before either, where the notes up to this one take the place of what they tell of."""


@frozen(kw_only=True)
class Standing:
    """`head` is what another plugin began the frame with, and is always shown: it stands for what isn't there any more.

    `shown` are the notes that stand for what isn't shown, `tail` is what is shown in full. `notes` are those that count
    by now: the latest reflection, and what was noted since. `unobserved` is the end of the tail that no note tells of.
    """

    head: tuple[Message, ...]
    shown: tuple[Message, ...]
    tail: tuple[Message, ...]
    notes: tuple[Message, ...]
    unobserved: tuple[Message, ...]


def standing(messages: Sequence[Message]) -> Standing:
    """How the notes of a conversation stand. What was before the notes that count isn't looked at."""
    head: list[Message] = []
    while len(head) < len(messages) and _is_anothers(messages[len(head)]):
        head.append(messages[len(head)])
    shown: tuple[Message, ...] = ()
    notes: list[Message] = []
    tail: list[Message] = []
    covered = 0
    for at in range(_beginning(messages, len(head)), len(messages)):
        each = messages[at]
        if not is_note(each):
            tail.append(each)
            continue
        notes = [each] if _is_reflection(each) else [*notes, each]
        covered = _covered(tail, covered)
        if each.id.startswith(_TAKES_PLACE) or not tail:
            shown, tail, covered = tuple(notes), tail[covered:], 0
    return Standing(
        head=tuple(head),
        shown=shown,
        tail=tuple(tail),
        notes=tuple(notes),
        unobserved=tuple(tail[covered:]),
    )


def _beginning(messages: Sequence[Message], first: int) -> int:
    """From where on all can be told: the reflection before the latest note that takes the place of messages.

    And what was said at the end of the same turn before either, of which that note may not tell.
    """
    at = len(messages)
    takes_place = False
    while at > first:
        at -= 1
        each = messages[at]
        takes_place = takes_place or (is_note(each) and each.id.startswith(_TAKES_PLACE))
        if takes_place and _is_reflection(each):
            break
    while at > first and (is_note(messages[at - 1]) or _is_unseen(messages[at - 1])):
        at -= 1
    return at


def _covered(tail: Sequence[Message], before: int) -> int:
    """How many messages of the tail a note behind it tells of: all but what plugins said at the end of the same turn.

    What they said there the observer may not have seen yet.
    """
    end = len(tail)
    while end > before and _is_unseen(tail[end - 1]):
        end -= 1
    return end


def view(prepared: PreparedContext) -> PreparedContext | None:
    """What a turn shows; None where there are no notes yet."""
    found = standing(prepared.messages)
    return prepared.showing((*found.head, *found.shown, *found.tail)) if found.notes else None


# ---- messages -------------------------------------------------------------------------------------------------------


def is_note(message: Message) -> bool:
    """Whether this plugin made it."""
    origin = message.origin
    return isinstance(origin, PluginOrigin) and origin.plugin_id == _PLUGIN


def _is_reflection(message: Message) -> bool:
    return is_note(message) and message.id.removeprefix(_TAKES_PLACE).startswith(_REFLECTION)


def _is_anothers(message: Message) -> bool:
    return isinstance(message.origin, PluginOrigin) and not is_note(message)


def _is_unseen(message: Message) -> bool:
    return message.role is MessageRole.SYSTEM and isinstance(message.origin, PluginOrigin)


def tokens_of(messages: Iterable[Message]) -> int:
    """That of all of them."""
    return sum(map(estimated_tokens, messages))


def note(turn_id: str, text: str, *, takes_place: bool = False) -> PluginMessage:
    """Notes on what was said up to the end of a turn; no message of the system, since they tell what anybody wanted.

    `takes_place`: from here on they are shown, and what they tell of isn't.
    """
    content = f"Notes on an earlier part of this conversation, which is left out:\n\n{text}"
    return PluginMessage(role=MessageRole.USER, content=content, id=_id(_NOTE, turn_id, takes_place))


def reflection(turn_id: str, text: str, *, takes_place: bool = False) -> PluginMessage:
    """Notes in the place of all notes before it."""
    content = f"Notes on all earlier parts of this conversation, which are left out:\n\n{text}"
    return PluginMessage(role=MessageRole.USER, content=content, id=_id(_REFLECTION, turn_id, takes_place))


def _id(kind: str, turn_id: str, takes_place: bool) -> str:
    return f"{_TAKES_PLACE if takes_place else ''}{kind}{turn_id}"
