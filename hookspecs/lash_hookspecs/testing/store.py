"""What every store must do, as cases that its own tests run.

::

    CASES = store_cases(SqlStore.capabilities)

    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
    async def test_the_store_keeps_its_word(case, harness):
        await case.run(harness)

The kit knows no test framework: a case that fails raises `AssertionError`. What a case needs beside the port (opening
the same data again, damaging it) it asks of a `StoreHarness`. Ids are stable; `NOT_APPLICABLE` names those that mean
nothing for this port, and why.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from enum import StrEnum
from typing import Any, Protocol

import anyio
from attrs import define, evolve, field, frozen

from lash_hookspecs.errors import (
    BudgetExceeded,
    CommitRefused,
    HeadConflict,
    ReceiptConflict,
    SessionDeleted,
    StoreCorrupt,
)
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.stores import (
    Blobs,
    Capability,
    CommitBudget,
    CommitResult,
    ComponentChanged,
    ComponentUnchanged,
    NodeKind,
    NodeRecord,
    OperationId,
    RuntimeCommit,
    SessionMeta,
    SessionStore,
    UsageDelta,
    attachment_id,
    frame_node_id,
    node_id,
)

__all__ = ["NOT_APPLICABLE", "Corruption", "Scribe", "StoreCase", "StoreHarness", "store_cases"]

INT_MAX = (1 << 63) - 1


class Corruption(StrEnum):
    """Damage that a harness can do to a session behind the store's back. Each leaves the store able to open.

    `NODE_GAP` removes a node that is neither the first of the frame nor the leaf, `NODE_PARENT` gives such a node
    another parent, `NODE_FRAME` another frame, `NODE_KIND` a kind that doesn't exist; `HEAD_LEAF` makes the head name a
    leaf that isn't there, `HEAD_NO_LEAF` none though there are nodes, `HEAD_REVISION` a revision below zero;
    `RECEIPT_NODES` makes the latest receipt claim one node more than there is; `RECEIPT_GONE` removes it;
    `COMPONENT_GONE` removes the body of a checkpoint component, `COMPONENT_BODY` replaces it by other bytes.
    """

    NODE_GAP = "node_gap"
    NODE_PARENT = "node_parent"
    NODE_FRAME = "node_frame"
    NODE_KIND = "node_kind"
    HEAD_LEAF = "head_leaf"
    HEAD_NO_LEAF = "head_no_leaf"
    HEAD_REVISION = "head_revision"
    RECEIPT_NODES = "receipt_nodes"
    RECEIPT_GONE = "receipt_gone"
    COMPONENT_GONE = "component_gone"
    COMPONENT_BODY = "component_body"


class StoreHarness(Protocol):
    """What a store's tests supply: one set of data, empty at first, and ways to reach it."""

    async def open(self) -> Any:
        """A handle on the data, another one each time if the store can have several; the harness closes it."""
        ...

    async def reopen(self) -> Any:
        """Close every handle, then open the data as a new process would."""
        ...

    async def corrupt(self, kind: Corruption, session_id: str) -> None:
        """Damage a session's stored data."""
        ...


class _Need(StrEnum):
    REOPEN = "reopen"


Run = Callable[[StoreHarness], Awaitable[None]]
Call = Callable[[], Awaitable[object]]


@frozen
class StoreCase:
    """One statement about a store. `needs` are the capabilities, corruptions and abilities that its check uses."""

    id: str
    statement: str
    needs: frozenset[str]
    _run: Run = field(repr=False)

    async def run(self, harness: StoreHarness) -> None:
        """Check it. Raises `AssertionError` if it doesn't hold."""
        await self._run(harness)


_CASES: list[StoreCase] = []

NOT_APPLICABLE = {
    "A1.01": "there are no unbound handles: every call of the port names its session",
    "A1.10": "nothing is ever retired: nodes stay until their session is deleted",
    "A2.08": "a session's nodes never leave its active path: there are no forks or rewinds yet",
    "A2.10": "there are no receipts of an older kind: this is the first format",
    "A2.11": "the receipt's encoding has one version; a newer database is refused as a whole when it is opened",
    "A2.15": "queue claims belong to the inbox, which isn't a part of this port",
    "D.06": "the service over appends is the kernel's, and so is its test",
    "D.08": "the service over appends is the kernel's, and so is its test",
}
"""Catalogue ids that have no meaning for this port, with the reason."""


def store_cases(
    capabilities: Collection[Capability],
    *,
    reopen: bool = True,
    corruptions: Collection[Corruption] = tuple(Corruption),
) -> list[StoreCase]:
    """The cases for a store with these capabilities, in the order of their ids.

    `reopen` is False for a store whose data ends with its last handle; `corruptions` are those that the harness can do.
    """
    offered = {*capabilities, *corruptions, *([_Need.REOPEN] if reopen else [])}
    return sorted((case for case in _CASES if case.needs <= offered), key=lambda case: case.id)


def _case(id: str, *needs: str) -> Callable[[Run], Run]:
    def register(run: Run) -> Run:
        statement = " ".join((run.__doc__ or "").split())
        _CASES.append(StoreCase(id, statement, frozenset((Capability.SESSIONS, *needs)), run))
        return run

    return register


# ---- tools for cases, and for tests of stores -----------------------------------------------------------------------


@define
class Scribe:
    """Writes commits for one session, each on top of the last one that it saw applied."""

    session_id: str = "s1"
    revision: int = 0
    leaf: str | None = None
    turns: int = 0

    def turn(self, *texts: str, frame: str | None = None, **changes: Any) -> RuntimeCommit:
        """A turn with a message per text, after a new frame if one is named (or if there is none yet)."""
        self.turns += 1
        changes = {"operation": OperationId("turn", f"t{self.turns}"), "turn_index": self.turns, **changes}
        changes = {"expected_head_revision": self.revision, "nodes": (), **changes}
        if texts or frame is not None:
            changes["nodes"] = self.nodes(changes["operation"], texts, frame or ("f0" if self.leaf is None else None))
        return RuntimeCommit(
            session_id=self.session_id,
            committed_at_ms=1_000 + self.turns,
            config=changes.pop("config", b'{"model":"m"}'),
            **changes,
        )

    def append(self, *texts: str, key: str = "a1", **changes: Any) -> RuntimeCommit:
        """An append: it doesn't say which head it expects."""
        return self.turn(*texts, operation=OperationId("append", key), expected_head_revision=None, **changes)

    def nodes(self, operation: OperationId, texts: Collection[str], frame: str | None) -> tuple[NodeRecord, ...]:
        """A frame, if one is named, and messages, one under the other, from the leaf on."""
        made: list[NodeRecord] = []
        rooted = frame is not None and self.leaf is None  # the root frame isn't counted
        for ordinal, text in enumerate([*([None] if frame is not None else []), *texts]):
            opens = text is None
            id = node_id(self.session_id, operation, ordinal - rooted)
            if opens and frame is not None:
                id = frame_node_id(self.session_id, frame)
            made.append(
                NodeRecord(
                    node_id=id,
                    parent_node_id=made[-1].node_id if made else self.leaf,
                    kind=NodeKind.FRAME_OPEN if opens else NodeKind.MESSAGE,
                    timestamp_ms=self.turns,
                    body=b"{}" if text is None else text.encode(),
                    frame_key=frame if opens else None,
                )
            )
        return tuple(made)

    async def write(self, store: SessionStore, commit: RuntimeCommit) -> CommitResult:
        """Commit it, and stand on what came of it."""
        result = await store.commit(commit)
        self.revision, self.leaf = result.receipt.head_revision, result.receipt.leaf_node_id
        return result


