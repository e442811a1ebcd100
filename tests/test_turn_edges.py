"""Turns at their edges: cancelled while they wait, run from within, configured meanwhile, seen by two hosts.

Each of these went wrong once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import agent, plugin
from attrs import evolve, field, frozen

from lash_framework import RunningTurn, Session
from lash_framework.assembly import classify_output
from lash_hookspecs import (
    AbortTurn,
    AppendSessionNodesRequest,
    CheckpointKind,
    EnqueueMessages,
    GenerationOptions,
    LlmRequest,
    MessageRole,
    Mode,
    OutputState,
    SessionAppendNode,
    SessionBusy,
    SessionDeleted,
    SessionPolicy,
    SessionStateSpec,
    Stopped,
    StopReason,
    ToolCallFailure,
    TurnCancelled,
    TurnError,
    TurnInput,
    TurnInterrupted,
    tool,
)
from lash_plugin_provider_scripted.script import Call, Reply


@frozen
class Count:
    """A plugin's state."""

    turns: int = 0


@frozen
class Odd:
    """A state that may hold what no store can."""

    value: Any = None


def lash_session_state() -> SessionStateSpec:
    return SessionStateSpec(state=Count)


class Slow:
    """A model that answers when it is told to."""

    def __init__(self) -> None:
        self.asked = anyio.Event()
        self.go_on = anyio.Event()

    async def __call__(self, request: LlmRequest) -> str:
        self.asked.set()
        await self.go_on.wait()
        return "answer"


@asynccontextmanager
async def watched(session: Session, question: str) -> AsyncIterator[RunningTurn]:
    """A turn with somebody who reads its activities: without one it waits for a reader."""

    async def read() -> None:
        async for _ in running:
            pass

    async with session.turn(question) as running, anyio.create_task_group() as group:
        group.start_soon(read)
        yield running


# ---- in line --------------------------------------------------------------------------------------------------------


async def test_a_turn_in_line_can_be_cancelled_and_leaves_nothing() -> None:
    """`cancel()` used to say yes, and leaving the block then hung until the other turn had ended."""
    model = Slow()
    async with agent(model) as lash:
        session = await lash.session("s")
        async with anyio.create_task_group() as group:
            group.start_soon(session.run, "first")
            with anyio.fail_after(10):
                await model.asked.wait()
                async with session.turn("second") as running:
                    assert running.cancel()
                    with pytest.raises(TurnCancelled):
                        await running.result()
                async with session.turn("third"):
                    pass  # left before it began: that is what was asked for
                with pytest.raises(TurnCancelled):
                    await session.run("fourth", deadline_s=0)
            model.go_on.set()
        assert [each.text for each in await session.messages()] == ["first", "answer"]


async def test_a_session_that_nobody_holds_any_more_keeps_its_place_in_line() -> None:
    """The turn's session could be collected while it ran; the next one with its id then found the store locked."""
    model = Slow()
    done: list[str] = []
    async with agent(model) as lash, anyio.create_task_group() as group:

        async def second() -> None:
            done.append((await (await lash.session("s")).run("second")).text)

        async with watched(await lash.session("s"), "first") as running:
            await model.asked.wait()
            group.start_soon(second)
            await anyio.lowlevel.checkpoint()
            model.go_on.set()
            await running.result()
    assert done == ["answer"]


async def test_a_tool_can_not_run_a_turn_on_the_session_that_waits_for_it() -> None:
    sessions: list[Any] = []

    @tool
    async def recurse() -> str:
        """Runs a turn on its own session."""
        return (await sessions[0].run("again")).text

    @tool
    async def note() -> str:
        """Appends to its own session."""
        node = SessionAppendNode.user("n", "x")
        await sessions[0].append(AppendSessionNodesRequest(operation_id="o", nodes=(node,)))
        return ""

    async with agent(
        [Reply(tool_calls=[Call("recurse"), Call("recurse"), Call("note")]), "ok"], tools=[recurse, note]
    ) as lash:
        sessions.append(await lash.session("s"))
        with anyio.fail_after(10):
            turn = await sessions[0].run("go")
        outcomes = [each.output.outcome for each in turn.tool_calls]
        assert all(isinstance(each, ToolCallFailure) and "waits for it" in each.message for each in outcomes)
        assert turn.text == "ok"


