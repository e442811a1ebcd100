"""The threads: group commit, what fails alone and what fails together, waiting and being cancelled, closing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from lash_hookspecs.errors import CommitRefused, HeadConflict, StoreUnavailable
from lash_hookspecs.stores import CommitResult
from lash_hookspecs.testing.store import Scribe
from lash_plugin_store_sql.driver import Tx
from lash_plugin_store_sql.locks import MemoryLocks
from lash_plugin_store_sql.settings import SqlSettings
from lash_plugin_store_sql.sqlite import SqliteDriver
from lash_plugin_store_sql.store import SqlStore
from lash_plugin_store_sql.writer import Lanes

BRACKETS = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


class Log:
    """The transaction brackets that a driver saw, in order."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, sql: str, params: Sequence[Any], rows: int) -> None:
        if sql.startswith(BRACKETS):
            self.seen.append(sql)

    def count(self, sql: str) -> int:
        return self.seen.count(sql)


class Gate:
    """Keeps a writer busy, so that what is submitted meanwhile waits together."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._entered, self._opened = threading.Event(), threading.Event()

    def _stand(self, tx: Tx) -> None:
        self._entered.set()
        self._opened.wait(30)

    async def __aenter__(self) -> Gate:
        self._group = anyio.create_task_group()
        await self._group.__aenter__()
        self._group.start_soon(self._lanes.write, self._stand)
        await anyio.wait_all_tasks_blocked()
        assert self._entered.wait(30)
        return self

    def open(self) -> None:
        self._opened.set()

    async def __aexit__(self, *details: Any) -> None:
        self.open()
        await self._group.__aexit__(*details)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
async def store(tmp_path: Path, log: Log) -> AsyncIterator[SqlStore]:
    store = await SqlStore.open(SqliteDriver(str(tmp_path / "lash.db"), SqlSettings(), seen=log), MemoryLocks())
    yield store
    await store.aclose()


async def all_of(*calls: Any) -> list[Any]:
    """Run coroutines concurrently; their results or errors in order."""
    outcomes: list[Any] = [None] * len(calls)

    async def run(index: int, call: Any) -> None:
        try:
            outcomes[index] = await call
        except Exception as error:
            outcomes[index] = error

    async with anyio.create_task_group() as group:
        for index, call in enumerate(calls):
            group.start_soon(run, index, call)
    return outcomes


async def behind(gate: Gate, *calls: Any) -> list[Any]:
    """Run coroutines concurrently, all of them submitted before the writer takes the first."""
    outcomes: list[Any] = []

    async def run() -> None:
        outcomes.extend(await all_of(*calls))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await anyio.wait_all_tasks_blocked()
        gate.open()
    return outcomes


# ---- group commit ---------------------------------------------------------------------------------------------------


async def test_what_waits_together_is_one_transaction(store: SqlStore, log: Log) -> None:
    """One wait for the disk for 100 sessions."""
    scribes = [Scribe(f"s{number}") for number in range(100)]
    async with Gate(store._lanes) as gate:
        log.seen.clear()
        outcomes = await behind(gate, *(store.commit(scribe.turn("hello")) for scribe in scribes))
    assert {type(each) for each in outcomes} == {CommitResult}
    # The gate's own, and one for all the others.
    assert (log.count("BEGIN IMMEDIATE"), log.count("COMMIT")) == (1, 2)
    assert log.count("SAVEPOINT one") == 0  # a statement more for each would only be for the one that fails
    assert len(await store.list_sessions(limit=1000)) == 100


async def test_a_refused_write_takes_nobody_along(store: SqlStore, log: Log) -> None:
    """All are run again, each behind a savepoint: its own is undone, the others are committed in one transaction."""
    good, bad = [Scribe(f"s{number}") for number in range(3)], Scribe("bad")
    first = good[0].turn("first")
    async with Gate(store._lanes) as gate:
        log.seen.clear()
        outcomes = await behind(
            gate,
            store.commit(first),
            store.commit(bad.turn("too late", expected_head_revision=4)),
            store.commit(good[1].turn("second")),
            store.commit(bad.turn("x", adopted_blobs=("sha256:none",), blobs=(b"not kept",))),
            store.commit(first),
            store.commit(good[2].turn("third")),
        )
    assert [type(each) for each in outcomes] == [
        CommitResult, HeadConflict, CommitResult, CommitRefused, CommitResult, CommitResult,
    ]  # fmt: skip
    assert {outcomes[0].receipt_replayed, outcomes[4].receipt_replayed} == {False, True}
    assert (log.count("COMMIT"), log.count("ROLLBACK"), log.count("ROLLBACK TO one")) == (2, 1, 2)
    assert log.count("SAVEPOINT one") == 6
    assert await store.load_head("bad") is None


async def test_work_that_fails_halfway_leaves_nothing(store: SqlStore) -> None:
    """Also when it isn't a refusal but a bug in the middle of its writes."""

    def half(tx: Tx) -> None:
        tx.write("INSERT INTO tombstones (session_id, deleted_at_ms) VALUES ('half', 1)")
        raise ZeroDivisionError

    def whole(tx: Tx) -> None:
        tx.write("INSERT INTO tombstones (session_id, deleted_at_ms) VALUES ('whole', 1)")

    async with Gate(store._lanes) as gate:
        outcomes = await behind(gate, store._lanes.write(half), store._lanes.write(whole), store._lanes.write(half))
    assert [type(each) for each in outcomes] == [ZeroDivisionError, type(None), ZeroDivisionError]
    assert [await store.session_was_deleted(id) for id in ("half", "whole")] == [False, True]


