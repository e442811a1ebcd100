"""The tool calls of one model answer, run together: each an effect of its own, results in the order of the calls."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import anyio
import orjson
from anyio.abc import TaskGroup
from attrs import evolve, field

from lash_framework.direct_calls import Place as DirectPlace
from lash_framework.effects import envelope
from lash_framework.faults import is_failure
from lash_framework.hook_orders import joined, messages
from lash_framework.journal_errors import EffectsSuspended, EffectUnrecorded
from lash_framework.machine import TurnMachine
from lash_framework.stream import ActivityStream
from lash_framework.tool_calls import (
    attached,
    cancelled_call,
    completed,
    is_unknown,
    lost_call,
    perform,
    too_deep_call,
    unseen_call,
    waiting_call,
    without_attachment,
)
from lash_framework.tool_directives import with_after
from lash_framework.tool_hooks import Place, ToolHooks
from lash_framework.turn_contexts import TurnContexts
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.codec import MAX_NESTING, encode
from lash_hookspecs.directives import OwnedDirective
from lash_hookspecs.effect_commands import RuntimeEffectKind, ToolCallCommand
from lash_hookspecs.effect_outcomes import (
    HookRecord,
    RuntimeEffectOutcome,
    ToolCallDone,
    ToolCallEffectOutcome,
    expect,
)
from lash_hookspecs.effects import RuntimeEffectEnvelope, RuntimeScope, child_key, effect_key
from lash_hookspecs.errors import CodecError, EffectControllerError
from lash_hookspecs.tool_interventions import ToolIntervention
from lash_hookspecs.tools import (
    CompletedToolCall,
    OnUnknown,
    PendingToolCall,
    PreparedToolCall,
    ToolCallContext,
    ToolEffect,
    ToolError,
    ToolFailureClass,
)
from lash_hookspecs.turn_effects import ToolCalls, ToolResults
from lash_hookspecs.values import mutable

__all__ = ["ToolBatch"]

log = logging.getLogger("lash.tools")


MAX_DEPTH = 8
"""How deep tools may call tools: deep enough for any that ends, an end for one that calls itself."""


@mutable(eq=False)
class _Call:
    """A call that runs, or ran: `callers` are the tools above it, `children` the calls that its tool made, by index.
    `may_be_internal`: a tool makes it, of its own.

    `asked` has its arguments as they stand. `raw` is its result before hooks saw it, which `result` follows; `ran` says
    that its tool made it, and `is_live` that it did so now. `found` is what hooks before it did to it, and `hooks` are
    the records of all hooks around it, and around the calls within it.
    """

    asked: PendingToolCall
    place: Place
    callers: tuple[str, ...] = ()
    may_be_internal: bool = False
    children: dict[int, _Call] = field(factory=dict)
    raw: CompletedToolCall | None = None
    result: CompletedToolCall | None = None
    ran: bool = False
    is_live: bool = False
    found: tuple[ToolIntervention, ...] = ()
    hooks: list[HookRecord] = field(factory=list)

    def settled(self, otherwise: Callable[[PendingToolCall], CompletedToolCall]) -> CompletedToolCall:
        """Its result, with its children's; `otherwise` makes one for each call without."""
        if self.result is None and self.raw is not None:
            return unseen_call(self.raw) if self.ran else self.raw
        return self.result or self.with_children(otherwise(self.asked), otherwise)

    def with_children(
        self, done: CompletedToolCall, otherwise: Callable[[PendingToolCall], CompletedToolCall]
    ) -> CompletedToolCall:
        """The result, and what its children came to."""
        if not self.children:
            return done
        return evolve(done, children=tuple(each.settled(otherwise) for _, each in sorted(self.children.items())))


@mutable(eq=False)
class _Ends:
    """Why calls have no result: the boundary broke, refused something, or waits for a person. In this order."""

    broken: list[Exception] = field(factory=list)
    faults: list[EffectControllerError] = field(factory=list)
    waiting: dict[str, str] = field(factory=dict)

    def add(self, error: EffectControllerError | EffectsSuspended) -> None:
        if isinstance(error, EffectsSuspended):
            self.waiting |= error.waiting
        else:
            self.faults.append(error)

    def pass_on(self) -> None:
        """Raise the first of them, or all that wait."""
        for error in (*self.broken, *self.faults):
            raise error
        if self.waiting:
            raise EffectsSuspended(self.waiting)


