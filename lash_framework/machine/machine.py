"""The engine of a turn: looks up transitions and carries them out. No I/O, no clock, no chance, no logging.

The host polls for effects and answers those that carry an id. Whatever a handler does happens as a whole or not at all:
if a driver raises, or breaks its contract, the machine stands where it stood.
"""

from __future__ import annotations

from typing import Any

from attrs import evolve

from lash_framework.machine.answers import (
    ENDING_REASONS,
    answer_text,
    call_error_event,
    ending_event,
    refine_reason,
)
from lash_framework.machine.config import TurnMachineConfig, TurnStart
from lash_framework.machine.context import DriverContext
from lash_framework.machine.deliveries import Accepted, accept_delivery
from lash_framework.machine.sequence import MessageSequence
from lash_framework.machine.snapshot import restore_run, start_run, take_snapshot
from lash_framework.machine.steps import call_events, check_step, merge_results, split_calls
from lash_framework.machine.table import TABLE, State, Trigger
from lash_hookspecs.checkpoints import CheckpointKind
from lash_hookspecs.llm import LlmCallError, LlmResponse, LlmTerminalReason, TokenUsage
from lash_hookspecs.messages import Message, TurnCause
from lash_hookspecs.tools import CompletedToolCall, ExecResponse
from lash_hookspecs.turn_effects import (
    Checkpoint,
    CheckpointDone,
    Done,
    Effect,
    EnvironmentSynced,
    ExecCode,
    ExecDone,
    LlmCall,
    LlmComplete,
    Log,
    Progress,
    ProtocolEvent,
    Response,
    SyncExecutionEnvironment,
    ToolCalls,
    ToolResults,
)
from lash_hookspecs.turn_events import (
    DoneEvent,
    ErrorEnvelope,
    ErrorEvent,
    InjectedMessagesCommitted,
    LlmErrorLog,
    LlmRequestEvent,
    LlmResponseEvent,
    TextDelta,
    TokenUsageEvent,
    TurnOutcomeEvent,
)
from lash_hookspecs.turn_outcomes import Finished, Handoff, Stopped, StopReason, TurnOutcome
from lash_hookspecs.turn_snapshot import MachineSnapshot, Waiting
from lash_hookspecs.turn_steps import (
    CheckpointResumeAction,
    Continuation,
    PrepareIteration,
    StartCheckpoint,
    StartExec,
    StartLlm,
    StartTools,
    Step,
)

__all__ = ["TurnMachine"]


