"""A write transaction that fails anywhere leaves nothing behind or all of it, and the same call again is safe."""

from __future__ import annotations

import sqlite3
import subprocess
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from attrs import define, field
from store_sql_faults import Fault, FaultyDriver, Plan

from lash_hookspecs.errors import StoreUnavailable
from lash_hookspecs.inbox import CancelOutcome, InboxState
from lash_hookspecs.journal_rows import JournalStatus
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.stores import ComponentChanged, OperationId, SessionMeta, UsageDelta
from lash_hookspecs.testing.store import Scribe
from lash_hookspecs.testing.store.inbox import note
from lash_hookspecs.testing.store.runner import Runner, effect, new_item
from lash_plugin_store_sql.locks import MemoryLocks
from lash_plugin_store_sql.settings import SqlSettings
from lash_plugin_store_sql.store import SqlStore

TABLES = ("sessions", "tombstones", "nodes", "receipts", "blobs", "refs", "usage", "inbox", "journal")

pytestmark = [
    pytest.mark.costly,
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),  # what fails is on the store's threads
]


@define
class Bench:
    """A database with some of everything, a store on it, and what may be asked of it next."""

    path: Path
    plan: Plan = field(factory=Plan)
    now_ms: int = 1_000_000
    runner: Runner = field(factory=Runner)
    scribe: Scribe = field(factory=Scribe)
    calls: dict[str, Callable[[SqlStore], Awaitable[object]]] = field(factory=dict)
    store: SqlStore = field(init=False)

    async def open(self) -> None:
        driver = FaultyDriver(str(self.path), SqlSettings(synchronous="normal"))
        driver.plan = self.plan
        self.store = await SqlStore.open(driver, MemoryLocks(), lambda: self.now_ms)

    async def call(self, name: str) -> object:
        """Make one of the calls, on the store that is open now."""
        return await self.calls[name](self.store)

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row that is committed, as another process sees it."""
        db = sqlite3.connect(self.path)
        try:
            return {table: sorted(db.execute(f"SELECT * FROM {table}").fetchall(), key=repr) for table in TABLES}
        finally:
            db.close()

    async def fill(self) -> None:
        """Three sessions: one amid a turn, one that waits, one that is settled; and a call of every kind."""
        store, runner, scribe = self.store, self.runner, self.scribe
        await scribe.write(store, scribe.turn("before", components={"a": ComponentChanged(b"a")}, blobs=(b"picture",)))
        lease, item = await runner.begin(store, new_item("runs"), nonce="1")
        await store.append_journal(lease, item.no, [effect("a"), effect("b", JournalStatus.INTENT)])
        said, waits = await store.enqueue(note("said")), await store.enqueue(note("waits"))
        done, other = Runner(session_id="s2"), Scribe("s2")
        await other.write(store, done.commit(other, *await done.begin(store, new_item("k", "s2"), nonce="2"), "x"))
        commit = runner.commit(
            scribe,
            lease,
            item,
            "one",
            "two",
            components={"a": ComponentChanged(b"b")},
            usage=(UsageDelta(source="turn", model="m", usage=TokenUsage(input=3)),),
            blobs=(b"another",),
        )
        begin = done.beginning(new_item("next", "s2"), nonce="3")
        rows = [effect("b"), effect("c")]
        append = other.append("note", key="note")
        self.calls = {
            "create_session": lambda store: store.create_session(SessionMeta(session_id="s3", created_at_ms=1)),
            "commit": lambda store: store.commit(commit),
            "append": lambda store: store.commit(append),
            "delete_session": lambda store: store.delete_session("s1"),
            "put_blob": lambda store: store.put_blob(b"put", "text/plain"),
            "claim_lease": lambda store: store.claim_lease("s2", done.holder, nonce="claimed", ttl_ms=10),
            "renew_lease": lambda store: store.renew_lease(lease, ttl_ms=99_000_000),
            "release_lease": lambda store: store.release_lease(lease),
            "enqueue": lambda store: store.enqueue(new_item("queued")),
            "enqueue, new session": lambda store: store.enqueue(new_item("queued", "s3")),
            "cancel_items": lambda store: store.cancel_items("s1", [item.no, waits.no], "enough"),
            "cancel_suffix": lambda store: store.cancel_suffix("s1", said.no, "enough"),
            "begin_turn": lambda store: store.begin_turn(begin),
            "append_journal": lambda store: store.append_journal(lease, item.no, rows, claims=[said.no]),
            "park_turn": lambda store: store.park_turn(lease, item.no, state=InboxState.BLOCKED, reason="why"),
            "drop_journals": lambda store: store.drop_journals(before_ms=1 << 62),
        }


CALLS = (
    "create_session",
    "commit",
    "append",
    "delete_session",
    "put_blob",
    "claim_lease",
    "renew_lease",
    "release_lease",
    "enqueue",
    "enqueue, new session",
    "cancel_items",
    "cancel_suffix",
    "begin_turn",
    "append_journal",
    "park_turn",
    "drop_journals",
)

# What a call says the second time, where that isn't what it said the first: it was done.
SECOND: dict[str, Callable[[Any], object]] = {
    "create_session": lambda first: not first,
    "release_lease": lambda first: not first,
    "drop_journals": lambda first: 0,
    "commit": lambda first: (first.receipt, True),
    "append": lambda first: (first.receipt, True),
    "cancel_items": lambda first: {
        no: CancelOutcome.ALREADY_REQUESTED if each is CancelOutcome.REQUESTED else each for no, each in first.items()
    },
    "cancel_suffix": lambda first: {min(first): CancelOutcome.CANCELLED},  # the others don't wait any more
}


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path / "lash.db")
    await made.open()
    await made.fill()
    yield made
    await made.store.aclose()


def told(answer: Any) -> object:
    return (answer.receipt, answer.receipt_replayed) if hasattr(answer, "receipt_replayed") else answer


async def test_every_call_that_writes_is_in_the_table(bench: Bench) -> None:
    assert sorted(bench.calls) == sorted(CALLS)


@pytest.mark.parametrize("reopened", [False, True], ids=["", "reopened"])
@pytest.mark.parametrize("fault", [each for each in Fault if each is not Fault.IN_THE_MIDDLE])
@pytest.mark.parametrize("call", CALLS)
async def test_a_transaction_that_fails(call: str, fault: Fault, reopened: bool, bench: Bench, tmp_path: Path) -> None:
    """A typed error; then all is as before, or all is done; and the call again gives what it would have given."""
    twin = Bench(tmp_path / "twin.db")
    await twin.open()
    await twin.fill()
    wanted = await twin.call(call)
    done = twin.dump()
    await twin.store.aclose()
    before = bench.dump()
    bench.plan.faults = [fault]
    with pytest.raises(StoreUnavailable, match="disk"):
        await bench.call(call)
    lost = fault is Fault.ANSWER_LOST
    assert bench.dump() == (done if lost else before)
    if reopened:
        await bench.store.aclose()
        await bench.open()
    again = await bench.call(call)
    expected = SECOND[call](wanted) if lost and call in SECOND else told(wanted)
    assert told(again) == expected
    assert bench.dump() == done
    assert bench.plan.met == 1


@pytest.mark.parametrize("call", CALLS)
async def test_a_statement_that_fails_anywhere(call: str, bench: Bench) -> None:
    """Whichever of its statements it is, nothing of the call is left, and the call itself is fine afterwards."""
    before, at = bench.dump(), 0
    while True:
        at += 1
        bench.plan.faults, bench.plan.at, bench.plan.met = [Fault.IN_THE_MIDDLE], at, 0
        try:
            await bench.call(call)
        except StoreUnavailable:
            assert bench.plan.met == 1
            assert bench.dump() == before
        else:
            break
    assert bench.plan.met == 0
    assert at > 1
    bench.plan.faults = []
    assert bench.dump() != before


@pytest.mark.parametrize("call", CALLS)
async def test_a_store_that_is_opened_again_midway(call: str, bench: Bench, tmp_path: Path) -> None:
    """After each statement of a call, files as a process leaves them that dies there: all is as before, or all is done.

    And the call, made there, gives what it would have given.
    """
    before, places = bench.dump(), list[Path]()

    def left(sql: str, params: object, rows: int) -> None:
        place = tmp_path / f"{len(places)}"
        place.mkdir()
        # By another process: whoever closes a database's file here lets go of SQLite's locks on it.
        files = [each for each in (bench.path, bench.path.with_name("lash.db-wal")) if each.exists()]
        subprocess.run(["cp", *files, place], check=True)
        places.append(place)

    driver = FaultyDriver(str(bench.path), SqlSettings(synchronous="normal", readers=1))
    driver.plan = bench.plan
    await bench.store.aclose()
    bench.store = await SqlStore.open(driver, MemoryLocks(), lambda: bench.now_ms)
    driver.seen = left
    wanted = await bench.call(call)
    driver.seen = None
    done = bench.dump()
    assert len(places) > 2  # BEGIN, something, COMMIT
    for place in places:
        other = Bench(place / "lash.db")
        other.calls = bench.calls
        await other.open()
        committed = other.dump() == done
        assert committed or other.dump() == before
        again = await other.call(call)
        assert told(again) == (SECOND[call](wanted) if committed and call in SECOND else told(wanted))
        assert other.dump() == done
        await other.store.aclose()
    assert committed


@pytest.mark.parametrize("fault", [each for each in Fault if each is not Fault.AFTER_BEGIN])
async def test_a_batch_that_fails_costs_nobody_anything(fault: Fault, bench: Bench) -> None:
    """Writes of several sessions that were to be committed together are made one by one, and each is there once."""
    answers: dict[str, object] = {}

    async def run(name: str) -> None:
        answers[name] = await bench.call(name)

    await _together(bench, fault, [partial(run, name) for name in BATCH])
    assert sorted(answers) == sorted(BATCH)
    assert [row.label for row in await bench.store.load_journal("s1", "t-runs")] == ["a", "b", "c"]
    assert await bench.store.load_receipt("s2", OperationId("append", "note"))
    assert bench.plan.met == 1


BATCH = ("begin_turn", "append_journal", "enqueue", "append", "put_blob")


async def test_a_batch_that_cant_begin_fails_as_a_whole(bench: Bench) -> None:
    """Somebody else's lock, most likely: each would wait as long again. Nothing is written."""
    before, failed = bench.dump(), []

    async def run(name: str) -> None:
        with pytest.raises(StoreUnavailable):
            await bench.call(name)
        failed.append(name)

    await _together(bench, Fault.AFTER_BEGIN, [partial(run, name) for name in BATCH])
    assert sorted(failed) == sorted(BATCH)
    assert bench.dump() == before


async def _together(bench: Bench, fault: Fault, calls: list[Callable[[], Awaitable[None]]]) -> None:
    """Make the calls while the writer is busy with something else, so that they are its next batch, which fails."""
    held, free = threading.Event(), threading.Event()

    def hold(tx: object) -> None:
        held.set()
        free.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(bench.store._lanes.write, hold)
        await anyio.to_thread.run_sync(held.wait)
        for call in calls:
            group.start_soon(call)
        while bench.store._lanes._writes.qsize() < len(calls):
            await anyio.lowlevel.checkpoint()
        bench.plan.faults, bench.plan.at, bench.plan.skip = [fault], 3, 1  # not the one that is being held
        free.set()
