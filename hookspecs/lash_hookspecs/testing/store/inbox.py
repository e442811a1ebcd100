"""The inbox (groups A5 and A6): accepted once, delivered in order, settled once."""

from __future__ import annotations

from typing import Any

import anyio
from attrs import evolve

from lash_hookspecs.errors import ClaimLost, CommitRefused, InboxConflict, SessionDeleted
from lash_hookspecs.inbox import CancelOutcome, InboxItem, InboxState, Ingress
from lash_hookspecs.journal import TurnBegun, TurnCommitted
from lash_hookspecs.leases import LeaseBusy
from lash_hookspecs.stores import Capability
from lash_hookspecs.testing.store.kit import Call, Cases, Need, Scribe, StoreHarness, raises, same
from lash_hookspecs.testing.store.runner import LONG, Runner, effect, listed, new_item

__all__ = ["CASES"]

CASES = Cases()
INBOX, JOURNAL = Capability.INBOX, Capability.JOURNAL
ALL = frozenset(InboxState)


def note(key: str, session_id: str = "s1", **changes: Any) -> Any:
    """Input for the turn that runs."""
    return new_item(key, session_id, ingress=Ingress.CHECKPOINT, **{"turn_id": None, **changes})


async def states(store: Any, session_id: str = "s1") -> dict[str, InboxState]:
    items = await listed(store, session_id, states=ALL)
    return {each.source_key: each.state for each in items}


async def keys(store: Any, session_id: str | None = "s1") -> list[str]:
    return [each.source_key for each in await listed(store, session_id)]


@CASES.case("A6.01", INBOX)
async def _numbers(harness: StoreHarness) -> None:
    """Numbers rise in the order of acceptance, over all sessions and handles, and none is given twice."""
    stores = [await harness.open(), await harness.open()]
    made: list[InboxItem] = []
    each_made: dict[int, list[int]] = {}

    async def enqueue(index: int, store: Any) -> None:
        for turn in range(5):
            made.append(await store.enqueue(new_item(f"{index}-{turn}", f"s{turn % 2}")))
            each_made.setdefault(index, []).append(made[-1].no)

    async with anyio.create_task_group() as group:
        for index, store in enumerate(stores * 2):
            group.start_soon(enqueue, index, store)
    same(len({each.no for each in made}), 20)
    same({index: sorted(nos) for index, nos in each_made.items()}, each_made)
    same(await listed(stores[0]), sorted(made, key=lambda each: each.no))


@CASES.case("A6.02", INBOX)
async def _source_keys(harness: StoreHarness) -> None:
    """A source key is accepted once in its session; other content is refused; another session's inbox is its own."""
    store = await harness.open()
    new = new_item("a", available_at_ms=7, accepted_at_ms=5)
    item = await store.enqueue(new)
    wanted = InboxItem(
        no=item.no,
        session_id="s1",
        source_key="a",
        ingress=Ingress.NEXT_TURN,
        state=InboxState.PENDING,
        content_hash=new.content_hash,
        payload=b"hello",
        accepted_at_ms=5,
        turn_id="t-a",
        available_at_ms=7,
    )
    same(item, wanted)
    same(await store.enqueue(evolve(new, accepted_at_ms=9)), item)
    with raises(InboxConflict):
        await store.enqueue(evolve(new, content_hash="other"))
    other = await store.enqueue(new_item("a", "s2"))
    same((await listed(store, "s1"), await listed(store, "s2")), ([item], [other]))
    same((await store.cancel_items("s2", [item.no], "no"))[item.no], CancelOutcome.UNKNOWN)
    same((await listed(store, limit=1), await listed(store, "nobody")), ([item], []))
    same((await listed(store, after=item.no), await listed(store, "s1", after=item.no)), ([other], []))
    same((await store.load_revision("s1"), await store.load_meta("nobody")), (0, None))
    for session_id in ("", " "):
        with raises(CommitRefused, "session_id"):
            await store.enqueue(new_item("a", session_id))


