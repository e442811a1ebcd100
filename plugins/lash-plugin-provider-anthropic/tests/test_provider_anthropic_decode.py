"""What answers mean, event by event and cut at every place."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from anthropic_wire import sse
from attrs import evolve
from hypothesis import given, strategies as st

from lash_hookspecs.costs import Cost
from lash_hookspecs.llm import (
    LlmCallError,
    LlmOutputPart,
    LlmResponse,
    LlmStreamEvent,
    LlmTerminalReason,
    ProviderFailureKind,
    ReasoningOutput,
    StreamDelta,
    StreamReasoningDelta,
    StreamUsage,
    TextOutput,
    TokenUsage,
    ToolCallOutputPart,
)
from lash_hookspecs.messages import ProviderReasoningMeta
from lash_plugin_provider_anthropic.decode import MessageDecoder
from lash_plugin_provider_anthropic.models import ANTHROPIC_MODELS
from lash_provider_kit.failures import AttemptFailed, Seen
from lash_provider_kit.reader import decoded

R, K = LlmTerminalReason, ProviderFailureKind


def whole(*chunks: bytes, document: bool = False) -> tuple[LlmResponse, tuple[LlmStreamEvent, ...]]:
    events, outcome = decoded(MessageDecoder(), chunks, document=document)
    assert isinstance(outcome, LlmResponse), outcome
    return outcome, events


def failure(*chunks: bytes, document: bool = False) -> LlmCallError:
    _, outcome = decoded(MessageDecoder(), chunks, document=document)
    assert isinstance(outcome, LlmCallError)
    return outcome


def start(index: int, **block: Any) -> bytes:
    return sse("content_block_start", index=index, content_block=block)


def delta(index: int, kind: str, **fields: Any) -> bytes:
    return sse("content_block_delta", index=index, delta={"type": kind, **fields})


def stop(index: int) -> bytes:
    return sse("content_block_stop", index=index)


def message(usage: Any = None, **fields: Any) -> dict[str, Any]:
    named = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": []}
    return {**named, "stop_reason": None, "usage": usage or {"input_tokens": 5, "output_tokens": 1}, **fields}


def ended(reason: str | None = "end_turn", usage: Any = None, **delta: Any) -> bytes:
    end = sse(
        "message_delta",
        delta={"stop_reason": reason, "stop_sequence": None, **delta},
        usage=usage or {"output_tokens": 7},
    )
    return end + STOP


BEGIN, PING, STOP = sse("message_start", message=message()), sse("ping"), sse("message_stop")


def text(index: int, *pieces: str) -> bytes:
    deltas = b"".join(delta(index, "text_delta", text=piece) for piece in pieces)
    return start(index, type="text", text="") + deltas + stop(index)


def call(index: int, call_id: str, name: str, *pieces: str, **fields: Any) -> bytes:
    deltas = b"".join(delta(index, "input_json_delta", partial_json=piece) for piece in pieces)
    return start(index, type="tool_use", id=call_id, name=name, input={}, **fields) + deltas + stop(index)


def thinking(index: int, *pieces: str, signature: str = "") -> bytes:
    deltas = b"".join(delta(index, "thinking_delta", thinking=piece) for piece in pieces)
    signed = delta(index, "signature_delta", signature=signature) if signature else b""
    return start(index, type="thinking", thinking="", signature="") + deltas + signed + stop(index)


SEARCH = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {}}
FOUND = {
    "type": "web_search_tool_result",
    "tool_use_id": "s1",
    "content": [{"url": "https://e", "encrypted_content": "x"}],
}
SEARCHED = (
    start(0, **SEARCH)
    + delta(0, "input_json_delta", partial_json='{"query":')
    + delta(0, "input_json_delta", partial_json='"q"}')
    + stop(0)
)
RESULT = start(1, **FOUND) + stop(1)


def T(value: str) -> TextOutput:
    return TextOutput(text=value)


def C(call_id: str, name: str, arguments: str) -> ToolCallOutputPart:
    return ToolCallOutputPart(call_id=call_id, tool_name=name, input_json=arguments)


def S(value: str, signature: str | None = None, **meta: Any) -> ReasoningOutput:
    known = ProviderReasoningMeta(signature=signature, **meta) if signature or meta else None
    return ReasoningOutput(text=value, replay=known)


def opaque(block: dict[str, Any], **fields: Any) -> ReasoningOutput:
    value = json.dumps({**block, **fields}, separators=(",", ":"))
    return S("", item_id="s1", encrypted_content=value)


ANSWERS: dict[str, tuple[bytes, list[LlmOutputPart], LlmTerminalReason]] = {
    "text": (BEGIN + PING + text(0, "Hel", "lo") + ended(), [T("Hello")], R.STOP),
    "nothing at all": (BEGIN + ended(), [], R.STOP),
    "no last blank line": ((BEGIN + text(0, "x") + ended()).rstrip(b"\n"), [T("x")], R.STOP),
    "no event lines, CRLF": (
        b"\r\n".join(line for line in (BEGIN + text(0, "x") + ended()).split(b"\n") if not line.startswith(b"event")),
        [T("x")],
        R.STOP,
    ),
    "text at a block's beginning": (BEGIN + start(0, type="text", text="x") + ended(), [T("x")], R.STOP),
    "a block without beginning": (BEGIN + delta(0, "text_delta", text="x") + ended(), [T("x")], R.STOP),
    "a block that begins again": (
        BEGIN + text(0, "a") + start(0, type="text", text="") + delta(0, "text_delta", text="b") + ended(),
        [T("ab")],
        R.STOP,
    ),
    "blocks that go back and forth": (
        BEGIN + text(0, "a") + thinking(1, "h") + delta(0, "text_delta", text="b") + ended(),
        [T("a"), S("h"), T("b")],
        R.STOP,
    ),
    "text in the place of a call": (
        BEGIN + call(0, "t1", "f", "{}") + delta(0, "text_delta", text="b") + ended("tool_use"),
        [C("t1", "f", "{}"), T("b")],
        R.TOOL_USE,
    ),
    "texts that citations cut": (
        BEGIN
        + text(0, "a")
        + start(1, type="text", text="", citations=[])
        + delta(1, "citations_delta", citation={"type": "page_location"})
        + delta(1, "text_delta", text="b")
        + stop(1)
        + ended(),
        [T("ab")],
        R.STOP,
    ),
    "a call": (
        BEGIN + text(0, "So.") + call(1, "t1", "f", "", '{"x"', ":1}") + ended("tool_use"),
        [T("So."), C("t1", "f", '{"x":1}')],
        R.TOOL_USE,
    ),
    "a call without arguments": (BEGIN + call(0, "t1", "f") + ended("tool_use"), [C("t1", "f", "{}")], R.TOOL_USE),
    "arguments whole at the beginning": (
        BEGIN + start(0, type="tool_use", id="t1", name="f", input={"x": 1}) + ended("tool_use"),
        [C("t1", "f", '{"x":1}')],
        R.TOOL_USE,
    ),
    "calls interleaved": (
        BEGIN
        + start(0, type="tool_use", id="t1", name="f", input={}, caller={"type": "direct"})
        + start(1, type="tool_use", id="t2", name="g", input={})
        + delta(1, "input_json_delta", partial_json="{}")
        + delta(0, "input_json_delta", partial_json='{"x":1}')
        + ended("tool_use"),
        [C("t1", "f", '{"x":1}'), C("t2", "g", "{}")],
        R.TOOL_USE,
    ),
    "thinking": (
        BEGIN + thinking(0, "h", "m", signature="sig") + text(1, "a") + ended(),
        [S("hm", "sig"), T("a")],
        R.STOP,
    ),
    "thinking that isn't shown": (
        BEGIN + thinking(0, signature="sig") + text(1, "a") + ended(),
        [S("", "sig"), T("a")],
        R.STOP,
    ),
    "thinking without a signature": (BEGIN + thinking(0, "hm") + ended(), [S("hm")], R.STOP),
    "redacted thinking": (
        BEGIN + start(0, type="redacted_thinking", data="xx") + stop(0) + text(1, "a") + ended(),
        [S("", encrypted_content="xx", redacted=True), T("a")],
        R.STOP,
    ),
    "a tool of the service's own": (
        BEGIN + SEARCHED + RESULT + text(2, "a") + ended(),
        [opaque(SEARCH, input={"query": "q"}), opaque(FOUND), T("a")],
        R.STOP,
    ),
    "half a call of the service's own is dropped": (
        BEGIN + SEARCHED + text(1, "a") + ended("max_tokens"),
        [T("a")],
        R.OUTPUT_LIMIT,
    ),
    "but not in a pause, after which it goes on": (
        BEGIN + SEARCHED + ended("pause_turn"),
        [opaque(SEARCH, input={"query": "q"})],
        R.STOP,
    ),
    "what nobody knows": (
        BEGIN + sse("message_novelty", level=3) + delta(0, "novelty_delta", x=1) + text(0, "x") + ended(novelty=True),
        [T("x")],
        R.STOP,
    ),
    "no reason, calls": (BEGIN + call(0, "t1", "f") + ended(None), [C("t1", "f", "{}")], R.TOOL_USE),
    "no reason, text": (BEGIN + text(0, "x") + ended(None), [T("x")], R.STOP),
    "no message_delta": (BEGIN + text(0, "x") + STOP, [T("x")], R.STOP),
    "end_turn, calls": (BEGIN + call(0, "t1", "f") + ended("end_turn"), [C("t1", "f", "{}")], R.TOOL_USE),
    "cut off in a call": (
        BEGIN + call(0, "t1", "f", '{"x"') + ended("max_tokens"),
        [C("t1", "f", '{"x"')],
        R.OUTPUT_LIMIT,
    ),
}


@pytest.mark.parametrize(("stream", "parts", "reason"), ANSWERS.values(), ids=ANSWERS.keys())
def test_answers(stream: bytes, parts: list[LlmOutputPart], reason: LlmTerminalReason) -> None:
    response, events = whole(stream)
    assert list(response.parts) == parts
    assert response.terminal_reason is reason
    assert response.full_text == "".join(part.text for part in parts if isinstance(part, TextOutput))
    shown = "".join(event.text for event in events if isinstance(event, StreamDelta))
    assert shown == response.full_text
    assert (response.response_id, response.served_model) == ("msg_1", "claude")


@pytest.mark.parametrize("stream", [each for each, _, _ in ANSWERS.values()], ids=ANSWERS.keys())
def test_bytes_one_by_one_mean_the_same(stream: bytes) -> None:
    assert whole(*(stream[at : at + 1] for at in range(len(stream)))) == whole(stream)


SAID = (
    BEGIN
    + thinking(0, "ß", "€", signature="s")
    + text(1, "🌍", "ü")
    + call(2, "t", "f", '{"x":"🌍"}')
    + ended("tool_use")
)


@given(st.sets(st.integers(1, len(SAID) - 1)))
def test_however_the_network_cuts_it(places: set[int]) -> None:
    at = [0, *sorted(places), len(SAID)]
    assert whole(*(SAID[one:other] for one, other in pairwise(at))) == whole(SAID)


@pytest.mark.statement(10)
@pytest.mark.parametrize("stream", [each for each, _, _ in ANSWERS.values()], ids=ANSWERS.keys())
def test_without_its_end_no_answer_is_whole(stream: bytes) -> None:
    cut = stream[: stream.index(b'"message_stop"')]
    assert failure(cut).code == "stream_cut"


STOPS: dict[str, tuple[dict[str, Any], LlmTerminalReason, str | None]] = {
    "end_turn": ({}, R.STOP, None),
    "max_tokens": ({}, R.OUTPUT_LIMIT, None),
    "stop_sequence": ({"stop_sequence": "x"}, R.STOP, None),
    "tool_use": ({}, R.STOP, "stop reason `tool_use` without any call"),
    "pause_turn": ({}, R.STOP, "the service paused a long turn of its own tools: ask it to go on"),
    "refusal": (
        {"stop_details": {"type": "refusal", "category": "bio", "explanation": "no"}},
        R.CONTENT_FILTER,
        "bio: no",
    ),
    "model_context_window_exceeded": ({}, R.CONTEXT_OVERFLOW, None),
    "something_new": ({}, R.PROVIDER_ERROR, "unknown stop reason `something_new`"),
}


@pytest.mark.parametrize(("name", "row"), STOPS.items(), ids=STOPS.keys())
def test_stop_reasons(name: str, row: tuple[dict[str, Any], LlmTerminalReason, str | None]) -> None:
    fields, reason, diagnostic = row
    response, _ = whole(BEGIN + text(0, "x") + ended(name, **fields))
    assert (response.terminal_reason, response.terminal_diagnostic) == (reason, diagnostic)
    assert whole(BEGIN + ended("refusal"))[0].terminal_diagnostic == "the model refused"


@pytest.mark.statement(8)
def test_a_limit_counts_more_than_calls() -> None:
    assert whole(BEGIN + call(0, "t", "f", "{}") + ended("max_tokens"))[0].terminal_reason is R.OUTPUT_LIMIT


# ---- usage


@pytest.mark.parametrize(
    ("report", "tier", "usual"),
    [
        ({"service_tier": "standard", "speed": "standard"}, None, 1),
        ({"speed": "fast"}, "fast", 2),
        ({"service_tier": "priority"}, "priority", 0),
        ({"service_tier": "priority", "speed": "fast"}, "fast+priority", 0),
    ],
)
def test_a_call_is_charged_by_what_answered(report: dict[str, Any], tier: str | None, usual: int) -> None:
    """A fast answer costs twice as much, and what isn't in the table is never charged as usual."""
    decoder = MessageDecoder()
    stream = sse("message_start", message=message({**FIRST, **report})) + text(0, "x") + ended()
    _, response = decoded(decoder, [stream])
    assert isinstance(response, LlmResponse)
    assert response.usage.service_tier == tier
    prices = ANTHROPIC_MODELS.capability("claude-opus-5-5").prices
    assert prices is not None
    standard = prices.charge(evolve(response.usage, service_tier=None)).picodollars
    assert prices.charge(response.usage).cost == Cost(usual * standard, at_least=not usual)


