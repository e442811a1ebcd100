"""Queued work (group A5): what waits, who gets it, and what a running turn may take.

Here one inbox holds inputs and queued work alike; the kernel lists what waits and claims it by number.
"""

from __future__ import annotations

from typing import Any

import anyio

from lash_hookspecs.errors import ClaimLost, CommitRefused
from lash_hookspecs.inbox import CancelOutcome, InboxItem, InboxState, Ingress
from lash_hookspecs.journal import TurnBegun
from lash_hookspecs.stores import Capability
from lash_hookspecs.testing.store.inbox import ALL, keys, note, states
from lash_hookspecs.testing.store.kit import Cases, Need, Scribe, StoreHarness, raises, same
from lash_hookspecs.testing.store.runner import LONG, Runner, effect, listed, new_item

__all__ = ["CASES"]

CASES = Cases()
NEEDS = (Capability.INBOX, Capability.JOURNAL)


async def _at_once(stores: list[Any], session_id: str = "s1") -> list[Any]:
    """Begin through every handle at the same time, each as another host."""
    made: list[Any] = []

    async def begin(index: int, store: Any) -> None:
        made.append(await Runner(f"host{index}", session_id).tried(store))

    async with anyio.create_task_group() as group:
        for index, store in enumerate(stores):
            group.start_soon(begin, index, store)
    return made


@CASES.case("A5.01", *NEEDS)
async def _listed(harness: StoreHarness) -> None:
    """What is accepted twice is there once, and the list is in order, whatever was done in between."""
    store, mine, scribe = await harness.open(), Runner(), Scribe()
    for key in ("b", "a", "b", "c", "a"):
        await store.enqueue(note(key) if key == "a" else new_item(key))
    same(await keys(store), ["b", "a", "c"])
    lease, item = await mine.begin(store)
    await store.append_journal(lease, item.no, [], claims=[(await listed(store, "s1"))[1].no])
    same(await keys(store), ["b", "a", "c"])
    await scribe.write(store, mine.commit(scribe, lease, item, "x"))
    await store.enqueue(note("d"))
    same(await keys(store), ["a", "c", "d"])
    same([each.source_key for each in await listed(store, "s1", limit=2)], ["a", "c"])
    same([each.source_key for each in await listed(store, "s1", states=ALL)], ["b", "a", "c", "d"])


@CASES.case("A5.02", *NEEDS)
async def _one_order(harness: StoreHarness) -> None:
    """However an item is accepted and whatever it is for, it has its place in one order: lists and turns follow it."""
    store, mine, scribe = await harness.open(), Runner(), Scribe()
    await store.enqueue(note("a"))
    await store.enqueue(new_item("b"))
    lease, item = await mine.begin(store, new_item("c"))
    await store.enqueue(note("d"))
    items = await listed(store, "s1")
    same([each.source_key for each in items], ["a", "b", "c", "d"])
    same([each.no for each in items], sorted(each.no for each in items))
    for key in ("a", "b", "c", "d"):
        same(item.source_key, key)
        await scribe.write(store, mine.commit(scribe, lease, item, key))
        if key != "d":
            lease, item = await mine.begin(store)


@CASES.case("A5.03", *NEEDS)
async def _one_owner(harness: StoreHarness) -> None:
    """Of hosts that begin at once one gets the session and its oldest item, of whichever ingress."""
    stores = [await harness.open() for _ in range(2)]
    for session_id, first, second in (("s1", new_item, note), ("s2", note, new_item)):
        await stores[0].enqueue(first("a", session_id))
        await stores[0].enqueue(second("b", session_id))
        claims = await _at_once(stores * 2, session_id)
        begun = [each.item.source_key for each in claims if isinstance(each, TurnBegun) and each.item is not None]
        same((begun, [each.tag for each in claims].count("busy")), (["a"], 3))


