"""What the inbox holds, read and written: rows to values, and every statement that names the table."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from lash_hookspecs.errors import CommitRefused
from lash_hookspecs.inbox import InboxItem, InboxState, Ingress, NewInboxItem
from lash_plugin_store_sql.driver import Row, Tx
from lash_plugin_store_sql.reads import chunks, find_session, marks
from lash_plugin_store_sql.schema import corrupt
from lash_plugin_store_sql.turn_plan import BEGUN, OPEN, Claim

__all__ = [
    "CLAIM",
    "accept",
    "cancel_rows",
    "claim_for_turn",
    "claim_of",
    "find_by_key",
    "find_claims",
    "find_next",
    "find_settled",
    "forget",
    "give_back",
    "has_pending",
    "is_known",
    "list_inbox",
    "refuse_unfit",
    "take",
    "waiting_after",
]

CLAIM = "inbox.no, state, claim_generation, taken_by, reason, cancel_reason"
"""What decisions need of an item."""

ITEM = (
    f"{CLAIM}, source_key, ingress, content_hash, payload, accepted_at_ms, available_at_ms, "
    # An item keeps the id of its own turn until it is settled: whoever took it may give it back.
    "CASE WHEN taken_by IS NULL OR settled_at_ms IS NOT NULL THEN inbox.turn_id "
    "ELSE (SELECT taker.turn_id FROM inbox AS taker WHERE taker.no = inbox.taken_by) END, attempts, fruitless"
)
"""All that everybody sees of it."""

_TEXTS = ", ".join(f"'{state}'" for state in sorted(BEGUN))
_WAITS = "session_no = ? AND settled_at_ms IS NULL AND state = 'pending'"

_BEGUN_NEXT = (
    f"SELECT min(no) FROM inbox WHERE session_no = ? AND settled_at_ms IS NULL AND state IN ({_TEXTS}) "
    "AND taken_by IS NULL"
)

# The first of each ingress, as the index has them: a long queue isn't walked through.
_WAITING_NEXT = "SELECT min(no) FROM ({})".format(
    " UNION ALL ".join(
        f"SELECT * FROM (SELECT no FROM inbox WHERE {_WAITS} AND ingress = '{each}' AND available_at_ms <= ? "
        "ORDER BY no LIMIT 1)"
        for each in Ingress
    )
)


def claim_of(row: Row) -> Claim:
    """Where an item stands, from the columns of `CLAIM`."""
    no, state, generation, taken_by, reason, cancel_reason = row
    if state not in _STATES or type(generation) is not int or generation < 0:
        raise corrupt("inbox", f"item {no}", f"state {state!r:.80}, claimed under the generation {generation!r:.80}")
    return Claim(
        state=InboxState(state),
        generation=generation,
        taken_by=taken_by,
        reason=reason,
        cancel_reason=cancel_reason,
    )


_STATES = frozenset(InboxState)


def item_of(session_id: str, row: Row) -> InboxItem:
    """An item, from the columns of `ITEM`."""
    (no, *claim), content = row[:6], row[6:]
    stands = claim_of((no, *claim))
    source_key, ingress, content_hash, payload, accepted_at_ms, available_at_ms, turn_id, *counts = content
    numbers = (no, accepted_at_ms, available_at_ms, *counts)
    if ingress not in _INGRESSES or type(payload) is not bytes:
        raise corrupt("inbox", f"item {no}", f"ingress {ingress!r:.80}, or its payload is no bytes")
    if not all(type(each) is int for each in numbers) or min(counts) < 0:
        raise corrupt("inbox", f"item {no}", "its times or its attempts are no numbers, or below zero")
    return InboxItem(
        no=no,
        session_id=session_id,
        source_key=source_key,
        ingress=Ingress(ingress),
        state=stands.state,
        content_hash=content_hash,
        payload=payload,
        accepted_at_ms=accepted_at_ms,
        turn_id=turn_id,
        available_at_ms=available_at_ms,
        claim_generation=stands.generation,
        attempts=counts[0],
        fruitless=counts[1],
        reason=stands.reason,
        cancel_reason=stands.cancel_reason,
    )


_INGRESSES = frozenset(Ingress)


# ---- finding --------------------------------------------------------------------------------------------------------


def find_by_key(tx: Tx, session_id: str, session_no: int, source_key: str) -> InboxItem | None:
    """The item that was accepted under a source key."""
    row = tx.row(f"SELECT {ITEM} FROM inbox WHERE session_no = ? AND source_key = ?", (session_no, source_key))
    return None if row is None else item_of(session_id, row)


def is_known(tx: Tx, session_no: int, new: NewInboxItem) -> bool:
    """Whether there is anything that a new item must be held against: itself, its turn's receipt, or an open item."""
    row = tx.row(
        "SELECT EXISTS (SELECT 1 FROM inbox WHERE session_no = ? AND source_key = ?) "
        "OR EXISTS (SELECT 1 FROM inbox WHERE session_no = ? AND settled_at_ms IS NULL) "
        "OR EXISTS (SELECT 1 FROM receipts WHERE (key >> 32) = ? AND scope = 'turn' AND op_key = ?)",
        (session_no, new.source_key, session_no, session_no, new.turn_id),
    )
    assert row is not None  # it always says something
    return bool(row[0])


