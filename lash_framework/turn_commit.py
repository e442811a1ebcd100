"""From a turn that ran to what is stored of it, and to what the conversation is afterwards. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import evolve

from lash_framework.compacting import new_frame
from lash_framework.conversation import Conversation, History
from lash_framework.new_nodes import Frame, new_nodes
from lash_framework.turn import TurnRun
from lash_hookspecs.codec import decode, encode
from lash_hookspecs.compaction import Compacted
from lash_hookspecs.forks import NewSession
from lash_hookspecs.journal_rows import Settlement
from lash_hookspecs.sessions import (
    AssembledTurn,
    SessionPolicy,
    SessionStateEnvelope,
    SessionUsageReport,
    TokenLedgerEntry,
)
from lash_hookspecs.stores import (
    CommitBudget,
    ComponentChanged,
    ComponentEntry,
    NodeKind,
    NodeRecord,
    OperationId,
    RuntimeCommit,
    SessionHead,
    StoredComponent,
    UsageDelta,
    attachment_id,
)

__all__ = ["conversation_after", "prepare_commit"]

_SIZED = ("lash_compact", "lash_prepare_context")
"""The hooks that are told how much of the model's window the last call took."""


def prepare_commit(
    run: TurnRun,
    turn: AssembledTurn,
    *,
    policy: SessionPolicy,
    components: Mapping[str, ComponentEntry],
    kept: Sequence[str],
    explained: tuple[bytes, str],
    budget: CommitBudget,
    settles: Settlement | None,
    creates: tuple[NewSession, ...],
) -> tuple[AssembledTurn, RuntimeCommit]:
    """The turn with its place in the session, and the one commit that stores all of it.

    `explained` are the provenance's bytes and their blob id. `policy` is the session's, which is stored with the turn,
    and `components` are what its plugins remember, `kept` the attachments in that. `creates` are the sessions that it
    makes.
    """
    plan, before = run.plan, run.plan.conversation
    operation, now_ms, said = OperationId("turn", plan.turn_id), run.finished_at_ms, run.new_messages
    history, compaction = run.window.history, run.window.compaction
    frame = None if compaction is None else new_frame(plan.turn_id, compaction, history)
    nodes = new_nodes(before.head, operation, said, run.machine.events[len(history.events) :], now_ms, frame)
    record, record_id = explained
    turn = _placed(run, turn, nodes, frame, record_id)
    known = record_id == before.explain_ref
    stored = said if frame is None else (*frame.messages, *said)
    images = [part.attachment.id for message in stored for part in message.parts if part.attachment]
    commit = RuntimeCommit(
        session_id=plan.session_id,
        operation=operation,
        expected_head_revision=before.head.head_revision,
        committed_at_ms=now_ms,
        config=before.head.config if policy is before.policy else encode(policy),
        nodes=nodes,
        components=components,
        usage=_usage(plan.policy.model, turn),
        # The same record again is adopted by name: bytes that are there needn't travel.
        blobs=() if known else (record,),
        adopted_blobs=tuple(dict.fromkeys([*images, *kept, *([record_id] if known else [])])),
        turn_index=turn.state.turn_index,
        input_hash=plan.input_hash,
        result=encode(turn),
        budget=budget,
        settles=settles,
        creates=creates,
    )
    return turn, commit


def _placed(
    run: TurnRun, turn: AssembledTurn, nodes: Sequence[NodeRecord], frame: Frame | None, explain_ref: str
) -> AssembledTurn:
    """The turn with its place in the session, and with what is known of it at its commit only."""
    plan, before = run.plan, run.plan.conversation
    return evolve(
        turn,
        state=SessionStateEnvelope(
            session_id=plan.session_id,
            turn_index=before.head.turn_index + 1,
            head_revision=before.head.head_revision + 1,
            leaf_node_id=nodes[-1].node_id if nodes else before.head.leaf_node_id,
            token_usage=SessionUsageReport(before.usage).total + turn.usage,
        ),
        explain_ref=explain_ref,
        compaction=None if frame is None else decode(Compacted, frame.body),
        context_tokens=run.assembler.last_usage.total if any(map(plan.composition.hooks.get, _SIZED)) else 0,
        prefix_changes=run.window.changes(run.machine.turn_messages),
        started_at_ms=run.started_at_ms,
        finished_at_ms=run.finished_at_ms,
    )


def _usage(model: str, turn: AssembledTurn) -> tuple[UsageDelta, ...]:
    deltas = [UsageDelta(source="turn", model=model, usage=turn.token_usage)]
    deltas += [UsageDelta(source=each.source, model=each.model, usage=each.usage) for each in turn.children_usage]
    return tuple(each for each in deltas if each.usage.total or each.usage.at_least)


def conversation_after(run: TurnRun, turn: AssembledTurn, commit: RuntimeCommit, policy: SessionPolicy) -> Conversation:
    """What the conversation is once this commit is in, without asking the store."""
    before, history = run.plan.conversation, run.window.history
    messages = run.machine.messages.extended(run.late).without_transient(len(history.messages))
    opened = next((each.node_id for each in commit.nodes if each.kind is NodeKind.FRAME_OPEN), None)
    return Conversation(
        head=SessionHead(
            session_id=before.head.session_id,
            head_revision=turn.state.head_revision,
            leaf_node_id=turn.state.leaf_node_id,
            frame_node_id=opened or before.head.frame_node_id,
            turn_index=turn.state.turn_index,
            config=commit.config,
            forked=before.head.forked,
        ),
        history=History(messages, run.machine.events),
        components=_stored(commit.components or {}, before.components),
        usage=_merged(before.usage, commit.usage),
        policy=policy,
        explain_ref=turn.explain_ref,
        context_tokens=turn.context_tokens,
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
    return tuple(TokenLedgerEntry(source=source, model=model, usage=usage) for (source, model), usage in totals.items())
