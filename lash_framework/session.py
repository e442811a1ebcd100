"""What an application holds: a session, and a turn that runs on it.

A session's turns run one after the other: in line within a process, and against other processes by the store's lock.
Opening one reads its head; its history is loaded when a turn first needs it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

import anyio
from attrs import evolve

from lash_framework.assembly import with_issues
from lash_framework.explain import explain_record
from lash_framework.history import Conversation, new_nodes, restore
from lash_framework.hooks import chain, observe
from lash_framework.inputs import input_hash, media_type_of, normalized
from lash_framework.prompt import OwnedLayer
from lash_framework.providers import split_model
from lash_framework.state import PluginStates
from lash_framework.stream import ActivityStream, Sink
from lash_framework.structured import OutputWish, output_wish, take_output
from lash_framework.turn import CancelGate, TurnPlan, TurnRun, hook_issues
from lash_hookspecs.activity import TurnActivity
from lash_hookspecs.codec import decode, encode
from lash_hookspecs.contexts import SessionCall, SessionHookContext
from lash_hookspecs.effects import RuntimeScope
from lash_hookspecs.errors import CommitRefused, ConfigurationError, PluginError, SessionBusy, TurnConflict
from lash_hookspecs.llm import GenerationOptions, Provider
from lash_hookspecs.messages import AttachmentRef, Message
from lash_hookspecs.sessions import (
    AppendedNodes,
    AppendSessionNodesRequest,
    AppendSessionNodesResult,
    AssembledTurn,
    SessionPolicy,
    SessionStateEnvelope,
    SessionUsageReport,
    StaleBranch,
    TokenLedgerEntry,
    TurnInput,
)
from lash_hookspecs.stores import (
    ComponentChanged,
    ComponentEntry,
    LoadedSession,
    OperationId,
    RuntimeCommit,
    SessionHead,
    StoredComponent,
    UsageDelta,
    attachment_id,
)
from lash_hookspecs.turns import ErrorEnvelope, ErrorEvent

if TYPE_CHECKING:
    from lash_framework.composition import Composition
    from lash_framework.lash import Lash

__all__ = ["RunningTurn", "Session"]

log = logging.getLogger("lash.session")

Given = TurnInput | str

LOCK_POLL_S = 0.05
"""How often a waiting run asks for another process's lock, in seconds."""


