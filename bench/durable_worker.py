"""One contender of `durable.py` in a process of its own: `durable_worker.py CONTENDER FIGURE URL DATABASE [REQUEST]`.

For the figures with several contenders each line on stdin asks for a sample, and each line on stdout is one, in seconds
per turn. All others print one line of JSON and end.
"""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import orjson
from attrs import frozen
from contenders import loaded
from durable_raw import DurableRawAgent
from raw import lookup
from server import DELTA, SHORT

ANSWER = (DELTA * SHORT).rstrip()
TURNS = 5
SESSIONS, SESSION_TURNS = 200, 2
LONG, SHORT_HISTORY, PAIRS = 10_000, 10, 60
EFFECTS = 1000
NO_EXAMPLE = "plugins.disabled=hello"
"""The documentation's example, which a checkout may have installed: a checkpoint hook makes the last reply durable."""
THINKING_S = 3.0
"""How long the model takes, on average, where many sessions run: else all would stand in line for the CPU."""


# ---- contenders -----------------------------------------------------------------------------------------------------


class LashSession:
    """A session of lash."""

    def __init__(self, session: Any) -> None:
        self._session = session

    async def run(self, text: str) -> str:
        """A turn's answer."""
        turn = await self._session.run(text)
        assert turn.is_success, turn.errors
        return str(turn.text)


@asynccontextmanager
async def contender(name: str, url: str, database: str, request: str | None = None) -> AsyncIterator[Any]:
    """An agent: lash with a journal, the same with a tool that says `pure`, lash inline, or what is written by hand."""
    if name == "raw":
        told = loaded(request)
        assert told is not None  # it is told what to send
        agent = DurableRawAgent(url, Path(database), told)
        try:
            yield agent.session
        finally:
            await agent.aclose()
        return
    from lash_framework import Lash
    from lash_framework.settings import load_settings
    from lash_hookspecs import tool

    effects = "journal" if name == "pure" else name
    sets = [NO_EXAMPLE, f"provider.openai-chat.base_url={url}", f"durability.effects={effects}"]
    settings = load_settings(env={}, sets=sets)
    tools = [tool(effect="pure")(lookup) if name == "pure" else lookup]
    options: dict[str, Any] = {"model": "openai-chat:bench", "tools": tools, "instructions": "Answer briefly."}
    async with Lash.open(f"sqlite:///{database}", settings=settings, **options) as lash:

        async def session(name: str) -> LashSession:
            return LashSession(await lash.session(name))

        yield session


async def one_by_one(session: Callable[[str], Awaitable[Any]], name: str) -> float:
    """Turns of one session; the median, since that is what the targets are about."""
    opened = await session(name)
    times = []
    for number in range(TURNS):
        started = time.perf_counter()
        answer = await opened.run(f"Question {number}: what is in stock?")
        times.append(time.perf_counter() - started)
        assert answer.rstrip() == ANSWER, answer
    return median(times)


async def at_once(session: Callable[[str], Awaitable[Any]], name: str) -> float:
    """Turns of many sessions."""

    async def one(number: int) -> None:
        opened = await session(f"{name}-{number}")
        for turn in range(SESSION_TURNS):
            answer = await opened.run(f"Question {turn}: what is in stock?")
            assert answer.rstrip() == ANSWER, answer

    started = time.perf_counter()
    await asyncio.gather(*map(one, range(SESSIONS)))
    return (time.perf_counter() - started) / SESSIONS / SESSION_TURNS


async def samples(name: str, figure: str, url: str, database: str, request: str | None = None) -> None:
    """Serve samples."""
    run = at_once if figure == "concurrent" else one_by_one
    async with contender(name, url, database, request) as session:
        await run(session, "warm")
        print("ready", flush=True)
        for number, _ in enumerate(sys.stdin):
            gc.collect()
            cpu = time.process_time()
            wall = await run(session, f"session-{number}")
            print(orjson.dumps({"wall": wall, "cpu": time.process_time() - cpu}).decode(), flush=True)


# ---- lash alone, with a model in the process ------------------------------------------------------------------------


def a_tool_round(request: Any) -> Any:
    """A tool call, then an answer."""
    from lash_plugin_provider_scripted.script import Call, Reply

    if getattr(request.messages[-1].blocks[0], "call_id", None) is None:
        return Reply(tool_calls=[Call("lookup", {"name": "item"}, f"call-{len(request.messages)}")])
    return Reply(text=ANSWER)


