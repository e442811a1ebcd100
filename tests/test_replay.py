"""Law 1, replay equals live: from its records a turn is committed again, byte for byte, and nothing is run.

The effect host here is what any third party could write against the public port: it keeps each outcome as encoded bytes
under its key, and answers from them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
from typing import Any
from uuid import uuid4

import anyio
import pytest
from agents import Unwritten, cancelled_when, inline_agent, plugin
from attrs import define, evolve, field, frozen

from lash_framework import Lash
from lash_hookspecs import (
    AbortTurn,
    CheckpointKind,
    CheckpointOutcome,
    EffectController,
    EffectControllerError,
    EffectRunner,
    EmitEvents,
    EnqueueMessages,
    LlmRequest,
    OperationId,
    PromptContribution,
    PromptSlot,
    ReplayError,
    RuntimeEffectEnvelope,
    RuntimeEffectOutcome,
    RuntimeScope,
    SessionStateSpec,
    Stopped,
    StopReason,
    SurfaceEvent,
    ToolCallStarted,
    TurnInput,
    decode,
    encode,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply

PNG = b"\x89PNG\r\n\x1a\n" + bytes(24)


@define
class Records:
    """A host that runs and records what was never asked before, and answers the rest from its records."""

    outcomes: dict[str, bytes] = field(factory=dict)
    asked: dict[str, bytes] = field(factory=dict)
    ran: list[str] = field(factory=list)

    def scoped(self, scope: RuntimeScope) -> EffectController:
        return _Controller(self)

    def up_to(self, length: int) -> Records:
        """What a process left behind that died after its first outcomes."""
        kept = list(self.outcomes)[:length]
        return Records({key: self.outcomes[key] for key in kept}, {key: self.asked[key] for key in kept})


@frozen
class _Controller(Unwritten):
    records: Records
    durable: bool = True

    async def execute(self, envelope: RuntimeEffectEnvelope, run: EffectRunner) -> RuntimeEffectOutcome:
        records, key, asked = self.records, envelope.key, encode(envelope)
        if key not in records.outcomes:
            outcome = await run(envelope)
            records.ran.append(envelope.command.kind)
            records.outcomes[key], records.asked[key] = encode(outcome), asked
            return outcome
        if records.asked[key] != asked:
            raise EffectControllerError("mismatch", f"{records.asked[key]!r} was asked before, now {asked!r}")
        return decode(RuntimeEffectOutcome, records.outcomes[key])  # type: ignore[arg-type]  # a union is a type here


# ---- a turn with something of everything ----------------------------------------------------------------------------


@frozen
class Count:
    """What the plugin of these tests remembers: how often each of its hooks was called."""

    calls: tuple[str, ...] = ()


@define
class World:
    """A host whose every part counts its calls and says something else each time, so that a repetition shows."""

    calls: Counter[str] = field(factory=Counter)
    at: str | None = None
    fault: str | None = None

    def happened(self, what: str) -> str:
        self.calls[what] += 1
        return f"{what} {uuid4().hex}"

    def faults(self, hook: str) -> list[AbortTurn]:
        if hook != self.at:
            return []
        if self.fault == "raises":
            raise RuntimeError("it is broken")
        return [AbortTurn("enough", self.happened("abort"))]

    async def model(self, request: LlmRequest) -> Reply:
        said = self.happened("model")
        results = sum(block.tag == "tool_result" for message in request.messages for block in message.blocks)
        if results:
            return Reply(text=said)
        children = [{"tool": "lucky", "parameters": {}}, {"tool": "lucky", "parameters": {}}]
        return Reply(text=said, tool_calls=[Call("lucky", {}, "a"), Call("batch", {"calls": children}, "b")])

    @asynccontextmanager
    async def open(self) -> Any:
        world = self

        @tool
        async def lucky() -> str:
            """Something new, every time."""
            return world.happened("tool")

        @asynccontextmanager
        async def lash_lifespan(host: Any) -> Any:
            yield "resource"

        def remember(ctx: Any, hook: str) -> None:
            assert ctx.host == "resource"
            ctx.set_state(Count((*ctx.state.calls, world.happened(hook))))

        def lash_session_state() -> SessionStateSpec:
            return SessionStateSpec(state=Count)

        def lash_before_turn(ctx: Any) -> list[Any]:
            remember(ctx, "lash_before_turn")
            news = EmitEvents((SurfaceEvent(name="news", payload={"n": 1}),))
            note = EnqueueMessages.note(world.happened("note"), transient=True)
            return [EnqueueMessages.note(world.happened("note")), note, news, *world.faults("lash_before_turn")]

        async def lash_prompt_contributions(ctx: Any) -> PromptContribution:
            remember(ctx, "lash_prompt_contributions")
            world.faults("lash_prompt_contributions")
            return PromptContribution(content=world.happened("prompt"), slot=PromptSlot.GUIDANCE)

        async def lash_checkpoint(ctx: Any) -> list[Any]:
            remember(ctx, "lash_checkpoint")
            found: list[Any] = [EnqueueMessages.note(world.happened("note"), transient=True)]
            if ctx.kind is CheckpointKind.BEFORE_COMPLETION:
                found = [EnqueueMessages.note(world.happened("note"))] if ctx.iteration == 1 else []
                found += world.faults("lash_checkpoint")
            return found

        def lash_after_turn(ctx: Any, turn: Any) -> list[Any]:
            remember(ctx, "lash_after_turn")
            return [EnqueueMessages.note(world.happened("note")), *world.faults("lash_after_turn")]

        hooks = [lash_lifespan, lash_session_state, lash_before_turn, lash_prompt_contributions, lash_checkpoint]
        mine = plugin("mine", *hooks, lash_after_turn)
        async with inline_agent(self.model, tools=[lucky], plugins=[mine]) as lash:
            yield lash


async def turn_of(lash: Lash, records: Records) -> Any:
    """The turn, with everything that was committed of it."""
    lash.effects = records
    session = await lash.session("s")
    turn = await session.run(TurnInput.text("Look").with_image("i", PNG), turn_id="t")
    loaded = await lash.store.load_session("s")
    receipt = await lash.store.load_receipt("s", OperationId("turn", "t"))
    assert loaded is not None
    assert receipt is not None
    assert turn.explain_ref is not None
    explained = await lash.store.get_blob(turn.explain_ref)
    return turn, (loaded.head, list(loaded.nodes), loaded.components, loaded.usage, receipt.result, explained)


HOOKS = ["lash_before_turn", "lash_prompt_contributions", "lash_checkpoint", "lash_after_turn"]
ENDS = [(None, None), *((hook, "raises") for hook in HOOKS)]
ENDS += [(hook, "aborts") for hook in HOOKS if hook != "lash_prompt_contributions"]


@pytest.mark.parametrize(("at", "fault"), ENDS)
async def test_law_1_replay_equals_live_to_the_byte_and_calls_no_hook_no_model_and_no_tool(
    at: str | None, fault: str | None
) -> None:
    live, again, records = World(at=at, fault=fault), World(at=at, fault=fault), Records()
    async with live.open() as lash:
        turn, committed = await turn_of(lash, records)
    assert turn.is_success is (at is None)
    assert live.calls["lash_before_turn"] == 1
    assert turn.started_at_ms
    assert turn.finished_at_ms >= turn.started_at_ms
    replay = evolve(records, ran=[])
    async with again.open() as lash:  # another process, an empty database
        _, recommitted = await turn_of(lash, replay)
    assert recommitted == committed
    assert replay.ran == []
    assert again.calls == {}


async def test_a_turn_goes_on_live_from_wherever_its_records_end() -> None:
    """Hooks that were recorded aren't called again, what they did to the state is there, and so are host resources."""
    whole, records = World(), Records()
    async with whole.open() as lash:
        _, (_, nodes, *_) = await turn_of(lash, records)
    assert records.ran[0] == "turn_start"
    assert records.ran[-1] == "turn_end"
    for length in range(len(records.outcomes)):
        world, left = World(), records.up_to(length)
        async with world.open() as lash:
            turn, (_, resumed, components, *_) = await turn_of(lash, left)
        assert turn.is_success
        assert left.ran == records.ran[length:]
        assert world.calls["lash_before_turn"] == (length == 0)
        assert [each.node_id for each in resumed] == [each.node_id for each in nodes]
        remembered = decode(_Stored, components["plugin/mine"].body).state.calls
        assert [each.split()[0] for each in remembered] == [
            "lash_before_turn",
            "lash_prompt_contributions",
            "lash_checkpoint",
            "lash_prompt_contributions",
            "lash_checkpoint",
            "lash_prompt_contributions",
            "lash_checkpoint",
            "lash_after_turn",
        ]