def find_next(tx: Tx, session_id: str, session_no: int, now_ms: int) -> InboxItem | None:
    """The item that is to be done next: the oldest whose turn was begun, else the oldest that waits and may start."""
    row = tx.row(
        f"SELECT {ITEM} FROM inbox WHERE no = coalesce(({_BEGUN_NEXT}), ({_WAITING_NEXT}))",
        (session_no, *(session_no, now_ms) * len(Ingress)),
    )
    return None if row is None else item_of(session_id, row)


def find_claims(tx: Tx, session_no: int, nos: Collection[int]) -> Mapping[int, Claim]:
    """Where those of the items stand that are the session's, by number."""
    return {
        row[0]: claim_of(row)
        for piece in chunks(list(nos))
        for row in tx.rows(
            f"SELECT {CLAIM} FROM inbox WHERE no IN ({marks(len(piece))}) AND session_no = ?", (*piece, session_no)
        )
    }


def find_settled(tx: Tx, session_no: int, no: int, applied: Sequence[int]) -> Mapping[int, Claim]:
    """Where a turn's item stands, those that it is said to have used, and those that it took."""
    first, *rest = chunks([no, *applied])
    rows = tx.rows(
        f"SELECT {CLAIM} FROM inbox WHERE no IN ({marks(len(first))}) AND session_no = ? UNION ALL "
        f"SELECT {CLAIM} FROM inbox WHERE session_no = ? AND settled_at_ms IS NULL AND state = 'claimed' "
        "AND taken_by = ?",
        (*first, session_no, session_no, no),
    )
    found = {row[0]: claim_of(row) for row in rows}
    return {**found, **find_claims(tx, session_no, [each for piece in rest for each in piece])}


def waiting_after(tx: Tx, session_no: int, anchor: int) -> list[int]:
    """The numbers of the items after this one that wait, in order."""
    return sorted(no for (no,) in tx.rows(f"SELECT no FROM inbox WHERE {_WAITS} AND no > ?", (session_no, anchor)))


def has_pending(tx: Tx, session_id: str, ingress: Ingress, now_ms: int) -> bool:
    """Whether an item waits that could be delivered so: what is for a checkpoint can be a turn too."""
    kinds = [Ingress.CHECKPOINT] if ingress is Ingress.CHECKPOINT else list(Ingress)
    row = tx.row(
        "SELECT EXISTS (SELECT 1 FROM inbox WHERE session_no = sessions.no AND settled_at_ms IS NULL "
        f"AND state = 'pending' AND ingress IN ({marks(len(kinds))}) AND available_at_ms <= ?) "
        "FROM sessions WHERE session_id = ?",
        (*kinds, now_ms, session_id),
    )
    if row is None:
        find_session(tx, session_id)  # says so if it was deleted
        return False
    return bool(row[0])


def list_inbox(
    tx: Tx, session_id: str | None, states: frozenset[InboxState] | None, limit: int, after: int
) -> Sequence[InboxItem]:
    """Items in order, of one session or of all."""
    wanted = sorted(OPEN if states is None else states)
    # The index of open items serves whoever asks for nothing else.
    where = [f"state IN ({marks(len(wanted))})", *(["settled_at_ms IS NULL"] if set(wanted) <= OPEN else [])]
    params: list[object] = [*wanted]
    if after:
        where.append("inbox.no > ?")
        params.append(after)
    if session_id is not None:
        session = find_session(tx, session_id)
        if session is None:
            return ()
        where.append("session_no = ?")
        params.append(session.no)
    rows = tx.rows(
        f"SELECT sessions.session_id, {ITEM} FROM inbox JOIN sessions ON sessions.no = inbox.session_no "
        f"WHERE {' AND '.join(where)} ORDER BY inbox.no LIMIT ?",
        (*params, limit),
    )
    return [item_of(row[0], row[1:]) for row in rows]


