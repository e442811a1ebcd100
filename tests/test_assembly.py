"""What a turn was, from what it showed: statements 73 to 86, as far as they apply here."""

from __future__ import annotations

from typing import Any

import pytest

from lash_framework.assembly import RECOVERED, TurnAssembler, classify_output, recover_answer, safe_text
from lash_hookspecs import (
    AssembledTurn,
    AssistantMessage,
    ChildTokenUsage,
    DoneEvent,
    ErrorEnvelope,
    ErrorEvent,
    FinalValue,
    Finished,
    LlmTerminalReason,
    Message,
    MessageRole,
    OutputState,
    Part,
    PartKind,
    SessionEvent,
    SessionStateEnvelope,
    Stopped,
    StopReason,
    TerminationPolicy,
    TextDelta,
    TokenUsage,
    ToolCallEvent,
    ToolCallFailure,
    ToolCallOutput,
    ToolCallSuccess,
    ToolFailureClass,
    ToolValue,
    TurnOutcome,
    TurnOutcomeEvent,
    text_message,
)

STATE = SessionStateEnvelope(session_id="s", turn_index=1, head_revision=1, leaf_node_id=None)
TRACEBACK = 'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n    f()\nValueError: no\n'


def user(text: str) -> Message:
    return text_message(f"u-{text}", MessageRole.USER, text)


def assistant(text: str) -> Message:
    return text_message(f"a-{text}", MessageRole.ASSISTANT, text, kind=PartKind.PROSE)


def assembled(*events: SessionEvent, messages: tuple[Message, ...] = (), **options: Any) -> AssembledTurn:
    assembler = TurnAssembler()
    for event in events:
        assembler.fold(event)
    return assembler.assemble(turn_id="t", state=STATE, mode_id="standard", messages=messages, **options)


def ended(outcome: TurnOutcome) -> tuple[SessionEvent, ...]:
    return TurnOutcomeEvent(outcome), DoneEvent()


def tool_event(output: ToolCallOutput) -> ToolCallEvent:
    return ToolCallEvent(call_id="c", name="t", args={}, output=output, duration_ms=1)


FAILED = ToolCallOutput(ToolCallFailure(failure_class=ToolFailureClass.EXECUTION, code="x", message="no"))
BLOCKING = ErrorEvent("broken", ErrorEnvelope(kind="runtime", user_message="broken"))


@pytest.mark.statement(73)
def test_text_that_was_only_streamed_is_not_the_answer() -> None:
    """What was only streamed, and is in no message, isn't what the assistant said."""
    turn = assembled(TextDelta("half an ans"), *ended(Stopped(StopReason.INCOMPLETE)), messages=(user("q"),))
    assert turn.text == ""
    assert turn.assistant_output.state is OutputState.EMPTY_OUTPUT


@pytest.mark.statement(74)
def test_what_the_machine_said_beats_recovery() -> None:
    """Where the machine said how it ended nothing is pieced together, and no issue tells of it."""
    turn = assembled(*ended(Finished(AssistantMessage("said"))), messages=(user("q"), assistant("something else")))
    assert turn.text == "said"
    assert turn.errors == ()


@pytest.mark.statement(75)
@pytest.mark.parametrize(
    ("value", "text"),
    [("as it is", "as it is"), ({"a": [1]}, '{\n  "a": [\n    1\n  ]\n}'), (None, "")],
    ids=["text", "object", "null"],
)
def test_a_final_value_is_shown_as_text(value: object, text: str) -> None:
    """A value that ends the turn is shown as it is if it is text, else as JSON that people can read."""
    assert assembled(*ended(Finished(FinalValue(value)))).text == text
    assert assembled(*ended(Finished(ToolValue("t", value)))).text == text


@pytest.mark.statement(76)
def test_without_an_outcome_the_last_answer_is_taken_and_said_so() -> None:
    """If nobody said how it ended, the assistant's last word since the user spoke is the answer."""
    turn = assembled(DoneEvent(), messages=(user("q"), assistant("found")))
    assert turn.outcome == Finished(AssistantMessage("found"))
    assert [each.code for each in turn.errors] == [RECOVERED]
    assert not turn.errors[0].blocking


@pytest.mark.statement(77)
def test_a_cancelled_turn_never_takes_an_earlier_answer() -> None:
    """What was answered before the user spoke last is no answer of a cancelled turn."""
    history = (user("old"), assistant("old answer"), user("new"))
    turn = assembled(*ended(Stopped(StopReason.CANCELLED)), messages=history, cancelled=True)
    assert turn.outcome == Stopped(StopReason.CANCELLED)
    assert turn.text == ""


