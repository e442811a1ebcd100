"""The graph: damage is seen, late appends find their place (group D)."""

from __future__ import annotations

import anyio
import anyio.lowlevel
from attrs import evolve

from lash_hookspecs.errors import CommitRefused, StoreCorrupt
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.stores import CommitResult, ComponentChanged, OperationId, RuntimeCommit, node_id
from lash_hookspecs.testing.store.kit import (
    Cases,
    Corruption,
    Scribe,
    StoreHarness,
    bodies,
    components_of,
    everything,
    raises,
    refused,
    same,
    spent,
    usage_of,
)

__all__ = ["CASES"]

CASES = Cases()


def _damaged_graph(id: str, damage: Corruption) -> None:
    async def run(harness: StoreHarness) -> None:
        store, scribe = await harness.open(), Scribe()
        await scribe.write(store, scribe.turn("one", "two", "three"))
        await harness.corrupt(damage, "s1")
        with raises(StoreCorrupt):
            await store.load_session("s1")
        other = Scribe("s2")
        await other.write(store, other.turn("fine"))  # one broken session doesn't break the store

    run.__doc__ = f"A graph with damage of the kind `{damage}` is corrupt: typed, at once, and only for its session."
    CASES.case(id, damage)(run)


for _damage in (
    Corruption.NODE_GAP,
    Corruption.NODE_PARENT,
    Corruption.NODE_FRAME,
    Corruption.NODE_KIND,
    Corruption.HEAD_REVISION,
):
    _damaged_graph(f"D.04-{_damage}", _damage)


@CASES.case("D.04-revision", Corruption.HEAD_REVISION)
async def _damaged_revision(harness: StoreHarness) -> None:
    """A revision below zero is corrupt for who asks for nothing else, too."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    await harness.corrupt(Corruption.HEAD_REVISION, "s1")
    with raises(StoreCorrupt):
        await store.load_revision("s1")


@CASES.case("D.04-duplicate", Corruption.RECEIPT_GONE)
async def _duplicate_node(harness: StoreHarness) -> None:
    """A commit whose nodes exist, though its receipt is lost, is refused instead of doubling them."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    commit = scribe.turn("two")
    await scribe.write(store, commit)
    await harness.corrupt(Corruption.RECEIPT_GONE, "s1")
    async with refused(store, CommitRefused, "node_exists"):
        await store.commit(evolve(commit, expected_head_revision=None))


@CASES.case("D.04-component", Corruption.COMPONENT_GONE, Corruption.COMPONENT_BODY)
async def _damaged_component(harness: StoreHarness) -> None:
    """A component whose body is gone or other than its reference says is corrupt, never empty or wrong."""
    store = await harness.open()
    for session_id, damage in (("s1", Corruption.COMPONENT_GONE), ("s2", Corruption.COMPONENT_BODY)):
        scribe = Scribe(session_id)
        parts = {"a": ComponentChanged(session_id.encode())}
        await scribe.write(store, scribe.turn("x", components=parts, config=b""))
        await harness.corrupt(damage, session_id)
        with raises(StoreCorrupt):
            await store.load_session(session_id)


@CASES.case("D.05")
async def _late_append(harness: StoreHarness) -> None:
    """An append that was prepared on an older leaf goes on the current one; its nodes keep their ids."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    commit = scribe.append("note", "and more", requires_ancestor_node_id=scribe.leaf)
    await scribe.write(store, scribe.turn("two"))
    result = await scribe.write(store, commit)
    same(result.receipt.node_ids, tuple(node.node_id for node in commit.nodes))
    loaded = await store.load_session("s1")
    same([node.body for node in loaded.nodes], [b"{}", b"one", b"two", b"note", b"and more"])
    same(loaded.nodes[3].parent_node_id, loaded.nodes[2].node_id)


@CASES.case("D.05-config")
async def _late_append_keeps(harness: StoreHarness) -> None:
    """An append carries config and turn index for a session that has none yet; it never turns newer ones back."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.append("first", key="a1", config=b"carried", turn_index=4))
    same(((await store.load_head("s1")).config, (await store.load_head("s1")).turn_index), (b"carried", 4))
    late = scribe.append("note", key="a2", config=b"carried", turn_index=4)
    await scribe.write(store, scribe.turn("one", config=b"newer", turn_index=5))
    await scribe.write(store, late)
    head = await store.load_head("s1")
    same((head.config, head.turn_index, head.head_revision), (b"newer", 5, 3))


