"""Leases as the port has them: each function one transaction, as in `writes`.

Facts in, `turn_plan` decides, writes out. The clock is asked inside the transaction: a write may have stood in line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from attrs import evolve

from lash_hookspecs.leases import Lease, LeaseAcquired, LeaseBusy, LeaseClaim, LeaseHolder
from lash_hookspecs.stores import SessionMeta
from lash_plugin_store_sql.driver import Tx
from lash_plugin_store_sql.lease_row import holder_gone, write_grant, write_release
from lash_plugin_store_sql.reads import Session, find_session
from lash_plugin_store_sql.sessions import insert_session
from lash_plugin_store_sql.turn_plan import (
    LeaseFacts,
    is_ours,
    lease_end,
    plan_lease,
    unclaimed,
)

Clock: TypeAlias = Callable[[], int]


def claim_lease(tx: Tx, session_id: str, holder: LeaseHolder, nonce: str, ttl_ms: int, clock: Clock) -> LeaseClaim:
    """Take the session if it is to be had."""
    tx.lock(session_id)
    now_ms, session = clock(), find_session(tx, session_id)
    facts = session.lease if session is not None else LeaseFacts()
    granted = plan_lease(session_id, holder, nonce, ttl_ms, facts, now_ms, gone=holder_gone(facts))
    if isinstance(granted, LeaseBusy):
        return granted
    write_grant(tx, known(tx, session_id, session, now_ms), granted)
    return LeaseAcquired(granted.lease, granted.displaced)


def renew_lease(tx: Tx, lease: Lease, ttl_ms: int, clock: Clock) -> Lease:
    """A later end, if it is ours: also if it lapsed, as long as nobody took it."""
    tx.lock(lease.session_id)
    now_ms, session = clock(), find_session(tx, lease.session_id)
    held = unclaimed(session.lease if session is not None else LeaseFacts(), lease)
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


def known(tx: Tx, session_id: str, session: Session | None, now_ms: int) -> int:
    """The session's number; who wasn't known is from now on."""
    if session is not None:
        return session.no
    return insert_session(tx, SessionMeta(session_id=session_id, created_at_ms=now_ms))
