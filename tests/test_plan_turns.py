"""The plugin `plan` in turns: what the model is told of and may call, who says when planning is over, what stays."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from agents import agent
from attrs import define, field
from loops import on_asyncio

from lash_framework import Lash
from lash_framework.settings import load_settings
from lash_framework.testing import Crash, CrashPoint, crash_at_every_effect
from lash_hookspecs import ConfigurationError, LlmRequest, PluginSurface, ToolCallContext, TurnSuspended, tool
from lash_plugin_provider_scripted import Call, Reply

TOML = """
[modes.careful]
extends = "standard"
plugins = ["plan"]

[plugin.plan]
start = {start}
"""
EXIT = Call("plan_exit", {"plan": "Write it."}, "x0")


@define
class World:
    """An agent with a tool that looks and one that writes; `told` are the tools and notes of each request."""

    folder: Path
    start: bool = True
    more: str = ""
    deeds: list[str] = field(factory=list)
    tools: list[list[str]] = field(factory=list)
    notes: list[str] = field(factory=list)

    def open(
        self, *rounds: Sequence[Call], store: str = "sqlite://", mode: str = "careful", tools: Sequence[Any] = ()
    ) -> Any:
        @tool(effect="pure")
        async def look() -> str:
            "Look."
            self.deeds.append("look")
            return "seen"

        @tool(effect="unsafe")
        async def write() -> str:
            "Write."
            self.deeds.append("write")
            return "written"

        def script(request: LlmRequest) -> Reply:
            self.tools.append([each.name for each in request.tools if each.name in ("look", "write", "plan_exit")])
            texts = [b.text for m in request.messages for b in m.blocks if b.tag == "text"]  # type: ignore[union-attr]
            self.notes = [found for each in texts for found in re.findall("Plan mode is o[nf]+", each)]
            said = [
                m.role == "user" and m.blocks[0].tag == "text" and "Plan mode" not in m.blocks[0].text
                for m in request.messages
            ]
            since = request.messages[len(said) - said[::-1].index(True) :]
            asked = sum(m.role == "assistant" for m in since)
            return Reply(text="", tool_calls=list(rounds[asked])) if asked < len(rounds) else Reply(text="Done.")

        (self.folder / "lash.toml").write_text(TOML.format(start=str(self.start).lower()) + self.more)
        settings = load_settings(self.folder / "lash.toml", env={}, sets=["store_options.synchronous=normal"])
        return agent(script, store=store, mode=mode, tools=[look, write, *tools], settings=settings)


async def ran(lash: Lash, turn_id: str = "t") -> Any:
    return await (await lash.session("s", recover=False)).run("go", turn_id=turn_id)


async def asked(lash: Lash, choice: str, note: str = "", turn_id: str = "t") -> Any:
    """Run until the person is asked, who says this; the turn as it goes on."""
    with pytest.raises(TurnSuspended):
        await ran(lash, turn_id)
    (call,) = await lash.pending()
    assert (call.tool_name, call.said) == ("plan_exit", "Is this what is to be done?")
    await lash.answer(call.key, choice, note=note)
    return await ran(lash, turn_id)


def codes(turn: Any) -> list[Any]:
    return [getattr(each.output.outcome, "code", "ok") for each in turn.tool_calls]


async def test_in_plan_mode_only_what_changes_nothing_is_there_until_a_person_agrees(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.open([Call("look", {}, "a")], [EXIT], [Call("write", {}, "b")]) as lash:
        turn = await asked(lash, "implement")
        assert codes(turn) == ["ok", "ok", "ok"]
        assert world.deeds == ["look", "write"]
        told = {tuple(each) for each in world.tools[:2]}, {tuple(each) for each in world.tools[-2:]}
        assert told == ({("look", "plan_exit")}, {("look", "write")})
        assert world.notes == ["Plan mode is on", "Plan mode is off"]


async def test_who_says_to_keep_planning_tells_the_model_why(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.open([EXIT], [Call("write", {}, "b")]) as lash:
        turn = await asked(lash, "keep", "think of the tests")
    assert codes(turn) == ["keep_planning", "unknown_tool"]
    hidden = "`write` isn't to be called now: it is hidden in this session by `plan`"
    assert turn.tool_calls[1].output.outcome.message == hidden
    assert turn.tool_calls[0].output.outcome.message == "Plan mode stays on; keep planning: think of the tests"
    assert world.deeds == []


async def test_the_guard_denies_what_the_model_remembers_though_it_isnt_told_of_it(tmp_path: Path) -> None:
    """Within the same batch, and in a batch within: catalog and guard have one policy."""
    world = World(tmp_path)
    inner = {"calls": [{"tool": "write", "parameters": {}}]}
    async with world.open([EXIT, Call("write", {}, "b"), Call("batch", inner, "c")]) as lash:
        turn = await asked(lash, "implement")
    assert codes(turn)[:2] == ["ok", "unknown_tool"]
    assert '"success": false' in str(turn.tool_calls[2].output.outcome.value).replace("False", "false").replace(
        "'", '"'
    )
    assert world.deeds == []


@pytest.mark.parametrize(
    ("allow", "came"),
    [("application:write", "ok"), ("tools-files:write", "unknown_tool"), ("mode-standard:*", "unknown_tool")],
)
async def test_what_is_let_through_is_a_plugins_tool_and_no_others(allow: str, came: str, tmp_path: Path) -> None:
    """Any plugin's tool, and any server's, was let through if it was called like one that may be."""
    async with World(tmp_path, more=f'allow = ["{allow}"]\n').open([Call("write", {}, "b")]) as lash:
        assert codes(await ran(lash)) == [came]


async def test_who_lets_a_name_through_is_asked_whose_it_is(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"must say whose tool it is, as in \"tools-web:fetch\"") as refused:
        async with World(tmp_path, more='allow = ["fetch"]\n').open():
            pass
    assert "`lash plugins why fetch` knows" in str(refused.value)


async def test_a_tool_that_was_shown_by_somebody_else_is_denied_by_the_guard(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.open([Call("write", {}, "b")]) as lash:
        session = await lash.session("s")
        await session.run("hello", turn_id="first")
        await session.edit_tools(show=["write"])
        assert codes(await ran(lash)) == ["unknown_tool"]  # it is hidden again as the turn begins
    assert world.deeds == []


async def test_a_tool_that_changes_nothing_leads_to_none_that_does(tmp_path: Path) -> None:
    """A tool that only other tools may call is never hidden, so the guard alone denies it."""
    deeds: list[str] = []

    @tool(effect="unsafe", activation="internal")
    async def inner() -> str:
        "Change something."
        deeds.append("inner")
        return "changed"

    @tool(effect="pure")
    async def through(ctx: ToolCallContext) -> list[Any]:
        "Call the other one."
        assert ctx.call_tool is not None
        outcome = (await ctx.call_tool(0, "inner", {})).output.outcome
        return [getattr(outcome, "code", "ok"), getattr(outcome, "message", "")]

    world = World(tmp_path)
    async with world.open([Call("through", {}, "a")], tools=[inner, through]) as lash:
        (code, why) = (await ran(lash)).tool_calls[0].output.outcome.value
        await (await lash.session("s")).call("plan_disable")
        (after, _) = (await ran(lash, "u")).tool_calls[0].output.outcome.value
    assert (code, after, deeds) == ("plan_mode", "ok", ["inner"])
    assert why.startswith("`inner` may change something, and plan mode is on")


@pytest.mark.statement(83, 84, page="plugin-system")
async def test_plan_mode_is_told_once_and_survives_a_restart(tmp_path: Path) -> None:
    """The note stays in the conversation, so later turns need no other one."""
    world, store = World(tmp_path), f"sqlite:///{tmp_path}/lash.db"
    for turn_id in ("t", "u", "v"):
        async with world.open([Call("look", {}, "a")], store=store) as lash:
            await ran(lash, turn_id)
            session = await lash.session("s")
            assert await session.call("plan_show") == {"enabled": True, "steps": []}
    assert world.notes == ["Plan mode is on"]
    assert {tuple(each) for each in world.tools} == {("look", "plan_exit")}


async def test_before_the_first_turn_it_is_as_the_options_say(tmp_path: Path) -> None:
    """A new session was shown as not planning, and toggling it switched on what was to be on."""
    async with World(tmp_path).open([Call("write", {}, "b")]) as lash:
        session = await lash.session("s")
        assert await session.call("plan_show") == {"enabled": True, "steps": []}
        assert await session.call("plan_toggle") is False
        assert codes(await ran(lash)) == ["ok"]


async def test_it_is_switched_from_outside_between_turns(tmp_path: Path) -> None:
    world = World(tmp_path, start=False)
    async with world.open([Call("write", {}, "b")]) as lash:
        session = await lash.session("s")
        assert codes(await ran(lash, "t")) == ["ok"]
        assert await session.call("plan_toggle") is True
        assert codes(await ran(lash, "u")) == ["unknown_tool"]
        assert await session.call("plan_enable") is True
        assert await session.call("plan_disable") is False
        assert codes(await ran(lash, "v")) == ["ok"]
        assert world.notes == ["Plan mode is on", "Plan mode is off"]
        assert world.tools[-1] == ["look", "write"]
    assert world.deeds == ["write", "write"]


async def test_who_isnt_planning_has_nothing_to_leave(tmp_path: Path) -> None:
    world = World(tmp_path, start=False)
    async with world.open([EXIT]) as lash:
        assert codes(await ran(lash)) == ["unknown_tool"]
    assert world.notes == []


async def test_a_plan_is_replaced_whole_shown_and_kept(tmp_path: Path) -> None:
    first = Call("update_plan", {"steps": [{"step": "look"}, {"step": "write", "status": "in_progress"}]}, "p0")
    bad = Call("update_plan", {"steps": [{"step": each, "status": "in_progress"} for each in "ab"]}, "p1")
    last = Call("update_plan", {"steps": [{"step": "rest", "status": "completed"}]}, "p2")
    world = World(tmp_path, start=False)
    async with world.open([first], [bad], [last]) as lash:
        session = await lash.session("s")
        async with session.turn("go") as running:
            shown = [each.event.payload async for each in running if isinstance(each.event, PluginSurface)]
            turn = await running.result()
        assert codes(turn) == ["ok", "invalid_plan", "ok"]
        kept = [{"step": "rest", "status": "completed"}]
        assert shown == [
            {"steps": [{"step": "look", "status": "pending"}, {"step": "write", "status": "in_progress"}]},
            {"steps": kept},
        ]
        assert (await session.call("plan_show"))["steps"] == kept


@pytest.mark.parametrize(("choice", "came"), [("allow", ["ok"]), ("deny", ["denied_by_person"])])
async def test_beside_approval_each_says_its_part(choice: str, came: list[str], tmp_path: Path) -> None:
    """Plan mode doesn't allow what approval asks about, nor the other way round."""
    world = World(tmp_path, more='\n[modes.both]\nextends = "careful"\nplugins = ["approval"]\n')
    async with world.open([Call("write", {}, "b")], mode="both") as lash:
        assert codes(await ran(lash)) == ["unknown_tool"]
        assert await lash.pending() == []
        await (await lash.session("s")).call("plan_disable")
        with pytest.raises(TurnSuspended):
            await ran(lash, "u")
        (call,) = await lash.pending()
        assert call.question is not None
        assert call.question.plugin_id == "approval"
        await lash.answer(call.key, choice)
        assert codes(await ran(lash, "u")) == came


