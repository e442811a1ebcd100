"""What the plugin registers: the view of results, a tool that reads what was cut, and what it remembers of that."""

from __future__ import annotations

from typing import Any

from lash_hookspecs.markers import hookimpl
from lash_hookspecs.plugins import PluginInfo, SessionStateSpec
from lash_plugin_tool_budget.state import BudgetOptions, Outputs


@hookimpl
def lash_plugin_info() -> PluginInfo:
    summary = "What a model sees of a long result, and a tool that reads the rest."
    return PluginInfo(
        id="tool-budget", version="0.1.0", summary=summary, enabled_by_default=False, options=BudgetOptions
    )


@hookimpl
def lash_session_state() -> SessionStateSpec:
    return SessionStateSpec(state=Outputs)


@hookimpl
def lash_tools() -> list[Any]:
    from lash_plugin_tool_budget.reading import read_output

    return [read_output]


@hookimpl(trylast=True)  # what others redact is redacted by then, also in what is kept
async def lash_tool_result_view(ctx: Any, call: Any, view: Any) -> Any:
    if ctx.tool_owner == ctx.plugin_id or ctx.parent_call_id is not None or not call.output.is_success:
        return None  # calls within calls are shown to no model
    from lash_plugin_tool_budget.viewing import within_budget

    return await within_budget(ctx, call, view)