async def test_if_the_database_is_full_what_fits_is_written(tmp_path: Path, log: Log) -> None:
    """SQLite undoes the whole transaction then; its members are tried again one by one."""
    driver = SqliteDriver(str(tmp_path / "lash.db"), SqlSettings(max_page_count=120), seen=log)
    store, first = await SqlStore.open(driver, MemoryLocks()), Scribe("first")
    await first.write(store, first.turn("before"))
    before = await store.load_session("first")
    large = "x" * 1_000_000
    async with Gate(store._lanes) as gate:
        log.seen.clear()
        outcomes = await behind(
            gate,
            store.commit(Scribe("s1").turn("fits")),
            store.commit(first.turn(large)),
            store.commit(Scribe("s2").turn("fits")),
            store.commit(Scribe("s3").turn(large)),
            store.commit(Scribe("s4").turn("fits")),
        )
    assert [type(each) for each in outcomes] == [
        CommitResult, StoreUnavailable, CommitResult, StoreUnavailable, CommitResult,
    ]  # fmt: skip
    assert all(word in str(outcomes[1]) for word in ("lash.db", "full", "make room"))
    assert log.count("BEGIN IMMEDIATE") == 2 + 5
    assert await store.load_session("first") == before
    assert {each.session_id for each in await store.list_sessions()} == {"first", "s1", "s2", "s4"}
    await store.delete_session("s4")
    await first.write(store, first.turn("after"))
    await store.aclose()


# ---- waiting --------------------------------------------------------------------------------------------------------


