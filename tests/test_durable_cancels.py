"""A turn that is cancelled: wherever it is and by whoever, before it began, in a hook, and as it is left."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import CutModel, agent, plugin
from attrs import define, evolve, field
from crash_kit import Guidance

from lash_framework import Lash
from lash_framework.running import RunningTurn
from lash_framework.session import Session
from lash_framework.settings import load_settings
from lash_hookspecs import (
    AssembledTurn,
    AssistantProseDelta,
    ConfigurationError,
    EnqueueMessages,
    InboxState,
    LlmRequest,
    NodeBodies,
    NodesLater,
    ObservationGap,
    OperationId,
    RetryStatus,
    SessionStateSpec,
    Stopped,
    StopReason,
    StoreError,
    ToolCallCompleted,
    TurnBlocked,
    TurnPhase,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply
from lash_provider_kit.testing import ChatServer, status, text

CANCELLED = Stopped(StopReason.CANCELLED)
KEEPS = load_settings(env={}, sets=["durability.keep_journal_h=1"])


@define
class Place:
    """Where a turn is when it is cancelled: an open host, and how to know that it is there."""

    lash: Lash
    reached: Callable[[Any], bool] = lambda event: False
    event: anyio.Event = field(factory=anyio.Event)
    asked: Callable[[], int] = lambda: 0
    calls: tuple[tuple[str, str], ...] = ()
    """How the calls of the turn ended."""


Open = Callable[[str], Any]


@asynccontextmanager
async def before_the_first_token(url: str) -> AsyncIterator[Place]:
    model = CutModel("Next.", waits_after="")
    async with agent(model, store=url, settings=KEEPS) as lash:
        yield Place(lash, event=model.reached, asked=lambda: len(model.requests))


@asynccontextmanager
async def in_the_middle_of_a_reply(url: str) -> AsyncIterator[Place]:
    model = CutModel("Next.", waits_after="Half an ")
    async with agent(model, store=url, settings=KEEPS) as lash:
        yield Place(lash, event=model.reached, asked=lambda: len(model.requests))


@asynccontextmanager
async def inside_tool_1_of_3(url: str) -> AsyncIterator[Place]:
    """The first waits; the second is done; the third waits, too."""
    begun = anyio.Event()

    @tool(effect="unsafe")
    async def charge() -> str:
        "Charge."
        begun.set()
        await anyio.sleep_forever()
        return ""

    @tool(effect="idempotent")
    async def note() -> str:
        "Note."
        await begun.wait()
        return "noted"

    @tool(effect="pure")
    async def wait() -> str:
        "Wait."
        await anyio.sleep_forever()
        return ""

    calls = [Call("charge", {}, "1"), Call("note", {}, "2"), Call("wait", {}, "3")]
    model = CutModel(Reply(text="At once.", tool_calls=calls), "Next.")
    async with agent(model, store=url, settings=KEEPS, tools=[charge, note, wait]) as lash:
        yield Place(
            lash,
            reached=lambda event: isinstance(event, ToolCallCompleted),
            asked=lambda: len(model.requests),
            calls=(("charge", "cancelled"), ("note", "success"), ("wait", "cancelled")),
        )


@asynccontextmanager
async def during_retry_sleep(url: str) -> AsyncIterator[Place]:
    with ChatServer(status(429, headers={"retry-after": "50"}), text("Next.")) as server:
        settings = evolve(KEEPS, provider={"openai-chat": {"base_url": server.url}})
        async with Lash.open(url, model="openai-chat:m", settings=settings) as lash:
            yield Place(
                lash,
                reached=lambda event: isinstance(event, RetryStatus),
                asked=lambda: len(server.requests),
            )


async def from_the_same_process(url: str, session: Session, running: RunningTurn) -> None:
    assert running.cancel("enough")


async def from_another_process(url: str, session: Session, running: RunningTurn) -> None:
    async with agent([], store=url) as other:
        asked = await (await other.session("s", recover=False)).cancel("enough")
        assert asked is not None
        assert await asked.won()


async def by_deadline(url: str, session: Session, running: RunningTurn) -> None:
    scope = running._job.gate.scope
    assert scope is not None
    scope.deadline = anyio.current_time()


PLACES = [before_the_first_token, in_the_middle_of_a_reply, inside_tool_1_of_3, during_retry_sleep]
WHO = [from_the_same_process, from_another_process, by_deadline]


@pytest.mark.statement(35, page="effects")
@pytest.mark.parametrize("cancel", WHO, ids=lambda each: each.__name__)
@pytest.mark.parametrize("open_at", PLACES, ids=lambda each: each.__name__)
async def test_a_cancel_wins_once_and_the_history_stays_usable(
    open_at: Open, cancel: Callable[[str, Session, RunningTurn], Awaitable[None]], tmp_path: Path
) -> None:
    """A cancel that won is the turn's end, whoever asked, wherever the turn was; a second one comes too late."""
    url, streamed = f"sqlite:///{tmp_path / 'lash.db'}", ""
    async with open_at(url) as place:
        lash: Lash = place.lash
        session = await lash.session("s")
        async with session.turn("Go.", turn_id="t") as running, anyio.create_task_group() as group:

            async def canceller() -> None:
                await place.event.wait()
                await cancel(url, session, running)

            group.start_soon(canceller)
            async for activity in running:
                if isinstance(activity.event, AssistantProseDelta):
                    streamed += activity.event.text
                if place.reached(activity.event):
                    place.event.set()
            turn = await running.result()
        # One winner, and the commit says so.
        assert turn.outcome == CANCELLED
        assert running.cancel() is False
        assert [each.operation for each in await lash.store.list_receipts("s")] == [OperationId("turn", "t")]
        assert await session.inbox() == []
        assert await lash.store.load_lease("s") is None
        assert tuple((each.tool_name, each.output.outcome.tag) for each in turn.tool_calls) == place.calls
        # What was streamed is in the history, whole, or its price is unknown.
        said = "".join(each.text for each in await session.messages() if each.role == "assistant")
        assert said == streamed or (said == "" and turn.usage.at_least)
        # The next turn runs, and the journal ends where the turn did.
        assert (await session.run("And now?")).text == "Next."
        asked = place.asked()
        replayed = await lash.replay("t")
        assert replayed.differences == ()
        assert replayed.turn.outcome == CANCELLED
        assert place.asked() == asked


