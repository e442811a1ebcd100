"""What an observer reads: messages as plain text, in chunks, long results cut in the middle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lash_hookspecs.messages import Message, Part, PartKind

__all__ = ["chunks", "told"]

_CHARS = 4


def told(message: Message, part_chars: int) -> str:
    """A message as text. Reasoning is the model's own, and isn't noted."""
    lines = [line for each in message.parts if (line := _part(each, part_chars))]
    return f"{message.role.value.upper()}: " + "\n".join(lines) if lines else ""


def _part(part: Part, limit: int) -> str:
    match part.kind:
        case PartKind.REASONING:
            return ""
        case PartKind.TOOL_CALL:
            return f"[calls {part.tool_name}: {_cut(part.content, limit)}]"
        case PartKind.TOOL_RESULT:
            return f"[result of {part.tool_name}: {_cut(part.content, limit)}]"
    image = "[an image]" if part.attachment is not None else ""
    return image + _cut(part.content, limit)


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    head = limit * 2 // 3
    return f"{text[:head]} […{len(text) - limit} characters…] {text[len(text) - (limit - head) :]}"


def chunks(messages: Iterable[Message], part_chars: int, chunk_tokens: int) -> Iterator[str]:
    """The transcript in pieces of about so many tokens; no message is parted."""
    room = chunk_tokens * _CHARS
    piece: list[str] = []
    size = 0
    for message in messages:
        text = told(message, part_chars)
        if piece and size + len(text) > room:
            yield "\n\n".join(piece)
            piece, size = [], 0
        if text:
            piece.append(text)
            size += len(text)
    if piece:
        yield "\n\n".join(piece)
