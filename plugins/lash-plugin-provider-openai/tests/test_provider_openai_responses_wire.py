"""Recorded exchanges with the Responses API: each parses to what it shows, however it is cut, and is as we ask."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from lash_hookspecs.llm import (
    JsonSchemaOutput,
    LlmCallError,
    LlmRequest,
    LlmResponse,
    LlmTerminalReason as Reason,
    LlmToolChoice,
    LlmToolSpec,
    ReasoningOutput,
    StreamDelta,
    TextOutput,
    ToolCallOutputPart,
)
from lash_hookspecs.llm_messages import (
    LlmBlock,
    LlmMessage,
    LlmRole,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from lash_hookspecs.messages import ProviderReasoningMeta, ResponseTextMeta
from lash_hookspecs.models import ModelCapability
from lash_plugin_provider_openai.responses_decode import ResponsesDecoder
from lash_plugin_provider_openai.responses_encode import ResponsesEncoder
from lash_plugin_provider_openai.responses_settings import OpenAiSettings
from lash_provider_kit.reader import decoded
from lash_provider_kit.recordings import Exchange, cuts, exchanges, over

pytestmark = pytest.mark.costly  # decoders without I/O, the same on every Python

ALL = tuple(
    each
    for each in exchanges("openai-responses", uri="/responses")
    if each.status == 200
    and each.uri.split("?")[0].rpartition("/")[2] not in ("input_tokens", "compact")
    and "anthropic" not in each.uri
)
STREAMS = tuple(each for each in ALL if each.is_stream)
UNFINISHED = ("queued", "in_progress")


def objects(exchange: Exchange) -> Iterator[dict[str, Any]]:
    for line in exchange.body.split(b"\n"):
        if line.startswith(b"data:") and line[5:].strip() != b"[DONE]":
            yield json.loads(line[5:])


def shown(exchange: Exchange) -> dict[str, Any]:
    """The response object as the recording has it, whole."""
    if not exchange.is_stream:
        found: dict[str, Any] = json.loads(exchange.body)
        return found
    return next(each["response"] for each in reversed([*objects(exchange)]) if "response" in each)


def read(exchange: Exchange, reads: list[bytes] | None = None) -> tuple[Any, Any]:
    return decoded(ResponsesDecoder(), reads or [exchange.body], document=not exchange.is_stream)


@over(ALL)
def test_a_recording_parses_to_what_it_shows(exchange: Exchange) -> None:
    events, answer = read(exchange)
    response = shown(exchange)
    if response["status"] in UNFINISHED:  # made in the background, which we never ask for
        return
    assert isinstance(answer, LlmResponse), answer
    items = response["output"]
    parts = [part for item in items if item["type"] == "message" for part in item["content"]]
    text = "".join(part.get("text") or "" for part in parts)
    assert answer.full_text == text == "".join(each.text for each in events if isinstance(each, StreamDelta))
    calls = [each for each in answer.parts if isinstance(each, ToolCallOutputPart)]
    wanted = [(each["call_id"], each["name"], each["arguments"]) for each in items if each["type"] == "function_call"]
    assert [(each.call_id, each.tool_name, each.input_json) for each in calls] == wanted
    sealed = [each for each in items if each.get("encrypted_content")]
    kept = [part.replay for part in answer.parts if isinstance(part, ReasoningOutput) and part.replay is not None]
    # A stream seals the same item anew with each event: the finished item's is taken.
    assert [each.item_id for each in kept] == [each["id"] for each in sealed]
    assert all((each.encrypted_content or "").encode() in exchange.body for each in kept)
    phases = [each.get("phase") for each in items if each["type"] == "message"]
    metas = [each.response_meta for each in answer.parts if isinstance(each, TextOutput)]
    assert [each.phase for each in metas if each is not None] == phases[: len(metas)]
    usage, cached = response["usage"], (response["usage"].get("input_tokens_details") or {}).get("cached_tokens") or 0
    assert (answer.usage.input_total, answer.usage.output) == (usage["input_tokens"], usage["output_tokens"])
    assert answer.usage.cache_read_input == cached
    assert (answer.response_id, answer.served_model) == (response["id"], response["model"])
    refused = any(part["type"] == "refusal" for part in parts)
    incomplete = (response.get("incomplete_details") or {}).get("reason")
    if incomplete is None and not refused:
        assert answer.terminal_reason is (Reason.TOOL_USE if calls else Reason.STOP)
    else:
        assert answer.terminal_reason in (Reason.OUTPUT_LIMIT, Reason.CONTENT_FILTER)


@over(STREAMS)
def test_cuts_change_nothing(exchange: Exchange) -> None:
    whole = read(exchange)
    for reads in cuts(exchange):
        assert read(exchange, reads) == whole


@over(tuple(each for each in exchanges("openai-responses", uri="/responses") if each.status == 400))
def test_an_error_is_told_in_the_service_s_words(exchange: Exchange) -> None:
    from lash_provider_kit.failures import error_object

    assert error_object(exchange.body).message == json.loads(exchange.body)["error"]["message"]
    assert isinstance(read(exchange)[1], LlmCallError)


# ---- requests -------------------------------------------------------------------------------------------------------

_OURS = {"model", "input", "instructions", "tools", "tool_choice", "text", "reasoning", "temperature", "include"}
_ITEMS = {"function_call", "function_call_output", "message", "reasoning"}


def _plain_text(item: Mapping[str, Any]) -> bool:
    content = item.get("content")
    if not isinstance(content, list):
        return True
    return all(each["type"] in ("input_text", "output_text") for each in content)


def comparable(exchange: Exchange) -> bool:
    """Whether all that was said in it can be said here, too."""
    asked = exchange.request
    if exchange.method != "POST" or not asked or not isinstance(asked.get("input"), list):
        return False
    if any(key in asked for key in ("previous_response_id", "conversation", "background", "moderation")):
        return False
    if any(tool["type"] != "function" for tool in asked.get("tools", ())):
        return False
    return all(each.get("type", "message") in _ITEMS and _plain_text(each) for each in asked["input"])


def restored(asked: Mapping[str, Any]) -> LlmRequest:
    """The request whose body that would be."""
    messages: list[LlmMessage] = []
    if asked.get("instructions"):
        messages.append(LlmMessage(LlmRole.SYSTEM, (TextBlock(text=asked["instructions"]),)))

    def add(role: LlmRole, *blocks: LlmBlock) -> None:
        messages.append(LlmMessage(role, blocks))

    for item in asked["input"]:
        match item.get("type", "message"):
            case "function_call":
                call = ToolCallBlock(call_id=item["call_id"], tool_name=item["name"], input_json=item["arguments"])
                add(LlmRole.ASSISTANT, call)
            case "function_call_output":
                add(LlmRole.USER, ToolResultBlock(call_id=item["call_id"], content=item["output"]))
            case "reasoning":
                summary = tuple(each["text"] for each in item["summary"])
                meta = ProviderReasoningMeta(item["id"], item["encrypted_content"], summary=summary)
                add(LlmRole.ASSISTANT, ReasoningBlock(text="", replay=meta))
            case _:
                content = item["content"]
                texts = [content] if isinstance(content, str) else [each["text"] for each in content]
                role = LlmRole(item["role"])
                meta = None
                if "id" in item:
                    meta = ResponseTextMeta(id=item["id"], status=item["status"], phase=item.get("phase"))
                add(role, *(TextBlock(text=each, response_meta=meta) for each in texts))
    form = (asked.get("text") or {}).get("format") or {}
    output = None
    if form.get("type") == "json_schema":
        output = JsonSchemaOutput(name=form["name"], schema=form["schema"], strict=form.get("strict", False))
    tools = [
        LlmToolSpec(name=each["name"], description=each.get("description") or "", input_schema=each["parameters"])
        for each in asked.get("tools", ())
    ]
    choice = asked.get("tool_choice", "auto")
    return LlmRequest(
        model=asked["model"],
        messages=messages,
        tools=tuple(tools),
        tool_choice=LlmToolChoice(choice) if isinstance(choice, str) else LlmToolChoice.REQUIRED,
        model_variant=(asked.get("reasoning") or {}).get("effort"),
        output_spec=output,
    )


@over(tuple(filter(comparable, ALL)))
def test_we_would_ask_the_same(exchange: Exchange) -> None:
    asked = exchange.request
    encoder = ResponsesEncoder(OpenAiSettings(), lambda model: ModelCapability())
    body = json.loads(encoder.encode(restored(asked)))
    assert (body["store"], body["stream"]) == (False, True)
    if not any(item.get("role") == "system" for item in asked["input"]):  # which we put into the instructions
        blank = ("message", "assistant", [""], None, None)  # which says nothing, so we leave it out
        assert [_shape(each) for each in body["input"]] == [
            shape for each in asked["input"] if (shape := _shape(each)) != blank
        ]
        assert body.get("instructions") == (asked.get("instructions") or None)
    assert [(each["name"], each["parameters"]) for each in body.get("tools", ())] == [
        (each["name"], each["parameters"]) for each in asked.get("tools", ())
    ]
    assert body.get("text", {}).get("format", {}).get("schema") == (asked.get("text") or {}).get("format", {}).get(
        "schema"
    )
    assert body.get("reasoning", {}).get("effort") == (asked.get("reasoning") or {}).get("effort")


def _shape(item: Mapping[str, Any]) -> Any:
    kind = item.get("type", "message")
    if kind == "message":
        content = item["content"]
        texts = [content] if isinstance(content, str) else [each["text"] for each in content]
        return kind, item["role"], texts, item.get("id"), item.get("phase")
    if kind == "function_call":
        return kind, item["call_id"], item["name"], item["arguments"]
    if kind == "reasoning":
        return kind, item["id"], item["encrypted_content"], item["summary"]
    return kind, item["call_id"], item["output"]


def test_there_are_recordings_where_there_are_any() -> None:
    if not ALL:
        pytest.skip("no recordings")
    assert len(STREAMS) >= 8
    assert len(list(filter(comparable, ALL))) >= 20
