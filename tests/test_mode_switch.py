"""A session goes on in another mode: its history and what its plugins remember stay, whatever the mode has of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents import agent, plugin
from attrs import frozen

from lash_hookspecs import LlmRequest, Mode, PromptContribution, SessionStateSpec


@frozen
class Count:
    turns: int = 0


def lash_session_state() -> SessionStateSpec:
    return SessionStateSpec(state=Count)


def lash_before_turn(ctx: Any) -> None:
    ctx.set_state(Count(ctx.state.turns + 1))


def lash_prompt_contributions(ctx: Any) -> PromptContribution:
    return PromptContribution(content=f"Turn {ctx.state.turns} of those that I count, in mode {ctx.mode_id}.")


def lash_modes() -> Sequence[Mode]:
    return [
        Mode(mode_id="counting", extends="standard", plugins=("counts",)),
        Mode(mode_id="plain", extends="standard"),
    ]


PLUGINS = [
    plugin("modes", lash_modes),
    plugin("counts", lash_session_state, lash_before_turn, lash_prompt_contributions, enabled_by_default=False),
]


async def test_a_session_goes_on_in_another_mode_with_its_history_and_what_its_plugins_remember(tmp_path: Path) -> None:
    """Three modes' turns, one of them in another process, whose host knows no more than the id of the session."""
    url = f"sqlite:///{tmp_path / 'a.db'}"
    prompts: list[str] = []
    lengths: list[int] = []

    def model(request: LlmRequest) -> str:
        texts = [block.text for message in request.messages for block in message.blocks]
        prompts.append(next((line for text in texts for line in text.splitlines() if "I count" in line), ""))
        lengths.append(sum(message.role != "system" for message in request.messages))
        return "Well."

    async with agent(model, store=url, plugins=PLUGINS) as lash:
        session = await lash.session("s", mode="counting")
        await session.run("one")
        await session.configure(mode_id="plain")
        await session.run("two")
    async with agent(model, store=url, plugins=PLUGINS) as lash:
        session = await lash.session("s")
        assert session.policy.mode_id == "plain"
        await session.run("three")
        await session.configure(mode_id="counting")
        await session.run("four")
        texts = [part.content for message in await session.messages() for part in message.parts]
    counted = "Turn {} of those that I count, in mode counting."
    assert prompts == [counted.format(1), "", "", counted.format(2)]
    assert lengths == [1, 3, 5, 7]
    assert texts[::2] == ["one", "two", "three", "four"]
