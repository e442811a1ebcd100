"""Forks: a session that begins where another one stands, and shares what was said until then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import evolve

from lash_framework.arguments import Said, check_arguments
from lash_framework.provenance import APPLICATION
from lash_framework.setting_sources import attribute
from lash_hookspecs.codec import decode
from lash_hookspecs.errors import (
    CapabilityMissing,
    CommitRefused,
    ConfigurationError,
    SessionDeleted,
    TurnConflict,
    UnknownName,
)
from lash_hookspecs.forks import SessionFork
from lash_hookspecs.sessions import AssembledTurn, SessionPolicy
from lash_hookspecs.stores import Capability, OperationId, SessionStore, node_id

if TYPE_CHECKING:
    from lash_framework.lash import Lash
    from lash_framework.resident import Resident
    from lash_framework.session import Session

__all__ = ["fork", "parent_of", "refuse_shared", "require_forks"]

_NOTHING = Said(fields={}, instructions=None, generation=None, budget=None, extension=None)


def require_forks(lash: Lash, what: str) -> Any:
    """The store, if it can fork. Raises `CapabilityMissing` for `what` if it can't."""
    if Capability.FORKS not in lash.store.capabilities:
        raise CapabilityMissing(f"{what} needs a store with the capability `forks`; `{lash.location}` lacks it")
    return lash.store


async def fork(source: Resident, session_id: str | None, at: str | None) -> Session:
    """See `Session.fork`."""
    from lash_framework.session import Session  # it has a method for this

    check_arguments({"new_id": session_id, "at": at}, _GIVEN, where="session.fork")
    if session_id is not None and not session_id.strip():
        raise ConfigurationError("the new session's id is blank; leave it out to get a fresh one")
    lash = source.lash
    store = require_forks(lash, "`session.fork`")
    id = session_id or lash.world.token_hex(16)
    if session_id in lash._sessions and await store.load_head(id) is None:
        text = f"session `{id}` is open here, and nothing was committed on it: choose another id for the fork"
        raise ConfigurationError(text)
    made = SessionFork(
        session_id=id,
        source_id=source.id,
        created_at_ms=lash.world.now_ms(),
        at=at,
        turn_index=0 if at is None else await _index(source, at),
    )
    try:
        is_new = await store.fork_session(made)
    except CommitRefused as refused:  # its code is for who speaks with stores
        raise ConfigurationError(str(refused).removeprefix(f"{refused.code}: ")) from refused
    if not is_new:
        return await lash.session(id, recover=False)
    head = await store.load_head(id)
    stored = decode(SessionPolicy, head.config)
    resident = lash._resident(head, stored, _NOTHING)
    # What was said to the source and isn't stored yet was said to whatever goes on from there.
    said = evolve(resident.policy, **{name: getattr(source.policy, name) for name in source.said})
    attribute(resident.sources, resident.policy, said, APPLICATION)
    resident.say(said, source.said)
    resident.tool_edits = list(source.tool_edits)
    session = lash._sessions.setdefault(id, Session(resident))
    await session.opened("forked")
    return session


async def _index(source: Resident, turn_id: str) -> int:
    """The turn index of the session after this turn. Raises `UnknownName`."""
    receipt = await source.lash.store.load_receipt(source.id, OperationId("turn", turn_id))
    if receipt is None:
        raise UnknownName("turn", turn_id, hint=f"session `{source.id}` has committed no such turn of its own")
    return decode(AssembledTurn, receipt.result).state.turn_index


async def refuse_shared(session: Resident, turn_id: str, user_message_id: str) -> None:
    """Raise `TurnConflict` for a turn of before the session was forked: it has its messages, but no receipt of it."""
    conversation = await session.conversation()
    if not conversation.head.forked:
        return
    await conversation.load()
    operation = OperationId("turn", turn_id)
    if await session.lash.store.load_receipt(session.id, operation) is not None:
        return
    if conversation.messages.position_of(user_message_id) is not None or await _is_shared(session, operation):
        raise TurnConflict(
            f"turn `{turn_id}` was committed before session `{session.id}` was forked; choose another turn id, or ask "
            "the session that it was forked from"
        )


async def _is_shared(session: Resident, operation: OperationId) -> bool:
    """Whether the session's path has the operation's nodes from one that it was forked from, in whichever frame.

    Nodes outlive their session, so that only what lies below one that was deleted and was a fork itself isn't seen.
    """
    store, id = session.lash.store, session.id
    while (parent := await parent_of(store, id)) is not None:
        for ordinal in (0, 1):  # behind a frame that the turn opened
            if await store.is_on_path(session.id, node_id(parent, operation, ordinal)):
                return True
        id = parent
    return False


async def parent_of(store: SessionStore, id: str) -> str | None:
    """What the session was forked from, if it was, and is there."""
    try:
        head = await store.load_head(id)
        meta = await store.load_meta(id) if head is not None and head.forked else None
    except SessionDeleted:
        return None
    return None if meta is None else meta.parent_session_id


_GIVEN = {"new_id": (str, "text"), "at": (str, "a turn's id")}
