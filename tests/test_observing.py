"""Observers of a session: everything in order, or a gap with the state; and no turn waits for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from agents import agent
from observe_kit import Screen, follow, read, told

import lash_framework.stream
from lash_framework.observing import Feed, Observer
from lash_hookspecs import (
    AssistantProseDelta,
    AttemptReset,
    GapReason,
    InboxState,
    InvalidCursor,
    MessageRole,
    Observation,
    ObservationGap,
    Observed,
    SessionDeleted,
    ToolCallCompleted,
    ToolCallStarted,
    ToolEffect,
    TurnActivity,
    TurnEnd,
    TurnEnded,
    TurnPhase,
    TurnStarted,
    TurnSuspended,
    decode,
    encode,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply


def url_in(folder: Path) -> str:
    return f"sqlite:///{folder / 'a.db'}"


@tool
async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


# ---- who watches ----------------------------------------------------------------------------------------------------


async def test_all_observers_see_what_the_iterator_sees_and_how_the_turn_began_and_ended(tmp_path: Path) -> None:
    """Whoever runs the turn, and whichever task of the host observes, by a session that it opened itself."""
    calls = Reply(tool_calls=[Call("add", {"a": 1, "b": 2})])
    async with told(["Let ", "me ", calls], ["Three", "."], store=url_in(tmp_path), tools=[add]) as lash:
        session = await lash.session("s")
        screens = [Screen(), Screen()]

        async def watch(screen: Screen) -> None:
            observer = (await lash.session("s")).observe()
            screen.show(await anext(observer))
            begun.set()
            await follow(observer, screen)

        async with anyio.create_task_group() as group:
            for screen in screens:
                begun = anyio.Event()
                group.start_soon(watch, screen)
                await begun.wait()
            async with session.turn("1+2?", turn_id="t") as running:
                seen = [activity async for activity in running]
                turn = await running.result()
    for screen in screens:
        first, started, *between, ended = screen.items
        assert isinstance(first, ObservationGap)
        assert first.reason is GapReason.NEW
        assert [each.activity for each in between if isinstance(each, Observed)] == seen
        assert isinstance(started, Observed)
        assert started.activity.event == TurnStarted("t")
        assert isinstance(ended, Observed)
        assert ended.activity.event == TurnEnded(turn_id="t", end=TurnEnd.COMMITTED, turn=turn)
        assert len(screen.gaps) == 1


async def test_a_turn_waits_for_no_observer_and_who_is_overtaken_is_told(tmp_path: Path) -> None:
    """Three activities are kept; one observer never reads before the end, and the turn has long ended."""
    pieces = [f"{number} " for number in range(50)]
    async with told(pieces, ["Again."], store=url_in(tmp_path), sets=["observers.ring=3"]) as lash:
        session = await lash.session("s")
        slow = session.observe()
        await read(slow, 1)
        with anyio.fail_after(10):
            turn = await session.run("Count.", turn_id="t")
        (gap,) = await read(slow, 1)
        assert isinstance(gap, ObservationGap)
        assert gap.reason is GapReason.OVERTAKEN
        assert gap.state.last_turn == turn
        assert gap.state.running is None
        assert (gap.state.head_revision, gap.state.turn_index) == (turn.state.head_revision, turn.state.turn_index)
        # The next turn is more than the ring holds: its end is told, or it is in the state of one more gap.
        await session.run("Again.", turn_id="u")
        (gap,) = await read(slow, 1)
        assert isinstance(gap, ObservationGap)
        assert gap.state.last_turn is not None
        assert gap.state.last_turn.turn_id == "u"


@pytest.mark.statement(47, page="effects")
async def test_who_comes_back_gets_exactly_what_was_missed_and_then_what_is_new(tmp_path: Path) -> None:
    """Amended: watchers read a ring and, once they are overtaken, the state; in order, and nothing twice."""
    async with told(["One ", "two ", "three."], ["Four."], ["Five."], store=url_in(tmp_path)) as lash:
        session = await lash.session("s")
        observer = session.observe()
        (state,) = await read(observer, 1)
        await session.run("Count.")
        await session.run("On.")
        screen = await follow(observer, Screen(), turns=2)
        items = [state, *screen.items]
        for at, left in enumerate(items):
            assert await read(session.observe(left.cursor), len(items) - at - 1) == items[at + 1 :]
        assert observer.cursor == items[-1].cursor
        # Who has missed nothing gets nothing: a silence that is proven.
        back, got = session.observe(items[-1].cursor), list[Observation]()

        async def watch() -> None:
            got.append(await anext(back))

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            await anyio.wait_all_tasks_blocked()
            assert got == []
            turn = await session.run("And on.", turn_id="c")
        assert got == await read(session.observe(items[-1].cursor), 1)
        assert isinstance(got[0], Observed)
        assert got[0].activity.event == TurnStarted(turn.turn_id)


async def test_disconnecting_an_observer_ends_nothing(tmp_path: Path) -> None:
    """Statement 44: who leaves was never a part of the turn."""
    left = anyio.Event()
    async with told(["Half ", left.wait, "and half."], store=url_in(tmp_path)) as lash:
        session = await lash.session("s")
        observer = session.observe()
        await read(observer, 1)  # or the state, which is read on a thread, may have what is waited for in its text
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                async for item in observer:
                    if isinstance(item, Observed) and isinstance(item.activity.event, AssistantProseDelta):
                        break
                left.set()

            group.start_soon(watch)
            await anyio.wait_all_tasks_blocked()
            assert (await session.run("q")).text == "Half and half."


# ---- who comes in the middle ----------------------------------------------------------------------------------------


async def test_who_comes_in_the_middle_of_a_reply_sees_its_text_so_far_and_then_the_rest(tmp_path: Path) -> None:
    """Nobody watched before. Half a character, and text that was taken back, are as for those who watched all along."""
    reached, go_on = anyio.Event(), anyio.Event()
    steps = ["Wrong.", AttemptReset(), "Hel\ud83d", reached.set, go_on.wait, "\ude00lo"]
    async with told(steps, store=url_in(tmp_path)) as lash:
        session = await lash.session("s")
        async with anyio.create_task_group() as group:

            async def run() -> None:
                await session.run("Hi", turn_id="t")

            group.start_soon(run)
            await reached.wait()
            observer = session.observe()
            (first,) = await read(observer, 1)
            assert isinstance(first, ObservationGap)
            view = first.state.running
            assert view is not None
            assert (view.turn_id, view.phase, view.text) == ("t", TurnPhase.MODEL, "Hel")
            assert [each.text for each in view.messages] == ["Hi"]
            assert first.state.last_turn is None
            assert first.state.waiting == ()
            go_on.set()
            screen = Screen()
            screen.show(first)
            await follow(observer, screen)
            (rest,) = [each for each in screen.events if isinstance(each, AssistantProseDelta)]
            assert screen.text == "Hel\N{GRINNING FACE}lo"
            (delta,) = [each for each in screen.items[1:] if isinstance(each, Observed) and each.activity.event == rest]
            assert delta.activity.correlation_id == view.correlation_id


async def test_whoever_comes_after_whichever_piece_has_the_whole_text_in_the_end(tmp_path: Path) -> None:
    """Their states are read from the store while the reply goes on: what is in the state doesn't come again."""
    screens, everybody = list[Screen](), anyio.Event()

    async def watch() -> None:
        screen, observer = Screen(), session.observe()
        screen.show(await anext(observer))
        screens.append(screen)
        if len(screens) == 12:
            everybody.set()
        await follow(observer, screen)

    def join() -> None:
        group.start_soon(watch)

    async def breathe() -> None:
        await anyio.lowlevel.checkpoint()

    pieces: list[Any] = []
    for number in range(12):
        pieces += [f"{number} ", *([AttemptReset()] if number == 5 else []), join, breathe]
    async with told([*pieces, everybody.wait, "end"], store=url_in(tmp_path)) as lash:
        session = await lash.session("s")
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                await session.run("Count.")
    assert [screen.text for screen in screens] == ["6 7 8 9 10 11 end"] * 12


