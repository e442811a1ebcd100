"""The lease in a session's row: its columns to values and back, and what the port says about leases.

`reads.find_session` reads these columns with the rest of the row, and a commit writes them with the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson

from lash_hookspecs.errors import CommitRefused
from lash_hookspecs.leases import Lease, LeaseHolder, ProcessStamp
from lash_hookspecs.liveness import is_gone
from lash_plugin_store_sql.driver import Tx
from lash_plugin_store_sql.schema import corrupt
from lash_plugin_store_sql.turn_plan import Grant, LeaseFacts

__all__ = ["LEASE", "RELEASED", "holder_gone", "holder_text", "lease_facts", "write_grant", "write_release"]

LEASE = "lease_generation, lease_token, lease_holder, lease_claimed_at_ms, lease_expires_at_ms, lease_displaced"
"""The columns, in the order that `lease_facts` takes them."""

_FREE = "lease_token = NULL, lease_holder = NULL"
RELEASED = f"{_FREE}, lease_displaced = NULL"
"""What lets go of the lease with a turn's commit, in an UPDATE of `sessions`; the generation stays."""


def lease_facts(session_id: str, columns: Sequence[Any]) -> LeaseFacts:
    """What the columns say."""
    generation, token, holder, claimed_at_ms, expires_at_ms, displaced = columns
    if type(generation) is not int or generation < 0:
        raise corrupt("sessions", f"`{session_id}`", f"its lease has the generation {generation!r:.80}")
    if token is None and displaced is None:
        return LeaseFacts(generation=generation)
    if token is not None and (
        generation == 0
        or not type(token) is type(holder) is str
        or not type(claimed_at_ms) is type(expires_at_ms) is int
    ):
        raise corrupt("sessions", f"`{session_id}`", "its lease's columns don't fit together")
    try:
        lease = before = None
        if token is not None:
            lease = Lease(
                session_id=session_id,
                holder=_holder(orjson.loads(holder)),
                generation=generation,
                token=token,
                claimed_at_ms=claimed_at_ms,
                expires_at_ms=expires_at_ms,
            )
        if displaced is not None:
            values = orjson.loads(displaced)
            before = Lease(session_id=session_id, holder=_holder(values.pop("holder")), **values)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise corrupt("sessions", f"`{session_id}`", "its lease's holder can't be read") from error
    return LeaseFacts(generation=generation, lease=lease, displaced=before)


def _holder(values: Any) -> LeaseHolder:
    process = values.pop("process", None)
    return LeaseHolder(**values, process=None if process is None else ProcessStamp(**process))


def _values(holder: LeaseHolder) -> dict[str, Any]:
    values: dict[str, Any] = {
        "owner": holder.owner,
        "incarnation": holder.incarnation,
        "executor": holder.executor,
    }
    if holder.process is not None:
        stamp = holder.process
        values["process"] = {"boot": stamp.boot, "pid": stamp.pid, "started": stamp.started}
    return values


@lru_cache(maxsize=64)
def holder_text(holder: LeaseHolder) -> str:
    """A holder as its column has it."""
    return _text(_values(holder))


def _text(values: dict[str, Any]) -> str:
    try:
        return orjson.dumps(values).decode()
    except TypeError as error:
        raise CommitRefused("text", f"a lease's holder can't be stored: {error}") from error


def holder_gone(facts: LeaseFacts) -> bool:
    """Whether the lease's holder is provably no more."""
    lease = facts.lease
    return lease is not None and lease.holder.process is not None and is_gone(lease.holder.process)


def write_grant(tx: Tx, session_no: int, grant: Grant) -> None:
    """Store the lease, unless it is stored."""
    if not grant.writes:
        return
    lease, before = grant.lease, grant.displaced
    displaced = None
    if before is not None:
        displaced = _text(
            {
                "holder": _values(before.holder),
                "generation": before.generation,
                "token": before.token,
                "claimed_at_ms": before.claimed_at_ms,
                "expires_at_ms": before.expires_at_ms,
            }
        )
    tx.write(
        "UPDATE sessions SET lease_generation = ?, lease_token = ?, lease_holder = ?, lease_claimed_at_ms = ?, "
        "lease_expires_at_ms = ?, lease_displaced = ? WHERE no = ?",
        (
            lease.generation,
            lease.token,
            holder_text(lease.holder),
            lease.claimed_at_ms,
            lease.expires_at_ms,
            displaced,
            session_no,
        ),
    )


def write_release(tx: Tx, session_no: int) -> None:
    """Let go of whatever lease there is. Whom it followed stays known: it may have run no turn, and they one."""
    tx.write(f"UPDATE sessions SET {_FREE} WHERE no = ?", (session_no,))
