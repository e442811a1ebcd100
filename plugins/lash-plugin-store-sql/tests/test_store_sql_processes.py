"""Several processes on one database: opening it at once, being killed, holding locks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import anyio
import pytest

from lash_hookspecs.leases import LeaseBusy
from lash_hookspecs.liveness import process_stamp
from lash_hookspecs.stores import OperationId, StoreContext
from lash_hookspecs.testing.store import Scribe
from lash_hookspecs.testing.store.runner import Runner, effect
from lash_plugin_store_sql.locks import MemoryLocks, OfdLocks, PosixLocks, file_locks
from lash_plugin_store_sql.settings import SqlSettings
from lash_plugin_store_sql.sqlite import SqliteDriver
from lash_plugin_store_sql.store import SqlStore, open_store

CHILDREN = Path(__file__).with_name("store_sql_children.py")

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a child; whatever still runs at the end is killed."""
    children: list[subprocess.Popen[str]] = []

    def start(*words: object) -> subprocess.Popen[str]:
        child = subprocess.Popen(
            [sys.executable, str(CHILDREN), *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # what waits here are processes
async def test_sixty_four_processes_open_one_new_database_at_once(start: Start, tmp_path: Path) -> None:
    """Nobody is told "database is locked", and everybody's commits are there."""
    path = tmp_path / "new" / "lash.db"
    out, _ = start("crowd", path, 64).communicate()
    assert Counter(out.splitlines()) == {"ok": 64}
    store = await open_store(StoreContext(url=f"sqlite:///{path}"))
    assert {(each.session_id, each.head_revision) for each in await store.list_sessions()} == {
        (f"s{number}", 2) for number in range(64)
    }
    await store.aclose()


LAST_READER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
print(db.execute("SELECT count(*) FROM receipts").fetchone()[0])
db.close()
"""


async def test_who_opens_a_database_once_more_takes_no_other_stores_locks(tmp_path: Path) -> None:
    """Each opening looked at the file past SQLite, which let go of all locks that its process had there.

    So another process, when it closed the database, thought that it was the last, and deleted the log. The first store
    went on writing into it: whatever it committed from then on was nowhere.
    """
    path = tmp_path / "lash.db"
    url, scribe = f"sqlite:///{path}", Scribe()
    first = await open_store(StoreContext(url=url))
    for turns in range(1, 4):
        await scribe.write(first, scribe.turn(f"m{turns}"))
        second = await open_store(StoreContext(url=url))
        await second.aclose()
        counted = await anyio.run_process([sys.executable, "-c", LAST_READER, str(path)])
        assert int(counted.stdout) == turns
        assert path.with_name("lash.db-wal").exists()
    await first.aclose()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_a_fork_of_a_process_that_has_just_synced_waits_for_the_disk_itself(start: Start, tmp_path: Path) -> None:
    """It has none of the C library's threads, which the library doesn't know: its event loop stood still for ever."""
    out, _ = start("fork", tmp_path).communicate(timeout=60)
    assert out.split() == ["parent", "child", "0"]


@pytest.mark.chaos
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_killed_process_loses_no_acknowledged_commit(start: Start, tmp_path: Path) -> None:
    """Killed with -9 in the middle of a stream of commits, three times on one database; each time all is whole."""
    path = tmp_path / "lash.db"
    acknowledged: dict[str, int] = {}
    for round in range(3):
        child = start("stream", path, round)
        assert child.stdout is not None
        for _ in range(40 + 13 * round):
            note(acknowledged, child.stdout.readline())
        child.kill()
        for line in child.stdout.read().splitlines():
            note(acknowledged, line)
        child.wait()
        store = await open_store(StoreContext(url=f"sqlite:///{path}"))
        for session_id, revision in acknowledged.items():
            loaded = await store.load_session(session_id, all_frames=True)
            assert loaded is not None
            assert loaded.head.head_revision >= revision
            # A frame, and two nodes for each commit: none is there by half.
            assert len(loaded.nodes) == 1 + 2 * loaded.head.head_revision
            for turn in (1, revision):
                assert await store.load_receipt(session_id, OperationId("turn", f"t{turn}")) is not None
        await store.aclose()
    assert len(acknowledged) == 8


def note(acknowledged: dict[str, int], line: str) -> None:
    session_id, revision = line.split()
    acknowledged[session_id] = int(revision)


KINDS = {"ofd": OfdLocks, "posix": PosixLocks}


@pytest.mark.parametrize("kind", KINDS)
def test_a_lock_holds_across_processes_until_it_is_let_go_or_its_holder_dies(
    kind: str, start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "lash.db-locks"
    locks = KINDS[kind](str(path))
    child = start("hold", path, kind)
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == "held True\n"
    assert [locks.try_lock(id) for id in "ab"] == [None, None]
    with taken(locks, "c"):
        pass
    child.stdin.write("\n")
    child.stdin.flush()
    assert child.stdout.readline() == "let go\n"
    with taken(locks, "b"):
        assert locks.try_lock("a") is None
    child.kill()
    child.wait()
    with taken(locks, "a"):
        pass
    locks.close()
    assert path.stat().st_size == 0


@pytest.mark.parametrize("link", ["file", "folder"])
async def test_a_lock_holds_whichever_way_leads_to_the_database(link: str, tmp_path: Path) -> None:
    """By a link it had another file of locks, so that two turns ran at once, and one that was paid was lost."""
    folder = tmp_path / "there"
    folder.mkdir()
    here = tmp_path / "here"
    here.symlink_to(folder / "lash.db" if link == "file" else folder)
    paths = (folder / "lash.db", here if link == "file" else here / "lash.db")
    first, second = [await open_store(StoreContext(url=f"sqlite:///{path}")) for path in paths]
    for one, other in ((first, second), (second, first)):
        held = one.try_lock("a")
        assert held is not None
        with held:
            assert other.try_lock("a") is None
    await first.aclose()
    await second.aclose()


@pytest.mark.parametrize("kind", KINDS)
def test_two_stores_in_one_process_exclude_each_other(kind: str, tmp_path: Path) -> None:
    first, second = (KINDS[kind](str(tmp_path / "locks")) for _ in range(2))
    with taken(first, "a"):
        assert first.try_lock("a") is None
        assert second.try_lock("a") is None
        with taken(second, "b"):
            assert first.try_lock("b") is None
    with taken(second, "a"):
        assert first.try_lock("a") is None
    held = first.try_lock("a")
    assert held is not None
    first.close()  # as a store does that is closed with a turn still running
    with taken(second, "a"):
        held.__exit__(None, None, None)  # too late: it isn't its lock any more
        assert KINDS[kind](str(tmp_path / "locks")).try_lock("a") is None
    second.close()


def test_a_lock_costs_no_descriptor_per_session(tmp_path: Path) -> None:
    locks = file_locks(str(tmp_path / "locks"))
    assert isinstance(locks, OfdLocks if sys.platform == "linux" else MemoryLocks)
    with taken(locks, "first"):
        before = len(list(Path("/proc/self/fd").iterdir()))
        held = [locks.try_lock(f"session {number}") for number in range(1000)]
        assert None not in held
        assert len(list(Path("/proc/self/fd").iterdir())) == before
    locks.close()


def taken(locks: MemoryLocks, session_id: str) -> AbstractContextManager[None]:
    held = locks.try_lock(session_id)
    assert held is not None
    return held


@pytest.mark.skipif(process_stamp() is None, reason="this system can't tell which process is gone")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_turn_of_a_killed_process_goes_on_at_once(start: Start, tmp_path: Path) -> None:
    """With what it recorded; its lease would have been good for an hour."""
    path = tmp_path / "lash.db"
    child = start("turn", path, 60 * 60 * 1000)
    assert child.stdout is not None
    assert child.stdout.readline().split() == ["begun", "1"]
    store, scribe, runner = await open_store(StoreContext(url=f"sqlite:///{path}")), Scribe(), Runner("parent")
    assert isinstance(await runner.tried(store), LeaseBusy)  # it lives
    child.kill()
    child.wait()
    begun = await runner.tried(store)
    assert (begun.lease.generation, begun.displaced.holder.owner, begun.item.attempts) == (2, "child", 2)
    assert [(row.label, row.status) for row in begun.rows] == [("done", "done"), ("unsure", "intent")]
    await scribe.write(store, runner.commit(scribe, begun.lease, begun.item, "by the parent"))
    await store.aclose()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_process_that_was_stopped_for_too_long_writes_nothing_over_its_successor(
    start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "lash.db"
    child = start("turn", path, 60_000)
    assert child.stdout is not None
    assert child.stdout.readline().split() == ["begun", "1"]
    os.kill(child.pid, signal.SIGSTOP)
    scribe, runner = Scribe(), Runner("parent")
    driver = SqliteDriver(str(path), SqlSettings())
    store = await SqlStore.open(driver, MemoryLocks(), lambda: time.time_ns() // 1_000_000 + 60_000)  # in a minute
    begun = await runner.tried(store)
    await store.append_journal(begun.lease, begun.item.no, [effect("unsure", body=b"the parent's")])
    os.kill(child.pid, signal.SIGCONT)
    out, _ = child.communicate("go on\n")
    assert out.split() == ["LeaseLost", "LeaseLost", "ClaimLost"]
    assert [row.body for row in await store.load_journal("s1", "t-a")] == [b"outcome", b"the parent's"]
    await scribe.write(store, runner.commit(scribe, begun.lease, begun.item, "by the parent"))
    loaded = await store.load_session("s1")
    assert loaded is not None
    assert [node.body for node in loaded.nodes] == [b"{}", b"by the parent"]
    await store.aclose()