async def test_who_denies_leaving_it_elsewhere_leaves_it_on(tmp_path: Path) -> None:
    """Two plugins ask about `plan_exit`: what one person agrees to isn't so while another denies it."""
    rule = '[[plugin.approval.rules]]\ntool = "plan_exit"\ndecide = "ask"\n'
    world = World(tmp_path, more=f'\n[modes.both]\nextends = "careful"\nplugins = ["approval"]\n{rule}')
    async with world.open([EXIT], [Call("write", {}, "b")], mode="both") as lash:
        with pytest.raises(TurnSuspended):
            await ran(lash)
        for call in await lash.pending():
            assert call.question is not None
            await lash.answer(call.key, {"approval": "deny", "plan": "implement"}[call.question.plugin_id])
        assert codes(await ran(lash)) == ["denied_by_person", "unknown_tool"]
        assert (await (await lash.session("s")).call("plan_show"))["enabled"]
    assert world.deeds == []


@on_asyncio
@pytest.mark.costly
async def test_a_crash_anywhere_leaves_plan_mode_as_it_was_decided(tmp_path: Path) -> None:
    def open_host(url: str) -> Any:
        return World(tmp_path).open([EXIT], [Call("look", {}, "b")], store=url)

    def few(point: CrashPoint) -> bool:
        return "sql" not in str(point) and "store" not in str(point)

    def check(crash: Crash) -> None:
        assert codes(crash.turn) == ["ok", "ok"]

    report = await crash_at_every_effect(open_host, "go", points=few, checks=[check])
    assert len(report.crashes) > 10
