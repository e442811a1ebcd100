"""The public kit of the crash matrix: on any agent, on asyncio and on trio; and that it notices what isn't right."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import count
from typing import Any

import pytest
from agents import agent, plugin
from attrs import evolve, frozen
from loops import on_asyncio

from lash_framework import Lash
from lash_framework.settings import load_settings
from lash_framework.testing import Crash, CrashPoint, When, crash_at_every_effect
from lash_hookspecs import CapabilityMissing, Ingress, LlmRequest, SessionStateSpec, ToolCallFailure, tool
from lash_plugin_provider_scripted import Call, Reply

pytestmark = pytest.mark.costly


def effects(point: CrashPoint) -> bool:
    """Few places, for what has the same answer at all of them."""
    return point.kind == "effect"


def opens(say: Callable[[LlmRequest], Reply | str], *, tools: Any = (), plugins: Any = (), **durability: Any) -> Any:
    """Opens hosts with these, and with no more plugins than they need."""
    settings = load_settings(env={})
    settings = evolve(
        settings,
        durability=evolve(settings.durability, **durability),
        plugins=evolve(settings.plugins, only=("mode-standard", "store-sql")),
        store_options={"synchronous": "normal"},
    )

    @asynccontextmanager
    async def open_host(url: str) -> AsyncIterator[Lash]:
        async with agent(say, store=url, tools=tools, plugins=plugins, settings=settings) as lash:
            yield lash

    return open_host


def by_round(*replies: Reply | str) -> Callable[[LlmRequest], Reply | str]:
    """Says what is next in the conversation, whoever asks."""
    return lambda request: replies[sum(message.role == "assistant" for message in request.messages)]


@tool(effect="pure")
async def look() -> str:
    "Look."
    return "seen"


@tool(effect="unsafe")
async def charge() -> str:
    "Charge."
    return "charged"


TWO_CALLS = by_round(Reply(text="Now.", tool_calls=[Call("look", {}, "l"), Call("charge", {}, "c")]), "All done.")


async def test_an_agent_survives_a_crash_anywhere_in_one_line() -> None:
    report = await crash_at_every_effect(opens(TWO_CALLS, tools=[look, charge]), "Go.")
    assert report.golden.turn.text == "All done."
    assert len(report.crashes) == len(report.trace) > 60
    assert {each.point.kind for each in report.crashes} == {"store", "sql", "effect", "reply"}
    uncertain = [each for each in report.crashes if each.unknown]
    assert {each.unknown for each in uncertain} == {("tool_call `charge` (c)",)}
    lines = str(report).splitlines()
    assert lines[0] == "before store load_session: as if nothing had happened"
    twice = "turn_start ran 2 times, llm_call 2 of iteration 0 ran 2 times"
    assert f"after effect llm_call 2 of iteration 0: {twice}" in lines


@on_asyncio
async def test_the_calls_of_a_batch_survive_one_by_one() -> None:
    """The mode's tool `batch` has a row of its own, and one for each call that it makes."""
    calls = '{"calls": [{"tool": "look", "parameters": {}}, {"tool": "charge", "parameters": {}}]}'
    say = by_round(Reply(tool_calls=[Call("batch", calls, "b")]), "Both are done.")
    blur = partial(re.sub, r'"duration_ms": ?\d+', "")  # the batch says how long each took
    report = await crash_at_every_effect(opens(say, tools=[look, charge]), "Go.", points=effects, blur=blur)
    assert report.golden.turn.text == "Both are done."
    assert {each.unknown for each in report.crashes} == {(), ("tool_call `charge` (b:01)",)}


@on_asyncio
async def test_what_differs_from_run_to_run_is_blurred() -> None:
    """A tool that counts, as one that asks the clock does, gives another result when it is run again."""
    numbers = count(1)

    @tool(effect="pure")
    async def number() -> str:
        "A number."
        return f"number {next(numbers)}"

    host = opens(by_round(Reply(tool_calls=[Call("number", {}, "n")]), "Counted."), tools=[number])
    with pytest.raises(AssertionError, match="the tool calls: expected"):
        await crash_at_every_effect(host, "Go.", points=effects)
    await crash_at_every_effect(host, "Go.", points=effects, blur=partial(re.sub, r"number \d+", "a number"))


@on_asyncio
async def test_a_call_that_waits_for_a_person_is_resolved_as_failed() -> None:
    @tool(name="charge", effect="unsafe", on_unknown="wait")
    async def asks() -> str:
        "Charge."
        return "charged"

    seen: list[Crash] = []
    await crash_at_every_effect(opens(TWO_CALLS, tools=[look, asks]), "Go.", points=effects, checks=[seen.append])
    waited = [each for each in seen if each.unknown]
    assert waited
    for crash in waited:
        (outcome,) = (each.output.outcome for each in crash.turn.tool_calls if each.tool_name == "charge")
        assert isinstance(outcome, ToolCallFailure)
        assert outcome.code == "resolved_as_failed"


