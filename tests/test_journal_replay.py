"""Law 1 on the journal: a turn goes on from any rows that a process may have left, and ends in the same bytes."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from functools import partial
from typing import Any

import anyio
import pytest
from agents import inline_agent, plugin
from journal_kit import JournalHost, Killed, MemoryJournal
from test_replay import ENDS, World, turn_of

from lash_framework import envelope_hash, journal_decisions, message_chain
from lash_framework.journal import BREATH
from lash_framework.journal_errors import EffectsSuspended, EffectUnrecorded
from lash_framework.recorded_only import RecordedOnly
from lash_hookspecs import (
    EffectController,
    LlmRequest,
    OnUnknown,
    RuntimeScope,
    ToolCallFailure,
    ToolEffect,
    _unstructured,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply

pytestmark = pytest.mark.costly


@pytest.mark.parametrize(("at", "fault"), ENDS)
async def test_replay_equals_live_to_the_byte_and_nothing_is_called(at: str | None, fault: str | None) -> None:
    live, again, host = World(at=at, fault=fault), World(at=at, fault=fault), JournalHost()
    async with live.open() as lash:
        turn, committed = await turn_of(lash, host)  # type: ignore[arg-type]  # any host will do
    assert turn.is_success is (at is None)
    assert turn.durable
    replay = JournalHost(host.committed())
    async with again.open() as lash:
        _, recommitted = await turn_of(lash, replay)  # type: ignore[arg-type]  # the same
    assert recommitted == committed
    assert replay.controller is not None
    assert replay.controller.ran == []
    assert replay.controller.recorded.left == ()
    assert replay.journal.writes == []
    assert again.calls == {}


CALLS = 200
"""How many functions of Python may be called for a record: to replay it, and to commit what it says."""


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # counts are the same on every event loop
async def test_a_record_costs_the_same_however_long_its_turn_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each message is hashed once, few outcomes are decoded, little is called, and the event loop hardly passes."""
    made: Counter[str] = Counter()
    # How often a class was written before, in other tests of this process, decides how it is written from then on.
    monkeypatch.setattr(_unstructured, "_ways", {})

    def counted(module: Any, name: str) -> None:
        function = getattr(module, name)

        def call(*args: Any) -> Any:
            made[name] += 1
            return function(*args)

        monkeypatch.setattr(module, name, call)  # a counter around our own function, not a stand-in

    for module, name in ((message_chain, "_token"), (envelope_hash, "message_digest"), (journal_decisions, "decode")):
        counted(module, name)
    selector: Any = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]  # where each pass looks
    counted(selector, "select")

    @tool
    async def look(at: int) -> str:
        """Look."""
        return f"seen {at}"

    readings = []
    for rounds in (8, 40, 72):
        script = [Reply(tool_calls=[Call("look", {"at": at})]) for at in range(rounds)]
        host = JournalHost()
        async with inline_agent([*script, Reply(text="done")], tools=[look]) as lash:
            lash.effects = host
            await (await lash.session("s")).run("go", turn_id="t")
        replay = JournalHost(host.committed())
        async with inline_agent([], tools=[look]) as lash:
            lash.effects = replay
            session = await lash.session("s")
            made.clear()
            sys.setprofile(lambda frame, event, arg: made.update(("calls",) if event == "call" else ()))
            try:
                turn = await session.run("go", turn_id="t")
            finally:
                sys.setprofile(None)
            assert turn.text == "done"
            readings.append(dict(made))
        assert replay.controller is not None
        assert replay.controller.ran == []
        assert len(replay.controller.replayed) == 4 * rounds + 4
    _, few, more = readings  # the first one meets what is remembered from then on
    # A round is a call and its result; they are hashed, and again when messages are joined in a run, which is seldom.
    assert more.pop("_token") <= 2.5 * 2 * 73
    assert more.pop("calls") - few["calls"] <= CALLS * 4 * 32
    # As many outcomes: the round's checkpoint and its environment say nothing new.
    assert {name: count - few[name] for name, count in more.items()} == {
        "message_digest": 32,  # the prompt's, which is short
        "decode": 2 * 32,
        "select": 4 * 32 / BREATH,
    }


@pytest.mark.parametrize("after", [False, True], ids=["before_the_write", "answer_lost"])
async def test_a_turn_that_is_killed_at_any_write_ends_like_one_that_is_not(after: bool) -> None:
    """Whatever has a record isn't run again; what an unsafe tool may have done is told, and never done again."""
    whole = JournalHost()
    async with World().open() as lash:
        _, (_, nodes, *_) = await turn_of(lash, whole)  # type: ignore[arg-type]  # any host will do
    killed = 0
    while True:  # what is written together depends on the order in which tools end
        world, host = World(), JournalHost(MemoryJournal(dies_at=killed, after=after))
        async with world.open() as lash:
            try:
                await turn_of(lash, host)  # type: ignore[arg-type]  # the same
            except Killed:
                killed += 1
            else:
                break
        recorded, left = [row.label for row in host.journal.rows if row.status == "done"], host.again()
        async with world.open() as lash:
            turn, (_, resumed, *_) = await turn_of(lash, left)  # type: ignore[arg-type]  # the same
        assert turn.is_success
        assert turn.durable
        assert left.controller is not None
        assert not set(recorded) & set(left.controller.ran)
        assert world.calls["tool"] <= 3  # unsafe, all of them
        assert [each.node_id for each in resumed] == [each.node_id for each in nodes]
    assert killed >= 7  # writes: the first reply's, five of its tools at least, and the last


