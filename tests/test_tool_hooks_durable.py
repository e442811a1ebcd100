"""Hooks around tool calls and the journal: what they decided is recorded, replay calls none, a crash loses nothing.

The agent has a plugin that denies, changes, answers, counts and speaks at every seam. What it counts is in its
state, so that a hook whose decision is lost, or counted twice, shows in what is committed.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
from agents import agent, cancelled_when, inline_agent, plugin
from attrs import define, evolve, field, frozen
from journal_kit import JournalHost, Killed, MemoryJournal
from loops import on_asyncio
from test_crash_kit import by_round, opens

from lash_framework import Lash
from lash_framework.recorded_only import RecordedOnly
from lash_framework.settings import load_settings
from lash_framework.testing import Crash, When, crash_at_every_effect
from lash_framework.upgrade_check import Verdict
from lash_hookspecs import (
    DenyToolCall,
    EmitEvents,
    EnqueueMessages,
    JournalStatus,
    ModelToolReturn,
    OperationId,
    PluginSurface,
    ReplaceToolArgs,
    ReplaceToolResult,
    RetrySafe,
    SessionStateSpec,
    ShortCircuitTool,
    Stopped,
    StopReason,
    SurfaceEvent,
    TextPart,
    ToolCallCompleted,
    ToolCallContext,
    ToolCallDone,
    ToolCallEffectOutcome,
    ToolCallOutput,
    ToolCallSuccess,
    ToolError,
    ToolRetrySafe,
    TurnBlocked,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply


@frozen
class Tally:
    """What the plugin `meter` remembers: each call of a hook, in order."""

    seen: tuple[str, ...] = ()


@define
class World:
    """An agent, and how often each of its hooks and tools was called."""

    calls: Counter[str] = field(factory=Counter)

    def meter(self) -> object:
        """A plugin at every seam."""
        world = self

        def note(ctx: Any, what: str) -> None:
            world.calls[what] += 1
            ctx.set_state(Tally((*ctx.state.seen, what)))

        def lash_session_state() -> SessionStateSpec:
            return SessionStateSpec(state=Tally)

        async def lash_before_tool_call(ctx: Any, call: Any) -> Any:
            note(ctx, f"before {call.call_id}")
            match call.args.get("do"):
                case "deny":
                    return DenyToolCall("not this")
                case "answer":
                    return ShortCircuitTool("mine")
                case "change":
                    return [ReplaceToolArgs({"do": "changed"}), EmitEvents((SurfaceEvent(name="changed"),))]
            return None

        async def lash_after_tool_call(ctx: Any, call: Any, result: Any) -> Any:
            note(ctx, f"after {call.call_id}")
            said = EnqueueMessages.note(f"After {call.call_id}.")
            return [said, ReplaceToolResult("redacted")] if call.args.get("do") == "redact" else said

        async def lash_tool_result_view(ctx: Any, call: Any, view: ModelToolReturn) -> ModelToolReturn:
            note(ctx, f"view {call.call_id}")
            (part,) = view.parts
            assert isinstance(part, TextPart)
            return evolve(view, parts=(TextPart(f"<{part.text}>"),))

        hooks = [lash_session_state, lash_before_tool_call, lash_after_tool_call, lash_tool_result_view]
        return plugin("meter", *hooks)

    def tools(self, effect: str = "idempotent") -> list[Any]:
        @tool(effect=effect)
        async def act(do: str = "") -> str:
            "Act."
            self.calls[f"act {do}"] += 1
            return f"did {do}"

        @tool(effect="pure")
        async def several(ctx: ToolCallContext, do: list[str]) -> int:
            "Act several times."
            assert ctx.call_tool is not None
            for at, each in enumerate(do):
                await ctx.call_tool(at, "act", {"do": each})
            return len(do)

        return [act, several]


ROUND = Reply(
    text="Now.",
    tool_calls=[
        Call("act", {"do": "change"}, "a"),
        Call("act", {"do": "deny"}, "b"),
        Call("several", {"do": ["x", "deny", "redact"]}, "c"),
        Call("several", {"do": ["y", "change"]}, "d"),
        Call("act", {"do": "redact"}, "e"),
        Call("act", {"do": "answer"}, "f"),
    ],
)
SAYS = by_round(ROUND, Reply(text="Once more.", tool_calls=[Call("act", {"do": "z"}, "g")]), "All done.")
CALLS = ["a", "b", "c", "c:00", "c:01", "c:02", "d", "d:00", "d:01", "e", "f", "g"]
LAUNCHED = [each for each in CALLS if each not in ("b", "c:01", "f")]
EXPECTED = Counter(
    [
        *(f"before {each}" for each in CALLS),
        *(f"after {each}" for each in LAUNCHED),
        *(f"view {each}" for each in CALLS),
        *(f"act {each}" for each in ("changed", "x", "redact", "y", "changed", "redact", "z")),
    ]
)


async def turn_of(lash: Lash, host: Any) -> Any:
    """The turn, with everything that was committed of it."""
    lash.effects = host
    session = await lash.session("s")
    turn = await session.run("Go.", turn_id="t")
    loaded = await lash.store.load_session("s")
    receipt = await lash.store.load_receipt("s", OperationId("turn", "t"))
    assert loaded is not None
    assert receipt is not None
    return turn, (loaded.head, list(loaded.nodes), dict(loaded.components), loaded.usage, receipt.result)


def opened(world: World) -> Any:
    return inline_agent(SAYS, tools=world.tools(), plugins=[world.meter()])


async def test_every_hook_is_called_once_for_its_call() -> None:
    world = World()
    async with opened(world) as lash:
        turn, _ = await turn_of(lash, JournalHost())
    assert turn.text == "All done."
    assert world.calls == EXPECTED
    assert [each.call_id for each in turn.tool_calls] == CALLS


async def test_replay_equals_live_to_the_byte_and_calls_no_hook_around_a_call() -> None:
    """Law 1: the decisions, the states and the messages come from the records, and so do those of calls within."""
    live, again, host = World(), World(), JournalHost()
    async with opened(live) as lash:
        _, committed = await turn_of(lash, host)
    replay = JournalHost(host.committed())
    async with opened(again) as lash:
        _, recommitted = await turn_of(lash, replay)
    assert again.calls == {}
    assert recommitted == committed
    assert replay.controller is not None
    assert replay.controller.ran == []
    assert replay.controller.recorded.left == ()


@on_asyncio
@pytest.mark.costly
async def test_from_any_rows_that_a_process_left_each_hook_is_remembered_once() -> None:
    """What is recorded isn't called again, and what hooks change is there once: whatever runs again, in any order."""
    whole = JournalHost()
    async with opened(World()) as lash:
        _, (_, nodes, *_) = await turn_of(lash, whole)
    rows = whole.committed().rows
    for length in range(len(rows) + 1):
        world, host = World(), JournalHost(MemoryJournal(rows[:length]), attempt=2)
        async with opened(world) as lash:
            turn, (_, resumed, components, *_) = await turn_of(lash, host)
        assert turn.text == "All done."
        assert host.controller is not None
        assert not {row.label for row in rows[:length]} & set(host.controller.ran)
        assert [each.node_id for each in resumed] == [each.node_id for each in nodes]
        hooks = Counter({each: count for each, count in EXPECTED.items() if not each.startswith("act")})
        seen = orjson.loads(components["plugin/meter"].body)["state"]["seen"]
        assert Counter(seen) == hooks, length


