"""The planner alone: no database, only facts. A small model of what a session is decides what ought to happen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from hypothesis import given, settings, strategies as st

from lash_hookspecs.errors import BudgetExceeded, CommitRefused, HeadConflict, ReceiptConflict, SessionDeleted
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.stores import (
    CommitBudget,
    ComponentChanged,
    ComponentUnchanged,
    NodeRecord,
    OperationId,
    Receipt,
    RuntimeCommit,
    UsageDelta,
    attachment_id,
)
from lash_hookspecs.testing.store import Scribe
from lash_plugin_store_sql.draft import Ref, draft, measure
from lash_plugin_store_sql.plan import Facts, HeadFacts, Refusal, Replay, Writes, plan_commit


class Model:
    """What the session is after the commits so far, kept as plainly as can be: the oracle."""

    def __init__(self) -> None:
        self.deleted = False
        self.path: list[NodeRecord] = []
        self.receipts: dict[OperationId, tuple[RuntimeCommit, int]] = {}
        self.components: dict[str, bytes] = {}
        self.config = b""
        self.usage: dict[tuple[str, str], int] = {}

    def expect(self, commit: RuntimeCommit) -> str:
        """The name of the right decision."""
        before = self.receipts.get(commit.operation)
        ids = [node.node_id for node in self.path]
        append = commit.expected_head_revision is None
        if self.deleted:
            return "deleted"
        if before is not None:
            return "replay" if meaning(before[0]) == meaning(commit) else "receipt"
        if commit.requires_ancestor_node_id is not None and commit.requires_ancestor_node_id not in ids:
            return "ancestor"
        if not append and commit.expected_head_revision != len(self.receipts):
            return "head"
        new = [node.node_id for node in commit.nodes]
        if len(set(new)) < len(new):
            return "node_duplicate"
        if set(new) & set(ids):
            return "node_exists"
        parents = [node.parent_node_id for node in commit.nodes]
        wanted = [ids[-1] if ids else None, *new][: len(new)]
        if parents[append:] != wanted[append:]:
            return "topology"
        if new and not ids and commit.nodes[0].frame_key is None:
            return "frame_missing"
        for entry in (commit.components or {}).values():
            held = {attachment_id(body) for body in self.components.values()}
            if isinstance(entry, ComponentUnchanged) and entry.ref not in held:
                return "component_ref"
        return "writes"

    def apply(self, commit: RuntimeCommit) -> None:
        held = {attachment_id(body): body for body in self.components.values()}
        if commit.expected_head_revision is not None or not self.receipts:
            self.config = commit.config
        if commit.components is not None:
            self.components = {
                key: entry.body if isinstance(entry, ComponentChanged) else held[entry.ref]
                for key, entry in commit.components.items()
            }
        for node in commit.nodes:
            parent = self.path[-1].node_id if self.path else None
            self.path.append(attrs.evolve(node, parent_node_id=parent))
        for delta in commit.usage:
            key = (delta.source, delta.model)
            self.usage[key] = self.usage.get(key, 0) + delta.usage.input
        self.receipts[commit.operation] = (commit, len(self.receipts) + 1)


def meaning(commit: RuntimeCommit) -> object:
    """Everything of a commit that a retry must repeat."""
    return attrs.evolve(
        commit,
        expected_head_revision=None,
        committed_at_ms=0,
        config=b"" if commit.expected_head_revision is None else commit.config,
        nodes=tuple(
            attrs.evolve(node, timestamp_ms=0, parent_node_id=node.parent_node_id if index else None)
            for index, node in enumerate(commit.nodes)
            if node.frame_key != "f0"
        ),
        turn_index=0,
        result=b"",
    ), commit.expected_head_revision is None


class Tables:
    """What the database would hold: written by executing plans, read to make facts. The planner's other half."""

    def __init__(self) -> None:
        self.deleted = False
        self.head: HeadFacts | None = None
        self.nodes: list[NodeRecord] = []
        self.receipts: dict[OperationId, Receipt] = {}
        self.refs: dict[Any, Ref] = {}
        self.blobs: dict[str, bytes] = {}
        self.usage: dict[tuple[str, str], TokenUsage] = {}

    def facts(self, commit: RuntimeCommit) -> Facts:
        ids = [node.node_id for node in self.nodes]
        required = commit.requires_ancestor_node_id
        return Facts(
            deleted=self.deleted,
            receipt=self.receipts.get(commit.operation),
            known=self.head is not None,
            head=self.head or HeadFacts(),
            ancestor_generation=ids.index(required) if required in ids else None,
            taken=frozenset(node.node_id for node in commit.nodes) & frozenset(ids),
            refs=self.refs,
            usage=self.usage,
            blobs=frozenset(self.blobs),
        )

    def execute(self, writes: Writes) -> None:
        assert writes.new_session == (self.head is None)
        assert writes.first_generation == len(self.nodes)
        for write in writes.nodes:
            assert write.generation == len(self.nodes)
            self.nodes.append(write.node)
        self.head = writes.head
        self.receipts[writes.receipt.operation] = writes.receipt
        self.blobs |= writes.bodies
        for slot in writes.dropped:
            del self.refs[slot]
        self.refs |= writes.refs
        for digest in writes.released:
            if all(ref.hash != digest for ref in self.refs.values()):
                del self.blobs[digest]
        self.usage |= writes.usage

    def components(self) -> dict[str, bytes]:
        return {name: self.blobs[ref.hash] for (kind, name), ref in self.refs.items() if kind == "component"}


