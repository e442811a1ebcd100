"""Screens: what a turn's activities look like in a pipe and on a terminal, without a turn."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from rich.console import Console

from lash_framework.cli.lines import call_line, clean, footer, problems, shortened, usage_text
from lash_framework.cli.screens import PlainScreen, Screen
from lash_framework.cli.terminal import TerminalScreen
from lash_hookspecs import activity as a
from lash_hookspecs.llm import RetryStatus, TokenUsage
from lash_hookspecs.sessions import (
    AssembledTurn,
    AssistantOutput,
    ExecutionSummary,
    OutputState,
    SessionStateEnvelope,
    TurnIssue,
)
from lash_hookspecs.tools import (
    ToolCallCancelled,
    ToolCallFailure,
    ToolCallOutput,
    ToolCallSuccess,
    ToolFailureClass,
)
from lash_hookspecs.turn_outcomes import AssistantMessage, Finished, Handoff, Stopped, StopReason, TurnOutcome

Shown = Callable[[Sequence[tuple[str, a.TurnEvent]]], tuple[str, str]]


def turn(
    outcome: TurnOutcome = Finished(AssistantMessage("x")), text: str = "", errors: Sequence[TurnIssue] = ()
) -> AssembledTurn:
    return AssembledTurn(
        turn_id="t",
        state=SessionStateEnvelope(session_id="s", turn_index=1, head_revision=1, leaf_node_id="n"),
        outcome=outcome,
        assistant_output=AssistantOutput(safe_text=text, raw_text=text, state=OutputState.USABLE),
        execution=ExecutionSummary(mode="standard"),
        errors=tuple(errors),
        token_usage=TokenUsage(input=3, output=2),
    )


def feed(screen: Screen, events: Sequence[tuple[str, a.TurnEvent]], ended: AssembledTurn | None = None) -> None:
    for number, (correlation, event) in enumerate(events):
        screen.show(a.TurnActivity(str(number), correlation, event))
    if ended is not None:
        screen.end(ended, "/tmp/x.db")
    screen.close()


def plain(events: Sequence[tuple[str, a.TurnEvent]], ended: AssembledTurn | None = None) -> tuple[str, str]:
    out, notes = io.StringIO(), io.StringIO()
    feed(PlainScreen(out, notes), events, ended)
    return out.getvalue(), notes.getvalue()


def terminal(events: Sequence[tuple[str, a.TurnEvent]], ended: AssembledTurn | None = None, **options: Any) -> str:
    out = io.StringIO()
    feed(TerminalScreen(console=Console(file=out, width=40, highlight=False), **options), events, ended)
    return out.getvalue()


def ended_call(outcome: Any, **more: Any) -> a.ToolCallCompleted:
    given = {"call_id": "c", "name": "add", "args": {"a": 1, "b": "x"}, "duration_ms": 12, **more}
    return a.ToolCallCompleted(output=ToolCallOutput(outcome), **given)


TWO_ANSWERS: list[tuple[str, a.TurnEvent]] = [
    ("m0", a.ModelRequestStarted(protocol_iteration=0)),
    ("m0", a.AssistantProseDelta("Let ")),
    ("m0", a.AssistantProseDelta("me.")),
    ("c", a.ToolCallStarted(call_id="c", name="add", args={"a": 1, "b": "x"})),
    ("c", ended_call(ToolCallSuccess(3))),
    ("m1", a.ModelRequestStarted(protocol_iteration=1)),
    ("m1", a.AssistantProseDelta("Done.")),
]


def test_answers_and_calls_have_lines_of_their_own() -> None:
    assert plain(TWO_ANSWERS) == ("Let me.\nDone.\n", '→ add(a=1, b="x") = 3  (12 ms)\n')
    assert terminal(TWO_ANSWERS) == 'Let me.\n→ add(a=1, b="x") = 3  (12 ms)\nDone.\n'


def test_a_running_call_shows_its_last_line_where_the_spinner_is() -> None:
    screen = TerminalScreen(console=Console(file=io.StringIO(), width=80, force_terminal=True))
    started = a.ToolCallStarted(call_id="c", name="shell", args={"command": "make"})
    said = []
    for event in (started, *(a.PluginSurface(plugin_id="p", name="output", payload=each) for each in SURFACES)):
        screen.show(a.TurnActivity("1", "c", event))
        assert screen._status is not None
        said.append(str(screen._status.status))
    screen.close()
    assert said == ['shell(command="make")', "shell: two", 'shell(command="make")', *["shell: [31mred"] * 3]


SURFACES: list[Any] = [{"text": "one\ntwo\n"}, {"text": "\n"}, {"text": "\x1b[31mred"}, {"text": 1}, "red"]


def test_a_turn_that_goes_on_after_an_answer_shows_each_call_once_and_no_spinner_meanwhile() -> None:
    """What was shown stood there again after each answer, and the spinner wrote over the question."""
    looked = a.ToolCallStarted(call_id="a", name="look", args={})
    acts = a.ToolCallStarted(call_id="b", name="act", args={})
    one, two = ToolCallOutput(ToolCallSuccess(1)), ToolCallOutput(ToolCallSuccess(2))
    done = a.ToolCallCompleted(call_id="a", name="look", args={}, output=one, duration_ms=0)
    acted = a.ToolCallCompleted(call_id="b", name="act", args={}, output=two, duration_ms=0)
    out = io.StringIO()
    screen = TerminalScreen(console=Console(file=out, width=40, highlight=False))
    for event in (looked, done, acts):
        screen.show(a.TurnActivity("1", event.call_id, event))
    screen.pause()
    assert screen._status is None
    for event in (looked, done, acts, acted):
        screen.show(a.TurnActivity("1", event.call_id, event))
    screen.end(turn(text="Done."))
    assert out.getvalue().splitlines()[:3] == ["→ look() = 1  (0 ms)", "→ act() = 2  (0 ms)", "Done."]
    assert "did not finish" not in out.getvalue()


def test_text_is_written_the_moment_it_comes() -> None:
    out = io.StringIO()
    screen = PlainScreen(out, io.StringIO())
    seen = []
    for number, piece in enumerate(("a", "b", "c")):
        screen.show(a.TurnActivity(str(number), "m", a.AssistantProseDelta(piece)))
        seen.append(out.getvalue())
    assert seen == ["a", "ab", "abc"]


def test_a_broken_off_answer_and_a_retry_are_said() -> None:
    status = RetryStatus(wait_seconds=1.5, attempt=1, max_attempts=4, reason="p: 503")
    events: list[tuple[str, a.TurnEvent]] = [
        ("m", a.AssistantProseDelta("Half")),
        ("m", a.ModelAttemptReset()),
        ("m", status),
        ("m", a.AssistantProseDelta("Whole.")),
    ]
    note = "the text above broke off; the answer starts again\n"
    retry = "p: 503; asking again in 1.5 s (attempt 1 of 4 failed)\n"
    assert plain(events) == ("Half\nWhole.\n", note + retry)
    assert terminal(events) == f"Half\n{note}{retry}Whole.\n"
    assert plain(events[1:]) == ("Whole.\n", retry), "nothing was shown, so nothing is taken back"


def test_the_same_wait_time_and_again_is_one_line() -> None:
    status = RetryStatus(wait_seconds=1.0, attempt=1, max_attempts=4, reason="p: 429")
    other = RetryStatus(wait_seconds=2.0, attempt=2, max_attempts=4, reason="p: 429")
    events: list[tuple[str, a.TurnEvent]] = [("m", each) for each in (status, status, status, other)]
    lines = [
        "p: 429; asking again in 1.0 s (attempt 1 of 4 failed)\n",
        "p: 429; asking again in 2.0 s (attempt 2 of 4 failed)\n",
    ]
    assert plain(events)[1] == "".join(lines)
    assert plain([*events[:2], ("n", a.ModelRequestStarted(protocol_iteration=1)), ("n", status)])[1] == lines[0] * 2
    assert [line in " ".join(terminal(events).split()) for line in ("in 1.0 s", "in 2.0 s")] == [True, True]


def test_reasoning_is_shown_on_demand() -> None:
    events: list[tuple[str, a.TurnEvent]] = [
        ("m", a.AssistantReasoningDelta("Hm.")),
        ("m", a.AssistantProseDelta("Yes.")),
    ]
    assert terminal(events) == "Yes.\n"
    assert terminal(events, reasoning=True) == "Hm.\nYes.\n"
    assert plain(events) == ("Yes.\n", "")


def test_what_was_not_streamed_is_printed_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert plain([], turn(text="The answer."))[0] == "The answer.\n"
    assert terminal([], turn(text="The answer.")).startswith("The answer.\n")
    assert plain(TWO_ANSWERS, turn(text="Done."))[0] == "Let me.\nDone.\n"
    assert capsys.readouterr() == ("", "")


def test_a_call_that_was_cut_off_is_told_on_a_terminal() -> None:
    assert "→ add(" in terminal(TWO_ANSWERS[:4], turn(Stopped(StopReason.CANCELLED)))
    assert "did not finish" in terminal(TWO_ANSWERS[:4], turn(Stopped(StopReason.CANCELLED)))


CALLS: dict[str, tuple[a.ToolCallCompleted, str]] = {
    "success": (ended_call(ToolCallSuccess({"x": [1]})), '→ add(a=1, b="x") = {"x": [1]}  (12 ms)'),
    "text": (ended_call(ToolCallSuccess("two\n lines")), '→ add(a=1, b="x") = two lines  (12 ms)'),
    "nothing": (ended_call(ToolCallSuccess(None), args={}), "→ add() = null  (12 ms)"),
    "failure": (
        ended_call(ToolCallFailure(failure_class=ToolFailureClass.IO, code="c", message="no disk")),
        '→ add(a=1, b="x") failed: no disk  (12 ms)',
    ),
    "cancelled": (ended_call(ToolCallCancelled(message="stopped")), '→ add(a=1, b="x") cancelled: stopped  (12 ms)'),
    "cut": (ended_call(ToolCallCancelled(message="stopped"), args={}, duration_ms=0), "→ add() cancelled: stopped"),
    "child": (ended_call(ToolCallSuccess(1), parent_call_id="p", args={}), "  → add() = 1  (12 ms)"),
    "controls": (ended_call(ToolCallSuccess("\x1b[31mred"), name="a\x1b[2J", args={}), "→ a[2J() = [31mred  (12 ms)"),
    "long": (
        ended_call(ToolCallSuccess("y" * 999), args={"a": "x" * 99}),
        f'→ add(a="{"x" * 58}…) = {"y" * 199}…  (12 ms)',
    ),
}


@pytest.mark.parametrize("case", CALLS)
def test_a_call_is_one_line(case: str) -> None:
    event, line = CALLS[case]
    assert call_line(event) == line


PROBLEMS: dict[str, tuple[AssembledTurn, list[str]]] = {
    "none": (turn(), []),
    "issue": (
        turn(Stopped(StopReason.PROVIDER_ERROR), errors=[TurnIssue(kind="llm", message="on fire")]),
        ["on fire"],
    ),
    "note": (
        turn(errors=[TurnIssue(kind="hook", message="slow", plugin_id="p", blocking=False)]),
        ["note: plugin `p`: slow"],
    ),
    "no issue": (turn(Stopped(StopReason.PLUGIN_ABORT)), ["the turn stopped: plugin abort"]),
    "limit": (
        turn(Stopped(StopReason.MAX_TURNS)),
        ["the limit of iterations is reached; raise it with `--set max_turns=N`"],
    ),
    "handoff": (turn(Handoff("next")), ["the session `next` goes on with this"]),
}


@pytest.mark.parametrize("case", PROBLEMS)
def test_what_went_wrong_is_said_once(case: str) -> None:
    given, lines = PROBLEMS[case]
    assert list(problems(given)) == lines


def test_usage_says_what_it_does_not_know() -> None:
    assert usage_text(TokenUsage(input=3, output=2)) == "3 tokens in, 2 out"
    assert (
        usage_text(TokenUsage(input=3, cache_read_input=4, at_least=True)) == "at least 7 tokens in (4 cached), 0 out"
    )
    assert footer(turn(), "/x.db") == "3 tokens in, 2 out · session s · turn t · not journalled · committed to /x.db"
    assert footer(turn()) == "3 tokens in, 2 out"


def test_no_text_steers_the_terminal() -> None:
    assert clean("a\x1b]0;title\x07b\tc\r\nd\x9bm") == "a]0;titleb\tc\ndm"
    assert "\x1b" not in terminal([("m", a.AssistantProseDelta("\x1b[2J\x1b]52;c;x\x07gone"))])
    assert shortened("a" * 10, 5) == "aaaa…"
