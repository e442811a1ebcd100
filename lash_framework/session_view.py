"""A session's state as an observer gets it who missed something: what is stored, and the turn that runs here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lash_framework.forking import parent_of
from lash_hookspecs.codec import decode
from lash_hookspecs.errors import SessionDeleted
from lash_hookspecs.inbox import InboxItem
from lash_hookspecs.observation import SessionView, TurnPhase, TurnView, WaitingTurn
from lash_hookspecs.sessions import AssembledTurn
from lash_hookspecs.stores import SessionHead, SessionStore
from lash_hookspecs.turn_effects import Checkpoint, ExecCode, LlmCall, ToolCalls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lash_framework.conversation import Conversation
    from lash_framework.resident import Resident
    from lash_framework.stream import ActivityStream
    from lash_framework.turn import TurnRun

__all__ = ["context_tokens", "session_view"]

_PHASES = {
    LlmCall: TurnPhase.MODEL,
    ToolCalls: TurnPhase.TOOLS,
    ExecCode: TurnPhase.CODE,
    Checkpoint: TurnPhase.CHECKPOINT,
}


async def session_view(session: Resident) -> SessionView:
    """The session as it is now: when this returns, nothing has happened since. Raises `SessionDeleted`."""
    feed, lash = session.feed, session.lash
    while True:
        ends = feed.ends
        head = await lash.store.load_head(session.id)
        if head is None and session.head.head_revision:
            raise SessionDeleted(session.id)
        last = await _last_turn(lash.store, session.id) if head is not None else None
        items: Sequence[InboxItem] = ()
        if lash.journalling is not None:
            items = await lash.journalling.store.list_inbox(session.id)
        if feed.ends == ends:
            break
    head = head or SessionHead(session_id=session.id)
    running = None if feed.running is None else _turn_view(*feed.running)
    if running is not None and last is not None and running.turn_id == last.turn_id:
        running = None  # its commit is in the store, and it will say so
    here = "" if running is None else running.turn_id
    return SessionView(
        session_id=session.id,
        head_revision=head.head_revision,
        turn_index=head.turn_index,
        last_turn=last,
        running=running,
        waiting=tuple(
            WaitingTurn(turn_id=each.turn_id, state=each.state, reason=each.reason)
            for each in items
            if each.turn_id is not None and each.turn_id != here
        ),
    )


async def _last_turn(store: SessionStore, id: str, until: int | None = None) -> AssembledTurn | None:
    """The session's own turn that was committed last, or was so when it stood at the turn index `until`.

    Between turns there may be appends, so it may take a second look.
    """
    limit = 1
    while True:
        receipts = await store.list_receipts(id, limit=limit)
        for each in receipts:
            if each.operation.scope == "turn":
                turn = decode(AssembledTurn, each.result)
                if until is None or turn.state.turn_index <= until:
                    return turn
        if len(receipts) < limit:
            return None
        limit *= 16


async def context_tokens(session: Resident, conversation: Conversation) -> int:
    """The tokens of the conversation's last model call, as far as its last turn knows them; asked for once.

    That turn may be one that a fork shares.
    """
    if conversation.context_tokens is None:
        store, index, id = session.lash.store, conversation.head.turn_index, session.id
        last = await _last_turn(store, id) if index else None
        try:
            while last is None and index and (parent := await parent_of(store, id)) is not None:
                last, id = await _last_turn(store, parent, index), parent
        except SessionDeleted:
            pass
        conversation.context_tokens = 0 if last is None else last.context_tokens
    return conversation.context_tokens


def _turn_view(run: TurnRun, stream: ActivityStream) -> TurnView:
    machine = run.begun
    if machine is None:  # to look at it mustn't make it, nor read the history for it
        said = (run.user,) if run.user.parts else ()
        return TurnView(turn_id=run.plan.turn_id, phase=TurnPhase.PREPARING, protocol_iteration=0, messages=said)
    phase = TurnPhase.ENDING if machine.is_done else _PHASES.get(type(machine.unanswered), TurnPhase.PREPARING)
    text, reasoning = stream.reply()
    return TurnView(
        turn_id=run.plan.turn_id,
        phase=phase,
        protocol_iteration=machine.protocol_iteration,
        messages=machine.turn_messages,
        correlation_id=stream.model_call if phase is TurnPhase.MODEL else "",
        text=text,
        reasoning=reasoning,
        tool_calls=stream.tool_calls() if phase is TurnPhase.TOOLS else (),
    )
