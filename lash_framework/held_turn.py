"""A turn on a session that is held: from what it depends on to its commit."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import anyio

from lash_framework.accepted import TurnRequest
from lash_framework.cancel_gate import CancelGate
from lash_framework.faults import IN_RESULT
from lash_framework.journal_errors import EffectsSuspended
from lash_framework.setting_sources import ACCEPTED, attribute, effective_settings
from lash_framework.state import Mark
from lash_framework.state_blobs import kept_blobs
from lash_framework.stream import ActivityStream, Sink
from lash_framework.turn import TurnRun
from lash_framework.turn_plan import Queued
from lash_framework.turn_planning import plan_turn
from lash_framework.unbroken import unbroken
from lash_hookspecs.activity import TurnEnd
from lash_hookspecs.effect_outcomes import HookFailure, TurnStop
from lash_hookspecs.effects import EffectController
from lash_hookspecs.errors import PluginError
from lash_hookspecs.forks import NewSession
from lash_hookspecs.journal_rows import Settlement
from lash_hookspecs.messages import Message
from lash_hookspecs.sessions import AssembledTurn, SessionPolicy
from lash_hookspecs.stores import ComponentEntry, RuntimeCommit
from lash_hookspecs.turn_outcomes import Handoff

if TYPE_CHECKING:
    from lash_framework.resident import Resident
    from lash_framework.tracing import TurnTrace

__all__ = ["HeldTurn"]

log = logging.getLogger("lash.turn")

Settle = Callable[[TurnRun], Settlement | None]


async def _nothing() -> Sequence[tuple[int, Message]]:
    return ()


def _fail(run: TurnRun, error: PluginError) -> None:
    log.warning("%s", error, exc_info=error, extra=IN_RESULT)
    run.fail(HookFailure(plugin_id=error.plugin_id, hook=error.hook, message=str(error)))


class HeldTurn:
    """Runs a request on a session that nobody else runs, and commits it. `deadline` is on the event loop's clock."""

    def __init__(self, session: Resident, request: TurnRequest, gate: CancelGate, deadline: float = math.inf) -> None:
        self._session = session
        self._request = request
        self._gate = gate
        self._deadline = deadline

    async def run(
        self,
        controller: EffectController,
        sink: Sink | None,
        *,
        policy: SessionPolicy | None = None,
        revision: int | None = None,
        settle: Settle = lambda run: None,
        queued: Queued = _nothing,
        ends: Callable[[], None] | None = None,
        stop: TurnStop | None = None,
        waited: int | None = None,
    ) -> tuple[TurnRun, AssembledTurn]:
        """Run it to its commit, with the session's policy if none is given; `revision` is the head's, if known.

        With `ends` nothing is run: see `TurnRun.run`. `waited`: the number in the inbox of an input that has waited
        there, and begins a turn of its own.
        """
        session, tracer, request = self._session, self._session.lash.tracer, self._request
        conversation = await session.fresh(revision)
        policy = policy or session.policy
        states = await session.states(session.lash.host.composition(policy.mode_id), keep=True)
        before = states.mark()
        trace: TurnTrace | None = None
        try:
            if tracer is None:
                stream = ActivityStream(request.turn_id, sink, session.feed)
            else:
                from lash_framework.tracing import TracedStream, TurnTrace

                trace = TurnTrace(tracer, controller)
                stream = TracedStream(trace, request.turn_id, sink, session.feed)
            plan = plan_turn(session, request, policy, conversation, states, controller, queued=queued, trace=trace)
            run = TurnRun(plan, stream, self._gate)
            if trace is not None:
                trace.started()
            session.feed.begin(run, stream)
            if waited is not None:
                stream.show_begun_with(run.user, waited)
            await run.run(self._deadline, ends=ends, stop=stop)
            turn, commit = await self._prepared(run, stream, before, policy, settle)
            cancelled = await self._commit(commit)
        except BaseException as error:
            states.rollback(before)
            end = TurnEnd.SUSPENDED if isinstance(error, EffectsSuspended) else TurnEnd.INTERRUPTED
            session.feed.close(end)
            if trace is not None:
                trace.ended(end, error=error)
            raise
        from lash_framework.turn_commit import conversation_after

        session.remember(conversation_after(run, turn, commit, policy), states)
        if plan.tools.took_edits and not run.hook_failed:
            del session.tool_edits[: len(plan.tool_edits)]
        session.feed.close(TurnEnd.COMMITTED, turn)
        if trace is not None:
            trace.ended(TurnEnd.COMMITTED, turn)
        if cancelled is not None:
            raise cancelled
        return run, turn

    async def _prepared(
        self, run: TurnRun, stream: ActivityStream, before: Mark, policy: SessionPolicy, settle: Settle
    ) -> tuple[AssembledTurn, RuntimeCommit]:
        """The turn, and the commit of all that it came to."""
        from lash_framework.turn_commit import prepare_commit

        lash, states = self._session.lash, run.plan.states
        creates = await self._creates(run, policy)
        components = self._components(run, before)
        kept = await kept_blobs(states, before, components, lash.store.get_blob)
        await stream.flush()  # the iterator is told of a failure there
        return prepare_commit(
            run,
            self._assembled(run),
            policy=policy,
            components=components,
            kept=kept,
            explained=self._explained(run, policy),
            budget=lash.budget,
            settles=settle(run),
            creates=() if run.hook_failed else creates,
        )

    def _explained(self, run: TurnRun, policy: SessionPolicy) -> tuple[bytes, str]:
        """The record of who put what before the model, and its blob's id."""
        session, plan = self._session, run.plan
        composition, catalog, model = plan.composition, plan.tools.catalog, plan.policy.model
        sources = session.sources
        if policy is not session.policy:  # of an earlier process, which had its own
            sources = sources.copy()
            attribute(sources, session.policy, policy, ACCEPTED)
        settings = effective_settings(composition.mode, composition.provenance, policy, sources, plan.turn_input)
        tools = plan.tools.explained()
        from lash_framework.explain import explain_record

        return session.lash.explained(
            (composition, catalog, model, run.prompt, settings, tools),
            lambda: explain_record(composition, catalog, model, run.prompt, settings, *tools),
        )

    def _assembled(self, run: TurnRun) -> AssembledTurn:
        wish = self._request.wish
        return run.assembled() if wish is None else wish.parse(run.assembled())

    async def _creates(self, run: TurnRun, policy: SessionPolicy) -> tuple[NewSession, ...]:
        """The sessions that the commit makes; a turn that wants some which can't be made has failed."""
        if not run.sessions and not isinstance(run.assembler.outcome, Handoff):
            return ()
        try:
            from lash_framework.successors import new_sessions

            return await new_sessions(self._session.lash, run, self._assembled(run), policy)
        except PluginError as error:
            _fail(run, error)
            return ()

    async def _commit(self, commit: RuntimeCommit) -> BaseException | None:
        """Commit, to its end once it is on its way: the port's promise.

        A `Task.cancel()` comes out of it all the same. It is given back if the turn was committed, to be raised when
        that is told.
        """
        store = self._session.lash.store
        try:
            await store.commit(commit)
        except anyio.get_cancelled_exc_class() as error:
            receipt, again = await unbroken(lambda: store.load_receipt(commit.session_id, commit.operation))
            if receipt is None:
                raise
            return again or error
        return None

    def _components(self, run: TurnRun, before: Mark) -> dict[str, ComponentEntry]:
        """What the plugins remember, for the commit; a failed hook's turn leaves it as it was."""
        states, previous = run.plan.states, run.plan.conversation.components
        if not run.hook_failed:
            try:
                return states.components(previous)
            except PluginError as error:
                _fail(run, error)
        states.rollback(before)
        return states.components(previous)