# ---- at its very start ----------------------------------------------------------------------------------------------


async def a_hook_reads_the_history(ctx: Any, session: Session) -> None:
    assert len(ctx.messages) == 1


async def an_observer_comes(ctx: Any, session: Session) -> None:
    state = await anext(session.observe())
    assert isinstance(state, ObservationGap)
    assert state.state.running is not None
    assert (state.state.running.phase, len(state.state.running.messages)) == (TurnPhase.PREPARING, 1)


@pytest.mark.parametrize("look", [a_hook_reads_the_history, an_observer_comes], ids=lambda each: each.__name__)
async def test_who_looks_at_a_turn_before_it_began_does_not_begin_it(
    look: Callable[[Any, Session], Awaitable[None]], tmp_path: Path
) -> None:
    """Cancelled then, it was recorded as begun: nobody could replay it, nor go on with it if its commit failed."""
    turns: list[RunningTurn] = []

    async def lash_before_turn(ctx: Any) -> None:
        await look(ctx, session)
        turns[0].cancel()
        await anyio.sleep_forever()

    slow = plugin("slow", lash_before_turn)
    async with agent(["Done."], store=f"sqlite:///{tmp_path}/a.db", plugins=[slow], settings=KEEPS) as lash:
        commit = lash.store.commit

        async def fails(*args: Any) -> Any:
            lash.store.commit = commit  # type: ignore[method-assign]  # the test's own
            raise StoreError("the disk is full")

        lash.store.commit = fails  # type: ignore[method-assign]  # the test's own
        session = await lash.session("s")
        turns.append(session.turn("Go.", turn_id="t"))
        with pytest.raises(StoreError):
            async with turns[0] as running:
                await running.result()
        (recovered,) = await session.recover()
        assert recovered.turn.outcome == CANCELLED
        assert (await lash.replay("t")).differences == ()


