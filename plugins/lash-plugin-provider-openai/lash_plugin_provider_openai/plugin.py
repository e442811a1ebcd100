"""Registers `openai:NAME` and `openai-chat:NAME`."""

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
        id="provider-openai",
        version="0.1.0",
        summary="OpenAI's Responses and Chat Completions, and what speaks them.",
        capabilities=["network", "secrets"],
    )


@hookimpl
def lash_providers() -> list[ProviderSpec]:
    """`openai` and `openai-chat`."""
    from lash_plugin_provider_openai.specs import OPENAI, OPENAI_CHAT

    return [OPENAI_CHAT, OPENAI]
