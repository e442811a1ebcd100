"""Tools that take turns: `max_concurrency`, and that nobody waits for ever because of it."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event
from typing import Any

import anyio
import anyio.from_thread
import pytest
from agents import agent, cancelled_when
from attrs import define, field

from lash_framework.testing import Simulation, simulate
from lash_hookspecs import (
    LlmRequest,
    SessionCreateRequest,
    Stopped,
    StopReason,
    TextBlock,
    ToolCallContext,
    ToolResultBlock,
    ToolSet,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply


@define
class Line:
    """A tool that counts who is inside; the call `n` leaves once `gates[n]` is open."""

    inside: int = 0
    most: int = 0
    order: list[int] = field(factory=list)
    gates: dict[int, anyio.Event] = field(factory=dict)

    def tool(self, **options: Any) -> Any:
        @tool(name="enter", effect="idempotent", **options)
        async def enter(n: int) -> int:
            "Enter."
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.order.append(n)
            try:
                if n in self.gates:
                    await self.gates[n].wait()
                await anyio.lowlevel.checkpoint()
            finally:
                self.inside -= 1
            return n

        return enter


def calls(numbers: Sequence[int], name: str = "enter") -> list[Reply | str]:
    return [Reply(text="", tool_calls=[Call(name, {"n": n}, f"c{n}") for n in numbers]), "Done."]


@pytest.mark.statement(24, page="effects")
@pytest.mark.statement(57, page="plugin-system")
@pytest.mark.parametrize(("limit", "most"), [(1, 1), (2, 2), (None, 5)])
async def test_no_more_calls_run_at_once_than_the_tool_says_and_results_keep_their_order(
    limit: int | None, most: int
) -> None:
    """Who comes first goes first; the results stand in the order of the calls, whoever ended first.

    24: one by one, if the tool says so.
    """
    line = Line(gates={0: anyio.Event()})
    async with agent(calls(range(5)), tools=[line.tool(max_concurrency=limit)]) as lash:
        session = await lash.session("s")
        async with anyio.create_task_group() as group:

            async def open_the_gate() -> None:
                while len(line.order) < (5 if limit is None else limit):
                    await anyio.lowlevel.checkpoint()
                line.gates[0].set()

            group.start_soon(open_the_gate)
            turn = await session.run("go")
    assert line.most == most
    assert sorted(line.order) == [0, 1, 2, 3, 4]
    assert [each.output.outcome.value for each in turn.tool_calls] == [0, 1, 2, 3, 4]


async def test_the_limit_is_the_hosts_whichever_session_calls() -> None:
    """A limit is for what is behind the tool, which knows of no sessions."""
    line = Line()
    script = calls([1, 2]) * 3
    async with agent(script, tools=[line.tool(max_concurrency=1)]) as lash, anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon((await lash.session(name)).run, "go")
    assert (line.most, len(line.order)) == (1, 6)


async def test_a_call_that_waits_can_be_cancelled_and_gives_way() -> None:
    """The cancelled calls say so, the one that waited was never made, and its place is free for the next turn."""
    line = Line(gates={0: anyio.Event(), 1: anyio.Event()})
    script = [*calls([0, 1])[:1], *calls([2])]
    async with agent(script, tools=[line.tool(max_concurrency=1)]) as lash:
        session = await lash.session("s")
        async with session.turn("go") as running:
            async for activity in running:
                if activity.event.tag == "tool_call_started":
                    running.cancel("enough")
            turn = await running.result()
        assert turn.outcome == Stopped(StopReason.CANCELLED)
        assert [each.output.outcome.tag for each in turn.tool_calls] == ["cancelled"] * 2
        assert len(line.order) <= 1
        assert (await session.run("again")).text == "Done."
    assert line.order[-1] == 2


@pytest.mark.statement(53, page="effects")
async def test_a_tool_that_calls_itself_doesnt_wait_for_itself() -> None:
    """A call that waits for one of its own isn't running: it gives its place away meanwhile, and takes it back."""
    inside = most = 0

    @tool(effect="pure", max_concurrency=1)
    async def down(ctx: ToolCallContext, n: int) -> int:
        "Count down."
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        below = 0
        if n:
            inside -= 1
            below = (await ctx.call_tool(0, "down", {"n": n - 1})).output.outcome.value
            inside += 1
            most = max(most, inside)
        await anyio.lowlevel.checkpoint()
        inside -= 1
        return below + n

    async with agent(calls([3, 2], "down"), tools=[down]) as lash:
        turn = await (await lash.session("s")).run("go")
    top = [each for each in turn.tool_calls if each.parent_call_id is None]
    assert [each.output.outcome.value for each in top] == [6, 3]
    assert most == 1


