"""Gemini for the contract's kit: how a scripted answer looks on this wire."""

from __future__ import annotations

import json
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
    Refusal,
    Said,
    Sealed,
    Text,
    Used,
)
from lash_plugin_provider_google import GoogleProvider, GoogleSettings
from lash_plugin_provider_google.decode import GeminiDecoder
from lash_plugin_provider_google.testing import event
from lash_provider_kit.service_wire import ServiceWire, opening_of, settings_of

__all__ = ["GeminiWire"]

_FINISH = {
    Reason.STOP: "STOP",
    Reason.TOOL_USE: "STOP",
    Reason.OUTPUT_LIMIT: "MAX_TOKENS",
    Reason.CONTENT_FILTER: "SAFETY",
}
_RPC = "type.googleapis.com/google.rpc"
_QUOTA = "GenerateRequestsPer{}PerProjectPerModel"


def _quota(period: str) -> dict[str, Any]:
    return {"@type": f"{_RPC}.QuotaFailure", "violations": [{"quotaId": _QUOTA.format(period)}]}


# Status, what stands before the message, details.
_ERRORS: dict[Fault, tuple[str, str, list[dict[str, Any]]]] = {
    Fault.AUTH: (
        "INVALID_ARGUMENT",
        "API key not valid. ",
        [{"@type": f"{_RPC}.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}],
    ),
    Fault.INVALID: ("INVALID_ARGUMENT", "", []),
    Fault.NO_MODEL: ("NOT_FOUND", "", []),
    Fault.OVERFLOW: (
        "INVALID_ARGUMENT",
        "The input token count (9) exceeds the maximum number of tokens allowed (8). ",
        [],
    ),
    Fault.RATE: ("RESOURCE_EXHAUSTED", "", [_quota("Minute")]),
    Fault.QUOTA: ("RESOURCE_EXHAUSTED", "", [_quota("Day")]),
    Fault.OVERLOADED: ("UNAVAILABLE", "", []),
    Fault.SERVER: ("INTERNAL", "", []),
    Fault.OTHER: ("SOMETHING_NEW", "", []),
}


class GeminiWire(ServiceWire):
    """The Gemini API, as `streamGenerateContent` streams it."""

    provider_id = "google"
    decoder = GeminiDecoder
    statuses: Mapping[Fault, int] = {**STATUSES, Fault.AUTH: 400}
    payload_keys = frozenset({"args"})
    cannot: Mapping[str, str] = {
        Ability.PARTIAL_CALLS: "Gemini sends a call's arguments at once, as an object",
        Ability.REFUSAL: "Gemini has no field for refusals: it blocks, or says so in its text",
        Ability.CACHE_WRITE_USAGE: "Gemini doesn't count what it writes to its cache",
    }

    def open(self, setup: ProviderSetup) -> GoogleProvider:
        return GoogleProvider(
            GoogleSettings(**settings_of(setup)),
            models={} if setup.images else {MODEL: ModelCapability(images=False)},
            **opening_of(setup),
        )

    def stream(self, said: Sequence[Said]) -> list[bytes]:
        events: list[bytes] = []
        for at, step in enumerate(said):
            usage = said[at - 1] if at else None
            match step:
                case Used(counts):
                    # The last event holds both the usage and the reason.
                    if at + 1 == len(said) or not isinstance(said[at + 1], Ends):
                        events.append(_event(usage=_usage(counts)))
                case Ends(reason):
                    finish = _FINISH[reason] if isinstance(reason, Reason) else reason
                    counts = _usage(usage.usage) if isinstance(usage, Used) else None
                    events.append(_event({"text": ""}, finish=finish, usage=counts))
                case Fails(fault, message):
                    events.append(b"data: %b\r\n\r\n" % self.error(fault, message))
                case Novelty():
                    events.append(_data({"somethingNew": {"level": 3}, "responseId": RESPONSE_ID}))
                case _:
                    events.append(_event(_part(step)))
        return events

    def document(self, said: Sequence[Said]) -> bytes:
        (usage,) = (_usage(step.usage) for step in said if isinstance(step, Used))
        (reason,) = (step.reason for step in said if isinstance(step, Ends))
        finish = _FINISH[reason] if isinstance(reason, Reason) else reason
        parts = [_part(step) for step in said if not isinstance(step, Used | Ends)]
        return json.dumps(_named(event(*parts, finish=finish, usage=usage))).encode()

    def error(self, fault: Fault, message: str) -> bytes:
        named, words, details = _ERRORS[fault]
        error: dict[str, Any] = {"code": self.statuses[fault], "message": words + message, "status": named}
        return json.dumps({"error": {**error, **({"details": details} if details else {})}}).encode()


def _part(step: Said) -> dict[str, Any]:
    match step:
        case Text(text):
            return {"text": text}
        case Reasoning(text):
            return {"text": text, "thought": True}
        case Sealed(opaque):
            return {"text": "", "thought": True, "thoughtSignature": opaque}
        case Call():
            call = {"id": step.call_id, "name": step.name, "args": json.loads("".join(step.pieces) or "{}")}
            return {"functionCall": call, **({"thoughtSignature": step.sealed} if step.sealed else {})}
        case Refusal() | Used() | Ends() | Fails() | Novelty():
            raise AssertionError("no part, or see `cannot`")


def _named(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "responseId": RESPONSE_ID, "modelVersion": MODEL}


def _data(fields: dict[str, Any]) -> bytes:
    return b"data: %b\r\n\r\n" % json.dumps(fields, ensure_ascii=False).encode()


def _event(*parts: dict[str, Any], finish: str | None = None, usage: dict[str, int] | None = None) -> bytes:
    return _data(_named(event(*parts, finish=finish, usage=usage)))


def _usage(usage: TokenUsage) -> dict[str, int]:
    counts = {
        "promptTokenCount": usage.input_total,
        "cachedContentTokenCount": usage.cache_read_input,
        "candidatesTokenCount": usage.output - usage.reasoning_output,
        "thoughtsTokenCount": usage.reasoning_output,
        "totalTokenCount": usage.total,
    }
    return {name: count for name, count in counts.items() if count}  # as protocol buffers leave zeros out
