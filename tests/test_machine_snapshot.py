"""Snapshots: a turn that is put down and taken up again, through JSON bytes, goes on as if nothing had been."""

from __future__ import annotations

import pytest
from attrs import evolve
from machine_kit import (
    ScriptedDriver,
    ScriptedHost,
    after_work,
    ask_model,
    assistant,
    before_completion,
    calls,
    config,
    machine,
    pending,
    play,
    restored,
    rewritten,
    says,
    start,
    user,
    worked,
)

from lash_framework.machine import MessageSequence, State, TurnMachine
from lash_hookspecs.codec import decode, encode, structure
from lash_hookspecs.errors import CodecError
from lash_hookspecs.llm import LlmCallError, LlmTerminalReason, LlmToolSpec, ProviderFailureKind
from lash_hookspecs.tools import ExecResponse, InvalidToolCall
from lash_hookspecs.turn_effects import (
    Checkpoint,
    ExecCode,
    ExecDone,
    ExecutionEnvironmentSync,
    LlmCall,
    LlmComplete,
    Progress,
    ToolCalls,
    ToolResults,
)
from lash_hookspecs.turn_outcomes import Handoff
from lash_hookspecs.turn_snapshot import MachineSnapshot
from lash_hookspecs.turn_steps import PrepareIteration, StartExec, StartTools, Step

BATCH = (pending("c1", "state 1"), pending("c2", "state 2"))
TOOLS_THEN_ANSWER = {
    "llm": lambda ctx, answer: (
        Step(messages=(assistant("calling", f"a{ctx.protocol_iteration}"),), next=StartTools(BATCH))
        if ctx.protocol_iteration == 0
        else Step(next=before_completion("x"))
    ),
    "tools": lambda ctx, done: evolve(after_work(ctx, done), messages=(user("results", "r"),)),
}
CODE = {"prepare": Step(next=StartExec(language="python", code="2+2", driver_state={"cell": [3, None]}))}


def answer(turn: TurnMachine, effect, host: ScriptedHost | None = None) -> None:
    assert turn.respond((host or ScriptedHost()).answer(effect))


@pytest.mark.statement(29)
def test_an_unanswered_call_is_asked_again():
    """A turn that was put down before the model answered asks the same: id, model, messages."""
    turn = machine(max_turns=4)
    call = ScriptedHost().run(turn, until=LlmCall).effects[-1]
    again = restored(turn, max_turns=4).poll()
    assert again == call
    assert (again.id, again.request.model, again.request.messages) == (1, "m", call.request.messages)


@pytest.mark.statement(30)
def test_an_answered_call_is_not_asked_again():
    """A turn that was put down after the answer goes on with the checkpoint; the model isn't asked twice."""
    turn = machine()
    call = ScriptedHost().run(turn, until=LlmCall).effects[-1]
    answer(turn, call)
    trace = play(restored(turn))
    assert trace.steps == ["checkpoint", "done"]
    assert trace.of(Checkpoint)[0].id == call.id + 1


@pytest.mark.statement(31)
@pytest.mark.parametrize(
    ("driver", "kind"),
    [({}, LlmCall), (TOOLS_THEN_ANSWER, ToolCalls), (CODE, ExecCode)],
    ids=["llm", "tools", "code"],
)
@pytest.mark.parametrize("handed_out", [True, False], ids=["handed-out", "not-yet"])
def test_an_active_effect_is_kept_once(driver, kind, handed_out):
    """What the turn waits for stands in its state, not among what is queued, whether it was handed out or not."""
    turn = machine(ScriptedDriver(**driver))
    host = ScriptedHost()
    host.run(turn, until=kind)
    snapshot = turn.snapshot()
    assert isinstance(snapshot.waiting.effect, kind)
    assert snapshot.pending == ()
    if not handed_out:
        turn = restored(turn, ScriptedDriver(**driver))
    assert turn.poll() == (None if handed_out else snapshot.waiting.effect)
    assert turn.snapshot() == snapshot


@pytest.mark.statement(32)
def test_a_restored_batch_is_the_same_batch():
    """A batch keeps its id, its calls in order, their opaque state, and the results of refused calls."""
    refused = InvalidToolCall(call_id="c0", tool_name="look", input_json="[")
    driver = {**TOOLS_THEN_ANSWER, "llm": Step(next=StartTools((refused, *BATCH)))}
    turn = machine(ScriptedDriver(**driver))
    before = ScriptedHost().run(turn, until=ToolCalls).effects[-1]
    later = ScriptedDriver(**driver)
    turn = restored(turn, later)
    after = turn.poll()
    assert after == before
    assert (after.id, after.calls) == (2, BATCH)
    assert turn.respond(ToolResults(id=after.id, results=tuple(map(worked, after.calls))))
    assert [each.call_id for each in later.asked[0][1]] == ["c0", "c1", "c2"]


@pytest.mark.statement(33)
def test_what_tools_returned_is_reported_once():
    """Put down right after tool results, a turn reports them once, then comes the checkpoint, then the model."""
    turn = machine(ScriptedDriver(**TOOLS_THEN_ANSWER))
    effect = ScriptedHost().run(turn, until=ToolCalls).effects[-1]
    answer(turn, effect)
    trace = play(restored(turn, ScriptedDriver(**TOOLS_THEN_ANSWER)))
    assert trace.steps == ["progress", "checkpoint", "llm_call", "checkpoint", "done"]
    assert [m.id for m in trace.of(Progress)[0].new_messages] == ["r"]


