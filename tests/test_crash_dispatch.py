"""Turns whose calls are made again, or wait for somebody, killed at every place that they pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from test_crash_kit import by_round, opens

from lash_framework import Lash
from lash_framework.testing import Crash, CrashPoint, crash_at_every_effect
from lash_hookspecs import RetrySafe, ToolError, ToolRetrySafe, tool
from lash_plugin_provider_scripted import Call, Reply

pytestmark = pytest.mark.costly


def around_calls(point: CrashPoint) -> bool:
    """Where calls and waits are executed, and where their records are written."""
    return any(each in point.name for each in ("effect tool_call", "effect sleep", "effect await", "append_journal"))


@pytest.mark.statement(53, page="plugin-system")
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
