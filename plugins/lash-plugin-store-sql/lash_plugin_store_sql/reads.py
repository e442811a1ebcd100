"""What is read: rows turned into values, and stored data held against its own rules.

Rows that break a rule are a `StoreCorrupt` that names the table and the key; nothing is repaired here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import orjson
from attrs import evolve

from lash_hookspecs.canonical import content_hash
from lash_hookspecs.errors import SessionDeleted
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.sessions import TokenLedgerEntry
from lash_hookspecs.stores import (
    LoadedSession,
    OperationId,
    Receipt,
    SessionHead,
    SessionMeta,
    SessionSummary,
    StoredComponent,
)
from lash_hookspecs.values import frozen
from lash_plugin_store_sql.driver import Row, Tx
from lash_plugin_store_sql.lease_row import LEASE, lease_facts
from lash_plugin_store_sql.lineage import Base, Segment, base_of, segments
from lash_plugin_store_sql.path import load_path
from lash_plugin_store_sql.plan import HeadFacts
from lash_plugin_store_sql.schema import corrupt, key
from lash_plugin_store_sql.turn_plan import LeaseFacts

_RECEIPT = (
    "receipts.key, scope, op_key, intent_hash, input_hash, receipts.leaf, first_generation, node_count, "
    "committed_at_ms, result"
)
USAGE = ", ".join((*TokenUsage.COUNTERS, "at_least", "unpriced"))


@frozen(kw_only=True)
class Session:
    """A session's row."""

    no: int
    head: HeadFacts
    lease: LeaseFacts = LeaseFacts()
    base: Base | None = None


def packed(id: str) -> bytes | None:
    """A node id or hash as raw bytes; None for text that can't be one."""
    try:
        raw = bytes.fromhex(id)
    except ValueError:
        return None
    # Only what reads back as the same text: `fromhex` takes capitals and spaces too.
    return raw if raw.hex() == id else None


def marks(count: int) -> str:
    """`?, ?, …`"""
    return ", ".join("?" * count)


