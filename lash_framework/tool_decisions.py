"""What is decided before a tool call is made: by hooks, and by the people whom they ask."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from lash_framework.journal import JournalController
from lash_framework.journal_errors import JournalRefusal
from lash_framework.open_calls import OpenCall
from lash_framework.recorded_only import RecordedOnly
from lash_framework.tool_calls import completed
from lash_framework.tool_hooks import ToolHooks
from lash_framework.tool_questions import answers_to
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.tools import ToolCallOutput

__all__ = ["decide", "heed", "require_tools"]


async def decide(hooks: ToolHooks, call: OpenCall) -> None:
    """Ask the hooks before the tool. They may change the call's arguments, end it here, or have questions."""
    found = await hooks.before(call.asked, call.place, call.callers)
    call.found = found.interventions
    call.hooks.append(found.hooks)
    call.questions = found.questions
    if found.args is not None:
        call.asked = evolve(call.asked, args=found.args)
    if found.output is not None:
        if found.questions:
            call.unasked = found.output
        else:
            _end(hooks, call, found.output)


async def heed(plan: TurnPlan, hooks: ToolHooks, call: OpenCall) -> None:
    """Take what people answered about the call, if it had questions. Raises `EffectsSuspended` while they haven't."""
    if not call.questions:
        return
    answers = await answers_to(plan, call.place.scope, call.asked.call_id, call.questions)
    if _is_gone(plan, call):  # with nobody there to hear it, it would be recorded that nothing came of the answer
        raise _gone(call, "about which a person was asked")
    found = await hooks.answered(call.asked, call.place, call.questions, answers)
    call.questions = ()
    call.found += found.interventions
    call.hooks.append(found.hooks)
    output = found.output or call.unasked
    if output is not None:
        _end(hooks, call, output)


def require_tools(plan: TurnPlan, batch: Sequence[OpenCall]) -> None:
    """Raise `JournalRefusal` if a call is still to be made of a tool that the model was told of, and that is gone.

    A turn that goes on may lack it by mistake, such as a forgotten option; that there is no such tool is recorded for
    good.
    """
    for call in batch:
        if _is_gone(plan, call) and any(each.name == call.asked.tool_name for each in plan.tools.told or ()):
            raise _gone(call, "of which the model was told")


def _gone(call: OpenCall, whose: str) -> JournalRefusal:
    name = call.asked.tool_name
    text = f"`{name}`, {whose}, isn't here any more: name its plugin, or give the same tools"
    return JournalRefusal("tool_gone", text, label=f"tool_call `{name}` ({call.asked.call_id})")


def _is_gone(plan: TurnPlan, call: OpenCall) -> bool:
    """Whether a call is still to be made here, and its tool is gone."""
    journal = plan.controller
    if not isinstance(journal, JournalController) or (isinstance(journal, RecordedOnly) and journal.ends):
        return False
    return call.asked.tool_name not in plan.tools.catalog.tools and not journal.recorded.has(call.place.key)


def _end(hooks: ToolHooks, call: OpenCall, output: ToolCallOutput) -> None:
    """The call isn't made: this is what it comes to."""
    call.raw = evolve(completed(call.asked, output), interventions=call.found)
    hooks.room.take(call.place.key, call.raw)
    if not hooks.looks:
        call.result = call.raw
