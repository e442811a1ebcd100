"""Turns that tools run on other sessions: they count in the turn that waits for them, which bounds them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import agent
from child_kit import CENT, Stuck, helped, impatient, look, says, settings

from lash_framework import Lash
from lash_framework.testing import Crash, crash_at_every_effect
from lash_hookspecs import (
    AssembledTurn,
    Budget,
    Cost,
    GenerationOptions,
    LlmRequest,
    OverBudget,
    SessionCreateRequest,
    Stopped,
    TextItem,
    TokenUsage,
    TurnContext,
    TurnInput,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply


def delegating(into: list[AssembledTurn], times: int = 1, given: TurnInput | str = "Help.") -> Any:
    @tool(effect="idempotent")
    async def delegate(ctx: Any) -> str:
        """Ask somebody."""
        await ctx.lifecycle.create_session(SessionCreateRequest(session_id="child"))
        for number in range(times):
            into.append(await ctx.lifecycle.start_turn("child", f"child-{number}", given))
            again = await ctx.lifecycle.start_turn("child", f"child-{number}", given)
            assert again == into[-1]
        return into[-1].text

    return delegate


@pytest.mark.statement(61, page="effects")
async def test_what_a_child_s_turn_costs_is_in_its_parent_s_cost_and_in_the_session_s() -> None:
    """It was in neither: a turn that delegated everything was nearly free.

    61: whoever watches the parent's turn sees each child's usage, and it counts once.
    """
    children: list[AssembledTurn] = []
    async with agent(says, tools=[delegating(children, times=2)], settings=settings()) as lash:
        session = await lash.session("s")
        async with session.turn("Ask somebody.", turn_id="t") as running:
            shown = [each.event async for each in running]
            turn = await running.result()
        report = await session.usage()
        own = await (await lash.session("child")).usage()
    assert [each.cost for each in children] == [Cost.of_usd(0.02)] * 2
    assert len(turn.call_usage) == 2
    assert turn.token_usage.cost == Cost.of_usd(0.04)
    assert turn.cost == report.total.cost == Cost.of_usd(0.08)
    assert own.total.cost == Cost.of_usd(0.04)
    (entry,) = turn.children_usage
    assert (entry.model, entry.usage.input) == ("test:model", 2000)
    assert len([each for each in shown if each.tag == "child_usage"]) == 2


async def test_a_child_s_turn_that_an_earlier_turn_paid_for_is_charged_to_no_later_one() -> None:
    """It was charged to every turn that asked for it, though it came from its receipt."""
    children: list[AssembledTurn] = []
    async with agent(says, tools=[delegating(children)], settings=settings()) as lash:
        first = await (await lash.session("a")).run("Ask somebody.")
        second = await (await lash.session("b")).run("Ask somebody.")
    assert children[0] == children[1]
    assert (first.cost, second.cost) == (Cost.of_usd(0.06), Cost.of_usd(0.04))


@pytest.mark.parametrize(
    ("limits", "given", "stops"),
    [
        ({"max_tokens": 20_000}, "Help.", None),
        ({"max_tokens": 1_600}, "Help.", "max_tokens"),
        ({"max_cost": 0.0205}, "Help.", "max_cost"),
        ({"session_max_cost": 0.0205}, "Help.", "max_cost"),
        (
            {"max_tokens": 20_000},
            TurnInput(items=(TextItem("Help."),), context=TurnContext(budget=Budget(max_tokens=1))),
            "max_tokens",
        ),
    ],
    ids=["room", "tokens", "dollars", "the session's dollars", "its own"],
)
async def test_a_child_may_spend_what_is_left_and_no_more(
    limits: dict[str, Any], given: TurnInput | str, stops: str | None
) -> None:
    """Its own limits hold as well. What it spent is spent: the parent stops where it would have stopped itself."""
    children: list[AssembledTurn] = []
    budget = Budget(**limits)
    async with agent(says, tools=[delegating(children, given=given)], settings=settings()) as lash:
        session = await lash.session("s", budget=budget)
        turn = await session.run("Ask somebody.")
    (child,) = children
    if stops is None:
        assert child.text == "Helped."
        assert turn.is_success
    else:
        assert isinstance(child.outcome, Stopped)
        assert isinstance(child.outcome.detail, OverBudget)
        assert child.outcome.detail.limit == stops
        assert child.cost == Cost()


async def test_a_parent_s_next_call_is_judged_by_what_its_child_has_spent() -> None:
    children: list[AssembledTurn] = []
    async with agent(says, tools=[delegating(children)], settings=settings()) as lash:
        turn = await (await lash.session("s")).run("Ask somebody.", max_tokens=3_010)
    assert children[0].is_success
    assert isinstance(turn.outcome, Stopped)
    assert turn.outcome.reason == "budget"
    assert turn.usage.total == 3_000


async def test_a_replay_has_the_same_costs(tmp_path: Path) -> None:
    store, keeps = f"sqlite:///{tmp_path / 'a.db'}", "durability.keep_journal_h=1"
    tools: Sequence[Any] = [delegating([])]
    async with agent(says, store=store, tools=tools, settings=settings(keeps)) as lash:
        turn = await (await lash.session("s")).run("Ask somebody.", turn_id="t")
    async with agent([], store=store, tools=tools, settings=settings(keeps)) as lash:
        assert (await lash.replay("t")).turn == turn
    assert turn.cost == Cost.of_usd(0.06)


@pytest.mark.statement(62, page="effects")
@pytest.mark.costly
@pytest.mark.chaos
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_child_is_counted_once_whatever_dies_when() -> None:
    """Killed at every effect of the parent, the tool that ran the child's turn runs again, and finds it stored."""
    costs: list[Cost] = []

    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Lash]:
        quick = settings("store_options.synchronous=normal")
        async with agent(says, store=url, tools=[delegating([])], settings=quick) as lash:
            yield lash

    def counted(crash: Crash) -> None:
        children = crash.turn.children_usage
        assert [each.usage.input for each in children] == [1000], crash.point
        costs.append(crash.turn.cost)

    await crash_at_every_effect(opened, "Ask somebody.", checks=[counted])
    assert costs
    assert {each.picodollars for each in costs} <= {6 * 10**10, 8 * 10**10}


