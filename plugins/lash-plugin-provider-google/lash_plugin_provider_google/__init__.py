"""Google's Gemini as a model provider: its own API, or Vertex AI's."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lash_plugin_provider_google.provider import GoogleProvider, open_google
    from lash_plugin_provider_google.settings import GoogleSettings

__all__ = ["GoogleProvider", "GoogleSettings", "open_google"]


def __getattr__(name: str) -> object:
    # Discovery imports this package at every start, to reach `plugin`; only who uses these names pays for them.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "settings" if name == "GoogleSettings" else "provider"
    return getattr(import_module(f"{__name__}.{module}"), name)
