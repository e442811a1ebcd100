"""Turns through all layers: a scripted model, real tools, a real SQLite database."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import agent, inline_agent, plugin, texts, waiting_model
from attrs import frozen

from lash_framework import Lash
from lash_framework.cancel_gate import CancelGate
from lash_hookspecs import (
    AppendedNodes,
    AppendSessionNodesRequest,
    AssistantMessage,
    AssistantProseDelta,
    ConfigurationError,
    FinalValue,
    Finished,
    LlmCallError,
    LlmEventSender,
    LlmRequest,
    LlmResponse,
    LlmRole,
    MessageRole,
    OutputState,
    PartKind,
    PromptContribution,
    ProviderFailureKind,
    SessionAppendNode,
    SessionDeleted,
    StaleBranch,
    Stopped,
    StopReason,
    StreamDelta,
    TokenUsage,
    ToolCallCompleted,
    ToolCallFailure,
    ToolCallStarted,
    TurnConflict,
    TurnInput,
    UnknownName,
    Usage,
    tool,
)
from lash_plugin_provider_scripted import ScriptedProvider
from lash_plugin_provider_scripted.script import Call, Reply

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@tool
def add(a: float, b: float) -> float:
    """Add two numbers."""
    return a + b


async def test_a_turn_with_tools_is_answered_and_committed() -> None:
    calls = [Call("add", {"a": 1, "b": 2}), Call("add", {"a": 3, "b": 4})]
    async with agent([Reply(text="Let me see.", tool_calls=calls), "3 and 7"], tools=[add]) as lash:
        session = await lash.session("s")
        turn = await session.run("add them")
        assert turn.outcome == Finished(AssistantMessage("3 and 7"))
        assert [each.output.outcome.value for each in turn.tool_calls] == [3, 7]  # type: ignore[union-attr]  # successes
        assert [each.plugin_id for each in turn.tool_calls] == ["application", "application"]
        assert turn.usage == TokenUsage(input=20, output=10)
        assert turn.durable is False
        assert turn.execution.llm_calls == 2
        assert [message.role for message in await session.messages()] == [
            MessageRole.USER,
            MessageRole.ASSISTANT,
            MessageRole.USER,
            MessageRole.ASSISTANT,
        ]
        assert (await session.usage()).total == turn.usage


async def test_a_session_goes_on_in_another_process_where_it_stood(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    async with agent(["first"], store=url) as lash:
        before = await (await lash.session("s")).run("one")
    seen: list[LlmRequest] = []

    def answer(request: LlmRequest) -> str:
        seen.append(request)
        return "second"

    async with agent(answer, store=url) as lash:
        session = await lash.session("s")
        turn = await session.run("two")
        assert turn.state.turn_index == before.state.turn_index + 1
        assert turn.state.head_revision == before.state.head_revision + 1
        assert texts(seen[0]) == [
            (LlmRole.USER, "one"),
            (LlmRole.ASSISTANT, "first"),
            (LlmRole.USER, "two"),
        ]


async def test_a_watched_turn_streams_and_the_result_is_the_same() -> None:
    script = [Reply(text="Hm. ", tool_calls=[Call("add", {"a": 1, "b": 1})]), "It is two."]
    async with agent(script, tools=[add]) as lash:
        session = await lash.session()
        async with session.turn("1+1?") as running:
            seen = [each async for each in running]
            turn = await running.result()
    prose = "".join(each.event.text for each in seen if isinstance(each.event, AssistantProseDelta))
    assert prose == "Hm. It is two."
    assert turn.text == "It is two."
    assert len({each.id for each in seen}) == len(seen)
    started = next(each for each in seen if isinstance(each.event, ToolCallStarted))
    completed = next(each for each in seen if isinstance(each.event, ToolCallCompleted))
    assert started.correlation_id == completed.correlation_id
    assert [each.event.cumulative.total for each in seen if isinstance(each.event, Usage)] == [15, 30]


# ---- ends of a run --------------------------------------------------------------------------------------------------


async def test_break_cancels_and_the_turn_is_committed_as_cancelled() -> None:
    async with agent(waiting_model(anyio.Event())) as lash:
        session = await lash.session("s")
        with anyio.fail_after(30):
            async with session.turn("q", turn_id="t") as running:
                async for _ in running:
                    break
            stored = await session.run("q", turn_id="t")
        assert stored.outcome == Stopped(StopReason.CANCELLED)
        assert [each.text for each in await session.messages()] == ["q"]


class Halting(ScriptedProvider):
    """A model that says half of its answer and then nothing more."""

    async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
        await send([StreamDelta("Half of an")])
        await anyio.sleep_forever()
        raise AssertionError("unreachable")


@pytest.mark.statement(82)
async def test_a_cancel_that_was_asked_for_is_no_failure_of_the_model_and_stores_no_half_answer() -> None:
    """Who cancels is told of no failed model, and half a reply is not kept."""
    async with agent(Halting([])) as lash:
        session = await lash.session("s")
        with anyio.fail_after(30):
            async with session.turn("q") as running:
                async for each in running:
                    if isinstance(each.event, AssistantProseDelta):
                        assert running.cancel()
                turn = await running.result()
        assert (turn.outcome, turn.errors, turn.text) == (Stopped(StopReason.CANCELLED), (), "")
        assert [each.text for each in await session.messages()] == ["q"]


async def test_a_turn_that_nobody_limits_ends_after_a_hundred_iterations() -> None:
    """A model and a tool that keep each other busy must not do so for ever."""
    async with agent(lambda request: Reply(tool_calls=[Call("add", {"a": 1, "b": 1})]), tools=[add]) as lash:
        turn = await (await lash.session()).run("q")
    assert turn.outcome == Stopped(StopReason.MAX_TURNS)
    assert turn.execution.llm_calls == 100


async def test_cancel_keeps_finished_tool_results_and_answers_the_others() -> None:
    """A conversation that ends in calls without results would be refused by model services ever after."""
    slow_started = anyio.Event()

    @tool
    async def slow() -> str:
        """Never ends."""
        slow_started.set()
        await anyio.sleep_forever()
        return ""

    script = [Reply(tool_calls=[Call("add", {"a": 1, "b": 1}), Call("slow")]), "after"]
    async with agent(script, tools=[add, slow]) as lash:
        session = await lash.session("s")
        with anyio.fail_after(30):
            async with session.turn("go") as running:
                async for each in running:
                    # The other call ends by this cancel: when that is shown, the turn may be over already.
                    if isinstance(each.event, ToolCallCompleted) and each.event.name == "add":
                        await slow_started.wait()
                        assert running.cancel("enough")
                turn = await running.result()
        assert turn.outcome == Stopped(StopReason.CANCELLED)
        assert turn.errors == ()
        results = [p for m in await session.messages() for p in m.parts if p.kind is PartKind.TOOL_RESULT]
        assert len(results) == 2
        assert "2" in results[0].content
        assert "cancelled" in results[1].content.lower()
        assert (await session.run("go on")).text == "after"


async def test_a_deadline_cancels() -> None:
    async with agent(waiting_model(anyio.Event())) as lash:
        turn = await (await lash.session()).run("q", deadline_s=0.1)
        assert turn.outcome == Stopped(StopReason.CANCELLED)


async def test_an_exception_in_the_callers_loop_interrupts_and_commits_nothing() -> None:
    async with inline_agent(waiting_model(anyio.Event())) as lash:
        session = await lash.session("s")

        async def watch() -> None:
            async with session.turn("q") as running:
                async for _ in running:
                    raise ZeroDivisionError

        with anyio.fail_after(30), pytest.raises(ZeroDivisionError):
            await watch()
        assert list(await session.messages()) == []
        assert await lash.store.load_head("s") is None


async def test_an_outer_cancel_scope_interrupts_and_commits_nothing() -> None:
    started = anyio.Event()
    async with agent(waiting_model(started)) as lash:
        session = await lash.session("s")
        async with anyio.create_task_group() as group:
            group.start_soon(session.run, "q")
            with anyio.fail_after(30):
                await started.wait()
            group.cancel_scope.cancel()
        assert list(await session.messages()) == []


@pytest.mark.statement(86)
async def test_cancel_after_the_end_comes_too_late() -> None:
    """Cancel and completion have one winner; the first request's reason stays."""
    gate = CancelGate()
    assert gate.request("first")
    assert gate.request("second")
    assert gate.reason == "first"
    async with agent(["done"]) as lash:
        async with (await lash.session()).turn("q") as running:
            turn = await running.result()
            assert running.cancel() is False
        assert turn.is_success