async def test_the_journal_is_the_same_whether_or_not_anybody_watched(tmp_path: Path) -> None:
    rows = []
    for watched in (False, True):
        folder = tmp_path / str(watched)
        folder.mkdir()
        async with told(["Hel", "lo."], store=url_in(folder), sets=["durability.keep_journal_h=1"]) as lash:
            session = await lash.session("s")
            observer = session.observe() if watched else None
            async with session.turn("q", turn_id="t") as running:
                if watched:
                    assert [activity async for activity in running]
                await running.result()
            if observer is not None:
                assert len((await read(observer, 1))[0].cursor) > 0
            journal = await lash.require_journal("this test").store.load_journal("s", "t")
            rows.append([(row.label, row.body) for row in journal if row.kind == "llm_call"])
    assert rows[0] == rows[1]
    assert len(rows[0]) == 1


async def test_who_comes_in_the_middle_of_tools_sees_each_as_it_is(tmp_path: Path) -> None:
    ended, go_on = anyio.Event(), anyio.Event()

    @tool
    async def slow() -> str:
        """Waits."""
        await go_on.wait()
        return "slow"

    @tool
    async def quick() -> str:
        """Doesn't."""
        return "quick"

    async with told(
        ["Look.", Reply(tool_calls=[Call("quick", {}, "q"), Call("slow", {}, "s")])],
        ["Done."],
        store=url_in(tmp_path),
        tools=[quick, slow],
    ) as lash:
        session = await lash.session("s")

        async def run() -> None:
            async with session.turn("Hi", turn_id="t") as running:
                async for activity in running:
                    if isinstance(activity.event, ToolCallCompleted) and activity.event.name == "quick":
                        ended.set()

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await ended.wait()
            observer = session.observe()
            (first,) = await read(observer, 1)
            assert isinstance(first, ObservationGap)
            view = first.state.running
            assert view is not None
            assert (view.phase, view.text) == (TurnPhase.TOOLS, "")
            assert [each.role for each in view.messages] == [MessageRole.USER, MessageRole.ASSISTANT]
            assert {each.call_id: type(each) for each in view.tool_calls} == {
                "q": ToolCallCompleted,
                "s": ToolCallStarted,
            }
            go_on.set()
            screen = await follow(observer, Screen())
            assert [each.call_id for each in screen.events if isinstance(each, ToolCallCompleted)] == ["s"]
            assert ToolCallStarted not in map(type, screen.events)


