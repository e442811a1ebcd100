"""The turn machine, effect by effect, against drivers of a few scripted steps."""

from __future__ import annotations

import pytest
from attrs import evolve
from machine_kit import (
    AFTER_WORK,
    LAST,
    USAGE,
    ScriptedDriver,
    ScriptedHost,
    after_work,
    ask_model,
    assistant,
    before_completion,
    call_error,
    config,
    delivery,
    envelope,
    failed,
    machine,
    note,
    pending,
    play,
    prompt_texts,
    returned,
    says,
    start,
    stopped,
    user,
    worked,
)

from lash_framework.machine import MessageSequence, TurnMachine
from lash_hookspecs.checkpoints import CheckpointDelivery
from lash_hookspecs.errors import EffectControllerError
from lash_hookspecs.llm import LlmTerminalReason, LlmToolSpec, ProviderFailureKind, TokenUsage
from lash_hookspecs.messages import MessageRole
from lash_hookspecs.tools import ExecResponse, InvalidToolCall, ToolCallCancelled, ToolCallOutput, ToolFailureClass
from lash_hookspecs.turn_effects import (
    CheckpointDone,
    Done,
    ExecCode,
    ExecutionEnvironmentSync,
    LlmCall,
    LlmComplete,
    Log,
    Progress,
    ProtocolEvent,
    SyncExecutionEnvironment,
    ToolCalls,
    ToolResults,
)
from lash_hookspecs.turn_events import ErrorEvent, LlmErrorLog, TextDelta, TokenUsageEvent, ToolCallEvent
from lash_hookspecs.turn_outcomes import AssistantMessage, Finished, Handoff, Stopped, StopReason
from lash_hookspecs.turn_steps import PrepareIteration, StartExec, StartTools, Step

RECORD = ProtocolEvent(plugin_id="mode-code", payload={"n": 1})


# ---- reports --------------------------------------------------------------------------------------------------------


@pytest.mark.statement(1)
def test_progress_reports_only_what_is_new():
    """Each `Progress` carries the records appended since the one before: none twice, none of earlier turns."""
    old, first, second = (evolve(RECORD, payload=n) for n in range(3))
    driver = ScriptedDriver(
        prepare=[Step(events=(first,), advance=True, next=PrepareIteration()), ask_model],
        llm=Step(events=(second,), messages=(assistant("one"),), next=Finished(AssistantMessage("one"))),
    )
    trace = play(machine(driver, start(user("hi"), events=(old,))))
    assert [each.event_delta for each in trace.of(Progress)] == [(first,), (second,)]
    assert [[m.id for m in each.new_messages] for each in trace.of(Progress)] == [["u1"], ["a1"]]


@pytest.mark.statement(2)
def test_an_advance_alone_is_progress():
    """Going to the next iteration is reported even if nothing was recorded."""
    driver = ScriptedDriver(prepare=[Step(advance=True, next=PrepareIteration()), ask_model])
    (progress,) = play(machine(driver)).of(Progress)
    assert progress.event_delta == ()
    assert progress.protocol_iteration == 1


@pytest.mark.statement(3)
def test_done_reports_what_no_progress_has():
    """What was appended after the last report, here the turn's own input, comes with `Done`."""
    turn = machine(given=start(user("hi")))
    turn.finish_with_outcome(Stopped(StopReason.CANCELLED))
    (done,) = play(turn).of(Done)
    assert done.new_messages == (user("hi"),)
    # No step leaves records unreported, so a snapshot is made that does.
    snapshot = machine(given=start(user("hi"), events=(RECORD,))).snapshot()
    turn = TurnMachine.restore(config(), start().base, evolve(snapshot, reported_events=0))
    turn.fail_turn(ErrorEvent("no"))
    assert play(turn).of(Done)[0].event_delta == (RECORD,)


def test_reports_add_up_to_the_turn():
    """All reports together hold every message that the turn added, once and in order."""
    driver = ScriptedDriver(
        llm=[
            Step(messages=(assistant("a"),), next=StartTools((pending("c1"),))),
            Step(messages=(assistant("b", "a2"),), next=before_completion("b")),
        ]
    )
    turn = machine(driver)
    trace = play(turn, deliveries=[delivery(note("more", id="n1"))])
    told = [m.id for each in trace.effects if isinstance(each, Progress | Done) for m in each.new_messages]
    assert told == [m.id for m in turn.turn_messages] == ["u1", "a1", "n1", "a2"]


# ---- completion -----------------------------------------------------------------------------------------------------


