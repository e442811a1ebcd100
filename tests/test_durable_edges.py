"""Edges of durable turns: what goes on with a session, and what becomes of work that was done."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from agents import agent, plugin
from observe_kit import Screen, follow

from lash_framework import Lash
from lash_framework.accepted import TurnRequest
from lash_framework.inputs import normalized
from lash_framework.session import Session
from lash_framework.settings import load_settings
from lash_framework.unfinished import TurnState
from lash_hookspecs import (
    AssembledTurn,
    CancelOutcome,
    CheckpointKind,
    ConfigurationError,
    Ingress,
    LlmRequest,
    MessageRole,
    QueuedInputAccepted,
    QueuedMessagesCommitted,
    ToolCallContext,
    ToolCallStarted,
    TurnBlocked,
    TurnCancelled,
    TurnInput,
    TurnSuspended,
    tool,
)
from lash_hookspecs.codec import decode
from lash_hookspecs.errors import BudgetExceeded, InboxConflict, SessionBusy, StoreCorrupt, UnknownName
from lash_hookspecs.inbox import InboxState
from lash_hookspecs.leases import LeaseBusy
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.sessions import AppendSessionNodesRequest
from lash_hookspecs.stores import CommitBudget
from lash_hookspecs.turn_outcomes import Stopped, StopReason
from lash_plugin_provider_scripted import Call, Reply


def url_in(folder: Path) -> str:
    return f"sqlite:///{folder / 'lash.db'}"


class Sent:
    """An unsafe tool that counts, and a tool that never ends the first time."""

    def __init__(self) -> None:
        self.sent = 0
        self.asked = 0
        self.waits = True
        self.begun = anyio.Event()

        @tool
        async def send() -> str:
            "Send it."
            self.sent += 1
            return "sent"

        @tool(effect="pure")
        async def wait() -> str:
            "Wait."
            self.begun.set()
            if self.waits:
                await anyio.sleep_forever()
            return "waited"

        self.tools = [send, wait]

    def say(self, request: LlmRequest) -> Reply | str:
        self.asked += 1
        said = sum(message.role == "assistant" for message in request.messages)
        names = ["send", "wait"]
        return Reply(tool_calls=[Call(names[said], {}, names[said])]) if said < 2 else "Done."

    async def interrupted(self, url: str) -> None:
        async with agent(self.say, store=url, tools=self.tools) as lash:
            session = await lash.session("s")
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: session.run("Send and wait.", turn_id="t"))
                await self.begun.wait()
                group.cancel_scope.cancel()
        self.waits = False


async def test_a_turn_in_the_background_has_its_session_to_itself_though_nobody_holds_that(tmp_path: Path) -> None:
    """Another object for the session took the lease over, and ran what was running once more."""
    runs, begun, go_on, opened = 0, anyio.Event(), anyio.Event(), list[Session]()

    async def slow(request: LlmRequest) -> str:
        nonlocal runs
        runs += 1
        begun.set()
        await go_on.wait()
        return "done"

    async def reopened(lash: Lash) -> None:
        session = await lash.session("s")
        opened.append(session)
        await session.recover()

    async with agent(slow, store=url_in(tmp_path)) as lash:
        await (await lash.session("s")).enqueue("first", ingress=Ingress.NEXT_TURN)
        await begun.wait()
        gc.collect()
        async with anyio.create_task_group() as group:
            group.start_soon(reopened, lash)
            with anyio.fail_after(10):
                while not any(each._resident.line.statistics().tasks_waiting for each in opened):
                    await anyio.lowlevel.checkpoint()
            go_on.set()
        session = await lash.session("s")
        assert [each.text for each in await session.messages()] == ["first", "done"]
    assert runs == 1


async def test_who_stops_waiting_for_another_process_leaves_nothing_in_the_inbox(tmp_path: Path) -> None:
    begun, go_on = anyio.Event(), anyio.Event()

    async def slow(request: LlmRequest) -> str:
        begun.set()
        await go_on.wait()
        return "done"

    async with agent(slow, store=url_in(tmp_path)) as lash, agent([], store=url_in(tmp_path)) as other:
        session = await lash.session("s")
        async with anyio.create_task_group() as group:
            group.start_soon(session.run, "first")
            await begun.wait()
            waits = await other.session("s", recover=False)
            with pytest.raises(TurnCancelled, match="nothing was asked or stored"):
                await waits.run("second", wait=True, deadline_s=0.3)
            go_on.set()
        assert await session.inbox() == []


async def test_what_was_done_stays_recorded_when_the_model_can_not_be_asked_any_more(tmp_path: Path) -> None:
    """The turn was forgotten with all that it had done."""
    mended, sent = False, Sent()
    sent.waits = False

    def say(request: LlmRequest) -> Reply | str:
        if sent.sent and not mended:
            raise ConfigurationError("the key was withdrawn")
        return sent.say(request)

    async with agent(say, store=url_in(tmp_path), tools=sent.tools) as lash:
        session = await lash.session("s")
        with pytest.raises(TurnBlocked, match="the key was withdrawn"):
            await session.run("Send and wait.", turn_id="t")
        mended = True
        (recovered,) = await session.recover()
        assert recovered.turn.text == "Done."
    assert sent.sent == 1


async def test_a_turn_that_is_cancelled_after_a_crash_keeps_what_is_recorded(tmp_path: Path) -> None:
    """It was committed empty: what was sent was in no history, and what was paid in no total."""
    url, sent = url_in(tmp_path), Sent()
    await sent.interrupted(url)
    async with agent(sent.say, store=url, tools=sent.tools) as lash:
        session = await lash.session("s", recover=False)
        asked = await session.cancel("enough")
        assert asked is not None
        assert await asked.won()
        (turn,) = [await lash.explain("t")] and [await session.run("Send and wait.", turn_id="t")]
        assert turn.outcome == Stopped(StopReason.CANCELLED)
        assert [(each.tool_name, each.output.outcome.tag) for each in turn.tool_calls] == [
            ("send", "success"),
            ("wait", "cancelled"),
        ]
        assert turn.usage.total > 0
    assert (sent.sent, sent.asked) == (1, 2)


async def test_a_turn_whose_mode_is_gone_can_be_abandoned(tmp_path: Path) -> None:
    """It stood in the way of its session for ever."""
    from lash_framework.settings import load_settings

    url, sent = url_in(tmp_path), Sent()
    with_mode = load_settings(env={}, sets=["modes.review.extends=standard"])
    async with agent(sent.say, store=url, tools=sent.tools, settings=with_mode) as lash:
        session = await lash.session("s", mode="review")
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: session.run("Send and wait.", turn_id="t"))
            await sent.begun.wait()
            group.cancel_scope.cancel()
    sent.waits = False
    async with agent(sent.say, store=url, tools=sent.tools) as lash:
        session = await lash.session("s", recover=False)
        for _ in range(3):
            with pytest.raises(TurnBlocked, match="review"):
                await session.recover()
        ended = await session.abandon("t")
        assert ended.turn.outcome == Stopped(StopReason.ABANDONED)
        assert (await session.run("And now?")).text == "Done."


async def test_what_is_enqueued_beside_another_process_runs_when_that_has_ended(tmp_path: Path) -> None:
    """Whoever ran the session ended with its own turn, and the input lay there until somebody came by."""
    begun, go_on, refused, ended = anyio.Event(), anyio.Event(), anyio.Event(), anyio.Event()

    async def slow(request: LlmRequest) -> str:
        begun.set()
        await go_on.wait()
        return "done"

    def lash_turn_committed(turn: Any) -> None:
        ended.set()

    watching = [plugin("watching", lash_turn_committed)]
    async with (
        agent(slow, store=url_in(tmp_path)) as lash,
        agent(["later"], store=url_in(tmp_path), plugins=watching) as other,
    ):
        store: Any = other.require_journal("this test").store
        begin = store.begin_turn

        async def begin_turn(given: Any) -> Any:
            claim = await begin(given)
            if isinstance(claim, LeaseBusy):
                refused.set()
            return claim

        store.begin_turn = begin_turn
        session = await lash.session("s")
        async with anyio.create_task_group() as group:
            group.start_soon(session.run, "first")
            await begun.wait()
            await (await other.session("s", recover=False)).enqueue("second", ingress=Ingress.NEXT_TURN)
            await refused.wait()
            go_on.set()
        with anyio.fail_after(10):
            await ended.wait()
        assert await session.inbox() == []
        texts = [each.text for each in await (await other.session("s")).messages()]
        assert texts == ["first", "done", "second", "later"]


async def test_a_cancel_runs_nothing_that_waits_behind_its_turn(tmp_path: Path) -> None:
    url, sent = url_in(tmp_path), Sent()
    await sent.interrupted(url)
    async with agent(sent.say, store=url, tools=sent.tools) as lash:
        session = await lash.session("s", recover=False)
        journalling = lash.require_journal("this test")
        request = TurnRequest(turn_id="next", turn_input=TurnInput.text("Next."), input_hash="h")
        await journalling.store.enqueue(journalling.item("s", request, session.policy, session.composition))
        asked = await session.cancel()
        assert asked is not None
        assert await asked.won()
        assert [each.turn_id for each in await session.inbox()] == ["next"]
        waiting = await session.cancel()
        assert waiting is not None
        assert await waiting.won()
        assert await session.inbox() == []
    assert sent.asked == 2


async def test_nothing_is_appended_under_a_turn_that_was_begun(tmp_path: Path) -> None:
    """Its requests were others then, and it could never go on."""
    url, sent = url_in(tmp_path), Sent()
    await sent.interrupted(url)
    async with agent(sent.say, store=url, tools=sent.tools) as lash:
        session = await lash.session("s", recover=False)
        note = AppendSessionNodesRequest(operation_id="note", nodes=())
        with pytest.raises(SessionBusy, match="recover or abandon it first"):
            await session.append(note)
        (recovered,) = await session.recover()
        assert recovered.turn.text == "Done."


def damage_first(folder: Path, damage: str, kind: str = "llm_call") -> None:
    """Damage the first record of this kind."""
    database = sqlite3.connect(folder / "lash.db")
    with database:
        first = "SELECT min(key) FROM journal WHERE kind = ?"
        database.execute(f"UPDATE journal SET {damage} WHERE key = ({first})", (kind,))
    database.close()


async def accepted(lash: Lash, session: Session, turn_id: str) -> None:
    """A turn of the session waits."""
    journalling = lash.require_journal("this test")
    request = TurnRequest(turn_id=turn_id, turn_input=normalized("Then rest."), input_hash=turn_id)
    waits = journalling.item(session.id, request, session.policy, lash.host.composition("standard"))
    await journalling.store.enqueue(waits)


async def test_only_the_turn_that_is_meant_is_abandoned(tmp_path: Path) -> None:
    """`t1`, which is committed, begins like `t10`, and so does no name at all: that turn was ended, for good."""
    begun, answers = anyio.Event(), iter(["Done."])

    async def say(request: LlmRequest) -> str:
        for answer in answers:
            return answer
        begun.set()
        return await anyio.sleep_forever()

    async with agent(say, store=url_in(tmp_path)) as lash:
        session = await lash.session("s", recover=False)
        assert (await session.run("hi", turn_id="t1")).is_success
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: session.run("and?", turn_id="t10"))
            await begun.wait()
            group.cancel_scope.cancel()
        for turn_id in ("t", "t105"):
            await accepted(lash, session, turn_id)
        for given in ("", "t1", "t", "t105", "t10x", "10"):
            with pytest.raises(UnknownName, match="session `s` would go on with turn `t10`"):
                await session.abandon(given)
        assert {each.turn_id: each.state for each in await lash.unfinished("s")} == {
            "t10": TurnState.INTERRUPTED, "t": TurnState.WAITING, "t105": TurnState.WAITING,
        }  # fmt: skip
        assert (await session.abandon("t10")).turn.turn_id == "t10"


async def test_what_several_turns_begin_with_abandons_none(tmp_path: Path) -> None:
    async with agent(["Done."], store=url_in(tmp_path)) as lash:
        session = await lash.session("s", recover=False)
        for turn_id in ("order-1", "order-2"):
            await accepted(lash, session, turn_id)
        with pytest.raises(UnknownName, match="it begins 2 turns' ids: type more of it"):
            await session.abandon("order")
        assert (await session.abandon("order-1")).turn.turn_id == "order-1"
        assert (await session.abandon("ord")).turn.turn_id == "order-2"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("status = 'of a later version'", "runtime_effect_corrupt: the record of llm_call"),
        ("body = 'text'", "runtime_effect_corrupt: the record of llm_call"),
        ("envelope_hash = 'text'", "runtime_effect_mismatch: llm_call"),
        ("body = x'7b'", "runtime_effect_corrupt: the record of llm_call"),
    ],
)
@pytest.mark.parametrize("way_out", ["abandon", "cancel"])
async def test_a_turn_with_a_damaged_record_is_blocked_at_last_and_can_be_given_up(
    damage: str, reason: str, way_out: str, tmp_path: Path
) -> None:
    """It couldn't even be begun: no turn of the session ever ran again, and nothing of other sessions was told."""
    sent = Sent()
    await sent.interrupted(url_in(tmp_path))
    damage_first(tmp_path, damage)
    async with agent(sent.say, store=url_in(tmp_path), tools=sent.tools) as lash:
        (rehearsed,) = await lash.upgrade_check()
        assert (rehearsed.verdict, rehearsed.at) == ("mismatch", 2)
        session = await lash.session("s", recover=False)
        for _ in range(3):
            with pytest.raises(TurnBlocked, match=reason):
                await session.recover()
        (turn,) = await lash.unfinished("s")
        assert turn.state is TurnState.BLOCKED
        asked, sent.asked = sent.asked, 0
        if way_out == "abandon":
            assert (await session.abandon("t")).turn.outcome == Stopped(StopReason.ABANDONED)
        else:
            request = await session.cancel()
            assert request is not None
            assert await request.won()
        assert (sent.sent, asked, sent.asked) == (1, 2, 0)  # nothing was paid again
        assert (await session.run("And now?")).is_success


