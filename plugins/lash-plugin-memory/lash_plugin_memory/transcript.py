"""What an observer reads: messages as plain text, in chunks, long results cut in the middle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lash_hookspecs.messages import Message
from lash_hookspecs.transcripts import CHARS_PER_TOKEN, message_as_text

__all__ = ["chunks"]


def chunks(messages: Iterable[Message], part_chars: int, chunk_tokens: int) -> Iterator[str]:
    """The transcript in pieces of about so many tokens; no message is parted."""
    room = chunk_tokens * CHARS_PER_TOKEN
    piece: list[str] = []
    size = 0
    for message in messages:
        text = message_as_text(message, part_chars)
        if piece and size + len(text) > room:
            yield "\n\n".join(piece)
            piece, size = [], 0
        if text:
            piece.append(text)
            size += len(text)
    if piece:
        yield "\n\n".join(piece)