@pytest.mark.statement(4)
def test_an_empty_last_checkpoint_completes_the_turn():
    """When no plugin adds anything before completion, the turn ends as the driver proposed, with `Done`."""
    turn = machine()
    trace = play(turn, says("yes"))
    assert trace.steps == ["llm_call", "checkpoint", "done"]
    assert turn.is_done
    assert trace.of(Done)[0].outcome == Finished(AssistantMessage("yes")) == turn.outcome


@pytest.mark.statement(5, 6)
def test_a_last_checkpoint_that_adds_something_asks_again():
    """An addition before completion costs one iteration; it is reported, then shown to the model, in this order."""
    turn = machine()
    trace = play(turn, deliveries=[delivery(note("wait, one more thing"))])
    assert trace.steps == ["llm_call", "checkpoint", "progress", "llm_call", "checkpoint", "done"]
    (progress,) = trace.of(Progress)
    assert progress.protocol_iteration == 1
    assert "wait, one more thing" in [each.text for each in progress.new_messages]
    assert "wait, one more thing" in prompt_texts(trace.of(LlmCall)[1])


@pytest.mark.statement(22)
@pytest.mark.parametrize(
    "answer",
    [says("yes"), says("", reason=LlmTerminalReason.OUTPUT_LIMIT), call_error()],
    ids=["answer", "limit", "error"],
)
def test_the_end_is_told_in_one_order(answer):
    """However a turn ends: its outcome is shown, then that it is over, then comes `Done`, and nothing after it."""
    turn = machine()
    trace = play(turn, answer)
    assert trace.kinds[-3:] == LAST
    assert turn.poll() is None


@pytest.mark.statement(23)
def test_finishing_reports_first_and_ends_there():
    """A step that ends the turn reports what it appended before the outcome; the driver isn't asked again.

    A `Step` has one way on, so there is nothing after it that could be discarded.
    """
    driver = ScriptedDriver(llm=Step(messages=(assistant("a"),), events=(RECORD,), next=Handoff("other")))
    trace = play(machine(driver))
    assert trace.kinds[-4:] == ["progress", *LAST]
    assert trace.of(Done)[0].new_messages == ()
    assert trace.of(Done)[0].event_delta == ()
    assert [question for question, _ in driver.asked] == ["prepare", "driver_state", "llm"]


# ---- answers that end a turn ----------------------------------------------------------------------------------------


@pytest.mark.statement(7, 8, 9)
def test_an_output_limit_leaves_the_turn_incomplete():
    """An answer cut off at the output limit is shown but never becomes a message; the envelope names the reason."""
    turn = machine()
    trace = play(turn, says("half an ans", reason=LlmTerminalReason.OUTPUT_LIMIT))
    assert stopped(trace) is StopReason.INCOMPLETE
    assert not [each for each in turn.messages if each.role is MessageRole.ASSISTANT]
    assert trace.events(TextDelta) == [TextDelta("half an ans")]
    assert envelope(trace).terminal_reason is LlmTerminalReason.OUTPUT_LIMIT
    assert (envelope(trace).kind, envelope(trace).code) == ("llm_provider", "output_limit")


@pytest.mark.statement(8)
@pytest.mark.parametrize(("text", "streamed"), [("half", True), (" \n", False)], ids=["streamed", "blank"])
def test_partial_text_is_not_shown_twice_nor_when_blank(text, streamed):
    """Text that watchers have seen already, and text that is blank, makes no `TextDelta`."""
    trace = play(machine(), says(text, reason=LlmTerminalReason.OUTPUT_LIMIT), streamed=streamed)
    assert trace.events(TextDelta) == []


OVERFLOW = TokenUsage(input=60, cache_read_input=30, cache_write_input=8)


@pytest.mark.statement(10, 11)
def test_a_full_window_is_an_overflow():
    """ "Output limit" with nothing written and a prompt that fills the window is really a context overflow."""
    trace = play(machine(max_context_tokens=100), says(reason=LlmTerminalReason.OUTPUT_LIMIT, usage=OVERFLOW))
    assert stopped(trace) is StopReason.PROVIDER_ERROR
    assert envelope(trace).terminal_reason is LlmTerminalReason.CONTEXT_OVERFLOW
    assert "98 of 100" in envelope(trace).user_message


