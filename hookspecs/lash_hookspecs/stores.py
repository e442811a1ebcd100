"""The store port: a session's graph, its head, receipts, and what a commit is.

A store deals in encoded bytes: it never looks into a node's body, a checkpoint component or a receipt's result. All
that it decides is in `SessionStore.commit`, in this order: budget, deleted?, receipt (replay or conflict), claims of
inbox items, ancestor, head revision, graph rules, references; then it writes everything at once. The head's revision is
the only authority to publish.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple, Protocol, Union, runtime_checkable

from attrs import field

from lash_hookspecs.canonical import content_hash, hash_of_plain, stable_hash
from lash_hookspecs.errors import StoreCorrupt
from lash_hookspecs.forks import NewSession
from lash_hookspecs.journal_rows import Settlement
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.messages import AttachmentRef
from lash_hookspecs.sequences import LazySequence
from lash_hookspecs.sessions import TokenLedgerEntry
from lash_hookspecs.values import frozen

__all__ = [
    "Blobs",
    "Capability",
    "CommitBudget",
    "CommitResult",
    "ComponentChanged",
    "ComponentEntry",
    "ComponentUnchanged",
    "LoadedSession",
    "NodeBodies",
    "NodeKind",
    "NodePath",
    "NodeRecord",
    "NodesLater",
    "OperationId",
    "Receipt",
    "RuntimeCommit",
    "SessionHead",
    "SessionLocks",
    "SessionMeta",
    "SessionStore",
    "SessionSummary",
    "Store",
    "StoreContext",
    "StoreSpec",
    "StoredComponent",
    "UsageDelta",
    "attachment_id",
    "frame_node_id",
    "intent_hash",
    "is_root_frame",
    "node_id",
]


class Capability(StrEnum):
    """What a store can do; each is a Protocol of its own. What is missing is refused at start, by name."""

    SESSIONS = "sessions"
    BLOBS = "blobs"
    LOCKS = "locks"
    LEASES = "leases"
    INBOX = "inbox"
    JOURNAL = "journal"
    FORKS = "forks"


class NodeKind(StrEnum):
    """What a node of the graph holds. Every node but the first has a `FRAME_OPEN` above it; the first is one."""

    MESSAGE = "message"
    EVENT = "event"
    PLUGIN = "plugin"
    FRAME_OPEN = "frame_open"


@frozen
class OperationId:
    """What a commit is for: `scope` is `turn` or `append`, `key` the caller's id, unique in scope and session."""

    scope: str
    key: str


def node_id(session_id: str, operation: OperationId, ordinal: int) -> str:
    """The id of the node that stands at `ordinal` (from 0) in this operation's batch, a root frame not counted.

    Whether a batch begins with the session's root frame depends on what was committed before it, which a second attempt
    may see otherwise than the first.
    """
    return hash_of_plain("lash.node", [session_id, operation.scope, operation.key, ordinal])


def frame_node_id(session_id: str, frame_key: str) -> str:
    """The id of a frame's first node; it depends on the frame's key only, so that it is known before the commit."""
    return stable_hash("lash.frame", [session_id, frame_key])


def is_root_frame(node: NodeRecord) -> bool:
    """Whether it is the session's very first node."""
    return node.kind is NodeKind.FRAME_OPEN and node.parent_node_id is None


def attachment_id(data: bytes) -> str:
    """The id of a blob: `sha256:` and the hash of its bytes."""
    return f"sha256:{content_hash(data)}"


@frozen(kw_only=True)
class NodeRecord:
    """A node: its place in the graph, and its body as encoded bytes. `frame_key` is set for `FRAME_OPEN` nodes."""

    node_id: str
    parent_node_id: str | None
    kind: NodeKind
    timestamp_ms: int
    body: bytes
    frame_key: str | None = None


@frozen
class ComponentChanged:
    """A checkpoint component with a new body. `version` is the encoding version of the body."""

    tag: ClassVar[str] = "changed"
    body: bytes
    version: int = 1


