"""Bytes by their content: put, adopted by commits, dropped with the last session that uses them."""

from __future__ import annotations

from collections.abc import Iterable

from lash_plugin_store_sql.driver import Tx

__all__ = ["GRACE_MS", "put_blob", "reclaim"]

GRACE_MS = 24 * 60 * 60 * 1000
"""How long bytes that were put, and adopted by no session, are kept at least: who put them is on the way to that."""

_SWEEP = 16  # more than one, so that a sweep with every put outruns the puts


def reclaim(tx: Tx, hashes: Iterable[bytes]) -> None:
    """Drop those blobs that nobody uses; whether somebody does is asked now, in the transaction that drops them."""
    for digest in hashes:
        tx.write(
            "DELETE FROM blobs WHERE hash = ? AND put_at_ms IS NULL "
            "AND NOT EXISTS (SELECT 1 FROM refs WHERE refs.hash = blobs.hash)",
            (digest,),
        )


def put_blob(tx: Tx, digest: str, data: bytes, now_ms: int) -> None:
    """Store bytes, or note that somebody put them again; and look after what was put long ago."""
    tx.write(
        "INSERT INTO blobs (hash, put_at_ms, data) VALUES (?, ?, ?) "
        "ON CONFLICT (hash) DO UPDATE SET put_at_ms = excluded.put_at_ms",
        (bytes.fromhex(digest), now_ms, data),
    )
    _sweep(tx, now_ms - GRACE_MS)


def _sweep(tx: Tx, before_ms: int) -> None:
    """Settle the blobs whose grace is over: what a session adopted is its own now, the rest is dropped.

    An input that was accepted adopts what it needs with the commit of its turn, which may wait for somebody for weeks:
    what was put for it or since then is left alone. Nobody here can read what it needs.
    """
    rows = tx.rows(
        "SELECT hash, put_at_ms FROM blobs WHERE put_at_ms IS NOT NULL AND put_at_ms < ? ORDER BY put_at_ms LIMIT ?",
        (before_ms, _SWEEP),
    )
    if not rows:
        return
    oldest = tx.row("SELECT min(accepted_at_ms) FROM inbox WHERE settled_at_ms IS NULL")
    assert oldest is not None  # an aggregate always says something
    (accepted_at_ms,) = oldest
    over = [hash for hash, put_at_ms in rows if accepted_at_ms is None or put_at_ms < accepted_at_ms - GRACE_MS]
    for hash in over:
        tx.write("UPDATE blobs SET put_at_ms = NULL WHERE hash = ?", (hash,))
    reclaim(tx, over)