async def test_two_tools_that_call_each_other_dont_wait_for_each_other() -> None:
    """With one place each, and both taken: who holds one never waits for the other."""
    both = anyio.Event()
    begun = 0

    def made(name: str, other: str) -> Any:
        @tool(name=name, effect="pure", max_concurrency=1)
        async def ping(ctx: ToolCallContext, n: int) -> str:
            "Ping."
            nonlocal begun
            if n:
                begun += 1
                if begun == 2:
                    both.set()
                await both.wait()
                async with anyio.create_task_group() as group:
                    for index in range(2):
                        group.start_soon(ctx.call_tool, index, other, {"n": 0})
            return name

        return ping

    script = [Reply(text="", tool_calls=[Call("a", {"n": 1}, "x"), Call("b", {"n": 1}, "y")]), "Done."]
    with anyio.fail_after(30):
        async with agent(script, tools=[made("a", "b"), made("b", "a")]) as lash:
            turn = await (await lash.session("s")).run("go")
    assert [each.output.outcome.value for each in turn.tool_calls] == ["a", "b", "b", "b", "a", "a"]


async def test_a_tool_that_runs_a_turn_whose_tools_call_it_doesnt_wait_for_itself() -> None:
    """With one place, taken by the call that waits for the turn: it gives it away meanwhile, and takes it back."""
    inside, happened = 0, []

    @tool(effect="pure", max_concurrency=1)
    async def ask(ctx: ToolCallContext, n: int) -> str:
        "Ask."
        nonlocal inside
        inside += 1
        happened.append(("begins", n, inside))
        answer = "me"
        if n:
            inside -= 1
            await ctx.lifecycle.create_session(SessionCreateRequest(session_id=f"s{n - 1}"))
            answer = (await ctx.lifecycle.start_turn(f"s{n - 1}", f"t{n - 1}", str(n - 1))).text
            inside += 1
        await anyio.lowlevel.checkpoint()
        happened.append(("ends", n, inside))
        inside -= 1
        return answer

    def say(request: LlmRequest) -> Reply:
        said = [block.text for message in request.messages for block in message.blocks if isinstance(block, TextBlock)]
        if any(isinstance(block, ToolResultBlock) for message in request.messages for block in message.blocks):
            return Reply(text="Done.")
        return Reply(text="", tool_calls=[Call("ask", {"n": int(said[-1])}, "c")])

    with anyio.fail_after(30):
        async with agent(say, tools=[ask]) as lash:
            turn = await (await lash.session("s2")).run("2")
    assert turn.text == "Done."
    places = [("begins", 2), ("begins", 1), ("begins", 0), ("ends", 0), ("ends", 1), ("ends", 2)]
    assert happened == [(*each, 1) for each in places]


def test_the_time_limit_of_a_call_begins_when_its_turn_has_come() -> None:
    """Three calls of 20 seconds each, one after the other, within a limit of 30 for each: in simulated time."""

    @tool(effect="pure", max_concurrency=1, timeout_s=30)
    async def slow(n: int) -> int:
        "Take your time."
        await anyio.sleep(20)
        return n

    async def scenario(_: Simulation) -> list[bool]:
        async with agent(calls(range(3), "slow"), tools=[slow]) as lash:
            turn = await (await lash.session("s")).run("go")
        return [each.output.is_success for each in turn.tool_calls]

    assert simulate(scenario).value == [True, True, True]


# ---- what is stopped, and what isn't --------------------------------------------------------------------------------


@pytest.mark.parametrize("in_a_set", [False, True])
async def test_a_call_in_a_thread_that_is_too_slow_says_that_it_may_go_on(in_a_set: bool) -> None:
    """A thread can't be stopped: whoever reads the result must not believe that nothing more happens."""
    go = Event()

    @tool(timeout_s=0.01)
    def slow() -> None:
        "Take long."
        go.wait(10)

    tools = ToolSet([slow], prefix="very_") if in_a_set else [slow]
    name = "very_slow" if in_a_set else "slow"
    async with agent([Reply(text="", tool_calls=[Call(name, {}, "c")]), "Done."], tools=tools) as lash:
        turn = await (await lash.session("s")).run("go")
    go.set()
    assert turn.tool_calls[0].output.outcome.message == (
        f"`{name}` took longer than 0.01 s and nobody waits for it any more; it runs in a thread, which can't be "
        "stopped, and may still do its work"
    )