@CASES.case("A6.03", INBOX, JOURNAL)
async def _bulk_cancel(harness: StoreHarness) -> None:
    """Many items are cancelled at once, each as far as it can be, and a suffix is what waits from its anchor on."""
    store, mine, scribe = await harness.open(), Runner(), Scribe()
    done = await mine.begin(store, new_item("done"))
    await scribe.write(store, mine.commit(scribe, *done, "x"))
    _, running = await mine.begin(store, new_item("running"))
    waiting = [await store.enqueue(new_item(f"w{index}")) for index in range(4)]
    nos = [done[1].no, running.no, waiting[0].no, 10**9]
    wanted = [CancelOutcome.COMPLETED, CancelOutcome.REQUESTED, CancelOutcome.CANCELLED, CancelOutcome.UNKNOWN]
    same(await store.cancel_items("s1", nos, "enough"), dict(zip(nos, wanted, strict=True)))
    wanted[1] = CancelOutcome.ALREADY_REQUESTED
    same(await store.cancel_items("s1", nos, "again"), dict(zip(nos, wanted, strict=True)))
    same(await store.cancel_suffix("s1", 10**9, "no"), {10**9: CancelOutcome.UNKNOWN})
    same(await keys(store), ["running", "w1", "w2", "w3"])
    suffix = [each.no for each in waiting[2:]]
    same(await store.cancel_suffix("s1", waiting[2].no, "rewound"), dict.fromkeys(suffix, CancelOutcome.CANCELLED))
    same(await keys(store), ["running", "w1"])
    same(
        await store.cancel_suffix("s1", running.no, "all"),
        {running.no: CancelOutcome.ALREADY_REQUESTED, waiting[1].no: CancelOutcome.CANCELLED},
    )
    same({each.cancel_reason for each in await listed(store, "s1")}, {"enough"})
    same(await store.cancel_suffix("s1", done[1].no, "late"), {done[1].no: CancelOutcome.COMPLETED})


@CASES.case("A6.04", INBOX, JOURNAL)
async def _claim_and_complete(harness: StoreHarness) -> None:
    """An item is claimed with its acceptance, begun anew by whoever comes next, and completed by its turn's commit."""
    store, mine, scribe = await harness.open(), Runner(), Scribe()
    lease, item = await mine.begin(store, new_item("a"))
    same((item.state, item.attempts, item.claim_generation), (InboxState.CLAIMED, 1, lease.generation))
    same(await listed(store, "s1"), [item])
    await store.release_lease(lease)
    again, same_item = await mine.begin(store, new_item("a"))
    same(same_item, evolve(item, attempts=2, claim_generation=again.generation))
    await scribe.write(store, mine.commit(scribe, again, item, "one"))
    same((await states(store), await store.load_lease("s1")), ({"a": InboxState.COMPLETED}, None))
    done = await mine.tried(store, new_item("a"))
    same(done, TurnCommitted((await store.list_receipts("s1"))[0]))
    with raises(InboxConflict):
        await mine.tried(store, new_item("a", content_hash="other"))
    same(await store.load_lease("s1"), None)


@CASES.case("A6.04-replay", INBOX, JOURNAL)
async def _begin_again(harness: StoreHarness) -> None:
    """A begin whose answer was lost, made again with its nonce, gives the same answer and counts as one attempt."""
    store, mine = await harness.open(), Runner()
    begin = mine.beginning(new_item("a"))
    first = await store.begin_turn(begin)
    same(await store.begin_turn(begin), first)
    same((await listed(store, "s1"), first.item.attempts), ([first.item], 1))


@CASES.case("A6.05", INBOX, JOURNAL)
async def _supersession(harness: StoreHarness) -> None:
    """A claim under a lapsed lease is good until a successor begins the item anew; then its commit is refused."""
    store, mine, theirs, scribe = await harness.open(), Runner("mine"), Runner("theirs"), Scribe()
    lease, item = await mine.lapsed(store, new_item("a"))
    await scribe.write(store, mine.commit(scribe, lease, item, "one"))
    lease, item = await mine.lapsed(store, new_item("b"))
    successor, again = await theirs.begin(store)
    same((again.no, successor.generation > lease.generation), (item.no, True))
    stale = mine.commit(scribe, lease, item, "two")
    with raises(ClaimLost):
        await store.commit(stale)
    same((await listed(store, "s1"), await store.load_lease("s1")), ([again], successor))
    await scribe.write(store, theirs.commit(scribe, successor, again, "two"))


