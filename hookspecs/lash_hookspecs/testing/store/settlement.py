"""What a turn's commit settles, and what a crash before it leaves (A2.15, groups B and F)."""

from __future__ import annotations

from typing import Any

import anyio
from attrs import evolve

from lash_hookspecs.errors import (
    ClaimLost,
    HeadConflict,
    StoreCorrupt,
)
from lash_hookspecs.inbox import InboxState
from lash_hookspecs.journal_rows import JournalStatus
from lash_hookspecs.stores import Capability
from lash_hookspecs.testing.store.inbox import ALL, note
from lash_hookspecs.testing.store.kit import (
    Cases,
    Corruption,
    Need,
    Scribe,
    StoreHarness,
    at_once,
    everything,
    raises,
    same,
)
from lash_hookspecs.testing.store.runner import LONG, Runner, effect, listed, new_item, tries

__all__ = ["CASES"]

CASES = Cases()
INBOX, JOURNAL = Capability.INBOX, Capability.JOURNAL


async def turns_of(store: Any, session_id: str = "s1") -> tuple[object, ...]:
    """Everything of the session: what was committed, its items, its lease."""
    items = await listed(store, session_id, states=ALL)
    journals = [await store.load_journal(session_id, each.turn_id or "") for each in items]
    return await everything(store, session_id), items, journals, await store.load_lease(session_id)


@CASES.case("A2.15", INBOX, JOURNAL)
async def _settled_with_the_receipt(harness: StoreHarness) -> None:
    """Completing claims and writing the receipt are one: a commit that is refused settles nothing, another one all."""
    store, mine, scribe = await harness.open(), Runner(), Scribe()
    lease, item = await mine.begin(store, new_item())
    taken = await store.enqueue(note("n"))
    await store.append_journal(lease, item.no, [effect("a")], claims=[taken.no])
    before = await turns_of(store)
    commit = mine.commit(scribe, lease, item, "one", applied=(taken.no,))
    with raises(HeadConflict):
        await store.commit(evolve(commit, expected_head_revision=7))
    same(await turns_of(store), before)
    result = await scribe.write(store, commit)
    same(await store.load_receipt("s1", commit.operation), result.receipt)
    settled = await listed(store, "s1", states=ALL)
    same([(each.state, each.turn_id) for each in settled], [(InboxState.COMPLETED, "t-k1")] * 2)
    same((await store.load_lease("s1"), list(await store.load_journal("s1", "t-k1"))), (None, []))


@CASES.case("B.01", INBOX, JOURNAL)
async def _recovered_once(harness: StoreHarness) -> None:
    """A dead holder's item is recovered by one of those who try at once."""
    stores = [await harness.open() for _ in range(2)]
    _, item = await Runner("dead").lapsed(stores[0], new_item())
    claims: list[Any] = []

    async def recover(index: int, store: Any) -> None:
        claims.append(await Runner(f"host{index}").tried(store))

    async with anyio.create_task_group() as group:
        for index, store in enumerate(stores * 3):
            group.start_soon(recover, index, store)
    same([each.item.no for each in claims if each.tag == "begun"], [item.no])
    same([each.tag for each in claims].count("busy"), 5)


@CASES.case("B.03", INBOX, JOURNAL)
async def _settled_once(harness: StoreHarness) -> None:
    """A commit settles its claims once: another turn can't settle them again, nor the same turn under another id."""
    store, mine, scribe = await harness.open(), Runner(), Scribe()
    lease, item = await mine.begin(store, new_item())
    await scribe.write(store, mine.commit(scribe, lease, item, "one"))
    before = await turns_of(store)
    with raises(ClaimLost):
        await store.commit(mine.commit(scribe, lease, evolve(item, turn_id="t-other"), "two"))
    later, next_item = await mine.begin(store, new_item("k2"))
    with raises(ClaimLost):
        await store.commit(mine.commit(scribe, later, next_item, "two", applied=(item.no,)))
    await store.park_turn(later, next_item.no)
    same((await turns_of(store))[0], before[0])


@CASES.case("B.04", INBOX, JOURNAL)
async def _replayed_commit(harness: StoreHarness) -> None:
    """A commit whose answer was lost is answered by its receipt, and what it settled stays settled."""
    store, mine, scribe = await harness.open(), Runner(), Scribe()
    lease, item = await mine.begin(store, new_item())
    commit = mine.commit(scribe, lease, item, "one")
    first = await scribe.write(store, commit)
    before = await turns_of(store)
    again = await store.commit(commit)
    same((again.receipt, again.receipt_replayed), (first.receipt, True))
    same(await turns_of(store), before)
    successor = await mine.lease(store)
    same((await store.commit(commit)).receipt_replayed, True)
    same(await store.load_lease("s1"), successor)