@pytest.mark.parametrize("ends", ["cancelled", "interrupted"])
async def test_a_cancel_while_the_history_is_read_keeps_what_a_hook_said_with_what_it_remembers(
    ends: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hook that gives its guidance once remembered that it had, and what it had said was in no history."""

    def lash_session_state() -> SessionStateSpec:
        return SessionStateSpec(state=Guidance)

    def lash_before_turn(ctx: Any) -> list[Any]:
        if ctx.state.given or not ctx.turn_index:
            return []
        ctx.set_state(Guidance(given=1))
        return [EnqueueMessages.note("Be brief.")]

    url, guide = f"sqlite:///{tmp_path}/a.db", plugin("guide", lash_session_state, lash_before_turn)
    async with agent(["One."], store=url, plugins=[guide], settings=KEEPS) as lash:
        await (await lash.session("s")).run("Go.")
    reading, load = anyio.Event(), NodesLater.load_bodies

    async def slow(self: NodesLater) -> NodeBodies:
        reading.set()
        await anyio.lowlevel.checkpoint()
        return await load(self)

    monkeypatch.setattr(NodesLater, "load_bodies", slow)
    async with agent(["Two."], store=url, plugins=[guide], settings=KEEPS) as lash:
        session = await lash.session("s")
        async with anyio.create_task_group() as group:
            running = session.turn("On.", turn_id="t")

            async def run() -> None:
                async with running:
                    await running.result()

            group.start_soon(run)
            await reading.wait()
            if ends == "cancelled":
                assert running.cancel()
            else:
                group.cancel_scope.cancel()
        if ends == "cancelled":
            assert (await lash.replay("t")).differences == ()
        await session.run("And now?")
        said = [part.content for each in await session.messages() for part in each.parts]
        assert said.count("Be brief.") == 1


# ---- at its very end ------------------------------------------------------------------------------------------------


@define
class LastHook:
    """A hook at the turn's end in which the turn is cancelled."""

    running: list[RunningTurn] = field(factory=list)

    @property
    def plugin(self) -> object:
        async def lash_after_turn(ctx: Any, turn: Any) -> None:
            self.running[0].cancel()
            await anyio.sleep_forever()

        return plugin("slow", lash_after_turn)

    async def cancelled(self, session: Session) -> AssembledTurn:
        self.running.append(session.turn("Go.", turn_id="t"))
        async with self.running[0] as running:
            return await running.result()


async def test_a_turn_that_is_cancelled_in_its_last_hook_has_no_error(tmp_path: Path) -> None:
    """Its end was asked for a second time under one key, which was told as an error of the turn."""
    hook = LastHook()
    async with agent(["Done."], store=f"sqlite:///{tmp_path}/a.db", plugins=[hook.plugin], settings=KEEPS) as lash:
        turn = await hook.cancelled(await lash.session("s"))
        assert turn.outcome == CANCELLED
        assert [each for each in turn.errors if each.blocking] == []
        assert (await lash.replay("t")).differences == ()


@pytest.mark.parametrize("spoilt", [False, True], ids=["its records are whole", "a record is spoilt"])
async def test_a_cancel_whose_commit_failed_is_a_cancel_when_the_turn_is_taken_up(spoilt: bool, tmp_path: Path) -> None:
    """Its end is recorded, so that whoever goes on neither asks the model nor says that it finished."""
    hook, model = LastHook(), CutModel("Done.")
    async with agent(model, store=f"sqlite:///{tmp_path}/a.db", plugins=[hook.plugin], settings=KEEPS) as lash:
        commit = lash.store.commit

        async def fails(*args: Any) -> Any:
            lash.store.commit = commit  # type: ignore[method-assign]  # the test's own
            raise StoreError("the disk is full")

        lash.store.commit = fails  # type: ignore[method-assign]  # the test's own
        session = await lash.session("s")
        with pytest.raises(StoreError):
            await hook.cancelled(session)
        if not spoilt:
            (recovered,) = await session.recover()
            assert recovered.ran == ()
            assert (await lash.replay("t")).differences == ()
        else:  # there is no way to where it was stopped, but one out of it
            database = sqlite3.connect(tmp_path / "a.db")
            with database:
                database.execute("UPDATE journal SET envelope_hash = zeroblob(32) WHERE kind = 'llm_call'")
            database.close()
            for _ in range(3):
                with pytest.raises(TurnBlocked):
                    await session.recover()
            recovered = await session.abandon("t")
        assert recovered.turn.outcome == CANCELLED
    assert len(model.requests) == 1


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio knows no `Task.cancel()`
async def test_who_is_cancelled_while_a_turn_that_can_not_go_on_is_left_holds_no_session(tmp_path: Path) -> None:
    """The write of its last records was cut, and with that the turn was never let go of: its lease ran out."""

    @tool
    async def act() -> str:
        """Act."""
        return "done"

    def say(request: LlmRequest) -> Reply:
        if all(each.role != "assistant" for each in request.messages):
            return Reply(tool_calls=[Call("act", {})])
        store.append_journal = cancelled_meanwhile
        raise ConfigurationError("the key was withdrawn")

    async def cancelled_meanwhile(*args: Any, **options: Any) -> None:
        store.append_journal = append
        running.cancel()
        await append(*args, **options)

    async with agent(say, store=f"sqlite:///{tmp_path / 'lash.db'}", tools=[act]) as lash:
        store: Any = lash.require_journal("this test").store
        append = store.append_journal
        running = asyncio.ensure_future((await lash.session("s")).run("Go.", turn_id="t"))
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await store.load_lease("s") is None
        (item,) = await store.list_inbox("s")
        assert (item.state, item.reason) == (InboxState.STUCK, "the key was withdrawn")