@CASES.case("A5.04", *NEEDS)
async def _cancel_waiting(harness: StoreHarness) -> None:
    """A cancel removes what nobody claimed; what is claimed goes on, or ends as its turn does."""
    store, mine = await harness.open(), Runner()
    lease, item = await mine.begin(store, new_item("runs"))
    taken, waits = await store.enqueue(note("taken")), await store.enqueue(note("waits"))
    await store.append_journal(lease, item.no, [], claims=[taken.no])
    same(
        await store.cancel_items("s1", [item.no, taken.no, waits.no], "no"),
        {item.no: CancelOutcome.REQUESTED, taken.no: CancelOutcome.TAKEN, waits.no: CancelOutcome.CANCELLED},
    )
    same(
        await states(store),
        {"runs": InboxState.CLAIMED, "taken": InboxState.CLAIMED, "waits": InboxState.CANCELLED},
    )
    same(await store.has_pending("s1", Ingress.CHECKPOINT), False)
    same((await mine.tried(store, note("waits"))).item.source_key, "runs")


@CASES.case("A5.05", *NEEDS)
async def _by_number(harness: StoreHarness) -> None:
    """A claim by numbers claims those, in whatever order they are named, and nothing else."""
    store, mine, scribe = await harness.open(), Runner(), Scribe()
    lease, item = await mine.begin(store, new_item("a"))
    notes = [await store.enqueue(note(f"n{index}")) for index in range(5)]
    await store.append_journal(lease, item.no, [], claims=[notes[3].no, notes[1].no, notes[3].no])
    claimed = [each.source_key for each in await listed(store, "s1", states=frozenset({InboxState.CLAIMED}))]
    same(claimed, ["a", "n1", "n3"])
    await scribe.write(store, mine.commit(scribe, lease, item, "x", applied=(notes[1].no, notes[3].no)))
    same(await keys(store), ["n0", "n2", "n4"])


@CASES.case("A5.06", *NEEDS)
async def _no_gap_is_skipped(harness: StoreHarness) -> None:
    """A claim that names its items in any order keeps theirs; where one isn't to be had, it takes none."""
    store, mine = await harness.open(), Runner()
    lease, item = await mine.begin(store, new_item("a"))
    nos = [(await store.enqueue(note(f"n{index}"))).no for index in range(4)]
    await store.cancel_items("s1", [nos[2]], "a gap")
    for claims in (nos, nos[::-1], [nos[3], nos[2]]):
        with raises(ClaimLost):
            await store.append_journal(lease, item.no, [effect("x")], claims=claims)
    same({each.state for each in (await listed(store, "s1"))[1:]}, {InboxState.PENDING})
    await store.append_journal(lease, item.no, [], claims=[nos[3], nos[0], nos[1]])
    same(await _of_turn(store, "t-a"), ["a", "n0", "n1", "n3"])


@CASES.case("A5.08", *NEEDS)
async def _boundaries(harness: StoreHarness) -> None:
    """What is for a turn of its own can't be taken at a checkpoint; what is for a checkpoint can be a turn."""
    store, mine, scribe = await harness.open(), Runner(), Scribe()
    lease, item = await mine.begin(store, new_item("a"))
    own, said = await store.enqueue(new_item("own")), await store.enqueue(note("said"))
    with raises(ClaimLost):
        await store.append_journal(lease, item.no, [], claims=[said.no, own.no])
    same({each.state for each in (await listed(store, "s1"))[1:]}, {InboxState.PENDING})
    await scribe.write(store, mine.commit(scribe, lease, item, "x"))
    for key in ("own", "said"):
        same([await store.has_pending("s1", each) for each in Ingress], [True, True])
        lease, item = await mine.begin(store)
        same((item.source_key, item.ingress is Ingress.CHECKPOINT), (key, key == "said"))
        await scribe.write(store, mine.commit(scribe, lease, item, "x"))
    same([await store.has_pending("s1", each) for each in Ingress], [False, False])


