"""How a turn gets the right to run: its input accepted, its session held, what was begun before it ended first.

There are two ways. Where a journal is kept, all of it is one transaction of the store, under a lease that fences what
the turn writes. Without one, the operating system's lock keeps other processes of this machine away.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

import anyio
from attrs import evolve, field

from lash_framework.accepted import TurnRequest, accepted_bytes
from lash_framework.cut_calls import cut_row, may_be_cut
from lash_framework.envelope_hash import Parts
from lash_framework.journal import Around, straight
from lash_framework.lease_keeper import LeaseKeeper
from lash_framework.unbroken import unbroken
from lash_framework.world import REAL, World
from lash_hookspecs.errors import (
    ClaimLost,
    InboxConflict,
    LeaseLost,
    SessionBusy,
    SessionDeleted,
    StoreError,
    TurnConflict,
)
from lash_hookspecs.inbox import Inbox, InboxItem, InboxState, Ingress, NewInboxItem
from lash_hookspecs.journal import Journal, TurnBegin, TurnBegun, TurnCommitted
from lash_hookspecs.journal_rows import JournalRow
from lash_hookspecs.leases import Lease, LeaseAcquired, LeaseBusy, LeaseHolder, Leases
from lash_hookspecs.stores import Blobs, SessionStore, Store
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from lash_framework.composition import Composition
    from lash_hookspecs.sessions import SessionPolicy

__all__ = ["BUSY_POLL_S", "DurableStore", "Journalling", "busy", "new_holder"]

log = logging.getLogger("lash.turn")

T = TypeVar("T")

BUSY_POLL_S = 0.05
"""How often a waiting run asks whether the session is free, in seconds."""


def busy(session_id: str) -> SessionBusy:
    """The error for a session that somebody else runs."""
    return SessionBusy(
        f"session `{session_id}` is running a turn elsewhere (in another process, or another host of this one); pass "
        "`wait=True` to wait for it, or use another session"
    )


def new_holder(world: World = REAL) -> LeaseHolder:
    """This host, in this run of it."""
    return LeaseHolder(owner="lash", incarnation=world.token_hex(8), executor="turns", process=world.process())


class DurableStore(Store, SessionStore, Blobs, Leases, Inbox, Journal, Protocol):
    """A store with which turns survive their process."""


@frozen(eq=False)
class Journalling:
    """What a host needs to run turns with a journal. `keep`: journals stay after their turn was committed.

    `around` stands where effects are executed; tests put a crash there. `parts` is what requests have in common.
    """

    store: DurableStore
    holder: LeaseHolder
    keeper: LeaseKeeper
    keep: bool = False
    around: Around = straight
    world: World = REAL
    parts: Parts = field(factory=Parts)

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return self.world.now_ms()

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
        self, session_id: str, item: NewInboxItem | None, *, wait: bool = False, synced: bool = True
    ) -> TurnBegun | TurnCommitted:
        """Accept the item and take what is to run next. Without `synced`, the disk is only set to it.

        Raises `SessionBusy` if somebody else holds the session (with `wait`: waits for them), and `TurnConflict` for a
        turn id that was used with another input.
        """
        while True:
            if self.keeper.holds(session_id):  # the store would let us take our own lease over
                if not wait:
                    raise busy(session_id)
                await anyio.sleep(BUSY_POLL_S)
                continue
            await self.keeper.settle(session_id)
            begin = TurnBegin(
                session_id=session_id,
                holder=self.holder,
                nonce=self.world.token_hex(8),
                ttl_ms=self.keeper.ttl_ms,
                item=item,
                wait=wait,
                synced=synced,
            )
            try:
                claim = await self._or_let_go(self.store.begin_turn(begin), session_id, self.holder, begin.nonce)
            except InboxConflict as error:
                assert item is not None
                raise TurnConflict(
                    f"turn `{item.turn_id}` of session `{session_id}` was accepted before with another input; choose "
                    "another turn id, or send the same input to get that turn"
                ) from error
            if not isinstance(claim, LeaseBusy):
                begun: TurnBegun | TurnCommitted = claim
                if not synced:
                    await self._set_disk_to(begun)
                return begun
            if not wait:
                raise busy(session_id)
            await anyio.sleep(BUSY_POLL_S)

    async def _set_disk_to(self, begun: TurnBegun | TurnCommitted) -> None:
        try:
            await self.store.sync(wait=False)
        except BaseException:
            if isinstance(begun, TurnBegun) and begun.lease is not None:
                await self.let_go(begun.lease, lost=begun.item if begun.displaced is not None else None)
            raise

    def apart(self) -> Journalling:
        """The same for somebody else in this process: nobody's lease is taken over, not even our own."""
        return evolve(self, holder=evolve(self.holder, executor=self.world.token_hex(8)))

    @asynccontextmanager
    async def lease(self, session_id: str, *, wait: bool = False) -> AsyncIterator[Lease]:
        """Hold the session without a turn. Raises `SessionBusy`, also while a turn of this host runs on it."""
        holder, nonce = self.apart().holder, self.world.token_hex(8)
        ttl_ms = self.keeper.ttl_ms
        await self.keeper.settle(session_id)
        while isinstance(
            claim := await self._or_let_go(
                self.store.claim_lease(session_id, holder, nonce=nonce, ttl_ms=ttl_ms), session_id, holder, nonce
            ),
            LeaseBusy,
        ):
            if not wait:
                raise busy(session_id)
            await anyio.sleep(BUSY_POLL_S)
        try:
            yield claim.lease
        finally:
            await self.let_go(claim.lease)

    async def _or_let_go(self, claims: Awaitable[T], session_id: str, holder: LeaseHolder, nonce: str) -> T:
        """What is claimed; or, if we are cancelled meanwhile, nothing: the store goes on with a write that it has.

        `Task.cancel()`, as `asyncio.wait_for` calls it, comes out of the write with its answer lost.
        """
        try:
            return await claims
        except anyio.get_cancelled_exc_class():
            await unbroken(partial(self._let_go_of_claim, session_id, holder, nonce))
            raise

    async def _let_go_of_claim(self, session_id: str, holder: LeaseHolder, nonce: str) -> None:
        async def release() -> None:
            claim = await self.store.claim_lease(session_id, holder, nonce=nonce, ttl_ms=self.keeper.ttl_ms)
            if isinstance(claim, LeaseAcquired):  # the same nonce: the lease that was claimed, if any was
                await self.store.release_lease(claim.lease)

        await self._or_owed(session_id, release)

    async def _fenced(self, lease: Lease, write: Callable[[], Awaitable[None]]) -> None:
        """Make a write of the lease's holder. One that lapsed while nothing of this process ran is renewed for it.

        Raises `LeaseLost` if somebody else has it.
        """
        try:
            await write()
        except LeaseLost:
            await self.store.renew_lease(lease, ttl_ms=self.keeper.ttl_ms)
            await write()

    async def append(
        self, lease: Lease, no: int, rows: Sequence[JournalRow], claims: Sequence[int], *, synced: bool = True
    ) -> None:
        """Write rows of the item's turn. Raises `LeaseLost` if somebody else has it, and `ClaimLost` for `claims`."""
        try:
            await self._fenced(lease, lambda: self.store.append_journal(lease, no, rows, claims=claims, synced=synced))
        except ClaimLost as error:
            if no in error.nos:
                raise LeaseLost(f"{error}: another run has the turn, or it was settled") from error
            raise

    async def note(self, lease: Lease, no: int, rows: Sequence[JournalRow]) -> None:
        """Write rows of a turn that isn't run, if that can be."""
        with anyio.CancelScope(shield=True):
            try:
                await self.append(lease, no, rows, ())
            except StoreError as error:
                log.warning("the turn of inbox item %d wasn't written to: %s", no, error)

    async def let_go(self, lease: Lease, *, lost: InboxItem | None = None) -> None:
        """Release a lease, whatever is being cancelled; if the store fails, as soon as it can, or its time runs out.

        `lost`: of this item's turn not all is recorded, so that whoever follows must know, as after a death.
        """
        _, cancelled = await unbroken(partial(self._or_owed, lease.session_id, partial(self._release, lease, lost)))
        if cancelled is not None:
            raise cancelled

    async def _or_owed(self, session_id: str, release: Callable[[], Awaitable[None]]) -> None:
        try:
            await release()
        except (LeaseLost, SessionDeleted):
            return  # somebody else has it, or it went with its session
        except StoreError as error:
            log.warning("the lease of session `%s` wasn't released: %s", session_id, error)
            self.keeper.owe(session_id, release)

    async def _release(self, lease: Lease, lost: InboxItem | None) -> None:
        await self._note_cut(lease, lost)
        await self.store.release_lease(lease)

    async def _note_cut(self, lease: Lease, lost: InboxItem | None) -> None:
        if lost is not None:
            rows = await self.store.load_journal(lease.session_id, lost.turn_id or "")
            if may_be_cut(rows, died=True) and not may_be_cut(rows, died=False):
                await self.append(lease, lost.no, [cut_row(len(rows))], ())

    async def park(
        self,
        lease: Lease,
        no: int,
        state: InboxState,
        *,
        reason: str | None = None,
        fruitless: int = 0,
        lost: InboxItem | None = None,
    ) -> None:
        """Leave the turn in this state, for this reason, and let go of the session; `lost` as in `let_go`.

        `cancelled` forgets the item of a turn that did nothing yet: it could never run as it was asked.
        """

        async def parked() -> None:
            try:
                await self._note_cut(lease, lost)
                await self._fenced(
                    lease, lambda: self.store.park_turn(lease, no, state=state, reason=reason, fruitless=fruitless)
                )
            except StoreError as error:  # whoever begins it next finds the same
                log.warning("the turn of inbox item %d wasn't left as %s: %s", no, state.value, error)
                await self.let_go(lease, lost=lost)

        _, cancelled = await unbroken(parked)
        if cancelled is not None:
            raise cancelled

    async def take_back(self, session_id: str, turn_id: str) -> None:
        """Take back an item that was accepted and isn't begun, without a trace: its turn id may be used again."""
        with anyio.CancelScope(shield=True):
            waiting = await self.store.list_inbox(session_id, states=frozenset({InboxState.PENDING}))
            mine = [each.no for each in waiting if each.turn_id == turn_id]
            await self.store.cancel_items(session_id, mine, None)
