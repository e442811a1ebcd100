"""What a running tool tells of itself: how far it has come, and bytes that go with its result."""

from __future__ import annotations

from agents import agent
from test_attachments import PNG

from lash_hookspecs import ToolCallContext, ToolCallOutput, ToolCallProgress, ToolCallSuccess, attachment_id, tool
from lash_plugin_provider_scripted.script import Call, Reply


def calls(name: str) -> Reply:
    return Reply(tool_calls=[Call(name, {})])


async def test_bytes_that_a_tool_attaches_are_stored_and_the_model_gets_them() -> None:
    @tool(attaches=True)
    async def draw(ctx: ToolCallContext) -> ToolCallOutput:
        """Draw."""
        return ToolCallOutput(ToolCallSuccess("a dot", attachments=(await ctx.blobs.put(PNG, "image/png"),)))

    async with agent([calls("draw"), "nice"], tools=[draw]) as lash:
        turn = await (await lash.session("s")).run("q")
        assert await lash.store.get_blob(attachment_id(PNG)) == PNG
    (outcome,) = [each.output.outcome for each in turn.tool_calls]
    assert isinstance(outcome, ToolCallSuccess)
    assert [each.media_type for each in outcome.attachments] == ["image/png"]


async def test_progress_is_told_in_the_calls_row_until_the_call_ends() -> None:
    kept: list[ToolCallContext] = []

    @tool
    async def copy(ctx: ToolCallContext) -> str:
        """Copy."""
        kept.append(ctx)
        assert ctx.progress is not None
        await ctx.progress("half of it", 0.5)
        await ctx.progress("and on\ud800")
        return "copied"

    async with agent([calls("copy"), "fine"], tools=[copy]) as lash:
        async with (await lash.session("s")).turn("q") as running:
            seen = [
                (each.correlation_id, each.event) async for each in running if each.event.tag.startswith("tool_call")
            ]
            await running.result()
        assert kept[0].progress is not None
        await kept[0].progress("too late")
    assert len({row for row, _ in seen}) == 1
    _, first, second, _ = [event for _, event in seen]
    assert isinstance(second, ToolCallProgress)
    assert first == ToolCallProgress("half of it", 0.5)
    assert (second.text.startswith("and on"), second.done) == (True, None)
