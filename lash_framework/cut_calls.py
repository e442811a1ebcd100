"""Model calls that were cut: somebody may have paid for them, and nobody has the reply. Pure.

A model call has no intent of its own, so a row says that one was cut: an intent whose key is no effect's. It is behind
what was recorded before the cut; what happens outside later on is recorded behind it, such as the next reply, whose
usage says "at least" then. A direct call has an intent: it may be made within an effect that isn't run again.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import evolve

from lash_hookspecs.canonical import content_hash
from lash_hookspecs.effect_commands import DirectCommand, RuntimeEffectCommand, RuntimeEffectKind
from lash_hookspecs.effect_outcomes import DirectOutcome, LlmCallOutcome
from lash_hookspecs.journal_rows import JournalRow, JournalStatus
from lash_hookspecs.llm import LlmCallError, TokenUsage

__all__ = ["EXTERNAL", "asks_somebody", "at_least", "begun", "cut_row", "is_cut", "may_be_cut"]

_K = RuntimeEffectKind

EXTERNAL = frozenset({_K.LLM_CALL, _K.DIRECT, _K.TOOL_CALL, _K.EXEC_CODE, _K.SLEEP, _K.PROCESS, _K.AWAIT_EVENT})
"""What happens outside of the turn. All else is internal: it can be done again if its record is lost."""


def cut_row(place: int) -> JournalRow:
    """The row that says so; `place` is how many rows there are before it."""
    hash = content_hash(f"lash.cut {place}".encode())
    label = "a model call that was cut"
    return JournalRow(key=hash, kind=_K.LLM_CALL.value, status=JournalStatus.INTENT, envelope_hash=hash, label=label)


def is_cut(row: JournalRow) -> bool:
    """Whether the row is such a one."""
    return row.kind == _K.LLM_CALL and row.status is JournalStatus.INTENT


def may_be_cut(rows: Sequence[JournalRow], *, died: bool) -> bool:
    """Whether a model call was cut that no reply tells of yet; `died`: the process that wrote the rows was killed.

    Once an external effect started, every model call before it was durable: who died with a call open made no other.
    """
    last = next((row for row in reversed(rows) if row.kind in EXTERNAL and row.kind != _K.DIRECT), None)
    if last is None or last.status is not JournalStatus.INTENT:
        return died
    return is_cut(last)


def begun(command: DirectCommand) -> DirectOutcome:
    """What is known of a direct call that was begun: somebody may have paid for it."""
    error = LlmCallError(message="the call was begun, and has no outcome", usage=TokenUsage(at_least=True))
    model = f"{command.provider_id}:{command.request.model}"
    return DirectOutcome(error, command.usage_source, model, command.before)


def asks_somebody(command: RuntimeEffectCommand) -> bool:
    """Whether a second execution may be paid twice. What says what another session's turn has cost asks nobody."""
    return not isinstance(command, DirectCommand) or bool(command.request.messages)


def at_least(outcome: LlmCallOutcome | DirectOutcome) -> LlmCallOutcome | DirectOutcome:
    """The outcome of a call that somebody may have paid for before."""
    usage = (outcome.result.usage or TokenUsage()) + TokenUsage(at_least=True)
    return evolve(outcome, result=evolve(outcome.result, usage=usage))