@CASES.case("B.04-late", INBOX, JOURNAL)
async def _replay_settles(harness: StoreHarness) -> None:
    """A receipt that is replayed for a turn which is begun again still settles the item and lets go of the lease."""
    store, mine, scribe = await harness.open(), Runner(), Scribe()
    lease, item = await mine.begin(store, new_item())
    commit = mine.commit(scribe, lease, item, "one")
    await scribe.write(store, evolve(commit, settles=None))
    same((await listed(store, "s1"), await store.load_lease("s1")), ([item], lease))
    same((await store.commit(commit)).receipt_replayed, True)
    same((await listed(store, "s1"), await store.load_lease("s1")), ([], None))


@CASES.case("F.06", INBOX, JOURNAL)
async def _competing(harness: StoreHarness) -> None:
    """Commits of one revision serialise: the turn that comes second is refused whole, and can be run again."""
    store, mine, scribe, other = await harness.open(), Runner(), Scribe(), Scribe()
    lease, item = await mine.begin(store, new_item())
    await other.write(store, other.turn("somebody else's"))
    before = await turns_of(store)
    with raises(HeadConflict):
        await store.commit(mine.commit(scribe, lease, item, "mine"))
    same(await turns_of(store), before)
    await other.write(store, mine.commit(other, lease, item, "mine, again"))
    same((await listed(store, "s1"), await store.load_revision("s1")), ([], 2))


@CASES.case("B.02", INBOX, JOURNAL, Need.REOPEN)
async def _checkpoint_survives(harness: StoreHarness) -> None:
    """A checkpoint that was recorded survives a crash before its turn's commit, with what it took."""
    store, mine, theirs, scribe = await harness.open(), Runner("mine"), Runner("theirs"), Scribe()
    lease, item = await mine.lapsed(store, new_item())
    lease, item = await mine.begin(store)
    said = await store.enqueue(note("said"))
    await store.append_journal(lease, item.no, [effect("checkpoint")], claims=[said.no])
    await store.release_lease(lease)
    store = await harness.reopen()
    begun = await theirs.tried(store)
    same((begun.item.no, begun.item.attempts, begun.rows), (item.no, 3, (effect("checkpoint"),)))
    await scribe.write(store, theirs.commit(scribe, begun.lease, begun.item, "x", applied=(said.no,)))
    same(await listed(store), [])


