"""Chat Completions for the contract's kit: how a scripted answer looks on this wire."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from lash_hookspecs.llm import LlmTerminalReason as Reason, TokenUsage
from lash_hookspecs.testing.provider import (
    MODEL,
    RESPONSE_ID,
    Ability,
    Call,
    Ends,
    Fails,
    Fault,
    Novelty,
    ProviderSetup,
    Reasoning,
    Refusal,
    Said,
    Sealed,
    Text,
    Used,
)
from lash_plugin_provider_openai.decode import ChatDecoder
from lash_plugin_provider_openai.provider import OpenAiChatProvider
from lash_plugin_provider_openai.settings import OpenAiChatSettings
from lash_provider_kit.service_wire import ServiceWire, opening_of, settings_of

__all__ = ["ChatWire", "OpenRouterWire"]

_FINISH = {
    Reason.STOP: "stop",
    Reason.TOOL_USE: "tool_calls",
    Reason.OUTPUT_LIMIT: "length",
    Reason.CONTENT_FILTER: "content_filter",
}

_ERRORS: Mapping[Fault, tuple[str, str | None]] = {
    Fault.AUTH: ("invalid_request_error", "invalid_api_key"),
    Fault.INVALID: ("invalid_request_error", None),
    Fault.NO_MODEL: ("invalid_request_error", "model_not_found"),
    Fault.OVERFLOW: ("invalid_request_error", "context_length_exceeded"),
    Fault.RATE: ("requests", "rate_limit_exceeded"),
    Fault.QUOTA: ("insufficient_quota", "insufficient_quota"),
    Fault.OVERLOADED: ("server_error", "engine_overloaded"),
    Fault.SERVER: ("server_error", None),
    Fault.OTHER: ("something_new", None),
}


class ChatWire(ServiceWire):
    """OpenAI's own dialect, with DeepSeek's reasoning."""

    provider_id = "openai-chat"
    decoder = ChatDecoder
    replay: Literal["omit", "reasoning_details"] = "omit"
    cannot: Mapping[str, str] = {
        Ability.SEALED: "Chat Completions has no opaque state of reasoning, but for OpenRouter's dialect",
        Ability.SEALED_CALLS: "Chat Completions has no opaque state of calls",
    }

    def open(self, setup: ProviderSetup) -> OpenAiChatProvider:
        settings = settings_of(setup, "/v1")
        made = OpenAiChatSettings(reasoning_replay=self.replay, images=setup.images, **settings)
        return OpenAiChatProvider(made, **opening_of(setup))

    def stream(self, said: Sequence[Said]) -> list[bytes]:
        events = [_chunk({"role": "assistant", "content": ""})]
        calls = sum(isinstance(step, Call) for step in said)
        for step in said:
            match step:
                case Text(text):
                    events.append(_chunk({"content": text}))
                case Reasoning(text):
                    events.append(_chunk({"reasoning_content": text}))
                case Refusal(text):
                    events.append(_chunk({"refusal": text}))
                case Call():
                    index = calls - sum(isinstance(each, Call) for each in said[said.index(step) :])
                    first = {"index": index, "id": step.call_id, "type": "function"}
                    events.append(_chunk({"tool_calls": [{**first, "function": {"name": step.name, "arguments": ""}}]}))
                    functions = [{"arguments": piece} for piece in step.pieces]
                    events += [_chunk({"tool_calls": [{"index": index, "function": each}]}) for each in functions]
                case Used(usage):
                    events.append(_event(choices=[], usage=_usage(usage)))
                case Ends(reason):
                    name = _FINISH[reason] if isinstance(reason, Reason) else reason
                    events += [_chunk({}, name), b"data: [DONE]\n\n"]
                case Fails(fault, message):
                    events.append(b"data: %b\n\n" % self.error(fault, message))
                case Novelty():
                    events.append(_event(object="chat.completion.novelty", novelty={"level": 3}))
                case Sealed(opaque):
                    detail = {"type": "reasoning.encrypted", "data": opaque, "index": said.index(step), "format": "x"}
                    events.append(_chunk({"reasoning_details": [detail]}))
        return events

    def document(self, said: Sequence[Said]) -> bytes:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": "".join(step.text for step in said if isinstance(step, Text)),
            "reasoning_content": "".join(step.text for step in said if isinstance(step, Reasoning)) or None,
            "tool_calls": [
                {
                    "id": each.call_id,
                    "type": "function",
                    "function": {"name": each.name, "arguments": "".join(each.pieces)},
                }
                for each in said
                if isinstance(each, Call)
            ],
        }
        (usage,) = (_usage(step.usage) for step in said if isinstance(step, Used))
        (reason,) = (step.reason for step in said if isinstance(step, Ends))
        finish = _FINISH[reason] if isinstance(reason, Reason) else reason
        choices = [{"index": 0, "message": message, "finish_reason": finish}]
        named = {"id": RESPONSE_ID, "object": "chat.completion", "created": 1, "model": MODEL}
        return json.dumps({**named, "choices": choices, "usage": usage}).encode()

    def error(self, fault: Fault, message: str) -> bytes:
        kind, code = _ERRORS[fault]
        return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


class OpenRouterWire(ChatWire):
    """The dialect whose reasoning has opaque state."""

    replay = "reasoning_details"
    cannot: Mapping[str, str] = {Ability.SEALED_CALLS: "Chat Completions has no opaque state of calls"}


def _event(**fields: Any) -> bytes:
    named = {"id": RESPONSE_ID, "object": "chat.completion.chunk", "created": 1, "model": MODEL}
    return b"data: %b\n\n" % json.dumps({**named, **fields}, ensure_ascii=False).encode()


def _chunk(delta: Mapping[str, Any], finish: str | None = None) -> bytes:
    return _event(choices=[{"index": 0, "delta": delta, "finish_reason": finish}])


def _call(call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": "".join(call.pieces)}
    return {"id": call.call_id, "type": "function", "function": function}


def _usage(usage: TokenUsage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_total,
        "completion_tokens": usage.output,
        "total_tokens": usage.total,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read_input,
            "cache_write_tokens": usage.cache_write_input,
        },
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_output},
    }
