"""Recorded exchanges with the real services: what they sent is understood, what they were sent we would send too.

The recordings aren't part of the repository; without them these tests are skipped by name. What each shows is worked
out here a second time, as naively as possible, and compared.
"""

from __future__ import annotations

import base64
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
    LlmRequest,
    LlmResponse,
    LlmTerminalReason,
    LlmToolChoice,
    LlmToolSpec,
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
from lash_hookspecs.messages import AttachmentRef, ProviderReasoningMeta, ProviderReplayMeta, ResponseTextMeta
from lash_plugin_provider_google import GoogleProvider, GoogleSettings
from lash_plugin_provider_google.encode import RequestEncoder
from lash_plugin_provider_google.endpoint import endpoint_of
from lash_plugin_provider_google.models import Model
from lash_plugin_provider_google.options import OptionsEncoder
from lash_provider_kit.recordings import Exchange, cuts, exchanges, over, played

pytestmark = pytest.mark.costly  # decoders without I/O, the same on every Python

EXCHANGES = exchanges("google", uri="enerateContent")


def model_of(exchange: Exchange) -> str:
    return exchange.uri.rpartition("/")[2].partition(":")[0]


def events_of(exchange: Exchange) -> list[dict[str, Any]]:
    if not exchange.is_stream:
        return [json.loads(exchange.body)]
    return [json.loads(line[6:]) for line in exchange.body.decode().splitlines() if line.startswith("data: ")]


# ---- what they sent

ANSWERED = [each for each in EXCHANGES if each.status == 200]
STREAMED = [each for each in ANSWERED if each.is_stream]


async def play(exchange: Exchange, reads: Sequence[bytes] = ()) -> tuple[LlmResponse | LlmCallError, str]:
    """The provider's outcome, and the text that it streamed, for a recorded response."""
    settings = GoogleSettings(base_url="https://recorded.example", retry="off")
    return await played(exchange, lambda transport: GoogleProvider(settings, transport=transport), reads)


REASONS = {
    "STOP": LlmTerminalReason.STOP,
    "MAX_TOKENS": LlmTerminalReason.OUTPUT_LIMIT,
    "SAFETY": LlmTerminalReason.CONTENT_FILTER,
}


@over(ANSWERED)
async def test_what_a_recording_shows_is_what_we_read(exchange: Exchange) -> None:
    response, streamed = await play(exchange)
    assert isinstance(response, LlmResponse)
    events = events_of(exchange)
    parts = [part for each in events for part in each["candidates"][0].get("content", {}).get("parts", [])]
    text = "".join(part.get("text", "") for part in parts if not part.get("thought"))
    assert response.full_text == streamed == text
    thoughts = "".join(part.get("text", "") for part in parts if part.get("thought"))
    assert "".join(part.text for part in response.parts if isinstance(part, ReasoningOutput)) == thoughts
    calls = [part for part in response.parts if isinstance(part, ToolCallOutputPart)]
    shown = [part for part in parts if "functionCall" in part]
    assert [(call.tool_name, json.loads(call.input_json)) for call in calls] == [
        (part["functionCall"]["name"], part["functionCall"].get("args", {})) for part in shown
    ]
    signed = [call.replay.opaque if call.replay else None for call in calls]
    assert signed == [part.get("thoughtSignature") for part in shown]
    finish = events[-1]["candidates"][0]["finishReason"]
    expected = REASONS[finish]
    if calls and expected is LlmTerminalReason.STOP:
        expected = LlmTerminalReason.TOOL_USE
    assert response.terminal_reason is expected
    usage = events[-1]["usageMetadata"]
    assert response.usage.total == usage["totalTokenCount"]
    assert response.usage.input_total == usage["promptTokenCount"] + usage.get("toolUsePromptTokenCount", 0)
    assert response.usage.cache_read_input == usage.get("cachedContentTokenCount", 0)
    assert response.usage.reasoning_output == usage.get("thoughtsTokenCount", 0)
    assert response.served_model == events[0]["modelVersion"]
    assert response.response_id == events[0]["responseId"]


@over(ANSWERED)
async def test_what_was_signed_would_go_back_as_it_came(exchange: Exchange) -> None:
    response, _ = await play(exchange)
    assert isinstance(response, LlmResponse)
    blocks: list[LlmBlock] = []
    for part in response.parts:
        if isinstance(part, ToolCallOutputPart):
            blocks.append(
                ToolCallBlock(
                    call_id=part.call_id, tool_name=part.tool_name, input_json=part.input_json, replay=part.replay
                )
            )
        elif isinstance(part, ReasoningOutput):
            blocks.append(ReasoningBlock(text=part.text, replay=part.replay))
        else:
            blocks.append(TextBlock(text=part.text, response_meta=part.response_meta))
    sent = encoded(LlmRequest(model="m", messages=(LlmMessage(LlmRole.ASSISTANT, tuple(blocks)),)))["contents"]
    received = [
        part for each in events_of(exchange) for part in each["candidates"][0].get("content", {}).get("parts", [])
    ]
    signed = [part for part in received if "thoughtSignature" in part]
    back = [part for content in sent for part in content["parts"] if "thoughtSignature" in part]
    for part in back:
        if "functionCall" in part and not any(each.get("functionCall", {}).get("id") for each in signed):
            del part["functionCall"]["id"]
    assert back == signed


