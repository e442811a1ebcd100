"""What an application holds: a session, to run turns on, to read, to configure.

A session's turns run one after the other: in line within a process, and against other processes by the store's lock.
Opening one reads its head; its history is loaded when a turn first needs it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from lash_framework.arguments import check_given
from lash_framework.hooks import observe
from lash_framework.modes import driver_options, load_extension
from lash_framework.new_nodes import new_nodes
from lash_framework.observing import Observer
from lash_framework.provenance import APPLICATION
from lash_framework.providers import split_model
from lash_framework.resident import Resident
from lash_framework.running import RunningTurn
from lash_framework.session_config import decided_policy
from lash_framework.session_policies import changed_policy
from lash_framework.session_tools import edit_of, refuse_edit, tool_state, with_edits
from lash_framework.setting_sources import attribute
from lash_framework.turn_job import TurnJob, TurnOptions
from lash_hookspecs.codec import encode
from lash_hookspecs.compaction import Compacted, CompactRequest
from lash_hookspecs.contexts import SessionCall, SessionHookContext, binding
from lash_hookspecs.errors import CommitRefused, SessionBusy, StaleToolState
from lash_hookspecs.inbox import CancelOutcome, InboxItem, InboxState, Ingress
from lash_hookspecs.messages import Message
from lash_hookspecs.sessions import (
    AppendedNodes,
    AppendSessionNodesRequest,
    AppendSessionNodesResult,
    AssembledTurn,
    FollowedTurn,
    SessionPolicy,
    SessionUsageReport,
    StaleBranch,
    TurnInput,
)
from lash_hookspecs.stores import OperationId, RuntimeCommit
from lash_hookspecs.tool_catalog import ToolState, ToolWords

if TYPE_CHECKING:
    from lash_framework.actions import CallOptions
    from lash_framework.composition import Composition
    from lash_framework.recovery import RecoveredTurn, RecoveryGate
    from lash_framework.session_requests import CancelRequest
    from lash_framework.state import PluginStates

__all__ = ["Session", "end_observers"]

log = logging.getLogger("lash.session")

_BEGUN = frozenset({InboxState.CLAIMED, InboxState.SUSPENDED, InboxState.STUCK, InboxState.BLOCKED})


class Session:
    """A conversation that is kept. Made by `Lash.session`."""

    __slots__ = ("__weakref__", "_resident", "id")

    def __init__(self, resident: Resident) -> None:
        self.id = resident.id
        self._resident = resident

    def __repr__(self) -> str:
        return f"<Session {self.id} at revision {self._resident.head.head_revision}>"

    @property
    def policy(self) -> SessionPolicy:
        """How the session runs."""
        return self._resident.policy

    @property
    def is_stored(self) -> bool:
        """Whether anything was committed yet, as far as is known here."""
        return self._resident.head.head_revision > 0

    @property
    def composition(self) -> Composition:
        """The plugins, tools and driver of its mode, resolved."""
        return self._resident.composition

    # ---- turns ------------------------------------------------------------------------------------------------------

    async def run(self, given: TurnInput | str, **options: Unpack[TurnOptions]) -> AssembledTurn:
        """Run a turn to its end and return it, committed. For the options see `TurnOptions`."""
        return await TurnJob(self._resident, given, options).run(None)

    def turn(self, given: TurnInput | str, **options: Unpack[TurnOptions]) -> RunningTurn:
        """A turn to watch: `async with session.turn(…) as running: async for activity in running: …`.

        Leaving the block early cancels the turn; an exception interrupts it.
        """
        return RunningTurn(TurnJob(self._resident, given, options), self)

    async def follow(self, turn: AssembledTurn, *, at_most: int | None = None) -> FollowedTurn:
        """Go on where a turn was handed to another session: run what that one was told, and so on, and return all.

        What is committed isn't run again. After `at_most` handoffs (16) the last turn may still be one. Raises what a
        turn raises, `SessionBusy` if somebody else runs a successor, and `SessionDeleted`.
        """
        from lash_framework.successors import follow

        return await follow(self._resident.lash, turn, at_most)

    async def recover(
        self, *, force: bool = False, gate: RecoveryGate | None = None, until: str | None = None
    ) -> Sequence[RecoveredTurn]:
        """Go on with what was begun or accepted and isn't committed, oldest first; returns these turns.

        What is recorded is neither run nor paid again. `force`: try a turn again that is blocked. `gate.cancel(…)`
        cancels the turn that runs, and none follows; nor does one behind the turn `until`. Raises `SessionBusy` if
        somebody else runs the session, `TurnSuspended` or `TurnBlocked` for a turn that stands in the way.
        """
        from lash_framework.recovery import recover

        return await recover(self._resident, force=force, gate=gate, until=until)

    async def enqueue(
        self, given: TurnInput | str, *, ingress: Ingress = Ingress.CHECKPOINT, source_key: str | None = None
    ) -> InboxItem:
        """Accept an input durably, and return at once.

        A turn that runs here takes it at its next checkpoint (or not, with `Ingress.NEXT_TURN`, or if the input says
        more than texts and images); otherwise it is a turn of its own, which runs in the background after those before
        it. The same `source_key` again is the same item; with another input it is an `InboxConflict`. Raises
        `CapabilityMissing` without a journal.
        """
        from lash_framework.session_requests import enqueue

        return await enqueue(self._resident, given, ingress, source_key, keeps=self)

    async def compact(self, instructions: str = "", *, turn_id: str | None = None) -> Compacted | None:
        """Have a plugin make the conversation shorter, in a turn that does nothing else; None: there was nothing to do.

        The session goes on in a new frame. What was said before stays in the store, and isn't loaded any more.
        `instructions` are for the plugin. Raises `ConfigurationError` if the mode has none that compacts, `PluginError`
        if it failed, and what `run` raises.
        """
        from lash_framework.compacting import compacted

        request = CompactRequest(instructions=instructions)
        return compacted(await self.run(TurnInput(compact=request), turn_id=turn_id))

    async def abandon(self, turn_id: str) -> RecoveredTurn:
        """Commit what is recorded of a turn that can't go on, as stopped (`abandoned`); nothing more of it is run.

        A beginning of the id is enough. Raises `UnknownName` if it isn't the turn that comes first, and `SessionBusy`.
        """
        from lash_framework.recovery import abandon

        return await abandon(self._resident, turn_id)

    async def cancel(self, reason: str = "cancelled by the caller") -> CancelRequest | None:
        """Ask for the end of the session's turn, whichever process runs it; None if there is none.

        `await request.won()` tells whether it ended as cancelled. A turn of this process is cancelled more directly by
        `RunningTurn.cancel`.
        """
        from lash_framework.session_requests import cancel

        return await cancel(self._resident, reason, keeps=self)

    async def inbox(self) -> Sequence[InboxItem]:
        """What is accepted and not settled, in order."""
        return await self._resident.lash.require_journal("`session.inbox`").store.list_inbox(self.id)

    async def fork(self, new_id: str | None = None, *, at: str | None = None) -> Session:
        """Another session that begins where this one stands in the store, or stood after the turn `at`.

        It shares what was said, without a copy, and begins with what plugins remember and how the session runs; from
        then on neither sees what the other does, and each may be deleted. Asked for again it is the same one, as long
        as this session hasn't gone on. Raises `CapabilityMissing` if the store can't fork, `UnknownName` for a turn
        that isn't its own, and `ConfigurationError` for an id that is taken, a session without a commit, and a turn
        before the last one, where plugins remember things: what they remembered then isn't kept.
        """
        from lash_framework.forking import fork

        return await fork(self._resident, new_id, at)

    async def cancel_queued(
        self, no: int, *, onward: bool = False, reason: str = "cancelled by the caller"
    ) -> Mapping[int, CancelOutcome]:
        """Cancel an input of the inbox by its number, or, `onward`, it and all later ones that wait: all or none.

        Says what became of each. One whose turn was begun meanwhile is asked to end (`requested`), one that a running
        turn took stays with it (`taken`), and one that isn't there (`unknown`) cancels no later ones either.
        """
        store = self._resident.lash.require_journal("`session.cancel_queued`").store
        return await (store.cancel_suffix(self.id, no, reason) if onward else store.cancel_items(self.id, [no], reason))

    async def call(self, name: str, value: object = None, **options: Unpack[CallOptions]) -> Any:
        """Call an action of a plugin on this session: see `Lash.call`."""
        return await self._resident.lash.call(name, value, session=self, **options)

    # ---- reading and changing ---------------------------------------------------------------------------------------

    def observe(self, cursor: str | None = None) -> Observer:
        """What this host's turns on the session do, from now on, whoever runs them: `async for item in …`.

        The first item is the session's state. With the `cursor` of an item that was read before, the activities after
        that one come instead, or an `ObservationGap` with the state if they aren't there any more. No observer slows a
        turn down. It keeps the session in memory. Raises `InvalidCursor`.
        """
        return Observer(self._resident, cursor, keeps=self)

    async def messages(self) -> Sequence[Message]:
        """The conversation so far: from the last compaction on."""
        conversation = await self._resident.conversation()
        await conversation.load()
        return conversation.messages

    async def usage(self) -> SessionUsageReport:
        """Tokens so far, by source and model."""
        return SessionUsageReport((await self._resident.conversation()).usage)

    async def configure(self, **changes: Any) -> SessionPolicy:
        """Change the policy's fields (`model`, `max_turns`, …) from the next turn on; stored with it.

        Plugins may change or refuse through `lash_session_config`. Raises `ConfigurationError` for unknown fields and
        values that can't be.
        """
        return await self.set_policy(changed_policy(self.id, self.policy, changes), changes)

    async def tools(self) -> ToolState:
        """The session's tools as they stand: which the model may call, and why not the others."""
        composition, words = await self._tool_words()
        return tool_state(self._resident.lash.host.catalog(composition), with_edits(words, self._resident.tool_edits))

    async def edit_tools(
        self, *, show: Iterable[str] = (), hide: Iterable[str] = (), generation: int | None = None
    ) -> ToolState:
        """Let the model call these tools or not, from the next turn on; stored with it. Returns what is then.

        With the `generation` of a state that was looked at, nothing is changed if the tools changed since:
        `StaleToolState`. Raises `UnknownName` and `ConfigurationError` for tools that can't be shown.
        """
        resident = self._resident
        composition, stored = await self._tool_words()
        words = with_edits(stored, resident.tool_edits)
        if generation is not None and generation != words.generation:
            raise StaleToolState(
                f"the tools of session `{self.id}` are of generation {words.generation} by now, not {generation}; "
                "look at `session.tools()` again"
            )
        said = edit_of(show, hide)
        catalog = resident.lash.host.catalog(composition)
        refuse_edit(catalog, words, said)
        resident.tool_edits.append(said)
        return tool_state(catalog, with_edits(words, [said]))

    async def _tool_words(self) -> tuple[Composition, ToolWords]:
        resident = self._resident
        composition = self.composition
        states = await resident.states(composition, keep=not resident.line.locked())
        return composition, states.tool_words

    async def set_policy(self, wanted: SessionPolicy, said: Iterable[str] = ()) -> SessionPolicy:
        """Replace the policy from the next turn on, after the plugins had their say; returns what it is then.

        The fields that it changes, and those that were `said`, win over what another host stores until then.
        """
        check_given("the policy", wanted, (SessionPolicy, "a `SessionPolicy`; `session.configure` changes fields"))
        self._resident.say(self.policy, said)
        if wanted != self.policy:
            self._check(wanted)
            attribute(self._resident.sources, self.policy, wanted, APPLICATION)
            await self._take_policy(wanted)
        return self.policy

    def _check(self, policy: SessionPolicy) -> None:
        """Raise `ConfigurationError` for a policy that no turn could run with."""
        host = self._resident.lash.host
        split_model(policy.model, host.providers)
        mode = host.composition(policy.mode_id).mode
        load_extension(mode, "session", policy.extension)
        driver_options(mode, {**mode.options, **policy.options})

    async def _take_policy(self, wanted: SessionPolicy) -> None:
        previous = self.policy
        hooks = self._resident.lash.host.composition(wanted.mode_id).hooks
        config, changed = hooks["lash_session_config"], hooks["lash_session_config_changed"]
        if config:
            bind, states = await self._binding("lash_session_config", "configured", wanted)
            wanted = await decided_policy(config, bind, states, wanted, self._check, self._resident.sources)
        self._resident.say(wanted)
        if changed and wanted != previous:
            bind, _ = await self._binding("lash_session_config_changed", "configured", wanted, read_only=True)
            await observe(changed, bind, previous=previous, current=wanted)

    async def opened(self, reason: str) -> None:
        """Tell the plugins that the session is `created`, `opened` or `forked`: once for each host."""
        hooks = self.composition.hooks
        if hooks["lash_session_config"]:
            await self._take_policy(self.policy)
        if hooks["lash_session_opened"]:
            bind, _ = await self._binding("lash_session_opened", reason, self.policy, read_only=True)
            await observe(hooks["lash_session_opened"], bind)

    async def _binding(
        self, hook: str, reason: str, policy: SessionPolicy, *, read_only: bool = False
    ) -> tuple[Callable[[str], object], PluginStates]:
        """Contexts for a hook outside a turn, of the composition that the policy asks for, and its plugins' states."""
        resident = self._resident
        composition = resident.lash.host.composition(policy.mode_id)
        states = await resident.states(composition, keep=not resident.line.locked())
        if composition.hooks["lash_lifespan"]:
            states.attach_hosts(await resident.lash.host.enter(composition))
        call = SessionCall(
            session_id=self.id,
            mode_id=policy.mode_id,
            policy=policy,
            turn_index=resident.head.turn_index,
            reason=reason,
            hook=hook,
        )
        scopes = states.scopes
        if read_only:
            scopes = {key: each.reading() for key, each in scopes.items()}
        return binding(SessionHookContext, scopes, call), states

    async def require_no_begun_turn(self) -> None:
        """Raise `SessionBusy` where a turn was begun and isn't committed."""
        journalling = self._resident.lash.journalling
        if journalling is not None and await journalling.store.list_inbox(self.id, states=_BEGUN, limit=1):
            raise SessionBusy(
                f"a turn of session `{self.id}` was begun and isn't committed: what is appended now would change what "
                "it has asked, and it could never go on; recover or abandon it first"
            )

    async def append(self, request: AppendSessionNodesRequest) -> AppendSessionNodesResult:
        """Append messages or protocol events outside a turn, once per operation id.

        Waits for a turn that runs, here or elsewhere: its commit takes the place that an append would take, and who
        runs it has paid. Raises `SessionBusy` while a turn is interrupted, suspended or blocked.
        """
        words = "an `AppendSessionNodesRequest`, with nodes such as `SessionAppendNode.user(id, text)`"
        check_given("what to append", request, (AppendSessionNodesRequest, words))
        resident = self._resident
        resident.refuse_from_within()
        async with resident.line, resident.lash.holding(self.id, wait=True):
            await self.require_no_begun_turn()
            conversation = await resident.fresh()
            operation = OperationId("append", request.operation_id)
            policy, now = self.policy, resident.lash.world.now_ms()
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
                config=encode(policy),
                nodes=nodes,
                turn_index=conversation.head.turn_index,
                requires_ancestor_node_id=request.requires_ancestor_node_id,
                budget=resident.lash.budget,
            )
            try:
                receipt = (await resident.lash.store.commit(commit)).receipt
                resident.stored(policy)
            except CommitRefused as refused:
                if refused.code != "ancestor" or request.requires_ancestor_node_id is None:
                    raise
                head = await resident.lash.store.load_head(self.id)
                return StaleBranch(
                    required_node_id=request.requires_ancestor_node_id,
                    current_leaf_node_id=head.leaf_node_id if head else None,
                )
            finally:
                resident.forget()
        return AppendedNodes(node_ids=receipt.node_ids, leaf_node_id=receipt.leaf_node_id or "")


def end_observers(sessions: Mapping[str, Session], *, deleted: bool = False) -> None:
    """Nothing more comes for observers of these sessions: their host closes, or they are `deleted`."""
    for each in sessions.values():
        each._resident.end(deleted=deleted)