# ---- accepting and claiming -----------------------------------------------------------------------------------------


def refuse_unfit(session_id: str, new: NewInboxItem | None) -> None:
    """Raise for an item that belongs elsewhere, or to no session at all."""
    if new is not None and new.session_id != session_id:
        raise CommitRefused("session_id", f"the item is for session `{new.session_id}`, the turn for `{session_id}`")
    if new is not None and not new.source_key:
        raise CommitRefused("source_key", f"an item for session `{session_id}` has no source key")


def accept(
    tx: Tx, session_no: int, new: NewInboxItem, state: InboxState, generation: int = 0, attempts: int = 0
) -> InboxItem:
    """Store a new item, waiting or claimed at once."""
    row = tx.row(
        "INSERT INTO inbox (session_no, source_key, ingress, state, content_hash, payload, accepted_at_ms, "
        "available_at_ms, turn_id, claim_generation, attempts) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING no",
        (
            session_no,
            new.source_key,
            new.ingress.value,
            state.value,
            new.content_hash,
            new.payload,
            new.accepted_at_ms,
            new.available_at_ms,
            new.turn_id,
            generation,
            attempts,
        ),
    )
    assert row is not None  # inserted just now
    return InboxItem(
        no=row[0],
        session_id=new.session_id,
        source_key=new.source_key,
        ingress=new.ingress,
        state=state,
        content_hash=new.content_hash,
        payload=new.payload,
        accepted_at_ms=new.accepted_at_ms,
        turn_id=new.turn_id,
        available_at_ms=new.available_at_ms,
        claim_generation=generation,
        attempts=attempts,
    )


def claim_for_turn(tx: Tx, session_no: int, item: InboxItem) -> None:
    """Claim a stored item whose turn is begun, and with it what its turn took before."""
    generation, no = item.claim_generation, item.no
    tx.write(
        "UPDATE inbox SET state = 'claimed', claim_generation = ?, attempts = ?, fruitless = ?, reason = ? "
        "WHERE no = ?",
        (generation, item.attempts, item.fruitless, item.reason, no),
    )
    tx.write(
        "UPDATE inbox SET claim_generation = ? "
        "WHERE session_no = ? AND settled_at_ms IS NULL AND state = 'claimed' AND taken_by = ?",
        (generation, session_no, no),
    )


def take(tx: Tx, session_no: int, generation: int, taker: int, nos: Iterable[int], now_ms: int) -> int:
    """Claim waiting items, which are for a checkpoint, for another item's turn; how many of them were to be had."""
    return sum(
        tx.write(
            "UPDATE inbox SET state = 'claimed', claim_generation = ?, taken_by = ? "
            f"WHERE no = ? AND {_WAITS} AND ingress = 'checkpoint' AND available_at_ms <= ?",
            (generation, taker, no, session_no, now_ms),
        )
        for no in nos
    )


def give_back(tx: Tx, session_no: int, taker: int) -> None:
    """Let items that a turn took, and that aren't settled, wait again."""
    tx.write(
        "UPDATE inbox SET state = 'pending', claim_generation = 0, taken_by = NULL "
        "WHERE session_no = ? AND settled_at_ms IS NULL AND state = 'claimed' AND taken_by = ?",
        (session_no, taker),
    )


def cancel_rows(tx: Tx, nos: Sequence[int], reason: str | None, now_ms: int) -> None:
    """Settle items as cancelled, or, where nobody says why, drop them: their source keys are free again."""
    if reason is None:
        tx.write_many("DELETE FROM inbox WHERE no = ?", [(no,) for no in nos])
        return
    tx.write_many(
        "UPDATE inbox SET state = 'cancelled', cancel_reason = ?, settled_at_ms = ?, payload = x'' WHERE no = ?",
        [(reason, now_ms, no) for no in nos],
    )


def forget(tx: Tx, session_no: int, no: int, reason: str | None, now_ms: int) -> None:
    """Cancel an item whose turn was begun, without a trace if nobody says why; what it took waits again."""
    cancel_rows(tx, [no], reason, now_ms)
    give_back(tx, session_no, no)
