"""Leases of durable turns: who may run, who may go on, and that nobody keeps a session that they don't run."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import agent, plugin
from attrs import evolve
from observe_kit import Screen, follow

from lash_framework import Lash, Session
from lash_framework.settings import Settings, load_settings
from lash_hookspecs import ConfigurationError, LeaseLost, LlmRequest, OperationId, SessionBusy, TurnBegun, TurnEnd, tool
from lash_plugin_provider_scripted import Call, Reply


def url_in(folder: Path) -> str:
    return f"sqlite:///{folder / 'lash.db'}"


def store_of(lash: Lash) -> Any:
    return lash.require_journal("this test").store


def cancel_in(store: Any, name: str) -> None:
    """Have the next call of this method cancel the task that makes it, barely."""
    write = getattr(store, name)

    async def cancelled_meanwhile(*args: Any, **options: Any) -> Any:
        setattr(store, name, write)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return await write(*args, **options)

    setattr(store, name, cancelled_meanwhile)


def say(request: LlmRequest) -> Reply | str:
    said = sum(message.role == "assistant" for message in request.messages)
    return Reply(tool_calls=[Call("stall", {}, "s")]) if said == 0 else "Done."


def short_lease() -> Settings:
    settings = load_settings(env={})
    return evolve(settings, durability=evolve(settings.durability, lease_ttl_s=0.1))


@pytest.mark.statement(64, page="effects")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_who_is_cancelled_while_a_turn_is_begun_holds_no_session(tmp_path: Path) -> None:
    """`asyncio.wait_for` cancels the task and not a scope: the store went on, and its answer, a lease, was lost.

    64: the turn that was dropped leaves no lease, and whoever comes next goes on with it.
    """
    async with agent(["done"], store=url_in(tmp_path)) as lash, agent(["done"], store=url_in(tmp_path)) as other:
        store = store_of(lash)
        for name in ("begin_turn", "claim_lease"):
            cancel_in(store, name)
            if name == "begin_turn":
                session = await lash.session("s")
                running = asyncio.ensure_future(session.run("q", turn_id="t"))
            else:
                running = asyncio.ensure_future(lash.delete_session("s"))
            with pytest.raises(asyncio.CancelledError):
                await running
            assert await store.load_lease("s") is None
            (turn,) = await lash.unfinished("s")
            assert turn.state == "interrupted"
        (recovered,) = await (await other.session("s", recover=False)).recover()
        assert recovered.turn.text == "done"


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio knows no `Task.cancel()`
async def test_who_is_cancelled_once_more_while_it_is_interrupted_holds_no_session(tmp_path: Path) -> None:
    """A group that ends and a time that is up both cancel: what the first one wrote was cut, and the lease was kept."""
    begun = anyio.Event()

    async def say(request: LlmRequest) -> str:
        if begun.is_set():
            return "Done."
        begun.set()
        return await anyio.sleep_forever()

    async with agent(say, store=url_in(tmp_path)) as lash, agent(say, store=url_in(tmp_path)) as other:
        store = store_of(lash)
        append = store.append_journal

        async def cancelled_again(*args: Any, **options: Any) -> None:
            running.cancel()
            await append(*args, **options)

        running = asyncio.ensure_future((await lash.session("s")).run("q", turn_id="t"))
        await begun.wait()
        store.append_journal = cancelled_again
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await store.load_lease("s") is None
        (recovered,) = await (await other.session("s", recover=False)).recover()
        assert recovered.turn.text == "Done."
        assert recovered.turn.usage.at_least


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("again", [("claim_lease",), ("release_lease",), ("claim_lease", "release_lease")])
async def test_who_is_cancelled_again_while_it_lets_go_of_a_claim_holds_no_session(
    again: tuple[str, ...], tmp_path: Path
) -> None:
    """The second cancel lost the answer to the question which lease the first one had lost."""
    async with agent(["done"], store=url_in(tmp_path)) as lash:
        store = store_of(lash)
        for name in ("begin_turn", *again):
            cancel_in(store, name)
        running = asyncio.ensure_future((await lash.session("s")).run("q", turn_id="t"))
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await store.load_lease("s") is None
        (recovered,) = await (await lash.session("s", recover=False)).recover()
        assert recovered.turn.text == "done"


async def test_a_host_that_runs_a_session_does_not_begin_a_second_turn_on_it(tmp_path: Path) -> None:
    """It is its own lease that it would take over, so the store has nothing against it."""
    begun, go_on = anyio.Event(), anyio.Event()

    async def slow(request: LlmRequest) -> str:
        begun.set()
        await go_on.wait()
        return "done"

    async with agent(slow, store=url_in(tmp_path)) as lash:
        session = await lash.session("s")
        journalling = lash.require_journal("this test")
        async with anyio.create_task_group() as group:
            group.start_soon(session.run, "q")
            await begun.wait()
            with pytest.raises(SessionBusy):
                await journalling.begin("s", None)
            go_on.set()
        nothing = await journalling.begin("s", None)
        assert isinstance(nothing, TurnBegun)
        assert nothing.item is None


@pytest.mark.parametrize("first", ["the keeper", "the turn"])
async def test_a_host_that_was_held_up_for_too_long_goes_on_unless_it_was_followed(first: str, tmp_path: Path) -> None:
    """Its event loop was blocked, or its machine slept: the lease had lapsed, and the turn was interrupted for that."""
    renewed, clock = anyio.Event(), [0]

    @tool(effect="pure")
    async def stall() -> str:
        "Take longer than the lease lives."
        clock[0] += 3_600_000
        if first == "the keeper":
            await renewed.wait()
        return "late"

    settings = short_lease() if first == "the keeper" else load_settings(env={})
    async with agent(say, store=url_in(tmp_path), tools=[stall], settings=settings) as lash:
        store = store_of(lash)
        now_ms, renew = store._now_ms, store.renew_lease
        store._now_ms = lambda: now_ms() + clock[0]

        async def renew_lease(*args: Any, **options: Any) -> Any:
            lease = await renew(*args, **options)
            if clock[0]:
                renewed.set()
            return lease

        store.renew_lease = renew_lease
        assert (await (await lash.session("s")).run("q")).text == "Done."
        assert renewed.is_set()


async def test_a_host_that_was_held_up_takes_a_turn_back_that_cannot_run(tmp_path: Path) -> None:
    """Its lease had lapsed, so the item stayed: what the caller was told is wrong was run by whoever came next."""

    def no_key(request: LlmRequest) -> str:
        store._now_ms = lambda: now_ms() + 3_600_000
        raise ConfigurationError("there is no key")

    async with agent(no_key, store=url_in(tmp_path)) as lash:
        store = store_of(lash)
        now_ms = store._now_ms
        session = await lash.session("s")
        with pytest.raises(ConfigurationError):
            await session.run("q", turn_id="t")
        assert await session.inbox() == []
        assert await store.load_lease("s") is None


@pytest.mark.statement(14, 63, page="effects")
async def test_a_host_that_was_held_up_and_followed_is_interrupted(tmp_path: Path) -> None:
    """14: a lease that has lapsed is taken over; 63: who held it is interrupted, and takes nothing away."""
    calls = 0

    @tool(effect="pure")
    async def stall() -> str:
        "Take longer than the lease lives."
        nonlocal calls
        calls += 1
        if calls == 1:
            other._now_ms = lambda: now_ms() + 3_600_000  # for the other one it lapsed
            (recovered,) = await (await successor.session("s", recover=False)).recover()
            assert recovered.turn.text == "Done."
        return "late"

    async with (
        agent(say, store=url_in(tmp_path), tools=[stall]) as lash,
        agent(say, store=url_in(tmp_path), tools=[stall]) as successor,
    ):
        other = store_of(successor)
        now_ms = other._now_ms
        session = await lash.session("s")
        with pytest.raises(LeaseLost):
            await session.run("q", turn_id="t")
        assert [each.text for each in await (await successor.session("s")).messages()][-1] == "Done."
    assert calls == 2


async def test_a_host_that_was_followed_ends_what_it_runs_though_that_writes_nothing(tmp_path: Path) -> None:
    """A model that is slow to answer would be paid for an answer that nobody may record."""
    begun = anyio.Event()

    async def say_slowly(request: LlmRequest) -> str:
        if begun.is_set():
            return "Done."
        begun.set()
        return await anyio.sleep_forever()

    async def run(session: Session) -> None:
        with pytest.raises(LeaseLost):
            await session.run("q", turn_id="t")

    async with (
        agent(say_slowly, store=url_in(tmp_path), settings=short_lease()) as lash,
        agent(say_slowly, store=url_in(tmp_path)) as successor,
    ):
        store = store_of(successor)
        now_ms = store._now_ms
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(run, await lash.session("s"))
                await begun.wait()
                store._now_ms = lambda: now_ms() + 3_600_000  # for this one the lease has lapsed
                (recovered,) = await (await successor.session("s", recover=False)).recover()
        assert recovered.turn.text == "Done."


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio knows no `Task.cancel()`
@pytest.mark.parametrize("when", ["before", "during", "during, and again"])
async def test_observers_are_told_the_truth_of_a_commit_whose_task_is_cancelled(when: str, tmp_path: Path) -> None:
    """A commit that was on its way is made, and `Task.cancel()` comes out of it: it was told as interrupted."""
    async with agent(["Done.", "Done again."], store=url_in(tmp_path)) as lash:
        session, commit = await lash.session("s"), lash.store.commit
        observer, screen = session.observe(), Screen()
        screen.show(await anext(observer))

        async def cancelled_meanwhile(given: Any) -> Any:
            lash.store.commit = commit
            running.cancel()
            if when == "before":
                await asyncio.sleep(0)
            if when == "during, and again":
                cancel_in(lash.store, "load_receipt")
            return await commit(given)

        lash.store.commit = cancelled_meanwhile
        running = asyncio.ensure_future(session.run("q", turn_id="t"))
        with pytest.raises(asyncio.CancelledError):
            await running
        await follow(observer, screen)
        made = await lash.store.load_receipt("s", OperationId("turn", "t")) is not None
        assert made is (when != "before")
        assert screen.ended[0].end is (TurnEnd.COMMITTED if made else TurnEnd.INTERRUPTED)
        assert await store_of(lash).load_lease("s") is None
        assert (await session.run("q", turn_id="t")).text == "Done."
        assert (await session.run("and?")).text == "Done again."
        assert [each.text for each in await session.messages()] == ["q", "Done.", "and?", "Done again."]


async def test_a_turn_that_is_interrupted_after_its_commit_is_known_as_committed(tmp_path: Path) -> None:
    """Its result said that nothing was committed, if it was left while those were told who watch commits."""
    begun = anyio.Event()

    async def lash_turn_committed(turn: Any) -> None:
        begun.set()
        await anyio.sleep_forever()

    async with agent(["Done."], store=url_in(tmp_path), plugins=[plugin("slow", lash_turn_committed)]) as lash:
        session = await lash.session("s")
        running = session.turn("q", turn_id="t")

        async def read() -> None:
            async for _ in running:
                pass

        async def leave() -> None:
            async with running:
                async with anyio.create_task_group() as group:
                    group.start_soon(read)
                    await begun.wait()
                    group.cancel_scope.cancel()
                raise KeyError("of the caller")

        with pytest.raises(KeyError):
            await leave()
        assert (await running.result()).text == "Done."


async def test_an_unsafe_tool_of_a_host_that_was_followed_may_still_end_and_its_successor_calls_it_unknown(
    tmp_path: Path,
) -> None:
    """Nothing can take it back; it isn't run again, and the model isn't told that it did or didn't happen."""
    deeds: list[str] = []

    @tool(effect="unsafe")
    async def stall() -> str:
        "Take longer than the lease lives."
        deeds.append("begun")
        other._now_ms = lambda: now_ms() + 3_600_000
        (recovered,) = await (await successor.session("s", recover=False)).recover()
        (call,) = recovered.turn.tool_calls
        assert "may or may not have happened" in str(call.output)
        deeds.append("ended")
        return "late"

    async with (
        agent(say, store=url_in(tmp_path), tools=[stall]) as lash,
        agent(say, store=url_in(tmp_path), tools=[stall]) as successor,
    ):
        other = store_of(successor)
        now_ms = other._now_ms
        with pytest.raises(LeaseLost):
            await (await lash.session("s")).run("q", turn_id="t")
    assert deeds == ["begun", "ended"]


async def test_a_turn_that_was_taken_from_us_at_a_checkpoint_ends_the_run(tmp_path: Path) -> None:
    """Its own item was lost, and not one that it wanted to take: the checkpoint looked again, for ever."""

    @tool(effect="pure")
    async def stall() -> str:
        "Have something to take."
        await (await lash.session("s")).enqueue("and this")
        return "done"

    async with agent(say, store=url_in(tmp_path), tools=[stall]) as lash:
        store = store_of(lash)
        append = store.append_journal

        async def append_journal(*args: Any, claims: Any = (), **options: Any) -> None:
            if claims:
                database = sqlite3.connect(tmp_path / "lash.db")
                with database:
                    database.execute("UPDATE inbox SET claim_generation = 99 WHERE attempts > 0")
                database.close()
            await append(*args, claims=claims)

        store.append_journal = append_journal
        with anyio.fail_after(20), pytest.raises(LeaseLost, match="another run has the turn"):
            await (await lash.session("s")).run("q")
