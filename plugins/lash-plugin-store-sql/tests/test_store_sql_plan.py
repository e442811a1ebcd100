"""The planner alone: no database, only facts. A small model of what a session is decides what ought to happen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from hypothesis import given, settings, strategies as st
from store_sql_model import DECISIONS, STEPS, Model, make

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


def test_every_decision_is_the_models_and_every_write_leaves_what_the_model_has() -> None:
    """And the property got everywhere: one that never meets a decision says nothing about it."""
    met: set[str] = set()
    follow(met)
    assert met >= DECISIONS


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