async def test_a_call_in_a_thread_that_is_cancelled_says_so_too() -> None:
    """The turn ends at once; the coroutine beside it was stopped in its middle."""
    go = Event()
    stopped: list[str] = []
    begun = anyio.Event()

    @tool
    def threaded() -> None:
        "Take long."
        anyio.from_thread.run_sync(begun.set)
        go.wait(10)

    @tool
    async def coroutine() -> None:
        "Take longer."
        try:
            await anyio.sleep_forever()
        finally:
            stopped.append("coroutine")

    script = [Reply(text="", tool_calls=[Call("threaded", {}, "t"), Call("coroutine", {}, "c")])]
    async with agent(script, tools=[threaded, coroutine]) as lash:
        session = await lash.session("s")
        turn = await cancelled_when(begun, session.turn("go"), "enough")
    go.set()
    messages = [each.output.outcome.message for each in turn.tool_calls]
    thread = "the turn was cancelled; it runs in a thread, which can't be stopped, and may still do its work"
    begun_before = "the turn was cancelled; it had begun, and may have done some of its work, or all of it"
    assert messages == [thread, begun_before]
    assert stopped == ["coroutine"]


@pytest.mark.parametrize("second", ["enter", "free"])
@pytest.mark.parametrize("limit", [1, 2])
async def test_a_call_that_makes_two_at_once_gives_its_place_back_each_time(limit: int, second: str) -> None:
    """The first had ended, and its caller waited for a place: it took one while the second ran, and another after."""
    order: list[str] = []
    came, made, go = anyio.Event(), anyio.Event(), anyio.Event()

    @tool(effect="pure", max_concurrency=limit)
    async def enter(ctx: ToolCallContext, who: str) -> str:
        "Enter."
        order.append(who)
        if who == "child":
            await came.wait()
        elif who.startswith("rival"):
            await go.wait()
        elif who == "parent":
            async with anyio.create_task_group() as group:
                group.start_soon(ctx.call_tool, 0, "enter", {"who": "child"})
                await made.wait()
                group.start_soon(ctx.call_tool, 1, second, {"who": "last"})
                await anyio.wait_all_tasks_blocked()
                go.set()
        return who

    @tool(effect="pure")
    async def free(who: str) -> str:
        "Run without a limit."
        return who

    def script(request: LlmRequest) -> Reply | str:
        if any(isinstance(block, ToolResultBlock) for message in request.messages for block in message.blocks):
            return "Done."
        rivals = "rivals" in str(request.messages[-1])
        who = [f"rival{n}" for n in range(limit)] if rivals else ["parent"]
        return Reply(text="", tool_calls=[Call("enter", {"who": each}, each) for each in who])

    async with agent(script, tools=[enter, free]) as lash:
        one, two = await lash.session("one"), await lash.session("two")
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(one.run, "go")
                while "child" not in order:
                    await anyio.lowlevel.checkpoint()
                group.start_soon(two.run, "rivals")
                await anyio.wait_all_tasks_blocked()
                came.set()
                await anyio.wait_all_tasks_blocked()
                made.set()
        free_places = [places.value for places in lash.host.limits._places.values()]
    assert free_places == [limit]


@pytest.mark.parametrize(("effect", "told"), [("unsafe", True), ("idempotent", True), ("pure", False)])
async def test_a_call_that_is_cancelled_says_whether_it_may_have_done_something(effect: str, told: bool) -> None:
    """The history said of a payment that was cut only that it was cancelled, so that a model might pay once more."""
    begun = anyio.Event()

    @tool(effect=effect, max_concurrency=1)
    async def pay() -> None:
        "Pay."
        begun.set()
        await anyio.sleep_forever()

    script = [Reply(text="", tool_calls=[Call("pay", {}, "first"), Call("pay", {}, "second")])]
    async with agent(script, tools=[pay]) as lash:
        session = await lash.session("s")
        await cancelled_when(begun, session.turn("go"), "enough")
        read = [part.content for each in await session.messages() for part in each.parts if part.tool_call_id]
    waited = "Cancelled: the turn was cancelled"
    ran = f"{waited}; it had begun, and may have done some of its work, or all of it" if told else waited
    assert sorted(each for each in read if each.startswith("Cancelled")) == [waited, ran]
