"""The hash of a request's messages: a chain that goes on behind what an earlier request had.

It is the same however a conversation is split into runs. A run keeps the state of the hash behind it, a long message
its digest, so a request costs what is new in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from operator import is_
from typing import Any

from orjson import dumps as _dumps

from lash_hookspecs.codec import encode
from lash_hookspecs.llm_messages import (
    LlmMessage,
    LlmMessages,
    LlmRole,
    LlmTextMessage,
    MessageRun,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from lash_hookspecs.values import mutable

__all__ = ["chain_of", "message_digest"]

MEMO, TAIL = "lash.envelope-hash", "lash.envelope-hash.tail"
SHORT = 1024
"""Texts up to this length are hashed anew each time: a memo for each would cost more than that."""


def message_digest(message: LlmMessage) -> bytes:
    """The digest of one message: short texts are hashed, of all others it is remembered in the memo."""
    text = message.text if type(message) is LlmTextMessage else _only_text(message)
    if text is not None and len(text) <= SHORT:
        return _text_digest(message.role, text)
    known: bytes | None = message.memo.get(MEMO)
    if known is None:
        known = sha256(b"message\n" + encode(message)).digest() if text is None else _text_digest(message.role, text)
        message.memo[MEMO] = known
    return known


def _only_text(message: LlmMessage) -> str | None:
    """The text of a message that is nothing else, so that it has one digest whichever class it is of."""
    if len(message.blocks) != 1:
        return None
    block = message.blocks[0]
    if type(block) is not TextBlock or block.response_meta is not None or block.cache_breakpoint:
        return None
    return block.text


def _text_digest(role: LlmRole, text: str) -> bytes:
    return sha256(f"text\n{role}\n{text}".encode("utf-8", "surrogatepass")).digest()


def _token(message: LlmMessage) -> list[str]:
    """What stands for a message in the chain: all that it says, if that is short and plain, else its digest."""
    if type(message) is LlmTextMessage and len(message.text) <= SHORT:
        return ["text", message.role._value_, message.text]
    if len(message.blocks) == 1:
        block, role = message.blocks[0], message.role._value_
        match block:
            case TextBlock(text=text, response_meta=None, cache_breakpoint=False) if len(text) <= SHORT:
                return ["text", role, text]
            case ToolCallBlock(input_json=text, replay=None) if len(text) <= SHORT:
                return ["call", role, block.call_id, block.tool_name, text]
            case ToolResultBlock(content=text, tool_name=str(name)) if len(text) <= SHORT:
                return ["result", role, block.call_id, name, text]
    return [message_digest(message).hex()]


def _link(messages: Sequence[LlmMessage]) -> bytes:
    """What these messages add to the chain, however many at once: each one's token in JSON, and a comma."""
    tokens = list(map(_token, messages))
    try:
        return _dumps(tokens)[1:-1] + b","
    except TypeError:  # a lone surrogate, of which there are no bytes in JSON
        return b"".join(map(_link_of_any, messages, tokens))


def _link_of_any(message: LlmMessage, token: list[str]) -> bytes:
    try:
        return _dumps(token) + b","
    except TypeError:
        return _dumps([message_digest(message).hex()]) + b","


@mutable
class _Chain:
    """The state of the hash behind a run, and what it was before it. Who copies a request shares it."""

    before: tuple[bytes, int]
    state: Any

    def __deepcopy__(self, memo: object) -> _Chain:
        return self  # it is never changed, and hashes can't be copied by everybody


@mutable
class _Tail:
    """The last messages of a request, and the chain behind them: they come in a new run each time.

    So the run before them, which is the same each time, remembers it.
    """

    messages: tuple[LlmMessage, ...]
    chain: _Chain

    def begins(self, messages: tuple[LlmMessage, ...], before: tuple[bytes, int]) -> bool:
        """Whether these messages, behind that, are the ones of the request before with more at their end."""
        known = self.messages
        return self.chain.before == before and len(known) <= len(messages) and all(map(is_, known, messages))

    def __deepcopy__(self, memo: object) -> _Tail:
        return self  # as with a chain


def chain_of(messages: LlmMessages, first: int) -> bytes:
    """The hash of the messages from `first` (0 or 1) on. Each run remembers the state behind it."""
    state = sha256(b"lash.messages\n")
    previous: MessageRun | None = None
    for run in messages.runs:
        before = (state.digest(), first)
        known: _Chain | None = run.memo.get(MEMO)
        if known is None or known.before != before:
            new = run.messages[first:] if first else run.messages
            tail: _Tail | None = None if previous is None else previous.memo.get(TAIL)
            if tail is not None and tail.begins(run.messages, before):
                state, new = tail.chain.state.copy(), run.messages[len(tail.messages) :]
            if new:
                state.update(_link(new))
            known = run.memo[MEMO] = _Chain(before, state.copy())
            if previous is not None and run is messages.runs[-1]:
                previous.memo[TAIL] = _Tail(run.messages, known)
        else:
            state = known.state.copy()
        if len(run):
            first = 0
        previous = run
    return state.digest()