@pytest.mark.statement(78)
def test_a_recovered_answer_has_no_tool_calls_in_it() -> None:
    """Recovered text excludes the content of tool calls."""
    message = Message(
        id="m",
        role=MessageRole.ASSISTANT,
        parts=(
            Part(id="m.p0", kind=PartKind.PROSE, content="words"),
            Part(id="m.p1", kind=PartKind.TOOL_CALL, content='{"a": 1}', tool_call_id="c", tool_name="t"),
        ),
    )
    assert recover_answer((user("q"), message)) == "words"


@pytest.mark.statement(79)
def test_a_turn_that_never_said_done_is_a_runtime_error_unless_the_policy_says_otherwise() -> None:
    """A missing Done stops the turn as a runtime error."""
    turn = assembled(messages=(user("q"), assistant("a")))
    assert turn.outcome == Stopped(StopReason.RUNTIME_ERROR)
    assert "missing_done" in [each.code for each in turn.errors]
    lenient = assembled(messages=(user("q"), assistant("a")), termination=TerminationPolicy(False))
    assert lenient.outcome == Finished(AssistantMessage("a"))


@pytest.mark.statement(80)
def test_a_blocking_issue_with_a_failed_tool_is_a_tool_failure() -> None:
    """A blocking error plus a failed tool record stops the turn as a tool failure."""
    assert assembled(tool_event(FAILED), BLOCKING, DoneEvent()).outcome == Stopped(StopReason.TOOL_FAILURE)
    worked = tool_event(ToolCallOutput(ToolCallSuccess(1)))
    assert assembled(worked, BLOCKING, DoneEvent()).outcome == Stopped(StopReason.RUNTIME_ERROR)


@pytest.mark.statement(81)
def test_a_limit_is_never_found_by_reading_text() -> None:
    """Amended: the reference looks for a marker in the last messages; here only the machine's word counts."""
    history = (user("q"), text_message("n", MessageRole.SYSTEM, "Turn limit reached (3)"), assistant("a"))
    assert assembled(DoneEvent(), messages=history).outcome == Finished(AssistantMessage("a"))
    stopped = assembled(*ended(Stopped(StopReason.MAX_TURNS)), messages=history)
    assert stopped.outcome == Stopped(StopReason.MAX_TURNS)


@pytest.mark.statement(83)
def test_an_error_keeps_what_its_envelope_says() -> None:
    """What an error envelope says, whether it is worth a retry included, is in the issue."""
    envelope = ErrorEnvelope(
        kind="llm_provider",
        code="429",
        user_message="later",
        retryable=True,
        terminal_reason=LlmTerminalReason.PROVIDER_ERROR,
    )
    turn = assembled(ErrorEvent("m", envelope), *ended(Stopped(StopReason.PROVIDER_ERROR)))
    issue = turn.errors[0]
    assert (issue.kind, issue.code, issue.message, issue.retryable) == ("llm_provider", "429", "later", True)
    assert assembled(ErrorEvent("bare"), DoneEvent()).errors[0].kind == "runtime"


OUTPUTS = {
    "usable": ("  an answer  \n", False, "an answer", OutputState.USABLE),
    "empty": ("", False, "", OutputState.EMPTY_OUTPUT),
    "whitespace is empty": (" \n\t ", False, "", OutputState.EMPTY_OUTPUT),
    "only a traceback": (TRACEBACK, False, "", OutputState.TRACEBACK_ONLY),
    "a traceback in an answer": (f"It says:\n{TRACEBACK}", False, f"It says:\n{TRACEBACK}".strip(), OutputState.USABLE),
    "after an error": ("still", True, "still", OutputState.RECOVERED_FROM_ERROR),
}


@pytest.mark.parametrize(("raw", "blocking", "safe", "state"), OUTPUTS.values(), ids=OUTPUTS)
def test_what_an_output_is_good_for(raw: str, blocking: bool, safe: str, state: OutputState) -> None:
    output = classify_output(raw, blocking=blocking)
    assert (output.safe_text, output.raw_text, output.state) == (safe, raw, state)


def test_safe_text_loses_blanks_at_line_ends_only() -> None:
    assert safe_text("\n  a  \n    b\t\n\n") == "a\n    b"


def test_childrens_usage_is_cumulative_per_child_and_summed_by_source_and_model() -> None:
    def child(session: str, total: int) -> ChildTokenUsage:
        usage = TokenUsage(input=total)
        return ChildTokenUsage(
            session_id=session, source="child", model="m", protocol_iteration=0, usage=usage, cumulative=usage
        )

    turn = assembled(child("a", 1), child("a", 5), child("b", 2), DoneEvent())
    assert [(each.source, each.model, each.usage.input) for each in turn.children_usage] == [("child", "m", 7)]