@frozen
class _NoSettings:
    """A provider without settings."""


def model_plugin(reply: Callable[[Any], Any]) -> object:
    """A plugin whose model answers so."""
    from lash_hookspecs import ProviderSpec, hookimpl
    from lash_hookspecs.plugins import PluginInfo
    from lash_plugin_provider_scripted import ScriptedProvider

    spec = ProviderSpec(provider_id="bench", settings=_NoSettings, open=lambda _: ScriptedProvider(reply), live=False)
    return SimpleNamespace(
        lash_plugin_info=hookimpl(lambda: PluginInfo(id="bench-model", version="0")),
        lash_providers=hookimpl(lambda: [spec]),
    )


@asynccontextmanager
async def in_process(store: str, reply: Callable[[Any], Any], *plugins: object, **options: Any) -> AsyncIterator[Any]:
    """A host with that model."""
    from lash_framework import Lash
    from lash_framework.settings import load_settings

    options = {"tools": [lookup], "settings": load_settings(env={}, sets=[NO_EXAMPLE]), **options}
    async with Lash.open(store, model="bench:model", plugins=[model_plugin(reply), *plugins], **options) as lash:
        yield lash


async def flat(database: str) -> dict[str, Any]:
    """The turns of a session of 10,000, against those of sessions of 10: wall and CPU, in pairs.

    And what the file holds, to what was there to be stored: bodies of nodes, results, blobs.
    """
    async with in_process(f"sqlite:///{database}", a_tool_round) as lash:
        long = await lash.session("long")
        for number in range(LONG):
            await long.run(f"Question {number}: what is in stock?", turn_id=f"turn-{number:07d}")
        size = stored_bytes(database)
        short: dict[str, list[float]] = {"wall": [], "cpu": []}
        longer: dict[str, list[float]] = {"wall": [], "cpu": []}
        for pair in range(PAIRS):
            young = await lash.session(f"young-{pair}")
            for number in range(SHORT_HISTORY):
                await young.run(f"Question {number}: what is in stock?", turn_id=f"{pair}-turn-{number:07d}")
            for session, times in ((young, short), (long, longer)):
                # A session that has just begun to write goes by the store's thread: both are past that.
                await session.run("Question: what is in stock?", turn_id=f"{pair}-before-{id(session)}")
                gc.collect()
                wall, cpu = time.perf_counter(), time.process_time()
                await session.run("Question: what is in stock?", turn_id=f"{pair}-measured-{id(session)}")
                times["wall"].append(time.perf_counter() - wall)
                times["cpu"].append(time.process_time() - cpu)
    return {"short": short, "long": longer, **size}


def stored_bytes(database: str) -> dict[str, int]:
    """The file's size, and the payload in it."""
    import sqlite3

    db = sqlite3.connect(database)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    sums = ("sum(length(body)) FROM nodes", "sum(length(result)) FROM receipts", "sum(length(data)) FROM blobs")
    payload = sum(db.execute(f"SELECT {each}").fetchone()[0] for each in sums)
    db.close()
    return {"file": Path(database).stat().st_size, "payload": payload}


async def opening(database: str, session: str) -> dict[str, float]:
    """From opening the host to the first effect of the session's next turn, everything imported."""
    from lash_hookspecs import hookimpl
    from lash_hookspecs.plugins import PluginInfo

    reached: dict[str, float] = {}

    def reply(request: Any) -> Any:
        reached["model"] = time.perf_counter()
        return a_tool_round(request)

    async def before_turn(ctx: Any) -> list[Any]:
        reached["first"] = time.perf_counter()
        return []

    watcher = SimpleNamespace(
        lash_plugin_info=hookimpl(lambda: PluginInfo(id="watcher", version="0")),
        lash_before_turn=hookimpl(before_turn),
    )
    async with in_process("sqlite://", reply, watcher) as lash:  # imports
        await (await lash.session("warm")).run("hello")
    gc.collect()
    started = time.perf_counter()
    async with in_process(f"sqlite:///{database}", reply, watcher) as lash:
        await (await lash.session(session)).run("And now?")
    return {name: at - started for name, at in reached.items()}


