"""What is promised about crashes, each sentence by its name. Real processes are in `test_crash_processes`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from agents import agent, plugin
from attrs import evolve
from crash_kit import SESSION, SUBJECT, TURN, World, url_in

from lash_framework import Lash
from lash_framework.settings import load_settings
from lash_framework.testing.crash_matrix import Subject
from lash_framework.testing.crash_points import CrashPoint, Watch, When
from lash_framework.testing.crash_seams import watch_host
from lash_hookspecs import (
    ConfigurationError,
    InboxState,
    Ingress,
    LlmRequest,
    OperationId,
    Stopped,
    StopReason,
    ToolCallFailure,
    TurnBlocked,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply

pytestmark = pytest.mark.costly

BEFORE, AFTER = When.BEFORE, When.AFTER
RECORDS_GUIDANCE = "store append_journal"  # its fifth call holds the checkpoint that gives guidance


async def killed(subject: Subject, url: str, point: CrashPoint) -> Watch:
    """Run the subject until it is killed there."""
    watch = Watch(point)
    await subject.live(url, watch)
    assert watch.dead, f"{point} was not passed"
    return watch


# ---- a hook that injects ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(("when", "called"), [(BEFORE, 2), (AFTER, 1)], ids=["before its record", "after its record"])
async def test_a_hook_that_injects_guidance_once_injects_once(when: When, called: int, tmp_path: Path) -> None:
    """It keeps in its state that it did. The record brings that along, so that it isn't called again."""
    url = url_in(tmp_path / "one")
    await killed(SUBJECT, url, CrashPoint(RECORDS_GUIDANCE, when, 5))
    ending = await SUBJECT.survive(url)
    assert [each.text for each in ending.messages].count("Be brief.") == 1
    assert World(url).deeds["guidance"] == called
    assert "'Be brief.': 1" in ending.turn.text  # and the model read it once


# ---- more than one crash --------------------------------------------------------------------------------------------

ONE_AFTER_THE_OTHER = [
    (CrashPoint("effect tool_call `look` (look)", AFTER), CrashPoint("effect tool_call `note` (note)", AFTER)),
    (CrashPoint("store append_journal", AFTER, 1), CrashPoint("sql append_journal 1: COMMIT", AFTER)),
    (CrashPoint("reply 2", AFTER), CrashPoint("store enqueue", AFTER)),
    (CrashPoint("store append_journal", AFTER, 7), CrashPoint("store commit", BEFORE)),
    (CrashPoint("effect turn_end", AFTER), CrashPoint("sql commit 1: DELETE FROM journal", AFTER)),
    (CrashPoint("sql commit 1: COMMIT", AFTER), None),
]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(("first", "second"), ONE_AFTER_THE_OTHER, ids=[str(first) for first, _ in ONE_AFTER_THE_OTHER])
async def test_whoever_goes_on_may_be_killed_too(first: CrashPoint, second: CrashPoint | None, tmp_path: Path) -> None:
    """Authority passes from hand to hand; what is recorded stays recorded, and what is unsafe is done at most once."""
    url = url_in(tmp_path / "one")
    await killed(SUBJECT, url, first)
    if second is not None:
        await killed(SUBJECT, url, second)
    ending = await SUBJECT.survive(url)
    deeds = World(url).deeds
    assert deeds["charge"] <= 1
    assert max(deeds.values()) <= 3
    assert ending.receipts.count(OperationId("turn", TURN)) == 1
    assert ending.inbox == ()
    assert ending.turn.text == "All is done: {'Be brief.': 1, 'And hurry.': 1}"