async def test_who_watches_commits_may_run_the_next_turn() -> None:
    """Observers ran inside the line, where a further turn could never begin."""
    sessions: list[Any] = []

    async def lash_turn_committed(ctx: Any, turn: Any) -> None:
        if ctx.turn_index == 0:
            await sessions[0].run("and then?")

    async with agent(["one", "two"], plugins=[plugin("curious", lash_turn_committed)]) as lash:
        sessions.append(await lash.session("s"))
        with anyio.fail_after(10):
            turn = await sessions[0].run("go")
        assert turn.errors == ()
        assert [each.text for each in await sessions[0].messages()] == ["go", "one", "and then?", "two"]


async def test_who_watches_commits_may_run_the_next_turn_also_of_one_that_is_gone_on_with(tmp_path: Path) -> None:
    """It was refused there: what watched was a part of the turn that it watched."""
    sessions: list[Any] = []

    async def lash_turn_committed(ctx: Any, turn: Any) -> None:
        if ctx.turn_index == 0:
            await sessions[0].run("and then?")

    async with agent(
        ["one", "two"], store=f"sqlite:///{tmp_path}/a.db", plugins=[plugin("curious", lash_turn_committed)]
    ) as lash:
        sessions.append(await lash.session("s"))
        with anyio.fail_after(10):
            await accepted(sessions[0], "go")
            (recovered,) = await sessions[0].recover()
        assert recovered.turn.errors == ()
        assert [each.text for each in await sessions[0].messages()] == ["go", "one", "and then?", "two"]


async def accepted(session: Any, text: str) -> None:
    """An input that waits, with nobody in the background who would run it."""
    background, session._resident.lash.background = session._resident.lash.background, None
    await session.enqueue(text)
    session._resident.lash.background = background


@frozen
class Notes:
    """A plugin's memory, of which it changes the inside, which it shouldn't."""

    noted: list[Any] = field(factory=list)


async def test_the_iterator_is_told_that_a_plugins_state_can_not_be_stored_with_the_turn() -> None:
    """The error was in the turn, and in the stream of observers only."""

    def lash_session_state() -> SessionStateSpec:
        return SessionStateSpec(state=Notes)

    async def lash_before_turn(ctx: Any) -> None:
        ctx.set_state(Notes(["first"]))

    async def lash_after_turn(ctx: Any, turn: Any) -> None:
        ctx.state.noted.append(object())

    hooks = plugin("sloppy", lash_session_state, lash_before_turn, lash_after_turn)
    async with agent(["one"], plugins=[hooks]) as lash:
        session, events = await lash.session("s"), []
        async with session.turn("go") as running:
            events.extend([activity.event async for activity in running])
            turn = await running.result()
    assert turn.outcome == Stopped(StopReason.RUNTIME_ERROR)
    (told,) = [each.message for each in events if isinstance(each, TurnError)]
    assert told in [each.message for each in turn.errors]
    assert "`sloppy`" in told


# ---- the running turn as an object ----------------------------------------------------------------------------------


async def test_a_turn_that_was_not_entered_says_how_to() -> None:
    async with agent([]) as lash:
        running = (await lash.session()).turn("q")
        with pytest.raises(RuntimeError, match="async with"):
            await running.result()
        with pytest.raises(RuntimeError, match="async with"):
            await anext(running)


async def test_a_turn_runs_only_once() -> None:
    async with agent(["a"]) as lash:
        async with (await lash.session()).turn("q") as running:
            await running.result()
        with pytest.raises(RuntimeError, match="only once"):
            await running.__aenter__()


