"""Whatever a tool does, its call has a result: the model reads what went wrong, and the session lives on."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest
from agents import Unwritten, agent, inline_agent, plugin
from attrs import frozen

from lash_framework.composition import Composition
from lash_framework.settings import load_settings
from lash_framework.tool_calls import model_return, perform
from lash_hookspecs import (
    MAX_NESTING,
    AssembledTurn,
    AttachmentPart,
    AttachmentRef,
    EffectController,
    EffectControllerError,
    EffectRunner,
    FinishControl,
    Finished,
    FunctionTool,
    PendingToolCall,
    PluginError,
    RuntimeEffectEnvelope,
    RuntimeEffectOutcome,
    RuntimeScope,
    Stopped,
    StopReason,
    TextPart,
    ToolCallCommand,
    ToolCallCompleted,
    ToolCallContext,
    ToolCallFailure,
    ToolCallOutput,
    ToolCallStarted,
    ToolCallSuccess,
    ToolError,
    ToolFailureClass,
    decode,
    encode,
    tool,
)
from lash_plugin_provider_scripted.script import Call, Reply


@tool
async def add(a: int, b: int) -> int:
    """Add."""
    return a + b


async def outcomes(*tools: FunctionTool, calls: int = 1) -> list[Any]:
    """What the first of these tools, called so many times at once, gives; afterwards the session must still answer."""
    script = [Reply(tool_calls=[Call(tools[0].manifest.name)] * calls), "Done.", "Still here."]
    async with agent(script, tools=[*tools, add]) as lash:
        session = await lash.session("s")
        turn = await session.run("q")
        assert isinstance(turn.outcome, Finished)
        assert (await session.run("and now?")).text == "Still here."
    own = [each for each in turn.tool_calls if each.parent_call_id is None]
    assert len(own) == calls
    return [each.output.outcome for each in own]


async def failed(*tools: FunctionTool) -> ToolCallFailure:
    (outcome,) = await outcomes(*tools)
    assert isinstance(outcome, ToolCallFailure)
    return outcome


# ---- what isn't an `Exception` --------------------------------------------------------------------------------------


async def awaits_a_cancelled_task() -> None:
    task = asyncio.ensure_future(asyncio.Event().wait())
    await anyio.lowlevel.checkpoint()
    task.cancel()
    await task


@pytest.mark.parametrize("calls", [1, 2], ids=["alone", "two_at_once"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_tool_that_awaits_a_cancelled_task_fails_its_call_and_cancels_nothing(calls: int) -> None:
    @tool
    async def broken() -> str:
        """Await something that was cancelled."""
        await awaits_a_cancelled_task()
        return "never"

    found = await outcomes(broken, calls=calls)
    assert {(each.code, each.message) for each in found} == {("tool_raised", "CancelledError")}


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "thread"])
async def test_a_tool_that_calls_sys_exit_ends_its_call_and_not_the_program(is_async: bool) -> None:
    async def later() -> str:
        """Exit."""
        sys.exit(3)

    def at_once() -> str:
        """Exit."""
        sys.exit(3)

    failure = await failed(tool(name="leave")(later if is_async else at_once))
    assert (failure.code, failure.message) == ("tool_raised", "SystemExit: 3")


async def test_an_interrupt_in_a_tools_thread_is_its_own_failure() -> None:
    """No Ctrl-C arrives in a worker thread, so nobody pressed it. It used to end the program in asyncio's insides."""

    @tool
    def gives_up() -> str:
        """As a library does that was made for scripts."""
        raise KeyboardInterrupt

    failure = await failed(gives_up)
    assert (failure.code, failure.message) == ("tool_raised", "KeyboardInterrupt")