@pytest.mark.statement(34)
def test_a_drivers_state_survives():
    """What a driver handed along with code comes back to it from disk, unchanged."""
    turn = machine(ScriptedDriver(**CODE))
    effect = ScriptedHost().run(turn, until=ExecCode).effects[-1]
    later = ScriptedDriver(**CODE, code=Step(next=Handoff("x")))
    turn = restored(turn, later)
    assert turn.respond(ExecDone(id=effect.id, result=ExecResponse()))
    assert later.asked[0] == ("driver_state", {"cell": [3, None]})


@pytest.mark.statement(35)
def test_errors_without_a_kind_are_of_unknown_kind():
    """An error that was stored without a kind decodes as one of unknown kind; so does a name of a later version."""
    stored = {"message": "m", "retryable": True, "code": "429", "raw": None, "terminal_reason": "provider_error"}
    error = structure(stored, LlmCallError)
    assert error == LlmCallError(message="m", retryable=True, code="429")
    assert error.kind is ProviderFailureKind.UNKNOWN
    assert structure({**stored, "kind": "solar_flare"}, LlmCallError).kind is ProviderFailureKind.UNKNOWN
    assert error.terminal_reason is LlmTerminalReason.PROVIDER_ERROR


def test_a_response_can_come_before_the_redelivery():
    """A host that has the response on record gives it at once; the effect isn't handed out again."""
    turn = machine()
    call = ScriptedHost().run(turn, until=LlmCall).effects[-1]
    turn = restored(turn)
    assert turn.respond(LlmComplete(id=call.id, result=says("yes")))
    assert play(turn).of(LlmCall) == []


def test_queued_effects_come_before_the_redelivery():
    """What was queued when the turn was put down is handed out first, the awaited effect after it."""
    turn = machine(ScriptedDriver(**TOOLS_THEN_ANSWER))
    call = ScriptedHost().run(turn, until=LlmCall).effects[-1]
    answer(turn, call)
    expected = play(restored(turn, ScriptedDriver(**TOOLS_THEN_ANSWER)))
    assert expected.kinds[:3] == ["emit token_usage", "progress", "tool_calls"]
    assert play(turn) == expected


def test_a_synced_prompt_survives():
    """A restored turn keeps the prompt and tools that a sync gave it, and doesn't sync that iteration again."""
    spec = LlmToolSpec(name="fresh", description="", input_schema={"type": "object"})
    new = ExecutionEnvironmentSync(system_prompt="new", tool_specs=(spec,))
    script = {"llm": lambda ctx, _: Step(advance=True, next=PrepareIteration())}
    turn = machine(ScriptedDriver(**script), sync_execution_environment=True, system_prompt="old")
    host = ScriptedHost(syncs=[None, new])
    host.run(turn, until=LlmCall)
    assert turn.respond(LlmComplete(id=2, result=says("x")))
    host.run(turn, until=LlmCall)
    snapshot = rewritten(turn.snapshot())
    assert (snapshot.system_prompt, snapshot.tool_specs, snapshot.synced_iteration) == ("new", (spec,), 1)
    later = ScriptedDriver(llm=ask_model)
    turn = TurnMachine.restore(
        config(later, sync_execution_environment=True, system_prompt="rebuilt differently"), MessageSequence(), snapshot
    )
    assert turn.respond(LlmComplete(id=4, result=says("x")))
    again = ScriptedHost().run(turn, until=LlmCall)
    assert again.steps == ["llm_call"]
    assert again.effects[-1].request.tools == (spec,)


def test_snapshots_are_flat_in_history():
    """A snapshot at rest holds this turn's messages and the number of those before, not the history."""
    sizes = []
    for length in (10, 99):
        base = [user("x" * 100, f"b{number:03}") for number in range(length)]
        turn = machine(given=start(base=base))
        assert turn.snapshot().base_message_count == length
        sizes.append(len(encode(turn.snapshot())))
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"base_message_count": 7}, "history of 7 messages, this one has 0"),
        ({"state": "dreaming"}, "`dreaming`"),
        ({"state": State.WAITING.value}, "to wait for"),
    ],
    ids=["history", "state", "waiting"],
)
def test_a_foreign_snapshot_is_refused(change, told):
    """A snapshot of another history, or one that contradicts itself, is an error that says what is wrong."""
    with pytest.raises(CodecError, match=told):
        TurnMachine.restore(config(), MessageSequence(), evolve(machine().snapshot(), **change))


def test_every_snapshot_of_a_turn_survives_json():
    """From the first moment to the last, what comes back from bytes equals what went in."""
    answers = [says(calls("c1")), says("done")]
    turn = machine(ScriptedDriver(**TOOLS_THEN_ANSWER), sync_execution_environment=True)
    host = ScriptedHost(llm=list(answers))
    seen = set()
    while True:
        snapshot = turn.snapshot()
        assert decode(MachineSnapshot, encode(snapshot)) == snapshot
        seen.add(snapshot.state)
        effect = turn.poll()
        if effect is None:
            break
        response = host.answer(effect)
        if response is not None:
            turn.respond(response)
    assert seen == {"start", "prepare_iteration", "waiting", "done"}
    assert turn.snapshot().outcome == turn.outcome
