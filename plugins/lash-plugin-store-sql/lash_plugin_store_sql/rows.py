"""The journal's rows, read and written: every statement that names the table."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache

from lash_hookspecs.errors import CommitRefused, StoreCorrupt
from lash_hookspecs.journal_rows import JournalRow, JournalStatus
from lash_plugin_store_sql.driver import Row, Tx
from lash_plugin_store_sql.reads import packed
from lash_plugin_store_sql.schema import MAX_GENERATION, corrupt, key, span

__all__ = ["append_rows", "drop_rows", "has_outcomes", "load_rows"]

log = logging.getLogger("lash.store")

_ROW = "replay_key, kind, status, envelope_hash, body, digests, label"


def load_rows(tx: Tx, no: int) -> tuple[JournalRow, ...]:
    """An item's journal, in order."""
    return tuple(map(_row_of, tx.rows(f"SELECT {_ROW} FROM journal WHERE key BETWEEN ? AND ? ORDER BY key", span(no))))


def _row_of(row: Row) -> JournalRow:
    """The row; of one that is damaged no more than that something is recorded of its effect, and not what.

    Whoever asks for that effect is refused, and its turn can be abandoned. If even the key is damaged, nobody would ask
    for it, and what it is about would be run once more.
    """
    replay_key, kind, status, envelope_hash, body, digests, label = row
    if type(replay_key) is not bytes or len(replay_key) != 32:
        raise corrupt("journal", f"effect `{label}`", f"its key is {replay_key!r:.80}")
    if type(envelope_hash) is not bytes or len(envelope_hash) != 32:
        envelope_hash, body = bytes(32), None
    if not type(body) is type(digests) is bytes or status not in _STATUSES:
        log.warning("table `journal`, effect `%s`: its status is %.80r, or its hash or body is none", label, status)
        # An intent stays one: the call may have happened, and its body is for people.
        status = JournalStatus.INTENT if status == JournalStatus.INTENT else JournalStatus.DONE
        body = digests = b""
    return JournalRow(
        key=replay_key.hex(),
        kind=str(kind),
        status=JournalStatus(status),
        envelope_hash=envelope_hash.hex(),
        body=body,
        digests=digests,
        label=str(label),
    )


_STATUSES = frozenset(JournalStatus)


def append_rows(tx: Tx, no: int, generation: int, rows: Sequence[JournalRow], last: int | None) -> None:
    """Write rows after the key `last`, each in the place of an intent with its replay key if there is one.

    A row that is there already, written under this generation, stays: whoever writes it again lost the answer.
    """
    place = key(no, 0) - 1 if last is None else last
    if place + len(rows) > key(no, MAX_GENERATION):
        raise CommitRefused("integer_range", f"a turn's journal holds at most {MAX_GENERATION:,} rows")
    places = iter(range(place + 1, place + 1 + len(rows)))
    for start in range(0, len(rows), _AT_ONCE):
        piece = rows[start : start + _AT_ONCE]
        params = [each for row in piece for each in (next(places), generation, *_columns(row))]
        if tx.write(_insert(len(piece)), params) < len(piece):
            for row in piece:
                _require_the_same(tx, no, generation, row)


_AT_ONCE = 16


@cache
def _insert(count: int) -> str:
    """The statement that writes so many rows."""
    return (
        f"INSERT INTO journal (key, generation, {_ROW}) VALUES {', '.join(['(?, ?, ?, ?, ?, ?, ?, ?, ?)'] * count)} "
        "ON CONFLICT ((key >> 32), replay_key) DO UPDATE SET generation = excluded.generation, kind = excluded.kind, "
        "status = excluded.status, envelope_hash = excluded.envelope_hash, body = excluded.body, "
        "digests = excluded.digests, label = excluded.label WHERE journal.status = 'intent'"
    )


def _columns(row: JournalRow) -> Sequence[object]:
    hashes = [packed(each) for each in (row.key, row.envelope_hash)]
    if not all(each is not None and len(each) == 32 for each in hashes):
        raise CommitRefused(
            "journal_row",
            f"effect `{row.label or row.kind}`: key `{row.key}` and hash `{row.envelope_hash}` must be SHA-256 in hex",
        )
    replay_key, envelope_hash = hashes
    return replay_key, row.kind, row.status.value, envelope_hash, row.body, row.digests, row.label


def _require_the_same(tx: Tx, no: int, generation: int, row: JournalRow) -> None:
    found = tx.row(
        f"SELECT generation, {_ROW} FROM journal WHERE (key >> 32) = ? AND replay_key = ?", (no, packed(row.key))
    )
    assert found is not None  # it stood in the way just now
    if _row_of(found[1:]) != row or found[0] != generation:
        raise StoreCorrupt(
            f"table `journal`, item {no}: the effect `{row.label or row.kind}` with the key `{row.key}` is recorded "
            f"already, as {found[3]} under generation {found[0]}; nothing was changed"
        )


def has_outcomes(tx: Tx, no: int, generation: int) -> bool:
    """Whether any effect came to its end under this generation."""
    sql = "SELECT 1 FROM journal WHERE key BETWEEN ? AND ? AND generation = ? AND status != 'intent' LIMIT 1"
    return tx.row(sql, (*span(no), generation)) is not None


def drop_rows(tx: Tx, *nos: int) -> None:
    """Forget the journals of items."""
    tx.write_many("DELETE FROM journal WHERE key BETWEEN ? AND ?", [span(no) for no in nos])
