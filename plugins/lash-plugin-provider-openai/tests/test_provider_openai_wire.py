"""Recorded exchanges with real services: what they sent is understood, what they were sent we would send too.

The recordings lie beside the repository, in `../shared/wire`, and aren't part of it; without them these tests are
skipped by name. What each shows is worked out here a second time, as naively as possible, and compared.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest

from lash_hookspecs.llm import (
    GenerationOptions,
    JsonObjectOutput,
    JsonSchemaOutput,
    LlmAttachment,
    LlmCallError,
    LlmOutputSpec,
    LlmRequest,
    LlmResponse,
    LlmTerminalReason,
    LlmToolChoice,
    LlmToolSpec,
    ProviderFailureKind,
    ReasoningOutput,
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
from lash_hookspecs.messages import AttachmentRef
from lash_plugin_provider_openai import OpenAiChatProvider, OpenAiChatSettings
from lash_plugin_provider_openai.encode import RequestEncoder
from lash_provider_kit.recordings import Exchange, cuts, exchanges, over, played

pytestmark = pytest.mark.costly  # decoders without I/O, the same on every Python

EXCHANGES = exchanges("openai-chat", "compat-*", uri="chat/completions")


# ---- what they sent

ANSWERED = [each for each in EXCHANGES if each.status == 200 and "json" in each.content_type]
STREAMED = [each for each in EXCHANGES if each.is_stream]


async def play(exchange: Exchange, reads: Sequence[bytes] = ()) -> tuple[LlmResponse | LlmCallError, str]:
    """The provider's outcome, and the text that it streamed, for a recorded response."""
    settings = OpenAiChatSettings(base_url="https://recorded.example/v1", retry="off")
    return await played(exchange, lambda transport: OpenAiChatProvider(settings, transport=transport), reads)


def naive_message(exchange: Exchange) -> tuple[dict[str, Any], str | None, dict[str, Any], bool]:
    """Message, finish reason and usage of a recorded response, and whether it holds an error; stream or document."""
    if not exchange.is_stream:
        document = json.loads(exchange.body)
        choice = document["choices"][0]
        return choice["message"], choice["finish_reason"], document.get("usage") or {}, "error" in document
    message: dict[str, Any] = {"content": "", "reasoning": "", "tool_calls": {}}
    finish, usage, failed = None, {}, False
    for line in exchange.body.decode().splitlines():
        if not line.startswith("data: {"):
            continue
        chunk = json.loads(line[6:])
        failed = failed or bool(chunk.get("error"))
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            delta = choice["delta"]
            finish = finish or choice["finish_reason"]
            content = delta.get("content") or ""
            for part in [{"text": content}] if isinstance(content, str) else content:
                message["content"] += part.get("text", "")
                message["reasoning"] += "".join(each["text"] for each in part.get("thinking", []))
            message["reasoning"] += delta.get("reasoning") or delta.get("reasoning_content") or ""
            for call in delta.get("tool_calls") or []:
                into = message["tool_calls"].setdefault(call["index"], {"function": {"name": "", "arguments": ""}})
                into["id"] = call.get("id") or into["id"]
                into["function"]["name"] += call["function"].get("name") or ""
                into["function"]["arguments"] += call["function"].get("arguments") or ""
    message["tool_calls"] = list(message["tool_calls"].values())
    return message, finish, usage, failed


FINISH = {
    "stop": LlmTerminalReason.STOP,
    "length": LlmTerminalReason.OUTPUT_LIMIT,
    "tool_calls": LlmTerminalReason.TOOL_USE,
    "content_filter": LlmTerminalReason.CONTENT_FILTER,
}


