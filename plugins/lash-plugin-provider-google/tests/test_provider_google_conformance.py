"""Gemini against the contract's kit: a real server, on asyncio and on trio."""

from __future__ import annotations

from gemini_wire import GeminiWire

from lash_hookspecs.testing.provider import conformance

test_google = conformance(GeminiWire())
