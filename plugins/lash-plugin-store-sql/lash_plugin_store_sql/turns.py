"""What the ports of leases, inbox and journal ask for: each function one transaction, as in `writes`.

Facts in, `turn_plan` decides, writes out. The clock is asked inside the transaction: a write may have stood in line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from attrs import evolve

from lash_hookspecs.errors import ClaimLost, CommitRefused, LeaseLost, StoreCorrupt
from lash_hookspecs.inbox import CancelOutcome, InboxItem, InboxState, NewInboxItem
from lash_hookspecs.journal import TurnBegin, TurnBegun, TurnClaim, TurnCommitted
from lash_hookspecs.journal_rows import JournalRow
from lash_hookspecs.leases import Lease, LeaseAcquired, LeaseBusy, LeaseClaim, LeaseHolder
from lash_hookspecs.stores import OperationId, SessionMeta
from lash_plugin_store_sql.driver import Tx
from lash_plugin_store_sql.items import (
    LEAN,
    accept,
    claim_for_turn,
    find_by_key,
    find_items,
    find_next,
    is_known,
    item_of,
    refuse_unfit,
    take,
    waiting_after,
)
from lash_plugin_store_sql.leases import LEASE, holder_gone, holder_text, lease_facts, write_grant, write_release
from lash_plugin_store_sql.reads import Session, find_receipt, find_session, require_not_deleted
from lash_plugin_store_sql.rows import append_rows, drop_rows, has_rows, load_rows
from lash_plugin_store_sql.schema import span
from lash_plugin_store_sql.turn_plan import (
    Begin,
    BeginFacts,
    Busy,
    Committed,
    Item,
    LeaseFacts,
    conflict,
    fenced,
    fruitless,
    is_ours,
    is_parked,
    lease_end,
    lost_claims,
    plan_begin,
    plan_cancel,
    plan_lease,
    reason_for,
)
from lash_plugin_store_sql.writes import insert_session

Clock: TypeAlias = Callable[[], int]


# ---- leases ---------------------------------------------------------------------------------------------------------


def claim_lease(tx: Tx, session_id: str, holder: LeaseHolder, nonce: str, ttl_ms: int, clock: Clock) -> LeaseClaim:
    """Take the session if it is to be had."""
    tx.lock(session_id)
    now_ms, session = clock(), find_session(tx, session_id)
    facts = session.lease if session is not None else LeaseFacts()
    granted = plan_lease(session_id, holder, nonce, ttl_ms, facts, now_ms, gone=holder_gone(facts))
    if isinstance(granted, LeaseBusy):
        return granted
    write_grant(tx, _known(tx, session_id, session, now_ms), granted)
    return LeaseAcquired(granted.lease, granted.displaced)


def renew_lease(tx: Tx, lease: Lease, ttl_ms: int, clock: Clock) -> Lease:
    """A later end, if it is ours and live."""
    tx.lock(lease.session_id)
    now_ms, session = clock(), find_session(tx, lease.session_id)
    held = fenced(session.lease if session is not None else LeaseFacts(), lease, now_ms)
    expires = max(held.expires_at_ms, lease_end(ttl_ms, now_ms))
    tx.write("UPDATE sessions SET lease_expires_at_ms = ? WHERE session_id = ?", (expires, lease.session_id))
    return evolve(held, expires_at_ms=expires)


def release_lease(tx: Tx, lease: Lease) -> bool:
    """Let go of it, if it is ours, lapsed or not."""
    tx.lock(lease.session_id)
    session = find_session(tx, lease.session_id)
    if session is None or not is_ours(session.lease.lease, lease):
        return False
    write_release(tx, session.no)
    return True


def load_lease(tx: Tx, session_id: str) -> Lease | None:
    """The lease as stored."""
    session = find_session(tx, session_id)
    return None if session is None else session.lease.lease


def _known(tx: Tx, session_id: str, session: Session | None, now_ms: int) -> int:
    """The session's number; who wasn't known is from now on."""
    if session is not None:
        return session.no
    return insert_session(tx, SessionMeta(session_id=session_id, created_at_ms=now_ms))


# ---- inbox ----------------------------------------------------------------------------------------------------------


def enqueue(tx: Tx, new: NewInboxItem, clock: Clock) -> InboxItem:
    """Accept an item, or find it accepted."""
    refuse_unfit(new.session_id, new)
    tx.lock(new.session_id)
    session = find_session(tx, new.session_id)
    found = None if session is None else find_by_key(tx, new.session_id, session.no, new.source_key)
    if found is None:
        if session is not None and (settled := _settled(tx, session, new)) is not None:
            return settled
        return accept(tx, _known(tx, new.session_id, session, clock()), new, InboxState.PENDING)
    if found.content_hash != new.content_hash:
        raise conflict(new.session_id, new.source_key, found)
    return found


def _settled(tx: Tx, session: Session, new: NewInboxItem) -> InboxItem | None:
    """The item as its turn's receipt tells of it, which is all that is left then."""
    if new.turn_id is None or new.turn_id != new.source_key:
        return None
    receipt = find_receipt(tx, session.no, OperationId("turn", new.turn_id))
    if receipt is None or receipt.input_hash != new.content_hash:
        return None
    return InboxItem(
        no=0,
        session_id=new.session_id,
        source_key=new.source_key,
        ingress=new.ingress,
        state=InboxState.COMPLETED,
        content_hash=new.content_hash,
        payload=b"",
        accepted_at_ms=new.accepted_at_ms,
        turn_id=new.turn_id,
    )


