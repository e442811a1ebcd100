"""The crash matrix of a turn whose plugins and tools ask models on their own.

Killed at every effect: what is recorded is never paid again, though the hook around it runs again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from agents import agent, plugin
from crash_kit import World

from lash_framework import Lash
from lash_framework.settings import load_settings
from lash_framework.testing import Crash, crash_at_every_effect
from lash_hookspecs import LlmRequest, LlmRole, tool
from lash_plugin_provider_scripted import Call, Reply

pytestmark = [pytest.mark.costly, pytest.mark.parametrize("anyio_backend", ["asyncio"])]

SETTINGS = load_settings(env={}, sets=["plugins.only=mode-standard,store-sql", "store_options.synchronous=normal"])


def asks(world: World) -> object:
    """Asks twice before a turn, at its checkpoints, and before a tool; notes each call of a hook."""

    async def ask(ctx: Any, what: str, **options: Any) -> None:
        world.note(f"hook {what}")
        await ctx.completions.complete(f"aside {what}", **options)

    async def lash_before_turn(ctx: Any) -> None:
        await ask(ctx, "one")
        await ask(ctx, "two", key="two")

    async def lash_checkpoint(ctx: Any) -> None:
        await ask(ctx, f"{ctx.kind}")

    async def lash_before_tool_call(ctx: Any) -> None:
        await ask(ctx, "before tool")

    return plugin("asks", *(each for name, each in locals().items() if name.startswith("lash_")))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Lash]:
    world = World(url)

    @tool(effect="idempotent")
    async def fetch(ctx: Any) -> str:
        "Fetch."
        world.note("fetch")
        return str((await ctx.completions.complete("aside fetch")).text)

    def say(request: LlmRequest) -> Reply:
        text = "".join(getattr(each, "text", "") for each in request.messages[-1].blocks)
        if text.startswith("aside"):
            world.note(text)
            return Reply(text=f"<{text}>")
        said = sum(each.role is LlmRole.ASSISTANT for each in request.messages)
        world.note(f"model {said}")
        return Reply(text="Done.") if said else Reply(text="I fetch.", tool_calls=[Call("fetch", {}, "fetch-1")])

    async with agent(say, store=url, tools=[fetch], plugins=[asks(world)], settings=SETTINGS) as lash:
        yield lash


@pytest.mark.chaos
async def test_what_was_asked_aside_is_never_paid_twice_once_it_is_recorded() -> None:
    """`judge` compares executions with records, and usage with the golden turn's; here the outside is asked, too."""
    at: list[World] = []
    golden: list[Counter[str]] = []
    again = Counter[str]()

    @asynccontextmanager
    async def open_host(url: str) -> AsyncIterator[Lash]:
        if at and not golden:
            golden.append(at[0].deeds)
        at[:] = [World(url)]
        async with opened(url) as lash:
            yield lash

    def check(crash: Crash) -> None:
        deeds = at[0].deeds
        paid = [deed for deed, count in deeds.items() if count > 1 and deed.startswith(("aside", "model"))]
        assert len(paid) <= 1, f"{crash.point}: {paid}"  # what was under way when it was killed
        assert bool(paid) <= crash.turn.usage.at_least
        again.update(deed for deed, count in deeds.items() if count > 1 and deed.startswith("hook"))

    report = await crash_at_every_effect(
        open_host, "Fetch.", points=lambda point: "direct" in str(point) or "append" in str(point), checks=[check]
    )
    asides = {each.label for crash in report.crashes for each in crash.started if each.kind == "direct"}
    assert len(asides) == 6
    assert set(golden[0].values()) == {1}
    assert len(again) == 5  # hooks ran again, on the answers that they had