@CASES.case("A5.09", *NEEDS)
async def _reclaimed(harness: StoreHarness) -> None:
    """A new generation claims what its predecessor had, and then the predecessor can complete none of it."""
    store, mine, theirs, scribe = await harness.open(), Runner("mine"), Runner("theirs"), Scribe()
    lease, item = await mine.begin(store, new_item("a"))
    said = await store.enqueue(note("said"))
    await store.append_journal(lease, item.no, [effect("checkpoint")], claims=[said.no])
    await store.release_lease(lease)
    later, again = await theirs.begin(store)
    for applied in ((), (said.no,)):
        with raises(ClaimLost):
            await store.commit(mine.commit(scribe, lease, item, "x", applied=applied))
    await scribe.write(store, theirs.commit(scribe, later, again, "x", applied=(said.no,)))
    same(await keys(store), [])


@CASES.case("A5.10", *NEEDS)
async def _without_a_lease(harness: StoreHarness) -> None:
    """Who holds no lease sees a dead holder's item as claimed, and a cancel asks its turn to end, whoever runs it.

    The turn may have done things, which its commit must tell of: so its item doesn't go back to those that wait.
    """
    store, mine, theirs = await harness.open(), Runner("mine"), Runner("theirs")
    _, item = await mine.lapsed(store, new_item("a"))
    same(await states(store), {"a": InboxState.CLAIMED})
    same(await store.has_pending("s1", Ingress.NEXT_TURN), False)
    same(await store.cancel_items("s1", [item.no], "enough"), {item.no: CancelOutcome.REQUESTED})
    same((await theirs.begin(store))[1].cancel_reason, "enough")


@CASES.case("A5.11", *NEEDS)
async def _behind_many(harness: StoreHarness) -> None:
    """An item is found behind many that can't be delivered now."""
    store, mine = await harness.open(), Runner()
    for index in range(300):
        await store.enqueue(new_item(f"later{index}", available_at_ms=1 << 60))
    same([await store.has_pending("s1", each) for each in Ingress], [False, False])
    await store.enqueue(note("said"))
    same([await store.has_pending("s1", each) for each in Ingress], [True, True])
    same((await mine.begin(store))[1].source_key, "said")


@CASES.case("A5.12", *NEEDS)
async def _exclusive(harness: StoreHarness) -> None:
    """An item is one turn's: it can't be taken by another turn, by the item's own one, or from another session."""
    store, mine, other = await harness.open(), Runner(), Runner(session_id="s2")
    lease, item = await mine.begin(store, new_item("a"))
    theirs, their_item = await other.begin(store, new_item("a", "s2"))
    said = await store.enqueue(note("said"))
    for no in (item.no, their_item.no, 10**9):
        with raises(ClaimLost):
            await store.append_journal(lease, item.no, [effect("x")], claims=[no])
    with raises(ClaimLost):
        await store.append_journal(theirs, their_item.no, [], claims=[said.no])
    await store.append_journal(lease, item.no, [], claims=[said.no])
    await store.park_turn(lease, item.no)
    same(list(await store.load_journal("s1", "t-a")), [])
    same((await store.load_lease("s2")), theirs)


@CASES.case("A5.14", *NEEDS)
async def _composition(harness: StoreHarness) -> None:
    """An interrupted turn is begun again with what it took, and without what came since."""
    store, mine, theirs, scribe = await harness.open(), Runner("mine"), Runner("theirs"), Scribe()
    lease, item = await mine.begin(store, new_item("a"))
    took = [await store.enqueue(note(f"n{index}")) for index in range(3)]
    await store.append_journal(lease, item.no, [effect("checkpoint")], claims=[each.no for each in took])
    await store.release_lease(lease)
    await store.enqueue(note("since"))
    begun = await theirs.tried(store)
    same((begun.item.no, begun.rows), (item.no, (effect("checkpoint"),)))
    same(await _of_turn(store, "t-a"), ["a", "n0", "n1", "n2"])
    applied = tuple(each.no for each in took)
    await scribe.write(store, theirs.commit(scribe, begun.lease, begun.item, "x", applied=applied))
    same(await keys(store), ["since"])