class ToolBatch:
    """Runs a turn's batches, one after the other. An open one can be settled when the turn ends before it.

    `said` are the messages of hooks around calls, for the turn's next checkpoint, which takes them away.
    """

    def __init__(self, plan: TurnPlan, stream: ActivityStream, hooks: ToolHooks, contexts: TurnContexts) -> None:
        self._plan = plan
        self._stream = stream
        self._hooks = hooks
        self._around = contexts.around
        self.said: tuple[OwnedDirective, ...] = ()
        self._open: tuple[ToolCalls, list[_Call]] | None = None

    def open(self, effect: ToolCalls, scope: RuntimeScope) -> list[_Call]:
        """Begin a batch, of which nothing runs yet: if the turn ends before it does, it is settled all the same."""
        if self._open is None or self._open[0] is not effect:
            key = partial(effect_key, scope, RuntimeEffectKind.TOOL_CALL)
            self._open = (effect, [_Call(each, Place(scope, key(each.call_id))) for each in effect.calls])
        return self._open[1]

    async def run(self, effect: ToolCalls, scope: RuntimeScope) -> ToolResults:
        """Run all calls at once. Whatever goes wrong with one is its result.

        Raises `EffectControllerError`, or `EffectsSuspended`, once all calls have ended; whatever else the effect
        boundary raises (its store can't write) stops the other calls.
        """
        batch = self.open(effect, scope)
        for call in batch:  # one after the other: these may change what plugins remember
            if self._hooks.decides:
                await self._decide(call)
        calls = [call for call in batch if call.raw is None]
        asked = [self._envelope(call) for call in calls]
        await self._plan.controller.prepare(asked)
        ends = _Ends()
        faults: dict[str, EffectControllerError | EffectsSuspended] = {}
        group: TaskGroup | None = None

        async def run(call: _Call, wrapped: RuntimeEffectEnvelope) -> None:
            try:
                await self._run_call(call, wrapped)
            except (EffectControllerError, EffectsSuspended) as error:
                faults[wrapped.key] = error  # kept out of the group, which would wrap it
            except EffectUnrecorded as error:
                call.result = error.left
                ends.broken.append(error)  # the others may have records
            except Exception as error:
                ends.broken.append(error)
                if group is not None:
                    group.cancel_scope.cancel()
            except BaseException as error:
                # A cancellation that nobody asked for would end this task, or the turn, without a word.
                if not is_failure(error):
                    raise
                name = call.asked.tool_name
                log.warning("the call of tool `%s` ended without a result", name, exc_info=error)

        if len(calls) == 1:
            await run(calls[0], asked[0])
        else:
            async with anyio.create_task_group() as group:
                for call, wrapped in zip(calls, asked, strict=True):
                    group.start_soon(run, call, wrapped)
        for wrapped in asked:  # not as they came: attempts that fail for the same reasons say the same
            if wrapped.key in faults:
                ends.add(faults[wrapped.key])
        if ends.broken and (self._hooks.decides or self._hooks.looks):
            self._hooks.catch_up()  # what was recorded within a call that has no record was done all the same
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

    def _results(self, effect: ToolCalls, calls: list[_Call]) -> ToolResults:
        return ToolResults(id=effect.id, results=tuple(each.settled(cancelled_call) for each in calls))

    def _envelope(self, call: _Call) -> RuntimeEffectEnvelope:
        asked, place = call.asked, call.place
        owned = self._plan.composition.tools.get(asked.tool_name)
        prepared = PreparedToolCall(
            call_id=asked.call_id,
            tool_name=asked.tool_name,
            args=asked.args,
            plugin_id=owned.plugin_id if owned else "",
            effect=owned.tool.manifest.effect if owned else ToolEffect.PURE,  # what isn't there does nothing
            on_unknown=owned.tool.manifest.on_unknown if owned else OnUnknown.FAIL,
            replay=asked.replay,
        )
        return envelope(place.scope, ToolCallCommand(prepared), asked.call_id, key=place.key)

    async def _decide(self, call: _Call) -> None:
        """Ask the hooks before the tool. They may change the call's arguments, or end it here."""
        found = await self._hooks.before(call.asked, call.place)
        call.found = found.interventions
        call.hooks.append(found.hooks)
        if found.args is not None:
            call.asked = evolve(call.asked, args=found.args)
        if found.output is not None:
            call.raw = evolve(completed(call.asked, found.output), interventions=found.interventions)
            if not self._hooks.looks:
                call.result = call.raw

    async def _look(self, call: _Call) -> None:
        """Show the hooks what came of a call; what they make of it is its result."""
        assert call.raw is not None  # there is nothing else to look at
        found = await self._hooks.after(call.raw, call.place, ran=call.ran)
        call.result = with_after(call.raw, found)
        call.hooks.append(found.hooks)
        if call.is_live:
            await self._stream.tool_completed(call.result)

    async def _run_call(self, call: _Call, wrapped: RuntimeEffectEnvelope) -> None:
        plan, asked = self._plan, call.asked

        async def run(envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
            ends = _Ends()  # of the call's children, whatever the tool makes of them
            directs = DirectPlace(envelope)
            await self._stream.tool_started(asked.call_id, asked.tool_name, asked.args, call.place.parent_id)
            done = await perform(
                plan.composition,
                plan.validators,
                asked,
                lambda owner: self._context(call, owner, ends, directs),
                plan.tools.refusal(asked.tool_name, nested=call.may_be_internal),
            )
            ends.pass_on()
            directs.close()
            for each in attached(done):
                if await plan.get_blob(each.id) is None:
                    done = without_attachment(asked, each, done.duration_ms)
                    break
            made = call.with_children(done, lost_call)
            self._keep(call, made)  # it happened, though the turn may be cancelled by now
            call.is_live = True
            inner = [record for _, child in sorted(call.children.items()) for record in child.hooks]
            return ToolCallEffectOutcome(ToolCallDone(made), joined(inner))

        try:
            outcome = expect(await plan.controller.execute(wrapped, self._around(run)), ToolCallEffectOutcome)
        except Exception:
            call.raw = call.result = None  # there is no record of it, and there won't be
            raise
        self._keep(call, outcome.launch.result)
        if outcome.within.directives or outcome.within.states:
            call.hooks.append(outcome.within)
            if not call.is_live:
                await self._hooks.take(outcome.within)
        if call.is_live and call.result is not None:
            # Shown once it is recorded: whoever watches may be slow, or go, and it must not be lost.
            await self._stream.tool_completed(call.result)

    def _keep(self, call: _Call, done: CompletedToolCall) -> None:
        """A tool came to its end: this is the result, unless there are hooks that look at it."""
        call.raw = evolve(done, interventions=call.found) if call.found else done
        call.ran = not is_unknown(done)
        if not self._hooks.looks:
            call.result = call.raw

    async def _run_child(self, child: _Call) -> CompletedToolCall:
        """Run a call that a tool makes. There is no batch to wait for: whoever made it wants its result."""
        if self._hooks.decides:
            await self._decide(child)
        if child.raw is None:
            await self._run_call(child, self._envelope(child))
        if self._hooks.looks:
            await self._look(child)
        child.result = child.settled(lost_call)
        return child.result

    async def _context(self, call: _Call, owner: str, ends: _Ends, directs: DirectPlace) -> ToolCallContext:
        await self._plan.enter()
        corner, asked = self._plan.states.scopes[owner], call.asked
        scope, key = call.place.scope, call.place.key
        callers = (*call.callers, asked.tool_name)

        async def call_tool(
            index: int, name: str, args: Mapping[str, Any], *, as_model: bool = False
        ) -> CompletedToolCall:
            if index in call.children:
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
            child = _Call(
                PendingToolCall(call_id=f"{asked.call_id}:{index:02d}", tool_name=name, args=args),
                Place(scope, child_key(key, owner, index), asked.call_id),
                callers,
                may_be_internal=not as_model,
            )
            call.children[index] = child
            if len(callers) >= MAX_DEPTH:
                child.result = too_deep_call(child.asked, callers)
                return child.result
            try:
                return await self._run_child(child)
            except EffectControllerError as error:
                ends.add(error)
                raise
            except EffectsSuspended as error:
                # The tool goes on to its end, so that its other children do, and then its own result is dropped.
                ends.add(error)
                child.result = waiting_call(child.asked)
                return child.result

        return ToolCallContext(
            session_id=self._plan.session_id,
            turn_id=self._plan.turn_id,
            call_id=asked.call_id,
            tool_name=asked.tool_name,
            plugin_id=owner,
            idempotency_key=key,
            host=corner.host,
            options=corner.options,
            state=corner.state,
            call_tool=call_tool,
            find_tools=self._plan.tools.find,
            services=partial(self._plan.services, place=directs),
        )
