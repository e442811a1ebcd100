"""The actions: plan mode on, off, or the other way round, and the plan as it is."""

from __future__ import annotations

from typing import Any

from lash_hookspecs.actions import Action, ActionContext

__all__ = ["ACTIONS"]


def _is_on(ctx: ActionContext) -> bool:
    """Before the first turn nobody has said: it will be as the options say."""
    return bool(ctx.options.start if ctx.state.enabled is None else ctx.state.enabled)


def _switch(ctx: ActionContext, on: bool) -> bool:
    ctx.set_state(ctx.state.switched(on))
    return on


def plan_enable(ctx: ActionContext) -> bool:
    "Switch plan mode on, from the session's next turn."
    return _switch(ctx, True)


def plan_disable(ctx: ActionContext) -> bool:
    "Switch plan mode off, from the session's next turn."
    return _switch(ctx, False)


def plan_toggle(ctx: ActionContext) -> bool:
    "Switch plan mode on if it is off, and off if it is on; says which."
    return _switch(ctx, not _is_on(ctx))


def plan_show(ctx: ActionContext) -> dict[str, Any]:
    "Whether plan mode is on, and the steps of the plan."
    steps = [{"step": each.step, "status": each.status} for each in ctx.state.steps]
    return {"enabled": _is_on(ctx), "steps": steps}


ACTIONS = [
    *(Action.command(each, session="required") for each in (plan_enable, plan_disable, plan_toggle)),
    Action.query(plan_show, session="required"),
]
