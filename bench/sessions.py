"""What open sessions cost: `python bench/sessions.py DATABASE` prints one line of JSON.

`open_us`: the median of opening a stored session whose composition is known, with a store that answers at once.
`registered`: calls of pluggy's `register` meanwhile. `bytes`, `rss`, `files`: what each of 1,000 open idle sessions
holds, as counted by tracemalloc and by the system, and file descriptors; `used_bytes` the same after a turn each.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
import tracemalloc
from pathlib import Path
from statistics import median
from typing import Any

import orjson
import pluggy

SESSIONS = 1000


class _InstantStore:
    """A store that knows every session's head without asking anybody."""

    def __init__(self, store: Any, heads: dict[str, Any]) -> None:
        self._store = store
        self._heads = heads

    async def load_head(self, session_id: str) -> Any:
        return self._heads[session_id]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def _rss() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def _opening(lash: Any) -> dict[str, float]:
    names = [f"known-{number}" for number in range(500)]
    for name in names:
        await (await lash.session(name)).run("hello")
    heads = {name: await lash.store.load_head(name) for name in names}
    registered = 0
    original = pluggy.PluginManager.register

    def counting(self: Any, *args: Any, **options: Any) -> Any:
        nonlocal registered
        registered += 1
        return original(self, *args, **options)

    store, lash.store = lash.store, _InstantStore(lash.store, heads)
    pluggy.PluginManager.register = counting  # type: ignore[method-assign] # to count
    times = []
    for name in names:
        started = time.perf_counter()
        session = await lash.session(name)
        times.append(time.perf_counter() - started)
        del session
    pluggy.PluginManager.register = original  # type: ignore[method-assign] # as it was
    lash.store = store
    return {"open_us": median(times) * 1e6, "registered": registered}


async def _idle(lash: Any) -> dict[str, float]:
    for number in range(SESSIONS):
        await lash.session(f"idle-{number}")  # so that the ones below come from the store
    gc.collect()
    files, rss = _files(), _rss()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    kept = [await lash.session(f"idle-{number}") for number in range(SESSIONS)]
    gc.collect()
    idle = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    found = {"bytes": idle / SESSIONS, "rss": (_rss() - rss) / SESSIONS, "files": _files() - files}
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for each in kept:
        await each.run("hello")
    gc.collect()
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return {**found, "used_bytes": (idle + used) / SESSIONS}


async def main(database: str) -> None:
    """Measure and print."""
    from lash_framework import Lash
    from lash_framework.settings import load_settings

    settings = load_settings(env={}, sets=["durability.effects=inline"])  # as in `contenders.py`
    async with Lash.open(f"sqlite:///{database}", model="scripted:demo", settings=settings) as lash:
        found = {**await _opening(lash), **await _idle(lash)}
    print(orjson.dumps(found).decode())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
