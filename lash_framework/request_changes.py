"""What a driver made of a request that shows the conversation, in words, for who asks whose doing it is. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attrs import fields

from lash_hookspecs.llm import LlmRequest
from lash_hookspecs.llm_messages import LlmMessage, LlmRole

__all__ = ["LONGEST", "request_change"]

LONGEST = 200
"""So many characters are told of what was added: the turn that is stored holds them."""


def request_change(before: LlmRequest | None, after: LlmRequest) -> str:
    """What is new in a request; "" for one that says the same. `before` is None where the driver made all of it."""
    if before is None:
        return "all of it"
    changed = [each.name for each in fields(LlmRequest) if getattr(before, each.name) != getattr(after, each.name)]
    told = (_messages(before.messages, after.messages) if name == "messages" else f"`{name}`" for name in changed)
    return ", ".join(told)


def _messages(before: Sequence[LlmMessage], after: Sequence[LlmMessage]) -> str:
    """Where they differ, and the beginning of what wasn't said before."""
    parts = [
        name
        for name, is_prompt in (("the system prompt", True), ("the messages", False))
        if _part(before, is_prompt) != _part(after, is_prompt)
    ]
    known = set(_lines(before))
    added = " / ".join(dict.fromkeys(line for line in _lines(after) if line not in known))
    said = f": {added if len(added) <= LONGEST else f'{added[:LONGEST]}…'}" if added else ""
    return f"{' and '.join(parts or ['the order of the messages'])}{said}"


def _part(messages: Sequence[LlmMessage], is_prompt: bool) -> list[LlmMessage]:
    return [each for each in messages if (each.role is LlmRole.SYSTEM) is is_prompt]


def _lines(messages: Sequence[LlmMessage]) -> Iterator[str]:
    for message in messages:
        for block in message.blocks:
            text = getattr(block, "text", "") or getattr(block, "content", "")
            yield from filter(None, map(str.strip, text.splitlines()))
