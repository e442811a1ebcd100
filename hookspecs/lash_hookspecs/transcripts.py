"""A conversation as plain text, for a model that makes something shorter of it, and about how long it is."""

from __future__ import annotations

from lash_hookspecs.messages import Message, Part, PartKind

__all__ = ["CHARS_PER_TOKEN", "cut_in_the_middle", "estimated_tokens", "message_as_text"]

CHARS_PER_TOKEN = 4
"""About; every model counts otherwise."""

_ATTACHMENT_TOKENS = 1_000
_ESTIMATE = "estimated tokens"  # in a message's memo


def estimated_tokens(message: Message) -> int:
    """About how many tokens a message takes of a model's window, kept with the message; an attachment is 1,000."""
    known = message.memo.get(_ESTIMATE)
    if not isinstance(known, int):
        chars = sum(len(each.content) for each in message.parts)
        attached = sum(each.attachment is not None for each in message.parts)
        message.memo[_ESTIMATE] = known = chars // CHARS_PER_TOKEN + 1 + _ATTACHMENT_TOKENS * attached
    return known


def message_as_text(message: Message, part_chars: int) -> str:
    """A message as text, each part of it with so many characters at most; nothing if it says nothing.

    Reasoning is the model's own, and left out.
    """
    lines = [line for each in message.parts if (line := _line(each, part_chars))]
    return f"{message.role.value}:\n" + "\n".join(lines) if lines else ""


def _line(part: Part, limit: int) -> str:
    content = cut_in_the_middle(part.content, limit)
    match part.kind:
        case PartKind.REASONING:
            return ""
        case PartKind.TOOL_CALL:
            return f"(calls {part.tool_name} with {content})"
        case PartKind.TOOL_RESULT:
            return f"(result of {part.tool_name}: {content})"
    if part.attachment is not None:
        return f"{content} (an attachment: {part.attachment.media_type})".lstrip()
    return content


def cut_in_the_middle(text: str, limit: int) -> str:
    """The beginning and the end of a text that is longer, and how many characters were between them."""
    if len(text) <= limit:
        return text
    head = limit * 2 // 3
    return f"{text[:head]} […{len(text) - limit} characters…] {text[len(text) - (limit - head) :]}"
