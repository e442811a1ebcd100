"""Checkpoint components and usage (group A3)."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from lash_hookspecs.errors import CommitRefused
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.stores import Capability, ComponentChanged, ComponentUnchanged, attachment_id
from lash_hookspecs.testing.store.kit import (
    INT_MAX,
    Cases,
    Need,
    Scribe,
    StoreHarness,
    components_of,
    refused,
    same,
    spent,
    usage_of,
)

__all__ = ["CASES"]

CASES = Cases()


@CASES.case("A3.01", Capability.BLOBS)
async def _replaced_and_cleared(harness: StoreHarness) -> None:
    """A component that is replaced, then left out, is gone with its bytes."""
    store, scribe = await harness.open(), Scribe()
    for body in (b"first", b"second"):
        await scribe.write(store, scribe.turn("x", components={"execution_state": ComponentChanged(body)}))
    same(await components_of(store), {"execution_state": b"second"})
    same(await store.get_blob(attachment_id(b"first")), None)
    await scribe.write(store, scribe.turn("y", components={}))
    same(await components_of(store), {})
    same(await store.get_blob(attachment_id(b"second")), None)


@CASES.case("A3.02", Need.REOPEN)
async def _components_survive(harness: StoreHarness) -> None:
    """The complete set of components survives reopening again and again, unchanged ones and moved ones included."""
    store, scribe = await harness.open(), Scribe()
    bodies = {f"part {index}": b"body %d" % index for index in range(5)}
    parts: dict[str, Any] = {key: ComponentChanged(body, version=2) for key, body in bodies.items()}
    await scribe.write(store, scribe.turn("x", components=parts))
    for index in range(3):
        store = await harness.reopen()
        same(await components_of(store), bodies)
        bodies = {**bodies, "part 0": b"new %d" % index, f"moved {index}": bodies["part 1"]}
        parts = {key: ComponentUnchanged(attachment_id(body)) for key, body in bodies.items()}
        parts["part 0"] = ComponentChanged(bodies["part 0"], version=2)
        await scribe.write(store, scribe.turn("x", components=parts))
    store = await harness.reopen()
    same(await components_of(store), bodies)
    await scribe.write(store, scribe.turn("y"))  # a commit that doesn't speak of components leaves them alone
    loaded = await store.load_session("s1")
    same({entry.version for entry in loaded.components.values()}, {2})
    same(await components_of(store), bodies)


@CASES.case("A3.03")
async def _unknown_component(harness: StoreHarness) -> None:
    """A reference to a body that the session's components don't hold is refused, even if another session has it."""
    store, scribe, other = await harness.open(), Scribe(), Scribe("s2")
    await other.write(store, other.turn("x", components={"a": ComponentChanged(b"theirs")}))
    await scribe.write(store, scribe.turn("x", components={"a": ComponentChanged(b"old")}))
    await scribe.write(store, scribe.turn("x", components={"a": ComponentChanged(b"new")}))
    for ref in (attachment_id(b"theirs"), attachment_id(b"old"), attachment_id(b"nowhere"), "nonsense", ""):
        async with refused(store, CommitRefused, "component_ref"):
            await store.commit(scribe.turn("y", components={"a": ComponentUnchanged(ref)}))


@CASES.case("A3.04")
async def _turn_index(harness: StoreHarness) -> None:
    """A turn index, time or version outside 64 bits is refused when it is written, so that none can be met later."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one", turn_index=INT_MAX))
    same((await store.load_head("s1")).turn_index, INT_MAX)
    late = scribe.turn("two")
    for commit in (
        evolve(late, turn_index=INT_MAX + 1),
        evolve(late, turn_index=-1),
        evolve(late, committed_at_ms=INT_MAX + 1),
        evolve(late, nodes=(evolve(late.nodes[0], timestamp_ms=-INT_MAX - 2),)),
        evolve(late, components={"a": ComponentChanged(b"", version=1 << 64)}),
    ):
        async with refused(store, CommitRefused, "integer_range"):
            await store.commit(commit)


