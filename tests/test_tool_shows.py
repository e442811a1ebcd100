"""What a tool shows while it runs: in its call's row, for whoever watches, and in no record."""

from __future__ import annotations

from typing import Any

import anyio.from_thread
from loops import on_asyncio

from lash_framework.testing import call
from lash_hookspecs import PluginSurface, ToolCallContext, ToolCallFailure, tool


class Showing:
    """A plugin with tools that show something."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def lash_tools(self) -> list[Any]:
        @tool(effect="pure")
        async def tell(ctx: ToolCallContext) -> str:
            "Tell, and let somebody keep the way to tell more."
            assert ctx.show is not None
            self.kept.append(ctx.show)
            lines = ["one"]
            await ctx.show("output", lines)
            lines.append("two")  # what was shown stays what it was
            await ctx.show("more")
            return "told"

        @tool(effect="pure")
        def from_thread(ctx: ToolCallContext) -> str:
            "Tell from a thread."
            assert ctx.show is not None
            anyio.from_thread.run(ctx.show, "output", "from a thread")
            return "told"

        @tool(effect="pure")
        async def wrongly(ctx: ToolCallContext) -> str:
            "Show what no wire can carry."
            assert ctx.show is not None
            await ctx.show("output", object())
            return "told"

        return [tell, from_thread, wrongly]


def plugin() -> tuple[Showing, Any]:
    from lash_hookspecs import hookimpl

    made = Showing()
    hooks = type("Hooks", (), {"lash_tools": hookimpl(lambda self: made.lash_tools())})
    return made, hooks()


def rows(host: Any) -> dict[str, list[Any]]:
    """What was shown in the rows of calls, by the tool."""
    found: dict[str, list[Any]] = {}
    for each in host.activities:
        if isinstance(each.event, PluginSurface) or each.event.tag.startswith("tool_call"):
            found.setdefault(each.correlation_id, []).append(each.event)
    return {events[0].name: events for events in found.values()}


async def test_it_is_shown_between_the_start_and_the_end_of_its_call(lash_host):
    showing, hooks = plugin()
    async with lash_host(hooks, says=[[call("tell"), call("from_thread")], "Done."]) as host:
        turn = await host.run("Go")
        assert turn.is_success
        before = rows(host)
        await showing.kept[0]("output", "too late")  # the call has ended: nothing is shown, nothing breaks
        assert rows(host) == before
    told, threaded = before["tell"], before["from_thread"]
    assert [each.tag for each in told] == [
        "tool_call_started",
        "plugin_surface",
        "plugin_surface",
        "tool_call_completed",
    ]
    assert told[1:3] == [
        PluginSurface(plugin_id="Hooks", name="output", payload=["one"]),
        PluginSurface(plugin_id="Hooks", name="more"),
    ]
    assert threaded[1] == PluginSurface(plugin_id="Hooks", name="output", payload="from a thread")


async def test_the_model_and_the_records_know_nothing_of_it(lash_host):
    _, hooks = plugin()
    async with lash_host(hooks, says=[call("tell"), "Done."]) as host:
        await host.run("Go")
        assert "one" not in host.model.conversation()


async def test_what_has_no_json_form_fails_the_call(lash_host):
    _, hooks = plugin()
    async with lash_host(hooks, says=[call("wrongly"), "Done."]) as host:
        turn = await (await host.lash.session("unwatched")).run("Go")
    outcome = turn.tool_calls[0].output.outcome
    assert isinstance(outcome, ToolCallFailure)
    assert "object" in outcome.message


@on_asyncio
async def test_a_crash_doesnt_mind_it(lash_crashes):
    _, hooks = plugin()
    await lash_crashes(hooks, says=[call("tell"), "Done."])