def _same(got: object, wanted: object) -> None:
    if got != wanted:
        raise AssertionError(f"got    {got!r}\nwanted {wanted!r}")


@contextmanager
def _raises(error: type[Exception], code: str | None = None) -> Iterator[None]:
    try:
        yield
    except error as caught:
        _same(getattr(caught, "code", None) if code else None, code)
    else:
        raise AssertionError(f"{error.__name__} was not raised")


async def _everything(store: SessionStore, session_id: str) -> object:
    loaded = await store.load_session(session_id, all_frames=True)
    return loaded, await store.list_receipts(session_id, limit=1000) if loaded else ()


@asynccontextmanager
async def _refused(
    store: SessionStore, error: type[Exception], code: str | None = None, session_id: str = "s1"
) -> AsyncIterator[None]:
    """The block is refused, and leaves nothing behind."""
    before = await _everything(store, session_id)
    with _raises(error, code):
        yield
    _same(await _everything(store, session_id), before)


async def _bodies(store: SessionStore, session_id: str = "s1", **options: Any) -> list[bytes]:
    loaded = await store.load_session(session_id, **options)
    assert loaded is not None
    return [node.body for node in loaded.nodes]


async def _usage(store: SessionStore, session_id: str = "s1") -> dict[tuple[str, str], TokenUsage]:
    loaded = await store.load_session(session_id)
    assert loaded is not None
    return {(entry.source, entry.model): entry.usage for entry in loaded.usage}


async def _components(store: SessionStore, session_id: str = "s1") -> dict[str, bytes]:
    loaded = await store.load_session(session_id)
    assert loaded is not None
    return {key: entry.body for key, entry in loaded.components.items()}


def _spent(*usages: TokenUsage, source: str = "turn") -> tuple[UsageDelta, ...]:
    return tuple(UsageDelta(source=source, model="m", usage=usage) for usage in usages)


async def _at_once(*calls: Callable[[], Awaitable[CommitResult]]) -> list[CommitResult | Exception]:
    """Run calls concurrently; their results and errors, in the order of the calls."""
    outcomes: dict[int, CommitResult | Exception] = {}

    async def run(index: int, call: Callable[[], Awaitable[CommitResult]]) -> None:
        try:
            outcomes[index] = await call()
        except Exception as error:
            outcomes[index] = error

    async with anyio.create_task_group() as group:
        for index, call in enumerate(calls):
            group.start_soon(run, index, call)
    return [outcomes[index] for index in range(len(calls))]


# ---- A1: sessions, heads, graphs ------------------------------------------------------------------------------------


@_case("A1.02")
async def _head_and_session_agree(harness: StoreHarness) -> None:
    """Full load and head-only load agree, for no session, created ones and committed ones."""
    store = await harness.open()
    _same((await store.load_head("s1"), await store.load_session("s1")), (None, None))
    await store.create_session(SessionMeta(session_id="s1", created_at_ms=1))
    await Scribe("s2").write(store, Scribe("s2").turn("hello"))
    for session_id, revision in (("s1", 0), ("s2", 1)):
        head, loaded = await store.load_head(session_id), await store.load_session(session_id)
        _same(head, loaded.head)
        _same((head.session_id, head.head_revision), (session_id, revision))


@_case("A1.03")
async def _other_session(harness: StoreHarness) -> None:
    """Nodes made for another session are refused, and both sessions stay as they were."""
    store, scribe, other = await harness.open(), Scribe(), Scribe("s2")
    await scribe.write(store, scribe.turn("mine"))
    await other.write(store, other.turn("theirs"))
    before = await _everything(store, "s1")
    for commit in (scribe.turn("more", expected_head_revision=1), scribe.append("more")):
        async with _refused(store, CommitRefused, "node_id", session_id="s2"):
            await store.commit(evolve(commit, session_id="s2"))
    _same(await _everything(store, "s1"), before)