@CASES.case("A6.06", INBOX, JOURNAL)
async def _recovered(harness: StoreHarness) -> None:
    """What a turn took at a checkpoint is its successor's too, recorded or not, with the new generation."""
    store, mine, theirs, scribe = await harness.open(), Runner("mine"), Runner("theirs"), Scribe()
    taken = await store.enqueue(note("note"))
    lease, item = await mine.begin(store, new_item("a"))
    same(item.source_key, "note")  # it came first: where no turn runs, it is one
    other = await store.enqueue(note("other"))
    await store.append_journal(lease, item.no, [effect("checkpoint")], claims=[other.no])
    await store.release_lease(lease)
    begun = await theirs.tried(store)
    same((begun.item.no, [row.label for row in begun.rows]), (taken.no, ["checkpoint"]))
    claimed = {each.source_key: each.claim_generation for each in await listed(store, "s1")}
    same(claimed, {"note": begun.lease.generation, "other": begun.lease.generation, "a": 0})
    await scribe.write(store, theirs.commit(scribe, begun.lease, begun.item, "both", applied=(other.no,)))
    same(await keys(store), ["a"])


@CASES.case("A6.07", INBOX, JOURNAL)
async def _cancel_states(harness: StoreHarness) -> None:
    """A turn that runs, waits, or can't go on is asked to end, and who runs it next is told; what it took can't be."""
    store, mine = await harness.open(), Runner()
    for key, leave in {
        "claimed": None,
        "suspended": {},
        "blocked": {"state": InboxState.BLOCKED, "reason": "a reason"},
    }.items():
        mine.session_id = key
        lease, item = await mine.begin(store, new_item("a", key))
        taken = await store.enqueue(note("n", key))
        await store.append_journal(lease, item.no, [], claims=[taken.no])
        same(await store.cancel_requested(lease, item.no), None)
        if leave is not None:
            await store.park_turn(lease, item.no, **leave)
        same((await states(store, key))["a"], InboxState(key))
        same(
            await store.cancel_items(key, [item.no, taken.no], "enough"),
            {item.no: CancelOutcome.REQUESTED, taken.no: CancelOutcome.TAKEN},
        )
        same(await store.cancel_requested(lease, item.no), "enough")
        same((await mine.begin(store))[1].cancel_reason, "enough")


@CASES.case("A6.08", INBOX, JOURNAL)
async def _left_over(harness: StoreHarness) -> None:
    """What a turn took and didn't use waits again after its commit, once, as it was."""
    store, mine, scribe = await harness.open(), Runner(), Scribe()
    lease, item = await mine.begin(store, new_item("a"))
    used, unused = [await store.enqueue(note(key, turn_id=f"t-{key}")) for key in ("used", "unused")]
    await store.append_journal(lease, item.no, [], claims=[used.no, unused.no])
    taking = {each.source_key: each.turn_id for each in await listed(store, "s1")}
    same(taking, {"a": "t-a", "used": "t-a", "unused": "t-a"})
    await scribe.write(store, mine.commit(scribe, lease, item, "one", applied=(used.no,)))
    same(await listed(store, "s1"), [unused])
    done = {each.source_key: each.turn_id for each in await listed(store, "s1", states=ALL)}
    same(done, {"a": "t-a", "used": "t-a", "unused": "t-unused"})
    same((await mine.begin(store))[1].no, unused.no)


