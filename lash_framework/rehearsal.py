"""Replaying a turn from its records alone: nothing is executed, nothing is written.

For a committed turn whose journal was kept, the replay must end in the same bytes. For an unfinished one it says
whether what is installed now would go on with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from attrs import evolve

from lash_framework.accepted import AcceptedTurn, changed_versions, lacking
from lash_framework.admission import DurableStore
from lash_framework.begun_turn import what_was_accepted
from lash_framework.envelope_hash import owner_of
from lash_framework.held_turn import HeldTurn
from lash_framework.journal_errors import EffectsSuspended, EffectUnrecorded
from lash_framework.pending import waiting_in
from lash_framework.recorded_only import RecordedOnly, recorded_stop
from lash_framework.resident import Resident
from lash_framework.turn_plan import CancelGate
from lash_framework.unfinished import all_items
from lash_hookspecs.codec import decode, encode
from lash_hookspecs.errors import CodecError, ConfigurationError, PluginError, ReplayError, StoreCorrupt, UnknownName
from lash_hookspecs.inbox import InboxItem, InboxState
from lash_hookspecs.journal_rows import JournalRow
from lash_hookspecs.llm import TokenUsage
from lash_hookspecs.messages import AttachmentRef
from lash_hookspecs.sessions import AssembledTurn, TokenLedgerEntry
from lash_hookspecs.stores import (
    CommitResult,
    LoadedSession,
    NodeKind,
    NodeRecord,
    Receipt,
    RuntimeCommit,
    SessionHead,
    attachment_id,
)
from lash_hookspecs.turn_outcomes import Stopped, StopReason
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from lash_framework.lash import Lash

__all__ = ["Rehearsal", "Replayed", "Verdict", "judge", "rehearse", "rehearse_all", "replay_turn"]


class Verdict(StrEnum):
    """What would become of an unfinished turn here."""

    SAFE = "safe"
    MISMATCH = "mismatch"
    OLD_SET = "old_set"
    """It needs plugins, a mode or a state that isn't here (any more): finish it with the old set."""


@frozen(kw_only=True)
class Rehearsal:
    """What a dry replay of an unfinished turn came to. `at` is the number of the effect where it stopped, from 1.

    `versions` are the plugins whose version is another than when the turn was accepted: id, then, now. `waits_for` are
    the calls of which a person must say first whether they happened.
    """

    session_id: str
    turn_id: str
    verdict: Verdict
    at: int
    reason: str = ""
    versions: tuple[tuple[str, str, str], ...] = ()
    waits_for: tuple[str, ...] = ()

    @property
    def lacks(self) -> tuple[str, ...]:
        """The plugins that the turn was accepted with, and that aren't here."""
        return lacking(self.versions)


@frozen(kw_only=True)
class Replayed:
    """What a replay of a committed turn came to. `differences` is empty if it ended in the same bytes."""

    turn: AssembledTurn
    effects: tuple[str, ...]
    size: int
    differences: tuple[str, ...]


class _DryStore:
    """Answers from another store, or from `past`, and keeps what would have been committed."""

    def __init__(self, store: Any, past: LoadedSession | None = None) -> None:
        self._store = store
        self._past = past
        self.capabilities, self.location = store.capabilities, store.location
        self.commits: list[RuntimeCommit] = []

    async def load_session(self, session_id: str, *, later: bool = False) -> LoadedSession | None:
        if self._past is not None:
            return self._past
        loaded: LoadedSession | None = await self._store.load_session(session_id, later=later)
        return loaded

    async def load_revision(self, session_id: str) -> int | None:
        loaded = await self.load_session(session_id, later=True)
        return None if loaded is None else loaded.head.head_revision

    async def load_head(self, session_id: str) -> SessionHead | None:
        """Of another session, which the turn makes or is handed to. How it stood in the `past` nobody knows."""
        head: SessionHead | None = None if self._past is not None else await self._store.load_head(session_id)
        return head

    async def session_was_deleted(self, session_id: str) -> bool:
        """In the past it wasn't: the turn was committed with it."""
        return self._past is None and bool(await self._store.session_was_deleted(session_id))

    async def get_blob(self, id: str) -> bytes | None:
        found: bytes | None = await self._store.get_blob(id)
        return found

    async def put_blob(self, data: bytes, media_type: str) -> AttachmentRef:
        return AttachmentRef(id=attachment_id(data), media_type=media_type, size=len(data))

    async def commit(self, commit: RuntimeCommit) -> CommitResult:
        self.commits.append(commit)
        receipt = Receipt(
            operation=commit.operation,
            intent_hash="",
            input_hash=commit.input_hash,
            head_revision=(commit.expected_head_revision or 0) + 1,
            leaf_node_id=None,
            node_ids=(),
            committed_at_ms=commit.committed_at_ms,
            result=commit.result,
        )
        return CommitResult(receipt=receipt)