async def test_a_submitted_write_is_awaited_although_its_scope_is_cancelled(store: SqlStore) -> None:
    """The result is there even so: who has it knows more than who was only told of the cancellation."""
    scribe, results = Scribe(), []
    async with Gate(store._lanes) as gate, anyio.create_task_group() as group:

        async def commit() -> None:
            results.append(await store.commit(scribe.turn("hello")))
            await anyio.lowlevel.checkpoint()
            results.append("not cancelled")

        group.start_soon(commit)
        await anyio.wait_all_tasks_blocked()
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.wait_all_tasks_blocked()
            assert results == []  # still waiting
            gate.open()
    (result,) = results
    assert isinstance(result, CommitResult)
    assert (await store.load_receipt("s1", result.receipt.operation)) == result.receipt


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_bare_task_cancellation_is_raised_after_the_write(store: SqlStore) -> None:
    """asyncio's own cancellation knows no shields: it is kept until the end, however often it comes."""
    scribe = Scribe()
    async with Gate(store._lanes) as gate:
        task = asyncio.create_task(store.commit(scribe.turn("hello")))
        for _ in range(3):
            await anyio.wait_all_tasks_blocked()
            task.cancel()
        await asyncio.wait([task], timeout=0)
        assert not task.done()
        gate.open()
        with pytest.raises(asyncio.CancelledError):
            await task
    head = await store.load_head("s1")
    assert head is not None
    assert head.head_revision == 1


async def test_a_cancelled_read_is_left_alone(store: SqlStore) -> None:
    """It isn't waited for, and what it brings is dropped."""
    entered, leave = threading.Event(), threading.Event()

    def slow(tx: Tx) -> None:
        entered.set()
        leave.wait(30)

    with anyio.move_on_after(0):
        await store._lanes.read(slow)
    assert await store.load_head("s1") is None  # by the other reader
    leave.set()


async def test_reads_run_beside_a_write_that_takes_long(store: SqlStore) -> None:
    scribe = Scribe()
    await scribe.write(store, scribe.turn("hello"))
    async with Gate(store._lanes):
        loaded = await store.load_session("s1")
        assert loaded is not None
        assert [node.body for node in loaded.nodes] == [b"{}", b"hello"]


async def test_a_reader_sees_what_was_acknowledged(store: SqlStore) -> None:
    scribe = Scribe()
    for turn in range(50):
        await scribe.write(store, scribe.turn("x"))
        head = await store.load_head("s1")
        assert head is not None
        assert head.head_revision == turn + 1


async def test_a_revision_is_read_on_the_spot(store: SqlStore) -> None:
    """Every turn asks for it, and no thread is asked; unless another thread is just looking, or a fault needs words."""
    scribe, lanes = Scribe(), store._lanes
    for turn in range(3):
        await scribe.write(store, scribe.turn("x"))
        assert await store.load_revision("s1") == turn + 1
    assert lanes._readers == []
    with lanes._near._lock:
        assert await store.load_revision("s1") == 3
    assert len(lanes._readers) == 1
    with pytest.raises(CommitRefused, match="can't be stored"):
        await store.load_revision("\ud800")


# ---- closing --------------------------------------------------------------------------------------------------------


async def test_closing_finishes_what_waits_and_refuses_what_comes(tmp_path: Path) -> None:
    scribe = Scribe()
    store = await SqlStore.open(SqliteDriver(str(tmp_path / "lash.db"), SqlSettings()), MemoryLocks())
    assert await store.load_head("s1") is None  # starts a reader
    async with Gate(store._lanes) as gate, anyio.create_task_group() as group:
        group.start_soon(store.commit, scribe.turn("hello"))
        await anyio.wait_all_tasks_blocked()
        group.start_soon(store.aclose)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(StoreUnavailable, match="closed"):
            await store.commit(scribe.turn("late"))
        gate.open()
    await store.aclose()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.load_head("s1")
    with pytest.raises(StoreUnavailable, match="closed"):
        store.try_lock("s1")
    # The last to close has tidied up: the log is in the file.
    assert [each.name for each in tmp_path.iterdir()] == ["lash.db"]
    again = await SqlStore.open(SqliteDriver(str(tmp_path / "lash.db"), SqlSettings()), MemoryLocks())
    head = await again.load_head("s1")
    await again.aclose()
    assert head is not None
    assert head.head_revision == 1
    left = [each.name for each in threading.enumerate() if each.name.startswith("lash-store")]
    assert left == []  # trio keeps threads of its own a while