@CASES.case("A6.09", INBOX, JOURNAL)
async def _nothing_pinned(harness: StoreHarness) -> None:
    """A turn that can't commit pins nothing: a refused commit leaves its items to whoever has them."""
    store, mine, theirs, scribe = await harness.open(), Runner("mine"), Runner("theirs"), Scribe()
    lease, item = await mine.lapsed(store, new_item("a"))
    waiting = await store.enqueue(note("n"))
    successor, again = await theirs.begin(store)
    with raises(ClaimLost):
        await store.commit(mine.commit(scribe, lease, item, "one", applied=(waiting.no,)))
    same(await states(store), {"a": InboxState.CLAIMED, "n": InboxState.PENDING})
    await store.append_journal(successor, again.no, [], claims=[waiting.no])
    with raises(ClaimLost):
        await store.commit(mine.commit(scribe, lease, item, "one", applied=(waiting.no,)))
    await scribe.write(store, theirs.commit(scribe, successor, again, "one", applied=(waiting.no,)))
    same(await keys(store), [])


@CASES.case("A6.10", INBOX, JOURNAL)
async def _evidence(harness: StoreHarness) -> None:
    """A settled item is forgotten by `drop_journals` alone, and the turn's receipt still answers for it then."""
    store, mine, scribe = await harness.open(), Runner(), Scribe()
    for key in ("a", "b"):
        lease, item = await mine.begin(store, new_item(key))
        await scribe.write(store, mine.commit(scribe, lease, item, key))
    same(await states(store), {"a": InboxState.COMPLETED, "b": InboxState.COMPLETED})
    same([each.payload for each in await listed(store, "s1", states=ALL)], [b"", b""])
    receipts = await store.list_receipts("s1")
    same(await store.drop_journals(before_ms=receipts[0].committed_at_ms), 1)
    same(await states(store), {"b": InboxState.COMPLETED})
    same(await mine.tried(store, new_item("a")), TurnCommitted(receipts[1]))
    same(await store.drop_journals(before_ms=receipts[0].committed_at_ms + 1), 1)
    same(await mine.tried(store, new_item("b")), TurnCommitted(receipts[0]))
    same(await states(store), {})


@CASES.case("A6.10-receipt", INBOX, JOURNAL)
async def _known_by_its_receipt(harness: StoreHarness) -> None:
    """An item whose turn's receipt has its key and hash is known after its turn, whether the store still has it or not.

    Whoever sends it again, in whatever way, gets what was done; other content is refused.
    """
    store, mine, scribe = await harness.open(), Runner(), Scribe()
    new = new_item("t-a", turn_id="t-a")
    lease, item = await mine.begin(store, new)
    await scribe.write(store, mine.commit(scribe, lease, item, "x", input_hash=item.content_hash))
    receipt = (await store.list_receipts("s1"))[0]
    for dropped in (False, True):
        for again in (new, evolve(new, turn_id="t-other"), note("t-a", content_hash=new.content_hash)):
            told = await store.enqueue(again)
            same((told.state, told.turn_id, told.source_key), (InboxState.COMPLETED, "t-a", "t-a"))
            same(told.no if dropped else told.no in (0, item.no), 0 if dropped else True)
            outcome = CancelOutcome.COMPLETED if told.no else CancelOutcome.UNKNOWN
            same(await store.cancel_items("s1", [told.no], "no"), {told.no: outcome})
        for other in (evolve(new, content_hash="other"), note("t-a", content_hash="other")):
            with raises(InboxConflict):
                await store.enqueue(other)
        same(await mine.tried(store, new), TurnCommitted(receipt))
        same(await listed(store, "s1"), [])
        await store.drop_journals(before_ms=1 << 62)


@CASES.case("A6.10-numbers", INBOX)
async def _never_again(harness: StoreHarness) -> None:
    """A number isn't used again, whatever was dropped or deleted."""
    store = await harness.open()
    first = await store.enqueue(new_item("a"))
    await store.cancel_items("s1", [first.no], "no")
    await store.drop_journals(before_ms=1 << 62)
    second = await store.enqueue(new_item("a"))
    await store.delete_session("s1")
    third = await store.enqueue(new_item("a", "s2"))
    same((first.no < second.no < third.no, third.state), (True, InboxState.PENDING))