@pytest.mark.chaos
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("seed", [*range(8), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(8, 200))])
async def test_any_number_of_crashes_anywhere_is_survived(seed: int, tmp_path: Path) -> None:
    """Each process is killed wherever it has got to by then; the last one is let live."""
    url, random = url_in(tmp_path / "one"), Random(seed)
    crashes = 0
    for _ in range(random.randint(2, 7)):
        watch = Watch(random.randrange(90))
        try:
            await SUBJECT.live(url, watch)
        except TurnBlocked:
            break  # three in a row that came to nothing: a person says that it may go on
        crashes += watch.dead
    ending = await SUBJECT.survive(url, force=True)
    deeds = World(url).deeds
    assert deeds["charge"] <= 1
    assert max(deeds.values()) <= crashes + 1
    assert ending.receipts == (OperationId("turn", TURN),)
    assert ending.inbox == ()
    assert ending.turn.text == "All is done: {'Be brief.': 1, 'And hurry.': 1}"
    assert [each.text for each in ending.messages].count("And hurry.") == 1
    assert (ending.turn.usage.input, ending.turn.usage.output) == (40, 20)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_queued_input_stays_with_the_turn_that_took_it(tmp_path: Path) -> None:
    """Claimed with the checkpoint's record, it is said to the turn that goes on, and becomes none of its own."""
    url = url_in(tmp_path / "one")
    await killed(SUBJECT, url, CrashPoint("store append_journal", AFTER, 7))
    async with SUBJECT.open_host(url) as lash:
        items = await lash.require_journal("this test").store.list_inbox(SESSION)
        assert [(each.source_key, each.state, each.turn_id) for each in items] == [
            (TURN, InboxState.CLAIMED, TURN),
            ("hurry", InboxState.CLAIMED, TURN),
        ]
    ending = await SUBJECT.survive(url)
    assert [each.text for each in ending.messages].count("And hurry.") == 1
    assert [each.turn.turn_id for each in ending.recovered] == [TURN]


# ---- a small agent --------------------------------------------------------------------------------------------------


def by_round(*replies: Reply | str) -> Callable[[LlmRequest], Reply | str]:
    """Says what is next in the conversation, whoever asks."""
    return lambda request: replies[sum(message.role == "assistant" for message in request.messages)]


class Steps:
    """A tool that can be made to wait, and counts."""

    def __init__(self) -> None:
        self.calls = 0
        self.begun = anyio.Event()
        self.waits = True

        @tool(effect="idempotent")
        async def step() -> str:
            "Take a step."
            self.calls += 1
            self.begun.set()
            if self.waits:
                await anyio.sleep_forever()
            return "done"

        self.tool = step

    def open(self, url: str, **options: Any) -> AbstractAsyncContextManager[Lash]:
        say = by_round(Reply(text="One step.", tool_calls=[Call("step", {}, "s1")]), "There.")
        return agent(say, store=url, tools=[self.tool], **options)


SESSIONS = [f"s{number}" for number in range(6)]


@pytest.mark.chaos
@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(6, 100))])
async def test_sessions_that_are_written_together_survive_one_by_one(seed: int, tmp_path: Path) -> None:
    """One process, six turns at once: their writes share transactions, and none has more or less of it than its own."""
    url = url_in(tmp_path / "one")

    @tool(effect="unsafe")
    async def charge(session: str) -> str:
        "Charge."
        World(url).note(session)
        return session

    def say(request: LlmRequest) -> Reply | str:
        session = request.scope.session_id
        if any(message.role == "assistant" for message in request.messages):
            return f"I am {session}."
        return Reply(text="Now.", tool_calls=[Call("charge", {"session": session}, "c")])

    watch = Watch(Random(seed).randrange(40, 300), commits=len(SESSIONS))
    try:
        with anyio.CancelScope() as watch.scope:
            async with agent(say, store=url, tools=[charge]) as lash:
                watch_host(lash, watch, mortal=True)
                watch.active = True
                async with anyio.create_task_group() as group:
                    for each in SESSIONS:
                        session = await lash.session(each)
                        group.start_soon(partial(session.run, "Go.", turn_id=f"t-{each}"))
    except Exception:
        assert watch.dead
    async with agent(say, store=url, tools=[charge]) as lash:
        for each in SESSIONS:
            session = await lash.session(each)
            turn = await session.run("Go.", turn_id=f"t-{each}")
            (call,) = turn.tool_calls
            unknown = isinstance(call.output.outcome, ToolCallFailure)
            assert turn.text == f"I am {each}."
            assert World(url).deeds[each] <= 1
            assert World(url).deeds[each] == 1 or unknown
            assert len(await session.messages()) == 4
            assert await session.inbox() == []


