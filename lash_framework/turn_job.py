"""One turn of a session, from its acceptance to its commit.

It decides what the turn depends on, runs it, and writes everything at once; what the session keeps in memory follows.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from secrets import token_hex
from typing import TYPE_CHECKING, Any, TypedDict

import anyio
import anyio.lowlevel
from attrs import evolve

from lash_framework.arguments import TURN_WITH, check_arguments
from lash_framework.assembly import with_observers_issues
from lash_framework.explain import explain_record
from lash_framework.faults import IN_RESULT
from lash_framework.history import Conversation
from lash_framework.hooks import HookIssue, observe
from lash_framework.inputs import input_hash, media_type_of, normalized
from lash_framework.modes import driver_options, load_extension
from lash_framework.prompt import OwnedLayer
from lash_framework.providers import split_model
from lash_framework.sourcing import effective_settings
from lash_framework.state import Mark, PluginStates
from lash_framework.stream import ActivityStream, Sink
from lash_framework.structured import OutputWish, output_wish, take_output
from lash_framework.turn import TurnRun
from lash_framework.turn_commit import conversation_after, prepare_commit
from lash_framework.turn_plan import CancelGate, TurnPlan
from lash_hookspecs.codec import decode
from lash_hookspecs.effect_outcomes import HookFailure
from lash_hookspecs.effects import RuntimeScope
from lash_hookspecs.errors import ConfigurationError, PluginError, SessionBusy, TurnCancelled, TurnConflict
from lash_hookspecs.llm import GenerationOptions
from lash_hookspecs.messages import AttachmentRef, ProviderRoute
from lash_hookspecs.sessions import AssembledTurn, SessionPolicy, TurnInput
from lash_hookspecs.stores import ComponentEntry, OperationId

if TYPE_CHECKING:
    from lash_framework.composition import Composition
    from lash_framework.resident import Resident

__all__ = ["TurnJob", "TurnOptions"]

log = logging.getLogger("lash.turn")

LOCK_POLL_S = 0.05
"""How often a waiting run asks for another process's lock, in seconds."""


class TurnOptions(TypedDict, total=False):
    """How one turn is run.

    `turn_id`: the same id with the same input returns the stored turn, with another input is a `TurnConflict`; without
    one, the turn gets a fresh id. `output`: an attrs class that the answer must fit; `turn.output_value` is then an
    instance of it. `generation`: over the session's. `deadline_s`: seconds after which the turn is cancelled. `wait`:
    wait for a turn of another process instead of raising `SessionBusy`.
    """

    turn_id: str | None
    output: type | None
    generation: GenerationOptions | None
    deadline_s: float | None
    wait: bool


