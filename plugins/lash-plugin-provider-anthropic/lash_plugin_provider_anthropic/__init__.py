"""Anthropic's Messages as a model provider, for Anthropic itself and for gateways that speak it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lash_plugin_provider_anthropic.provider import AnthropicProvider, open_anthropic
    from lash_plugin_provider_anthropic.settings import AnthropicSettings

__all__ = ["AnthropicProvider", "AnthropicSettings", "open_anthropic"]


def __getattr__(name: str) -> object:
    # Discovery imports this package at every start, to reach `plugin`; only who uses these names pays for them.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "settings" if name == "AnthropicSettings" else "provider"
    return getattr(import_module(f"{__name__}.{module}"), name)