@frozen
class _Stored:
    version: int
    state: Count


async def test_replay_shows_what_was_recorded_though_nothing_is_streamed_again() -> None:
    live, records = World(), Records()
    async with live.open() as lash:
        await turn_of(lash, records)
    async with World().open() as lash:
        lash.effects = records
        given = TurnInput.text("Look").with_image("i", PNG)
        async with (await lash.session("s")).turn(given, turn_id="t") as running:
            events = [activity.event async for activity in running]
            turn = await running.result()
    started = [each.call_id for each in events if isinstance(each, ToolCallStarted)]
    assert started[:2] == ["a", "b"]
    assert turn.is_success


async def test_a_recorded_start_is_refused_by_name_where_the_sessions_policy_is_another_now() -> None:
    records = Records()
    async with World().open() as lash:
        await turn_of(lash, records)
    async with World().open() as lash:
        lash.effects = records
        session = await lash.session("s", max_turns=7)
        with pytest.raises(ReplayError, match=r"runtime_effect_policy: .* another policy"):
            await session.run(TurnInput.text("Look").with_image("i", PNG), turn_id="t")


async def test_a_recorded_state_that_the_installed_plugin_can_not_read_is_refused_by_name() -> None:
    records, numbers = Records(), count()

    @frozen
    class Newer:
        calls: tuple[str, ...] = ()

    def opened(version: int) -> Any:
        def lash_session_state() -> SessionStateSpec:
            return SessionStateSpec(state=Newer, version=version)

        def lash_before_turn(ctx: Any) -> None:
            ctx.set_state(Newer((str(next(numbers)),)))

        return inline_agent(["hello"], plugins=[plugin("mine", lash_session_state, lash_before_turn)])

    async with opened(2) as lash:
        lash.effects = records
        await (await lash.session("s")).run("q", turn_id="t")
    async with opened(1) as lash:
        lash.effects = records
        with pytest.raises(ReplayError, match=r"runtime_effect_states: .*plugin `mine`"):
            await (await lash.session("s")).run("q", turn_id="t")
    assert next(numbers) == 1


