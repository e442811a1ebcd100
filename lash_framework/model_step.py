"""A turn's model calls with the hooks at their seam: decided, streamed, wrapped, recorded, and then rewritten.

The decision before a call and what hooks did on its stream are parts of the call's record. Hooks that rewrite the
answer come once that is recorded, and have a record of their own: an answer that was paid for outlives their failure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio.lowlevel
from attrs import evolve

from lash_framework.budget import charged, over_budget_error
from lash_framework.directives import owned_directives
from lash_framework.effects import envelope
from lash_framework.hooks import HookImpl, first, spoken, wrong_type
from lash_framework.journal_errors import JournalRefusal, effect_label
from lash_framework.machine.answers import answer_text
from lash_framework.model_calls import call_model, of_a_piece, storable
from lash_framework.reply_pieces import ReplyPieces
from lash_framework.stream import ActivityStream
from lash_framework.turn_contexts import TurnContexts
from lash_framework.turn_errors import attachment_lost
from lash_framework.turn_hooks import NO_HOOKS, TurnHooks
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.codec import encode
from lash_hookspecs.contexts import StreamHookContext, TurnHookContext
from lash_hookspecs.directives import AbortTurn, EmitEvents, FailLlmCall, OwnedDirective
from lash_hookspecs.effect_commands import AssistantResponseCommand, LlmCallCommand
from lash_hookspecs.effect_outcomes import (
    AssistantResponseOutcome,
    HookRecord,
    LlmCallOutcome,
    RuntimeEffectOutcome,
    expect,
)
from lash_hookspecs.effects import RuntimeEffectEnvelope, RuntimeScope, child_key
from lash_hookspecs.errors import CodecError, PluginError
from lash_hookspecs.handoffs import HandoffSession
from lash_hookspecs.llm import LlmCallError, LlmResponse, TokenUsage
from lash_hookspecs.model_hooks import AssistantReply
from lash_hookspecs.turn_effects import LlmCall, LlmComplete
from lash_hookspecs.turn_interventions import TurnIntervention, TurnInterventionKind
from lash_hookspecs.turn_outcomes import OverBudget
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from lash_framework.assembly import TurnAssembler

__all__ = ["Answered", "ModelStep"]

_NOTHING = TokenUsage()


@frozen(kw_only=True)
class Answered:
    """What came of a call: the response for the machine, and what the hooks of the call and of its answer did."""

    complete: LlmComplete
    hooks: tuple[HookRecord, ...]
    partial_text: str
    lost_attachments: tuple[str, ...]
    changed_by: tuple[str, ...]
    did: tuple[TurnIntervention, ...]
    over_budget: OverBudget | None

    def tell(self, assembler: TurnAssembler) -> None:
        """What of this the turn says when it is over."""
        assembler.note(map(attachment_lost, self.lost_attachments))
        if self.did or self.changed_by:  # as seldom
            assembler.did((each.plugin_id, each.kind, each.detail) for each in self.did)
            assembler.did((each, TurnInterventionKind.REPLY_CHANGED, "") for each in self.changed_by)


class ModelStep:
    """Makes a turn's model calls, one after the other."""

    def __init__(
        self,
        plan: TurnPlan,
        stream: ActivityStream,
        hooks: TurnHooks,
        contexts: TurnContexts,
    ) -> None:
        self._plan = plan
        self._budget = contexts.budget
        self._stream = stream
        self._hooks = hooks
        self._bind = contexts.bind
        self._around = contexts.around

    @property
    def unanswered(self) -> TokenUsage:
        """What a reply has cost that the machine hasn't been given (yet): the turn may end before it is."""
        return self._budget.unanswered

    async def ask(self, effect: LlmCall, scope: RuntimeScope) -> Answered:
        """Make the call, or take it from its record. What the user must mend (`ConfigurationError`) is raised."""
        stream = self._stream
        asked = envelope(scope, LlmCallCommand(self._plan.provider_id, effect.request), str(effect.id))
        outcome = await self._hooks.recorded(asked, LlmCallOutcome, lambda: self._call(asked, effect))
        result, streamed, partial = outcome.result, outcome.text_streamed, outcome.partial_text or ""
        self._budget.unanswered = result.usage or _NOTHING
        shown = stream.reply()[0] if outcome.is_raw and stream.text_streamed else None
        stream.answered(streamed)
        hooks: tuple[HookRecord, ...] = (outcome.hooks,)
        changed_by: tuple[str, ...] = ()
        if outcome.is_raw and isinstance(result, LlmResponse):
            rewritten = await self._rewritten(asked, result)
            hooks, changed_by = (*hooks, rewritten.hooks), rewritten.changed_by
            if rewritten.response is not None:
                text = answer_text(rewritten.response)
                if streamed and text not in (answer_text(result), shown):
                    streamed = False
                    if shown is not None:
                        stream.take_back()
                result, partial = rewritten.response, text if partial else ""
        self._budget.answered(effect.request, outcome.result)
        return Answered(
            complete=LlmComplete(id=effect.id, result=result, text_streamed=streamed),
            hooks=hooks,
            partial_text=partial,
            lost_attachments=outcome.lost_attachments,
            changed_by=changed_by,
            did=(*effect.did, *outcome.did),
            over_budget=outcome.over_budget,
        )

    def close(self) -> None:
        """The machine has the answer."""
        self._budget.unanswered = _NOTHING

    # ---- the call ---------------------------------------------------------------------------------------------------

    async def _call(self, asked: RuntimeEffectEnvelope, effect: LlmCall) -> LlmCallOutcome:
        """What hooks decide, then the call itself, with all that stands around it."""
        await _let_cancel_in(self._stream)
        if (refused := self._budget.refuse(effect.request, self._plan)) is not None:
            return LlmCallOutcome(over_budget_error(refused), over_budget=refused)
        self._stream.has_asked = True
        self._stream.catch_up()
        hooks = self._plan.composition.hooks
        before, streaming = hooks["lash_before_llm_call"], hooks["lash_assistant_stream"]
        if before or streaming:
            outcome = await self._hooked_call(asked, effect, before, streaming)
        else:
            outcome = await self._executed(asked, effect, None)
        if hooks["lash_assistant_response"] and isinstance(outcome.result, LlmResponse):
            return evolve(outcome, is_raw=True)
        return outcome

    async def _hooked_call(
        self,
        asked: RuntimeEffectEnvelope,
        effect: LlmCall,
        before: tuple[HookImpl, ...],
        streaming: tuple[HookImpl, ...],
    ) -> LlmCallOutcome:
        states = self._plan.states
        mark = states.mark()
        outcome = LlmCallOutcome(LlmCallError(message="the model was not asked"))
        with self._hooks.recording() as made:
            await self._hooks.enter()
            decided = await first(
                before,
                self._bind(TurnHookContext, "lash_before_llm_call"),
                expects=(AbortTurn, FailLlmCall, HandoffSession),
                request=effect.request,
            )
            if decided is not None:
                made.directives = self._hooks.owned([decided], "lash_before_llm_call")
                code, why = _why_not(decided.value)
                text = f"plugin `{decided.plugin_id}` did not let the model be asked: {why}"
                outcome = LlmCallOutcome(LlmCallError(message=text, code=code))
            else:
                bind = self._bind(StreamHookContext, "lash_assistant_stream") if streaming else None
                pieces = None if bind is None else ReplyPieces(streaming, bind, self._stream)
                outcome = await self._executed(asked, effect, pieces)
                if pieces is not None and pieces.failure is not None:
                    states.rollback(mark)  # who fails has changed nothing
        return outcome if made.record is NO_HOOKS else evolve(outcome, hooks=made.record)

    async def _executed(
        self, asked: RuntimeEffectEnvelope, effect: LlmCall, pieces: ReplyPieces | None
    ) -> LlmCallOutcome:
        async def run(_: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
            return await call_model(self._plan, self._stream, effect.request, pieces)

        runner = self._around(run)
        outcome = expect(await runner(asked), LlmCallOutcome)
        if runner is run:
            return outcome
        result = charged(self._plan, outcome.result)  # which a wrapper may have made, of a call of its own
        return outcome if result is outcome.result else evolve(outcome, result=result)

    # ---- its answer -------------------------------------------------------------------------------------------------

    async def _rewritten(self, asked: RuntimeEffectEnvelope, raw: LlmResponse) -> AssistantResponseOutcome:
        """What the hooks make of an answer, from the record if there is one.

        Where the answer is kept, a hook's failure is not: `JournalRefusal` leaves the turn to be gone on with.
        """
        plan = self._plan
        child = envelope(
            asked.invocation.scope,
            AssistantResponseCommand(),
            asked.invocation.subject.effect_id,
            caused_by=asked.invocation.causal_ref(),
            key=child_key(asked.key, "", AssistantResponseCommand.tag),
        )

        async def live() -> AssistantResponseOutcome:
            response, hooks = raw, plan.composition.hooks["lash_assistant_response"]
            by: list[str] = []
            with self._hooks.recording() as made:
                if hooks:
                    await self._hooks.enter()
                    response, made.directives = await self._chained(hooks, raw, by)
            failure = made.record.failure
            if failure is not None and plan.controller.durable:
                raise JournalRefusal("plugin_assistant_response", failure.message, label=effect_label(child))
            if response is raw:
                return AssistantResponseOutcome(hooks=made.record)
            return AssistantResponseOutcome(response=response, hooks=made.record, changed_by=tuple(by))

        return await self._hooks.recorded(child, AssistantResponseOutcome, live)

    async def _chained(
        self, hooks: tuple[HookImpl, ...], raw: LlmResponse, by: list[str]
    ) -> tuple[LlmResponse, tuple[OwnedDirective, ...]]:
        response, shown = raw, list[tuple[str, Any]]()
        bind = self._bind(TurnHookContext, "lash_assistant_response")
        rest = iter(hooks)
        while (heard := await spoken(rest, bind, {"response": response})) is not None:
            impl, given = heard
            if not isinstance(given, LlmResponse | AssistantReply):
                raise wrong_type(impl, given, (LlmResponse, AssistantReply), many=False)
            if isinstance(given, AssistantReply):
                if given.events:
                    shown.append((impl.plugin_id, EmitEvents(given.events)))
                given = given.response
            if isinstance(given, LlmResponse) and given is not response:
                try:
                    given = of_a_piece(response, given)
                except ValueError as error:
                    raise PluginError(impl.plugin_id, impl.hook, f"returned a response that {error}") from error
                response = storable(evolve(given, usage=raw.usage))  # which is what was paid
                by.append(impl.plugin_id)
                try:
                    encode(response)
                except CodecError as error:
                    raise PluginError(impl.plugin_id, impl.hook, f"returned a response that {error}") from error
        return response, owned_directives(shown, "lash_assistant_response") if shown else ()


def _why_not(decided: AbortTurn | FailLlmCall | HandoffSession) -> tuple[str, str]:
    """The code and the words."""
    if isinstance(decided, HandoffSession):
        return "handed_off", "another session goes on"
    return decided.code, decided.message


async def _let_cancel_in(stream: ActivityStream) -> None:
    """A model that never waits must not outrun cancel and deadline, nor keep others from working."""
    if stream.has_asked:
        await anyio.lowlevel.checkpoint()
    else:  # nobody was kept waiting yet: a pass of the event loop can be saved
        await anyio.lowlevel.checkpoint_if_cancelled()
