"""Stored numbers and states that can't be (group E)."""

from __future__ import annotations

from lash_hookspecs.errors import (
    CommitRefused,
    StoreCorrupt,
)
from lash_hookspecs.stores import Capability
from lash_hookspecs.testing.store.inbox import ALL
from lash_hookspecs.testing.store.kit import (
    INT_MAX,
    Call,
    Cases,
    Corruption,
    Scribe,
    StoreHarness,
    raises,
    same,
)
from lash_hookspecs.testing.store.runner import LONG, Runner, effect, listed, new_item

__all__ = ["CASES"]

CASES = Cases()
INBOX, JOURNAL = Capability.INBOX, Capability.JOURNAL


@CASES.case("E.01", INBOX, JOURNAL, Corruption.ITEM_GENERATION)
async def _claim_fence(harness: StoreHarness) -> None:
    """A claim with a negative generation is corrupt, for those who list, begin, record and settle."""
    await _damaged_item(harness, Corruption.ITEM_GENERATION)


@CASES.case("E.01-state", INBOX, JOURNAL, Corruption.ITEM_STATE)
async def _item_state(harness: StoreHarness) -> None:
    """An item in a state that doesn't exist is corrupt where it is met, and is nobody's turn."""
    store, mine = await harness.open(), Runner()
    lease, item = await mine.begin(store, new_item())
    await harness.corrupt(Corruption.ITEM_STATE, "s1")
    with raises(StoreCorrupt):
        await store.append_journal(lease, item.no, [effect("a")])
    with raises(StoreCorrupt):
        await store.enqueue(new_item())
    with raises(StoreCorrupt):
        await store.cancel_items("s1", [item.no], "no")


async def _damaged_item(harness: StoreHarness, kind: Corruption) -> None:
    store, mine, scribe = await harness.open(), Runner(), Scribe()
    lease, item = await mine.begin(store, new_item())
    await harness.corrupt(kind, "s1")
    with raises(StoreCorrupt):
        await store.list_inbox("s1")
    with raises(StoreCorrupt):
        await mine.tried(store)
    with raises(StoreCorrupt):
        await store.append_journal(lease, item.no, [effect("a")])
    with raises(StoreCorrupt):
        await store.commit(mine.commit(scribe, lease, item, "x"))
    same(await store.load_revision("s1"), 0)


@CASES.case("E.02", INBOX, JOURNAL, Corruption.HEAD_REVISION)
async def _head_revision(harness: StoreHarness) -> None:
    """A negative revision of the head is corrupt, for those who begin, commit, append and load."""
    store, mine, scribe = await harness.open(), Runner(), Scribe()
    await scribe.write(store, scribe.turn("x"))
    lease, item = await mine.begin(store, new_item())
    await harness.corrupt(Corruption.HEAD_REVISION, "s1")
    calls: list[Call] = [
        lambda: mine.tried(store),
        lambda: store.commit(mine.commit(scribe, lease, item, "y")),
        lambda: store.commit(scribe.append("z")),
        lambda: store.load_session("s1"),
        lambda: store.load_revision("s1"),
    ]
    for call in calls:
        with raises(StoreCorrupt):
            await call()


@CASES.case("E.03", JOURNAL, Corruption.LEASE_GENERATION)
async def _lease_fence(harness: StoreHarness) -> None:
    """A lease with a negative generation is corrupt, for those who claim, renew, look, record and load."""
    await _damaged_lease(harness, Corruption.LEASE_GENERATION)


@CASES.case("E.03-holder", JOURNAL, Corruption.LEASE_HOLDER)
async def _lease_holder(harness: StoreHarness) -> None:
    """A lease whose holder can't be read is corrupt: nobody takes the session as free."""
    await _damaged_lease(harness, Corruption.LEASE_HOLDER)


async def _damaged_lease(harness: StoreHarness, kind: Corruption) -> None:
    store, mine = await harness.open(), Runner()
    lease, item = await mine.begin(store, new_item())
    await harness.corrupt(kind, "s1")
    calls: list[Call] = [
        lambda: mine.claim(store),
        lambda: mine.tried(store),
        lambda: store.renew_lease(lease, ttl_ms=LONG),
        lambda: store.release_lease(lease),
        lambda: store.load_lease("s1"),
        lambda: store.append_journal(lease, item.no, [effect("a")]),
        lambda: store.load_session("s1"),
    ]
    for call in calls:
        with raises(StoreCorrupt):
            await call()


@CASES.case("E.04", INBOX, JOURNAL)
async def _fences_advance(harness: StoreHarness) -> None:
    """Each session counts its own generations, and each item keeps that of its own claim."""
    store, mine, other = await harness.open(), Runner(), Runner(session_id="s2")
    scribe = Scribe()
    for generation in (1, 2, 3):
        lease, item = await mine.begin(store, new_item(f"k{generation}"))
        same((lease.generation, item.claim_generation), (generation, generation))
        await scribe.write(store, mine.commit(scribe, lease, item, "x"))
    same((await other.begin(store, new_item("k1", "s2")))[0].generation, 1)
    done = await listed(store, "s1", states=ALL)
    same([(each.source_key, each.claim_generation) for each in done], [("k1", 1), ("k2", 2), ("k3", 3)])


@CASES.case("E.05", JOURNAL, Corruption.LEASE_SPENT)
async def _spent(harness: StoreHarness) -> None:
    """The last generation doesn't wrap: the session takes no more claims, and what it holds can still be read."""
    store, mine = await harness.open(), Runner()
    lease = await mine.lease(store)
    await store.release_lease(lease)
    await harness.corrupt(Corruption.LEASE_SPENT, "s1")
    with raises(CommitRefused, "integer_range"):
        await mine.claim(store)
    with raises(CommitRefused, "integer_range"):
        await mine.tried(store, new_item())
    same((await store.load_lease("s1"), await listed(store, "s1")), (None, []))


@CASES.case("E.07", INBOX, JOURNAL)
async def _write_domain(harness: StoreHarness) -> None:
    """A number that 64 bits don't hold is refused, wherever it would be stored."""
    store, mine = await harness.open(), Runner()
    lease, item = await mine.begin(store, new_item())
    calls: list[Call] = [
        lambda: store.enqueue(new_item("a", accepted_at_ms=1 << 63)),
        lambda: store.enqueue(new_item("a", available_at_ms=1 << 63)),
        lambda: mine.tried(store, new_item("a", accepted_at_ms=-(1 << 64))),
        lambda: mine.claim(store, ttl_ms=1 << 63),
        lambda: mine.tried(store, ttl_ms=INT_MAX),
        lambda: store.renew_lease(lease, ttl_ms=INT_MAX),
        lambda: store.renew_lease(lease, ttl_ms=0),
    ]
    for call in calls:
        with raises(CommitRefused, "integer_range"):
            await call()
    same((await listed(store, "s1"), await store.load_lease("s1")), ([item], lease))