@_case("A1.04")
async def _revisions_and_frames(harness: StoreHarness) -> None:
    """Each commit raises the revision by one; frames come back as they were written, the current one by default."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one", frame="f0"))
    result = await scribe.write(store, scribe.turn("two", "three", frame="f1"))
    _same((result.receipt.head_revision, result.receipt_replayed), (2, False))
    head = await store.load_head("s1")
    _same((head.head_revision, head.turn_index), (2, 2))
    _same((head.leaf_node_id, head.frame_node_id), (scribe.leaf, frame_node_id("s1", "f1")))
    loaded = await store.load_session("s1")
    _same([(node.kind, node.frame_key) for node in loaded.nodes[:2]], [("frame_open", "f1"), ("message", None)])
    _same(await _bodies(store), [b"{}", b"two", b"three"])
    _same(await _bodies(store, all_frames=True), [b"{}", b"one", b"{}", b"two", b"three"])


@_case("A1.05")
async def _one_winner(harness: StoreHarness) -> None:
    """Of concurrent commits at one revision exactly one applies."""
    first, second = await harness.open(), await harness.open()
    scribe = Scribe()
    await scribe.write(first, scribe.turn("start"))
    rivals = [scribe.turn(f"rival {index}") for index in range(6)]
    outcomes = await _at_once(
        *(lambda commit=commit, store=store: store.commit(commit) for commit in rivals for store in (first, second))
    )
    applied = [each for each in outcomes if isinstance(each, CommitResult) and not each.receipt_replayed]
    _same(len(applied), 1)
    replayed = [each for each in outcomes if isinstance(each, CommitResult) and each.receipt_replayed]
    _same(len(replayed), 1)  # the winner's other copy
    _same({type(each) for each in outcomes}, {CommitResult, HeadConflict})
    _same((await first.load_head("s1")).head_revision, 2)


@_case("A1.06")
async def _checkpoint_and_usage(harness: StoreHarness) -> None:
    """A load has the checkpoint's components and the usage of all commits, by source and model."""
    store, scribe = await harness.open(), Scribe()
    parts = {"tool_state": ComponentChanged(b"tools", version=3), "plugin.x": ComponentChanged(b"")}
    await scribe.write(store, scribe.turn("one", components=parts, usage=_spent(TokenUsage(input=1, output=2))))
    more = (*_spent(TokenUsage(input=10)), *_spent(TokenUsage(output=5, at_least=True), source="title"))
    await scribe.write(store, scribe.turn("two", usage=more))
    loaded = await store.load_session("s1")
    _same(
        {key: (entry.ref, entry.body, entry.version) for key, entry in loaded.components.items()},
        {"tool_state": (attachment_id(b"tools"), b"tools", 3), "plugin.x": (attachment_id(b""), b"", 1)},
    )
    wanted = {("turn", "m"): TokenUsage(input=11, output=2), ("title", "m"): TokenUsage(output=5, at_least=True)}
    _same(await _usage(store), wanted)
    (summary,) = await store.list_sessions()
    _same(summary.usage, TokenUsage(input=11, output=7, at_least=True))


@_case("A1.07")
async def _in_order(harness: StoreHarness) -> None:
    """History is read back in the order in which it was written, each node under the one before."""
    store, scribe = await harness.open(), Scribe()
    for index in range(12):
        await scribe.write(store, scribe.turn(f"{index}a", f"{index}b"))
    loaded = await store.load_session("s1")
    _same([node.body.decode() for node in loaded.nodes[1:]], [f"{index}{half}" for index in range(12) for half in "ab"])
    _same([node.parent_node_id for node in loaded.nodes], [None, *(node.node_id for node in loaded.nodes[:-1])])
    for node in loaded.nodes:
        _same(await store.is_on_path("s1", node.node_id), True)
    _same(await store.is_on_path("s1", node_id("s1", OperationId("turn", "never"), 0)), False)


@_case("A1.08")
async def _meta(harness: StoreHarness) -> None:
    """A session's meta comes back as it was given."""
    store = await harness.open()
    meta = SessionMeta(session_id="s1", created_at_ms=7, parent_session_id="p", labels={"team": "ops", "ä": "ü\n"})
    await store.create_session(meta)
    _same(await store.load_meta("s1"), meta)


@_case("A1.09")
async def _config(harness: StoreHarness) -> None:
    """The config, with the prompt layer in it, is kept byte for byte, and replaced by the next commit's."""
    store, scribe = await harness.open(), Scribe()
    for config in (b'{"prompt":{"guidance":"\xc3\xa4\\n"}}', bytes(range(256)) * 40, b"", b"last"):
        await scribe.write(store, scribe.turn("x", config=config))
        _same((await store.load_head("s1")).config, config)
        _same((await store.load_session("s1")).head.config, config)


@_case("A1.11")
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
        async with _refused(store, CommitRefused, "node_id"):
            await store.commit(evolve(commit, nodes=(wrong,)))


@_case("A1.12")
async def _taken_id(harness: StoreHarness) -> None:
    """A node whose id exists is refused: a frame's key is used once per session."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one", frame="f0"))
    async with _refused(store, CommitRefused, "node_exists"):
        await store.commit(scribe.turn("two", frame="f0"))


@_case("A1.13")
async def _twice_in_a_batch(harness: StoreHarness) -> None:
    """The same id twice in one commit is refused."""
    store, scribe = await harness.open(), Scribe()
    commit = scribe.turn("one", "two")
    frame, first, _ = commit.nodes
    for nodes in ((frame, evolve(frame, parent_node_id=frame.node_id)), (frame, first, first)):
        async with _refused(store, CommitRefused, "node_duplicate"):
            await store.commit(evolve(commit, nodes=nodes))


@_case("A1.14", Corruption.HEAD_LEAF)
async def _unresolved_leaf(harness: StoreHarness) -> None:
    """A head whose leaf isn't there is corrupt, not empty."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one", "two"))
    await harness.corrupt(Corruption.HEAD_LEAF, "s1")
    with _raises(StoreCorrupt):
        await store.load_session("s1")


@_case("A1.15", Corruption.HEAD_NO_LEAF)
async def _lost_leaf(harness: StoreHarness) -> None:
    """A head without a leaf, though there are nodes, is corrupt: for readers and for commits."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one", "two"))
    await harness.corrupt(Corruption.HEAD_NO_LEAF, "s1")
    with _raises(StoreCorrupt):
        await store.load_session("s1")
    with _raises(StoreCorrupt):
        await store.commit(evolve(scribe.turn("three", frame="f1"), expected_head_revision=None))


@_case("A1.16")
async def _empty_append(harness: StoreHarness) -> None:
    """A commit without nodes leaves leaf and frame where they are; a new session may begin with one."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn(config=b"first"))
    _same((scribe.revision, scribe.leaf), (1, None))
    await scribe.write(store, scribe.turn("one"))
    before = await store.load_head("s1")
    result = await scribe.write(store, scribe.turn(config=b"other"))
    after = await store.load_head("s1")
    _same((after.leaf_node_id, after.frame_node_id), (before.leaf_node_id, before.frame_node_id))
    _same((result.receipt.node_ids, result.receipt.leaf_node_id), ((), before.leaf_node_id))


@_case("A1.17")
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
        async with _refused(store, CommitRefused, "frame_missing"):
            await store.commit(commit)
    await scribe.write(store, scribe.turn("one"))
    commit = scribe.turn("two", "three")
    first, second = commit.nodes
    for nodes in (
        (evolve(first, parent_node_id=None), second),
        (evolve(first, parent_node_id=frame_node_id("s1", "f0")), second),
        (first, evolve(second, parent_node_id=scribe.leaf)),
    ):
        async with _refused(store, CommitRefused, "topology"):
            await store.commit(evolve(commit, nodes=nodes))