@pytest.mark.costly
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("after", [False, True], ids=["before_the_write", "answer_lost"])
async def test_killed_between_an_outcome_and_what_hooks_make_of_it_only_the_hooks_run_again(after: bool) -> None:
    """The outcome is recorded raw. The hooks' record is a child of it, and may be missing."""
    for at in count():
        world, host = World(), JournalHost(MemoryJournal(dies_at=at, after=after))
        async with opened(world) as lash:
            try:
                await turn_of(lash, host)
            except Killed:
                pass
            else:  # how many writes there are depends on what ends together
                assert at > 3
                break
        done = {row.label for row in host.journal.rows if row.status == "done"}
        before, left = Counter(world.calls), host.again()
        async with opened(world) as lash:
            turn, _ = await turn_of(lash, left)
        assert turn.text == "All done."
        again = world.calls - before
        for name in ("a", "e"):
            if f"tool_call `act` ({name})" in done and f"tool_hooks after `act` ({name})" not in done:
                assert again[f"after {name}"] == again[f"view {name}"] == 1
        assert left.controller is not None
        assert not done & set(left.controller.ran)


async def test_decisions_are_durable_before_the_tool_that_they_are_about() -> None:
    """With its final arguments: those of a batch are one write, and the intents of unsafe tools are in it."""
    world, host = World(), JournalHost()
    async with inline_agent(SAYS, tools=world.tools("unsafe"), plugins=[world.meter()]) as lash:
        await turn_of(lash, host)
    first, second = host.journal.writes[:2]
    assert [each.partition(" ")[0] for each in first] == ["turn_start:", "llm_call"]  # a reply hangs on no hook
    assert second == [
        *(f"tool_hooks before `{name}` ({id}): done" for name, id in zip(ACTS, "abcdef", strict=True)),
        "tool_call `act` (a): intent",
        "tool_call `act` (e): intent",
    ]
    (intent,) = [row for row in host.journal.rows if row.label == "tool_call `act` (a)"]
    assert b'"changed"' in intent.body