# ---- an interrupted turn --------------------------------------------------------------------------------------------


async def by_an_outer_cancel_scope(lash: Lash, steps: Steps) -> None:
    session = await lash.session("one")
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: session.run("Go.", turn_id="t"))
            await steps.begun.wait()
            scope.cancel()


async def by_an_exception_in_the_callers_loop(lash: Lash, steps: Steps) -> None:
    session = await lash.session("one")

    async def watch() -> None:
        async with session.turn("Go.", turn_id="t") as running:
            async for activity in running:
                if activity.event.tag == "tool_call_started":
                    await steps.begun.wait()
                    raise RuntimeError("of the caller")

    with pytest.raises(RuntimeError, match="of the caller"):
        await watch()


async def by_the_hosts_end(lash: Lash, steps: Steps) -> None:
    session = await lash.session("one")
    await session.enqueue("Go.", source_key="t")
    await steps.begun.wait()


INTERRUPTIONS = [by_an_outer_cancel_scope, by_an_exception_in_the_callers_loop, by_the_hosts_end]


@pytest.mark.parametrize("interrupt", INTERRUPTIONS, ids=lambda each: each.__name__)
async def test_an_outer_cancel_scope_or_an_exception_in_the_callers_loop_interrupts(
    interrupt: Callable[[Lash, Steps], Any], tmp_path: Path
) -> None:
    """Nothing is committed, nobody holds the session, and the next host goes on without asking the model again."""
    url, steps = url_in(tmp_path / "one"), Steps()
    async with steps.open(url) as lash:
        await interrupt(lash, steps)
        if interrupt is not by_the_hosts_end:
            store = lash.require_journal("this test").store
            assert await store.list_receipts("one") == []
            assert await store.load_lease("one") is None
    steps.waits = False
    async with steps.open(url) as lash:
        session = await lash.session("one", recover=False)
        (item,) = await session.inbox()
        assert item.state is InboxState.CLAIMED
        (recovered,) = await session.recover()
        assert recovered.turn.text == "There."
        assert "llm_call 2 of iteration 0" not in recovered.ran
        assert steps.calls == 2  # idempotent: its first call had no outcome
        assert await session.inbox() == []


# ---- a turn that can't go on ----------------------------------------------------------------------------------------


async def test_three_attempts_then_blocked_says_why_and_abandon_commits_what_is_recorded(tmp_path: Path) -> None:
    url, steps = url_in(tmp_path / "one"), Steps()
    async with steps.open(url) as lash:
        await by_an_outer_cancel_scope(lash, steps)
    await spoil(url)
    steps.waits = False
    reasons, states = [], []  # the attempt that was interrupted doesn't count: it failed at nothing
    for _ in range(5):
        async with steps.open(url) as lash:
            session = await lash.session("one", recover=False)
            with pytest.raises(TurnBlocked) as blocked:
                await session.recover()
            reasons.append(blocked.value.reason)
            (item,) = await session.inbox()
            states.append(item.state)
    assert "llm_call" in reasons[0]
    assert len(set(reasons)) == 1
    assert item.reason == reasons[0]
    assert states == [InboxState.STUCK] * 2 + [InboxState.BLOCKED] * 3
    assert steps.calls == 1
    async with steps.open(url) as lash:
        session = await lash.session("one")  # who opens it isn't in the way of anything
        with pytest.raises(TurnBlocked):
            await session.run("And now?")  # and nothing overtakes what came first
        recovered = await session.abandon("t")
        assert recovered.turn.outcome == Stopped(StopReason.ABANDONED)
        assert recovered.ran == ()
        assert [each.text for each in await session.messages()] == ["Go."]
        assert await session.inbox() == []
        assert (await session.run("And now?")).is_success
    assert steps.calls == 2  # of the new turn


async def spoil(url: str) -> None:
    """Have the record of the model's reply be another's."""
    database = sqlite3.connect(url.removeprefix("sqlite:///"))
    with database:
        done = database.execute("UPDATE journal SET envelope_hash = zeroblob(32) WHERE kind = 'llm_call'").rowcount
    database.close()
    assert done == 1