class Session:
    """A conversation that is kept. Made by `Lash.session`."""

    __slots__ = ("__weakref__", "_conversation", "_head", "_in_line", "_lash", "_policy", "_states", "id")

    def __init__(self, lash: Lash, head: SessionHead, policy: SessionPolicy) -> None:
        self.id = head.session_id
        self._lash = lash
        self._head = head
        self._policy = policy
        self._conversation: Conversation | None = None
        self._states: PluginStates | None = None
        self._in_line: anyio.Lock | None = None

    def __repr__(self) -> str:
        return f"<Session {self.id} at revision {self._head.head_revision}>"

    @property
    def policy(self) -> SessionPolicy:
        """How the session runs."""
        return self._policy

    @property
    def composition(self) -> Composition:
        """The plugins, tools and driver of its mode, resolved."""
        return self._lash.host.composition(self._policy.mode_id)

    # ---- turns ------------------------------------------------------------------------------------------------------

    async def run(
        self,
        given: Given,
        *,
        turn_id: str | None = None,
        output: type | None = None,
        generation: GenerationOptions | None = None,
        deadline_s: float | None = None,
        wait: bool = False,
    ) -> AssembledTurn:
        """Run a turn to its end and return it, committed.

        `turn_id`: the same id with the same input returns the stored turn, with another input is a `TurnConflict`.
        `output`: an attrs class that the answer must fit; `turn.output_value` is then an instance of it. `deadline_s`:
        seconds after which the turn is cancelled. `wait`: wait for a turn of another process instead of `SessionBusy`.
        """
        job = _Job(self, given, turn_id, output, generation, deadline_s, wait)
        return await job.run(None)

    def turn(
        self,
        given: Given,
        *,
        turn_id: str | None = None,
        output: type | None = None,
        generation: GenerationOptions | None = None,
        deadline_s: float | None = None,
        wait: bool = False,
    ) -> RunningTurn:
        """A turn to watch: `async with session.turn(…) as running: async for activity in running: …`.

        Arguments as for `run`. Leaving the block early cancels the turn; an exception interrupts it.
        """
        return RunningTurn(_Job(self, given, turn_id, output, generation, deadline_s, wait))

    # ---- reading and changing ---------------------------------------------------------------------------------------

    async def messages(self) -> Sequence[Message]:
        """The conversation so far."""
        return (await self._loaded()).messages

    async def usage(self) -> SessionUsageReport:
        """Tokens so far, by source and model."""
        return SessionUsageReport((await self._loaded()).usage)

    async def configure(self, **changes: Any) -> SessionPolicy:
        """Change the policy's fields (`model`, `max_turns`, …) from the next turn on; stored with it.

        Plugins may change or refuse through `lash_session_config`. Raises `ConfigurationError` for unknown fields.
        """
        try:
            wanted = evolve(self._policy, **changes)
        except TypeError as error:
            raise ConfigurationError(f"no such setting of a session: {error}") from None
        split_model(wanted.model, self._lash.host.providers)
        self._lash.host.composition(wanted.mode_id)
        await self._take_policy(wanted)
        return self._policy

    async def _take_policy(self, wanted: SessionPolicy) -> None:
        previous = self._policy
        hooks = self._lash.host.composition(wanted.mode_id).hooks
        config, changed = hooks["lash_session_config"], hooks["lash_session_config_changed"]
        if config:
            bind = await self._session_binding("configured", wanted)
            wanted = await chain(config, bind, wanted, argname="policy", expects=SessionPolicy, on_error="keep")
        self._policy = wanted
        if changed and wanted != previous:
            bind = await self._session_binding("configured", wanted)
            self._lash.warn(await observe(changed, bind, previous=previous, current=wanted))

    async def _opened(self, reason: str) -> None:
        """Called once, by `Lash.session`."""
        hooks = self.composition.hooks
        if hooks["lash_session_config"]:
            await self._take_policy(self._policy)
        if hooks["lash_session_opened"]:
            bind = await self._session_binding(reason, self._policy)
            self._lash.warn(await observe(hooks["lash_session_opened"], bind))

    async def _session_binding(self, reason: str, policy: SessionPolicy) -> Callable[[str], object]:
        states = await self._plugin_states()
        call = SessionCall(
            session_id=self.id,
            mode_id=policy.mode_id,
            policy=policy,
            turn_index=self._head.turn_index,
            reason=reason,
        )
        return lambda plugin_id: SessionHookContext(states.scopes[plugin_id], call)

    async def append(self, request: AppendSessionNodesRequest) -> AppendSessionNodesResult:
        """Append messages or protocol events outside a turn, once per operation id."""
        conversation = await self._loaded()
        operation = OperationId("append", request.operation_id)
        now = time.time_ns() // 1_000_000
        nodes = new_nodes(
            conversation.head,
            operation,
            [each.message for each in request.nodes if each.message is not None],
            [each.event for each in request.nodes if each.event is not None],
            now,
        )
        commit = RuntimeCommit(
            session_id=self.id,
            operation=operation,
            expected_head_revision=None,
            committed_at_ms=now,
            config=encode(self._policy),
            nodes=nodes,
            turn_index=conversation.head.turn_index,
            requires_ancestor_node_id=request.requires_ancestor_node_id,
            budget=self._lash.budget,
        )
        try:
            receipt = (await self._lash.store.commit(commit)).receipt
        except CommitRefused as refused:
            if refused.code != "ancestor" or request.requires_ancestor_node_id is None:
                raise
            head = await self._lash.store.load_head(self.id)
            return StaleBranch(
                required_node_id=request.requires_ancestor_node_id,
                current_leaf_node_id=head.leaf_node_id if head else None,
            )
        self._forget()
        return AppendedNodes(node_ids=receipt.node_ids, leaf_node_id=receipt.leaf_node_id or "")

    # ---- what it keeps in memory ------------------------------------------------------------------------------------

    async def _loaded(self) -> Conversation:
        if self._conversation is None:
            loaded = await self._lash.store.load_session(self.id)
            self._conversation = restore(loaded or LoadedSession(head=self._head))
            self._head = self._conversation.head
        return self._conversation

    async def _fresh(self) -> Conversation:
        """The conversation as it stands in the store now: reloaded only if somebody else moved the head."""
        if self._conversation is not None:
            head = await self._lash.store.load_head(self.id)
            if head is not None and head.head_revision != self._conversation.head.head_revision:
                self._forget()
        return await self._loaded()

    def _forget(self) -> None:
        self._conversation = None
        self._states = None

    async def _plugin_states(self) -> PluginStates:
        conversation = await self._loaded()
        composition = self.composition
        if self._states is None or self._states.composition is not composition:
            self._states = PluginStates(composition, conversation.components)
        return self._states

    @property
    def _line(self) -> anyio.Lock:
        if self._in_line is None:
            self._in_line = anyio.Lock()
        return self._in_line


