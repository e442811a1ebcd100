"""Registers `anthropic:NAME`."""

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
        id="provider-anthropic",
        version="0.1.0",
        summary="Anthropic's Messages, and what speaks it.",
        capabilities=["network", "secrets"],
    )


@hookimpl
def lash_providers() -> list[ProviderSpec]:
    """`anthropic`."""
    from lash_plugin_provider_anthropic.specs import ANTHROPIC

    return [ANTHROPIC]
