"""What is kept whatever happens in between: order, wholeness, and the sums (group F)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
from attrs import evolve

from lash_hookspecs.errors import ClaimLost, HeadConflict
from lash_hookspecs.inbox import InboxState
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.stores import (
    Capability,
    ComponentChanged,
    ComponentUnchanged,
    RuntimeCommit,
    attachment_id,
)
from lash_hookspecs.testing.store.attachments import stored
from lash_hookspecs.testing.store.inbox import ALL, keys, note
from lash_hookspecs.testing.store.kit import Cases, Scribe, StoreHarness, components_of, raises, same, spent, usage_of
from lash_hookspecs.testing.store.runner import Runner, effect, listed, new_item
from lash_hookspecs.testing.store.settlement import turns_of

__all__ = ["CASES"]

CASES = Cases()
INBOX, JOURNAL, BLOBS = Capability.INBOX, Capability.JOURNAL, Capability.BLOBS


def full(runner: Runner, scribe: Scribe, held: Sequence[Any], **changes: Any) -> RuntimeCommit:
    """A commit of a turn with something of everything."""
    lease, item = held
    parts = {"a": ComponentChanged(b"component")}
    changes = {"components": parts, "blobs": (b"picture",), "usage": spent(TokenUsage(input=5)), **changes}
    return runner.commit(scribe, lease, item, "one", "two", **changes)


@CASES.case("F.07", INBOX, JOURNAL)
async def _in_any_order(harness: StoreHarness) -> None:
    """Items that are taken out of their order, in several claims, are all the turn's, and none is lost or doubled."""
    store, mine, theirs, scribe = await harness.open(), Runner("mine"), Runner("theirs"), Scribe()
    lease, item = await mine.begin(store, new_item("a"))
    nos = [(await store.enqueue(note(f"n{index}"))).no for index in range(6)]
    for claims in ([nos[4], nos[1]], [nos[5]], [nos[0], nos[4]]):
        await store.append_journal(lease, item.no, [effect(f"checkpoint {claims}")], claims=claims)
    await store.release_lease(lease)
    later, again = await theirs.begin(store)
    await store.append_journal(later, again.no, [], claims=[nos[3]])
    applied = (nos[5], nos[0], nos[3], nos[1])
    await scribe.write(store, theirs.commit(scribe, later, again, "x", applied=applied))
    done = [each.source_key for each in await listed(store, "s1", states=frozenset({InboxState.COMPLETED}))]
    same((done, await keys(store)), (["a", "n0", "n1", "n3", "n5"], ["n2", "n4"]))


@CASES.case("F.08", INBOX, JOURNAL)
async def _once_and_in_order(harness: StoreHarness) -> None:
    """Inputs are delivered in the order of their acceptance, and each is applied by one turn, crashes included."""
    store, scribe, heard = await harness.open(), Scribe(), []
    for index in range(6):
        await store.enqueue(new_item(f"k{index}") if index % 2 else note(f"k{index}"))
    for turn in range(6):
        lease, item = await Runner(f"host{turn}").begin(store)
        if turn % 2:  # it dies, and somebody else begins the same one
            await store.release_lease(lease)
            mine = Runner(f"successor{turn}")
            lease, again = await mine.begin(store)
            same((again.no, again.attempts), (item.no, 2))
        else:
            mine = Runner(f"host{turn}")
        heard.append(item.source_key)
        await scribe.write(store, mine.commit(scribe, lease, item, item.source_key))
        with raises(ClaimLost):
            await store.commit(mine.commit(scribe, lease, evolve(item, turn_id="t-again"), "again"))
    same((heard, await keys(store)), ([f"k{index}" for index in range(6)], []))


@CASES.case("F.09", INBOX, JOURNAL, BLOBS)
async def _whole_or_not_at_all(harness: StoreHarness) -> None:
    """A commit is there whole or not at all, and one on a stale head leaves nothing of all that it brought."""
    store, mine, scribe = await harness.open(), Runner(), Scribe()
    held = await mine.begin(store, new_item())
    taken = await store.enqueue(note("n"))
    await store.append_journal(*(held[0], held[1].no), [effect("x")], claims=[taken.no])
    before = await turns_of(store)
    for stale in (1, 7):
        with raises(HeadConflict):
            await store.commit(full(mine, scribe, held, applied=(taken.no,), expected_head_revision=stale))
        same((await turns_of(store), await stored(store, b"picture", b"component")), (before, []))
    await scribe.write(store, full(mine, scribe, held, applied=(taken.no,)))
    loaded = await store.load_session("s1")
    same((loaded.head.head_revision, len(loaded.nodes), len(loaded.components), len(loaded.usage)), (1, 3, 1, 1))
    same(await stored(store, b"picture", b"component"), [b"picture", b"component"])
    same({each.state for each in await listed(store, "s1", states=ALL)}, {InboxState.COMPLETED})
    same((await store.load_lease("s1"), list(await store.load_journal("s1", "t-k1"))), (None, []))