@_case("A1.18", Corruption.HEAD_LEAF)
async def _gone_leaf_blocks(harness: StoreHarness) -> None:
    """Nothing can be committed on a leaf that is gone."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one", "two"))
    await harness.corrupt(Corruption.HEAD_LEAF, "s1")
    for commit in (scribe.turn("three"), scribe.append("three")):
        with _raises(StoreCorrupt):
            await store.commit(commit)


@_case("A1.19")
async def _row_budget(harness: StoreHarness) -> None:
    """The rows that a commit allows itself are enforced."""
    store, scribe = await harness.open(), Scribe()
    commit = scribe.turn("one", "two", usage=_spent(TokenUsage(input=1)), blobs=(b"x",))  # a frame, and four rows more
    async with _refused(store, BudgetExceeded):
        await store.commit(evolve(commit, budget=CommitBudget(max_rows=4)))
    await scribe.write(store, evolve(commit, budget=CommitBudget(max_rows=5)))


@_case("A1.20")
async def _byte_budget(harness: StoreHarness) -> None:
    """The bytes that a commit allows itself are enforced; None is no bound."""
    store, scribe = await harness.open(), Scribe()
    parts = {"a": ComponentChanged(b"x" * 100)}
    commit = scribe.turn("y" * 100, components=parts, config=b"c" * 100, blobs=(b"z" * 100,), result=b"r" * 100)
    async with _refused(store, BudgetExceeded):
        await store.commit(evolve(commit, budget=CommitBudget(max_bytes=501)))
    await scribe.write(store, evolve(commit, budget=CommitBudget(max_bytes=502)))
    await scribe.write(store, scribe.turn("y" * 5_000, budget=CommitBudget(max_bytes=None, max_rows=None)))


@_case("A1.21", _Need.REOPEN)
async def _survives(harness: StoreHarness) -> None:
    """All committed state survives reopening."""
    store, scribe = await harness.open(), Scribe()
    await store.create_session(SessionMeta(session_id="s1", created_at_ms=1, labels={"a": "b"}))
    parts = {"a": ComponentChanged(b"a", version=2)}
    await scribe.write(store, scribe.turn("one", components=parts, usage=_spent(TokenUsage(input=3)), result=b"r"))
    await scribe.write(store, scribe.turn("two", frame="f1", input_hash="h"))
    before = await _everything(store, "s1"), await store.load_meta("s1"), await store.list_sessions()
    store = await harness.reopen()
    _same((await _everything(store, "s1"), await store.load_meta("s1"), await store.list_sessions()), before)


# ---- A2: receipts ---------------------------------------------------------------------------------------------------


@_case("A2.01")
async def _turn_receipt(harness: StoreHarness) -> None:
    """The same turn again is answered by its stored receipt, whatever it expects by now; other content conflicts."""
    store, scribe = await harness.open(), Scribe()
    commit = scribe.turn("one", result=b"first", usage=_spent(TokenUsage(input=1)))
    first = await scribe.write(store, commit)
    before = await _everything(store, "s1")
    for again in (commit, evolve(commit, expected_head_revision=7, committed_at_ms=9, result=b"second")):
        result = await store.commit(again)
        _same((result.receipt, result.receipt_replayed), (first.receipt, True))
    _same(await _everything(store, "s1"), before)
    async with _refused(store, ReceiptConflict):
        await store.commit(evolve(commit, nodes=(*commit.nodes[:-1], evolve(commit.nodes[-1], body=b"other"))))


@_case("A2.02")
async def _own_hash(harness: StoreHarness) -> None:
    """The store hashes what it is given: each part that is meant is caught when it changes."""
    store, scribe = await harness.open(), Scribe()
    blob = b"picture"
    parts = {"a": ComponentChanged(b"a"), "b": ComponentChanged(b"b")}
    commit = scribe.turn("one", components=parts, usage=_spent(TokenUsage(input=1)), blobs=(blob,), input_hash="h")
    await scribe.write(store, commit)
    for changes in (
        {"config": b"other"},
        {"nodes": commit.nodes[:1]},
        {"components": {"a": ComponentChanged(b"a")}},
        {"components": {**parts, "b": ComponentChanged(b"c")}},
        {"components": None},
        {"usage": ()},
        {"usage": _spent(TokenUsage(output=1))},
        {"blobs": ()},
        {"adopted_blobs": (attachment_id(b"another picture"),)},
        {"input_hash": "i"},
    ):
        async with _refused(store, ReceiptConflict):
            await store.commit(evolve(commit, **changes))


@_case("A2.03")
async def _append_receipt(harness: StoreHarness) -> None:
    """An append's receipt is replayed after the head moved on."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    commit = scribe.append("note", requires_ancestor_node_id=scribe.leaf)
    first = await scribe.write(store, commit)
    await scribe.write(store, scribe.turn("two"))
    result = await store.commit(commit)
    _same((result.receipt, result.receipt_replayed), (first.receipt, True))
    _same(await _bodies(store), [b"{}", b"one", b"note", b"two"])


@_case("A2.04")
async def _append_conflict(harness: StoreHarness) -> None:
    """An append with the id of another one is a conflict, before and after the head moved on."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    await scribe.write(store, scribe.append("note"))
    for _ in range(2):
        async with _refused(store, ReceiptConflict):
            await store.commit(scribe.append("another note"))
        await scribe.write(store, scribe.turn("more"))


@_case("A2.05")
async def _append_ancestor_conflict(harness: StoreHarness) -> None:
    """The required ancestor is part of what an append means."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    commit = scribe.append("note", requires_ancestor_node_id=scribe.leaf)
    await scribe.write(store, commit)
    for other in (None, frame_node_id("s1", "f0")):
        async with _refused(store, ReceiptConflict):
            await store.commit(evolve(commit, requires_ancestor_node_id=other))


@_case("A2.06", Corruption.RECEIPT_NODES)
async def _corrupt_receipt(harness: StoreHarness) -> None:
    """A receipt that claims other nodes than there are is corrupt, for readers and for a replay."""
    store, scribe = await harness.open(), Scribe()
    commit = scribe.turn("one", "two")
    await scribe.write(store, commit)
    await harness.corrupt(Corruption.RECEIPT_NODES, "s1")
    with _raises(StoreCorrupt):
        await store.load_receipt("s1", commit.operation)
    with _raises(StoreCorrupt):
        await store.commit(commit)


