"""Who pays for a turn on another session that several wait for: each for what was made while it waited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from agents import agent, plugin
from child_kit import CENT, SPENT, Stuck, helped, impatient, look, says, settings

from lash_framework import Lash
from lash_framework.budget import Payer
from lash_framework.testing import Crash, crash_at_every_effect
from lash_hookspecs import AssembledTurn, Cost, LlmRequest, TokenUsage, tool
from lash_plugin_provider_scripted import Call, Reply

DURABLE = pytest.mark.parametrize("durable", [True, False], ids=["durable", "inline"])


def how(durable: bool) -> str:
    return "durability.keep_journal_h=1" if durable else "durability.effects=inline"


@DURABLE
async def test_who_waits_on_when_another_call_has_given_up_pays_for_the_rest(durable: bool, tmp_path: Path) -> None:
    """Only the first of two calls would have been charged: when it was cut, the child's end was free."""
    stuck = Stuck()
    lash: Lash

    async def model(request: LlmRequest) -> Reply:
        reply = await stuck.says(request)
        if reply.tool_calls and reply.tool_calls[0].tool_name == "delegate":
            return Reply(tool_calls=[Call("delegate", {"waits": n == 1}, f"d{n}") for n in range(2)], usage=SPENT)
        return reply

    @tool(effect="idempotent")
    async def delegate(ctx: Any, waits: bool) -> str:
        """Ask somebody."""
        if waits:
            await stuck.asked.wait()
            return await helped(ctx)
        async with anyio.create_task_group() as group:
            group.start_soon(helped, ctx)
            await stuck.asked.wait()
            line = (await lash.session("child", recover=False))._resident.line
            while not line.statistics().tasks_waiting:
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        stuck.free.set()
        return "Nobody helps."

    store, tools = f"sqlite:///{tmp_path / 'a.db'}", [delegate, look]
    async with agent(model, store=store, tools=tools, settings=settings(how(durable))) as lash:
        turn = await (await lash.session("s")).run("Ask somebody.", turn_id="t")
        if durable:
            assert (await lash.replay("t")).turn == turn
    assert [each.output.outcome.tag for each in turn.tool_calls] == ["success", "success"]
    # Without a journal the child begins anew.
    assert turn.cost == Cost((8 if durable else 10) * CENT, at_least=True)


@pytest.mark.parametrize("at_once", [False, True], ids=["afterwards", "at the same time"])
@DURABLE
async def test_a_child_that_is_cut_in_one_turn_and_ends_in_another_is_paid_by_both(
    durable: bool, at_once: bool, tmp_path: Path
) -> None:
    """Its end was charged to nobody; or, to a turn that had begun before it, the whole of it once more."""
    stuck, given_up, begun = Stuck(), anyio.Event(), anyio.Event()

    @tool(effect="idempotent")
    async def delegate(ctx: Any) -> str:
        """Ask somebody."""
        if ctx.session_id == "patient":
            begun.set()
            await given_up.wait()
            stuck.free.set()
            return await helped(ctx)
        if at_once:
            await begun.wait()
        await impatient(ctx, stuck)
        given_up.set()
        return "Nobody helps."

    turns: dict[str, AssembledTurn] = {}
    store, tools = f"sqlite:///{tmp_path / 'a.db'}", [delegate, look]
    async with agent(stuck.says, store=store, tools=tools, settings=settings(how(durable))) as lash:

        async def run(name: str) -> None:
            turns[name] = await (await lash.session(name)).run("Ask somebody.", turn_id=name)

        async with anyio.create_task_group() as group:
            group.start_soon(run, "impatient")
            if not at_once:
                await given_up.wait()
            group.start_soon(run, "patient")
        child = await (await lash.session("child")).usage()
        if durable:
            for name, turn in turns.items():
                assert (await lash.replay(name)).turn == turn
    assert turns["impatient"].cost == Cost(6 * CENT, at_least=True)
    assert turns["patient"].cost == Cost((6 if durable else 8) * CENT, at_least=durable)
    assert child.total.cost == Cost(4 * CENT, at_least=durable)


