"""Notes on what was said, made at the end of turns, shown in place of it, and searched by `recall`."""

from __future__ import annotations

from typing import Any

from lash_hookspecs import hookimpl


@hookimpl
def lash_plugin_info() -> Any:
    """Who this is."""
    from lash_plugin_memory.info import INFO

    return INFO


@hookimpl
def lash_tools() -> Any:
    """`recall`."""
    from lash_plugin_memory.recall import recall

    return [recall]


@hookimpl
def lash_prepare_context(ctx: Any, prepared: Any) -> Any:
    """Show notes in the place of what they tell of."""
    from lash_plugin_memory.standing import view

    return view(ctx.options, prepared)


@hookimpl(trylast=True)
async def lash_after_turn(ctx: Any, turn: Any) -> Any:
    """Make notes where enough was said. Last, so that what others say at the end of a turn is noted, too."""
    from lash_plugin_memory.observing import after_turn

    return await after_turn(ctx, turn)


@hookimpl
async def lash_compact(ctx: Any) -> Any:
    """Begin a new frame with the notes."""
    from lash_plugin_memory.observing import compact

    return await compact(ctx)