@_case("A2.07")
async def _same_append_at_once(harness: StoreHarness) -> None:
    """Identical appends at the same time are applied once, and all get the same receipt."""
    stores = [await harness.open(), await harness.open()]
    scribe = Scribe()
    await scribe.write(stores[0], scribe.turn("one"))
    commit = scribe.append("note")
    outcomes = await _at_once(*(lambda store=store: store.commit(commit) for store in stores * 4))
    results = [each for each in outcomes if isinstance(each, CommitResult)]
    _same(len(results), len(outcomes))
    _same([each.receipt_replayed for each in results].count(False), 1)
    _same({each.receipt.leaf_node_id for each in results}, {commit.nodes[-1].node_id})
    _same(await _bodies(stores[0]), [b"{}", b"one", b"note"])


@_case("A2.09")
async def _ancestor_first(harness: StoreHarness) -> None:
    """A required ancestor that isn't on the path is reported before a stale head."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    nowhere = node_id("s1", OperationId("turn", "never"), 0)
    async with _refused(store, CommitRefused, "ancestor"):
        await store.commit(evolve(scribe.turn("two"), expected_head_revision=0, requires_ancestor_node_id=nowhere))
    async with _refused(store, HeadConflict):
        await store.commit(evolve(scribe.turn("two"), expected_head_revision=0, requires_ancestor_node_id=scribe.leaf))


@_case("A2.12")
async def _receipt_and_graph(harness: StoreHarness) -> None:
    """A commit's receipt and its nodes are there together, or neither is."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    # Refused by the last rule there is: all that comes before would have been written.
    bad = scribe.turn("two", components={"a": ComponentUnchanged(attachment_id(b"nowhere"))})
    async with _refused(store, CommitRefused, "component_ref"):
        await store.commit(bad)
    _same(await store.load_receipt("s1", bad.operation), None)
    good = evolve(bad, components=None)
    result = await scribe.write(store, good)
    _same(await store.load_receipt("s1", good.operation), result.receipt)
    _same(result.receipt.node_ids, tuple(node.node_id for node in good.nodes))
    _same((await _bodies(store))[-1], b"two")


@_case("A2.13")
async def _fresh_ancestor(harness: StoreHarness) -> None:
    """A new append needs its ancestor on the active path; text that is no node id is simply not there."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    for nowhere in (node_id("s1", OperationId("turn", "never"), 0), "not an id", ""):
        async with _refused(store, CommitRefused, "ancestor"):
            await store.commit(scribe.append("note", requires_ancestor_node_id=nowhere))
    await scribe.write(store, scribe.append("note", requires_ancestor_node_id=frame_node_id("s1", "f0")))


@_case("A2.14", _Need.REOPEN)
async def _append_receipts_survive(harness: StoreHarness) -> None:
    """Receipts of appends survive reopening, and are found by operation, in lists, and by a turn's id or its start."""
    store, scribe = await harness.open(), Scribe()
    turn = await scribe.write(store, scribe.turn("one", operation=OperationId("turn", "turn-abc"), result=b"r"))
    commit = scribe.append("note")
    append = await scribe.write(store, commit)
    store = await harness.reopen()
    _same((await store.commit(commit)).receipt, append.receipt)
    _same(await store.load_receipt("s1", commit.operation), append.receipt)
    _same(list(await store.list_receipts("s1")), [append.receipt, turn.receipt])
    _same(list(await store.list_receipts("s1", limit=1)), [append.receipt])
    for beginning in ("turn-abc", "turn-", "t"):
        _same(list(await store.find_turn(beginning)), [("s1", turn.receipt)])
    for nothing in ("turn-abd", "turn-abcd", "a1"):
        _same(list(await store.find_turn(nothing)), [])


# ---- A3: checkpoints and usage --------------------------------------------------------------------------------------


@_case("A3.01", Capability.BLOBS)
async def _replaced_and_cleared(harness: StoreHarness) -> None:
    """A component that is replaced, then left out, is gone with its bytes."""
    store, scribe = await harness.open(), Scribe()
    for body in (b"first", b"second"):
        await scribe.write(store, scribe.turn("x", components={"execution_state": ComponentChanged(body)}))
    _same(await _components(store), {"execution_state": b"second"})
    _same(await store.get_blob(attachment_id(b"first")), None)
    await scribe.write(store, scribe.turn("y", components={}))
    _same(await _components(store), {})
    _same(await store.get_blob(attachment_id(b"second")), None)


@_case("A3.02", _Need.REOPEN)
async def _components_survive(harness: StoreHarness) -> None:
    """The complete set of components survives reopening again and again, unchanged ones and moved ones included."""
    store, scribe = await harness.open(), Scribe()
    bodies = {f"part {index}": b"body %d" % index for index in range(5)}
    parts: dict[str, Any] = {key: ComponentChanged(body, version=2) for key, body in bodies.items()}
    await scribe.write(store, scribe.turn("x", components=parts))
    for index in range(3):
        store = await harness.reopen()
        _same(await _components(store), bodies)
        bodies = {**bodies, "part 0": b"new %d" % index, f"moved {index}": bodies["part 1"]}
        parts = {key: ComponentUnchanged(attachment_id(body)) for key, body in bodies.items()}
        parts["part 0"] = ComponentChanged(bodies["part 0"], version=2)
        await scribe.write(store, scribe.turn("x", components=parts))
    store = await harness.reopen()
    _same(await _components(store), bodies)
    await scribe.write(store, scribe.turn("y"))  # a commit that doesn't speak of components leaves them alone
    loaded = await store.load_session("s1")
    _same({entry.version for entry in loaded.components.values()}, {2})
    _same(await _components(store), bodies)


@_case("A3.03")
async def _unknown_component(harness: StoreHarness) -> None:
    """A reference to a body that the session's components don't hold is refused, even if another session has it."""
    store, scribe, other = await harness.open(), Scribe(), Scribe("s2")
    await other.write(store, other.turn("x", components={"a": ComponentChanged(b"theirs")}))
    await scribe.write(store, scribe.turn("x", components={"a": ComponentChanged(b"old")}))
    await scribe.write(store, scribe.turn("x", components={"a": ComponentChanged(b"new")}))
    for ref in (attachment_id(b"theirs"), attachment_id(b"old"), attachment_id(b"nowhere"), "nonsense", ""):
        async with _refused(store, CommitRefused, "component_ref"):
            await store.commit(scribe.turn("y", components={"a": ComponentUnchanged(ref)}))


