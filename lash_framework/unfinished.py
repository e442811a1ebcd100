"""Turns that were accepted and aren't committed, for people: which there are, and where each stands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from lash_framework.arguments import SESSION_ID, check_given
from lash_hookspecs.inbox import Inbox, InboxItem, InboxState
from lash_hookspecs.leases import Lease
from lash_hookspecs.liveness import is_gone
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from lash_framework.admission import Journalling

__all__ = ["TurnState", "UnfinishedTurn", "all_items", "state_of", "unfinished_turns"]

PAGE = 500  # items at once


class TurnState(StrEnum):
    """Where a turn stands that isn't committed."""

    WAITING = "waiting"
    """Accepted, and not begun."""
    RUNNING = "running"
    """Somebody holds its session."""
    INTERRUPTED = "interrupted"
    """It was begun, and nobody runs it: whoever opens its session goes on with it. `reason` says why it didn't."""
    SUSPENDED = "suspended"
    """It waits for somebody: `lash pending list`."""
    BLOCKED = "blocked"
    """It can't go on; `reason` says why."""


@frozen(kw_only=True)
class UnfinishedTurn:
    """A turn that was accepted and isn't committed. `attempts` counts how often it was begun."""

    session_id: str
    turn_id: str
    state: TurnState
    attempts: int = 0
    reason: str | None = None


def state_of(item: InboxItem, lease: Lease | None, now_ms: int) -> TurnState | None:
    """Where the item's turn stands; None for what another turn took at a checkpoint."""
    if item.state is InboxState.SUSPENDED:
        return TurnState.SUSPENDED
    if item.state is InboxState.BLOCKED:
        return TurnState.BLOCKED
    if item.state is InboxState.STUCK:
        return TurnState.INTERRUPTED
    if item.state is InboxState.PENDING:
        return TurnState.WAITING
    if not item.attempts:
        return None
    gone = lease is None or lease.expires_at_ms <= now_ms
    if gone or (lease is not None and lease.holder.process is not None and is_gone(lease.holder.process)):
        return TurnState.INTERRUPTED
    return TurnState.RUNNING


def all_items(
    store: Inbox, session_id: str | None = None, states: frozenset[InboxState] | None = None
) -> AsyncIterator[InboxItem]:
    """Items of the inbox, however many there are; without `states`, those that aren't settled.

    Who stops early has nothing to close: a generator left in the middle is an error under trio.
    """
    if session_id is not None:
        check_given("the session's id", session_id, SESSION_ID)
    return _Items(store, session_id, states)


class _Items(AsyncIterator[InboxItem]):
    def __init__(self, store: Inbox, session_id: str | None, states: frozenset[InboxState] | None) -> None:
        self._store = store
        self._session_id = session_id
        self._states = states
        self._after = 0
        self._page: Iterator[InboxItem] = iter(())

    async def __anext__(self) -> InboxItem:
        item = next(self._page, None)
        if item is None:
            found = await self._store.list_inbox(self._session_id, states=self._states, limit=PAGE, after=self._after)
            self._page = iter(found)
            item = next(self._page, None)
        if item is None:
            raise StopAsyncIteration
        self._after = item.no
        return item


async def unfinished_turns(journalling: Journalling, session_id: str | None = None) -> Sequence[UnfinishedTurn]:
    """All of them, in the order of their acceptance."""
    store, found = journalling.store, []
    leases: dict[str, Lease | None] = {}
    async for item in all_items(store, session_id):
        if item.session_id not in leases:
            leases[item.session_id] = await store.load_lease(item.session_id)
        state = state_of(item, leases[item.session_id], journalling.now_ms())
        if state is not None:
            found.append(
                UnfinishedTurn(
                    session_id=item.session_id,
                    turn_id=item.turn_id or item.source_key,
                    state=state,
                    attempts=item.attempts,
                    reason=item.reason if item.state in (InboxState.STUCK, InboxState.BLOCKED) else None,
                )
            )
    return found
