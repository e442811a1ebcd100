"""Attachments that can't be loaded: said by name, and the session lives on."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import agent, plugin

from lash_hookspecs import (
    AttachmentRef,
    CheckpointHookContext,
    CheckpointKind,
    EnqueueMessages,
    LlmRequest,
    MessageRole,
    PluginMessage,
    Stopped,
    StopReason,
    ToolCallFailure,
    ToolCallOutput,
    ToolCallSuccess,
    TurnInput,
    attachment_id,
    tool,
)
from lash_plugin_provider_scripted import ScriptedProvider
from lash_plugin_provider_scripted.script import Call, Reply

PNG = b"\x89PNG\r\n\x1a\n" + bytes(24)
NOWHERE = AttachmentRef("sha256:" + "0" * 64, "image/png", 3)


async def test_a_conversation_goes_on_without_an_image_that_was_lost_and_says_which(tmp_path: Path) -> None:
    """Every later call has the image in it: each of them used to fail, and the session was at its end."""
    model, path = ScriptedProvider(lambda request: "I see."), tmp_path / "a.db"
    given = TurnInput.text("look").with_image("i", PNG)
    async with agent(model, store=f"sqlite:///{path}") as lash:
        await (await lash.session("s")).run(given)
    with sqlite3.connect(path) as database:  # somebody saves space
        assert database.execute("DELETE FROM blobs WHERE data = ?", [PNG]).rowcount == 1
    database.close()
    async with agent(model, store=f"sqlite:///{path}") as lash:
        session = await lash.session("s")
        turn = await session.run("and now?")
        assert turn.is_success
        (issue,) = turn.errors
        assert (issue.code, issue.blocking) == ("attachment_lost", False)
        assert attachment_id(PNG) in issue.message
        assert "send it again" in issue.message
        shown = [str(block) for message in model.requests[-1].messages for block in message.blocks]
        assert any("An image was here. It is lost." in each for each in shown)
        assert (await session.run(given)).errors == ()  # here it is again
        assert any(each.data == PNG for each in model.requests[-1].attachments)


async def test_a_hook_that_enqueues_an_image_that_is_nowhere_is_named() -> None:
    """The commit used to be refused, after the model had been paid, without a word about the plugin."""

    def lash_checkpoint(ctx: CheckpointHookContext) -> Sequence[EnqueueMessages]:
        message = PluginMessage(role=MessageRole.USER, content="see", images=(NOWHERE,))
        return [EnqueueMessages((message,))] if ctx.kind is CheckpointKind.BEFORE_COMPLETION else []

    async with agent(["paid"], plugins=[plugin("eyes", lash_checkpoint)]) as lash:
        session = await lash.session("s")
        turn = await session.run("q")
        assert turn.outcome == Stopped(StopReason.RUNTIME_ERROR)
        assert turn.errors[0].plugin_id == "eyes"
        assert NOWHERE.id in turn.errors[0].message
        assert [each.text for each in await session.messages()] == ["q", "paid"]


async def test_a_tool_that_returns_an_attachment_that_is_nowhere_has_failed() -> None:
    """The commit used to be refused: one bad call cost the whole turn."""

    @tool
    async def shot() -> ToolCallOutput:
        """Take a picture."""
        return ToolCallOutput(ToolCallSuccess("here", (NOWHERE,)))

    async with agent([Reply(tool_calls=[Call("shot")]), "Done."], tools=[shot]) as lash:
        turn = await (await lash.session("s")).run("q")
    assert turn.text == "Done."
    (call,) = turn.tool_calls
    assert isinstance(call.output.outcome, ToolCallFailure)
    assert call.output.outcome.code == "unknown_attachment"
    assert NOWHERE.id in call.output.outcome.message


@pytest.mark.parametrize("state", ["interrupted", "waiting"])
async def test_the_image_of_an_input_is_there_however_long_its_turn_waits(state: str, tmp_path: Path) -> None:
    """After a day whoever put another one swept it away: the model was asked without it, and no commit was possible."""
    begun, images, day_ms = anyio.Event(), list[int](), 24 * 3_600_000
    given = TurnInput.text("look").with_image("i", PNG)

    async def say(request: LlmRequest) -> str:
        images.append(sum(each.data == PNG for each in request.attachments))
        if len(images) == 1 and state == "interrupted":
            begun.set()
            await anyio.sleep_forever()
        return "I see."

    async with agent(say, store=f"sqlite:///{tmp_path / 'a.db'}") as lash:
        journalling = lash.require_journal("this test")
        store: Any = journalling.store
        session = await lash.session("s", recover=False)
        if state == "interrupted":
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: session.run(given, turn_id="t"))
                await begun.wait()
                group.cancel_scope.cancel()
        else:
            async with journalling.lease("s"):
                await session.enqueue(given, source_key="t")
        now_ms = store._now_ms
        store._now_ms = lambda: now_ms() + 3 * day_ms
        for number in range(2):
            await store.put_blob(PNG + bytes([number]), "image/png")
        recovered = await session.recover()
        if state == "interrupted":
            assert [each.turn.errors for each in recovered] == [()]
        assert (await session.run("and now?")).errors == ()
        assert set(images) == {1}