BODIES = st.sampled_from([b"a", b"b", b"c"])
ENTRIES = BODIES.map(ComponentChanged) | BODIES.map(lambda body: ComponentUnchanged(attachment_id(body)))
STEPS = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["turn"] * 6 + ["append"] * 2 + ["again", "changed", "delete"]),
        "texts": st.lists(st.sampled_from("xyz"), max_size=3),
        "frame": st.sampled_from([None, None, "f0", "f1", "f2"]),
        "revision_off": st.sampled_from([0] * 8 + [1, -1]),
        "behind": st.sampled_from([0, 0, 1]),
        "twice": st.sampled_from([False, False, False, True]),
        "ancestor": st.sampled_from([None, None, None, "path", "nowhere"]),
        "components": st.none() | st.dictionaries(st.sampled_from("pq"), ENTRIES),
        "config": BODIES,
        "usage": st.lists(st.sampled_from(["s1", "s2"]), max_size=2),
        "pick": st.integers(0, 50),
    }
)


def make(step: dict[str, Any], model: Model, turn: int) -> RuntimeCommit | None:
    """A commit as this step describes it: right or wrong in one of many ways."""
    sent = [commit for commit, _ in model.receipts.values()]
    if step["kind"] in ("again", "changed"):
        if not sent:
            return None
        commit = sent[step["pick"] % len(sent)]
        if step["kind"] == "again":
            # An append stays an append: what it means depends on it.
            expected = None if commit.expected_head_revision is None else step["pick"]
            return attrs.evolve(commit, expected_head_revision=expected, committed_at_ms=5, result=b"other")
        return attrs.evolve(commit, input_hash="changed")
    path = model.path[: len(model.path) - step["behind"]] if step["behind"] < len(model.path) else model.path
    scribe = Scribe("s", revision=len(model.receipts) + step["revision_off"], leaf=path[-1].node_id if path else None)
    operation = OperationId("append" if step["kind"] == "append" else "turn", f"op{turn}")
    frame = step["frame"] or (None if path or turn % 3 == 0 else "f0")
    nodes = scribe.nodes(operation, step["texts"], frame)
    if step["twice"] and nodes:
        nodes = (*nodes, nodes[-1])
    ancestor = {"path": path[0].node_id if path else None, "nowhere": "0" * 64, None: None}[step["ancestor"]]
    return RuntimeCommit(
        session_id="s",
        operation=operation,
        expected_head_revision=None if step["kind"] == "append" else scribe.revision,
        committed_at_ms=turn,
        config=step["config"],
        nodes=nodes,
        components=step["components"],
        usage=tuple(UsageDelta(source=each, model="m", usage=TokenUsage(input=1)) for each in step["usage"]),
        requires_ancestor_node_id=ancestor,
    )


@pytest.mark.costly
def test_every_decision_is_the_models_and_every_write_leaves_what_the_model_has() -> None:
    """And the property got everywhere: one that never meets a decision says nothing about it."""
    met: set[str] = set()
    follow(met)
    assert met >= DECISIONS


DECISIONS = frozenset({
    "deleted", "replay", "receipt", "ancestor", "head", "node_duplicate", "node_exists", "topology", "frame_missing",
    "component_ref", "writes",
})  # fmt: skip


def follow(met: set[str]) -> None:
    @settings(max_examples=300, deadline=None)
    @given(st.lists(STEPS, min_size=5, max_size=14))
    def run(steps: list[dict[str, Any]]) -> None:
        met.update(decisions(steps))

    run()


def decisions(steps: list[dict[str, Any]]) -> Iterator[str]:
    """Play the steps on the planner and on the model, comparing both after each."""
    model, tables = Model(), Tables()
    for turn, step in enumerate(steps):
        if step["kind"] == "delete" and turn > 3:
            model.deleted = tables.deleted = True
        if (commit := make(step, model, turn)) is None:
            continue
        expected = model.expect(commit)
        decision = plan_commit(draft(commit), tables.facts(commit))
        assert name_of(decision) == expected
        yield expected
        if isinstance(decision, Replay):
            assert decision.receipt == tables.receipts[commit.operation]
        if isinstance(decision, Writes):
            tables.execute(decision)
            model.apply(commit)
        assert tables.nodes == model.path
        assert tables.components() == model.components
        assert {pair: usage.input for pair, usage in tables.usage.items()} == model.usage
        assert set(tables.blobs) == {ref.hash for ref in tables.refs.values()}
        if tables.head is not None:
            assert tables.head.revision == len(model.receipts)
            assert tables.head.leaf == (model.path[-1].node_id if model.path else None)
            frames = [index for index, node in enumerate(model.path) if node.frame_key is not None]
            assert tables.head.frame_generation == (frames[-1] if frames else -1)
            assert tables.blobs[tables.refs["config", ""].hash] == model.config


