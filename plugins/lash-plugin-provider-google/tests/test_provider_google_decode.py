"""What answers mean: parts, signatures, ids, every reason to end, usage; cut at every place."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, strategies as st

from lash_hookspecs.llm import (
    LlmOutputPart,
    LlmRequest,
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
from lash_hookspecs.llm_messages import LlmBlock, LlmMessage, LlmRole, ReasoningBlock, TextBlock, ToolCallBlock
from lash_hookspecs.messages import ProviderReasoningMeta, ProviderReplayMeta, ResponseTextMeta
from lash_plugin_provider_google import GoogleSettings
from lash_plugin_provider_google.decode import GeminiDecoder
from lash_plugin_provider_google.encode import RequestEncoder
from lash_plugin_provider_google.endpoint import endpoint_of
from lash_plugin_provider_google.models import Model
from lash_plugin_provider_google.options import OptionsEncoder
from lash_plugin_provider_google.testing import USAGE, event
from lash_provider_kit.failures import AttemptFailed, Seen
from lash_provider_kit.sse import SseParser
from lash_provider_kit.testing import sse

R, K = LlmTerminalReason, ProviderFailureKind


def decode(*chunks: bytes, salt: str = "") -> tuple[LlmResponse, list[LlmStreamEvent]]:
    """The answer and the events of a stream, or AttemptFailed."""
    parser, decoder, out = SseParser(), GeminiDecoder(salt), list[LlmStreamEvent]()
    for piece in chunks:
        for data in parser.feed(piece):
            decoder.feed(data, out)
    for data in parser.close():
        decoder.feed(data, out)
    return decoder.finish(), out


def stream(*events: Any) -> bytes:
    return b"".join(sse(each)[:-2] + b"\r\n\r\n" for each in events)


def text(words: str, **fields: Any) -> dict[str, Any]:
    return {"text": words, **fields}


def thought(words: str, **fields: Any) -> dict[str, Any]:
    return {"text": words, "thought": True, **fields}


def call(name: str, args: Any = None, call_id: str | None = None, **fields: Any) -> dict[str, Any]:
    made = {"name": name, **({} if args is None else {"args": args}), **({"id": call_id} if call_id else {})}
    return {"functionCall": made, **fields}


def ended(*content: Any, finish: str = "STOP", **fields: Any) -> dict[str, Any]:
    return event(*content, finish=finish, **fields)


def opaque(part: dict[str, Any]) -> ReasoningOutput:
    return ReasoningOutput(
        text="", replay=ProviderReasoningMeta(encrypted_content=json.dumps(part, separators=(",", ":")))
    )


def meta(payload: str) -> ResponseTextMeta:
    return ResponseTextMeta(provider_payload=payload)


def out_call(name: str, input_json: str, call_id: str, signature: str | None = None) -> ToolCallOutputPart:
    replay = ProviderReplayMeta(opaque=signature) if signature else None
    return ToolCallOutputPart(call_id=call_id, tool_name=name, input_json=input_json, replay=replay)


SEARCH = {"thoughtSignature": "S", "toolCall": {"toolType": "FILE_SEARCH", "id": "x"}}
CODE = {"executableCode": {"language": "PYTHON", "code": "1"}}

ANSWERS: dict[str, tuple[bytes, list[LlmOutputPart], LlmTerminalReason]] = {
    "text": (stream(event(text("Hel")), ended(text("lo"))), [TextOutput(text="Hello")], R.STOP),
    "an empty last part": (
        stream(event(text("Hi")), ended(text(""))),
        [TextOutput(text="Hi")],
        R.STOP,
    ),
    "several parts in one event": (stream(ended(text("a"), text("b"))), [TextOutput(text="ab")], R.STOP),
    "thoughts, then text": (
        stream(event(thought("h")), event(thought("m")), ended(text("a"))),
        [ReasoningOutput(text="hm"), TextOutput(text="a")],
        R.STOP,
    ),
    "a signed thought": (
        stream(event(thought("hm", thoughtSignature="S")), ended(thought("so"), text("a"))),
        [
            ReasoningOutput(text="hm", replay=ProviderReasoningMeta(signature="S")),
            ReasoningOutput(text="so"),
            TextOutput(text="a"),
        ],
        R.STOP,
    ),
    "thoughts signed behind their end": (
        stream(event(thought("h")), event(thought("m")), event(thought("", thoughtSignature="S")), ended(text("a"))),
        [ReasoningOutput(text="hm", replay=ProviderReasoningMeta(signature="S")), TextOutput(text="a")],
        R.STOP,
    ),
    "text signed as a whole": (
        stream(ended(text("abc", thoughtSignature="S"))),
        [TextOutput(text="abc", response_meta=meta('[[0,3,"S"]]'))],
        R.STOP,
    ),
    "text signed in the middle and behind its end": (
        stream(
            event(text("ab")),
            event(text("cd", thoughtSignature="S")),
            event(text("e")),
            ended(text("", thoughtSignature="T")),
        ),
        [TextOutput(text="abcde", response_meta=meta('[[2,4,"S"],[5,5,"T"]]'))],
        R.STOP,
    ),
    "a signature without any text": (
        stream(event(text("", thoughtSignature="S")), ended(text("a"))),
        [opaque({"text": "", "thoughtSignature": "S"}), TextOutput(text="a")],
        R.STOP,
    ),
    "a signed call": (
        stream(ended(call("add", {"a": 1}, "c1", thoughtSignature="S"))),
        [out_call("add", '{"a":1}', "c1", "S")],
        R.TOOL_USE,
    ),
    "parallel calls": (
        stream(event(text("So."), call("add", {"a": 1}, "c1")), ended(call("now", None, "c2"))),
        [TextOutput(text="So."), out_call("add", '{"a":1}', "c1"), out_call("now", "{}", "c2")],
        R.TOOL_USE,
    ),
    "what tools of the service's own did": (
        stream(event(CODE), event(SEARCH), ended(text("a"))),
        [opaque(CODE), opaque(SEARCH), TextOutput(text="a")],
        R.STOP,
    ),
    "an emoji in halves": (
        b'data: {"candidates":[{"content":{"parts":[{"text":"\\ud83d"}]}}]}\n\n' + stream(ended(text("!"))),
        [TextOutput(text="\ud83d!")],
        R.STOP,
    ),
    "unknown fields and a second candidate": (
        stream(
            {"new": 1, **event(text("a", new=2))},
            {
                **ended(),
                "candidates": [{"finishReason": "STOP", "new": {}}, {"index": 1, "content": {"parts": [text("z")]}}],
            },
        ),
        [TextOutput(text="a")],
        R.STOP,
    ),
    "calls that another server ends in a word of its own": (
        stream(ended(call("add", {}, "c1"), finish="FUNCTION_CALL")),
        [out_call("add", "{}", "c1")],
        R.TOOL_USE,
    ),
    "the limit beats calls": (
        stream(ended(call("add", {}, "c1"), finish="MAX_TOKENS")),
        [out_call("add", "{}", "c1")],
        R.OUTPUT_LIMIT,
    ),
    "the limit before anything": (stream(ended(finish="MAX_TOKENS")), [], R.OUTPUT_LIMIT),
    "filtered after text": (
        stream(event(text("a")), ended(finish="SAFETY")),
        [TextOutput(text="a")],
        R.CONTENT_FILTER,
    ),
    "a blocked prompt": (
        stream({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": USAGE}),
        [],
        R.CONTENT_FILTER,
    ),
}


@pytest.mark.parametrize(("data", "parts", "reason"), ANSWERS.values(), ids=ANSWERS.keys())
def test_whole(data: bytes, parts: list[LlmOutputPart], reason: LlmTerminalReason) -> None:
    response, out = decode(data)
    assert list(response.parts) == parts
    assert response.terminal_reason is reason
    shown = "".join(each.text for each in out if isinstance(each, StreamDelta))
    assert shown == response.full_text == "".join(part.text for part in parts if isinstance(part, TextOutput))
    thoughts = "".join(each.text for each in out if isinstance(each, StreamReasoningDelta))
    assert thoughts == "".join(part.text for part in parts if isinstance(part, ReasoningOutput))


@pytest.mark.statement(1, 2, page="providers")
@pytest.mark.parametrize(("data", "parts", "reason"), ANSWERS.values(), ids=ANSWERS.keys())
def test_byte_by_byte_and_cut_anywhere(data: bytes, parts: list[LlmOutputPart], reason: LlmTerminalReason) -> None:
    """The last event needs no blank line behind it either."""
    expected = decode(data)
    assert decode(*(data[at : at + 1] for at in range(len(data)))) == expected
    for at in range(1, len(data), 7):
        assert decode(data[:at], data[at:]) == expected
    assert decode(data.rstrip(b"\r\n")) == expected


@pytest.mark.statement(10, page="providers")
@pytest.mark.parametrize(("data", "parts", "reason"), ANSWERS.values(), ids=ANSWERS.keys())
def test_without_its_end_an_answer_is_a_failure(
    data: bytes, parts: list[LlmOutputPart], reason: LlmTerminalReason
) -> None:
    with pytest.raises(AttemptFailed) as caught:
        decode(
            b"".join(
                each
                for each in data.splitlines(keepends=True)
                if b"finishReason" not in each and b"blockReason" not in each
            )
        )
    assert caught.value.error.code == "stream_cut"
    assert caught.value.error.kind is K.STREAM


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("STOP", R.STOP),
        ("MAX_TOKENS", R.OUTPUT_LIMIT),
        *((each, R.CONTENT_FILTER) for each in ("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII")),
        *(
            (each, R.PROVIDER_ERROR)
            for each in ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "OTHER", "LANGUAGE")
        ),
        ("SOMETHING_NEW", R.PROVIDER_ERROR),
    ],
)
def test_every_reason_to_end_is_typed_and_told(finish: str, reason: LlmTerminalReason) -> None:
    data = ended(text("a"), finish=finish)
    data["candidates"][0]["finishMessage"] = "Because."
    data["candidates"][0]["safetyRatings"] = [{"category": "A", "blocked": True}, {"category": "B"}]
    response, _ = decode(stream(data))
    assert response.terminal_reason is reason
    if reason is R.STOP:
        assert response.terminal_diagnostic is None
    else:
        assert f"`{finish}` (A): Because." in (response.terminal_diagnostic or "")


def test_a_reason_that_says_nothing_is_none() -> None:
    with pytest.raises(AttemptFailed, match="cut off"):
        decode(stream(ended(text("a"), finish="FINISH_REASON_UNSPECIFIED")))


def test_a_blocked_prompt_is_told() -> None:
    feedback = {
        "blockReason": "SAFETY",
        "blockReasonMessage": "No.",
        "safetyRatings": [{"category": "HARM", "blocked": True}],
    }
    response, _ = decode(stream({"promptFeedback": feedback, "usageMetadata": USAGE, "responseId": "r"}))
    assert response.terminal_diagnostic == "the service blocked the prompt: SAFETY (HARM): No."
    assert response.usage == TokenUsage(input=12, output=7)
    assert response.response_id == "r"


# ---- ids


def ids(data: bytes, salt: str = "") -> list[str]:
    response, _ = decode(data, salt=salt)
    return [part.call_id for part in response.parts if isinstance(part, ToolCallOutputPart)]


def test_a_call_without_an_id_gets_one_that_is_the_same_each_time_and_nowhere_else() -> None:
    data = stream(event(call("add", {"a": 1}), call("add", {"a": 1})), ended(call("add", {"a": 1})))
    made = ids(data, "turn 1")
    assert len(set(made)) == 3
    assert all(each.startswith("call_") and len(each) == 29 for each in made)
    assert ids(data, "turn 1") == made
    others = ids(data, "turn 2") + ids(data.replace(b"test-response", b"another"), "turn 1")
    assert not set(made) & set(others)


def test_an_id_given_twice_is_used_once() -> None:
    """A result answers the call of its id, and there is one result for each."""
    made = ids(stream(ended(call("add", {}, "c1"), call("add", {}, "c1"))))
    assert made[0] == "c1"
    assert made[1] != "c1"


# ---- back and forth

PARTS = st.sampled_from(
    [
        text("a"),
        text("bc"),
        text("d", thoughtSignature="S1"),
        text("", thoughtSignature="S2"),
        thought("", thoughtSignature="S5"),
        thought("h"),
        thought("m", thoughtSignature="S3"),
        call("add", {"a": 1}, "c1", thoughtSignature="S4"),
        call("add", {"a": 2}, "c2"),
        SEARCH,
        CODE,
    ]
)


def as_block(part: LlmOutputPart) -> LlmBlock:
    match part:
        case TextOutput():
            return TextBlock(text=part.text, response_meta=part.response_meta)
        case ReasoningOutput():
            return ReasoningBlock(text=part.text, replay=part.replay)
        case ToolCallOutputPart():
            return ToolCallBlock(
                call_id=part.call_id, tool_name=part.tool_name, input_json=part.input_json, replay=part.replay
            )


def joined(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Parts with unsigned neighbours of one kind joined: how they were cut is chance."""
    made: list[dict[str, Any]] = []
    for part in content:
        is_plain = part.keys() <= {"text", "thought"}
        if made and is_plain and made[-1].keys() == part.keys():
            made[-1] = {**part, "text": made[-1]["text"] + part["text"]}
        else:
            made.append(dict(part))
    return made


