"""What the cases are made of: the harness, damage, a writer of commits, and checks that need no test framework."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, contextmanager
from enum import StrEnum
from typing import Any, Protocol

import anyio
from attrs import define, field

from lash_hookspecs.forks import Forks
from lash_hookspecs.inbox import Inbox
from lash_hookspecs.journal import Journal
from lash_hookspecs.leases import Leases
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.stores import (
    Blobs,
    Capability,
    CommitResult,
    NodeKind,
    NodeRecord,
    NodesLater,
    OperationId,
    RuntimeCommit,
    SessionLocks,
    SessionStore,
    Store,
    UsageDelta,
    frame_node_id,
    node_id,
)
from lash_hookspecs.values import frozen

__all__ = [
    "INT_MAX",
    "Call",
    "Cases",
    "Corruption",
    "Need",
    "Run",
    "Scribe",
    "StoreCase",
    "StoreHarness",
    "at_once",
    "bodies",
    "components_of",
    "everything",
    "raises",
    "refused",
    "same",
    "spent",
    "usage_of",
]

INT_MAX = (1 << 63) - 1


class Corruption(StrEnum):
    """Damage that a harness can do to a session behind the store's back. Each leaves the store able to open.

    `NODE_GAP` removes a node that is neither the first of the frame nor the leaf, `NODE_PARENT` gives such a node
    another parent, `NODE_FRAME` another frame, `NODE_KIND` a kind that doesn't exist; `HEAD_LEAF` makes the head name a
    leaf that isn't there, `HEAD_NO_LEAF` none though there are nodes, `HEAD_REVISION` a revision below zero;
    `RECEIPT_NODES` makes the latest receipt claim one node more than there is; `RECEIPT_GONE` removes it;
    `COMPONENT_GONE` removes the body of a checkpoint component, `COMPONENT_BODY` replaces it by other bytes;
    `LEASE_GENERATION` makes the lease's generation negative, `LEASE_HOLDER` its holder unreadable, `LEASE_SPENT` makes
    it the last generation there is; `ITEM_GENERATION` makes the generation of an inbox item's claim negative,
    `ITEM_STATE` gives the item a state that doesn't exist, `ROW_STATUS` does so to a journal row.
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
    LEASE_GENERATION = "lease_generation"
    LEASE_HOLDER = "lease_holder"
    LEASE_SPENT = "lease_spent"
    ITEM_GENERATION = "item_generation"
    ITEM_STATE = "item_state"
    ROW_STATUS = "row_status"


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

    def advance(self, ms: int) -> None:
        """Let the clock of every handle, open or not, be that much further; only where there is such a clock."""
        ...


class Need(StrEnum):
    REOPEN = "reopen"
    ENDS = "ends"
    """The opposite: the data ends with the last handle."""
    CLOCK = "clock"


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
        """Check it. Raises `AssertionError` if it doesn't hold, or if the store lacks a method of its ports."""
        try:
            await self._run(_Checked(harness))
        except (AttributeError, TypeError) as error:  # a None, for example, where there should be something
            raise AssertionError(f"the store gave something else than its port says: {error}") from error


@frozen
class _Checked:
    """A harness that looks at each store before a case does."""

    _harness: StoreHarness

    async def open(self) -> Any:
        return _whole(await self._harness.open())

    async def reopen(self) -> Any:
        return _whole(await self._harness.reopen())

    async def corrupt(self, kind: Corruption, session_id: str) -> None:
        await self._harness.corrupt(kind, session_id)

    def advance(self, ms: int) -> None:
        self._harness.advance(ms)


_PORTS: dict[str, type] = {
    Capability.SESSIONS: SessionStore,
    Capability.BLOBS: Blobs,
    Capability.LOCKS: SessionLocks,
    Capability.LEASES: Leases,
    Capability.INBOX: Inbox,
    Capability.JOURNAL: Journal,
    Capability.FORKS: Forks,
}


def _whole(store: Any) -> Any:
    ports = [Store, *(_PORTS[each] for each in sorted(getattr(store, "capabilities", _PORTS)) if each in _PORTS)]
    names = [(port, name) for port in ports for name in vars(port) if not name.startswith("_")]
    missing = [f"`{port.__name__}.{name}`" for port, name in names if not hasattr(store, name)]
    if missing:
        raise AssertionError(f"{type(store).__name__} lacks {', '.join(missing)}")
    return store


@define
class Cases:
    """The cases of one module, in its order."""

    all: list[StoreCase] = field(factory=list)

    def case(self, id: str, *needs: str) -> Callable[[Run], Run]:
        """Make a case of the decorated function; its docstring is the statement."""

        def register(run: Run) -> Run:
            statement = " ".join((run.__doc__ or "").split())
            # A journal is an inbox item's, and written under a lease.
            implied = (Capability.LEASES, Capability.INBOX) if Capability.JOURNAL in needs else ()
            self.all.append(StoreCase(id, statement, frozenset((Capability.SESSIONS, *needs, *implied)), run))
            return run

        return register


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


def same(got: object, wanted: object) -> None:
    if got != wanted:
        raise AssertionError(f"got    {got!r}\nwanted {wanted!r}")


@contextmanager
def raises(error: type[Exception], code: str | None = None) -> Iterator[None]:
    try:
        yield
    except error as caught:
        same(getattr(caught, "code", None) if code else None, code)
    else:
        raise AssertionError(f"{error.__name__} was not raised")


async def everything(store: SessionStore, session_id: str) -> object:
    loaded = await store.load_session(session_id, all_frames=True)
    return loaded, await store.list_receipts(session_id, limit=1000) if loaded else ()


@asynccontextmanager
async def refused(
    store: SessionStore, error: type[Exception], code: str | None = None, session_id: str = "s1"
) -> AsyncIterator[None]:
    """The block is refused, and leaves nothing behind."""
    before = await everything(store, session_id)
    with raises(error, code):
        yield
    same(await everything(store, session_id), before)


async def bodies(store: SessionStore, session_id: str = "s1", **options: Any) -> list[bytes]:
    loaded = await store.load_session(session_id, **options)
    assert loaded is not None
    later = await store.load_session(session_id, later=True, **options)
    assert later is not None
    if isinstance(later.nodes, NodesLater):  # who only goes on with what was said gets the same
        bare = await later.nodes.load_bodies()
        same([*zip(bare.kinds, bare.bodies, strict=True)], [(node.kind, node.body) for node in loaded.nodes])
    return [node.body for node in loaded.nodes]


async def usage_of(store: SessionStore, session_id: str = "s1") -> dict[tuple[str, str], TokenUsage]:
    loaded = await store.load_session(session_id)
    assert loaded is not None
    return {(entry.source, entry.model): entry.usage for entry in loaded.usage}


async def components_of(store: SessionStore, session_id: str = "s1") -> dict[str, bytes]:
    loaded = await store.load_session(session_id)
    assert loaded is not None
    return {key: entry.body for key, entry in loaded.components.items()}


def spent(*usages: TokenUsage, source: str = "turn") -> tuple[UsageDelta, ...]:
    return tuple(UsageDelta(source=source, model="m", usage=usage) for usage in usages)


async def at_once(*calls: Callable[[], Awaitable[CommitResult]]) -> list[CommitResult | Exception]:
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