# ---- children that are cut, or run side by side ----------------------------------------------------------------------


def giving_up(stuck: Stuck, attempts: int, then: bool) -> Any:
    """Waits for a child until it is stuck, so many times, and `then` until it is over."""

    @tool(effect="idempotent")
    async def delegate(ctx: Any) -> str:
        """Ask somebody."""
        for _ in range(attempts):
            await impatient(ctx, stuck)
        if not then:
            return "Nobody helps."
        stuck.free.set()
        return await helped(ctx)

    return delegate


@pytest.mark.parametrize(
    ("durable", "attempts", "then", "cents"),
    [
        pytest.param(True, 1, False, 6, id="given up"),
        pytest.param(True, 2, False, 6, id="twice"),
        pytest.param(True, 1, True, 8, id="waited for again"),
        pytest.param(True, 0, True, 8, id="not cut"),
        pytest.param(False, 1, False, 6, id="inline, given up"),
        pytest.param(False, 1, True, 10, id="inline, where it begins anew"),
    ],
)
async def test_what_a_child_has_cost_that_was_cut_is_charged(
    durable: bool, attempts: int, then: bool, cents: int, tmp_path: Path
) -> None:
    """Nothing of it was: who gave up on a child, or ran into a time limit, had it for free."""
    stuck, how = Stuck(), "durability.keep_journal_h=1" if durable else "durability.effects=inline"
    tools: Sequence[Any] = [giving_up(stuck, attempts, then), look]
    async with agent(stuck.says, store=f"sqlite:///{tmp_path / 'a.db'}", tools=tools, settings=settings(how)) as lash:
        turn = await (await lash.session("s")).run("Ask somebody.", turn_id="t")
        if durable:
            assert (await lash.replay("t")).turn == turn
    assert turn.cost == Cost(cents * 10**10, at_least=attempts > 0)


async def test_who_goes_on_after_an_interruption_charges_the_child_once(tmp_path: Path) -> None:
    """What it had cost is recorded when it is cut, and the rest when it is over, whichever model the child then has.

    A record by another model, or by another plugin that asks first after a restart, was a mismatch, for good.
    """
    stuck, store = Stuck(), f"sqlite:///{tmp_path / 'a.db'}"
    waits = anyio.Event()

    @tool(effect="idempotent")
    async def delegate(ctx: Any) -> str:
        """Ask somebody."""
        await ctx.lifecycle.create_session(SessionCreateRequest(session_id="child"))
        turn = await ctx.lifecycle.start_turn("child", "c", "Help.")
        if not waits.is_set():
            waits.set()
            await anyio.sleep_forever()
        return str(turn.text)

    tools: Sequence[Any] = [delegate, look]

    async def interrupted(lash: Lash, when: anyio.Event) -> None:
        session = await lash.session("s", recover=False)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: session.run("Ask somebody.", turn_id="t"))
            await when.wait()
            group.cancel_scope.cancel()

    async with agent(stuck.says, store=store, tools=tools, settings=settings()) as lash:
        await interrupted(lash, stuck.asked)
    stuck.free.set()
    async with agent(stuck.says, store=store, tools=tools, settings=settings()) as lash:
        await interrupted(lash, waits)
        await (await lash.session("child", recover=False)).configure(model="test:other")
        turn = await (await lash.session("s", recover=False)).run("Ask somebody.", turn_id="t")
    assert turn.is_success
    assert turn.cost == Cost(8 * 10**10, at_least=True)
    assert {each.model for each in turn.children_usage} == {"test:model"}


