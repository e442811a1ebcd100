"""The policy, the tools and the state by themselves."""

from __future__ import annotations

from typing import Any

import pytest

from lash_hookspecs import ToolCallContext, ToolEffect, ToolError, ToolManifest
from lash_plugin_plan.policy import EXIT, UPDATE, PlanPolicy
from lash_plugin_plan.state import PlanState
from lash_plugin_plan.tools import LONGEST, MOST, plan_exit, update_plan


def manifest(name: str, effect: ToolEffect = ToolEffect.UNSAFE) -> ToolManifest:
    return ToolManifest(name=name, effect=effect)


READ, WRITE, SEND = manifest("read", ToolEffect.PURE), manifest("write"), manifest("send", ToolEffect.IDEMPOTENT)
OWNERS = {"read": "files", "write": "files", "send": "mail", EXIT: "plan", UPDATE: "plan"}
TOOLS = [READ, WRITE, SEND, plan_exit.manifest, update_plan.manifest]


@pytest.mark.parametrize(
    ("policy", "hidden"),
    [
        (PlanPolicy(True), ["write", "send"]),
        (PlanPolicy(True, ("mail:send",)), ["write"]),
        (PlanPolicy(True, ("files:w*",)), ["send"]),
        (PlanPolicy(True, ("*:*",)), []),
        (PlanPolicy(True, ("send", "files:send", "mail:write", "mai:l:send", ":send")), ["write", "send"]),
        (PlanPolicy(True, ("Files:write", "files:W*", "mail:send ")), ["write", "send"]),
        (PlanPolicy(False), [EXIT]),
        (PlanPolicy(False, ("mail:send",)), [EXIT]),
    ],
)
def test_what_is_hidden_is_what_would_be_refused(policy: PlanPolicy, hidden: list[str]) -> None:
    """And a tool is let through as its plugin's: another one's of the same name isn't."""
    assert policy.to_hide(TOOLS, OWNERS) == hidden
    assert [each.name for each in TOOLS if policy.refusal(each, OWNERS[each.name])] == hidden


def test_switching_counts_only_if_it_changes_something() -> None:
    state = PlanState()
    assert state.switched(True).generation == 1
    assert state.switched(True).switched(True).generation == 1
    assert state.switched(True).switched(False).generation == 2


async def called(tool: Any, args: dict[str, Any]) -> Any:
    ctx = ToolCallContext(
        session_id="s", turn_id="t", call_id="c", tool_name=tool.manifest.name, plugin_id="plan", idempotency_key="k"
    )
    return await tool.call(ctx, args)


def steps(*statuses: str) -> dict[str, Any]:
    return {"steps": [{"step": f"step {at}", "status": each} for at, each in enumerate(statuses)]}


async def test_a_plan_says_how_far_it_is() -> None:
    assert update_plan.manifest.name == UPDATE
    said = await called(update_plan, steps("completed", "in_progress", "pending"))
    assert said == "The plan has 3 steps, 1 done, now: step 1."
    assert await called(update_plan, {"steps": []}) == "The plan has 0 steps, 0 done."


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (steps("in_progress", "in_progress"), "2 steps are `in_progress`"),
        (steps(*["pending"] * (MOST + 1)), "more than"),
        ({"steps": [{"step": " "}]}, "step 1 says nothing"),
        ({"steps": [{"step": "x" * (LONGEST + 1)}]}, "may have"),
    ],
)
@pytest.mark.statement(85, page="plugin-system")
async def test_a_plan_that_isnt_one_is_refused(args: dict[str, Any], says: str) -> None:
    """The model reads why; the plan before stays."""
    with pytest.raises(ToolError, match=says):
        await called(update_plan, args)
