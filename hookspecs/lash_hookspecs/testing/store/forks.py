"""Forks: what they share, what they don't, and what a commit makes beside its own writes (groups C and D)."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from lash_hookspecs.errors import CommitRefused, SessionDeleted
from lash_hookspecs.forks import NewSession, SessionFork
from lash_hookspecs.inbox import Ingress, NewInboxItem
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.stores import Capability, ComponentChanged, SessionMeta, attachment_id
from lash_hookspecs.testing.store.kit import (
    Cases,
    Need,
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

FORKS, BLOBS, INBOX = Capability.FORKS, Capability.BLOBS, Capability.INBOX


async def forked(store: Any, session_id: str = "s2", source_id: str = "s1", **changes: Any) -> Scribe:
    """Make a fork, and a scribe that stands on it."""
    await store.fork_session(SessionFork(session_id=session_id, source_id=source_id, created_at_ms=2_000, **changes))
    head = await store.load_head(session_id)
    return Scribe(session_id, head.head_revision, head.leaf_node_id, 100)


async def ids_of(store: Any, session_id: str) -> list[str]:
    loaded = await store.load_session(session_id, all_frames=True)
    return [node.node_id for node in loaded.nodes]


@CASES.case("C.14", FORKS)
async def _foreign_parents(harness: StoreHarness) -> None:
    """A fork's nodes stand below its own leaf: a node that its parent has since then is another session's."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    fork = await forked(store)
    await scribe.write(store, scribe.turn("two"))
    async with refused(store, CommitRefused, "topology", "s2"):
        await store.commit(evolve(fork, leaf=scribe.leaf).turn("three"))


@CASES.case("C.15", FORKS)
async def _independent(harness: StoreHarness) -> None:
    """A fork begins with components and policy, and without ledger, receipts and inbox; then neither sees the other."""
    store, scribe = await harness.open(), Scribe()
    parts = {"a": ComponentChanged(b"before")}
    await scribe.write(store, scribe.turn("one", components=parts, config=b"first", usage=spent(TokenUsage(input=3))))
    fork = await forked(store, labels={"why": "to try"})
    meta = SessionMeta(session_id="s2", created_at_ms=2_000, parent_session_id="s1", labels={"why": "to try"})
    same(await store.load_meta("s2"), meta)
    head = await store.load_head("s2")
    same((head.config, head.turn_index, head.head_revision), (b"first", 1, scribe.revision))
    same((await components_of(store, "s2"), await usage_of(store, "s2")), ({"a": b"before"}, {}))
    same(list(await store.list_receipts("s2")), [])
    await scribe.write(store, scribe.turn("mine", components={"a": ComponentChanged(b"mine")}, config=b"mine"))
    await fork.write(store, fork.turn("theirs", components={"b": ComponentChanged(b"theirs")}, config=b"theirs"))
    same((await components_of(store, "s1"), await components_of(store, "s2")), ({"a": b"mine"}, {"b": b"theirs"}))
    same((await bodies(store, "s1"))[-2:], [b"one", b"mine"])
    same((await bodies(store, "s2"))[-2:], [b"one", b"theirs"])
    same([(await store.load_head(each)).config for each in ("s1", "s2")], [b"mine", b"theirs"])


@CASES.case("C.15-point", FORKS)
async def _retained_points(harness: StoreHarness) -> None:
    """Without components a session can be forked after each of its turns; with some, only where it stands."""
    store, scribe = await harness.open(), Scribe()
    for text in ("one", "two", "three"):
        await scribe.write(store, scribe.turn(text, frame="f1" if text == "two" else None))
    fork = await forked(store, at="t1", turn_index=1)
    head = await store.load_head("s2")
    same((head.head_revision, head.turn_index, await bodies(store, "s2")), (1, 1, [b"{}", b"one"]))
    await fork.write(store, fork.turn("other"))
    same(await bodies(store, "s2"), [b"{}", b"one", b"other"])
    await forked(store, "s3", at="t2", turn_index=2)
    same(await bodies(store, "s3", all_frames=True), [b"{}", b"one", b"{}", b"two"])
    same(await bodies(store, "s3"), [b"{}", b"two"])
    await scribe.write(store, scribe.turn("four", components={"a": ComponentChanged(b"x")}))
    for at in ("t2", "never"):
        with raises(CommitRefused, "fork_point"):
            await forked(store, "s4", at=at, turn_index=2)
    await forked(store, "s4", at="t4")
    same(await components_of(store, "s4"), {"a": b"x"})


