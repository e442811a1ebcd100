"""What a turn has cost, from its records alone: for one of which nothing else is kept. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from lash_framework.cut_calls import is_cut, may_be_cut
from lash_hookspecs.codec import decode
from lash_hookspecs.effect_commands import RuntimeEffectKind
from lash_hookspecs.effect_outcomes import DirectOutcome, LlmCallOutcome
from lash_hookspecs.errors import CodecError
from lash_hookspecs.journal_rows import JournalRow, JournalStatus
from lash_hookspecs.llm import TokenUsage

__all__ = ["recorded_costs"]

_OUTCOMES: dict[str, type[LlmCallOutcome] | type[DirectOutcome]] = {
    RuntimeEffectKind.LLM_CALL: LlmCallOutcome,
    RuntimeEffectKind.DIRECT: DirectOutcome,  # of one that was begun, its intent says what is known
}

_UNKNOWN = TokenUsage(at_least=True)


def recorded_costs(rows: Sequence[JournalRow], *, died: bool) -> TokenUsage:
    """Of all calls of models that the rows tell of; `died`: the process that wrote them was killed."""
    usage = TokenUsage(at_least=may_be_cut(rows, died=died))
    for row in rows:
        if row.kind in _OUTCOMES and row.status is not JournalStatus.FAILED and not is_cut(row):
            try:
                usage += decode(_OUTCOMES[row.kind], row.body).result.usage or TokenUsage()
            except CodecError:
                usage += _UNKNOWN
    return usage
