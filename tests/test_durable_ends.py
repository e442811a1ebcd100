"""A turn that was interrupted, then ended, waited for, or gone on with: what is told of its calls and its cost."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import CutModel, agent, plugin
from attrs import define, evolve

from lash_framework.accepted import what_was_accepted
from lash_framework.cut_calls import cut_row
from lash_framework.recovery import RecoveryGate
from lash_framework.session import Session
from lash_framework.settings import load_settings
from lash_hookspecs import (
    ConfigurationError,
    InboxState,
    LlmRequest,
    OnUnknown,
    Stopped,
    StopReason,
    Tool,
    ToolCallFailure,
    ToolCallStarted,
    ToolCallSuccess,
    TurnBlocked,
    TurnStartOutcome,
    TurnSuspended,
    decode,
    encode,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply

CANCELLED = Stopped(StopReason.CANCELLED)
KEEPS = load_settings(env={}, sets=["durability.keep_journal_h=1"])


# ---- nobody runs it -------------------------------------------------------------------------------------------------


@define
class Left:
    """A turn that was interrupted in a tool, which was called once; the model was asked once."""

    url: str
    tools: tuple[Tool, ...]
    model: CutModel
    calls: int = 0

    @asynccontextmanager
    async def opened(self, tools: Sequence[Tool] | None = None) -> AsyncIterator[Session]:
        async with agent(
            self.model, store=self.url, tools=self.tools if tools is None else tools, settings=KEEPS
        ) as lash:
            yield await lash.session("s", recover=False)


async def interrupted_in(
    folder: Path, effect: str, *, on_unknown: OnUnknown = OnUnknown.FAIL, batch: bool = False
) -> Left:
    begun = anyio.Event()

    @tool(effect=effect, on_unknown=on_unknown)
    async def act() -> str:
        "Act."
        begun.set()
        await anyio.sleep_forever()
        return ""

    @tool(effect="pure")
    async def look() -> str:
        "Look."
        return "seen"

    calls = [Call("look", {}, "l"), Call("act", {}, "a")]
    if batch:
        children = [{"tool": each.tool_name, "parameters": {}} for each in calls]
        calls = [Call("batch", {"calls": children}, "b")]
    left = Left(f"sqlite:///{folder / 'lash.db'}", (act, look), CutModel(Reply(tool_calls=calls), "Next."))
    async with left.opened() as session, anyio.create_task_group() as group:
        group.start_soon(lambda: session.run("Act.", turn_id="t"))
        await begun.wait()
        store = session._resident.lash.require_journal("this test").store
        while not any("look" in row.label for row in await store.load_journal("s", "t")):
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    return left


async def by_abandoning(session: Session) -> None:
    await session.abandon("t")


async def by_a_cancel(session: Session) -> None:
    asked = await session.cancel("enough")
    assert asked is not None
    assert await asked.won()


ENDED = {by_abandoning: Stopped(StopReason.ABANDONED), by_a_cancel: CANCELLED}
EFFECTS = {"unsafe": "unknown_after_crash", "idempotent": "unknown_after_crash", "pure": "cancelled"}


@pytest.mark.parametrize(("effect", "becomes"), EFFECTS.items(), ids=EFFECTS)
@pytest.mark.parametrize("end", ENDED, ids=lambda each: each.__name__)
async def test_a_call_that_may_have_happened_is_told_as_unknown_and_never_as_cancelled(
    end: Callable[[Session], Awaitable[None]], effect: str, becomes: str, tmp_path: Path
) -> None:
    """The history said of a payment that may have gone through that it was cancelled, and the model paid again."""
    left = await interrupted_in(tmp_path, effect)
    async with left.opened() as session:
        await end(session)
        turn = await session.run("Act.", turn_id="t")
        assert turn.outcome == ENDED[end]
        look, act = (each.output.outcome for each in turn.tool_calls)
        assert look.tag == "success"
        assert (act.code if isinstance(act, ToolCallFailure) else act.tag) == becomes
        assert not turn.usage.at_least  # no model call was under way
        assert (await session.run("And now?")).text == "Next."
        results = [part.content for each in await session.messages() for part in each.parts if part.tool_call_id]
        assert ("nobody knows" in results[-1]) is (becomes != "cancelled")
        replayed = await session._resident.lash.replay("t")
        assert replayed.differences == ()
        assert replayed.effects == ("turn_start", "llm_call 2 of iteration 0", "tool_call `look` (l)", "turn_end")
    assert len(left.model.requests) == 2


@tool(name="act", effect="pure")
async def other_act() -> str:
    "Another tool by now."
    return ""


@pytest.mark.parametrize(
    ("effect", "tools"),
    [("unsafe", ()), ("idempotent", ()), ("pure", ()), ("unsafe", (other_act,))],
    ids=[
        "an unsafe tool is gone",
        "an idempotent tool is gone",
        "a pure tool is gone",
        "an unsafe tool is pure by now",
    ],
)
@pytest.mark.parametrize("end", ENDED, ids=lambda each: each.__name__)
async def test_a_turn_is_ended_with_all_that_is_recorded_of_its_calls_also_without_their_tools(
    end: Callable[[Session], Awaitable[None]], effect: str, tools: Sequence[Tool], tmp_path: Path
) -> None:
    """`lash cancel` has no `--tools`: it said of a payment that a crash left unknown that it was cancelled."""
    left = await interrupted_in(tmp_path, effect)
    async with left.opened(tools) as session:
        await end(session)
        turn = await session.run("Act.", turn_id="t")
        assert turn.outcome == ENDED[end]
        look, act = (each.output.outcome for each in turn.tool_calls)
        assert isinstance(look, ToolCallSuccess)
        assert look.value == "seen"
        assert getattr(act, "code", act.tag) == "unknown_after_crash"  # also of a pure one: what it did is gone with it
        assert (await session.run("And now?")).text == "Next."


@pytest.mark.parametrize("end", ENDED, ids=lambda each: each.__name__)
async def test_a_call_within_a_call_is_known_as_well_as_its_record(
    end: Callable[[Session], Awaitable[None]], tmp_path: Path
) -> None:
    """The call around it has no record, but may have done what the one within it may have done."""
    left = await interrupted_in(tmp_path, "unsafe", batch=True)
    async with left.opened() as session:
        await end(session)
        turn = await session.run("Act.", turn_id="t")
        outcomes = {each.tool_name: each.output.outcome for each in turn.tool_calls}
        codes = {name: getattr(outcome, "code", outcome.tag) for name, outcome in outcomes.items()}
        assert codes == {"batch": "unknown_after_crash", "look": "success", "act": "unknown_after_crash"}
        assert (await session._resident.lash.replay("t")).differences == ()


async def test_who_watches_commits_may_run_a_turn_after_one_that_is_abandoned(tmp_path: Path) -> None:
    """It stood in line behind the one that waited for it, until its time was up."""
    left = await interrupted_in(tmp_path, "pure")

    async def lash_turn_committed(ctx: Any, turn: Any) -> None:
        if turn.turn_id == "t":
            await session.run("And then?", turn_id="next")

    watcher = plugin("watcher", lash_turn_committed)
    async with agent(left.model, store=left.url, tools=left.tools, settings=KEEPS, plugins=[watcher]) as lash:
        session = await lash.session("s", recover=False)
        with anyio.fail_after(10):
            abandoned = await session.abandon("t")
        assert [each for each in abandoned.turn.errors if each.plugin_id == "watcher"] == []
        assert [each.operation.key for each in await lash.store.list_receipts("s")] == ["next", "t"]


async def test_a_cancel_while_a_turn_is_replayed_keeps_what_is_recorded(tmp_path: Path) -> None:
    """It ended the turn in the middle of its records: replies that were paid for, and calls, were in no history."""
    left, gate = await interrupted_in(tmp_path, "unsafe"), RecoveryGate()
    async with left.opened() as session:
        store: Any = session._resident.lash.require_journal("this test").store
        begin = store.begin_turn

        async def begin_turn(given: Any) -> Any:
            claim = await begin(given)
            gate.cancel("enough")
            return claim

        store.begin_turn = begin_turn
        (recovered,) = await session.recover(gate=gate)
        turn = recovered.turn
        assert turn.outcome == CANCELLED
        assert [getattr(each.output.outcome, "code", "") for each in turn.tool_calls] == ["", "unknown_after_crash"]
        assert (turn.usage.total, turn.usage.at_least) == (15, False)
        assert len(left.model.requests) == 1
        assert (await session._resident.lash.replay("t")).differences == ()


async def test_a_cancel_while_a_long_turn_is_replayed_keeps_what_is_recorded(tmp_path: Path) -> None:
    """A replay lets others run now and then, and a cancel that waits comes in where nothing is recorded any more."""
    rounds, reached, gate = 12, anyio.Event(), RecoveryGate()

    @tool(effect="pure")
    async def step() -> str:
        "Step."
        return "stepped"

    async def say(request: LlmRequest) -> Reply:
        said = sum(message.role == "assistant" for message in request.messages)
        if said == rounds:
            reached.set()
            await anyio.sleep_forever()
        return Reply(tool_calls=[Call("step", {}, f"c{said}")])

    async with agent(say, store=f"sqlite:///{tmp_path / 'lash.db'}", tools=[step]) as lash:
        session = await lash.session("s")
        await session.configure(max_turns=rounds + 1)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: session.run("q", turn_id="t"))
            await reached.wait()
            group.cancel_scope.cancel()
        store: Any = lash.require_journal("this test").store
        begin = store.begin_turn

        async def begin_turn(given: Any) -> Any:
            claim = await begin(given)
            gate.cancel("enough")
            return claim

        store.begin_turn = begin_turn
        (recovered,) = await session.recover(gate=gate)
        turn = recovered.turn
        assert turn.outcome == CANCELLED
        assert [each.output.outcome.tag for each in turn.tool_calls] == ["success"] * rounds
        assert turn.usage.total == rounds * 15


@pytest.mark.statement(32, 71, page="effects")
@pytest.mark.parametrize("who", ["the same process", "another process"])
async def test_a_turn_that_waits_for_a_person_can_be_cancelled(who: str, tmp_path: Path) -> None:
    """No process holds it, so there is no deadline that could come.

    32: its session goes on with the next turn; 71: a cancel reaches what waits.
    """
    left = await interrupted_in(tmp_path, "unsafe", on_unknown=OnUnknown.WAIT)
    async with left.opened() as session:
        with pytest.raises(TurnSuspended):
            await session.recover()
        if who == "the same process":
            await by_a_cancel(session)
        else:
            async with left.opened() as other:
                await by_a_cancel(other)
        turn = await session.run("Act.", turn_id="t")
        assert turn.outcome == CANCELLED
        assert [getattr(each.output.outcome, "code", "") for each in turn.tool_calls] == ["", "unknown_after_crash"]
        assert not turn.usage.at_least
        assert await session._resident.lash.pending() == []
        assert (await session.run("And now?")).text == "Next."
        assert (await session._resident.lash.replay("t")).differences == ()


async def test_waiting_for_a_person_three_times_does_not_block_a_turn(tmp_path: Path) -> None:
    """Each begin counted as an attempt, those that only found that the turn waits among them."""
    left = await interrupted_in(tmp_path, "unsafe", on_unknown=OnUnknown.WAIT)
    async with left.opened() as session:
        for _ in range(4):
            with pytest.raises(TurnSuspended):
                await session.recover()
            (item,) = await session.inbox()
            assert (item.state, item.fruitless, item.reason) == (InboxState.SUSPENDED, 0, None)
            assert await session._resident.lash.require_journal("this test").store.load_lease("s") is None
        (call,) = await session._resident.lash.pending()
        await session._resident.lash.resolve(call.key, result="done")
        (recovered,) = await session.recover()
        assert recovered.turn.text == "Next."


async def test_what_waits_for_a_person_can_be_answered_though_somebody_failed_to_go_on(tmp_path: Path) -> None:
    """Who tried without the tools left a turn whose question was shown to nobody, and could not be answered.

    On trio, whose tasks run in any order, each attempt named another one of the missing tools: it was never blocked.
    """
    left = await interrupted_in(tmp_path, "unsafe", on_unknown=OnUnknown.WAIT)
    async with left.opened() as session:
        with pytest.raises(TurnSuspended):
            await session.recover()
    for state in (InboxState.STUCK, InboxState.STUCK, InboxState.BLOCKED):
        async with left.opened(()) as session:
            with pytest.raises(TurnBlocked):
                await session.recover()
            before = await session.inbox()
            assert [each.state for each in before] == [state]
            (call,) = await session._resident.lash.pending()
            assert call.tool_name == "act"
    async with left.opened(()) as session:
        await session._resident.lash.resolve(call.key, result="done")
        (after,) = await session.inbox()
        assert (after.state, after.reason, after.fruitless) == (InboxState.BLOCKED, before[0].reason, 3)
        assert await session._resident.lash.pending() == []
    async with left.opened() as session:
        (recovered,) = await session.recover(force=True)
        assert recovered.turn.text == "Next."


async def test_what_a_person_found_out_of_a_call_has_to_fit_into_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever answers is told at once; the turn couldn't be committed with it."""
    left = await interrupted_in(tmp_path, "unsafe", on_unknown=OnUnknown.WAIT)
    async with left.opened() as session:
        lash = session._resident.lash
        with pytest.raises(TurnSuspended):
            await session.recover()
        (call,) = await lash.pending()
        with pytest.raises(ConfigurationError, match="bytes, and may have 4,194,304"):
            await lash.resolve(call.key, result="x" * (1 << 22))
        monkeypatch.setattr("lash_framework.result_room.MAX_TURN_BYTES", 100_000)
        with pytest.raises(ConfigurationError, match=r"takes 120,00. bytes, and of the 100,000"):
            await lash.resolve(call.key, result="x" * 60_000)
        await lash.resolve(call.key, result="x" * 40_000)
        (recovered,) = await session.recover()
        assert recovered.turn.text == "Next."


