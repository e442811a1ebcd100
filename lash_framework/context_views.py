"""Views of a conversation: what a plugin made of it as a record that holds no history, and from that record the view.

Pure, but for `require_images`. A view is shown to a model, so it is checked here: every message once, every tool result
behind its call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from attrs import evolve

from lash_framework.machine import MessageSequence
from lash_hookspecs.codec import encode
from lash_hookspecs.context_views import ContextPiece, KeptMessages, MadeMessage
from lash_hookspecs.errors import CodecError, PluginError, ReplayError
from lash_hookspecs.messages import Message, PartKind, PluginOrigin

__all__ = ["count_of", "owned", "pieces_of", "require_images", "require_whole", "shown"]


def owned(
    base: MessageSequence, given: Any, plugin_id: str, hook: str, *, known: Iterable[Message] = (), transient: bool
) -> tuple[Message, ...]:
    """What a plugin returned as messages, each that is neither in `base` nor `known` in the plugin's name.

    Raises `PluginError` for what is no message, comes twice, or can't be stored.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise PluginError(plugin_id, hook, f"returned a `{type(given).__name__}` as messages; expected is a sequence")
    theirs = {id(each) for each in known}
    seen: set[str] = set()
    found = []
    for each in given:
        if not isinstance(each, Message):
            raise PluginError(plugin_id, hook, f"returned a `{type(each).__name__}` among the messages")
        if each.id in seen:
            raise PluginError(plugin_id, hook, f"returned message `{each.id}` twice; give a new one an id of its own")
        seen.add(each.id)
        if id(each) not in theirs and _place(base, each) is None:
            each = _named(each, plugin_id, hook, transient)
        found.append(each)
    return tuple(found)


def _named(message: Message, plugin_id: str, hook: str, transient: bool) -> Message:
    """The message in the name of the plugin that made it: nobody speaks in another one's."""
    try:
        encode(message)
    except CodecError as error:
        raise PluginError(plugin_id, hook, f"message `{message.id}` can't be recorded: {error}") from error
    return evolve(message, origin=PluginOrigin(plugin_id, transient))


def _place(base: MessageSequence, message: Message) -> int | None:
    """Where the conversation has this very message."""
    at = base.position_of(message.id)
    return at if at is not None and (base[at] is message or base[at] == message) else None


def require_whole(messages: Sequence[Message], plugin_id: str, hook: str) -> None:
    """Raise `PluginError` where a call and its result aren't both there, in this order: most services refuse that."""
    open_calls: dict[str, str] = {}
    for message in messages:
        for part in message.parts:
            call_id = part.tool_call_id or ""
            if part.kind is PartKind.TOOL_CALL:
                open_calls[call_id] = message.id
            elif part.kind is PartKind.TOOL_RESULT and open_calls.pop(call_id, None) is None:
                text = f"shows the result of call `{call_id}` (message `{message.id}`) without the call: keep both"
                raise PluginError(plugin_id, hook, text)
    for call_id, message_id in open_calls.items():
        text = f"shows call `{call_id}` (message `{message_id}`) without its result: keep both"
        raise PluginError(plugin_id, hook, text)


async def require_images(
    pieces: Sequence[ContextPiece], plugin_id: str, hook: str, get_blob: Callable[[str], Awaitable[bytes | None]]
) -> None:
    """Raise `PluginError` for an image that a plugin shows and the store doesn't have."""
    for each in pieces:
        for part in each.message.parts if isinstance(each, MadeMessage) else ():
            if part.attachment is not None and await get_blob(part.attachment.id) is None:
                raise PluginError(plugin_id, hook, f"image `{part.attachment.id}` is not in the store")


# ---- the record -----------------------------------------------------------------------------------------------------


def pieces_of(base: MessageSequence, messages: Sequence[Message]) -> tuple[ContextPiece, ...]:
    """The messages as a record: runs of the conversation by the id of their first, and the others in full."""
    pieces: list[ContextPiece] = []
    behind = -1
    for each in messages:
        at = _place(base, each)
        if at is None:
            pieces.append(MadeMessage(each))
            behind = -1
            continue
        last = pieces[-1] if pieces else None
        if at == behind and isinstance(last, KeptMessages):
            pieces[-1] = KeptMessages(last.first, last.count + 1)
        else:
            pieces.append(KeptMessages(each.id, 1))
        behind = at + 1
    return tuple(pieces)


def shown(base: MessageSequence, pieces: Sequence[ContextPiece]) -> MessageSequence:
    """The messages that a record tells of. Raises `ReplayError` if it isn't about this conversation."""
    messages: list[Message] = []
    for each in pieces:
        if isinstance(each, MadeMessage):
            messages.append(each.message)
            continue
        at = base.position_of(each.first)
        if at is None or at + each.count > len(base):
            text = f"the record shows {each.count} messages from `{each.first}` on, which the conversation doesn't have"
            raise ReplayError("runtime_effect_context", text)
        messages.extend(base[at : at + each.count])
    return MessageSequence(messages)


def count_of(pieces: Sequence[ContextPiece]) -> int:
    """How many messages a record tells of."""
    return sum(1 if isinstance(each, MadeMessage) else each.count for each in pieces)
