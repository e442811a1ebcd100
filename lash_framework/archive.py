"""Reading what is stored: whole sessions, and who put what before the model in a turn.

It reads past damage: what can't be read is said in its place, so that the rest can be saved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from attrs import evolve

from lash_framework.arguments import SESSION_ID, TURN_ID, check_given
from lash_framework.explain import ExplainRecord, Explanation, record_changes
from lash_framework.prefix_changes import gone_on
from lash_framework.unfinished import all_items
from lash_hookspecs.codec import decode
from lash_hookspecs.errors import CodecError, ConfigurationError, UnknownName
from lash_hookspecs.messages import Message, MessageRole, text_message
from lash_hookspecs.prefix import PrefixChange, PrefixPart
from lash_hookspecs.sessions import AssembledTurn, SessionPolicy, SessionUsageReport
from lash_hookspecs.stores import Blobs, Capability, NodeKind, NodeRecord, Receipt, SessionStore
from lash_hookspecs.values import frozen

__all__ = ["HistoryExport", "explain_turn", "find_turn", "load_history"]


class _Readable(SessionStore, Blobs, Protocol):
    """What reading needs of a store."""


@frozen(kw_only=True)
class HistoryExport:
    """A session, whole, as data. `unreadable` names the nodes and turns that are damaged, with the reason."""

    session_id: str
    policy: SessionPolicy | None
    turns: tuple[AssembledTurn, ...]
    messages: tuple[Message, ...]
    usage: SessionUsageReport
    unreadable: tuple[str, ...] = ()


async def load_history(store: SessionStore, session_id: str) -> HistoryExport:
    """A session, whole. Raises `UnknownName` if there is none."""
    check_given("the session's id", session_id, SESSION_ID)
    loaded = await store.load_session(session_id, all_frames=True)
    if loaded is None:
        raise UnknownName("session", session_id, hint="`lash sessions list` shows what there is")
    messages, unreadable = _readable_messages(loaded.nodes)
    policy = None
    try:
        policy = decode(SessionPolicy, loaded.head.config) if loaded.head.config else None
    except CodecError as error:
        unreadable.append(f"the session's configuration: {error}")
    turns, ran = [], loaded.head.turn_index
    if ran and not loaded.nodes:
        unreadable.append(f"none of the messages of {ran} turns is in the store")
    receipts = 0
    for receipt in await store.list_receipts(session_id, limit=loaded.head.head_revision + 1):
        if receipt.operation.scope == "turn":
            receipts += 1
            try:
                turns.append(decode(AssembledTurn, receipt.result))
            except CodecError as error:
                unreadable.append(f"turn {receipt.operation.key}: {error}")
    if loaded.head.forked:  # the turns of before are another session's
        ran -= turns[-1].state.turn_index - 1 if turns else ran - receipts
    if receipts < ran:
        unreadable.append(f"{ran - receipts} of {ran} turns are not in the store")
    return HistoryExport(
        session_id=session_id,
        policy=policy,
        turns=tuple(reversed(turns)),
        messages=tuple(messages),
        usage=SessionUsageReport(loaded.usage),
        unreadable=tuple(unreadable),
    )


def _readable_messages(nodes: Sequence[NodeRecord]) -> tuple[list[Message], list[str]]:
    """The messages that can be read, with a system note in the place of each that can't, and why not.

    What a later frame kept of an earlier one isn't told again.
    """
    messages, unreadable = [], []
    told: dict[str, bytes] = {}
    for node in nodes:
        if node.kind is NodeKind.MESSAGE:
            try:
                message = decode(Message, node.body)
                if told.get(message.id) != node.body:
                    messages.append(message)
                    told[message.id] = node.body
            except CodecError as error:
                unreadable.append(f"node {node.node_id}: {error}")
                messages.append(text_message(node.node_id, MessageRole.SYSTEM, f"[unreadable: {error}]"))
    return messages, unreadable


async def explain_turn(store: _Readable, turn_id: str, session_id: str | None = None) -> Explanation:
    """The stored provenance of a turn. Raises like `find_turn`."""
    session_id, receipt = await find_turn(store, turn_id, session_id)
    turn, record = await _explained(store, receipt)
    if record is None:
        raise ConfigurationError(f"turn `{turn.turn_id}` was stored without its provenance")
    changes = gone_on(await _changes_since(store, session_id, receipt, record), turn.prefix_changes)
    return Explanation.of(turn, session_id, record, dict.fromkeys(changes))


async def find_turn(store: _Readable, turn_id: str, session_id: str | None = None) -> tuple[str, Receipt]:
    """The session of a committed turn, and its receipt; a beginning of its id is enough if it is unique.

    Raises `UnknownName` if there is no such turn, `ConfigurationError` if there are several.
    """
    check_given("the turn's id", turn_id, TURN_ID)
    if not turn_id.strip():
        raise ConfigurationError("the turn id is empty; `lash sessions show SESSION` lists a session's turns")
    found = [each for each in await store.find_turn(turn_id) if session_id in (None, each[0])]
    exact = [each for each in found if each[1].operation.key == turn_id]
    if not (found := exact or found):
        raise await _no_such_turn(store, turn_id, session_id)
    if len(found) > 1:
        some = ", ".join(f"`{receipt.operation.key}` (session `{session}`)" for session, receipt in found[:5])
        raise ConfigurationError(f"turn `{turn_id}` is ambiguous: {some}; name the session as well")
    return found[0]


async def _no_such_turn(store: Any, turn_id: str, session_id: str | None) -> UnknownName:
    """That there is none, or that it has no end yet."""
    if Capability.INBOX in store.capabilities:
        async for item in all_items(store, session_id):
            if (item.turn_id or "").startswith(turn_id):
                of, goes_on = item.session_id, f"`lash resume {item.session_id}` goes on with it"
                text = f"it isn't committed yet; {goes_on}, `lash sessions show {of}` says where it stands"
                return UnknownName("committed turn", turn_id, hint=text)
    return UnknownName("turn", turn_id, hint="`lash sessions show SESSION` lists a session's turns")


async def _changes_since(
    store: _Readable, session_id: str, receipt: Receipt, record: ExplainRecord
) -> list[PrefixChange]:
    """What changed since the turn before this one that asked a model, and what was compacted since."""
    changes: list[PrefixChange] = []
    limit, seen = 16, 0
    while True:
        found = await store.list_receipts(session_id, limit=limit)
        for earlier in found[seen:]:
            if earlier.operation.scope != "turn" or earlier.head_revision >= receipt.head_revision:
                continue
            turn, known = await _explained(store, earlier)
            if turn.execution.llm_calls:
                ended = [
                    change for change in turn.prefix_changes if change.part in (PrefixPart.MESSAGE, PrefixPart.VIEW)
                ]
                changes += [evolve(change, change=f"was shown in turn {turn.turn_id} only") for change in ended]
                return changes if known is None else [*changes, *record_changes(known, record)]
            changes += [change for change in turn.prefix_changes if change.part is PrefixPart.FRAME]
        if len(found) < limit:
            return changes
        limit, seen = limit * 16, len(found)


async def _explained(store: Blobs, receipt: Receipt) -> tuple[AssembledTurn, ExplainRecord | None]:
    """A turn and its provenance, if it has some."""
    turn = decode(AssembledTurn, receipt.result)
    record = await store.get_blob(turn.explain_ref) if turn.explain_ref else None
    return turn, None if record is None else decode(ExplainRecord, record)
