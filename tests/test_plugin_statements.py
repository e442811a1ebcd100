"""Statements about plugins that no other test tells by itself."""

from __future__ import annotations

from typing import Any

import pytest
from agents import agent, plugin

from lash_hookspecs import AbortTurn, CheckpointKind, EnqueueMessages, LlmRequest, Stopped, StopReason
from lash_plugin_provider_scripted import Reply


@pytest.mark.statement(26, page="plugins")
async def test_an_abort_at_a_checkpoint_loses_no_input_that_came_meanwhile() -> None:
    """The checkpoint took it in one write with its record, so it is said in the turn that took it, and only there."""
    opened: list[Any] = []

    def lash_checkpoint(ctx: Any) -> AbortTurn | None:
        return AbortTurn("enough", "it is late") if ctx.kind is CheckpointKind.BEFORE_COMPLETION else None

    async def say(request: LlmRequest) -> Reply:
        await opened[0].enqueue("And hurry.", source_key="hurry")
        return Reply(text="Slowly.")

    async with agent(say, plugins=[plugin("p", lash_checkpoint)]) as lash:
        session = await lash.session("s")
        opened.append(session)
        turn = await session.run("Hello", turn_id="t")
        assert turn.outcome == Stopped(StopReason.PLUGIN_ABORT)
        assert [each.text for each in await session.messages()] == ["Hello", "Slowly.", "And hurry."]
        assert await session.recover() == []


@pytest.mark.statement(31, page="plugins")
async def test_ids_of_messages_that_plugins_add_are_scoped_to_their_phase_of_the_turn() -> None:
    """One message before the turn, one at a checkpoint, one after it: three ids, which no other turn has."""

    def note() -> EnqueueMessages:
        return EnqueueMessages.note("Note this.")

    def checkpoint(ctx: Any) -> EnqueueMessages | None:
        return note() if ctx.kind is CheckpointKind.BEFORE_COMPLETION and not ctx.iteration else None

    def before() -> EnqueueMessages:
        return note()

    def after() -> EnqueueMessages:
        return note()

    before.__name__, checkpoint.__name__, after.__name__ = "lash_before_turn", "lash_checkpoint", "lash_after_turn"
    async with agent(["Yes."] * 4, plugins=[plugin("p", before, checkpoint, after)]) as lash:
        session = await lash.session("s")
        for turn_id in ("one", "two"):
            await session.run("Hello", turn_id=turn_id)
        ids = [each.id for each in await session.messages() if each.role == "system"]
    assert len(ids) == len(set(ids)) == 6
    assert ids[0] == "m_plugin_one:before_turn_0"
    assert ids[2] == "m_plugin_one:after_turn_0"