def chunks(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Items in pieces of 1, 2, 4 … 256, filled up with the last item, so that few different texts of SQL occur."""
    for start in range(0, len(items), 256):
        piece = list(items[start : start + 256])
        size = 1 << (len(piece) - 1).bit_length()
        yield piece + piece[-1:] * (size - len(piece))


# ---- sessions -------------------------------------------------------------------------------------------------------


def find_session(tx: Tx, session_id: str) -> Session | None:
    """The session's row; None if there is none. Raises `SessionDeleted` for a spent id."""
    row = tx.row(
        "SELECT sessions.no, head_revision, leaf, leaf_generation, sessions.frame, sessions.frame_generation, "
        f"turn_index, nodes.node_id, base_no, base_generation, base_revision, {LEASE} "
        "FROM sessions LEFT JOIN forks ON forks.no = sessions.no LEFT JOIN nodes ON nodes.key = "
        "(CASE WHEN leaf_generation <= base_generation THEN base_no ELSE sessions.no END << 32 | leaf_generation) "
        "WHERE session_id = ?",
        (session_id,),
    )
    if row is None:
        require_not_deleted(tx, session_id)
        return None
    no, revision, leaf, leaf_generation, frame, frame_generation, turn_index, last_node, *rest = row
    sound = (
        type(revision) is type(turn_index) is type(leaf_generation) is type(frame_generation) is int
        and revision >= 0
        and turn_index >= 0
        and -1 <= frame_generation <= leaf_generation
        and _is_hash(leaf, optional=leaf_generation < 0)
        and _is_hash(frame, optional=frame_generation < 0)
        and (leaf is None) == (frame is None)
        and leaf == last_node
    )
    if not sound:
        raise corrupt("sessions", f"`{session_id}`", "its revision, turn index, leaf and frame don't fit together")
    head = HeadFacts(
        revision=revision,
        turn_index=turn_index,
        leaf=leaf.hex() if leaf is not None else None,
        leaf_generation=leaf_generation,
        frame=frame.hex() if frame is not None else None,
        frame_generation=frame_generation,
    )
    base = None if rest[0] is None else base_of(session_id, no, rest[:3])
    return Session(no=no, head=head, lease=lease_facts(session_id, rest[3:]), base=base)


def _is_hash(value: object, *, optional: bool = False) -> bool:
    return (optional and value is None) or (type(value) is bytes and len(value) == 32)


def was_deleted(tx: Tx, session_id: str) -> bool:
    """Whether the id is spent."""
    return tx.row("SELECT 1 FROM tombstones WHERE session_id = ?", (session_id,)) is not None


def require_not_deleted(tx: Tx, session_id: str) -> None:
    """Raise `SessionDeleted` for a spent id."""
    if was_deleted(tx, session_id):
        raise SessionDeleted(session_id)


def load_meta(tx: Tx, session_id: str) -> SessionMeta | None:
    """What the session was created with."""
    session = find_session(tx, session_id)
    if session is None:
        return None
    row = tx.row("SELECT created_at_ms, parent_session_id, labels FROM sessions WHERE no = ?", (session.no,))
    assert row is not None  # same transaction
    try:
        labels = orjson.loads(row[2])
    except ValueError as error:
        raise corrupt("sessions", f"`{session_id}`", "labels are no JSON") from error
    return SessionMeta(session_id=session_id, created_at_ms=row[0], parent_session_id=row[1], labels=labels)


def load_head(tx: Tx, session_id: str) -> SessionHead | None:
    """Where the session stands."""
    session = find_session(tx, session_id)
    return None if session is None else _head(tx, session_id, session)


def load_revision(tx: Tx, session_id: str) -> int | None:
    """The head's revision, in one statement where there is a session."""
    row = tx.row("SELECT head_revision FROM sessions WHERE session_id = ?", (session_id,))
    if row is not None:
        if type(row[0]) is not int or row[0] < 0:
            raise corrupt("sessions", f"`{session_id}`", f"its revision is {row[0]!r:.80}")
        return row[0]
    require_not_deleted(tx, session_id)
    return None


def _head(tx: Tx, session_id: str, session: Session) -> SessionHead:
    configs = _bodies(tx, session, "config")
    return SessionHead(
        session_id=session_id,
        head_revision=session.head.revision,
        leaf_node_id=session.head.leaf,
        frame_node_id=session.head.frame,
        turn_index=session.head.turn_index,
        config=configs[""].body if configs else b"",
        forked=session.base is not None,
    )


def _bodies(tx: Tx, session: Session, kind: str) -> dict[str, StoredComponent]:
    rows = tx.rows(
        "SELECT refs.name, refs.hash, refs.version, blobs.data FROM refs LEFT JOIN blobs ON blobs.hash = refs.hash "
        "WHERE refs.session_no = ? AND refs.kind = ? ORDER BY refs.name",
        (session.no, kind),
    )
    return {
        name: StoredComponent(ref=f"sha256:{digest.hex()}", body=checked_body(digest, data), version=version)
        for name, digest, version, data in rows
    }


def checked_body(digest: bytes, data: object) -> bytes:
    """A blob's bytes, if they are what its hash says."""
    if type(data) is not bytes:
        raise corrupt("blobs", f"hash {digest.hex()}", "a session refers to it, but it is not there")
    if content_hash(data) != digest.hex():
        raise corrupt("blobs", f"hash {digest.hex()}", "the bytes have another hash")
    return data


def load_session(tx: Tx, session_id: str, all_frames: bool) -> LoadedSession | None:
    """The session from its current frame on, or whole."""
    found = find_loadable(tx, session_id, all_frames)
    return None if found is None else evolve(found[0], nodes=load_path(tx, *found[1](tx)))


Place: TypeAlias = Callable[[Tx], tuple[str, Sequence[Segment], HeadFacts]]
"""Where the nodes are: what `path` is asked with."""


def find_loadable(tx: Tx, session_id: str, all_frames: bool) -> tuple[LoadedSession, Place] | None:
    """The session without its nodes, and where these are: as they are now, also when others were added."""
    session = find_session(tx, session_id)
    if session is None:
        return None
    first = 0 if all_frames else max(session.head.frame_generation, 0)

    def place(tx: Tx) -> tuple[str, Sequence[Segment], HeadFacts]:
        again = find_session(tx, session_id)
        if again is None or again.no != session.no:
            raise SessionDeleted(session_id)
        return session_id, segments(tx, session.no, session.base, first, session.head), session.head

    loaded = LoadedSession(
        head=_head(tx, session_id, session),
        components=_bodies(tx, session, "component"),
        usage=tuple(
            TokenLedgerEntry(source=source, model=model, usage=usage_of(counters))
            for source, model, *counters in tx.rows(
                f"SELECT source, model, {USAGE} FROM usage WHERE session_no = ? ORDER BY source, model", (session.no,)
            )
        ),
    )
    return loaded, place


def node_generation(tx: Tx, session: Session, id: str) -> int | None:
    """How deep a node of the session's path is; None if there is no such node on it."""
    raw = packed(id)
    if raw is None:
        return None
    for no, first, last in reversed(segments(tx, session.no, session.base, 0, session.head)):
        row = tx.row("SELECT key FROM nodes WHERE (key >> 32) = ? AND node_id = ?", (no, raw))
        if row is not None and first <= row[0] - key(no, 0) <= last:
            return int(row[0] - key(no, 0))
    return None


def is_on_path(tx: Tx, session_id: str, id: str) -> bool:
    """Whether the node is on the session's path."""
    session = find_session(tx, session_id)
    return session is not None and node_generation(tx, session, id) is not None


# ---- receipts -------------------------------------------------------------------------------------------------------


def load_receipt(tx: Tx, session_id: str, operation: OperationId) -> Receipt | None:
    """The receipt of an operation."""
    session = find_session(tx, session_id)
    return None if session is None else find_receipt(tx, session.no, operation)


def find_receipt(tx: Tx, session_no: int, operation: OperationId) -> Receipt | None:
    """The receipt of an operation of the session with this number."""
    row = tx.row(
        f"SELECT {_RECEIPT} FROM receipts WHERE (key >> 32) = ? AND scope = ? AND op_key = ?",
        (session_no, operation.scope, operation.key),
    )
    return None if row is None else _receipts(tx, [row])[0]


def list_receipts(tx: Tx, session_id: str, limit: int) -> Sequence[Receipt]:
    """The session's receipts, the latest first."""
    session = find_session(tx, session_id)
    if session is None:
        return ()
    rows = tx.rows(
        f"SELECT {_RECEIPT} FROM receipts WHERE key BETWEEN ? AND ? ORDER BY receipts.key DESC LIMIT ?",
        (key(session.no, 0), key(session.no, session.head.revision), limit),
    )
    return _receipts(tx, rows)


def find_turn(tx: Tx, turn_id: str) -> Sequence[tuple[str, Receipt]]:
    """Receipts of turns by the beginning of their ids."""
    # The greatest code point ends every text that goes on after the prefix; ids are compared by their bytes.
    rows = tx.rows(
        f"SELECT sessions.session_id, {_RECEIPT} FROM receipts JOIN sessions ON sessions.no = (receipts.key >> 32) "
        "WHERE receipts.scope = 'turn' AND receipts.op_key >= ? AND receipts.op_key < ? "
        "ORDER BY receipts.op_key LIMIT 10",
        (turn_id, turn_id + "\U0010ffff"),
    )
    rows.sort(key=lambda row: (row[3], row[1]))  # those of one id in the order of their sessions
    return [(row[0], _receipts(tx, [row[1:]])[0]) for row in rows]


def _receipts(tx: Tx, rows: Sequence[Row]) -> list[Receipt]:
    """Receipts of one session; the ids of their nodes come from the graph, in one scan."""
    ids: dict[int, str] = {}
    if any(row[7] for row in rows):
        session_no = rows[0][0] >> 32
        first = min(row[6] for row in rows)
        last = max(row[6] + row[7] for row in rows) - 1
        span = (key(session_no, first), key(session_no, last))
        base = key(session_no, 0)
        ids = {each - base: id.hex() for each, id in tx.rows(_NODE_IDS, span)}
    receipts = []
    for packed_key, scope, op_key, intent, input_hash, leaf, first, count, committed_at_ms, result in rows:
        node_ids = tuple(ids[each] for each in range(first, first + count) if each in ids)
        place = f"session number {packed_key >> 32}, {scope} `{op_key}`"
        if len(node_ids) != count or count < 0 or not _is_hash(leaf, optional=True) or not _is_hash(intent):
            raise corrupt("receipts", place, "its nodes aren't there, or its hashes aren't hashes")
        if count and node_ids[-1] != leaf.hex():
            raise corrupt("receipts", place, "its leaf isn't its last node")
        receipts.append(
            Receipt(
                operation=OperationId(scope, op_key),
                intent_hash=intent.hex(),
                input_hash=input_hash,
                head_revision=packed_key & 0xFFFFFFFF,
                leaf_node_id=leaf.hex() if leaf is not None else None,
                node_ids=node_ids,
                committed_at_ms=committed_at_ms,
                result=result,
            )
        )
    return receipts


_NODE_IDS = "SELECT key, node_id FROM nodes WHERE key BETWEEN ? AND ?"


# ---- lists ----------------------------------------------------------------------------------------------------------


def list_sessions(tx: Tx, limit: int, before_ms: int | None) -> Sequence[SessionSummary]:
    """Sessions, the latest used first."""
    rows = tx.rows(
        "SELECT no, session_id, created_at_ms, updated_at_ms, head_revision, turn_index FROM sessions "
        "WHERE updated_at_ms < ? ORDER BY updated_at_ms DESC, no DESC LIMIT ?",
        ((1 << 63) - 1 if before_ms is None else before_ms, limit),
    )
    usage = _usage_by_session(tx, [row[0] for row in rows])
    return [
        SessionSummary(
            session_id=session_id,
            created_at_ms=created_at_ms,
            updated_at_ms=updated_at_ms,
            head_revision=revision,
            turn_index=turn_index,
            usage=usage.get(no, TokenUsage()),
        )
        for no, session_id, created_at_ms, updated_at_ms, revision, turn_index in rows
    ]


def _usage_by_session(tx: Tx, numbers: Sequence[int]) -> Mapping[int, TokenUsage]:
    totals: dict[int, TokenUsage] = {}
    for piece in chunks(numbers):
        sql = f"SELECT session_no, {USAGE} FROM usage WHERE session_no IN ({marks(len(piece))})"
        for no, *counters in tx.rows(sql, piece):
            totals[no] = totals.get(no, TokenUsage()) + usage_of(counters)
    return totals


def usage_of(counters: Iterable[Any]) -> TokenUsage:
    """Usage from its columns."""
    *counts, at_least, unpriced = counters
    if not all(type(each) is int and each >= 0 for each in counts):
        raise corrupt("usage", counts, "a counter is no number or below zero")
    return TokenUsage(
        **dict(zip(TokenUsage.COUNTERS, counts, strict=True)), at_least=bool(at_least), unpriced=bool(unpriced)
    )


def get_blob(tx: Tx, digest: str) -> bytes | None:
    """A blob's bytes."""
    raw = packed(digest)
    row = None if raw is None else tx.row("SELECT data FROM blobs WHERE hash = ?", (raw,))
    return None if raw is None or row is None else checked_body(raw, row[0])