# ---- turn ids -------------------------------------------------------------------------------------------------------


async def test_the_same_turn_id_and_input_return_the_stored_turn(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    async with agent(["only once"], store=url) as lash:
        first = await (await lash.session("s")).run("q", turn_id="t")
    async with agent([], store=url) as lash:
        session = await lash.session("s")
        assert await session.run("q", turn_id="t") == first
        with pytest.raises(TurnConflict, match="another input"):
            await session.run("other", turn_id="t")


async def test_two_runs_on_one_session_stand_in_line() -> None:
    order: list[str] = []

    async def answer(request: LlmRequest) -> str:
        question = texts(request)[-1][1]
        order.append(f"asked {question}")
        await anyio.lowlevel.checkpoint()
        order.append(f"answered {question}")
        return f"re {question}"

    async with agent(answer) as lash:
        session = await lash.session("s")
        async with anyio.create_task_group() as group:
            group.start_soon(session.run, "a")
            group.start_soon(session.run, "b")
        asked = [each for each in order if each.startswith("asked")]
        assert order == [each for question in asked for each in (question, question.replace("asked", "answered"))]
        assert (await lash.store.load_head("s")).turn_index == 2  # type: ignore[union-attr]  # it is there


# ---- structured output and images -----------------------------------------------------------------------------------


@frozen
class City:
    """A city."""

    name: str
    people: int


async def test_an_answer_in_a_shape_is_an_instance() -> None:
    async with agent(['{"name": "Oslo", "people": 700000}']) as lash:
        session = await lash.session("s")
        turn = await session.run("which?", output=City, turn_id="t")
        assert turn.output_value == City("Oslo", 700000)
        assert turn.outcome == Finished(FinalValue({"name": "Oslo", "people": 700000}))
        assert (await session.run("which?", output=City, turn_id="t")).output_value == City("Oslo", 700000)


async def test_an_answer_that_does_not_fit_is_incomplete_and_kept() -> None:
    async with agent(['{"name": "Oslo"}']) as lash:
        turn = await (await lash.session()).run("which?", output=City)
        assert turn.outcome == Stopped(StopReason.INCOMPLETE)
        assert turn.errors[0].code == "invalid_output"
        assert "people" in turn.errors[0].message


async def test_an_image_reaches_the_model_as_bytes_and_the_store_once() -> None:
    seen: list[LlmRequest] = []

    def answer(request: LlmRequest) -> str:
        seen.append(request)
        return "a dot"

    async with agent(answer) as lash:
        session = await lash.session("s")
        await session.run(TurnInput.text("what is this?").with_image("dot", PNG))
        assert [each.data for each in seen[0].attachments] == [PNG]
        part = (await session.messages())[0].parts[1]
        assert part.attachment is not None
        assert part.attachment.media_type == "image/png"
        assert await lash.store.get_blob(part.attachment.id) == PNG


# ---- what goes wrong ------------------------------------------------------------------------------------------------


async def test_a_failed_model_call_is_a_stopped_turn_that_says_why() -> None:
    error = LlmCallError(message="busy", retryable=True, kind=ProviderFailureKind.QUOTA, code="429")
    async with agent([Reply(error=error), "fine"]) as lash:
        session = await lash.session()
        turn = await session.run("q")
        assert turn.outcome == Stopped(StopReason.PROVIDER_ERROR)
        assert (turn.errors[0].code, turn.errors[0].retryable) == ("429", True)
        assert (await session.run("again")).text == "fine"


@tool
def prints() -> str:
    """Prints."""
    print("noise")  # noqa: T201  # what this tool is for
    return "quiet"


@tool
def raises() -> str:
    """Raises."""
    raise KeyError("missing")


@tool(timeout_s=0.01)
async def hangs() -> str:
    """Hangs."""
    await anyio.sleep_forever()
    return ""


@tool
def unencodable() -> object:
    """Returns what has no JSON form."""
    return math.nan


TOOL_FAULTS = {
    "raises": (Call("raises"), "tool_raised", "KeyError"),
    "hangs": (Call("hangs"), "timeout", "longer than 0.01 s"),
    "unencodable": (Call("unencodable"), "unencodable_result", "finite"),
    "unknown": (Call("rases"), "unknown_tool", "did you mean `raises`?"),
    "wrong arguments": (Call("add", {"a": "x", "b": 1}), "invalid_arguments", "`a`"),
    "missing argument": (Call("add", {"a": 1}), "invalid_arguments", "b"),
    "no object": (Call("add", "[1, 2]"), "invalid_arguments", "object"),
    "no JSON": (Call("add", "{a: 1"), "invalid_arguments", ""),
    "endless number": (Call("add", '{"a": 1e999, "b": 1}'), "invalid_arguments", ""),
    "lone surrogate": (Call("add", '{"a": "\\ud800", "b": 1}'), "invalid_arguments", ""),
    "number too large": (Call("add", '{"a": 99999999999999999999999999, "b": 1}'), "invalid_arguments", ""),
}


@pytest.mark.parametrize(("call", "code", "words"), TOOL_FAULTS.values(), ids=TOOL_FAULTS)
async def test_a_failing_tool_is_told_to_the_model_and_never_stops_the_turn(call: Call, code: str, words: str) -> None:
    async with agent([Reply(tool_calls=[call]), "I see"], tools=[add, raises, hangs, unencodable, prints]) as lash:
        turn = await (await lash.session()).run("q")
        outcome = turn.tool_calls[0].output.outcome
        assert isinstance(outcome, ToolCallFailure)
        assert outcome.code == code or code == "invalid_arguments"
        assert words in outcome.message
        assert turn.text == "I see"


CONFIGURATION_FAULTS = {
    "no provider": ({"model": "gpt-5"}, "openai-chat:gpt-5"),
    "unknown provider": ({"model": "opnai-chat:x"}, "openai-chat"),
    "bare provider": ({"model": "openai-chat:"}, "openai-chat:NAME"),
    "unknown mode": ({"mode": "standrd"}, "`standard`"),
    "unknown store": ({"store": "sqlit:///x"}, "`sqlite`"),
    "no store url": ({"store": "agent.db"}, "sqlite:///"),
}


@pytest.mark.parametrize(("options", "words"), CONFIGURATION_FAULTS.values(), ids=CONFIGURATION_FAULTS)
async def test_what_can_not_work_is_said_at_opening_with_what_to_type(options: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        async with Lash.open(**{"store": "sqlite://", "model": "scripted:demo", **options}):
            raise AssertionError("unreachable")


async def test_what_was_said_in_a_deleted_session_is_gone_for_who_holds_it_too() -> None:
    """It could be read on, from memory."""
    async with agent(["a"]) as lash:
        session = await lash.session("s")
        await session.run("q")
        assert await lash.delete_session("s")
        for read in (session.messages, session.usage, session.tools):
            with pytest.raises(SessionDeleted):
                await read()


async def test_a_deleted_session_stays_deleted() -> None:
    async with agent(["a"]) as lash:
        session = await lash.session("s")
        await session.run("q")
        del session
        assert await lash.delete_session("s")
        with pytest.raises(SessionDeleted, match="single-use"):
            await lash.session("s")


async def test_an_empty_prompt_is_refused_before_anything_happens() -> None:
    async with agent([]) as lash:
        with pytest.raises(ConfigurationError, match="empty"):
            await (await lash.session()).run("  \n")


async def test_text_that_nothing_can_store_is_refused_by_its_place() -> None:
    async with agent([]) as lash:
        with pytest.raises(ConfigurationError, match="character 2"):
            await (await lash.session()).run("ab\ud800")


async def test_a_prompt_of_ten_megabytes_goes_through() -> None:
    text = "x" * 10_000_000
    async with agent(lambda request: str(len(texts(request)[-1][1]))) as lash:
        assert (await (await lash.session()).run(text)).text == "10000000"


# ---- appends, explain, run_sync -------------------------------------------------------------------------------------


async def test_appending_outside_a_turn_happens_once() -> None:
    async with agent(["a"]) as lash:
        session = await lash.session("s")
        request = AppendSessionNodesRequest(operation_id="op", nodes=(SessionAppendNode.user("m1", "by the way"),))
        first = await session.append(request)
        assert isinstance(first, AppendedNodes)
        assert await session.append(request) == first
        assert [each.text for each in await session.messages()] == ["by the way"]
        await session.run("q")
        stale = AppendSessionNodesRequest(
            operation_id="op2", nodes=(SessionAppendNode.user("m2", "x"),), requires_ancestor_node_id="nowhere"
        )
        assert isinstance(await session.append(stale), StaleBranch)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "from another host"])
