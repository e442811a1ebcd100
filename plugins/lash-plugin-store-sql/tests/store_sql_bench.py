"""How fast the store is: `python store_sql_bench.py [directory] [--backend trio]`. Figures depend on the disk's fsync.

A turn here is what a small one is: five messages of a kilobyte, a changed component, usage, a result.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

import anyio

from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.stores import ComponentChanged, RuntimeCommit, StoreContext, UsageDelta
from lash_hookspecs.testing.store import Scribe
from lash_hookspecs.testing.store.runner import Runner, effect, new_item
from lash_plugin_store_sql.settings import SqlSettings
from lash_plugin_store_sql.store import SqlStore, open_store

T = TypeVar("T")

BODY = "the quick brown fox " * 50


def turns(session_id: str, count: int) -> list[RuntimeCommit]:
    """Commits made beforehand, so that only the store is measured."""
    scribe, commits = Scribe(session_id), []
    for turn in range(count):
        commit = scribe.turn(
            *[f"{turn}.{index} {BODY}" for index in range(5)],
            components={"state": ComponentChanged(f"{session_id} {turn}".encode())},
            usage=(UsageDelta(source="turn", model="m", usage=TokenUsage(input=100, output=10)),),
            result=BODY.encode(),
        )
        scribe.revision, scribe.leaf = turn + 1, commit.nodes[-1].node_id
        commits.append(commit)
    return commits


async def opened(path: Path | None, **settings: object) -> SqlStore:
    url = "sqlite://" if path is None else f"sqlite:///{path}"
    return await open_store(StoreContext(url=url, settings=SqlSettings(**settings)))  # type: ignore[arg-type]  # settings by name, as a test gives them


def tell(name: str, figure: float, unit: str) -> None:
    sys.stdout.write(f"{name:<58}{figure:>10.1f} {unit}\n")


def raw_commit(path: Path) -> None:
    """The floor: sqlite3 alone, one transaction with as many bytes in one row."""
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = FULL"):
        db.execute(f"PRAGMA {pragma}")
    db.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b BLOB)")
    data, times = os.urandom(6 * len(BODY)), []
    for _ in range(500):
        start = time.perf_counter()
        for sql, values in (("BEGIN IMMEDIATE", ()), ("INSERT INTO t (b) VALUES (?)", (data,)), ("COMMIT", ())):
            db.execute(sql, values)
        times.append(time.perf_counter() - start)
    db.close()
    tell("raw sqlite3, one row of 6 kB, synchronous=FULL", median(times) * 1e6, "µs")


async def commits(name: str, path: Path | None, **settings: object) -> None:
    store, times = await opened(path, **settings), []
    for commit in turns("s", 500):
        start = time.perf_counter()
        await store.commit(commit)
        times.append(time.perf_counter() - start)
    tell(f"a turn's commit, {name}", median(times) * 1e6, "µs")
    times = []
    for _ in range(500):
        start = time.perf_counter()
        await store.load_head("s")
        times.append(time.perf_counter() - start)
    tell(f"load_head, {name}", median(times) * 1e6, "µs")
    await store.aclose()


async def durable(name: str, path: Path | None, **settings: object) -> None:
    """What a durable turn adds to its commit: its begin, a row for each effect, and what the commit settles."""
    store, scribe, runner = await opened(path, **settings), Scribe(), Runner()
    times: dict[str, list[float]] = {"begin": [], "a row of 1 kB": [], "the commit": [], "one without it": []}

    async def timed(what: str, call: Awaitable[T]) -> T:
        start = time.perf_counter()
        answer = await call
        times[what].append(time.perf_counter() - start)
        return answer

    for turn in range(300):
        lease, item = await timed("begin", runner.begin(store, new_item(f"k{turn}")))
        for index in range(3):
            row = effect(f"{index}", body=BODY.encode())
            await timed("a row of 1 kB", store.append_journal(lease, item.no, [row]))
        await timed("the commit", scribe.write(store, runner.commit(scribe, lease, item, BODY, BODY)))
        await timed("one without it", scribe.write(store, scribe.turn(BODY, BODY)))
    for what, seconds in times.items():
        tell(f"a durable turn: {what}, {name}", median(seconds) * 1e6, "µs")
    await store.aclose()


async def many_sessions(path: Path, sessions: int = 200, each: int = 5) -> None:
    store, work = await opened(path), [turns(f"s{number}", each) for number in range(sessions)]

    async def run(commits: list[RuntimeCommit]) -> None:
        for commit in commits:
            await store.commit(commit)

    start = time.perf_counter()
    async with anyio.create_task_group() as group:
        for commits in work:
            group.start_soon(run, commits)
    tell(f"{sessions} sessions at once, synchronous=FULL", sessions * each / (time.perf_counter() - start), "commits/s")
    await store.aclose()


async def loads(path: Path, nodes: int = 10_000) -> None:
    store = await opened(path, synchronous="normal")
    for commit in turns("s", nodes // 5):
        await store.commit(commit)
    times = []
    for _ in range(7):
        start = time.perf_counter()
        loaded = await store.load_session("s")
        times.append(time.perf_counter() - start)
    assert loaded is not None
    tell(f"load_session of {len(loaded.nodes):,} nodes, {nodes / 1000:.0f} MB", min(times) * 1e3, "ms")
    await store.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path)
    parser.add_argument("--backend", default="asyncio", choices=["asyncio", "trio"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        folder = Path(name)
        raw_commit(folder / "raw.db")
        work: list[Callable[[], object]] = [
            partial(commits, "synchronous=FULL", folder / "full.db"),
            partial(commits, "synchronous=NORMAL", folder / "normal.db", synchronous="normal"),
            partial(commits, "in memory", None),
            partial(durable, "synchronous=FULL", folder / "durable.db"),
            partial(durable, "in memory", None),
            partial(many_sessions, folder / "many.db"),
            partial(loads, folder / "loads.db"),
        ]
        for each in work:
            anyio.run(each, backend=options.backend)  # type: ignore[arg-type]  # they are coroutine functions


if __name__ == "__main__":
    main()