ACTS = ["act", "act", "several", "several", "act", "act"]


ONE = by_round(Reply(tool_calls=[Call("act", {}, "a")]), "All done.")


async def killed(write: int, effect: str, **options: Any) -> JournalHost:
    """What a process left of a turn of one call that was killed when it had written so often."""
    host = JournalHost(MemoryJournal(dies_at=write - 1, after=True))
    async with inline_agent(ONE, tools=World().tools(effect), **options) as lash:
        with pytest.raises(Killed):
            await turn_of(lash, host)
    return host.again()


async def test_a_call_that_a_crash_left_unknown_stays_so_whatever_hooks_say_of_results() -> None:
    """Nobody knows what came of it, so there is nothing to look at; the model must read that."""

    async def lash_after_tool_call(ctx: Any, call: Any, result: Any) -> Any:
        raise AssertionError("there is no result")

    hooks: dict[str, Any] = {"plugins": [plugin("z", lash_after_tool_call)]}
    left = await killed(1, "unsafe", **hooks)
    assert left.journal.rows[-1].status is JournalStatus.INTENT
    async with inline_agent(ONE, tools=World().tools("unsafe"), **hooks) as lash:
        turn, _ = await turn_of(lash, left)
    assert turn.tool_calls[0].output.outcome.code == "unknown_after_crash"
    assert turn.tool_calls[0].interventions == ()


@pytest.mark.parametrize("effect", ["unsafe", "idempotent"])
async def test_a_guard_that_comes_when_a_call_is_begun_comes_too_late_for_it(effect: str) -> None:
    """It would have the model told that the call was never made, which it was."""

    async def lash_before_tool_call(ctx: Any, call: Any) -> Any:
        return DenyToolCall("never")

    left = await killed(2, effect)
    assert left.journal.rows[-1].label == "tool_call `act` (a)"
    world = World()
    async with inline_agent(ONE, tools=world.tools(effect), plugins=[plugin("late", lash_before_tool_call)]) as lash:
        turn, _ = await turn_of(lash, left)
    assert turn.tool_calls[0].output.is_success
    assert world.calls == {}


async def test_a_plugin_that_comes_when_the_model_has_read_a_result_comes_too_late_for_it() -> None:
    """The next request was recorded with what the model was shown, and would be another one."""
    seen = []

    async def lash_after_tool_call(ctx: Any, call: Any, result: Any) -> Any:
        seen.append(call.call_id)
        return DenyToolCall("never")

    left = await killed(3, "pure")
    assert left.journal.rows[-1].label == "llm_call 6 of iteration 1"
    async with inline_agent(ONE, tools=World().tools("pure"), plugins=[plugin("late", lash_after_tool_call)]) as lash:
        turn, _ = await turn_of(lash, left)
    assert turn.text == "All done."
    assert (turn.tool_calls[0].output.is_success, seen) == (True, [])


