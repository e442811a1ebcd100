"""Turns and their journals as the port has them: each function one transaction, as in `leases`."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from lash_hookspecs.errors import ClaimLost, CommitRefused, LeaseLost
from lash_hookspecs.inbox import InboxItem, InboxState
from lash_hookspecs.journal import TurnBegin, TurnBegun, TurnClaim, TurnCommitted
from lash_hookspecs.journal_rows import JournalRow
from lash_hookspecs.leases import Lease, LeaseBusy
from lash_hookspecs.stores import OperationId
from lash_plugin_store_sql.driver import Tx
from lash_plugin_store_sql.items import (
    CLAIM,
    accept,
    claim_for_turn,
    claim_of,
    find_by_key,
    find_claims,
    find_next,
    forget,
    is_known,
    refuse_unfit,
    take,
)
from lash_plugin_store_sql.lease_row import LEASE, holder_gone, holder_text, lease_facts, write_grant, write_release
from lash_plugin_store_sql.leases import Clock, known
from lash_plugin_store_sql.reads import Session, find_receipt, find_session, require_not_deleted
from lash_plugin_store_sql.rows import append_rows, drop_rows, has_outcomes, load_rows
from lash_plugin_store_sql.schema import span
from lash_plugin_store_sql.turn_plan import (
    Begin,
    BeginFacts,
    Busy,
    Claim,
    Committed,
    LeaseFacts,
    fenced,
    fruitless,
    is_parked,
    lost_claims,
    plan_begin,
)


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
    session_no = known(tx, begin.session_id, session, now_ms if new is None else new.accepted_at_ms)
    rows: tuple[JournalRow, ...] = ()
    item = None
    if stored is not None:
        item = _claimed(tx, plan, stored)
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


def _claimed(tx: Tx, plan: Begin, stored: InboxItem) -> InboxItem:
    """The item once the begin has claimed it: the same again, if this is a begin's second try."""
    grant = plan.grant
    died = grant.writes and grant.displaced is not None and stored.attempts > 0
    counts = (died or stored.fruitless > 0) and stored.state is InboxState.CLAIMED  # one that was parked is counted
    progressed = counts and has_outcomes(tx, stored.no, stored.claim_generation)
    return evolve(
        stored,
        state=InboxState.CLAIMED,
        claim_generation=grant.lease.generation,
        attempts=plan.attempts,
        fruitless=fruitless(stored, died=died, progressed=progressed),
        reason=None if progressed else stored.reason,
    )


def append_journal(
    tx: Tx, lease: Lease, no: int, rows: Sequence[JournalRow], claims: Sequence[int], clock: Clock
) -> None:
    """Write rows, and claim what the turn takes, if the fence holds."""
    tx.lock(lease.session_id)
    now_ms = clock()
    session_no, last = _fenced(tx, lease, no, now_ms)
    wanted = list(dict.fromkeys(claims))
    if wanted and take(tx, session_no, lease.generation, no, wanted, now_ms) < len(wanted):
        items = find_claims(tx, session_no, [no, *wanted])
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
        if found == wanted and type(expires_at_ms) is int and now_ms < expires_at_ms:
            return session_no, last
    session_no, _, last = _fenced_item(tx, lease, no, now_ms)
    return session_no, last


def _fenced_item(tx: Tx, lease: Lease, no: int, now_ms: int) -> tuple[int, Claim, int | None]:
    """The session's number, the claim on the lease's turn, and its journal's last key: all in one statement."""
    row = tx.row(
        f"SELECT {LEASE}, sessions.no, (SELECT max(key) FROM journal WHERE key BETWEEN ? AND ?), {CLAIM} "
        "FROM sessions LEFT JOIN inbox ON inbox.no = ? AND inbox.session_no = sessions.no WHERE session_id = ?",
        (*span(no), no, lease.session_id),
    )
    if row is None:
        require_not_deleted(tx, lease.session_id)
        fenced(LeaseFacts(), lease, now_ms)
        raise AssertionError("nobody holds a lease on a session that isn't there")
    fenced(lease_facts(lease.session_id, row[:6]), lease, now_ms)
    session_no, last, item_no, *_ = row[6:]
    claims = {} if item_no is None else {no: claim_of(row[8:])}
    if lost_claims(lease.generation, no, (), claims):
        raise ClaimLost(lease.session_id, [no])
    return session_no, claims[no], last


def park_turn(
    tx: Tx, lease: Lease, no: int, state: InboxState, reason: str | None, fruitless: int, clock: Clock
) -> None:
    """Leave the turn as it is, or forget it, without the lease."""
    if state in (InboxState.PENDING, InboxState.CLAIMED, InboxState.COMPLETED):
        text = f"a turn is parked as suspended, stuck, blocked or cancelled, not as {state.value}"
        raise CommitRefused("park_state", text)
    tx.lock(lease.session_id)
    now_ms = clock()
    try:
        session_no, _, _ = _fenced_item(tx, lease, no, now_ms)
    except LeaseLost:
        session = find_session(tx, lease.session_id)
        stored = {} if session is None else find_claims(tx, session.no, [no])
        dropped = state is InboxState.CANCELLED and reason is None and no not in stored
        if dropped or is_parked(stored.get(no), lease, state, reason):
            return  # by ourselves, and the answer was lost
        raise
    if state is InboxState.CANCELLED:
        forget(tx, session_no, no, reason, now_ms)
        drop_rows(tx, no)
    else:
        sql = "UPDATE inbox SET state = ?, reason = ?, fruitless = ? WHERE no = ?"
        tx.write(sql, (state.value, reason, fruitless, no))
    write_release(tx, session_no)


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