class _Job:
    """One turn from its acceptance to its commit."""

    def __init__(
        self,
        session: Session,
        given: Given,
        turn_id: str | None,
        output: type | None,
        generation: GenerationOptions | None,
        deadline_s: float | None,
        wait: bool,
    ) -> None:
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
        self._deadline_s = deadline_s
        self._wait = wait

    async def run(self, sink: Sink | None) -> AssembledTurn:
        """Run and commit."""
        session, lash = self.session, self.session._lash
        async with session._line:
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
        lash, session = self.session._lash, self.session
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
        session, lash = self.session, self.session._lash
        conversation = await session._fresh()
        states = await session._plugin_states()
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
        session, lash = self.session, self.session._lash
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
        return await self.session._lash.store.put_blob(data, media_type_of(data) or "application/octet-stream")

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
        session, lash = self.session, self.session._lash
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
        usage = (UsageDelta(source="turn", model=plan.policy.model, usage=turn.token_usage),)
        usage += tuple(UsageDelta(source=e.source, model=e.model, usage=e.usage) for e in turn.children_usage)
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
        session._head = head
        session._conversation = Conversation(
            head=head,
            messages=messages,
            events=run.machine.events,
            components=_stored(commit.components or {}, conversation.components),
            usage=_merged(conversation.usage, commit.usage),
            policy=session.policy,
            known_blobs=conversation.known_blobs | {turn.explain_ref or ""},
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


class RunningTurn:
    """A turn while it runs: an async iterator of its activities, once; `result()` is the committed turn.

    Only this iterator slows the turn down if it is slow. `break` out of the block cancels the turn, which is committed
    as cancelled; an exception in the block interrupts it, and nothing is committed.
    """

    def __init__(self, job: _Job) -> None:
        self._job = job
        self._group = anyio.create_task_group()
        self._send, self._receive = anyio.create_memory_object_stream[Sequence[TurnActivity]](0)
        self._read: Iterator[TurnActivity] = iter(())
        self._turn: AssembledTurn | None = None
        self._error: Exception | None = None
        self._told = False
        self._ended = anyio.Event()

    @property
    def turn_id(self) -> str:
        """The turn's id."""
        return self._job.turn_id

    def cancel(self, reason: str = "cancelled by the caller") -> bool:
        """Ask the turn to end now, committed as cancelled. False: it completed first."""
        return self._job.gate.request(reason)

    async def result(self) -> AssembledTurn:
        """The committed turn; activities that nobody read are dropped. Raises what ended the turn without a commit."""
        self._receive.close()  # nobody reads any more, and the turn must not wait for a reader
        await self._ended.wait()
        self._tell()
        assert self._turn is not None  # it ended, and without an error
        return self._turn

    def _tell(self) -> None:
        if self._error is not None:
            self._told = True
            raise self._error

    # ---- iteration --------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TurnActivity:
        for activity in self._read:
            return activity
        try:
            self._read = iter(await self._receive.receive())
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            await self._ended.wait()
            self._tell()
            raise StopAsyncIteration from None
        return next(self._read)

    # ---- the block --------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        self._group.start_soon(self._work, name=f"lash turn {self.turn_id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            if not self._ended.is_set():
                self.cancel("the caller left the turn")
        else:
            self._group.cancel_scope.cancel()
        self._receive.close()
        # Told of no error, the group raises none of its own, so that the caller's exception comes out as it is.
        await self._group.__aexit__(None, None, None)
        if kind is None and not self._told:
            self._tell()

    async def _work(self) -> None:
        try:
            self._turn = await self._job.run(self._hand_over)
        except Exception as error:
            self._error = error
        finally:
            self._ended.set()
            self._send.close()

    async def _hand_over(self, batch: Sequence[TurnActivity]) -> None:
        try:
            await self._send.send(batch)
        except anyio.BrokenResourceError:
            log.debug("nobody reads turn %s any more", self.turn_id)
