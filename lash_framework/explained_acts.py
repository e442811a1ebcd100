"""What plugins did to a turn, from what is stored with it: who ended it, or changed what was said. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from lash_hookspecs.handoffs import HandoffSession, handoff_to
from lash_hookspecs.sessions import AssembledTurn
from lash_hookspecs.tools import FailControl, FinishControl, ToolCallRecord
from lash_hookspecs.turn_interventions import TurnIntervention, TurnInterventionKind
from lash_hookspecs.turn_outcomes import Finished, Handoff, Stopped, StopReason, ToolFailed, ToolValue
from lash_hookspecs.values import frozen

__all__ = ["ExplainedAct", "acts_of"]


@frozen(kw_only=True)
class ExplainedAct:
    """What a plugin did to the turn."""

    plugin_id: str
    what: str


_WORDS = {
    TurnInterventionKind.ENDED: "ended the turn: {}",
    TurnInterventionKind.HANDED_OFF: "handed the turn off to session `{}`",
    TurnInterventionKind.SESSION_MADE: "made session `{}`",
    TurnInterventionKind.MESSAGES_ADDED: "added messages",
    TurnInterventionKind.MODEL_CALL_REFUSED: "did not let the model be asked: {}",
    TurnInterventionKind.REPLY_CHANGED: "changed what the model had answered",
    TurnInterventionKind.STREAM_CHANGED: "changed a reply on its way to whoever watches",
    TurnInterventionKind.REPLY_ENDED: "ended a reply: {}",
    TurnInterventionKind.CALL_CHANGED: "stood around a model call, and changed what came of it",
    TurnInterventionKind.CALL_FAILED: "failed a model call, in `{}`",
    TurnInterventionKind.REQUEST_CHANGED: "asked the model something else than what shows the conversation: {}",
    TurnInterventionKind.CONTEXT_CHANGED: "changed what the model was shown of the conversation before",
}
_IN_VAIN = {
    TurnInterventionKind.ENDED: "wanted to end the turn: {}",
    TurnInterventionKind.HANDED_OFF: "wanted to hand the turn off to session `{}`",
}


def acts_of(turn: AssembledTurn) -> Iterator[ExplainedAct]:
    """A row for each, the last word of several that wanted to end it as what was done."""
    if turn.compaction is not None:
        what = f"made the conversation before shorter ({turn.compaction.reason.value})"
        yield ExplainedAct(plugin_id=turn.compaction.plugin_id, what=what)
    last = _last_word(turn)
    for each in turn.interventions:
        words = _IN_VAIN[each.kind] if each.kind in _IN_VAIN and each is not last else _WORDS[each.kind]
        times = f" ({each.count} times)" if each.count > 1 else ""
        yield ExplainedAct(plugin_id=each.plugin_id, what=words.format(each.detail) + times)
    ender = None if last is not None else _ending_call(turn)
    if ender is not None:
        what = "handed the turn off" if isinstance(turn.outcome, Handoff) else "ended the turn"
        yield ExplainedAct(plugin_id=ender.plugin_id or "", what=f"{what}, with tool `{ender.tool_name}`")
    for issue in turn.errors:
        if issue.blocking and issue.plugin_id is not None and (last is None or issue.plugin_id != last.plugin_id):
            yield ExplainedAct(plugin_id=issue.plugin_id, what=f"failed: {issue.message}")


def _last_word(turn: AssembledTurn) -> TurnIntervention | None:
    """What a hook did that the turn ended with."""
    for each in reversed(turn.interventions):
        if isinstance(turn.outcome, Handoff):
            if each.kind is TurnInterventionKind.HANDED_OFF and each.detail == turn.outcome.session_id:
                return each
        elif turn.outcome == Stopped(StopReason.PLUGIN_ABORT) and each.kind is TurnInterventionKind.ENDED:
            return each
    return None


def _ending_call(turn: AssembledTurn) -> ToolCallRecord | None:
    """The tool call whose control value the turn ended with: the innermost one, where a tool passed it on."""
    top = next((each for each in turn.tool_calls if each.output.is_success and _ends(turn, each)), None)
    while top is not None:
        inner = [each for each in turn.tool_calls if each.parent_call_id == top.call_id]
        found = next((each for each in inner if each.output.control == top.output.control), None)
        if found is None:
            return top
        top = found
    return None


def _ends(turn: AssembledTurn, call: ToolCallRecord) -> bool:
    match turn.outcome, call.output.control:
        case Handoff(), HandoffSession() as asked:
            return turn.outcome == handoff_to(turn.state.session_id, turn.turn_id, call.call_id, asked)
        case Finished(finish=ToolValue(tool_name=name)), FinishControl():
            return name == call.tool_name
        case Stopped(detail=ToolFailed(tool_name=name)), FailControl():
            return name == call.tool_name
    return False
