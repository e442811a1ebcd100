"""Calls that somebody completes later: what `ctx.defer` does, and what becomes of the answer."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from lash_framework.envelope_hash import EnvelopeHasher
from lash_framework.journal import JournalController
from lash_framework.open_calls import OpenCall
from lash_framework.tool_calls import completed, failure
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.codec import MAX_NESTING, encode
from lash_hookspecs.effect_commands import AwaitEventCommand, RuntimeEffectKind
from lash_hookspecs.effect_outcomes import (
    AwaitEventOutcome,
    ToolCallEffectOutcome,
    ToolCallPending,
)
from lash_hookspecs.journal_rows import JournalRow, JournalStatus
from lash_hookspecs.tools import (
    CompletedToolCall,
    PendingToolCall,
    ToolCallOutput,
    ToolCallSuccess,
    ToolEffect,
    ToolError,
    ToolFailureClass,
    ToolFailureSource,
)
from lash_hookspecs.values import mutable
from lash_hookspecs.waits import (
    InTurn,
    Resolution,
    ResolvedError,
    ResolvedOk,
    ToolCompletionWait,
    WaitKey,
    WaitTimedOut,
    wait_id,
)

__all__ = ["Deferral", "answer_row", "answered", "deferral_of", "wait_of"]

TIMED_OUT = "completion_timeout"
"""The code of a call that nobody completed in time."""


def wait_of(session_id: str, turn_id: str, call_key: str) -> WaitKey:
    """The wait for a call's completion. Models use an id again, so the call is known by its replay key."""
    return WaitKey(InTurn(session_id, turn_id), ToolCompletionWait(call_key))


@mutable(eq=False)
class Deferral:
    """One attempt's `ctx.defer`. `key` is empty unless its tool asked for it; after `until_ms` nobody waits."""

    plan: TurnPlan
    name: str
    callers: Sequence[str]
    call_key: str
    key: str = ""
    until_ms: int | None = None

    def defer(self, timeout_s: float | None = None) -> str:
        """The key under which somebody completes the call; asked again, the same. Raises `ToolError`."""
        refusal = _refusal(self.plan, self.name, self.callers)
        if refusal is not None:
            raise ToolError(refusal[1], code=refusal[0], failure_class=ToolFailureClass.INTERNAL)
        if not self.key:
            self.key = wait_id(wait_of(self.plan.session_id, self.plan.turn_id, self.call_key))
            self.until_ms = None if timeout_s is None else self.plan.now_ms() + round(timeout_s * 1000)
        return self.key

    def outcome(self, outcome: ToolCallEffectOutcome) -> ToolCallEffectOutcome:
        """What came of the tool, which may have put off the end of its call. If it failed then, that is the end."""
        result = outcome.launch.result
        if not self.key or not result.output.is_success:
            return outcome
        return evolve(outcome, launch=ToolCallPending(key=self.key, result=result, until_ms=self.until_ms))


def deferral_of(plan: TurnPlan, call: OpenCall) -> Deferral:
    """The deferral of an attempt, if its tool, its host and its callers let it."""
    return Deferral(plan, call.asked.tool_name, call.callers, call.key)


def _refusal(plan: TurnPlan, name: str, callers: Sequence[str]) -> tuple[str, str] | None:
    tools = plan.tools.catalog.tools
    if not tools[name].tool.manifest.may_defer:
        return "tool_deferral_not_declared", f"`{name}` can't defer its call: it must declare that it may (`may_defer`)"
    if not isinstance(plan.controller, JournalController):
        text = f"`{name}` can't defer its call: this host keeps no journal, and the wait would die with the process"
        return "tool_deferral_not_durable", text
    for caller in callers:  # it is run again when the turn goes on, from its beginning
        if tools[caller].tool.manifest.effect is ToolEffect.UNSAFE:
            text = f"`{name}` can't defer its call: `{caller}`, which has called it, is unsafe and can't be run again"
            return "tool_deferral_within_unsafe", text
    return None


# ---- the answer -----------------------------------------------------------------------------------------------------


def answered(call: PendingToolCall, launch: ToolCallPending, resolution: Resolution) -> CompletedToolCall:
    """The call with its answer."""
    name = call.tool_name
    match resolution:
        case ResolvedOk(value=value):
            output = ToolCallOutput(ToolCallSuccess(value))
        case ResolvedError(code=code, message=message):
            output = failure(code, message, ToolFailureClass.EXECUTION, ToolFailureSource.RUNTIME)
        case WaitTimedOut():
            text = f"nobody completed `{name}` in time"
            output = failure(TIMED_OUT, text, ToolFailureClass.TIMEOUT, ToolFailureSource.RUNTIME)
        case _:
            text = f"nobody will complete `{name}`"
            output = failure("completion_cancelled", text, ToolFailureClass.UNAVAILABLE, ToolFailureSource.RUNTIME)
    return evolve(completed(call, output, launch.result.duration_ms), children=launch.result.children)


def answer_row(session_id: str, turn_id: str, row: JournalRow, launch: ToolCallPending, said: Resolution) -> JournalRow:
    """The row that answers the wait of a call, of which `row` is the record. Raises `CodecError`."""
    asked = EnvelopeHasher().ask(AwaitEventCommand(wait_of(session_id, turn_id, row.key)))
    return JournalRow(
        key=launch.key,
        kind=RuntimeEffectKind.AWAIT_EVENT.value,
        status=JournalStatus.DONE,
        envelope_hash=asked.hash,
        body=encode(AwaitEventOutcome(said), levels=MAX_NESTING),
        digests=asked.written,
        label=f"the completion of {row.label}",
    )
