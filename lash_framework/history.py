"""Between a session's stored graph and its conversation: loading nodes, and building a turn's commit.

A node's body is the encoded message or protocol event; the store never looks into it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from attrs import field

from lash_framework.machine import MessageSequence
from lash_framework.machine.plain import render_body, render_texts
from lash_framework.machine.sequence import Entry
from lash_hookspecs.codec import decode, encode
from lash_hookspecs.errors import CodecError, StoreCorrupt
from lash_hookspecs.messages import Message, MessageRole, text_message
from lash_hookspecs.sessions import SessionPolicy, TokenLedgerEntry
from lash_hookspecs.stores import (
    LoadedSession,
    NodeBodies,
    NodeKind,
    NodePath,
    NodeRecord,
    NodesLater,
    OperationId,
    SessionHead,
    StoredComponent,
    frame_node_id,
    node_id,
)
from lash_hookspecs.turn_effects import ProtocolEvent
from lash_hookspecs.values import mutable

__all__ = [
    "MAIN_FRAME",
    "Conversation",
    "Frame",
    "History",
    "new_nodes",
    "read_history",
    "readable_messages",
    "restore",
]

T = TypeVar("T")
MAIN_FRAME = "main"


class History(NamedTuple):
    """What was said, and what the protocol remembers."""

    messages: MessageSequence
    events: tuple[ProtocolEvent, ...]


class Frame(NamedTuple):
    """A frame that a commit opens: its key, the body of its first node, and what it begins with."""

    key: str
    body: bytes
    messages: Sequence[Message]
    events: Sequence[ProtocolEvent]


@mutable(eq=False)
class Conversation:
    """A session in memory: where it stands, what was said, what its plugins and protocol remember.

    A stored history is read when a turn first needs it: whoever can wait lets `load` do it, before anything looks at
    `messages` or `events`, which otherwise read it on the spot. Both raise `StoreCorrupt` naming the node that can't be
    read. `explain_ref` names the last turn's provenance, once a turn was committed here, and `context_tokens` are those
    of its last model call.
    """

    head: SessionHead
    _history: History | NodesLater
    components: Mapping[str, StoredComponent] = field(factory=dict)
    usage: tuple[TokenLedgerEntry, ...] = ()
    policy: SessionPolicy | None = None
    explain_ref: str | None = None
    context_tokens: int | None = None

    @property
    def messages(self) -> MessageSequence:
        """What was said."""
        return self._read().messages

    @property
    def events(self) -> tuple[ProtocolEvent, ...]:
        """What the protocol remembers."""
        return self._read().events

    @property
    def is_loaded(self) -> bool:
        """Whether the history is at hand."""
        return not isinstance(self._history, NodesLater)

    async def load(self) -> None:
        """Have the history at hand."""
        if isinstance(self._history, NodesLater):
            later = self._history
            self._history = read_history(self.head, await later.load_bodies(), lambda: later.path)

    def _read(self) -> History:
        if isinstance(self._history, NodesLater):
            self._history = _read_path(self.head, self._history.path)
        return self._history


def restore(loaded: LoadedSession) -> Conversation:
    """A loaded session as a conversation. Raises `StoreCorrupt` for nodes that are here and can't be read."""
    head, nodes = loaded.head, loaded.nodes
    return Conversation(
        head=head,
        history=nodes if isinstance(nodes, NodesLater) else _read_path(head, NodePath.of(nodes)),
        components=loaded.components,
        usage=loaded.usage,
        policy=_policy(head),
    )


def _read_path(head: SessionHead, path: NodePath) -> History:
    return read_history(head, NodeBodies(path.kinds, path.bodies), lambda: path)


def read_history(head: SessionHead, nodes: NodeBodies, path: Callable[[], NodePath]) -> History:
    """What stored nodes say. Raises `StoreCorrupt` naming the node that can't be read, by its `path`.

    Every body is looked at here, so that no model is asked about a history that it can't be shown; but of what is
    plain, no message is made before somebody reads it, and of the texts that it begins with, no rendering.
    """
    session_id = head.session_id
    if head.turn_index and not len(nodes.kinds):
        # Every turn stores its input: this one isn't empty, its messages are lost.
        raise StoreCorrupt(
            f"session `{session_id}` ran {head.turn_index} turns, and none of their messages is in the store: "
            "it is damaged; take a backup, or go on in a new session"
        )

    def read(cls: type[T], place: int) -> T:
        try:
            return decode(cls, nodes.bodies[place])
        except CodecError as error:
            raise StoreCorrupt(
                f"session `{session_id}`: node `{path().ids[place]}` can't be read: {error}; "
                "`lash sessions export` saves the others; go on in a new session"
            ) from error

    is_message, is_event = NodeKind.MESSAGE, NodeKind.EVENT
    first = 1 if nodes.kinds and nodes.kinds[0] is NodeKind.FRAME_OPEN else 0
    places: Sequence[int] = range(first, len(nodes.kinds))
    bodies, events = nodes.bodies[first:], []
    if nodes.kinds.count(is_message) < len(places):  # not all behind the frame's first node are messages
        places = [at for at, kind in enumerate(nodes.kinds) if kind is is_message]
        bodies = [nodes.bodies[at] for at in places]
        events = [read(ProtocolEvent, at) for at, kind in enumerate(nodes.kinds) if kind is is_event]
    ids, told = render_texts(bodies)
    entries: list[Entry] = []
    render, name, add = render_body, ids.append, entries.append  # at hand for thousands
    for place, body in zip(places[len(ids) :], bodies[len(ids) :], strict=True):
        found = render(body)
        if found is not None:
            name(found[0])
            add(found[1])
        else:  # the decoder has the last word, and says what is wrong
            message = read(Message, place)
            name(message.id)
            add(message)
    # What was rendered is sound, so of the nodes only the bodies are kept.
    return History(MessageSequence.restored(told, entries, ids, lambda at: decode(Message, bodies[at])), tuple(events))


def readable_messages(nodes: Sequence[NodeRecord]) -> tuple[list[Message], list[str]]:
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
    if frame is not None:
        id = frame_node_id(head.session_id, frame.key)
        nodes.append(
            NodeRecord(
                node_id=id,
                parent_node_id=parent,
                kind=NodeKind.FRAME_OPEN,
                timestamp_ms=timestamp_ms,
                body=frame.body,
                frame_key=frame.key,
            )
        )
        parent = id
    # As the store does, only a session's very first node is left out of the count.
    for ordinal, (kind, body) in enumerate(bodies, start=0 if frame is None else 1):
        id = node_id(head.session_id, operation, ordinal)
        nodes.append(NodeRecord(node_id=id, parent_node_id=parent, kind=kind, timestamp_ms=timestamp_ms, body=body))
        parent = id
    return tuple(nodes)