# ---- a change that no record holds ----------------------------------------------------------------------------------


def remembering(then: Callable[[str], Awaitable[None]]) -> Any:
    """A plugin whose hooks remember that they were called, and then do what the test says."""

    def lash_session_state() -> SessionStateSpec:
        return SessionStateSpec(state=Count)

    async def called(ctx: Any, hook: str) -> None:
        ctx.set_state(Count((*ctx.state.calls, hook)))
        await then(hook)

    async def lash_before_turn(ctx: Any) -> None:
        await called(ctx, "lash_before_turn")

    async def lash_prompt_contributions(ctx: Any) -> None:
        await called(ctx, "lash_prompt_contributions")

    async def lash_checkpoint(ctx: Any) -> None:
        await called(ctx, "lash_checkpoint")

    async def lash_after_turn(ctx: Any, turn: Any) -> None:
        await called(ctx, "lash_after_turn")

    hooks = [lash_before_turn, lash_prompt_contributions, lash_checkpoint, lash_after_turn]
    return plugin("mine", lash_session_state, *hooks)


async def remembered(lash: Lash) -> list[str]:
    loaded = await lash.store.load_session("s")
    assert loaded is not None
    component = loaded.components.get("plugin/mine")
    return list(decode(_Stored, component.body).state.calls) if component else []


UNRECORDED = {
    # where the turn's record ends: what is remembered of the effects before it
    "lash_before_turn": [],
    "lash_prompt_contributions": [],
    "lash_checkpoint": ["lash_before_turn", "lash_prompt_contributions"],
    "lash_after_turn": ["lash_before_turn", "lash_prompt_contributions", "lash_checkpoint"],
}


@pytest.mark.parametrize(("where", "kept"), UNRECORDED.items(), ids=UNRECORDED)
async def test_what_a_hook_changed_before_the_turn_was_cancelled_in_it_is_undone(where: str, kept: list[str]) -> None:
    """The effect has no record: a replay, which ends before it, would leave the state without the change."""
    records, began = Records(), anyio.Event()

    async def then(hook: str) -> None:
        if hook == where:
            began.set()
            await anyio.sleep_forever()

    async with inline_agent(["Hello."], plugins=[remembering(then)]) as lash:
        lash.effects = records
        turn = await cancelled_when(began, (await lash.session("s")).turn("q", turn_id="t"))
        assert turn.outcome == Stopped(StopReason.CANCELLED)
        assert await remembered(lash) == kept


@frozen
class Lossy(Unwritten):
    """A host whose records get lost: the effect is run, and what came of it, or another outcome, is not kept."""

    at: str
    instead: RuntimeEffectOutcome | None = None
    durable: bool = True

    def scoped(self, scope: RuntimeScope) -> EffectController:
        return self

    async def execute(self, envelope: RuntimeEffectEnvelope, run: EffectRunner) -> RuntimeEffectOutcome:
        outcome = await run(envelope)
        if envelope.command.kind != self.at:
            return outcome
        if self.instead is None:
            raise EffectControllerError("lost", "the record could not be written")
        return self.instead


async def nothing_more(hook: str) -> None:
    pass


LOST = {
    "turn_start": ["lash_after_turn"],
    "checkpoint": ["lash_before_turn", "lash_prompt_contributions", "lash_after_turn"],
    "turn_end": ["lash_before_turn", "lash_prompt_contributions", "lash_checkpoint"],
}


@pytest.mark.parametrize(("at", "kept"), LOST.items(), ids=LOST)
async def test_what_hooks_changed_in_an_effect_whose_record_is_lost_is_undone(at: str, kept: list[str]) -> None:
    async with inline_agent(["Hello."], plugins=[remembering(nothing_more)]) as lash:
        lash.effects = Lossy(at)
        turn = await (await lash.session("s")).run("q")
        assert turn.errors[0].code == "lost"
        assert await remembered(lash) == kept


async def test_where_another_process_was_first_its_outcome_counts_and_not_what_hooks_changed_here() -> None:
    async with inline_agent(["Hello."], plugins=[remembering(nothing_more)]) as lash:
        lash.effects = Lossy("checkpoint", CheckpointOutcome())
        turn = await (await lash.session("s")).run("q")
        assert turn.is_success
        assert await remembered(lash) == ["lash_before_turn", "lash_prompt_contributions", "lash_after_turn"]