async def _replay(
    lash: Lash,
    store: _DryStore,
    item: InboxItem,
    rows: Sequence[JournalRow],
    controller: RecordedOnly,
    *,
    cancelled: bool = False,
) -> None:
    """Run the turn from its records, to where it was stopped if it was. Raises whatever ends it before its commit.

    `cancelled`: that won after all of it was recorded.
    """
    dry: Any = copy(lash)
    dry.store, dry.tracer = store, None  # what is rehearsed doesn't happen
    loaded = await store.load_session(item.session_id, later=True)
    head = loaded.head if loaded is not None else SessionHead(session_id=item.session_id)
    request, policy = what_was_accepted(lash, item, rows)
    session = Resident(dry, head, policy, ())
    stop, gate = recorded_stop(rows), CancelGate()
    if cancelled or (stop is not None and stop.reason is StopReason.CANCELLED):
        gate.request("it was cancelled")
    ends = controller.end if gate.requested or stop is not None else None
    await HeldTurn(session, request, gate).run(controller, None, policy=policy, ends=ends, stop=stop)


async def rehearse_all(lash: Lash, session_id: str | None = None) -> Sequence[Rehearsal]:
    """What would become of all turns that aren't committed, of one session or of all."""
    found = []
    async for item in all_items(lash.require_journal("`lash upgrade-check`").store, session_id):
        if item.state is InboxState.PENDING:
            found.append(judge(lash, item))
        elif item.attempts:  # else it is a part of another's turn
            found.append(await rehearse(lash, item))
    return found


async def rehearse(lash: Lash, item: InboxItem) -> Rehearsal:
    """Replay an unfinished turn as far as its records go."""
    rows: Sequence[JournalRow] = ()
    controller: RecordedOnly | None = None
    verdict, reason, versions = Verdict.SAFE, "", changed_versions(item, lash.host.composition)
    try:
        rows = await lash.require_journal("a rehearsal").store.load_journal(item.session_id, item.turn_id or "")
        controller = RecordedOnly(rows, tool_owners=_tool_owners(lash, item))
        await _replay(lash, _DryStore(lash.store), item, rows, controller)
    except EffectUnrecorded as end:
        reason = f"its records end before {end.label}"
    except EffectsSuspended as end:
        reason = str(end)
    except ReplayError as error:
        verdict, reason = Verdict.MISMATCH, str(error)
        owners = map(owner_of, getattr(error, "paths", ()))
        if error.code == "runtime_effect_states" or not {*lacking(versions)}.isdisjoint(owners):
            verdict = Verdict.OLD_SET
    except (ConfigurationError, PluginError, StoreCorrupt) as error:
        verdict, reason = Verdict.OLD_SET, str(error)
    return Rehearsal(
        session_id=item.session_id,
        turn_id=item.turn_id or "",
        verdict=verdict,
        at=1 if controller is None else len(controller.replayed) + 1,
        reason=reason,
        versions=versions,
        waits_for=tuple(row.label for row, _ in waiting_in(item, rows)),
    )


def judge(lash: Lash, item: InboxItem) -> Rehearsal:
    """What would become of a turn that is accepted and not begun: whether all that it needs is here."""
    verdict, reason, versions = Verdict.SAFE, "", changed_versions(item, lash.host.composition)
    try:
        request, policy = what_was_accepted(lash, item, ())
        head = SessionHead(session_id=item.session_id)
        HeldTurn(Resident(lash, head, policy, ()), request, CancelGate()).check(policy)
    except (ConfigurationError, PluginError, StoreCorrupt) as error:
        verdict, reason = Verdict.OLD_SET, str(error)
    else:
        if gone := lacking(versions):
            verdict, reason = Verdict.OLD_SET, f"it was accepted with plugins that aren't here: {', '.join(gone)}"
    return Rehearsal(
        session_id=item.session_id,
        turn_id=item.turn_id or item.source_key,
        verdict=verdict,
        at=1,
        reason=reason,
        versions=versions,
    )


