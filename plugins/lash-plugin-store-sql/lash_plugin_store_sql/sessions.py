"""Sessions made, forked and deleted; each public function but `insert_session` and `create_children` is one write."""

from __future__ import annotations

import orjson

from lash_hookspecs.canonical import content_hash
from lash_hookspecs.errors import CommitRefused, SessionDeleted
from lash_hookspecs.forks import NewSession, SessionFork
from lash_hookspecs.inbox import InboxState, NewInboxItem
from lash_hookspecs.stores import OperationId, RuntimeCommit, SessionMeta
from lash_plugin_store_sql.blobs import reclaim
from lash_plugin_store_sql.draft import blank
from lash_plugin_store_sql.driver import Tx
from lash_plugin_store_sql.items import accept, find_by_key
from lash_plugin_store_sql.lineage import drop_nodes, owner_at
from lash_plugin_store_sql.plan import HeadFacts
from lash_plugin_store_sql.reads import Session, find_receipt, find_session, was_deleted
from lash_plugin_store_sql.rows import drop_rows
from lash_plugin_store_sql.schema import INT_MAX, corrupt, key, span

__all__ = ["create_children", "create_session", "delete_session", "fork_session", "insert_session"]


def create_session(tx: Tx, meta: SessionMeta) -> bool:
    """Make the session known; False if it was."""
    if not -INT_MAX <= meta.created_at_ms <= INT_MAX:
        raise CommitRefused("integer_range", f"created_at_ms is {meta.created_at_ms}; it must fit 64 bits")
    tx.lock(meta.session_id)
    if find_session(tx, meta.session_id) is not None:
        return False
    insert_session(tx, meta)
    return True


def insert_session(tx: Tx, meta: SessionMeta) -> int:
    """Make a session known that wasn't; its number."""
    if blank(meta.session_id):
        raise CommitRefused("session_id", "a session id must not be blank")
    tx.write(
        "INSERT INTO sessions (session_id, parent_session_id, labels, created_at_ms, updated_at_ms, head_revision, "
        "turn_index, leaf_generation, frame_generation) VALUES (?, ?, ?, ?, ?, 0, 0, -1, -1)",
        (
            meta.session_id,
            meta.parent_session_id,
            orjson.dumps(dict(meta.labels), option=orjson.OPT_SORT_KEYS).decode(),
            meta.created_at_ms,
            meta.created_at_ms,
        ),
    )
    row = tx.row("SELECT no FROM sessions WHERE session_id = ?", (meta.session_id,))
    assert row is not None  # inserted just now
    return int(row[0])


def delete_session(tx: Tx, session_id: str, now_ms: int) -> bool:
    """Delete everything that only this session uses, and spend its id; False if the id was never used.

    What its forks share with it stays until the last of them is deleted.
    """
    tx.lock(session_id)
    try:
        session = find_session(tx, session_id)
    except SessionDeleted:
        return True
    if session is None:
        return False
    drop_rows(tx, *(no for (no,) in tx.rows("SELECT no FROM inbox WHERE session_no = ?", (session.no,))))
    for table in ("usage", "inbox"):
        tx.write(f"DELETE FROM {table} WHERE session_no = ?", (session.no,))
    tx.write("DELETE FROM receipts WHERE key BETWEEN ? AND ?", span(session.no))
    tx.write("DELETE FROM sessions WHERE no = ?", (session.no,))
    tx.write("INSERT INTO tombstones (session_id, deleted_at_ms) VALUES (?, ?)", (session_id, now_ms))
    reclaim(tx, set(drop_nodes(tx, session.no)))
    return True


# ---- forks ----------------------------------------------------------------------------------------------------------


def fork_session(tx: Tx, fork: SessionFork) -> bool:
    """Make a session that begins where another one stands, or stood; False if it was made before."""
    for name in sorted({fork.session_id, fork.source_id}):
        tx.lock(name)
    source = find_session(tx, fork.source_id)
    if source is None or source.head.leaf is None:
        raise CommitRefused(
            "fork_source", f"nothing was committed on session `{fork.source_id}`: there is no fork of it"
        )
    head = _point(tx, source, fork)
    found = find_session(tx, fork.session_id)
    if found is not None:
        row = tx.row("SELECT revision, parent_session_id FROM forks JOIN sessions USING (no) WHERE no = ?", (found.no,))
        if row == (head.revision, fork.source_id):
            return False
        raise CommitRefused("session_exists", f"there is a session `{fork.session_id}`: choose another id for the fork")
    meta = SessionMeta(
        session_id=fork.session_id,
        created_at_ms=fork.created_at_ms,
        parent_session_id=fork.source_id,
        labels=fork.labels,
    )
    _insert_fork(tx, insert_session(tx, meta), source, head, ("component", "config"))
    return True


