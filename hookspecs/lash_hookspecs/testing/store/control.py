"""Being told to end: cancels beside everything else that becomes of a turn (group L, turn control)."""

from __future__ import annotations

from typing import Any

import anyio

from lash_hookspecs.errors import SessionDeleted
from lash_hookspecs.inbox import CancelOutcome, InboxState
from lash_hookspecs.stores import Capability
from lash_hookspecs.testing.store.inbox import keys, note, states
from lash_hookspecs.testing.store.kit import Call, Cases, Scribe, StoreHarness, raises, same
from lash_hookspecs.testing.store.runner import Runner, effect, listed, new_item

__all__ = ["CASES"]

CASES = Cases()
INBOX, JOURNAL = Capability.INBOX, Capability.JOURNAL


@CASES.case("L.56", INBOX, JOURNAL)
async def _asked_before_it_goes_on(harness: StoreHarness) -> None:
    """A cancel that nobody hears yet is told to whoever begins the turn anew, each time, and to who asks meanwhile."""
    store, mine, theirs = await harness.open(), Runner("mine"), Runner("theirs")
    lease, item = await mine.begin(store, new_item())
    await store.append_journal(lease, item.no, [effect("x")])
    await store.release_lease(lease)
    same(await store.cancel_items("s1", [item.no], "enough"), {item.no: CancelOutcome.REQUESTED})
    begin = theirs.beginning()
    for _ in range(2):
        begun = await store.begin_turn(begin)
        same((begun.item.no, begun.item.cancel_reason, begun.rows), (item.no, "enough", (effect("x"),)))
        same(await store.cancel_requested(begun.lease, item.no), "enough")
    waits = await store.enqueue(note("waits"))
    same(await store.cancel_items("s1", [waits.no], "enough"), {waits.no: CancelOutcome.CANCELLED})
    same((await theirs.tried(store, note("waits"))).item.no, item.no)  # what was cancelled before it began never does


@CASES.case("L.57", INBOX, JOURNAL)
async def _cancel_or_commit(harness: StoreHarness) -> None:
    """Of a cancel and a commit at once the first one wins, and both sides are told the same."""
    for number in range(8):
        stores = [await harness.open() for _ in range(2)]
        mine, scribe = Runner(session_id=f"s{number}"), Scribe(f"s{number}")
        lease, item = await mine.begin(stores[0], new_item("k", mine.session_id))
        told: list[Any] = []

        async def commit(
            store: Any = stores[0], mine: Runner = mine, scribe: Scribe = scribe, held: Any = (lease, item)
        ) -> None:
            await scribe.write(store, mine.commit(scribe, *held, "x"))

        async def cancel(
            store: Any = stores[1], no: int = item.no, mine: Runner = mine, told: list[Any] = told
        ) -> None:
            told.append((await store.cancel_items(mine.session_id, [no], "enough"))[no])

        async with anyio.create_task_group() as group:
            for call in (commit, cancel)[:: 1 if number % 2 else -1]:
                group.start_soon(call)
        same(told[0] in (CancelOutcome.REQUESTED, CancelOutcome.COMPLETED), True)
        done = await listed(stores[0], mine.session_id, states=frozenset({InboxState.COMPLETED}))
        same([each.cancel_reason for each in done], ["enough" if told[0] is CancelOutcome.REQUESTED else None])
        again = await stores[1].cancel_items(mine.session_id, [item.no], "late")
        same(again, {item.no: CancelOutcome.COMPLETED})


@CASES.case("L.58", INBOX, JOURNAL)
async def _only_its_own(harness: StoreHarness) -> None:
    """A cancel reaches its own session's items and no other's, one by one or from an anchor on."""
    store, mine, other = await harness.open(), Runner(), Runner(session_id="s2")
    lease, item = await mine.begin(store, new_item("a"))
    their_lease, their_item = await other.begin(store, new_item("a", "s2"))
    waits, theirs = await store.enqueue(new_item("b")), await store.enqueue(new_item("b", "s2"))
    same(await store.cancel_suffix("s1", their_item.no, "no"), {their_item.no: CancelOutcome.UNKNOWN})
    nos = [item.no, waits.no, their_item.no, theirs.no]
    outcomes = [CancelOutcome.REQUESTED, CancelOutcome.CANCELLED, CancelOutcome.UNKNOWN, CancelOutcome.UNKNOWN]
    same(await store.cancel_items("s1", nos, "enough"), dict(zip(nos, outcomes, strict=True)))
    same(await store.cancel_requested(lease, item.no), "enough")
    same(await store.cancel_requested(their_lease, their_item.no), None)
    same(await store.cancel_requested(lease, their_item.no), None)
    same((await keys(store, "s2"), await states(store, "s2")), (["a", "b"], await states(store, "s2")))


@CASES.case("L.59", INBOX, JOURNAL)
async def _revoked_by_deletion(harness: StoreHarness) -> None:
    """A deleted session's turns can be neither cancelled nor asked about, and who runs one is told at once."""
    store, mine = await harness.open(), Runner()
    lease, item = await mine.begin(store, new_item())
    await store.cancel_items("s1", [item.no], "enough")
    await store.delete_session("s1")
    calls: list[Call] = [
        lambda: store.cancel_requested(lease, item.no),
        lambda: store.cancel_items("s1", [item.no], "enough"),
        lambda: store.cancel_suffix("s1", item.no, "enough"),
        lambda: store.append_journal(lease, item.no, [effect("x")]),
        lambda: store.park_turn(lease, item.no),
        lambda: mine.tried(store),
    ]
    for call in calls:
        with raises(SessionDeleted):
            await call()
