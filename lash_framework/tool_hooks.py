"""The hooks around a tool call: before it and after it, each an effect, so that a replay calls none of them.

One call's hooks run at a time, whoever calls: they may change what plugins remember. What comes of what they say is
`tool_fold`'s to decide; here they are called, and what was decided is recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import takewhile
from typing import Any

import anyio
from attrs import evolve

from lash_framework.call_rows import hooks_key
from lash_framework.effects import envelope
from lash_framework.faults import IN_RESULT
from lash_framework.hook_effects import NO_HOOKS, hook_effect, take_over
from lash_framework.hook_orders import HookOrders, recorded_changes
from lash_framework.hooks import Bind, HookImpl, items_of, spoken
from lash_framework.journal import JournalController
from lash_framework.result_room import ResultRoom
from lash_framework.session_tools import Refusal
from lash_framework.tool_calls import completed, model_return, refused, was_refused
from lash_framework.tool_directives import (
    ALLOWED,
    asked_part,
    checked,
    denied_part,
    failed_output,
    failed_part,
    interventions,
    lasting,
    named_blobs,
    ruled_output,
    trace,
)
from lash_framework.tool_fold import Ruling, Said, fold, shown
from lash_framework.tool_questions import denial, questions_of, unaskable
from lash_framework.tool_views import VIEW, changed_view, require_blob
from lash_framework.turn_contexts import TurnContexts
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.directives import DenyToolCall, OwnedDirective
from lash_hookspecs.effect_commands import RuntimeEffectKind, ToolHooksCommand, ToolSeam
from lash_hookspecs.effect_outcomes import HookRecord, ToolHooksOutcome
from lash_hookspecs.effects import RuntimeScope
from lash_hookspecs.errors import PluginError
from lash_hookspecs.questions import PersonAnswer, PersonQuestion
from lash_hookspecs.tool_contexts import (
    AfterToolCallContext,
    AnsweredContext,
    BeforeToolCallContext,
    ToolMoment,
)
from lash_hookspecs.tool_interventions import ToolIntervention
from lash_hookspecs.tools import CompletedToolCall, PendingToolCall, ToolCallOutput
from lash_hookspecs.values import frozen

__all__ = ["CallPlace", "ToolHooks"]

log = logging.getLogger("lash.tools")

_CONTEXTS = {
    ToolSeam.BEFORE: BeforeToolCallContext,
    ToolSeam.ANSWERED: AnsweredContext,
    ToolSeam.AFTER: AfterToolCallContext,
}
_HOOKS = {
    ToolSeam.BEFORE: "lash_before_tool_call",
    ToolSeam.ANSWERED: "lash_person_answered",
    ToolSeam.AFTER: "lash_after_tool_call",
}
_NOTHING_SAID = Ruling()

_BEHIND = (RuntimeEffectKind.LLM_CALL, RuntimeEffectKind.CHECKPOINT, RuntimeEffectKind.TURN_END)
"""What follows a batch: where one of these is recorded, the batch's results were taken."""


@frozen
class CallPlace:
    """Where a call is: its scope, its replay key, and the call whose tool makes it."""

    scope: RuntimeScope
    key: str
    parent_id: str | None = None


