"""The nodes that an operation appends to a session's graph. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lash_hookspecs.codec import encode
from lash_hookspecs.messages import Message
from lash_hookspecs.stores import NodeKind, NodeRecord, OperationId, SessionHead, frame_node_id, node_id
from lash_hookspecs.turn_effects import ProtocolEvent

__all__ = ["Frame", "new_nodes"]

MAIN_FRAME = "main"


class Frame(NamedTuple):
    """A frame that a commit opens: its key, the body of its first node, and what it begins with."""

    key: str
    body: bytes
    messages: Sequence[Message]
    events: Sequence[ProtocolEvent]


def new_nodes(
    head: SessionHead,
    operation: OperationId,
    messages: Iterable[Message],
    events: Sequence[ProtocolEvent],
    timestamp_ms: int,
    frame: Frame | None = None,
) -> tuple[NodeRecord, ...]:
    """The nodes that an operation appends: a frame first if the session has none, then messages, then events.

    A `frame` that it opens comes before these, with what it begins with.
    """
    bodies: list[tuple[NodeKind, bytes]] = []
    seeded = [] if frame is None else [(frame.messages, frame.events)]
    for said, happened in (*seeded, (messages, events)):
        bodies += [(NodeKind.MESSAGE, encode(each)) for each in said]
        bodies += [(NodeKind.EVENT, encode(each)) for each in happened]
    nodes: list[NodeRecord] = []
    parent = head.leaf_node_id
    if parent is None:
        nodes.append(_first_of_frame(head, MAIN_FRAME, b'{"reason":"session"}', timestamp_ms, parent))
        parent = nodes[-1].node_id
    if frame is not None:
        nodes.append(_first_of_frame(head, frame.key, frame.body, timestamp_ms, parent))
        parent = nodes[-1].node_id
    # As the store does, only a session's very first node is left out of the count.
    for ordinal, (kind, body) in enumerate(bodies, start=0 if frame is None else 1):
        id = node_id(head.session_id, operation, ordinal)
        nodes.append(NodeRecord(node_id=id, parent_node_id=parent, kind=kind, timestamp_ms=timestamp_ms, body=body))
        parent = id
    return tuple(nodes)


def _first_of_frame(head: SessionHead, key: str, body: bytes, timestamp_ms: int, parent: str | None) -> NodeRecord:
    return NodeRecord(
        node_id=frame_node_id(head.session_id, key),
        parent_node_id=parent,
        kind=NodeKind.FRAME_OPEN,
        timestamp_ms=timestamp_ms,
        body=body,
        frame_key=key,
    )
