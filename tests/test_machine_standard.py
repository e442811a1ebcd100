"""The standard mode in the turn machine: what the model is shown, what is run, how the turn ends."""

from __future__ import annotations

import pytest
from attrs import evolve
from machine_kit import (
    PICTURE,
    ScriptedHost,
    call_error,
    calls,
    delivery,
    envelope,
    failed,
    machine,
    note,
    play,
    prompt_texts,
    returned,
    says,
    start,
    stopped,
    user,
    worked,
)

from lash_framework.machine import TurnMachine
from lash_hookspecs.llm import LlmResponse, ReasoningOutput, TextOutput
from lash_hookspecs.llm_messages import ImageBlock, LlmRole, ReasoningBlock, TextBlock, ToolResultBlock
from lash_hookspecs.messages import MessageRole, PartKind, ProviderReasoningMeta, ResponseTextMeta
from lash_hookspecs.tools import FailControl, FinishControl
from lash_hookspecs.turn_effects import Checkpoint, Done, LlmCall, ToolCalls
from lash_hookspecs.turn_events import ErrorEvent, LlmResponseEvent, TextDelta
from lash_hookspecs.turn_outcomes import AssistantMessage, Finished, Stopped, StopReason, ToolFailed, ToolValue
from lash_plugin_mode_standard import plugin
from lash_plugin_mode_standard.driver import StandardDriver


def standard(text: str = "hello", **more) -> TurnMachine:
    return machine(StandardDriver(), start(user(text)), **more)


def outcome(trace):
    return trace.of(Done)[0].outcome


def kinds(message) -> list[PartKind]:
    return [each.kind for each in message.parts]


@pytest.mark.statement(40)
def test_the_first_request_shows_what_the_user_said():
    """The user's text reaches the model with the first request, and tools may be called."""
    trace = play(standard("what changed?"))
    assert prompt_texts(trace.of(LlmCall)[0]) == ["what changed?"]


@pytest.mark.statement(41)
@pytest.mark.parametrize(
    "answer",
    [LlmResponse(), says(" \n"), says(ReasoningOutput(text="hm"))],
    ids=["nothing", "blank", "only-reasoning"],
)
def test_an_empty_answer_is_a_provider_error(answer):
    """An answer without words or calls stops the turn after this one call: no checkpoint, no message."""
    turn = standard()
    trace = play(turn, answer)
    assert trace.steps == ["llm_call", "done"]
    assert stopped(trace) is StopReason.PROVIDER_ERROR
    assert envelope(trace).code == "empty_response"
    assert len(turn.turn_messages) == 1


@pytest.mark.statement(42)
def test_a_provider_error_reaches_no_checkpoint():
    """A failed model call stops the turn at once."""
    trace = play(standard(), call_error())
    assert trace.steps == ["llm_call", "done"]
    assert stopped(trace) is StopReason.PROVIDER_ERROR


@pytest.mark.statement(43)
def test_a_tool_call_leads_to_a_second_question():
    """Call, results, checkpoint after work, and the model is asked again with three messages."""
    trace = play(standard(), says(calls("c1")), says("done"))
    assert trace.steps == [
        *["llm_call", "progress", "tool_calls", "progress", "checkpoint"],
        *["llm_call", "progress", "checkpoint", "done"],
    ]
    first, second = trace.of(LlmCall)
    assert [each.role for each in second.request.messages] == [LlmRole.USER, LlmRole.ASSISTANT, LlmRole.USER]
    assert second.request.messages[0] is first.request.messages[0]
    assert outcome(trace) == Finished(AssistantMessage("done"))


@pytest.mark.statement(44)
def test_parallel_calls_have_one_checkpoint():
    """Two calls of one answer run as one batch, with one checkpoint after it."""
    trace = play(standard(), says(calls("c1"), calls("c2")), says("done"))
    assert [len(each.calls) for each in trace.of(ToolCalls)] == [2]
    assert [each.kind for each in trace.of(Checkpoint)] == ["after_work", "before_completion"]


