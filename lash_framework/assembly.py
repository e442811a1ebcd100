"""From what a turn showed while it ran to what it was: the `AssembledTurn`. Pure.

The outcome is, in this order: cancelled, if that won; what the machine said; a failure, if the machine never said that
it was done; a failure, if something blocking went wrong; else the last answer. Nothing is ever found by searching text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import orjson
from attrs import evolve, field

from lash_framework.hooks import HookIssue
from lash_framework.turn_errors import aborted
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.messages import Message, MessageRole, PartKind
from lash_hookspecs.sessions import (
    AssembledTurn,
    AssistantOutput,
    ExecutionSummary,
    OutputState,
    SessionStateEnvelope,
    TokenLedgerEntry,
    TurnIssue,
)
from lash_hookspecs.tools import ToolCallRecord
from lash_hookspecs.turn_events import (
    ChildTokenUsage,
    DoneEvent,
    ErrorEvent,
    LlmRequestEvent,
    SessionEvent,
    TokenUsageEvent,
    ToolCallEvent,
    TurnOutcomeEvent,
)
from lash_hookspecs.turn_interventions import TurnIntervention, TurnInterventionKind
from lash_hookspecs.turn_outcomes import (
    AssistantMessage,
    FinalValue,
    Finished,
    Stopped,
    StopReason,
    TerminationPolicy,
    ToolValue,
    TurnOutcome,
)
from lash_hookspecs.values import mutable

if TYPE_CHECKING:
    from lash_framework.direct_calls import DirectCalls
    from lash_framework.directives import Sorted
    from lash_framework.turn_plan import TurnPlan
    from lash_hookspecs.context_views import ContextView

__all__ = [
    "PARTIAL",
    "RECOVERED",
    "TurnAssembler",
    "assemble_for",
    "classify_output",
    "recover_answer",
    "safe_text",
    "with_observers_issues",
]

RECOVERED = "assistant_output_recovered_from_state"
PARTIAL = "partial_text_kept"

_TRACEBACK_HEADER = "Traceback (most recent call last):"


def _is_traceback_only(text: str) -> bool:
    """Whether it is a Python traceback and nothing else: its header, indented frames, one closing line."""
    # Line by line: a pattern over the whole text took exponential time on long lines of words.
    header, *frames = text.strip().splitlines() or [""]
    if header != _TRACEBACK_HEADER or not frames:
        return False
    *middle, last = frames
    return not last[:1].isspace() and all(not line or line[0].isspace() for line in middle)


def safe_text(raw: str) -> str:
    """The text without blanks at line ends and around it; nothing is left of one that is only a traceback."""
    if _is_traceback_only(raw):
        return ""
    return "\n".join(line.rstrip() for line in raw.splitlines()).strip()


def classify_output(raw: str, *, blocking: bool) -> AssistantOutput:
    """What the text is good for. `blocking`: something went wrong that would have ended the turn."""
    safe = safe_text(raw)
    if not safe:
        state = OutputState.TRACEBACK_ONLY if _is_traceback_only(raw) else OutputState.EMPTY_OUTPUT
    else:
        state = OutputState.RECOVERED_FROM_ERROR if blocking else OutputState.USABLE
    return AssistantOutput(safe_text=safe, raw_text=raw, state=state)


def recover_answer(messages: Sequence[Message]) -> str | None:
    """The text of the last assistant message after the latest user message; tool calls are no text."""
    for message in reversed(messages):
        if message.role is MessageRole.USER:
            return None
        if message.role is MessageRole.ASSISTANT and not message.is_transient:
            texts = [each.content for each in message.parts if each.kind in (PartKind.PROSE, PartKind.TEXT)]
            return "\n".join(texts) if texts else None
    return None


def _value_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def _outcome_text(outcome: TurnOutcome | None) -> str | None:
    match outcome:
        case Finished(finish=AssistantMessage(text=text)):
            return text
        case Finished(finish=FinalValue(value=value)) | Finished(finish=ToolValue(value=value)):
            return _value_text(value)
        case _:
            return None


@mutable
class TurnAssembler:
    """Folds a turn's events; `assemble` says what it was. `partial_text` is kept of a reply that was cut off.

    `last_usage` is that of the last model call: about what the next one begins with.
    """

    tool_calls: list[ToolCallRecord] = field(factory=list)
    issues: list[TurnIssue] = field(factory=list)
    usage: TokenUsage = TokenUsage()
    outcome: TurnOutcome | None = None
    done: bool = False
    llm_calls: int = 0
    partial_text: str = ""
    last_usage: TokenUsage = TokenUsage()
    call_usage: list[TokenUsage] = field(factory=list)
    interventions: dict[tuple[str, TurnInterventionKind, str], int] = field(factory=dict)
    _children: dict[tuple[str, str, str], TokenUsage] = field(factory=dict)

    def note(self, issues: Iterable[TurnIssue]) -> None:
        """Add what isn't noted yet."""
        for each in issues:
            if each not in self.issues:
                self.issues.append(each)

    def take(self, found: Sorted) -> None:
        """What directives of plugins do to the turn, apart from its messages and events."""
        if found.abort is not None:
            self.issues.append(aborted(*found.abort))
        self.did(found.did)

    def shown(self, view: ContextView | None) -> None:
        """What plugins show of the conversation before the turn."""
        if view is not None:
            self.did((each, TurnInterventionKind.CONTEXT_CHANGED, "") for each in view.plugin_ids)

    def did(self, found: Iterable[tuple[str, TurnInterventionKind, str]]) -> None:
        """Plugins did something to the turn."""
        for each in found:
            self.interventions[each] = self.interventions.get(each, 0) + 1

    def fold(self, event: SessionEvent, owner: str | None = None) -> None:
        """Take one event in. `owner` is the plugin of a tool."""
        match event:
            case ToolCallEvent():
                self.tool_calls.append(
                    ToolCallRecord(
                        call_id=event.call_id or "",
                        tool_name=event.name,
                        args=event.args,
                        output=event.output,
                        duration_ms=event.duration_ms,
                        plugin_id=owner,
                        parent_call_id=event.parent_call_id,
                        interventions=event.interventions,
                    )
                )
            case TokenUsageEvent():
                self.usage, self.last_usage = event.cumulative, event.usage
                self.call_usage.append(event.usage)
            case ChildTokenUsage():
                self._children[event.session_id, event.source, event.model] = event.cumulative
            case LlmRequestEvent():
                self.llm_calls += 1
            case ErrorEvent():
                self.issues.append(_issue(event))
            case TurnOutcomeEvent(outcome=outcome):
                self.outcome = outcome
            case DoneEvent():
                self.done = True

    def assemble(
        self,
        *,
        turn_id: str,
        state: SessionStateEnvelope,
        mode_id: str,
        messages: Sequence[Message],
        cancelled: bool = False,
        durable: bool = False,
        termination: TerminationPolicy = TerminationPolicy(),
        aside: Iterable[tuple[str, TurnInterventionKind, str]] = (),
    ) -> AssembledTurn:
        """The turn as a whole. `messages` are its own and those before it, `aside` what plugins did in calls aside."""
        issues = list(self.issues)
        raw = None if cancelled else _outcome_text(self.outcome)
        if raw is None and self.partial_text:
            raw = self.partial_text
            text = "the reply was cut off; what there was of it is kept"
            issues.append(TurnIssue(kind="runtime", code=PARTIAL, message=text, blocking=False))
        elif raw is None:
            raw = recover_answer(messages) or ""
            if raw:
                issues.append(
                    TurnIssue(kind="runtime", code=RECOVERED, message="the last answer was taken", blocking=False)
                )
        interventions = Counter(self.interventions)
        interventions.update(aside)
        blocking = any(each.blocking for each in issues)
        outcome = self._judge(issues, cancelled=cancelled, termination=termination)
        output = classify_output(raw, blocking=blocking)
        match outcome:
            case Finished(finish=AssistantMessage()) | None:
                outcome = Finished(AssistantMessage(output.safe_text))
        return AssembledTurn(
            turn_id=turn_id,
            state=state,
            outcome=outcome,
            assistant_output=output,
            execution=ExecutionSummary(mode=mode_id, had_tool_calls=bool(self.tool_calls), llm_calls=self.llm_calls),
            token_usage=self.usage,
            children_usage=self._children_usage(),
            tool_calls=tuple(self.tool_calls),
            call_usage=tuple(self.call_usage),
            errors=tuple(issues),
            interventions=tuple(
                TurnIntervention(plugin_id=plugin_id, kind=kind, detail=detail, count=count)
                for (plugin_id, kind, detail), count in interventions.items()
            ),
            durable=durable,
        )

    def _judge(self, issues: list[TurnIssue], *, cancelled: bool, termination: TerminationPolicy) -> TurnOutcome | None:
        """How it ended; None: by its last answer."""
        if cancelled:
            return Stopped(StopReason.CANCELLED)
        if self.outcome is not None:
            return self.outcome
        if not self.done and termination.treat_missing_done_as_failure:
            issues.append(TurnIssue(kind="runtime", code="missing_done", message="the turn stalled before its end"))
            return Stopped(StopReason.RUNTIME_ERROR)
        if any(each.blocking for each in issues):
            tool_failed = any(not each.output.is_success for each in self.tool_calls)
            return Stopped(StopReason.TOOL_FAILURE if tool_failed else StopReason.RUNTIME_ERROR)
        return None

    def _children_usage(self) -> tuple[TokenLedgerEntry, ...]:
        totals: dict[tuple[str, str], TokenUsage] = {}
        for (_, source, model), usage in self._children.items():
            totals[source, model] = totals.get((source, model), TokenUsage()) + usage
        return tuple(
            TokenLedgerEntry(source=source, model=model, usage=usage) for (source, model), usage in totals.items()
        )


