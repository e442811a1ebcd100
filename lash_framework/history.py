"""Between a session's stored graph and its conversation: loading nodes, and building a turn's commit.

A node's body is the encoded message or protocol event; the store never looks into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attrs import define, field

from lash_framework.machine import MessageSequence
from lash_hookspecs.codec import decode, encode
from lash_hookspecs.errors import CodecError, StoreCorrupt
from lash_hookspecs.messages import Message, MessageRole, text_message
from lash_hookspecs.sessions import SessionPolicy, TokenLedgerEntry
from lash_hookspecs.stores import (
    LoadedSession,
    NodeKind,
    NodeRecord,
    OperationId,
    SessionHead,
    StoredComponent,
    frame_node_id,
    node_id,
)
from lash_hookspecs.turn_effects import ProtocolEvent

__all__ = ["MAIN_FRAME", "Conversation", "new_nodes", "readable_messages", "restore"]

MAIN_FRAME = "main"


@define(slots=True, eq=False)
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
    """A loaded session as a conversation. Raises `StoreCorrupt` naming the node that can't be read."""
    messages: list[Message] = []
    events: list[ProtocolEvent] = []
    for node in loaded.nodes:
        try:
            if node.kind is NodeKind.MESSAGE:
                messages.append(decode(Message, node.body))
            elif node.kind is NodeKind.EVENT:
                events.append(decode(ProtocolEvent, node.body))
        except CodecError as error:
            raise StoreCorrupt(
                f"session `{loaded.head.session_id}`: node `{node.node_id}` can't be read: {error}; "
                "`lash sessions export` saves the others; go on in a new session"
            ) from error
    return Conversation(
        head=loaded.head,
        messages=MessageSequence(messages),
        events=tuple(events),
        components=loaded.components,
        usage=loaded.usage,
        policy=_policy(loaded.head),
    )


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