async def test_another_reason_and_progress_begin_the_count_anew(tmp_path: Path) -> None:
    """A person who mends one thing after the other isn't told that this was the last attempt."""
    url, steps = url_in(tmp_path / "one"), Steps()
    async with steps.open(url) as lash:
        await by_an_outer_cancel_scope(lash, steps)
    steps.waits = False
    counts = []
    for reason in ("no key", "no key", "no money", "no money", "no key"):

        def say(request: LlmRequest, reason: str = reason) -> str:
            raise ConfigurationError(reason)

        async with agent(say, store=url, tools=[steps.tool]) as lash:
            session = await lash.session("one", recover=False)
            with pytest.raises(TurnBlocked, match=reason):
                await session.recover()
            (item,) = await session.inbox()
            counts.append(item.fruitless)
            (left,) = await lash.unfinished()
            assert left.reason == reason
    assert counts == [1, 2, 1, 2, 1]  # the first one ran the tool
    assert steps.calls == 2


async def test_a_blocked_turn_stays_blocked_if_whoever_takes_it_up_is_killed(tmp_path: Path) -> None:
    """Between being claimed and being parked again it looked like a turn that was interrupted, and was tried again."""
    url, steps = url_in(tmp_path / "one"), Steps()
    async with steps.open(url) as lash:
        await by_an_outer_cancel_scope(lash, steps)
    await spoil(url)
    steps.waits = False
    subject = Subject(open_host=steps.open, prompt="Go.", session_id="one", turn_id="t")
    for _ in range(3):
        async with steps.open(url) as lash:
            with pytest.raises(TurnBlocked):
                await (await lash.session("one", recover=False)).recover()
    for point in (CrashPoint("store begin_turn", AFTER), CrashPoint("store park_turn", BEFORE)):
        await killed(subject, url, point)
        async with steps.open(url) as lash:
            session = await lash.session("one", recover=False)
            with pytest.raises(TurnBlocked, match="llm_call"):
                await session.recover()
            (item,) = await session.inbox()
            assert item.state is InboxState.BLOCKED
    assert steps.calls == 1


# ---- a crash loop ---------------------------------------------------------------------------------------------------


async def test_a_turn_that_kills_its_process_is_blocked_after_three_deaths(tmp_path: Path) -> None:
    """Nothing more is recorded, so each attempt would end like the one before it."""
    url, steps = url_in(tmp_path / "one"), Steps()
    steps.waits = False
    subject = Subject(open_host=steps.open, prompt="Go.", session_id="one", turn_id="t")
    for _ in range(4):
        await killed(subject, url, CrashPoint("effect tool_call `step` (s1)", AFTER))
    async with steps.open(url) as lash:
        session = await lash.session("one", recover=False)
        with pytest.raises(TurnBlocked, match="its process died 3 times in a row before anything more was recorded"):
            await session.recover()
        assert steps.calls == 4
        (item,) = await session.inbox()
        assert item.state is InboxState.BLOCKED
        (recovered,) = await session.recover(force=True)  # a person says: once more
        assert recovered.turn.text == "There."


async def test_a_turn_that_was_blocked_for_its_deaths_says_at_least_when_it_is_tried_again(
    tmp_path: Path,
) -> None:
    """The deaths were known to whoever blocked the turn, and to nobody who followed."""
    url, steps = url_in(tmp_path / "one"), Steps()
    subject = Subject(open_host=steps.open, prompt="Go.", session_id="one", turn_id="t")
    for _ in range(3):
        await killed(subject, url, CrashPoint("effect llm_call 2 of iteration 0", AFTER))
    steps.waits = False
    async with steps.open(url) as lash:
        session = await lash.session("one", recover=False)
        for _ in range(2):
            with pytest.raises(TurnBlocked, match="its process died 3 times"):
                await session.recover()
        (recovered,) = await session.recover(force=True)
        assert recovered.turn.usage.at_least