@pytest.mark.parametrize(
    ("asked", "report", "unpriced"),
    [
        (False, {}, False),
        (True, {}, False),  # its price is the settings' affair (`for_an_hour`)
        (True, {"cache_creation_input_tokens": 0}, False),
        (True, {"cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 0}}, False),
        (False, {"cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}}, True),
        (True, {"cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 30}}, False),
    ],
)
def test_what_is_cached_for_an_hour_unasked_costs_more_than_is_known(
    asked: bool, report: dict[str, Any], unpriced: bool
) -> None:
    """It was charged as five minutes, which cost less, and told as exact."""
    decoder = MessageDecoder(cached_for_an_hour=asked)
    stream = sse("message_start", message=message({**FIRST, **report})) + text(0, "x") + ended()
    _, response = decoded(decoder, [stream])
    assert isinstance(response, LlmResponse)
    prices = ANTHROPIC_MODELS.capability("claude-opus-5-5").prices
    assert prices is not None
    assert response.usage.unpriced is unpriced
    assert prices.charge(response.usage).cost.at_least is unpriced


FIRST = {"input_tokens": 10, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 30, "output_tokens": 1}


@pytest.mark.statement(6)
@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ({"output_tokens": 7}, TokenUsage(input=10, output=7, cache_read_input=20, cache_write_input=30)),
        (
            {"input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 7},
            TokenUsage(input=10, output=7, cache_read_input=20, cache_write_input=30),
        ),
        (
            {"input_tokens": 11, "output_tokens": 7, "output_tokens_details": {"thinking_tokens": 3}},
            TokenUsage(input=11, output=7, cache_read_input=20, cache_write_input=30, reasoning_output=3),
        ),
        (
            {"output_tokens": 2, "output_tokens_details": {"thinking_tokens": 3}},
            TokenUsage(input=10, output=2, cache_read_input=20, cache_write_input=30, reasoning_output=2),
        ),
        ({"output_tokens": True}, TokenUsage(input=10, output=1, cache_read_input=20, cache_write_input=30)),
        ({"output_tokens": -4}, TokenUsage(input=10, output=1, cache_read_input=20, cache_write_input=30)),
        (
            {"output_tokens": None, "output_tokens_details": None, "server_tool_use": {"web_search_requests": 1}},
            TokenUsage(input=10, output=1, cache_read_input=20, cache_write_input=30),
        ),
    ],
)
def test_usage_of_beginning_and_end_are_merged(last: dict[str, Any], expected: TokenUsage) -> None:
    stream = sse("message_start", message=message(FIRST)) + text(0, "x") + ended(usage=last)
    response, events = whole(stream)
    assert response.usage == expected
    reports = [event.usage for event in events if isinstance(event, StreamUsage)]
    assert reports[0] == TokenUsage(input=10, output=1, cache_read_input=20, cache_write_input=30)
    assert reports[-1] == expected
    assert response.provider_usage is not None
    assert response.provider_usage["cache_read_input_tokens"] == 20


def test_without_any_report_it_is_at_least() -> None:
    stream = sse("message_start", message={**message(), "usage": None}) + text(0, "x") + STOP
    assert whole(stream)[0].usage == TokenUsage(at_least=True)


# ---- documents


def test_an_answer_that_comes_as_one_document() -> None:
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "a"},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": [1]}},
        SEARCH,
        FOUND,
    ]
    body = json.dumps(message(FIRST, content=content, stop_reason="tool_use")).encode()
    response, events = whole(body, document=True)
    assert list(response.parts) == [S("hm", "s"), T("a"), C("t1", "f", '{"x":[1]}'), opaque(SEARCH), opaque(FOUND)]
    assert response.terminal_reason is R.TOOL_USE
    assert response.usage.cache_write_input == 30
    assert StreamReasoningDelta("hm") in events
    assert StreamDelta("a") in events


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"3", b"{}", b'{"content": null}', b'{"content": [{}]}'])
def test_a_document_that_is_no_message(body: bytes) -> None:
    error = failure(body, document=True)
    assert error.kind is K.STREAM
    assert error.code in ("malformed_event", "unexpected_content")


# ---- failures


def error(kind: str, words: str = "words") -> bytes:
    return sse("error", error={"type": kind, "message": words}, request_id="req_1")


ERRORS: dict[str, tuple[ProviderFailureKind, bool]] = {
    "api_error": (K.HTTP, True),
    "authentication_error": (K.AUTH, False),
    "billing_error": (K.QUOTA, False),
    "invalid_request_error": (K.VALIDATION, False),
    "not_found_error": (K.HTTP, False),
    "overloaded_error": (K.HTTP, True),
    "permission_error": (K.AUTH, False),
    "rate_limit_error": (K.QUOTA, True),
    "request_too_large": (K.VALIDATION, False),
    "something_new": (K.STREAM, True),
    "timeout_error": (K.HTTP, True),
}


@pytest.mark.parametrize(("kind", "verdict"), ERRORS.items(), ids=ERRORS.keys())
def test_errors_within_the_answer(kind: str, verdict: tuple[ProviderFailureKind, bool]) -> None:
    for said in (failure(BEGIN + error(kind)), failure(json.dumps(_error(kind)).encode(), document=True)):
        assert (said.kind, said.retryable) == verdict
        assert said.code == kind
        assert said.raw is not None
        assert kind in said.raw
        assert "words" in said.message


def _error(kind: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": "words"}}


def test_a_prompt_that_is_too_long_is_told_by_the_words() -> None:
    """There is no code for it; and what speaks of rates never is one."""
    said = failure(BEGIN + error("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"))
    assert said.terminal_reason is R.CONTEXT_OVERFLOW
    said = failure(BEGIN + error("rate_limit_error", "too many input tokens per minute"))
    assert (said.terminal_reason, said.kind) == (R.PROVIDER_ERROR, K.QUOTA)


def test_an_error_after_text_leaves_the_text() -> None:
    events, outcome = decoded(MessageDecoder(), [BEGIN + text(0, "x") + error("overloaded_error")])
    assert isinstance(outcome, LlmCallError)
    assert StreamDelta("x") in events


@pytest.mark.parametrize(
    ("stream", "code"),
    [
        (b"", "stream_cut"),
        (STOP, "stream_cut"),
        (BEGIN, "stream_cut"),
        (BEGIN + sse("message_start", message=message(id="msg_2")) + STOP, "identity_drift"),
        (b"data: {\n\n", "malformed_event"),
        (b"data: []\n\n", "unexpected_content"),
        (b"data: {}\n\n", "unexpected_content"),
        (b'data: {"type": "message_start"}\n\n', "unexpected_content"),
        (BEGIN + delta(0, "input_json_delta", partial_json="{}"), "unexpected_content"),
        (BEGIN + text(0) + delta(0, "input_json_delta", partial_json="{}"), "unexpected_content"),
        (BEGIN + start(0), "unexpected_content"),
        (BEGIN + text(0) + delta(0, "text_delta", text=3) + ended(), "unexpected_content"),
        (BEGIN + start(0, type="redacted_thinking") + ended(), "unexpected_content"),
        (BEGIN + start(0, type="tool_use", name="f", input={}) + ended(), "unexpected_content"),
        (
            BEGIN + sse("content_block_start", index="0", content_block={"type": "text", "text": ""}),
            "unexpected_content",
        ),
    ],
)
def test_what_the_service_gets_wrong(stream: bytes, code: str) -> None:
    said = failure(stream)
    assert (said.code, said.kind) == (code, K.STREAM)


def test_what_was_seen_before_a_failure() -> None:
    """Whether a stream that broke off may be asked for again: not once it told its usage, nor after any output."""
    decoder, out = MessageDecoder(), list[LlmStreamEvent]()
    assert (decoder.output_seen, decoder.usage) == (False, None)
    decoder.feed(json.dumps({"type": "message_start", "message": message()}).encode(), out)
    assert decoder.usage == TokenUsage(input=5, output=1)
    decoder.feed(b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}', out)
    assert not decoder.output_seen
    decoder.feed(b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}', out)
    assert decoder.output_seen
    with pytest.raises(AttemptFailed) as caught:
        decoder.feed(b'{"type":"error","error":{"type":"overloaded_error"}}', out)
    assert caught.value.seen is Seen.RESPONSE


def test_a_character_that_was_cut_in_two_is_whole() -> None:
    one = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"a \\ud83d"}}\n\n'
    other = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\ude00"}}\n\n'
    response, _ = whole(BEGIN + one + other + ended())
    assert response.full_text.encode("utf-16", "surrogatepass").decode("utf-16") == "a 😀"


WILD = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from(["text", "thinking", "tool_use", "x", ""]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["type", "index", "delta", "content_block", "text", "usage"]), inner, max_size=4
        )
    ),
    max_leaves=6,
)
KINDS = st.sampled_from(
    ["message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop", "error", "x"]
)


@given(
    st.lists(
        st.builds(lambda kind, fields: {**fields, "type": kind} if isinstance(fields, dict) else fields, KINDS, WILD)
    )
)
def test_whatever_comes_there_is_an_outcome(events: list[Any]) -> None:
    stream = BEGIN + b"".join(b"data: %b\n\n" % json.dumps(each).encode() for each in events) + ended()
    _, outcome = decoded(MessageDecoder(), [stream])
    assert isinstance(outcome, LlmResponse | LlmCallError)
