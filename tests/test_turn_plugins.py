"""Plugins in a turn: their hooks, their state, their lifespan, and the extensions of a mode."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import agent, inline_agent, plugin, texts, waiting_model
from attrs import evolve, frozen

from lash_hookspecs import (
    AbortTurn,
    CheckpointKind,
    ConfigurationError,
    EnqueueMessages,
    LlmRequest,
    MessageRole,
    Mode,
    ModeExtension,
    PluginMessage,
    PluginOrigin,
    PromptContribution,
    SessionStateSpec,
    Stopped,
    StopReason,
    TextBlock,
    TurnInput,
)


@pytest.mark.statement(84)
async def test_an_abort_before_the_turn_keeps_what_was_enqueued_and_asks_no_model() -> None:
    """What a hook put into the conversation stays, though it or another one ended the turn there."""

    def lash_before_turn(ctx: Any) -> list[Any]:
        return [EnqueueMessages.note("remember"), AbortTurn("closed", "not today")]

    async with agent([], plugins=[plugin("guard", lash_before_turn)]) as lash:
        session = await lash.session()
        turn = await session.run("q")
        assert turn.outcome == Stopped(StopReason.PLUGIN_ABORT)
        assert [(each.kind, each.code, each.plugin_id) for each in turn.errors] == [("plugin", "closed", "guard")]
        assert [each.text for each in await session.messages()] == ["q", "remember"]


async def test_a_checkpoint_before_completion_makes_the_model_think_again() -> None:
    @frozen
    class Asked:
        done: bool = False

    def lash_session_state() -> SessionStateSpec:
        return SessionStateSpec(state=Asked)

    def lash_checkpoint(ctx: Any) -> EnqueueMessages | None:
        if ctx.kind is CheckpointKind.BEFORE_COMPLETION and not ctx.state.done:
            ctx.set_state(Asked(True))
            return EnqueueMessages.note("are you sure?")
        return None

    doubter = plugin("doubter", lash_session_state, lash_checkpoint)
    async with agent(["42", "still 42", "and now"], plugins=[doubter]) as lash:
        session = await lash.session()
        turn = await session.run("q")
        assert turn.text == "still 42"
        assert turn.execution.llm_calls == 2
        assert (await session.run("again")).execution.llm_calls == 1  # it remembered


async def test_plugin_state_is_taken_back_when_the_turn_does_not_commit() -> None:
    @frozen
    class Count:
        turns: int = 0

    seen: list[int] = []

    def lash_session_state() -> SessionStateSpec:
        return SessionStateSpec(state=Count)

    def lash_before_turn(ctx: Any) -> None:
        seen.append(ctx.state.turns)
        ctx.set_state(Count(ctx.state.turns + 1))

    started = anyio.Event()
    model = waiting_model(started)

    async def answer(request: LlmRequest) -> str:
        return "ok" if texts(request)[-1][1] == "go" else await model(request)

    async with inline_agent(answer, plugins=[plugin("counter", lash_session_state, lash_before_turn)]) as lash:
        session = await lash.session()
        await session.run("go")
        async with anyio.create_task_group() as group:
            group.start_soon(session.run, "hang")
            await started.wait()
            group.cancel_scope.cancel()
        await session.run("go")
    assert seen == [0, 1, 1]


async def test_a_hook_that_raises_stops_the_turn_names_the_plugin_and_leaves_the_session_usable(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def lash_before_turn(ctx: Any) -> None:
        if ctx.turn_index == 0:
            raise RuntimeError("boom")

    async with agent(["fine"], plugins=[plugin("bad", lash_before_turn)]) as lash:
        session = await lash.session()
        turn = await session.run("q")
        assert turn.outcome == Stopped(StopReason.RUNTIME_ERROR)
        assert "plugin `bad`, hook `lash_before_turn`" in turn.errors[0].message
        assert len([each for each in caplog.records if "`bad`" in each.getMessage()]) == 1  # said once, not twice
        assert (await session.run("again")).text == "fine"


async def test_a_hook_that_returns_nonsense_is_named() -> None:
    def lash_checkpoint(ctx: Any) -> str:
        return "nonsense"

    async with agent(["a"], plugins=[plugin("odd", lash_checkpoint)]) as lash:
        turn = await (await lash.session()).run("q")
        assert turn.outcome == Stopped(StopReason.RUNTIME_ERROR)
        assert "`odd`" in turn.errors[0].message
        assert "str" in turn.errors[0].message


async def test_observers_can_not_undo_a_commit() -> None:
    async def lash_turn_committed(ctx: Any, turn: Any) -> None:
        raise RuntimeError("too late")

    async with agent(["a"], plugins=[plugin("late", lash_turn_committed)]) as lash:
        session = await lash.session()
        turn = await session.run("q")
        assert turn.is_success
        assert [(each.plugin_id, each.blocking) for each in turn.errors] == [("late", False)]
        assert len(await session.messages()) == 2


async def test_a_lifespan_is_entered_at_first_use_and_left_with_the_host() -> None:
    events: list[str] = []

    @asynccontextmanager
    async def lash_lifespan(host: Any) -> Any:
        events.append("in")
        yield "resource"
        events.append("out")

    def lash_before_turn(ctx: Any) -> None:
        events.append(ctx.host)

    async with agent(["a", "b"], plugins=[plugin("pool", lash_lifespan, lash_before_turn)]) as lash:
        session = await lash.session()
        assert events == []
        await session.run("q")
        await session.run("q")
        assert events == ["in", "resource", "resource"]
    assert events[-1] == "out"


async def test_no_plugin_speaks_in_anothers_name() -> None:
    """Law 4: nothing reaches a model without the name of the plugin that put it there."""

    def lash_before_turn(ctx: Any) -> EnqueueMessages:
        forged = PluginMessage(role=MessageRole.SYSTEM, content="psst", origin=PluginOrigin("mode-standard"))
        return EnqueueMessages((forged,))

    async with agent(["a"], plugins=[plugin("forger", lash_before_turn)]) as lash:
        session = await lash.session()
        await session.run("q")
        assert (await session.messages())[1].origin == PluginOrigin("forger")


async def test_a_message_whose_id_is_there_already_is_not_added_again() -> None:
    def lash_before_turn(ctx: Any) -> EnqueueMessages:
        return EnqueueMessages((PluginMessage(role=MessageRole.SYSTEM, content="once", id="welcome"),))

    async with agent(["a", "b"], plugins=[plugin("host", lash_before_turn)]) as lash:
        session = await lash.session()
        await session.run("q")
        await session.run("q")
        assert [each.text for each in await session.messages()] == ["q", "once", "a", "q", "b"]


async def test_a_plugin_without_declared_state_can_not_set_one() -> None:
    def lash_before_turn(ctx: Any) -> None:
        ctx.set_state(1)

    async with agent([], plugins=[plugin("forgetful", lash_before_turn)]) as lash:
        turn = await (await lash.session()).run("q")
        assert turn.outcome == Stopped(StopReason.RUNTIME_ERROR)
        assert "`forgetful`" in turn.errors[0].message
        assert "no session state is declared" in turn.errors[0].message


# ---- extensions of a mode -------------------------------------------------------------------------------------------


@frozen
class Tone:
    """How to speak; a turn's and a session's extension of the tests' mode."""

    words: str = "plainly"

    def prompt_contributions(self) -> tuple[PromptContribution, ...]:
        """What it adds."""
        return (PromptContribution(content=f"Speak {self.words}."),)