@pytest.mark.parametrize(("at", "fault"), ENDS)
async def test_every_prefix_of_the_rows_is_a_place_to_go_on_from(at: str | None, fault: str | None) -> None:
    whole = JournalHost()
    async with World(at=at, fault=fault).open() as lash:
        _, (_, nodes, *_) = await turn_of(lash, whole)  # type: ignore[arg-type]  # any host will do
    rows = whole.committed().rows
    for length in range(len(rows) + 1):
        world, host = World(at=at, fault=fault), JournalHost(MemoryJournal(rows[:length]), attempt=2)
        async with world.open() as lash:
            turn, (_, resumed, *_) = await turn_of(lash, host)  # type: ignore[arg-type]  # the same
        assert turn.is_success is (at is None)
        assert host.controller is not None
        assert not {row.label for row in rows[:length]} & set(host.controller.ran)
        assert [each.node_id for each in resumed] == [each.node_id for each in nodes]
        # Nobody knows whether the process before had asked the model when it died.
        left = [row.kind for row in rows[length:] if row.kind in ("llm_call", "tool_call")]
        assert turn.usage.at_least is (left[:1] == ["llm_call"])


# ---- a batch, killed anywhere ---------------------------------------------------------------------------------------


class Bank:
    """Eight tools of all purities, and how often each was called; any of them may hang."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.hang: set[str] = set()
        self.hung = anyio.Event()

    def tools(self) -> list[Any]:
        effects = [*ToolEffect, *ToolEffect, ToolEffect.UNSAFE, ToolEffect.UNSAFE]
        return [self._tool(f"t{number}", effect, number == 7) for number, effect in enumerate(effects)]

    def _tool(self, name: str, effect: ToolEffect, waits: bool) -> Any:
        @tool(name=name, effect=effect, on_unknown=OnUnknown.WAIT if waits else OnUnknown.FAIL)
        async def called() -> str:
            """Do something."""
            self.calls[name] = self.calls.get(name, 0) + 1
            await anyio.lowlevel.checkpoint()
            if name in self.hang:
                if {each for each in self.calls if each in self.hang} == self.hang:
                    self.hung.set()
                await anyio.sleep_forever()
            return name

        return called


def script(*calls: Call) -> Any:
    """A model that makes these calls, and is done once it has their results."""

    async def model(request: LlmRequest) -> Reply:
        results = any(block.tag == "tool_result" for message in request.messages for block in message.blocks)
        return Reply(text="Done.") if results else Reply(tool_calls=list(calls))

    return model


EIGHT = script(*(Call(f"t{number}", {}, f"c{number}") for number in range(8)))
UNSAFE = ("t2", "t5", "t6", "t7")
ALL = [f"t{number}" for number in range(8)]


def label(name: str) -> str:
    return f"tool_call `{name}` (c{name[1:]})"


def done_in(journal: MemoryJournal) -> set[str]:
    return {row.label for row in journal.rows if row.status == "done"}


async def killed_and_resumed(dies_at: int | None, after: bool) -> None:
    """A process dies at a write, another goes on: nothing recorded runs again, and nothing unsafe runs twice."""
    bank = Bank()
    first = JournalHost(MemoryJournal(dies_at=dies_at, after=after))
    async with inline_agent(EIGHT, tools=bank.tools()) as lash:
        lash.effects = first
        try:
            await (await lash.session("s")).run("q", turn_id="t")
        except Killed:
            pass
        else:
            return
    second, before, done = first.again(), dict(bank.calls), done_in(first.journal)
    suspended: tuple[str, ...] = ()
    async with inline_agent(EIGHT, tools=bank.tools()) as lash:
        lash.effects = second
        try:
            turn = await (await lash.session("s")).run("q", turn_id="t")
        except EffectsSuspended as error:
            suspended = tuple(error.waiting.values())
    assert second.controller is not None
    assert not done & set(second.controller.ran)
    assert all(bank.calls.get(name, 0) <= 1 for name in UNSAFE)
    for name in ALL:
        assert bank.calls.get(name, 0) == before.get(name, 0) + (label(name) in second.controller.ran)
    if suspended:
        assert suspended == (label("t7"),)
        assert {label(name) for name in ALL if name != "t7"} <= done_in(second.journal)  # all others ended
        return
    assert turn.text == "Done."
    failed = {call.tool_name for call in turn.tool_calls if isinstance(call.output.outcome, ToolCallFailure)}
    assert {label(name) for name in failed} == set(second.controller.unknown)
    assert failed <= set(UNSAFE)


@pytest.mark.parametrize("after", [False, True], ids=["before_the_write", "answer_lost"])
@pytest.mark.parametrize("dies_at", [None, 0, 1, 2, 3, 4, 5, 6])
async def test_a_batch_of_eight_killed_at_a_write_runs_no_unsafe_tool_twice(dies_at: int | None, after: bool) -> None:
    await killed_and_resumed(dies_at, after)


async def test_eight_tools_that_end_together_cost_one_write_and_their_intents_another() -> None:
    bank, host = Bank(), JournalHost()
    async with inline_agent(EIGHT, tools=bank.tools()) as lash:
        lash.effects = host
        await (await lash.session("s")).run("q", turn_id="t")
    intents, outcomes, *hooks = host.journal.writes
    assert intents == [
        "turn_start: done",
        "llm_call 2 of iteration 0: done",
        *(f"{label(name)}: intent" for name in UNSAFE),
    ]
    assert len(outcomes) == 8
    # A paid reply doesn't hang on a hook: with a plugin at the checkpoint it is made durable before that.
    assert host.controller is not None
    assert len(hooks) <= 1
    assert [row.kind for row in host.controller.held][-2:] == ["silence", "turn_end"]


async def test_a_journal_that_can_not_be_written_stops_the_calls_that_still_run() -> None:
    """A lost lease: another process has the turn now. What failed comes out as it is, in no group."""
    bank, host = Bank(), JournalHost(MemoryJournal(dies_at=1))
    bank.hang = {"t1"}
    async with inline_agent(EIGHT, tools=bank.tools()) as lash:
        lash.effects = host
        with pytest.raises(Killed):
            await (await lash.session("s")).run("q", turn_id="t")
    assert bank.calls["t1"] == 1


async def test_a_paid_reply_is_durable_before_a_slow_hook_of_a_plugin_runs() -> None:
    host, found = JournalHost(), []

    async def lash_checkpoint(ctx: Any) -> None:
        found.append([row.kind for row in host.journal.rows])

    async with inline_agent(["Hello."], plugins=[plugin("slow", lash_checkpoint)]) as lash:
        lash.effects = host
        await (await lash.session("s")).run("q", turn_id="t")
    assert found == [["turn_start", "llm_call"]]


# ---- children -------------------------------------------------------------------------------------------------------


async def test_a_child_that_waits_for_a_person_suspends_the_turn_after_its_siblings_have_ended() -> None:
    bank = Bank()
    bank.hang = {"t0", "t7"}
    calls = [{"tool": "t7", "parameters": {}}, {"tool": "t0", "parameters": {}}]
    model, host = script(Call("batch", {"calls": calls}, "b")), JournalHost()
    async with inline_agent(model, tools=bank.tools()) as lash, anyio.create_task_group() as group:
        lash.effects = host
        session = await lash.session("s")
        group.start_soon(partial(session.run, "q", turn_id="t"))
        await bank.hung.wait()
        group.cancel_scope.cancel()
    bank.hang, host = set(), host.again()
    async with inline_agent(model, tools=bank.tools()) as lash:
        lash.effects = host
        with pytest.raises(EffectsSuspended, match=r"`t7` \(b:00\)"):
            await (await lash.session("s")).run("q", turn_id="t")
    done = [row.label for row in host.journal.rows if row.status == "done"]
    assert "tool_call `t0` (b:01)" in done
    assert "tool_call `batch` (b)" not in done
    assert bank.calls == {"t0": 2, "t7": 1}


# ---- records only ---------------------------------------------------------------------------------------------------


class OnlyRecords:
    """A host for `lash replay`: nothing is run."""

    def __init__(self, journal: MemoryJournal) -> None:
        self.rows = journal.rows

    def scoped(self, scope: RuntimeScope) -> EffectController:
        return RecordedOnly(self.rows)


@pytest.mark.statement(16, page="effects")
async def test_with_records_only_a_turn_ends_in_the_same_bytes_or_says_where_they_end() -> None:
    """Where a record is missing, nothing is run and nothing written."""
    host = JournalHost()
    async with World().open() as lash:
        _, committed = await turn_of(lash, host)  # type: ignore[arg-type]  # any host will do
    whole = host.committed()
    world = World()
    async with world.open() as lash:
        _, again = await turn_of(lash, OnlyRecords(whole))  # type: ignore[arg-type]  # the same
    assert again == committed
    for length in range(len(whole.rows)):
        async with world.open() as lash:
            with pytest.raises(EffectUnrecorded, match="there is no record of"):
                await turn_of(lash, OnlyRecords(whole.left(length)))  # type: ignore[arg-type]  # the same
    assert world.calls == {}