@pytest.mark.statement(45)
def test_a_failing_tool_is_the_models_affair():
    """A failure is shown to the model, which goes on; it never stops the turn."""
    trace = play(standard(), says(calls("c1")), says("then not"), tool=failed)
    (result,) = trace.of(LlmCall)[1].request.messages[-1].blocks
    assert result == ToolResultBlock(call_id="c1", content="it broke", tool_name="look")
    assert outcome(trace) == Finished(AssistantMessage("then not"))


@pytest.mark.statement(46)
@pytest.mark.parametrize("streamed", [True, False])
def test_streamed_text_is_not_shown_again(streamed):
    """Text that was streamed makes no delta; either way it is the answer."""
    trace = play(standard(), says("all good"), streamed=streamed)
    assert trace.events(TextDelta) == ([] if streamed else [TextDelta("all good")])
    assert outcome(trace) == Finished(AssistantMessage("all good"))


@pytest.mark.statement(47)
def test_the_limit_stops_after_results():
    """With one call allowed the turn stops once its tools have run: results kept, no checkpoint, no second call.

    Amended: the outcome says so, and nothing is found by searching text; the note is for the next turn's model.
    """
    turn = standard(max_turns=1)
    trace = play(turn, says(calls("c1")))
    assert trace.steps == ["llm_call", "progress", "tool_calls", "progress", "done"]
    assert outcome(trace) == Stopped(StopReason.MAX_TURNS)
    assert [each.role for each in turn.turn_messages[-2:]] == [MessageRole.USER, MessageRole.SYSTEM]
    assert "limit of 1 model call." in turn.turn_messages[-1].parts[0].content


@pytest.mark.statement(47)
def test_the_limit_counts_from_the_offset():
    """A turn that begins at iteration 7 with two calls allowed makes two, unless it answers before."""
    turn = machine(StandardDriver(), start(protocol_run_offset=7), max_turns=2)
    trace = play(turn, *[says(calls(f"c{n}")) for n in range(5)])
    assert len(trace.of(LlmCall)) == 2
    assert stopped(trace) is StopReason.MAX_TURNS
    assert stopped(play(standard(max_turns=3), *[says(calls(f"c{n}")) for n in range(5)])) is StopReason.MAX_TURNS


@pytest.mark.statement(48)
def test_message_ids_tell_turn_iteration_and_purpose():
    """The same turn makes the same ids again; another turn makes others."""

    def ids(turn_id: str) -> list[str]:
        turn = standard(turn_id=turn_id, max_turns=2)
        play(turn, says(calls("c1")), says(calls("c2")))
        return [each.id for each in turn.turn_messages[1:]]

    assert ids("t") == [
        "m_standard_t_0_calls",
        "m_standard_t_0_results",
        "m_standard_t_1_calls",
        "m_standard_t_1_results",
        "m_standard_t_1_limit",
    ]
    assert ids("t") == ids("t")
    assert not set(ids("t")) & set(ids("u"))
    answered = standard()
    play(answered)
    assert answered.turn_messages[-1].id == "m_standard_t_0_answer"


@pytest.mark.statement(49)
def test_one_result_then_its_attachments():
    """Amended: text, attachment, text make one result with both texts, then the attachment; not three parts."""
    turn = standard()
    trace = play(
        turn, says(calls("c1"), calls("c2")), says("ok"), tool=lambda call: returned(call, "before", PICTURE, "after")
    )
    results = turn.turn_messages[2]
    assert kinds(results) == [PartKind.TOOL_RESULT, PartKind.IMAGE] * 2
    assert [each.content for each in results.parts] == ["before\nafter", ""] * 2
    assert [each.id for each in results.parts] == [f"{results.id}.p{n}" for n in range(4)]
    shown = trace.of(LlmCall)[1].request
    blocks = shown.messages[-1].blocks
    assert [type(each) for each in blocks] == [ToolResultBlock, ToolResultBlock, ImageBlock, ImageBlock]
    assert [each.attachment_idx for each in blocks[2:]] == [0, 1]
    assert [each.reference for each in shown.attachments] == [PICTURE, PICTURE]


