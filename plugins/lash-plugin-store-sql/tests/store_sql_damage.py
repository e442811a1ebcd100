"""Damage to a session's rows, as the conformance kit names it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from lash_hookspecs.testing.store import Corruption
from lash_plugin_store_sql.schema import INT_MAX

__all__ = ["damage"]

# What each kind of damage is, in SQL; `:no` is the session's number.
NO = "(SELECT no FROM sessions WHERE session_id = :id)"
LEAF = f"({NO} << 32 | (SELECT leaf_generation FROM sessions WHERE session_id = :id))"
RECEIPT = f"(SELECT max(key) FROM receipts WHERE (key >> 32) = {NO})"
COMPONENT = f"(SELECT hash FROM refs WHERE session_no = {NO} AND kind = 'component')"
ITEMS = f"(SELECT no FROM inbox WHERE session_no = {NO})"
DAMAGE = {
    Corruption.NODE_GAP: f"DELETE FROM nodes WHERE key = {LEAF} - 1",
    Corruption.NODE_PARENT: f"UPDATE nodes SET parent = randomblob(32) WHERE key = {LEAF} - 1",
    Corruption.NODE_FRAME: f"UPDATE nodes SET frame_generation = frame_generation + 1 WHERE key = {LEAF} - 1",
    Corruption.NODE_KIND: f"UPDATE nodes SET kind = 'surprise' WHERE key = {LEAF} - 1",
    Corruption.HEAD_LEAF: "UPDATE sessions SET leaf = randomblob(32) WHERE session_id = :id",
    Corruption.HEAD_NO_LEAF: "UPDATE sessions SET leaf = NULL WHERE session_id = :id",
    Corruption.HEAD_REVISION: "UPDATE sessions SET head_revision = -1 WHERE session_id = :id",
    Corruption.RECEIPT_NODES: f"UPDATE receipts SET node_count = node_count + 1 WHERE key = {RECEIPT}",
    Corruption.RECEIPT_GONE: f"DELETE FROM receipts WHERE key = {RECEIPT}",
    Corruption.COMPONENT_GONE: f"DELETE FROM blobs WHERE hash = {COMPONENT}",
    Corruption.COMPONENT_BODY: f"UPDATE blobs SET data = x'00' WHERE hash = {COMPONENT}",
    Corruption.LEASE_GENERATION: "UPDATE sessions SET lease_generation = -1 WHERE session_id = :id",
    Corruption.LEASE_HOLDER: "UPDATE sessions SET lease_holder = '{' WHERE session_id = :id",
    Corruption.LEASE_SPENT: f"UPDATE sessions SET lease_generation = {INT_MAX} WHERE session_id = :id",
    Corruption.ITEM_GENERATION: f"UPDATE inbox SET claim_generation = -1 WHERE session_no = {NO}",
    Corruption.ITEM_STATE: f"UPDATE inbox SET state = 'surprise' WHERE session_no = {NO}",
    Corruption.ROW_STATUS: f"UPDATE journal SET status = 'surprise' WHERE (key >> 32) IN {ITEMS}",
}


def damage(path: Path, kind: Corruption, session_id: str) -> None:
    """Do it, behind the back of whatever store is open."""
    db = sqlite3.connect(path, isolation_level=None, timeout=30)
    try:
        assert db.execute(DAMAGE[kind], {"id": session_id}).rowcount == 1
    finally:
        db.close()