@CASES.case("B.05", INBOX, JOURNAL)
async def _idle(harness: StoreHarness) -> None:
    """Where there is nothing to do or to drop, the store says so and changes nothing."""
    store, mine, scribe = await harness.open(), Runner(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    before = await turns_of(store)
    same((await mine.tried(store)).item, None)
    same(await store.drop_journals(before_ms=1 << 62), 0)
    same(await turns_of(store), before)


@CASES.case("B.06", INBOX, JOURNAL)
async def _reported_sweep(harness: StoreHarness) -> None:
    """What was dropped is reported as so many turns, is gone, and is neither reported nor dropped again."""
    store, mine, scribe = await harness.open(), Runner(), Scribe()
    for key in ("a", "b", "c"):
        lease, item = await mine.begin(store, new_item(key))
        await store.append_journal(lease, item.no, [effect("x")])
        await scribe.write(store, mine.commit(scribe, lease, item, key, keep_journal=True))
    times = [each.committed_at_ms for each in await store.list_receipts("s1")]  # the newest first
    same([await store.drop_journals(before_ms=times[0]) for _ in range(2)], [2, 0])
    same([len(await store.load_journal("s1", f"t-{key}")) for key in "abc"], [0, 0, 1])
    same([await store.drop_journals(before_ms=times[0] + 1) for _ in range(2)], [1, 0])
    same(len(await store.list_receipts("s1")), 3)


@CASES.case("B.08", INBOX, JOURNAL, Corruption.ROW_STATUS)
async def _never_an_empty_answer(harness: StoreHarness) -> None:
    """A row that can't be read is there, done and without an outcome: never an answer with less in it.

    Else its effect would be run again; and were it an error for whoever begins the turn, nobody could give that up.
    """
    store, mine = await harness.open(), Runner()
    lease, item = await mine.begin(store, new_item())
    rows = [effect("x"), effect("y")]
    await store.append_journal(lease, item.no, [rows[0]])
    await harness.corrupt(Corruption.ROW_STATUS, "s1")
    await store.append_journal(lease, item.no, [rows[1]])
    damaged = evolve(rows[0], status=JournalStatus.DONE, body=b"", digests=b"")
    for _ in range(2):
        same(list(await store.load_journal("s1", "t-k1")), [damaged, rows[1]])
    with raises(StoreCorrupt):
        await store.append_journal(lease, item.no, [rows[0]])
    await store.release_lease(lease)
    claim = await mine.tried(store)
    same((claim.item.no, list(claim.rows)), (item.no, [damaged, rows[1]]))
    same(await store.drop_journals(before_ms=1 << 62), 0)


@CASES.case("B.10", INBOX, JOURNAL)
async def _waits_out(harness: StoreHarness) -> None:
    """Who waits for a crashed holder is told that it is busy until its lease lapses, and then gets its turn."""
    store, dead, mine = await harness.open(), Runner("dead"), Runner("mine")
    lease, item = await dead.begin(store, new_item(), ttl_ms=20)
    for _ in tries("a lease of 20 ms lapses"):
        claim = await mine.tried(store)
        if claim.tag != "busy":
            break
        same(claim.held, lease)
    same((claim.item.no, claim.displaced), (item.no, lease))


@CASES.case("B.11", INBOX, JOURNAL)
async def _renewing_holder(harness: StoreHarness) -> None:
    """A holder that renews its lease is left alone: whoever asks changes nothing of it."""
    store, mine, theirs = await harness.open(), Runner("mine"), Runner("theirs")
    lease, item = await mine.begin(store, new_item())
    for _ in range(3):
        lease = await store.renew_lease(lease, ttl_ms=LONG)
        same((await theirs.tried(store)).held, lease)
        same((await theirs.tried(store, new_item("k2"))).held, lease)
        same((await store.load_lease("s1"), await listed(store, "s1")), (lease, [item]))


@CASES.case("F.03", INBOX, JOURNAL)
async def _exactly_once(harness: StoreHarness) -> None:
    """Of commits that settle one item at once, through several handles, one is applied; the others are its replays."""
    stores = [await harness.open() for _ in range(2)]
    mine, scribe = Runner(), Scribe()
    lease, item = await mine.begin(stores[0], new_item())
    commit = mine.commit(scribe, lease, item, "one")
    outcomes = await at_once(*(lambda store=store: store.commit(commit) for store in stores * 3))
    replayed = [each.receipt_replayed for each in outcomes if not isinstance(each, Exception)]
    same((len(replayed), replayed.count(False)), (6, 1))
    same(len(await stores[0].list_receipts("s1")), 1)


@CASES.case("F.04", INBOX, JOURNAL)
async def _only_by_reclaim(harness: StoreHarness) -> None:
    """A successor supersedes by beginning the turn anew; that it holds the lease is not enough."""
    store, mine, theirs, scribe = await harness.open(), Runner("mine"), Runner("theirs"), Scribe()
    lease, item = await mine.begin(store, new_item())
    await store.release_lease(lease)
    successor = await theirs.lease(store)
    await scribe.write(store, mine.commit(scribe, lease, item, "one"))
    same((await store.load_lease("s1"), await listed(store, "s1")), (successor, []))
    same((await theirs.tried(store)).item, None)


@CASES.case("F.05", INBOX, JOURNAL)
async def _after_the_head_moved(harness: StoreHarness) -> None:
    """A predecessor is refused for its lost claim also after its successor committed, whichever head it expects."""
    store, mine, theirs, scribe = await harness.open(), Runner("mine"), Runner("theirs"), Scribe()
    lease, item = await mine.begin(store, new_item())
    stale = mine.commit(Scribe(), lease, evolve(item, turn_id="t-another"), "mine")
    await store.release_lease(lease)
    later, again = await theirs.begin(store)
    await scribe.write(store, theirs.commit(scribe, later, again, "theirs"))
    before = await turns_of(store)
    for expected in (0, 1, None):
        with raises(ClaimLost):
            await store.commit(evolve(stale, expected_head_revision=expected))
    same(await turns_of(store), before)
