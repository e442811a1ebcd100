"""Answers as servers send them that stand in for Anthropic: words of another wire, fields left out, ids that repeat."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lash_hookspecs.llm import LlmCallError, LlmResponse, LlmTerminalReason, TextOutput, ToolCallOutputPart
from lash_plugin_provider_anthropic.decode import MessageDecoder
from lash_provider_kit.reader import decoded

BEGIN = {
    "type": "message_start",
    "message": {"id": "m", "model": "c", "usage": {"input_tokens": 5, "output_tokens": 1}},
}
TEXT = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
HELLO = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}}
CLOSE = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}
STOP = {"type": "message_stop"}


def events(*each: Any) -> bytes:
    return b"".join(b"data: %b\n\n" % (one if isinstance(one, bytes) else json.dumps(one).encode()) for one in each)


def read(*each: Any, at_once: bool = True) -> LlmResponse | LlmCallError:
    sent = events(*each)
    reads = [sent] if at_once else [bytes([byte]) for byte in sent]
    return decoded(MessageDecoder(), reads)[1]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("behind", [b"[DONE]", b"{", b"[]", {"type": "content_block_start"}], ids=str)
def test_what_cannot_be_read_behind_the_end_costs_no_answer(behind: Any, at_once: bool) -> None:
    """The answer is whole by then, and paid for."""
    answer = read(BEGIN, TEXT, HELLO, CLOSE, STOP, behind, behind, at_once=at_once)
    assert isinstance(answer, LlmResponse), answer
    assert answer.full_text == "Hello"
    assert answer.usage.output == 3


def test_what_cannot_be_read_before_the_end_still_fails() -> None:
    for behind in (b"[DONE]", {"type": "content_block_start"}):
        failed = read(BEGIN, TEXT, HELLO, CLOSE, behind, STOP)
        assert isinstance(failed, LlmCallError)


def test_a_failure_that_the_service_reports_behind_the_end_is_one() -> None:
    failed = read(BEGIN, TEXT, HELLO, CLOSE, STOP, {"type": "error", "error": {"type": "api_error", "message": "No."}})
    assert isinstance(failed, LlmCallError)
    assert failed.code == "api_error"


@pytest.mark.parametrize("given", ["", "same"])
def test_calls_without_an_id_of_their_own_are_kept_apart(given: str) -> None:
    """Of calls that share an id, the host runs the first only."""
    starts = [
        {
            "type": "content_block_start",
            "index": index,
            "content_block": {"type": "tool_use", "id": given, "name": name},
        }
        for index, name in enumerate(("read", "ls"))
    ]
    answer = read(BEGIN, *starts, CLOSE, STOP)
    assert isinstance(answer, LlmResponse)
    calls = [part for part in answer.parts if isinstance(part, ToolCallOutputPart)]
    assert [each.tool_name for each in calls] == ["read", "ls"]
    assert len({each.call_id for each in calls} - {""}) == 2
    assert answer.terminal_reason is LlmTerminalReason.TOOL_USE


@pytest.mark.parametrize("kind", ["text", "thinking"])
def test_a_block_may_begin_without_its_empty_text(kind: str) -> None:
    bare = {"type": "content_block_start", "index": 0, "content_block": {"type": kind}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": f"{kind}_delta", kind: "Hello"}}
    answer = read(BEGIN, bare, delta, CLOSE, STOP)
    assert isinstance(answer, LlmResponse), answer
    assert answer.parts[0].text == "Hello"  # type: ignore[union-attr]  # both have one
    assert isinstance(answer.parts[0], TextOutput) is (kind == "text")


def test_usage_may_come_without_anything_else() -> None:
    answer = read(BEGIN, TEXT, HELLO, {"type": "message_delta", "usage": {"output_tokens": 9}}, CLOSE, STOP)
    assert isinstance(answer, LlmResponse), answer
    assert answer.usage.output == 9
