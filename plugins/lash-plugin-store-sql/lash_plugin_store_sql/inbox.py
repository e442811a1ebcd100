"""The inbox as the port has it: each function one transaction, as in `leases`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lash_hookspecs.errors import InboxConflict
from lash_hookspecs.inbox import CancelOutcome, InboxItem, InboxState, NewInboxItem
from lash_hookspecs.leases import Lease
from lash_hookspecs.stores import OperationId
from lash_plugin_store_sql.driver import Tx
from lash_plugin_store_sql.items import (
    accept,
    cancel_rows,
    find_by_key,
    find_claims,
    refuse_unfit,
    waiting_after,
)
from lash_plugin_store_sql.leases import Clock, known
from lash_plugin_store_sql.reads import Session, find_receipt, find_session, require_not_deleted
from lash_plugin_store_sql.turn_plan import (
    Claim,
    conflict,
    plan_cancel,
)


def enqueue(tx: Tx, new: NewInboxItem) -> InboxItem:
    """Accept an item, or find it accepted."""
    refuse_unfit(new.session_id, new)
    tx.lock(new.session_id)
    session = find_session(tx, new.session_id)
    found = None if session is None else find_by_key(tx, new.session_id, session.no, new.source_key)
    if found is None:
        if session is not None and (settled := _settled(tx, session, new)) is not None:
            return settled
        return accept(tx, known(tx, new.session_id, session, new.accepted_at_ms), new, InboxState.PENDING)
    if found.content_hash != new.content_hash:
        raise conflict(new.session_id, new.source_key, found)
    return found


def _settled(tx: Tx, session: Session, new: NewInboxItem) -> InboxItem | None:
    """The item as its turn's receipt tells of it, which is all that is left then: see `settle`."""
    receipt = find_receipt(tx, session.no, OperationId("turn", new.source_key))
    if receipt is None or not receipt.input_hash:
        return None
    if receipt.input_hash != new.content_hash:
        raise InboxConflict(
            f"session `{new.session_id}`: a turn `{new.source_key}` was committed with other content than this item, "
            "whose source key that is: choose another key, or send the same content"
        )
    return InboxItem(
        no=0,
        session_id=new.session_id,
        source_key=new.source_key,
        ingress=new.ingress,
        state=InboxState.COMPLETED,
        content_hash=new.content_hash,
        payload=b"",
        accepted_at_ms=new.accepted_at_ms,
        turn_id=new.source_key,
    )


def cancel_items(
    tx: Tx, session_id: str, nos: Sequence[int], reason: str | None, clock: Clock
) -> Mapping[int, CancelOutcome]:
    """Cancel each as far as it can be; without a reason only those that wait, and these leave no trace."""
    tx.lock(session_id)
    session = find_session(tx, session_id)
    if session is None:
        return dict.fromkeys(nos, CancelOutcome.UNKNOWN)
    items = find_claims(tx, session.no, nos)
    if reason is None:
        waiting = [no for no, each in items.items() if each.state is InboxState.PENDING]
        cancel_rows(tx, waiting, None, clock())
        return {no: CancelOutcome.CANCELLED if no in waiting else CancelOutcome.UNKNOWN for no in nos}
    return _cancel(tx, nos, items, reason, clock())


def cancel_suffix(tx: Tx, session_id: str, anchor: int, reason: str, clock: Clock) -> Mapping[int, CancelOutcome]:
    """Cancel an item as far as it can be, and all later ones that wait; nothing if there is no such item."""
    tx.lock(session_id)
    session = find_session(tx, session_id)
    items = {} if session is None else find_claims(tx, session.no, [anchor])
    if session is None or not items:
        return {anchor: CancelOutcome.UNKNOWN}
    nos = [anchor, *waiting_after(tx, session.no, anchor)]
    return _cancel(tx, nos, find_claims(tx, session.no, nos), reason, clock())


def _cancel(
    tx: Tx, nos: Iterable[int], items: Mapping[int, Claim], reason: str, now_ms: int
) -> Mapping[int, CancelOutcome]:
    outcomes = {no: plan_cancel(items.get(no)) for no in nos}
    waiting = [no for no, each in items.items() if each.state is InboxState.PENDING]
    cancel_rows(tx, waiting, reason, now_ms)
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