DAMAGE = ["status = 'of a later version'", "body = 'text'", "body = x'7b'", "envelope_hash = 'text'", "kind = 'other'"]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("way_out", ["abandon", "cancel"])
async def test_a_call_whose_record_is_damaged_may_have_happened(damage: str, way_out: str, tmp_path: Path) -> None:
    """A turn that was given up told the model that the call was cancelled, which then made it once more."""
    sent = Sent()
    await sent.interrupted(url_in(tmp_path))
    damage_first(tmp_path, damage, "tool_call")
    async with agent(sent.say, store=url_in(tmp_path), tools=sent.tools) as lash:
        session = await lash.session("s", recover=False)
        with pytest.raises(TurnBlocked):
            await session.recover()
        if way_out == "abandon":
            turn = (await session.abandon("t")).turn
        else:
            request = await session.cancel()
            assert request is not None
            assert await request.won()
            turn = await session.run("Send and wait.", turn_id="t")
        (call,) = turn.tool_calls
        assert "may or may not have happened" in str(call.output)
        assert sent.sent == 1


async def test_a_record_whose_key_is_lost_keeps_nobody_from_answering_for_other_sessions(tmp_path: Path) -> None:
    """Its own turn can't be begun: what it was about would be run again. All of the list was refused, and the check."""

    @tool(may_defer=True)
    async def ask(ctx: ToolCallContext) -> Any:
        "Ask somebody who answers later."
        assert ctx.defer is not None
        return ctx.defer()

    sent = Sent()
    await sent.interrupted(url_in(tmp_path))
    damage_first(tmp_path, "replay_key = x'00'")
    script = [Reply(tool_calls=[Call("ask", {}, "c")]), "Done."]
    async with agent(script, store=url_in(tmp_path), tools=[ask, *sent.tools]) as lash:
        waits = await lash.session("waits")
        with pytest.raises(TurnSuspended):
            await waits.run("Ask.")
        (pending,) = await lash.pending()
        assert {each.session_id: each.verdict for each in await lash.upgrade_check()} == {
            "s": "old_set", "waits": "safe",
        }  # fmt: skip
        await lash.resolve(pending.key, result="yes")
        (recovered,) = await waits.recover()
        assert recovered.turn.text == "Done."
        with pytest.raises(StoreCorrupt, match="its key is"):
            await (await lash.session("s", recover=False)).recover()