@CASES.case("A6-busy", INBOX, JOURNAL)
async def _busy(harness: StoreHarness) -> None:
    """While another holder has the session, `wait` accepts the item all the same; without it nothing is accepted."""
    store, mine, theirs = await harness.open(), Runner("mine"), Runner("theirs")
    lease, _ = await mine.begin(store, new_item("a"))
    same(await theirs.tried(store, new_item("b")), LeaseBusy(lease))
    same(await keys(store), ["a"])
    same([await theirs.tried(store, new_item("b"), wait=True) for _ in range(2)], [LeaseBusy(lease)] * 2)
    same(await keys(store), ["a", "b"])
    same(await theirs.tried(store), LeaseBusy(lease))
    await store.release_lease(lease)
    same((await theirs.begin(store, new_item("b")))[1].source_key, "a")


@CASES.case("A6-nothing", INBOX, JOURNAL)
async def _nothing_to_do(harness: StoreHarness) -> None:
    """Where nothing is to be done, a begin takes no lease, makes no session, and lets go of our own lease."""
    store, mine = await harness.open(), Runner()
    same(await mine.tried(store), TurnBegun(head_revision=0))
    same((await store.load_meta("s1"), await store.load_lease("s1")), (None, None))
    await mine.lease(store)
    same(await mine.tried(store), TurnBegun(head_revision=0))
    same(await store.load_lease("s1"), None)
    later = new_item("later", available_at_ms=1 << 60)
    same(await mine.tried(store, later), TurnBegun(head_revision=0))
    same((await states(store), await store.load_lease("s1")), ({"later": InboxState.PENDING}, None))


@CASES.case("A6-deleted", INBOX, JOURNAL)
async def _deleted(harness: StoreHarness) -> None:
    """A deleted session's inbox, journals and lease are gone, and everything about it is refused."""
    store, mine, other = await harness.open(), Runner(), Runner(session_id="s2")
    lease, item = await mine.begin(store, new_item("a"))
    await store.append_journal(lease, item.no, [effect("x")])
    theirs, kept = await other.begin(store, new_item("a", "s2"))
    await store.append_journal(theirs, kept.no, [effect("x")])
    await store.delete_session("s1")
    calls: list[Call] = [
        lambda: mine.claim(store),
        lambda: store.renew_lease(lease, ttl_ms=LONG),
        lambda: store.release_lease(lease),
        lambda: store.load_lease("s1"),
        lambda: store.enqueue(new_item("b")),
        lambda: store.list_inbox("s1"),
        lambda: store.has_pending("s1", Ingress.CHECKPOINT),
        lambda: store.cancel_items("s1", [item.no], "no"),
        lambda: store.cancel_suffix("s1", item.no, "no"),
        lambda: store.cancel_requested(lease, item.no),
        lambda: mine.tried(store, new_item("b")),
        lambda: mine.tried(store),
        lambda: store.append_journal(lease, item.no, [effect("y")]),
        lambda: store.load_journal("s1", "t-a"),
        lambda: store.park_turn(lease, item.no),
        lambda: store.commit(mine.commit(Scribe(), lease, item, "x")),
    ]
    for call in calls:
        with raises(SessionDeleted):
            await call()
    same(await listed(store), [kept])
    same([row.label for row in await store.load_journal("s2", "t-a")], ["x"])


@CASES.case("A6.02-reopen", INBOX, JOURNAL, Need.REOPEN)
async def _survives(harness: StoreHarness) -> None:
    """What was accepted, claimed and recorded survives reopening, and goes on there."""
    store, mine, theirs = await harness.open(), Runner("mine"), Runner("theirs")
    lease, item = await mine.begin(store, new_item("a"))
    await store.append_journal(lease, item.no, [effect("x")])
    waiting = await store.enqueue(note("n"))
    store = await harness.reopen()
    same(await listed(store, "s1"), [item, waiting])
    same(await theirs.tried(store), LeaseBusy(lease))
    await store.release_lease(lease)
    begun = await theirs.tried(store)
    same((begun.item.no, begun.rows, begun.lease.generation), (item.no, (effect("x"),), lease.generation + 1))
