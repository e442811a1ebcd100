"""What a loss of power leaves: with FULL all that was acknowledged, with NORMAL a beginning of it; each step whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from store_sql_power import Event, LateSyncer, disk_at, recorded

from lash_hookspecs.inbox import InboxState
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.stores import ComponentChanged, UsageDelta
from lash_hookspecs.testing.store import Scribe
from lash_hookspecs.testing.store.inbox import ALL, note
from lash_hookspecs.testing.store.runner import Runner, effect, listed, new_item
from lash_plugin_store_sql import near
from lash_plugin_store_sql.locks import MemoryLocks
from lash_plugin_store_sql.settings import SqlSettings
from lash_plugin_store_sql.sqlite import SqliteConnection, SqliteDriver
from lash_plugin_store_sql.store import SqlStore

pytestmark = [
    pytest.mark.costly,
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),  # what is tested lies below the event loop
]
TURNS = 6


class OftenCheckpointed(SqliteDriver):
    """What moves from the log into the database does so every few pages: that is a way to lose things too."""

    def connect(self, *, write: bool) -> SqliteConnection:
        connection = super().connect(write=write)
        if write:
            connection.rows("PRAGMA wal_autocheckpoint = 30")
        return connection


async def opened(folder: Path, synchronous: str) -> SqlStore:
    driver = OftenCheckpointed(str(folder / "lash.db"), SqlSettings(synchronous=synchronous))
    return await SqlStore.open(driver, MemoryLocks())


async def progress(store: SqlStore) -> list[int]:
    """How far the turns have come: for each one, how many of its steps are there."""
    found = []
    loaded = await store.load_session("s1")
    bodies = [] if loaded is None else [node.body.decode() for node in loaded.nodes if node.frame_key is None]
    states = {each.source_key: each.state for each in await listed(store, "s1", states=ALL)}
    for turn in range(TURNS):
        rows = len(await store.load_journal("s1", f"t-k{turn}"))
        if states.get(f"k{turn}") is InboxState.COMPLETED:
            assert (bodies[2 * turn : 2 * turn + 2], rows) == ([f"said {turn}", "x" * 3000], 0)
            assert states[f"n{turn}"] is InboxState.COMPLETED
            found.append(5)
        elif f"k{turn}" in states:
            assert len(bodies) == 2 * turn
            found.append(1 + (f"n{turn}" in states) + rows)
        else:
            found.append(0)
    assert sum(entry.usage.input for entry in loaded.usage if loaded is not None) == found.count(5) if loaded else True
    return found


async def run(folder: Path, synchronous: str, told: Callable[[list[int]], None], *, later: bool = False) -> None:
    """Turns: begun, something said to each, two records, a commit; `told` hears how far they are acknowledged.

    `later`: what may be synced later is, and is acknowledged then.
    """
    store, mine, scribe = await opened(folder, synchronous), Runner(), Scribe()
    done = [0] * TURNS

    def acknowledged(turn: int) -> None:
        done[turn] += 1
        told(list(done))

    for turn in range(TURNS):
        lease, item = await mine.begin(store, new_item(f"k{turn}"), synced=not later)
        if later:
            await store.sync(wait=False)  # acknowledges nothing
            await store.sync()
        acknowledged(turn)
        said = await store.enqueue(note(f"n{turn}"))
        acknowledged(turn)
        await store.append_journal(lease, item.no, [effect("one", body=b"y" * 2000)], claims=[said.no])
        acknowledged(turn)
        await store.append_journal(lease, item.no, [effect("two")], synced=not later)
        if later and turn % 2:
            await store.sync()
        if turn % 2 or not later:  # else the commit has it synced
            acknowledged(turn)
        usage = (UsageDelta(source="turn", model="m", usage=TokenUsage(input=1)),)
        parts = {"a": ComponentChanged(f"{turn}".encode() * 100)}
        commit = mine.commit(
            scribe, lease, item, f"said {turn}", "x" * 3000, applied=(said.no,), usage=usage, components=parts
        )
        await scribe.write(store, commit)
        done[turn] = 4
        acknowledged(turn)
    await store.aclose()


@pytest.mark.parametrize("synchronous", ["full", "extra", "normal", "full, beside the loop"])
async def test_a_loss_of_power_leaves_what_the_setting_promises(
    synchronous: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every sync and every acknowledgment, and between them: whatever of the rest the disk has."""
    (tmp_path / "live").mkdir()
    marks: list[tuple[int, list[int]]] = []
    synchronous, _, later = synchronous.partition(", ")
    late: list[LateSyncer] = []
    try:
        with recorded(tmp_path / "live") as events, monkeypatch.context() as patched:
            patched.setattr(near, "Syncer", lambda path: late.append(LateSyncer(events, path)) or late[-1])
            if later:
                patched.setattr(near.Near, "_is_alone", lambda self, owner: owner is not None)
            told = lambda done: marks.append((len(events), done))  # noqa: E731 - it is told of, not defined
            await run(tmp_path / "live", synchronous, told, later=bool(later))
    except (OSError, AttributeError) as error:
        pytest.skip(f"SQLite's library can't be reached from here: {error}")
    assert sum(each.kind == "sync" for each in events) > (1 if synchronous == "normal" else TURNS * 4)
    if later:  # each turn's beginning, claims and commit, and what every second one waits for
        assert [each.synced for each in late] == [TURNS * 3 + TURNS // 2]
    else:
        assert bool(late) is (synchronous == "full")
    assert any(each.kind == "write" and each.file == "lash.db" for each in events[marks[0][0] : marks[-1][0]])
    moments = {at for at, _ in marks} | {at + 1 for at, each in enumerate(events) if each.kind == "sync"}
    moments |= set(range(marks[0][0], len(events), 11))
    lost = 0
    for number, at in enumerate(sorted(each for each in moments if each >= marks[0][0])):
        acknowledged = [done for place, done in marks if place <= at][-1]
        for seed in (None, number):
            place = tmp_path / f"{at}-{seed}"
            lost += await losses(place, events[:at], seed, acknowledged, synchronous)
    assert (lost > 0) is (synchronous == "normal")  # or nothing is taken away here at all


async def losses(place: Path, events: list[Event], seed: int | None, acknowledged: list[int], synchronous: str) -> int:
    """How many acknowledged steps are gone; what is there is a beginning of what was done, each step whole."""
    place.mkdir()
    for name, content in disk_at(events, None if seed is None else Random(seed)).items():
        if not name.endswith("-shm"):
            (place / name).write_bytes(content)
    store = await opened(place, synchronous)
    try:
        assert await store._lanes.read(lambda tx: tx.rows("PRAGMA integrity_check")) == [("ok",)]
        found = await progress(store)
    finally:
        await store.aclose()
    assert found == sorted(found, reverse=True), (place, found)
    assert sum(found) <= sum(acknowledged) + 1, (place, found)
    return sum(acknowledged) - min(sum(found), sum(acknowledged))
