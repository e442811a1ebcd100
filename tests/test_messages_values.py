"""Messages as values: sequences, transcripts, what a model can go on from, and their form on disk."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given, strategies as st
from machine_kit import PLUGIN, assistant, message, part, user

from lash_framework.machine import MessageSequence, is_resume_safe, render_transcript, resume_fault
from lash_hookspecs.codec import decode, encode, structure, unstructure
from lash_hookspecs.llm import LlmCallError, LlmTerminalReason, ProviderFailureKind
from lash_hookspecs.messages import (
    Intact,
    Message,
    MessageRole,
    PartKind,
    PluginOrigin,
    ProviderReasoningMeta,
    ResponseTextMeta,
    Summarized,
)
from lash_hookspecs.tool_declarations import RetryNever, RetrySafe, ToolRetryExhausted, ToolRetryNever, ToolRetrySafe
from lash_hookspecs.tools import (
    ToolCallFailure,
    ToolFailureClass,
    ToolManifest,
)
from lash_hookspecs.turn_events import ErrorEnvelope

USER, ASSISTANT, SYSTEM, EVENT = MessageRole.USER, MessageRole.ASSISTANT, MessageRole.SYSTEM, MessageRole.EVENT


def call(call_id: str = "c1", role: MessageRole = ASSISTANT, id: str = "a") -> Message:  # the field
    return message(id, role, part(PartKind.TOOL_CALL, "{}", tool_call_id=call_id, tool_name="look"))


def result(call_id: str = "c1", role: MessageRole = USER, id: str = "r") -> Message:  # the field
    return message(id, role, part(PartKind.TOOL_RESULT, "ok", tool_call_id=call_id))


# ---- going on from a history ----------------------------------------------------------------------------------------

SAFE = {
    "empty": [],
    "words": [user("hi"), assistant("hello"), assistant("again", "a2")],
    "call-and-result": [user("hi"), call(), result(), assistant("done")],
    "two-calls": [call("c1"), result("c1"), call("c2", id="b"), result("c2", id="s")],
    "note-between": [call(), message("n", SYSTEM), result()],
}
UNSAFE = {
    "no-result": ([user("hi"), call()], "without a result"),
    "assistant-goes-on": ([call(), assistant("done")], "follows calls without a result"),
    "no-call": ([result()], "waits for no result"),
    "result-first": ([result(), call()], "waits for no result"),
    "call-id-twice": ([call(), result(), call(id="b"), result(id="s")], "repeats the call id"),
    "result-twice": ([call(), result(), result(id="s")], "waits for no result"),
    "blank-call-id": ([call(""), result("")], "repeats the call id"),
    "user-calls": ([call(role=USER)], "holds a tool call"),
    "assistant-answers": ([message("a", ASSISTANT, *call().parts, *result().parts)], "holds a tool result"),
    "system-answers": ([call(), result(role=SYSTEM)], "holds a tool result"),
}


@pytest.mark.statement(57)
@pytest.mark.parametrize("messages", SAFE.values(), ids=SAFE)
def test_completed_history_is_safe_to_go_on_from(messages):
    """A history in which every call has its result can be sent again."""
    assert resume_fault(messages) is None
    assert is_resume_safe(MessageSequence(messages))


@pytest.mark.statement(57, 58)
@pytest.mark.parametrize(("messages", "fault"), UNSAFE.values(), ids=UNSAFE)
def test_broken_history_is_not(messages, fault):
    """A call without its result, an id used twice, and calls or results in the wrong mouth are named."""
    assert fault in resume_fault(messages)
    assert not is_resume_safe(messages)


# ---- transcripts ----------------------------------------------------------------------------------------------------


@pytest.mark.statement(64)
def test_a_transcript_goes_from_old_to_new():
    """Turns come oldest first; one without an answer says so, except the last, whose answer is on its way."""
    messages = [user("one"), assistant("eins"), user("two"), user("three"), assistant("drei"), user("four")]
    assert render_transcript(messages).split("\n\n") == [
        "User: one\nAssistant: eins",
        "User: two\nAssistant: (no answer)",
        "User: three\nAssistant: drei",
        "User: four",
    ]
    assert render_transcript([]) == ""


@pytest.mark.statement(54)
def test_a_transcript_shows_words_only():
    """Reasoning, tools, notes and events are not part of a transcript."""
    reason = part(PartKind.REASONING, "secret", reasoning_meta=ProviderReasoningMeta(signature="s"))
    answer = message("a", ASSISTANT, reason, part(PartKind.PROSE, "yes "), *call().parts)
    messages = [user("hi"), message("n", SYSTEM, part(PartKind.TEXT, "note")), answer, result(), assistant("done")]
    assert render_transcript(messages) == "User: hi\nAssistant: yes\nAssistant: done"


def test_a_transcript_keeps_a_plugins_words_in_their_turn():
    """What a plugin says in the user's name doesn't begin a turn; pruned words show their summary."""
    short = message("a", ASSISTANT, part(PartKind.PROSE, "long", prune_state=Summarized("in short", "h")))
    messages = [user("hi"), evolve(user("also this", "n"), origin=PLUGIN), short]
    assert render_transcript(messages) == "User: hi\nUser: also this\nAssistant: in short"


# ---- sequences ------------------------------------------------------------------------------------------------------

A, B, C, D = (user(each, each) for each in "abcd")


@pytest.mark.statement(59)
def test_a_sequence_is_stored_as_a_plain_list():
    """On disk a sequence can't be told from a list, and comes back from one."""
    sequence = MessageSequence([A]).extended([B])
    assert encode([*sequence]) == encode([A, B])
    assert MessageSequence(decode(list[Message], encode([*sequence]))) == sequence == [A, B] == [*sequence]


