"""The tool calls of one model answer, run together: each an effect of its own, results in the order of the calls."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import anyio

from lash_framework.effects import envelope
from lash_framework.faults import is_failure
from lash_framework.machine import TurnMachine
from lash_framework.stream import ActivityStream
from lash_framework.tool_calls import cancelled_call, lost_call, perform
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.effect_commands import ToolCallCommand
from lash_hookspecs.effect_outcomes import RuntimeEffectOutcome, ToolCallDone, ToolCallEffectOutcome, expect
from lash_hookspecs.effects import RuntimeEffectEnvelope, RuntimeScope, child_key
from lash_hookspecs.errors import EffectControllerError
from lash_hookspecs.tools import (
    CompletedToolCall,
    PendingToolCall,
    PreparedToolCall,
    ToolCallContext,
    ToolEffect,
    ToolError,
    ToolFailureClass,
)
from lash_hookspecs.turns import ToolCalls, ToolResults

__all__ = ["ToolBatch"]

log = logging.getLogger("lash.tools")


class ToolBatch:
    """Runs a turn's batches, one after the other. An open one can be settled when the turn ends before it."""

    def __init__(self, plan: TurnPlan, stream: ActivityStream) -> None:
        self._plan = plan
        self._stream = stream
        self._open: tuple[ToolCalls, list[CompletedToolCall | None]] | None = None

    async def run(self, effect: ToolCalls, scope: RuntimeScope) -> ToolResults:
        """Run all calls at once. Raises `EffectControllerError`; whatever else goes wrong is a call's result."""
        results: list[CompletedToolCall | None] = [None] * len(effect.calls)
        self._open = (effect, results)
        faults: list[EffectControllerError] = []

        async def run(index: int, call: PendingToolCall) -> None:
            try:
                results[index] = await self._run_call(call, scope)
            except EffectControllerError as error:
                faults.append(error)  # kept out of the group, which would wrap it
            except BaseException as error:
                # A cancellation that nobody asked for would end this task, or the turn, without a word.
                if isinstance(error, Exception) or not is_failure(error):
                    raise
                log.warning("the call of tool `%s` ended without a result", call.tool_name, exc_info=error)

        if len(effect.calls) == 1:
            await run(0, effect.calls[0])
        else:
            async with anyio.create_task_group() as group:
                for index, call in enumerate(effect.calls):
                    group.start_soon(run, index, call)
        if faults:
            raise faults[0]
        done = tuple(each or lost_call(call) for each, call in zip(results, effect.calls, strict=True))
        results[:] = done  # the batch stays open until the machine has these, or `settle` hands them over
        return ToolResults(id=effect.id, results=done)

    def settle(self, machine: TurnMachine) -> None:
        """Answer an open batch with what is done and what was cancelled: a call without a result spoils the history.

        A machine that has been answered already takes no notice.
        """
        if self._open is not None:
            effect, results = self._open
            self._open = None
            settled = tuple(each or cancelled_call(call) for each, call in zip(results, effect.calls, strict=True))
            machine.respond(ToolResults(id=effect.id, results=settled))

    async def _run_call(
        self, call: PendingToolCall, scope: RuntimeScope, parent: str | None = None, key: str | None = None
    ) -> CompletedToolCall:
        plan = self._plan
        owned = plan.composition.tools.get(call.tool_name)
        prepared = PreparedToolCall(
            call_id=call.call_id,
            tool_name=call.tool_name,
            args=call.args,
            plugin_id=owned.plugin_id if owned else "",
            effect=owned.tool.manifest.effect if owned else ToolEffect.PURE,  # what isn't there does nothing
            replay=call.replay,
        )
        wrapped = envelope(scope, ToolCallCommand(prepared), call.call_id, key=key)
        faults: list[EffectControllerError] = []  # of the call's children, whatever the tool makes of them

        async def run(asked: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
            await self._stream.tool_started(call.call_id, call.tool_name, call.args, parent)
            done = await perform(
                plan.composition,
                plan.validators,
                call,
                lambda owner: self._context(call, scope, owner, asked.key, faults),
            )
            if faults:
                raise faults[0]
            await self._stream.tool_completed(done, parent)
            return ToolCallEffectOutcome(ToolCallDone(done))

        outcome = expect(await plan.controller.execute(wrapped, run), ToolCallEffectOutcome)
        return outcome.launch.result

    async def _context(
        self, call: PendingToolCall, scope: RuntimeScope, owner: str, key: str, faults: list[EffectControllerError]
    ) -> ToolCallContext:
        await self._plan.enter()
        corner = self._plan.states.scopes[owner]
        taken: set[int] = set()

        async def call_tool(index: int, name: str, args: Mapping[str, Any]) -> CompletedToolCall:
            if index in taken:
                text = (
                    f"`call_tool` was called twice with index {index}; each child of a call needs an index of its own"
                )
                raise ToolError(text, code="duplicate_child_index", failure_class=ToolFailureClass.INTERNAL)
            taken.add(index)
            child = PendingToolCall(call_id=f"{call.call_id}:{index:02d}", tool_name=name, args=args)
            try:
                return await self._run_call(child, scope, call.call_id, child_key(key, owner, index))
            except EffectControllerError as error:
                faults.append(error)
                raise

        return ToolCallContext(
            session_id=self._plan.session_id,
            turn_id=self._plan.turn_id,
            call_id=call.call_id,
            tool_name=call.tool_name,
            plugin_id=owner,
            idempotency_key=key,
            host=corner.host,
            options=corner.options,
            state=corner.state,
            call_tool=call_tool,
        )
