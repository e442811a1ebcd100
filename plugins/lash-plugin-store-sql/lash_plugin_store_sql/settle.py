"""What a turn's commit does beside its own writes: its items are done, its journal goes or stays, its lease ends."""

from __future__ import annotations

from collections.abc import Mapping

from lash_hookspecs.journal_rows import Settlement
from lash_hookspecs.stores import Receipt, RuntimeCommit
from lash_plugin_store_sql.driver import Tx
from lash_plugin_store_sql.items import find_settled, give_back
from lash_plugin_store_sql.lease_row import write_release
from lash_plugin_store_sql.reads import Session, chunks, marks
from lash_plugin_store_sql.rows import append_rows, drop_rows
from lash_plugin_store_sql.schema import span
from lash_plugin_store_sql.turn_plan import Claim, is_ours, lost_claims

__all__ = ["drop_journals", "has_settled", "items_of", "settle", "settle_again"]

_DROPPED = 500  # settled items for each transaction


def items_of(tx: Tx, session: Session | None, commit: RuntimeCommit) -> Mapping[int, Claim]:
    """The items that the commit settles, as they are, and whatever else its turn took."""
    settles = commit.settles
    if session is None or settles is None:
        return {}
    return find_settled(tx, session.no, settles.item, settles.applied)


def settle(tx: Tx, session_no: int, settles: Settlement, items: Mapping[int, Claim], receipt: Receipt) -> None:
    """Settle the turn's items; those that it took and didn't use wait again."""
    done = [settles.item, *settles.applied]
    if not settles.keep_journal and tx.write(
        # Its turn's receipt has its key and its hash: that is all the evidence that it needs.
        "DELETE FROM inbox WHERE no = ? AND source_key = turn_id AND turn_id = ? AND content_hash = ?",
        (settles.item, receipt.operation.key, receipt.input_hash),
    ):
        done.remove(settles.item)
    payload = "" if settles.keep_journal else ", payload = x''"  # who replays a turn needs what it was asked
    for piece in chunks(done):
        tx.write(
            f"UPDATE inbox SET state = 'completed', settled_at_ms = ?, turn_id = ?{payload} "
            f"WHERE no IN ({marks(len(piece))})",
            (receipt.committed_at_ms, receipt.operation.key, *piece),
        )
    if items.keys() - {settles.item, *settles.applied}:
        give_back(tx, session_no, settles.item)
    if not settles.keep_journal:
        drop_rows(tx, settles.item)
    elif settles.rows:
        last = tx.row("SELECT max(key) FROM journal WHERE key BETWEEN ? AND ?", span(settles.item))
        append_rows(tx, settles.item, settles.lease.generation, settles.rows, None if last is None else last[0])


def settle_again(tx: Tx, session: Session, settles: Settlement, items: Mapping[int, Claim], receipt: Receipt) -> None:
    """What a commit that was made before may still do: settle what nobody else has, and let go of the lease."""
    if not lost_claims(settles.lease.generation, settles.item, settles.applied, items):
        settle(tx, session.no, settles, items, receipt)
    if is_ours(session.lease.lease, settles.lease):
        write_release(tx, session.no)


def has_settled(tx: Tx, before_ms: int) -> bool:
    """Whether there is anything to drop: mostly there isn't, and nobody need write for that."""
    return tx.row("SELECT 1 FROM inbox WHERE settled_at_ms < ? LIMIT 1", (before_ms,)) is not None


def drop_journals(tx: Tx, before_ms: int) -> tuple[int, bool]:
    """Forget some settled items and their journals: how many turns that were, and whether there may be more."""
    rows = tx.rows(
        "SELECT no, state = 'completed' AND taken_by IS NULL FROM inbox WHERE settled_at_ms < ? LIMIT ?",
        (before_ms, _DROPPED),
    )
    drop_rows(tx, *(no for no, is_turn in rows if is_turn))
    tx.write_many("DELETE FROM inbox WHERE no = ?", [(no,) for no, _ in rows])
    return sum(is_turn for _, is_turn in rows), len(rows) == _DROPPED
