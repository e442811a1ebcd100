"""Checkpoints, the turn limit, drivers that break the contract, and hosts that end a turn."""

from __future__ import annotations

import pytest
from attrs import evolve
from machine_kit import (
    AFTER_WORK,
    LAST,
    PLUGIN,
    USAGE,
    ScriptedDriver,
    ScriptedHost,
    assistant,
    cause,
    config,
    delivery,
    machine,
    note,
    pending,
    play,
    prompt_texts,
    says,
    start,
    stopped,
    user,
)

from lash_framework.machine import TurnMachine
from lash_hookspecs.checkpoints import CheckpointDelivery, CheckpointKind
from lash_hookspecs.errors import ConfigurationError, DriverError
from lash_hookspecs.messages import MessageRole, PluginOrigin
from lash_hookspecs.tools import InvalidToolCall
from lash_hookspecs.turn_effects import Checkpoint, LlmCall, LlmComplete, Progress, SyncExecutionEnvironment, ToolCalls
from lash_hookspecs.turn_events import ErrorEvent, InjectedMessagesCommitted, TextDelta
from lash_hookspecs.turn_outcomes import AssistantMessage, Finished, Handoff, Stopped, StopReason
from lash_hookspecs.turn_steps import PrepareIteration, StartCheckpoint, StartTools, Step

# ---- deliveries -----------------------------------------------------------------------------------------------------


@pytest.mark.statement(26)
@pytest.mark.parametrize(
    ("base", "first", "again"),
    [((), ("e1",), ("e1",)), ((), (), ("e1", "e1")), ((cause("e1").to_event_message(),), (), ("e1",))],
    ids=["of-this-turn", "twice-at-once", "of-an-earlier-turn"],
)
def test_a_known_cause_adds_nothing(base, first, again):
    """A cause whose id the conversation knows makes no second message."""
    turn = machine(given=start(user("hi"), base=base, turn_causes=tuple(map(cause, first))))
    play(turn, deliveries=[delivery(causes=map(cause, again))])
    assert [each.id for each in turn.messages].count("e1") == 1


@pytest.mark.parametrize(
    "nothing",
    [
        delivery(note("x", MessageRole.ASSISTANT), note("x", MessageRole.EVENT)),
        delivery(note("  ")),
        delivery(note("x", id="u1")),
        delivery(causes=[cause("e1")]),
    ],
    ids=["wrong-roles", "blank", "known-message", "known-cause"],
)
def test_a_delivery_that_appends_nothing_is_empty(nothing):
    """Only what is really appended counts; otherwise the turn completes as if nothing had come."""
    turn = machine(given=start(user("hi"), turn_causes=(cause("e1"),)))
    trace = play(turn, deliveries=[nothing])
    assert trace.steps == ["llm_call", "checkpoint", "done"]


def test_a_delivery_is_appended_in_order_with_origins_and_ids():
    """Messages, transient ones, then causes; ids tell turn, iteration and number; an origin is never missing."""
    turn = machine()
    added = CheckpointDelivery(
        messages=(note("one"), note("two", MessageRole.SYSTEM, origin=PLUGIN, id="mine")),
        transient_messages=(note("three", origin=PLUGIN),),
        turn_causes=(cause("e1"),),
    )
    trace = play(turn, deliveries=[added, delivery(note("four"))])
    new = turn.turn_messages[1:]
    assert [each.id for each in new] == ["m_checkpoint_t_0_0", "mine", "m_checkpoint_t_0_2", "e1", "m_checkpoint_t_1_4"]
    assert new[0].origin == PluginOrigin(plugin_id="plugin")
    assert new[1].origin == PLUGIN
    assert [each.is_transient for each in new] == [False, False, True, False, False]
    assert turn.turn_causes == (cause("e1"),)
    told = trace.events(InjectedMessagesCommitted)
    assert [[m.content for m in each.messages] for each in told] == [["one", "two", "three"], ["four"]]


def test_news_after_work_costs_no_iteration():
    """An addition after work joins the iteration that was about to begin; the checkpoint's proposal is dropped."""
    proposal = StartCheckpoint(kind=CheckpointKind.AFTER_WORK, on_empty=Finished(AssistantMessage("never")))
    driver = ScriptedDriver(llm=[Step(next=proposal), Step(next=Handoff("x"))])
    turn = machine(driver)
    trace = play(turn, deliveries=[delivery(causes=[cause("e1", "rain")])])
    assert trace.steps == ["llm_call", "checkpoint", "progress", "llm_call", "done"]
    assert turn.protocol_iteration == 0
    assert "rain" in prompt_texts(trace.of(LlmCall)[1])[-1]