async def test_an_append_waits_for_the_turn_that_runs_and_comes_behind_it(elsewhere: bool, tmp_path: Path) -> None:
    """Ahead of it, it would take the place that the turn's commit is for: one that is paid for would be refused."""
    asked, go_on = anyio.Event(), anyio.Event()

    async def say(request: Any) -> str:
        asked.set()
        await go_on.wait()
        return "An answer."

    store = f"sqlite:///{tmp_path / 'sessions.db'}"
    note = AppendSessionNodesRequest(operation_id="op", nodes=(SessionAppendNode.user("m", "By the way."),))
    async with agent(say, store=store) as lash, agent([], store=store) as other, anyio.create_task_group() as tasks:
        session = await lash.session("s")
        tasks.start_soon(session.run, "A question.")
        await asked.wait()
        with anyio.move_on_after(0.05) as limit:  # whoever won't wait says for how long
            await session.append(note)
        assert limit.cancelled_caught
        host = other if elsewhere else lash
        tasks.start_soon((await host.session("s", recover=False)).append, note)
        await anyio.wait_all_tasks_blocked()
        go_on.set()
    async with agent([], store=store) as lash:
        said = [each.text for each in await (await lash.session("s")).messages()]
    assert said == ["A question.", "An answer.", "By the way."]