@CASES.case("A3.05")
async def _usage_range(harness: StoreHarness) -> None:
    """A token counter below zero or beyond 64 bits is refused."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    for usage in (TokenUsage(input=INT_MAX + 1), TokenUsage(reasoning_output=-1), TokenUsage(cache_read_input=1 << 70)):
        async with refused(store, CommitRefused, "integer_range"):
            await store.commit(scribe.turn("two", usage=spent(usage)))


@CASES.case("A3.06")
async def _reasoning_only(harness: StoreHarness) -> None:
    """Usage that is nothing but reasoning, or nothing but unknown, is kept."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one", usage=spent(TokenUsage(reasoning_output=5))))
    await scribe.write(store, scribe.turn("two", usage=spent(TokenUsage(at_least=True), source="lost")))
    wanted = {("turn", "m"): TokenUsage(reasoning_output=5), ("lost", "m"): TokenUsage(at_least=True)}
    same(await usage_of(store), wanted)


@CASES.case("A3.07")
async def _usage_total_range(harness: StoreHarness) -> None:
    """A total that would leave 64 bits is refused by the commit that would make it, so that every load works."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one", usage=spent(TokenUsage(input=INT_MAX - 1))))
    for usages in ((TokenUsage(input=2),), (TokenUsage(input=1), TokenUsage(input=1))):
        async with refused(store, CommitRefused, "integer_range"):
            await store.commit(scribe.turn("two", usage=spent(*usages)))
    await scribe.write(store, scribe.turn("two", usage=spent(TokenUsage(input=1))))
    same(await usage_of(store), {("turn", "m"): TokenUsage(input=INT_MAX)})
    same((await store.list_sessions())[0].usage.input, INT_MAX)


@CASES.case("A3.08")
async def _counted_once(harness: StoreHarness) -> None:
    """A commit's usage is counted once, however often it is sent."""
    store, scribe = await harness.open(), Scribe()
    commit = scribe.turn("one", usage=spent(TokenUsage(input=5), TokenUsage(input=5)))
    await scribe.write(store, commit)
    await scribe.write(store, scribe.turn("two"))
    for _ in range(3):
        await store.commit(commit)
    same(await usage_of(store), {("turn", "m"): TokenUsage(input=10)})


@CASES.case("A3.09")
async def _counted_each(harness: StoreHarness) -> None:
    """Equal usage at the same place of two operations counts twice, and stays so when either is replayed."""
    store, scribe = await harness.open(), Scribe()
    commits = []
    for _ in range(2):
        commits.append(scribe.turn("x", usage=spent(TokenUsage(output=3))))
        await scribe.write(store, commits[-1])
    for commit in commits:
        same((await store.commit(commit)).receipt_replayed, True)
    same(await usage_of(store), {("turn", "m"): TokenUsage(output=6)})


@CASES.case("A3.10", Capability.BLOBS)
async def _reclaims(harness: StoreHarness) -> None:
    """Bodies that nothing refers to are dropped; those that another key or session uses stay."""
    store, scribe, other = await harness.open(), Scribe(), Scribe("s2")
    shared, twice, lone = b"shared", b"twice", b"lone"
    parts = {"a": ComponentChanged(shared), "b": ComponentChanged(twice), "c": ComponentChanged(lone)}
    await scribe.write(store, scribe.turn("x", components={**parts, "d": ComponentChanged(twice)}))
    await other.write(store, other.turn("x", components={"a": ComponentChanged(shared)}))
    await scribe.write(store, scribe.turn("y", components={"d": ComponentUnchanged(attachment_id(twice))}))
    for body, stays in ((shared, True), (twice, True), (lone, False)):
        same(await store.get_blob(attachment_id(body)), body if stays else None)
    same((await components_of(store), await components_of(store, "s2")), ({"d": twice}, {"a": shared}))