@on_asyncio
async def test_a_turn_that_leaves_another_one_behind_survives_with_it() -> None:
    """What it enqueued as a turn of its own runs after it, once, whoever ran it."""
    opened: list[Lash] = []

    @tool(effect="idempotent")
    async def remind() -> str:
        "Say something later."
        session = await opened[-1].session("crash")
        await session.enqueue("The rest, please.", ingress=Ingress.NEXT_TURN, source_key="rest")
        return "later"

    say = by_round(Reply(text="Wait.", tool_calls=[Call("remind", {}, "r")]), "For now, done.", "And the rest.")

    @asynccontextmanager
    async def open_host(url: str) -> AsyncIterator[Lash]:
        async with opens(say, tools=[remind])(url) as lash:
            opened.append(lash)
            yield lash

    seen: list[Crash] = []
    await crash_at_every_effect(
        open_host, "Go.", points=lambda point: point.kind in ("effect", "store"), checks=[seen.append]
    )
    for crash in seen:
        assert [each.text for each in crash.ending.messages][-2:] == ["The rest, please.", "And the rest."]


@on_asyncio
async def test_journals_that_are_kept_change_nothing() -> None:
    await crash_at_every_effect(
        opens(TWO_CALLS, tools=[look, charge], keep_journal_h=1.0),
        "Go.",
        points=lambda point: "commit" in point.name,
    )


# ---- what it notices ------------------------------------------------------------------------------------------------


async def test_an_answer_that_does_not_follow_from_the_request_is_noticed() -> None:
    """A model that counts its calls, as a list of replies does, says something else to a survivor."""
    calls = count(1)
    with pytest.raises(AssertionError, match=r"^killed after .*: the answer: expected 'Call 1\.', got 'Call 3\.'$"):
        await crash_at_every_effect(opens(lambda request: f"Call {next(calls)}."), "Go.", points=_a_reply)


def _a_reply(point: CrashPoint) -> bool:
    return point.name == "reply 1" and point.when is When.AFTER and point.nth == 1


async def test_a_hook_that_remembers_in_its_process_is_noticed() -> None:
    """It counts in a global variable, which a survivor doesn't have as it was."""

    @frozen
    class Lives:
        number: int = 0

    def lash_session_state() -> SessionStateSpec:
        return SessionStateSpec(state=Lives)

    lives = count(1)

    async def lash_before_turn(ctx: Any) -> None:
        ctx.set_state(Lives(next(lives)))

    counting = plugin("counts", lash_session_state, lash_before_turn)
    with pytest.raises(AssertionError, match="what plugins remember: expected"):
        await crash_at_every_effect(opens(TWO_CALLS, tools=[look, charge], plugins=[counting]), "Go.", points=effects)


async def test_an_unsafe_tool_that_is_run_twice_is_noticed() -> None:
    """A host that forgets its intents: what the kit is there to find."""

    @asynccontextmanager
    async def open_host(url: str) -> AsyncIterator[Lash]:
        async with opens(TWO_CALLS, tools=[look, charge])(url) as lash:
            append = lash.store.append_journal

            async def append_journal(lease: Any, no: int, rows: Any, **options: Any) -> None:
                await append(lease, no, [row for row in rows if row.status != "intent"], **options)

            lash.store.append_journal = append_journal
            yield lash

    twice = r"executions of tool_call `charge` \(c\), which is unsafe: expected 1, got 2"
    with pytest.raises(AssertionError, match=twice):
        await crash_at_every_effect(open_host, "Go.", points=effects)


async def test_a_turn_that_nobody_can_go_on_with_is_noticed() -> None:
    """The next process has another idea of what the tool is, so that what is recorded isn't what it would do."""
    kinds = count()

    @asynccontextmanager
    async def open_host(url: str) -> AsyncIterator[Lash]:
        changing = tool(name="charge", effect="idempotent" if next(kinds) % 2 else "unsafe")(_charge)
        async with opens(TWO_CALLS, tools=[look, changing])(url) as lash:
            yield lash

    with pytest.raises(AssertionError, match=r"^killed .*: a new host couldn't end the turn: .* can't go on: .*charge"):
        await crash_at_every_effect(open_host, "Go.", points=effects)


async def _charge() -> str:
    "Charge."
    return "charged"


async def test_choosing_no_place_at_all_proves_nothing() -> None:
    with pytest.raises(AssertionError, match=r"`points` chose none of the \d+ places that turn `crash` passes"):
        await crash_at_every_effect(opens(TWO_CALLS, tools=[look, charge]), "Go.", points=lambda point: False)


async def test_a_host_whose_turns_die_with_it_is_refused() -> None:
    with pytest.raises(CapabilityMissing, match="a crash that is survived needs a journal"):
        await crash_at_every_effect(opens(TWO_CALLS, tools=[look, charge], effects="inline"), "Go.")
    with pytest.raises(CapabilityMissing, match="doesn't outlive its host"):
        await crash_at_every_effect(opens(TWO_CALLS, tools=[look, charge]), "Go.", database=lambda folder: "sqlite://")


async def test_the_checks_of_the_author_are_called_with_each_crash() -> None:
    def never_twice(crash: Crash) -> None:
        assert all(times == 1 for times in crash.runs.values()), f"{crash.point}: {crash.runs}"

    with pytest.raises(AssertionError, match="after effect turn_start"):
        await crash_at_every_effect(opens(lambda request: "Yes."), "Go.", points=effects, checks=[never_twice])
