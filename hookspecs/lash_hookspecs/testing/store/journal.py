"""The journal (group L, as far as a store is concerned)."""

from __future__ import annotations

from typing import Any

import anyio
from attrs import evolve

from lash_hookspecs.errors import (
    ClaimLost,
    CommitRefused,
    LeaseLost,
    SessionMismatch,
    StoreCorrupt,
)
from lash_hookspecs.inbox import InboxState
from lash_hookspecs.journal_rows import JournalStatus
from lash_hookspecs.stores import Capability
from lash_hookspecs.testing.store.inbox import ALL, note
from lash_hookspecs.testing.store.kit import (
    Cases,
    Need,
    Scribe,
    StoreHarness,
    raises,
    same,
)
from lash_hookspecs.testing.store.runner import LONG, Runner, effect, listed, new_item

__all__ = ["CASES"]

CASES = Cases()
INBOX, JOURNAL = Capability.INBOX, Capability.JOURNAL


@CASES.case("L.01", JOURNAL)
async def _replayed(harness: StoreHarness) -> None:
    """A turn's rows come back as they were written and in order, outcomes and errors, to who begins it anew."""
    store, mine = await harness.open(), Runner()
    rows = [
        effect("one", kind="llm_call", digests=b'{"a":"1"}', label=""),
        effect("two", JournalStatus.FAILED, b"\x00error"),
        effect("three", JournalStatus.INTENT, b""),
    ]
    lease, item = await mine.begin(store, new_item())
    await store.append_journal(lease, item.no, rows[:1])
    await store.append_journal(lease, item.no, rows[1:])
    same(list(await store.load_journal("s1", "t-k1")), rows)
    await store.release_lease(lease)
    begun = await mine.tried(store)
    same((begun.item.no, list(begun.rows)), (item.no, rows))
    same(list(await store.load_journal("s1", "t-other")), [])
    same(list(await store.load_journal("nobody", "t-k1")), [])


@CASES.case("L.01-intent", JOURNAL)
async def _intents(harness: StoreHarness) -> None:
    """An outcome stands in its intent's place, so that effects that were started together keep their order."""
    store, mine = await harness.open(), Runner()
    lease, item = await mine.begin(store, new_item())
    intents = [effect(name, JournalStatus.INTENT) for name in ("a", "b")]
    await store.append_journal(lease, item.no, intents)
    await store.append_journal(lease, item.no, [effect("b"), effect("c")])
    await store.append_journal(lease, item.no, [effect("a", JournalStatus.FAILED)])
    rows = await store.load_journal("s1", "t-k1")
    same(list(rows), [effect("a", JournalStatus.FAILED), effect("b"), effect("c")])


@CASES.case("L.01-later", JOURNAL)
async def _synced_later(harness: StoreHarness) -> None:
    """What may be synced later is there at once all the same, for everybody, in order, and under the same fence."""
    store, mine = await harness.open(), Runner()
    lease, item = await mine.begin(store, new_item(), synced=False)
    with raises(LeaseLost):
        await store.append_journal(evolve(lease, session_id="s2"), item.no, [effect("a")], synced=False)
    await store.append_journal(lease, item.no, [effect("a", JournalStatus.INTENT)])
    await store.append_journal(lease, item.no, [effect("a")], synced=False)
    await store.append_journal(lease, item.no, [effect("a"), effect("b")], synced=False)  # its answer was lost
    same(list(await store.load_journal("s1", "t-k1")), [effect("a"), effect("b")])
    for _ in range(2):
        await store.sync(wait=False)
        await store.sync()
    await store.append_journal(lease, item.no, [effect("c")])
    same(list(await store.load_journal("s1", "t-k1")), [effect("a"), effect("b"), effect("c")])


@CASES.case("L.01-again", JOURNAL)
async def _appended_again(harness: StoreHarness) -> None:
    """Rows whose answer was lost may be written again by their holder: identical ones are there once."""
    store, mine = await harness.open(), Runner()
    lease, item = await mine.begin(store, new_item())
    await store.append_journal(lease, item.no, [effect("a", JournalStatus.INTENT)])
    rows = [effect("a"), effect("b")]
    for _ in range(3):
        await store.append_journal(lease, item.no, rows)
    same(list(await store.load_journal("s1", "t-k1")), rows)
    taken = await store.enqueue(note("n"))
    for _ in range(2):
        await store.append_journal(lease, item.no, [effect("c")], claims=[taken.no])
    same(len(await store.load_journal("s1", "t-k1")), 3)


