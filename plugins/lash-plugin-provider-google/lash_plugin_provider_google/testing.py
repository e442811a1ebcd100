"""Answers as Gemini gives them, for tests and benchmarks; `lash_provider_kit.testing.ChatServer` serves them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lash_provider_kit.testing import Answer, document, raw, sse, status

__all__ = ["USAGE", "cut", "error", "event", "parts", "stream", "text", "tools", "whole"]

USAGE = {"promptTokenCount": 12, "candidatesTokenCount": 7, "totalTokenCount": 19}


def event(*content: Mapping[str, Any], finish: str | None = None, usage: Any = USAGE, **fields: Any) -> dict[str, Any]:
    """One event of an answer, which holds these parts; `fields` are added at its top, or replace what is there."""
    candidate: dict[str, Any] = {"content": {"parts": list(content), "role": "model"}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    base = {"candidates": [candidate], "modelVersion": "test-model", "responseId": "test-response"}
    return {**base, **({"usageMetadata": usage} if usage is not None else {}), **fields}


def stream(*events: Any, joined: bool = False, **options: Any) -> Answer:
    """A stream of `events`; `joined` writes it all at once. Options are those of `raw`."""
    # As the service ends its lines.
    pieces = [sse(each)[:-2] + b"\r\n\r\n" for each in events]
    return raw(*([b"".join(pieces)] if joined else pieces), **options)


def parts(*content: Mapping[str, Any], finish: str | None = "STOP", usage: Any = USAGE, **options: Any) -> Answer:
    """An answer of these parts, an event each; the last one holds the finish reason."""
    last = len(content) - 1
    events = (event(each, finish=finish if at == last else None, usage=usage) for at, each in enumerate(content))
    return stream(*events, **options)


def text(*deltas: str, finish: str | None = "STOP", **options: Any) -> Answer:
    """An answer of text, one event per delta. Options are those of `parts`."""
    return parts(*({"text": each} for each in deltas), finish=finish, **options)


def tools(*calls: tuple[str | None, str, Any], signature: str | None = None, **options: Any) -> Answer:
    """An answer of tool calls, each `(id, name, arguments)`, in one event; the first one is signed."""
    content: list[dict[str, Any]] = []
    for call_id, name, arguments in calls:
        call = {"name": name, "args": arguments, **({"id": call_id} if call_id else {})}
        content.append({"functionCall": call})
    if signature is not None:
        content[0]["thoughtSignature"] = signature
    return stream(event(*content, finish="STOP"), **options)


def whole(*content: Mapping[str, Any], finish: str | None = "STOP", **fields: Any) -> Answer:
    """An answer in one piece."""
    body = event(*content, finish=finish, **fields)
    return document(body, content_type="application/json; charset=UTF-8")


def cut(*deltas: str, **options: Any) -> Answer:
    """A stream of text that breaks off after `deltas`, without an end of any kind."""
    return text(*deltas, finish=None, **{"end": "cut", **options})


def error(
    code: int, named: str, message: str = "", *details: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Answer:
    """An error answer; `details` are (`@type` without its package, fields) as Google's errors have them."""
    body: dict[str, Any] = {"code": code, "message": message or f"status {code}", "status": named}
    if details:
        body["details"] = [{**each, "@type": f"type.googleapis.com/google.rpc.{each['@type']}"} for each in details]
    return status(code, json.dumps({"error": body}).encode(), headers=headers)
