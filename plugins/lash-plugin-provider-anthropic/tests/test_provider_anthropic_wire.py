"""Recorded exchanges with the real service: what it sent is understood, what it was sent we would send too.

The recordings lie beside the repository and aren't part of it; without them these tests are skipped by name. What each
shows is worked out here a second time, as naively as possible, and compared.
"""

from __future__ import annotations

import json
import random
from base64 import b64decode
from collections.abc import Sequence
from typing import Any

import pytest

from lash_hookspecs.llm import (
    GenerationOptions,
    JsonSchemaOutput,
    LlmAttachment,
    LlmCallError,
    LlmRequest,
    LlmResponse,
    LlmTerminalReason,
    LlmToolChoice,
    LlmToolSpec,
    ProviderFailureKind,
    ReasoningOutput,
    StreamDelta,
    ToolCallOutputPart,
)
from lash_hookspecs.llm_messages import (
    ImageBlock,
    LlmBlock,
    LlmMessage,
    LlmRole,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from lash_hookspecs.messages import AttachmentRef, ProviderReasoningMeta
from lash_plugin_provider_anthropic import AnthropicProvider, AnthropicSettings
from lash_plugin_provider_anthropic.decode import MessageDecoder
from lash_plugin_provider_anthropic.encode import RequestEncoder
from lash_provider_kit.reader import decoded
from lash_provider_kit.recordings import Exchange, cuts, exchanges, over, played

pytestmark = pytest.mark.costly  # decoders without I/O, the same on every Python

EXCHANGES = exchanges("anthropic", uri="anthropic.com/v1/messages")
COUNTS = "count_tokens"

# ---- what it sent

MESSAGES = [each for each in EXCHANGES if each.status == 200 and COUNTS not in each.uri]
STREAMED = [each for each in MESSAGES if each.is_stream]


def read(exchange: Exchange, reads: Sequence[bytes] = ()) -> tuple[LlmResponse | LlmCallError, str]:
    """What the decoder makes of a recorded 200, and the text that it streamed."""
    events, outcome = decoded(MessageDecoder(), reads or [exchange.body], document=not exchange.is_stream)
    return outcome, "".join(event.text for event in events if isinstance(event, StreamDelta))


async def play(exchange: Exchange) -> LlmResponse | LlmCallError:
    """The provider's outcome for a recorded response."""
    settings = AnthropicSettings(base_url="https://recorded.example", retry="off")
    outcome, _ = await played(exchange, lambda transport: AnthropicProvider(settings, transport=transport))
    return outcome


def naive_message(exchange: Exchange) -> dict[str, Any]:
    """The message of a recorded response, put together from its events where it is a stream."""
    if not exchange.is_stream:
        document: dict[str, Any] = json.loads(exchange.body)
        return document
    message: dict[str, Any] = {}
    for line in exchange.body.decode().splitlines():
        if not line.startswith("data:"):
            continue
        event = json.loads(line[5:])
        match event["type"]:
            case "message_start":
                message = event["message"]
            case "content_block_start":
                assert len(message["content"]) == event["index"]
                message["content"].append({**event["content_block"], "json": ""})
            case "content_block_delta":
                block, delta = message["content"][event["index"]], event["delta"]
                for name, into in (("text", "text"), ("thinking", "thinking"), ("partial_json", "json")):
                    block[into] = block.get(into, "") + delta.get(name, "")
                block["signature"] = delta.get("signature", block.get("signature"))
            case "message_delta":
                message |= event["delta"]
                message["usage"] |= {name: value for name, value in event["usage"].items() if value}
    for block in message["content"]:
        if block.pop("json"):
            block["input"] = None
    return message


STOP = {"end_turn": LlmTerminalReason.STOP, "tool_use": LlmTerminalReason.TOOL_USE}


@over(MESSAGES)
def test_what_a_recording_shows_is_what_we_read(exchange: Exchange) -> None:
    message = naive_message(exchange)
    response, streamed = read(exchange)
    assert isinstance(response, LlmResponse)
    text = "".join(block["text"] for block in message["content"] if block["type"] == "text")
    assert response.full_text == streamed == text
    calls = [part for part in response.parts if isinstance(part, ToolCallOutputPart)]
    expected = [block for block in message["content"] if block["type"] == "tool_use"]
    assert [(part.call_id, part.tool_name) for part in calls] == [(each["id"], each["name"]) for each in expected]
    if not exchange.is_stream:
        assert [json.loads(part.input_json) for part in calls] == [each["input"] for each in expected]
    reasoning = [part for part in response.parts if isinstance(part, ReasoningOutput) and part.replay]
    signatures = [part.replay.signature for part in reasoning if part.replay and part.replay.signature]
    assert signatures == [block["signature"] for block in message["content"] if block["type"] == "thinking"]
    sealed = [part.replay.encrypted_content for part in reasoning if part.replay and part.replay.redacted]
    assert sealed == [block["data"] for block in message["content"] if block["type"] == "redacted_thinking"]
    others = [part.replay for part in reasoning if part.replay and part.replay.item_id]
    ours = {"text", "tool_use", "thinking", "redacted_thinking"}
    assert len(others) == sum(block["type"] not in ours for block in message["content"])
    usage = message["usage"]
    assert response.terminal_reason is STOP[message["stop_reason"]]
    assert response.usage.input == usage["input_tokens"]
    assert response.usage.output == usage["output_tokens"]
    assert response.usage.cache_read_input == usage["cache_read_input_tokens"]
    assert response.usage.cache_write_input == usage["cache_creation_input_tokens"]
    assert response.usage.reasoning_output == (usage.get("output_tokens_details") or {}).get("thinking_tokens", 0)
    assert (response.response_id, response.served_model) == (message["id"], message["model"])


@over(MESSAGES)
async def test_the_provider_reads_what_the_decoder_reads(exchange: Exchange) -> None:
    response, expected = await play(exchange), read(exchange)[0]
    assert isinstance(response, LlmResponse)
    assert isinstance(expected, LlmResponse)
    assert (response.parts, response.usage) == (expected.parts, expected.usage)


@over(STREAMED)
def test_cutting_a_recording_anywhere_changes_nothing(exchange: Exchange) -> None:
    whole = read(exchange)
    for reads in cuts(exchange):
        assert read(exchange, reads) == whole


@over(STREAMED)
@pytest.mark.statement(10)
def test_a_recording_cut_short_is_never_taken_for_an_answer(exchange: Exchange) -> None:
    """Wherever a stream ends before its `message_stop`, the call fails."""
    end = exchange.body.index(b'data: {"type":"message_stop"')
    for place in random.Random(exchange.name).sample(range(1, end), 25):
        response, _ = read(exchange, [exchange.body[:place]])
        assert isinstance(response, LlmCallError), place


@over([each for each in EXCHANGES if each.status >= 400])
async def test_refusals_are_typed(exchange: Exchange) -> None:
    error = await play(exchange)
    assert isinstance(error, LlmCallError)
    said = json.loads(exchange.body)["error"]
    assert said["message"] in error.message
    assert (error.code, error.kind, error.retryable) == (said["type"], ProviderFailureKind.HTTP, False)


@over([each for each in EXCHANGES if each.status == 200 and COUNTS in each.uri])
async def test_an_answer_that_is_no_message_is_an_error(exchange: Exchange) -> None:
    error = await play(exchange)
    assert isinstance(error, LlmCallError)
    assert "sent JSON that is no message" in error.message


# ---- what it was sent

# What other clients add that we have no word for; and we always stream, and mark what is to be cached ourselves.
NOT_OURS = {"stream", "cache_control", "thinking"}
CHOICES = {"auto": LlmToolChoice.AUTO, "any": LlmToolChoice.REQUIRED, "none": LlmToolChoice.NONE}
ARE_OURS = {"max_tokens", "messages", "model", "system", "tools", "tool_choice", "output_config", *NOT_OURS}


class NoWord(Exception):
    """The recorded request holds something that `LlmRequest` can't say, such as a tool of the service's own."""


def _blocks(content: Any, attachments: list[LlmAttachment]) -> tuple[LlmBlock, ...]:
    if isinstance(content, str):
        return (TextBlock(text=content),)
    return tuple(_block(each, attachments) for each in content)


def _block(wire: dict[str, Any], attachments: list[LlmAttachment]) -> LlmBlock:
    match wire["type"]:
        case "text" if not wire.get("citations"):
            return TextBlock(text=wire["text"])
        case "thinking":
            return ReasoningBlock(text=wire["thinking"], replay=ProviderReasoningMeta(signature=wire["signature"]))
        case "redacted_thinking":
            return ReasoningBlock(text="", replay=ProviderReasoningMeta(encrypted_content=wire["data"], redacted=True))
        case "tool_use":
            return ToolCallBlock(call_id=wire["id"], tool_name=wire["name"], input_json=json.dumps(wire["input"]))
        case "tool_result":
            if not isinstance(content := wire["content"], str):
                if any(each["type"] != "text" for each in content):
                    raise NoWord(content)
                content = "".join(each["text"] for each in content)
            return ToolResultBlock(call_id=wire["tool_use_id"], content=content)
        case "image" | "document":
            return _attachment(wire["source"], wire["type"], attachments)
        case kind if "tool_use" in kind or "tool_result" in kind:
            opaque = json.dumps({"type": kind, **wire}, separators=(",", ":"))
            return ReasoningBlock(text="", replay=ProviderReasoningMeta(item_id="x", encrypted_content=opaque))
        case _:
            raise NoWord(wire)


def _attachment(source: dict[str, Any], kind: str, attachments: list[LlmAttachment]) -> ImageBlock:
    if source["type"] == "url":
        media_type = "image/png" if kind == "image" else "application/pdf"
        reference = AttachmentRef(id=source["url"], media_type=media_type, size=0)
        data = b""
    else:
        reference = AttachmentRef(id=f"sha256:{len(attachments)}", media_type=source["media_type"], size=0)
        data = source["data"].encode() if source["type"] == "text" else b64decode(source["data"])
    attachments.append(LlmAttachment(reference=reference, data=data))
    return ImageBlock(attachment_idx=len(attachments) - 1, attachment=reference)


def our_request(wire: dict[str, Any]) -> tuple[LlmRequest, AnthropicSettings]:
    """The request that stands for the same conversation; tools of the service's own are in the settings."""
    attachments: list[LlmAttachment] = []
    system = wire.get("system", [])
    messages = [LlmMessage(LlmRole.SYSTEM, _blocks(system, attachments))] if system else []
    messages += [LlmMessage(LlmRole(each["role"]), _blocks(each["content"], attachments)) for each in wire["messages"]]
    tools = []
    extra = {name: value for name, value in wire.items() if name not in ARE_OURS}
    for tool in wire.get("tools") or []:
        if "input_schema" not in tool:
            extra["tools"] = [*extra.get("tools", []), tool]
        elif not tool.keys() <= {"name", "description", "input_schema", "cache_control"}:
            raise NoWord(tool)
        else:
            schema = tool["input_schema"]
            tools.append(LlmToolSpec(name=tool["name"], description=tool["description"], input_schema=schema))
    output = wire.get("output_config", {})
    if not output.keys() <= {"effort", "format"}:
        raise NoWord(output)
    schema = output["format"]["schema"] if "format" in output else None
    request = LlmRequest(
        model=wire["model"],
        messages=tuple(messages),
        attachments=tuple(attachments),
        tools=tuple(tools),
        tool_choice=CHOICES[wire.get("tool_choice", {"type": "auto"})["type"]],
        model_variant=output.get("effort"),
        generation=GenerationOptions(output_token_cap=wire["max_tokens"]),
        output_spec=JsonSchemaOutput(name="answer", schema=schema) if schema is not None else None,
    )
    return request, AnthropicSettings(extra_body=extra)


def in_our_words(wire: dict[str, Any]) -> dict[str, Any]:
    """A request in the one spelling that we use for what can be said in several, and without cache markers."""
    shape: dict[str, Any] = _unmarked({name: value for name, value in wire.items() if name not in NOT_OURS})
    if isinstance(shape.get("system"), str):
        shape["system"] = [{"type": "text", "text": shape["system"]}]
    for message in shape["messages"]:
        if isinstance(message["content"], str):
            message["content"] = [{"type": "text", "text": message["content"]}]
        # `is_error: false` is what is meant without it; and the result stands first, as the service wants it.
        message["content"] = [
            {name: value for name, value in block.items() if (name, value) != ("is_error", False)}
            for block in sorted(message["content"], key=lambda block: block["type"] != "tool_result")
        ]
        for block in message["content"]:
            if block["type"] == "tool_result" and not isinstance(block["content"], str):
                block["content"] = "".join(each["text"] for each in block["content"])
    shape.get("tools", []).sort(key=lambda tool: "input_schema" in tool)
    for tool in shape.get("tools", []):
        if not tool.get("description", "x"):
            del tool["description"]
    if "tools" in shape:
        shape.setdefault("tool_choice", {"type": "auto"})
    return shape


def _unmarked(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _unmarked(each) for name, each in value.items() if name != "cache_control"}
    return [_unmarked(each) for each in value] if isinstance(value, list) else value


def _sendable(exchange: Exchange) -> bool:
    try:
        our_request(exchange.request)
    except NoWord:
        return False
    return True


ASKED_FOR = [each for each in EXCHANGES if COUNTS not in each.uri]


@over([each for each in ASKED_FOR if _sendable(each)])
def test_we_would_send_the_same(exchange: Exchange) -> None:
    request, settings = our_request(exchange.request)
    ours = json.loads(RequestEncoder(settings).encode(request))
    assert in_our_words(ours) == in_our_words(exchange.request)


@pytest.mark.skipif(not EXCHANGES, reason="no recordings")
def test_the_recordings_are_really_used() -> None:
    """Against a filter that quietly excludes everything."""
    assert len(STREAMED) >= 7
    assert len(MESSAGES) >= 50
    assert sum(map(_sendable, ASKED_FOR)) >= 35
