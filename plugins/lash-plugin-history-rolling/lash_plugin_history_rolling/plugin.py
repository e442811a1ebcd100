"""What the plugin registers: a view without old attachments, a compaction with a summary, and where it stands."""

from __future__ import annotations

from typing import Any

from lash_hookspecs.markers import hookimpl
from lash_hookspecs.plugins import PluginInfo, SessionStateSpec
from lash_plugin_history_rolling.state import RollingOptions, RollingState


@hookimpl
def lash_plugin_info() -> PluginInfo:
    return PluginInfo(
        id="history-rolling",
        version="0.1.0",
        summary="Old attachments out, and a summary in place of what was said long ago.",
        enabled_by_default=False,
        options=RollingOptions,
    )


@hookimpl
def lash_session_state() -> SessionStateSpec:
    return SessionStateSpec(state=RollingState)


@hookimpl(trylast=True)  # of what others show: memory's notes stand for messages, whose attachments aren't shown then
async def lash_prepare_context(ctx: Any, prepared: Any) -> Any:
    from lash_plugin_history_rolling.attachments import without_old

    return without_old(ctx, prepared)


@hookimpl
async def lash_compact(ctx: Any) -> Any:
    from lash_plugin_history_rolling.summary import compact

    return await compact(ctx)