async def test_deaths_after_progress_are_no_crash_loop(tmp_path: Path) -> None:
    url, steps = url_in(tmp_path / "one"), Steps()
    steps.waits = False
    subject = Subject(open_host=steps.open, prompt="Go.", session_id="one", turn_id="t")
    tool_call = "tool_call `step` (s1)"
    for name in ("turn_start", "turn_start", tool_call, tool_call, tool_call, "turn_end", "turn_end", "turn_end"):
        await killed(subject, url, CrashPoint(f"effect {name}", AFTER))
    ending = await subject.survive(url)
    assert ending.turn.text == "There."


async def test_who_dies_while_it_appends_is_no_death_of_a_turn(tmp_path: Path) -> None:
    """A turn that had only been interrupted was blocked for the deaths of others, and its usage called "at least"."""
    url, steps = url_in(tmp_path / "one"), Steps()
    by_hand = load_settings(env={}, sets=["durability.recover=false"])
    for _ in range(4):
        steps.begun = anyio.Event()
        async with steps.open(url, settings=by_hand) as lash:
            journalling = lash.require_journal("this test")
            await by_an_outer_cancel_scope(lash, steps)
            holder, stamp = journalling.apart().holder, journalling.holder.process
            assert stamp is not None
            dead = evolve(holder, process=evolve(stamp, started=stamp.started + 1))  # as the system tells of one
            await journalling.store.claim_lease("one", dead, nonce="n", ttl_ms=30_000)
    steps.waits = False
    async with steps.open(url) as lash:
        (recovered,) = await (await lash.session("one", recover=False)).recover()
        assert recovered.turn.text == "There."
        assert not recovered.turn.usage.at_least


# ---- a lease --------------------------------------------------------------------------------------------------------


async def test_a_process_that_dies_while_it_renews_its_lease_is_survived(tmp_path: Path) -> None:
    """What the clock calls has no place in a golden trace, so it has a test of its own."""
    url, steps, watch = url_in(tmp_path / "one"), Steps(), Watch(CrashPoint("never", AFTER))
    with anyio.CancelScope() as watch.scope:
        try:
            async with steps.open(url, settings=short_lease()) as lash:
                watch_host(lash, watch, mortal=True)
                store = lash.require_journal("this test").store

                async def renew_lease(*args: Any, **options: Any) -> None:
                    watch.dead = True
                    await watch.stop()

                lash.require_journal("this test").keeper.store.renew_lease = renew_lease
                assert store is not None
                await (await lash.session("one")).run("Go.", turn_id="t")
        except Exception:
            assert watch.dead
    assert watch.dead
    steps.waits = False
    subject = Subject(open_host=steps.open, prompt="Go.", session_id="one", turn_id="t")
    assert (await subject.survive(url)).turn.text == "There."


def short_lease() -> Any:
    settings = load_settings(env={})
    return evolve(settings, durability=evolve(settings.durability, lease_ttl_s=0.3))


# ---- the inbox ------------------------------------------------------------------------------------------------------


async def test_what_a_tool_enqueues_as_a_turn_of_its_own_runs_after_its_turn(tmp_path: Path) -> None:
    """Nobody else has to come by for it."""
    opened: list[Lash] = []
    ended = anyio.Event()

    @tool
    async def remind() -> str:
        "Say something later."
        session = await opened[0].session("one")
        await session.enqueue("And now the rest.", ingress=Ingress.NEXT_TURN, source_key="rest")
        return "later"

    async def lash_turn_committed(turn: Any) -> None:
        if turn.text == "The rest is done.":
            ended.set()

    def say(request: LlmRequest) -> Reply | str:
        said = sum(message.role == "assistant" for message in request.messages)
        return [Reply(tool_calls=[Call("remind", {}, "r1")]), "First done.", "The rest is done."][said]

    url = url_in(tmp_path / "one")
    async with agent(say, store=url, tools=[remind], plugins=[plugin("ends", lash_turn_committed)]) as lash:
        opened.append(lash)
        session = await lash.session("one")
        assert (await session.run("Begin.")).text == "First done."
        with anyio.fail_after(30):
            await ended.wait()
        assert await session.inbox() == []
