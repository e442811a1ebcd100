"""Messages for the contract's kit: how a scripted answer looks on this wire, by the vendor's documentation."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lash_hookspecs.llm import LlmTerminalReason as Reason, TokenUsage
from lash_hookspecs.models import ModelCapability
from lash_hookspecs.testing.provider import (
    MODEL,
    RESPONSE_ID,
    STATUSES,
    Ability,
    Call,
    Ends,
    Fails,
    Fault,
    Novelty,
    ProviderSetup,
    Reasoning,
    Said,
    Sealed,
    Text,
    Used,
)
from lash_plugin_provider_anthropic.decode import MessageDecoder
from lash_plugin_provider_anthropic.provider import AnthropicProvider
from lash_plugin_provider_anthropic.settings import AnthropicSettings
from lash_provider_kit.service_wire import ServiceWire, opening_of, settings_of

__all__ = ["STOP_REASONS", "AnthropicWire", "sse"]

STOP_REASONS: Mapping[Reason, str] = {
    Reason.STOP: "end_turn",
    Reason.TOOL_USE: "tool_use",
    Reason.OUTPUT_LIMIT: "max_tokens",
    Reason.CONTENT_FILTER: "refusal",
    Reason.CONTEXT_OVERFLOW: "model_context_window_exceeded",
}

_ERRORS: Mapping[Fault, str] = {
    Fault.AUTH: "authentication_error",
    Fault.INVALID: "invalid_request_error",
    Fault.NO_MODEL: "not_found_error",
    Fault.OVERFLOW: "invalid_request_error",
    Fault.RATE: "rate_limit_error",
    Fault.QUOTA: "billing_error",
    Fault.OVERLOADED: "overloaded_error",
    Fault.SERVER: "api_error",
    Fault.OTHER: "something_new_error",
}


class AnthropicWire(ServiceWire):
    """Messages as Anthropic streams it."""

    provider_id = "anthropic"
    decoder = MessageDecoder
    cannot: Mapping[str, str] = {
        Ability.SEALED_CALLS: "calls have no opaque state of their own here",
        Ability.SEED: "Messages has no seed; the request goes without it",
        Ability.JSON_OBJECT: "Messages takes a schema, or nothing",
        Ability.REFUSAL: "a refusal is a stop reason here, no field",
    }
    statuses: Mapping[Fault, int] = {**STATUSES, Fault.QUOTA: 402, Fault.OVERLOADED: 529}
    payload_keys = frozenset({"input"})

    def open(self, setup: ProviderSetup) -> AnthropicProvider:
        return AnthropicProvider(
            AnthropicSettings(**settings_of(setup)),
            models={MODEL: ModelCapability(images=setup.images)},
            **opening_of(setup),
        )

    def stream(self, said: Sequence[Said]) -> list[bytes]:
        reports = [step.usage for step in said if isinstance(step, Used)]
        # What was read is told at the beginning, and nothing where the script has no report.
        first = _usage(reports[0]) | {"output_tokens": 1} if reports else {}
        events = [sse("message_start", message=_message([], None, first))]
        events += _content_events(said)
        ends = next((step for step in said if isinstance(step, Ends)), None)
        if ends is not None:
            events += [_delta(_reason(ends.reason), reports[-1] if reports else None), sse("message_stop")]
        return events

    def document(self, said: Sequence[Said]) -> bytes:
        content: list[dict[str, Any]] = []
        for kind, steps in _blocks(said):
            match kind:
                case "text":
                    content.append({"type": "text", "text": "".join(step.text for step in steps)})
                case "thinking":
                    content.append(_thinking(steps))
                case "call":
                    content += [_call(step) | {"input": json.loads("".join(step.pieces) or "{}")} for step in steps]
        (usage,) = (_usage(step.usage) for step in said if isinstance(step, Used))
        (reason,) = (step.reason for step in said if isinstance(step, Ends))
        return json.dumps(_message(content, _reason(reason), usage)).encode()

    def error(self, fault: Fault, message: str) -> bytes:
        error = {"type": _ERRORS[fault], "message": message}
        if fault is Fault.OVERFLOW:
            error["message"] = f"prompt is too long: 208310 tokens > 200000 maximum ({message})"
        return json.dumps({"type": "error", "error": error, "request_id": "req_test"}).encode()

    def keep_alive(self) -> bytes:
        return sse("ping")

    def without_cache_marks(self, body: bytes) -> bytes:
        return re.sub(rb',"cache_control":\{[^}]*\}', b"", body)


def sse(kind: str, **fields: Any) -> bytes:
    """One event, its name twice as the service has it."""
    return b"event: %b\ndata: %b\n\n" % (
        kind.encode(),
        json.dumps({"type": kind, **fields}, ensure_ascii=False).encode(),
    )


def _blocks(said: Sequence[Said]) -> list[tuple[str, list[Any]]]:
    """The steps that are content, block by block: neighbours of one kind share one, and a seal ends a block."""
    kinds: Mapping[type, str] = {Text: "text", Reasoning: "thinking", Sealed: "thinking", Call: "call"}
    blocks: list[tuple[str, list[Any]]] = []
    sealed = True
    for step in said:
        kind = kinds.get(type(step))
        if kind is None:
            continue
        if blocks and blocks[-1][0] == kind and not sealed and kind != "call":
            blocks[-1][1].append(step)
        else:
            blocks.append((kind, [step]))
        sealed = isinstance(step, Sealed)
    return blocks


def _content_events(said: Sequence[Said]) -> list[bytes]:
    events: list[bytes] = []
    blocks = iter(_blocks(said))
    content = [step for step in said if isinstance(step, Text | Reasoning | Sealed | Call)]
    ends = any(isinstance(step, Ends) for step in said)
    last = next((step for step in reversed(said) if ends and isinstance(step, Used)), None)  # told with the reason
    done: set[int] = set()
    index = -1
    for step in said:
        match step:
            case Novelty():
                events.append(sse("message_novelty", novelty={"level": 3}))
            case Used(usage) if step is not last:
                events.append(_delta(None, usage))
            case Fails(fault, message):
                events.append(b"event: error\ndata: %b\n\n" % AnthropicWire().error(fault, message))
            case Text() | Reasoning() | Sealed() | Call() if id(step) not in done:
                kind, steps = next(blocks)
                index += 1
                done |= {id(each) for each in steps}
                # Where something else stands between, the block goes on after it.
                events += _block_events(index, kind, steps, _stops(said, content, steps))
            case _:
                pass
    return events


def _stops(said: Sequence[Said], content: Sequence[Said], steps: Sequence[Said]) -> bool:
    """Whether the block is over: something follows it, or the answer ends."""
    return steps[-1] is not content[-1] or any(isinstance(step, Ends) for step in said)


def _block_events(index: int, kind: str, steps: Sequence[Any], stops: bool) -> list[bytes]:
    def delta(kind: str, **fields: Any) -> bytes:
        return sse("content_block_delta", index=index, delta={"type": kind, **fields})

    match kind:
        case "text":
            start: dict[str, Any] = {"type": "text", "text": ""}
            deltas = [delta("text_delta", text=step.text) for step in steps]
        case "thinking" if isinstance(steps[0], Sealed):
            start, deltas = {"type": "redacted_thinking", "data": steps[0].opaque}, []
        case "thinking":
            start = {"type": "thinking", "thinking": "", "signature": ""}
            deltas = [
                delta("thinking_delta", thinking=step.text)
                if isinstance(step, Reasoning)
                else delta("signature_delta", signature=step.opaque)
                for step in steps
            ]
        case _:
            (call,) = steps
            start = _call(call) | {"input": {}}
            deltas = [delta("input_json_delta", partial_json=piece) for piece in ("", *call.pieces)]
    end = [sse("content_block_stop", index=index)] if stops else []
    return [sse("content_block_start", index=index, content_block=start), *deltas, *end]


def _thinking(steps: Sequence[Any]) -> dict[str, Any]:
    if isinstance(steps[0], Sealed):
        return {"type": "redacted_thinking", "data": steps[0].opaque}
    text = "".join(step.text for step in steps if isinstance(step, Reasoning))
    signature = "".join(step.opaque for step in steps if isinstance(step, Sealed))
    return {"type": "thinking", "thinking": text, "signature": signature}


def _call(call: Call) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.call_id, "name": call.name}


def _reason(reason: Reason | str) -> str:
    return STOP_REASONS[reason] if isinstance(reason, Reason) else reason


def _message(content: list[dict[str, Any]], stop: str | None, usage: Mapping[str, Any]) -> dict[str, Any]:
    named = {"id": RESPONSE_ID, "type": "message", "role": "assistant", "model": MODEL}
    return {**named, "content": content, "stop_reason": stop, "stop_sequence": None, "usage": usage}


def _delta(reason: str | None, usage: TokenUsage | None) -> bytes:
    said = {"delta": {"stop_reason": reason, "stop_sequence": None}}
    return sse("message_delta", **said, **({} if usage is None else {"usage": _usage(usage)}))


def _usage(usage: TokenUsage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input,
        "cache_creation_input_tokens": usage.cache_write_input,
        "cache_read_input_tokens": usage.cache_read_input,
        "output_tokens": usage.output,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_output},
    }
