"""Sessions, heads and what a commit makes of them (group A1)."""

from __future__ import annotations

from attrs import evolve

from lash_hookspecs.errors import BudgetExceeded, CommitRefused, HeadConflict, StoreCorrupt
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.stores import (
    CommitBudget,
    CommitResult,
    ComponentChanged,
    NodeKind,
    OperationId,
    RuntimeCommit,
    SessionMeta,
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
    usage_of,
)

__all__ = ["CASES"]

CASES = Cases()


@CASES.case("A1.02")
async def _head_and_session_agree(harness: StoreHarness) -> None:
    """Full load, head and revision agree, for no session, created ones and committed ones."""
    store = await harness.open()
    same([await store.load_head("s1"), await store.load_session("s1"), await store.load_revision("s1")], [None] * 3)
    await store.create_session(SessionMeta(session_id="s1", created_at_ms=1))
    await Scribe("s2").write(store, Scribe("s2").turn("hello"))
    for session_id, revision in (("s1", 0), ("s2", 1)):
        head, loaded = await store.load_head(session_id), await store.load_session(session_id)
        same(head, loaded.head)
        same((head.session_id, head.head_revision), (session_id, revision))
        same(await store.load_revision(session_id), revision)


@CASES.case("A1.03")
async def _other_session(harness: StoreHarness) -> None:
    """Nodes made for another session are refused, and both sessions stay as they were."""
    store, scribe, other = await harness.open(), Scribe(), Scribe("s2")
    await scribe.write(store, scribe.turn("mine"))
    await other.write(store, other.turn("theirs"))
    before = await everything(store, "s1")
    for commit in (scribe.turn("more", expected_head_revision=1), scribe.append("more")):
        async with refused(store, CommitRefused, "node_id", session_id="s2"):
            await store.commit(evolve(commit, session_id="s2"))
    same(await everything(store, "s1"), before)


@CASES.case("A1.04")
async def _revisions_and_frames(harness: StoreHarness) -> None:
    """Each commit raises the revision by one; frames come back as they were written, the current one by default."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one", frame="f0"))
    result = await scribe.write(store, scribe.turn("two", "three", frame="f1"))
    same((result.receipt.head_revision, result.receipt_replayed), (2, False))
    head = await store.load_head("s1")
    same((head.head_revision, head.turn_index), (2, 2))
    same((head.leaf_node_id, head.frame_node_id), (scribe.leaf, frame_node_id("s1", "f1")))
    loaded = await store.load_session("s1")
    same([(node.kind, node.frame_key) for node in loaded.nodes[:2]], [("frame_open", "f1"), ("message", None)])
    same(await bodies(store), [b"{}", b"two", b"three"])
    same(await bodies(store, all_frames=True), [b"{}", b"one", b"{}", b"two", b"three"])


@CASES.case("A1.05")
async def _one_winner(harness: StoreHarness) -> None:
    """Of concurrent commits at one revision exactly one applies."""
    first, second = await harness.open(), await harness.open()
    scribe = Scribe()
    await scribe.write(first, scribe.turn("start"))
    rivals = [scribe.turn(f"rival {index}") for index in range(6)]
    outcomes = await at_once(
        *(lambda commit=commit, store=store: store.commit(commit) for commit in rivals for store in (first, second))
    )
    applied = [each for each in outcomes if isinstance(each, CommitResult) and not each.receipt_replayed]
    same(len(applied), 1)
    replayed = [each for each in outcomes if isinstance(each, CommitResult) and each.receipt_replayed]
    same(len(replayed), 1)  # the winner's other copy
    same({type(each) for each in outcomes}, {CommitResult, HeadConflict})
    same([(await each.load_head("s1")).head_revision for each in (first, second)], [2, 2])
    same([await each.load_revision("s1") for each in (first, second)], [2, 2])


@CASES.case("A1.06")
async def _checkpoint_and_usage(harness: StoreHarness) -> None:
    """A load has the checkpoint's components and the usage of all commits, by source and model."""
    store, scribe = await harness.open(), Scribe()
    parts = {"tool_state": ComponentChanged(b"tools", version=3), "plugin.x": ComponentChanged(b"")}
    await scribe.write(store, scribe.turn("one", components=parts, usage=spent(TokenUsage(input=1, output=2))))
    dear = TokenUsage(input=10, picodollars=7, unpriced=True, unpriced_at_most=4)
    more = (*spent(dear), *spent(TokenUsage(output=5, at_least=True), source="title"))
    await scribe.write(store, scribe.turn("two", usage=more))
    loaded = await store.load_session("s1")
    same(
        {key: (entry.ref, entry.body, entry.version) for key, entry in loaded.components.items()},
        {"tool_state": (attachment_id(b"tools"), b"tools", 3), "plugin.x": (attachment_id(b""), b"", 1)},
    )
    paid = evolve(dear, input=11, output=2)
    wanted = {("turn", "m"): paid, ("title", "m"): TokenUsage(output=5, at_least=True)}
    same(await usage_of(store), wanted)
    (summary,) = await store.list_sessions()
    same(summary.usage, evolve(paid, output=7, at_least=True))