async def test_who_runs_another_turn_of_a_session_pays_for_the_one_that_was_cut_there(tmp_path: Path) -> None:
    """What was begun comes first: it was gone on with, free of charge."""
    stuck = Stuck()

    @tool(effect="idempotent")
    async def delegate(ctx: Any) -> str:
        """Ask somebody."""
        await impatient(ctx, stuck)
        stuck.free.set()
        turn: AssembledTurn = await ctx.lifecycle.start_turn("child", "c2", "Help me, too.")
        return turn.text

    store, tools = f"sqlite:///{tmp_path / 'a.db'}", [delegate, look]
    async with agent(stuck.says, store=store, tools=tools, settings=settings(how(True))) as lash:
        turn = await (await lash.session("s")).run("Ask somebody.", turn_id="t")
        child = await (await lash.session("child")).usage()
        assert (await lash.replay("t")).turn == turn
    # The second turn of the child sees the tool's result of the first, and asks once.
    assert child.total.cost == Cost(6 * CENT, at_least=True)
    assert turn.cost == Cost(10 * CENT, at_least=True)


@pytest.mark.costly
@pytest.mark.chaos
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_an_earlier_turn_paid_is_charged_to_no_later_one_whatever_dies_when() -> None:
    """A turn gives up on a child, and a later one goes on with it, and is killed at every effect."""
    costs: list[Cost] = []

    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Lash]:
        stuck = Stuck()

        @tool(effect="idempotent")
        async def delegate(ctx: Any) -> str:
            """Ask somebody."""
            if ctx.session_id == "crash":
                stuck.free.set()
                return await helped(ctx)
            await impatient(ctx, stuck)
            return "Nobody helps."

        quick = settings("store_options.synchronous=normal")
        async with agent(stuck.says, store=url, tools=[delegate, look], settings=quick) as lash:
            first = await (await lash.session("first")).run("Ask somebody.", turn_id="first")
            assert first.cost == Cost(6 * CENT, at_least=True)
            yield lash

    def counted(crash: Crash) -> None:
        assert [each.usage.input for each in crash.turn.children_usage] == [1000], crash.point
        costs.append(crash.turn.cost)

    await crash_at_every_effect(opened, "Ask somebody.", checks=[counted])
    assert {each.picodollars for each in costs} <= {6 * CENT, 8 * CENT}


async def test_what_others_paid_of_a_child_takes_nothing_from_what_is_left(tmp_path: Path) -> None:
    """It was taken for spent here: a turn that had enough left was stopped."""
    stuck, outcomes = Stuck(), list[str]()

    @tool(effect="idempotent")
    async def delegate(ctx: Any) -> str:
        """Ask somebody."""
        if ctx.session_id == "impatient":
            await impatient(ctx, stuck)
            return "Nobody helps."
        stuck.free.set()
        outcomes.append(await helped(ctx))
        return outcomes[-1]

    store, tools = f"sqlite:///{tmp_path / 'a.db'}", [delegate, look]
    async with agent(stuck.says, store=store, tools=tools, settings=settings()) as lash:
        await (await lash.session("impatient")).run("Ask somebody.")
        turn = await (await lash.session("patient")).run("Ask somebody.", max_tokens=4_510)
    assert outcomes == ["Helped."]
    assert turn.is_success
    assert turn.usage.total == 4_500


async def test_what_was_charged_of_a_child_before_it_was_cut_is_counted_once_in_what_is_left(tmp_path: Path) -> None:
    """It was taken off twice, and from what the child had left a third time."""
    stuck = Stuck()

    @tool(effect="idempotent")
    async def delegate(ctx: Any) -> str:
        """Ask somebody."""
        await impatient(ctx, stuck)
        stuck.free.set()
        return await helped(ctx)

    store, tools = f"sqlite:///{tmp_path / 'a.db'}", [delegate, look]
    async with agent(stuck.says, store=store, tools=tools, settings=settings()) as lash:
        turn = await (await lash.session("s")).run("Ask somebody.", max_tokens=6_010)
    assert turn.is_success
    assert turn.usage.total == 6_000