async def test_a_state_has_what_waits_too(tmp_path: Path) -> None:
    reached, go_on = anyio.Event(), anyio.Event()
    async with told(["a", reached.set, go_on.wait], ["b"], store=url_in(tmp_path)) as lash:
        session = await lash.session("s")
        async with anyio.create_task_group() as group:
            group.start_soon(session.run, "one")
            await reached.wait()
            item = await session.enqueue("two", source_key="mine")
            observer = session.observe()
            (first,) = await read(observer, 1)
            assert isinstance(first, ObservationGap)
            assert [(each.turn_id, each.state) for each in first.state.waiting] == [(item.turn_id, InboxState.PENDING)]
            go_on.set()
            await follow(observer, Screen())


async def test_a_state_has_the_last_turn_also_behind_appends(tmp_path: Path) -> None:
    from lash_hookspecs import AppendSessionNodesRequest, SessionAppendNode

    async with told(["Hello."], store=url_in(tmp_path)) as lash:
        session = await lash.session("s")
        turn = await session.run("q")
        for number in range(20):
            nodes = (SessionAppendNode.user(f"m{number}", "By the way."),)
            await session.append(AppendSessionNodesRequest(operation_id=f"o{number}", nodes=nodes))
        (first,) = await read(session.observe(), 1)
        assert isinstance(first, ObservationGap)
        assert first.state.last_turn == turn
        assert first.state.head_revision == turn.state.head_revision + 20