@CASES.case("A1.07")
async def _in_order(harness: StoreHarness) -> None:
    """History is read back in the order in which it was written, each node under the one before."""
    store, scribe = await harness.open(), Scribe()
    for index in range(12):
        await scribe.write(store, scribe.turn(f"{index}a", f"{index}b"))
    loaded = await store.load_session("s1")
    same([node.body.decode() for node in loaded.nodes[1:]], [f"{index}{half}" for index in range(12) for half in "ab"])
    same([node.parent_node_id for node in loaded.nodes], [None, *(node.node_id for node in loaded.nodes[:-1])])
    for node in loaded.nodes:
        same(await store.is_on_path("s1", node.node_id), True)
    same(await store.is_on_path("s1", node_id("s1", OperationId("turn", "never"), 0)), False)


@CASES.case("A1.08")
async def _meta(harness: StoreHarness) -> None:
    """A session's meta comes back as it was given."""
    store = await harness.open()
    meta = SessionMeta(session_id="s1", created_at_ms=7, parent_session_id="p", labels={"team": "ops", "ä": "ü\n"})
    await store.create_session(meta)
    same(await store.load_meta("s1"), meta)


@CASES.case("A1.09")
async def _config(harness: StoreHarness) -> None:
    """The config, with the prompt layer in it, is kept byte for byte, and replaced by the next commit's."""
    store, scribe = await harness.open(), Scribe()
    for config in (b'{"prompt":{"guidance":"\xc3\xa4\\n"}}', bytes(range(256)) * 40, b"", b"last"):
        await scribe.write(store, scribe.turn("x", config=config))
        same((await store.load_head("s1")).config, config)
        same((await store.load_session("s1")).head.config, config)


@CASES.case("A1.11")
async def _derived_ids(harness: StoreHarness) -> None:
    """Node ids that the operation doesn't make are refused."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    commit = scribe.turn("two")
    (node,) = commit.nodes
    for wrong in (
        evolve(node, node_id="f" * 64),
        evolve(node, node_id="no hash at all"),
        evolve(node, node_id=node_id("s1", commit.operation, 1)),
        evolve(node, frame_key="f9"),
        evolve(node, kind=NodeKind.FRAME_OPEN),
    ):
        async with refused(store, CommitRefused, "node_id"):
            await store.commit(evolve(commit, nodes=(wrong,)))


@CASES.case("A1.12")
async def _taken_id(harness: StoreHarness) -> None:
    """A node whose id exists is refused: a frame's key is used once per session."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one", frame="f0"))
    async with refused(store, CommitRefused, "node_exists"):
        await store.commit(scribe.turn("two", frame="f0"))


@CASES.case("A1.13")
async def _twice_in_a_batch(harness: StoreHarness) -> None:
    """The same id twice in one commit is refused."""
    store, scribe = await harness.open(), Scribe()
    commit = scribe.turn("one", "two")
    frame, first, _ = commit.nodes
    for nodes in ((frame, evolve(frame, parent_node_id=frame.node_id)), (frame, first, first)):
        async with refused(store, CommitRefused, "node_duplicate"):
            await store.commit(evolve(commit, nodes=nodes))


@CASES.case("A1.14", Corruption.HEAD_LEAF)
async def _unresolved_leaf(harness: StoreHarness) -> None:
    """A head whose leaf isn't there is corrupt, not empty."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one", "two"))
    await harness.corrupt(Corruption.HEAD_LEAF, "s1")
    with raises(StoreCorrupt):
        await store.load_session("s1")


@CASES.case("A1.15", Corruption.HEAD_NO_LEAF)
async def _lost_leaf(harness: StoreHarness) -> None:
    """A head without a leaf, though there are nodes, is corrupt: for readers and for commits."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one", "two"))
    await harness.corrupt(Corruption.HEAD_NO_LEAF, "s1")
    with raises(StoreCorrupt):
        await store.load_session("s1")
    with raises(StoreCorrupt):
        await store.commit(evolve(scribe.turn("three", frame="f1"), expected_head_revision=None))


