"""What of a checkpoint's delivery is really added. Pure functions over values."""

from __future__ import annotations

from attrs import evolve

from lash_framework.machine.sequence import MessageSequence
from lash_hookspecs.checkpoints import CheckpointDelivery
from lash_hookspecs.messages import (
    Message,
    MessageRole,
    Part,
    PartKind,
    PluginMessage,
    PluginOrigin,
    TurnCause,
)
from lash_hookspecs.values import frozen

__all__ = ["Accepted", "accept_delivery"]

_UNNAMED = PluginOrigin(plugin_id="plugin")
_SPEAKERS = (MessageRole.USER, MessageRole.SYSTEM)


@frozen(kw_only=True)
class Accepted:
    """What a delivery adds: messages in order, causes that become active, and what users and plugins said."""

    messages: tuple[Message, ...] = ()
    turn_causes: tuple[TurnCause, ...] = ()
    inputs: tuple[Message, ...] = ()
    injected: tuple[PluginMessage, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.messages)


def accept_delivery(
    delivery: CheckpointDelivery,
    conversation: MessageSequence,
    active: tuple[TurnCause, ...],
    *,
    id_prefix: str,
    count: int,
) -> Accepted:
    """Decide what is added: what users said, messages, transient ones, then causes.

    Left out are messages that aren't the user's or the system's, that say nothing, or whose id is known (a redelivery),
    and causes that are known. Messages without an id are called `<id_prefix><n>`, n counting on from `count`.
    """
    known = {cause.id for cause in active}
    inputs = tuple(each for each in delivery.inputs if conversation.position_of(each.id) is None)
    messages: list[Message] = []
    injected: list[PluginMessage] = []
    offered = [*delivery.messages, *(_transient(each) for each in delivery.transient_messages)]
    for each in offered:
        message_id = each.id or f"{id_prefix}{count + len(messages)}"
        is_known = message_id in known or conversation.position_of(message_id) is not None
        says_something = bool(each.content.strip() or each.images)
        if each.role in _SPEAKERS and says_something and not is_known:
            known.add(message_id)
            messages.append(_message(message_id, each))
            injected.append(each)
    causes: list[TurnCause] = []
    for cause in delivery.turn_causes:
        if cause.id not in known and conversation.position_of(cause.id) is None:
            known.add(cause.id)
            causes.append(cause)
            messages.append(cause.to_event_message())
    return Accepted(messages=(*inputs, *messages), turn_causes=tuple(causes), inputs=inputs, injected=tuple(injected))


def _transient(message: PluginMessage) -> PluginMessage:
    plugin = message.origin.plugin_id if isinstance(message.origin, PluginOrigin) else _UNNAMED.plugin_id
    return evolve(message, origin=PluginOrigin(plugin_id=plugin, transient=True))


def _message(message_id: str, given: PluginMessage) -> Message:
    parts = [Part(id=f"{message_id}.p0", kind=PartKind.TEXT, content=given.content)] if given.content.strip() else []
    for image in given.images:
        parts.append(Part(id=f"{message_id}.p{len(parts)}", kind=PartKind.IMAGE, content="", attachment=image))
    return Message(id=message_id, role=given.role, parts=tuple(parts), origin=given.origin or _UNNAMED)