@CASES.case("D.07")
async def _foreign_ancestor(harness: StoreHarness) -> None:
    """An append that builds on a node outside the active path, another session's for example, is refused."""
    store, scribe, other = await harness.open(), Scribe(), Scribe("s2")
    await scribe.write(store, scribe.turn("one"))
    await other.write(store, other.turn("theirs"))
    async with refused(store, CommitRefused, "ancestor"):
        await store.commit(scribe.append("note", requires_ancestor_node_id=other.leaf))
    same(await store.is_on_path("s1", str(other.leaf)), False)


@CASES.case("D.09")
async def _append_with_usage(harness: StoreHarness) -> None:
    """An append's nodes and its usage are written together, or not at all."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    usage = spent(TokenUsage(output=4), source="append")
    nowhere = node_id("s1", OperationId("turn", "never"), 0)
    async with refused(store, CommitRefused, "ancestor"):
        await store.commit(scribe.append("note", usage=usage, requires_ancestor_node_id=nowhere))
    await scribe.write(store, scribe.append("note", usage=usage))
    same(await usage_of(store), {("append", "m"): TokenUsage(output=4)})
    same((await bodies(store))[-1], b"note")


@CASES.case("D.10")
async def _cancelled_append(harness: StoreHarness) -> None:
    """However an append is cancelled, it and its usage are there once after it is sent again."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    commit = scribe.append("note", usage=spent(TokenUsage(output=4)))

    async def send() -> None:
        await store.commit(commit)

    for _ in range(3):
        async with anyio.create_task_group() as group:
            group.start_soon(send)
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
    result = await store.commit(commit)
    same(result.receipt.node_ids, (commit.nodes[0].node_id,))
    same(await usage_of(store), {("turn", "m"): TokenUsage(output=4)})
    same(await bodies(store), [b"{}", b"one", b"note"])


@CASES.case("D.10-settled")
async def _cancelled_commits(harness: StoreHarness) -> None:
    """When a cancelled commit's call ends, the commit is there whole, or never will be; one that returned is there."""
    store, after = await harness.open(), Scribe("after")
    returned: dict[str, CommitResult] = {}

    async def send(commit: RuntimeCommit) -> None:
        returned[commit.session_id] = await store.commit(commit)

    for steps in range(4):
        parts = {"a": ComponentChanged(b"part")}
        commits = [
            Scribe(f"s{steps}-{number}").turn("one", components=parts, usage=spent(TokenUsage(output=4)), result=b"r")
            for number in range(8)
        ]
        async with anyio.create_task_group() as group:
            for commit in commits:
                group.start_soon(send, commit)
            for _ in range(steps):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        ended = [await everything(store, each.session_id) for each in commits]
        await after.write(store, after.turn(f"after {steps}"))  # what is still on its way is there by then
        same([await everything(store, each.session_id) for each in commits], ended)
        for commit in commits:
            id = commit.session_id
            receipt = await store.load_receipt(id, commit.operation)
            if receipt is None:
                same((await store.load_meta(id), id in returned), (None, False))
                continue
            same(receipt, returned[id].receipt if id in returned else receipt)
            same((receipt.result, receipt.node_ids), (b"r", tuple(node.node_id for node in commit.nodes)))
            same(await bodies(store, id), [b"{}", b"one"])
            same(await usage_of(store, id), {("turn", "m"): TokenUsage(output=4)})
            same(await components_of(store, id), {"a": b"part"})