@given(st.lists(PARTS, min_size=1, max_size=8, unique_by=lambda part: json.dumps(part.get("functionCall", id(part)))))
def test_what_the_service_signed_goes_back_as_it_came(content: list[dict[str, Any]]) -> None:
    """All but thoughts without a signature, which the service doesn't want back."""
    response, _ = decode(stream(*(event(part) for part in content), ended()))
    message = LlmMessage(LlmRole.ASSISTANT, tuple(map(as_block, response.parts)))
    made = GoogleSettings()
    encoder = RequestEncoder(endpoint_of(made, "google"), OptionsEncoder(made))
    sent = json.loads(encoder.encode(LlmRequest(model="m", messages=(message,)), Model()))["contents"]
    wanted: list[dict[str, Any]] = []
    for part in content:
        # Thoughts are cut where a signature ends one, so what is unsigned before it goes along.
        if wanted and part.get("thought") and wanted[-1].keys() == {"text", "thought"}:
            part = {**part, "text": wanted.pop()["text"] + part["text"]}
        wanted.append(part)
    wanted = [part for part in wanted if part.keys() != {"text", "thought"}]
    assert joined(sent[0]["parts"] if sent[0]["role"] == "model" else []) == joined(wanted)


# ---- failures

FAILURES: dict[str, tuple[list[Any], str, ProviderFailureKind, bool]] = {
    "overloaded": (
        [{"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}],
        "UNAVAILABLE",
        K.HTTP,
        True,
    ),
    "after text": (
        [event(text("a")), {"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}}],
        "RESOURCE_EXHAUSTED",
        K.QUOTA,
        True,
    ),
    "after its end": (
        [ended(text("a")), {"error": {"code": 500, "message": "m", "status": "INTERNAL"}}],
        "INTERNAL",
        K.HTTP,
        True,
    ),
    "without a status": ([{"error": {"message": "m"}}], "in_stream_error", K.STREAM, True),
    "only words": ([{"error": "boom"}], "in_stream_error", K.STREAM, True),
    "no JSON": (["{oops"], "malformed_event", K.STREAM, True),
    "a number": (["7"], "unexpected_content", K.STREAM, True),
    "candidates that are none": ([{"candidates": [7]}], "unexpected_content", K.STREAM, True),
    "parts that are none": ([{"candidates": [{"content": {"parts": 7}}]}], "unexpected_content", K.STREAM, True),
    "text that is a number": ([event({"text": 7})], "unexpected_content", K.STREAM, True),
    "text that is an object": ([event({"text": {"": {}}})], "unexpected_content", K.STREAM, True),
    "thoughts that are a list": ([event({"text": [1], "thought": True})], "unexpected_content", K.STREAM, True),
    "arguments that are no object": ([event(call("add", [1]))], "unexpected_content", K.STREAM, True),
    "a signature that is none": ([event(text("a", thoughtSignature=7))], "unexpected_content", K.STREAM, True),
    "nothing": ([], "stream_cut", K.STREAM, True),
}


@pytest.mark.parametrize(("events", "code", "kind", "retryable"), FAILURES.values(), ids=FAILURES.keys())
def test_failures(events: list[Any], code: str, kind: ProviderFailureKind, retryable: bool) -> None:
    with pytest.raises(AttemptFailed) as caught:
        decode(stream(*events))
    error = caught.value.error
    assert (error.code, error.kind, error.retryable) == (code, kind, retryable)
    assert caught.value.seen is (Seen.RESPONSE if events else Seen.EMPTY_STREAM)


NAMES = [
    *("candidates", "content", "parts", "text", "thought", "thoughtSignature", "functionCall", "name", "args", "id"),
    *("finishReason", "error", "index", "promptFeedback", "blockReason", "safetyRatings", "usageMetadata"),
    *("promptTokenCount", "responseId"),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.sampled_from(["", "STOP", "a", "functionCall"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=25,
)


@given(st.lists(JSON, max_size=4), st.booleans())
def test_whatever_the_service_sends_is_an_answer_or_a_typed_failure(events: list[Any], as_document: bool) -> None:
    decoder, out = GeminiDecoder(), list[LlmStreamEvent]()
    with contextlib.suppress(AttemptFailed):
        for each in events:
            (decoder.whole if as_document else decoder.feed)(json.dumps(each).encode(), out)
        assert isinstance(decoder.finish(), LlmResponse)


# ---- usage


@pytest.mark.statement(6, 7, page="providers")
@pytest.mark.parametrize(
    ("reports", "usage"),
    [
        ([USAGE], TokenUsage(input=12, output=7)),
        (
            [{"promptTokenCount": 10, "cachedContentTokenCount": 8, "candidatesTokenCount": 2, "totalTokenCount": 12}],
            TokenUsage(input=2, cache_read_input=8, output=2),
        ),
        (
            [{"promptTokenCount": 5, "candidatesTokenCount": 2, "thoughtsTokenCount": 4, "totalTokenCount": 11}],
            TokenUsage(input=5, output=6, reasoning_output=4),
        ),
        # A total that leaves no room for the thoughts says that the candidates hold them.
        (
            [{"promptTokenCount": 5, "candidatesTokenCount": 6, "thoughtsTokenCount": 4, "totalTokenCount": 11}],
            TokenUsage(input=5, output=6, reasoning_output=4),
        ),
        ([{"promptTokenCount": 5, "toolUsePromptTokenCount": 100, "totalTokenCount": 105}], TokenUsage(input=105)),
        (
            [{"promptTokenCount": 9}, {"promptTokenCount": 0, "candidatesTokenCount": 3}, {"candidatesTokenCount": 0}],
            TokenUsage(input=9, output=3),
        ),
        ([{"promptTokenCount": 3, "cachedContentTokenCount": 9}], TokenUsage(input=0, cache_read_input=9)),
        ([{**USAGE, "serviceTier": "STANDARD"}], TokenUsage(input=12, output=7)),
        ([{**USAGE, "serviceTier": "FLEX"}], TokenUsage(input=12, output=7, service_tier="flex")),
        ([{**USAGE, "trafficType": "ON_DEMAND"}], TokenUsage(input=12, output=7)),
        ([{**USAGE, "trafficType": "ON_DEMAND_PRIORITY"}], TokenUsage(input=12, output=7, service_tier="priority")),
        ([{**USAGE, "trafficType": "TRAFFIC_TYPE_UNSPECIFIED"}], TokenUsage(input=12, output=7)),
        ([{"promptTokenCount": True, "candidatesTokenCount": "7"}], TokenUsage(at_least=True)),
        ([{"promptTokenCount": -1, "candidatesTokenCount": 2**60}], TokenUsage(at_least=True)),
        ([], TokenUsage(at_least=True)),
    ],
)
def test_usage(reports: list[dict[str, Any]], usage: TokenUsage) -> None:
    """Merged: a zero erases nothing. What was cached is taken out of the input, which never gets negative."""
    events = [event(text("a"), usage=report) for report in reports]
    response, _ = decode(stream(*events, ended(usage=None)))
    assert response.usage == usage


def test_a_smaller_count_is_believed_at_the_end_alone() -> None:
    """As recorded of gemini-2.0-flash: what it read is an estimate until then."""
    first, less = (
        {"promptTokenCount": 169, "totalTokenCount": 169},
        {"promptTokenCount": 79, "candidatesTokenCount": 12},
    )
    response, _ = decode(stream(event(text("a"), usage=first), ended(usage=less)))
    assert response.usage == TokenUsage(input=79, output=12)
    decoder = GeminiDecoder()
    for usage in (first, less, {"promptTokenCount": 8}):
        decoder.feed(json.dumps(event(text("a"), usage=usage)).encode(), [])
    assert decoder.usage == TokenUsage(input=169, output=12)


def test_usage_is_told_when_it_begins_and_when_it_is_final() -> None:
    """It changes with every delta, and telling that costs more than the delta."""
    reports = [{**USAGE, "candidatesTokenCount": count} for count in (1, 2, 3)]
    response, out = decode(stream(*(event(text("a"), usage=each) for each in reports), ended(usage=USAGE)))
    assert [each.usage.output for each in out if isinstance(each, StreamUsage)] == [1, 7]
    assert response.provider_usage == USAGE
    _, out = decode(stream(event(text("a")), ended()))
    assert len([each for each in out if isinstance(each, StreamUsage)]) == 1


# ---- documents


def document(body: Any) -> tuple[LlmResponse, list[LlmStreamEvent]]:
    decoder, out = GeminiDecoder(), list[LlmStreamEvent]()
    decoder.whole(json.dumps(body).encode(), out)
    return decoder.finish(), out


def test_a_document_is_an_answer_too() -> None:
    response, out = document(ended(thought("hm"), text("whole"), call("add", {}, "c1")))
    assert response.full_text == "whole"
    assert [type(part) for part in response.parts] == [ReasoningOutput, TextOutput, ToolCallOutputPart]
    assert out[:2] == [StreamReasoningDelta("hm"), StreamDelta("whole")]
    assert (response.response_id, response.served_model) == ("test-response", "test-model")
    assert response.terminal_reason is R.TOOL_USE


def test_so_is_a_list_of_what_would_have_been_events() -> None:
    """What the service sends where `alt=sse` got lost on the way."""
    assert document([event(text("a")), ended(text("b"))])[0].full_text == "ab"
    with pytest.raises(AttemptFailed, match="cut off"):
        document([event(text("a"))])


def test_a_document_with_content_needs_no_reason() -> None:
    assert document(event(text("a")))[0].terminal_reason is R.STOP
    assert document(event(call("add", {}, "c")))[0].terminal_reason is R.TOOL_USE


@pytest.mark.parametrize("body", [{}, [], {"models": []}, 7, {"candidates": [{"content": 7}]}], ids=str)
def test_documents_that_are_no_answer(body: Any) -> None:
    with pytest.raises(AttemptFailed) as caught:
        document(body)
    assert caught.value.error.code == "unexpected_content"


def test_an_answer_of_nothing_is_a_failure_that_may_pass() -> None:
    """The service does this: usage, and neither a candidate nor a word why."""
    with pytest.raises(AttemptFailed) as caught:
        document({"usageMetadata": USAGE, "modelVersion": "m", "responseId": "r"})
    assert caught.value.error.code == "stream_cut"
    assert caught.value.error.retryable


def test_the_decoder_is_done_when_the_service_says_why_it_stopped() -> None:
    decoder = GeminiDecoder()
    decoder.feed(json.dumps(event(text("a"))).encode(), [])
    assert (decoder.output_seen, decoder.complete, decoder.done) == (True, False, False)
    decoder.feed(json.dumps(ended()).encode(), [])
    assert (decoder.complete, decoder.done) == (True, True)
    assert evolve(decoder.finish(), parts=()).full_text == "a"
