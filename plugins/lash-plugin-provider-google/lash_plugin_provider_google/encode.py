"""Requests as Gemini wants them: JSON bytes, encoded once per message and joined per request.

A conversation grows by a few messages per turn and is sent whole each time. So each `LlmMessage` keeps its parts in its
memo, each run of messages the joined contents, and tools are kept by the identity of their tuple: of a long
conversation nothing is encoded, joined or copied again.

Neighbours of one role are one content. A run is kept without the opening of its first content and the end of its last
one, so that two runs join into either one content or two.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from lash_hookspecs.llm import LlmRequest
from lash_hookspecs.llm_messages import (
    ImageBlock,
    LlmMessage,
    LlmMessages,
    LlmRole,
    LlmTextMessage,
    MessageRun,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from lash_hookspecs.messages import ProviderReasoningMeta, ProviderReplayMeta, ProviderRoute, ResponseTextMeta
from lash_hookspecs.values import frozen
from lash_plugin_provider_google.endpoint import Endpoint
from lash_plugin_provider_google.media import part_of_attachment
from lash_plugin_provider_google.models import Model
from lash_plugin_provider_google.options import OptionsEncoder
from lash_provider_kit.request_parts import taken
from lash_provider_kit.wire_json import dumps

__all__ = ["SKIP_SIGNATURE", "RequestEncoder"]

SKIP_SIGNATURE = "skip_thought_signature_validator"
"""What Google documents for calls in a history that another model made, and that so have no signature."""

_ROLES = {LlmRole.USER: b"user", LlmRole.ASSISTANT: b"model"}
_OPEN = {role: b'{"role":"%b","parts":[' % name for role, name in _ROLES.items()}
_CLOSE = b"]}"
_NO_CONTENTS = b'{"role":"user","parts":[{"text":""}]}'
_LONG = 256
"""A longer run comes from a store: its messages are encoded at once, and only the run keeps the result."""


_Meta = ProviderReplayMeta | ProviderReasoningMeta | ResponseTextMeta


@frozen
class _Contents:
    """A run's contents, but for what opens the first and closes the last one; and what of it belongs to the system."""

    first: LlmRole | None = None
    last: LlmRole | None = None
    body: bytes = b""
    system: bytes = b""


class RequestEncoder:
    """Makes request bodies. Raises `LlmCallFailed` of kind validation."""

    def __init__(self, endpoint: Endpoint, options: OptionsEncoder, provider_id: str = "google") -> None:
        self._endpoint = endpoint
        self._options = options
        self._provider_id = provider_id

    def encode(self, request: LlmRequest, model: Model) -> bytes:
        """The body of `request`."""
        return b"".join(self.pieces(request, model))

    def pieces(self, request: LlmRequest, model: Model) -> tuple[bytes, ...]:
        """The body of `request`, in pieces: nearly all of a long conversation's is one that an earlier request made."""
        messages = LlmMessages.of(request.messages)
        reading = _Reading(self._endpoint, self._provider_id, model, request)
        runs = [reading.run(run) for run in messages.runs]
        # The order is by how long a prefix stays the same from call to call.
        start = [b"{"]
        if system := b",".join(each.system for each in runs if each.system):
            start.append(b'"systemInstruction":{"parts":[%b]},' % system)
        start += (self._options.tools(request, model), b'"contents":[')
        pieces = [b"".join(start)]
        last: LlmRole | None = None
        for each in runs:
            if each.first is None:
                continue
            if last is None:
                pieces.append(_OPEN[each.first])
            else:
                pieces.append(b"," if each.first is last else b"%b,%b" % (_CLOSE, _OPEN[each.first]))
            pieces.append(each.body)
            last = each.last
        end = _NO_CONTENTS if last is None else _CLOSE
        return (*pieces, b"%b]%b}" % (end, self._options.rest(request, model)))


