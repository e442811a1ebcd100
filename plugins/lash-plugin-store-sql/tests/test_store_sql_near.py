"""Writes on the spot: who is alone, what sends a write to the thread nevertheless, and that nobody can tell."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio.lowlevel
import pytest

from lash_hookspecs.errors import HeadConflict, StoreUnavailable
from lash_hookspecs.testing.store import Scribe
from lash_plugin_store_sql import near, syncer, writer
from lash_plugin_store_sql.driver import Tx
from lash_plugin_store_sql.locks import MemoryLocks
from lash_plugin_store_sql.settings import SqlSettings
from lash_plugin_store_sql.sqlite import SqliteDriver
from lash_plugin_store_sql.store import SqlStore

HERE, THREAD = "here", "thread"


class Places:
    """Where each write transaction was committed."""

    def __init__(self) -> None:
        self.here = threading.get_ident()
        self.seen: list[str] = []
        self._writes = False

    def __call__(self, sql: str, params: Sequence[Any], rows: int) -> None:
        if sql.startswith("BEGIN"):
            self._writes = sql == "BEGIN IMMEDIATE"
        if sql == "COMMIT" and self._writes:
            self.seen.append(HERE if threading.get_ident() == self.here else THREAD)


@pytest.fixture
def places() -> Places:
    return Places()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lash.db"


@pytest.fixture(autouse=True)
def _no_disk_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "SLOW_S", float("inf"))


@pytest.fixture
async def store(path: Path, places: Places) -> AsyncIterator[SqlStore]:
    driver = SqliteDriver(str(path), SqlSettings(synchronous="normal"), seen=places)
    store = await SqlStore.open(driver, MemoryLocks())
    yield store
    await store.aclose()


async def many(store: SqlStore, scribe: Scribe, count: int) -> None:
    for _ in range(count):
        await scribe.write(store, scribe.turn("hello"))


async def test_a_session_that_is_alone_writes_on_the_spot(store: SqlStore, places: Places) -> None:
    await many(store, Scribe("s1"), near.ALONE + 4)
    assert places.seen == [THREAD] * near.ALONE + [HERE] * 4


async def test_sessions_that_take_turns_go_by_the_thread_which_commits_them_together(
    store: SqlStore, places: Places
) -> None:
    """Also those of the second that comes while the first was alone."""
    one, two = Scribe("s1"), Scribe("s2")
    await many(store, one, near.ALONE + 1)
    places.seen.clear()
    for _ in range(10):
        await many(store, two, 1)
        await many(store, one, 1)
    await store.put_blob(b"of nobody", "text/plain")
    assert places.seen == [THREAD] * 21


async def test_now_and_then_a_write_goes_by_the_thread_which_keeps_the_log_short(
    store: SqlStore, places: Places, path: Path
) -> None:
    """The near connection leaves the log as it grows, since to copy it takes long."""
    await many(store, Scribe("s1"), near.SPELL * 10)
    assert [at for at, place in enumerate(places.seen[near.ALONE :], near.ALONE + 1) if place == THREAD] == [
        near.SPELL * spell for spell in range(1, 11)
    ]
    # A commit is some ten pages: without the thread it would have some thirteen million bytes.
    assert path.with_name("lash.db-wal").stat().st_size < 6_000_000


async def test_what_is_large_goes_by_the_thread(store: SqlStore, places: Places) -> None:
    scribe = Scribe("s1")
    await many(store, scribe, near.ALONE)
    places.seen.clear()
    await scribe.write(store, scribe.turn("x" * near.SMALL))
    await many(store, scribe, 1)
    assert places.seen == [THREAD, HERE]


async def test_while_another_process_writes_the_thread_waits(store: SqlStore, places: Places, path: Path) -> None:
    scribe = Scribe("s1")
    await many(store, scribe, near.ALONE + 1)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    done = threading.Timer(0.05, other.execute, ["ROLLBACK"])
    done.start()
    await many(store, scribe, 2)
    done.join()
    other.close()
    assert places.seen[-2:] == [THREAD, HERE]


async def test_a_slow_disk_is_left_to_the_thread(
    store: SqlStore, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    scribe = Scribe("s1")
    await many(store, scribe, near.ALONE)
    monkeypatch.setattr(near, "SLOW_S", -1.0)  # as if any disk were
    monkeypatch.setattr(near, "SPELL", 1000)
    monkeypatch.setattr(near, "PAUSES", (4, 16))
    await many(store, scribe, 50)
    # A few writes at first, since the machine may just have been busy; then more and more.
    pauses = [*[HERE, *[THREAD] * 4], *[HERE, *[THREAD] * 8], *[HERE, *[THREAD] * 16] * 3]
    assert places.seen[near.ALONE :] == pauses[:50]
    places.seen.clear()
    monkeypatch.setattr(near, "SLOW_S", float("inf"))
    await many(store, scribe, 30)
    assert places.seen[-13:] == [HERE] * 13
    monkeypatch.setattr(near, "SLOW_S", -1.0)
    places.seen.clear()
    await many(store, scribe, 6)
    assert places.seen == [HERE, *[THREAD] * 4, HERE]


async def test_a_write_on_the_spot_is_refused_like_any_other_and_leaves_nothing(
    store: SqlStore, places: Places
) -> None:
    scribe = Scribe("s1")
    await many(store, scribe, near.ALONE + 1)
    head = await store.load_head("s1")
    with pytest.raises(HeadConflict):
        await store.commit(scribe.turn("too late", expected_head_revision=1))

    def half(tx: Tx) -> None:
        tx.write("INSERT INTO tombstones (session_id, deleted_at_ms) VALUES ('half', 1)")
        assert threading.get_ident() == places.here
        raise ZeroDivisionError

    def broken(tx: Tx) -> None:
        tx.write("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(ZeroDivisionError):
        await store._lanes.write(half, owner="s1")
    with pytest.raises(Exception, match="no such table: nowhere") as raised:
        await store._lanes.write(broken, owner="s1")
    assert isinstance(raised.value.__cause__, sqlite3.Error)
    assert not await store.session_was_deleted("half")
    assert await store.load_head("s1") == head
    await many(store, scribe, 1)
    assert places.seen[-1] == HERE


@pytest.mark.parametrize(
    ("synchronous", "can_sync", "level"),
    [("full", True, 1), ("full", False, 2), ("extra", True, 3), ("extra", False, 3), ("normal", True, 1)],
)
async def test_a_write_on_the_spot_is_as_durable_as_any(
    synchronous: str, can_sync: bool, level: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NORMAL (1) only where the log is synced by us, or needn't be."""
    if not can_sync:
        monkeypatch.delattr(os, "fdatasync")
    settings = SqlSettings(max_page_count=5000, synchronous=synchronous)
    store = await SqlStore.open(SqliteDriver(str(path), settings), MemoryLocks())
    assert (store._lanes._near._syncer is not None) is (synchronous == "full" and can_sync)  # type: ignore[union-attr]  # it is a file
    await many(store, Scribe("s1"), 1)
    connection = store._lanes._near._opened()  # type: ignore[union-attr]  # it is a file
    assert connection is not None
    found = [connection.row(f"PRAGMA {name}") for name in ("synchronous", "max_page_count", "busy_timeout")]
    assert found == [(level,), (5000,), (0,)]
    await store.aclose()


