"""A server written with the SDK, which speaks the newest protocol on stdio: its tools change, and it asks."""

from typing import Annotated

from mcp.server.mcpserver import Context, Elicit, MCPServer, Resolve
from pydantic import BaseModel

server = MCPServer("newest")


class Size(BaseModel):
    size: str


@server.tool()
async def grow(ctx: Context) -> str:
    """Learn another tool."""
    server.add_tool(extra)
    await ctx.notify_tools_changed()
    return "grown"


async def extra() -> str:
    """What was learned."""
    return "called extra"


async def which_size() -> Elicit[Size]:
    return Elicit("Which size?", Size)


@server.tool()
async def order(size: Annotated[Size, Resolve(which_size)]) -> str:
    """Order in a size that somebody knows."""
    return f"ordered in {size.size}"


server.run("stdio")
