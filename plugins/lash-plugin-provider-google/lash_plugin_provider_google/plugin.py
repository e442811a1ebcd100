"""Registers `google:NAME`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lash_hookspecs import hookimpl

if TYPE_CHECKING:
    from lash_hookspecs.llm import ProviderSpec
    from lash_hookspecs.plugins import PluginInfo


@hookimpl
def lash_plugin_info() -> PluginInfo:
    """Who this is."""
    from lash_hookspecs.plugins import PluginInfo

    return PluginInfo(
        id="provider-google",
        version="0.1.0",
        summary="Google's Gemini, by its own API or by Vertex AI.",
        capabilities=["network", "secrets"],
    )


@hookimpl
def lash_providers() -> list[ProviderSpec]:
    """`google`."""
    from lash_plugin_provider_google.specs import GOOGLE

    return [GOOGLE]