# ---- what it costs --------------------------------------------------------------------------------------------------


class Counted:
    """How many activities were made, and how often a list of them was handed to a ring, or skipped it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = 0
        self.handed = 0

        def activity(*args: Any) -> TurnActivity:
            self.made += 1
            return TurnActivity(*args)

        publish = Feed.publish

        def counted(feed: Feed, batch: Any) -> None:
            if feed.ring is not None:
                self.handed += 1
            publish(feed, batch)

        monkeypatch.setattr(lash_framework.stream, "TurnActivity", activity)
        monkeypatch.setattr(Feed, "publish", counted)

    def take(self) -> tuple[int, int]:
        taken = self.made, self.handed
        self.made = self.handed = 0
        return taken


async def test_with_nobody_watching_nothing_is_made_and_an_iterator_costs_no_ring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ring is filled from the first observer on, and until it has nothing to answer with any more."""
    counted = Counted(monkeypatch)
    pieces = ["one ", "two ", "three."]
    async with told(*[pieces] * 8, store=url_in(tmp_path), sets=["observers.ring=7"]) as lash:
        session = await lash.session("s")
        await session.run("q")
        assert counted.take() == (0, 0)
        async with session.turn("q") as running:
            seen = [activity async for activity in running]
        assert counted.take() == (len(seen), 0)
        observer = session.observe()
        await session.run("q")
        made, handed = counted.take()
        # The turn's start and its end are told to observers only; a list for each of the three reads.
        assert made == len(seen) + 2
        assert handed <= made
        (first,) = await read(observer, 1)
        await session.run("q")
        screen = await follow(observer, Screen())
        assert len(screen.items) == made
        counted.take()
        del observer
        await session.run("q")  # for whoever comes back: these are all that it holds
        kept, _ = counted.take()
        assert kept == made
        back = await follow(session.observe(screen.items[-1].cursor), Screen())
        assert back.gaps == []
        counted.take()
        await session.run("q")
        await session.run("q")  # by now the ring has nothing that anybody could ask for
        counted.take()
        await session.run("q")
        assert counted.take() == (0, 0)
        (late,) = await read(session.observe(back.items[-1].cursor), 1)
        assert isinstance(late, ObservationGap)
        assert late.reason is GapReason.OTHER_RUN
        assert isinstance(first, ObservationGap)