async def _of_turn(store: Any, turn_id: str) -> list[str]:
    claimed = await listed(store, "s1", states=frozenset({InboxState.CLAIMED}))
    return [each.source_key for each in claimed if each.turn_id == turn_id]


@CASES.case("A5.15", *NEEDS, Need.CLOCK)
async def _deferred(harness: StoreHarness) -> None:
    """What is for later isn't delivered before its time, and can be told from nothing: it is listed with its time."""
    store, mine = await harness.open(), Runner()
    lease, item = await mine.begin(store, new_item("a"))
    begun_at = lease.claimed_at_ms
    later = await store.enqueue(note("later", available_at_ms=begun_at + 2 * LONG))
    same([await store.has_pending("s1", each) for each in Ingress], [False, False])
    with raises(ClaimLost):
        await store.append_journal(lease, item.no, [], claims=[later.no])
    same((await listed(store, "s1"))[1], later)
    harness.advance(2 * LONG)
    same([await store.has_pending("s1", each) for each in Ingress], [True, True])
    lease, item = await mine.begin(store)
    await store.append_journal(lease, item.no, [], claims=[later.no])


@CASES.case("A5.16", *NEEDS)
async def _across_a_gap(harness: StoreHarness) -> None:
    """A turn that was begun comes before items that were accepted before it and wait."""
    store, mine, theirs = await harness.open(), Runner("mine"), Runner("theirs")
    skipped = await store.enqueue(new_item("skipped", available_at_ms=1 << 60))
    lease, item = await mine.begin(store, new_item("a"))
    same(skipped.no < item.no, True)
    await store.enqueue(note("after"))
    await store.park_turn(lease, item.no)
    same((await theirs.begin(store, new_item("b")))[1].source_key, "a")


@CASES.case("A5.16-taken", *NEEDS, Need.CLOCK)
async def _taken_is_no_turn(harness: StoreHarness) -> None:
    """What a turn took is no turn of its own, also if it was accepted before the one that is begun again."""
    store, mine, theirs = await harness.open(), Runner("mine"), Runner("theirs")
    first = await store.enqueue(note("later", available_at_ms=(await _now(store)) + LONG))
    lease, item = await mine.begin(store, new_item("a"), ttl_ms=3 * LONG)
    harness.advance(LONG)
    await store.append_journal(lease, item.no, [effect("checkpoint")], claims=[first.no])
    await store.release_lease(lease)
    same((first.no < item.no, (await theirs.begin(store))[1].source_key), (True, "a"))


async def _now(store: Any) -> int:
    """The store's time, which a lease tells."""
    lease = await Runner(session_id="s2").lease(store)
    return lease.claimed_at_ms


@CASES.case("A5.20", *NEEDS)
async def _all_or_nothing(harness: StoreHarness) -> None:
    """A claim of several takes all or none, and says which were not to be had; what a turn leaves waits again."""
    store, mine, scribe = await harness.open(), Runner(), Scribe()
    lease, item = await mine.begin(store, new_item("a"))
    good, gone = await store.enqueue(note("good")), await store.enqueue(note("gone"))
    await store.cancel_items("s1", [gone.no], "no")
    try:
        await store.append_journal(lease, item.no, [effect("x")], claims=[good.no, gone.no])
    except ClaimLost as error:
        same((error.session_id, error.nos), ("s1", (gone.no,)))
    else:
        raise AssertionError("a cancelled item was claimed")
    same((await states(store))["good"], InboxState.PENDING)
    same(list(await store.load_journal("s1", "t-a")), [])
    await store.append_journal(lease, item.no, [], claims=[good.no])
    await scribe.write(store, mine.commit(scribe, lease, item, "x"))
    same(await listed(store, "s1"), [good])


