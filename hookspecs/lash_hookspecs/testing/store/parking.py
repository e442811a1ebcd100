"""Turns that are left: parked for somebody, forgotten, or by a holder that died (group A6)."""

from __future__ import annotations

from typing import Any

from lash_hookspecs.errors import CommitRefused, LeaseLost
from lash_hookspecs.inbox import CancelOutcome, InboxState
from lash_hookspecs.journal_rows import JournalStatus
from lash_hookspecs.stores import Capability
from lash_hookspecs.testing.store.inbox import note
from lash_hookspecs.testing.store.kit import Cases, Need, StoreHarness, raises, same
from lash_hookspecs.testing.store.runner import LONG, Runner, effect, listed, new_item, tries

__all__ = ["CASES"]

CASES = Cases()
INBOX, JOURNAL = Capability.INBOX, Capability.JOURNAL


@CASES.case("A6.07-park", INBOX, JOURNAL)
async def _parked(harness: StoreHarness) -> None:
    """A turn that is left holds no lease and says why; leaving it again as before is fine, anything else is refused."""
    store, mine, theirs = await harness.open(), Runner("mine"), Runner("theirs")
    lease, item = await mine.begin(store, new_item("a"))
    await store.append_journal(lease, item.no, [effect("x")])
    for _ in range(2):
        await store.park_turn(lease, item.no, state=InboxState.BLOCKED, reason="a plugin is gone")
    left = (await listed(store, "s1"))[0]
    same((left.state, left.reason, await store.load_lease("s1")), (InboxState.BLOCKED, "a plugin is gone", None))
    for other in (None, "another reason"):
        with raises(LeaseLost):
            await store.park_turn(lease, item.no, state=InboxState.BLOCKED, reason=other)
    begun = await theirs.tried(store, new_item("b"))
    same((begun.item.no, begun.item.attempts, begun.rows), (item.no, 2, (effect("x"),)))
    with raises(LeaseLost):
        await store.park_turn(lease, item.no, state=InboxState.BLOCKED, reason="a plugin is gone")
    await store.park_turn(begun.lease, item.no)
    left = (await listed(store, "s1"))[0]
    same((left.state, left.reason), (InboxState.SUSPENDED, None))


@CASES.case("A6.07-tried", INBOX, JOURNAL)
async def _tried_again(harness: StoreHarness) -> None:
    """Why a turn can't go on, and how often it tried, is told to whoever takes it up, until an outcome is recorded."""
    store, mine, theirs = await harness.open(), Runner("mine"), Runner("theirs")
    lease, item = await mine.begin(store, new_item("a"))
    for state, vain in ((InboxState.STUCK, 1), (InboxState.BLOCKED, 3)):
        await store.park_turn(lease, item.no, state=state, reason="a plugin is gone", fruitless=vain)
        left = (await listed(store, "s1"))[0]
        same((left.state, left.reason, left.fruitless), (state, "a plugin is gone", vain))
        for _ in range(2):
            tried = await theirs.tried(store)
            same((tried.item.reason, tried.item.fruitless), ("a plugin is gone", vain))
            await store.release_lease(tried.lease)
        lease, item = await mine.begin(store)
    await store.append_journal(lease, item.no, [effect("x", JournalStatus.INTENT)])
    await store.release_lease(lease)
    lease, item = await mine.begin(store)
    same((item.reason, item.fruitless), ("a plugin is gone", 3))
    await store.append_journal(lease, item.no, [effect("x")])
    await store.release_lease(lease)
    for _ in range(2):
        same([((await mine.tried(store)).item.reason), (await listed(store, "s1"))[0].fruitless], [None, 0])


