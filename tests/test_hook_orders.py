"""What plugins remember of calls within calls, when a turn goes on: the last that was recorded, and nothing older.

Hooks around calls within calls are numbered, and those around a model's own calls are not, since they come in a row.
Plugins keep what they saw: one of everything, one of calls within calls only, one of the model's own only, and one of
those that are two deep.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from agents import agent, inline_agent, plugin
from attrs import frozen
from journal_kit import JournalHost, Killed, MemoryJournal
from test_crash_kit import by_round

from lash_framework import Lash
from lash_framework.settings import load_settings
from lash_hookspecs import (
    ALLOW,
    DENY,
    AskPerson,
    JournalStatus,
    SessionStateSpec,
    ToolCallContext,
    TurnSuspended,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply


@frozen
class Seen:
    """What a plugin saw, in order."""

    calls: tuple[str, ...] = ()


def keeper(plugin_id: str, minds: Callable[[str], bool], asks_about: str = "") -> object:
    """A plugin that keeps in its state which of its hooks were called, for the calls that it minds."""

    def note(ctx: Any, what: str) -> None:
        if minds(ctx.call_id):
            ctx.set_state(Seen((*ctx.state.calls, f"{what} {ctx.call_id}")))

    def lash_session_state() -> SessionStateSpec:
        return SessionStateSpec(state=Seen)

    def lash_before_tool_call(ctx: Any) -> Any:
        note(ctx, "before")
        return AskPerson("May it?", (ALLOW, DENY)) if ctx.call_id == asks_about else None

    def lash_person_answered(ctx: Any) -> None:
        note(ctx, "answered")

    def lash_after_tool_call(ctx: Any) -> None:
        note(ctx, "after")

    def lash_tool_result_view(ctx: Any) -> None:
        note(ctx, "view")

    hooks = (lash_session_state, lash_before_tool_call, lash_person_answered, lash_after_tool_call)
    return plugin(plugin_id, *hooks, lash_tool_result_view)


def keepers(asks_about: str = "") -> list[object]:
    """All of them."""
    return [
        keeper("all", lambda call_id: True, asks_about),
        keeper("inner", lambda call_id: ":" in call_id),
        keeper("own", lambda call_id: ":" not in call_id),
        keeper("deep", lambda call_id: call_id.count(":") > 1),
    ]


@tool(effect="idempotent")
async def act() -> str:
    "Act."
    return "did"


@tool(effect="idempotent")
async def several(ctx: ToolCallContext, times: int = 2) -> str:
    "Act several times."
    for at in range(times):
        await ctx.call_tool(at, "act", {})
    return "did all"


@tool(effect="unsafe")
async def boldly(ctx: ToolCallContext) -> str:
    "Act twice, through a tool that isn't called again."
    for at in range(2):
        await ctx.call_tool(at, "act", {})
    return "did all"


@tool(effect="idempotent")
async def through(ctx: ToolCallContext) -> str:
    "Act boldly, through a tool that is called again."
    await ctx.call_tool(0, "boldly", {})
    return "went through"


TOOLS = [act, several, boldly, through]


def one(name: str, call_id: str, **args: Any) -> Reply:
    return Reply(tool_calls=[Call(name, args, call_id)])


ROUNDS = {
    "one_call_a_round": [one("several", "a"), one("act", "b"), one("several", "c"), "Done."],
    "several_at_once": [
        Reply(tool_calls=[Call("several", {}, "a"), Call("act", {}, "b"), Call("several", {"times": 1}, "c")]),
        Reply(tool_calls=[Call("act", {}, "d"), Call("several", {}, "e")]),
        "Done.",
    ],
}


async def states_of(lash: Lash) -> dict[str, tuple[str, ...]]:
    """What each plugin remembers, as it is committed."""
    loaded = await lash.store.load_session("s")
    assert loaded is not None
    bodies = {key.removeprefix("plugin/"): each.body for key, each in loaded.components.items()}
    return {name: tuple(orjson.loads(body)["state"]["calls"]) for name, body in bodies.items() if name in PLUGINS}


PLUGINS = ("all", "inner", "own", "deep")


async def ran(host: JournalHost, says: list[Any]) -> dict[str, tuple[str, ...]]:
    """The states after a turn on this host, and again after a replay of what it has recorded: they are the same."""
    async with inline_agent(by_round(*says), tools=TOOLS, plugins=keepers()) as lash:
        lash.effects = host
        await (await lash.session("s")).run("Go.", turn_id="t")
        states = await states_of(lash)
    async with inline_agent(by_round(*says), tools=TOOLS, plugins=keepers()) as lash:
        lash.effects = replay = JournalHost(host.committed(), attempt=2)
        await (await lash.session("s")).run("Go.", turn_id="t")
        assert replay.controller is not None
        assert replay.controller.ran == []
        assert await states_of(lash) == states
    return states


@pytest.mark.costly
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("says", ROUNDS.values(), ids=ROUNDS)
async def test_from_any_rows_a_turn_of_several_rounds_ends_with_the_states_of_the_unbroken_one(says: list[Any]) -> None:
    """No state of a later round is taken early, where it would hide what is changed in between."""
    whole = JournalHost()
    unbroken = await ran(whole, says)
    rows = whole.committed().rows
    for length in range(len(rows) + 1):
        states = await ran(JournalHost(MemoryJournal(rows[:length]), attempt=2), says)
        if says is ROUNDS["one_call_a_round"]:
            assert states == unbroken, length
        assert {name: sorted(each) for name, each in states.items()} == {
            name: sorted(each) for name, each in unbroken.items()
        }, length


def heard(seam: str, call_id: str) -> list[str]:
    """What a plugin keeps of the hooks of one record."""
    return [f"{each} {call_id}" for each in (("before",) if seam == "before" else ("after", "view"))]


def around(call_id: str, *inner: str) -> list[str]:
    """What a plugin keeps of a call, and of the calls within it."""
    return [*heard("before", call_id), *inner, *heard("after", call_id)]


WITHIN = [each for at in range(2) for each in around(f"z:0{at}")]
LATER: dict[str, tuple[list[Reply], list[str]]] = {
    "nothing_later": ([], []),
    "a_call_later": ([one("act", "z")], around("z")),
    "calls_within_one_later": ([one("several", "z")], around("z", *WITHIN)),
}


@pytest.mark.parametrize(("later", "then"), LATER.values(), ids=LATER)
@pytest.mark.parametrize("outer", ["boldly", "through"])
async def test_what_hooks_did_within_a_call_that_a_crash_left_unknown_is_remembered_in_its_place(
    outer: str, later: list[Reply], then: list[str]
) -> None:
    """It was forgotten, or taken over in a later round, in the place of what hooks had done since."""
    says = [one(outer, "a"), *later, "Done."]
    lost = "a" if outer == "boldly" else "a:00"
    whole = JournalHost()
    await ran(whole, says)
    label = f"tool_call `boldly` ({lost})"
    # Its intent was written before the calls within it; this write would have had its outcome.
    dies_at = next(at for at, rows in enumerate(whole.journal.writes) if f"{label}: done" in rows)
    host = JournalHost(MemoryJournal(dies_at=dies_at))
    with pytest.raises(Killed):
        await ran(host, says)
    left = host.again()
    labels = [row.label for row in left.journal.rows if row.status is JournalStatus.DONE]
    within = [
        each
        for at in range(2)
        for seam in ("before", "after")
        if f"tool_hooks {seam} `act` ({lost}:0{at})" in labels
        for each in heard(seam, f"{lost}:0{at}")
    ]
    assert len(within) >= 4
    own = [*heard("before", lost), *within, f"view {lost}"]  # of what nobody knows there is no result to look at
    expected = [*(own if lost == "a" else around("a", *own)), *then]
    states = await ran(left, says)
    assert states["all"] == tuple(expected)
    assert states["inner"] == tuple(each for each in expected if ":" in each)
    assert states["own"] == tuple(each for each in expected if ":" not in each)
    assert states.get("deep", ()) == tuple(each for each in expected if each.count(":") > 1)


async def test_what_a_person_answered_is_remembered_besides_what_calls_at_once_did() -> None:
    """They ran while it was waited for; the hook that heard of the answer knew nothing of it, and was overwritten."""
    says = [Reply(tool_calls=[Call("act", {}, "x"), Call("several", {}, "y")]), one("several", "z"), "Done."]
    sets = ["durability.keep_journal_h=1"]
    options: Any = {"tools": TOOLS, "plugins": keepers("x"), "settings": load_settings(env={}, sets=sets)}
    async with agent(by_round(*says), **options) as lash:
        session = await lash.session("s", recover=False)
        with pytest.raises(TurnSuspended):
            await session.run("Go.", turn_id="t")
        for call in await lash.pending():
            await lash.answer(call.key, "allow")
        await session.run("Go.", turn_id="t")
        states = await states_of(lash)
        assert (await lash.replay("t")).differences == ()
    y = [each for at in range(2) for each in around(f"y:0{at}")]
    expected = ["before x", "before y", *y, "answered x", *heard("after", "x"), *heard("after", "y")]
    expected += around("z", *WITHIN)
    assert states["all"] == tuple(expected)
    assert states["inner"] == tuple(each for each in expected if ":" in each)
    own = (each for each in expected if ":" not in each and each != "answered x")  # only who asks is told the answer
    assert states["own"] == tuple(own)
