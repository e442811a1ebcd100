"""What answers mean: the small ways in which services of this wire differ, one by one, cut at every place."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from lash_hookspecs.llm import (
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
from lash_plugin_provider_openai.decode import ChatDecoder
from lash_provider_kit.failures import AttemptFailed, Seen
from lash_provider_kit.sse import SseParser
from lash_provider_kit.testing import chunk, sse

R, K = LlmTerminalReason, ProviderFailureKind


def decode(*chunks: bytes, strict: bool = True) -> tuple[LlmResponse, list[LlmStreamEvent]]:
    """The answer and the events of a stream, or AttemptFailed."""
    parser, decoder, out = SseParser(), ChatDecoder(strict_identity=strict), list[LlmStreamEvent]()
    for piece in chunks:
        for event in parser.feed(piece):
            decoder.feed(event, out)
    for event in parser.close():
        decoder.feed(event, out)
    return decoder.finish(), out


def stream(*events: Any) -> bytes:
    return b"".join(sse(event) for event in events) + b"data: [DONE]\n\n"


def text(content: Any, **delta: Any) -> dict[str, Any]:
    return chunk({"content": content, **delta})


def call(**piece: Any) -> dict[str, Any]:
    function = {key: piece.pop(key) for key in ("name", "arguments") if key in piece}
    return chunk({"tool_calls": [{**piece, "function": function}]})


STOP, TOOLS, LENGTH = chunk({}, "stop"), chunk({}, "tool_calls"), chunk({}, "length")


def T(text: str) -> TextOutput:
    return TextOutput(text=text)


def C(call_id: str, name: str, arguments: str) -> ToolCallOutputPart:
    return ToolCallOutputPart(call_id=call_id, tool_name=name, input_json=arguments)


A, B = C("a", "f", '{"x":1}'), C("b", "g", "{}")

ANSWERS: dict[str, tuple[bytes, list[LlmOutputPart], LlmTerminalReason]] = {
    "text": (stream(text("Hel"), text("lo"), STOP), [T("Hello")], R.STOP),
    "nothing at all": (stream(STOP), [], R.STOP),
    "text in the finishing chunk": (stream(chunk({"content": "x"}, "stop")), [T("x")], R.STOP),
    "split codepoints": (stream(text("ß€"), text("🌍"), STOP), [T("ß€🌍")], R.STOP),
    "no DONE": (sse(text("x")) + sse(STOP), [T("x")], R.STOP),
    "no last blank line": ((sse(text("x")) + sse(STOP)).rstrip(b"\n"), [T("x")], R.STOP),
    "keep-alives": (b": ping\n\n" + stream(text("x"), STOP), [T("x")], R.STOP),
    "nulls": (
        stream(
            chunk({"role": "assistant", "content": None, "refusal": None, "tool_calls": None, "reasoning": None}), STOP
        ),
        [],
        R.STOP,
    ),
    "null delta": (stream(chunk(choices=[{"index": 0, "delta": None, "finish_reason": "stop"}])), [], R.STOP),
    "another choice is not ours": (
        stream(
            chunk(choices=[{"index": 1, "delta": {"content": "no"}}, {"index": 0, "delta": {"content": "yes"}}]), STOP
        ),
        [T("yes")],
        R.STOP,
    ),
    "Mistral's parts": (
        stream(
            text([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),
            text([{"type": "text", "text": "a"}, {"type": "reference", "reference_ids": [1]}]),
            STOP,
        ),
        [ReasoningOutput(text="hm"), T("a")],
        R.STOP,
    ),
    "reasoning_content": (
        stream(chunk({"reasoning_content": "h"}), chunk({"reasoning_content": "m"}), text("a"), STOP),
        [ReasoningOutput(text="hm"), T("a")],
        R.STOP,
    ),
    "reasoning": (stream(chunk({"reasoning": "hm", "content": ""}), STOP), [ReasoningOutput(text="hm")], R.STOP),
    "reasoning_text": (stream(chunk({"reasoning_text": "hm"}), STOP), [ReasoningOutput(text="hm")], R.STOP),
    "text and reasoning by turns": (
        stream(text("a"), chunk({"reasoning": "b"}), text("c"), STOP),
        [T("a"), ReasoningOutput(text="b"), T("c")],
        R.STOP,
    ),
    "one call": (
        stream(
            call(index=0, id="a", type="function", name="f", arguments=""),
            call(index=0, arguments='{"x"'),
            call(index=0, arguments=":1}"),
            TOOLS,
        ),
        [A],
        R.TOOL_USE,
    ),
    "calls interleaved by index": (
        stream(
            call(index=0, id="a", name="f", arguments='{"x"'),
            call(index=1, id="b", name="g", arguments="{"),
            call(index=0, arguments=":1}"),
            call(index=1, arguments="}"),
            TOOLS,
        ),
        [A, B],
        R.TOOL_USE,
    ),
    "two calls in one chunk": (
        stream(
            chunk(
                {
                    "tool_calls": [
                        {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":1}'}},
                        {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}},
                    ]
                }
            ),
            TOOLS,
        ),
        [A, B],
        R.TOOL_USE,
    ),
    "every call at index 0 (Ollama)": (
        stream(
            call(index=0, id="a", name="f", arguments='{"x":1}'), call(index=0, id="b", name="g", arguments="{}"), STOP
        ),
        [A, B],
        R.TOOL_USE,
    ),
    "no index (Gemini)": (
        stream(
            call(id="a", name="f", arguments='{"x":'),
            call(arguments="1}"),
            call(id="b", name="g", arguments="{}"),
            STOP,
        ),
        [A, B],
        R.TOOL_USE,
    ),
    "another id in each chunk of a call": (
        stream(call(index=0, id="a", name="f", arguments='{"x":'), call(index=0, id="z", arguments="1}"), TOOLS),
        [A],
        R.TOOL_USE,
    ),
    "arguments as an object": (stream(call(index=0, id="a", name="f", arguments={"x": 1}), TOOLS), [A], R.TOOL_USE),
    "no arguments": (stream(call(index=0, id="b", name="g"), TOOLS), [B], R.TOOL_USE),
    "text, then calls": (
        stream(text("so"), call(index=0, id="b", name="g", arguments="{}"), TOOLS),
        [T("so"), B],
        R.TOOL_USE,
    ),
    "length beats calls": (stream(call(index=0, id="b", name="g", arguments="{}"), LENGTH), [B], R.OUTPUT_LIMIT),
    "length is kept": (stream(text("a"), LENGTH, STOP), [T("a")], R.OUTPUT_LIMIT),
    "length comes late": (stream(text("a"), STOP, LENGTH), [T("a")], R.OUTPUT_LIMIT),
    "Mistral's length": (stream(text("a"), chunk({}, "model_length")), [T("a")], R.OUTPUT_LIMIT),
    "content filter": (stream(text("a"), chunk({}, "content_filter")), [T("a")], R.CONTENT_FILTER),
    "refusal": (stream(chunk({"refusal": "I "}), chunk({"refusal": "won't"}), STOP), [], R.CONTENT_FILTER),
    "empty refusal": (stream(chunk({"refusal": "", "content": "a"}), STOP), [T("a")], R.STOP),
    "unknown finish reason": (stream(text("a"), chunk({}, "insufficient_system_resource")), [T("a")], R.PROVIDER_ERROR),
    "calls that never came": (stream(text("a"), TOOLS), [T("a")], R.STOP),
    "empty identity": (
        stream(
            chunk({"content": "a"}, id="", model=""), chunk({"content": "b"}), chunk({}, "stop", id=None, model=None)
        ),
        [T("ab")],
        R.STOP,
    ),
    "usage without choices": (
        stream(text("a"), STOP, chunk(usage={"prompt_tokens": 3, "completion_tokens": 2})),
        [T("a")],
        R.STOP,
    ),
}
answers = pytest.mark.parametrize(("data", "parts", "reason"), ANSWERS.values(), ids=ANSWERS.keys())


@answers
def test_whole(data: bytes, parts: list[LlmOutputPart], reason: LlmTerminalReason) -> None:
    response, events = decode(data)
    assert list(response.parts) == parts
    assert response.terminal_reason is reason
    texts = [part.text for part in parts if isinstance(part, TextOutput)]
    assert response.full_text == "".join(texts)
    assert "".join(each.text for each in events if isinstance(each, StreamDelta)) == "".join(texts)
    reasoning = "".join(part.text for part in parts if isinstance(part, ReasoningOutput))
    assert "".join(each.text for each in events if isinstance(each, StreamReasoningDelta)) == reasoning


@answers
def test_byte_by_byte_and_cut_anywhere(data: bytes, parts: list[LlmOutputPart], reason: LlmTerminalReason) -> None:
    whole = decode(data)
    assert decode(*(data[index : index + 1] for index in range(len(data)))) == whole
    for place in range(len(data)):
        assert decode(data[:place], data[place:]) == whole


@answers
def test_without_its_end_an_answer_is_a_failure(
    data: bytes, parts: list[LlmOutputPart], reason: LlmTerminalReason
) -> None:
    """Whatever came before: nothing counts as whole before a finish reason was there."""
    before = data[: data.index(b'"finish_reason":"')]
    with pytest.raises(AttemptFailed) as caught:
        decode(before)
    assert caught.value.error.kind is K.STREAM
    assert caught.value.error.retryable


@pytest.mark.parametrize(
    ("events", "code", "kind", "retryable"),
    [
        ([text("a")], "stream_cut", K.STREAM, True),
        ([], "stream_cut", K.STREAM, True),
        (["{"], "malformed_event", K.STREAM, True),
        (["7"], "unexpected_content", K.STREAM, True),
        ([{"choices": [None]}], "unexpected_content", K.STREAM, True),
        ([text("a"), chunk({}, "stop", id="other")], "identity_drift", K.STREAM, False),
        ([text("a"), chunk({}, "stop", model="other")], "identity_drift", K.STREAM, False),
        ([{"error": {"message": "m", "code": "server_error"}}], "server_error", K.HTTP, True),
        ([{"error": {"message": "m", "code": 400}}], "http_400", K.VALIDATION, False),
        (
            [{"error": {"message": "m", "code": "rate_limit_exceeded"}}],
            "rate_limit_exceeded",
            K.QUOTA,
            True,
        ),
        ([{"error": "just words"}], "in_stream_error", K.STREAM, True),
        (
            [text("a"), {**STOP, "error": {"message": "Token limit reached", "code": 400}}],
            "http_400",
            K.VALIDATION,
            False,
        ),
    ],
)
def test_failures(events: list[Any], code: str, kind: ProviderFailureKind, retryable: bool) -> None:
    with pytest.raises(AttemptFailed) as caught:
        decode(stream(*events))
    error = caught.value.error
    assert (error.code, error.kind, error.retryable) == (code, kind, retryable)
    assert caught.value.seen is (Seen.EMPTY_STREAM if code == "stream_cut" else Seen.RESPONSE)


_NAMES = [
    "choices",
    "delta",
    "message",
    "index",
    "content",
    "tool_calls",
    "function",
    "name",
    "arguments",
    "id",
    "usage",
    "prompt_tokens",
    "finish_reason",
    "error",
    "thinking",
    "text",
    "reasoning",
    "refusal",
]
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=5),
    max_leaves=25,
)


@given(st.lists(_JSON, max_size=4), st.booleans())
def test_whatever_a_service_sends_is_an_answer_or_a_typed_failure(events: list[Any], as_document: bool) -> None:
    with contextlib.suppress(AttemptFailed):
        if as_document:
            response, _ = whole(events[0] if events else None)
        else:
            response, _ = decode(stream(*events))
        for part in response.parts:
            match part:
                case ToolCallOutputPart():
                    assert all(isinstance(each, str) for each in (part.call_id, part.tool_name, part.input_json))
                case TextOutput() | ReasoningOutput():
                    assert isinstance(part.text, str)


def test_an_overflow_in_the_stream_is_one() -> None:
    with pytest.raises(AttemptFailed) as caught:
        decode(stream({"error": {"message": "prompt is too long", "type": "invalid_request_error"}}))
    assert caught.value.error.terminal_reason is R.CONTEXT_OVERFLOW


def test_identity_drift_can_be_tolerated() -> None:
    response, _ = decode(stream(text("a"), chunk({"content": "b"}, "stop", id="other")), strict=False)
    assert (response.full_text, response.response_id) == ("ab", "chatcmpl-test")


def test_a_refusal_is_told() -> None:
    response, _ = decode(stream(chunk({"refusal": "I won't"}), STOP))
    assert response.terminal_diagnostic == "I won't"


def test_a_call_without_an_id_gets_one_of_its_own() -> None:
    response, _ = decode(stream(call(index=0, name="f"), call(index=1, name="f"), TOOLS))
    ids = [part.call_id for part in response.parts if isinstance(part, ToolCallOutputPart)]
    assert all(ids)
    assert len(set(ids)) == 2


# ---- usage

USAGES: dict[str, tuple[list[dict[str, Any]], TokenUsage]] = {
    "plain": ([{"prompt_tokens": 10, "completion_tokens": 4}], TokenUsage(input=10, output=4)),
    "cached": (
        [{"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 7}}],
        TokenUsage(input=3, output=4, cache_read_input=7),
    ),
    "cached_tokens": (
        [{"prompt_tokens": 10, "completion_tokens": 4, "cached_tokens": 7}],
        TokenUsage(input=3, output=4, cache_read_input=7),
    ),
    "prompt_cache_hit_tokens": (
        [{"prompt_tokens": 10, "completion_tokens": 4, "prompt_cache_hit_tokens": 7}],
        TokenUsage(input=3, output=4, cache_read_input=7),
    ),
    "an alias beside a zero": (
        [
            {
                "prompt_tokens": 10,
                "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 0},
                "cached_tokens": 7,
            }
        ],
        TokenUsage(input=3, output=4, cache_read_input=7),
    ),
    "more cached than read is never negative": (
        [{"prompt_tokens": 3, "completion_tokens": 4, "cached_tokens": 7}],
        TokenUsage(input=0, output=4, cache_read_input=7),
    ),
    "written to the cache": (
        [
            {
                "prompt_tokens": 10,
                "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 5},
            }
        ],
        TokenUsage(input=3, output=4, cache_read_input=2, cache_write_input=5),
    ),
    "reasoning is a part of the output": (
        [{"prompt_tokens": 1, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 6}}],
        TokenUsage(input=1, output=9, reasoning_output=6),
    ),
    "and never more than it": (
        [{"prompt_tokens": 1, "completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 11}}],
        TokenUsage(input=1, output=9, reasoning_output=9),
    ),
    "later reports replace, zeros don't": (
        [{"prompt_tokens": 10, "completion_tokens": 1}, {"prompt_tokens": 0, "completion_tokens": 5}],
        TokenUsage(input=10, output=5),
    ),
    "nulls and nonsense": (
        [{"prompt_tokens": 10, "completion_tokens": None, "prompt_tokens_details": None, "cached_tokens": -3}],
        TokenUsage(input=10),
    ),
    "zeros are known": ([{"prompt_tokens": 0, "completion_tokens": 0}], TokenUsage()),
    "never told": ([], TokenUsage(at_least=True)),
    "told without any count": ([{"cost": 3}], TokenUsage(at_least=True)),
}


@pytest.mark.parametrize(("reports", "usage"), USAGES.values(), ids=USAGES.keys())
def test_usage(reports: list[dict[str, Any]], usage: TokenUsage) -> None:
    response, events = decode(stream(text("a"), STOP, *(chunk(usage=report) for report in reports)))
    assert response.usage == usage
    streamed = [event.usage for event in events if isinstance(event, StreamUsage)]
    assert streamed[-1:] == ([] if usage.at_least else [usage])
    assert response.provider_usage == (None if usage.at_least else reports[-1])


# ---- answers that came whole


@pytest.mark.parametrize("said", [None, "default", "auto", "flex", "Fast"])
def test_the_tier_that_answers_is_told_with_the_usage(said: str | None) -> None:
    """It was charged at the usual prices, whichever answered."""
    counts = {"prompt_tokens": 3, "completion_tokens": 2}
    for said_at_last in (said, None):  # or at first only
        chunks = stream(chunk(service_tier=said), text("a"), STOP, chunk(usage=counts, service_tier=said_at_last))
        response, _ = decode(chunks)
        assert response.usage.service_tier == {"flex": "flex", "Fast": "fast"}.get(str(said))


def whole(document: Any) -> tuple[LlmResponse, list[LlmStreamEvent]]:
    decoder, out = ChatDecoder(), list[LlmStreamEvent]()
    decoder.whole(document if isinstance(document, bytes) else json.dumps(document).encode(), out)
    return decoder.finish(), out


def completion(message: dict[str, Any], finish: str | None = "stop") -> dict[str, Any]:
    return {"id": "i", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": finish}]}


def test_a_document_in_place_of_a_stream() -> None:
    message = {
        "role": "assistant",
        "content": "a",
        "tool_calls": [{"id": "b", "function": {"name": "g", "arguments": "{}"}}],
    }
    response, events = whole({**completion(message), "usage": {"prompt_tokens": 1, "completion_tokens": 2}})
    assert list(response.parts) == [T("a"), B]
    assert response.terminal_reason is R.TOOL_USE
    assert events == [StreamDelta("a"), StreamUsage(TokenUsage(input=1, output=2))]


@pytest.mark.parametrize(
    ("message", "reason"),
    [({"content": "a"}, R.STOP), ({"tool_calls": [{"id": "b", "function": {"name": "g"}}]}, R.TOOL_USE)],
)
def test_a_document_needs_no_finish_reason(message: dict[str, Any], reason: LlmTerminalReason) -> None:
    assert whole(completion(message, None))[0].terminal_reason is reason


@pytest.mark.parametrize(
    "document", [b"{", b"[]", b"{}", {"choices": []}, {"error": {"message": "m", "code": "server_error"}}]
)
def test_documents_that_are_no_answer(document: Any) -> None:
    with pytest.raises(AttemptFailed) as caught:
        whole(document)
    assert caught.value.seen is Seen.RESPONSE