async def test_a_turn_whose_commit_is_refused_is_blocked_at_last_and_can_be_abandoned(tmp_path: Path) -> None:
    """It was tried for ever, and the session took no other turn."""
    async with agent(["x" * 40_000, "ok"], store=url_in(tmp_path)) as lash:
        lash.budget = CommitBudget(max_bytes=30_000)
        session = await lash.session("s")
        for error in (BudgetExceeded, BudgetExceeded, TurnBlocked, TurnBlocked):
            with pytest.raises(error):
                await session.run("q", turn_id="t")
        ended = await session.abandon("t")
        assert ended.turn.outcome == Stopped(StopReason.ABANDONED)
        assert (await session.run("And now?")).text == "ok"


async def test_who_is_told_that_the_turn_before_was_refused_has_asked_for_nothing(tmp_path: Path) -> None:
    """What they asked for stayed in the inbox, and was done besides what they asked for again."""
    async with agent(["x" * 40_000, "ok", "more"], store=url_in(tmp_path)) as lash:
        lash.budget = CommitBudget(max_bytes=30_000)
        session = await lash.session("s")
        for given in ("q", "pay"):
            with pytest.raises(BudgetExceeded):
                await session.run(given, turn_id=given)
        assert [each.turn_id for each in await session.inbox()] == ["q"]
        await session.abandon("q")
        assert (await session.run("pay", turn_id="pay")).text == "ok"
        assert [each.text for each in await session.messages()] == ["q", "pay", "ok"]