# ---- interrupted ----------------------------------------------------------------------------------------------------


async def test_what_a_call_came_to_is_recorded_before_anybody_has_to_read_it(tmp_path: Path) -> None:
    """Who was slow to read that a call had ended, and left then, made of its result a call of which nobody knows."""
    charged, model = anyio.Event(), CutModel(Reply(tool_calls=[Call("charge", {}, "1")]), "Next.")

    @tool(effect="unsafe")
    async def charge() -> str:
        "Charge."
        charged.set()
        return "charged"

    async with agent(model, store=f"sqlite:///{tmp_path}/a.db", tools=[charge], settings=KEEPS) as lash:
        session = await lash.session("s")
        store = lash.require_journal("this test").store

        async def is_recorded() -> bool:
            rows = await store.load_journal("s", "t")
            return any((row.kind, row.status) == ("tool_call", "done") for row in rows)

        async def leave_then() -> None:
            async with session.turn("Go.", turn_id="t") as running:
                async for activity in running:
                    if isinstance(activity.event, ToolCallStarted):
                        await charged.wait()
                        while not await is_recorded():
                            await anyio.lowlevel.checkpoint()
                        raise KeyError("left")

        with pytest.raises(KeyError, match="left"), anyio.fail_after(10):
            await leave_then()
        (recovered,) = await session.recover()
        assert [each.output.outcome.tag for each in recovered.turn.tool_calls] == ["success"]