@CASES.case("C.15-once", FORKS)
async def _made_once(harness: StoreHarness) -> None:
    """The same fork again is there already; another one under its id is refused, as are blank and spent ids."""
    store, scribe = await harness.open(), Scribe()
    with raises(CommitRefused, "fork_source"):
        await forked(store)
    await scribe.write(store, scribe.turn("one"))
    fork = SessionFork(session_id="s2", source_id="s1", created_at_ms=1)
    same([await store.fork_session(fork) for _ in range(2)], [True, False])
    await scribe.write(store, scribe.turn("two"))
    with raises(CommitRefused, "session_exists"):
        await store.fork_session(fork)
    with raises(CommitRefused, "session_id"):
        await store.fork_session(evolve(fork, session_id=" "))
    await store.delete_session("s2")
    with raises(SessionDeleted):
        await store.fork_session(fork)


@CASES.case("C.16-fork", FORKS, Need.REOPEN)
async def _each_whole(harness: StoreHarness) -> None:
    """Deleting a session keeps its forks whole, and deleting a fork the session; nothing else of it is left."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    fork = await forked(store)
    await scribe.write(store, scribe.turn("two", blobs=(b"later",)))
    await fork.write(store, fork.turn("theirs"))
    deeper = await forked(store, "s3", "s2")
    await store.delete_session("s1")
    await store.delete_session("s2")
    same(await store.get_blob(attachment_id(b"later")), None)
    store = await harness.reopen()
    await deeper.write(store, deeper.turn("mine"))
    same(await bodies(store, "s3"), [b"{}", b"one", b"theirs", b"mine"])
    await scribe_again(store)
    await store.delete_session("s3")
    same([each.session_id for each in await store.list_sessions()], ["s9"])


async def scribe_again(store: Any) -> None:
    """A session that comes later gets nobody's nodes."""
    scribe = Scribe("s9")
    await scribe.write(store, scribe.turn("new"))
    same(await bodies(store, "s9"), [b"{}", b"new"])


def _bytes_of_a_fork(id: str, first: str, last: str) -> None:
    @CASES.case(id, FORKS, BLOBS)
    async def run(harness: StoreHarness) -> None:
        """Bytes that a session had when it was forked stay as long as one of both is there, and no longer."""
        store, scribe = await harness.open(), Scribe()
        parts = {"a": ComponentChanged(b"part")}
        await scribe.write(store, scribe.turn("one", components=parts, blobs=(b"picture",)))
        await forked(store)
        await store.delete_session(first)
        same(await store.get_blob(attachment_id(b"picture")), b"picture")
        same(await components_of(store, last), {"a": b"part"})
        await store.delete_session(last)
        same([await store.get_blob(attachment_id(each)) for each in (b"picture", b"part")], [None] * 2)


_bytes_of_a_fork("C.26-parent", "s1", "s2")
_bytes_of_a_fork("C.26-fork", "s2", "s1")


@CASES.case("D.01", FORKS)
async def _lineage(harness: StoreHarness) -> None:
    """A fork's path is what was above it, and its own: what its parent, or another fork, has since then isn't on it."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one", "two"))
    before = await ids_of(store, "s1")
    forks = {each: await forked(store, each) for each in ("s2", "s3")}
    await scribe.write(store, scribe.turn("mine"))
    for fork in forks.values():
        await fork.write(store, fork.turn("theirs"))
    for session_id in ("s1", "s2", "s3"):
        path = await ids_of(store, session_id)
        same(path[: len(before)], before)
        same(len(path), len(before) + 1)
        for each in {*path, *await ids_of(store, "s1"), *await ids_of(store, "s2"), *await ids_of(store, "s3")}:
            same(await store.is_on_path(session_id, each), each in path)
    note = forks["s2"].append("note", requires_ancestor_node_id=before[0])
    await forks["s2"].write(store, note)
    async with refused(store, CommitRefused, "ancestor", "s3"):
        await store.commit(forks["s3"].append("note", requires_ancestor_node_id=scribe.leaf))


@CASES.case("D.02", FORKS)
async def _forks_without_nodes(harness: StoreHarness) -> None:
    """A fork of a fork that has written nothing is one of what that one was forked from."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    for number in range(2, 6):
        await forked(store, f"s{number}", f"s{number - 1}")
    last = Scribe("s5", scribe.revision, scribe.leaf, 7)
    await last.write(store, last.turn("deep"))
    await scribe.write(store, scribe.turn("two"))
    for number in (2, 3, 4):
        same(await bodies(store, f"s{number}"), [b"{}", b"one"])
    same(await bodies(store, "s5"), [b"{}", b"one", b"deep"])
    for number in (1, 2, 3, 4):
        await store.delete_session(f"s{number}")
    same(await bodies(store, "s5"), [b"{}", b"one", b"deep"])


