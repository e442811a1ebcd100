"""Promises of the page on durability that no other test is about. Crashes are in `test_crash_promises` and its like."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from agents import agent
from attrs import evolve

from lash_framework import Lash
from lash_framework.settings import Settings, load_settings
from lash_framework.unfinished import TurnState
from lash_hookspecs import CapabilityMissing, LlmRequest, ToolCallContext, TurnCancelled, TurnConflict, tool
from lash_plugin_provider_scripted import Call, Reply


def url_in(folder: Path) -> str:
    return f"sqlite:///{folder / 'lash.db'}"


def inline() -> Settings:
    settings = load_settings(env={})
    return evolve(settings, durability=evolve(settings.durability, effects="inline"))


async def test_who_insists_on_durable_turns_is_refused_by_name_where_there_are_none(tmp_path: Path) -> None:
    with pytest.raises(CapabilityMissing, match=r"`require_durable=True`: the store `.*` doesn't outlive the process"):
        async with Lash.open("sqlite://", require_durable=True):
            pass
    with pytest.raises(CapabilityMissing, match=r"`require_durable=True`: `durability.effects` is `inline`"):
        async with Lash.open(url_in(tmp_path), settings=inline(), require_durable=True):
            pass
    async with Lash.open(url_in(tmp_path), require_durable=True) as lash:
        assert lash.journalling is not None


async def test_a_turn_says_durable_only_where_it_would_have_survived(tmp_path: Path) -> None:
    async with agent(["kept"], store=url_in(tmp_path)) as lash:
        assert (await (await lash.session()).run("q")).durable
    async with agent(["in memory"]) as lash:
        assert not (await (await lash.session()).run("q")).durable
    async with agent(["inline"], store=url_in(tmp_path), settings=inline()) as lash:
        session = await lash.session()
        assert not (await session.run("q")).durable
        assert await lash.unfinished() == ()


class Waits:
    """A tool that waits until it may go on."""

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.asked: list[str] = []
        self.may_go_on = False

        @tool(effect="pure")
        async def wait() -> str:
            "Wait."
            self.begun.set()
            if not self.may_go_on:
                await anyio.sleep_forever()
            return "waited"

        self.tool = wait

    def say(self, request: LlmRequest) -> Reply | str:
        self.asked.append(request.model)
        said = sum(message.role == "assistant" for message in request.messages)
        return Reply(tool_calls=[Call("wait", {}, "w")]) if said == 0 else "Waited."

    async def interrupted(self, url: str) -> None:
        """Turn `t` of session `s` is interrupted while it waits."""
        async with agent(self.say, store=url, tools=[self.tool]) as lash:
            session = await lash.session("s", max_turns=7)
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: session.run("Wait.", turn_id="t"))
                await self.begun.wait()
                (running,) = await lash.unfinished("s")
                assert running.state is TurnState.RUNNING
                group.cancel_scope.cancel()
            (left,) = await lash.unfinished()
            assert (left.turn_id, left.state, left.attempts) == ("t", TurnState.INTERRUPTED, 1)
        self.may_go_on = True


async def test_a_turn_id_is_for_one_input_also_while_its_turn_is_interrupted(tmp_path: Path) -> None:
    url, waits = url_in(tmp_path), Waits()
    await waits.interrupted(url)
    async with agent(waits.say, store=url, tools=[waits.tool]) as lash:
        session = await lash.session("s", recover=False)
        with pytest.raises(TurnConflict, match="turn `t` of session `s` was accepted before with another input"):
            await session.run("Hurry.", turn_id="t")
        assert (await session.run("Wait.", turn_id="t")).text == "Waited."


async def test_a_turn_goes_on_with_the_policy_that_it_began_with(tmp_path: Path) -> None:
    """What is said at the opening is for the turns that follow."""
    url, waits = url_in(tmp_path), Waits()
    await waits.interrupted(url)
    async with agent(waits.say, store=url, tools=[waits.tool]) as lash:
        session = await lash.session("s", model="test:another", recover=False)
        (recovered,) = await session.recover()
        assert recovered.turn.text == "Waited."
        assert waits.asked == ["model", "model"]
        await session.run("And now?")
        assert waits.asked[-1] == "another"
        assert session.policy.max_turns == 7


async def test_an_idempotent_tool_that_runs_again_gets_the_same_key(tmp_path: Path) -> None:
    url, keys, begun = url_in(tmp_path), list[str](), anyio.Event()

    @tool(effect="idempotent")
    async def ship(ctx: ToolCallContext) -> str:
        "Ship it."
        keys.append(ctx.idempotency_key)
        if len(keys) == 1:
            begun.set()
            await anyio.sleep_forever()
        return "shipped"

    def say(request: LlmRequest) -> Reply | str:
        said = sum(message.role == "assistant" for message in request.messages)
        return Reply(tool_calls=[Call("ship", {}, "s")]) if said == 0 else "Shipped."

    async with agent(say, store=url, tools=[ship]) as lash:
        session = await lash.session("s")
        async with anyio.create_task_group() as group:
            group.start_soon(session.run, "Ship it.")
            await begun.wait()
            group.cancel_scope.cancel()
    async with agent(say, store=url, tools=[ship]) as lash:
        (recovered,) = await (await lash.session("s", recover=False)).recover()
        assert recovered.turn.text == "Shipped."
    assert len(keys) == 2
    assert keys[0] == keys[1] != ""


async def test_deleting_a_session_that_never_was_makes_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Holding it made it known, so that it was deleted, its id spent, and a lease complained of."""
    async with agent(["a"], store=url_in(tmp_path)) as lash:
        assert await lash.delete_session("nobody") is False
        session = await lash.session("nobody")
        assert (await session.run("q")).text == "a"
        assert await lash.delete_session("nobody") is True
        assert await lash.delete_session("nobody") is True
    assert [each.getMessage() for each in caplog.records if each.levelname == "WARNING"] == []


async def test_an_input_that_is_cancelled_in_the_inbox_while_its_caller_waits_is_never_begun(tmp_path: Path) -> None:
    url, begun, go_on = url_in(tmp_path), anyio.Event(), anyio.Event()

    async def slow(request: LlmRequest) -> str:
        begun.set()
        await go_on.wait()
        return "done"

    async def queued(other: Lash) -> None:
        session = await other.session("s", recover=False)
        with pytest.raises(TurnCancelled, match="cancelled before it began, in the session's inbox"):
            await session.run("q", turn_id="queued", wait=True)

    async with agent(slow, store=url) as lash, agent([], store=url) as other:
        store = lash.require_journal("this test").store
        session = await lash.session("s")
        async with anyio.create_task_group() as group:
            group.start_soon(session.run, "first")
            await begun.wait()
            group.start_soon(queued, other)
            nos: list[int] = []
            while not nos:
                nos = [each.no for each in await store.list_inbox("s") if each.turn_id == "queued"]
            await store.cancel_items("s", nos, "nobody wants it")
            go_on.set()
        assert await store.list_inbox("s") == []
        assert [each.text for each in await session.messages()] == ["first", "done"]
