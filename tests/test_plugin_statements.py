"""Statements about plugins that no other test tells by itself."""

from __future__ import annotations

from typing import Any

import anyio
import host_kit
import pytest
from agents import agent, plugin
from attrs import frozen
from hook_kit import system_prompt

from lash_hookspecs import (
    AbortTurn,
    CheckpointKind,
    EnqueueMessages,
    LlmRequest,
    Mode,
    PromptContribution,
    Stopped,
    StopReason,
    TextItem,
    Tool,
    ToolCallFailure,
    ToolCallSuccess,
    TurnContext,
    TurnInput,
    UnknownName,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply, ScriptedProvider


@pytest.mark.statement(1, page="plugin-system")
def test_who_is_passed_is_who_is_called() -> None:
    """1: plugins keep their identity: the very functions are called that were given, in the plugins' order."""

    def given() -> Any:
        return lambda ctx: None

    functions = {name: given() for name in "abc"}
    made = host_kit.host(*(host_kit.plugin(name, checkpoint=functions[name]) for name in "bca"))
    table = made.composition("base").hooks["lash_checkpoint"]
    assert [(each.plugin_id, each.function) for each in table] == list(functions.items())


@pytest.mark.statement(2, page="plugin-system")
def test_to_leave_out_who_is_not_there_changes_nothing_and_a_mode_that_does_so_is_told() -> None:
    """2: an unknown id among the disabled ones does nothing; one in a mode, where it may be a slip, is refused."""
    modes = [host_kit.MODE, Mode(mode_id="m", extends="base", without=("nobody",))]
    made = host_kit.host(host_kit.plugin("a"), disabled=["nobody"], modes=modes)
    assert [each.plugin_id for each in made.composition("base").plugins] == ["a"]
    with pytest.raises(UnknownName, match="nobody"):
        made.composition("m")


async def told_by_call(made: Tool, mode: str = "standard") -> Any:
    """What became of a call of `look`, in a mode that may be without the plugin whose it is."""

    def lash_tools() -> list[Tool]:
        return [made]

    def lash_modes() -> list[Mode]:
        return [Mode(mode_id="bare", extends="standard", without=("looks",))]

    others = plugin("modes", lash_modes)
    script = [Reply(tool_calls=[Call("look", {})]), "Done."]
    async with agent(script, plugins=[plugin("looks", lash_tools), others]) as lash:
        turn = await (await lash.session("s", mode=mode)).run("Go")
    (call,) = turn.tool_calls
    return call.output.outcome


@pytest.mark.statement(13, page="plugin-system")
async def test_a_plugin_that_a_mode_leaves_out_leaves_no_tools_behind() -> None:
    """13: its tool is known to the host, and in that mode to nobody."""
    ran: list[None] = []

    @tool
    def look() -> None:
        """Look."""
        ran.append(None)

    outcome = await told_by_call(look, "bare")
    assert isinstance(outcome, ToolCallFailure)
    assert (outcome.code, ran) == ("unknown_tool", [])
    assert isinstance(await told_by_call(look), ToolCallSuccess)


@pytest.mark.statement(17, page="plugin-system")
async def test_a_session_that_was_never_stored_is_unknown_to_who_asks_for_it() -> None:
    """17: what reads a session doesn't make one."""
    async with agent([]) as lash:
        with pytest.raises(UnknownName, match="`nobody`"):
            await lash.load_history("nobody")
        assert await lash.list_sessions() == []


@frozen
class Wish:
    """What a caller may say to the plugin."""

    tone: str = "softly"


@pytest.mark.statement(20, 22, page="plugin-system")
async def test_a_plugin_that_is_told_nothing_or_something_else_reads_that_nothing_is_there() -> None:
    """20, 22: an input may be absent, and one of another type counts as that; who needs it ends the turn first."""

    def lash_prompt_contributions(ctx: Any) -> PromptContribution:
        return PromptContribution(content=f"It is {ctx.plugin_input(Wish)}, and no {ctx.plugin_input(str)}.")

    def lash_before_turn(ctx: Any) -> AbortTurn | None:
        needs = "need" in ctx.turn_input.items[0].text
        return AbortTurn("needed", "say a wish") if needs and ctx.plugin_input(Wish) is None else None

    model = ScriptedProvider(["Yes."] * 3)
    made = plugin("wishes", lash_prompt_contributions, lash_before_turn, turn_input=Wish)
    async with agent(model, plugins=[made]) as lash:
        session = await lash.session("s")
        await session.run("Hello")
        assert "It is None, and no None." in system_prompt(model)
        given = TurnContext(plugin_inputs={"wishes": Wish()})
        await session.run(TurnInput(items=(TextItem("you need it"),), context=given))
        assert "It is Wish(tone='softly'), and no None." in system_prompt(model)
        turn = await session.run("you need it")
        assert turn.outcome == Stopped(StopReason.PLUGIN_ABORT)
    assert len(model.requests) == 2


@pytest.mark.statement(57, page="plugin-system")
async def test_results_of_calls_at_once_keep_the_order_of_the_calls() -> None:
    """57: the call that is made first ends last, and its result is the first."""
    other_is_done = anyio.Event()
    ended: list[str] = []

    @tool
    async def slow() -> str:
        """End after the other."""
        await other_is_done.wait()
        ended.append("slow")
        return "slow"

    @tool
    async def quick() -> str:
        """End first."""
        ended.append("quick")
        other_is_done.set()
        return "quick"

    def lash_tools() -> list[Tool]:
        return [slow, quick]

    model = ScriptedProvider([Reply(tool_calls=[Call("slow", {}), Call("quick", {})]), "Done."])
    async with agent(model, plugins=[plugin("p", lash_tools)]) as lash:
        turn = await (await lash.session("s")).run("Go")
    assert ended == ["quick", "slow"]
    assert [each.output.outcome.value for each in turn.tool_calls] == ["slow", "quick"]  # type: ignore[union-attr]  # they worked


@pytest.mark.statement(68, page="plugin-system")
async def test_a_result_that_looks_like_one_of_ours_comes_back_as_it_is() -> None:
    """68: no key of a tool's data is ours, so whatever it is called, it is data."""
    data = {"tag": "failure", "type": "attachment", "$ref": "#", "control": {"tag": "finish", "value": 1}, "id": None}

    @tool
    def look() -> dict[str, Any]:
        """Look."""
        return data

    outcome = await told_by_call(look)
    assert outcome == ToolCallSuccess(data)


@pytest.mark.statement(26, page="plugin-system")
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


@pytest.mark.statement(31, page="plugin-system")
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