@CASES.case("A6.07-forget", INBOX, JOURNAL)
async def _forgotten(harness: StoreHarness) -> None:
    """A turn that is forgotten is cancelled with its reason and its journal is gone; what it took waits again."""
    store, mine = await harness.open(), Runner()
    lease, item = await mine.begin(store, new_item("a"))
    said = await store.enqueue(note("said"))
    await store.append_journal(lease, item.no, [effect("x")], claims=[said.no])
    for state in (InboxState.PENDING, InboxState.CLAIMED, InboxState.COMPLETED):
        with raises(CommitRefused, "park_state"):
            await store.park_turn(lease, item.no, state=state)
    for _ in range(2):
        await store.park_turn(lease, item.no, state=InboxState.CANCELLED, reason="no such model")
    same((await listed(store, "s1"), await store.load_lease("s1")), ([said], None))
    gone = (await listed(store, "s1", states=frozenset({InboxState.CANCELLED})))[0]
    same((gone.no, gone.cancel_reason, list(await store.load_journal("s1", "t-a"))), (item.no, "no such model", []))
    lease, item = await mine.begin(store)
    same(item.no, said.no)
    for _ in range(2):
        await store.park_turn(lease, item.no, state=InboxState.CANCELLED)
    same(len(await listed(store, "s1", states=frozenset(InboxState))), 1)
    again = await store.enqueue(note("said"))
    same((again.state, again.no > said.no), (InboxState.PENDING, True))
    outcomes = {again.no: CancelOutcome.CANCELLED, item.no: CancelOutcome.UNKNOWN}
    same(await store.cancel_items("s1", [again.no, item.no], None), outcomes)
    same((await store.enqueue(note("said"))).state, InboxState.PENDING)


@CASES.case("A6.05-fruitless", INBOX, JOURNAL)
async def _fruitless(harness: StoreHarness) -> None:
    """Attempts that died without recording anything are counted in a row; a begin that is made again counts once.

    One that let go of its lease, by itself or by parking, didn't die; one that recorded something ends the row.
    """
    store, hosts = await harness.open(), [Runner(f"host{index}") for index in range(7)]
    await hosts[0].lapsed(store, new_item("a"))
    counts = []
    for index, host in enumerate(hosts[1:], 1):
        begin = host.beginning(ttl_ms=LONG)
        begun = await store.begin_turn(begin)
        same(await store.begin_turn(begin), begun)
        counts.append(begun.item.fruitless)
        same((await listed(store, "s1"))[0], begun.item)
        if index == 3:
            await store.append_journal(begun.lease, begun.item.no, [effect("x")])
        if index == 5:
            await store.release_lease(begun.lease)
        else:
            await _let_lapse(store, host, begun.item.no)
    same(counts, [1, 2, 3, 0, 1, 1])


@CASES.case("A6.05-bystander", INBOX, JOURNAL, Need.CLOCK)
async def _bystander(harness: StoreHarness) -> None:
    """Who holds the session without its turn, and dies, is no death of the turn; nor does one hide such a death."""
    store, mine, theirs, other = await harness.open(), Runner("mine"), Runner("theirs"), Runner("other")
    lease, item = await mine.begin(store, new_item("a"))
    await store.release_lease(lease)
    for _ in range(2):
        await other.lease(store)
        harness.advance(LONG)
        begun = await theirs.tried(store)
        same((begun.item.no, begun.item.fruitless, begun.displaced), (item.no, 0, None))
        await store.release_lease(begun.lease)
    dead, _ = await mine.begin(store)
    harness.advance(LONG)
    await store.release_lease(await other.lease(store))
    begin = theirs.beginning(ttl_ms=LONG)
    begun = await store.begin_turn(begin)
    same((begun.item.fruitless, begun.displaced), (1, dead))
    same(await store.begin_turn(begin), begun)
    await store.release_lease(begun.lease)
    begun = await mine.tried(store)
    same((begun.item.fruitless, begun.displaced), (1, None))


async def _let_lapse(store: Any, host: Runner, no: int) -> None:
    """Take our own lease again, for a millisecond, and wait for its end."""
    lease = await host.lease(store, ttl_ms=1)
    for _ in tries("a lease of a millisecond lapses"):
        try:
            await store.append_journal(lease, no, ())
        except LeaseLost:
            break