def test_what_is_to_be_paid_is_no_less_than_what_was_found() -> None:
    """A turn that is cut before it is where it had been knows of less; the rest was taken for somebody else's."""

    async def begins(found: TokenUsage) -> None:
        raise AssertionError("nobody waits here")

    waits: Any = None
    payer = Payer(waits, begins, before=TokenUsage(input=3), found=TokenUsage(input=10, output=2))
    turn: Any = SimpleNamespace(known=TokenUsage(input=5))
    assert payer.spent == TokenUsage(input=7, output=2, at_least=True)
    payer.turn = turn
    assert payer.spent == TokenUsage(input=7, output=2, at_least=True)
    turn.known = TokenUsage(input=15, output=4)
    assert payer.spent == TokenUsage(input=12, output=4, at_least=True)


def asking(name: str, asks: bool, asked: anyio.Event) -> object:
    """A plugin with a tool that asks the child, under a name of its own, or waits until another one has."""

    async def run(ctx: Any) -> str:
        """Ask somebody."""
        if asks:
            await helped(ctx)
            asked.set()
        elif name == "other":
            await asked.wait()
        return "Somebody was asked."

    run.__name__ = name

    def lash_tools() -> list[Any]:
        return [tool(effect="idempotent")(run)]

    return plugin(f"asks-with-{name}", lash_tools)


@pytest.mark.costly
@pytest.mark.chaos
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_another_plugin_may_settle_what_the_one_that_was_killed_began() -> None:
    """After a restart the other one asks for the child: it is charged once, under the name of who began to wait."""
    payers: list[str] = []
    lives = 0

    def model(request: LlmRequest) -> Reply:
        reply = says(request)
        if reply.tool_calls:
            return Reply(tool_calls=[Call(each, {}, each) for each in ("delegate", "other")], usage=SPENT)
        return reply

    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Lash]:
        nonlocal lives
        lives += 1  # a victim, then a survivor
        asked = anyio.Event()
        plugins = [asking("delegate", lives % 2 == 1, asked), asking("other", lives % 2 == 0, asked)]
        quick = settings("store_options.synchronous=normal")
        async with agent(model, store=url, plugins=plugins, settings=quick) as lash:
            yield lash

    def counted(crash: Crash) -> None:
        (entry,) = crash.turn.children_usage
        assert entry.usage.input == 1000, crash.point
        payers.append(entry.source)

    await crash_at_every_effect(opened, "Ask somebody.", points=lambda each: each.kind != "sql", checks=[counted])
    assert set(payers) == {"asks-with-delegate", "asks-with-other"}


@pytest.mark.parametrize("in_time", [True, False], ids=["in a later round", "after the turn"])
async def test_a_child_may_outlive_the_call_that_asked(in_time: bool, tmp_path: Path) -> None:
    """In a later round its cost is the turn's; of one that isn't over when the turn is, the turn says "at least"."""
    stuck, ended = Stuck(), anyio.Event()
    texts: list[str] = []

    @tool(effect="idempotent")
    async def delegate(ctx: Any) -> str:
        """Ask somebody."""

        async def ask() -> None:
            texts.append(await helped(ctx))
            ended.set()

        ctx.host.start_soon(ask)
        await stuck.asked.wait()
        return "Somebody will help."

    @asynccontextmanager
    async def lash_lifespan(host: Any) -> AsyncIterator[Any]:
        async with anyio.create_task_group() as group:
            yield group

    def lash_tools() -> list[Any]:
        return [delegate, look]

    async def model(request: LlmRequest) -> Reply:
        reply = await stuck.says(request)
        if reply.text == "Somebody helped." and in_time:
            stuck.free.set()
            await ended.wait()
        return reply

    store = f"sqlite:///{tmp_path / 'a.db'}"
    plugins: Sequence[Any] = [plugin("later", lash_lifespan, lash_tools)]
    async with agent(model, store=store, plugins=plugins, settings=settings(how(True))) as lash:
        session = await lash.session("s")
        turn = await session.run("Ask somebody.", turn_id="t")
        stuck.free.set()
        await ended.wait()
        again = await session.run("Are you there?")
        assert (await lash.replay("t")).turn == turn
        child = await (await lash.session("child")).usage()
    assert texts == ["Helped."]
    assert turn.cost == (Cost(8 * CENT) if in_time else Cost(4 * CENT, at_least=True))
    assert again.is_success
    assert child.total.cost == Cost(4 * CENT)
