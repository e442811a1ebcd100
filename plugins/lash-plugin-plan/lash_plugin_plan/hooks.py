"""The hooks: what the model is told of and may call follows the policy, and a person says when planning is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lash_hookspecs.markers import hookimpl

if TYPE_CHECKING:
    from lash_hookspecs.contexts import CheckpointHookContext, TurnHookContext
    from lash_hookspecs.questions import PersonAnswer
    from lash_hookspecs.tool_contexts import AfterToolCallContext, AnsweredContext, BeforeToolCallContext
    from lash_hookspecs.tools import PendingToolCall, ToolCallOutput

__all__ = [
    "lash_after_tool_call",
    "lash_before_tool_call",
    "lash_before_turn",
    "lash_checkpoint",
    "lash_person_answered",
]

ON = (
    "Plan mode is on. Look at whatever you need to, change nothing, and ask what you can't find out. "
    "When you know what to do, call `plan_exit` with the plan: somebody reads it, and the work begins when they agree."
)
OFF = "Plan mode is off: all tools are there again."


@hookimpl
async def lash_before_turn(ctx: TurnHookContext) -> Any:
    if ctx.state.enabled is None and ctx.options.start:
        ctx.set_state(ctx.state.switched(True))
    return _settle(ctx)


@hookimpl
async def lash_checkpoint(ctx: CheckpointHookContext) -> Any:
    from lash_hookspecs.checkpoints import CheckpointKind

    return _settle(ctx) if ctx.kind is CheckpointKind.AFTER_WORK else None


def _settle(ctx: TurnHookContext) -> Any:
    """Have the tools as the policy says, and tell the model once when it was switched."""
    from attrs import evolve

    from lash_hookspecs.directives import EnqueueMessages
    from lash_plugin_plan.policy import EXIT, PlanPolicy

    state, planning = ctx.state, bool(ctx.state.enabled)
    hide = PlanPolicy(planning, ctx.options.allow).to_hide(ctx.tools, ctx.tool_owners)
    there = {each.name for each in ctx.tools}
    show = [EXIT] if planning and EXIT not in there else []
    if not planning:
        show = [each for each in state.hidden if each not in there]
    if hide or show:
        ctx.edit_tools(hide=hide, show=show)
    taken = [each for each in hide if each != EXIT]
    new = evolve(
        state, hidden=tuple(dict.fromkeys((*state.hidden, *taken))) if planning else (), guided=state.generation
    )
    if new != state:
        ctx.set_state(new)
    if new.guided == state.guided:
        return None
    return EnqueueMessages.note(ON if planning else OFF)


@hookimpl
async def lash_before_tool_call(ctx: BeforeToolCallContext, call: PendingToolCall) -> Any:
    from lash_plugin_plan.policy import EXIT, PlanPolicy

    refused = PlanPolicy(bool(ctx.state.enabled), ctx.options.allow).refusal(ctx.manifest, ctx.tool_owner)
    if refused is not None:
        from lash_hookspecs.directives import DenyToolCall

        return DenyToolCall(refused[1], code=refused[0])
    if call.tool_name != EXIT:
        return None
    from lash_hookspecs.questions import AskPerson, PersonChoice

    choices = (
        PersonChoice(choice_id="implement", text="leave plan mode, and do it", allows=True),
        PersonChoice(choice_id="keep", text="keep planning (say behind it what is missing)", allows=False),
    )
    return AskPerson("Is this what is to be done?", choices)


@hookimpl
async def lash_person_answered(ctx: AnsweredContext, answer: PersonAnswer) -> Any:
    if answer.allows:
        return None  # somebody else may still deny it: plan mode is over once the call was made
    from lash_hookspecs.directives import DenyToolCall

    why = f": {answer.note}" if answer.note else "."
    return DenyToolCall(f"Plan mode stays on; keep planning{why}", code="keep_planning")


@hookimpl
async def lash_after_tool_call(ctx: AfterToolCallContext, call: PendingToolCall, result: ToolCallOutput) -> Any:
    from lash_plugin_plan.policy import EXIT, UPDATE

    if ctx.tool_owner != ctx.plugin_id or not result.is_success:
        return None
    if call.tool_name == EXIT and not ctx.is_reinspection:
        ctx.set_state(ctx.state.switched(False))
    if call.tool_name != UPDATE:
        return None
    from attrs import asdict, evolve

    from lash_hookspecs.directives import EmitEvents, SurfaceEvent
    from lash_plugin_plan.state import Step

    steps = tuple(Step(each["step"].strip(), each.get("status", "pending")) for each in call.args["steps"])
    if not ctx.is_reinspection:
        ctx.set_state(evolve(ctx.state, steps=steps))
    return EmitEvents((SurfaceEvent(name="plan.updated", payload={"steps": [asdict(each) for each in steps]}),))
