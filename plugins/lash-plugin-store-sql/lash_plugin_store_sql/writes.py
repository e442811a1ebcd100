"""Commits: facts in, the plan's writes out.

A commit is one write: it may be run again from the start if the transaction around it was lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lash_hookspecs.errors import SessionDeleted
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.stores import CommitResult, RuntimeCommit, SessionMeta
from lash_plugin_store_sql.blobs import reclaim
from lash_plugin_store_sql.draft import Draft, Ref, Slot
from lash_plugin_store_sql.driver import Tx
from lash_plugin_store_sql.lease_row import RELEASED
from lash_plugin_store_sql.plan import (
    Facts,
    Refusal,
    Replay,
    UsageKey,
    Writes,
    plan_commit,
)
from lash_plugin_store_sql.reads import (
    USAGE,
    Session,
    chunks,
    find_receipt,
    find_session,
    marks,
    node_generation,
    packed,
    usage_of,
)
from lash_plugin_store_sql.schema import key
from lash_plugin_store_sql.sessions import create_children, insert_session
from lash_plugin_store_sql.settle import items_of, settle, settle_again
from lash_plugin_store_sql.turn_plan import is_ours

# ---- commits --------------------------------------------------------------------------------------------------------


def commit(tx: Tx, draft: Draft) -> CommitResult:
    """Gather facts, decide, execute. Raises the plan's refusal."""
    for name in sorted({draft.commit.session_id, *(each.session_id for each in draft.commit.creates)}):
        tx.lock(name)  # in one order, so that nobody waits for who waits for them
    session = None
    try:
        session = find_session(tx, draft.commit.session_id)
        facts = _facts(tx, draft, session)
    except SessionDeleted:
        facts = Facts(deleted=True)
    match plan_commit(draft, facts):
        case Refusal(error):
            raise error
        case Replay(receipt):
            if draft.commit.settles is not None and session is not None:
                settle_again(tx, session, draft.commit.settles, facts.items, receipt)
            return CommitResult(receipt=receipt, receipt_replayed=True)
        case Writes() as writes:
            no = _execute(tx, draft.commit, writes, session)
            if draft.commit.creates:
                create_children(tx, draft.commit)
            if draft.commit.settles is not None:
                settle(tx, no, draft.commit.settles, facts.items, writes.receipt)
            return CommitResult(receipt=writes.receipt)


def _facts(tx: Tx, draft: Draft, session: Session | None) -> Facts:
    commit = draft.commit
    hashes = {*draft.bodies, *(each.removeprefix("sha256:") for each in commit.adopted_blobs)}
    if session is None:
        return Facts(known=False, blobs=_stored(tx, hashes))
    receipt = find_receipt(tx, session.no, commit.operation)
    if receipt is not None:
        return Facts(head=session.head, receipt=receipt, items=items_of(tx, session, commit))
    required = commit.requires_ancestor_node_id
    refs = _refs(tx, session.no, [*(name for kind, name in draft.refs if kind == "blob"), *commit.adopted_blobs])
    used = {ref.hash for ref in refs.values()}  # so they are stored
    return Facts(
        head=session.head,
        ancestor_generation=None if required is None else node_generation(tx, session, required),
        taken=_taken(tx, session.no, [node.node_id for node in commit.nodes]),
        refs=refs,
        usage=_usage(tx, session.no, {(delta.source, delta.model) for delta in commit.usage}),
        blobs=frozenset(used | _stored(tx, hashes - used)),
        items=items_of(tx, session, commit),
    )


def _refs(tx: Tx, session_no: int, blobs: Sequence[str]) -> dict[Slot, Ref]:
    """The session's components and its config, and those of these attachments that it uses."""
    sql, named = f"{_REFS} AND kind IN ('component', 'config')", f"{_REFS} AND kind = 'blob' AND name IN"
    first, *rest = chunks(blobs) if blobs else [()]
    if first:  # two ranges of the table, where OR would be all that the session ever used
        rows = tx.rows(f"{sql} UNION ALL {named} ({marks(len(first))})", (session_no, session_no, *first))
    else:
        rows = tx.rows(sql, (session_no,))
    for piece in rest:
        rows += tx.rows(f"{named} ({marks(len(piece))})", (session_no, *piece))
    return {(kind, name): Ref(digest.hex(), version) for kind, name, digest, version in rows}


_REFS = "SELECT kind, name, hash, version FROM refs WHERE session_no = ?"


def _taken(tx: Tx, session_no: int, ids: Iterable[str]) -> frozenset[str]:
    """Those of the ids that are nodes of the session."""
    raw = [each for each in map(packed, ids) if each is not None]
    return frozenset(
        found.hex()
        for piece in chunks(raw)
        for (found,) in tx.rows(
            f"SELECT node_id FROM nodes WHERE (key >> 32) = ? AND node_id IN ({marks(len(piece))})",
            (session_no, *piece),
        )
    )