def cancel_items(tx: Tx, session_id: str, nos: Sequence[int], reason: str, clock: Clock) -> Mapping[int, CancelOutcome]:
    """Cancel each as far as it can be."""
    tx.lock(session_id)
    session = find_session(tx, session_id)
    if session is None:
        return dict.fromkeys(nos, CancelOutcome.UNKNOWN)
    items = find_items(tx, session_id, session.no, nos)
    return _cancel(tx, nos, items, reason, clock())


def cancel_suffix(tx: Tx, session_id: str, anchor: int, reason: str, clock: Clock) -> Mapping[int, CancelOutcome]:
    """Cancel an item as far as it can be, and all later ones that wait; nothing if there is no such item."""
    tx.lock(session_id)
    session = find_session(tx, session_id)
    items = {} if session is None else find_items(tx, session_id, session.no, [anchor])
    if session is None or not items:
        return {anchor: CancelOutcome.UNKNOWN}
    nos = [anchor, *waiting_after(tx, session.no, anchor)]
    return _cancel(tx, nos, find_items(tx, session_id, session.no, nos), reason, clock())


def _cancel(
    tx: Tx, nos: Iterable[int], items: Mapping[int, Item], reason: str, now_ms: int
) -> Mapping[int, CancelOutcome]:
    outcomes = {no: plan_cancel(items.get(no)) for no in nos}
    waiting = [no for no, each in items.items() if each.item.state is InboxState.PENDING]
    tx.write_many(
        "UPDATE inbox SET state = 'cancelled', cancel_reason = ?, settled_at_ms = ?, payload = x'' WHERE no = ?",
        [(reason, now_ms, no) for no in waiting],
    )
    asked = [no for no, outcome in outcomes.items() if outcome is CancelOutcome.REQUESTED]
    tx.write_many("UPDATE inbox SET cancel_reason = ? WHERE no = ?", [(reason, no) for no in asked])
    return outcomes


def cancel_requested(tx: Tx, lease: Lease, no: int) -> str | None:
    """Why the item's turn should end, in one statement."""
    row = tx.row(
        "SELECT cancel_reason FROM sessions LEFT JOIN inbox ON inbox.no = ? AND inbox.session_no = sessions.no "
        "WHERE session_id = ?",
        (no, lease.session_id),
    )
    if row is None:
        require_not_deleted(tx, lease.session_id)
        return None
    reason = row[0]
    assert reason is None or isinstance(reason, str)
    return reason


# ---- turns ----------------------------------------------------------------------------------------------------------