@pytest.mark.statement(10)
@pytest.mark.parametrize(
    ("window", "usage"),
    [
        (None, OVERFLOW),
        (0, OVERFLOW),
        (105, OVERFLOW),
        (100, evolve(OVERFLOW, output=1)),
    ],
    ids=["window-unknown", "window-zero", "room-left", "something-written"],
)
def test_other_output_limits_stay_what_they_are(window, usage):
    """Without a known window, with room left in it, or with output, an output limit is one."""
    trace = play(machine(max_context_tokens=window), says(reason=LlmTerminalReason.OUTPUT_LIMIT, usage=usage))
    assert stopped(trace) is StopReason.INCOMPLETE


@pytest.mark.statement(10)
def test_the_overflow_threshold_is_95_percent_rounded_down():
    """97 tokens overflow a window of 103 (95% of it is 97.85, rounded down), but not one of 104 (98.8)."""
    answer = says(reason=LlmTerminalReason.OUTPUT_LIMIT, usage=evolve(OVERFLOW, cache_write_input=7))
    assert stopped(play(machine(max_context_tokens=103), answer)) is StopReason.PROVIDER_ERROR
    assert stopped(play(machine(max_context_tokens=104), answer)) is StopReason.INCOMPLETE


@pytest.mark.statement(11, 28)
@pytest.mark.parametrize(
    "reason",
    [LlmTerminalReason.CONTEXT_OVERFLOW, LlmTerminalReason.CONTENT_FILTER, LlmTerminalReason.PROVIDER_ERROR],
)
def test_reasons_that_are_the_providers(reason):
    """An overflow, a content filter and a provider's own error stop the turn as provider errors, not to be retried."""
    trace = play(machine(), says("x", reason=reason))
    assert stopped(trace) is StopReason.PROVIDER_ERROR
    assert envelope(trace).terminal_reason is reason
    assert envelope(trace).retryable is False


@pytest.mark.parametrize(
    "answer",
    [says("x", reason=LlmTerminalReason.CANCELLED), call_error(terminal_reason=LlmTerminalReason.CANCELLED)],
    ids=["answer", "error"],
)
def test_a_cancelled_call_cancels_the_turn_without_an_error(answer):
    """Somebody wanted it: the turn is cancelled, nothing is reported as wrong, no partial text is kept."""
    turn = machine()
    trace = play(turn, answer)
    assert stopped(trace) is StopReason.CANCELLED
    assert trace.events(ErrorEvent) == []
    assert turn.turn_messages == (user("hello"),)


def test_a_failed_call_is_logged_shown_and_final():
    """Retries were the provider's affair: the machine logs, shows kind and retryability, and stops."""
    error = call_error("too fast", kind=ProviderFailureKind.QUOTA, code="429", retryable=True, raw="x" * 9000)
    trace = play(machine(), error)
    assert stopped(trace) is StopReason.PROVIDER_ERROR
    assert [each.event for each in trace.of(Log)] == [LlmErrorLog(session_id="s", protocol_iteration=0, error=error)]
    told = envelope(trace)
    assert (told.retryable, told.provider_failure_kind, told.code) == (True, ProviderFailureKind.QUOTA, "429")
    assert len(told.raw) < 4100
    assert told.raw.startswith("xxx")
    assert told.raw.endswith("xxx")


# ---- the environment ------------------------------------------------------------------------------------------------

NEW = ExecutionEnvironmentSync(
    system_prompt="new", tool_specs=(LlmToolSpec(name="fresh", description="", input_schema={"type": "object"}),)
)


@pytest.mark.statement(13)
def test_the_first_sync_is_the_hosts_alone():
    """The first sync asks for no update; the model is asked right after it, with what the machine was built with."""
    trace = play(machine(sync_execution_environment=True, system_prompt="old"), syncs=[None])
    assert trace.steps[:2] == ["sync_execution_environment", "llm_call"]
    assert trace.of(SyncExecutionEnvironment)[0].update_machine_config is False
    trace = play(machine(sync_execution_environment=True, system_prompt="old"), syncs=[NEW])
    assert prompt_texts(trace.of(LlmCall)[0])[0] == "old"


@pytest.mark.statement(14, 15)
def test_a_later_sync_brings_prompt_and_tools():
    """From the second iteration on a sync asks for an update, which the next request shows."""
    driver = ScriptedDriver(llm=[Step(advance=True, next=PrepareIteration()), Step(next=Handoff("x"))])
    trace = play(machine(driver, sync_execution_environment=True, system_prompt="old"), syncs=[None, NEW])
    assert [each.update_machine_config for each in trace.of(SyncExecutionEnvironment)] == [False, True]
    first, second = trace.of(LlmCall)
    assert (prompt_texts(first)[0], first.request.tools) == ("old", ())
    assert (prompt_texts(second)[0], second.request.tools) == ("new", NEW.tool_specs)


