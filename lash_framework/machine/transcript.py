"""Readings of a stored conversation: a transcript for people and summaries, and whether a model can go on from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lash_framework.machine.projection import shown
from lash_hookspecs.messages import Message, MessageRole, PartKind

__all__ = ["is_resume_safe", "render_transcript", "resume_fault"]

USER, ASSISTANT = "User", "Assistant"
NO_ANSWER = "(no answer)"


def render_transcript(messages: Iterable[Message]) -> str:
    """Who said what, turn by turn, oldest first.

    Only words are shown: neither reasoning nor tools. A turn without an answer says so, except the last one, whose
    answer may be on its way.
    """
    turns = list(_turns(messages))
    for turn in turns[:-1]:
        if not any(speaker == ASSISTANT for speaker, _ in turn):
            turn.append((ASSISTANT, NO_ANSWER))
    return "\n\n".join("\n".join(f"{speaker}: {text}" for speaker, text in turn) for turn in turns)


def _turns(messages: Iterable[Message]) -> Iterator[list[tuple[str, str]]]:
    turn: list[tuple[str, str]] = []
    for message in messages:
        text = _words(message)
        if not text or message.role not in (MessageRole.USER, MessageRole.ASSISTANT):
            continue
        # What a plugin says in the user's name belongs to the turn in which it says it.
        if message.role is MessageRole.USER and message.origin is None and turn:
            yield turn
            turn = []
        turn.append((USER if message.role is MessageRole.USER else ASSISTANT, text))
    if turn:
        yield turn


def _words(message: Message) -> str:
    kinds = (PartKind.TEXT, PartKind.PROSE)
    texts = [shown(part.content, part.prune_state).strip() for part in message.parts if part.kind in kinds]
    return "\n".join(text for text in texts if text)


def is_resume_safe(messages: Iterable[Message]) -> bool:
    """Whether services accept this history: every tool call has its one result, where they expect it."""
    return resume_fault(messages) is None


def resume_fault(messages: Iterable[Message]) -> str | None:
    """The first thing in this history that a service would refuse; None if there is none.

    Calls stand in assistant messages, results in user messages behind them and before the assistant speaks again; no id
    is used twice.
    """
    open_calls: set[str] = set()
    called: set[str] = set()
    for message in messages:
        if message.role is MessageRole.ASSISTANT and open_calls:
            return f"message `{message.id}` follows calls without a result: {sorted(open_calls)}"
        for part in message.parts:
            call_id = part.tool_call_id or ""
            if part.kind is PartKind.TOOL_CALL:
                if message.role is not MessageRole.ASSISTANT:
                    return f"message `{message.id}` holds a tool call, but is the {message.role}'s"
                if not call_id or call_id in called:
                    return f"part `{part.id}` repeats the call id `{call_id}`"
                called.add(call_id)
                open_calls.add(call_id)
            elif part.kind is PartKind.TOOL_RESULT:
                if message.role is not MessageRole.USER:
                    return f"message `{message.id}` holds a tool result, but is the {message.role}'s"
                if call_id not in open_calls:
                    return f"part `{part.id}` answers `{call_id}`, which waits for no result"
                open_calls.remove(call_id)
    return f"calls without a result: {sorted(open_calls)}" if open_calls else None
