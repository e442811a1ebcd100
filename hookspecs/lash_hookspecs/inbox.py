"""A session's inbox: what is to be done in it, accepted durably before anything runs.

An item that starts a turn and an item that is said to a running one are the same thing with another `ingress`. What was
accepted survives the process; `source_key` makes accepting it twice the same as once. The turn that takes an item
settles it in its commit. A claim pins the generation of the lease it was made under: it is good until a successor
claims the item anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from lash_hookspecs.leases import Lease
from lash_hookspecs.values import frozen

__all__ = ["CancelOutcome", "Inbox", "InboxItem", "InboxState", "Ingress", "NewInboxItem"]


class Ingress(StrEnum):
    """When an item may be delivered."""

    CHECKPOINT = "checkpoint"
    """To the turn that runs, at its next checkpoint; where none runs, or it ends first, as the next turn."""
    NEXT_TURN = "next_turn"
    """As a turn of its own, after those before it."""


class InboxState(StrEnum):
    """Where an item stands; the last three are final."""

    PENDING = "pending"
    """Accepted; nobody works on it."""
    CLAIMED = "claimed"
    """A turn works on it (or was, when its process died): see `turn_id`."""
    SUSPENDED = "suspended"
    """Its turn waits for somebody, and holds no lease."""
    STUCK = "stuck"
    """Its turn couldn't go on, for `reason`, and is tried again."""
    BLOCKED = "blocked"
    """The same, and it isn't tried again unless somebody says so."""
    COMPLETED = "completed"
    CANCELLED = "cancelled"


@frozen(kw_only=True)
class NewInboxItem:
    """What is to be accepted.

    `source_key` identifies it within its session: the same key and `content_hash` again is the same item, another hash
    is an `InboxConflict`. `turn_id` is the id of the turn that it starts, if it does. `payload` is the kernel's.
    """

    session_id: str
    source_key: str
    ingress: Ingress
    content_hash: str
    payload: bytes
    accepted_at_ms: int
    turn_id: str | None = None
    available_at_ms: int = 0


@frozen(kw_only=True)
class InboxItem:
    """An accepted item. `no` rises in the order of acceptance, over all sessions, from 1, and is never used again.

    `turn_id` is the turn that it starts, or the one that took it. `attempts` counts how often a turn was begun for it,
    each time under a new generation, `fruitless` how many of these in a row came to nothing: they died (nobody let go
    of the lease), or were parked as such. `reason` says why the last one that was parked couldn't go on. Both are told
    to whoever begins it, and forgotten once an outcome is recorded. `cancel_reason` is set once somebody asked that its
    turn be cancelled. `payload` is empty once the item is settled, unless its turn's journal is kept.
    """

    no: int
    session_id: str
    source_key: str
    ingress: Ingress
    state: InboxState
    content_hash: str
    payload: bytes
    accepted_at_ms: int
    turn_id: str | None = None
    available_at_ms: int = 0
    claim_generation: int = 0
    attempts: int = 0
    fruitless: int = 0
    reason: str | None = None
    cancel_reason: str | None = None


class CancelOutcome(StrEnum):
    """What became of a request to cancel."""

    CANCELLED = "cancelled"
    """It was waiting, and won't be done."""
    REQUESTED = "requested"
    """Its turn runs (or was interrupted) and will end as cancelled, unless it completes first."""
    ALREADY_REQUESTED = "already_requested"
    TAKEN = "taken"
    """Too late: another item's turn took it at a checkpoint, and `turn_id` says which; cancel that one."""
    COMPLETED = "completed"
    """Too late: it was done."""
    UNKNOWN = "unknown"
    """The session has no such item (any more)."""


class Inbox(Protocol):
    """The inboxes of all sessions. Every method raises `SessionDeleted` for a deleted session."""

    async def enqueue(self, item: NewInboxItem) -> InboxItem:
        """Accept an item, or find it accepted. Raises `InboxConflict`. A session that wasn't known is from now on.

        A settled item may be forgotten if its turn's receipt has its key (as the turn's id) and its hash, since that
        still knows it: another hash is a conflict, the same one is answered from the receipt. The answer is `completed`
        then, its `turn_id` is the key, its `no` is 0, and nothing else is known of it: what the call brought stands for
        ingress and time, and there is neither a payload nor an attempt. No item has the number 0: lists don't have it,
        and a cancel of it is `unknown`.

        Raises `CommitRefused` with one of these codes: `session_id` or `source_key` (there is none), `integer_range`.
        """
        ...

    async def list_inbox(
        self,
        session_id: str | None = None,
        *,
        states: frozenset[InboxState] | None = None,
        limit: int = 1000,
        after: int = 0,
    ) -> Sequence[InboxItem]:
        """Items in order, of one session or of all; without `states`, those that aren't final.

        `after`: only those with a higher number, for who wants more than `limit` of them.
        """
        ...

    async def has_pending(self, session_id: str, ingress: Ingress) -> bool:
        """Whether an item waits, and is available, that could be delivered so; asked at every checkpoint, so be quick.

        What is for a checkpoint can be a turn of its own too, so `NEXT_TURN` asks for both.
        """
        ...

    async def cancel_items(
        self, session_id: str, nos: Sequence[int], reason: str | None
    ) -> Mapping[int, CancelOutcome]:
        """Cancel items, each as far as it can be: all in one transaction.

        Without a reason, who sent them takes them back: those that wait leave no trace, and their source keys may be
        used again; for the others that is `unknown`.
        """
        ...

    async def cancel_suffix(self, session_id: str, anchor: int, reason: str) -> Mapping[int, CancelOutcome]:
        """Cancel this item and every later one of the session that still waits: all in one transaction.

        The answer names these. Without such an item, it is `unknown` and nothing is cancelled.
        """
        ...

    async def cancel_requested(self, lease: Lease, no: int) -> str | None:
        """Why the turn of the item should end, if somebody asked for it; so be quick."""
        ...