@pytest.mark.parametrize("begins", ["before", "after"])
async def test_a_tools_thread_that_outlives_its_call_makes_no_calls_any_more(begins: str) -> None:
    """What it called ran beside a later round, and left its record there."""
    goes_on, heard, told, ran = threading.Event(), anyio.Event(), list[str](), list[str]()
    tokens: list[Any] = []

    @tool(timeout_s=0.02)
    def slow(ctx: ToolCallContext) -> None:
        """Call a tool, too late, or one that doesn't end in time."""
        if begins == "after":
            goes_on.wait()
        try:
            anyio.from_thread.run(ctx.call_tool, 0, "inner", {}, token=tokens[0])
        except BaseException as error:
            told.append(getattr(error, "code", type(error).__name__))
        anyio.from_thread.run_sync(heard.set, token=tokens[0])

    @tool
    async def inner() -> None:
        """Wait for ever."""
        try:
            await anyio.sleep_forever()
        finally:
            ran.append("was stopped")

    @tool
    async def wait() -> str:
        """Wait for the thread, in the next round."""
        goes_on.set()
        await heard.wait()
        return "".join(told + ran)

    script = [Reply(tool_calls=[Call("slow")]), Reply(tool_calls=[Call("wait")]), "Done."]
    keep = load_settings(env={}, sets=["durability.keep_journal_h=1"])
    async with agent(script, tools=[slow, inner, wait], settings=keep) as lash:
        tokens.append(anyio.lowlevel.current_token())
        turn = await (await lash.session("s")).run("Go", turn_id="t")
        replayed = await lash.replay("t")
    assert told in (["call_ended"], ["CancelledError"])  # asyncio may cancel it first
    assert not (begins == "after" and ran)
    codes = [getattr(each.output.outcome, "code", "") for each in turn.tool_calls if not each.parent_call_id]
    assert codes == ["timeout", ""]
    assert replayed.differences == ()


async def no_context(owner: str) -> Any:
    """For tools that don't look at it."""


async def test_an_interrupt_in_a_tool_is_the_users_and_passes_through() -> None:
    @tool
    async def interrupted() -> str:
        """As if Ctrl-C came now."""
        raise KeyboardInterrupt

    async with agent([Reply(tool_calls=[Call("interrupted")])], tools=[interrupted]) as lash:
        composition: Composition = lash.host.composition("standard")
        call = PendingToolCall(call_id="c", tool_name="interrupted", args={})
        with pytest.raises(KeyboardInterrupt):
            await perform(composition.catalog, call, no_context)


async def test_a_cancel_wins_over_what_a_tools_own_tasks_raise_while_they_end() -> None:
    @tool
    async def messy(ctx: ToolCallContext) -> str:
        """Fail in the cleanup."""

        async def child() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                raise ValueError("in the cleanup")

        async with anyio.create_task_group() as group:
            group.start_soon(child)
            await anyio.lowlevel.checkpoint()
            scope.cancel()
            await anyio.sleep_forever()
        return "never"

    async with agent([Reply(tool_calls=[Call("messy")])], tools=[messy]) as lash:
        composition: Composition = lash.host.composition("standard")
        call = PendingToolCall(call_id="c", tool_name="messy", args={})
        with anyio.CancelScope() as scope:
            await perform(composition.catalog, call, no_context)
            await anyio.lowlevel.checkpoint()
    assert scope.cancelled_caught


# ---- time limits and groups -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout_s", [None, 60.0])
async def test_a_tools_own_timeout_error_is_told_as_it_is(timeout_s: float | None) -> None:
    @tool(timeout_s=timeout_s)
    async def connect() -> str:
        """Connect."""
        raise TimeoutError("the database didn't answer")

    failure = await failed(connect)
    assert (failure.code, failure.message) == ("tool_raised", "TimeoutError: the database didn't answer")


async def test_a_tool_that_runs_out_of_its_time_is_stopped_and_named() -> None:
    @tool(timeout_s=0.01)
    async def wait() -> str:
        """Wait."""
        await anyio.sleep_forever()
        return "never"

    failure = await failed(wait)
    assert (failure.code, failure.failure_class) == ("timeout", ToolFailureClass.TIMEOUT)
    assert failure.message == "`wait` took longer than 0.01 s and was stopped"


def in_a_task_group(*errors: Exception) -> FunctionTool:
    @tool
    async def fetch() -> str:
        """Fetch."""

        async def one(error: Exception) -> None:
            raise error

        async with anyio.create_task_group() as group:
            for each in errors:
                group.start_soon(one, each)
        return "never"

    return fetch


async def test_a_tool_error_in_a_tools_own_task_group_keeps_its_code() -> None:
    kind = ToolFailureClass.PERMISSION_DENIED
    failure = await failed(in_a_task_group(ToolError("no such row", code="no_row", failure_class=kind)))
    assert (failure.code, failure.message, failure.failure_class) == ("no_row", "no such row", kind)


async def test_a_group_of_several_errors_is_told_as_what_is_in_it() -> None:
    failure = await failed(in_a_task_group(OSError("disk"), ValueError("row")))
    assert failure.code == "tool_raised"
    assert sorted(failure.message.split("; ")) == ["OSError: disk", "ValueError: row"]


# ---- what no store can hold -----------------------------------------------------------------------------------------


