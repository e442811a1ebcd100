"""What the model sees of a tool's result, as plugins make it: checked, and with their names."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from attrs import evolve

from lash_framework.faults import IN_RESULT
from lash_framework.hooks import HookImpl, chain
from lash_framework.tool_calls import MAX_RESULT_BYTES
from lash_framework.tool_directives import failed_part
from lash_framework.turn_contexts import TurnContexts
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.codec import encode
from lash_hookspecs.errors import CodecError, PluginError
from lash_hookspecs.tool_contexts import ToolMoment, ToolResultViewContext
from lash_hookspecs.tool_interventions import ToolIntervention, ToolInterventionKind
from lash_hookspecs.tools import AttachmentPart, CompletedToolCall, ModelToolReturn, ModelToolReturnPart, TextPart

__all__ = ["VIEW", "changed_view", "require_blob"]

log = logging.getLogger("lash.tools")

VIEW = "lash_tool_result_view"


async def changed_view(
    plan: TurnPlan, contexts: TurnContexts, views: tuple[HookImpl, ...], done: CompletedToolCall, moment: ToolMoment
) -> tuple[tuple[ModelToolReturnPart, ...] | None, Sequence[ToolIntervention]]:
    """What the model sees instead of what it would see, and who changed it."""
    if not views:
        return None, ()
    plain, states, changed_by = done.model_return, plan.states, list[str]()
    before = states.mark()
    shown = evolve(done, args=moment.call.args, output=moment.result or done.output)
    try:
        bind = contexts.bind(ToolResultViewContext, VIEW, tool=moment)
        view = await chain(
            views, bind, plain, argname="view", expects=ModelToolReturn, changed_by=changed_by, call=shown
        )
        if view.parts == plain.parts:
            changed_by = []
        else:
            await _check_view(plan, changed_by[-1], view)
        states.recorded(before)
    except PluginError as error:
        log.warning("%s", error, exc_info=error, extra=IN_RESULT)
        states.rollback(before)
        return (TextPart(str(error)),), [failed_part(error)]
    kind = ToolInterventionKind.VIEW_CHANGED
    found = [ToolIntervention(plugin_id=each, kind=kind) for each in changed_by]
    return (view.parts if found else None), found


async def _check_view(plan: TurnPlan, plugin_id: str, view: ModelToolReturn) -> None:
    try:
        size = len(encode(view))
    except CodecError as error:
        raise PluginError(plugin_id, VIEW, f"its view {error}") from error
    if size > MAX_RESULT_BYTES:
        raise PluginError(plugin_id, VIEW, f"its view has {size:,} bytes, and may have {MAX_RESULT_BYTES:,}")
    for part in view.parts:
        if isinstance(part, AttachmentPart):
            await require_blob(plan, plugin_id, VIEW, part.reference.id)


async def require_blob(plan: TurnPlan, plugin_id: str, hook: str, blob: str) -> None:
    """Raise `PluginError` for an attachment whose bytes the store doesn't have."""
    if await plan.get_blob(blob) is None:
        raise PluginError(plugin_id, hook, f"attachment `{blob}` is not in the store")
