"""One turn of a session, from its acceptance to its commit.

It decides what the turn depends on, runs it, and writes everything at once; what the session keeps in memory follows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypedDict
from uuid import uuid4

import anyio
from attrs import evolve

from lash_framework.assembly import with_observers_issues
from lash_framework.explain import explain_record
from lash_framework.history import Conversation
from lash_framework.hooks import observe
from lash_framework.inputs import input_hash, media_type_of, normalized
from lash_framework.modes import load_extension
from lash_framework.prompt import OwnedLayer
from lash_framework.providers import split_model
from lash_framework.state import PluginStates
from lash_framework.stream import ActivityStream, Sink
from lash_framework.structured import OutputWish, output_wish, take_output
from lash_framework.turn import TurnRun
from lash_framework.turn_commit import conversation_after, prepare_commit
from lash_framework.turn_plan import CancelGate, TurnPlan
from lash_hookspecs.codec import decode
from lash_hookspecs.effects import RuntimeScope
from lash_hookspecs.errors import ConfigurationError, SessionBusy, TurnConflict
from lash_hookspecs.llm import GenerationOptions, Provider
from lash_hookspecs.messages import AttachmentRef
from lash_hookspecs.sessions import (
    AssembledTurn,
    TurnInput,
)
from lash_hookspecs.stores import (
    OperationId,
)

if TYPE_CHECKING:
    from lash_framework.resident import Resident

__all__ = ["TurnJob", "TurnOptions"]

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
        turn_id, output, generation = options.get("turn_id"), options.get("output"), options.get("generation")
        if turn_id is not None and not turn_id.strip():
            raise ConfigurationError("the turn id is blank; leave it out to get a fresh one")
        self.session = session
        self.turn_id = turn_id or uuid4().hex
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
        self._deadline_s = options.get("deadline_s")
        self._wait = options.get("wait", False)

    async def run(self, sink: Sink | None) -> AssembledTurn:
        """Run and commit."""
        session, lash = self.session, self.session.lash
        async with session.line:
            held = lash.store.try_lock(session.id)
            while held is None:
                if not self._wait:
                    raise SessionBusy(
                        f"session `{session.id}` is running a turn in another process; wait for it, pass `wait=True`, "
                        "or use another session"
                    )
                await anyio.sleep(LOCK_POLL_S)
                held = lash.store.try_lock(session.id)
            with held:
                if self._known and (stored := await self._stored()) is not None:
                    return stored
                return await self._run_held(sink)

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

    async def _run_held(self, sink: Sink | None) -> AssembledTurn:
        session, lash = self.session, self.session.lash
        conversation = await session.fresh()
        states = await session.states()
        before = states.mark()
        try:
            plan = self._plan(conversation, states)
            run = TurnRun(plan, ActivityStream(self.turn_id, sink), self.gate)
            await run.run(self._deadline_s)
            if run.hook_failed:
                states.rollback(before)  # what a failed hook's turn remembered is not kept
            turn, commit = prepare_commit(
                run,
                self._wish.parse(run.assembled()) if self._wish is not None else run.assembled(),
                policy=session.policy,
                input_hash=self._input_hash,
                explained=lash.explained(
                    (plan.composition, plan.policy, run.prompt),
                    lambda: explain_record(plan.composition, plan.policy, run.prompt, lash.sources),
                ),
                now_ms=max(time.time_ns() // 1_000_000, run.started_at_ms),
                budget=lash.budget,
            )
            with anyio.CancelScope(shield=True):
                await lash.store.commit(commit)
        except BaseException:
            states.rollback(before)
            raise
        session.remember(conversation_after(run, turn, commit, session.policy))
        committed = plan.composition.hooks["lash_turn_committed"]
        if committed:
            issues = await observe(committed, run.turn_binding(), turn=turn)
            turn = with_observers_issues(turn, issues)
        return self._shaped(turn)

    def _plan(self, conversation: Conversation, states: PluginStates) -> TurnPlan:
        session, lash = self.session, self.session.lash
        policy, context = session.policy, self._input.context
        composition = session.composition
        chosen = context.model or policy.model
        provider_id, model = split_model(chosen, lash.host.providers)
        provider: Callable[[], Provider] = lambda: lash.providers.get(provider_id)  # noqa: E731  # opened at first use
        if self._wish is not None and not provider().capability(model).structured_output:
            raise ConfigurationError(f"model `{chosen}` doesn't offer structured output; ask without `output=`")
        composition.check_turn_extension(self._input.mode_extension)
        layers = [
            OwnedLayer("lash.toml", lash.layer),
            *(OwnedLayer(owner, layer) for owner, layer in composition.prompt_layers),
            OwnedLayer("session", policy.prompt),
            OwnedLayer("turn", context.prompt),
        ]
        scope = RuntimeScope(session_id=session.id, turn_id=self.turn_id, turn_index=conversation.head.turn_index)
        return TurnPlan(
            session_id=session.id,
            turn_id=self.turn_id,
            turn_input=self._input,
            session_extension=load_extension(composition.mode, "session", policy.extension),
            policy=evolve(policy, model=chosen),
            composition=composition,
            conversation=conversation,
            states=states,
            provider_id=provider_id,
            model=model,
            provider=provider,
            controller=lash.effects.scoped(scope),
            layers=tuple(layers),
            renderer=lash.renderer(composition),
            validators=lash.validators(composition),
            hosts=lambda: lash.host.enter(composition),
            put_image=self._put_image,
            get_blob=lash.store.get_blob,
        )

    async def _put_image(self, data: bytes) -> AttachmentRef:
        return await self.session.lash.store.put_blob(data, media_type_of(data) or "application/octet-stream")