@frozen
class ComponentUnchanged:
    """A checkpoint component that stays: `ref` names a body that the session's components hold now, under any key.

    Any other ref is refused, even if some other session or blob has such a body.
    """

    tag: ClassVar[str] = "unchanged"
    ref: str


ComponentEntry = Union[ComponentChanged, ComponentUnchanged]


@frozen(kw_only=True)
class StoredComponent:
    """A checkpoint component as loaded; `ref` is `sha256:<hash>` of the body."""

    ref: str
    body: bytes
    version: int = 1


@frozen(kw_only=True)
class UsageDelta:
    """Usage that this commit adds to the session's totals; its identity is the operation and its place in the list."""

    source: str
    model: str
    usage: TokenUsage


@frozen(kw_only=True)
class CommitBudget:
    """How large a commit may be; None means no bound.

    Bytes count config, nodes' bodies, changed components, blobs, result. Rows count nodes, changed components, blobs,
    adopted blobs and usage.
    """

    max_bytes: int | None = 64 * 1024 * 1024
    max_rows: int | None = 20_000


@frozen(kw_only=True)
class RuntimeCommit:
    """Everything that one operation writes, in one transaction.

    `nodes` extend the active path in order; the last is the new leaf. `components` is the complete set: a key that is
    not in it is deleted. `blobs` are stored by `attachment_id` unless there already; `adopted_blobs` are blobs, stored
    before, that belong to the session from now on. `input_hash` and `result` go into the receipt. With
    `expected_head_revision` None (appends), only `requires_ancestor_node_id` guards the place, and the first node's
    parent may be out of date: the store puts it on the current leaf (ids don't depend on parents). Its `config` and
    `turn_index` may be out of date too: they count only where the session has no commit yet. A session that nobody
    created is created by its first commit. `settles` is for turns that were begun from the inbox.
    """

    session_id: str
    operation: OperationId
    expected_head_revision: int | None
    committed_at_ms: int
    config: bytes
    nodes: tuple[NodeRecord, ...] = ()
    components: Mapping[str, ComponentEntry] | None = None
    usage: tuple[UsageDelta, ...] = ()
    blobs: tuple[bytes, ...] = ()
    adopted_blobs: tuple[str, ...] = ()
    turn_index: int = 0
    input_hash: str = ""
    result: bytes = b""
    requires_ancestor_node_id: str | None = None
    budget: CommitBudget = CommitBudget()
    settles: Settlement | None = None
    creates: tuple[NewSession, ...] = ()


def intent_hash(commit: RuntimeCommit) -> str:
    """What a commit means, apart from when and where it is tried: equal hashes are the same commit.

    In: session, operation, topology and payloads of the nodes, config, usage, components' content, attachments, input
    hash, required ancestor, the ids of sessions that it creates and what these are told. Out: clocks, the expected
    revision, the observed leaf (the first parent), a root frame, the result; and, for appends, the config, which they
    only carry along.
    """
    own = [each for each in commit.nodes if not is_root_frame(each)]
    nodes = [
        [each.node_id, each.parent_node_id if index else None, each.kind.value, each.frame_key, content_hash(each.body)]
        for index, each in enumerate(own)
    ]
    components = None
    if commit.components is not None:
        components = {
            key: attachment_id(entry.body) if isinstance(entry, ComponentChanged) else entry.ref
            for key, entry in commit.components.items()
        }
    usage = [
        [
            each.source,
            each.model,
            # As text, which holds numbers of any size: what is too large is the store's to refuse.
            str(each.usage.input),
            str(each.usage.output),
            str(each.usage.cache_read_input),
            str(each.usage.cache_write_input),
            str(each.usage.reasoning_output),
            each.usage.at_least,
            str(each.usage.picodollars),
            each.usage.unpriced,
            str(each.usage.unpriced_at_most),
        ]
        for each in commit.usage
    ]
    return stable_hash(
        "lash.commit-intent",
        [
            commit.session_id,
            commit.operation.scope,
            commit.operation.key,
            nodes,
            None if commit.expected_head_revision is None else content_hash(commit.config),
            components,
            usage,
            sorted({*(attachment_id(each) for each in commit.blobs), *commit.adopted_blobs}),
            commit.input_hash,
            commit.requires_ancestor_node_id,
            *([[*map(_created, commit.creates)]] if commit.creates else []),
        ],
    )