async def test_a_call_within_a_call_that_no_hook_has_seen_is_shown_to_nobody() -> None:
    """The turn is ended between its result and the hooks after it; who redacts results isn't passed by."""
    host = JournalHost()
    async with opened(World()) as lash:
        await turn_of(lash, host)
    labels = [row.label for row in host.committed().rows]
    rows = host.committed().rows[: labels.index("tool_hooks after `act` (c:00)")]
    rows = [row for row in rows if row.label != "tool_call `several` (c)"]
    shown = {
        looks: RecordedOnly(rows, ending=True, looks=looks)._within_call("c")[0].output.is_success
        for looks in (False, True)
    }
    assert shown == {False: True, True: False}
    seen = host.committed().rows[: labels.index("tool_hooks after `act` (c:00)") + 1]
    assert RecordedOnly(seen, ending=True, looks=True)._within_call("c")[0].output.is_success


async def test_a_retried_call_within_a_call_leaves_no_row_that_nobody_asks_for() -> None:
    """Its attempts, and the pauses between them: the call around it holds what came of them."""
    tries = count(1)

    @tool(effect="pure", retry=RetrySafe(max_attempts=3, base_delay_ms=0))
    async def flaky() -> str:
        "Fail twice."
        if next(tries) % 3:
            raise ToolError("not yet", retry=ToolRetrySafe())
        return "at last"

    @tool(effect="pure")
    async def outer(ctx: ToolCallContext) -> str:
        "Call another."
        assert ctx.call_tool is not None
        await ctx.call_tool(0, "flaky", {})
        return "done"

    says = by_round(Reply(tool_calls=[Call("outer", {}, "a")]), "All done.")
    host = JournalHost()
    async with inline_agent(says, tools=[flaky, outer]) as lash:
        await turn_of(lash, host)
    assert any(row.kind == "sleep" for row in host.committed().rows)
    replay = JournalHost(host.committed())
    async with inline_agent(says, tools=[flaky, outer]) as lash:
        await turn_of(lash, replay)
    assert replay.controller is not None
    assert replay.controller.ran == []
    assert replay.controller.recorded.left == ()


async def test_hooks_that_said_nothing_are_known_by_their_keys_and_asked_once() -> None:
    """One row between two writes tells of all of them; whoever goes on asks for what is not told."""
    called = Counter[str]()

    def quiet(name: str) -> Any:
        async def hook(ctx: Any) -> None:
            called[name] += 1

        hook.__name__ = name
        return hook

    names = ("lash_before_tool_call", "lash_after_tool_call", "lash_tool_result_view", "lash_assistant_response")
    says = by_round(Reply(tool_calls=[Call("act", {"do": each}, each) for each in "abc"]), "All done.")
    options: dict[str, Any] = {"tools": World().tools("unsafe"), "plugins": [plugin("quiet", *map(quiet, names))]}
    host = JournalHost()
    async with inline_agent(says, **options) as lash:
        _, committed = await turn_of(lash, host)
    rows = host.committed().rows
    assert called == {names[0]: 3, names[1]: 3, names[2]: 3, names[3]: 2}
    assert not [row.label for row in rows if row.kind in ("tool_hooks", "assistant_response")]
    silences = [row for row in rows if row.kind == "silence"]
    # The last two tell of two checkpoints, too, and of a prompt that is what it was.
    assert [len(orjson.loads(row.body)) for row in silences] == [4, 3 + 2, 1 + 1]
    hooks_in = dict(zip((row.key for row in silences), (4, 3, 1), strict=True))
    # The decisions that three unsafe calls were started on are in the write of their intents.
    assert "what came to nothing, 4 times: done" in host.journal.writes[1]
    for length in range(len(rows) + 1):
        called.clear()
        left = JournalHost(MemoryJournal(rows[:length]), attempt=2)
        async with inline_agent(says, **options) as lash:
            await turn_of(lash, left)
        told = sum(hooks_in.get(row.key, 0) for row in rows[:length])
        asked = called["lash_before_tool_call"] + called["lash_tool_result_view"] + called["lash_assistant_response"]
        assert asked <= 8 - told, length
    replay = JournalHost(host.committed())
    called.clear()
    async with inline_agent(says, **options) as lash:
        _, again = await turn_of(lash, replay)
    assert called == {}
    assert again == committed