class TurnJob:
    """One turn from its acceptance to its commit."""

    def __init__(self, session: Resident, given: TurnInput | str, options: TurnOptions) -> None:
        check_arguments(options, TURN_WITH, where="session.run")
        turn_id, output, generation = options.get("turn_id"), options.get("output"), options.get("generation")
        if turn_id is not None and not turn_id.strip():
            raise ConfigurationError("the turn id is blank; leave it out to get a fresh one")
        self.session = session
        self.turn_id = turn_id or token_hex(16)
        self.gate = CancelGate()
        self._known = turn_id is not None
        self._wish: OutputWish | None = output_wish(output) if output is not None else None
        turn_input = normalized(given)
        if self._wish is not None:
            turn_input = evolve(turn_input, output=self._wish.spec)
        if generation is not None:
            context = turn_input.context
            turn_input = evolve(turn_input, context=evolve(context, generation=generation.over(context.generation)))
        self._input = turn_input
        self._input_hash = input_hash(turn_input)
        deadline_s = options.get("deadline_s")
        if deadline_s is not None and math.isnan(deadline_s):
            raise ConfigurationError("`session.run`: `deadline_s` is not a number")
        self._deadline = math.inf if deadline_s is None else anyio.current_time() + deadline_s
        self._wait = options.get("wait", False)

    async def run(self, sink: Sink | None) -> AssembledTurn:
        """Run and commit; tell those who watch commits when others may go on."""
        self.session.refuse_from_within()
        try:
            async with self._in_line():
                stored = await self._stored() if self._known else None
                if stored is not None:
                    return stored
                with self.session.running():
                    run, turn = await self._run_held(sink)
        finally:
            self.gate.sealed = True  # whatever happened: from now on a cancel comes too late
        if run.plan.composition.hooks["lash_turn_committed"]:
            turn = with_observers_issues(turn, await self._observed(run, turn))
        return self._shaped(turn)

    async def _observed(self, run: TurnRun, turn: AssembledTurn) -> list[HookIssue]:
        """Tell those who watch commits; what goes wrong there is an issue, and the commit stands."""
        try:
            await run.plan.enter()
        except PluginError as error:
            return [HookIssue(plugin_id=error.plugin_id, hook=error.hook, message=str(error))]
        hooks = run.plan.composition.hooks["lash_turn_committed"]
        return await observe(hooks, run.observers_binding(), turn=turn)

    @asynccontextmanager
    async def _in_line(self) -> AsyncIterator[None]:
        """Where no other turn of the session runs."""
        line = self.session.line
        with self._before_the_turn() as waiting:
            if waiting.cancel_called:
                await anyio.lowlevel.checkpoint()  # a line that is free is taken without asking for a cancel
            await line.acquire()
            try:
                held = await self._lock()
            except BaseException:
                line.release()
                raise
        try:
            with held:
                yield
        finally:
            line.release()

    @contextmanager
    def _before_the_turn(self) -> Iterator[anyio.CancelScope]:
        """For what takes time before the turn: it can be cancelled, takes from the deadline, and leaves nothing."""
        with anyio.CancelScope(deadline=self._deadline) as waiting:
            self.gate.scope = waiting
            if self.gate.requested:
                waiting.cancel()
            yield waiting
        self.gate.scope = None
        if waiting.cancelled_caught:
            raise TurnCancelled(f"turn `{self.turn_id}` was cancelled before it began; nothing was asked or stored")

    async def _images(self) -> dict[str, AttachmentRef]:
        """The input's images, put into the store. Only their names cross the effect boundary.

        This is before the turn, and in no record of it: a blob is named by its content, so that a turn that is run
        again stores the same once more, which changes nothing.
        """
        put = self.session.lash.store.put_blob
        with self._before_the_turn():
            blobs = self._input.image_blobs
            return {
                name: await put(data, media_type_of(data) or "application/octet-stream") for name, data in blobs.items()
            }

    async def _lock(self) -> AbstractContextManager[None]:
        session = self.session
        while (held := session.lash.store.try_lock(session.id)) is None:
            if not self._wait:
                raise SessionBusy(
                    f"session `{session.id}` is running a turn elsewhere (in another process, or another host of this "
                    "one); pass `wait=True` to wait for it, or use another session"
                )
            await anyio.sleep(LOCK_POLL_S)
        return held

    async def _stored(self) -> AssembledTurn | None:
        lash, session = self.session.lash, self.session
        receipt = await lash.store.load_receipt(session.id, OperationId("turn", self.turn_id))
        if receipt is None:
            return None
        if receipt.input_hash != self._input_hash:
            raise TurnConflict(
                f"turn `{self.turn_id}` of session `{session.id}` was committed with another input; "
                "choose another turn id, or send the same input to get the stored turn"
            )
        return self._shaped(decode(AssembledTurn, receipt.result))

    def _shaped(self, turn: AssembledTurn) -> AssembledTurn:
        return take_output(self._wish, turn) if self._wish is not None else turn

    async def _run_held(self, sink: Sink | None) -> tuple[TurnRun, AssembledTurn]:
        session, lash = self.session, self.session.lash
        conversation = await session.fresh()
        composition, policy = session.composition, session.policy
        states = await session.states(composition, keep=True)
        before = states.mark()
        try:
            images = await self._images() if self._input.image_blobs else {}
            plan = self._plan(composition, policy, conversation, states, images)
            run = TurnRun(plan, ActivityStream(self.turn_id, sink), self.gate)
            await run.run(self._deadline)
            components = self._components(run, before)
            settings = effective_settings(
                composition.mode, composition.mode_owner, policy, session.sources, plan.turn_input
            )
            turn, commit = prepare_commit(
                run,
                self._wish.parse(run.assembled()) if self._wish is not None else run.assembled(),
                policy=policy,
                components=components,
                input_hash=self._input_hash,
                explained=lash.explained(
                    (composition, plan.policy.model, run.prompt, settings),
                    lambda: explain_record(composition, plan.policy.model, run.prompt, settings),
                ),
                budget=lash.budget,
            )
            await lash.store.commit(commit)  # to its end, once it is on its way: the port's promise
        except BaseException:
            states.rollback(before)
            raise
        session.remember(conversation_after(run, turn, commit, policy), states)
        return run, turn

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

    def _options(self, composition: Composition, policy: SessionPolicy) -> Any:
        """The driver's options: the mode's, the session's over them, and the turn's over those."""
        more = {**policy.options, **self._input.mode_turn_options.values}
        if not more:
            return composition.driver_options
        return driver_options(composition.mode, {**composition.mode.options, **more})

    def _plan(
        self,
        composition: Composition,
        policy: SessionPolicy,
        conversation: Conversation,
        states: PluginStates,
        images: Mapping[str, AttachmentRef],
    ) -> TurnPlan:
        session, lash = self.session, self.session.lash
        context = self._input.context
        chosen = context.model or policy.model
        provider_id, model = split_model(chosen, lash.host.providers)
        provider = lash.providers.get(provider_id)
        capability = lash.providers.capability(provider_id, model)
        if self._wish is not None and not capability.structured_output:
            raise ConfigurationError(f"model `{chosen}` doesn't offer structured output; ask without `output=`")
        composition.check_turn_extension(self._input.mode_extension)
        layers = [
            OwnedLayer(lash.layer_source, lash.layer),
            *(OwnedLayer(owner, layer) for owner, layer in composition.prompt_layers),
            OwnedLayer("session", policy.prompt),
            OwnedLayer("turn", context.prompt),
        ]
        scope = RuntimeScope(session_id=session.id, turn_id=self.turn_id, turn_index=conversation.head.turn_index)
        return TurnPlan(
            session_id=session.id,
            turn_id=self.turn_id,
            turn_input=self._input,
            input_hash=self._input_hash,
            images=images,
            options=self._options(composition, policy),
            session_extension=load_extension(composition.mode, "session", policy.extension),
            policy=policy if chosen == policy.model else evolve(policy, model=chosen),
            composition=composition,
            conversation=conversation,
            states=states,
            provider_id=provider_id,
            model=model,
            provider=provider,
            capability=capability,
            route=ProviderRoute(provider_id, capability.endpoint, model),
            controller=lash.effects.scoped(scope),
            scope=scope,
            layers=tuple(layers),
            renderer=lash.renderer(composition),
            validators=lash.validators(composition),
            hosts=lambda: lash.host.enter(composition),
            get_blob=lash.store.get_blob,
        )
