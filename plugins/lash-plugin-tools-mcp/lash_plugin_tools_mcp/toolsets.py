"""A connected toolset for each server."""

from __future__ import annotations

from typing import Any

from lash_hookspecs.connected_tools import ConnectedToolSet
from lash_plugin_tools_mcp.asking import AskTool
from lash_plugin_tools_mcp.connection import Connection
from lash_plugin_tools_mcp.options import McpOptions

__all__ = ["toolsets"]


def toolsets(options: McpOptions) -> list[Any]:
    """What `lash_tools` returns. A turn waits twice `wait_s` at most: for a connection, and for the list of tools."""
    wanted = {name: each for name, each in options.servers.items() if each.enabled}
    found: list[Any] = [
        ConnectedToolSet(name=name, connect=Connection(name, each).open, limit_s=2 * each.wait_s + 5)
        for name, each in wanted.items()
    ]
    if any(each.asks for each in wanted.values()):
        found.append(AskTool())
    return found
