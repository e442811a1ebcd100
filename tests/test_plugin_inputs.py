"""What a caller gives plugins and modes with a turn: stored before anything runs, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import agent, inline_agent, plugin
from attrs import frozen

from lash_framework import Lash
from lash_framework.testing import Crash, crash_at_every_effect
from lash_hookspecs import (
    ConfigurationError,
    LlmRequest,
    Mode,
    ModeExtension,
    PromptContribution,
    TextItem,
    TurnBlocked,
    TurnContext,
    TurnInput,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply


@frozen
class Wish:
    """What the plugin `wishes` takes with a turn."""

    tone: Any = "softly"


@frozen
class Pace:
    """What the mode takes with a turn."""

    words: Any = "slowly"

    def prompt_contributions(self) -> tuple[PromptContribution, ...]:
        """What it adds."""
        return (PromptContribution(content=f"Go {self.words}."),)


def wishes(takes: type = Wish) -> object:
    """A plugin that takes a wish, and says it in the prompt; it lets the mode take a pace."""

    def lash_prompt_contributions(ctx: Any) -> PromptContribution:
        return PromptContribution(content=f"Speak {ctx.plugin_input(takes).tone}.")

    def lash_mode_extensions(mode: Mode) -> ModeExtension:
        return ModeExtension(turn_extensions={"pace": Pace})

    return plugin("wishes", lash_prompt_contributions, lash_mode_extensions, turn_input=takes)


def asked(wish: object = None, pace: object = None) -> TurnInput:
    inputs = {} if wish is None else {"wishes": wish}
    return TurnInput(items=(TextItem("Go."),), context=TurnContext(plugin_inputs=inputs), mode_extension=pace)


def itself() -> list[Any]:
    """A list that holds itself."""
    made: list[Any] = []
    made.append(made)
    return made


UNSTORABLE = [object(), b"raw", float("nan"), "\ud800", {3, 4}, itself()]


@pytest.mark.statement(21, page="plugin-system")
@pytest.mark.parametrize(
    ("given", "named"),
    [
        (lambda value: asked(wish=Wish(value)), r"^the input for plugin `wishes` is `Wish\("),
        (lambda value: asked(Wish(), Pace(value)), r"^the turn extension is `Pace\("),
    ],
    ids=["a plugin's input", "a turn extension"],
)
async def test_what_can_not_be_stored_is_refused_by_name_before_anything_runs(
    given: Any, named: str, tmp_path: Path
) -> None:
    """It said that a value has no canonical form, and not whose."""
    async with agent([], store=f"sqlite:///{tmp_path}/a.db", plugins=[wishes()]) as lash:
        session = await lash.session("s")
        named = f"{named}.*, which can't be stored: "
        for value in UNSTORABLE:
            with pytest.raises(ConfigurationError, match=named):
                await session.run(given(value))
            with pytest.raises(ConfigurationError, match=named):
                session.turn(given(value))
            with pytest.raises(ConfigurationError, match=named):
                await session.enqueue(given(value))
        assert await lash.list_sessions() == []
        assert not await session.inbox()


async def test_an_inline_host_refuses_the_same() -> None:
    """Its turns have a hash too, by which one that was committed is known."""
    async with inline_agent([], plugins=[wishes()]) as lash:
        with pytest.raises(ConfigurationError, match="the input for plugin `wishes` is"):
            await (await lash.session("s")).run(asked(Wish(object())))


async def test_an_input_for_a_plugin_that_takes_none_is_refused_by_name(tmp_path: Path) -> None:
    async with agent([], store=f"sqlite:///{tmp_path}/a.db", plugins=[wishes()]) as lash:
        session = await lash.session("s")
        with pytest.raises(ConfigurationError, match="for plugin `wishes` is a `Pace`, and the plugin takes a `Wish`"):
            await session.run(asked(Pace()))
        other = TurnInput(items=(TextItem("Go."),), context=TurnContext(plugin_inputs={"other": Wish()}))
        with pytest.raises(ConfigurationError, match="for plugin `other` is a `Wish`, and the plugin declared none"):
            await session.run(other)
        assert await lash.list_sessions() == []


def say(request: LlmRequest) -> Reply:
    """Call a tool, and then say what was asked for in the prompt."""
    if not any(message.role == "assistant" for message in request.messages):
        return Reply(tool_calls=[Call("look", {}, "look")])
    prompt = request.messages[0].blocks[0].text  # type: ignore[union-attr]  # the system's
    return Reply(text=f"{'Speak loudly.' in prompt} {'Go quickly.' in prompt}")


@tool(effect="pure")
async def look() -> str:
    """Look."""
    return "seen"


@pytest.mark.costly
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_turn_that_is_killed_anywhere_goes_on_with_the_same_inputs() -> None:
    def same(crash: Crash) -> None:
        assert crash.turn.text == "True True", str(crash.point)

    report = await crash_at_every_effect(
        lambda url: agent(say, store=url, plugins=[wishes()], tools=[look]),
        asked(Wish("loudly"), Pace("quickly")),
        points=lambda point: point.name.startswith("store append_journal"),
        checks=[same],
    )
    assert report.golden.turn.text == "True True"
    assert len(report.crashes) > 4
    assert all(crash.ending.was_accepted and not crash.ending.was_committed for crash in report.crashes)


@frozen
class Order:
    """What a later version of the plugin takes."""

    tone: str
    number: int


async def test_a_turn_whose_plugin_takes_another_class_by_now_can_not_go_on_and_is_blocked_at_last(
    tmp_path: Path,
) -> None:
    """It raised a `CodecError` at each attempt, for ever."""
    url, begun = f"sqlite:///{tmp_path}/a.db", anyio.Event()

    async def hang(request: LlmRequest) -> str:
        begun.set()
        await anyio.sleep_forever()
        return ""

    async def run(lash: Lash) -> None:
        await (await lash.session("s")).run(asked(Wish("loudly")), turn_id="t")

    async with agent(hang, store=url, plugins=[wishes()]) as lash, anyio.create_task_group() as group:
        group.start_soon(run, lash)
        await begun.wait()
        group.cancel_scope.cancel()
    async with agent(["Done."], store=url, plugins=[wishes(Order)]) as lash:
        session = await lash.session("s", recover=False)
        for _ in range(3):
            with pytest.raises(TurnBlocked, match="for plugin `wishes` doesn't fit the `Order` that it takes here"):
                await session.recover()
        (blocked,) = await lash.unfinished()
        assert blocked.state == "blocked"
        assert (await session.abandon("t")).turn.turn_id == "t"