def assemble_for(
    plan: TurnPlan,
    assembler: TurnAssembler,
    messages: Sequence[Message],
    directs: DirectCalls,
    *,
    cancelled: bool,
) -> AssembledTurn:
    """The turn as it stands; its place in the session is the one before it, until it is committed."""
    head = plan.conversation.head
    for cost in directs.count():
        assembler.fold(cost)
    return assembler.assemble(
        turn_id=plan.turn_id,
        state=SessionStateEnvelope(
            session_id=plan.session_id,
            turn_index=head.turn_index,
            head_revision=head.head_revision,
            leaf_node_id=head.leaf_node_id,
        ),
        mode_id=plan.composition.mode.mode_id,
        messages=messages,
        cancelled=cancelled,
        durable=plan.controller.durable,
        aside=directs.did(),
    )


def _issue(event: ErrorEvent) -> TurnIssue:
    envelope = event.envelope
    if envelope is None:
        return TurnIssue(kind="runtime", message=event.message)
    return TurnIssue(
        kind=envelope.kind,
        code=envelope.code,
        terminal_reason=envelope.terminal_reason,
        message=envelope.user_message or event.message,
        retryable=envelope.retryable,
        provider_failure_kind=envelope.provider_failure_kind,
        raw=envelope.raw,
        plugin_id=envelope.plugin_id,
    )


def with_observers_issues(turn: AssembledTurn, issues: Sequence[HookIssue]) -> AssembledTurn:
    """The turn and what went wrong in those who only watched: it stands."""
    found = [
        TurnIssue(kind="plugin", code=each.hook, message=each.message, plugin_id=each.plugin_id, blocking=False)
        for each in issues
    ]
    return evolve(turn, errors=(*turn.errors, *found)) if found else turn
