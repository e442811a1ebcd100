"""Registers the scripted provider."""

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
        id="provider-scripted",
        version="0.1.0",
        summary="A model that says what it was told to say.",
        capabilities=["filesystem"],  # scripts
    )


@hookimpl
def lash_providers() -> list[ProviderSpec]:
    """`scripted:demo`, and `scripted:<path>`."""
    from lash_plugin_provider_scripted.specs import SCRIPTED

    return [SCRIPTED]
