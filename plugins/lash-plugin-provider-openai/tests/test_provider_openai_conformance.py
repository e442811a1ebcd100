"""Chat Completions against the contract's kit: a real server, on asyncio and on trio."""

from __future__ import annotations

from openai_chat_wire import ChatWire

from lash_hookspecs.testing.provider import conformance

test_openai_chat = conformance(ChatWire())
