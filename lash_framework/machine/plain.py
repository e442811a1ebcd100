"""What a model sees of a plain stored message, told from the stored data without making a message of it.

Nearly all of a long history is plain: text, tool calls, results. Whatever is damaged, rare or new isn't, and is left to
the decoder, which has the last word on what can be read, and to the projection, which has it on what is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from orjson import dumps, loads

from lash_hookspecs.llm_messages import (
    EncodedRun,
    LlmBlock,
    LlmMessage,
    LlmRole,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
    llm_block,
    llm_text,
)

__all__ = ["render_body", "render_stored", "render_texts"]

_SPEAKERS = {"user": LlmRole.USER, "assistant": LlmRole.ASSISTANT}
_TEXTS = frozenset({"text", "code", "output", "error", "prose"})
_CALLS = {("user", "tool_result"), ("assistant", "tool_call")}
_AT_ONCE = 64
"""How many texts are parsed together: what that takes is let go of before the garbage collector looks at it."""
_message = itemgetter("id", "parts", "role")
_text = itemgetter("id", "kind", "content")
_call = itemgetter("tool_call_id", "tool_name")


def render_texts(bodies: Sequence[bytes]) -> tuple[list[str], EncodedRun]:
    """The ids of the stored messages of one plain text that these begin with, and what is shown of them.

    The same as `render_body` of each, but many at once, by loops in C; so a few of them may be left over.
    """
    ids: list[str] = []
    shown: list[bytes] = []
    for start in range(0, len(bodies), _AT_ONCE):
        texts = _texts(bodies[start : start + _AT_ONCE])
        if texts is None:
            break
        ids += texts[0]
        shown.append(texts[1])
    return ids, EncodedRun(b",".join(shown), len(ids))


def _texts(bodies: Sequence[bytes]) -> tuple[Sequence[str], bytes] | None:
    """The ids, and what is shown as `EncodedRun` has it; None unless each is one plain text."""
    try:
        stored = loads(b"[%b]" % b",".join(bodies))
        ids, parts, roles = zip(*map(_message, stored), strict=True)
        shares = [part for (part,) in parts]
        part_ids, kinds, texts = zip(*map(_text, shares), strict=True)
        "".join((*ids, *part_ids, *texts))  # it takes nothing but text
        if (
            len(ids) == len(bodies)
            and set(map(len, stored)) == set(map(len, shares)) == {3}
            and set(map(type, parts)) == {list}
            and _TEXTS.issuperset(kinds)
            and _SPEAKERS.keys() >= set(roles)
            and all(texts)
            and not any(map(str.isspace, texts))
        ):
            return ids, dumps([{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)])[1:-1]
    except (KeyError, TypeError, ValueError):
        pass  # one of them is of another shape
    return None


def render_body(body: bytes) -> tuple[str, LlmMessage] | None:
    """The id of a stored message, and what `render_stored` makes of it; None if it isn't plain, or no JSON."""
    try:
        data = loads(body)
    except ValueError:
        return None
    entry = render_stored(data)
    return None if entry is None else (data["id"], entry)


def render_stored(data: Any) -> LlmMessage | None:
    """What `render_message` makes of the message that this parsed JSON decodes to, if it is plain; None if it isn't.

    Plain is what has exactly the usual fields, of exactly their types.
    """
    try:
        id, parts, role = _message(data)
        speaker = _SPEAKERS[role]
    except (KeyError, TypeError):  # a field is missing, or it is no object, or the role no text
        return None
    if type(id) is not str or type(parts) is not list or len(data) != 3:
        return None
    if len(parts) == 1:  # nearly all of a long history
        block = _plain(parts[0], role)
        if type(block) is str:
            return llm_text(speaker, block) if block else None
        return None if block is None else llm_block(speaker, block)  # type: ignore[arg-type]  # it is no text
    blocks: list[LlmBlock] = []
    for part in parts:
        block = _plain(part, role)
        if block is None:
            return None
        if block:
            blocks.append(TextBlock(text=block) if isinstance(block, str) else block)
    kinds = {type(block) for block in blocks}
    # Of a user's message results come first: the projection sorts them.
    return LlmMessage(speaker, tuple(blocks)) if kinds and kinds != {TextBlock, ToolResultBlock} else None


def _plain(part: Any, role: str) -> str | LlmBlock | None:
    """A part's text, empty if nothing of it is shown, or the block of a call or a result; None if it isn't plain."""
    try:
        id, kind, content = _text(part)
        if type(id) is not str or type(content) is not str:
            return None
        if len(part) == 3:
            if kind in _TEXTS:
                return "" if content.isspace() else content
            return "" if kind == "reasoning" else None  # no state of its provider's: it is for people
        call_id, name = _call(part)
        if len(part) != 5 or type(call_id) is not str or type(name) is not str or (role, kind) not in _CALLS:
            return None
    except (KeyError, TypeError):
        return None
    if role == "user":
        return ToolResultBlock(call_id=call_id, content=content, tool_name=name)
    return ToolCallBlock(call_id=call_id, tool_name=name, input_json=content)
