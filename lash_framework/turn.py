"""One turn, run: the host side of the turn machine.

It polls the machine, sends each effect across the effect boundary, shows what happens to whoever watches, and assembles
the result. It knows nothing of stores and locks: what to commit is returned, not written.
"""

from __future__ import annotations

import logging
import math
import time
from typing import Any

import anyio
import anyio.lowlevel
from attrs import evolve

from lash_framework.assembly import TurnAssembler
from lash_framework.directives import Sorted, sort_directives
from lash_framework.hooks import Bind, HookImpl
from lash_framework.inputs import user_message
from lash_framework.journal_errors import EffectUnrecorded
from lash_framework.machine import TurnMachine
from lash_framework.model_calls import ask_model
from lash_framework.new_machine import new_machine
from lash_framework.stream import ActivityStream
from lash_framework.tool_batch import ToolBatch
from lash_framework.turn_errors import attachment_lost, controller_failed, driver_failed, plugin_failed
from lash_framework.turn_hooks import NO_HOOKS, TurnHooks
from lash_framework.turn_plan import CancelGate, TurnPlan
from lash_hookspecs.checkpoints import CheckpointKind
from lash_hookspecs.contexts import TurnCall, TurnHookContext, binding
from lash_hookspecs.effect_outcomes import HookFailure, HookRecord
from lash_hookspecs.effects import RuntimeScope
from lash_hookspecs.errors import EffectControllerError, LashError, ReplayError
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.messages import Message
from lash_hookspecs.prompts import RenderedPrompt
from lash_hookspecs.sequences import Deferred
from lash_hookspecs.sessions import AssembledTurn, SessionStateEnvelope, TurnIssue
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
from lash_hookspecs.turn_outcomes import Stopped, StopReason

__all__ = ["TurnRun"]

log = logging.getLogger("lash.turn")