@pytest.mark.statement(49)
@pytest.mark.parametrize("parts", [(), ("",), (PICTURE,)], ids=["nothing", "blank", "picture"])
def test_a_result_without_words_is_one_all_the_same(parts):
    """Amended: a call whose result has no text still gets its one result."""
    turn = standard()
    play(turn, says(calls("c1")), says("ok"), tool=lambda call: returned(call, *parts))
    assert kinds(turn.turn_messages[2]).count(PartKind.TOOL_RESULT) == 1


@pytest.mark.statement(51)
def test_what_the_plugin_registers():
    """Amended: the mode is called `standard`. It brings the tool `batch`, and none about processes."""
    (mode,) = plugin.lash_modes()
    assert mode.mode_id == "standard"
    assert [each.manifest.name for each in plugin.lash_tools()] == ["batch"]
    assert isinstance(mode.driver.make(), StandardDriver)
    assert mode.driver.sync_execution_environment is True
    assert "`batch`" in mode.driver.execution_prompt


# ---- the shape of answers -------------------------------------------------------------------------------------------

REASON = ProviderReasoningMeta(signature="sig")
FINAL = ResponseTextMeta(id="msg_1", phase="final_answer")


def test_the_answer_is_in_the_conversation_before_completion():
    """Amended: words, reasoning and metadata of the answer are kept, also when a delivery takes the turn further."""
    turn = standard()
    first = says(ReasoningOutput(text="hm", replay=REASON), TextOutput(text="yes", response_meta=FINAL))
    trace = play(turn, first, says("indeed"), deliveries=[delivery(note("really?"))])
    answer = turn.turn_messages[1]
    assert kinds(answer) == [PartKind.REASONING, PartKind.PROSE]
    assert (answer.parts[0].reasoning_meta, answer.parts[1].response_meta) == (REASON, FINAL)
    shown = trace.of(LlmCall)[1].request.messages
    assert shown[1].blocks == (ReasoningBlock(text="hm", replay=REASON), TextBlock(text="yes", response_meta=FINAL))
    assert [each.id for each in turn.turn_messages[1:]] == [
        "m_standard_t_0_answer",
        "m_checkpoint_t_0_0",
        "m_standard_t_1_answer",
    ]
    assert outcome(trace) == Finished(AssistantMessage("indeed"))


def test_an_answers_order_is_kept():
    """Reasoning stays before what it led to: services check the order of what comes back to them."""
    turn = standard()
    think = ReasoningOutput(text="", replay=REASON)
    play(turn, says(think, "let me look", think, calls("c1"), ReasoningOutput(text=" "), calls("c2")), says("ok"))
    assert kinds(turn.turn_messages[1]) == [
        PartKind.REASONING,
        PartKind.PROSE,
        PartKind.REASONING,
        PartKind.TOOL_CALL,
        PartKind.TOOL_CALL,
    ]


@pytest.mark.parametrize(
    ("pieces", "whole"),
    [
        (["a", "b"], "a\n\nb"),
        (["a\n", "b"], "a\n\nb"),
        (["a\n\n\n", "b"], "a\n\n\nb"),
        (["a", "\n\nb"], "a\n\nb"),
        (["a", " ", "b"], "a\n\nb"),
    ],
    ids=["bare", "newline", "many", "leading", "blank-between"],
)
def test_pieces_of_text_are_told_apart(pieces, whole):
    """Pieces are joined by at least one blank line, and what is shown adds up to the answer."""
    trace = play(standard(), says(*pieces))
    assert outcome(trace) == Finished(AssistantMessage(whole))
    assert "".join(each.content for each in trace.events(TextDelta)) == whole
    assert [each.content for each in trace.events(LlmResponseEvent)] == [whole]


