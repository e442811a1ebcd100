"""The graph machine (F.01): turns, appends, frames, checkpoints and deletions of a few sessions, right and wrong ones.

The store must decide as the model does and hold what the model holds; a graph that is damaged behind its back answers
with typed errors, at once, and is nobody else's trouble. (Forks, pins and rewinds don't exist yet.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from attrs import evolve
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from store_sql_damage import damage
from store_sql_model import DECISIONS, STEPS, Model, make

from lash_hookspecs.errors import CommitRefused, HeadConflict, ReceiptConflict, SessionDeleted, StoreCorrupt, StoreError
from lash_hookspecs.stores import CommitResult, RuntimeCommit, attachment_id, node_id
from lash_hookspecs.testing.store import Corruption
from lash_plugin_store_sql.locks import MemoryLocks
from lash_plugin_store_sql.settings import SqlSettings
from lash_plugin_store_sql.sqlite import SqliteDriver
from lash_plugin_store_sql.store import SqlStore

pytestmark = pytest.mark.costly

MET: Counter[str] = Counter()
"""How often each decision and each rule was met."""

NAMES = ("a", "b", "c")
KINDS: dict[type[StoreError], str] = {SessionDeleted: "deleted", ReceiptConflict: "receipt", HeadConflict: "head"}
DAMAGES = (
    Corruption.NODE_GAP,
    Corruption.NODE_PARENT,
    Corruption.NODE_FRAME,
    Corruption.NODE_KIND,
    Corruption.HEAD_LEAF,
    Corruption.HEAD_NO_LEAF,
    Corruption.HEAD_REVISION,
)
names = st.sampled_from(NAMES)

RIGHT: dict[str, Any] = {
    "kind": "turn", "frame": None, "revision_off": 0, "behind": 0, "twice": False, "ancestor": None,
    "components": None, "config": b"a", "usage": [], "pick": 0,
}  # fmt: skip
"""A turn with nothing wrong in it, but for its texts."""


class GraphMachine(RuleBasedStateMachine):
    """Each name stands for a session, and after its deletion for the next one."""

    @initialize()
    def open(self) -> None:
        self.stack = ExitStack()
        self.path = Path(self.stack.enter_context(TemporaryDirectory())) / "lash.db"
        self.portal = self.stack.enter_context(start_blocking_portal())
        self.store = self.opened()
        self.models = {name: Model() for name in NAMES}
        self.ids = {name: f"{name}0" for name in NAMES}
        self.gone: list[tuple[str, Model]] = []
        self.count = 0

    def opened(self) -> SqlStore:
        driver = SqliteDriver(str(self.path), SqlSettings(synchronous="normal"))
        return self.portal.call(lambda: SqlStore.open(driver, MemoryLocks()))

    def teardown(self) -> None:
        if hasattr(self, "stack"):
            self.portal.call(self.store.aclose)
            self.stack.close()

    def ask(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """The answer, or the error: a typed one, always."""

        async def asked() -> Any:
            try:
                return await call()
            except StoreError as error:
                return error

        return self.portal.call(asked)

    def tried(self, commit: RuntimeCommit) -> str:
        """What became of a commit, in the model's words."""
        answer = self.ask(lambda: self.store.commit(commit))
        if isinstance(answer, CommitResult):
            return "replay" if answer.receipt_replayed else "writes"
        return answer.code if isinstance(answer, CommitRefused) else KINDS[type(answer)]

    def committed(self, name: str, step: dict[str, Any]) -> None:
        model, session_id = self.models[name], self.ids[name]
        self.count += 1
        commit = make(step, model, self.count, session_id)
        if commit is None:
            return
        expected = model.expect(commit)
        assert self.tried(commit) == expected
        MET[expected] += 1
        if expected == "writes":
            model.apply(commit)

    @rule(name=names, step=STEPS)
    def commit(self, name: str, step: dict[str, Any]) -> None:
        self.committed(name, step)

    @rule(name=names, steps=st.lists(STEPS, min_size=2, max_size=4))
    def several(self, name: str, steps: list[dict[str, Any]]) -> None:
        for step in steps:
            self.committed(name, step)

    @rule(name=names, frame=st.sampled_from(["f0", "f1", "f2", "f3"]), texts=st.integers(1, 4))
    def open_a_frame(self, name: str, frame: str, texts: int) -> None:
        """A turn that is right in all but, perhaps, that its frame's key was used."""
        self.committed(name, {**RIGHT, "texts": ["x"] * texts, "frame": frame})

    @precondition(lambda self: not all(each.path for each in self.models.values()))
    @rule()
    def begin_without_a_frame(self) -> None:
        """The first nodes of a session open one. `make` forgets it in every third turn, which chance may never meet."""
        self.count += (2 - self.count) % 3
        name = next(name for name in NAMES if not self.models[name].path)
        self.committed(name, {**RIGHT, "texts": ["x"]})

    @rule(name=names, other=names)
    def nodes_of_another(self, name: str, other: str) -> None:
        """Nodes that were made for another session, or under another operation, are refused."""
        self.count += 1
        commit = make({**RIGHT, "texts": ["x"]}, self.models[name], self.count * 3 + 1, self.ids[name])
        if commit is None or not self.models[name].path:
            return
        foreign = node_id(self.ids[other] if other != name else "nobody", commit.operation, 0)
        wrong = evolve(commit, nodes=(evolve(commit.nodes[0], node_id=foreign),))
        assert self.tried(wrong) == "node_id"
        MET["nodes_of_another"] += 1

    @rule(name=names)
    def delete(self, name: str) -> None:
        known = bool(self.models[name].receipts)
        assert self.ask(lambda: self.store.delete_session(self.ids[name])) is known
        if known:
            self.bury(name)
            MET["delete"] += 1

    def bury(self, name: str) -> None:
        model, session_id = self.models[name], self.ids[name]
        model.deleted = True
        self.gone.append((session_id, model))
        self.models[name], self.ids[name] = Model(), f"{name}{len(self.gone)}"

    # Chance should spend more of its steps where most can happen.
    commit_more = commit_most = commit
    delete_more = delete

    @precondition(lambda self: self.gone)
    @rule(data=st.data())
    def revive(self, data: st.DataObject) -> None:
        """A deleted session stays deleted, whatever is sent, replays included."""
        session_id, model = data.draw(st.sampled_from(self.gone))
        for commit, _ in list(model.receipts.values())[:1]:
            assert self.tried(commit) == "deleted"
            MET["deleted"] += 1
        for call in (self.store.load_session, self.store.load_head, self.store.list_receipts):
            assert isinstance(self.ask(lambda call=call: call(session_id)), SessionDeleted)

    @rule()
    def reload(self) -> None:
        self.portal.call(self.store.aclose)
        self.store = self.opened()

    @precondition(lambda self: any(_frame(each)[2:] for each in self.models.values()))
    @rule(data=st.data(), kind=st.sampled_from(DAMAGES))
    def malformed(self, data: st.DataObject, kind: Corruption) -> None:
        """A damaged graph is told from a sound one, and every call has a typed answer; then its session is deleted."""
        name = data.draw(st.sampled_from([name for name in NAMES if _frame(self.models[name])[2:]]))
        model, session_id = self.models[name], self.ids[name]
        damage(self.path, kind, session_id)
        assert isinstance(self.ask(lambda: self.store.load_session(session_id)), StoreCorrupt)
        step = data.draw(STEPS)
        self.count += 1
        commit = make({**step, "kind": "turn"}, model, self.count, session_id)
        assert commit is not None
        for call in (
            lambda: self.store.commit(commit),
            lambda: self.store.load_head(session_id),
            lambda: self.store.load_revision(session_id),
            lambda: self.store.list_receipts(session_id),
            lambda: self.store.is_on_path(session_id, model.path[0].node_id),
            lambda: self.store.load_session(session_id, all_frames=True),
        ):
            self.ask(call)  # whatever it is, it is no crash and no endless walk
        self.ask(lambda: self.store.delete_session(session_id))
        if isinstance(self.ask(lambda: self.store.load_meta(session_id)), SessionDeleted):
            self.bury(name)
        else:
            self.models[name], self.ids[name] = Model(), f"{name}x{self.count}"
        MET["malformed"] += 1

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        if not hasattr(self, "models"):
            return
        name = NAMES[self.count % len(NAMES)]
        model, session_id = self.models[name], self.ids[name]
        loaded = self.ask(lambda: self.store.load_session(session_id, all_frames=True))
        if not model.receipts:
            assert loaded is None
            return
        assert list(loaded.nodes) == model.path
        assert {key: each.body for key, each in loaded.components.items()} == model.components
        assert all(each.ref == attachment_id(each.body) for each in loaded.components.values())
        assert {(each.source, each.model): each.usage.input for each in loaded.usage} == model.usage
        assert loaded.head.head_revision == len(model.receipts)
        receipts = self.ask(lambda: self.store.list_receipts(session_id, limit=1000))
        assert [each.operation for each in receipts] == list(model.receipts)[::-1]
        current = self.ask(lambda: self.store.load_session(session_id))
        assert list(current.nodes) == _frame(model)
        later = self.ask(lambda: self.store.load_session(session_id, later=True))
        bare = self.ask(later.nodes.load_bodies)
        assert list(zip(bare.kinds, bare.bodies, strict=True)) == [(each.kind, each.body) for each in _frame(model)]
        for node in model.path[-2:]:
            assert self.ask(lambda node=node: self.store.is_on_path(session_id, node.node_id)) is True


def _frame(model: Model) -> list[Any]:
    """The nodes from the current frame on."""
    opened = [index for index, node in enumerate(model.path) if node.frame_key is not None]
    return model.path[opened[-1] :] if opened else []


def test_the_graph_agrees_with_the_model_and_everything_is_met() -> None:
    MET.clear()
    run_state_machine_as_test(
        GraphMachine,
        settings=settings(
            max_examples=50,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    wanted = DECISIONS | {"delete", "malformed", "nodes_of_another"}
    assert {each for each in wanted if not MET[each]} == set()