@over(STREAMED)
async def test_cutting_a_recording_anywhere_changes_nothing(exchange: Exchange) -> None:
    whole = await play(exchange)
    for reads in cuts(exchange):
        assert await play(exchange, reads) == whole


@over(STREAMED)
async def test_a_recording_cut_short_is_never_taken_for_an_answer(exchange: Exchange) -> None:
    """Wherever a stream ends before its finish reason, the call fails; the text so far has been streamed."""
    end = exchange.body.index(b'"finishReason"')
    for place in random.Random(exchange.name).sample(range(1, end), 25):
        response, _ = await play(exchange, [exchange.body[:place]])
        assert isinstance(response, LlmCallError), place


# ---- what they were sent

# What other clients add that we have no word for; all of it can go into `extra_body`.
NOT_OURS = {"responseModalities", "topK", "topP", "presencePenalty", "frequencyPenalty", "logprobs", "responseLogprobs"}


class NoWord(Exception):
    """The recorded request holds something that `LlmRequest` can't say, such as a URL of a stranger."""


def encoded(request: LlmRequest, extra: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    made = GoogleSettings(extra_body=extra or {}, include_thoughts=False, **settings)
    model = Model()
    encoder = RequestEncoder(endpoint_of(made, "google"), OptionsEncoder(made))
    sent: dict[str, Any] = json.loads(encoder.encode(request, model))
    return sent


def _block(part: dict[str, Any], attachments: list[LlmAttachment]) -> LlmBlock | None:
    signature = part.get("thoughtSignature")
    if "functionCall" in part:
        call = part["functionCall"]
        replay = ProviderReplayMeta(opaque=signature) if signature else None
        return ToolCallBlock(
            call_id=call["id"], tool_name=call["name"], input_json=json.dumps(call["args"]), replay=replay
        )
    if "functionResponse" in part:
        result = part["functionResponse"]
        if result["response"].keys() != {"return_value"}:
            raise NoWord(result)
        return ToolResultBlock(
            call_id=result["id"], tool_name=result["name"], content=result["response"]["return_value"]
        )
    if "inlineData" in part:
        blob = part["inlineData"]
        reference = AttachmentRef(id=f"sha256:{len(attachments)}", media_type=blob["mimeType"], size=0)
        attachments.append(LlmAttachment(reference=reference, data=base64.b64decode(blob["data"])))
        return ImageBlock(attachment_idx=len(attachments) - 1, attachment=reference)
    if "fileData" in part:
        file = part["fileData"]
        if not file["file_uri"].startswith("gs://"):
            raise NoWord(file["file_uri"])
        reference = AttachmentRef(id=file["file_uri"], media_type=file["mime_type"], size=0)
        return ImageBlock(attachment_idx=0, attachment=reference)
    if part.get("thought"):
        return ReasoningBlock(text=part["text"], replay=ProviderReasoningMeta(signature=signature))
    if "text" not in part:
        return ReasoningBlock(text="", replay=ProviderReasoningMeta(encrypted_content=json.dumps(part)))
    if not part["text"]:
        return None
    payload = json.dumps([[0, len(part["text"]), signature]]) if signature else None
    return TextBlock(text=part["text"], response_meta=ResponseTextMeta(provider_payload=payload) if payload else None)


def our_request(wire: dict[str, Any], model: str) -> tuple[LlmRequest, dict[str, Any]]:
    """The request that stands for the same conversation, and what of it only `extra_body` can say."""
    messages: list[LlmMessage] = []
    attachments: list[LlmAttachment] = []
    if "systemInstruction" in wire:
        texts = tuple(TextBlock(text=part["text"]) for part in wire["systemInstruction"]["parts"])
        messages.append(LlmMessage(LlmRole.SYSTEM, texts))
    for content in wire["contents"]:
        role = LlmRole.ASSISTANT if content["role"] == "model" else LlmRole.USER
        blocks = tuple(block for part in content["parts"] if (block := _block(part, attachments)) is not None)
        if not blocks and len(wire["contents"]) > 1:
            raise NoWord("an empty message in a conversation")
        messages.append(LlmMessage(role, blocks))
    tools: list[LlmToolSpec] = []
    extra: dict[str, Any] = {name: wire[name] for name in ("safetySettings",) if name in wire}
    for tool in wire.get("tools", []):
        if tool.keys() != {"functionDeclarations"}:
            extra.setdefault("tools", []).append(tool)
            continue
        for each in tool["functionDeclarations"]:
            schema = each.get("parameters_json_schema") or each.get("parameters") or {}
            tools.append(LlmToolSpec(name=each["name"], description=each["description"], input_schema=schema))
    config = wire.get("generationConfig", {})
    choice = wire.get("toolConfig", {}).get("functionCallingConfig", {}).get("mode", "AUTO")
    further = {name: value for name, value in wire.get("toolConfig", {}).items() if name != "functionCallingConfig"}
    if further:
        extra["toolConfig"] = further
    more = {name: value for name, value in config.items() if name in NOT_OURS or name == "thinkingConfig"}
    if more:
        extra["generationConfig"] = more
    form: Any = None
    if schema := config.get("responseJsonSchema") or config.get("responseSchema"):
        form = JsonSchemaOutput(name="form", schema=schema)
    elif "responseMimeType" in config:
        form = JsonObjectOutput()
    modes = {"AUTO": LlmToolChoice.AUTO, "ANY": LlmToolChoice.REQUIRED, "NONE": LlmToolChoice.NONE}
    request = LlmRequest(
        model=model,
        messages=tuple(messages),
        attachments=tuple(attachments),
        tools=tuple(tools),
        tool_choice=modes[choice],
        generation=GenerationOptions(
            output_token_cap=config.get("maxOutputTokens"),
            temperature=config.get("temperature"),
            seed=config.get("seed"),
            stop_sequences=tuple(config.get("stopSequences", ())),
        ),
        output_spec=form,
    )
    return request, extra


def in_our_words(wire: dict[str, Any]) -> dict[str, Any]:
    """A recorded request in the one spelling that we use for what can be said in several."""
    shape: dict[str, Any] = json.loads(json.dumps(wire))
    shape.get("systemInstruction", {}).pop("role", None)
    for tool in shape.get("tools", []):
        for each in tool.get("functionDeclarations", []):
            schema = each.pop("parameters_json_schema", None) or each.pop("parameters", None) or {}
            each["parametersJsonSchema"] = schema
    if any("functionDeclarations" in tool for tool in shape.get("tools", [])):
        calling = shape.setdefault("toolConfig", {}).setdefault("functionCallingConfig", {"mode": "AUTO"})
        calling.pop("allowedFunctionNames", None)
    # Functions may come in one tool each, or all in one; ours come first.
    tools = [tool for tool in shape.get("tools", []) if "functionDeclarations" not in tool]
    declared = [each for tool in shape.get("tools", []) for each in tool.get("functionDeclarations", [])]
    if declared or tools:
        shape["tools"] = [*([{"functionDeclarations": declared}] if declared else []), *tools]
    for content in shape["contents"]:
        # Thoughts without a signature are for people: the service doesn't want them back.
        content["parts"] = [each for each in content["parts"] if each.keys() != {"text", "thought"}]
        for part in content["parts"]:
            if "fileData" in part:
                file = part["fileData"]
                part["fileData"] = {"mimeType": file["mime_type"], "fileUri": file["file_uri"]}
            if "functionResponse" in part:
                response = part["functionResponse"]["response"]
                part["functionResponse"]["response"] = {"output": response.pop("return_value")}
    merged: list[dict[str, Any]] = []
    for content in shape["contents"]:
        if merged and merged[-1]["role"] == content["role"]:
            merged[-1]["parts"] += content["parts"]
        else:
            merged.append(content)
    shape["contents"] = merged
    config = shape.pop("generationConfig", {})
    if "responseSchema" in config:
        config["responseJsonSchema"] = config.pop("responseSchema")  # one subset of JSON Schema is the older one
    if config:
        shape["generationConfig"] = config
    return shape


@over(EXCHANGES)
def test_we_would_have_asked_the_same(exchange: Exchange) -> None:
    try:
        request, extra = our_request(exchange.request, model_of(exchange))
    except NoWord as word:
        pytest.skip(f"there is no word for {str(word)[:80]}")
    is_vertex = "aiplatform" in exchange.uri
    sent = encoded(request, extra, vertex=is_vertex, project="pydantic-ai" if is_vertex else "")
    assert sent == in_our_words(exchange.request)


@over(EXCHANGES)
def test_we_would_have_asked_at_the_same_place(exchange: Exchange) -> None:
    is_vertex = "aiplatform" in exchange.uri
    settings = GoogleSettings(vertex=is_vertex, project="pydantic-ai" if is_vertex else "")
    stream = "streamGenerateContent" in exchange.uri
    assert endpoint_of(settings, "google").url_of(model_of(exchange), stream=stream) == exchange.uri