async def test_what_an_abandoned_turn_has_cost_stays_though_nothing_else_of_it_does(tmp_path: Path) -> None:
    """Its tokens were in no turn and in no ledger; whoever kept a budget over the session spent them twice."""

    async def lash_before_turn(ctx: Any) -> None:
        if ctx.turn_index == 0:
            await ctx.completions.complete("aside")

    spent = TokenUsage(input=10, output=1000)
    model = iter([Reply(text="y", usage=spent), Reply(text="x" * 40_000, usage=spent)])
    async with agent(
        lambda request: next(model), store=url_in(tmp_path), plugins=[plugin("a", lash_before_turn)]
    ) as lash:
        lash.budget = CommitBudget(max_bytes=30_000)
        session = await lash.session("s")
        for error in (BudgetExceeded, BudgetExceeded, TurnBlocked):
            with pytest.raises(error):
                await session.run("q", turn_id="t")
        ended = await session.abandon("t")
        assert (ended.turn.usage.total, ended.turn.usage.at_least) == (2020, False)
        assert (await session.usage()).total.total == 2020


async def test_a_turn_id_can_be_used_again_after_a_turn_that_did_nothing(tmp_path: Path) -> None:
    """A missing key, mended, left the turn id cancelled for ever: its item stayed in the inbox."""
    refuses = [True]

    def say(request: LlmRequest) -> str:
        if refuses.pop():
            refuses.append(False)
            raise ConfigurationError("there is no key")
        return "ok"

    async with agent(say, store=url_in(tmp_path)) as lash:
        session = await lash.session("s")
        with pytest.raises(ConfigurationError):
            await session.run("q", turn_id="t")
        assert (await session.run("q", turn_id="t")).text == "ok"


