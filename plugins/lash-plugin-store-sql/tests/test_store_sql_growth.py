"""What a turn costs doesn't depend on what was before it: counted in statements, rows and bytes, never in time."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from lash_hookspecs.errors import SessionDeleted, StoreUnavailable
from lash_hookspecs.inbox import InboxState, Ingress
from lash_hookspecs.journal import TurnCommitted
from lash_hookspecs.journal_rows import JournalStatus
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.stores import (
    CommitResult,
    ComponentChanged,
    ComponentUnchanged,
    NodeRecord,
    NodesLater,
    OperationId,
    UsageDelta,
    attachment_id,
)
from lash_hookspecs.testing.store import Scribe
from lash_hookspecs.testing.store.runner import Runner, effect, new_item
from lash_plugin_store_sql.locks import MemoryLocks
from lash_plugin_store_sql.settings import SqlSettings
from lash_plugin_store_sql.sqlite import SqliteDriver
from lash_plugin_store_sql.store import SqlStore

KEEPING = ("INSERT", "UPDATE")
HISTORIES = (10, 100, 1_000, 10_000)

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])  # counted on the store's threads


@attrs.define
class Meter:
    """Counts what goes through a driver. Bytes are those of texts and blobs: integers are "the digits of counters"."""

    statements: list[tuple[str, int]] = attrs.field(factory=list)
    size: int = 0

    def __call__(self, sql: str, params: Sequence[Any], rows: int) -> None:
        self.statements.append((sql, rows))
        self.size += sum(len(each) for each in params if isinstance(each, (str, bytes)))

    def reading(self) -> tuple[list[tuple[str, int]], int]:
        """What was counted since the last reading."""
        seen, size = self.statements, self.size
        self.statements, self.size = [], 0
        return seen, size


async def opened(meter: Meter, path: Path | None = None) -> SqlStore:
    settings = SqlSettings(synchronous="normal")
    return await SqlStore.open(SqliteDriver(path and str(path), settings, seen=meter), MemoryLocks())


async def with_history(store: SqlStore, scribe: Scribe, nodes: int) -> None:
    """Commit turns of 50 nodes at most until the session has that many (and a last frame of 4)."""
    missing = nodes - 5
    while missing > 0:
        texts = [f"text {index}" for index in range(min(missing, 50))]
        await scribe.write(store, scribe.turn(*texts, usage=spent("turn"), components=PARTS))
        missing -= len(texts)
    await scribe.write(store, scribe.turn("a", "b", "c", frame="last"))


def spent(*sources: str) -> tuple[UsageDelta, ...]:
    return tuple(UsageDelta(source=each, model="m", usage=TokenUsage(input=7, output=1)) for each in sources)


PARTS = {"stays": ComponentChanged(b"as it was"), "changes": ComponentChanged(b"old")}


async def a_turn(store: SqlStore, scribe: Scribe) -> None:
    """One of everything: nodes, a changed and an unchanged component, a blob, usage, config; then its receipt again."""
    commit = scribe.turn(
        *["some text"] * 6,
        operation=OperationId("turn", "measured"),
        components={"stays": ComponentUnchanged(attachment_id(b"as it was")), "changes": ComponentChanged(b"new")},
        blobs=(b"picture",),
        usage=spent("turn", "title"),
        config=b"another config",
        result=b"r" * 500,
        requires_ancestor_node_id=scribe.leaf,
    )
    await scribe.write(store, commit)
    await store.commit(commit)


async def test_a_turn_costs_the_same_at_any_length_of_history() -> None:
    readings = []
    for history in HISTORIES:
        meter, scribe = Meter(), Scribe()
        store = await opened(meter)
        await with_history(store, scribe, history)
        loaded = await store.load_session("s1", all_frames=True)
        assert loaded is not None
        assert len(loaded.nodes) == history
        meter.reading()
        await a_turn(store, scribe)
        readings.append(meter.reading())
        await store.aclose()
    assert readings == [readings[0]] * len(HISTORIES)
    statements, size = readings[0]
    # The figures themselves, so that a change of them is seen and meant.
    assert (len(statements), sum(max(rows, 0) for _, rows in statements), size) == (28, 32, 2_034)


async def test_an_ordinary_turn_writes_five_rows() -> None:
    """Provenance that is adopted again isn't one of them: no statement asks for it, but the one for the components."""
    meter, scribe = Meter(), Scribe()
    store = await opened(meter)
    record = b"who said what"
    await scribe.write(store, scribe.turn("a", "b", blobs=(record,), usage=spent("turn")))
    meter.reading()
    await scribe.write(store, scribe.turn("c", "d", adopted_blobs=(attachment_id(record),), usage=spent("turn")))
    statements, _ = meter.reading()
    written = {sql.split("(")[0].split(" SET")[0].strip(): rows for sql, rows in statements if sql[:6] in KEEPING}
    assert written == {
        "UPDATE sessions": 1,
        "INSERT INTO nodes": 2,
        "INSERT INTO receipts": 1,
        "INSERT INTO usage": 1,
    }
    assert len(statements) == 11
    await store.aclose()


