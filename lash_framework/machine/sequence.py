"""A conversation as an immutable sequence that grows in constant time.

Sequences that continue one another share a log: `extended` writes behind the last message that this sequence can see
and returns a longer one. Only when somebody else has written there first is the log copied (by C loops, no Python per
message). What is derived message by message, such as the rendering for a model, grows along with the log and is shared
the same way, so neither the next iteration nor the next turn pays for the history again.

A log belongs to one event loop: nothing here locks.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Protocol, Self, TypeVar, overload

from lash_hookspecs.messages import Message

__all__ = ["Derived", "MessageSequence"]


class Derived(Protocol):
    """Something computed message by message and kept beside the log."""

    def fork(self, length: int) -> Self:
        """An independent copy that covers at most the first `length` messages."""
        ...


D = TypeVar("D", bound=Derived)


class _Log:
    """What sequences share. `positions` may point behind a sequence's end, or to another message; readers check."""

    __slots__ = ("derived", "messages", "positions")

    def __init__(self, messages: list[Message], positions: dict[str, int], derived: dict[Hashable, Derived]) -> None:
        self.messages = messages
        self.positions = positions
        self.derived = derived

    def append(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self.positions[message.id] = len(self.messages)
            self.messages.append(message)

    def fork(self, length: int) -> _Log:
        derived = {key: each.fork(length) for key, each in self.derived.items()}
        # What the copy's positions say of messages behind its end is wrong, and overwritten as it grows; readers check.
        return _Log(self.messages[:length], self.positions.copy(), derived)


class MessageSequence(Sequence[Message]):
    """Messages in order. Equal to every sequence, tuple or list of equal messages; stored as a plain list."""

    __slots__ = ("_length", "_log")

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self._log = _Log([], {}, {})
        self._log.append(messages)
        self._length = len(self._log.messages)

    @classmethod
    def _over(cls, log: _Log) -> MessageSequence:
        made = cls.__new__(cls)
        made._log = log
        made._length = len(log.messages)
        return made

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Message]:
        return islice(self._log.messages, self._length)

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Message, ...]: ...
    def __getitem__(self, index: int | slice) -> Message | tuple[Message, ...]:
        if isinstance(index, slice):
            start, stop, step = index.indices(self._length)
            if step == 1:
                return tuple(self._log.messages[start:stop])
            return tuple(self._log.messages[at] for at in range(start, stop, step))
        at = index + self._length if index < 0 else index
        if not 0 <= at < self._length:
            raise IndexError(f"message {index} of {self._length}")
        return self._log.messages[at]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, MessageSequence | tuple | list):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # equal to lists, which have no hash either

    def __repr__(self) -> str:
        return f"<MessageSequence of {self._length}>"

    def extended(self, messages: Iterable[Message]) -> MessageSequence:
        """This conversation and more, in time proportional to what is added."""
        added = tuple(messages)
        if not added:
            return self
        log = self._log
        behind = log.messages[self._length :]
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
        if at is None or at >= self._length or self._log.messages[at].id != message_id:
            return None
        return at

    def derived(self, key: Hashable, make: Callable[[], D]) -> D:
        """The derivation kept under `key`, shared with every sequence on the same log; made if absent.

        It may already cover more messages than this sequence has.
        """
        found = self._log.derived.get(key)
        if found is None:
            found = self._log.derived[key] = make()
        return found  # type: ignore[return-value]  # a key always names one class