@over(ANSWERED + STREAMED)
async def test_what_a_recording_shows_is_what_we_read(exchange: Exchange) -> None:
    message, finish, usage, failed = naive_message(exchange)
    response, streamed = await play(exchange)
    content = message.get("content") or ""
    if not isinstance(content, str):
        thinking = [each["text"] for part in content for each in part.get("thinking", [])]
        message["reasoning"] = "".join(thinking)
        content = "".join(part.get("text", "") for part in content)
    assert streamed == content
    if failed:
        assert isinstance(response, LlmCallError)
        return
    assert isinstance(response, LlmResponse)
    assert response.full_text == content
    reasoning = message.get("reasoning") or message.get("reasoning_content") or ""
    assert "".join(part.text for part in response.parts if isinstance(part, ReasoningOutput)) == reasoning
    calls = [
        (part.call_id, part.tool_name, part.input_json)
        for part in response.parts
        if isinstance(part, ToolCallOutputPart)
    ]
    expected = message.get("tool_calls") or []
    assert calls == [
        (call["id"], call["function"]["name"], call["function"].get("arguments") or "{}") for call in expected
    ]
    assert finish is not None
    assert response.terminal_reason is FINISH[finish]
    assert response.usage.input_total == usage["prompt_tokens"]
    assert response.usage.output == usage["completion_tokens"]
    assert response.usage.cache_read_input == (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    told = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    assert response.usage.reasoning_output == min(told, response.usage.output)


@over(STREAMED)
async def test_cutting_a_recording_anywhere_changes_nothing(exchange: Exchange) -> None:
    whole = await play(exchange)
    for reads in cuts(exchange):
        assert await play(exchange, reads) == whole


@over(STREAMED)
async def test_a_recording_cut_short_is_never_taken_for_an_answer(exchange: Exchange) -> None:
    """Wherever a stream ends before its first finish reason, the call fails; the text so far has been streamed."""
    end = exchange.body.index(b'"finish_reason":"')
    for place in random.Random(exchange.name).sample(range(1, end), 25):
        response, _ = await play(exchange, [exchange.body[:place]])
        assert isinstance(response, LlmCallError), place


@over([each for each in EXCHANGES if each.status >= 400])
async def test_refusals_are_typed(exchange: Exchange) -> None:
    error, _ = await play(exchange)
    assert isinstance(error, LlmCallError)
    said = json.loads(exchange.body)["error"]
    assert said["message"][:200] in error.message
    assert error.code == said["code"]
    assert error.kind is ProviderFailureKind.VALIDATION
    assert not error.retryable


@over([each for each in EXCHANGES if each.status == 200 and "text/plain" in each.content_type])
async def test_an_answer_that_is_no_completion_is_an_error(exchange: Exchange) -> None:
    error, _ = await play(exchange)
    assert isinstance(error, LlmCallError)
    assert error.code == "unexpected_content"


@over([each for each in STREAMED if "stream_error" in each.name])
async def test_an_error_in_the_stream_is_one_although_a_finish_reason_came_first(exchange: Exchange) -> None:
    error, _ = await play(exchange)
    assert isinstance(error, LlmCallError)
    assert "Token limit reached" in error.message
    assert error.kind is ProviderFailureKind.VALIDATION


# ---- what they were sent

# What other clients add that we have no word for, and what differs on purpose: we always stream.
NOT_OURS = {"n", "moderation", "stream", "stream_options", "web_search_options", "thinking", "reasoning", "plugins"}
NOT_OURS |= {
    "parallel_tool_calls",
    "disable_reasoning",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "provider",
}
NOT_OURS |= {"models", "preset", "transforms", "usage", "top_p", "reasoning_format", "user", "modalities"}


class NoWord(Exception):
    """The recorded request holds something that `LlmRequest` can't say, such as a file."""


def _text(content: Any) -> str:
    if isinstance(content, list):
        if any(part["type"] != "text" for part in content):
            raise NoWord(content)
        return "\n".join(part["text"] for part in content)
    return content or ""


def our_request(wire: dict[str, Any]) -> LlmRequest:
    """The request that stands for the same conversation."""
    messages: list[LlmMessage] = []
    attachments: list[LlmAttachment] = []
    for message in wire["messages"]:
        blocks: list[LlmBlock] = []
        role = message["role"]
        if role == "tool":
            blocks.append(ToolResultBlock(call_id=message["tool_call_id"], content=_text(message["content"])))
        elif role == "assistant":
            blocks += [
                ReasoningBlock(text=message[name]) for name in ("reasoning_content", "reasoning") if name in message
            ]
            if message.get("content"):
                blocks.append(TextBlock(text=_text(message["content"])))
            for call in message.get("tool_calls") or []:
                function = call["function"]
                blocks.append(
                    ToolCallBlock(call_id=call["id"], tool_name=function["name"], input_json=function["arguments"])
                )
        else:
            content = message["content"]
            for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
                if part["type"] == "text":
                    blocks.append(TextBlock(text=part["text"]))
                elif part["type"] == "image_url" and part["image_url"]["url"].startswith("data:image/"):
                    import base64

                    head, _, data = part["image_url"]["url"].partition(",")
                    media_type = head.removeprefix("data:").partition(";")[0]
                    reference = AttachmentRef(id=f"sha256:{len(attachments)}", media_type=media_type, size=0)
                    blocks.append(ImageBlock(attachment_idx=len(attachments), attachment=reference))
                    attachments.append(LlmAttachment(reference=reference, data=base64.b64decode(data)))
                else:
                    raise NoWord(part["type"])
        messages.append(LlmMessage(LlmRole.USER if role == "tool" else LlmRole(role), tuple(blocks)))
    tools = []
    for tool in wire.get("tools") or []:
        if tool.keys() != {"type", "function"} or "strict" in tool["function"]:
            raise NoWord(tool)
        function = tool["function"]
        tools.append(
            LlmToolSpec(
                name=function["name"], description=function.get("description", ""), input_schema=function["parameters"]
            )
        )
    return LlmRequest(
        model=wire["model"],
        messages=tuple(messages),
        attachments=tuple(attachments),
        tools=tuple(tools),
        tool_choice=LlmToolChoice(wire.get("tool_choice", "auto")),
        model_variant=wire.get("reasoning_effort"),
        generation=GenerationOptions(
            output_token_cap=wire.get("max_completion_tokens") or wire.get("max_tokens"),
            temperature=wire.get("temperature"),
            seed=wire.get("seed"),
            stop_sequences=tuple(wire.get("stop") or ()),
        ),
        output_spec=_output_spec(wire.get("response_format")),
    )


def _output_spec(wire: dict[str, Any] | None) -> LlmOutputSpec | None:
    if wire is None:
        return None
    if wire["type"] == "json_object":
        return JsonObjectOutput()
    schema = wire["json_schema"]
    if "strict" not in schema or "description" in schema:
        raise NoWord(schema)
    return JsonSchemaOutput(name=schema["name"], schema=schema["schema"], strict=schema["strict"])


def in_our_words(wire: dict[str, Any]) -> dict[str, Any]:
    """A recorded request in the one spelling that we use for what can be said in several."""
    shape = {name: value for name, value in wire.items() if name not in NOT_OURS}
    messages = []
    for message in wire["messages"]:
        each = {name: value for name, value in message.items() if value not in (None, "") or message["role"] == "tool"}
        content = each.get("content")
        if isinstance(content, list) and all(part["type"] == "text" for part in content):
            each["content"] = "\n".join(part["text"] for part in content)
        messages.append(each)
    shape["messages"] = messages
    if "tools" in shape:
        shape.setdefault("tool_choice", "auto")
    return shape


def _sendable(exchange: Exchange) -> bool:
    try:
        our_request(exchange.request)
    except NoWord:
        return False
    return True


@over([each for each in EXCHANGES if _sendable(each)])
def test_we_would_send_the_same(exchange: Exchange) -> None:
    sent = exchange.request["messages"]
    settings = OpenAiChatSettings(
        max_tokens_field="max_tokens" if "max_tokens" in exchange.request else "max_completion_tokens",
        reasoning_replay="reasoning" if any("reasoning" in each for each in sent) else "reasoning_content",
    )
    ours = json.loads(RequestEncoder(settings).encode(our_request(exchange.request)))
    assert in_our_words(ours) == in_our_words(exchange.request)


@pytest.mark.skipif(not EXCHANGES, reason="no recordings")
def test_the_recordings_are_really_used() -> None:
    """Against a filter that quietly excludes everything."""
    assert len(STREAMED) >= 6
    assert len(ANSWERED) >= 40
    assert sum(map(_sendable, EXCHANGES)) >= 30