class ToolHooks:
    """The hooks around one turn's tool calls. `show` is told of each record: the events in it are for watchers.

    Without hooks, and without records of some, nothing is asked: `decides` says whether there are any before a tool,
    `looks` whether there are any that see its result, `room` what the turn's results take. Raises
    `EffectControllerError` if the boundary failed; a hook's own failure is the call's.
    """

    def __init__(self, plan: TurnPlan, contexts: TurnContexts, show: Callable[[HookRecord], object]) -> None:
        hooks = plan.composition.hooks
        self._plan = plan
        self._contexts = contexts
        self._show = show
        self._impls = {seam: hooks[name] for seam, name in _HOOKS.items()}
        self._views = hooks[VIEW]
        # What a plugin decided that is gone since holds: a call that it denied is not made.
        self._journal = plan.controller if isinstance(plan.controller, JournalController) else None
        recorded = self._journal is not None and self._journal.recorded.has_kind(RuntimeEffectKind.TOOL_HOOKS)
        self.decides = recorded or bool(self._impls[ToolSeam.BEFORE])
        self.looks = recorded or bool(self._impls[ToolSeam.AFTER] or self._views)
        self.room = ResultRoom()
        self._lock = anyio.Lock()
        self._orders = HookOrders(plan.states)
        self._caught_up = False

    async def before(self, call: PendingToolCall, place: CallPlace, callers: Sequence[str] = ()) -> ToolHooksOutcome:
        """What is decided before a tool runs: the call's arguments, what it comes to, or what a person is asked.

        Nothing for a call that was begun when nobody was asked, by a host without these plugins: it is too late.
        """
        journal, key = self._journal, hooks_key(place.key, ToolSeam.BEFORE)
        if journal is not None and journal.recorded.has(place.key) and not journal.recorded.has(key):
            return ToolHooksOutcome(call_id=call.call_id)
        # Whatever is called is decided about: what a search found, too, and what only tools call.
        refusal = self._plan.tools.refusal(call.tool_name, nested=place.parent_id is not None)
        live = partial(self._decide, place.key, call, callers)
        return await self._ask(ToolSeam.BEFORE, key, call, place, live, refusal)

    async def answered(
        self,
        call: PendingToolCall,
        place: CallPlace,
        questions: Sequence[PersonQuestion],
        answers: Sequence[PersonAnswer],
    ) -> ToolHooksOutcome:
        """What becomes of a call that people were asked about: its denial, by one of them or by a plugin, if any."""
        key = hooks_key(place.key, ToolSeam.ANSWERED)
        call = evolve(call, args=questions[0].args)  # as they were shown
        return await self._ask(ToolSeam.ANSWERED, key, call, place, partial(self._conclude, call, questions, answers))

    def was_answered(self, place: CallPlace) -> bool:
        """Whether the hooks have heard of the answers already, as a record says."""
        return self._journal is not None and self._journal.recorded.has(hooks_key(place.key, ToolSeam.ANSWERED))

    async def after(self, done: CompletedToolCall, place: CallPlace, *, ran: bool) -> ToolHooksOutcome:
        """What is made of a result: what counts, and what the model sees. Unless the tool `ran`, only the latter.

        Nothing for a call behind which the turn went on when nobody was asked: the model was shown its result.
        """
        journal, key = self._journal, hooks_key(place.key, ToolSeam.AFTER)
        if journal is not None and journal.recorded.has_kind(*_BEHIND) and not journal.recorded.has(key):
            return ToolHooksOutcome(call_id=done.call_id)
        call = PendingToolCall(call_id=done.call_id, tool_name=done.tool_name, args=done.args, replay=done.replay)
        live = partial(self._look, place.key, call, done, ran)
        return await self._ask(ToolSeam.AFTER, key, call, place, live, done=done)

    async def take(self, within: HookRecord) -> None:
        """A call was answered from its record, and with it the hooks around the calls that its tool had made."""
        if within.states:
            async with self._lock:
                take_over(self._orders.take, within)
        self._show(within)

    def begin(self) -> None:
        """Another batch begins."""
        self._caught_up = False

    def catch_up(self) -> None:
        """Take over the changes that are recorded in this batch around calls which nobody asked for yet, if ever.

        And no others: of a later batch they would hide what was changed in between, and so would these, later.
        """
        if not self._caught_up:
            self._caught_up = True
            rows = self._journal.recorded.left if self._journal is not None else ()
            for record in recorded_changes(takewhile(lambda row: row.kind not in _BEHIND, rows)):
                take_over(self._orders.take, record)

    # ---- the effect -------------------------------------------------------------------------------------------------

    async def _ask(
        self,
        seam: ToolSeam,
        key: str,
        call: PendingToolCall,
        place: CallPlace,
        live: Callable[[ToolMoment], Awaitable[ToolHooksOutcome]],
        refusal: Refusal | None = None,
        done: CompletedToolCall | None = None,
    ) -> ToolHooksOutcome:
        """Send the question across the effect boundary, one call's at a time. A call with a `refusal` isn't made."""
        plan = self._plan
        command = ToolHooksCommand(seam=seam, call_id=call.call_id, tool_name=call.tool_name, args=call.args)
        wrapped = envelope(place.scope, command, f"{seam}:{call.call_id}", key=key)

        async def asked() -> ToolHooksOutcome:
            owned = plan.tools.catalog.tools.get(call.tool_name)
            if refusal is not None and owned is not None:
                # Recorded, since it holds: by the time the call would be made the tool may be shown, and nobody asked.
                return ToolHooksOutcome(call_id=call.call_id, output=refused(refusal))
            if owned is None or (done is not None and was_refused(done.output.outcome)):
                return ToolHooksOutcome(call_id=call.call_id)  # nobody's tool is nobody's business
            await plan.controller.flush()  # what was paid for must not hang on a slow hook
            moment = ToolMoment(
                call=call,
                manifest=owned.tool.manifest,
                owner=owned.plugin_id,
                parent_call_id=place.parent_id,
                result=None if done is None else done.output,
                duration_ms=0 if done is None else done.duration_ms,
            )
            made = await live(moment)
            in_order = place.parent_id is None and seam is not ToolSeam.ANSWERED  # else as they came, or were answered
            return made if in_order else evolve(made, hooks=self._orders.numbered(made.hooks))

        try:
            self._lock.acquire_nowait()
        except anyio.WouldBlock:
            await self._lock.acquire()
        try:
            if place.parent_id is not None or (seam is ToolSeam.ANSWERED and not self.was_answered(place)):
                self.catch_up()
            outcome = await hook_effect(
                plan, self._contexts.directs, wrapped, ToolHooksOutcome, asked, self._orders.take
            )
        finally:
            self._lock.release()
        if outcome.hooks.directives:
            self._show(outcome.hooks)
        return outcome

    # ---- before and after -------------------------------------------------------------------------------------------

    async def _decide(
        self, key: str, call: PendingToolCall, callers: Sequence[str], moment: ToolMoment
    ) -> ToolHooksOutcome:
        seam, states = ToolSeam.BEFORE, self._plan.states
        before = states.mark()
        try:
            await self._plan.enter()
            said, ruling = await self._hear(seam, moment, moment.call.args)
            changed = states.recorded(before)
            record = HookRecord(directives=lasting(said), states=changed) if said or changed else NO_HOOKS
        except PluginError as error:
            log.warning("%s", error, exc_info=error, extra=IN_RESULT)
            states.rollback(before)
            output = failed_output(seam, error, call.tool_name)
            return ToolHooksOutcome(call_id=call.call_id, output=output, interventions=(failed_part(error),))
        if not said:  # as it mostly is
            return ToolHooksOutcome(call_id=call.call_id, hooks=record)
        trace(said, ruling, call, self._plan.trace)
        ended = ruled_output(seam, ruling, call.tool_name)
        if ended is not None:
            ended = self.room.refusal(key, completed(call, ended)) or ended
        questions: tuple[PersonQuestion, ...] = ()
        if ruling.asked:
            final = call if ruling.changed is None else evolve(call, args=ruling.changed.value)
            refused = unaskable(self._plan, final, callers, ruling.asked[0].plugin_id)
            questions = () if refused is not None else await questions_of(self._plan, key, final, ruling.asked)
            ended = refused or ended
        return ToolHooksOutcome(
            call_id=call.call_id,
            args=ruling.changed.value if ended is None and ruling.changed is not None else None,
            output=ended,
            interventions=interventions(ruling),
            hooks=record,
            questions=questions,
        )

    async def _conclude(
        self,
        call: PendingToolCall,
        questions: Sequence[PersonQuestion],
        answers: Sequence[PersonAnswer],
        moment: ToolMoment,
    ) -> ToolHooksOutcome:
        """Tell each plugin that asked what was said. What a person denied stays denied, whatever it says."""
        seam, states = ToolSeam.ANSWERED, self._plan.states
        before = states.mark()
        output: ToolCallOutput | None = None
        said, found = list[Said](), list[ToolIntervention]()
        try:
            await self._plan.enter()
            for question, answer in zip(questions, answers, strict=True):
                found.append(asked_part(question, answer))
                impls = tuple(each for each in self._impls[seam] if each.plugin_id == question.plugin_id)
                new = await self._round(impls, seam, moment, moment.call.args, answer) if impls else []
                said += new
                if output is None and (output := denial(question, answer)) is not None:
                    denies = any(isinstance(each, DenyToolCall) for _, each in new)
                    found += [] if denies else [denied_part(question.plugin_id, output)]
            changed = states.recorded(before)
            record = HookRecord(directives=lasting(said), states=changed) if said or changed else NO_HOOKS
        except PluginError as error:
            log.warning("%s", error, exc_info=error, extra=IN_RESULT)
            states.rollback(before)
            output = failed_output(seam, error, call.tool_name)
            return ToolHooksOutcome(call_id=call.call_id, output=output, interventions=(*found, failed_part(error)))
        ruling = fold(seam, call.args, said)
        trace(said, ruling, call, self._plan.trace)
        return ToolHooksOutcome(
            call_id=call.call_id,
            output=ruled_output(seam, ruling, call.tool_name) or output,
            interventions=(*found, *interventions(ruling)),
            hooks=record,
        )

    async def _look(
        self, key: str, call: PendingToolCall, done: CompletedToolCall, ran: bool, moment: ToolMoment
    ) -> ToolHooksOutcome:
        seam, states = ToolSeam.AFTER, self._plan.states
        before = states.mark()
        output: ToolCallOutput | None = None
        directives: tuple[OwnedDirective, ...] = ()
        found: tuple[ToolIntervention, ...] = ()
        try:
            await self._plan.enter()
            if ran:
                said, ruling = await self._hear(seam, moment, moment.result)
                states.recorded(before)  # who remembers what can't be stored fails here, before anything counts
                if said:
                    trace(said, ruling, call, self._plan.trace)
                    output = ruled_output(seam, ruling, call.tool_name)
                    directives, found = lasting(said), interventions(ruling)
        except PluginError as error:
            log.warning("%s", error, exc_info=error, extra=IN_RESULT)
            states.rollback(before)
            output, found = failed_output(seam, error, call.tool_name), (failed_part(error),)
        if output is not None:
            plain = model_return(done.call_id, done.tool_name, output.outcome)
            done = evolve(done, output=output, model_return=plain)
            moment = evolve(moment, result=output)
        view, changed_by = await changed_view(self._plan, self._contexts, self._views, done, moment)
        changed = states.recorded(before)
        if output is not None or view is not None:
            made = done if view is None else evolve(done, model_return=evolve(done.model_return, parts=view))
            if (refused := self.room.refusal(key, made)) is not None:
                output, view = refused, None
        return ToolHooksOutcome(
            call_id=call.call_id,
            output=output,
            view=view,
            interventions=(*found, *changed_by),
            hooks=HookRecord(directives=directives, states=changed) if directives or changed else NO_HOOKS,
        )

    async def _hear(self, seam: ToolSeam, moment: ToolMoment, current: Any) -> tuple[list[Said], Ruling]:
        """Ask all hooks of a seam, and those before a change once more. Raises `PluginError`."""
        impls = self._impls[seam]
        said = await self._round(impls, seam, moment, current) if impls else []
        if not said:
            return said, _NOTHING_SAID
        ruling = fold(seam, current, said)
        if ruling.changed is None or ruling.to_reinspect is None:
            return said, ruling
        earlier = tuple(takewhile(lambda each: each.plugin_id != ruling.to_reinspect, impls))
        before = self._plan.states.mark()
        try:
            again = await self._round(earlier, seam, evolve(moment, is_reinspection=True), ruling.changed.value)
        finally:
            self._plan.states.rollback(before)
        return said, fold(seam, current, said, again) if again else ruling

    async def _round(
        self,
        impls: tuple[HookImpl, ...],
        seam: ToolSeam,
        moment: ToolMoment,
        current: Any,
        answer: PersonAnswer | None = None,
    ) -> list[Said]:
        """What these say one after the other: each sees the first change, or, in a reinspection, what is `current`."""
        said, value = list[Said](), current
        moment, bind = self._bound(seam, moment, value)
        rest = iter(impls)
        while (
            heard := await spoken(rest, bind, {"call": moment.call, "result": moment.result, "answer": answer})
        ) is not None:
            impl, result = heard
            new = checked(impl.hook, items_of(impl, result, ALLOWED[seam]))
            for plugin_id, blob in named_blobs(new):
                await require_blob(self._plan, plugin_id, impl.hook, blob)
            said += new
            seen = value if moment.is_reinspection else shown(seam, current, said)
            if seen is not value:
                value = seen
                moment, bind = self._bound(seam, moment, value)
        return said

    def _bound(self, seam: ToolSeam, moment: ToolMoment, value: Any) -> tuple[ToolMoment, Bind]:
        """The moment with these arguments, or this result, and contexts for it."""
        if seam is not ToolSeam.AFTER:
            if moment.call.args is not value:
                moment = evolve(moment, call=evolve(moment.call, args=value))
        elif moment.result is not value:
            moment = evolve(moment, result=value)
        return moment, self._contexts.bind(_CONTEXTS[seam], _HOOKS[seam], tool=moment)