@CASES.case("L.02", JOURNAL)
async def _recorded_twice(harness: StoreHarness) -> None:
    """A key with a recorded outcome takes no other, of this generation or a later; nothing of the batch is written."""
    store, mine = await harness.open(), Runner()
    lease, item = await mine.begin(store, new_item())
    await store.append_journal(lease, item.no, [effect("a")])
    for other in (effect("a", body=b"other"), effect("a", JournalStatus.INTENT), effect("a", envelope_hash="0" * 64)):
        with raises(StoreCorrupt):
            await store.append_journal(lease, item.no, [effect("b"), other])
    await store.release_lease(lease)
    later, item = await mine.begin(store)
    with raises(StoreCorrupt):
        await store.append_journal(later, item.no, [effect("a")])
    same(list(await store.load_journal("s1", "t-k1")), [effect("a")])


@CASES.case("L.03", JOURNAL)
async def _retired(harness: StoreHarness) -> None:
    """A turn's commit retires its journal and no other; with `keep_journal` it stays, last rows too, till dropped."""
    store, scribes = await harness.open(), {name: Scribe(name) for name in ("s1", "s2", "s3")}
    runners = {name: Runner(session_id=name) for name in scribes}
    begun = {name: await each.begin(store, new_item("k1", name)) for name, each in runners.items()}
    for lease, item in begun.values():
        await store.append_journal(lease, item.no, [effect("a"), effect("b", JournalStatus.INTENT)])
    options: dict[str, dict[str, Any]] = {"s1": {}, "s2": {"keep_journal": True, "rows": (effect("b"), effect("c"))}}
    for name, changes in options.items():
        await scribes[name].write(store, runners[name].commit(scribes[name], *begun[name], "x", **changes))
    labels = {name: [row.label for row in await store.load_journal(name, "t-k1")] for name in scribes}
    same(labels, {"s1": [], "s2": ["a", "b", "c"], "s3": ["a", "b"]})
    kept = (await listed(store, "s2", states=ALL))[0]
    same((kept.state, kept.payload), (InboxState.COMPLETED, b"hello"))
    same(await store.drop_journals(before_ms=1 << 62), 2)
    same([len(await store.load_journal(name, "t-k1")) for name in scribes], [0, 0, 2])


@CASES.case("L.05", JOURNAL)
async def _metadata(harness: StoreHarness) -> None:
    """Two turns' journals with the same keys are apart, and each row keeps its kind, label and digests."""
    store, scribe, mine = await harness.open(), Scribe(), Runner()
    first = await mine.begin(store, new_item("a"))
    await store.append_journal(first[0], first[1].no, [effect("x", kind="sleep", digests=b"1", label="nap")])
    await scribe.write(store, mine.commit(scribe, *first, "one", keep_journal=True))
    second = await mine.begin(store, new_item("b"))
    await store.append_journal(second[0], second[1].no, [effect("x", kind="direct", digests=b"2", label="ask")])
    same(
        [(row.kind, row.label, row.digests) for turn in ("t-a", "t-b") for row in await store.load_journal("s1", turn)],
        [("sleep", "nap", b"1"), ("direct", "ask", b"2")],
    )


@CASES.case("L.06", JOURNAL)
async def _missing_ids(harness: StoreHarness) -> None:
    """Rows without a proper key or hash are refused, as are an item that isn't there and a claim without a nonce."""
    store, mine = await harness.open(), Runner()
    lease, item = await mine.begin(store, new_item())
    bad = [evolve(effect("bad"), key=key) for key in ("", "ab", "G" * 64)]
    for row in (*bad, evolve(effect("bad"), envelope_hash="")):
        with raises(CommitRefused, "journal_row"):
            await store.append_journal(lease, item.no, [effect("fine"), row])
    with raises(ClaimLost):
        await store.append_journal(lease, item.no + 1, [effect("a")])
    same(list(await store.load_journal("s1", "t-k1")), [])
    with raises(CommitRefused, "nonce"):
        await mine.tried(store, new_item("b"), nonce="")
    with raises(CommitRefused, "source_key"):
        await store.enqueue(new_item(""))