async def test_a_turn_id_can_be_used_again_after_its_caller_left_the_line(tmp_path: Path) -> None:
    url, begun, go_on = url_in(tmp_path), anyio.Event(), anyio.Event()

    async def slow(request: LlmRequest) -> str:
        begun.set()
        await go_on.wait()
        return "done"

    async with agent(slow, store=url) as lash, agent(["late"], store=url) as other:
        async with anyio.create_task_group() as group:
            group.start_soon((await lash.session("s")).run, "first")
            await begun.wait()
            with pytest.raises(TurnCancelled):
                await (await other.session("s", recover=False)).run("q", turn_id="t", wait=True, deadline_s=0.2)
            go_on.set()
        assert (await (await other.session("s")).run("q", turn_id="t")).text == "late"


async def test_a_reply_that_was_paid_for_is_kept_when_the_turn_is_interrupted(tmp_path: Path) -> None:
    """It waits for the next write; whoever interrupts makes one."""
    asked: list[str] = []
    reached, waits = anyio.Event(), [True]

    def say(request: LlmRequest) -> str:
        asked.append(request.model)
        return "paid"

    async def lash_after_turn(ctx: object, turn: object) -> None:
        if waits.pop():
            waits.append(False)
            reached.set()
            await anyio.sleep_forever()

    async with agent(say, store=url_in(tmp_path), plugins=[plugin("slow", lash_after_turn)]) as lash:
        session = await lash.session("s")
        async with anyio.create_task_group() as group:
            group.start_soon(session.run, "q")
            await reached.wait()
            group.cancel_scope.cancel()
        (recovered,) = await session.recover()
    assert recovered.turn.text == "paid"
    assert asked == ["model"]