async def a_durable_turn(store: SqlStore, scribe: Scribe, runner: Runner, key: str, meter: Meter) -> list[int]:
    """Begin, record an intent and its outcome, and commit; how many statements each of the four took."""
    meter.reading()
    new = new_item(key, turn_id=key)  # its key is its turn's id, as a host's is
    lease, item = await runner.begin(store, new)
    counts = [len(meter.reading()[0])]
    for status in (JournalStatus.INTENT, JournalStatus.DONE):
        await store.append_journal(lease, item.no, [effect("a", status)])
        counts.append(len(meter.reading()[0]))
    await scribe.write(store, runner.commit(scribe, lease, item, "x", input_hash=new.content_hash))
    return [*counts, len(meter.reading()[0])]


async def test_a_durable_turn_costs_the_same_at_any_length_of_history() -> None:
    """BEGIN and COMMIT included: four more for the begin, two for each write, three for the settlement.

    Its receipt tells all of the item, as it does of a host's, so that the item goes.
    """
    readings = []
    for history in HISTORIES:
        meter, scribe, runner = Meter(), Scribe(), Runner()
        store = await opened(meter)
        await with_history(store, scribe, history)
        for index in range(min(history // 10, 100)):
            await a_durable_turn(store, scribe, runner, f"k{index:09}", meter)
        meter.reading()
        await scribe.write(store, scribe.turn("x", operation=OperationId("turn", "without-a-claim")))
        plain = len(meter.reading()[0])
        begin, *rows, commit = await a_durable_turn(store, scribe, runner, "k-last", meter)
        readings.append((begin, rows, commit - plain))
        assert await store.list_inbox() == []
        assert not await store.has_pending("s1", Ingress.NEXT_TURN)
        assert len(meter.reading()[0]) == 1 + 1  # in memory, a read needs no transaction around it
        await store.aclose()
    assert readings == [(2 + 4, [2 + 2, 2 + 2], 3)] * len(HISTORIES)


async def test_rows_that_come_together_are_one_statement() -> None:
    meter, runner = Meter(), Runner()
    store = await opened(meter)
    lease, item = await runner.begin(store, new_item("a"))
    meter.reading()
    rows = [effect(f"call {number}") for number in range(10)]
    await store.append_journal(lease, item.no, rows)
    statements, _ = meter.reading()
    assert [(sql.split()[0], count) for sql, count in statements[1:-1]] == [("SELECT", 1), ("INSERT", 10)]
    await store.append_journal(lease, item.no, rows)  # the answer was lost: nothing is there twice
    assert list(await store.load_journal("s1", "t-a")) == rows
    await store.aclose()


async def test_an_item_whose_receipt_says_all_of_it_leaves_nothing_behind(tmp_path: Path) -> None:
    """Its key is its turn's id, and its hash the receipt's: accepted again it is the same item, and nothing is done."""
    scribe, runner = Scribe(), Runner()
    store = await opened(Meter(), tmp_path / "a.db")
    new = new_item("a", turn_id="a")
    lease, item = await runner.begin(store, new)
    commit = runner.commit(scribe, lease, item, "x", input_hash=new.content_hash)
    receipt = (await scribe.write(store, commit)).receipt
    db = sqlite3.connect(tmp_path / "a.db")
    assert db.execute("SELECT count(*) FROM inbox").fetchone() == (0,)
    assert await store.commit(commit) == CommitResult(receipt=receipt, receipt_replayed=True)
    again = await store.enqueue(new)
    assert (again.no, again.state, again.turn_id) == (0, InboxState.COMPLETED, "a")
    assert await runner.tried(store, new) == TurnCommitted(receipt)
    later = await store.enqueue(new_item("b"))
    assert later.no > item.no  # a number is never used again
    db.close()
    await store.aclose()


class SteppedDriver(SqliteDriver):
    """SQLite that counts its steps, in tens of instructions: rows that are looked at, not only returned."""

    steps = 0

    def _open(self, database: str, **options: Any) -> sqlite3.Connection:
        db = super()._open(database, **options)
        db.set_progress_handler(self._step, 10)
        return db

    def _step(self) -> int:
        self.steps += 1
        return 0


async def test_a_long_queue_costs_a_turn_nothing() -> None:
    """Items that wait are many; who begins, asks at a checkpoint or is asked to end looks at a few of them."""
    readings = []
    for backlog in (10, 100, 2_000):
        driver, scribe, runner = SteppedDriver(None, SqlSettings()), Scribe(), Runner()
        store = await SqlStore.open(driver, MemoryLocks())
        for index in range(backlog):
            await store.enqueue(new_item(f"k{index}"))
        steps = []
        for _ in range(2):
            driver.steps = 0
            lease, item = await runner.begin(store)
            assert not await store.has_pending("s1", Ingress.CHECKPOINT)
            assert await store.cancel_requested(lease, item.no) is None
            await store.append_journal(lease, item.no, [effect("a")])
            steps.append(driver.steps)
            await scribe.write(store, runner.commit(scribe, lease, item, "x"))
        readings.append(steps[1])
        await store.aclose()
    assert max(readings) <= min(readings) + 5


async def test_asking_at_a_checkpoint_opens_no_transaction(tmp_path: Path) -> None:
    """A5.27: it is asked before every model call, and most often there is nothing."""
    meter, runner = Meter(), Runner()
    store = await opened(meter, tmp_path / "lash.db")
    lease, item = await runner.begin(store, new_item("a"))
    meter.reading()
    for _ in range(3):
        assert not await store.has_pending("s1", Ingress.CHECKPOINT)
        assert await store.cancel_requested(lease, item.no) is None
    assert [sql.split()[0] for sql, _ in meter.reading()[0]] == ["SELECT"] * 6
    await store.aclose()


async def test_reading_costs_the_same_at_any_length_of_history() -> None:
    """Head, current frame, ancestor check, receipt, lists."""
    readings = []
    for history in HISTORIES:
        meter, scribe = Meter(), Scribe()
        store = await opened(meter)
        await with_history(store, scribe, history)
        await a_turn(store, scribe)
        meter.reading()
        await store.load_head("s1")
        assert scribe.leaf is not None
        assert await store.is_on_path("s1", scribe.leaf)
        loaded = await store.load_session("s1")
        assert loaded is not None
        assert len(loaded.nodes) == 4 + 6
        assert await store.load_receipt("s1", OperationId("turn", "measured"))
        assert await store.find_turn("meas")
        await store.list_receipts("s1", limit=2)
        await store.list_sessions()
        readings.append(meter.reading())
        await store.aclose()
    assert readings == [readings[0]] * len(HISTORIES)


async def test_loading_takes_the_same_statements_at_any_length_and_makes_no_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All nodes come with one statement, in columns; a record is made when somebody reads it."""
    made: list[str] = []
    real = NodeRecord.__init__

    def counted(self: NodeRecord, **fields: Any) -> None:
        made.append(fields["node_id"])
        real(self, **fields)

    readings = []
    for history in HISTORIES:
        meter, scribe = Meter(), Scribe()
        store = await opened(meter)
        await with_history(store, scribe, history)
        meter.reading()
        with monkeypatch.context() as patch:
            patch.setattr(NodeRecord, "__init__", counted)  # a counter around our own, not a stand-in
            loaded = await store.load_session("s1", all_frames=True)
        assert loaded is not None
        statements, size = meter.reading()
        readings.append(([sql for sql, _ in statements], size))
        assert max(rows for _, rows in statements) == history == len(loaded.nodes)
        assert made == []
        ids = [node.node_id for node in loaded.nodes]
        assert [node.parent_node_id for node in loaded.nodes] == [None, *ids[:-1]]
        await store.aclose()
    assert readings == [readings[0]] * len(HISTORIES)


@pytest.mark.parametrize("in_a_file", [False, True])
async def test_a_session_is_opened_without_its_nodes_which_come_later(tmp_path: Path, in_a_file: bool) -> None:
    """What is read until then is as much at any length; what comes later is what was there then, in one statement."""
    readings = []
    for history in HISTORIES[:3]:
        meter, scribe = Meter(), Scribe()
        store = await opened(meter, tmp_path / f"{history}.db" if in_a_file else None)
        await with_history(store, scribe, history)
        whole = await store.load_session("s1")
        meter.reading()
        later = [await store.load_session("s1", later=True) for _ in range(2)]
        readings.append(meter.reading())
        await a_turn(store, scribe)
        meter.reading()
        for on_the_spot, loaded in enumerate(later):
            assert whole is not None
            assert loaded is not None
            assert isinstance(loaded.nodes, NodesLater)
            if not on_the_spot:
                await loaded.nodes.load()
            assert loaded == whole
            assert await loaded.nodes.load() is loaded.nodes.path
            assert len([rows for sql, rows in meter.reading()[0] if rows == len(whole.nodes)]) == 1
        await store.aclose()
    assert readings == [readings[0]] * 3


async def test_bodies_alone_come_with_the_same_statements_at_any_length() -> None:
    """One for all of them, and a few rows beside it."""
    readings = []
    for history in HISTORIES:
        meter, scribe = Meter(), Scribe()
        store = await opened(meter)
        await scribe.write(store, scribe.turn(*["text"] * (history - 1)))
        loaded = await store.load_session("s1", later=True)
        assert loaded is not None
        assert isinstance(loaded.nodes, NodesLater)
        meter.reading()
        bare = await loaded.nodes.load_bodies()
        statements, size = meter.reading()
        readings.append(([(sql, rows) for sql, rows in statements if rows != history - 1], size))
        assert len(statements) == len(readings[-1][0]) + 1 == 5
        assert [*zip(bare.kinds, bare.bodies, strict=True)] == [(each.kind, each.body) for each in loaded.nodes]
        await store.aclose()
    assert readings == [readings[0]] * len(HISTORIES)


async def test_nodes_that_come_later_of_a_session_that_is_gone_say_so() -> None:
    store, scribe = await opened(Meter()), Scribe()
    await with_history(store, scribe, 10)
    loaded = await store.load_session("s1", later=True)
    assert loaded is not None
    assert isinstance(loaded.nodes, NodesLater)
    await store.delete_session("s1")
    with pytest.raises(SessionDeleted):
        len(loaded.nodes)
    for load in (loaded.nodes.load, loaded.nodes.load_bodies):
        with pytest.raises(SessionDeleted):
            await load()
    await store.aclose()
    for load in (loaded.nodes.load, loaded.nodes.load_bodies):
        with pytest.raises(StoreUnavailable):
            await load()


async def test_no_statement_walks_through_a_table(tmp_path: Path) -> None:
    """Every statement that the store runs finds its rows by a key or an index."""
    meter, scribe, path = Meter(), Scribe(), tmp_path / "lash.db"
    store = await opened(meter, path)
    await with_history(store, scribe, 20)
    await a_turn(store, scribe)
    ref = await store.put_blob(b"x", "text/plain")
    await store.get_blob(ref.id)
    await store.load_session("s1")
    await store.load_meta("s1")
    await store.list_receipts("s1")
    await store.find_turn("t")
    await store.list_sessions()
    runner = Runner()
    await a_durable_turn(store, scribe, runner, "a", Meter())
    lease, item = await runner.begin(store, new_item("b"))
    said = await store.enqueue(new_item("c", ingress=Ingress.CHECKPOINT))
    await store.append_journal(lease, item.no, [effect("a")], claims=[said.no])
    await store.append_journal(lease, item.no, [effect("a")], claims=[said.no])
    await store.renew_lease(lease, ttl_ms=1_000)
    await store.has_pending("s1", Ingress.NEXT_TURN)
    await store.cancel_requested(lease, item.no)
    await store.cancel_suffix("s1", item.no, "enough")
    await store.load_lease("s1")
    await store.park_turn(lease, item.no)
    lease, item = await runner.begin(store)
    await store.release_lease(lease)
    await store.delete_session("s1")
    await store.aclose()
    db = sqlite3.connect(path)
    try:
        walks = set()
        for sql in {sql for sql, _ in meter.statements if sql.split()[0] in ("SELECT", "UPDATE", "DELETE")}:
            nulls = [None] * sql.count("?")
            # `SCAN (subquery…)` is a row that was found before, `SCAN CONSTANT ROW` one that is no table's.
            walks |= {
                (sql, row[3])
                for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", nulls)
                if "SCAN " in row[3] and "(sub" not in row[3] and row[3] != "SCAN CONSTANT ROW"
            }
            walks |= {(sql, row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", nulls) if "TEMP" in row[3]}
    finally:
        db.close()
    assert walks == set()


async def test_stored_bytes_are_at_most_twice_the_payload(tmp_path: Path) -> None:
    """With turns as they are: five messages of about a kilobyte, a changed component, a result."""
    path = tmp_path / "lash.db"
    store, scribe, payload = await opened(Meter(), path), Scribe(), 0
    for turn in range(200):
        body = f"{turn} " * 400
        commit = scribe.turn(*[f"{index}{body}" for index in range(5)], result=body.encode())
        commit = attrs.evolve(commit, components={"state": ComponentChanged(body.encode() * 2)})
        payload += sum(len(node.body) for node in commit.nodes) + len(commit.result)
        await scribe.write(store, commit)
    await store.aclose()
    assert path.stat().st_size < 2 * payload


async def test_an_idle_store_holds_few_descriptors_and_none_per_session(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    store = await opened(Meter(), tmp_path / "lash.db")
    for number in range(50):
        scribe = Scribe(f"s{number}")
        await scribe.write(store, scribe.turn("x"))
        await store.load_session(f"s{number}")
    held = len(list(Path("/proc/self/fd").iterdir())) - before
    await store.aclose()
    # Three for the writer (file, log, index), two or three for each of at most two readers.
    assert held <= 9
    assert len(list(Path("/proc/self/fd").iterdir())) == before
