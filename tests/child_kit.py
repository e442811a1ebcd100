"""Turns that tools run on other sessions: a scripted model that delegates, and a child that gets no answer."""

from __future__ import annotations

from typing import Any

import anyio

from lash_framework.settings import Settings, load_settings
from lash_hookspecs import AssembledTurn, LlmRequest, SessionCreateRequest, TokenUsage, tool
from lash_plugin_provider_scripted import Call, Reply

__all__ = ["CENT", "SPENT", "Stuck", "helped", "impatient", "look", "says", "settings"]

PRICES = 'models."test:model".prices={input = 10, output = 20}'
CENT = 10**10
"""In picodollars."""
SPENT = TokenUsage(input=1000, output=500)
"""What each call takes: two cents."""


def settings(*sets: str) -> Settings:
    """Those of a host whose model has prices."""
    return load_settings(env={}, sets=[PRICES, "plugins.disabled=hello", *sets])


def says(request: LlmRequest) -> Reply:
    """A parent delegates once; a child answers at once."""
    if "Ask somebody." in _words(request):
        if not _has_result(request):
            return Reply(tool_calls=[Call("delegate", {}, "d")], usage=SPENT)
        return Reply(text="Somebody helped.", usage=SPENT)
    return Reply(text="Helped.", usage=SPENT)


class Stuck:
    """A child that looks around, and then gets no answer, until `free`; `asked` says that it waits for one."""

    def __init__(self) -> None:
        self.asked, self.free = anyio.Event(), anyio.Event()

    async def says(self, request: LlmRequest) -> Reply:
        """The model."""
        if "Ask somebody." in _words(request):
            return says(request)
        if not _has_result(request):
            return Reply(tool_calls=[Call("look", {}, "l")], usage=SPENT)
        self.asked.set()
        await self.free.wait()
        return Reply(text="Helped.", usage=SPENT)


def _words(request: LlmRequest) -> str:
    return "".join(getattr(block, "text", "") for each in request.messages for block in each.blocks)


def _has_result(request: LlmRequest) -> bool:
    return any(block.tag == "tool_result" for each in request.messages for block in each.blocks)


@tool(effect="pure")
async def look() -> str:
    """Look."""
    return "nothing"


async def helped(ctx: Any) -> str:
    """What the child says in the end."""
    await ctx.lifecycle.create_session(SessionCreateRequest(session_id="child"))
    turn: AssembledTurn = await ctx.lifecycle.start_turn("child", "c", "Help.")
    return turn.text


async def impatient(ctx: Any, stuck: Stuck) -> None:
    """Wait for the child until it is stuck, and give up."""
    stuck.asked = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(helped, ctx)
        await stuck.asked.wait()
        group.cancel_scope.cancel()
