"""Between a session's stored graph and its conversation: loading nodes, and building a turn's commit.

A node's body is the encoded message or protocol event; the store never looks into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import orjson
from attrs import field

from lash_framework.machine import MessageSequence
from lash_framework.machine.plain import render_stored
from lash_framework.machine.sequence import Entry
from lash_hookspecs.codec import decode, encode
from lash_hookspecs.errors import CodecError, StoreCorrupt
from lash_hookspecs.messages import Message, MessageRole, text_message
from lash_hookspecs.sessions import SessionPolicy, TokenLedgerEntry
from lash_hookspecs.stores import (
    LoadedSession,
    NodeKind,
    NodePath,
    NodeRecord,
    OperationId,
    SessionHead,
    StoredComponent,
    frame_node_id,
    node_id,
)
from lash_hookspecs.turn_effects import ProtocolEvent
from lash_hookspecs.values import mutable

__all__ = ["MAIN_FRAME", "Conversation", "new_nodes", "readable_messages", "restore"]

T = TypeVar("T")
MAIN_FRAME = "main"


@mutable(eq=False)
class Conversation:
    """A session in memory: where it stands, what was said, what its plugins and protocol remember.

    `explain_ref` names the last turn's provenance, once a turn was committed here.
    """

    head: SessionHead
    messages: MessageSequence
    events: tuple[ProtocolEvent, ...] = ()
    components: Mapping[str, StoredComponent] = field(factory=dict)
    usage: tuple[TokenLedgerEntry, ...] = ()
    policy: SessionPolicy | None = None
    explain_ref: str | None = None


def restore(loaded: LoadedSession) -> Conversation:
    """A loaded session as a conversation. Raises `StoreCorrupt` naming the node that can't be read.

    Every body is looked at here, so that no turn begins on a history that it can't show; but of what is plain, no
    message is made before somebody reads it.
    """
    nodes, session_id = NodePath.of(loaded.nodes), loaded.head.session_id
    if loaded.head.turn_index and not len(nodes):
        # Every turn stores its input: this one isn't empty, its messages are lost.
        raise StoreCorrupt(
            f"session `{session_id}` ran {loaded.head.turn_index} turns, and none of their messages is in the store: "
            "it is damaged; take a backup, or go on in a new session"
        )
    is_message, is_event = NodeKind.MESSAGE, NodeKind.EVENT
    places = [at for at, kind in enumerate(nodes.kinds) if kind is is_message]
    bodies = [nodes.bodies[at] for at in places]
    events = [_read(ProtocolEvent, nodes, session_id, at) for at, kind in enumerate(nodes.kinds) if kind is is_event]
    entries: list[Entry] = []
    ids: list[str] = []
    parse, render = orjson.loads, render_stored  # at hand for ten thousand messages
    for place, body in zip(places, bodies, strict=True):
        try:
            data = parse(body)
        except ValueError:
            data = None  # the decoder will say what is wrong
        entry = render(data)
        if entry is None:
            message = _read(Message, nodes, session_id, place)
            entries.append(message)
            ids.append(message.id)
        else:
            entries.append(entry)
            ids.append(data["id"])
    return Conversation(
        head=loaded.head,
        # What was rendered is sound, so of the nodes only the bodies are kept.
        messages=MessageSequence.restored(entries, ids, lambda at: decode(Message, bodies[at])),
        events=tuple(events),
        components=loaded.components,
        usage=loaded.usage,
        policy=_policy(loaded.head),
    )


def _read(cls: type[T], nodes: NodePath, session_id: str, place: int) -> T:
    try:
        return decode(cls, nodes.bodies[place])
    except CodecError as error:
        raise StoreCorrupt(
            f"session `{session_id}`: node `{nodes.ids[place]}` can't be read: {error}; "
            "`lash sessions export` saves the others; go on in a new session"
        ) from error


def readable_messages(nodes: Sequence[NodeRecord]) -> tuple[list[Message], list[str]]:
    """The messages that can be read, with a system note in the place of each that can't, and why not."""
    messages, unreadable = [], []
    for node in nodes:
        if node.kind is NodeKind.MESSAGE:
            try:
                messages.append(decode(Message, node.body))
            except CodecError as error:
                unreadable.append(f"node {node.node_id}: {error}")
                messages.append(text_message(node.node_id, MessageRole.SYSTEM, f"[unreadable: {error}]"))
    return messages, unreadable


def _policy(head: SessionHead) -> SessionPolicy | None:
    if not head.config:
        return None
    try:
        return decode(SessionPolicy, head.config)
    except CodecError as error:
        raise StoreCorrupt(f"session `{head.session_id}`: its configuration can't be read: {error}") from error


def new_nodes(
    head: SessionHead,
    operation: OperationId,
    messages: Iterable[Message],
    events: Sequence[ProtocolEvent],
    timestamp_ms: int,
) -> tuple[NodeRecord, ...]:
    """The nodes that an operation appends: a frame first if the session has none, then messages, then events."""
    bodies = [(NodeKind.MESSAGE, encode(each)) for each in messages]
    bodies += [(NodeKind.EVENT, encode(each)) for each in events]
    nodes: list[NodeRecord] = []
    parent = head.leaf_node_id
    if parent is None:
        parent = frame_node_id(head.session_id, MAIN_FRAME)
        nodes.append(
            NodeRecord(
                node_id=parent,
                parent_node_id=None,
                kind=NodeKind.FRAME_OPEN,
                timestamp_ms=timestamp_ms,
                body=b'{"reason":"session"}',
                frame_key=MAIN_FRAME,
            )
        )
    for ordinal, (kind, body) in enumerate(bodies):
        id = node_id(head.session_id, operation, ordinal)
        nodes.append(NodeRecord(node_id=id, parent_node_id=parent, kind=kind, timestamp_ms=timestamp_ms, body=body))
        parent = id
    return tuple(nodes)