# ---- what it has cost -----------------------------------------------------------------------------------------------


async def test_a_turn_that_was_suspended_and_resumed_knows_its_usage(tmp_path: Path) -> None:
    """It said "at least" for no reason: no model call was under way when it was left, nor was one ever cut."""
    left = await interrupted_in(tmp_path, "unsafe", on_unknown=OnUnknown.WAIT)
    async with left.opened() as session:
        with pytest.raises(TurnSuspended):
            await session.recover()
        (call,) = await session._resident.lash.pending()
        await session._resident.lash.resolve(call.key, result="done")
        (recovered,) = await session.recover()
        assert recovered.turn.usage.total == 30
        assert not recovered.turn.usage.at_least


@pytest.mark.parametrize("said", ["", "Half an "], ids=["before its first token", "in the middle"])
async def test_a_model_call_that_an_interruption_cut_is_known_to_whoever_goes_on(said: str, tmp_path: Path) -> None:
    """Also if those who took the turn up in between came to nothing themselves."""
    url, model, no_key = f"sqlite:///{tmp_path / 'lash.db'}", CutModel("Next.", waits_after=said), True
    async with agent(model, store=url, settings=KEEPS) as lash, anyio.create_task_group() as group:
        group.start_soon((await lash.session("s")).run, "Go.")
        await model.reached.wait()
        group.cancel_scope.cancel()

    def say(request: LlmRequest) -> str:
        if no_key:
            raise ConfigurationError("there is no key")
        return "Next."

    async with agent(say, store=url, settings=KEEPS) as lash:
        session = await lash.session("s", recover=False)
        with pytest.raises(TurnBlocked):
            await session.recover()
        no_key = False
        (recovered,) = await session.recover()
        assert recovered.turn.usage.total == 15
        assert recovered.turn.usage.at_least
        assert not (await session.run("And now?")).usage.at_least