@CASES.case("D.03", FORKS)
async def _edges(harness: StoreHarness) -> None:
    """Along its parents a path leads from the leaf to the root, in a fork and in what it was forked from."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one", "two"))
    fork = await forked(store)
    await fork.write(store, fork.turn("three", frame="f1"))
    deeper = await forked(store, "s3", "s2")
    await deeper.write(store, deeper.turn("four"))
    await fork.write(store, fork.turn("five"))
    await scribe.write(store, scribe.turn("six"))
    said = {"s1": [b"one", b"two", b"six"], "s2": [b"one", b"two", b"three", b"five"]}
    said["s3"] = [b"one", b"two", b"three", b"four"]
    for session_id, texts in said.items():
        loaded = await store.load_session(session_id, all_frames=True)
        same([each.body for each in loaded.nodes if each.body != b"{}"], texts)
        below = loaded.head.leaf_node_id
        for node in reversed(list(loaded.nodes)):
            same(node.node_id, below)
            below = node.parent_node_id
        same(below, None)
    same(await bodies(store, "s3"), [b"{}", b"three", b"four"])


# ---- with a commit --------------------------------------------------------------------------------------------------


def told(session_id: str, text: str = "go on", key: str = "seed") -> NewInboxItem:
    return NewInboxItem(
        session_id=session_id,
        source_key=key,
        ingress=Ingress.NEXT_TURN,
        content_hash=text,
        payload=text.encode(),
        accepted_at_ms=5,
        turn_id=key,
    )


@CASES.case("F.09-creates", FORKS, INBOX)
async def _with_a_commit(harness: StoreHarness) -> None:
    """What a commit creates is there with it, once: its policy, its first input, and, forked, what was said."""
    store, scribe = await harness.open(), Scribe()
    new = (
        NewSession(session_id="c1", config=b"child", item=told("c1")),
        NewSession(session_id="c2", config=b"fork", forks=True),
        NewSession(session_id="c1", config=b"another", item=told("c1", "and then", "next")),
    )
    commit = scribe.turn("one", components={"a": ComponentChanged(b"part")}, creates=new)
    for _ in range(2):
        await scribe.write(store, commit)
    head, waiting = await store.load_head("c1"), await store.list_inbox("c1")
    same((head.head_revision, head.config, head.leaf_node_id), (0, b"child", None))
    same([(each.source_key, each.payload) for each in waiting], [("seed", b"go on"), ("next", b"and then")])
    same((await store.load_meta("c1")).parent_session_id, "s1")
    same((await bodies(store, "c2"), await components_of(store, "c2")), ([b"{}", b"one"], {"a": b"part"}))
    same([(await store.load_head("c2")).config, list(await store.list_inbox("c2"))], [b"fork", []])
    child = Scribe("c1")
    await child.write(store, child.turn("first"))
    same(await bodies(store, "c1"), [b"{}", b"first"])


@CASES.case("F.09-creates-not", FORKS, INBOX)
async def _without_its_commit(harness: StoreHarness) -> None:
    """A commit that is refused creates nothing; who is there stays, and is told; who was deleted stays gone."""
    store, scribe, there = await harness.open(), Scribe(), Scribe("c1")
    new = (NewSession(session_id="c1", config=b"child", item=told("c1")),)
    await scribe.write(store, scribe.turn("one"))
    async with refused(store, CommitRefused, "ancestor"):
        await store.commit(scribe.append("note", creates=new, requires_ancestor_node_id="nowhere"))
    same(await store.load_head("c1"), None)
    await there.write(store, there.turn("hello", config=b"theirs"))
    before = await everything(store, "c1")
    await scribe.write(store, scribe.turn("two", creates=new))
    same(await everything(store, "c1"), before)
    same([each.payload for each in await store.list_inbox("c1")], [b"go on"])
    await store.delete_session("c1")
    await scribe.write(store, scribe.turn("three", creates=new))
    same([await store.session_was_deleted("c1"), (await bodies(store))[-1]], [True, b"three"])