async def test_a_list_per_network_read_is_handed_over_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty deltas in one read wake the observers once."""
    from lash_hookspecs import LlmEventSender, LlmRequest, LlmResponse, StreamDelta
    from lash_plugin_provider_scripted import ScriptedProvider

    class InOne(ScriptedProvider):
        async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
            async def nowhere(events: Any) -> None:
                pass

            before = counted.handed
            await send([StreamDelta("a")] * 20)
            lists.append(counted.handed - before)
            return await super().complete(request, nowhere)

    lists: list[int] = []
    counted = Counted(monkeypatch)
    async with agent(InOne(["a" * 20]), store=url_in(tmp_path)) as lash:
        session = await lash.session("s")
        observer = session.observe()
        await read(observer, 1)
        await session.run("q")
        screen = await follow(observer, Screen())
    assert lists == [1]
    assert screen.text == "a" * 20


# ---- cursors --------------------------------------------------------------------------------------------------------


async def test_a_cursor_that_was_never_given_out_is_an_error_that_names_it(tmp_path: Path) -> None:
    async with told(["Hello."], store=url_in(tmp_path)) as lash:
        session, other = await lash.session("s"), await lash.session("other")
        (mine,) = await read(session.observe(), 1)
        (theirs,) = await read(other.observe(), 1)
        observer = session.observe()  # keeps the ring
        ahead = mine.cursor[:-1] + "7"
        for cursor in ("", "what", mine.cursor + "x", theirs.cursor, ahead, f"{mine.cursor}\n", 7):
            with pytest.raises(InvalidCursor) as refused:
                session.observe(cursor)  # type: ignore[arg-type]  # as a caller may
            assert refused.value.cursor == str(cursor)
            assert f"`{cursor}`" in str(refused.value)
        with pytest.raises(InvalidCursor, match="of another session"):
            session.observe(theirs.cursor)
        del observer
        assert mine.cursor.isascii()
        assert " " not in mine.cursor


async def test_items_cross_the_wire(tmp_path: Path) -> None:
    """What an observer gets can be sent to a browser and read again."""
    calls = Reply(tool_calls=[Call("add", {"a": 1, "b": 2})])
    async with told([calls], ["Three."], store=url_in(tmp_path), tools=[add]) as lash:
        session = await lash.session("s")
        observer = session.observe()
        first = await anext(observer)
        await session.run("q")
        screen = await follow(observer, Screen())
        for item in [first, *screen.items]:
            assert decode(Observation, encode(item)) == item  # type: ignore[arg-type]  # a union is a type here


# ---- ends -----------------------------------------------------------------------------------------------------------


async def test_an_observer_ends_with_the_host_after_what_was_there_to_read(tmp_path: Path) -> None:
    ends: list[str] = []
    async with anyio.create_task_group() as group, told(["Hello."], store=url_in(tmp_path)) as lash:
        session = await lash.session("s")
        late = session.observe()
        await read(late, 1)

        async def watch() -> None:
            ends.extend([type(item).__name__ async for item in session.observe()])
            ends.append("the end")

        group.start_soon(watch)
        await anyio.wait_all_tasks_blocked()
        await session.run("q")
    assert ends[0] == "ObservationGap"
    assert ends[-1] == "the end"
    assert [type(each) async for each in late][-1] is Observed
    assert [each async for each in session.observe()] == []


async def test_an_observer_of_a_session_that_is_deleted_is_told(tmp_path: Path) -> None:
    async with told(["Hello."], store=url_in(tmp_path)) as lash:
        session = await lash.session("s")
        await session.run("q")
        observer = session.observe()
        await read(observer, 1)
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                with pytest.raises(SessionDeleted), anyio.fail_after(10):
                    await anext(observer)

            group.start_soon(watch)
            await anyio.wait_all_tasks_blocked()
            assert await lash.delete_session("s")
        with pytest.raises(SessionDeleted):
            await anext(session.observe())


# ---- over an interruption -------------------------------------------------------------------------------------------


async def test_a_run_that_is_interrupted_and_gone_on_with_shows_no_id_twice_and_says_what_it_does_not_show(
    tmp_path: Path,
) -> None:
    """The iterator of the first run, and an observer of both: ids and rows of the two runs are never the same."""
    reached, told_of_gap = anyio.Event(), anyio.Event()

    @tool(effect=ToolEffect.PURE)
    async def look() -> str:
        """Look."""
        return "seen"

    async with told(
        ["Let me look.", Reply(tool_calls=[Call("look", {}, "l")])],
        ["I have", reached.set, anyio.sleep_forever],
        ["I have ", told_of_gap.wait, "seen."],
        store=url_in(tmp_path),
        tools=[look],
    ) as lash:
        session = await lash.session("s")
        observer = session.observe()
        await read(observer, 1)
        iterated: list[TurnActivity] = []
        async with anyio.create_task_group() as group:

            async def run() -> None:
                async with session.turn("Look.", turn_id="t") as running:
                    async for activity in running:
                        iterated.append(activity)  # noqa: PERF401  # the turn is interrupted in between

            group.start_soon(run)
            await reached.wait()
            group.cancel_scope.cancel()
        first = await follow(observer, Screen())
        assert first.ended == [TurnEnded(turn_id="t", end=TurnEnd.INTERRUPTED)]
        second = Screen()
        async with anyio.create_task_group() as group:
            group.start_soon(session.recover)
            second.on_gap = told_of_gap.set
            await follow(observer, second)
        assert [(each.turn_id, each.end) for each in second.ended] == [("t", TurnEnd.COMMITTED)]
        assert set(first.ids).isdisjoint(second.ids)
        assert {each.id for each in iterated} <= set(first.ids)
        assert len({*first.ids, *second.ids}) == len(first.ids) + len(second.ids)
        # Rows, too: what is said anew isn't put behind what was said before.
        rows = [
            {each.activity.correlation_id for each in screen.items if isinstance(each, Observed) and is_prose(each)}
            for screen in (first, second)
        ]
        assert rows[0].isdisjoint(rows[1])
        # "Let me look." was streamed by the first run and isn't again: the state has it, in one gap.
        (gap,) = second.gaps
        assert gap.reason is GapReason.REPLAYED
        assert gap.state.running is not None
        assert [each.text for each in gap.state.running.messages[:2]] == ["Look.", "Let me look."]
        assert second.text == "I have seen."


def is_prose(item: Observed) -> bool:
    return isinstance(item.activity.event, AssistantProseDelta)


async def test_a_suspended_turn_is_told_as_that(tmp_path: Path) -> None:
    async with told(
        [Reply(tool_calls=[Call("pay", {}, "p")])], ["Paid."], store=url_in(tmp_path), tools=[pay(anyio.Event())]
    ) as lash:
        session = await lash.session("s")
        async with anyio.create_task_group() as group:
            observer = session.observe()
            await read(observer, 1)
            group.start_soon(session.run, "Pay.")
            async for item in observer:
                if isinstance(item, Observed) and isinstance(item.activity.event, ToolCallStarted):
                    break
            group.cancel_scope.cancel()
        await follow(observer, Screen())
        with pytest.raises(TurnSuspended):
            await session.recover()
        screen = await follow(observer, Screen())
        assert [each.end for each in screen.ended] == [TurnEnd.SUSPENDED]
        (state,) = await read(session.observe(), 1)
        assert isinstance(state, ObservationGap)
        assert [each.state for each in state.state.waiting] == [InboxState.SUSPENDED]


def pay(never: anyio.Event) -> Any:
    @tool(on_unknown="wait")
    async def pay() -> str:
        """Pay."""
        await never.wait()
        return "paid"

    return pay


# ---- two processes --------------------------------------------------------------------------------------------------


CHILD = """
import os, signal, sys
import anyio
from observe_kit import told
from lash_hookspecs import AssistantProseDelta, Observed
from lash_plugin_provider_scripted import Call, Reply
from test_observing import look

