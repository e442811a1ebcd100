"""Every decision about a commit, as a function of the commit and of facts: no SQL, no clock, no threads.

The order of decisions is the port's: deleted? receipt → claims → ancestor → head → graph rules → references → ranges.
The first that objects ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Union

from attrs import evolve, field

from lash_hookspecs.errors import CommitRefused, HeadConflict, ReceiptConflict, SessionDeleted, StoreError
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.stores import ComponentChanged, NodeKind, NodeRecord, Receipt, RuntimeCommit
from lash_hookspecs.values import frozen
from lash_plugin_store_sql.draft import CONFIG, Draft, Ref, Slot, blank
from lash_plugin_store_sql.schema import INT_MAX
from lash_plugin_store_sql.turn_plan import Claim, settlement_error

__all__ = [
    "INT_MAX",
    "Facts",
    "HeadFacts",
    "NodeWrite",
    "Refusal",
    "Replay",
    "UsageKey",
    "Writes",
    "plan_commit",
]

UsageKey = tuple[str, str]
"""(source, model)"""

_GENERATION_MAX = (1 << 32) - 1


@frozen(kw_only=True)
class HeadFacts:
    """The stored head; the default is that of a session without commits. Generations are -1 where there is no node."""

    revision: int = 0
    turn_index: int = 0
    leaf: str | None = None
    leaf_generation: int = -1
    frame: str | None = None
    frame_generation: int = -1


@frozen(kw_only=True)
class Facts:
    """All that the database knows and a decision needs.

    `taken` are those of the commit's node ids that exist, `refs` the session's components and config, and what it
    uses already of the attachments that the commit brings or adopts, `usage` the totals of the commit's (source, model)
    pairs, `blobs` those of the commit's and the adopted hashes that are stored, `items` the inbox items that the commit
    settles.
    """

    deleted: bool = False
    receipt: Receipt | None = None
    known: bool = True
    head: HeadFacts = HeadFacts()
    ancestor_generation: int | None = None
    taken: frozenset[str] = frozenset()
    refs: Mapping[Slot, Ref] = field(factory=dict)
    usage: Mapping[UsageKey, TokenUsage] = field(factory=dict)
    blobs: frozenset[str] = frozenset()
    items: Mapping[int, Claim] = field(factory=dict)


@frozen(kw_only=True)
class NodeWrite:
    """A node at its final place."""

    node: NodeRecord
    generation: int
    frame_generation: int


@frozen(kw_only=True)
class Writes:
    """Everything to write, all at once. `released` are hashes that may have lost their last user."""

    new_session: bool
    head: HeadFacts
    nodes: tuple[NodeWrite, ...]
    receipt: Receipt
    first_generation: int
    bodies: Mapping[str, bytes] = field(repr=False)
    refs: Mapping[Slot, Ref]
    dropped: tuple[Slot, ...]
    released: tuple[str, ...]
    usage: Mapping[UsageKey, TokenUsage]


@frozen
class Replay:
    """The operation was committed before: its receipt is the answer."""

    receipt: Receipt


@frozen
class Refusal:
    """Nothing is written, for this reason."""

    error: StoreError


def plan_commit(draft: Draft, facts: Facts) -> Union[Writes, Replay, Refusal]:
    """What to do about a commit."""
    commit = draft.commit
    if facts.deleted:
        return Refusal(SessionDeleted(commit.session_id))
    if facts.receipt is not None:
        if facts.receipt.intent_hash == draft.intent_hash:
            return Replay(facts.receipt)
        return Refusal(
            ReceiptConflict(
                f"{commit.operation.scope} `{commit.operation.key}` of session `{commit.session_id}` was committed "
                f"before with other content (revision {facts.receipt.head_revision}): use another id"
            )
        )
    for objections in _RULES:
        for error in objections(draft, facts):
            return Refusal(error)
    return _writes(draft, facts)


def _session_id(draft: Draft, facts: Facts) -> Iterator[StoreError]:
    if blank(draft.commit.session_id):
        yield CommitRefused("session_id", "a session id must not be blank")


def _claims(draft: Draft, facts: Facts) -> Iterator[StoreError]:
    settles = draft.commit.settles
    error = None if settles is None else settlement_error(draft.commit, settles, facts.items)
    if error is not None:
        yield error


def _ancestor(draft: Draft, facts: Facts) -> Iterator[StoreError]:
    required = draft.commit.requires_ancestor_node_id
    place = facts.ancestor_generation
    if required is not None and (place is None or place > facts.head.leaf_generation):
        yield CommitRefused(
            "ancestor", f"node `{required}` is not on the active path, whose leaf is `{facts.head.leaf}`"
        )


def _head(draft: Draft, facts: Facts) -> Iterator[StoreError]:
    expected = draft.commit.expected_head_revision
    if expected is not None and expected != facts.head.revision:
        yield HeadConflict(draft.commit.session_id, expected, facts.head.revision)


def _unique(draft: Draft, facts: Facts) -> Iterator[StoreError]:
    seen: set[str] = set()
    for node in draft.commit.nodes:
        if node.node_id in seen:
            yield CommitRefused("node_duplicate", f"node `{node.node_id}` is twice in the commit")
        seen.add(node.node_id)


def _derived(draft: Draft, facts: Facts) -> Iterator[StoreError]:
    for ordinal, (node, wanted) in enumerate(zip(draft.commit.nodes, draft.ids, strict=True)):
        if wanted is None:
            yield CommitRefused("node_id", f"node {ordinal}: `frame_open` nodes have a frame key, others have none")
        elif node.node_id != wanted:
            yield CommitRefused("node_id", f"node {ordinal} is `{node.node_id}`, its operation makes it `{wanted}`")


def _not_taken(draft: Draft, facts: Facts) -> Iterator[StoreError]:
    for node in draft.commit.nodes:
        if node.node_id in facts.taken:
            what = f" (frame key `{node.frame_key}`)" if node.frame_key is not None else ""
            yield CommitRefused("node_exists", f"node `{node.node_id}`{what} is in the session already")


def _linear(draft: Draft, facts: Facts) -> Iterator[StoreError]:
    commit, leaf = draft.commit, facts.head.leaf
    previous = leaf
    for ordinal, node in enumerate(commit.nodes):
        # An append may have been prepared on an older leaf; the store puts it on the current one.
        moved = ordinal == 0 and commit.expected_head_revision is None
        if node.parent_node_id != previous and not moved:
            yield CommitRefused("topology", f"node {ordinal} has the parent `{node.parent_node_id}`, not `{previous}`")
        previous = node.node_id


def _framed(draft: Draft, facts: Facts) -> Iterator[StoreError]:
    nodes = draft.commit.nodes
    if nodes and facts.head.frame is None and nodes[0].kind is not NodeKind.FRAME_OPEN:
        yield CommitRefused("frame_missing", "the first node of a session must be a `frame_open`")


def _components(draft: Draft, facts: Facts) -> Iterator[StoreError]:
    held = _by_id(facts)
    for name, entry in (draft.commit.components or {}).items():
        if not isinstance(entry, ComponentChanged) and entry.ref not in held:
            yield CommitRefused("component_ref", f"component `{name}`: the session holds no `{entry.ref}`")


def _adopted(draft: Draft, facts: Facts) -> Iterator[StoreError]:
    for id in draft.commit.adopted_blobs:
        if not id.startswith("sha256:") or id[7:] not in facts.blobs | draft.bodies.keys():
            yield CommitRefused("blob_ref", f"there is no blob `{id}` to adopt")


def _in_range(draft: Draft, facts: Facts) -> Iterator[StoreError]:
    for value, what, whose in _counters(draft, facts):
        if not 0 <= value <= INT_MAX:
            yield CommitRefused("integer_range", f"{what} {whose} is {value}; it must be from 0 to {INT_MAX}")
    for value, what, whose in _times(draft.commit):
        if not -INT_MAX <= value <= INT_MAX:
            yield CommitRefused("integer_range", f"{what} {whose} is {value}; it must fit 64 bits")
    if facts.head.leaf_generation + len(draft.commit.nodes) > _GENERATION_MAX or facts.head.revision >= _GENERATION_MAX:
        yield CommitRefused("integer_range", f"a session holds at most {_GENERATION_MAX:,} nodes and commits")


def _counters(draft: Draft, facts: Facts) -> Iterator[tuple[int, str, object]]:
    commit = draft.commit
    yield commit.turn_index, "turn_index of", commit.operation.key
    for slot, ref in draft.refs.items():
        yield ref.version, "version of", slot
    for index, delta in enumerate(commit.usage):
        for counter in TokenUsage.COUNTERS:
            yield getattr(delta.usage, counter), counter, f"of usage {index}"
    for pair, totals in _totals(commit, facts).items():
        for counter in TokenUsage.COUNTERS:
            yield getattr(totals, counter), counter, pair


def _times(commit: RuntimeCommit) -> Iterator[tuple[int, str, object]]:
    yield commit.committed_at_ms, "committed_at_ms of", commit.operation.key
    for ordinal, node in enumerate(commit.nodes):
        yield node.timestamp_ms, "timestamp_ms of node", ordinal


_RULES: tuple[Callable[[Draft, Facts], Iterator[StoreError]], ...] = (
    _session_id,
    _claims,
    _ancestor,
    _head,
    _unique,
    _derived,
    _not_taken,
    _linear,
    _framed,
    _components,
    _adopted,
    _in_range,
)


def _totals(commit: RuntimeCommit, facts: Facts) -> dict[UsageKey, TokenUsage]:
    totals: dict[UsageKey, TokenUsage] = {}
    for delta in commit.usage:
        key = (delta.source, delta.model)
        totals[key] = totals.get(key, facts.usage.get(key, TokenUsage())) + delta.usage
    return totals


def _placed(commit: RuntimeCommit, old: HeadFacts) -> tuple[tuple[NodeWrite, ...], HeadFacts]:
    """The nodes at their places, and the head after them."""
    leaf, frame, frame_generation = old.leaf, old.frame, old.frame_generation
    placed = []
    for generation, node in enumerate(commit.nodes, old.leaf_generation + 1):
        if node.kind is NodeKind.FRAME_OPEN:
            frame, frame_generation = node.node_id, generation
        if node.parent_node_id != leaf:
            node = evolve(node, parent_node_id=leaf)
        placed.append(NodeWrite(node=node, generation=generation, frame_generation=frame_generation))
        leaf = node.node_id
    return tuple(placed), HeadFacts(
        revision=old.revision + 1,
        turn_index=old.turn_index if _carries(commit, old) else commit.turn_index,
        leaf=leaf,
        leaf_generation=old.leaf_generation + len(placed),
        frame=frame,
        frame_generation=frame_generation,
    )


def _carries(commit: RuntimeCommit, head: HeadFacts) -> bool:
    """Whether the commit only carries config and turn index along: an append may know old ones."""
    return commit.expected_head_revision is None and head.revision > 0


def _by_id(facts: Facts) -> dict[str, Ref]:
    """The session's stored components by the id of their bodies."""
    return {f"sha256:{ref.hash}": ref for (kind, _), ref in facts.refs.items() if kind == "component"}