@_case("A3.04")
async def _turn_index(harness: StoreHarness) -> None:
    """A turn index, time or version outside 64 bits is refused when it is written, so that none can be met later."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one", turn_index=INT_MAX))
    _same((await store.load_head("s1")).turn_index, INT_MAX)
    late = scribe.turn("two")
    for commit in (
        evolve(late, turn_index=INT_MAX + 1),
        evolve(late, turn_index=-1),
        evolve(late, committed_at_ms=INT_MAX + 1),
        evolve(late, nodes=(evolve(late.nodes[0], timestamp_ms=-INT_MAX - 2),)),
        evolve(late, components={"a": ComponentChanged(b"", version=1 << 64)}),
    ):
        async with _refused(store, CommitRefused, "integer_range"):
            await store.commit(commit)


@_case("A3.05")
async def _usage_range(harness: StoreHarness) -> None:
    """A token counter below zero or beyond 64 bits is refused."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    for usage in (TokenUsage(input=INT_MAX + 1), TokenUsage(reasoning_output=-1), TokenUsage(cache_read_input=1 << 70)):
        async with _refused(store, CommitRefused, "integer_range"):
            await store.commit(scribe.turn("two", usage=_spent(usage)))


@_case("A3.06")
async def _reasoning_only(harness: StoreHarness) -> None:
    """Usage that is nothing but reasoning, or nothing but unknown, is kept."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one", usage=_spent(TokenUsage(reasoning_output=5))))
    await scribe.write(store, scribe.turn("two", usage=_spent(TokenUsage(at_least=True), source="lost")))
    wanted = {("turn", "m"): TokenUsage(reasoning_output=5), ("lost", "m"): TokenUsage(at_least=True)}
    _same(await _usage(store), wanted)


@_case("A3.07")
async def _usage_total_range(harness: StoreHarness) -> None:
    """A total that would leave 64 bits is refused by the commit that would make it, so that every load works."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one", usage=_spent(TokenUsage(input=INT_MAX - 1))))
    for usages in ((TokenUsage(input=2),), (TokenUsage(input=1), TokenUsage(input=1))):
        async with _refused(store, CommitRefused, "integer_range"):
            await store.commit(scribe.turn("two", usage=_spent(*usages)))
    await scribe.write(store, scribe.turn("two", usage=_spent(TokenUsage(input=1))))
    _same(await _usage(store), {("turn", "m"): TokenUsage(input=INT_MAX)})
    _same((await store.list_sessions())[0].usage.input, INT_MAX)


@_case("A3.08")
async def _counted_once(harness: StoreHarness) -> None:
    """A commit's usage is counted once, however often it is sent."""
    store, scribe = await harness.open(), Scribe()
    commit = scribe.turn("one", usage=_spent(TokenUsage(input=5), TokenUsage(input=5)))
    await scribe.write(store, commit)
    await scribe.write(store, scribe.turn("two"))
    for _ in range(3):
        await store.commit(commit)
    _same(await _usage(store), {("turn", "m"): TokenUsage(input=10)})


@_case("A3.09")
async def _counted_each(harness: StoreHarness) -> None:
    """Equal usage at the same place of two operations counts twice, and stays so when either is replayed."""
    store, scribe = await harness.open(), Scribe()
    commits = []
    for _ in range(2):
        commits.append(scribe.turn("x", usage=_spent(TokenUsage(output=3))))
        await scribe.write(store, commits[-1])
    for commit in commits:
        _same((await store.commit(commit)).receipt_replayed, True)
    _same(await _usage(store), {("turn", "m"): TokenUsage(output=6)})


@_case("A3.10", Capability.BLOBS)
async def _reclaims(harness: StoreHarness) -> None:
    """Bodies that nothing refers to are dropped; those that another key or session uses stay."""
    store, scribe, other = await harness.open(), Scribe(), Scribe("s2")
    shared, twice, lone = b"shared", b"twice", b"lone"
    parts = {"a": ComponentChanged(shared), "b": ComponentChanged(twice), "c": ComponentChanged(lone)}
    await scribe.write(store, scribe.turn("x", components={**parts, "d": ComponentChanged(twice)}))
    await other.write(store, other.turn("x", components={"a": ComponentChanged(shared)}))
    await scribe.write(store, scribe.turn("y", components={"d": ComponentUnchanged(attachment_id(twice))}))
    for body, stays in ((shared, True), (twice, True), (lone, False)):
        _same(await store.get_blob(attachment_id(body)), body if stays else None)
    _same((await _components(store), await _components(store, "s2")), ({"d": twice}, {"a": shared}))


# ---- C: sessions made and deleted -----------------------------------------------------------------------------------


@_case("C.03")
async def _fenced_handles(harness: StoreHarness) -> None:
    """A handle that was open before the session was deleted by another one can't write to it."""
    first, second, scribe = await harness.open(), await harness.open(), Scribe()
    await scribe.write(first, scribe.turn("one"))
    _same(await second.delete_session("s1"), True)
    calls: list[Call] = [
        lambda: first.commit(scribe.turn("two")),
        lambda: first.load_session("s1"),
        lambda: first.create_session(SessionMeta(session_id="s1", created_at_ms=1)),
    ]
    for call in calls:
        with _raises(SessionDeleted):
            await call()


@_case("C.06")
async def _admission(harness: StoreHarness) -> None:
    """A blank id is refused, a new one created, a known one found, a deleted one refused for good."""
    store = await harness.open()
    for blank in ("", " ", "\t\n"):
        with _raises(CommitRefused, "session_id"):
            await store.create_session(SessionMeta(session_id=blank, created_at_ms=1))
        with _raises(CommitRefused, "session_id"):
            await store.commit(Scribe(blank).turn("x"))
    meta = SessionMeta(session_id="s1", created_at_ms=1)
    _same([await store.create_session(meta) for _ in range(2)], [True, False])
    await store.delete_session("s1")
    with _raises(SessionDeleted):
        await store.create_session(meta)


@_case("C.08")
async def _delete_unused(harness: StoreHarness) -> None:
    """Deleting an id that was never used does nothing, and doesn't spend it."""
    store, scribe = await harness.open(), Scribe()
    _same((await store.delete_session("s1"), await store.session_was_deleted("s1")), (False, False))
    _same(await store.create_session(SessionMeta(session_id="s1", created_at_ms=1)), True)
    await scribe.write(store, scribe.turn("one"))