def _point(tx: Tx, source: Session, fork: SessionFork) -> HeadFacts:
    """The head that the fork begins with."""
    if fork.at is None:
        return source.head
    receipt = find_receipt(tx, source.no, OperationId("turn", fork.at))
    if receipt is None:
        text = f"session `{fork.source_id}` has no turn `{fork.at}` of its own: what it was forked from may have it"
        raise CommitRefused("fork_point", text)
    if receipt.head_revision == source.head.revision:
        return source.head
    kept = tx.row("SELECT name FROM refs WHERE session_no = ? AND kind = 'component' LIMIT 1", (source.no,))
    if kept is not None:
        raise CommitRefused(
            "fork_point",
            f"session `{fork.source_id}` went on after turn `{fork.at}`, and what `{kept[0]}` was then isn't kept: "
            "fork it where it stands, or fork before it goes on",
        )
    row = tx.row(
        "SELECT first_generation + node_count - 1 FROM receipts WHERE key = ?", (key(source.no, receipt.head_revision),)
    )
    assert row is not None  # it was read just now
    generation = row[0]
    no, _ = owner_at(tx, source.no, source.base, generation)
    node = tx.row("SELECT frame_generation FROM nodes WHERE key = ?", (key(no, generation),))
    frame = None
    if node is not None:
        no, _ = owner_at(tx, source.no, source.base, node[0])
        frame = tx.row("SELECT node_id FROM nodes WHERE key = ?", (key(no, node[0]),))
    if node is None or frame is None:
        raise corrupt("nodes", f"session `{fork.source_id}`, generation {generation}", "the node or its frame is gone")
    return HeadFacts(
        revision=receipt.head_revision,
        turn_index=fork.turn_index,
        leaf=receipt.leaf_node_id,
        leaf_generation=generation,
        frame=frame[0].hex(),
        frame_generation=node[0],
    )


def _insert_fork(tx: Tx, no: int, source: Session, head: HeadFacts, kinds: tuple[str, ...]) -> None:
    """Have the new session `no` begin there: its head, what it begins with, and the names of its components."""
    owner, _ = owner_at(tx, source.no, source.base, head.leaf_generation)
    # Of what lies below the source's own nodes, its base knows how far it was used.
    base, used = source.base, head.revision
    if owner != source.no and base is not None:
        used = base.revision
    tx.write(
        "INSERT INTO forks (no, base_no, base_generation, base_revision, revision) VALUES (?, ?, ?, ?, ?)",
        (no, owner, head.leaf_generation, used, head.revision),
    )
    leaf, frame = (None if id is None else bytes.fromhex(id) for id in (head.leaf, head.frame))
    tx.write(
        "UPDATE sessions SET head_revision = ?, turn_index = ?, leaf = ?, leaf_generation = ?, frame = ?, "
        "frame_generation = ? WHERE no = ?",
        (head.revision, head.turn_index, leaf, head.leaf_generation, frame, head.frame_generation, no),
    )
    for kind in kinds:
        tx.write(
            "INSERT INTO refs (session_no, kind, name, hash, version, since) "
            "SELECT ?, kind, name, hash, version, ? FROM refs WHERE session_no = ? AND kind = ?",
            (no, head.revision, source.no, kind),
        )


# ---- with a commit --------------------------------------------------------------------------------------------------


def create_children(tx: Tx, commit: RuntimeCommit) -> None:
    """Make the sessions that a commit creates, once it is written; those that are there, or gone, stay as they are."""
    for new in commit.creates:
        if was_deleted(tx, new.session_id):
            continue
        found = find_session(tx, new.session_id)
        no = _insert_child(tx, commit, new) if found is None else found.no
        if new.item is not None:
            _tell(tx, no, new.item)


def _insert_child(tx: Tx, commit: RuntimeCommit, new: NewSession) -> int:
    parent = find_session(tx, commit.session_id)
    assert parent is not None  # the commit is written
    no = insert_session(
        tx,
        SessionMeta(
            session_id=new.session_id,
            created_at_ms=commit.committed_at_ms,
            parent_session_id=commit.session_id,
        ),
    )
    if new.forks and parent.head.leaf is not None:
        _insert_fork(tx, no, parent, parent.head, ("component",))
    if new.config:
        digest = bytes.fromhex(content_hash(new.config))
        tx.write("INSERT INTO blobs (hash, data) VALUES (?, ?) ON CONFLICT (hash) DO NOTHING", (digest, new.config))
        tx.write(
            "INSERT INTO refs (session_no, kind, name, hash, version, since) VALUES (?, 'config', '', ?, 1, 0)",
            (no, digest),
        )
    return no


def _tell(tx: Tx, no: int, item: NewInboxItem) -> None:
    """Accept an item for a session, unless it was, or its turn is committed."""
    turn = OperationId("turn", item.turn_id or item.source_key)
    if find_by_key(tx, item.session_id, no, item.source_key) is None and find_receipt(tx, no, turn) is None:
        accept(tx, no, item, InboxState.PENDING)
