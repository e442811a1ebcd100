"""A turn on a session that is held: from what it depends on to its commit."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from attrs import evolve

from lash_framework.accepted import TurnRequest
from lash_framework.conversation import Conversation
from lash_framework.faults import IN_RESULT
from lash_framework.journal_errors import EffectsSuspended
from lash_framework.modes import driver_options, load_extension
from lash_framework.prompt import OwnedLayer
from lash_framework.providers import split_model
from lash_framework.session_tools import SessionTools
from lash_framework.setting_sources import ACCEPTED, attribute, effective_settings
from lash_framework.state import Mark, PluginStates
from lash_framework.state_blobs import kept_blobs
from lash_framework.stream import ActivityStream, Sink
from lash_framework.turn import TurnRun
from lash_framework.turn_plan import CancelGate, TurnPlan
from lash_framework.turn_services import HookServices
from lash_hookspecs.activity import TurnEnd
from lash_hookspecs.effect_outcomes import HookFailure, TurnStop
from lash_hookspecs.effects import EffectController, RuntimeScope
from lash_hookspecs.errors import ConfigurationError, PluginError
from lash_hookspecs.forks import NewSession
from lash_hookspecs.journal_rows import Settlement
from lash_hookspecs.messages import Message, ProviderRoute
from lash_hookspecs.sessions import AssembledTurn, SessionPolicy
from lash_hookspecs.stores import ComponentEntry, RuntimeCommit
from lash_hookspecs.turn_outcomes import Handoff

if TYPE_CHECKING:
    from lash_framework.composition import Composition
    from lash_framework.resident import Resident
    from lash_framework.tracing import TurnTrace

__all__ = ["HeldTurn"]

log = logging.getLogger("lash.turn")

Settle = Callable[[TurnRun], Settlement | None]
Queued = Callable[[], Awaitable[Sequence[tuple[int, Message]]]]


async def _nothing() -> Sequence[tuple[int, Message]]:
    return ()


class HeldTurn:
    """Runs a request on a session that nobody else runs, and commits it. `deadline` is on the event loop's clock."""

    def __init__(self, session: Resident, request: TurnRequest, gate: CancelGate, deadline: float = math.inf) -> None:
        self._session = session
        self._request = request
        self._gate = gate
        self._deadline = deadline

    def check(self, policy: SessionPolicy | None = None) -> None:
        """Raise `ConfigurationError` for a request that can't run, with the session's policy if none is given."""
        policy = policy or self._session.policy
        composition = self._session.lash.host.composition(policy.mode_id)
        self._chosen(policy)
        self._options(composition, policy)
        if self._request.turn_input.compact is not None:
            from lash_framework.compacting import require_compactor

            require_compactor(composition)
        composition.check_turn_extension(self._request.turn_input.mode_extension)

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
        session, lash, request = self._session, self._session.lash, self._request
        conversation = await session.fresh(revision)
        policy = policy or session.policy
        composition = lash.host.composition(policy.mode_id)
        states = await session.states(composition, keep=True)
        before = states.mark()
        trace: TurnTrace | None = None
        try:
            if lash.tracer is not None:
                from lash_framework.tracing import TracedStream, TurnTrace

                trace = TurnTrace(lash.tracer, controller)
            plan = self._plan(composition, policy, conversation, states, controller, queued, trace)
            if trace is None:
                stream = ActivityStream(request.turn_id, sink, session.feed)
            else:
                stream = TracedStream(trace, request.turn_id, sink, session.feed)
            run = TurnRun(plan, stream, self._gate)
            if trace is not None:
                trace.started()
            session.feed.begin(run, stream)
            if waited is not None:
                stream.show_begun_with(run.user, waited)
            await run.run(self._deadline, ends=ends, stop=stop)
            creates = await self._creates(run, policy)
            components = self._components(run, before)
            kept = await kept_blobs(states, before, components, lash.store.get_blob)
            await stream.flush()  # the iterator is told of a failure there
            sources = session.sources
            if policy is not session.policy:  # of an earlier process, which had its own
                sources = sources.copy()
                attribute(sources, session.policy, policy, ACCEPTED)
            settings = effective_settings(composition.mode, composition.mode_owner, policy, sources, plan.turn_input)
            tools = plan.tools.explained()
            from lash_framework.explain import explain_record
            from lash_framework.turn_commit import conversation_after, prepare_commit

            turn, commit = prepare_commit(
                run,
                self._assembled(run),
                policy=policy,
                components=components,
                kept=kept,
                input_hash=request.input_hash,
                explained=lash.explained(
                    (composition, plan.tools.catalog, plan.policy.model, run.prompt, settings, tools),
                    lambda: explain_record(
                        composition, plan.tools.catalog, plan.policy.model, run.prompt, settings, *tools
                    ),
                ),
                budget=lash.budget,
                settles=settle(run),
                creates=() if run.hook_failed else creates,
            )
            cancelled = await self._commit(commit)
        except BaseException as error:
            states.rollback(before)
            end = TurnEnd.SUSPENDED if isinstance(error, EffectsSuspended) else TurnEnd.INTERRUPTED
            session.feed.close(end)
            if trace is not None:
                trace.ended(end, error=error)
            raise
        session.remember(conversation_after(run, turn, commit, policy), states)
        if run.plan.tools.took_edits and not run.hook_failed:
            del session.tool_edits[: len(run.plan.tool_edits)]
        session.feed.close(TurnEnd.COMMITTED, turn)
        if trace is not None:
            trace.ended(TurnEnd.COMMITTED, turn)
        if cancelled is not None:
            raise cancelled
        return run, turn

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
            log.warning("%s", error, exc_info=error, extra=IN_RESULT)
            run.fail(HookFailure(plugin_id=error.plugin_id, hook=error.hook, message=str(error)))
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
            with anyio.CancelScope(shield=True):
                if await store.load_receipt(commit.session_id, commit.operation) is None:
                    raise
            return error
        return None

    def _components(self, run: TurnRun, before: Mark) -> dict[str, ComponentEntry]:
        """What the plugins remember, for the commit; a failed hook's turn leaves it as it was."""
        states, previous = run.plan.states, run.plan.conversation.components
        if not run.hook_failed:
            try:
                return states.components(previous)
            except PluginError as error:
                log.warning("%s", error, exc_info=error, extra=IN_RESULT)
                run.fail(HookFailure(plugin_id=error.plugin_id, hook=error.hook, message=str(error)))
        states.rollback(before)
        return states.components(previous)

    # ---- what the turn depends on -----------------------------------------------------------------------------------

    def _options(self, composition: Composition, policy: SessionPolicy) -> Any:
        """The driver's options: the mode's, the session's over them, and the turn's over those."""
        more = {**policy.options, **self._request.turn_input.mode_turn_options.values}
        if not more:
            return composition.driver_options
        return driver_options(composition.mode, {**composition.mode.options, **more})

    def _chosen(self, policy: SessionPolicy) -> Mapping[str, Any]:
        """The model that answers: the plan's fields about it."""
        lash, request = self._session.lash, self._request
        chosen = request.turn_input.context.model or policy.model
        provider_id, model = split_model(chosen, lash.host.providers)
        capability = lash.providers.capability(provider_id, model)
        if request.wish is not None and capability.structured_output is False:
            raise ConfigurationError(f"model `{chosen}` doesn't offer structured output; ask without `output=`")
        return {
            "policy": policy if chosen == policy.model else evolve(policy, model=chosen),
            "provider_id": provider_id,
            "model": model,
            "provider": lash.providers.get(provider_id),
            "capability": capability,
            "route": ProviderRoute(provider_id, capability.endpoint, model),
        }

    def _plan(
        self,
        composition: Composition,
        policy: SessionPolicy,
        conversation: Conversation,
        states: PluginStates,
        controller: EffectController,
        queued: Queued,
        trace: TurnTrace | None,
    ) -> TurnPlan:
        session, lash, request = self._session, self._session.lash, self._request
        composition.check_turn_extension(request.turn_input.mode_extension)
        layers = [
            OwnedLayer(lash.layer_source, lash.layer),
            *(OwnedLayer(owner, layer) for owner, layer in composition.prompt_layers),
            OwnedLayer("session", policy.prompt),
            OwnedLayer("turn", request.turn_input.context.prompt),
        ]
        return TurnPlan(
            session_id=session.id,
            turn_id=request.turn_id,
            turn_input=request.turn_input,
            input_hash=request.input_hash,
            images=request.images,
            options=self._options(composition, policy),
            session_extension=load_extension(composition.mode, "session", policy.extension),
            composition=composition,
            conversation=conversation,
            states=states,
            controller=controller,
            scope=RuntimeScope(session_id=session.id, turn_id=request.turn_id, turn_index=conversation.head.turn_index),
            layers=tuple(layers),
            renderer=lash.renderer(composition),
            tools=SessionTools(composition.catalog, states),
            tool_edits=tuple(session.tool_edits),
            hosts=lambda: lash.host.enter(composition),
            connect=lambda: lash.host.toolsets.connect(composition.catalog.toolsets),
            get_blob=lash.store.get_blob,
            queued=queued,
            now_ms=lash.world.now_ms,
            limits=lash.host.limits,
            keep_partial=lash.settings.durability.partial_text == "keep",
            compact_at=lash.settings.context.compact_at,
            context_tokens=partial(_context_tokens, session, conversation),
            services=HookServices(session),
            trace=trace,
            payer=request.payer,
            **self._chosen(policy),
        )


async def _context_tokens(session: Resident, conversation: Conversation) -> int:
    from lash_framework.session_view import context_tokens

    return await context_tokens(session, conversation)
