"""A server's resources as two tools: what there is, and what one says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lash_hookspecs.tools import Tool, ToolCallContext, ToolEffect, ToolManifest
from lash_plugin_tools_mcp.results import resource_texts
from lash_plugin_tools_mcp.texts import visible
from lash_plugin_tools_mcp.tools import in_time

if TYPE_CHECKING:
    from lash_plugin_tools_mcp.connection import Connection

__all__ = ["ListResources", "ReadResource", "resource_tools"]

MOST_RESOURCES = 200


def resource_tools(connection: Connection) -> list[Tool]:
    """Both."""
    return [ListResources(connection), ReadResource(connection)]


class ListResources:
    """What there is."""

    def __init__(self, connection: Connection) -> None:
        self.manifest = ToolManifest(
            name=f"mcp__{connection.name}__list_resources",
            description=f"List the resources of the MCP server `{connection.name}`.",
            effect=ToolEffect.PURE,
        )
        self._connection = connection

    async def call(self, ctx: ToolCallContext, args: Mapping[str, Any]) -> object:
        """The first ones, and templates for URIs of others."""
        from lash_plugin_tools_mcp.sdk import list_resources

        live = await self._connection.ready(self._connection.options.wait_s, patient=True)
        limit = self._connection.options.max_description_chars
        found = await in_time(self._connection, ctx, lambda _: list_resources(self._connection, live))
        rows = [
            {"uri": uri, "name": visible(name, limit), "description": visible(about or "", limit)}
            for uri, name, about in found[:MOST_RESOURCES]
        ]
        return self._connection.redactor.value(rows)


class ReadResource:
    """What one says."""

    def __init__(self, connection: Connection) -> None:
        self.manifest = ToolManifest(
            name=f"mcp__{connection.name}__read_resource",
            description=f"Read a resource of the MCP server `{connection.name}` by its URI.",
            input_schema={"type": "object", "properties": {"uri": {"type": "string"}}, "required": ["uri"]},
            effect=ToolEffect.IDEMPOTENT,  # what a model writes goes to the server: guards let a pure tool pass
        )
        self._connection = connection

    async def call(self, ctx: ToolCallContext, args: Mapping[str, Any]) -> object:
        """Its text; of anything else, what it is."""
        from lash_plugin_tools_mcp.sdk import read_resource

        live = await self._connection.ready(self._connection.options.wait_s, patient=True)
        found = await in_time(self._connection, ctx, lambda _: read_resource(self._connection, live, args["uri"]))
        return self._connection.redactor.text(resource_texts(found))