async def test_what_ran_as_a_turn_is_not_accepted_again_under_the_turns_id(tmp_path: Path) -> None:
    """A webhook that came as a turn and comes once more as an input, under the same id, ran twice after its commit."""
    async with agent(["once"], store=url_in(tmp_path)) as lash:
        session = await lash.session("s")
        await session.run("hi", turn_id="message-7")
        told = await session.enqueue("hi", source_key="message-7")
        assert (told.state, told.turn_id, told.no) == (InboxState.COMPLETED, "message-7", 0)
        with pytest.raises(InboxConflict, match="a turn `message-7` was committed with other content"):
            await session.enqueue("something else", source_key="message-7")
        await session.recover()
        assert [each.text for each in await session.messages()] == ["hi", "once"]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # whose tasks can be cancelled in the middle of a shielded wait
@pytest.mark.parametrize("call", ["begin_turn", "claim_lease"])
async def test_who_is_cancelled_while_the_session_is_being_taken_lets_go_of_it(call: str, tmp_path: Path) -> None:
    """A bare `Task.cancel()` is raised when the write is done, and its answer is lost: nobody knew of the lease."""
    asked = anyio.Event()
    async with agent(["one", "two"], store=url_in(tmp_path)) as lash, agent(["three"], store=url_in(tmp_path)) as other:
        session = await lash.session("s")
        await session.run("first")
        take = getattr(lash.store, call)

        async def noted(*args: Any, **options: Any) -> Any:
            asked.set()
            return await take(*args, **options)

        setattr(lash.store, call, noted)
        aside = AppendSessionNodesRequest(operation_id="aside", nodes=())
        task: asyncio.Task[Any] = asyncio.create_task(
            session.run("second", turn_id="t") if call == "begin_turn" else session.append(aside)
        )
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await lash.store.load_lease("s") is None
        await (await other.session("s", recover=False)).recover()


def queued(events: Sequence[Any]) -> list[tuple[str, Any, Any, list[str]]]:
    """What is told of queued inputs: which event, at which checkpoint, its items, its texts."""
    return [
        (each.tag, each.checkpoint, each.items, [message.text for message in each.messages])
        if isinstance(each, QueuedInputAccepted)
        else (each.tag, each.checkpoint, None, [message.text for message in each.inputs])
        for each in events
        if isinstance(each, (QueuedInputAccepted, QueuedMessagesCommitted))
    ]


async def test_the_stream_says_which_input_the_turn_took_while_it_ran(tmp_path: Path) -> None:
    """And which it didn't take: that is a turn of its own, of which observers are told the same."""
    sent = Sent()
    sent.waits = False
    async with agent(sent.say, store=url_in(tmp_path), tools=sent.tools) as lash:
        session, events, items = await lash.session("s"), [], []
        observer, screen = session.observe(), Screen()
        screen.show(await anext(observer))
        async with session.turn("Send and wait.", turn_id="t") as running:
            async for activity in running:
                events.append(activity.event)
                if isinstance(activity.event, ToolCallStarted) and not items:
                    items.append((await session.enqueue("And hurry.")).no)
                    later = await session.enqueue("Then rest.", ingress=Ingress.NEXT_TURN, source_key="rest")
        taken = [
            ("queued_input_accepted", CheckpointKind.AFTER_WORK, tuple(items), ["And hurry."]),
            ("queued_messages_committed", CheckpointKind.AFTER_WORK, None, ["And hurry."]),
        ]
        assert queued(events) == taken
        told = [each.tag for each in events]
        # Between the work that it waited for, and the model that reads it.
        between = told[told.index("queued_input_accepted") - 1 : told.index("queued_messages_committed") + 2]
        assert between == [
            "tool_call_completed", "queued_input_accepted", "queued_messages_committed", "model_request_started",
        ]  # fmt: skip
        assert (await session.run("Then rest.", turn_id="rest")).is_success
        await follow(observer, screen, turns=2)
        assert queued(screen.events) == [
            *taken,
            ("queued_input_accepted", None, (later.no,), ["Then rest."]),
            ("queued_messages_committed", None, None, ["Then rest."]),
        ]
        told = [each.tag for each in screen.events]
        second = told.index("turn_started", 1)
        assert told[second + 1 : second + 4] == [
            "queued_input_accepted", "queued_messages_committed", "model_request_started",
        ]  # fmt: skip
        texts = [each.text for each in await session.messages() if each.role is MessageRole.USER and each.text]
        assert texts == ["Send and wait.", "And hurry.", "Then rest."]


