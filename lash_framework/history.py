"""Between a session's stored graph and its conversation: loading nodes, and building a turn's commit.

A node's body is the encoded message or protocol event; the store never looks into it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attrs import define, field

from lash_framework.machine import MessageSequence
from lash_hookspecs.codec import decode, encode
from lash_hookspecs.errors import CodecError, StoreCorrupt
from lash_hookspecs.messages import Message
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
from lash_hookspecs.turns import ProtocolEvent

__all__ = ["MAIN_FRAME", "Conversation", "new_nodes", "restore"]

MAIN_FRAME = "main"


@define(slots=True, eq=False)
class Conversation:
    """A session in memory: where it stands, what was said, what its plugins and protocol remember."""

    head: SessionHead
    messages: MessageSequence
    events: tuple[ProtocolEvent, ...] = ()
    components: Mapping[str, StoredComponent] = field(factory=dict)
    usage: tuple[TokenLedgerEntry, ...] = ()
    policy: SessionPolicy | None = None
    known_blobs: set[str] = field(factory=set)


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
                "the other nodes are intact, `lash sessions export` may still show them"
            ) from error
    return Conversation(
        head=loaded.head,
        messages=MessageSequence(messages),
        events=tuple(events),
        components=loaded.components,
        usage=loaded.usage,
        policy=_policy(loaded.head),
    )


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
