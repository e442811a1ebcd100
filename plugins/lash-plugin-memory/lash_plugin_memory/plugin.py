"""Notes on what was said, made at the end of turns, shown in place of it, and searched by `recall`."""

from typing import Any

from lash_hookspecs import hookimpl


@hookimpl
def lash_plugin_info() -> Any:
    from lash_plugin_memory.info import INFO

    return INFO


@hookimpl
def lash_tools() -> Any:
    from lash_plugin_memory.recall import recall

    return [recall]


@hookimpl
def lash_prepare_context(prepared: Any) -> Any:
    from lash_plugin_memory.standing import view

    return view(prepared)


@hookimpl(trylast=True)  # what others say at the end of a turn is noted, too
async def lash_after_turn(ctx: Any, turn: Any) -> Any:
    from lash_plugin_memory.observing import after_turn

    return await after_turn(ctx, turn)


@hookimpl(trylast=True)  # who compacts otherwise keeps the notes, and the latest messages as they were
async def lash_compact(ctx: Any) -> Any:
    from lash_plugin_memory.observing import compact

    return await compact(ctx)
