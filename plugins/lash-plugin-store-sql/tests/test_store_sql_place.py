"""A database that is removed or replaced while it is open: nobody is told of what nobody can find."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from lash_hookspecs.errors import StoreUnavailable
from lash_hookspecs.stores import StoreContext
from lash_hookspecs.testing.store import Scribe
from lash_plugin_store_sql import near, place
from lash_plugin_store_sql.store import SqlStore, open_store


async def opened(path: Path) -> SqlStore:
    return await open_store(StoreContext(url=f"sqlite:///{path}"))


def of(path: Path) -> list[Path]:
    """The database, and what is beside it."""
    return [each for end in ("", "-wal", "-shm") if (each := path.with_name(f"{path.name}{end}")).exists()]


def removed(path: Path) -> None:
    for each in of(path):
        each.unlink()


def moved(path: Path) -> None:
    for each in of(path):
        each.rename(each.with_name(f"old-{each.name}"))


def restored_from_a_copy(path: Path) -> None:
    path.rename(path.with_name("old.db"))
    shutil.copy(path.with_name("old.db"), path)


def without_its_log(path: Path) -> None:
    path.with_name(f"{path.name}-wal").unlink()


@pytest.mark.parametrize("replace", [removed, moved, restored_from_a_copy, without_its_log])
@pytest.mark.parametrize("turns", [0, 1, near.ALONE + 1], ids=["opened", "by-the-thread", "on-the-spot"])
async def test_a_database_that_is_not_there_any_more_acknowledges_nothing(
    turns: int, replace: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server whose file was removed went on for days: each turn was acknowledged as durable, and all were gone."""
    monkeypatch.setattr(place, "LOOK_S", 0.0)
    path, scribe = tmp_path / "lash.db", Scribe("s1")
    store = await opened(path)
    for _ in range(turns):
        await scribe.write(store, scribe.turn("hello"))
    replace(path)
    commit = scribe.turn("nobody will find this")
    for _ in range(near.ALONE + 2):
        with pytest.raises(
            StoreUnavailable, match=r"lash\.db(-wal)?` was (removed or moved|replaced) while it was open"
        ):
            await store.commit(commit)
    await store.aclose()


async def test_who_puts_it_back_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "LOOK_S", 0.0)
    path, scribe = tmp_path / "lash.db", Scribe("s1")
    store = await opened(path)
    await scribe.write(store, scribe.turn("hello"))
    moved(path)
    commit = scribe.turn("and this")
    with pytest.raises(StoreUnavailable):
        await store.commit(commit)
    for each in tmp_path.glob("old-*"):
        each.rename(each.with_name(each.name.removeprefix("old-")))
    await scribe.write(store, commit)  # as after an answer that was lost
    await scribe.write(store, scribe.turn("and more"))
    await store.aclose()
    store = await opened(path)
    head = await store.load_head("s1")
    assert head is not None
    assert head.turn_index == 3
    await store.aclose()


async def test_who_comes_late_does_not_write_into_another_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections that were opened later, and what SQLite opens at the first read, were another database's.

    A session's turns went there, or it was damaged: its log's index was written for the one that had been moved away.
    """
    monkeypatch.setattr(place, "LOOK_S", 0.0)
    path, ours, theirs = tmp_path / "lash.db", Scribe("ours"), Scribe("theirs")
    store = await opened(path)
    moved(path)
    other = await opened(path)
    await theirs.write(other, theirs.turn("hello"))
    for _ in range(near.ALONE + 2):
        with pytest.raises(StoreUnavailable, match="replaced while it was open"):
            await store.load_head("ours")
    for _ in range(near.ALONE + 2):
        await theirs.write(other, theirs.turn("more"))
    with pytest.raises(StoreUnavailable, match="replaced while it was open"):
        await store.commit(ours.turn("hello"))
    await store.aclose()
    assert [each.session_id for each in await other.list_sessions()] == ["theirs"]
    await other.aclose()
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()


async def test_a_look_is_good_for_a_hundredth_of_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For so long a write may be acknowledged that is lost, so it must not be longer."""
    clock = [0.0]
    monkeypatch.setattr(place, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    path, scribe = tmp_path / "lash.db", Scribe("s1")
    store = await opened(path)
    removed(path)
    clock[0] = 0.0099
    await scribe.write(store, scribe.turn("nobody will find this"))
    clock[0] = 0.0101
    with pytest.raises(StoreUnavailable):
        await store.commit(scribe.turn("nor this"))
    await store.aclose()