@CASES.case("A5.22", *NEEDS)
async def _ownership(harness: StoreHarness) -> None:
    """A commit completes only what its turn has: not what waits, what is another session's, or what isn't there."""
    store, mine, other, scribe = await harness.open(), Runner(), Runner(session_id="s2"), Scribe()
    lease, item = await mine.begin(store, new_item("a"))
    _, their_item = await other.begin(store, new_item("a", "s2"))
    waits = await store.enqueue(note("waits"))
    for no in (waits.no, their_item.no, 10**9):
        with raises(ClaimLost):
            await store.commit(mine.commit(scribe, lease, item, "x", applied=(no,)))
    same(await states(store), {"a": InboxState.CLAIMED, "waits": InboxState.PENDING})
    same(await states(store, "s2"), {"a": InboxState.CLAIMED})


@CASES.case("A5.23", *NEEDS)
async def _wakes(harness: StoreHarness) -> None:
    """A wake that is delivered by several at once is accepted once, and claimed once."""
    stores = [await harness.open() for _ in range(2)]
    accepted: list[InboxItem] = []

    async def wake(store: Any) -> None:
        accepted.append(await store.enqueue(note("wake-1")))

    async with anyio.create_task_group() as group:
        for store in stores * 3:
            group.start_soon(wake, store)
    same(accepted, [accepted[0]] * 6)
    begun = [each.item for each in await _at_once(stores * 2) if isinstance(each, TurnBegun)]
    same([each.no for each in begun if each is not None], [accepted[0].no])
    same((await stores[0].enqueue(note("wake-1"))).state, InboxState.CLAIMED)


@CASES.case("A5.24", *NEEDS)
async def _together(harness: StoreHarness) -> None:
    """A checkpoint takes what waits together with its record, once: the same call again is the same."""
    store, mine = await harness.open(), Runner()
    lease, item = await mine.begin(store, new_item("a"))
    nos = [(await store.enqueue(note(key))).no for key in ("input", "work")]
    for _ in range(2):
        await store.append_journal(lease, item.no, [effect("checkpoint")], claims=nos)
    same(await _of_turn(store, "t-a"), ["a", "input", "work"])
    same([row.label for row in await store.load_journal("s1", "t-a")], ["checkpoint"])


@CASES.case("A5.25", *NEEDS, Need.CLOCK)
async def _at_every_checkpoint(harness: StoreHarness) -> None:
    """At each checkpoint of a turn what isn't for it, or not yet, is neither told of nor to be had."""
    store, mine = await harness.open(), Runner()
    lease, item = await mine.begin(store, new_item("a"), ttl_ms=9 * LONG)
    begun_at = lease.claimed_at_ms
    own = await store.enqueue(new_item("own"))
    later = [await store.enqueue(note(f"n{at}", available_at_ms=begun_at + at * LONG)) for at in (1, 2)]
    for checkpoint in range(4):
        due = [each for each in later if each.available_at_ms <= begun_at + checkpoint * LONG]
        same(await store.has_pending("s1", Ingress.CHECKPOINT), bool(due))
        for each in {own.no, *(each.no for each in later)} - {each.no for each in due}:
            with raises(ClaimLost):
                await store.append_journal(lease, item.no, [effect("x")], claims=[each])
        await store.append_journal(lease, item.no, [effect(f"{checkpoint}")], claims=[each.no for each in due])
        later = [each for each in later if each not in due]
        harness.advance(LONG)
    same(await _of_turn(store, "t-a"), ["a", "n1", "n2"])


@CASES.case("A5.26", *NEEDS)
async def _rolled_back(harness: StoreHarness) -> None:
    """A checkpoint whose record is refused takes nothing either."""
    store, mine = await harness.open(), Runner()
    lease, item = await mine.begin(store, new_item("a"))
    said = await store.enqueue(note("said"))
    with raises(CommitRefused, "journal_row"):
        await store.append_journal(lease, item.no, [effect("x", envelope_hash="none")], claims=[said.no])
    same((await states(store))["said"], InboxState.PENDING)