async def test_a_row_of_silence_that_can_not_be_read_is_told_and_no_hook_is_asked_again(tmp_path: Path) -> None:
    """They were, and then their row was there already: a store that was said to be corrupt, without a way out."""
    url, called, begun = f"sqlite:///{tmp_path / 'a.db'}", list[str](), anyio.Event()

    def lash_before_tool_call(call: Any) -> None:
        called.append(call.call_id)

    @tool(effect="idempotent")
    async def act() -> str:
        "Act."
        begun.set()
        await anyio.sleep_forever()
        return ""

    options: dict[str, Any] = {"store": url, "tools": [act], "plugins": [plugin("quiet", lash_before_tool_call)]}
    async with agent([Reply(tool_calls=[Call("act", {}, "a")])], **options) as lash, anyio.create_task_group() as group:
        session = await lash.session("s")
        group.start_soon(lambda: session.run("Go.", turn_id="t"))
        await begun.wait()
        group.cancel_scope.cancel()
    database = sqlite3.connect(tmp_path / "a.db")
    with database:
        assert database.execute("UPDATE journal SET body = x'ff' WHERE kind = 'silence'").rowcount == 1
    database.close()
    async with agent([], **options) as lash:
        session = await lash.session("s", recover=False)
        for _ in range(2):
            with pytest.raises(TurnBlocked, match="runtime_effect_corrupt: the record of what came to nothing"):
                await session.recover()
        (check,) = await lash.upgrade_check()
        assert (check.verdict, "runtime_effect_corrupt" in check.reason) == (Verdict.MISMATCH, True)
        ended = await session.abandon("t")
        assert ended.turn.outcome == Stopped(StopReason.ABANDONED)
    assert called == ["a"]


# ---- where nobody asks ----------------------------------------------------------------------------------------------


async def test_without_such_hooks_there_is_no_record_and_no_effect_more() -> None:
    """The price is paid by who implements them: three rows a call with all, two with one seam, one with none."""
    rows = {}
    for name in ("none", "lash_before_tool_call", "lash_after_tool_call", "lash_tool_result_view"):
        host = JournalHost()

        def hook(ctx: Any) -> None:
            return None

        hook.__name__ = name
        plugins = [] if name == "none" else [plugin("one", hook)]
        says = by_round(Reply(tool_calls=[Call("act", {}, "a")]), "All done.")
        async with inline_agent(says, tools=World().tools(), plugins=plugins) as lash:
            await turn_of(lash, host)
        assert host.controller is not None
        rows[name] = (
            host.controller.ran,
            len(host.journal.writes),
            sum(len(each.body) for each in host.committed().rows),
        )
    none = rows.pop("none")
    before = rows["lash_before_tool_call"]
    assert none[0] == [each for each in before[0] if not each.startswith("tool_hooks")]
    assert {name: len(each[0]) - len(none[0]) for name, each in rows.items()} == dict.fromkeys(rows, 1)
    # A reply must not hang on a hook before a tool, which is a write; the record itself goes along with others.
    assert {name: each[1] - none[1] for name, each in rows.items()} == {
        "lash_before_tool_call": 1,
        "lash_after_tool_call": 0,
        "lash_tool_result_view": 0,
    }
    assert all(each[2] - none[2] < 60 for each in rows.values())


# ---- killed anywhere, and ended from outside ------------------------------------------------------------------------


@pytest.mark.costly
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_killed_anywhere_each_decision_counts_once() -> None:
    """Law 2: at each place; the kit holds what plugins remember, calls and messages against the golden turn."""
    world = World()
    says = by_round(
        Reply(
            text="Now.", tool_calls=[Call("several", {"do": ["x", "redact"]}, "c"), Call("act", {"do": "deny"}, "b")]
        ),
        "All done.",
    )
    report = await crash_at_every_effect(
        opens(says, tools=world.tools(), plugins=[world.meter()]),
        "Go.",
        points=lambda point: point.kind == "effect",
        checks=[only_hooks_again],
    )
    names = {each.point.name for each in report.crashes}
    assert {f"effect tool_hooks {seam} `act` (c:01)" for seam in ("before", "after")} <= names
    assert {f"effect tool_hooks {seam} `act` (b)" for seam in ("before", "after")} <= names