def _created(each: NewSession) -> list[object]:
    return [each.session_id, each.forks, each.item and [each.item.source_key, each.item.content_hash]]


@frozen(kw_only=True)
class Receipt:
    """Proof of a committed operation, kept as long as its session."""

    operation: OperationId
    intent_hash: str
    input_hash: str
    head_revision: int
    leaf_node_id: str | None
    node_ids: tuple[str, ...]
    committed_at_ms: int
    result: bytes


@frozen(kw_only=True)
class CommitResult:
    """The receipt, and whether it was there before (then nothing was written)."""

    receipt: Receipt
    receipt_replayed: bool = False


# ---- what is loaded -------------------------------------------------------------------------------------------------


@frozen(kw_only=True)
class SessionMeta:
    """What is known of a session from its creation on. `labels` are the application's own."""

    session_id: str
    created_at_ms: int
    parent_session_id: str | None = None
    labels: Mapping[str, str] = field(factory=dict)


@frozen(kw_only=True)
class SessionHead:
    """Where a session stands: revision 0 and no leaf before the first commit. `forked`: its path began in another."""

    session_id: str
    head_revision: int = 0
    leaf_node_id: str | None = None
    frame_node_id: str | None = None
    turn_index: int = 0
    config: bytes = b""
    forked: bool = False


class NodePath(LazySequence[NodeRecord]):
    """Nodes in order, each below the one before, kept in columns: a record is made when it is read.

    A store that has thousands of rows at hand makes this of them; who wants bodies only reads `kinds` and `bodies`.
    `parent` is the id of the node above the first one.
    """

    __slots__ = ("_frame_keys", "_parent", "_timestamps", "bodies", "ids", "kinds")

    def __init__(
        self,
        parent: str | None,
        ids: Sequence[str],
        kinds: Sequence[NodeKind],
        timestamps: Sequence[int],
        frame_keys: Sequence[str | None],
        bodies: Sequence[bytes],
    ) -> None:
        self._parent = parent
        self.ids = ids
        self.kinds = kinds
        self._timestamps = timestamps
        self._frame_keys = frame_keys
        self.bodies = bodies

    @classmethod
    def of(cls, nodes: Iterable[NodeRecord]) -> NodePath:
        """These nodes in columns, unless they are so already. Raises `StoreCorrupt` if they are no path."""
        if isinstance(nodes, cls):
            return nodes
        if isinstance(nodes, NodesLater):
            return nodes.path
        records = tuple(nodes)
        for above, each in pairwise(records):
            if each.parent_node_id != above.node_id:
                raise StoreCorrupt(f"node `{each.node_id}` doesn't stand below the one before it, `{above.node_id}`")
        return cls(
            records[0].parent_node_id if records else None,
            [each.node_id for each in records],
            [each.kind for each in records],
            [each.timestamp_ms for each in records],
            [each.frame_key for each in records],
            [each.body for each in records],
        )

    def __len__(self) -> int:
        return len(self.ids)

    def entry(self, at: int) -> NodeRecord:
        """The record at a place."""
        return NodeRecord(
            node_id=self.ids[at],
            parent_node_id=self.ids[at - 1] if at else self._parent,
            kind=self.kinds[at],
            timestamp_ms=self._timestamps[at],
            body=self.bodies[at],
            frame_key=self._frame_keys[at],
        )