@_case("C.09")
async def _after_delete(harness: StoreHarness) -> None:
    """After a deletion every write is refused, a replay of a committed one too, and nothing is found or listed."""
    store, scribe = await harness.open(), Scribe()
    commit = scribe.turn("one", operation=OperationId("turn", "t-1"))
    await scribe.write(store, commit)
    await store.delete_session("s1")
    calls: list[Call] = [
        lambda: store.commit(commit),
        lambda: store.commit(scribe.append("note")),
        lambda: store.load_meta("s1"),
        lambda: store.load_head("s1"),
        lambda: store.load_receipt("s1", commit.operation),
        lambda: store.list_receipts("s1"),
        lambda: store.is_on_path("s1", commit.nodes[0].node_id),
    ]
    for call in calls:
        with _raises(SessionDeleted):
            await call()
    _same(await store.session_was_deleted("s1"), True)
    _same((list(await store.list_sessions()), list(await store.find_turn("t-1"))), ([], []))


@_case("C.10")
async def _missing(harness: StoreHarness) -> None:
    """What doesn't exist is None or empty, not an error, and asking doesn't make it."""
    store = await harness.open()
    _same([await store.load_meta("s1"), await store.load_head("s1"), await store.load_session("s1")], [None] * 3)
    _same(await store.load_receipt("s1", OperationId("turn", "t")), None)
    _same((list(await store.list_receipts("s1")), list(await store.find_turn("t"))), ([], []))
    _same(await store.is_on_path("s1", frame_node_id("s1", "f0")), False)
    _same(list(await store.list_sessions()), [])


@_case("C.11", _Need.REOPEN)
async def _created_and_found(harness: StoreHarness) -> None:
    """Creating seeds the meta, and reopening finds it; a session that a commit made has meta too."""
    store, scribe = await harness.open(), Scribe("s2")
    meta = SessionMeta(session_id="s1", created_at_ms=5, labels={"a": "1"})
    await store.create_session(meta)
    await scribe.write(store, scribe.turn("one"))
    store = await harness.reopen()
    _same(await store.load_meta("s1"), meta)
    _same(await store.load_meta("s2"), SessionMeta(session_id="s2", created_at_ms=1_001))
    _same((await store.load_head("s1")).head_revision, 0)
    _same([each.session_id for each in await store.list_sessions()], ["s2", "s1"])
    _same([each.session_id for each in await store.list_sessions(before_ms=1_001)], ["s1"])
    _same([each.session_id for each in await store.list_sessions(limit=1)], ["s2"])


@_case("C.12")
async def _relations(harness: StoreHarness) -> None:
    """Every shape of a session's relations comes back: alone, a child, a grandchild, of a parent unknown or deleted."""
    store = await harness.open()
    shapes = {"root": None, "child": "root", "grandchild": "child", "orphan": "nobody"}
    for id, parent in shapes.items():
        await store.create_session(SessionMeta(session_id=id, created_at_ms=1, parent_session_id=parent))
    await store.delete_session("root")
    for id in ("child", "grandchild", "orphan"):
        _same((await store.load_meta(id)).parent_session_id, shapes[id])


@_case("C.13")
async def _create_again(harness: StoreHarness) -> None:
    """Creating again changes nothing: the first meta stays, and what was committed too."""
    store, scribe = await harness.open(), Scribe()
    meta = SessionMeta(session_id="s1", created_at_ms=1, labels={"first": "yes"})
    await store.create_session(meta)
    await scribe.write(store, scribe.turn("one"))
    before = await _everything(store, "s1")
    _same(await store.create_session(SessionMeta(session_id="s1", created_at_ms=9, parent_session_id="p")), False)
    _same((await store.load_meta("s1"), await _everything(store, "s1")), (meta, before))


@_case("C.16")
async def _delete(harness: StoreHarness) -> None:
    """Deleting removes everything of the session, once or again, and nothing of another."""
    store, scribe, other = await harness.open(), Scribe(), Scribe("s2")
    await scribe.write(store, scribe.turn("one", usage=_spent(TokenUsage(input=1))))
    await other.write(store, other.turn("theirs", usage=_spent(TokenUsage(input=2))))
    before = await _everything(store, "s2")
    _same([await store.delete_session("s1") for _ in range(2)], [True, True])
    _same(await _everything(store, "s2"), before)
    _same([each.session_id for each in await store.list_sessions()], ["s2"])


@_case("C.25", Capability.BLOBS)
async def _delete_reclaims(harness: StoreHarness) -> None:
    """Deleting drops the bytes that only this session used."""
    store, scribe = await harness.open(), Scribe()
    parts = {"a": ComponentChanged(b"part")}
    await scribe.write(store, scribe.turn("x", components=parts, blobs=(b"picture",), config=b"config"))
    _same(await store.get_blob(attachment_id(b"picture")), b"picture")
    await store.delete_session("s1")
    for body in (b"part", b"picture", b"config"):
        _same(await store.get_blob(attachment_id(body)), None)


@_case("C.26", Capability.BLOBS)
async def _delete_keeps(harness: StoreHarness) -> None:
    """Deleting keeps the bytes that another session uses, however they came to it."""
    store, scribe, other = await harness.open(), Scribe(), Scribe("s2")
    put = (await store.put_blob(b"put", "image/png")).id
    mine = scribe.turn("x", components={"a": ComponentChanged(b"part")}, blobs=(b"picture",), adopted_blobs=(put,))
    await scribe.write(store, mine)
    theirs = other.turn("x", components={"b": ComponentChanged(b"part")}, blobs=(b"picture",), adopted_blobs=(put,))
    await other.write(store, theirs)
    await store.delete_session("s1")
    for body in (b"part", b"picture", b"put"):
        _same(await store.get_blob(attachment_id(body)), body)
    _same(await _components(store, "s2"), {"b": b"part"})


# ---- D: the graph ---------------------------------------------------------------------------------------------------


def _damaged_graph(id: str, damage: Corruption) -> None:
    async def run(harness: StoreHarness) -> None:
        store, scribe = await harness.open(), Scribe()
        await scribe.write(store, scribe.turn("one", "two", "three"))
        await harness.corrupt(damage, "s1")
        with _raises(StoreCorrupt):
            await store.load_session("s1")
        other = Scribe("s2")
        await other.write(store, other.turn("fine"))  # one broken session doesn't break the store

    run.__doc__ = f"A graph with damage of the kind `{damage}` is corrupt: typed, at once, and only for its session."
    _case(id, damage)(run)


for _damage in (
    Corruption.NODE_GAP,
    Corruption.NODE_PARENT,
    Corruption.NODE_FRAME,
    Corruption.NODE_KIND,
    Corruption.HEAD_REVISION,
):
    _damaged_graph(f"D.04-{_damage}", _damage)