async def test_children_side_by_side_share_what_is_left() -> None:
    """Each had all of it: two of them spent it twice."""
    ended: list[AssembledTurn] = []

    async def model(request: LlmRequest) -> Reply:
        words = "".join(getattr(block, "text", "") for each in request.messages for block in each.blocks)
        if "Ask somebody." in words:
            if any(block.tag == "tool_result" for each in request.messages for block in each.blocks):
                return Reply(text="Some helped.", usage=TokenUsage(input=10))
            return Reply(tool_calls=[Call("delegate", {"n": n}, f"d{n}") for n in range(4)], usage=TokenUsage(input=10))
        await anyio.wait_all_tasks_blocked()
        return Reply(text="Helped.", usage=TokenUsage(input=2, output=400))

    @tool(effect="idempotent")
    async def delegate(ctx: Any, n: int) -> str:
        """Ask somebody."""
        await ctx.lifecycle.create_session(SessionCreateRequest(session_id=f"child-{n}"))
        context = TurnContext(generation=GenerationOptions(output_token_cap=500))
        given = TurnInput(items=(TextItem("Help."),), context=context)
        ended.append(await ctx.lifecycle.start_turn(f"child-{n}", "c", given))
        return ended[-1].text

    async with agent(model, tools=[delegate], settings=settings()) as lash:
        turn = await (await lash.session("s")).run("Ask somebody.", max_tokens=2_000)
    assert sorted(each.is_success for each in ended) == [False, False, True, True]
    assert turn.usage.total <= 2_000


@pytest.mark.costly
@pytest.mark.chaos
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_child_whose_tool_is_never_run_again_makes_it_at_least() -> None:
    """Killed with the child, an unsafe tool is unknown afterwards, and what the child had cost was in no total."""

    @tool(effect="unsafe")
    async def delegate(ctx: Any) -> str:
        """Ask somebody."""
        await ctx.lifecycle.create_session(SessionCreateRequest(session_id="child"))
        return str((await ctx.lifecycle.start_turn("child", "c", "Help.")).text)

    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Lash]:
        quick = settings("store_options.synchronous=normal")
        async with agent(says, store=url, tools=[delegate], settings=quick) as lash:
            yield lash

    costs: list[Cost] = []
    await crash_at_every_effect(
        opened,
        "Ask somebody.",
        points=lambda point: point.kind == "reply" or (point.kind, point.name) == ("store", "commit"),
        checks=[lambda crash: costs.append(crash.turn.cost)],
    )
    assert all(each.at_least or each == Cost.of_usd(0.06) for each in costs)
    assert any(each == Cost(4 * 10**10, at_least=True) for each in costs)


async def test_ids_with_colons_are_told_apart(tmp_path: Path) -> None:
    """Session `a`, turn `b:c` and session `a:b`, turn `c` had one record: the second one was taken for paid."""
    pairs = [("a", "b:c"), ("a:b", "c"), ("a", "b:c:0"), ("a:b", "c:0")]

    @tool(effect="idempotent")
    async def delegate(ctx: Any) -> str:
        """Ask each of them."""
        for session_id, turn_id in pairs:
            await ctx.lifecycle.create_session(SessionCreateRequest(session_id=session_id))
            await ctx.lifecycle.start_turn(session_id, turn_id, "Help.")
        return "asked"

    tools, store = [delegate, look], f"sqlite:///{tmp_path}/a.db"
    async with agent(says, store=store, tools=tools, settings=settings("durability.keep_journal_h=1")) as lash:
        turn = await (await lash.session("p")).run("Ask somebody.", turn_id="t")
        made = [(await (await lash.session(id)).usage()).total.picodollars for id in ("a", "a:b")]
    assert sum(each.usage.picodollars for each in turn.children_usage) == sum(made) == len(pairs) * 2 * CENT
