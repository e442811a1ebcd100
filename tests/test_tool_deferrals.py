"""Calls whose end is put off: the turn is suspended, somebody completes the call, and the turn goes on with that."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import agent, inline_agent, plugin
from attrs import define, field

from lash_framework.settings import load_settings
from lash_framework.testing import Simulation, simulate
from lash_hookspecs import (
    AlreadyAnswered,
    ConfigurationError,
    LlmRequest,
    SessionBusy,
    ToolCallCompleted,
    ToolCallContext,
    ToolCallFailure,
    ToolCallSuccess,
    ToolError,
    TurnSuspended,
    UnknownName,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply


@define
class Outside:
    """An agent whose tool `ask` puts off its end; `keys` are those that it gave away, `deeds` how often tools ran."""

    deeds: Counter[str] = field(factory=Counter)
    keys: list[str] = field(factory=list)
    seen: list[str] = field(factory=list)
    timeout_s: float | None = None
    then: Any = None

    def tools(self) -> list[Any]:
        @tool(may_defer=True)
        async def ask(ctx: ToolCallContext, what: str = "") -> str:
            "Ask somebody."
            self.deeds["ask"] += 1
            self.keys.append(ctx.defer(self.timeout_s))
            if self.then is not None:
                self.then()
            return f"asked for {what}"

        @tool(effect="unsafe")
        async def act() -> str:
            "Act."
            self.deeds["act"] += 1
            return "acted"

        @tool(effect="pure")
        async def through(ctx: ToolCallContext) -> Any:
            "Ask through another tool."
            self.deeds["through"] += 1
            return (await ctx.call_tool(0, "ask", {})).output.outcome.value

        @tool(effect="unsafe")
        async def unsafely(ctx: ToolCallContext) -> Any:
            "Ask through an unsafe tool."
            return (await ctx.call_tool(0, "ask", {})).output.outcome.code

        return [ask, act, through, unsafely]

    def say(self, *names: str) -> Any:
        def script(request: LlmRequest) -> Reply:
            if any(message.role == "assistant" for message in request.messages):
                return Reply(text="Done.")
            return Reply(text="", tool_calls=[Call(name, {}, f"c{at}") for at, name in enumerate(names)])

        return script

    def watcher(self) -> object:
        async def lash_after_tool_call(ctx: Any, call: Any, result: Any) -> None:
            self.seen.append(f"{call.call_id}: {getattr(result.outcome, 'value', None)}")

        return plugin("watcher", lash_after_tool_call)

    def open(self, *names: str, store: str = "sqlite://", **options: Any) -> Any:
        return agent(self.say(*names), store=store, tools=self.tools(), plugins=[self.watcher()], **options)


def outcomes(turn: Any) -> list[Any]:
    return [each.output.outcome for each in turn.tool_calls]


@pytest.mark.statement(55, page="plugin-system")
async def test_a_turn_is_suspended_until_somebody_completes_the_call_also_in_another_process(tmp_path: Path) -> None:
    """Its siblings run to their end and aren't run again; hooks see each result once, and the waiting call's never."""
    outside, store = Outside(), f"sqlite:///{tmp_path}/lash.db"
    async with outside.open("ask", "act", store=store) as lash:
        session = await lash.session("s")
        with pytest.raises(TurnSuspended) as suspended:
            await session.run("go", turn_id="t")
        assert suspended.value.keys == (outside.keys[0],)
        assert not outside.seen
    async with outside.open("ask", "act", store=store) as lash:
        (waiting,) = await lash.pending()
        assert (waiting.key, waiting.deferred, waiting.said) == (outside.keys[0], True, "asked for ")
        await lash.resolve(waiting.key[:12], result={"answer": 42})
        assert await lash.pending() == []
    async with outside.open("ask", "act", store=store) as lash:
        (recovered,) = await (await lash.session("s", recover=False)).recover()
    assert recovered.turn.text == "Done."
    assert outcomes(recovered.turn) == [ToolCallSuccess({"answer": 42}), ToolCallSuccess("acted")]
    assert outside.deeds == {"ask": 1, "act": 1}
    assert outside.seen == ["c0: {'answer': 42}", "c1: acted"]


@pytest.mark.parametrize("watched", [True, False], ids=["hooks", "no_hooks"])
async def test_whoever_watches_the_turn_go_on_sees_the_call_end_that_was_completed_meanwhile(watched: bool) -> None:
    """Once, and with it its sibling, whose end is in the record."""
    outside = Outside()
    plugins = [outside.watcher()] if watched else []
    async with agent(outside.say("ask", "act"), tools=outside.tools(), plugins=plugins) as lash:
        session = await lash.session("s")
        with pytest.raises(TurnSuspended) as suspended:
            await session.run("go", turn_id="t")
        await lash.resolve(suspended.value.keys[0], result="yes")
        async with session.turn("go", turn_id="t") as running:
            shown = [activity.event async for activity in running]
            assert (await running.result()).text == "Done."
    ended = [(each.call_id, each.name) for each in shown if isinstance(each, ToolCallCompleted)]
    assert ended == [("c0", "ask"), ("c1", "act")]


async def test_a_completion_may_say_that_it_failed() -> None:
    """The model reads why."""
    outside = Outside()
    async with outside.open("ask") as lash:
        session = await lash.session("s")
        with pytest.raises(TurnSuspended):
            await session.run("go")
        await lash.resolve(outside.keys[0], error="nobody was at home")
        (recovered,) = await session.recover()
    (failed,) = outcomes(recovered.turn)
    assert (failed.code, failed.message) == ("resolved_as_failed", "nobody was at home")


async def test_the_first_answer_counts() -> None:
    """The second one is refused, and so is one that comes when the turn is over."""
    outside = Outside()
    async with outside.open("ask") as lash:
        session = await lash.session("s")
        with pytest.raises(TurnSuspended):
            await session.run("go")
        await lash.resolve(outside.keys[0], result="first")
        with pytest.raises(AlreadyAnswered, match="was answered already, and the first answer counts"):
            await lash.resolve(outside.keys[0], result="second")
        (recovered,) = await session.recover()
        with pytest.raises(UnknownName):
            await lash.resolve(outside.keys[0], result="third")
    assert outcomes(recovered.turn) == [ToolCallSuccess("first")]


async def test_of_answers_that_come_at_once_one_counts(tmp_path: Path) -> None:
    """Whoever is second is told that the session is busy, or that nothing waits any more."""
    outside, store = Outside(), f"sqlite:///{tmp_path}/lash.db"
    taken: list[int] = []
    async with outside.open("ask", store=store) as lash:
        session = await lash.session("s")
        with pytest.raises(TurnSuspended):
            await session.run("go")

        async def answer(number: int) -> None:
            try:
                await lash.resolve(outside.keys[0], result=number, wait=True)
            except (SessionBusy, UnknownName):
                return
            taken.append(number)

        async with anyio.create_task_group() as group:
            for number in range(5):
                group.start_soon(answer, number)
        (recovered,) = await session.recover()
    assert outcomes(recovered.turn) == [ToolCallSuccess(each) for each in taken]


async def test_what_is_done_later_has_not_failed_to_happen() -> None:
    """`--not-done` is for calls that a crash left unknown."""
    outside = Outside()
    async with outside.open("ask") as lash:
        with pytest.raises(TurnSuspended):
            await (await lash.session("s")).run("go")
        with pytest.raises(ConfigurationError, match="`ask` has happened, and waits to be completed"):
            await lash.resolve(outside.keys[0], happened=False)
        assert [each.key for each in await lash.pending()] == outside.keys


def test_an_answer_that_comes_while_the_turn_runs_waits_for_it() -> None:
    """The turn holds the session: an answer is refused, or, with `wait`, taken when the turn is suspended."""
    outside = Outside()

    @tool(effect="pure")
    async def slow() -> str:
        "Take a while."
        await anyio.sleep(5)
        return "slow"

    async def scenario(_: Simulation) -> Any:
        script = outside.say("ask", "slow")
        async with agent(script, tools=[*outside.tools(), slow]) as lash:
            session = await lash.session("s")

            async def answer() -> None:
                await anyio.sleep(1)
                with pytest.raises(SessionBusy):
                    await lash.resolve(outside.keys[0], result="early")
                await lash.resolve(outside.keys[0], result="in time", wait=True)

            async with anyio.create_task_group() as group:
                group.start_soon(answer)
                with pytest.raises(TurnSuspended):
                    await session.run("go")
            return await session.recover()

    (recovered,) = simulate(scenario).value
    assert outcomes(recovered.turn) == [ToolCallSuccess("in time"), ToolCallSuccess("slow")]


def test_a_call_that_nobody_completes_in_time_fails() -> None:
    """Before its time the turn stays suspended; after it, it goes on with a failure. No body of a tool runs again."""
    outside = Outside(timeout_s=60)

    async def scenario(_: Simulation) -> Any:
        async with outside.open("ask") as lash:
            session = await lash.session("s")
            with pytest.raises(TurnSuspended):
                await session.run("go")
            await anyio.sleep(30)
            for _ in range(4):  # as often as anybody likes
                with pytest.raises(TurnSuspended):
                    await session.recover()
            await anyio.sleep(31)
            return await session.recover()

    (recovered,) = simulate(scenario).value
    (failed,) = outcomes(recovered.turn)
    assert (failed.code, failed.failure_class) == ("completion_timeout", "timeout")
    assert outside.deeds["ask"] == 1


async def test_a_tool_that_fails_after_all_has_put_off_nothing() -> None:
    """Its failure is the result, and its key opens nothing."""

    def fail() -> None:
        raise ToolError("the post is closed")

    outside = Outside(then=fail)
    async with outside.open("ask") as lash:
        turn = await (await lash.session("s")).run("go")
        assert "the post is closed" in str(outcomes(turn))
        with pytest.raises(UnknownName):
            await lash.resolve(outside.keys[0], result=1)


async def test_a_tool_that_doesnt_declare_it_cant_put_off_its_end() -> None:
    """A typed failure, which names the tool and what to do."""

    @tool
    async def ask(ctx: ToolCallContext) -> str:
        "Ask."
        return ctx.defer()

    async with agent(Outside().say("ask"), tools=[ask]) as lash:
        turn = await (await lash.session("s")).run("go")
    (failed,) = outcomes(turn)
    assert isinstance(failed, ToolCallFailure)
    assert failed.code == "tool_deferral_not_declared"
    assert failed.message == "`ask` can't defer its call: it must declare that it may (`may_defer`)"


@pytest.mark.statement(56, page="plugin-system")
async def test_a_host_without_a_journal_refuses_by_name() -> None:
    """There a wait would die with the process. There is no pending call without a key: the key is how one is made."""
    outside = Outside()
    async with inline_agent(outside.say("ask"), tools=outside.tools()) as lash:
        turn = await (await lash.session("s")).run("go")
    (failed,) = outcomes(turn)
    assert failed.code == "tool_deferral_not_durable"
    assert not outside.keys


async def test_a_call_within_another_is_completed_and_the_outer_tool_runs_again() -> None:
    """It has no record while it waits. That does no harm to a tool that says so; a call of an unsafe one is refused."""
    outside = Outside()
    async with outside.open("through", "unsafely") as lash:
        session = await lash.session("s")
        with pytest.raises(TurnSuspended):
            await session.run("go")
        (key,) = outside.keys
        await lash.resolve(key, result="inner")
        (recovered,) = await session.recover()
    top = [each.output.outcome.value for each in recovered.turn.tool_calls if each.parent_call_id is None]
    assert top == ["inner", "tool_deferral_within_unsafe"]
    assert outside.deeds == {"through": 2, "ask": 2}  # once for each that called it


async def test_two_waiting_calls_are_completed_one_by_one() -> None:
    """The turn waits for both, and says for which."""
    outside = Outside()
    async with outside.open("ask", "ask") as lash:
        session = await lash.session("s")
        with pytest.raises(TurnSuspended) as first:
            await session.run("go")
        assert set(first.value.keys) == set(outside.keys)
        await lash.resolve(first.value.keys[0], result="one")
        with pytest.raises(TurnSuspended) as second:
            await session.recover()
        assert second.value.keys == first.value.keys[1:]
        await lash.resolve(second.value.keys[0], result="two")
        (recovered,) = await session.recover()
    assert outcomes(recovered.turn) == [ToolCallSuccess("one"), ToolCallSuccess("two")]


async def test_a_suspended_turn_can_be_abandoned_and_the_call_says_that_it_never_ended() -> None:
    """Whoever gives up gets the session back."""
    outside = Outside()
    async with agent(outside.say("ask", "act"), tools=outside.tools()) as lash:
        session = await lash.session("s")
        with pytest.raises(TurnSuspended):
            await session.run("go", turn_id="t")
        ended = await session.abandon("t")
        assert [each.tag for each in outcomes(ended.turn)] == ["cancelled", "success"]
        assert await lash.pending() == []
        assert (await session.run("again")).text == "Done."


async def test_a_kept_journal_with_an_answer_is_replayed_to_the_same_bytes() -> None:
    """The answer is a record like any other."""
    outside = Outside()
    settings = load_settings(env={}, sets=["durability.keep_journal_h=1"])
    async with outside.open("ask", settings=settings) as lash:
        session = await lash.session("s")
        with pytest.raises(TurnSuspended):
            await session.run("go", turn_id="t")
        await lash.resolve(outside.keys[0], result="answer")
        await session.recover()
        replayed = await lash.replay("t", "s")
    assert replayed.differences == ()
    assert outside.deeds["ask"] == 1