async def never_idle() -> dict[str, float]:
    """The latency of commits while the event loop never has nothing to do."""
    import tempfile

    from lash_plugin_store_sql.store import SqlStore

    times: list[float] = []
    commit = SqlStore.commit

    async def timed(self: Any, *args: Any) -> Any:
        started = time.perf_counter()
        done = await commit(self, *args)
        times.append(time.perf_counter() - started)
        return done

    SqlStore.commit = timed  # type: ignore[method-assign] # to measure

    async def thoughtful(request: Any) -> Any:
        await asyncio.sleep(THINKING_S * (0.5 + random.random()))
        return a_tool_round(request)

    async def busy() -> None:
        while True:  # noqa: ASYNC110 - to keep the loop busy
            await asyncio.sleep(0)

    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        async with in_process(f"sqlite:///{folder}/busy.db", thoughtful) as lash:
            spinning = asyncio.create_task(busy())

            async def one(number: int) -> None:
                session = await lash.session(f"s{number}")
                for turn in range(5):
                    await session.run(f"Question {turn}: what is in stock?")

            await asyncio.gather(*map(one, range(SESSIONS)))
            spinning.cancel()
    times.sort()
    return {"p50": times[len(times) // 2], "p99": times[len(times) * 99 // 100], "max": times[-1]}


async def recording(database: str) -> dict[str, Any]:
    """Record 1,000 effects in one turn, and die."""

    def reply(request: Any) -> Any:
        from lash_plugin_provider_scripted.script import Call, Reply

        if len(request.messages) > EFFECTS // 2:  # two messages and four effects a round
            print(orjson.dumps({"messages": len(request.messages)}).decode(), flush=True)
            os._exit(0)
        return Reply(tool_calls=[Call("lookup", {"name": "item"}, f"call-{len(request.messages)}")])

    async with in_process(f"sqlite:///{database}", reply, max_turns=EFFECTS) as lash:
        await (await lash.session("s")).run("go", turn_id="t")
    raise AssertionError("it should have died")


async def recovering(database: str) -> dict[str, Any]:
    """From opening the host to the first effect that isn't recorded, everything imported."""
    from lash_plugin_provider_scripted.script import Reply

    reached: list[float] = []

    def reply(request: Any) -> Any:
        reached.append(time.perf_counter())
        return Reply(text=ANSWER)

    async with in_process("sqlite://", reply) as lash:  # imports
        await (await lash.session("warm")).run("hello")
    gc.collect()
    reached.clear()
    started = time.perf_counter()
    async with in_process(f"sqlite:///{database}", reply, max_turns=EFFECTS) as lash:
        (recovered,) = await (await lash.session("s", recover=False)).recover()
    return {"wall": reached[0] - started, "replayed": recovered.replayed}


BATCHES, BATCH = 200, 5


async def simulated() -> dict[str, float]:
    """Turns with one tool call, one after the other, in a simulation: its store, its journal, and the hash of that.

    The best of many batches: what others do on the machine can only make one slower.
    """
    from attrs import evolve

    from lash_framework.settings import load_settings
    from lash_framework.testing import Simulation, simulate

    settings = load_settings(env={})
    few = evolve(settings.plugins, only=("mode-standard", "store-sql"))

    async def scenario(simulation: Simulation) -> dict[str, float]:
        wall, cpu = [], []
        async with in_process("sqlite://", a_tool_round, settings=evolve(settings, plugins=few)) as lash:
            session = await lash.session("s")
            for number in range(BATCHES):
                walls, cpus = time.perf_counter(), time.thread_time()
                for turn in range(BATCH):
                    await session.run("hello", turn_id=f"turn-{number}-{turn}")
                wall.append(time.perf_counter() - walls)
                cpu.append(time.thread_time() - cpus)
        return {"per_second": BATCH / min(wall), "per_cpu_second": BATCH / min(cpu)}

    return simulate(scenario, seed=0).value


ALONE: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
    "flat": flat,
    "opening": opening,
    "never_idle": never_idle,
    "recording": recording,
    "recovering": recovering,
    "simulated": simulated,
}


async def alone(name: str, *arguments: str) -> None:
    """Measure once and print."""
    print(orjson.dumps(await ALONE[name](*arguments)).decode(), flush=True)


if __name__ == "__main__":
    who, *more = sys.argv[1:]
    asyncio.run(alone(who, *more) if who in ALONE else samples(who, *more))
