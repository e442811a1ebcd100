"""Receipts: what was committed once is never committed twice (group A2)."""

from __future__ import annotations

from attrs import evolve

from lash_hookspecs.errors import CommitRefused, HeadConflict, ReceiptConflict, StoreCorrupt
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.stores import (
    CommitResult,
    ComponentChanged,
    ComponentUnchanged,
    OperationId,
    attachment_id,
    frame_node_id,
    node_id,
)
from lash_hookspecs.testing.store.kit import (
    Cases,
    Corruption,
    Need,
    Scribe,
    StoreHarness,
    at_once,
    bodies,
    everything,
    raises,
    refused,
    same,
    spent,
)

__all__ = ["CASES"]

CASES = Cases()


@CASES.case("A2.01")
async def _turn_receipt(harness: StoreHarness) -> None:
    """The same turn again is answered by its stored receipt, whatever it expects by now; other content conflicts."""
    store, scribe = await harness.open(), Scribe()
    commit = scribe.turn("one", result=b"first", usage=spent(TokenUsage(input=1)))
    first = await scribe.write(store, commit)
    before = await everything(store, "s1")
    for again in (commit, evolve(commit, expected_head_revision=7, committed_at_ms=9, result=b"second")):
        result = await store.commit(again)
        same((result.receipt, result.receipt_replayed), (first.receipt, True))
    same(await everything(store, "s1"), before)
    async with refused(store, ReceiptConflict):
        await store.commit(evolve(commit, nodes=(*commit.nodes[:-1], evolve(commit.nodes[-1], body=b"other"))))


@CASES.case("A2.02")
async def _own_hash(harness: StoreHarness) -> None:
    """The store hashes what it is given: each part that is meant is caught when it changes."""
    store, scribe = await harness.open(), Scribe()
    blob = b"picture"
    parts = {"a": ComponentChanged(b"a"), "b": ComponentChanged(b"b")}
    commit = scribe.turn("one", components=parts, usage=spent(TokenUsage(input=1)), blobs=(blob,), input_hash="h")
    await scribe.write(store, commit)
    for changes in (
        {"config": b"other"},
        {"nodes": commit.nodes[:1]},
        {"components": {"a": ComponentChanged(b"a")}},
        {"components": {**parts, "b": ComponentChanged(b"c")}},
        {"components": None},
        {"usage": ()},
        {"usage": spent(TokenUsage(output=1))},
        {"blobs": ()},
        {"adopted_blobs": (attachment_id(b"another picture"),)},
        {"input_hash": "i"},
    ):
        async with refused(store, ReceiptConflict):
            await store.commit(evolve(commit, **changes))


@CASES.case("A2.03")
async def _append_receipt(harness: StoreHarness) -> None:
    """An append's receipt is replayed after the head moved on."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    commit = scribe.append("note", requires_ancestor_node_id=scribe.leaf)
    first = await scribe.write(store, commit)
    await scribe.write(store, scribe.turn("two"))
    result = await store.commit(commit)
    same((result.receipt, result.receipt_replayed), (first.receipt, True))
    same(await bodies(store), [b"{}", b"one", b"note", b"two"])


@CASES.case("A2.04")
async def _append_conflict(harness: StoreHarness) -> None:
    """An append with the id of another one is a conflict, before and after the head moved on."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    await scribe.write(store, scribe.append("note"))
    for _ in range(2):
        async with refused(store, ReceiptConflict):
            await store.commit(scribe.append("another note"))
        await scribe.write(store, scribe.turn("more"))


