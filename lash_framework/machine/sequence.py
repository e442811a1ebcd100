"""A conversation as an immutable sequence that grows in constant time.

Sequences that continue one another share a log: `extended` writes behind the last message that this sequence can see
and returns a longer one. Only when somebody else has written there first is the log copied (by C loops, no Python per
message). What is derived message by message, such as the rendering for a model, grows along with the log and is shared
the same way, so neither the next iteration nor the next turn pays for the history again.

Of a stored message the log may hold only what a model sees of it; the message itself is made when somebody reads it.

A log belongs to one event loop: nothing here locks.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Protocol, Self, TypeAlias, TypeVar

from lash_hookspecs.llm_messages import EncodedRun, LlmMessage
from lash_hookspecs.messages import Message
from lash_hookspecs.sequences import LazySequence

__all__ = ["RENDERED", "Derived", "Entry", "MessageSequence"]

RENDERED = "chat"
"""Where a message's memo keeps its rendering: (number of its first attachment, what a model sees, attachments)."""

Entry: TypeAlias = Message | LlmMessage
"""What a log holds of a message: itself, or, until somebody reads it, its rendering."""


class Derived(Protocol):
    """Something computed message by message, from behind what is told, and kept beside the log."""

    def fork(self, length: int) -> Self:
        """An independent copy that covers at most the first `length` messages of these."""
        ...


D = TypeVar("D", bound=Derived)
_NOTHING = EncodedRun(b"", 0)


class _Log:
    """What sequences share. `positions` may point behind a sequence's end, or to another message; readers check.

    `read` makes the message at a place where only its rendering stands, or None: then `told` has the rendering.
    """

    __slots__ = ("derived", "entries", "positions", "read", "told")

    def __init__(
        self,
        entries: list[Entry | None],
        positions: dict[str, int],
        derived: dict[Hashable, Derived],
        read: Callable[[int], Message] | None,
        told: EncodedRun = _NOTHING,
    ) -> None:
        self.entries = entries
        self.positions = positions
        self.derived = derived
        self.read = read
        self.told = told

    def message(self, at: int) -> Message:
        entry = self.entries[at]
        if isinstance(entry, Message):
            return entry
        assert self.read is not None  # only `restored` leaves out messages
        message = self.read(at)
        message.memo[RENDERED] = (0, self.rendering(at), ())
        self.entries[at] = message
        return message

    def rendering(self, at: int) -> Entry:
        entry = self.entries[at]
        return self.told.messages[at] if entry is None else entry

    def append(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.positions[message.id] = len(self.entries)
            self.entries.append(message)

    def fork(self, length: int) -> _Log:
        told, entries = self.told, self.entries[:length]
        covered = length - len(told)
        if covered < 0:
            told, entries, covered = _NOTHING, [self.rendering(at) for at in range(length)], 0
        derived = {key: each.fork(covered) for key, each in self.derived.items()}
        # What the copy's positions say of messages behind its end is wrong, and overwritten as it grows; readers check.
        return _Log(entries, self.positions.copy(), derived, self.read, told)


class MessageSequence(LazySequence[Message]):
    """Messages in order. Equal to every sequence, tuple or list of equal messages; stored as a plain list."""

    __slots__ = ("_length", "_log")

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self._log = _Log([], {}, {}, None)
        self._log.append(messages)
        self._length = len(self._log.entries)

    @classmethod
    def restored(
        cls,
        told: EncodedRun,
        entries: Sequence[Entry],
        ids: Sequence[str],
        read: Callable[[int], Message],
    ) -> MessageSequence:
        """A stored conversation: first what is `told`, then `entries`; the ids of all; `read` makes one at a place.

        What is told, and an entry that is a rendering, is what `render_message` would give.
        """
        positions = dict(zip(ids, range(len(ids)), strict=True))
        return cls._over(_Log([*[None] * len(told), *entries], positions, {}, read, told))

    @classmethod
    def _over(cls, log: _Log) -> MessageSequence:
        made = cls.__new__(cls)
        made._log = log
        made._length = len(log.entries)
        return made

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Message]:
        return map(self._log.message, range(self._length))

    def entry(self, at: int) -> Message:
        """The message at a place."""
        return self._log.message(at)

    @property
    def told(self) -> EncodedRun:
        """The renderings of the first messages, as many as came so out of a store: they all are part of this."""
        return self._log.told

    def unread(self, start: int) -> Sequence[Entry]:
        """What the log holds from `start` on, behind what is told, without making messages of renderings."""
        return self._log.entries[start : self._length]  # type: ignore[return-value]  # there, nothing is left out

    def extended(self, messages: Iterable[Message]) -> MessageSequence:
        """This conversation and more, in time proportional to what is added."""
        added = tuple(messages)
        if not added:
            return self
        log = self._log
        behind = log.entries[self._length :]
        # Whoever writes behind this sequence what is there already shares it: a turn that starts over, mostly.
        if len(behind) > len(added) or any(a is not b for a, b in zip(behind, added, strict=False)):
            log, behind = log.fork(self._length), []
        log.append(added[len(behind) :])
        return self._over(log)

    def without_transient(self, start: int = 0) -> MessageSequence:
        """What outlives the turn: from `start` on, messages that were for this turn's prompts only are left out."""
        added = self[start:]
        kept = [message for message in added if not message.is_transient]
        if len(kept) == len(added):
            return self
        return self._over(self._log.fork(start)).extended(kept)

    def position_of(self, message_id: str) -> int | None:
        """Where the message with this id stands, or None."""
        at = self._log.positions.get(message_id)
        if at is None or at >= self._length:
            return None
        entry = self._log.entries[at]
        # A rendering stands where it was restored, and so does its id.
        return None if isinstance(entry, Message) and entry.id != message_id else at

    def derived(self, key: Hashable, make: Callable[[], D]) -> D:
        """The derivation kept under `key`, shared with every sequence on the same log; made if absent.

        It may already cover more messages than this sequence has.
        """
        found = self._log.derived.get(key)
        if found is None:
            found = self._log.derived[key] = make()
        return found  # type: ignore[return-value]  # a key always names one class