@CASES.case("L.07", JOURNAL)
async def _other_sessions(harness: StoreHarness) -> None:
    """An item's journal can be written with its own session's lease only."""
    store, mine, other = await harness.open(), Runner(), Runner(session_id="s2")
    lease, item = await mine.begin(store, new_item())
    theirs, their_item = await other.begin(store, new_item("k1", "s2"))
    for held, no in ((lease, their_item.no), (theirs, item.no)):
        with raises(ClaimLost):
            await store.append_journal(held, no, [effect("a")])
    with raises(CommitRefused, "session_id"):
        await mine.tried(store, new_item("k2", "s2"))
    scribe = Scribe()
    with raises(SessionMismatch):
        await store.commit(mine.commit(scribe, theirs, item, "x"))


@CASES.case("L.15", JOURNAL)
async def _at_once(harness: StoreHarness) -> None:
    """Rows of effects that end at the same time are all there once, each batch together and in its order."""
    stores = [await harness.open(), await harness.open()]
    lease, item = await Runner().begin(stores[0], new_item())

    async def append(index: int, store: Any) -> None:
        await store.append_journal(lease, item.no, [effect(f"{index}-{part}") for part in "abc"])

    async with anyio.create_task_group() as group:
        for index, store in enumerate(stores * 4):
            group.start_soon(append, index, store)
    labels = [row.label for row in await stores[0].load_journal("s1", "t-k1")]
    batches = [labels[at : at + 3] for at in range(0, len(labels), 3)]
    same(sorted(batches), [[f"{index}-{part}" for part in "abc"] for index in range(8)])


@CASES.case("L.17", JOURNAL, Need.CLOCK)
async def _renewed(harness: StoreHarness) -> None:
    """A turn that renews its lease goes on beyond the first expiry, and is nobody else's meanwhile."""
    store, mine, theirs, scribe = await harness.open(), Runner("mine"), Runner("theirs"), Scribe()
    lease, item = await mine.begin(store, new_item())
    for step in range(5):
        harness.advance(LONG // 2)
        lease = await store.renew_lease(lease, ttl_ms=LONG)
        await store.append_journal(lease, item.no, [effect(f"{step}")])
        same((await theirs.claim(store)).held, lease)
    await scribe.write(store, mine.commit(scribe, lease, item, "one"))


@CASES.case("L.18", JOURNAL, Need.CLOCK)
async def _stolen(harness: StoreHarness) -> None:
    """A stolen lease is told to its former holder at the next write, whichever it is."""
    store, mine, theirs = await harness.open(), Runner("mine"), Runner("theirs")
    lease, item = await mine.begin(store, new_item())
    harness.advance(LONG)
    stolen = await theirs.tried(store)
    same((stolen.displaced, stolen.item.no), (lease, item.no))
    with raises(LeaseLost):
        await store.append_journal(lease, item.no, [effect("a")])
    with raises(LeaseLost):
        await store.renew_lease(lease, ttl_ms=LONG)
    with raises(LeaseLost):
        await store.park_turn(lease, item.no)
    same(await store.release_lease(lease), False)
    same(await store.load_lease("s1"), stolen.lease)


@CASES.case("L.19", JOURNAL, Need.CLOCK)
async def _after_expiry(harness: StoreHarness) -> None:
    """After its lease lapsed a holder can write no outcome, although nobody took over: somebody may be about to."""
    store, mine = await harness.open(), Runner()
    lease, item = await mine.begin(store, new_item())
    await store.append_journal(lease, item.no, [effect("a", JournalStatus.INTENT)])
    harness.advance(LONG)
    with raises(LeaseLost):
        await store.append_journal(lease, item.no, [effect("a")])
    same(list(await store.load_journal("s1", "t-k1")), [effect("a", JournalStatus.INTENT)])


@CASES.case("L.20", JOURNAL, Need.CLOCK)
async def _reclaimed(harness: StoreHarness) -> None:
    """An expired lease's turn is taken over with its journal, and goes on where that ends."""
    store, mine, theirs, scribe = await harness.open(), Runner("mine"), Runner("theirs"), Scribe()
    lease, item = await mine.begin(store, new_item())
    await store.append_journal(lease, item.no, [effect("a"), effect("b", JournalStatus.INTENT)])
    harness.advance(LONG)
    begun = await theirs.tried(store)
    same([row.label for row in begun.rows], ["a", "b"])
    await store.append_journal(begun.lease, item.no, [effect("b"), effect("c")])
    same(list(await store.load_journal("s1", "t-k1")), [effect("a"), effect("b"), effect("c")])
    await scribe.write(store, theirs.commit(scribe, begun.lease, begun.item, "one"))
