"""Whole turns over Messages: what is signed comes back, to the model that signed it, also out of a store."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from attrs import evolve

from lash_framework import Lash
from lash_framework.settings import load_settings
from lash_hookspecs import tool
from lash_hookspecs.llm import LlmTerminalReason as Reason, TokenUsage
from lash_hookspecs.testing.provider import Call, Ends, Reasoning, Said, Sealed, Text, Used
from lash_hookspecs.testing.provider.server import Answer, WireServer, raw

sys.path.append(str(Path(__file__).parent.parent / "plugins" / "lash-plugin-provider-anthropic" / "tests"))

from anthropic_wire import AnthropicWire

USED = Used(TokenUsage(input=12, output=7, cache_read_input=3))


def say(*said: Said) -> Answer:
    return raw(*AnthropicWire().stream(said))


@tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


THINKS = (Reasoning("hm"), Sealed("sig"), Sealed("xx"), Text("So."))
STATE = [
    {"type": "thinking", "thinking": "hm", "signature": "sig"},
    {"type": "redacted_thinking", "data": "xx"},
]


def settings(server: WireServer) -> Any:
    return evolve(load_settings(env={}), provider={"anthropic": {"base_url": server.origin, "cache": "off"}})


async def test_a_turn_with_thinking_and_a_tool(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/agent.db"
    call = Call("toolu_1", "add", ('{"a": 1,', ' "b": 2}'))
    with WireServer(say(*THINKS, call, USED, Ends(Reason.TOOL_USE)), say(Text("3"), USED, Ends(Reason.STOP))) as server:
        async with Lash.open(store, model="anthropic:m", settings=settings(server), tools=[add]) as lash:
            session = await lash.session("s")
            turn = await session.run("1 + 2?")
        assert turn.text.endswith("3")
        assert (turn.usage.input, turn.usage.cache_read_input) == (24, 6)
        asked, answered = server.requests[1].json["messages"][1:]
        wire_call = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1, "b": 2}}
        assert asked == {"role": "assistant", "content": [*STATE, {"type": "text", "text": "So."}, wire_call]}
        (result,) = answered["content"]
        assert (result["type"], result["tool_use_id"], result["content"]) == ("tool_result", "toolu_1", "3")

        # Another process, with the history out of the store, and then another model.
        server.answer(say(Text("yes"), USED, Ends(Reason.STOP)), say(Text("yes"), USED, Ends(Reason.STOP)))
        async with Lash.open(store, model="anthropic:m", settings=settings(server), tools=[add]) as lash:
            await (await lash.session("s")).run("sure?")
        assert server.requests[2].json["messages"][1] == asked
        async with Lash.open(store, model="anthropic:other", settings=settings(server), tools=[add]) as lash:
            await (await lash.session("s")).run("sure?")
        kinds = [block["type"] for block in server.requests[3].json["messages"][1]["content"]]
        assert kinds == ["text", "tool_use"]


async def test_each_request_of_a_conversation_begins_with_the_one_before() -> None:
    """Statement 22 of the providers' page: request K+1 is byte-stable through what K's marker stood behind."""
    with WireServer(*[say(Text(str(number)), USED, Ends(Reason.STOP)) for number in range(4)]) as server:
        async with Lash.open("sqlite://", model="anthropic:m", settings=settings(server), tools=[add]) as lash:
            session = await lash.session()
            for number in range(4):
                await session.run(f"question {number}")
        bodies = [request.body for request in server.requests]
        for before, after in pairwise(bodies):
            end = before.rindex(b'"}]}]')
            assert after.startswith(before[:end])
