"""Messages against the contract's kit: a real server, on asyncio and on trio."""

from __future__ import annotations

from anthropic_wire import AnthropicWire

from lash_hookspecs.testing.provider import conformance

test_anthropic = conformance(AnthropicWire())
