"""A small model of what a session's graph is, and commits, right and wrong ones: the oracle of planner and store."""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import strategies as st

from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.stores import (
    ComponentChanged,
    ComponentUnchanged,
    NodeRecord,
    OperationId,
    RuntimeCommit,
    UsageDelta,
    attachment_id,
)
from lash_hookspecs.testing.store import Scribe

__all__ = ["DECISIONS", "STEPS", "Model", "make"]

DECISIONS = frozenset({
    "deleted", "replay", "receipt", "ancestor", "head", "node_duplicate", "node_exists", "topology", "frame_missing",
    "component_ref", "writes",
})  # fmt: skip
"""All that can become of a commit here."""


class Model:
    """What the session is after the commits so far, kept as plainly as can be."""

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


def make(step: dict[str, Any], model: Model, turn: int, session_id: str = "s") -> RuntimeCommit | None:
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
    revision = len(model.receipts) + step["revision_off"]
    scribe = Scribe(session_id, revision=revision, leaf=path[-1].node_id if path else None)
    operation = OperationId("append" if step["kind"] == "append" else "turn", f"op{turn}")
    frame = step["frame"] or (None if path or turn % 3 == 0 else "f0")
    nodes = scribe.nodes(operation, step["texts"], frame)
    if step["twice"] and nodes:
        nodes = (*nodes, nodes[-1])
    ancestor = {"path": path[0].node_id if path else None, "nowhere": "0" * 64, None: None}[step["ancestor"]]
    return RuntimeCommit(
        session_id=session_id,
        operation=operation,
        expected_head_revision=None if step["kind"] == "append" else scribe.revision,
        committed_at_ms=turn,
        config=step["config"],
        nodes=nodes,
        components=step["components"],
        usage=tuple(UsageDelta(source=each, model="m", usage=TokenUsage(input=1)) for each in step["usage"]),
        requires_ancestor_node_id=ancestor,
    )