def begin_turn(tx: Tx, begin: TurnBegin, clock: Clock) -> TurnClaim:
    """Accept, take, claim."""
    refuse_unfit(begin.session_id, begin.item)
    tx.lock(begin.session_id)
    now_ms, session = clock(), find_session(tx, begin.session_id)
    plan = plan_begin(begin, _begin_facts(tx, begin, session, now_ms))
    if isinstance(plan, Committed):
        return TurnCommitted(plan.receipt)
    if isinstance(plan, Busy):
        if plan.accepts and begin.item is not None and session is not None:
            accept(tx, session.no, begin.item, InboxState.PENDING)
        return LeaseBusy(plan.held)
    return _begin(tx, begin, plan, session, now_ms)


def _begin_facts(tx: Tx, begin: TurnBegin, session: Session | None, now_ms: int) -> BeginFacts:
    if session is None:
        return BeginFacts(now_ms=now_ms)
    new, accepted, receipt = begin.item, None, None
    if new is not None and not is_known(tx, session.no, new):
        return BeginFacts(lease=session.lease, now_ms=now_ms, gone=holder_gone(session.lease))
    if new is not None:
        accepted = find_by_key(tx, begin.session_id, session.no, new.source_key)
        turn_id = new.turn_id if accepted is None else accepted.turn_id
        if turn_id is not None:
            receipt = find_receipt(tx, session.no, OperationId("turn", turn_id))
    return BeginFacts(
        lease=session.lease,
        accepted=accepted,
        receipt=receipt,
        next=None if receipt is not None else find_next(tx, begin.session_id, session.no, now_ms),
        now_ms=now_ms,
        gone=holder_gone(session.lease),
    )


def _begin(tx: Tx, begin: TurnBegin, plan: Begin, session: Session | None, now_ms: int) -> TurnBegun:
    new, stored, lease = begin.item, plan.claims, plan.grant.lease
    revision = 0 if session is None else session.head.revision
    runs = stored is not None or plan.runs_new
    if not runs and not plan.accepts:
        if session is not None and session.lease.lease is not None:
            write_release(tx, session.no)  # it was ours, or nobody's any more
        return TurnBegun(head_revision=revision)
    session_no = _known(tx, begin.session_id, session, now_ms)
    rows: tuple[JournalRow, ...] = ()
    item = None
    if stored is not None:
        died = plan.grant.displaced is not None and stored.attempts > 0
        progressed = died and has_rows(tx, stored.no, stored.claim_generation)
        item = evolve(
            stored,
            state=InboxState.CLAIMED,
            claim_generation=lease.generation,
            attempts=plan.attempts,
            fruitless=fruitless(stored, died=died, progressed=progressed),
            reason=reason_for(stored, lease.generation),
        )
        if item != stored:
            claim_for_turn(tx, session_no, item)
        if stored.attempts:
            rows = load_rows(tx, item.no)
    if plan.accepts and new is not None:
        if plan.runs_new:
            item = accept(tx, session_no, new, InboxState.CLAIMED, lease.generation, plan.attempts)
        else:
            accept(tx, session_no, new, InboxState.PENDING)
    if item is None:
        write_release(tx, session_no)
        return TurnBegun(head_revision=revision)
    write_grant(tx, session_no, plan.grant)
    return TurnBegun(head_revision=revision, lease=lease, item=item, rows=rows, displaced=plan.grant.displaced)


def append_journal(
    tx: Tx, lease: Lease, no: int, rows: Sequence[JournalRow], claims: Sequence[int], clock: Clock
) -> None:
    """Write rows, and claim what the turn takes, if the fence holds."""
    tx.lock(lease.session_id)
    now_ms = clock()
    session_no, last = _fenced(tx, lease, no, now_ms)
    wanted = list(dict.fromkeys(claims))
    if wanted and take(tx, session_no, lease.generation, no, wanted, now_ms) < len(wanted):
        _, item, _ = _fenced_item(tx, lease, no, now_ms)
        items = {no: Item(item=item), **find_items(tx, lease.session_id, session_no, wanted)}
        if lost := lost_claims(lease.generation, no, wanted, items):
            raise ClaimLost(lease.session_id, lost)
    append_rows(tx, no, lease.generation, rows, last)