UNSTORABLE: dict[str, Callable[[], object]] = {
    "a value": object,
    "a success": lambda: ToolCallOutput(ToolCallSuccess(object())),
    "a failure": lambda: ToolCallOutput(
        ToolCallFailure(failure_class=ToolFailureClass.IO, code="c", message=None)  # type: ignore[arg-type]  # wrong
    ),
    "a control": lambda: ToolCallOutput(ToolCallSuccess(1), FinishControl(object())),
    "no outcome": lambda: ToolCallOutput(None),  # type: ignore[arg-type]  # wrong on purpose
    "text": lambda: "\ud800",
}


@pytest.mark.parametrize("make", UNSTORABLE.values(), ids=UNSTORABLE)
async def test_a_result_that_no_store_can_hold_is_a_failed_call(make: Callable[[], object]) -> None:
    @tool
    async def odd() -> object:
        """Return it."""
        return make()

    assert (await failed(odd)).code == "unencodable_result"


async def test_an_error_whose_text_no_store_can_hold_is_told_without_what_breaks_it() -> None:
    @tool
    async def odd() -> str:
        """Fail."""
        raise ToolError("half \ud83d of it", code="odd")

    failure = await failed(odd)
    assert (failure.code, failure.message) == ("odd", "half \ufffd of it")


