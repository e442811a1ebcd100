"""A turn with hooks around its model calls: a model that counts them, a plugin that counts, and what a screen has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import evolve, frozen

from lash_framework import Lash
from lash_hookspecs import AssembledTurn, AssistantProseDelta, ModelAttemptReset, SessionStateSpec, TokenUsage
from lash_plugin_provider_scripted import Reply, ScriptedProvider

HELLO = Reply(text="Hello you.", deltas=["Hel", "lo ", "you."], usage=TokenUsage(input=10, output=5))


@frozen
class Count:
    """What a plugin of these tests remembers."""

    calls: int = 0


def counting() -> SessionStateSpec:
    return SessionStateSpec(state=Count)


counting.__name__ = "lash_session_state"


def count(ctx: Any) -> None:
    ctx.set_state(evolve(ctx.state, calls=ctx.state.calls + 1))


class Model(ScriptedProvider):
    """Counts its calls."""

    def __init__(self, *replies: Reply | str) -> None:
        super().__init__(list(replies))

    @property
    def calls(self) -> int:
        return len(self.requests)


async def run(lash: Lash, turn_id: str = "t") -> AssembledTurn:
    return await (await lash.session("s")).run("Hello", turn_id=turn_id)


async def watched(lash: Lash) -> tuple[list[Any], AssembledTurn]:
    """A turn's events, and its result."""
    async with (await lash.session("s")).turn("Hello", turn_id="t") as running:
        events = [activity.event async for activity in running]
        return events, await running.result()


def shown(events: Sequence[Any]) -> str:
    """The text that a screen has in the end."""
    text = ""
    for each in events:
        if isinstance(each, ModelAttemptReset):
            text = ""
        elif isinstance(each, AssistantProseDelta):
            text += each.text
    return text