async def test_who_waits_for_the_result_of_an_interrupted_turn_is_told() -> None:
    model = Slow()
    told: list[BaseException] = []

    async def wait(running: Any) -> None:
        try:
            await running.result()
        except TurnInterrupted as error:
            told.append(error)

    async def interrupted(session: Any, group: Any) -> None:
        async with session.turn("q") as running:
            group.start_soon(wait, running)
            await model.asked.wait()
            raise ZeroDivisionError

    async with agent(model) as lash, anyio.create_task_group() as group:
        with pytest.raises(ZeroDivisionError):
            await interrupted(await lash.session(), group)
    assert len(told) == 1


async def test_the_result_in_one_task_takes_nothing_from_the_reader_in_another() -> None:
    seen: list[Any] = []
    model = Slow()

    async def read(running: Any) -> None:
        seen.extend([activity async for activity in running])

    async with agent(model) as lash:
        async with (await lash.session()).turn("q") as running, anyio.create_task_group() as group:
            group.start_soon(read, running)
            await model.asked.wait()
            model.go_on.set()
            turn = await running.result()
        assert turn.text == "answer"
        assert len(seen) > 2


async def test_cancel_comes_too_late_for_a_turn_that_is_answered_from_its_receipt() -> None:
    async with agent(["a"]) as lash:
        session = await lash.session()
        await session.run("q", turn_id="t")
        async with session.turn("q", turn_id="t") as running:
            await running.result()
            assert running.cancel() is False


async def test_a_model_that_never_waits_can_not_outrun_the_deadline() -> None:
    """3,001 model calls in a turn that had 0.2 seconds."""
    calls: list[int] = []

    @tool
    async def again() -> str:
        """Once more."""
        calls.append(1)
        return "again"

    async with agent(lambda request: Reply(tool_calls=[Call("again")]), tools=[again], max_turns=100_000) as lash:
        turn = await (await lash.session()).run("go", deadline_s=0.2)
        assert turn.outcome == Stopped(StopReason.CANCELLED)


async def test_a_loop_ends_by_itself() -> None:
    @tool
    async def again() -> str:
        """Once more."""
        return "again"

    async with agent(lambda request: Reply(tool_calls=[Call("again")]), tools=[again]) as lash:
        turn = await (await lash.session()).run("go")
        assert turn.outcome == Stopped(StopReason.MAX_TURNS)
        assert turn.execution.llm_calls == 100


async def test_usage_of_a_call_that_was_cut_off_is_not_zero_but_unknown() -> None:
    model = Slow()
    async with agent(model) as lash:
        async with watched(await lash.session(), "q") as running:
            await model.asked.wait()
            running.cancel()
            turn = await running.result()
        assert turn.usage.at_least


# ---- settings meanwhile ---------------------------------------------------------------------------------------------


def counting_modes() -> object:
    """A plugin that counts turns, and a second mode with it."""

    def lash_before_turn(ctx: Any) -> None:
        ctx.set_state(Count(ctx.state.turns + 1))
        COUNTED.append(ctx.state.turns)

    def lash_modes() -> list[Mode]:
        return [Mode(mode_id="other", extends="standard")]

    return plugin("counter", lash_session_state, lash_before_turn, lash_modes)


COUNTED: list[int] = []


@pytest.fixture(autouse=True)
def _fresh_count() -> None:
    COUNTED.clear()


async def test_changing_the_mode_during_a_turn_loses_no_plugin_state() -> None:
    model = Slow()
    async with agent(model, plugins=[counting_modes()]) as lash, anyio.create_task_group() as group:
        session = await lash.session("s")
        group.start_soon(session.run, "one")
        await model.asked.wait()
        await session.configure(mode_id="other")
        model.go_on.set()
        await session.run("two")
        await session.run("three")
    assert COUNTED == [1, 2, 3]


async def test_a_mode_with_a_further_plugin_can_be_taken_on() -> None:
    """Its hook was called with the corners of the old mode's plugins, where there was none for it."""

    def lash_session_config(ctx: Any, policy: SessionPolicy) -> SessionPolicy:
        return evolve(policy, max_turns=7)

    extra = plugin("extra", lash_session_config, enabled_by_default=False)

    def lash_modes() -> list[Mode]:
        return [Mode(mode_id="more", extends="standard", plugins=("extra",))]

    async with agent([], plugins=[extra, plugin("modes", lash_modes)]) as lash:
        session = await lash.session()
        await session.configure(mode_id="more")
        assert session.policy.max_turns == 7