def only_hooks_again(crash: Crash) -> None:
    """Killed when the hooks after a call were done, and nothing told of it: they run again, and the tool doesn't."""
    kind, _, rest = crash.point.name.partition(" tool_hooks after ")
    if kind == "effect" and rest == "`several` (c)" and crash.reached:
        assert crash.runs["tool_hooks after `several` (c)"] == (1 if crash.point.when is When.BEFORE else 2), (
            crash.point
        )
        assert crash.runs["tool_call `several` (c)"] == 1, crash.point


KEEPS = load_settings(env={}, sets=["durability.keep_journal_h=1"])


async def test_a_turn_with_hooks_is_replayed_to_the_same_bytes(tmp_path: Path) -> None:
    world = World()
    options: Any = {"tools": world.tools(), "plugins": [world.meter()], "settings": KEEPS}
    async with agent(SAYS, store=f"sqlite:///{tmp_path}/lash.db", **options) as lash:
        await (await lash.session("s")).run("Go.", turn_id="t")
        before = Counter(world.calls)
        replayed = await lash.replay("t")
        assert replayed.differences == ()
        assert world.calls == before


@asynccontextmanager
async def waiting_in(hook: str, world: World, where: anyio.Event, tmp_path: Path) -> Any:
    """A host in which this hook of another plugin waits at call `e`, or the tool `stay` does."""

    async def wait(ctx: Any) -> None:
        if ctx.call_id == "e":
            where.set()
            await anyio.sleep_forever()

    @tool(effect="pure")
    async def stay(ctx: ToolCallContext) -> str:
        "Act, and stay."
        assert ctx.call_tool is not None
        await ctx.call_tool(0, "act", {"do": "x"})
        if hook == "tool":
            where.set()
            await anyio.sleep_forever()
        return "left"

    wait.__name__ = hook
    calls = [Call("act", {"do": "one"}, "a"), Call("stay", {}, "c"), Call("act", {"do": "e"}, "e")]
    says = by_round(Reply(text="Now.", tool_calls=calls), "Next.")
    options: Any = {
        "tools": [*world.tools(), stay],
        "plugins": [world.meter(), plugin("waits", wait)],
        "settings": KEEPS,
    }
    if hook == "tool":
        options["plugins"] = [world.meter()]
    async with agent(says, store=f"sqlite:///{tmp_path}/lash.db", **options) as lash:
        yield lash


@pytest.mark.parametrize("hook", ["lash_before_tool_call", "tool", "lash_after_tool_call", "lash_tool_result_view"])
async def test_a_turn_that_is_cancelled_in_a_hook_shows_no_result_that_hooks_have_not_seen(
    hook: str, tmp_path: Path
) -> None:
    """Whoever redacts must not be passed by with a cancel. The replay ends where the turn did, in the same bytes."""
    world, reached = World(), anyio.Event()
    async with waiting_in(hook, world, reached, tmp_path) as lash:
        session = await lash.session("s")
        turn = await cancelled_when(reached, session.turn("Go.", turn_id="t"))
        outcomes = {each.call_id: each.output.outcome.tag for each in turn.tool_calls}
        seen = hook in ("lash_after_tool_call", "lash_tool_result_view")
        assert outcomes["a"] == ("success" if seen else "cancelled")
        assert outcomes["e"] == "cancelled"
        if hook == "tool":
            (text,) = {each.output.outcome.message for each in turn.tool_calls if each.call_id == "a"}
            assert text == "`act` ran, but the turn ended before the plugins that look at its result had seen it"
            assert outcomes["c:00"] == "success"  # its hooks were called when it ended
        replayed = await lash.replay("t")
        assert replayed.differences == ()


async def test_watchers_see_a_result_as_the_hooks_left_it() -> None:
    """Live and once, also of calls within calls; and events of hooks with their plugin."""
    world = World()
    async with agent(SAYS, tools=world.tools(), plugins=[world.meter()]) as lash:
        session = await lash.session("s")
        async with session.turn("Go.") as running:
            events = [activity.event async for activity in running]
    ended = [each for each in events if isinstance(each, ToolCallCompleted)]
    assert sorted(str(each.call_id) for each in ended) == sorted(CALLS)
    assert {each.call_id: each.output.outcome.value for each in ended if each.call_id in ("e", "c:02")} == {  # type: ignore[union-attr]
        "e": "redacted",
        "c:02": "redacted",
    }
    assert [each.plugin_id for each in events if isinstance(each, PluginSurface)] == ["meter", "meter"]