@_case("D.04-duplicate", Corruption.RECEIPT_GONE)
async def _duplicate_node(harness: StoreHarness) -> None:
    """A commit whose nodes exist, though its receipt is lost, is refused instead of doubling them."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    commit = scribe.turn("two")
    await scribe.write(store, commit)
    await harness.corrupt(Corruption.RECEIPT_GONE, "s1")
    async with _refused(store, CommitRefused, "node_exists"):
        await store.commit(evolve(commit, expected_head_revision=None))


@_case("D.04-component", Corruption.COMPONENT_GONE, Corruption.COMPONENT_BODY)
async def _damaged_component(harness: StoreHarness) -> None:
    """A component whose body is gone or other than its reference says is corrupt, never empty or wrong."""
    store = await harness.open()
    for session_id, damage in (("s1", Corruption.COMPONENT_GONE), ("s2", Corruption.COMPONENT_BODY)):
        scribe = Scribe(session_id)
        parts = {"a": ComponentChanged(session_id.encode())}
        await scribe.write(store, scribe.turn("x", components=parts, config=b""))
        await harness.corrupt(damage, session_id)
        with _raises(StoreCorrupt):
            await store.load_session(session_id)


@_case("D.05")
async def _late_append(harness: StoreHarness) -> None:
    """An append that was prepared on an older leaf goes on the current one; its nodes keep their ids."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    commit = scribe.append("note", "and more", requires_ancestor_node_id=scribe.leaf)
    await scribe.write(store, scribe.turn("two"))
    result = await scribe.write(store, commit)
    _same(result.receipt.node_ids, tuple(node.node_id for node in commit.nodes))
    loaded = await store.load_session("s1")
    _same([node.body for node in loaded.nodes], [b"{}", b"one", b"two", b"note", b"and more"])
    _same(loaded.nodes[3].parent_node_id, loaded.nodes[2].node_id)


@_case("D.05-config")
async def _late_append_keeps(harness: StoreHarness) -> None:
    """An append carries config and turn index for a session that has none yet; it never turns newer ones back."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.append("first", key="a1", config=b"carried", turn_index=4))
    _same(((await store.load_head("s1")).config, (await store.load_head("s1")).turn_index), (b"carried", 4))
    late = scribe.append("note", key="a2", config=b"carried", turn_index=4)
    await scribe.write(store, scribe.turn("one", config=b"newer", turn_index=5))
    await scribe.write(store, late)
    head = await store.load_head("s1")
    _same((head.config, head.turn_index, head.head_revision), (b"newer", 5, 3))


@_case("D.07")
async def _foreign_ancestor(harness: StoreHarness) -> None:
    """An append that builds on a node outside the active path, another session's for example, is refused."""
    store, scribe, other = await harness.open(), Scribe(), Scribe("s2")
    await scribe.write(store, scribe.turn("one"))
    await other.write(store, other.turn("theirs"))
    async with _refused(store, CommitRefused, "ancestor"):
        await store.commit(scribe.append("note", requires_ancestor_node_id=other.leaf))
    _same(await store.is_on_path("s1", str(other.leaf)), False)


@_case("D.09")
async def _append_with_usage(harness: StoreHarness) -> None:
    """An append's nodes and its usage are written together, or not at all."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    spent = _spent(TokenUsage(output=4), source="append")
    nowhere = node_id("s1", OperationId("turn", "never"), 0)
    async with _refused(store, CommitRefused, "ancestor"):
        await store.commit(scribe.append("note", usage=spent, requires_ancestor_node_id=nowhere))
    await scribe.write(store, scribe.append("note", usage=spent))
    _same(await _usage(store), {("append", "m"): TokenUsage(output=4)})
    _same((await _bodies(store))[-1], b"note")


@_case("D.10")
async def _cancelled_append(harness: StoreHarness) -> None:
    """However an append is cancelled, it and its usage are there once after it is sent again."""
    store, scribe = await harness.open(), Scribe()
    await scribe.write(store, scribe.turn("one"))
    commit = scribe.append("note", usage=_spent(TokenUsage(output=4)))

    async def send() -> None:
        await store.commit(commit)

    for _ in range(3):
        async with anyio.create_task_group() as group:
            group.start_soon(send)
            await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
    result = await store.commit(commit)
    _same(result.receipt.node_ids, (commit.nodes[0].node_id,))
    _same(await _usage(store), {("turn", "m"): TokenUsage(output=4)})
    _same(await _bodies(store), [b"{}", b"one", b"note"])


# ---- G: blobs -------------------------------------------------------------------------------------------------------


@_case("G.01", Capability.BLOBS)
async def _blob_round_trip(harness: StoreHarness) -> None:
    """Bytes come back as they were put, none and many of them too, and their reference describes them."""
    store: Blobs = await harness.open()
    for data in (b"", b"\x00\xff" * 7, bytes(range(256)) * 8192):
        ref = await store.put_blob(data, "image/png")
        _same((ref.id, ref.media_type, ref.size), (attachment_id(data), "image/png", len(data)))
        _same(await store.get_blob(ref.id), data)


@_case("G.02", Capability.BLOBS)
async def _blob_content(harness: StoreHarness) -> None:
    """Equal bytes have one id, whoever puts them and as what; a commit adopts only what is there."""
    store, scribe = await harness.open(), Scribe()
    first, second = await store.put_blob(b"x", "image/png"), await store.put_blob(b"x", "text/plain")
    _same((first.id, second.media_type), (second.id, "text/plain"))
    for unknown in (attachment_id(b"y"), "x", "sha256:"):
        async with _refused(store, CommitRefused, "blob_ref"):
            await store.commit(scribe.turn("z", adopted_blobs=(first.id, unknown)))
    await scribe.write(store, scribe.turn("z", adopted_blobs=(first.id,)))


@_case("G.04", Capability.BLOBS)
async def _blob_unknown(harness: StoreHarness) -> None:
    """An unknown id, or a text that is none, has no bytes."""
    store = await harness.open()
    _same([await store.get_blob(id) for id in (attachment_id(b"nothing"), "nonsense", "")], [None] * 3)


@_case("G.10", Capability.BLOBS, _Need.REOPEN)
async def _blob_survives(harness: StoreHarness) -> None:
    """Bytes survive reopening."""
    ref = await (await harness.open()).put_blob(b"kept", "text/plain")
    _same(await (await harness.reopen()).get_blob(ref.id), b"kept")