class _Reading:
    """How one request reads messages: what they become depends on the route, and on what the model wants signed."""

    def __init__(self, endpoint: Endpoint, provider_id: str, model: Model, request: LlmRequest) -> None:
        self._endpoint = endpoint
        self._model = model
        self._request = request
        self._route = ProviderRoute(provider_id, endpoint.name, request.model)
        # A message with state of ours reads otherwise on another route, so the key says whose encoding it is.
        can = f"{model.quirks.signed_calls}{taken(model.capability)}"
        self._key = f"google\n{provider_id}\n{endpoint.name}\n{request.model}\n{can}"

    def run(self, run: MessageRun) -> _Contents:
        """A run's contents."""
        known: _Contents | None = run.memo.get(self._key)
        if known is not None:
            return known
        contents: list[dict[str, Any]] = []
        system: list[Any] = []
        lasts, at_once = True, len(run.messages) > _LONG
        role: LlmRole | None = None
        first: LlmRole | None = None
        parts: list[Any] = []
        for message in run.messages:
            found: Any
            if at_once and type(message) is LlmTextMessage and message.text:
                found = {"text": message.text}  # nearly all of a long history, and without a memo
            else:
                encoded, kept = self._encoded(message)
                lasts = lasts and kept
                if not encoded:
                    continue
                found = orjson.Fragment(encoded)
            if message.role is LlmRole.SYSTEM:
                system.append(found)
                continue
            if message.role is not role:
                role, parts = message.role, []
                first = first or role
                contents.append({"role": _ROLES[role].decode(), "parts": parts})
            parts.append(found)
        made = _Contents(first, role, _inner(contents, first), dumps(system)[1:-1])
        if lasts:
            run.memo[self._key] = made
        return made

    def _encoded(self, message: LlmMessage) -> tuple[bytes, bool]:
        """A message's parts with commas between them, kept in its memo; and whether they could be kept."""
        body: bytes | None = message.memo.get(self._key)
        if body is not None:
            return body, True
        body = dumps(list(self._parts(message)))[1:-1]
        if lasts := _is_lasting(message):
            message.memo[self._key] = body
        return body, lasts

    def _parts(self, message: LlmMessage) -> Iterator[Any]:
        if message.role is LlmRole.ASSISTANT:
            return self._said(message)
        if message.role is LlmRole.SYSTEM:
            return ({"text": block.text} for block in message.blocks if isinstance(block, TextBlock) and block.text)
        return self._told(message)

    def _told(self, message: LlmMessage) -> Iterator[Any]:
        # Results come first, whatever their place: they must follow the calls that they answer.
        yield from (self._result(block) for block in message.blocks if isinstance(block, ToolResultBlock))
        for block in message.blocks:
            if isinstance(block, TextBlock) and block.text:
                yield {"text": block.text}
            elif isinstance(block, ImageBlock):
                yield part_of_attachment(block, self._request.attachments, self._model, self._endpoint)

    def _result(self, block: ToolResultBlock) -> dict[str, Any]:
        name = block.tool_name or _called(block.call_id, self._request.messages)
        return {"functionResponse": {"id": block.call_id, "name": name, "response": {"output": block.content}}}

    # ---- what the model said

    def _said(self, message: LlmMessage) -> Iterator[Any]:
        # Of parallel calls the service signs the first one only, and that is the one it looks at.
        unsigned = self._model.quirks.signed_calls
        for block in message.blocks:
            if isinstance(block, TextBlock):
                yield from self._text(block)
            elif isinstance(block, ToolCallBlock):
                signature = block.replay.opaque if block.replay and self._is_own(block.replay) else None
                yield _call(block, signature or (SKIP_SIGNATURE if unsigned else None))
                unsigned = False
            elif isinstance(block, ReasoningBlock) and self._is_own(block.replay):
                yield from _thought(block)

    def _text(self, block: TextBlock) -> Iterator[dict[str, Any]]:
        done = 0
        for start, end, signature in _marks(block.response_meta) if self._is_own(block.response_meta) else ():
            if done < start:
                yield {"text": block.text[done:start]}
            yield {"text": block.text[start:end], "thoughtSignature": signature}
            done = end
        if done < len(block.text):
            yield {"text": block.text[done:]}

    def _is_own(self, meta: _Meta | None) -> bool:
        """Whether state is this route's; what nobody stamped is taken for it, as by whoever keeps answers himself."""
        return meta is not None and (meta.origin is None or meta.origin == self._route)


def _inner(contents: list[dict[str, Any]], first: LlmRole | None) -> bytes:
    """Contents without what opens the first and closes the last of them."""
    return b"" if first is None else dumps(contents)[1 + len(_OPEN[first]) : -1 - len(_CLOSE)]


def _is_lasting(message: LlmMessage) -> bool:
    """Whether it is encoded the same in every request.

    An image without a reference is a place in this request's attachments, and the name of a result's tool may have to
    be looked for among this request's calls: both mean nothing in the next one.
    """
    return not any(
        (type(block) is ImageBlock and block.attachment is None)
        or (type(block) is ToolResultBlock and not block.tool_name)
        for block in message.blocks
    )


def _called(call_id: str, messages: Sequence[LlmMessage]) -> str:
    """The name of the tool that was called under this id."""
    for message in messages:
        for block in message.blocks:
            if isinstance(block, ToolCallBlock) and block.call_id == call_id:
                return block.tool_name
    return "unknown"


def _thought(block: ReasoningBlock) -> Iterator[Any]:
    """A signed thought; or a part that only the service can read, as it came."""
    replay = block.replay
    if replay is None:
        return
    if replay.encrypted_content:
        yield orjson.Fragment(replay.encrypted_content)
    elif replay.signature:
        yield {"text": block.text, "thought": True, "thoughtSignature": replay.signature}


def _marks(meta: ResponseTextMeta | None) -> list[tuple[int, int, str]]:
    """The signed pieces of a text, as the decoder noted them."""
    return orjson.loads(meta.provider_payload) if meta is not None and meta.provider_payload else []


def _call(block: ToolCallBlock, signature: str | None) -> dict[str, Any]:
    call = {"id": block.call_id, "name": block.tool_name, "args": _arguments(block.input_json)}
    return {"functionCall": call, "thoughtSignature": signature} if signature else {"functionCall": call}


def _arguments(input_json: str) -> Any:
    """A call's arguments as the model wrote them, which must be an object here; what is none goes back as a value."""
    try:
        if isinstance(orjson.loads(input_json), dict):
            return orjson.Fragment(input_json)
    except ValueError:
        pass
    return {"_raw": input_json} if input_json.strip() else {}