@CASES.case("A1.16")
async def _empty_append(harness: StoreHarness) -> None:
    """A commit without nodes leaves leaf and frame where they are; a new session may begin with one."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn(config=b"first"))
    same((scribe.revision, scribe.leaf), (1, None))
    await scribe.write(store, scribe.turn("one"))
    before = await store.load_head("s1")
    result = await scribe.write(store, scribe.turn(config=b"other"))
    after = await store.load_head("s1")
    same((after.leaf_node_id, after.frame_node_id), (before.leaf_node_id, before.frame_node_id))
    same((result.receipt.node_ids, result.receipt.leaf_node_id), ((), before.leaf_node_id))


@CASES.case("A1.17")
async def _no_frame(harness: StoreHarness) -> None:
    """A session's first node must open a frame, and a node's parent must be the one before it."""
    store, scribe = await harness.open(), Scribe()
    operation = OperationId("turn", "t1")
    bare = RuntimeCommit(
        session_id="s1",
        operation=operation,
        expected_head_revision=0,
        committed_at_ms=1,
        config=b"",
        nodes=scribe.nodes(operation, ["one"], None),
    )
    for commit in (bare, evolve(bare, expected_head_revision=None)):
        async with refused(store, CommitRefused, "frame_missing"):
            await store.commit(commit)
    await scribe.write(store, scribe.turn("one"))
    commit = scribe.turn("two", "three")
    first, second = commit.nodes
    for nodes in (
        (evolve(first, parent_node_id=None), second),
        (evolve(first, parent_node_id=frame_node_id("s1", "f0")), second),
        (first, evolve(second, parent_node_id=scribe.leaf)),
    ):
        async with refused(store, CommitRefused, "topology"):
            await store.commit(evolve(commit, nodes=nodes))


@CASES.case("A1.18", Corruption.HEAD_LEAF)
async def _gone_leaf_blocks(harness: StoreHarness) -> None:
    """Nothing can be committed on a leaf that is gone."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one", "two"))
    await harness.corrupt(Corruption.HEAD_LEAF, "s1")
    for commit in (scribe.turn("three"), scribe.append("three")):
        with raises(StoreCorrupt):
            await store.commit(commit)


@CASES.case("A1.19")
async def _row_budget(harness: StoreHarness) -> None:
    """The rows that a commit allows itself are enforced."""
    store, scribe = await harness.open(), Scribe()
    commit = scribe.turn("one", "two", usage=spent(TokenUsage(input=1)), blobs=(b"x",))  # a frame, and four rows more
    async with refused(store, BudgetExceeded):
        await store.commit(evolve(commit, budget=CommitBudget(max_rows=4)))
    await scribe.write(store, evolve(commit, budget=CommitBudget(max_rows=5)))


@CASES.case("A1.20")
async def _byte_budget(harness: StoreHarness) -> None:
    """The bytes that a commit allows itself are enforced; None is no bound."""
    store, scribe = await harness.open(), Scribe()
    parts = {"a": ComponentChanged(b"x" * 100)}
    commit = scribe.turn("y" * 100, components=parts, config=b"c" * 100, blobs=(b"z" * 100,), result=b"r" * 100)
    async with refused(store, BudgetExceeded):
        await store.commit(evolve(commit, budget=CommitBudget(max_bytes=501)))
    await scribe.write(store, evolve(commit, budget=CommitBudget(max_bytes=502)))
    await scribe.write(store, scribe.turn("y" * 5_000, budget=CommitBudget(max_bytes=None, max_rows=None)))


@CASES.case("A1.21", Need.REOPEN)
async def _survives(harness: StoreHarness) -> None:
    """All committed state survives reopening."""
    store, scribe = await harness.open(), Scribe()
    await store.create_session(SessionMeta(session_id="s1", created_at_ms=1, labels={"a": "b"}))
    parts = {"a": ComponentChanged(b"a", version=2)}
    await scribe.write(store, scribe.turn("one", components=parts, usage=spent(TokenUsage(input=3)), result=b"r"))
    await scribe.write(store, scribe.turn("two", frame="f1", input_hash="h"))
    before = await everything(store, "s1"), await store.load_meta("s1"), await store.list_sessions()
    store = await harness.reopen()
    same((await everything(store, "s1"), await store.load_meta("s1"), await store.list_sessions()), before)
