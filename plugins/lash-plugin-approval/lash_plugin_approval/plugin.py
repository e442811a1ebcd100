"""What the plugin registers: its options, what it remembers, two hooks around calls, and actions."""

from __future__ import annotations

from typing import Any

from lash_hookspecs.markers import hookimpl
from lash_hookspecs.plugins import PluginInfo, SessionStateSpec
from lash_plugin_approval.options import ApprovalOptions, Remembered


@hookimpl
def lash_plugin_info() -> PluginInfo:
    return PluginInfo(
        id="approval",
        version="0.1.0",
        summary="Rules allow, deny or ask a person about each tool call.",
        enabled_by_default=False,
        options=ApprovalOptions,
        capabilities=frozenset({"filesystem"}),
    )


@hookimpl
def lash_session_state() -> SessionStateSpec:
    return SessionStateSpec(state=Remembered)


@hookimpl(trylast=True)  # where nothing changes the arguments any more
async def lash_before_tool_call(ctx: Any) -> Any:
    from lash_plugin_approval.deciding import decide

    return await decide(ctx)


@hookimpl
async def lash_person_answered(ctx: Any, answer: Any) -> Any:
    from lash_plugin_approval.deciding import learn

    return await learn(ctx, answer)