class NodeBodies(NamedTuple):
    """Of a path's nodes, in order, what somebody needs who goes on with what was said."""

    kinds: Sequence[NodeKind]
    bodies: Sequence[bytes]


class NodesLater(LazySequence[NodeRecord]):
    """Nodes that are read from the store when somebody looks at them: where they stay encoded until then.

    `load` waits for the store. Whoever can't wait, and looks at a node, has it `read` on the spot; whoever wants bodies
    only has these loaded, which costs a store less where it has `bodies`. All raise what `SessionStore.load_session`
    would have raised: what was stored by then never changes, but it may be damaged or gone.
    """

    __slots__ = ("_bodies", "_load", "_path", "_read")

    def __init__(
        self,
        load: Callable[[], Awaitable[NodePath]],
        read: Callable[[], NodePath],
        bodies: Callable[[], Awaitable[NodeBodies]] | None = None,
    ) -> None:
        self._load = load
        self._read = read
        self._bodies = bodies
        self._path: NodePath | None = None

    async def load_bodies(self) -> NodeBodies:
        """The nodes' kinds and bodies."""
        if self._path is None and self._bodies is not None:
            return await self._bodies()
        path = await self.load()
        return NodeBodies(path.kinds, path.bodies)

    async def load(self) -> NodePath:
        """The nodes, read once."""
        if self._path is None:
            self._path = await self._load()
        return self._path

    @property
    def path(self) -> NodePath:
        """The nodes, on the spot."""
        if self._path is None:
            self._path = self._read()
        return self._path

    def __len__(self) -> int:
        return len(self.path)

    def entry(self, at: int) -> NodeRecord:
        """The record at a place."""
        return self.path.entry(at)


@frozen(kw_only=True)
class LoadedSession:
    """A session from its current frame on: head, nodes from the frame's first to the leaf, components, usage totals.

    `nodes` may be a `NodePath`, which costs less than records where there are thousands, or `NodesLater`.
    """

    head: SessionHead
    nodes: Sequence[NodeRecord] = ()
    components: Mapping[str, StoredComponent] = field(factory=dict)
    usage: tuple[TokenLedgerEntry, ...] = ()


@frozen(kw_only=True)
class SessionSummary:
    """A session in a list."""

    session_id: str
    created_at_ms: int
    updated_at_ms: int
    head_revision: int
    turn_index: int
    usage: TokenUsage = TokenUsage()


# ---- ports ----------------------------------------------------------------------------------------------------------