async def main():
    die = anyio.Event()
    async with told(
        ["Let me look.", Reply(tool_calls=[Call("look", {}, "l")])],
        ["I have", anyio.sleep_forever], store=sys.argv[1], tools=[look],
    ) as lash:
        session = await lash.session("s")
        async with anyio.create_task_group() as group:
            observer = session.observe()
            await anext(observer)
            group.start_soon(lambda: session.run("Look.", turn_id="t"))
            async for item in observer:
                print(item.cursor, item.activity.id, flush=True)
                if isinstance(item.activity.event, AssistantProseDelta) and item.activity.event.text == "I have":
                    os.kill(os.getpid(), signal.SIGKILL)

anyio.run(main)
"""


@tool(effect=ToolEffect.PURE)
async def look() -> str:
    """Look."""
    return "seen"


async def test_what_another_host_does_is_in_the_next_state_once_it_is_committed(tmp_path: Path) -> None:
    """An observer is told what runs in its own host; another one's turn, while it runs, is one that waits."""
    reached, go_on = anyio.Event(), anyio.Event()
    theirs = ["Hel", reached.set, go_on.wait, "lo."]
    async with told(theirs, store=url_in(tmp_path)) as other, told(["Mine."], store=url_in(tmp_path)) as lash:
        session, elsewhere = await lash.session("s"), await other.session("s")
        observer, screen = session.observe(), Screen()
        screen.show(await anext(observer))
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: elsewhere.run("Hello?", turn_id="theirs"))
            await reached.wait()
            (during,) = await read(session.observe(), 1)
            go_on.set()
        assert isinstance(during, ObservationGap)
        assert (during.state.running, during.state.last_turn) == (None, None)
        assert [each.turn_id for each in during.state.waiting] == ["theirs"]
        (after,) = await read(session.observe(), 1)
        assert isinstance(after, ObservationGap)
        assert after.state.last_turn is not None
        assert (after.state.last_turn.text, after.state.waiting) == ("Hello.", ())
        await session.run("And you?", turn_id="mine")
        await follow(observer, screen)
        assert [each.turn_id for each in screen.events if isinstance(each, TurnStarted)] == ["mine"]