@pytest.mark.parametrize(
    ("final", "kept"), [("the answer", "the answer"), (" ", "thinking aloud")], ids=["final", "blank-final"]
)
def test_commentary_gives_way_to_a_final_answer(final, kept):
    """Text that the provider calls commentary is left out if there is a final answer."""
    aloud = TextOutput(text="thinking aloud", response_meta=ResponseTextMeta(phase="commentary"))
    trace = play(standard(), says(aloud, TextOutput(text=final, response_meta=FINAL)))
    assert outcome(trace) == Finished(AssistantMessage(kept))


def test_text_without_parts_is_text():
    """A provider that gives only the full text is understood."""
    assert outcome(play(standard(), LlmResponse(full_text="plain"))) == Finished(AssistantMessage("plain"))


def test_silence_after_tools_ends_the_turn_well():
    """A model that says nothing once its tools have run has nothing to add."""
    trace = play(standard(), says(calls("c1")), LlmResponse())
    assert trace.steps[-2:] == ["checkpoint", "done"]
    assert outcome(trace) == Finished(AssistantMessage(""))


@pytest.mark.parametrize("raw", ["", "{", "[1]", "null", '"x"', '{"a": NaN}', "[" * 100_000])
def test_arguments_that_are_no_object_are_told_to_the_model(raw):
    """Amended: the model reads that its arguments were wrong; the tool isn't run on `{}` instead."""
    turn = standard()
    trace = play(turn, says(calls("c1", args=raw), calls("c2")), says("sorry"))
    assert [each.call_id for each in trace.of(ToolCalls)[0].calls] == ["c2"]
    wrong, right = turn.turn_messages[2].parts
    assert "not a JSON object" in wrong.content
    assert (wrong.tool_call_id, right.tool_call_id) == ("c1", "c2")
    assert turn.turn_messages[1].parts[0].content == raw


def test_a_call_id_is_run_once():
    """Two calls of one id can't both be answered: the first counts."""
    trace = play(standard(), says(calls("c1", "look"), calls("c1", "other")), says("ok"))
    assert [each.tool_name for each in trace.of(ToolCalls)[0].calls] == ["look"]


# ---- tools that end the turn ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("control", "end"),
    [
        (FinishControl(41), Finished(ToolValue("look", 41))),
        (FailControl("bad"), Stopped(StopReason.TOOL_ERROR, ToolFailed("look", "bad"))),
    ],
    ids=["finish", "fail"],
)
def test_a_successful_tool_can_end_the_turn(control, end):
    """The first success that wants to end the turn does so; its results are kept, no checkpoint follows."""
    turn = standard()
    trace = play(turn, says(calls("c1"), calls("c2")), tool=lambda call: worked(call, control))
    assert trace.steps == ["llm_call", "progress", "tool_calls", "progress", "done"]
    assert outcome(trace) == end
    assert turn.turn_messages[-1].id == "m_standard_t_0_results"


def test_a_failed_tool_cannot_end_the_turn():
    """What a failed call asks of the turn is not heard; a later success's wish is."""
    results = {"c1": FinishControl("no"), "c2": FinishControl("yes")}

    def run(call):
        control = results[call.call_id]
        return failed(call, control) if call.call_id == "c1" else worked(call, control)

    trace = play(standard(), says(calls("c1"), calls("c2")), tool=run)
    assert outcome(trace) == Finished(ToolValue("look", "yes"))


def test_the_grace_iteration_can_still_answer():
    """At the limit an addition before completion grants one more call, in which the model may answer."""
    turn = standard(max_turns=1)
    trace = ScriptedHost(llm=[says("a"), says("b")], deliveries=[delivery(note("but"))]).run(turn)
    assert outcome(trace) == Finished(AssistantMessage("b"))
    assert trace.events(ErrorEvent) == []
    assert evolve(turn.snapshot(), pending=()).turn_limit_scheduled
