"""Promises of the page on durability that no other test is about. Crashes are in `test_crash_promises` and its like."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import anyio
import pytest
from agents import agent, plugin
from attrs import evolve

from lash_framework import Lash
from lash_framework.accepted import TurnRequest
from lash_framework.opening import SETTLED_FOR_H
from lash_framework.settings import Settings, load_settings
from lash_framework.unfinished import TurnState
from lash_hookspecs import (
    CapabilityMissing,
    InboxState,
    LlmRequest,
    ToolCallContext,
    TurnBlocked,
    TurnCancelled,
    TurnConflict,
    TurnInput,
    tool,
)
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


async def test_law_9_a_turn_says_durable_only_where_it_would_have_survived(tmp_path: Path) -> None:
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


async def test_what_a_callers_time_limit_interrupts_is_gone_on_with_before_the_next_turn(tmp_path: Path) -> None:
    began, calls = anyio.Event(), []

    @tool(effect="pure")
    async def look() -> str:
        """Look, and wait for ever the first time."""
        calls.append(1)
        if len(calls) == 1:
            began.set()
            await anyio.sleep_forever()
        return "seen"

    script = [Reply(tool_calls=[Call("look", {})]), "First.", "Second."]
    async with agent(script, store=f"sqlite:///{tmp_path / 'a.db'}", tools=[look]) as lash:
        session = await lash.session("s")
        async with anyio.create_task_group() as group:

            async def run() -> None:
                await session.run("One")

            group.start_soon(run)
            await began.wait()
            group.cancel_scope.cancel()
        assert (await session.run("Two")).text == "Second."
        assert [each.text for each in (await lash.load_history("s")).turns] == ["First.", "Second."]


async def test_a_turn_goes_on_with_the_policy_that_it_began_with(tmp_path: Path) -> None:
    """What is said at the opening is for the turns that follow."""
    url, waits = url_in(tmp_path), Waits()
    await waits.interrupted(url)
    async with agent(waits.say, store=url, tools=[waits.tool]) as lash:
        session = await lash.session("s", model="test:another", recover=False)
        (recovered,) = await session.recover()
        assert recovered.turn.text == "Waited."
        assert waits.asked == ["model", "model"]
        told = {each.key: each.source for each in (await lash.explain("t")).settings}
        assert told["model"] == told["max_turns"] == "accepted with the turn"  # it said that they were a default
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


async def test_an_upgrade_check_judges_all_turns_those_that_are_not_begun_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only those that were begun were looked at, among the first thousand items."""
    monkeypatch.setattr("lash_framework.unfinished.PAGE", 2)
    url, waits = url_in(tmp_path), Waits()
    await waits.interrupted(url)
    with_mode = load_settings(env={}, sets=["modes.review.extends=standard"])
    async with agent(waits.say, store=url, tools=[waits.tool], settings=with_mode) as lash:
        journalling = lash.require_journal("this test")
        for number, mode in enumerate(("standard", "review", "standard", "standard")):
            session = await lash.session(f"s{number}", mode=mode, model="test:m" if number < 3 else "scripted:demo")
            request = TurnRequest(turn_id=f"t{number}", turn_input=TurnInput.text("Next."), input_hash="h")
            item = journalling.item(session.id, request, session.policy, session.composition)
            await journalling.store.enqueue(item)
    async with agent(waits.say, store=url, tools=[waits.tool]) as lash:
        before = await journalled(lash)
        found = await lash.upgrade_check()
        assert [(each.session_id, each.turn_id, each.verdict.value) for each in found] == [
            ("s", "t", "safe"),
            ("s0", "t0", "safe"),
            ("s1", "t1", "old_set"),
            ("s2", "t2", "safe"),
            ("s3", "t3", "safe"),
        ]
        assert "review" in found[2].reason
        assert [each.turn_id for each in await lash.upgrade_check("s1")] == ["t1"]
        assert await journalled(lash) == before
        assert len(waits.asked) == 1
    async with agent(waits.say, store=url) as lash:  # the application's tools are gone
        gone = {each.turn_id: each.reason for each in await lash.upgrade_check("s0")}
        assert gone == {"t0": "it was accepted with plugins that aren't here: application"}
    other = load_settings(env={}, sets=['plugins.disabled=["provider-scripted"]'])
    async with agent(waits.say, store=url, tools=[waits.tool], settings=other) as lash:
        (last,) = await lash.upgrade_check("s3")
        assert last.verdict.value == "old_set"
        assert "scripted" in last.reason


async def test_an_upgrade_check_says_which_plugins_have_another_version(tmp_path: Path) -> None:
    """What is asked is the same, so it is safe; a person may still want to know."""

    async def lash_before_turn(ctx: object) -> None:
        raise AssertionError("a check calls no hook")

    old, new = plugin("rules", version="1"), plugin("rules", lash_before_turn, version="2")
    url, waits = url_in(tmp_path), Waits()
    async with agent(waits.say, store=url, tools=[waits.tool], plugins=[old]) as lash:
        session = await lash.session("s")
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: session.run("Wait.", turn_id="t"))
            await waits.begun.wait()
            group.cancel_scope.cancel()
    async with agent(waits.say, store=url, tools=[waits.tool], plugins=[new]) as lash:
        (found,) = await lash.upgrade_check()
        assert found.verdict.value == "safe"
        assert (found.versions, found.lacks) == ((("rules", "1", "2"),), ())
    async with agent(waits.say, store=url, tools=[waits.tool]) as lash:
        (found,) = await lash.upgrade_check()
        assert (found.versions, found.lacks) == ((("rules", "1", "-"),), ("rules",))
    async with agent(waits.say, store=url) as lash:
        with pytest.raises(TurnBlocked) as blocked:
            await (await lash.session("s", recover=False)).recover()
    assert blocked.value.lacks == ("application", "rules"), "a value for who tells what to do, in no text"


async def journalled(lash: Lash) -> object:
    """All that turns have left."""
    store = lash.require_journal("this test").store
    return await store.list_inbox(), await store.load_journal("s", "t"), await store.list_receipts("s")


async def test_what_is_settled_does_not_stay_for_ever(tmp_path: Path) -> None:
    """Once no journals were kept any more, those that had been stayed; what was cancelled in an inbox always did."""
    url, states = url_in(tmp_path), frozenset({InboxState.COMPLETED, InboxState.CANCELLED})
    keeps = load_settings(env={}, sets=["durability.keep_journal_h=1"])
    async with agent(["kept"], store=url, settings=keeps) as lash:
        session = await lash.session("s")
        await session.run("q", turn_id="t")
        journalling = lash.require_journal("this test")
        request = TurnRequest(turn_id="never", turn_input=TurnInput.text("Never."), input_hash="h")
        item = await journalling.store.enqueue(journalling.item("s", request, session.policy, session.composition))
        await journalling.store.cancel_items("s", [item.no], "nobody wants it")
    async with agent([], store=url) as lash:
        store = lash.require_journal("this test").store
        assert len(await store.list_inbox(states=states)) == 2
    database = sqlite3.connect(tmp_path / "lash.db")
    with database:
        database.execute("UPDATE inbox SET settled_at_ms = settled_at_ms - ?", (SETTLED_FOR_H * 3_600_000,))
    database.close()
    async with agent([], store=url) as lash:
        store = lash.require_journal("this test").store
        assert await store.list_inbox(states=states) == []
        assert await store.load_journal("s", "t") == ()
        assert (await (await lash.session("s")).run("q", turn_id="t")).text == "kept"
