"""One turn, run: the host side of the turn machine.

It polls the machine, sends each effect across the effect boundary, shows what happens to whoever watches, and assembles
the result. It knows nothing of stores and locks: what to commit is returned, not written.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import anyio
import anyio.lowlevel
from attrs import evolve

from lash_framework.assembly import TurnAssembler
from lash_framework.directives import DIRECTIVES, Sorted, sort_directives
from lash_framework.effects import envelope
from lash_framework.environment import current_environment
from lash_framework.hooks import Owned, collect
from lash_framework.inputs import user_message
from lash_framework.machine import TurnMachine, TurnMachineConfig, TurnStart
from lash_framework.model_calls import ask_model
from lash_framework.prompt import RenderedPrompt
from lash_framework.stream import ActivityStream
from lash_framework.tool_batch import ToolBatch
from lash_framework.turn_errors import controller_failed, driver_failed, plugin_failed
from lash_framework.turn_plan import DEFAULT_MAX_TURNS, CancelGate, TurnPlan
from lash_hookspecs.checkpoints import CheckpointDelivery, CheckpointKind
from lash_hookspecs.contexts import CheckpointHookContext, TurnCall, TurnHookContext
from lash_hookspecs.directives import AbortTurn
from lash_hookspecs.effects import (
    CheckpointCommand,
    CheckpointOutcome,
    RuntimeEffectEnvelope,
    RuntimeEffectOutcome,
    RuntimeScope,
    SyncEnvironmentCommand,
    SyncEnvironmentOutcome,
    expect,
)
from lash_hookspecs.errors import EffectControllerError, PluginError
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.messages import Message
from lash_hookspecs.sessions import AssembledTurn, SessionStateEnvelope, TurnIssue
from lash_hookspecs.turns import (
    Checkpoint,
    CheckpointDone,
    Done,
    Effect,
    Emit,
    EnvironmentSynced,
    ErrorEvent,
    ExecCode,
    ExecDone,
    ExecutionEnvironmentSync,
    LlmCall,
    LlmComplete,
    Log,
    Stopped,
    StopReason,
    SyncExecutionEnvironment,
    ToolCallEvent,
    ToolCalls,
)

__all__ = ["TurnRun"]

log = logging.getLogger("lash.turn")


class TurnRun:
    """Runs a plan once. Afterwards: what to store, the turn as `assembled`, the `prompt` as rendered.

    `late` are messages of `lash_after_turn`; `hook_failed` says that a hook's failure ended the turn.
    """

    def __init__(self, plan: TurnPlan, stream: ActivityStream, gate: CancelGate) -> None:
        self.plan = plan
        self.assembler = TurnAssembler()
        self.prompt: RenderedPrompt = RenderedPrompt(text="", pieces=())
        self.started_at_ms = time.time_ns() // 1_000_000
        self.late: list[Message] = []
        self.hook_failed = False
        self._forced: Stopped | None = None
        self._is_asking = False
        self._stream = stream
        self._gate = gate
        self._machine: TurnMachine | None = None
        self._abort: AbortTurn | None = None
        self._user: Message | None = None
        self._calls = ToolBatch(plan, stream)

    # ---- the whole turn ---------------------------------------------------------------------------------------------

    async def run(self, deadline: float = math.inf) -> None:
        """Run to `Done`, until `deadline` on the event loop's clock.

        Returns also when cancelled through the gate, or by the deadline; an outer cancellation comes out as it is.
        """
        with anyio.CancelScope(deadline=deadline) as scope:
            self._gate.scope = scope
            if self._gate.requested:
                scope.cancel()
            machine = await self._begin()
            await self._drive(machine)
            await self._after_turn()
            # The promise is settled here: from now on a cancel comes too late.
            self._gate.sealed = not self._gate.requested
        self._gate.scope = None
        if self._gate.sealed:
            return
        if self._gate.reason is None:
            self._gate.reason = "deadline"
        self._stop_cancelled()
        with anyio.CancelScope(shield=True):
            await self._stream.flush()

    @property
    def machine(self) -> TurnMachine:
        """The machine; there is one as soon as `run` has returned."""
        if self._machine is None:
            self._machine = self._new_machine("", ())
        return self._machine

    @property
    def cancelled(self) -> bool:
        """Whether cancel won."""
        return self._gate.requested and not self._gate.sealed

    @property
    def new_messages(self) -> tuple[Message, ...]:
        """What the turn added for good."""
        return tuple(each for each in (*self.machine.turn_messages, *self.late) if not each.is_transient)

    def _stop_cancelled(self) -> None:
        machine = self.machine
        try:
            self._calls.settle(machine)
        except Exception as error:
            log.error("the protocol driver failed on the results of a cancelled turn", exc_info=error)
        machine.finish_with_outcome(Stopped(StopReason.CANCELLED))
        if self._is_asking:
            self.assembler.usage += TokenUsage(at_least=True)  # what the call has cost by now, nobody knows
        while (effect := machine.poll()) is not None:
            if isinstance(effect, Emit):
                self._fold(effect.event)

    # ---- the start --------------------------------------------------------------------------------------------------

    async def _begin(self) -> TurnMachine:
        plan = self.plan
        images = {name: await plan.put_image(data) for name, data in plan.turn_input.image_blobs.items()}
        self._user = user_message(plan.turn_id, plan.turn_input, images)
        hooks = plan.composition.hooks
        injected: tuple[Message, ...] = ()
        try:
            if hooks["lash_lifespan"]:
                plan.states.attach_hosts(await plan.hosts())
            if hooks["lash_before_turn"]:
                directives = await collect(hooks["lash_before_turn"], self._bind(TurnHookContext), item=DIRECTIVES)
                injected = self._take(directives).messages(f"{plan.turn_id}:before_turn", self._is_known)
            environment = await self._environment()
        except PluginError as error:
            self.machine.fail_turn(self._plugin_failure(error))
            return self.machine
        self._machine = self._new_machine(environment.system_prompt, injected)
        if self._abort is not None:
            self._abort_turn(self._machine)
        return self._machine

    def _new_machine(self, system_prompt: str, injected: tuple[Message, ...]) -> TurnMachine:
        plan = self.plan
        mode, policy, context = plan.composition.mode, plan.policy, plan.turn_input.context
        generation = context.generation.over(policy.generation.over(mode.generation))
        driver = mode.driver
        config = TurnMachineConfig(
            driver=plan.composition.driver,
            session_id=plan.session_id,
            turn_id=plan.turn_id,
            model=plan.model,
            sync_execution_environment=driver.sync_execution_environment if driver else True,
            max_context_tokens=plan.capability.context_window,
            max_turns=policy.max_turns or mode.max_turns or DEFAULT_MAX_TURNS,
            model_variant=context.model_variant or policy.model_variant,
            generation=generation,
            autonomous=policy.autonomous,
            tool_specs=plan.composition.tool_specs,
            system_prompt=system_prompt,
            output_spec=plan.turn_input.output,
            options={**mode.options, **policy.options, **plan.turn_input.mode_turn_options.values},
            turn_extension=plan.turn_input.mode_extension,
            session_extension=plan.session_extension,
        )
        user = () if self._user is None else (self._user,)
        start = TurnStart(base=plan.conversation.messages, messages=(*user, *injected), events=plan.conversation.events)
        return TurnMachine(config, start)

    async def _environment(self) -> ExecutionEnvironmentSync:
        self.prompt, synced = await current_environment(self.plan, self._bind(TurnHookContext))
        return synced

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
        try:
            match effect:
                case SyncExecutionEnvironment(id=id):
                    synced = await self._sync(effect)
                    response: Any = EnvironmentSynced(id=id, update=synced.update, error=synced.error)
                case LlmCall(id=id):
                    await anyio.lowlevel.checkpoint()  # a model that never waits must not outrun cancel and deadline
                    self._is_asking = True
                    answered = await ask_model(self.plan, self._stream, effect, self._scope())
                    self._is_asking = False
                    response = LlmComplete(id=id, result=answered.result, text_streamed=answered.text_streamed)
                case ToolCalls():
                    response = await self._calls.run(effect, self._scope())
                case Checkpoint(id=id, kind=kind):
                    response = CheckpointDone(id=id, delivery=await self._checkpoint(id, kind))
                case ExecCode(id=id):
                    response = ExecDone(id=id, result="this composition has no plugin that runs code")
        except EffectControllerError as error:
            self._calls.settle(machine)
            machine.fail_turn(controller_failed(error))
            return
        except PluginError as error:
            machine.fail_turn(self._plugin_failure(error))
            return
        if self._abort is not None:
            if isinstance(response, CheckpointDone) and response.delivery.messages:
                machine.respond(response)  # what was enqueued beside the abort is kept
            self._abort_turn(machine)
            return
        try:
            machine.respond(response)
        except Exception as error:
            machine.fail_turn(driver_failed(error))

    def _scope(self) -> RuntimeScope:
        plan = self.plan
        return RuntimeScope(
            session_id=plan.session_id,
            turn_id=plan.turn_id,
            turn_index=plan.conversation.head.turn_index,
            protocol_iteration=self.machine.protocol_iteration,
        )

    # ---- effects, live ----------------------------------------------------------------------------------------------

    async def _sync(self, effect: SyncExecutionEnvironment) -> SyncEnvironmentOutcome:
        async def run(_: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
            if not effect.update_machine_config:
                return SyncEnvironmentOutcome()
            try:
                return SyncEnvironmentOutcome(update=await self._environment())
            except PluginError as error:
                self.hook_failed = True
                return SyncEnvironmentOutcome(error=str(error))

        command = SyncEnvironmentCommand(effect.update_machine_config)
        wrapped = envelope(self._scope(), command, str(effect.id))
        return expect(await self.plan.controller.execute(wrapped, run), SyncEnvironmentOutcome)

    async def _checkpoint(self, effect_id: int, kind: CheckpointKind) -> CheckpointDelivery:
        hooks = self.plan.composition.hooks["lash_checkpoint"]

        async def run(_: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
            if not hooks:
                return CheckpointOutcome(CheckpointDelivery())
            directives = await collect(hooks, self._bind(CheckpointHookContext, kind=kind), item=DIRECTIVES)
            return CheckpointOutcome(self._take(directives).delivery)

        wrapped = envelope(self._scope(), CheckpointCommand(kind), str(effect_id))
        return expect(await self.plan.controller.execute(wrapped, run), CheckpointOutcome).delivery

    # ---- hooks ------------------------------------------------------------------------------------------------------

    def _bind(
        self, context: type[TurnHookContext], kind: CheckpointKind | None = None, *, read_only: bool = False
    ) -> Callable[[str], object]:
        plan = self.plan

        @cache  # made for the first who is called, if there is one
        def call() -> TurnCall:
            return TurnCall(
                session_id=plan.session_id,
                mode_id=plan.composition.mode.mode_id,
                policy=plan.policy,
                turn_index=plan.conversation.head.turn_index,
                turn_id=plan.turn_id,
                turn_input=plan.turn_input,
                iteration=self.machine.protocol_iteration,
                messages=self.machine.messages,
                tools=plan.composition.manifests,
                kind=kind,
            )

        scopes = plan.states.scopes
        if read_only:
            scopes = {key: evolve(each, read_only=True) for key, each in scopes.items()}
        return lambda plugin_id: context(scopes[plugin_id], call())

    def observers_binding(self) -> Callable[[str], object]:
        """Contexts for hooks that only watch."""
        return self._bind(TurnHookContext, read_only=True)

    def _take(self, directives: list[Owned[Any]]) -> Sorted:
        """Sort directives, show events, and note an abort, which the loop carries out."""
        found = sort_directives(directives)
        for event in found.events:
            self._fold(event)
        if found.abort is not None:
            plugin_id, self._abort = found.abort
            issue = TurnIssue(kind="plugin", code=self._abort.code, message=self._abort.message, plugin_id=plugin_id)
            self.assembler.issues.append(issue)
        return found

    def _is_known(self, message_id: str) -> bool:
        return self.machine.messages.position_of(message_id) is not None

    def _abort_turn(self, machine: TurnMachine) -> None:
        self._abort = None
        if not machine.finish_with_outcome(Stopped(StopReason.PLUGIN_ABORT)):
            self._forced = Stopped(StopReason.PLUGIN_ABORT)  # its messages used the last iteration up

    async def _after_turn(self) -> None:
        """Run `lash_after_turn`. Messages are stored with the turn; an abort or a failure changes how it ended."""
        hooks = self.plan.composition.hooks["lash_after_turn"]
        if not hooks:
            return
        try:
            directives = await collect(hooks, self._bind(TurnHookContext), item=DIRECTIVES, turn=self.assembled())
            self.late.extend(self._take(directives).messages(f"{self.plan.turn_id}:after_turn", self._is_known))
            if self._abort is not None:
                self.assembler.outcome = Stopped(StopReason.PLUGIN_ABORT)
        except PluginError as error:
            self.fail(error)
        await self._stream.flush()

    def fail(self, error: PluginError) -> None:
        """End a turn that is over as failed: what a hook did at its end can't be kept."""
        self._fold(self._plugin_failure(error))
        self.assembler.outcome = Stopped(StopReason.RUNTIME_ERROR)

    def _plugin_failure(self, error: PluginError) -> ErrorEvent:
        self.hook_failed = True
        return plugin_failed(error)

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
