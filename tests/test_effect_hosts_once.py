"""A plugin's effect host runs an effect once: what it runs again is refused before it happens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from agents import Unwritten, agent, plugin
from attrs import frozen

from lash_framework.settings import load_settings
from lash_hookspecs import EffectHostSpec, Stopped, tool
from lash_plugin_provider_scripted import Call, Reply


@frozen
class Twice(Unwritten):
    """Runs each tool call once more."""

    durable: bool = False

    def scoped(self, scope: Any) -> Any:
        return self

    async def execute(self, envelope: Any, run: Any) -> Any:
        outcome = await run(envelope)
        return await run(envelope) if envelope.command.kind == "tool_call" else outcome


async def test_an_effect_is_not_run_twice() -> None:
    """An unsafe call was made, and paid, twice without a word."""
    paid = []

    @tool(effect="unsafe")
    async def pay() -> str:
        """Pay."""
        paid.append(1)
        return "paid"

    @asynccontextmanager
    async def open_twice(ctx: Any) -> AsyncIterator[Any]:
        yield Twice()

    def lash_effect_hosts() -> list[EffectHostSpec]:
        return [EffectHostSpec(host_id="twice", open=open_twice)]

    script = [Reply(tool_calls=[Call("pay", {}, "c")]), "Done."]
    settings = load_settings(env={}, sets=["durability.effects=twice"])
    async with agent(script, plugins=[plugin("mine", lash_effect_hosts)], tools=[pay], settings=settings) as lash:
        turn = await (await lash.session("a")).run("hi")
    assert (len(paid), type(turn.outcome)) == (1, Stopped)
    assert "plugin `mine` ran an effect twice" in turn.errors[0].message