class TurnRun:
    """Runs a plan once. Afterwards: what to store, the turn as `assembled`, the `prompt` as rendered, and the times.

    `applied` are the inbox items that it took, `late` are messages of `lash_after_turn`; `hook_failed` says that a
    hook's failure ended the turn.
    """

    def __init__(self, plan: TurnPlan, stream: ActivityStream, gate: CancelGate) -> None:
        self.plan = plan
        self.assembler = TurnAssembler()
        self.prompt: RenderedPrompt = RenderedPrompt(text="", pieces=())
        self.started_at_ms = self.finished_at_ms = 0
        self.late: list[Message] = []
        self.hook_failed = False
        self.applied: tuple[int, ...] = ()
        self._forced: Stopped | None = None
        self._is_asking = self._has_asked = False
        self._stream = stream
        self._gate = gate
        self._machine: TurnMachine | None = None
        self._user = user_message(plan.turn_id, plan.turn_input, plan.images)
        self._calls = ToolBatch(plan, stream)
        self._bound: dict[type[TurnHookContext], tuple[TurnCall, Bind]] = {}
        self._hooks = TurnHooks(plan, self._bind)

    # ---- the whole turn ---------------------------------------------------------------------------------------------

    async def run(self, deadline: float = math.inf, *, recorded_only: bool = False) -> None:
        """Run to `Done`, until `deadline` on the event loop's clock.

        Returns also when cancelled through the gate, or by the deadline; an outer cancellation comes out as it is. With
        `recorded_only`, a turn whose records end, or say something else, is over there: as cancelled, if that was
        asked for before, else as abandoned.
        """
        with anyio.CancelScope(deadline=deadline) as scope:
            if not recorded_only:  # nothing runs then, and what is recorded belongs to the turn however it ends
                self._gate.scope = scope
                if self._gate.requested:
                    scope.cancel()
            try:
                machine = await self._begin()
                await self._drive(machine)
                await self._end(self.plan.composition.hooks["lash_after_turn"])
            except (EffectUnrecorded, ReplayError) as error:
                if not recorded_only:
                    raise
                now_ms = time.time_ns() // 1_000_000
                self.started_at_ms = self.started_at_ms or now_ms
                self.finished_at_ms = self.finished_at_ms or max(now_ms, self.started_at_ms)
                if not self._gate.requested:
                    self._stop_abandoned(error)
            await self._stream.flush()
            # The promise is settled here: from now on a cancel comes too late.
            self._gate.sealed = not self._gate.requested
        self._gate.scope = None
        if self._gate.sealed:
            return
        if self._gate.reason is None:
            self._gate.reason = "deadline"
        with anyio.CancelScope(shield=True):
            await self.plan.conversation.load()  # the commit says what it follows
            self._stop(StopReason.CANCELLED)
            if not self.finished_at_ms:
                await self._end(())  # hooks have no say in a turn that was cancelled
            self.started_at_ms = self.started_at_ms or self.finished_at_ms
            await self._stream.flush()

    @property
    def machine(self) -> TurnMachine:
        """The machine; there is one as soon as `run` has returned."""
        if self._machine is None:
            self._machine = new_machine(self.plan, self._user)
        return self._machine

    @property
    def cancelled(self) -> bool:
        """Whether cancel won."""
        return self._gate.requested and not self._gate.sealed

    @property
    def new_messages(self) -> tuple[Message, ...]:
        """What the turn added for good."""
        return tuple(each for each in (*self.machine.turn_messages, *self.late) if not each.is_transient)

    def _stop_abandoned(self, error: LashError) -> None:
        text = f"the turn was abandoned: {error}"
        self.assembler.issues.append(TurnIssue(kind="runtime", code="abandoned", message=text))
        self._stop(StopReason.ABANDONED)

    def _stop(self, reason: StopReason) -> None:
        """End the turn where it stands, with what is known of its calls."""
        machine = self.machine
        try:
            self._calls.settle(machine)
        except Exception as error:
            log.error("the protocol driver failed on the results of a stopped turn", exc_info=error)
        machine.finish_with_outcome(Stopped(reason))
        if self._is_asking:
            self.assembler.usage += TokenUsage(at_least=True)  # what the call has cost by now, nobody knows
        while (effect := machine.poll()) is not None:
            if isinstance(effect, Emit):
                self._fold(effect.event)

    # ---- the start --------------------------------------------------------------------------------------------------

    async def _begin(self) -> TurnMachine:
        try:
            begun = await self._hooks.start()
        except ReplayError:
            raise  # it can't go on, so nothing of it is committed
        except EffectControllerError as error:
            self.started_at_ms = time.time_ns() // 1_000_000
            await self.plan.conversation.load()
            self.machine.fail_turn(controller_failed(error))
            return self.machine
        await self.plan.conversation.load()  # from here on it is needed; others needn't wait while it is read
        self.started_at_ms = begun.started_at_ms
        found = self._take(begun.hooks)
        if begun.hooks.failure is not None:
            self._fail_turn(self.machine, begun.hooks.failure)
            return self.machine
        self.prompt = begun.prompt
        injected: tuple[Message, ...] = ()
        if begun.hooks.directives:
            injected = found.messages(f"{self.plan.turn_id}:before_turn", self._is_known)
        self._machine = machine = new_machine(self.plan, self._user, begun.prompt.text, begun.tool_specs, injected)
        if found.abort is not None:
            self._abort_turn(machine)
        return machine

    # ---- the loop ---------------------------------------------------------------------------------------------------

    async def _drive(self, machine: TurnMachine) -> None:
        while True:
            try:
                effect = machine.poll()
            except Exception as error:
                machine.fail_turn(driver_failed(error))
                continue
            match effect:
                case None | Done():
                    break
                case Emit(event=event):
                    self._fold(event)
                case Log(event=event):
                    log.debug("%s", event)
                case SyncExecutionEnvironment() | LlmCall() | ToolCalls() | ExecCode() | Checkpoint():
                    await self._stream.flush()
                    await self._perform(machine, effect)
        if self._forced is not None:
            self.assembler.outcome = self._forced
        await self._stream.flush()

    def _fold(self, event: Any) -> None:
        owner = None
        if isinstance(event, ToolCallEvent):
            owned = self.plan.composition.tools.get(event.name)
            owner = owned.plugin_id if owned else None
        self.assembler.fold(event, owner)
        self._stream.show(event)

    async def _perform(self, machine: TurnMachine, effect: Effect) -> None:
        aborts = False
        try:
            match effect:
                case SyncExecutionEnvironment():
                    response: Any = await self._sync(effect)
                case LlmCall(id=id):
                    answered = await ask_model(self.plan, self._stream, effect, self._scope(), self._before_asking)
                    self._is_asking = False
                    self._note_lost(answered.lost_attachments)
                    response = LlmComplete(id=id, result=answered.result, text_streamed=answered.text_streamed)
                case ToolCalls():
                    response = await self._calls.run(effect, self._scope())
                case Checkpoint(id=id, kind=kind):
                    reached = await self._hooks.checkpoint(self._scope(), str(id), kind)
                    hooks, found = reached.hooks, self._take(reached.hooks)
                    if reached.taken:
                        self.applied += reached.taken
                        self._stream.show_queued(reached.inputs, reached.taken, kind)
                    if hooks.failure is not None:
                        self._fail_turn(machine, hooks.failure)
                        return
                    delivery = evolve(found.delivery, inputs=reached.inputs) if reached.inputs else found.delivery
                    response, aborts = CheckpointDone(id=id, delivery=delivery), found.abort is not None
                case ExecCode(id=id):
                    response = ExecDone(id=id, result="this composition has no plugin that runs code")
        except ReplayError:
            raise  # it can't go on, so nothing of it is committed
        except EffectControllerError as error:
            self._calls.settle(machine)
            machine.fail_turn(controller_failed(error))
            return
        try:
            # What was enqueued beside an abort is kept.
            if not aborts or response.delivery.messages or response.delivery.inputs:
                machine.respond(response)
        except Exception as error:
            machine.fail_turn(driver_failed(error))
            return
        if aborts:
            self._abort_turn(machine)

    async def _before_asking(self) -> None:
        """A model that never waits must not outrun cancel and deadline, nor keep others from working."""
        # Until it was asked once, nobody was kept waiting: a pass of the event loop can be saved.
        await (anyio.lowlevel.checkpoint if self._has_asked else anyio.lowlevel.checkpoint_if_cancelled)()
        self._is_asking = self._has_asked = True

    def _note_lost(self, attachments: tuple[str, ...]) -> None:
        for issue in map(attachment_lost, attachments):
            if issue not in self.assembler.issues:
                self.assembler.issues.append(issue)

    def _scope(self) -> RuntimeScope:
        plan = self.plan
        return RuntimeScope(
            session_id=plan.session_id,
            turn_id=plan.turn_id,
            turn_index=plan.conversation.head.turn_index,
            protocol_iteration=self.machine.protocol_iteration,
        )

    # ---- effects with hooks in them ---------------------------------------------------------------------------------

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

    async def _end(self, hooks: tuple[HookImpl, ...]) -> None:
        """The turn's end. Messages are stored with it; an abort or a failure changes how it ended."""
        try:
            ended = await self._hooks.end(hooks, self.assembled, self.started_at_ms)
        except ReplayError:
            raise  # it can't go on, so nothing of it is committed
        except EffectControllerError as error:
            self.finished_at_ms = max(time.time_ns() // 1_000_000, self.started_at_ms)
            self._end_failed(controller_failed(error))
            return
        self.finished_at_ms = ended.finished_at_ms
        if ended.hooks is NO_HOOKS:
            return
        found = self._take(ended.hooks)
        if ended.hooks.failure is not None:
            self.fail(ended.hooks.failure)
            return
        self.late.extend(found.messages(f"{self.plan.turn_id}:after_turn", self._is_known))
        if found.abort is not None:
            self.assembler.outcome = Stopped(StopReason.PLUGIN_ABORT)

    # ---- hooks ------------------------------------------------------------------------------------------------------

    def _bind(self, context: type[TurnHookContext], kind: CheckpointKind | None = None) -> Bind:
        """Contexts for the hooks of one call, made only where there are some: a turn's are made once."""
        if context not in self._bound:
            call = self._call()
            self._bound[context] = call, binding(context, self.plan.states.scopes, call)
        call, bind = self._bound[context]
        call.kind = kind
        if self._machine is not None:
            call.iteration, call.messages = self._machine.protocol_iteration, self._machine.messages
        return bind

    def _call(self) -> TurnCall:
        plan, machine = self.plan, self._machine
        return TurnCall(
            session_id=plan.session_id,
            mode_id=plan.composition.mode.mode_id,
            policy=plan.policy,
            turn_index=plan.conversation.head.turn_index,
            turn_id=plan.turn_id,
            turn_input=plan.turn_input,
            iteration=machine.protocol_iteration if machine is not None else 0,
            messages=Deferred(lambda: self.machine.messages),  # whose history is read when a hook looks at it
            tools=plan.composition.manifests,
        )

    def observers_binding(self) -> Bind:
        """Contexts for hooks that only watch."""
        scopes = {key: evolve(each, read_only=True) for key, each in self.plan.states.scopes.items()}
        return binding(TurnHookContext, scopes, self._call())

    def _take(self, record: HookRecord) -> Sorted:
        """Sort a record's directives, show events, and tell of an abort, which the caller carries out."""
        found = sort_directives(record.directives)
        for event in found.events:
            self._fold(event)
        if found.abort is not None:
            plugin_id, abort = found.abort
            issue = TurnIssue(kind="plugin", code=abort.code, message=abort.message, plugin_id=plugin_id)
            self.assembler.issues.append(issue)
        return found

    def _is_known(self, message_id: str) -> bool:
        return self.machine.messages.position_of(message_id) is not None

    def _abort_turn(self, machine: TurnMachine) -> None:
        if not machine.finish_with_outcome(Stopped(StopReason.PLUGIN_ABORT)):
            self._forced = Stopped(StopReason.PLUGIN_ABORT)  # its messages used the last iteration up

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
        plan, head = self.plan, self.plan.conversation.head
        return self.assembler.assemble(
            turn_id=plan.turn_id,
            state=SessionStateEnvelope(
                session_id=plan.session_id,
                turn_index=head.turn_index,
                head_revision=head.head_revision,
                leaf_node_id=head.leaf_node_id,
            ),
            mode_id=plan.composition.mode.mode_id,
            messages=self.machine.messages,
            cancelled=self.cancelled,
            durable=plan.controller.durable,
        )