def test_an_iteration_is_synced_once():
    """A checkpoint that adds something after work leads back into an iteration that is synced already."""
    driver = ScriptedDriver(llm=[Step(next=AFTER_WORK), Step(next=Handoff("x"))])
    trace = play(machine(driver, sync_execution_environment=True), deliveries=[delivery(note("more"))])
    assert len(trace.of(SyncExecutionEnvironment)) == 1


@pytest.mark.statement(24)
def test_a_failed_sync_fails_the_turn():
    """When the environment can't be brought up to date, the turn stops as a runtime error with that code."""
    trace = play(machine(sync_execution_environment=True), syncs=["the tool server is gone"])
    assert stopped(trace) is StopReason.RUNTIME_ERROR
    assert (envelope(trace).kind, envelope(trace).code) == ("execution_environment", "reconfigure_failed")
    assert envelope(trace).user_message == "the tool server is gone"


# ---- tools and code -------------------------------------------------------------------------------------------------


@pytest.mark.statement(16)
def test_a_batch_is_one_effect():
    """Two calls of one answer are one effect, in order, with their opaque provider state."""
    batch = (pending("c1", "state 1"), pending("c2", "state 2"))
    driver = ScriptedDriver(llm=[Step(next=StartTools(batch)), Step(next=Handoff("x"))])
    (effect,) = play(machine(driver)).of(ToolCalls)
    assert effect.calls == batch


@pytest.mark.statement(17)
def test_mixed_results_reach_the_driver_together():
    """Success, failure and cancellation come to the driver in one call, in order, each shown as it ended."""
    batch = tuple(pending(f"c{n}") for n in range(3))
    results = {
        "c0": worked(batch[0]),
        "c1": failed(batch[1]),
        "c2": returned(batch[2], output=ToolCallOutput(ToolCallCancelled(message="stopped"))),
    }
    driver = ScriptedDriver(llm=[Step(next=StartTools(batch)), Step(next=Handoff("x"))])
    trace = play(machine(driver), tool=lambda call: results[call.call_id])
    assert [given for question, given in driver.asked if question == "tools"] == [tuple(results.values())]
    statuses = [each.output.outcome.tag for each in trace.events(ToolCallEvent)]
    assert statuses == ["success", "failure", "cancelled"]


@pytest.mark.statement(18)
@pytest.mark.parametrize("result", [ExecResponse(observations=("4",)), "no interpreter"], ids=["ran", "could-not"])
def test_the_drivers_state_comes_back(result):
    """What a driver hands along with code or a model call comes back with the result, unchanged."""
    state = {"cell": 3, "names": ["a", "b"]}
    driver = ScriptedDriver(
        prepare=[Step(next=StartExec(language="python", code="2+2", driver_state=state)), ask_model], code=after_work
    )
    trace = play(machine(driver), code=result)
    assert [(each.language, each.code) for each in trace.of(ExecCode)] == [("python", "2+2")]
    assert [given for question, given in driver.asked if question == "driver_state"] == [state, None]
    assert [given for question, given in driver.asked if question == "code"] == [result]


def test_refused_calls_are_answered_in_their_place():
    """Arguments that are no JSON object become an `invalid_request` result at their index; the others run."""
    batch = (
        InvalidToolCall(call_id="c0", tool_name="look", input_json="{"),
        pending("c1"),
        InvalidToolCall(call_id="c2", tool_name="look", input_json="[1]"),
    )
    driver = ScriptedDriver(llm=[Step(next=StartTools(batch)), Step(next=Handoff("x"))])
    trace = play(machine(driver))
    assert trace.of(ToolCalls)[0].calls == (batch[1],)
    (results,) = [given for question, given in driver.asked if question == "tools"]
    assert [each.call_id for each in results] == ["c0", "c1", "c2"]
    assert [each.output.is_success for each in results] == [False, True, False]
    assert results[0].output.outcome.failure_class is ToolFailureClass.INVALID_REQUEST
    assert results[0].output.outcome.raw == "{"
    assert "not a JSON object" in results[0].model_return.parts[0].text
    assert [each.call_id for each in trace.events(ToolCallEvent)] == ["c0", "c1", "c2"]


def test_a_batch_of_refused_calls_has_no_effect():
    """With nothing to run the driver gets the results at once, and no effect goes out."""
    batch = (InvalidToolCall(call_id="c0", tool_name="look", input_json="{"),)
    driver = ScriptedDriver(
        llm=[Step(messages=(assistant("calling"),), next=StartTools(batch)), Step(next=Handoff("x"))]
    )
    trace = play(machine(driver))
    assert trace.steps == ["llm_call", "progress", "progress", "checkpoint", "llm_call", "done"]