def _tool_owners(lash: Lash, item: InboxItem) -> Mapping[str, str]:
    try:
        return lash.host.composition(decode(AcceptedTurn, item.payload).policy.mode_id).tool_owners
    except (ConfigurationError, CodecError):
        return {}


async def replay_turn(lash: Lash, session_id: str, receipt: Receipt) -> Replayed:
    """Replay a committed turn, and compare what it would commit with what it did.

    What is compared: the turn as its receipt holds it, and the nodes that it appended, byte by byte; the provenance
    record, which says what was installed and set where, is taken over. Raises `UnknownName` if its journal wasn't kept.
    """
    turn_id = receipt.operation.key
    store = lash.require_journal("a replay").store
    item = await _settled(store, session_id, turn_id)
    rows = await store.load_journal(session_id, turn_id)
    if item is None or not rows:
        hint = "its journal wasn't kept: turns that run with `durability.keep_journal_h` above 0 keep theirs"
        raise UnknownName("journal of turn", turn_id, hint=hint)
    past, nodes = await _before(lash, session_id, receipt)
    dry = _DryStore(lash.store, past)
    controller = RecordedOnly(rows, tool_owners=_tool_owners(lash, item), persistent=lash.store.persistent)
    stored = decode(AssembledTurn, receipt.result)
    cancelled = stored.outcome == Stopped(StopReason.CANCELLED)
    try:
        await _replay(lash, dry, item, rows, controller, cancelled=cancelled)
    except ReplayError as error:
        error.lacks = lacking(changed_versions(item, lash.host.composition))
        raise
    (commit,) = dry.commits
    turn = decode(AssembledTurn, commit.result)
    turn = evolve(turn, explain_ref=stored.explain_ref)
    differences = []
    if encode(turn) != receipt.result:
        differences.append("the turn's result")
    if [_content(each) for each in commit.nodes] != [_content(each) for each in nodes]:
        differences.append("the nodes that it appended")
    size = len(receipt.result) + sum(len(each.body) for each in nodes)
    return Replayed(turn=turn, effects=tuple(controller.replayed), size=size, differences=tuple(differences))


def _content(node: NodeRecord) -> tuple[object, ...]:
    return node.node_id, node.parent_node_id, node.kind, node.timestamp_ms, node.frame_key, node.body


async def _settled(store: DurableStore, session_id: str, turn_id: str) -> InboxItem | None:
    """The item that the turn was accepted as, if it is still here."""
    async for each in all_items(store, session_id, frozenset({InboxState.COMPLETED})):
        if each.turn_id == turn_id and each.payload:
            return each
    return None


async def _before(lash: Lash, session_id: str, receipt: Receipt) -> tuple[LoadedSession, list[NodeRecord]]:
    """The session as it was before this commit, but for its plugins' states, and what the commit appended."""
    loaded = await lash.store.load_session(session_id, all_frames=True)
    if loaded is None:
        raise UnknownName("session", session_id)
    nodes = list(loaded.nodes)
    ids = [each.node_id for each in nodes]
    first = ids.index(receipt.node_ids[0]) if receipt.node_ids else len(nodes)
    stored = decode(AssembledTurn, receipt.result)
    opened = [at for at in range(first) if nodes[at].kind is NodeKind.FRAME_OPEN]
    earlier = nodes[opened[-1] : first] if opened else []  # from the frame on that was the current one
    head = SessionHead(
        session_id=session_id,
        head_revision=receipt.head_revision - 1,
        leaf_node_id=earlier[-1].node_id if earlier else None,
        frame_node_id=earlier[0].node_id if earlier else None,
        turn_index=stored.state.turn_index - 1,
        config=loaded.head.config,
    )
    usage = TokenLedgerEntry(source="turn", model="", usage=await _usage_before(lash, session_id, receipt))
    past = LoadedSession(head=head, nodes=earlier, usage=(usage,))
    return past, nodes[first : first + len(receipt.node_ids)]


async def _usage_before(lash: Lash, session_id: str, receipt: Receipt) -> TokenUsage:
    for each in await lash.store.list_receipts(session_id, limit=1_000_000):
        if each.head_revision < receipt.head_revision and each.operation.scope == "turn":
            return decode(AssembledTurn, each.result).state.token_usage
    return TokenUsage()
