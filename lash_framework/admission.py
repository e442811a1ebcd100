"""How a turn gets the right to run: its input accepted, its session held, what was begun before it ended first.

There are two ways. Where a journal is kept, all of it is one transaction of the store, under a lease that fences what
the turn writes. Without one, the operating system's lock keeps other processes of this machine away.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import TYPE_CHECKING, Protocol

import anyio
from attrs import evolve

from lash_framework.accepted import TurnRequest, accepted_bytes
from lash_framework.journal import Around, straight
from lash_framework.lease_keeper import LeaseKeeper
from lash_hookspecs.errors import InboxConflict, SessionBusy, SessionDeleted, StoreError, TurnConflict
from lash_hookspecs.inbox import Inbox, InboxItem, InboxState, Ingress, NewInboxItem
from lash_hookspecs.journal import Journal, TurnBegin, TurnBegun, TurnCommitted
from lash_hookspecs.leases import Lease, LeaseBusy, LeaseHolder, Leases
from lash_hookspecs.liveness import process_stamp
from lash_hookspecs.stores import Blobs, SessionStore, Store
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from lash_framework.composition import Composition
    from lash_hookspecs.sessions import SessionPolicy

__all__ = ["BUSY_POLL_S", "DurableStore", "Journalling", "busy", "new_holder"]

log = logging.getLogger("lash.turn")

BUSY_POLL_S = 0.05
"""How often a waiting run asks whether the session is free, in seconds."""


def busy(session_id: str) -> SessionBusy:
    """The error for a session that somebody else runs."""
    return SessionBusy(
        f"session `{session_id}` is running a turn elsewhere (in another process, or another host of this one); pass "
        "`wait=True` to wait for it, or use another session"
    )


def new_holder() -> LeaseHolder:
    """This host, in this run of it."""
    return LeaseHolder(owner="lash", incarnation=token_hex(8), executor="turns", process=process_stamp())


class DurableStore(Store, SessionStore, Blobs, Leases, Inbox, Journal, Protocol):
    """A store with which turns survive their process."""


@frozen(eq=False)
class Journalling:
    """What a host needs to run turns with a journal. `keep`: journals stay after their turn was committed.

    `around` stands where effects are executed; tests put a crash there.
    """

    store: DurableStore
    holder: LeaseHolder
    keeper: LeaseKeeper
    keep: bool = False
    around: Around = straight
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000

    def item(
        self,
        session_id: str,
        request: TurnRequest,
        policy: SessionPolicy,
        composition: Composition,
        *,
        ingress: Ingress = Ingress.NEXT_TURN,
        source_key: str | None = None,
    ) -> NewInboxItem:
        """The request as an item of the inbox. Raises `ConfigurationError` for what can't be stored."""
        return NewInboxItem(
            session_id=session_id,
            source_key=source_key or request.turn_id,
            ingress=ingress,
            content_hash=request.input_hash,
            payload=accepted_bytes(request, policy, composition),
            accepted_at_ms=self.now_ms(),
            turn_id=request.turn_id,
        )

    async def begin(
        self, session_id: str, item: NewInboxItem | None, *, wait: bool = False
    ) -> TurnBegun | TurnCommitted:
        """Accept the item and take what is to run next.

        Raises `SessionBusy` if somebody else holds the session (with `wait`: waits for them), and `TurnConflict` for a
        turn id that was used with another input.
        """
        while True:
            begin = TurnBegin(
                session_id=session_id,
                holder=self.holder,
                nonce=token_hex(8),
                ttl_ms=self.keeper.ttl_ms,
                item=item,
                wait=wait,
            )
            try:
                claim = await self.store.begin_turn(begin)
            except InboxConflict as error:
                assert item is not None
                raise TurnConflict(
                    f"turn `{item.turn_id}` of session `{session_id}` was accepted before with another input; choose "
                    "another turn id, or send the same input to get that turn"
                ) from error
            except anyio.get_cancelled_exc_class():
                await self._let_go_unheard(session_id, begin.nonce)
                raise
            if not isinstance(claim, LeaseBusy):
                begun: TurnBegun | TurnCommitted = claim
                return begun
            if not wait:
                raise busy(session_id)
            await anyio.sleep(BUSY_POLL_S)

    def apart(self) -> Journalling:
        """The same for somebody else in this process: nobody's lease is taken over, not even our own."""
        return evolve(self, holder=evolve(self.holder, executor=token_hex(8)))

    @asynccontextmanager
    async def lease(self, session_id: str, *, wait: bool = False) -> AsyncIterator[Lease]:
        """Hold the session without a turn. Raises `SessionBusy`, also while a turn of this host runs on it."""
        holder, nonce = self.apart().holder, token_hex(8)
        try:
            while isinstance(
                claim := await self.store.claim_lease(session_id, holder, nonce=nonce, ttl_ms=self.keeper.ttl_ms),
                LeaseBusy,
            ):
                if not wait:
                    raise busy(session_id)
                await anyio.sleep(BUSY_POLL_S)
        except anyio.get_cancelled_exc_class():
            await self._let_go_unheard(session_id, nonce)
            raise
        try:
            yield claim.lease
        finally:
            await self.let_go(claim.lease)

    async def let_go(self, lease: Lease) -> None:
        """Release a lease, whatever is being cancelled; if the store fails, its time will run out."""
        with anyio.CancelScope(shield=True):
            try:
                await self.store.release_lease(lease)
            except SessionDeleted:
                return  # its leases went with it
            except StoreError as error:
                log.warning("the lease of session `%s` wasn't released: %s", lease.session_id, error)

    async def _let_go_unheard(self, session_id: str, nonce: str) -> None:
        """Release what was claimed with this nonce, if anything was: who asked was cancelled, and never heard of it.

        A store that makes its own tokens doesn't tell; there the lease runs out.
        """
        with anyio.CancelScope(shield=True):
            try:
                lease = await self.store.load_lease(session_id)
            except StoreError as error:
                log.warning("whether session `%s` was taken by who was cancelled isn't known: %s", session_id, error)
                return
            if lease is not None and lease.token == nonce:
                await self.let_go(lease)

    async def park(self, lease: Lease, no: int, *, blocked: str | None = None) -> None:
        """Leave the turn as suspended, or as blocked for this reason, and let go of the session."""
        state = InboxState.SUSPENDED if blocked is None else InboxState.BLOCKED
        with anyio.CancelScope(shield=True):
            try:
                await self.store.park_turn(lease, no, state=state, reason=blocked)
            except StoreError as error:  # whoever begins it next finds the same
                log.warning("the turn of inbox item %d wasn't parked: %s", no, error)

    async def put_back(self, lease: Lease, item: InboxItem) -> None:
        """Let go of a turn that is left as it was found: who was told why it is blocked leaves it so."""
        if item.reason is not None:
            await self.park(lease, item.no, blocked=item.reason)
        else:
            await self.let_go(lease)

    async def take_back(self, session_id: str, turn_id: str) -> None:
        """Take back an item that was accepted and isn't begun, without a trace: its turn id may be used again."""
        with anyio.CancelScope(shield=True):
            waiting = await self.store.list_inbox(session_id, states=frozenset({InboxState.PENDING}))
            mine = [each.no for each in waiting if each.turn_id == turn_id]
            await self.store.cancel_items(session_id, mine, None)

    async def withdraw(self, lease: Lease, no: int) -> None:
        """Forget an item whose turn did nothing yet: it could never run as it was asked."""
        with anyio.CancelScope(shield=True):
            try:
                await self.store.park_turn(lease, no, state=InboxState.CANCELLED)
            except StoreError as error:
                log.warning("inbox item %d of session `%s` wasn't withdrawn: %s", no, lease.session_id, error)