@CASES.case("F.09-readers")
async def _readers_see_whole_commits(harness: StoreHarness) -> None:
    """Who reads while commits are made sees some of them whole, in order, and never goes back."""
    writer, reader, scribe = await harness.open(), await harness.open(), Scribe()
    await scribe.write(writer, scribe.turn("x", usage=spent(TokenUsage(input=1))))
    commits = 20
    seen: list[tuple[int, int, int]] = []

    async def read() -> None:
        while not seen or seen[-1][0] < commits:
            loaded = await reader.load_session("s1")
            used = sum(each.usage.input for each in loaded.usage)
            seen.append((loaded.head.head_revision, len(loaded.nodes), used))

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        for _ in range(commits - 1):
            await scribe.write(writer, scribe.turn("x", usage=spent(TokenUsage(input=1))))
    same([(nodes, usage) for _, nodes, usage in seen], [(revision + 1, revision) for revision, _, _ in seen])
    same(seen, sorted(seen))


@CASES.case("F.10", BLOBS)
async def _references_are_contents(harness: StoreHarness) -> None:
    """A component's reference is that of its content, under whatever key, in whatever session, new or unchanged."""
    store, scribe, other = await harness.open(), Scribe(), Scribe("s2")
    steps: list[dict[str, bytes]] = [{"a": b"1"}, {"a": b"1", "b": b"1"}, {"a": b"2", "b": b"1"}, {"c": b"1"}, {}]
    held: dict[str, bytes] = {}
    for step in steps:
        parts = {
            key: ComponentUnchanged(attachment_id(body)) if body in held.values() else ComponentChanged(body)
            for key, body in step.items()
        }
        held = step
        await scribe.write(store, scribe.turn("x", components=parts))
        await other.write(store, other.turn("x", components={k: ComponentChanged(body) for k, body in step.items()}))
        for session_id in ("s1", "s2"):
            loaded = await store.load_session(session_id)
            same(
                {key: each.ref for key, each in loaded.components.items()},
                {k: attachment_id(v) for k, v in step.items()},
            )
            same(await components_of(store, session_id), step)
        same(set(await stored(store, b"1", b"2")), set(step.values()))


@CASES.case("F.11", INBOX, JOURNAL)
async def _usage_is_conserved(harness: StoreHarness) -> None:
    """A session's usage is that of the commits that were applied: refused, stale and repeated ones add nothing."""
    store, mine, theirs, scribe = await harness.open(), Runner("mine"), Runner("theirs"), Scribe()
    applied: list[RuntimeCommit] = []
    for index in range(3):
        lease, item = await mine.begin(store, new_item(f"k{index}"))
        used = spent(TokenUsage(input=10**index, output=1))
        commit = mine.commit(scribe, lease, item, "x", usage=used)
        with raises(HeadConflict):
            await store.commit(evolve(commit, expected_head_revision=99))
        if index == 1:  # a successor pays for the same turn
            await store.release_lease(lease)
            later, again = await theirs.begin(store)
            with raises(ClaimLost):
                await store.commit(commit)
            commit = theirs.commit(scribe, later, again, "x", usage=used)
        await scribe.write(store, commit)
        applied.append(commit)
        for each in applied:
            same((await store.commit(each)).receipt_replayed, True)
    await scribe.write(store, scribe.append("aside", usage=spent(TokenUsage(input=7), source="tool")))
    total = {("turn", "m"): TokenUsage(input=111, output=3), ("tool", "m"): TokenUsage(input=7)}
    same(await usage_of(store), total)


@CASES.case("F.12", INBOX, JOURNAL, BLOBS)
async def _attachments_are_conserved(harness: StoreHarness) -> None:
    """What a session's commits brought or adopted is its own until it is deleted; what was refused is nobody's."""
    store, mine, scribe = await harness.open(), Runner(), Scribe()
    put = (await store.put_blob(b"put", "image/png")).id
    lease, item = await mine.begin(store, new_item())
    commit = mine.commit(scribe, lease, item, "x", blobs=(b"brought",), adopted_blobs=(put,))
    with raises(HeadConflict):
        await store.commit(evolve(commit, expected_head_revision=99, blobs=(b"refused",)))
    await scribe.write(store, commit)
    same((await store.commit(commit)).receipt_replayed, True)
    await scribe.write(store, scribe.turn("y", components={"a": ComponentChanged(b"brought")}))
    await scribe.write(store, scribe.turn("z", components={}))
    bodies = (b"put", b"brought", b"refused")
    same(await stored(store, *bodies), [b"put", b"brought"])
    await store.delete_session("s1")
    same(await stored(store, b"brought", b"refused"), [])