def test_extending_leaves_the_original_alone():
    """Two continuations of one sequence don't see each other."""
    base = MessageSequence([A])
    left, right = base.extended([B]), base.extended([C, D])
    assert (base, left, right) == ([A], [A, B], [A, C, D])
    assert (left.position_of("b"), left.position_of("c"), right.position_of("c")) == (1, None, 1)
    assert base.position_of("b") is None
    assert base.extended([]) is base


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=20))
def test_sequences_behave_like_tuples(growths):
    """Whatever is extended when, each sequence equals the tuple that it should be, in every way of reading it."""
    pairs = [(MessageSequence(), ())]
    for number, (which, count) in enumerate(growths):
        sequence, model = pairs[which % len(pairs)]
        added = tuple(user("x", f"{number}.{index}") for index in range(count))
        pairs.append((sequence.extended(added), model + added))
    for sequence, model in pairs:
        assert tuple(sequence) == model == sequence[:]
        assert len(sequence) == len(model)
        assert sequence == model
        assert (sequence[1:-1], sequence[::-2]) == (model[1:-1], model[::-2])
        assert [sequence.position_of(each.id) for each in model] == list(range(len(model)))
        assert [sequence[at] for at in range(-len(model), len(model))] == [*model, *model]


def test_a_sequence_ends_where_it_ends():
    """Reading beyond the end is an error, also when another sequence goes on there."""
    base = MessageSequence([A])
    base.extended([B])
    for at in (1, -2):
        with pytest.raises(IndexError):
            base[at]
    assert repr(base) == "<MessageSequence of 1>"
    assert base != [B]
    assert base != "a"


def test_what_is_for_one_turn_only_is_left_behind():
    """Transient messages of a turn don't reach the next one's history; without any, nothing is copied."""
    whisper = evolve(B, origin=PluginOrigin("guard", transient=True))
    sequence = MessageSequence([A, whisper]).extended([whisper, C])
    assert sequence.without_transient(2) == [A, whisper, C]
    plain = MessageSequence([A]).extended([B])
    assert plain.without_transient(1) is plain


# ---- on disk --------------------------------------------------------------------------------------------------------


@pytest.mark.statement(60)
def test_old_messages_decode():
    """A message that was stored before there were origins, reasoning or prune states is read with these absent."""
    stored = {"id": "m", "role": "user", "parts": [{"id": "m.p0", "kind": "text", "content": "hi"}]}
    read = structure(stored, Message)
    assert read == user("hi", "m")
    assert (read.origin, read.parts[0].reasoning_meta, read.parts[0].prune_state) == (None, None, Intact())


def test_a_whole_message_comes_back_without_its_memo():
    """Every field survives; what others derived from the message is neither stored nor compared."""
    meta = ProviderReasoningMeta(encrypted_content="e", summary=("a", "b"))
    full = message(
        "m",
        ASSISTANT,
        part(PartKind.REASONING, "hm", reasoning_meta=meta, prune_state=Summarized("s", "h")),
        part(PartKind.PROSE, "hi", response_meta=ResponseTextMeta(phase="final_answer")),
    )
    full.memo["chat"] = object()
    assert decode(Message, encode(full)) == full
    assert "memo" not in unstructure(full)


@pytest.mark.statement(62)
def test_an_envelope_leaves_out_what_is_unset():
    """An error without retry fields decodes with these unset, and unset fields are not written."""
    small = ErrorEnvelope(kind="runtime", user_message="no")
    assert unstructure(small) == {"kind": "runtime", "user_message": "no"}
    assert structure({"kind": "runtime", "user_message": "no"}, ErrorEnvelope) == small
    full = ErrorEnvelope(
        kind="llm_provider",
        user_message="no",
        code="429",
        terminal_reason=LlmTerminalReason.PROVIDER_ERROR,
        raw="{}",
        retryable=False,
        provider_failure_kind=ProviderFailureKind.QUOTA,
    )
    assert decode(ErrorEnvelope, encode(full)) == full
    assert unstructure(full)["retryable"] is False


@pytest.mark.statement(63)
@pytest.mark.parametrize("kind", ProviderFailureKind)
def test_failure_kinds_are_named_as_on_the_wire(kind):
    """A kind's value is its name in lower case, which is what is stored; names of the future are unknown."""
    assert kind.value == kind.name.lower()
    assert unstructure(LlmCallError(message="m", kind=kind))["kind"] == kind.value
    assert structure({"message": "m", "kind": kind.value}, LlmCallError).kind is kind
    assert structure({"message": "m", "kind": "new"}, LlmCallError).kind is ProviderFailureKind.UNKNOWN


@pytest.mark.statement(72)
def test_a_tool_is_not_retried_unless_it_says_so():
    """A tool's policy and a failure's are never, and aren't written then; others are, and come back."""
    manifest = ToolManifest(name="look")
    assert manifest.retry == RetryNever()
    assert "retry" not in unstructure(manifest)
    assert decode(ToolManifest, encode(evolve(manifest, retry=RetrySafe(max_attempts=5)))).retry == RetrySafe(
        max_attempts=5
    )
    failure = ToolCallFailure(failure_class=ToolFailureClass.IO, code="c", message="m")
    assert failure.retry == ToolRetryNever()
    assert "retry" not in unstructure(failure)
    for policy in (ToolRetrySafe(after_ms=5), ToolRetrySafe(), ToolRetryExhausted(3)):
        assert decode(ToolCallFailure, encode(evolve(failure, retry=policy))).retry == policy