async def test_a_death_is_known_also_behind_one_who_was_interrupted_before_they_asked(tmp_path: Path) -> None:
    """Who was told of the death asked nobody, and let go as they should; whoever followed them was told of nothing."""
    asked, copy = anyio.Event(), tmp_path / "killed"

    async def say(request: LlmRequest) -> str:
        if asked.is_set():
            return "Done."
        asked.set()
        return await anyio.sleep_forever()

    def host(folder: Path) -> Any:
        return agent(say, store=f"sqlite:///{folder / 'lash.db'}")

    copy.mkdir()
    async with host(tmp_path) as lash, anyio.create_task_group() as group:
        session = await lash.session("s")
        group.start_soon(lambda: session.run("q", turn_id="t"))
        await asked.wait()
        for each in tmp_path.glob("lash.db*"):
            shutil.copy(each, copy)
        group.cancel_scope.cancel()
    async with host(copy) as lash, anyio.create_task_group() as group:
        store: Any = lash.require_journal("this test").store
        now_ms, begin = store._now_ms, store.begin_turn
        store._now_ms = lambda: now_ms() + 3_600_000  # the lease of who died has lapsed

        async def cancelled_then(given: Any) -> Any:
            claim = await begin(given)
            group.cancel_scope.cancel()
            return claim

        store.begin_turn = cancelled_then
        await (await lash.session("s", recover=False)).recover()
    async with host(copy) as lash:
        (recovered,) = await (await lash.session("s", recover=False)).recover()
        assert (recovered.turn.text, recovered.turn.usage.at_least) == ("Done.", True)