@pytest.mark.chaos
async def test_the_cursor_of_a_process_that_was_killed_in_the_middle_of_a_reply_leads_to_a_gap_with_the_state(
    tmp_path: Path,
) -> None:
    """The next process goes on with the turn; whoever comes over from the first one redraws, and misses nothing."""
    url = url_in(tmp_path)
    path = os.pathsep.join([str(Path(__file__).parent), *(each for each in sys.path if each)])
    environment = {**os.environ, "PYTHONPATH": path}
    child = subprocess.run(  # noqa: ASYNC221  # nothing else is to be done here
        [sys.executable, "-c", CHILD, url], env=environment, capture_output=True, text=True, check=False
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    lines = [line.split() for line in child.stdout.splitlines()]
    cursor, ids = lines[-1][0], {id for _, id in lines}
    reached, go_on = anyio.Event(), anyio.Event()
    async with told(["I have ", reached.set, go_on.wait, "seen it."], store=url, tools=[look]) as lash:
        session = await lash.session("s", recover=False)
        # Before the turn goes on, it is known to wait.
        (before,) = await read(session.observe(cursor), 1)
        assert isinstance(before, ObservationGap)
        assert before.reason is GapReason.OTHER_RUN
        assert before.state.running is None
        assert [(each.turn_id, each.state) for each in before.state.waiting] == [("t", InboxState.CLAIMED)]
        async with anyio.create_task_group() as group:
            group.start_soon(session.recover)
            await reached.wait()
            observer = session.observe(cursor)
            (gap,) = await read(observer, 1)
            assert isinstance(gap, ObservationGap)
            assert gap.reason is GapReason.OTHER_RUN
            view = gap.state.running
            assert view is not None
            assert (view.turn_id, view.phase, view.text) == ("t", TurnPhase.MODEL, "I have ")
            assert [each.text for each in view.messages][:2] == ["Look.", "Let me look."]
            go_on.set()
            screen = Screen()
            screen.show(gap)
            await follow(observer, screen)
        assert screen.text == "I have seen it."
        assert screen.ended[0].turn is not None
        assert screen.ended[0].turn.text == "I have seen it."
        assert ids.isdisjoint(screen.ids)
        assert (await read(session.observe(screen.items[0].cursor), 1))[0] == screen.items[1]


def test_what_came_before_somebody_looked_again_counts_for_nothing() -> None:
    """A ring is dropped once nobody has observed for longer than it is; who looked meanwhile begins that anew."""
    feed, activity = Feed("s", 4, lambda size: "0" * 2 * size), TurnActivity("id", "id", TurnStarted("t"))
    session: Any = SimpleNamespace(id="s", feed=feed)
    first = Observer(session, None, None)
    ring = feed.ring
    del first
    feed.publish([activity] * 3)
    again = Observer(session, None, None)
    del again
    feed.publish([activity] * 3)
    assert feed.ring is ring is not None
    feed.publish([activity] * 2)
    assert feed.ring is None
