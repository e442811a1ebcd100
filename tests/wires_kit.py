"""The wires of all vendors: how each answers a text, and how a host is told of a server that does."""

from __future__ import annotations

from collections.abc import Mapping
from json import dumps
from typing import Any

from attrs import evolve

from lash_framework.settings import load_settings
from lash_hookspecs.testing.provider.server import Answer, WireServer, raw
from lash_plugin_provider_google import testing as google

__all__ = ["anthropic_text", "gemini_text", "over", "responses_text"]


def anthropic_text(said: str = "Read.") -> Answer:
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "m", "model": "x", "usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": said}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ]
    return raw(*(b"data: %b\n\n" % dumps(each).encode() for each in events))


def responses_text(said: str = "Read.") -> Answer:
    item = {"type": "message", "id": "i", "content": [{"type": "output_text", "text": said}]}
    response = {"id": "r", "model": "x", "status": "completed", "output": [item], "usage": {"input_tokens": 1}}
    return raw(b"data: %b\n\n" % dumps({"type": "response.completed", "response": response}).encode())


def gemini_text(said: str = "Read.") -> Answer:
    return google.text(said)


def over(server: WireServer, provider: str, **options: Any) -> Any:
    """A host whose provider speaks to this server."""
    path = "/v1" if provider.startswith("openai") else ""
    said: Mapping[str, Any] = {"base_url": server.origin + path, "api_key": "key-of-a-test", **options}
    return evolve(load_settings(env={}), provider={provider: said})
