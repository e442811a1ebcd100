"""The tools: to keep a plan, and to be done with planning. Both only say something; hooks make it so."""

from __future__ import annotations

from typing import Literal

from lash_hookspecs.toolkit import tool
from lash_hookspecs.tools import ToolError, ToolFailureClass
from lash_hookspecs.values import frozen

__all__ = ["PlanStep", "plan_exit", "update_plan"]

MOST, LONGEST = 50, 500


@frozen
class PlanStep:
    """What is to be done, in a few words, and how far it is."""

    step: str
    status: Literal["pending", "in_progress", "completed"] = "pending"


@tool(effect="pure")
async def update_plan(steps: list[PlanStep]) -> str:
    """Keep a plan of several steps. Give all of them, each time: this takes the place of the plan before.

    Mark a step `in_progress` when you begin with it, one at a time, and `completed` as soon as it is done.
    """
    fault = _fault(steps)
    if fault is not None:
        raise ToolError(fault, code="invalid_plan", failure_class=ToolFailureClass.INVALID_REQUEST)
    done = sum(each.status == "completed" for each in steps)
    now = next((f", now: {each.step.strip()}" for each in steps if each.status == "in_progress"), "")
    return f"The plan has {len(steps)} steps, {done} done{now}."


def _fault(steps: list[PlanStep]) -> str | None:
    working = [each.step for each in steps if each.status == "in_progress"]
    if len(working) > 1:
        return f"{len(working)} steps are `in_progress`, and one may be: " + ", ".join(
            f"`{each}`" for each in working[:5]
        )
    if len(steps) > MOST:
        return f"{len(steps)} steps are more than the {MOST} of a plan that anybody reads: take some together"
    for at, each in enumerate(steps, 1):
        if not each.step.strip():
            return f"step {at} says nothing"
        if len(each.step) > LONGEST:
            return f"step {at} has {len(each.step)} characters, and may have {LONGEST}: say it shorter"
    return None


@tool(effect="pure")
async def plan_exit(plan: str) -> str:
    """You have looked enough, and know what to do: give the plan, which a person is asked about. Then do it."""
    return "The person agrees with the plan, and plan mode is off: all tools are there. Carry the plan out now."