async def test_the_policy_is_found_behind_the_row_of_a_model_call_that_was_cut(tmp_path: Path) -> None:
    """The first row is that of the death then, and the turn went on with the policy of its acceptance."""
    left = await interrupted_in(tmp_path, "pure")
    async with left.opened() as session:
        lash = session._resident.lash
        (item,) = await session.inbox()
        rows = await lash.require_journal("this test").store.load_journal("s", "t")
        begun_with = decode(TurnStartOutcome, rows[0].body)
        other = evolve(begun_with, policy=evolve(begun_with.policy, max_turns=7))
        rows = [cut_row(0), evolve(rows[0], body=encode(other))]
        _, policy = what_was_accepted(item, rows, lash.host.composition)
        assert policy.max_turns == 7


@pytest.mark.parametrize(
    ("said", "code", "reads"),
    [
        ({"error": "the bank refused"}, "resolved_as_failed", "the bank refused"),
        ({"happened": False}, "did_not_happen", "`act` did not happen"),
    ],
)
async def test_the_model_reads_whether_a_call_failed_or_never_happened(
    said: dict[str, Any], code: str, reads: str, tmp_path: Path
) -> None:
    """A call that never happened was told as one that had failed."""
    left = await interrupted_in(tmp_path, "unsafe", on_unknown=OnUnknown.WAIT)
    async with left.opened() as session:
        with pytest.raises(TurnSuspended):
            await session.recover()
        (call,) = await session._resident.lash.pending()
        await session._resident.lash.resolve(call.key, **said)
        (recovered,) = await session.recover()
        assert getattr(recovered.turn.tool_calls[-1].output.outcome, "code", "") == code
        assert (
            reads in [part.content for each in await session.messages() for part in each.parts if part.tool_call_id][-1]
        )
