"""One tool call, run to its end: its attempts and the pauses between them, and what it is completed with later."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial

from attrs import evolve

from lash_framework.catalog import OwnedTool
from lash_framework.direct_calls import DirectPlace
from lash_framework.effects import envelope
from lash_framework.hook_orders import joined
from lash_framework.journal import JournalController
from lash_framework.journal_errors import EffectsSuspended
from lash_framework.nested_calls import NestedCalls
from lash_framework.open_calls import Ends, OpenCall
from lash_framework.stream import ActivityStream
from lash_framework.tool_calls import (
    attached,
    is_unknown,
    left_by_cancel,
    lost_call,
    perform,
    prepared,
    without_attachment,
)
from lash_framework.tool_decisions import decide, heed
from lash_framework.tool_deferrals import Deferral, answered, deferral_of, wait_of
from lash_framework.tool_directives import with_after
from lash_framework.tool_hooks import ToolHooks
from lash_framework.tool_pauses import pause
from lash_framework.tool_retries import judging
from lash_framework.turn_contexts import TurnContexts
from lash_framework.turn_plan import TurnPlan
from lash_hookspecs.effect_commands import AwaitEventCommand, ToolCallCommand
from lash_hookspecs.effect_outcomes import (
    AwaitEventOutcome,
    RuntimeEffectOutcome,
    ToolCallDone,
    ToolCallEffectOutcome,
    ToolCallPending,
    expect,
)
from lash_hookspecs.effects import RuntimeEffectEnvelope
from lash_hookspecs.tool_declarations import RetryNever
from lash_hookspecs.tools import CompletedToolCall, ToolCallContext
from lash_hookspecs.waits import WaitTimedOut

__all__ = ["CallRunner"]

NO_PLACE = nullcontext()
"""Stands for the place of a call that needs none."""


class CallRunner:
    """Runs the calls of one turn, one at a time or several at once."""

    def __init__(self, plan: TurnPlan, stream: ActivityStream, hooks: ToolHooks, contexts: TurnContexts) -> None:
        self._plan = plan
        self._stream = stream
        self._hooks = hooks
        self._room = hooks.room
        self._around = contexts.around
        self._answered = False  # whether any call was
        self._journal = plan.controller if isinstance(plan.controller, JournalController) else None

    def envelope(self, call: OpenCall) -> RuntimeEffectEnvelope:
        """The call's attempt as an effect."""
        asked, place = call.asked, call.place
        command = ToolCallCommand(prepared(self._plan.tools.catalog, asked))
        effect_id = asked.call_id if call.attempt == 1 else f"{asked.call_id} attempt {call.attempt}"
        return envelope(place.scope, command, effect_id, key=call.key)

    def waits(self, call: OpenCall, wrapped: RuntimeEffectEnvelope) -> bool:
        """Whether it starts when it has a place, not with its batch: what it may not start without is done then."""
        return self._takes_place(self._plan.tools.catalog.tools.get(call.asked.tool_name), wrapped)

    def take_back(self, calls: Sequence[OpenCall]) -> None:
        """The turn is cancelled: what is recorded of calls that were to start and didn't is taken back."""
        if (journal := self._journal) is not None:
            unbegun = [each for call in calls for each in call.unbegun() if journal.intends(each.key)]
            journal.withdraw(map(self.envelope, unbegun))

    async def run(self, call: OpenCall, wrapped: RuntimeEffectEnvelope) -> None:
        """Run it to its end: once more after a failure that says so, as its record does, after a while."""
        outcome = await self._attempt(call, wrapped)
        while outcome.again is not None:
            await pause(self._plan, self._stream, call, outcome.again)
            call.begin_again(outcome.launch.result)
            outcome = await self._attempt(call, self.envelope(call))
        if isinstance(outcome.launch, ToolCallPending):
            await self._complete(call, outcome.launch)
        if call.is_live and call.result is not None:
            # Shown once it is recorded: whoever watches may be slow, or go, and it must not be lost.
            await self._stream.tool_completed(call.result)

    async def look(self, call: OpenCall) -> None:
        """Show the hooks what came of a call; what they make of it is its result."""
        assert call.raw is not None  # there is nothing else to look at
        found = await self._hooks.after(call.raw, call.place, ran=call.ran)
        call.result = with_after(call.raw, found)
        self._room.take(call.place.key, call.result)
        call.hooks.append(found.hooks)
        if call.is_live:
            await self._stream.tool_completed(call.result)

    def take_answers(self, calls: Sequence[OpenCall]) -> None:
        """Take what calls were answered with, as far as there is room: in their order, whichever answer came first."""
        if not self._answered:
            return
        for call in calls:
            if (answer := call.answer) is not None:
                call.answer = None
                self._keep(call, self._room.fitted(call.place.key, answer))

    # ---- an attempt -------------------------------------------------------------------------------------------------

    async def _attempt(self, call: OpenCall, wrapped: RuntimeEffectEnvelope) -> ToolCallEffectOutcome:
        plan = self._plan
        owned = plan.tools.catalog.tools.get(call.asked.tool_name)
        policy = owned.tool.manifest.retry if owned is not None else RetryNever()

        async def run(envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
            return await self._execute(call, owned, wrapped)

        runner = self._around(run)
        if not isinstance(policy, RetryNever):
            runner = judging(runner, policy, call.attempt, plan.now_ms)
        call.slot = plan.limits.slot(owned) if self._takes_place(owned, wrapped) else None
        try:
            async with call.slot or NO_PLACE:
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

    async def _execute(
        self, call: OpenCall, owned: OwnedTool | None, wrapped: RuntimeEffectEnvelope
    ) -> RuntimeEffectOutcome:
        """Have the tool run, and all calls that it makes."""
        plan, asked = self._plan, call.asked
        deferral = deferral_of(plan, call) if owned is not None else None
        ends = Ends()  # of the call's children, whatever the tool makes of them
        directs = DirectPlace(wrapped)
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

    def _takes_place(self, owned: OwnedTool | None, wrapped: RuntimeEffectEnvelope) -> bool:
        if owned is None or owned.tool.manifest.max_concurrency is None:
            return False
        return self._journal is None or not self._journal.recorded.has(wrapped.key)

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
            self.take_answers([call])

    def _keep(self, call: OpenCall, done: CompletedToolCall) -> None:
        """A tool came to its end: this is the result, unless there are hooks that look at it."""
        call.raw = evolve(done, interventions=(*call.found, *done.interventions)) if call.found else done
        for child in call.children.values():
            self._room.drop(child.place.key)  # it is a part of this one
        self._room.take(call.place.key, done)
        call.ran = not is_unknown(done)
        if not self._hooks.looks:
            call.result = call.raw

    # ---- what the tool has of it ------------------------------------------------------------------------------------

    async def _context(
        self, call: OpenCall, owner: str, ends: Ends, deferral: Deferral | None, directs: DirectPlace
    ) -> ToolCallContext:
        plan, asked = self._plan, call.asked
        await plan.enter()
        corner = plan.states.scopes[owner]
        # Nothing is waited for any more before the tool's own code: until here it could be cancelled without a trace.
        call.note, call.has_begun = left_by_cancel(plan.tools.catalog.tools[asked.tool_name]), True
        return ToolCallContext(
            session_id=plan.session_id,
            turn_id=plan.turn_id,
            call_id=asked.call_id,
            tool_name=asked.tool_name,
            plugin_id=owner,
            idempotency_key=call.place.key,
            host=corner.host,
            options=corner.options,
            state=corner.state,
            call_tool=NestedCalls(call, owner, ends, directs, self._run_child).call_tool,
            find_tools=plan.tools.find,
            defer=None if deferral is None else deferral.defer,
            progress=partial(self._stream.tool_progress, asked.call_id),
            show=partial(self._stream.tool_shows, asked.call_id, owner),
            model=plan.capability,
            services=partial(plan.services, place=directs, slot=call.slot),
        )

    async def _run_child(self, child: OpenCall) -> CompletedToolCall:
        """Run a call that a tool makes. There is no batch to wait for: whoever made it wants its result."""
        if self._hooks.decides:
            await decide(self._hooks, child)
            await heed(self._plan, self._hooks, child)
        if child.raw is None:
            await self.run(child, self.envelope(child))
        if self._hooks.looks:
            await self.look(child)
        child.result = child.settled(lost_call)
        return child.result
