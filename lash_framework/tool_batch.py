"""The tool calls of one model answer, run together: each an effect of its own, results in the order of the calls."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import anyio
from anyio.abc import TaskGroup
from attrs import field

from lash_framework.call_runner import CallRunner
from lash_framework.faults import is_failure
from lash_framework.hook_orders import messages
from lash_framework.journal_errors import EffectsSuspended, EffectUnrecorded
from lash_framework.machine import TurnMachine
from lash_framework.open_calls import Ends, OpenCall
from lash_framework.stream import ActivityStream
from lash_framework.tool_calls import cancelled_call, has_unknown, lost_call
from lash_framework.tool_decisions import decide, heed, require_tools
from lash_framework.tool_hooks import CallPlace, ToolHooks
from lash_framework.turn_contexts import TurnContexts
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.directives import OwnedDirective
from lash_hookspecs.effect_commands import RuntimeEffectKind
from lash_hookspecs.effects import RuntimeScope, effect_key
from lash_hookspecs.errors import EffectControllerError
from lash_hookspecs.tools import CompletedToolCall
from lash_hookspecs.turn_effects import ToolCalls, ToolResults
from lash_hookspecs.values import mutable

__all__ = ["ToolBatch"]

log = logging.getLogger("lash.tools")


class ToolBatch:
    """Runs a turn's batches, one after the other. An open one can be settled when the turn ends before it.

    `said` are the messages of hooks around calls, for the turn's next checkpoint, which takes them away.
    """

    def __init__(self, plan: TurnPlan, stream: ActivityStream, hooks: ToolHooks, contexts: TurnContexts) -> None:
        self._plan = plan
        self._hooks = hooks
        self._runner = CallRunner(plan, stream, hooks, contexts)
        self.said: tuple[OwnedDirective, ...] = ()
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
        batch, ends = self.open(effect, scope), _BatchEnds()
        require_tools(self._plan, batch)
        if self._hooks.decides:
            await self._decide(batch, ends)
        calls = [
            call for call in batch if call.raw is None and call.place.key not in ends.faults and not call.questions
        ]
        try:
            await self._run(calls, ends)
        except anyio.get_cancelled_exc_class():
            self._runner.take_back(calls)
            raise
        self._runner.take_answers(batch)
        if (self._hooks.decides or self._hooks.looks) and (ends.broken or any(has_unknown(each.raw) for each in batch)):
            self._hooks.catch_up()  # what was recorded within a call whose record knows nothing of it was done
        ends.pass_on(batch)
        # The batch stays open until the machine has these, or `settle` hands them over.
        for call in batch:
            if self._hooks.looks and call.raw is not None:
                await self._runner.look(call)
            call.result = call.settled(lost_call)
            self.said += messages(call.hooks)
        results = self._results(effect, batch)
        self._plan.tools.reveal(results.results)
        return results

    async def _run(self, calls: Sequence[OpenCall], ends: _BatchEnds) -> None:
        """Have all of them run."""
        asked = [(call, self._runner.envelope(call)) for call in calls]
        await self._plan.controller.prepare(
            [wrapped for call, wrapped in asked if not self._runner.waits(call, wrapped)]
        )
        if len(asked) == 1:
            await ends.of(calls[0], partial(self._runner.run, *asked[0]))
        else:
            async with anyio.create_task_group() as ends.group:
                for call, wrapped in asked:
                    ends.group.start_soon(ends.of, call, partial(self._runner.run, call, wrapped))

    async def _decide(self, batch: Sequence[OpenCall], ends: _BatchEnds) -> None:
        """Hear the hooks before the tools, and the people whom they ask."""
        for call in batch:  # in a row: these may change what plugins remember
            await decide(self._hooks, call)
        # Who was answered first is heard first, also when the turn goes on once more.
        doubtful = [call for call in batch if call.questions]
        for call in sorted(doubtful, key=lambda each: not self._hooks.was_answered(each.place)):
            await ends.of(call, partial(heed, self._plan, self._hooks, call))

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
        self._runner.take_answers(calls)
        return ToolResults(id=effect.id, results=tuple(each.settled(cancelled_call) for each in calls))


@mutable(eq=False)
class _BatchEnds:
    """Why calls of a batch have no result, the `faults` by key: kept out of its task `group`, which would wrap it."""

    broken: list[Exception] = field(factory=list)
    faults: dict[str, EffectControllerError | EffectsSuspended] = field(factory=dict)
    group: TaskGroup | None = None

    async def of(self, call: OpenCall, work: Callable[[], Awaitable[None]]) -> None:
        """Do this `work` for a call, and keep what goes wrong with it."""
        try:
            await work()
        except (EffectControllerError, EffectsSuspended) as error:
            self.faults[call.place.key] = error
        except EffectUnrecorded as error:
            call.result = error.left or call.result  # without one it was another effect that has no record
            self.broken.append(error)  # the others may have records
        except Exception as error:
            self.broken.append(error)
            if self.group is not None:
                self.group.cancel_scope.cancel()
        except BaseException as error:
            # A cancellation that nobody asked for would end this task, or the turn, without a word.
            if not is_failure(error):
                raise
            log.warning("the call of tool `%s` ended without a result", call.asked.tool_name, exc_info=error)

    def pass_on(self, batch: Sequence[OpenCall]) -> None:
        """Raise the first of them, or all that wait."""
        ends = Ends(broken=self.broken)
        for call in batch:  # not as they came: attempts that fail for the same reasons say the same
            if call.place.key in self.faults:
                ends.add(self.faults[call.place.key])
        ends.pass_on()