def _stored(tx: Tx, hashes: Iterable[str]) -> frozenset[str]:
    """Those of the hashes whose blobs are stored."""
    raw = [each for each in map(packed, hashes) if each is not None]
    return frozenset(
        found.hex()
        for piece in chunks(raw)
        for (found,) in tx.rows(f"SELECT hash FROM blobs WHERE hash IN ({marks(len(piece))})", piece)
    )


def _usage(tx: Tx, session_no: int, pairs: Iterable[UsageKey]) -> Mapping[UsageKey, TokenUsage]:
    totals = {}
    for source, model in pairs:
        row = tx.row(
            f"SELECT {USAGE} FROM usage WHERE session_no = ? AND source = ? AND model = ?",
            (session_no, source, model),
        )
        if row is not None:
            totals[source, model] = usage_of(row)
    return totals


def _execute(tx: Tx, commit: RuntimeCommit, writes: Writes, session: Session | None) -> int:
    """The session's number."""
    if session is None:
        meta = SessionMeta(session_id=commit.session_id, created_at_ms=commit.committed_at_ms)
        no = insert_session(tx, meta)
    else:
        no = session.no
    head, settles = writes.head, commit.settles
    ends = settles is not None and session is not None and is_ours(session.lease.lease, settles.lease)
    tx.write(
        "UPDATE sessions SET updated_at_ms = ?, head_revision = ?, turn_index = ?, leaf = ?, leaf_generation = ?, "
        f"frame = ?, frame_generation = ?{f', {RELEASED}' if ends else ''} WHERE no = ?",
        (
            commit.committed_at_ms,
            head.revision,
            head.turn_index,
            _raw(head.leaf),
            head.leaf_generation,
            _raw(head.frame),
            head.frame_generation,
            no,
        ),
    )
    if writes.nodes:
        tx.write_many(
            "INSERT INTO nodes (key, node_id, parent, frame_generation, kind, timestamp_ms, frame_key, body) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    key(no, each.generation),
                    _raw(each.node.node_id),
                    _raw(each.node.parent_node_id),
                    each.frame_generation,
                    each.node.kind.value,
                    each.node.timestamp_ms,
                    each.node.frame_key,
                    each.node.body,
                )
                for each in writes.nodes
            ],
        )
    receipt = writes.receipt
    tx.write(
        "INSERT INTO receipts (key, scope, op_key, intent_hash, input_hash, leaf, first_generation, node_count, "
        "committed_at_ms, result) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            key(no, receipt.head_revision),
            receipt.operation.scope,
            receipt.operation.key,
            _raw(receipt.intent_hash),
            receipt.input_hash,
            _raw(receipt.leaf_node_id),
            writes.first_generation,
            len(receipt.node_ids),
            receipt.committed_at_ms,
            receipt.result,
        ),
    )
    _execute_refs(tx, no, writes)
    for (source, model), usage in writes.usage.items():
        tx.write(
            "INSERT INTO usage (session_no, source, model, input, output, cache_read_input, cache_write_input, "
            "reasoning_output, picodollars, at_least, unpriced, unpriced_at_most) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (session_no, source, model) DO UPDATE SET input = excluded.input, output = excluded.output, "
            "cache_read_input = excluded.cache_read_input, cache_write_input = excluded.cache_write_input, "
            "reasoning_output = excluded.reasoning_output, picodollars = excluded.picodollars, "
            "at_least = excluded.at_least, unpriced = excluded.unpriced, unpriced_at_most = excluded.unpriced_at_most",
            (
                no,
                source,
                model,
                usage.input,
                usage.output,
                usage.cache_read_input,
                usage.cache_write_input,
                usage.reasoning_output,
                usage.picodollars,
                int(usage.at_least),
                int(usage.unpriced),
                usage.unpriced_at_most,
            ),
        )
    return no


def _execute_refs(tx: Tx, no: int, writes: Writes) -> None:
    for digest, body in writes.bodies.items():
        tx.write("INSERT INTO blobs (hash, data) VALUES (?, ?)", (_raw(digest), body))
    for (kind, name), ref in writes.refs.items():
        tx.write(
            "INSERT INTO refs (session_no, kind, name, hash, version, since) VALUES (?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (session_no, kind, name) DO UPDATE SET hash = excluded.hash, version = excluded.version "
            "WHERE (hash, version) IS NOT (excluded.hash, excluded.version)",  # adopted again: no page is touched
            (no, kind, name, _raw(ref.hash), ref.version, writes.head.revision),
        )
    for kind, name in writes.dropped:
        tx.write("DELETE FROM refs WHERE session_no = ? AND kind = ? AND name = ?", (no, kind, name))
    reclaim(tx, [bytes.fromhex(digest) for digest in writes.released])


def _raw(id: str | None) -> bytes | None:
    return None if id is None else bytes.fromhex(id)