# ---- the turn limit -------------------------------------------------------------------------------------------------


@pytest.mark.statement(36, 37)
@pytest.mark.parametrize(
    ("limit", "offset", "iteration", "scheduled"),
    [(3, 4, 6, None), (3, 4, 7, 3), (3, 4, 8, 3), (1, 0, 0, None), (1, 0, 1, 1), (None, 0, 500, None)],
)
def test_when_the_limit_is_reached(limit, offset, iteration, scheduled):
    """The limit counts iterations from the turn's offset, is reached at and not past it, and no limit never is."""
    seen = []

    def look(ctx, _):
        seen.append(ctx.turn_limit_final_to_schedule)
        return Step(next=Handoff("x"))

    snapshot = evolve(machine(given=start(protocol_run_offset=offset)).snapshot(), protocol_iteration=iteration)
    play(TurnMachine.restore(config(ScriptedDriver(prepare=look), max_turns=limit), start().base, snapshot))
    assert seen == [scheduled]


@pytest.mark.statement(38)
@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit):
    """A turn that may not ask the model once is a mistake in the settings."""
    with pytest.raises(ConfigurationError, match="`max_turns` must be at least 1"):
        config(max_turns=limit)


@pytest.mark.statement(25)
def test_the_last_iteration_is_one():
    """An addition at the limit grants one more iteration, announced once; the next addition stops the turn."""
    turn = machine(max_turns=1)
    trace = play(turn, deliveries=[delivery(note("more")), delivery(note("and more"))])
    assert stopped(trace) is StopReason.MAX_TURNS
    assert trace.kinds[-4:] == ["progress", *LAST]
    assert len(trace.of(LlmCall)) == 2
    ids = [each.id for each in turn.turn_messages]
    assert ids == ["u1", "m_checkpoint_t_0_0", "m_turn_limit_t_1", "m_checkpoint_t_1_1"]
    assert any("only step" in text for text in prompt_texts(trace.of(LlmCall)[1]))


def test_a_driver_can_announce_the_limit_once():
    """A step's last message is appended only at the limit, and only once; drivers can ask whether it was."""
    grace = []
    final = evolve(user("answer now", "final"), role=MessageRole.SYSTEM)

    def again(ctx, _):
        grace.append(ctx.should_force_exit_after_grace_turn)
        last = evolve(final, id=f"final{ctx.protocol_iteration}")
        return Step(advance=True, turn_limit_final=last, next=PrepareIteration())

    driver = ScriptedDriver(llm=[again, again, again, Step(next=Handoff("x"))])
    turn = machine(driver, max_turns=2)
    play(turn)
    assert [each.id for each in turn.turn_messages] == ["u1", "final1"]
    assert grace == [False, False, True]


# ---- drivers that break the contract --------------------------------------------------------------------------------

BROKEN = {
    "none": None,
    "no-next": Step(next=None),
    "emit-as-next": Step(next=TextDelta("x")),
    "empty-batch": Step(next=StartTools(())),
    "same-call-id": Step(next=StartTools((pending("c1"), pending("c1")))),
    "known-message-id": Step(messages=(user("again", "u1"),), next=Handoff("x")),
    "message-id-twice": Step(messages=(user("a", "n"), user("b", "n")), next=Handoff("x")),
    "bad-on-empty": Step(next=StartCheckpoint(kind=CheckpointKind.AFTER_WORK, on_empty=AFTER_WORK)),
}