async def test_explain_names_who_put_what_before_the_model() -> None:

    def lash_prompt_contributions(ctx: Any) -> PromptContribution:
        return PromptContribution(content="Speak like a sailor.", title="Voice")

    sailor = plugin("sailor", lash_prompt_contributions, version="1.2")
    async with agent(["ahoy", "ahoy"], plugins=[sailor], tools=[add], instructions="Be brief.") as lash:
        session = await lash.session()
        turn = await session.run("q", turn_id="turn-1")
        explained = await lash.explain("turn-1")
        assert (await session.run("r")).explain_ref == turn.explain_ref, "it is stored once, however many turns follow"
        assert {each.plugin_id for each in explained.plugins} >= {"sailor", "mode-standard", "application"}
        owners = {each.text: each.plugin_ids for each in explained.prompt}
        assert any("sailor" in text and ids == ("sailor",) for text, ids in owners.items())
        assert any("Be brief." in text for text in owners)
        assert {each.name: each.plugin_id for each in explained.tools}["add"] == "application"
        assert explained.model == "test:model"
        assert turn.explain_ref is not None
        with pytest.raises(UnknownName):
            await lash.explain("nothing")


def test_run_sync_serves_scripts() -> None:
    turn = Lash.run_sync("hello", store="sqlite://", model="scripted:demo")
    assert turn.assistant_output.state is OutputState.USABLE


async def test_run_sync_works_inside_a_running_loop() -> None:
    turn = Lash.run_sync("hello", store="sqlite://", model="scripted:demo")
    assert turn.is_success
