"""Turns whose calls are made again, or wait for somebody, killed at every place that they pass."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import define, field
from test_crash_kit import by_round, opens

from lash_framework import Lash
from lash_framework.testing import Crash, CrashPoint, crash_at_every_effect
from lash_framework.testing.crash_points import Watch
from lash_framework.testing.crash_seams import watch_host
from lash_hookspecs import (
    RetrySafe,
    ToolCallContext,
    ToolCallSuccess,
    ToolError,
    ToolRetrySafe,
    TurnSuspended,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply

pytestmark = pytest.mark.costly


def around_calls(point: CrashPoint) -> bool:
    """Where calls and waits are executed, and where their records are written."""
    return any(each in point.name for each in ("effect tool_call", "effect sleep", "effect await", "append_journal"))


@pytest.mark.statement(53, page="plugin-system")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_killed_anywhere_a_call_that_is_made_again_ends_as_it_should() -> None:
    """A recorded attempt isn't made again, an unsafe one never twice, and a wait that is over isn't waited for."""
    worlds: list[Counter[str]] = []

    @asynccontextmanager
    async def open_host(url: str) -> AsyncIterator[Lash]:
        world = next((each for each in worlds if each[url]), None)
        if world is None:
            worlds.append(world := Counter({url: 1}))
        deeds = world

        @tool(effect="idempotent", retry=RetrySafe(base_delay_ms=1))
        async def fetch() -> str:
            "Fetch; the first attempt fails."
            deeds["fetch"] += 1
            if deeds["fetch"] == 1:
                raise ToolError("busy", retry=ToolRetrySafe())
            return "fetched"

        @tool(effect="unsafe", retry=RetrySafe(base_delay_ms=1))
        async def charge() -> str:
            "Charge; the first attempt fails."
            deeds["charge"] += 1
            if deeds["charge"] == 1:
                raise ToolError("busy", retry=ToolRetrySafe())
            return "charged"

        async with opens(say, tools=[fetch, charge])(url) as lash:
            yield lash

    say = by_round(
        Reply(text="Now.", tool_calls=[Call("fetch", {}, "f")]),
        Reply(text="And now.", tool_calls=[Call("charge", {}, "c")]),
        "All done.",
    )
    seen: list[Crash] = []
    report = await crash_at_every_effect(open_host, "Go.", points=around_calls, checks=[seen.append])
    assert report.golden.turn.text == "All done."
    attempts = {"tool_call `charge` (c)", "tool_call `charge` (c attempt 2)"}
    assert {label for each in seen for label in each.unknown} == attempts
    assert all(deeds["charge"] <= 2 for deeds in worlds)
    assert max(deeds["fetch"] for deeds in worlds) == 3
    pauses = {label for each in seen for label in each.runs if label.startswith("sleep")}
    assert pauses == {"sleep f pause 1 of iteration 0", "sleep c pause 1 of iteration 1"}


# ---- calls that somebody completes ----------------------------------------------------------------------------------


@define
class Errand:
    """A turn with an unsafe call, and a call that somebody completes."""

    deeds: Counter[str] = field(factory=Counter)
    keys: set[str] = field(factory=set)

    def open(self, url: str) -> AbstractAsyncContextManager[Lash]:
        @tool(effect="idempotent", may_defer=True)
        async def ask(ctx: ToolCallContext) -> None:
            "Ask somebody."
            self.deeds["ask"] += 1
            self.keys.add(ctx.defer())

        @tool(effect="unsafe")
        async def charge() -> str:
            "Charge."
            self.deeds["charge"] += 1
            return "charged"

        calls = [Call("ask", {}, "a"), Call("charge", {}, "c")]
        say = by_round(Reply(text="Now.", tool_calls=calls), "All done.")
        return opens(say, tools=[ask, charge])(url)

    async def dies(self, url: str, watch: Watch, work: Callable[[Lash], Awaitable[object]]) -> None:
        """Do this until it is done, or until the watch ends the world."""
        try:
            with anyio.CancelScope() as watch.scope:
                async with self.open(url) as lash:
                    watch_host(lash, watch, mortal=watch.target is not None)
                    watch.active = True
                    with suppress(TurnSuspended):
                        await work(lash)
        except Exception:
            if not watch.dead:
                raise

    async def run(self, lash: Lash) -> None:
        await (await lash.session("crash", recover=False)).run("Go.", turn_id="t")

    async def go_on(self, lash: Lash) -> None:
        await (await lash.session("crash", recover=False)).recover()

    async def answer(self, lash: Lash) -> None:
        (key,) = self.keys
        await lash.resolve(key, result="answered")

    async def survive(self, url: str, was_answered: bool) -> None:
        """Whatever has died: the turn ends with one answer, and with no unsafe call made twice."""
        async with self.open(url) as lash:
            store: Any = lash.store
            lease = await store.load_lease("crash")
            if lease is not None:
                await store.release_lease(lease)
            with suppress(TurnSuspended):
                await self.run(lash)
            for each in await lash.pending():
                assert not was_answered, f"an answer was lost: {each}"
                await lash.resolve(each.key, result="answered")
            session = await lash.session("crash", recover=False)
            await session.recover()
            turn = await session.run("Go.", turn_id="t")
            assert turn.text == "All done."
            asked, charged = (each.output.outcome for each in turn.tool_calls)
            assert asked == ToolCallSuccess("answered")
            assert charged == ToolCallSuccess("charged") or charged.code == "unknown_after_crash"
        assert self.deeds["charge"] <= 1
        assert len(self.keys) == 1, "asked again, it is the same key"


def database(folder: Path, before: Path | None) -> str:
    """A database in a new folder, as another one was left: with its log, which a slow close may leave behind."""
    if before is None:
        folder.mkdir()
    else:
        shutil.copytree(before, folder)
    return f"sqlite:///{folder}/lash.db"


def where_it_matters(point: CrashPoint) -> bool:
    return point.kind == "store" or point.name.startswith(("effect tool_call", "effect await_event"))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_killed_anywhere_no_answer_is_lost_and_no_unsafe_call_made_twice(tmp_path: Path) -> None:
    """In the turn before it waits, in the answer, and when it goes on: each process is killed at each of its places."""
    stages = ("run", "answer", "go_on")
    before: Path | None = None
    keys: set[str] = set()
    for stage in stages:
        whole, watch = Errand(keys=set(keys)), Watch()
        url = database(tmp_path / f"{stage}-whole", before)
        await whole.dies(url, watch, getattr(whole, stage))
        shutil.copytree(tmp_path / f"{stage}-whole", after := tmp_path / f"{stage}-after")
        places = [each for each in watch.passed if where_it_matters(each)]
        assert len(places) > 5
        for number, place in enumerate(places):
            errand = Errand(keys=set(keys))
            url = database(tmp_path / f"{stage}-{number}", before)
            victim = Watch(place)
            await errand.dies(url, victim, getattr(errand, stage))
            assert victim.dead, place
            await errand.survive(url, was_answered=stage == "go_on")
        before, keys = after, whole.keys