@pytest.mark.statement(5, page="effects")
@pytest.mark.parametrize("step", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("question", ["prepare", "llm"])
def test_a_broken_step_is_an_error_and_changes_nothing(question, step):
    """A missing or impossible continuation raises, naming the question; the turn stands as before and can be failed.

    5: an empty batch of calls is refused as any impossible step.
    """
    driver = ScriptedDriver(**{question: step})
    turn = machine(driver)
    call = None
    if question == "llm":
        call = ScriptedHost().run(turn, until=LlmCall).effects[-1]
    before = turn.snapshot()
    for _ in range(2):
        with pytest.raises(DriverError, match="handle_llm_success" if call else "prepare_protocol_iteration"):
            turn.respond(LlmComplete(id=call.id, result=says("x", usage=USAGE))) if call else turn.poll()
        assert turn.snapshot() == before
    turn.fail_turn(ErrorEvent("the driver is broken"))
    assert stopped(play(turn)) is StopReason.RUNTIME_ERROR


INVALID = StartTools((InvalidToolCall(call_id="c", tool_name="look", input_json="{"),))


@pytest.mark.parametrize(
    "driver",
    [
        ScriptedDriver(prepare=Step(next=PrepareIteration())),
        ScriptedDriver(prepare=Step(next=INVALID)),
        ScriptedDriver(llm=Step(next=INVALID), tools=Step(next=INVALID)),
    ],
    ids=["prepare-again", "refused-before-work", "refused-for-ever"],
)
def test_turning_in_place_is_an_error(driver):
    """A driver can't make the machine ask it for ever without an effect between."""
    with pytest.raises(DriverError):
        play(machine(driver))


def test_a_drivers_exception_comes_out_and_changes_nothing():
    """Whatever a driver raises reaches the host as it is; the response is still owed and can be given again."""
    crashes = [ZeroDivisionError("oops")]

    def shaky(ctx, answer):
        if crashes:
            raise crashes.pop()
        return Step(next=Handoff("x"))

    turn = machine(ScriptedDriver(llm=shaky))
    call = ScriptedHost().run(turn, until=LlmCall).effects[-1]
    response = LlmComplete(id=call.id, result=says("x", usage=USAGE))
    with pytest.raises(ZeroDivisionError, match="oops"):
        turn.respond(response)
    assert turn.respond(response) is True
    assert turn.usage == USAGE


def test_a_driver_reads_the_turn():
    """Options and extensions reach the driver as they are, together with where the turn stands."""
    seen = []

    def look(ctx, _):
        seen.append((ctx.options, ctx.turn_extension, ctx.session_extension, ctx.autonomous, ctx.max_turns))
        seen.append((ctx.turn_id, ctx.session_id, ctx.protocol_iteration, ctx.protocol_run_offset))
        seen.append(([each.id for each in ctx.messages], [each.id for each in ctx.turn_messages]))
        seen.append((ctx.events, ctx.turn_causes))
        return Step(next=Handoff("x"))

    given = start(user("hi"), base=[user("before", "b0")], turn_causes=(cause("e1"),), protocol_run_offset=3)
    extensions = {"turn_extension": "turn's", "session_extension": "session's"}
    play(machine(ScriptedDriver(prepare=look), given, options={"a": 1}, autonomous=True, max_turns=2, **extensions))
    assert seen == [
        ({"a": 1}, "turn's", "session's", True, 2),
        ("t", "s", 3, 3),
        (["b0", "e1", "u1"], ["e1", "u1"]),
        ((), (cause("e1"),)),
    ]


# ---- the host ends it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [None, SyncExecutionEnvironment, LlmCall, ToolCalls, Checkpoint])
def test_the_host_can_end_a_turn_anywhere(at):
    """At every point the host may end the turn; what was already said stays said, what was awaited is dropped."""
    driver = ScriptedDriver(llm=Step(messages=(assistant("a"),), next=StartTools((pending("c1"),))))
    turn = machine(driver, sync_execution_environment=True)
    effect = ScriptedHost().run(turn, until=at).effects[-1] if at else None
    assert turn.finish_with_outcome(Stopped(StopReason.CANCELLED)) is True
    assert turn.finish_with_outcome(Stopped(StopReason.INCOMPLETE)) is False
    assert turn.fail_turn(ErrorEvent("late")) is False
    trace = play(turn)
    assert trace.kinds[-3:] == LAST
    assert stopped(trace) is StopReason.CANCELLED
    if effect is not None:
        assert turn.respond(ScriptedHost().answer(effect)) is False


def test_reports_that_wait_survive_the_end():
    """Ending a turn while a report is still queued doesn't lose the report."""
    driver = ScriptedDriver(llm=Step(messages=(assistant("a"),), next=AFTER_WORK))
    turn = machine(driver)
    call = ScriptedHost().run(turn, until=LlmCall).effects[-1]
    turn.respond(LlmComplete(id=call.id, result=says("x")))
    turn.fail_turn(ErrorEvent("stop"))
    trace = play(turn)
    assert trace.steps == ["progress", "done"]
    assert [each.id for each in trace.of(Progress)[0].new_messages] == ["u1", "a1"]