class SessionStore(Protocol):
    """Sessions, their graphs and receipts.

    Every method that takes a session's id, but for `delete_session` and `session_was_deleted`, raises `SessionDeleted`
    for one that was deleted. All raise `StoreUnavailable` when the store can't be reached or written (nothing is
    half-written then), `StoreCorrupt` when stored data breaks its rules, `Contended` when a lock stayed busy. A write
    that was submitted is awaited to its end, whatever is cancelled meanwhile: when its call ends, it is there whole, or
    never will be.
    """

    async def create_session(self, meta: SessionMeta) -> bool:
        """Make the session known; True if it is new, False if it was there (its first meta stays).

        An empty or blank id is a `CommitRefused` with code `session_id`.
        """
        ...

    async def load_meta(self, session_id: str) -> SessionMeta | None:
        """The session's meta; None if there is none."""
        ...

    async def load_head(self, session_id: str) -> SessionHead | None:
        """One row: where the session stands; None if there is none."""
        ...

    async def load_revision(self, session_id: str) -> int | None:
        """The head's revision alone: what every turn asks first, to learn whether somebody else wrote; so be quick."""
        ...

    async def load_session(
        self, session_id: str, *, all_frames: bool = False, later: bool = False
    ) -> LoadedSession | None:
        """The session from its current frame on (or whole); None if there is none.

        With `later`, its nodes may be `NodesLater`: for who asks where it stands, and perhaps never for what was said.
        """
        ...

    async def is_on_path(self, session_id: str, node_id: str) -> bool:
        """Whether a node is on the session's active path."""
        ...

    async def load_receipt(self, session_id: str, operation: OperationId) -> Receipt | None:
        """The receipt of an operation; None if it was never committed."""
        ...

    async def commit(self, commit: RuntimeCommit) -> CommitResult:
        """Write everything or nothing. See the module's text for the order of decisions.

        Raises `ReceiptConflict`, `ClaimLost` and `SessionMismatch` (see `Settlement`), `HeadConflict`,
        `BudgetExceeded`, and `CommitRefused` with one of these codes: `session_id` (blank), `ancestor` (the required
        node isn't on the active path), `node_duplicate` (twice in the commit), `node_id` (not what the operation or the
        frame's key makes it), `node_exists`, `topology` (a wrong parent), `frame_missing` (the session's first node is
        no `FRAME_OPEN`), `component_ref`, `blob_ref` (unknown), `integer_range` (a number, or a usage total, that 64
        bits don't hold), `text` (one that isn't valid Unicode).
        """
        ...

    async def delete_session(self, session_id: str) -> bool:
        """Delete it and everything that only it uses, and spend its id.

        True whenever the id is spent afterwards, by this call or an earlier one; False if it was never used, and then
        nothing is done.
        """
        ...

    async def session_was_deleted(self, session_id: str) -> bool:
        """Whether the id is spent."""
        ...

    async def list_sessions(self, *, limit: int = 100, before_ms: int | None = None) -> Sequence[SessionSummary]:
        """Sessions, the latest used first."""
        ...

    async def list_receipts(self, session_id: str, *, limit: int = 100) -> Sequence[Receipt]:
        """The session's operations, the latest first."""
        ...

    async def find_turn(self, turn_id: str) -> Sequence[tuple[str, Receipt]]:
        """(session id, receipt) of every turn whose id is, or starts with, `turn_id`; at most 10."""
        ...


class Blobs(Protocol):
    """Bytes by content. What no session adopts within a day may be dropped.

    Not so what was put within the day before an input of any session's was accepted, or since then, until its turn is
    over: the commit may adopt it.
    """

    async def put_blob(self, data: bytes, media_type: str) -> AttachmentRef:
        """Store bytes (or find them there) and name them."""
        ...

    async def get_blob(self, id: str) -> bytes | None:
        """Bytes by `AttachmentRef.id`; None if unknown."""
        ...


class SessionLocks(Protocol):
    """One turn at a time across processes."""

    def try_lock(self, session_id: str) -> AbstractContextManager[None] | None:
        """Hold the session until the context ends; None if it is held, here or in another process. Must not block."""
        ...


@runtime_checkable
class Store(Protocol):
    """An open store. It has the methods of every capability that it names."""

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it can do."""
        ...

    @property
    def persistent(self) -> bool:
        """Whether what it holds outlives the process."""
        ...

    @property
    def location(self) -> str:
        """Where the data is, for people: a path or a URL without secrets."""
        ...

    async def aclose(self) -> None:
        """Finish waiting writes and let go of everything."""
        ...


@frozen(kw_only=True)
class StoreContext:
    """What a store's factory gets: the URL as typed, its settings, and the clock by which leases and the like lapse.

    `now_ms` gives milliseconds since 1970; None stands for the system's clock.
    """

    url: str
    settings: Any = None
    now_ms: Callable[[], int] | None = None


@frozen(kw_only=True)
class StoreSpec:
    """A store that a plugin offers for URLs of these schemes (`sqlite` for `sqlite:///agent.db`).

    `settings` is a frozen attrs class whose every field has a default. `open` raises `ConfigurationError`,
    `StoreUnavailable` or `StoreVersionError` with a text that says what to do.
    """

    schemes: tuple[str, ...]
    open: Callable[[StoreContext], Awaitable[Store]]
    settings: type | None = None
    summary: str = ""