@pytest.mark.costly
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("breaks", [True, False], ids=["fails", "answers_in_its_place"])
async def test_what_hooks_did_within_a_call_stays_whatever_a_wrapper_makes_of_the_call(
    breaks: bool,
) -> None:
    """The state that a hook changed around an inner call was committed, and lost to a replay."""

    @frozen
    class Seen:
        calls: int = 0

    def lash_session_state() -> SessionStateSpec:
        return SessionStateSpec(state=Seen)

    def lash_after_tool_call(ctx: Any) -> None:
        ctx.set_state(Seen(ctx.state.calls + 1))

    async def lash_around_effect(envelope: Any, call_next: Any) -> Any:
        outcome = await call_next()
        call = getattr(envelope.command, "call", None)
        if call is None or call.tool_name != "outer":
            return outcome
        if breaks:
            raise RuntimeError("no")
        done = outcome.launch.result
        return ToolCallEffectOutcome(ToolCallDone(evolve(done, output=ToolCallOutput(ToolCallSuccess("mine")))))

    @tool(effect="pure")
    async def inner() -> str:
        "Inner."
        return "in"

    @tool(effect="idempotent")
    async def outer(ctx: ToolCallContext) -> str:
        "Outer."
        assert ctx.call_tool is not None
        await ctx.call_tool(0, "inner", {})
        return "out"

    hooks = (lash_session_state, lash_after_tool_call, lash_around_effect)
    says = [Reply(tool_calls=[Call("outer", {}, "o")]), "Done."]
    report = await crash_at_every_effect(
        opens(by_round(*says), tools=[outer, inner], plugins=[plugin("sees", *hooks)]),
        "Go.",
        points=lambda point: point.kind == "effect",
    )
    assert report.golden.turn.text == "Done."  # and the kit compares the plugins' states with its own


async def test_what_a_plugin_denied_stays_denied_when_the_plugin_is_gone() -> None:
    """The process died with the denial on record, and the one that went on, without the plugin, made the call."""
    world = World()
    host = JournalHost(MemoryJournal(dies_at=2))
    async with opened(world) as lash:
        with pytest.raises(Killed):
            await turn_of(lash, host)
    assert any(row.label.startswith("tool_hooks before") for row in host.journal.rows)
    before = Counter(world.calls)
    async with inline_agent(SAYS, tools=world.tools()) as lash:
        turn, _ = await turn_of(lash, host.again())
    assert turn.text == "All done."
    denied = next(each for each in turn.tool_calls if each.call_id == "b")
    assert getattr(denied.output.outcome, "message", "") == "not this"
    assert (world.calls - before)["act deny"] == 1  # that within `several`, about which nobody was asked
    assert [each.plugin_id for each in denied.interventions] == ["meter"]


async def test_what_a_wrapper_takes_out_of_a_result_no_model_reads() -> None:
    """The host was shown the changed result, and the model the one that the tool gave."""
    read: list[str] = []

    async def lash_around_effect(envelope: Any, call_next: Any) -> Any:
        outcome = await call_next()
        if not isinstance(outcome, ToolCallEffectOutcome):
            return outcome
        result = evolve(outcome.launch.result, output=ToolCallOutput(ToolCallSuccess("[redacted]")))
        return evolve(outcome, launch=evolve(outcome.launch, result=result))

    @tool(effect="pure")
    async def look() -> str:
        "Look."
        return "secret"

    def say(request: Any) -> Any:
        read.append(str([*request.messages]))
        return "Done." if len(read) > 1 else Reply(tool_calls=[Call("look", {}, "a")])

    async with agent(say, tools=[look], plugins=[plugin("redacts", lash_around_effect)]) as lash:
        turn = await (await lash.session()).run("Go.")
    assert turn.tool_calls[0].output == ToolCallOutput(ToolCallSuccess("[redacted]"))
    assert "secret" not in read[1]
    assert "[redacted]" in read[1]