async def test_appending_waits_for_the_running_turn() -> None:
    """It used to move the head under the turn, whose paid work was then refused."""
    model = Slow()
    async with agent(model) as lash:
        session = await lash.session("s")
        node = SessionAppendNode.user("n", "by the way")
        async with anyio.create_task_group() as group:
            group.start_soon(session.run, "q")
            await model.asked.wait()
            group.start_soon(session.append, AppendSessionNodesRequest(operation_id="o", nodes=(node,)))
            await anyio.lowlevel.checkpoint()
            model.go_on.set()
        assert [each.text for each in await session.messages()] == ["q", "answer", "by the way"]


async def test_two_hosts_do_not_overwrite_each_others_settings(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    async with agent(["a", "c"], store=url) as one, agent(["b"], store=url) as two:
        here = await one.session("s")
        await here.run("q")
        there = await two.session("s")
        await there.configure(max_turns=5)
        await there.run("q")
        await here.configure(generation=GenerationOptions(seed=1))
        await here.run("q")
        assert (here.policy.max_turns, here.policy.generation.seed) == (5, 1)


async def test_a_model_that_was_said_wins_also_if_it_was_the_stored_one(tmp_path: Path) -> None:
    """Said to be what it was already, it looked like nothing said; then another host's model was asked and paid."""
    url = f"sqlite:///{tmp_path / 'a.db'}"
    async with agent(["1", "2", "3"], store=url) as one, agent(["a", "b"], store=url) as two:
        here = await one.session("s", model="test:said")
        await here.run("q")
        there = await two.session("s", model="test:said")  # as it is stored at opening
        await here.configure(model="test:other")
        await here.run("q")
        await there.run("q")
        assert there.policy.model == "test:said"
        assert await two.session("s", model="test:said") is there  # as it is on the session that is open
        await here.configure(model="test:other")
        await here.run("q")
        await there.run("q")
        assert there.policy.model == "test:said"
        await here.append(AppendSessionNodesRequest(operation_id="o", nodes=(SessionAppendNode.user("n", "more"),)))
        await here.messages()
        assert here.policy.model == "test:said"  # what it said itself is stored since its turn: the latest word holds


async def test_what_the_settings_say_wins_over_what_another_host_stores_before_the_turn(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    async with agent(["1", "2"], store=url) as one, agent(["3"], store=url, max_turns=7) as two:
        here = await one.session("s", max_turns=7)
        await here.run("q")
        there = await two.session("s")
        await here.configure(max_turns=9, generation=GenerationOptions(seed=1))
        await here.run("q")
        await there.run("q")
        assert (there.policy.max_turns, there.policy.generation.seed) == (7, 1)


async def test_a_session_that_was_deleted_elsewhere_asks_no_model(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    async with agent(["a"], store=url) as one, agent([], store=url) as two:
        session = await one.session("s")
        await session.run("q")
        assert await two.delete_session("s")
        with pytest.raises(SessionDeleted):
            await session.run("again")


async def test_a_session_is_not_deleted_under_its_running_turn() -> None:
    model = Slow()
    async with agent(model) as lash:
        session = await lash.session("s")
        async with anyio.create_task_group() as group:
            group.start_soon(session.run, "q")
            await model.asked.wait()
            with pytest.raises(SessionBusy):
                await lash.delete_session("s")
            model.go_on.set()
        assert len(await session.messages()) == 2


# ---- plugins --------------------------------------------------------------------------------------------------------


async def test_observers_only_read_the_state() -> None:
    def lash_turn_committed(ctx: Any, turn: Any) -> None:
        ctx.set_state(Count(99))

    async with agent(["a"], plugins=[plugin("writer", lash_session_state, lash_turn_committed)]) as lash:
        turn = await (await lash.session()).run("q")
        assert "only reads" in turn.errors[0].message


async def test_what_was_enqueued_beside_an_abort_at_a_checkpoint_is_kept() -> None:
    def lash_checkpoint(ctx: Any) -> list[Any]:
        if ctx.kind is CheckpointKind.BEFORE_COMPLETION:
            return [EnqueueMessages.note("remember"), AbortTurn("enough", "stop")]
        return []

    async with agent(["a"], plugins=[plugin("judge", lash_checkpoint)]) as lash:
        session = await lash.session()
        turn = await session.run("q")
        assert turn.outcome == Stopped(StopReason.PLUGIN_ABORT)
        assert [each.text for each in await session.messages()] == ["q", "a", "remember"]


@pytest.mark.parametrize("where", ["lash_before_turn", "lash_checkpoint"])
async def test_a_turn_that_fails_where_a_hook_aborts_it_has_failed_whatever_comes_after(where: str) -> None:
    """The abort was still noted when `lash_after_turn` had been called, and took the failure's place.

    It isn't told: what a hook says is done, or isn't, with all that is said in its place.
    """

    def aborting(ctx: Any) -> list[Any]:
        ctx.set_state(Odd(object() if where == "lash_checkpoint" else None))  # found when the effect is recorded
        return [AbortTurn("enough", "stop")]

    def lash_session_state() -> SessionStateSpec:
        return SessionStateSpec(state=Odd)

    def lash_prompt_contributions(ctx: Any) -> None:
        if where == "lash_before_turn":
            raise RuntimeError("it is broken")

    def lash_after_turn(ctx: Any, turn: Any) -> None:
        assert turn.outcome == Stopped(StopReason.RUNTIME_ERROR)

    aborting.__name__ = where
    mine = plugin("mine", lash_session_state, aborting, lash_prompt_contributions, lash_after_turn)
    async with agent(["a"], plugins=[mine]) as lash:
        turn = await (await lash.session()).run("q")
    assert turn.outcome == Stopped(StopReason.RUNTIME_ERROR)
    (issue,) = [each for each in turn.errors if each.blocking]
    assert issue.plugin_id == "mine"
    codes = {"lash_before_turn": "lash_prompt_contributions", "lash_checkpoint": "lash_session_state"}
    assert issue.code == codes[where]


@pytest.mark.parametrize(
    ("hook", "kept"),
    [("lash_before_turn", ["q"]), ("lash_checkpoint", ["q", "paid"]), ("lash_after_turn", ["q", "paid"])],
)
async def test_state_that_can_not_be_stored_fails_the_turn_at_the_hook_that_set_it(hook: str, kept: list[str]) -> None:
    """It used to be found at the commit, when the model had been asked in vain. What was paid for is kept."""

    def lash_session_state() -> SessionStateSpec:
        return SessionStateSpec(state=Odd)

    def set_odd(ctx: Any) -> None:
        ctx.set_state(Odd(object()))

    set_odd.__name__ = hook
    async with agent(["paid"], plugins=[plugin("odd", lash_session_state, set_odd)]) as lash:
        session = await lash.session()
        turn = await session.run("q")
        assert turn.outcome == Stopped(StopReason.RUNTIME_ERROR)
        assert turn.errors[0].plugin_id == "odd"
        assert "object" in turn.errors[0].message
        assert [each.text for each in await session.messages()] == kept


async def test_a_lifespan_is_there_for_hooks_of_the_session_too() -> None:
    @asynccontextmanager
    async def lash_lifespan(host: Any) -> Any:
        yield "resource"

    seen: list[Any] = []

    def lash_session_opened(ctx: Any) -> None:
        seen.append(ctx.host)

    async with agent([], plugins=[plugin("pool", lash_lifespan, lash_session_opened)]) as lash:
        await lash.session()
    assert seen == ["resource"]


# ---- provenance -----------------------------------------------------------------------------------------------------


async def test_explain_names_whose_each_setting_is(tmp_path: Path) -> None:
    def lash_session_config(ctx: Any, policy: SessionPolicy) -> SessionPolicy:
        return evolve(policy, model_variant="low")

    def lash_modes() -> list[Mode]:
        return [
            Mode(mode_id="careful", extends="standard", generation=GenerationOptions(temperature=0.2), max_turns=12)
        ]

    plugins = [plugin("thrift", lash_session_config), plugin("modes", lash_modes)]
    async with agent(["a"], plugins=plugins, instructions="Be brief.") as lash:
        session = await lash.session("s", mode="careful", max_turns=3)
        await session.run("q", turn_id="t", generation=GenerationOptions(seed=4))
        explained = await lash.explain("t")
    settings = {each.key: (each.value, each.source) for each in explained.settings}
    assert settings["max_turns"] == ("3", "application")
    assert settings["mode"] == ("careful", "application")
    assert settings["model_variant"] == ("low", "plugin thrift")
    assert settings["generation.temperature"] == ("0.2", "mode careful (modes)")
    assert settings["generation.seed"] == ("4", "the turn's input")
    assert [each.plugin_ids for each in explained.prompt if "Be brief." in each.text] == [("application",)]


async def test_calls_of_a_cancelled_turn_keep_their_owner() -> None:
    started = anyio.Event()

    @tool
    async def hang() -> str:
        """Hangs."""
        started.set()
        await anyio.sleep_forever()
        return ""

    async with agent([Reply(tool_calls=[Call("hang")])], tools=[hang]) as lash:
        session = await lash.session()
        async with watched(session, "q") as running:
            await started.wait()
            running.cancel()
            turn = await running.result()
    assert [each.plugin_id for each in turn.tool_calls] == ["application"]


# ---- text -----------------------------------------------------------------------------------------------------------


def test_a_long_line_in_a_traceback_takes_no_time() -> None:
    """A pattern over the whole text took 13 seconds for 14 words, and stopped the event loop for as long."""
    words = "a " * 100_000
    text = f"Traceback (most recent call last):\n  File x\n    {words}\nValueError: x\n\nThis means: no."
    assert classify_output(text, blocking=False).state is OutputState.USABLE


async def test_what_is_damaged_is_named_in_an_export_that_saves_the_rest(tmp_path: Path) -> None:
    """The message pointed to an export that failed with the same message."""
    import sqlite3

    path = tmp_path / "a.db"
    async with agent(["a"], store=f"sqlite:///{path}") as lash:
        await (await lash.session("s")).run("q")
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("UPDATE nodes SET body = x'7b' WHERE key = (SELECT max(key) FROM nodes)")
    database.close()
    async with agent([], store=f"sqlite:///{path}") as lash:
        export = await lash.load_history("s")
    assert [each.text.partition(":")[0] for each in export.messages] == ["q", "[unreadable"]
    assert len(export.unreadable) == 1
    assert len(export.turns) == 1


class SlowBlobs:
    """A store of somebody else's: that of the host, whose blobs travel far."""

    def __init__(self, near: Any) -> None:
        self.near = near
        self.began, self.arrives = anyio.Event(), anyio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.near, name)

    async def put_blob(self, data: bytes, media_type: str) -> Any:
        self.began.set()
        await self.arrives.wait()
        return await self.near.put_blob(data, media_type)


@pytest.mark.parametrize("by", ["cancel", "deadline"])
async def test_a_turn_that_is_cancelled_while_its_images_are_stored_never_began(by: str) -> None:
    """It used to be committed without its input."""
    given = TurnInput.text("look").with_image("dot", b"\x89PNG\r\n\x1a\n" + bytes(8))
    async with agent(["an answer", "never"]) as lash:
        far = lash.store = SlowBlobs(lash.store)  # type: ignore[assignment]  # it has what the port asks for
        session = await lash.session("s")
        async with session.turn(given, turn_id="t", deadline_s=0.01 if by == "deadline" else None) as running:
            if by == "cancel":  # a deadline may pass before anything is on its way: to wait for that would be for ever
                await far.began.wait()
                assert running.cancel()
            with pytest.raises(TurnCancelled, match="before it began"):
                await running.result()
        assert list(await session.messages()) == []
        far.arrives.set()
        turn = await session.run(given, turn_id="t")
        assert turn.text == "an answer"
        assert [each.role for each in await session.messages()] == [MessageRole.USER, MessageRole.ASSISTANT]
