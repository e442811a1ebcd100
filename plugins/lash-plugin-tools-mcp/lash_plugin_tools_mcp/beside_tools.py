"""What a server offers beside tools, as tools: its resources, and its prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lash_hookspecs.tools import Tool, ToolCallContext, ToolEffect, ToolManifest
from lash_plugin_tools_mcp.results import prompt_text, resource_texts
from lash_plugin_tools_mcp.texts import visible
from lash_plugin_tools_mcp.tools import asked

if TYPE_CHECKING:
    from mcp.client import Client

    from lash_plugin_tools_mcp.connection import Connection, Live

__all__ = ["GetPrompt", "ListPrompts", "ListResources", "ReadResource", "tools_beside"]

MOST_LISTED = 200


def tools_beside(connection: Connection, client: Client) -> list[Tool]:
    """Those that are wanted, and that the server has."""
    options, has = connection.options, client.server_capabilities
    found: list[Tool] = []
    if options.resources and has.resources is not None:
        found += [ListResources(connection), ReadResource(connection)]
    if options.prompts and has.prompts is not None:
        found += [ListPrompts(connection), GetPrompt(connection)]
    return found


class _Beside:
    """One request of a server, as a tool."""

    name: str
    about: str
    effect = ToolEffect.PURE
    properties: Mapping[str, Any] = {}
    required: tuple[str, ...] = ()

    def __init__(self, connection: Connection) -> None:
        self.manifest = ToolManifest(
            name=f"mcp__{connection.name}__{self.name}",
            description=self.about.format(f"the MCP server `{connection.name}`"),
            input_schema={"type": "object", "properties": self.properties, "required": list(self.required)},
            effect=self.effect,
        )
        self._connection = connection

    async def call(self, ctx: ToolCallContext, args: Mapping[str, Any]) -> object:
        """Ask the server, in time; no secret is in what is returned."""
        connection = self._connection
        return connection.redactor.value(
            await asked(connection, ctx, lambda live, _: self._asked(connection, live, args))
        )

    async def _asked(self, connection: Connection, live: Live, args: Mapping[str, Any]) -> object:
        raise NotImplementedError

    def _shown(self, text: str | None) -> str:
        return visible(text or "", self._connection.options.max_description_chars)


class ListResources(_Beside):
    """What resources there are: the first ones, and templates for URIs of others."""

    name, about = "list_resources", "List the resources of {}."

    async def _asked(self, connection: Connection, live: Live, args: Mapping[str, Any]) -> object:
        from lash_plugin_tools_mcp.sdk import list_resources

        found = (await list_resources(connection, live))[:MOST_LISTED]
        return [
            {"uri": uri, "name": self._shown(name), "description": self._shown(about)} for uri, name, about in found
        ]


class ReadResource(_Beside):
    """What one says: its text; of anything else, what it is."""

    name, about = "read_resource", "Read a resource of {} by its URI."
    effect = ToolEffect.IDEMPOTENT  # what a model writes goes to the server: guards let a pure tool pass
    properties: Mapping[str, Any] = {"uri": {"type": "string"}}
    required = ("uri",)

    async def _asked(self, connection: Connection, live: Live, args: Mapping[str, Any]) -> object:
        from lash_plugin_tools_mcp.sdk import read_resource

        return resource_texts(await read_resource(connection, live, args["uri"]))


class ListPrompts(_Beside):
    """What prompts there are, and what each takes."""

    name, about = "list_prompts", "List the prompts (ready-made instructions) of {}, and their arguments."

    async def _asked(self, connection: Connection, live: Live, args: Mapping[str, Any]) -> object:
        from lash_plugin_tools_mcp.sdk import list_prompts

        return [
            {
                "name": self._shown(each.name),
                "description": self._shown(each.description or each.title),
                "arguments": [
                    {
                        "name": self._shown(one.name),
                        "description": self._shown(one.description),
                        "required": bool(one.required),
                    }
                    for one in each.arguments or ()
                ],
            }
            for each in (await list_prompts(connection, live))[:MOST_LISTED]
        ]


class GetPrompt(_Beside):
    """What one says, as text: who speaks, and what."""

    name, about = "get_prompt", "Read a prompt of {}, filled in with arguments."
    effect = ToolEffect.IDEMPOTENT
    properties: Mapping[str, Any] = {
        "name": {"type": "string"},
        "arguments": {"type": "object", "additionalProperties": {"type": "string"}},
    }
    required = ("name",)

    async def _asked(self, connection: Connection, live: Live, args: Mapping[str, Any]) -> object:
        from lash_plugin_tools_mcp.sdk import get_prompt

        return prompt_text(await get_prompt(connection, live, args["name"], args.get("arguments") or {}))
