"""The view without old attachments. It moves in steps, not with each turn: what is cached of a prefix stays valid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import evolve

from lash_hookspecs.messages import Message, MessageRole, PartKind
from lash_plugin_history_rolling.state import RollingState

if TYPE_CHECKING:
    from lash_hookspecs.context_hooks import ContextHookContext
    from lash_hookspecs.context_views import PreparedContext

__all__ = ["bare", "is_user_turn", "without_old"]


def without_old(ctx: ContextHookContext, prepared: PreparedContext) -> PreparedContext | None:
    """The view; None where all attachments are shown. Nothing is looked through while there is room."""
    options, state, window = ctx.options, ctx.state, ctx.context_window
    is_filling = window is not None and ctx.context_tokens >= options.attachments_at * window
    if not is_filling and not state.shown_from:
        return None
    messages = prepared.messages
    edge = _place(messages, state.shown_from)
    if is_filling:
        new = _oldest_kept(messages, options.keep_turns)
        if new > edge and any(map(_has_attachments, messages[edge:new])):
            edge = new
            ctx.set_state(RollingState(shown_from=messages[edge].id))
    if not any(map(_has_attachments, messages[:edge])):
        return None
    before = [bare(each) if _has_attachments(each) else each for each in messages[:edge]]
    return prepared.showing([*before, *messages[edge:]])


def _place(messages: Sequence[Message], id: str) -> int:
    """Where the message is; 0 if it isn't there (any more): then all before it is gone, too."""
    return next((at for at, each in enumerate(messages) if each.id == id), 0) if id else 0


def _oldest_kept(messages: Sequence[Message], turns: int) -> int:
    asked = [at for at, each in enumerate(messages) if is_user_turn(each)]
    return asked[-turns] if len(asked) >= turns else 0


def is_user_turn(message: Message) -> bool:
    """Whether a user said it, rather than a tool."""
    kinds = {each.kind for each in message.parts}
    return message.role is MessageRole.USER and PartKind.TOOL_RESULT not in kinds and message.origin is None


def _has_attachments(message: Message) -> bool:
    return any(each.attachment is not None for each in message.parts)


def bare(message: Message) -> Message:
    """The message with words in the place of its attachments: the same each time."""
    id = f"{message.id}-bare"
    parts = []
    for at, part in enumerate(message.parts):
        if part.attachment is not None:
            kind, size = part.attachment.media_type, part.attachment.size
            text = f"[an attachment that was shown here before: {kind}, {size:,} bytes]"
            part = evolve(part, kind=PartKind.TEXT, content=text, attachment=None)
        parts.append(evolve(part, id=f"{id}.p{at}"))
    return evolve(message, id=id, parts=tuple(parts))