@pytest.mark.parametrize(
    "results",
    [lambda a, b: (a,), lambda a, b: (b, a), lambda a, b: (a, b, b), lambda a, b: ()],
    ids=["missing", "swapped", "too-many", "none"],
)
def test_results_must_answer_the_calls(results):
    """Results that don't match the calls one by one are an error of the host's, and the turn still waits."""
    batch = (pending("c1"), pending("c2"))
    turn = machine(ScriptedDriver(llm=Step(next=StartTools(batch))))
    effect = ScriptedHost().run(turn, until=ToolCalls).effects[-1]
    before = turn.snapshot()
    with pytest.raises(EffectControllerError, match="tool_results_mismatch"):
        turn.respond(ToolResults(id=effect.id, results=results(*map(worked, batch))))
    assert turn.snapshot() == before


# ---- responses nobody waits for -------------------------------------------------------------------------------------


@pytest.mark.statement(20)
@pytest.mark.parametrize(
    "response",
    [
        LlmComplete(id=99, result=says("x")),
        LlmComplete(id=0, result=says("x")),
        ToolResults(id=1, results=()),
        CheckpointDone(id=1, delivery=CheckpointDelivery()),
    ],
    ids=["future-id", "past-id", "tools", "checkpoint"],
)
def test_stray_responses_change_nothing(response):
    """A response with another id, or of another kind, is refused and leaves the turn as it was."""
    turn = machine()
    ScriptedHost().run(turn, until=LlmCall)
    before = turn.snapshot()
    assert turn.respond(response) is False
    assert turn.snapshot() == before
    assert turn.poll() is None


@pytest.mark.statement(20)
def test_the_same_response_counts_once():
    """A response that comes twice is taken once."""
    turn = machine()
    call = ScriptedHost().run(turn, until=LlmCall).effects[-1]
    response = LlmComplete(id=call.id, result=says("yes", usage=USAGE))
    assert turn.respond(response) is True
    assert turn.respond(response) is False
    assert turn.usage == USAGE


@pytest.mark.statement(21)
def test_effect_ids_count_up():
    """Every effect that owes a response has an id of its own, greater than all before."""
    driver = ScriptedDriver(llm=[Step(next=StartTools((pending("c1"),))), Step(next=before_completion("x"))])
    trace = play(machine(driver, sync_execution_environment=True))
    ids = [each.id for each in trace.effects if hasattr(each, "id")]
    assert ids == list(range(1, len(ids) + 1))
    assert len(ids) == 7


# ---- usage and traces -----------------------------------------------------------------------------------------------


@pytest.mark.statement(27)
def test_usage_adds_up():
    """The running total is the sum of the calls so far, in every field."""
    driver = ScriptedDriver(llm=[Step(advance=True, next=PrepareIteration()), Step(next=Handoff("x"))])
    turn = machine(driver)
    trace = play(turn, says("a", usage=USAGE), says("b", usage=evolve(USAGE, output=50, at_least=True)))
    first, second = trace.events(TokenUsageEvent)
    assert first.cumulative == first.usage == USAGE
    assert second.cumulative == turn.usage == USAGE + second.usage
    assert (turn.usage.input, turn.usage.output, turn.usage.total, turn.usage.at_least) == (20, 55, 85, True)


def test_a_call_that_is_asked_over_goes_on_with_another_past_and_keeps_what_the_turn_said():
    """The driver is asked for the iteration again; what the failed call has cost counts, and a view is given up."""
    view = MessageSequence([user("seen", "v")])
    turn = machine(given=start(user("go"), base=[user("old", "o")]), view=view, sync_execution_environment=False)
    assert turn.ask_over(view, (), None) is False  # nobody waits for that yet
    before = ScriptedHost().run(turn, until=LlmCall).of(LlmCall)[-1]
    assert prompt_texts(before)[-2:] == ["seen", "go"]
    assert turn.ask_over(MessageSequence([user("short", "s")]), (), TokenUsage(input=7)) is True
    after = ScriptedHost().run(turn, until=LlmCall).of(LlmCall)[-1]
    assert prompt_texts(after)[-2:] == ["short", "go"]
    assert (after.id, turn.usage.input) == (before.id + 1, 7)
    assert [each.id for each in turn.turn_messages] == ["u1"]
