"""What the plugin registers: two tools, the hooks that hold plan mode, and actions that switch it."""

from __future__ import annotations

from typing import Any

from lash_hookspecs.markers import hookimpl
from lash_hookspecs.plugins import PluginInfo, SessionStateSpec
from lash_plugin_plan import hooks
from lash_plugin_plan.state import PlanOptions, PlanState

lash_before_turn, lash_checkpoint = hooks.lash_before_turn, hooks.lash_checkpoint
lash_before_tool_call, lash_after_tool_call = hooks.lash_before_tool_call, hooks.lash_after_tool_call
lash_person_answered = hooks.lash_person_answered


@hookimpl
def lash_plugin_info() -> PluginInfo:
    summary = "Plan mode: look first, act once a person agrees."
    return PluginInfo(id="plan", version="0.1.0", summary=summary, enabled_by_default=False, options=PlanOptions)


@hookimpl
def lash_session_state() -> SessionStateSpec:
    return SessionStateSpec(state=PlanState)


@hookimpl
def lash_tools() -> list[Any]:
    from lash_plugin_plan.tools import plan_exit, update_plan

    return [plan_exit, update_plan]


@hookimpl
def lash_actions() -> list[Any]:
    from lash_plugin_plan.actions import ACTIONS

    return ACTIONS