@pytest.mark.parametrize(("ms", "ways"), [(1, 4), (5, 20), (0, 0)])
async def test_who_writes_on_the_spot_gives_way_every_five_milliseconds(
    ms: int, ways: int, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a turn that waits for nothing lets nobody in to cancel it, and each way takes as long as a write."""
    scribe, now, given = Scribe("s1"), 100.0, 0
    await many(store, scribe, near.ALONE)
    monkeypatch.setattr(writer, "time", SimpleNamespace(monotonic=lambda: now))
    await many(store, scribe, 1)
    checkpoint = anyio.lowlevel.cancel_shielded_checkpoint

    async def counted() -> None:
        nonlocal given
        given += 1
        await checkpoint()

    monkeypatch.setattr(anyio.lowlevel, "cancel_shielded_checkpoint", counted)
    for _ in range(20):
        now += ms / 1000
        await many(store, scribe, 1)
    assert given == ways


# ---- the disk beside the event loop ---------------------------------------------------------------------------------


@pytest.fixture
async def full(path: Path, places: Places) -> AsyncIterator[SqlStore]:
    """A store that is durable, and whose next writes are made here."""
    store = await SqlStore.open(SqliteDriver(str(path), SqlSettings(), seen=places), MemoryLocks())
    await many(store, Scribe("s1"), near.ALONE + 1)
    yield store
    await store.aclose()


class Disk:
    """What was asked of the disk: each sync that was `waited` for, and each that it was `set` to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        sync, start = syncer.Syncer._sync, syncer._Request.start

        def synced(of: syncer.Syncer) -> None:
            self.asked.append("waited")
            sync(of)

        def started(of: Any) -> bool:
            self.asked.append("set")
            return start(of)

        monkeypatch.setattr(syncer.Syncer, "_sync", synced)
        monkeypatch.setattr(syncer._Request, "start", started)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def gone(name: str) -> Callable[[Tx], None]:
    """Work that writes, and may be run again."""

    def work(tx: Tx) -> None:
        tx.write("INSERT INTO tombstones (session_id, deleted_at_ms) VALUES (?, 1)", (name,))

    return work


async def test_only_what_is_to_be_synced_waits_for_the_disk(full: SqlStore, disk: Disk, places: Places) -> None:
    asked = []
    for number, synced in enumerate((True, False, False, True, False)):
        await full._lanes.write(gone(f"gone {number}"), owner="s1", synced=synced)
        asked.append(len(disk.asked))
    assert asked == [1, 1, 1, 2, 2]
    assert places.seen[-5:] == [HERE] * 5
    assert await full.session_was_deleted("gone 4")  # another connection reads it
    await full.sync()
    assert disk.asked == ["waited"] * 3
    await full.sync()  # there is nothing to do
    assert disk.asked == ["waited"] * 3


async def test_the_disk_is_set_to_what_nobody_waits_for_once(full: SqlStore, disk: Disk) -> None:
    await full.sync(wait=False)
    assert disk.asked == []
    for number in range(2):
        await full._lanes.write(gone(f"gone {number}"), owner="s1", synced=False)
        for _ in range(2):
            await full.sync(wait=False)
        assert disk.asked == ["set"] * (number + 1)
    await full.sync()  # waits for it
    assert disk.asked == ["set"] * 2
    await full._lanes.write(gone("another"), owner="s1", synced=False)
    await full.sync()
    assert disk.asked == ["set", "set", "waited"]


async def test_what_the_thread_writes_is_synced_with_its_commit(full: SqlStore, disk: Disk) -> None:
    found = []

    def work(tx: Tx) -> None:
        found.append(tx.row("PRAGMA synchronous"))
        gone("gone")(tx)

    await full._lanes.write(work, owner="another", synced=False)
    assert found == [(2,)]  # FULL
    await full.sync()
    assert disk.asked == []


async def test_who_closes_a_store_has_all_of_it_synced(full: SqlStore, disk: Disk) -> None:
    await full._lanes.write(gone("gone"), owner="s1", synced=False)
    await full.aclose()
    assert disk.asked == ["waited"]


@pytest.mark.parametrize("how", ["beside the loop", "beside the loop, and not later", "on the spot", "with a write"])
async def test_a_disk_that_refuses_to_sync_is_told_of_and_nothing_is_written_any_more(
    full: SqlStore, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once what was written before may be gone, nothing behind it in the log is safe."""

    def refuses(file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    if beside := how.startswith("beside"):
        monkeypatch.setattr(syncer._Request, "wait", lambda self: errno.EIO if self._is_begun else 0)
    else:
        monkeypatch.setattr(syncer.os, "fdatasync", refuses)
    await full._lanes.write(gone("gone"), owner="s1", synced=False)
    if beside:
        await full.sync(wait=False)
        if how.endswith("later"):  # the system tells of a failure once, whoever asks next
            with pytest.raises(StoreUnavailable, match="Input/output error"):
                await full._lanes.write(gone("behind it"), owner="s1")
    elif how == "with a write":
        with pytest.raises(StoreUnavailable, match="Input/output error"):
            await full._lanes.write(gone("with it"), owner="s1")
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="Input/output error"):
            await full.sync()
    for owner in ("s1", None):  # here, and by the thread
        with pytest.raises(StoreUnavailable, match="Input/output error"):
            await full._lanes.write(gone("after it"), owner=owner)
    assert await full.load_head("s1") is not None
    assert not await full.session_was_deleted("after it")


async def test_where_the_library_has_no_room_the_disk_is_waited_for_on_the_spot(
    full: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(syncer._Request, "start", lambda self: False)
    monkeypatch.setattr(syncer.os, "fdatasync", synced.append)
    await full._lanes.write(gone("gone"), owner="s1", synced=False)
    await full.sync(wait=False)
    assert len(synced) == 1
    await full.sync()
    assert len(synced) == 1


async def test_the_library_syncs_a_file_again_and_again_and_says_so_if_it_can_not(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"x")
    synced = syncer.Syncer(str(file))
    assert synced.is_ready()
    request = synced._request
    if request is None:
        pytest.skip("the library has no `aio_fsync` here")
    for _ in range(5):
        file.write_bytes(b"y" * 10_000)
        assert request.start()
        assert request.wait() == 0
        synced.is_clean = False
        synced.start()
    synced.sync()
    synced.require_sound()
    os.close(synced._file)
    assert not request.start()
    synced.is_clean = False
    synced.start()  # on the spot, then
    with pytest.raises(OSError, match="Bad file descriptor"):
        synced.require_sound()


class OneAtATime:
    """The C library's request, of which there is one: to begin it anew while it is under way isn't defined."""

    def __init__(self) -> None:
        self.is_under_way = False
        self.made = 0

    def start(self) -> bool:
        assert not self.is_under_way
        self.is_under_way = True
        self.made += 1
        return True

    def wait(self) -> int:
        self.is_under_way = False
        return 0


async def test_the_disk_is_asked_for_one_sync_at_a_time(full: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    request = OneAtATime()
    monkeypatch.setattr(full._lanes._near._syncer, "_request", request)  # type: ignore[union-attr]  # it is a file
    for number in range(3):
        await full._lanes.write(gone(f"{number}"), owner="s1", synced=False)
        await full.sync(wait=False)
    assert (request.made, request.is_under_way) == (3, True)
    await full.sync()
    assert not request.is_under_way


async def test_the_log_is_beside_the_file_that_a_link_leads_to(tmp_path: Path, disk: Disk) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "there" / "lash.db")
    store = await SqlStore.open(SqliteDriver(str(link), SqlSettings()), MemoryLocks())
    await many(store, Scribe("s1"), near.ALONE + 1)
    await store._lanes.write(gone("gone"), owner="s1", synced=False)
    await store.sync()
    assert disk.asked[-1] == "waited"
    await store.aclose()
    assert not link.with_name("link.db-wal").exists()


async def test_where_there_is_no_log_to_sync_the_thread_writes(
    full: SqlStore, places: Places, disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(full._lanes, writer.Lanes)
    monkeypatch.setattr(full._lanes._near, "_syncer", syncer.Syncer("/nowhere/at-all"))
    await full._lanes.write(gone("gone"), owner="s1", synced=False)
    for wait in (False, True):
        await full.sync(wait=wait)
    assert places.seen[-1] == THREAD
    assert disk.asked == []


async def test_a_disk_that_is_slow_beside_the_loop_is_left_to_the_thread(
    full: SqlStore, places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near, "PAUSES", (4, 16))
    for pause in (4, 8):
        places.seen.clear()
        await full._lanes.write(gone(f"{pause}"), owner="s1", synced=False)
        monkeypatch.setattr(near, "SLOW_S", -1.0)
        await full.sync(wait=pause == 4)
        monkeypatch.setattr(near, "SLOW_S", float("inf"))
        for number in range(pause):
            await full._lanes.write(gone(f"{pause}: {number}"), owner="s1", synced=False)
        assert places.seen == [HERE, *[THREAD] * pause]


async def test_nothing_is_synced_beside_where_nothing_need_be(store: SqlStore, path: Path, disk: Disk) -> None:
    """NORMAL never waits for the disk."""
    await many(store, Scribe("s1"), near.ALONE + 1)
    await store._lanes.write(gone("gone"), owner="s1")
    await store.sync()
    assert disk.asked == []
    assert SqliteDriver(str(path), SqlSettings(synchronous="normal")).log is None
    assert SqliteDriver(None, SqlSettings()).log is None
    assert SqliteDriver(str(path), SqlSettings()).log == f"{path}-wal"


async def test_a_closed_store_writes_nothing_on_the_spot(store: SqlStore) -> None:
    scribe = Scribe("s1")
    await many(store, scribe, near.ALONE + 1)
    await store.aclose()
    with pytest.raises(StoreUnavailable, match="closed"):
        await scribe.write(store, scribe.turn("late"))