@CASES.case("A2.05")
async def _append_ancestor_conflict(harness: StoreHarness) -> None:
    """The required ancestor is part of what an append means."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    commit = scribe.append("note", requires_ancestor_node_id=scribe.leaf)
    await scribe.write(store, commit)
    for other in (None, frame_node_id("s1", "f0")):
        async with refused(store, ReceiptConflict):
            await store.commit(evolve(commit, requires_ancestor_node_id=other))


@CASES.case("A2.06", Corruption.RECEIPT_NODES)
async def _corrupt_receipt(harness: StoreHarness) -> None:
    """A receipt that claims other nodes than there are is corrupt, for readers and for a replay."""
    store, scribe = await harness.open(), Scribe()
    commit = scribe.turn("one", "two")
    await scribe.write(store, commit)
    await harness.corrupt(Corruption.RECEIPT_NODES, "s1")
    with raises(StoreCorrupt):
        await store.load_receipt("s1", commit.operation)
    with raises(StoreCorrupt):
        await store.commit(commit)


@CASES.case("A2.07")
async def _same_append_at_once(harness: StoreHarness) -> None:
    """Identical appends at the same time are applied once, and all get the same receipt."""
    stores = [await harness.open(), await harness.open()]
    scribe = Scribe()
    await scribe.write(stores[0], scribe.turn("one"))
    commit = scribe.append("note")
    outcomes = await at_once(*(lambda store=store: store.commit(commit) for store in stores * 4))
    results = [each for each in outcomes if isinstance(each, CommitResult)]
    same(len(results), len(outcomes))
    same([each.receipt_replayed for each in results].count(False), 1)
    same({each.receipt.leaf_node_id for each in results}, {commit.nodes[-1].node_id})
    same(await bodies(stores[0]), [b"{}", b"one", b"note"])


@CASES.case("A2.09")
async def _ancestor_first(harness: StoreHarness) -> None:
    """A required ancestor that isn't on the path is reported before a stale head."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    nowhere = node_id("s1", OperationId("turn", "never"), 0)
    async with refused(store, CommitRefused, "ancestor"):
        await store.commit(evolve(scribe.turn("two"), expected_head_revision=0, requires_ancestor_node_id=nowhere))
    async with refused(store, HeadConflict):
        await store.commit(evolve(scribe.turn("two"), expected_head_revision=0, requires_ancestor_node_id=scribe.leaf))


@CASES.case("A2.12")
async def _receipt_and_graph(harness: StoreHarness) -> None:
    """A commit's receipt and its nodes are there together, or neither is."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    # Refused by the last rule there is: all that comes before would have been written.
    bad = scribe.turn("two", components={"a": ComponentUnchanged(attachment_id(b"nowhere"))})
    async with refused(store, CommitRefused, "component_ref"):
        await store.commit(bad)
    same(await store.load_receipt("s1", bad.operation), None)
    good = evolve(bad, components=None)
    result = await scribe.write(store, good)
    same(await store.load_receipt("s1", good.operation), result.receipt)
    same(result.receipt.node_ids, tuple(node.node_id for node in good.nodes))
    same((await bodies(store))[-1], b"two")


@CASES.case("A2.13")
async def _fresh_ancestor(harness: StoreHarness) -> None:
    """A new append needs its ancestor on the active path; text that is no node id is simply not there."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    for nowhere in (node_id("s1", OperationId("turn", "never"), 0), "not an id", ""):
        async with refused(store, CommitRefused, "ancestor"):
            await store.commit(scribe.append("note", requires_ancestor_node_id=nowhere))
    await scribe.write(store, scribe.append("note", requires_ancestor_node_id=frame_node_id("s1", "f0")))


@CASES.case("A2.14", Need.REOPEN)
async def _append_receipts_survive(harness: StoreHarness) -> None:
    """Receipts of appends survive reopening, and are found by operation, in lists, and by a turn's id or its start."""
    store, scribe = await harness.open(), Scribe()
    turn = await scribe.write(store, scribe.turn("one", operation=OperationId("turn", "turn-abc"), result=b"r"))
    commit = scribe.append("note")
    append = await scribe.write(store, commit)
    store = await harness.reopen()
    same((await store.commit(commit)).receipt, append.receipt)
    same(await store.load_receipt("s1", commit.operation), append.receipt)
    same(list(await store.list_receipts("s1")), [append.receipt, turn.receipt])
    same(list(await store.list_receipts("s1", limit=1)), [append.receipt])
    for beginning in ("turn-abc", "turn-", "t"):
        same(list(await store.find_turn(beginning)), [("s1", turn.receipt)])
    for nothing in ("turn-abd", "turn-abcd", "a1"):
        same(list(await store.find_turn(nothing)), [])