def name_of(decision: Writes | Replay | Refusal) -> str:
    match decision:
        case Writes():
            return "writes"
        case Replay():
            return "replay"
        case Refusal(CommitRefused() as error):
            return error.code
        case Refusal(error):
            return {SessionDeleted: "deleted", ReceiptConflict: "receipt", HeadConflict: "head"}[type(error)]


def test_a_commit_with_everything_wrong_is_refused_for_the_first_reason() -> None:
    """The order of decisions, shown by taking the reasons away one by one."""
    scribe = Scribe("s", revision=3, leaf="0" * 64)
    commit = scribe.turn(
        "x", "y", requires_ancestor_node_id="1" * 64, components={"a": ComponentUnchanged("?")}, turn_index=-1
    )
    commit = attrs.evolve(commit, expected_head_revision=2, nodes=(commit.nodes[0], commit.nodes[0]))
    receipt = Receipt(
        operation=commit.operation,
        intent_hash="",
        input_hash="",
        head_revision=3,
        leaf_node_id=None,
        node_ids=(),
        committed_at_ms=0,
        result=b"",
    )
    facts = Facts(deleted=True, receipt=receipt, head=HeadFacts(revision=3))
    seen = []

    def see(**changes: Any) -> None:
        nonlocal facts, commit
        facts = attrs.evolve(facts, **{key: value for key, value in changes.items() if hasattr(facts, key)})
        commit = attrs.evolve(commit, **{key: value for key, value in changes.items() if hasattr(commit, key)})
        seen.append(name_of(plan_commit(draft(commit), facts)))

    see()
    see(deleted=False)
    see(receipt=None)
    see(requires_ancestor_node_id=None)
    see(expected_head_revision=3)
    see(nodes=(attrs.evolve(scribe.turn("x").nodes[0]),))
    right = Scribe("s", leaf="0" * 64).nodes(commit.operation, ["x"], None)
    see(nodes=right, taken=frozenset([right[0].node_id]))
    see(taken=frozenset())
    see(head=HeadFacts(revision=3, leaf="0" * 64))
    see(head=HeadFacts(revision=3, leaf="0" * 64, leaf_generation=0, frame="0" * 64, frame_generation=0))
    see(components=None, adopted_blobs=("sha256:?",))
    see(adopted_blobs=())
    see(turn_index=1)
    assert seen == [
        "deleted",
        "receipt",
        "ancestor",
        "head",
        "node_duplicate",
        "node_id",
        "node_exists",
        "topology",
        "frame_missing",
        "component_ref",
        "blob_ref",
        "integer_range",
        "writes",
    ]


def test_what_stays_is_not_written() -> None:
    """A component or config with the stored body costs no write; one that moves to another key keeps its version."""
    scribe = Scribe("s")
    first = draft(scribe.turn("x", components={"a": ComponentChanged(b"A", version=2)}, config=b"c"))
    tables = Tables()
    writes = plan_commit(first, tables.facts(first.commit))
    assert isinstance(writes, Writes)
    tables.execute(writes)
    scribe.revision, scribe.leaf = 1, writes.head.leaf
    again = draft(
        scribe.turn(
            "y",
            components={"a": ComponentChanged(b"A", version=2), "b": ComponentUnchanged(attachment_id(b"A"))},
            config=b"c",
        )
    )
    writes = plan_commit(again, tables.facts(again.commit))
    assert isinstance(writes, Writes)
    assert (dict(writes.bodies), writes.dropped, writes.released) == ({}, (), ())
    assert {slot: ref.version for slot, ref in writes.refs.items()} == {("component", "b"): 2}


@pytest.mark.parametrize(
    ("budget", "fits"),
    [
        (CommitBudget(max_bytes=5, max_rows=5), True),
        (CommitBudget(max_bytes=4), False),
        (CommitBudget(max_rows=4), False),
        (CommitBudget(max_bytes=None, max_rows=None), True),
    ],
    ids=["just fits", "a byte too many", "a row too many", "unbounded"],
)
def test_a_budget_counts_every_byte_and_row(budget: CommitBudget, fits: bool) -> None:
    """Config and result are bytes but no rows, usage and adoption rows but no bytes, the others both."""
    commit = RuntimeCommit(
        session_id="s",
        operation=OperationId("turn", "t"),
        expected_head_revision=0,
        committed_at_ms=0,
        config=b"1",
        nodes=Scribe("s", leaf="0" * 64).nodes(OperationId("turn", "t"), ["2"], None),
        components={"a": ComponentChanged(b"3"), "b": ComponentUnchanged("ref")},
        blobs=(b"4",),
        adopted_blobs=("sha256:x",),
        usage=(UsageDelta(source="s", model="m", usage=TokenUsage()),),
        result=b"5",
        budget=budget,
    )
    if fits:
        assert measure(commit) == 5
    else:
        with pytest.raises(BudgetExceeded, match="budget is 4"):
            measure(commit)