def _wanted_refs(draft: Draft, facts: Facts) -> dict[Slot, Ref]:
    """The session's components and config as they shall be, and the attachments that come to it."""
    commit = draft.commit
    wanted = dict(draft.refs)
    if _carries(commit, facts.head):
        wanted.pop(CONFIG, None)
        wanted |= {slot: ref for slot, ref in facts.refs.items() if slot == CONFIG}
    if commit.components is None:
        wanted |= {slot: ref for slot, ref in facts.refs.items() if slot[0] == "component"}
    else:
        held = _by_id(facts)
        for name, entry in commit.components.items():
            slot = ("component", name)
            if not isinstance(entry, ComponentChanged):
                stays = facts.refs.get(slot)
                wanted[slot] = stays if stays is not None and f"sha256:{stays.hash}" == entry.ref else held[entry.ref]
    wanted |= {("blob", id): Ref(id[7:]) for id in commit.adopted_blobs}
    return wanted


def _writes(draft: Draft, facts: Facts) -> Writes:
    commit = draft.commit
    nodes, head = _placed(commit, facts.head)
    wanted = _wanted_refs(draft, facts)
    dropped = tuple(slot for slot in facts.refs if slot not in wanted)
    used = {ref.hash for ref in wanted.values()}
    replaced = {ref.hash for slot, ref in facts.refs.items() if wanted.get(slot) != ref}
    return Writes(
        new_session=not facts.known,
        head=head,
        nodes=nodes,
        receipt=Receipt(
            operation=commit.operation,
            intent_hash=draft.intent_hash,
            input_hash=commit.input_hash,
            head_revision=head.revision,
            leaf_node_id=head.leaf,
            node_ids=tuple(node.node_id for node in commit.nodes),
            committed_at_ms=commit.committed_at_ms,
            result=commit.result,
        ),
        first_generation=facts.head.leaf_generation + 1,
        bodies={digest: body for digest, body in draft.bodies.items() if digest in used - facts.blobs},
        refs={slot: ref for slot, ref in wanted.items() if facts.refs.get(slot) != ref},
        dropped=dropped,
        released=tuple(sorted(replaced - used)),
        usage=_totals(commit, facts),
    )