class TurnMachine:
    """One turn, from its input to its `Done`.

    Poll until None; if the machine isn't done then, a response is owed. A driver's exception, and `DriverError` for a
    step that breaks the contract, come out of `poll` and `respond` and change nothing; `fail_turn` ends such a turn.
    """

    def __init__(self, config: TurnMachineConfig, start: TurnStart) -> None:
        self._config = config
        self._run = start_run(config, start)

    @classmethod
    def restore(
        cls, config: TurnMachineConfig, base_messages: MessageSequence, snapshot: MachineSnapshot
    ) -> TurnMachine:
        """The machine that the snapshot was taken of; it hands out what was queued, then its unanswered effect again.

        Raises `CodecError` if the snapshot doesn't belong to this history.
        """
        machine = cls.__new__(cls)
        machine._config = config
        machine._run = restore_run(config, base_messages, snapshot)
        return machine

    # ---- what the host does -----------------------------------------------------------------------------------------

    def poll(self) -> Effect | None:
        """The next effect. None: a response is owed, or the turn is over (see `is_done`)."""
        while True:
            run = self._run
            if run.pending:
                effect, run.pending = run.pending[0], run.pending[1:]
                return effect
            if run.waiting is not None and not run.delivered:
                run.delivered = True
                return run.waiting.effect
            if run.state not in (State.START, State.PREPARE):
                return None
            # Leaves PREPARE, or advances and so queues a `Progress`: this loop ends.
            unsynced = self._config.sync_execution_environment and run.synced_iteration != run.protocol_iteration
            self._fire(Trigger.POLL_UNSYNCED if unsynced else Trigger.POLL_READY)

    def respond(self, response: Response) -> bool:
        """Answer an effect. False: nobody waits for this response, and nothing has changed.

        Raises `EffectControllerError` for tool results that don't answer the calls one by one.
        """
        waiting = self._run.waiting
        if waiting is None or response.id != waiting.effect.id:
            return False
        match waiting.effect, response:
            case SyncExecutionEnvironment(), EnvironmentSynced(error=None):
                return self._fire(Trigger.SYNCED, waiting.effect, response)
            case SyncExecutionEnvironment(), EnvironmentSynced(error=str(error)):
                return self._fire(Trigger.SYNC_FAILED, error)
            case LlmCall(), LlmComplete(result=LlmCallError() as error):
                return self._fire(Trigger.LLM_FAILED, error)
            case LlmCall(), LlmComplete(result=LlmResponse() as answer, text_streamed=streamed):
                answer = refine_reason(answer, self._config.max_context_tokens)
                ended = answer.terminal_reason in ENDING_REASONS
                return self._fire(Trigger.LLM_ENDED if ended else Trigger.LLM_ANSWERED, waiting, answer, streamed)
            case ToolCalls(), ToolResults(results=results):
                return self._fire(Trigger.TOOLS_ANSWERED, merge_results(waiting, results))
            case ExecCode(), ExecDone(result=result):
                return self._fire(Trigger.CODE_ANSWERED, waiting, result)
            case Checkpoint(kind=kind), CheckpointDone():
                accepted = self._accept(response)
                if accepted:
                    return self._fire(Trigger.CHECKPOINT_ADDED, kind, accepted)
                return self._fire(Trigger.CHECKPOINT_EMPTY, waiting.on_empty)
            case _:
                return False

    def ask_over(self, base: MessageSequence, events: tuple[ProtocolEvent, ...], usage: TokenUsage | None) -> bool:
        """Answer the open model call, which didn't fit the model's window, with the order to ask again.

        From now on the conversation before the turn is `base`, shown whole, and `events` are all of the protocol's
        records. False: no model call is open.
        """
        if not isinstance(self.unanswered, LlmCall) or not self._fire(Trigger.LLM_COMPACTED, base, events, usage):
            return False
        self._config = evolve(self._config, view=None)
        return True

    def fail_turn(self, event: ErrorEvent) -> bool:
        """End the turn with an error of the host's. False: it is over already."""
        return self._fire(Trigger.FAIL, event)

    def finish_with_outcome(self, outcome: TurnOutcome) -> bool:
        """End the turn now. False: it is over already."""
        return self._fire(Trigger.FINISH, outcome)

    @property
    def is_done(self) -> bool:
        """Whether the turn is over. What is still queued must be polled all the same; `Done` comes last."""
        return self._run.state is State.DONE

    @property
    def unanswered(self) -> Effect | None:
        """The effect that a response is owed to, if there is one."""
        return None if self._run.waiting is None else self._run.waiting.effect

    @property
    def outcome(self) -> TurnOutcome | None:
        """How the turn ended, once it has."""
        return self._run.outcome

    @property
    def messages(self) -> MessageSequence:
        """The conversation, this turn's messages included."""
        return self._run.messages

    @property
    def turn_messages(self) -> tuple[Message, ...]:
        """What this turn appended so far, its input included."""
        return self._run.turn_messages

    @property
    def turn_causes(self) -> tuple[TurnCause, ...]:
        """What this turn tells as news."""
        return self._run.turn_causes

    @property
    def events(self) -> tuple[ProtocolEvent, ...]:
        """The protocol's records, this turn's included."""
        return self._run.events

    @property
    def usage(self) -> TokenUsage:
        """Tokens of all answered model calls of this turn."""
        return self._run.usage

    @property
    def protocol_iteration(self) -> int:
        """The number of the current iteration."""
        return self._run.protocol_iteration

    def snapshot(self) -> MachineSnapshot:
        """The turn as plain data, at any moment."""
        return take_snapshot(self._run)

    # ---- the engine -------------------------------------------------------------------------------------------------

    def _fire(self, trigger: Trigger, *given: Any) -> bool:
        before = self._run
        row = TABLE[before.state].get(trigger)
        if row is None:
            return False
        self._run = before.copy()  # handlers write to a copy, so that a failing one has written nothing
        try:
            getattr(self, row.handler)(*given)
            after = self._run.state
            if after not in row.to:
                raise AssertionError(f"{trigger} may not lead from {before.state} to {after}: mend the table")
        except BaseException:
            self._run = before
            raise
        return True

    def _wait(self, waiting: Waiting) -> None:
        run = self._run
        run.next_effect_id += 1
        run.state, run.waiting, run.delivered = State.WAITING, waiting, False

    def _prepare(self) -> None:
        self._run.state, self._run.waiting = State.PREPARE, None

    def _report(self) -> None:
        messages, events = self._run.take_unreported()
        self._run.queue(
            Progress(new_messages=messages, event_delta=events, protocol_iteration=self._run.protocol_iteration)
        )

    def _context(self) -> DriverContext:
        run = self._run
        return DriverContext(
            config=self._config,
            messages=run.messages,
            base_count=run.base_count,
            events=run.events,
            turn_causes=run.turn_causes,
            protocol_iteration=run.protocol_iteration,
            protocol_run_offset=run.protocol_run_offset,
            turn_limit_scheduled=run.turn_limit_scheduled,
            system_prompt=run.system_prompt,
            tool_specs=run.tool_specs,
            requests=[],
        )

    # ---- handlers: one per row --------------------------------------------------------------------------------------

    def _sync_first(self) -> None:
        self._sync(update=False)

    def _sync_again(self) -> None:
        self._sync(update=True)

    def _sync(self, *, update: bool) -> None:
        effect = SyncExecutionEnvironment(id=self._run.next_effect_id, update_machine_config=update)
        self._wait(Waiting(effect=effect))

    def _take_environment(self, effect: SyncExecutionEnvironment, response: EnvironmentSynced) -> None:
        run = self._run
        if response.update is not None and effect.update_machine_config:
            run.system_prompt = response.update.system_prompt
            run.tool_specs = response.update.tool_specs
        run.synced_iteration = run.protocol_iteration
        self._prepare()

    def _fail_environment(self, error: str) -> None:
        envelope = ErrorEnvelope(kind="execution_environment", code="reconfigure_failed", user_message=error)
        self._fail(ErrorEvent(error, envelope))

    def _ask_prepare(self) -> None:
        step = self._config.driver.prepare_protocol_iteration(self._context())
        self._take(step, "prepare_protocol_iteration", may_repeat=False, may_reject=False)

    def _ask_llm(self, waiting: Waiting, answer: LlmResponse, streamed: bool) -> None:
        self._spend(answer.usage)
        step = self._config.driver.handle_llm_success(self._context(), answer, streamed, waiting.driver_state)
        self._take(step, "handle_llm_success")

    def _end_by_reason(self, waiting: Waiting, answer: LlmResponse, streamed: bool) -> None:
        self._spend(answer.usage)
        text = answer_text(answer)
        if text.strip() and not streamed:
            self._run.emit([TextDelta(text)])
        self._run.emit([LlmResponseEvent(protocol_iteration=self._run.protocol_iteration, content=text)])
        if answer.terminal_reason is not LlmTerminalReason.CANCELLED:  # somebody wanted it: no error
            self._run.emit([ending_event(answer)])
        self._finish(Stopped(ENDING_REASONS[answer.terminal_reason]))

    def _end_by_error(self, error: LlmCallError) -> None:
        run = self._run
        if error.usage is not None:
            self._spend(error.usage)
        log = LlmErrorLog(session_id=self._config.session_id, protocol_iteration=run.protocol_iteration, error=error)
        run.queue(Log(log))
        if error.terminal_reason is LlmTerminalReason.CANCELLED:
            self._finish(Stopped(StopReason.CANCELLED))
            return
        run.emit([call_error_event(error)])
        self._finish(Stopped(StopReason.PROVIDER_ERROR))

    def _ask_over(self, base: MessageSequence, events: tuple[ProtocolEvent, ...], usage: TokenUsage | None) -> None:
        if usage is not None:
            self._spend(usage)
        run = self._run
        run.messages, run.base_count = base.extended(run.turn_messages), len(base)
        run.reported_events += len(events) - len(run.events)
        run.events = events
        self._prepare()

    def _ask_tools(self, results: tuple[CompletedToolCall, ...]) -> None:
        self._run.emit(call_events(results))
        step = self._config.driver.handle_tool_results(self._context(), results)
        self._take(step, "handle_tool_results", may_reject=self._run.waiting is not None)

    def _ask_exec(self, waiting: Waiting, result: ExecResponse | str) -> None:
        step = self._config.driver.handle_exec_result(self._context(), result, waiting.driver_state)
        self._take(step, "handle_exec_result")

    def _resume(self, action: CheckpointResumeAction | None) -> None:
        self._go_on(action or PrepareIteration())

    def _take_delivery(self, kind: CheckpointKind, accepted: Accepted) -> None:
        run = self._run
        run.messages = run.messages.extended(accepted.messages)
        run.turn_causes += accepted.turn_causes
        run.checkpoint_count += len(accepted.messages)
        if accepted.injected or accepted.inputs:
            told = InjectedMessagesCommitted(messages=accepted.injected, checkpoint=kind, inputs=accepted.inputs)
            run.emit([told])
        over = False
        if kind is not CheckpointKind.AFTER_WORK:
            # What the driver was about to do is no longer the next thing, which makes this one more iteration.
            run.protocol_iteration += 1
            over = run.turn_limit_scheduled
            self._schedule_turn_limit()
        self._report()
        if over:
            self._finish(Stopped(StopReason.MAX_TURNS))
        else:
            self._prepare()

    def _fail(self, event: ErrorEvent) -> None:
        self._run.emit([event])
        self._finish(Stopped(StopReason.RUNTIME_ERROR))

    def _finish(self, outcome: TurnOutcome) -> None:
        run = self._run
        run.state, run.waiting, run.outcome = State.DONE, None, outcome
        run.emit([TurnOutcomeEvent(outcome), DoneEvent()])
        messages, events = run.take_unreported()
        run.queue(
            Done(
                new_messages=messages,
                event_delta=events,
                protocol_iteration=run.protocol_iteration,
                outcome=outcome,
            )
        )

    # ---- parts of handlers ------------------------------------------------------------------------------------------

    def _spend(self, usage: TokenUsage) -> None:
        run = self._run
        run.usage = run.usage + usage
        run.emit([TokenUsageEvent(protocol_iteration=run.protocol_iteration, usage=usage, cumulative=run.usage)])

    def _accept(self, response: CheckpointDone) -> Accepted:
        run = self._run
        prefix = f"m_checkpoint_{self._config.turn_id}_{run.protocol_iteration}_"
        return accept_delivery(
            response.delivery, run.messages, run.turn_causes, id_prefix=prefix, count=run.checkpoint_count
        )

    def _schedule_turn_limit(self) -> None:
        limit = self._context().turn_limit_final_to_schedule
        if limit is not None:
            message_id = f"m_turn_limit_{self._config.turn_id}_{self._run.protocol_iteration}"
            message = self._config.turn_limit_final_message(message_id, limit)
            self._run.messages = self._run.messages.extended([message])
            self._run.turn_limit_scheduled = True

    def _take(self, given: Step, asked: str, *, may_repeat: bool = True, may_reject: bool = True) -> None:
        """Apply a driver's step: show, append, advance, report, then go on. `Progress` precedes what follows it."""
        run = self._run
        own = self._config.checkpoints
        step = check_step(given, asked, run.messages, own, may_repeat=may_repeat, may_reject=may_reject)
        run.emit(step.emits)
        run.messages = run.messages.extended(step.messages)
        run.events += step.events
        if step.advance:
            run.protocol_iteration += 1
        final = step.turn_limit_final
        if final is not None and self._context().turn_limit_final_to_schedule is not None:
            run.messages = run.messages.extended([final])
            run.turn_limit_scheduled = True
        else:
            final = None
        if step.messages or step.events or step.advance or final is not None:
            self._report()
        self._go_on(step.next)

    def _go_on(self, continuation: Continuation) -> None:
        run = self._run
        next_id = run.next_effect_id
        match continuation:
            case StartLlm(request=request, driver_state=state, did=did):
                names = tuple([spec.name for spec in request.tools])
                count, iteration = len(request.messages), run.protocol_iteration
                run.emit([LlmRequestEvent(protocol_iteration=iteration, message_count=count, tool_list=names)])
                self._wait(Waiting(effect=LlmCall(id=next_id, request=request, did=did), driver_state=state))
            case StartTools(calls=calls):
                valid, rejected = split_calls(calls)
                if valid:
                    self._wait(Waiting(effect=ToolCalls(id=next_id, calls=valid), rejected=rejected))
                else:
                    run.waiting = None  # so that the results of this batch can't start another one of its kind
                    self._ask_tools(tuple(result for _, result in rejected))
            case StartExec(language=language, code=code, driver_state=state):
                self._wait(Waiting(effect=ExecCode(id=next_id, language=language, code=code), driver_state=state))
            case StartCheckpoint(kind=kind, on_empty=on_empty):
                self._wait(Waiting(effect=Checkpoint(id=next_id, kind=kind), on_empty=on_empty))
            case PrepareIteration():
                self._prepare()
            case Finished() | Stopped() | Handoff() as outcome:
                self._finish(outcome)
