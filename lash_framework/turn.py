"""One turn, run: the host side of the turn machine.

It polls the machine, sends each effect across the effect boundary, shows what happens to whoever watches, and assembles
the result. It knows nothing of stores and locks: what to commit is returned, not written.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import anyio
from attrs import evolve

from lash_framework.assembly import TurnAssembler, assemble_for
from lash_framework.cancel_gate import CancelGate
from lash_framework.context_window import ContextWindow
from lash_framework.directives import Sorted, sort_directives
from lash_framework.hooks import HookImpl
from lash_framework.inputs import partial_message, user_message
from lash_framework.journal_errors import EffectUnrecorded
from lash_framework.machine import TurnMachine
from lash_framework.model_step import ModelStep
from lash_framework.new_machine import new_machine
from lash_framework.stream import ActivityStream
from lash_framework.turn_calls import TurnCalls
from lash_framework.turn_contexts import TurnContexts
from lash_framework.turn_errors import controller_failed, driver_failed, plugin_failed
from lash_framework.turn_hooks import NO_HOOKS, TurnHooks
from lash_framework.turn_plan import Scopes, TurnPlan
from lash_hookspecs.directives import OwnedDirective
from lash_hookspecs.effect_outcomes import HookFailure, HookRecord, TurnStop
from lash_hookspecs.effects import RuntimeScope
from lash_hookspecs.errors import EffectControllerError, LashError, ReplayError
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.messages import Message
from lash_hookspecs.prompts import RenderedPrompt
from lash_hookspecs.sequences import Deferred
from lash_hookspecs.sessions import AssembledTurn, TurnIssue
from lash_hookspecs.turn_effects import (
    Checkpoint,
    CheckpointDone,
    Done,
    Effect,
    Emit,
    EnvironmentSynced,
    ExecCode,
    ExecDone,
    ExecutionEnvironmentSync,
    LlmCall,
    LlmComplete,
    Log,
    SyncExecutionEnvironment,
    ToolCalls,
)
from lash_hookspecs.turn_events import ErrorEvent, ToolCallEvent
from lash_hookspecs.turn_outcomes import Stopped, StopReason, TurnOutcome

__all__ = ["TurnRun"]

log = logging.getLogger("lash.turn")


class TurnRun:
    """Runs a plan once. Afterwards: what to store, the turn as `assembled`, the `prompt` as rendered, and the times.

    `user` is the input's message, `applied` are the inbox items that it took, `late` are messages behind those of the
    machine: a reply that was cut off, and those of `lash_after_turn`. `hook_failed`: a hook's failure ended the turn.
    `window` knows what came before the turn's messages. `sessions` are those that hooks want to be made.
    """

    def __init__(self, plan: TurnPlan, stream: ActivityStream, gate: CancelGate) -> None:
        self.plan = plan
        self.assembler = TurnAssembler()
        self.prompt: RenderedPrompt = RenderedPrompt(text="", pieces=())
        self.started_at_ms = self.finished_at_ms = 0
        self.late: list[Message] = []
        self.hook_failed = False
        self.applied: tuple[int, ...] = ()
        self.sessions: list[OwnedDirective] = []
        self._forced: TurnOutcome | None = None
        self._steps: int | None = None
        self._scopes = Scopes(plan.scope)
        self._stream, self._gate = stream, gate
        self._machine: TurnMachine | None = None
        self.user = user_message(plan.turn_id, plan.turn_input, plan.images)
        self.contexts = contexts = TurnContexts(plan, stream, self._moment)
        self._calls = TurnCalls(plan, stream, contexts, self._show)
        self._hooks = TurnHooks(plan, contexts)
        contexts.budget.assembler = self.assembler
        self._model = ModelStep(plan, stream, self._hooks, contexts)
        self.window = ContextWindow(plan, self._hooks)

    async def run(
        self, deadline: float = math.inf, *, ends: Callable[[], None] | None = None, stop: TurnStop | None = None
    ) -> None:
        """Run to `Done`, until `deadline` on the event loop's clock.

        Returns also when cancelled through the gate, or by the deadline; an outer cancellation comes out as it is. With
        `ends` nothing is run: a turn whose records end, or say something else, is over there, which `ends` is told of:
        as cancelled, if that was asked for before, else as abandoned; or, with `stop`, where it was stopped before.
        """
        ended: LashError | None = None
        with anyio.CancelScope() as scope:
            if ends is None:  # else nothing runs that could be cancelled
                self._gate.attach(scope, deadline)
            try:
                if stop is None or stop.steps is not None:
                    await self._drive(await self._begin(), None if stop is None else stop.steps)
                if stop is None:
                    await self._end(() if self.plan.only_compacts else self.plan.composition.hooks["lash_after_turn"])
            except (EffectUnrecorded, ReplayError) as error:
                if ends is None or stop is not None:
                    raise
                ended = error
                ends()
            await self._stream.flush()
            # The promise is settled here: from now on a cancel comes too late.
            self._gate.sealed = not self._gate.requested
        self._gate.detach()
        stop = stop or self._stopped(ended)
        if stop is None:
            return
        with anyio.CancelScope(shield=True):
            await self.plan.conversation.load()  # the commit says what it follows
            self._stop(stop)
            if not self.finished_at_ms:
                await self._end((), stop)  # hooks have no say in a turn that was stopped
            self.started_at_ms = self.started_at_ms or self.finished_at_ms
            await self._stream.flush()

    @property
    def machine(self) -> TurnMachine:
        """The machine; a turn that hasn't begun gets one that has nothing but the input."""
        if self._machine is None:
            self._machine = new_machine(self.plan, self.user)
        return self._machine

    @property
    def begun(self) -> TurnMachine | None:
        """The machine, if the turn has come so far that it runs."""
        return None if self._steps is None else self._machine

    @property
    def new_messages(self) -> tuple[Message, ...]:
        """What the turn added for good."""
        return tuple(each for each in (*self.machine.turn_messages, *self.late) if not each.is_transient)

    def _stopped(self, ended: LashError | None) -> TurnStop | None:
        """Where the turn stands, if it was cancelled or its records have `ended`, with what is known of its calls."""
        if self._gate.sealed and ended is None:
            return None
        unrecorded = ended if isinstance(ended, EffectUnrecorded) else None
        return TurnStop(
            reason=StopReason.ABANDONED if self._gate.sealed else StopReason.CANCELLED,
            steps=self._steps,
            # Nor does anybody count a reply that is recorded and was to another question.
            asking=unrecorded.spent.at_least if unrecorded else ended is not None or self._stream.asking,
            results=self._calls.results,
            partial_text=self._stream.reply()[0] if self.plan.keep_partial and self._stream.asking else "",
            message=f"the turn was abandoned: {ended}" if self._gate.sealed else None,
            spent=self._model.unanswered + (unrecorded.spent if unrecorded else TokenUsage()),
        )

    def _stop(self, stop: TurnStop) -> None:
        """End the turn where it stands."""
        machine = self.machine
        if stop.message is not None:
            self.assembler.issues.append(TurnIssue(kind="runtime", code="abandoned", message=stop.message))
        try:
            self._calls.settle(machine, stop.results)
        except Exception as error:
            log.error("the protocol driver failed on the results of a stopped turn", exc_info=error)
        machine.finish_with_outcome(Stopped(stop.reason))
        self.assembler.usage += stop.spent + TokenUsage(at_least=stop.asking)
        self._keep_partial(stop.partial_text)
        while (effect := machine.poll()) is not None:
            if isinstance(effect, Emit):
                self._fold(effect.event)

    def _keep_partial(self, text: str) -> None:
        """Store what there is of a reply that was cut off, which ends the turn."""
        if text.strip():
            self.assembler.partial_text = text
            self.late.append(partial_message(self.plan.turn_id, text))

    async def _begin(self) -> TurnMachine:
        try:
            begun = await self._hooks.start()
        except ReplayError:
            raise  # it can't go on, so nothing of it is committed
        except EffectControllerError as error:
            self.started_at_ms = self.plan.now_ms()
            self.machine.fail_turn(controller_failed(error))
            return self.machine
        if not self.plan.conversation.is_loaded:
            with anyio.CancelScope(shield=True):  # what the hooks remember is stored, so what they said must be, too
                await self.plan.conversation.load()  # from here on it is needed; others needn't wait while it is read
        self.started_at_ms = begun.started_at_ms
        found = self._take(begun.hooks)
        if begun.hooks.failure is not None:
            self._fail_turn(self.machine, begun.hooks.failure)
            return self.machine
        self.prompt = begun.prompt
        self.window.begin(begun)
        self.assembler.shown(begun.context)
        injected = found.messages(f"{self.plan.turn_id}:before_turn", self._is_known)
        self._machine = machine = new_machine(self.plan, self.user, begun, self.window.history, injected)
        if found.ends is not None:
            self._end_early(machine, found.ends)
        return machine

    async def _drive(self, machine: TurnMachine, until: int | None = None) -> None:
        """Poll until it is done, or `until` so many effects are answered."""
        self._steps = answered = 0
        while True:
            try:
                effect = machine.poll()
            except Exception as error:
                machine.fail_turn(driver_failed(error, self.plan.composition))
                continue
            match effect:
                case Emit(event=event):
                    self._fold(event)
                case None | Done():
                    break
                case Log(event=event):
                    log.debug("%s", event)
                case SyncExecutionEnvironment() | LlmCall() | ToolCalls() | ExecCode() | Checkpoint():
                    if isinstance(effect, ToolCalls):
                        self._calls.open(effect, self._scope())  # whatever happens from now on, they are answered
                    if answered == until:
                        if isinstance(effect, ToolCalls):
                            with suppress(EffectUnrecorded, ReplayError):  # how its calls ended is said with the stop
                                await self._calls.run(effect, self._scope())
                        return
                    await self._stream.flush()
                    await self._perform(machine, effect)
                    self._steps = answered = answered + 1
                    self._calls.close()
                    self._model.close()
        self.assembler.outcome = self._forced or self.assembler.outcome
        await self._stream.flush()

    def _fold(self, event: Any) -> None:
        owner = self.plan.tools.catalog.owners.get(event.name) if isinstance(event, ToolCallEvent) else None
        self.assembler.fold(event, owner)
        self._stream.show(event)

    async def _perform(self, machine: TurnMachine, effect: Effect) -> None:
        ends: TurnOutcome | None = None
        try:
            match effect:
                case SyncExecutionEnvironment():
                    response: Any = await self._sync(effect)
                case LlmCall():
                    response = await self._ask(machine, effect)
                    if response is None:
                        return
                case ToolCalls():
                    response = await self._calls.run(effect, self._scope())
                case Checkpoint(id=id, kind=kind):
                    reached = await self._hooks.checkpoint(self._scope(), str(id), kind)
                    hooks, found = reached.hooks, self._take(reached.hooks, self._calls.said)
                    if reached.taken:
                        self.applied += reached.taken
                        self._stream.show_queued(reached.inputs, reached.taken, kind)
                    if hooks.failure is not None:
                        self._fail_turn(machine, hooks.failure)
                        return
                    self._calls.said = ()
                    delivery = evolve(found.delivery, inputs=reached.inputs) if reached.inputs else found.delivery
                    response, ends = CheckpointDone(id=id, delivery=delivery), found.ends
                case ExecCode(id=id):
                    response = ExecDone(id=id, result="this composition has no plugin that runs code")
        except ReplayError:
            raise  # it can't go on, so nothing of it is committed
        except EffectControllerError as error:
            self._calls.settle(machine)
            machine.fail_turn(controller_failed(error))
            return
        try:
            if ends is None or response.delivery.messages or response.delivery.inputs:  # which are kept
                machine.respond(response)
        except Exception as error:
            machine.fail_turn(driver_failed(error, self.plan.composition))
            return
        if ends is not None:
            self._end_early(machine, ends)

    def _scope(self) -> RuntimeScope:
        """Where the turn stands."""
        return self._scopes.at(self.machine.protocol_iteration)

    async def _ask(self, machine: TurnMachine, effect: LlmCall) -> LlmComplete | None:
        """The model's answer; None: hooks have ended the turn instead, or it is asked again."""
        answered = await self._model.ask(effect, self._scope())
        answered.tell(self.assembler)
        for record in answered.hooks:
            found = self._take(record)
            if record.failure is not None:
                self._fail_turn(machine, record.failure)
            elif found.ends is not None:
                self._end_early(machine, found.ends)
            else:
                continue
            self.assembler.usage += self._model.unanswered
            return None
        if answered.over_budget is not None:
            self.assembler.usage += self._model.unanswered  # of a call before it, which was cut
            machine.finish_with_outcome(Stopped(StopReason.BUDGET, answered.over_budget))
            return None
        complete = answered.complete
        result = await self.window.answered(machine, complete.id, complete.result, self._scope())
        if result is None:  # the machine asks again, or a hook failed
            self.hook_failed |= self.window.hook_failed
            return None
        self._keep_partial(answered.partial_text)
        return complete if result is complete.result else evolve(complete, result=result)

    async def _sync(self, effect: SyncExecutionEnvironment) -> EnvironmentSynced:
        if not effect.update_machine_config:
            return EnvironmentSynced(id=effect.id)  # the turn's start has said it all: there is nobody to ask
        synced = await self._hooks.sync(self._scope(), str(effect.id))
        if synced.hooks.failure is not None:
            self.hook_failed = True
            return EnvironmentSynced(id=effect.id, error=synced.hooks.failure.message)
        self.prompt = synced.prompt
        update = ExecutionEnvironmentSync(system_prompt=synced.prompt.text, tool_specs=synced.tool_specs)
        return EnvironmentSynced(id=effect.id, update=update)

    async def _end(self, hooks: tuple[HookImpl, ...], stop: TurnStop | None = None) -> None:
        """The turn's end. Messages are stored with it; an abort or a failure changes how it ended."""
        said, self._calls.said = self._calls.said, ()  # by hooks around calls, when no checkpoint followed
        if said:
            self.late += self._take(NO_HOOKS, said).messages(f"{self.plan.turn_id}:tools", self._is_known)
        try:
            ended = await self._hooks.end(hooks, self.assembled, self.started_at_ms, stop)
        except ReplayError:
            raise  # it can't go on, so nothing of it is committed
        except EffectControllerError as error:
            self.finished_at_ms = max(self.plan.now_ms(), self.started_at_ms)
            self._end_failed(controller_failed(error))
            return
        self.finished_at_ms = ended.finished_at_ms
        if ended.hooks is NO_HOOKS or stop is not None:
            return
        found = self._take(ended.hooks)
        if ended.hooks.failure is not None:
            return self.fail(ended.hooks.failure)
        self.late.extend(found.messages(f"{self.plan.turn_id}:after_turn", self._is_known))
        self.assembler.outcome = found.ends or self.assembler.outcome

    def _moment(self) -> tuple[int, Sequence[Message]]:
        """The iteration, and the conversation as it stands: before there is a machine, for who looks at it."""
        machine = self._machine
        if machine is None:
            return 0, Deferred(lambda: new_machine(self.plan, self.user, history=self._hooks.history).messages)
        return machine.protocol_iteration, machine.messages

    def _take(self, record: HookRecord, said: Sequence[OwnedDirective] = ()) -> Sorted:
        """Sort what was said before and a record's directives, show events, and tell of an abort, for the caller."""
        found = sort_directives((*said, *record.directives), self.plan.scope)
        self.sessions += found.sessions
        for event in found.events:
            self._fold(event)
        self.assembler.take(found)
        return found

    def _show(self, record: HookRecord) -> None:
        for event in sort_directives(record.directives).events:
            self._fold(event)

    def _is_known(self, message_id: str) -> bool:
        return self.machine.messages.position_of(message_id) is not None

    def _end_early(self, machine: TurnMachine, outcome: TurnOutcome) -> None:
        if not machine.finish_with_outcome(outcome):
            self._forced = outcome  # its messages used the last iteration up

    def fail(self, failure: HookFailure) -> None:
        """End a turn that is over as failed: what a hook did at its end can't be kept."""
        self.hook_failed = True
        self._end_failed(plugin_failed(failure))

    def _end_failed(self, event: ErrorEvent) -> None:
        self._fold(event)
        self.assembler.outcome = Stopped(StopReason.RUNTIME_ERROR)

    def _fail_turn(self, machine: TurnMachine, failure: HookFailure) -> None:
        self.hook_failed = True
        machine.fail_turn(plugin_failed(failure))

    def assembled(self) -> AssembledTurn:
        """The turn as it stands; its place in the session is the one before it, until it is committed."""
        messages, directs = self.machine.messages, self.contexts.directs
        return assemble_for(self.plan, self.assembler, messages, directs, cancelled=self._gate.requested)
