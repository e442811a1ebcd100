"""One turn of a session, from its acceptance to its commit.

It decides what the turn depends on, runs it, and writes everything at once; what the session keeps in memory follows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import uuid4

import anyio
from attrs import evolve

from lash_framework.assembly import with_issues
from lash_framework.explain import explain_record
from lash_framework.history import Conversation, new_nodes
from lash_framework.hooks import observe
from lash_framework.inputs import input_hash, media_type_of, normalized
from lash_framework.modes import load_extension
from lash_framework.prompt import OwnedLayer
from lash_framework.providers import split_model
from lash_framework.state import PluginStates
from lash_framework.stream import ActivityStream, Sink
from lash_framework.structured import OutputWish, output_wish, take_output
from lash_framework.turn import TurnRun, hook_issues
from lash_framework.turn_plan import CancelGate, TurnPlan
from lash_hookspecs.codec import decode, encode
from lash_hookspecs.effects import RuntimeScope
from lash_hookspecs.errors import ConfigurationError, PluginError, SessionBusy, TurnConflict
from lash_hookspecs.llm import GenerationOptions, Provider
from lash_hookspecs.messages import AttachmentRef
from lash_hookspecs.sessions import (
    AssembledTurn,
    SessionStateEnvelope,
    SessionUsageReport,
    TokenLedgerEntry,
    TurnInput,
)
from lash_hookspecs.stores import (
    ComponentChanged,
    ComponentEntry,
    OperationId,
    RuntimeCommit,
    SessionHead,
    StoredComponent,
    UsageDelta,
    attachment_id,
)
from lash_hookspecs.turns import ErrorEnvelope, ErrorEvent

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
            with anyio.CancelScope(shield=True):
                turn, commit = await self._finish(run, states, before)
                await lash.store.commit(commit)
        except BaseException:
            states.rollback(before)
            raise
        self._remember(run, commit, turn, states)
        committed = plan.composition.hooks["lash_turn_committed"]
        if committed:
            issues = await observe(committed, run.turn_binding(), turn=turn)
            turn = with_issues(turn, hook_issues(issues))
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

    # ---- the end ----------------------------------------------------------------------------------------------------

    async def _finish(self, run: TurnRun, states: PluginStates, before: Any) -> tuple[AssembledTurn, RuntimeCommit]:
        plan, assembler = run.plan, run.assembler
        turn = self._assemble(run)
        try:
            await run.after_turn(turn)
        except PluginError as error:
            failed = ErrorEvent(str(error), ErrorEnvelope(kind="plugin", code=error.hook, user_message=str(error)))
            assembler.fold(failed)
            assembler.outcome = None
            states.rollback(before)
            turn = self._assemble(run)
        if any(each.kind == "plugin" and each.code != "abort" and each.blocking for each in turn.errors):
            states.rollback(before)  # what a failed hook's turn remembered is not kept
        session, lash = self.session, self.session.lash
        head = plan.conversation.head
        operation = OperationId("turn", self.turn_id)
        now = max(time.time_ns() // 1_000_000, run.started_at_ms)
        events = run.machine.events[len(plan.conversation.events) :]
        nodes = new_nodes(head, operation, run.new_messages, events, now)
        explained, explain_ref = lash.explained(
            (plan.composition, plan.policy, run.prompt),
            lambda: explain_record(plan.composition, plan.policy, run.prompt, lash.sources),
        )
        leaf = nodes[-1].node_id if nodes else head.leaf_node_id
        total = plan.conversation.usage
        turn = evolve(
            turn,
            state=SessionStateEnvelope(
                session_id=session.id,
                turn_index=head.turn_index + 1,
                head_revision=head.head_revision + 1,
                leaf_node_id=leaf,
                token_usage=SessionUsageReport(total).total + turn.usage,
            ),
            explain_ref=explain_ref,
            started_at_ms=run.started_at_ms,
            finished_at_ms=now,
        )
        usage = [
            UsageDelta(source="turn", model=plan.policy.model, usage=turn.token_usage),
            *(UsageDelta(source=each.source, model=each.model, usage=each.usage) for each in turn.children_usage),
        ]
        known = explain_ref in plan.conversation.known_blobs
        images = [
            part.attachment.id for message in run.new_messages for part in message.parts if part.attachment is not None
        ]
        commit = RuntimeCommit(
            session_id=session.id,
            operation=operation,
            expected_head_revision=head.head_revision,
            committed_at_ms=now,
            config=encode(session.policy),
            nodes=nodes,
            components=states.components(plan.conversation.components),
            usage=tuple(each for each in usage if each.usage.total or each.usage.at_least),
            blobs=() if known else (explained,),
            adopted_blobs=tuple(dict.fromkeys([*images, *([explain_ref] if known else [])])),
            turn_index=head.turn_index + 1,
            input_hash=self._input_hash,
            result=encode(turn),
            budget=lash.budget,
        )
        return turn, commit

    def _assemble(self, run: TurnRun) -> AssembledTurn:
        plan = run.plan
        envelope = SessionStateEnvelope(session_id=self.session.id, turn_index=0, head_revision=0, leaf_node_id=None)
        turn = run.assembler.assemble(
            turn_id=self.turn_id,
            state=envelope,
            mode_id=plan.composition.mode.mode_id,
            messages=run.machine.messages,
            cancelled=run.cancelled,
            durable=plan.controller.durable,
        )
        return self._wish.parse(turn) if self._wish is not None else turn

    def _remember(self, run: TurnRun, commit: RuntimeCommit, turn: AssembledTurn, states: PluginStates) -> None:
        """What the session is now, without asking the store."""
        session, conversation = self.session, run.plan.conversation
        head = SessionHead(
            session_id=session.id,
            head_revision=turn.state.head_revision,
            leaf_node_id=turn.state.leaf_node_id,
            frame_node_id=conversation.head.frame_node_id or (commit.nodes[0].node_id if commit.nodes else None),
            turn_index=turn.state.turn_index,
            config=commit.config,
        )
        messages = run.machine.messages.extended(run.late).without_transient(len(conversation.messages))
        session.remember(
            Conversation(
                head=head,
                messages=messages,
                events=run.machine.events,
                components=_stored(commit.components or {}, conversation.components),
                usage=_merged(conversation.usage, commit.usage),
                policy=session.policy,
                known_blobs=conversation.known_blobs | {turn.explain_ref or ""},
            )
        )


def _stored(
    entries: Mapping[str, ComponentEntry], before: Mapping[str, StoredComponent]
) -> Mapping[str, StoredComponent]:
    return {
        key: StoredComponent(ref=attachment_id(entry.body), body=entry.body, version=entry.version)
        if isinstance(entry, ComponentChanged)
        else before[key]
        for key, entry in entries.items()
    }


def _merged(ledger: tuple[TokenLedgerEntry, ...], deltas: Sequence[UsageDelta]) -> tuple[TokenLedgerEntry, ...]:
    totals = {(each.source, each.model): each.usage for each in ledger}
    for each in deltas:
        key = (each.source, each.model)
        totals[key] = totals[key] + each.usage if key in totals else each.usage
    return tuple(TokenLedgerEntry(source=s, model=m, usage=usage) for (s, m), usage in totals.items())
