"""What the results of a turn may take: of one, whoever made it, and of all, before the commit would fail."""

from __future__ import annotations

from typing import Any

import pytest
from agents import agent, inline_agent, plugin
from attrs import evolve
from journal_kit import JournalHost

from lash_framework.result_room import ALWAYS, MAX_TURN_BYTES, TOO_MUCH, ResultRoom
from lash_framework.tool_calls import MAX_RESULT_BYTES, completed
from lash_hookspecs import (
    CommitBudget,
    ConfigurationError,
    LlmRequest,
    ModelToolReturn,
    PendingToolCall,
    ReplaceToolArgs,
    ReplaceToolResult,
    ShortCircuitTool,
    TextPart,
    ToolCallContext,
    ToolCallOutput,
    ToolCallSuccess,
    TurnSuspended,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply

MUCH = "x" * (MAX_RESULT_BYTES + 1)
LIMIT = f"and may have {MAX_RESULT_BYTES:,}"
NEARLY = "x" * (MAX_RESULT_BYTES - 100)
FIT = MAX_TURN_BYTES // (2 * MAX_RESULT_BYTES)


@tool(effect="pure")
async def look(size: int = 1) -> str:
    "Look."
    return NEARLY[:size]


@tool(may_defer=True)
async def ask(ctx: ToolCallContext) -> str:
    "Ask somebody."
    return ctx.defer()


def ask_often(times: int) -> Any:
    calls = [Call("ask", {}, f"c{at}") for at in range(times)]

    def script(request: LlmRequest) -> Reply | str:
        return "Done." if any(each.role == "assistant" for each in request.messages) else Reply(tool_calls=calls)

    return script


def one(seam: str) -> object:
    """A plugin that makes more than a result may have."""

    async def lash_before_tool_call(ctx: Any) -> Any:
        return ShortCircuitTool(MUCH) if seam == "answer" else ReplaceToolArgs({"size": MUCH})

    async def lash_after_tool_call(ctx: Any) -> Any:
        return ReplaceToolResult(MUCH)

    async def lash_tool_result_view(view: ModelToolReturn) -> ModelToolReturn:
        return evolve(view, parts=(TextPart(MUCH),))

    hooks = {"result": lash_after_tool_call, "view": lash_tool_result_view}
    return plugin("big", hooks.get(seam, lash_before_tool_call))


@pytest.mark.parametrize("seam", ["answer", "arguments", "result", "view"])
async def test_what_a_hook_makes_of_a_call_has_the_limit_of_a_tools_result(seam: str) -> None:
    says = [Reply(tool_calls=[Call("look", {}, "a")]), "Done."]
    async with agent(says, tools=[look], plugins=[one(seam)]) as lash:
        turn = await (await lash.session("s")).run("Go.")
        read = str(list(await (await lash.session("s")).messages()))
    assert turn.text == "Done."
    (call,) = turn.tool_calls
    assert call.output.is_success is (seam == "view")
    told = read if seam == "view" else call.output.outcome.message
    assert "plugin `big`, hook `lash_" in told
    assert LIMIT in told


@pytest.mark.costly
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_results_that_a_commit_could_not_hold_are_refused_while_the_model_can_ask_for_less() -> None:
    """One that is just below its limit is fine; so many of them made a turn that was paid for and never committed."""
    calls = [Call("look", {"size": MAX_RESULT_BYTES}, f"c{at}") for at in range(FIT + 2)]
    says = [Reply(tool_calls=calls), Reply(tool_calls=[Call("look", {"size": 10}, "less")]), "Done."]
    async with agent(says, tools=[look]) as lash:
        turn = await (await lash.session("s")).run("Go.")
    assert turn.text == "Done."
    by_id = {each.call_id: each.output for each in turn.tool_calls}
    refused = [each.outcome for each in by_id.values() if not each.is_success]
    assert [each.code for each in refused] == [TOO_MUCH, TOO_MUCH]
    assert all("are left: ask for less" in each.message for each in refused)
    assert by_id["less"].is_success


async def test_what_hooks_make_of_results_counts_too_and_a_replay_counts_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lash_framework.result_room.MAX_TURN_BYTES", 100_000)

    async def lash_tool_result_view(view: ModelToolReturn) -> ModelToolReturn:
        return evolve(view, parts=(TextPart("x" * 9_000),))

    calls = [Call("look", {}, f"c{at}") for at in range(12)]
    says = [Reply(tool_calls=calls), "Done."]
    host, found = JournalHost(), []
    for _ in range(2):
        async with inline_agent(list(says), tools=[look], plugins=[plugin("v", lash_tool_result_view)]) as lash:
            lash.effects = host
            turn = await (await lash.session("s")).run("Go.", turn_id="t")
            found.append([each.output for each in turn.tool_calls])
        assert host.controller is not None
        ran, host = host.controller.ran, JournalHost(host.committed())
    assert ran == []
    assert found[0] == found[1]
    assert [each.is_success for each in found[0]].count(False) == 1


@pytest.mark.parametrize("error", [None, MUCH])
async def test_an_answer_has_the_limit_of_a_tools_result(error: str | None) -> None:
    """One of forty million bytes made a turn that could neither go on nor be committed."""
    async with agent(ask_often(1), tools=[ask]) as lash:
        session = await lash.session("s")
        with pytest.raises(TurnSuspended) as suspended:
            await session.run("Go.")
        (key,) = suspended.value.keys
        with pytest.raises(ConfigurationError, match=f"the result for `ask` has 4,194,307 bytes, {LIMIT}"):
            await lash.resolve(key, result=MUCH if error is None else None, error=error)
        await lash.resolve(key, result="less")
        (recovered,) = await session.recover()
    assert recovered.turn.is_success


@pytest.mark.parametrize("first", range(2))
async def test_of_answers_that_do_not_all_fit_the_last_calls_are_refused_whichever_came_first(
    first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And their turn goes on: the model reads it."""
    monkeypatch.setattr("lash_framework.result_room.MAX_TURN_BYTES", 100_000)
    async with agent(ask_often(4), tools=[ask]) as lash:
        session = await lash.session("s")
        with pytest.raises(TurnSuspended):
            await session.run("Go.")
        waiting = [each.key for each in sorted(await lash.pending(), key=lambda each: each.call_id)]
        for key in reversed(waiting) if first else waiting:
            await lash.resolve(key, result="x" * 20_000)
        (recovered,) = await session.recover()
    codes = [getattr(each.output.outcome, "code", "") for each in recovered.turn.tool_calls]
    assert codes == ["", "", TOO_MUCH, TOO_MUCH]
    assert recovered.turn.text == "Done."


def test_the_room_counts_what_is_within_a_call_once_whether_it_is_known_alone_or_with_the_call() -> None:
    """A tool's calls count while it runs, and so they do where its record alone is read again."""
    rooms, call = (ResultRoom(), ResultRoom()), PendingToolCall(call_id="a", tool_name="look", args={})
    child = completed(call, ToolCallOutput(ToolCallSuccess("x" * 5_000_000)))
    whole = evolve(completed(call, ToolCallOutput(ToolCallSuccess("x"))), children=(child,))
    rooms[0].take("child", child)
    rooms[0].drop("child")
    for room in rooms:
        room.take("a", whole)
    assert rooms[0]._total == rooms[1]._total == pytest.approx(10_000_000, abs=100)


def test_the_room_counts_each_call_once_and_always_has_some_for_a_failure() -> None:
    room, call = ResultRoom(), PendingToolCall(call_id="a", tool_name="look", args={})

    def done(size: int) -> Any:
        return completed(call, ToolCallOutput(ToolCallSuccess("x" * size)))

    half = MAX_TURN_BYTES // 4
    room.take("a", done(half))
    room.take("a", done(half))
    assert room.refusal("b", done(half - 100)) is None
    assert room.refusal("b", done(half + 100)) is not None
    assert room.refusal("a", done(2 * half - 100)) is None
    room.take("b", done(half - 100))
    assert room.refusal("c", done(ALWAYS // 4)) is None
    assert room.refusal("c", done(ALWAYS)) is not None
    budget = CommitBudget().max_bytes
    assert budget is not None
    assert budget - MAX_TURN_BYTES >= 2**24