def _fenced(tx: Tx, lease: Lease, no: int, now_ms: int) -> tuple[int, int | None]:
    """The session's number and the last key of the item's journal, if the lease's turn may write it.

    Every record comes by here, so what holds is seen in the columns; what doesn't is looked at closely, and named.
    """
    row = tx.row(
        "SELECT sessions.no, (SELECT max(key) FROM journal WHERE key BETWEEN ? AND ?), lease_expires_at_ms, "
        "lease_generation, lease_token, lease_holder, inbox.claim_generation, inbox.state, inbox.taken_by "
        "FROM sessions JOIN inbox ON inbox.no = ? AND inbox.session_no = sessions.no WHERE session_id = ?",
        (*span(no), no, lease.session_id),
    )
    if row is not None:
        session_no, last, expires_at_ms, *found = row
        wanted = [lease.generation, lease.token, holder_text(lease.holder), lease.generation, "claimed", None]
        if found == wanted and type(expires_at_ms) is int and now_ms < expires_at_ms and type(last) in (int, _NONE):
            return session_no, last
    session_no, _, last = _fenced_item(tx, lease, no, now_ms)
    return session_no, last


_NONE = type(None)


def _fenced_item(tx: Tx, lease: Lease, no: int, now_ms: int) -> tuple[int, InboxItem, int | None]:
    """The session's number, the item that the lease's turn runs, and its journal's last key: all in one statement."""
    row = tx.row(
        f"SELECT {LEASE}, sessions.no, {LEAN}, (SELECT max(key) FROM journal WHERE key BETWEEN ? AND ?) "
        "FROM sessions LEFT JOIN inbox ON inbox.no = ? AND inbox.session_no = sessions.no WHERE session_id = ?",
        (*span(no), no, lease.session_id),
    )
    if row is None:
        require_not_deleted(tx, lease.session_id)
        fenced(LeaseFacts(), lease, now_ms)
        raise AssertionError("nobody holds a lease on a session that isn't there")
    fenced(lease_facts(lease.session_id, row[:6]), lease, now_ms)
    if row[7] is None:
        raise ClaimLost(lease.session_id, [no])
    stored = item_of(lease.session_id, row[7:-1])
    if lost_claims(lease.generation, no, (), {no: stored}):
        raise ClaimLost(lease.session_id, [no])
    last = row[-1]
    if last is not None and type(last) is not int:
        raise StoreCorrupt(f"table `journal`, item {no}: a key is no number")
    return row[6], stored.item, last


def park_turn(tx: Tx, lease: Lease, no: int, state: InboxState, reason: str | None, clock: Clock) -> None:
    """Leave the turn as it is, or forget it, without the lease."""
    if state not in (InboxState.SUSPENDED, InboxState.BLOCKED, InboxState.CANCELLED):
        raise CommitRefused("park_state", f"a turn is parked as suspended, blocked or cancelled, not as {state.value}")
    tx.lock(lease.session_id)
    now_ms = clock()
    try:
        session_no, _, _ = _fenced_item(tx, lease, no, now_ms)
    except LeaseLost:
        if is_parked(_item(tx, lease.session_id, no), lease, state, reason):
            return  # by ourselves, and the answer was lost
        raise
    if state is InboxState.CANCELLED:
        tx.write(
            "UPDATE inbox SET state = 'cancelled', cancel_reason = ?, settled_at_ms = ?, payload = x'' WHERE no = ?",
            (reason, now_ms, no),
        )
        drop_rows(tx, no)
    else:
        tx.write("UPDATE inbox SET state = ?, reason = ?, fruitless = 0 WHERE no = ?", (state.value, reason, no))
    write_release(tx, session_no)


def _item(tx: Tx, session_id: str, no: int) -> Item | None:
    session = find_session(tx, session_id)
    return None if session is None else find_items(tx, session_id, session.no, [no]).get(no)


def load_journal(tx: Tx, session_id: str, turn_id: str) -> Sequence[JournalRow]:
    """The journal of the turn with this id."""
    session = find_session(tx, session_id)
    if session is None:
        return ()
    row = tx.row(
        "SELECT no FROM inbox WHERE session_no = ? AND turn_id = ? AND taken_by IS NULL ORDER BY no DESC LIMIT 1",
        (session.no, turn_id),
    )
    return () if row is None else load_rows(tx, row[0])
