"""Registers a toolset for each server in `[plugin.tools-mcp.servers]`; without one, nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lash_hookspecs import hookimpl

if TYPE_CHECKING:
    from lash_hookspecs.contexts import CompositionContext
    from lash_hookspecs.plugins import PluginInfo


@hookimpl
def lash_plugin_info() -> PluginInfo:
    """Who this is."""
    from lash_hookspecs.plugins import PluginInfo
    from lash_plugin_tools_mcp.options import McpOptions

    return PluginInfo(
        id="tools-mcp",
        version="0.1.0",
        summary="Tools of MCP servers, over stdio and streamable HTTP.",
        options=McpOptions,
        capabilities=["network", "secrets", "subprocess"],
    )


@hookimpl
def lash_tools(ctx: CompositionContext) -> list[Any]:
    """A toolset for each server. Nothing is connected, and nothing heavy imported, before a turn needs it."""
    if not ctx.options.servers:
        return []
    from lash_plugin_tools_mcp.toolsets import toolsets

    return toolsets(ctx.options)