def nested(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


DEEP = [0, 1, 40, 50, 53, 54, 55, 60, 2_000]
"""Levels more than are taken. Between 200 and 254 the value alone has a JSON form, and the turn around it has none."""


@pytest.mark.parametrize("more", DEEP)
async def test_what_is_nested_too_deeply_is_a_failed_call_and_not_the_end_of_the_turn(more: int) -> None:
    """From 250 levels on, the call passed, and the turn could not be stored: `run` raised, what was paid was lost."""
    taken = more == 0

    @tool
    async def giving() -> Any:
        """Return it."""
        return nested(MAX_NESTING + more)

    @tool
    async def taking(x: Any) -> str:
        """Take it."""
        return "taken"

    @tool
    async def passing(ctx: ToolCallContext) -> Any:
        """Pass it on."""
        assert ctx.call_tool is not None
        return (await ctx.call_tool(0, "taking", {"x": nested(MAX_NESTING - 1 + more)})).output.outcome.tag

    given = '{"x":' + "[" * (MAX_NESTING - 1 + more) + "]" * (MAX_NESTING - 1 + more) + "}"
    script = [Reply(tool_calls=[Call("giving"), Call("taking", given), Call("passing")]), "Done."]
    async with agent(script, tools=[giving, taking, passing]) as lash:
        turn = await (await lash.session("s")).run("q")
    assert isinstance(turn.outcome, Finished)
    found = [each.output.outcome for each in turn.tool_calls if each.parent_call_id is None]
    codes = [each.code if isinstance(each, ToolCallFailure) else "taken" for each in found]
    wanted = ["unencodable_result", "invalid_tool_arguments", "unencodable_arguments"]
    assert codes == (["taken"] * 3 if taken else wanted)


@frozen
class _Keeps(Unwritten):
    """An effect host, and its own controller, that writes down what was asked and what came of it."""

    durable: bool = True

    def scoped(self, scope: RuntimeScope) -> EffectController:
        return self

    async def execute(self, envelope: RuntimeEffectEnvelope, run: EffectRunner) -> RuntimeEffectOutcome:
        encode(envelope)
        outcome = await run(envelope)
        return decode(RuntimeEffectOutcome, encode(outcome))  # type: ignore[arg-type]  # a union is a type here


async def test_the_deepest_that_is_taken_fits_into_the_deepest_calls_and_their_records() -> None:
    """`MAX_NESTING` leaves room for all that lies around a value."""

    @tool
    async def again(ctx: ToolCallContext, x: Any) -> Any:
        """Call itself for as long as it may."""
        assert ctx.call_tool is not None
        await ctx.call_tool(0, "again", {"x": x})
        failure = ToolCallFailure(failure_class=ToolFailureClass.IO, code="c", message="m", raw=nested(MAX_NESTING - 2))
        return ToolCallOutput(failure)

    given = '{"x":' + "[" * (MAX_NESTING - 1) + "]" * (MAX_NESTING - 1) + "}"
    async with inline_agent([Reply(tool_calls=[Call("again", given)]), "Done."], tools=[again]) as lash:
        lash.effects = _Keeps()
        session = await lash.session("s")
        turn = await session.run("q", turn_id="t")
        assert isinstance(turn.outcome, Finished)
        assert [each.output.outcome.code for each in turn.tool_calls] == [*["c"] * 8, "call_too_deep"]  # type: ignore[union-attr]  # failures, all of them
        assert await session.run("q", turn_id="t") == turn


@pytest.mark.parametrize(("more", "fits"), [(0, True), (1, False), (52, False)])
async def test_a_structured_answer_that_is_nested_too_deeply_stops_the_turn_as_incomplete(
    more: int, fits: bool
) -> None:
    @frozen
    class Answer:
        x: Any

    levels = MAX_NESTING - 1 + more
    async with agent(['{"x":' + "[" * levels + "]" * levels + "}"]) as lash:
        turn = await (await lash.session("s")).run("q", output=Answer)
    assert turn.is_success is fits
    assert [each.code for each in turn.errors] == ([] if fits else ["invalid_output"])


# ---- children -------------------------------------------------------------------------------------------------------


@frozen
class _RefusesChildren(Unwritten):
    """An effect host, and its own controller, that refuses the calls that tools make."""

    durable: bool = False

    def scoped(self, scope: RuntimeScope) -> EffectController:
        return self

    async def execute(self, envelope: RuntimeEffectEnvelope, run: EffectRunner) -> RuntimeEffectOutcome:
        if isinstance(envelope.command, ToolCallCommand) and ":" in envelope.command.call.call_id:
            raise EffectControllerError("runtime_effect_replay_diverged", "it was another call before")
        return await run(envelope)


async def in_a_group(ctx: ToolCallContext) -> None:
    async def child(index: int) -> None:
        assert ctx.call_tool is not None
        await ctx.call_tool(index, "add", {"a": 1, "b": 2})

    async with anyio.create_task_group() as group:
        group.start_soon(child, 0)
        group.start_soon(child, 1)


async def swallowing(ctx: ToolCallContext) -> None:
    assert ctx.call_tool is not None
    try:
        await ctx.call_tool(0, "add", {"a": 1, "b": 2})
    except Exception:
        return


@pytest.mark.parametrize("calls", [1, 2], ids=["alone", "two_at_once"])
@pytest.mark.parametrize("ask", [in_a_group, swallowing])
async def test_a_child_that_the_effect_boundary_refused_ends_the_turn_whatever_the_tool_makes_of_it(
    ask: Callable[[ToolCallContext], Any], calls: int
) -> None:
    @tool
    async def parent(ctx: ToolCallContext) -> str:
        """Call others."""
        await ask(ctx)
        return "as if nothing had happened"

    async with inline_agent([Reply(tool_calls=[Call("parent")] * calls), "never asked"], tools=[parent, add]) as lash:
        lash.effects = _RefusesChildren()
        turn: AssembledTurn = await (await lash.session("s")).run("q")
    assert turn.outcome == Stopped(StopReason.RUNTIME_ERROR)
    assert [each.code for each in turn.errors] == ["runtime_effect_replay_diverged"]


async def test_a_tool_may_use_an_index_for_one_child_only() -> None:
    """Two children of one index would have one id and one replay key, so that a journal answers one with the other."""

    @tool
    async def twice(ctx: ToolCallContext) -> list[str]:
        """Call `add` twice."""
        assert ctx.call_tool is not None
        await ctx.call_tool(0, "add", {"a": 1, "b": 2})
        await ctx.call_tool(0, "add", {"a": 3, "b": 4})
        return []

    failure = await failed(twice)
    assert failure.code == "duplicate_child_index"
    assert failure.message.startswith("`call_tool` was called twice with index 0")


async def test_arguments_of_a_child_that_no_store_can_hold_are_the_callers_failure() -> None:
    """They used to come as far as the commit, and `run` raised."""

    @tool
    async def careless(ctx: ToolCallContext) -> str:
        """Pass on what isn't data."""
        assert ctx.call_tool is not None
        await ctx.call_tool(0, "add", {"a": object(), "b": 2})
        return ""

    failure = await failed(careless)
    assert failure.code == "unencodable_arguments"
    assert failure.message.startswith("the arguments of the call of `add` have no JSON form: can't be stored")


@frozen
class _LosesCalls(_RefusesChildren):
    """One whose tool calls end in a cancellation that nobody asked for."""

    async def execute(self, envelope: RuntimeEffectEnvelope, run: EffectRunner) -> RuntimeEffectOutcome:
        if isinstance(envelope.command, ToolCallCommand):
            raise asyncio.CancelledError
        return await run(envelope)


@pytest.mark.parametrize("calls", [1, 2], ids=["alone", "two_at_once"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_call_that_ends_without_a_result_is_told_as_failed_and_never_left_out(calls: int) -> None:
    """A call in the history without its result would make every later model call of the session fail."""
    async with inline_agent([Reply(tool_calls=[Call("add", {"a": 1, "b": 2})] * calls), "Done."], tools=[add]) as lash:
        lash.effects = _LosesCalls()
        turn = await (await lash.session("s")).run("q")
    assert turn.text == "Done."
    codes = [each.output.outcome.code for each in turn.tool_calls if isinstance(each.output.outcome, ToolCallFailure)]
    assert codes == ["no_result"] * calls


@pytest.mark.statement(67)
def test_the_text_of_a_failure_comes_before_what_is_attached_to_it() -> None:
    """The model reads what went wrong, and then sees what came with it."""
    image = AttachmentRef(id="sha256:0", media_type="image/png", size=3)
    outcome = ToolCallFailure(
        failure_class=ToolFailureClass.EXECUTION, code="blurred", message="can't be read", attachments=(image,)
    )
    parts = model_return("c", "scan", outcome).parts
    assert parts == (TextPart("Error: can't be read"), AttachmentPart(image))


# ---- tools that call tools ------------------------------------------------------------------------------------------


def told(turn: AssembledTurn) -> list[tuple[str, str | None, str, str | None, str]]:
    """A turn's calls: id, parent, tool, owner, status."""
    return [
        (each.call_id, each.parent_call_id, each.tool_name, each.plugin_id, each.output.outcome.tag)
        for each in turn.tool_calls
    ]


async def test_the_calls_that_a_tool_made_are_the_turns_too_after_it_and_with_its_id() -> None:
    """They used to show in the stream only: `lash run --json` told of a `batch`, and not of what had been done."""
    children = [{"tool": "add", "parameters": {"a": 1, "b": n}} for n in range(2)] + [{"tool": "ad", "parameters": {}}]
    script = [Reply(tool_calls=[Call("batch", {"calls": children}, "b"), Call("add", {"a": 5, "b": 5}, "c")]), "Done."]
    async with agent(script, tools=[add]) as lash:
        session = await lash.session("s")
        turn = await session.run("q")
        (stored,) = (await lash.load_history("s")).turns
    assert told(turn) == [
        ("b", None, "batch", "mode-standard", "success"),
        ("b:00", "b", "add", "application", "success"),
        ("b:01", "b", "add", "application", "success"),
        ("b:02", "b", "ad", None, "failure"),
        ("c", None, "add", "application", "success"),
    ]
    assert stored.tool_calls == turn.tool_calls


async def test_of_a_batch_that_is_cancelled_the_calls_that_ended_are_told_with_what_they_returned() -> None:
    started = anyio.Event()

    @tool
    async def slow() -> str:
        """Never ends."""
        started.set()
        await anyio.sleep_forever()
        return ""

    children = [{"tool": "add", "parameters": {"a": 1, "b": 1}}, {"tool": "slow", "parameters": {}}]
    async with agent([Reply(tool_calls=[Call("batch", {"calls": children}, "b")])], tools=[add, slow]) as lash:
        session = await lash.session("s")
        seen: set[tuple[str, str]] = set()
        async with session.turn("q") as running:
            async for each in running:
                if isinstance(each.event, ToolCallStarted | ToolCallCompleted):
                    seen.add((each.event.tag, each.event.name))
                if {("tool_call_completed", "add"), ("tool_call_started", "slow")} <= seen:
                    await started.wait()
                    running.cancel()
            turn = await running.result()
    assert [row[0] + " " + row[-1] for row in told(turn)] == ["b cancelled", "b:00 success", "b:01 cancelled"]


async def test_a_tool_that_calls_itself_for_ever_comes_to_an_end_that_names_it() -> None:
    """It used to end in the interpreter's recursion limit, somewhere else, and without a word of the tool."""

    @tool
    async def again(ctx: ToolCallContext, n: int = 0) -> Any:
        """Call this very tool."""
        assert ctx.call_tool is not None
        done = await ctx.call_tool(0, "again", {"n": n + 1})
        return done.output.outcome.value if isinstance(done.output.outcome, ToolCallSuccess) else str(done.output)

    (outcome,) = await outcomes(again)
    assert isinstance(outcome, ToolCallSuccess)
    assert "`again` was not called: tools called one another 8 deep" in outcome.value
    assert "a tool that calls itself must come to an end" in outcome.value


# ---- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["read file", "files.read", "naïve", "x" * 65, "tail\n"])
async def test_a_tool_name_that_no_model_service_takes_is_refused_when_the_host_opens(name: str) -> None:
    def lash_tools() -> list[FunctionTool]:
        return [tool(name=name)(lambda: None)]

    with pytest.raises(PluginError, match="plugin `files`, hook `lash_tools`: no model service takes the tool name"):
        async with agent(["hi"], plugins=[plugin("files", lash_tools)]) as lash:
            await lash.session("s")
