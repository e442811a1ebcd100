"""The tool `batch` through all layers: a scripted model, the real kernel, real tools."""

from __future__ import annotations

import anyio
import pytest
from agents import agent

from lash_hookspecs import ToolActivation, tool
from lash_plugin_provider_scripted.script import Call, Reply


@pytest.mark.statement(50)
async def test_a_batch_reaches_what_the_model_can_call_and_nothing_else() -> None:
    """Children meet, so they run at once; an internal tool and an unknown one are refused without being run."""
    ran: list[str] = []
    both = anyio.Event()

    @tool
    async def meet(who: str) -> str:
        """Wait for the other one."""
        ran.append(who)
        if len(ran) == 2:
            both.set()
        await both.wait()
        return who

    @tool(activation=ToolActivation.INTERNAL)
    async def hidden() -> str:
        """Never for a model."""
        ran.append("hidden")
        return "secret"

    children = [("meet", {"who": "a"}), ("hidden", {}), ("gone", {}), ("meet", {"who": "b"})]
    asked = Call("batch", {"calls": [{"tool": name, "parameters": args} for name, args in children]})
    with anyio.fail_after(10):
        async with agent([Reply(tool_calls=[asked]), "done"], tools=[meet, hidden]) as lash:
            session = await lash.session("demo")
            turn = await session.run("meet")
    assert sorted(ran) == ["a", "b"]
    (record,) = [each for each in turn.tool_calls if each.tool_name == "batch"]
    rows = record.output.outcome.value["results"]
    assert [(each["index"], each["tool"], each["success"]) for each in rows] == [
        (0, "meet", True),
        (1, "hidden", False),
        (2, "gone", False),
        (3, "meet", True),
    ]
    assert [each["error"]["code"] for each in rows[1:3]] == ["unknown_tool", "unknown_tool"]
