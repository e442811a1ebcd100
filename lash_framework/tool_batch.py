"""The tool calls of one model answer, run together: each an effect of its own, results in the order of the calls."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any

import anyio
import orjson
from anyio.abc import TaskGroup
from attrs import evolve

from lash_framework.direct_calls import DirectPlace
from lash_framework.effects import envelope
from lash_framework.faults import is_failure
from lash_framework.hook_orders import joined, messages
from lash_framework.journal_errors import EffectsSuspended, EffectUnrecorded
from lash_framework.machine import TurnMachine
from lash_framework.open_calls import Ends, OpenCall
from lash_framework.stream import ActivityStream
from lash_framework.tool_calls import (
    attached,
    call_ended,
    cancelled_call,
    has_unknown,
    is_unknown,
    left_by_cancel,
    lost_call,
    perform,
    prepared,
    too_deep_call,
    waiting_call,
    without_attachment,
)
from lash_framework.tool_decisions import decide, heed, require_tools
from lash_framework.tool_deferrals import Deferral, answered, deferral_of, wait_of
from lash_framework.tool_directives import with_after
from lash_framework.tool_hooks import CallPlace, ToolHooks
from lash_framework.tool_pauses import pause
from lash_framework.tool_retries import judging
from lash_framework.turn_contexts import TurnContexts
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.codec import MAX_NESTING, encode
from lash_hookspecs.directives import OwnedDirective
from lash_hookspecs.effect_commands import AwaitEventCommand, RuntimeEffectKind, ToolCallCommand
from lash_hookspecs.effect_outcomes import (
    AwaitEventOutcome,
    RuntimeEffectOutcome,
    ToolCallDone,
    ToolCallEffectOutcome,
    ToolCallPending,
    expect,
)
from lash_hookspecs.effects import RuntimeEffectEnvelope, RuntimeScope, child_key, effect_key
from lash_hookspecs.errors import CodecError, EffectControllerError
from lash_hookspecs.tool_declarations import RetryNever
from lash_hookspecs.tools import (
    CompletedToolCall,
    PendingToolCall,
    ToolCallContext,
    ToolError,
    ToolFailureClass,
)
from lash_hookspecs.turn_effects import ToolCalls, ToolResults
from lash_hookspecs.waits import WaitTimedOut

__all__ = ["ToolBatch"]

log = logging.getLogger("lash.tools")


MAX_DEPTH = 8
"""How deep tools may call tools: deep enough for any that ends, an end for one that calls itself."""


class ToolBatch:
    """Runs a turn's batches, one after the other. An open one can be settled when the turn ends before it.

    `said` are the messages of hooks around calls, for the turn's next checkpoint, which takes them away.
    """

    def __init__(self, plan: TurnPlan, stream: ActivityStream, hooks: ToolHooks, contexts: TurnContexts) -> None:
        self._plan = plan
        self._stream = stream
        self._hooks = hooks
        self._room = hooks.room
        self._around = contexts.around
        self.said: tuple[OwnedDirective, ...] = ()
        self._answered = False  # whether any call was
        self._open: tuple[ToolCalls, list[OpenCall]] | None = None

    def open(self, effect: ToolCalls, scope: RuntimeScope) -> list[OpenCall]:
        """Begin a batch, of which nothing runs yet: if the turn ends before it does, it is settled all the same."""
        if self._open is None or self._open[0] is not effect:
            key = partial(effect_key, scope, RuntimeEffectKind.TOOL_CALL)
            self._open = (effect, [OpenCall(each, CallPlace(scope, key(each.call_id))) for each in effect.calls])
            self._hooks.begin()
        return self._open[1]

    async def run(self, effect: ToolCalls, scope: RuntimeScope) -> ToolResults:
        """Run all calls at once. Whatever goes wrong with one is its result.

        Raises `EffectControllerError`, or `EffectsSuspended`, once all calls have ended; whatever else the effect
        boundary raises (its store can't write) stops the other calls.
        """
        batch = self.open(effect, scope)
        ends = Ends()
        faults: dict[str, EffectControllerError | EffectsSuspended] = {}
        group: TaskGroup | None = None

        async def run(call: OpenCall, work: Callable[[], Awaitable[None]]) -> None:
            try:
                await work()
            except (EffectControllerError, EffectsSuspended) as error:
                faults[call.place.key] = error  # kept out of the group, which would wrap it
            except EffectUnrecorded as error:
                call.result = error.left or call.result  # without one it was another effect that has no record
                ends.broken.append(error)  # the others may have records
            except Exception as error:
                ends.broken.append(error)
                if group is not None:
                    group.cancel_scope.cancel()
            except BaseException as error:
                # A cancellation that nobody asked for would end this task, or the turn, without a word.
                if not is_failure(error):
                    raise
                log.warning("the call of tool `%s` ended without a result", call.asked.tool_name, exc_info=error)

        require_tools(self._plan, batch)
        for call in batch if self._hooks.decides else ():  # in a row: these may change what plugins remember
            await decide(self._hooks, self._room, call)
        # Who was answered first is heard first, also when the turn goes on once more.
        doubtful = [call for call in batch if call.questions] if self._hooks.decides else []
        for call in sorted(doubtful, key=lambda each: not self._hooks.was_answered(each.place)):
            await run(call, partial(heed, self._plan, self._hooks, self._room, call))
        calls = [call for call in batch if call.raw is None and call.place.key not in faults and not call.questions]
        asked = [self._envelope(call) for call in calls]
        await self._plan.controller.prepare(asked)
        if len(calls) == 1:
            await run(calls[0], partial(self._run_call, calls[0], asked[0]))
        else:
            async with anyio.create_task_group() as group:
                for call, wrapped in zip(calls, asked, strict=True):
                    group.start_soon(run, call, partial(self._run_call, call, wrapped))
        if self._answered:
            self._take_answers(batch)
        for call in batch:  # not as they came: attempts that fail for the same reasons say the same
            if call.place.key in faults:
                ends.add(faults[call.place.key])
        if (self._hooks.decides or self._hooks.looks) and (ends.broken or any(has_unknown(each.raw) for each in batch)):
            self._hooks.catch_up()  # what was recorded within a call whose record knows nothing of it was done
        ends.pass_on()
        # The batch stays open until the machine has these, or `settle` hands them over.
        for call in batch:
            if self._hooks.looks and call.raw is not None:
                await self._look(call)
            call.result = call.settled(lost_call)
            self.said += messages(call.hooks)
        results = self._results(effect, batch)
        self._plan.tools.reveal(results.results)
        return results

    def settle(self, machine: TurnMachine, results: tuple[CompletedToolCall, ...] = ()) -> None:
        """Answer an open batch with these, or what is done and what was cancelled.

        A call without a result spoils the history. A machine that has been answered already takes no notice.
        """
        if self._open is not None:
            effect = self._open[0]
            results = results or self.results
            self._plan.tools.reveal(results)
            self._open = None
            machine.respond(ToolResults(id=effect.id, results=results))

    def close(self) -> None:
        """The machine has the batch's results."""
        self._open = None

    @property
    def results(self) -> tuple[CompletedToolCall, ...]:
        """What an open batch would be settled with; empty if none is open."""
        return self._results(*self._open).results if self._open is not None else ()

    def _results(self, effect: ToolCalls, calls: list[OpenCall]) -> ToolResults:
        if self._answered:
            self._take_answers(calls)
        return ToolResults(id=effect.id, results=tuple(each.settled(cancelled_call) for each in calls))

    def _envelope(self, call: OpenCall) -> RuntimeEffectEnvelope:
        asked, place = call.asked, call.place
        command = ToolCallCommand(prepared(self._plan.tools.catalog, asked))
        effect_id = asked.call_id if call.attempt == 1 else f"{asked.call_id} attempt {call.attempt}"
        return envelope(place.scope, command, effect_id, key=call.key)

    async def _look(self, call: OpenCall) -> None:
        """Show the hooks what came of a call; what they make of it is its result."""
        assert call.raw is not None  # there is nothing else to look at
        found = await self._hooks.after(call.raw, call.place, ran=call.ran)
        call.result = with_after(call.raw, found)
        self._room.take(call.place.key, call.result)
        call.hooks.append(found.hooks)
        if call.is_live:
            await self._stream.tool_completed(call.result)

    async def _run_call(self, call: OpenCall, wrapped: RuntimeEffectEnvelope) -> None:
        """Run it to its end: once more after a failure that says so, as its record does, after a while."""
        outcome = await self._attempt(call, wrapped)
        while outcome.again is not None:
            await pause(self._plan, self._stream, call, outcome.again)
            call.begin_again(outcome.launch.result)
            outcome = await self._attempt(call, self._envelope(call))
        if isinstance(outcome.launch, ToolCallPending):
            await self._complete(call, outcome.launch)
        if call.is_live and call.result is not None:
            # Shown once it is recorded: whoever watches may be slow, or go, and it must not be lost.
            await self._stream.tool_completed(call.result)

    async def _complete(self, call: OpenCall, launch: ToolCallPending) -> None:
        """Take the answer to a call whose end was put off. Raises `EffectsSuspended` if there is none yet."""
        plan, asked = self._plan, call.asked
        call.put_off(launch.result)

        async def run(_: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
            if launch.until_ms is not None and plan.now_ms() >= launch.until_ms:
                return AwaitEventOutcome(WaitTimedOut())
            raise EffectsSuspended({launch.key: f"tool_call `{asked.tool_name}` ({asked.call_id})"}, {launch.key})

        command = AwaitEventCommand(wait_of(plan.session_id, plan.turn_id, call.key))
        wrapped = envelope(call.place.scope, command, f"completion of {asked.call_id}", key=launch.key)
        outcome = expect(await plan.controller.execute(wrapped, run), AwaitEventOutcome)
        self._answered = True
        call.answer = answered(asked, launch, outcome.resolution)
        if call.callers:  # who called it has to know now
            self._take_answers([call])

    def _take_answers(self, calls: Sequence[OpenCall]) -> None:
        """Take what calls were answered with, as far as there is room: in their order, whichever answer came first."""
        for call in calls:
            if (answer := call.answer) is not None:
                call.answer = None
                self._keep(call, self._room.fitted(call.place.key, answer))

    async def _attempt(self, call: OpenCall, wrapped: RuntimeEffectEnvelope) -> ToolCallEffectOutcome:
        plan, asked = self._plan, call.asked
        owned = plan.tools.catalog.tools.get(asked.tool_name)
        policy = owned.tool.manifest.retry if owned is not None else RetryNever()

        async def run(envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
            call.slot = plan.limits.slot(owned)
            if call.slot is None:
                return await execute()
            async with call.slot:
                return await execute()

        async def execute() -> RuntimeEffectOutcome:
            deferral = deferral_of(plan, call) if owned is not None else None
            ends = Ends()  # of the call's children, whatever the tool makes of them
            directs = DirectPlace(wrapped)
            call.note = left_by_cancel(owned)
            if not call.is_shown:
                call.is_shown = True
                await self._stream.tool_started(asked.call_id, asked.tool_name, asked.args, call.place.parent_id)
            try:
                done = await perform(
                    plan.tools.catalog,
                    asked,
                    lambda owner: self._context(call, owner, ends, deferral, directs),
                    plan.tools.refusal(asked.tool_name, nested=call.may_be_internal),
                )
            finally:
                directs.end()
            ends.pass_on()
            directs.close()
            for each in attached(done):
                if await plan.get_blob(each.id) is None:
                    done = without_attachment(asked, each, done.duration_ms)
                    break
            made = call.with_children(self._room.fitted(call.place.key, done), lost_call)
            self._keep(call, made)  # it happened, though the turn may be cancelled by now
            call.is_live = True
            inner = [record for _, child in sorted(call.children.items()) for record in child.hooks]
            outcome = ToolCallEffectOutcome(ToolCallDone(made), joined(inner))
            return outcome if deferral is None else deferral.outcome(outcome)

        runner = self._around(run)
        if not isinstance(policy, RetryNever):
            runner = judging(runner, policy, call.attempt, plan.now_ms)
        try:
            outcome = expect(await plan.controller.execute(wrapped, runner), ToolCallEffectOutcome)
        except Exception:
            call.raw = call.result = None  # there is no record of it, and there won't be
            raise
        self._keep(call, outcome.launch.result)
        if outcome.within.directives or outcome.within.states:
            call.hooks.append(outcome.within)
            if not call.is_live:
                await self._hooks.take(outcome.within)
        return outcome

    def _keep(self, call: OpenCall, done: CompletedToolCall) -> None:
        """A tool came to its end: this is the result, unless there are hooks that look at it."""
        call.raw = evolve(done, interventions=(*call.found, *done.interventions)) if call.found else done
        for child in call.children.values():
            self._room.drop(child.place.key)  # it is a part of this one
        self._room.take(call.place.key, done)
        call.ran = not is_unknown(done)
        if not self._hooks.looks:
            call.result = call.raw

    async def _run_child(self, child: OpenCall) -> CompletedToolCall:
        """Run a call that a tool makes. There is no batch to wait for: whoever made it wants its result."""
        if self._hooks.decides:
            await decide(self._hooks, self._room, child)
            await heed(self._plan, self._hooks, self._room, child)
        if child.raw is None:
            await self._run_call(child, self._envelope(child))
        if self._hooks.looks:
            await self._look(child)
        child.result = child.settled(lost_call)
        return child.result

    async def _context(
        self, call: OpenCall, owner: str, ends: Ends, deferral: Deferral | None, directs: DirectPlace
    ) -> ToolCallContext:
        await self._plan.enter()
        corner, asked = self._plan.states.scopes[owner], call.asked
        scope, key, prefix = call.place.scope, call.key, call.prefix
        children, slot = call.children, call.slot  # this attempt's: code of an earlier one may still run
        callers = (*call.callers, asked.tool_name)

        async def call_tool(
            index: int, name: str, args: Mapping[str, Any], *, as_model: bool = False
        ) -> CompletedToolCall:
            if directs.is_over:
                raise call_ended(asked)
            if index in children:
                text = (
                    f"`call_tool` was called twice with index {index}; each child of a call needs an index of its own"
                )
                raise ToolError(text, code="duplicate_child_index", failure_class=ToolFailureClass.INTERNAL)
            try:
                # Through JSON and back, like a result: they are stored, and the caller keeps its own.
                args = orjson.loads(encode(args, levels=MAX_NESTING))
            except CodecError as error:
                text = f"the arguments of the call of `{name}` have no JSON form: {error}"
                raise ToolError(text, code="unencodable_arguments", failure_class=ToolFailureClass.INTERNAL) from error
            child = OpenCall(
                PendingToolCall(call_id=f"{prefix}:{index:02d}", tool_name=name, args=args),
                CallPlace(scope, child_key(key, owner, index), asked.call_id),
                callers,
                may_be_internal=not as_model,
            )
            children[index] = child
            if len(callers) >= MAX_DEPTH:
                child.result = too_deep_call(child.asked, callers)
                return child.result
            if slot is not None:
                slot.give()
            directs.calls.add(bound := anyio.CancelScope())
            try:
                with bound:
                    return await self._run_child(child)
                raise call_ended(asked)
            except EffectControllerError as error:
                ends.add(error)
                raise
            except EffectsSuspended as error:
                # The tool goes on to its end, so that its other children do, and then its own result is dropped.
                ends.add(error)
                child.result = waiting_call(child.asked)
                return child.result
            finally:
                directs.calls.discard(bound)
                if slot is not None:
                    await slot.take_back()

        return ToolCallContext(
            session_id=self._plan.session_id,
            turn_id=self._plan.turn_id,
            call_id=asked.call_id,
            tool_name=asked.tool_name,
            plugin_id=owner,
            idempotency_key=call.place.key,
            host=corner.host,
            options=corner.options,
            state=corner.state,
            call_tool=call_tool,
            find_tools=self._plan.tools.find,
            defer=None if deferral is None else deferral.defer,
            progress=partial(self._stream.tool_progress, asked.call_id),
            show=partial(self._stream.tool_shows, asked.call_id, owner),
            model=self._plan.capability,
            services=partial(self._plan.services, place=directs, slot=slot),
        )