async def test_what_waits_is_cancelled_one_by_one_or_all_from_one_on(tmp_path: Path) -> None:
    """While a turn runs, each as far as it can be; what is unknown takes nothing later with it."""
    begun, go_on, asked = anyio.Event(), anyio.Event(), []

    async def slow(request: LlmRequest) -> str:
        asked.append(request)
        begun.set()
        await go_on.wait()
        return "done"

    async with agent(slow, store=url_in(tmp_path)) as lash:
        session = await lash.session("s")
        async with anyio.create_task_group() as group:
            group.start_soon(session.run, "first")
            await begun.wait()
            (running,) = await session.inbox()
            waits = [
                await session.enqueue(f"no. {each}", ingress=Ingress.NEXT_TURN, source_key=f"key {each}")
                for each in range(4)
            ]
            assert [each.no for each in await session.inbox()] == [running.no, *(each.no for each in waits)]
            assert await session.cancel_queued(10**6, onward=True) == {10**6: CancelOutcome.UNKNOWN}
            assert await session.cancel_queued(waits[1].no) == {waits[1].no: CancelOutcome.CANCELLED}
            last = [waits[2].no, waits[3].no]
            assert await session.cancel_queued(last[0], onward=True) == dict.fromkeys(last, CancelOutcome.CANCELLED)
            go_on.set()
        await session.recover()
        # What its turn's receipt knows as well is forgotten at once; what has a key of its own is not.
        assert await session.cancel_queued(running.no) == {running.no: CancelOutcome.UNKNOWN}
        assert await session.cancel_queued(waits[0].no) == {waits[0].no: CancelOutcome.COMPLETED}
        texts = [each.text for each in await session.messages()]
        assert texts == ["first", "done", "no. 0", "done"]
        assert len(asked) == 2


async def test_a_queued_input_whose_turn_runs_is_asked_to_end(tmp_path: Path) -> None:
    sent = Sent()
    async with agent(sent.say, store=url_in(tmp_path), tools=sent.tools) as lash:
        session = await lash.session("s")
        item = await session.enqueue("Send and wait.", ingress=Ingress.NEXT_TURN)
        await sent.begun.wait()
        assert await session.cancel_queued(item.no) == {item.no: CancelOutcome.REQUESTED}
        request = await session.cancel()
        assert request is None or await request.won()
        assert await session.inbox() == []
        (receipt,) = await lash.store.list_receipts("s")
        assert decode(AssembledTurn, receipt.result).outcome == Stopped(StopReason.CANCELLED)


async def test_an_input_that_comes_before_a_hook_fails_is_answered_in_a_turn_of_its_own(tmp_path: Path) -> None:
    """The checkpoint whose hook failed had taken it: it was settled with the turn, and nobody ever read it."""
    opened = list[Session]()

    async def lash_checkpoint(ctx: Any) -> list[Any]:
        if not opened:
            opened.append(await lash.session("s"))
            raise RuntimeError("not now")
        return []

    async def say(request: LlmRequest) -> str:
        if not opened:
            await session.enqueue("And hurry.", source_key="hurry")
        return "Done."

    async with agent(say, store=url_in(tmp_path), plugins=[plugin("fails", lash_checkpoint)]) as lash:
        session = await lash.session("s")
        assert (await session.run("Do it.")).outcome == Stopped(StopReason.RUNTIME_ERROR)
        await session.recover()
        assert [each.text for each in await session.messages()][-2:] == ["And hurry.", "Done."]
        assert await session.inbox() == []


async def test_whoever_wants_to_decide_opens_a_session_without_going_on_with_it(tmp_path: Path) -> None:
    url, sent = url_in(tmp_path), Sent()
    await sent.interrupted(url)
    asked = sent.asked
    by_hand = load_settings(env={}, sets=["durability.recover=false"])
    async with agent(sent.say, store=url, tools=sent.tools, settings=by_hand) as lash:
        session = await lash.session("s")
        (waits,) = await lash.unfinished()
        assert (waits.turn_id, waits.state, waits.attempts) == ("t", TurnState.INTERRUPTED, 1)
        assert sent.asked == asked
        (recovered,) = await session.recover()
        assert recovered.turn.turn_id == "t"
    assert sent.sent == 1
