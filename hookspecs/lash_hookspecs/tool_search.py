"""`search_tools`: how a model finds tools that it isn't told of at first. A mode with deferred tools has it anyway."""

from __future__ import annotations

from typing import Annotated

from lash_hookspecs.constraints import Ge, Le, MinLen
from lash_hookspecs.toolkit import tool
from lash_hookspecs.tools import ToolCallContext, ToolCallOutput, ToolCallSuccess, ToolError, ToolFailureClass

__all__ = ["search_tools"]


@tool(effect="pure")
async def search_tools(
    ctx: ToolCallContext,
    query: Annotated[str, MinLen(1), "What the tool should do, in a few words, or its name."],
    limit: Annotated[int, Ge(1), Le(20), "How many tools to find at most."] = 5,
) -> ToolCallOutput:
    """Find more tools than those that you are told of. What is found can be called from then on."""
    if ctx.find_tools is None:
        raise ToolError("there are no tools to find here", failure_class=ToolFailureClass.UNAVAILABLE)
    found = ctx.find_tools(query, limit)
    if not found:
        return ToolCallOutput(ToolCallSuccess("no tool matches; try other words"))
    value = [{"name": each.name, "description": each.description} for each in found]
    return ToolCallOutput(ToolCallSuccess(value), reveals=tuple(each.name for each in found))