def tone_plugin() -> object:
    """A plugin that lets the mode `standard` take a `Tone` for a turn and for a session."""

    def lash_mode_extensions(mode: Mode) -> ModeExtension:
        return ModeExtension(turn_extensions={"tone": Tone}, session_extensions={"tone": Tone})

    return plugin("tone", lash_mode_extensions)


async def test_extensions_of_session_and_turn_reach_the_prompt_and_are_kept_as_data(tmp_path: Path) -> None:
    prompts: list[str] = []

    def answer(request: LlmRequest) -> str:
        first = request.messages[0].blocks[0]
        assert isinstance(first, TextBlock)
        prompts.append(first.text)
        return "ok"

    url = f"sqlite:///{tmp_path / 'a.db'}"
    async with agent(answer, store=url, plugins=[tone_plugin()]) as lash:
        session = await lash.session("s", extension=Tone("softly"))
        await session.run(evolve(TurnInput.text("q"), mode_extension=Tone("slowly")))
    async with agent(answer, store=url, plugins=[tone_plugin()]) as lash:
        await (await lash.session("s")).run("q")
    assert ["Speak softly." in each for each in prompts] == [True, True]
    assert ["Speak slowly." in each for each in prompts] == [True, False]


async def test_an_extension_that_the_mode_does_not_declare_is_refused_by_name() -> None:
    async with agent([]) as lash:
        session = await lash.session()
        with pytest.raises(ConfigurationError, match="`Tone`"):
            await session.run(evolve(TurnInput.text("q"), mode_extension=Tone()))
        with pytest.raises(ConfigurationError, match="`Tone`"):
            await lash.session(extension=Tone())
