"""OpenAI's Responses and Chat Completions as model providers, the second for whatever else speaks it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lash_plugin_provider_openai.provider import OpenAiChatProvider, open_openai_chat
    from lash_plugin_provider_openai.settings import OpenAiChatSettings

__all__ = ["OpenAiChatProvider", "OpenAiChatSettings", "open_openai_chat"]


def __getattr__(name: str) -> object:
    # Discovery imports this package at every start, to reach `plugin`; only who uses these names pays for them.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "settings" if name == "OpenAiChatSettings" else "provider"
    return getattr(import_module(f"{__name__}.{module}"), name)
