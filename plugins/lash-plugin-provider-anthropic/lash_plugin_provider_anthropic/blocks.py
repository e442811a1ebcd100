"""One message as the wire has it: the JSON of its content blocks, made once and kept with the message.

No block carries a cache marker here: markers belong to a request, which inserts them at the places noted in `marks`.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, NamedTuple

import orjson

from lash_hookspecs.llm import LlmAttachment
from lash_hookspecs.llm_messages import (
    ImageBlock,
    LlmMessage,
    LlmRole,
    LlmTextMessage,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from lash_hookspecs.messages import ProviderReasoningMeta, ProviderRoute
from lash_hookspecs.models import ModelCapability
from lash_provider_kit.request_parts import IMAGE_TYPES, UNSUPPORTED_ATTACHMENT, RequestChecks
from lash_provider_kit.wire_json import dumps

__all__ = ["ASSISTANT", "CHECKS", "USER", "BlockEncoder", "Encoded", "wire_id"]

USER, ASSISTANT = b"user", b"assistant"
CHECKS = RequestChecks("anthropic")
_ROLES: Mapping[LlmRole, bytes] = {
    LlmRole.USER: USER,
    LlmRole.ASSISTANT: ASSISTANT,
    LlmRole.SYSTEM: USER,  # a later one; the first ones are no messages
}


class Encoded(NamedTuple):
    """A message's blocks with commas between them: tool results, and the rest.

    They are apart since results have to come first in what the user says, also where several messages become one.
    `marks` are the places in `rest` where a cache marker was asked for.
    """

    role: bytes
    results: bytes
    rest: bytes
    marks: tuple[int, ...] = ()


class BlockEncoder:
    """Encodes the blocks of messages for one route and one model's abilities. Raises `LlmCallFailed` (validation).

    `thinking`: whether the model gets back its own.
    """

    def __init__(self, route: ProviderRoute, can: ModelCapability, *, thinking: bool = True) -> None:
        self._route = route
        self._thinking = thinking
        # What isn't known is tried.
        self._images = can.images is not False
        self._documents = can.documents is not False

    def message(self, message: LlmMessage, attachments: Sequence[LlmAttachment]) -> Encoded:
        """What is sent of one message; blank text isn't."""
        role = _ROLES[message.role]
        if type(message) is LlmTextMessage:  # nearly all of a long history
            text = message.text
            return Encoded(role, b"", text_block(text) if text.strip() else b"")
        results: list[bytes] = []
        rest: list[bytes] = []
        marks: list[int] = []
        solid = 0  # how much of `rest` an assistant's message may end with
        for block in message.blocks:
            made = self._block(block, role, attachments)
            if made is None:
                continue
            if type(block) is ToolResultBlock:
                results.append(made)
                continue
            rest.append(made)
            if not made.startswith(_THINKING):
                solid = len(rest)
            if type(block) is TextBlock and block.cache_breakpoint:
                marks.append(sum(map(len, rest)) + len(rest) - 2)  # before its closing brace
        if role is ASSISTANT:
            # The service refuses a turn of the assistant that ends with thinking, as one that was cut off there does.
            del rest[solid:]
        return Encoded(role, b",".join(results), b",".join(rest), tuple(marks))

    def system(self, message: LlmMessage) -> list[bytes]:
        """The blocks of one of the first messages, if the system says them."""
        return [
            text_block(block.text) for block in message.blocks if isinstance(block, TextBlock) and block.text.strip()
        ]

    def _block(self, block: Any, role: bytes, attachments: Sequence[LlmAttachment]) -> bytes | None:
        match block:
            case TextBlock():
                return text_block(block.text) if block.text.strip() else None
            case ToolResultBlock() if role is USER:
                result = {"type": "tool_result", "tool_use_id": wire_id(block.call_id)}
                return dumps({**result, "content": block.content} if block.content.strip() else result)
            case ImageBlock() if role is USER:
                return self._attachment(CHECKS.attachment(block, attachments))
            case ToolCallBlock() if role is ASSISTANT:
                call = {"type": "tool_use", "id": wire_id(block.call_id), "name": block.tool_name}
                return b'%b,"input":%b}' % (dumps(call)[:-1], _arguments(block.input_json))
            case ReasoningBlock() if role is ASSISTANT:
                return self._reasoning(block)
            case _:
                return None  # the other one's

    def _reasoning(self, block: ReasoningBlock) -> bytes | None:
        replay = block.replay
        if replay is not None and (replay.origin is None or replay.origin == self._route):
            opaque = replay.encrypted_content
            if not self._thinking and ((replay.redacted and opaque) or replay.signature):
                return None
            if replay.redacted and opaque:
                return dumps({"type": "redacted_thinking", "data": opaque})
            if replay.signature:
                return dumps({"type": "thinking", "thinking": block.text, "signature": replay.signature})
            if _is_server_block(replay):
                return opaque.encode() if opaque else None
        return text_block(block.text) if block.text.strip() else None

    # ---- attachments

    def _attachment(self, found: LlmAttachment) -> bytes:
        media_type = found.reference.media_type.lower()
        if media_type in IMAGE_TYPES and self._images:
            return b'{"type":"image","source":%b}' % _source(found, media_type)
        if media_type == "application/pdf" and self._documents:
            return b'{"type":"document","source":%b}' % _source(found, media_type)
        if media_type == "text/plain" and self._documents and found.data:
            text = found.data.decode("utf-8", "replace")
            source = {"type": "text", "media_type": media_type, "data": text}
            return dumps({"type": "document", "source": source})
        CHECKS.refuse(
            f"this model doesn't take `{media_type}` "
            f"({'jpeg, png, gif, webp' if self._images else 'no images'}"
            f"{', PDF and plain text' if self._documents else ''} are what it takes)",
            UNSUPPORTED_ATTACHMENT,
        )


_THINKING = (b'{"type":"thinking"', b'{"type":"redacted_thinking"')


def _is_server_block(replay: ProviderReasoningMeta) -> bool:
    """Whether it is a block of one of the service's own tools, kept as it came (see `decode`)."""
    return bool(replay.item_id and (replay.encrypted_content or "").startswith('{"type":'))


def text_block(text: str) -> bytes:
    """A block of text."""
    return b'{"type":"text","text":%b}' % dumps(text)


_VALID_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def wire_id(call_id: str) -> str:
    """The id of a call as the service takes it: itself, or a readable start and a digest of the whole.

    It depends on the id alone, and no two ids share one, so each result stays with its call.
    """
    if _VALID_ID.fullmatch(call_id):
        return call_id
    digest = sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return f"{re.sub('[^A-Za-z0-9_-]', '_', call_id)[:39]}-{digest}"


def _arguments(input_json: str) -> bytes:
    """A call's arguments as the model wrote them, if they are an object; else an object that holds them.

    A model may write broken JSON, and is told so by the call's result; but the service refuses what is no object.
    """
    try:
        value = orjson.loads(input_json)
    except ValueError:
        return dumps({"invalid_json": input_json}) if input_json.strip() else b"{}"
    return input_json.encode() if isinstance(value, dict) else dumps({"arguments": value})


def _source(found: LlmAttachment, media_type: str) -> bytes:
    if found.data:
        # Not through the encoder, which would look at each of its characters.
        head = dumps({"type": "base64", "media_type": media_type})[:-1]
        return b'%b,"data":"%b"}' % (head, b64encode(found.data))
    if found.reference.id.startswith(("https://", "http://")):
        return dumps({"type": "url", "url": found.reference.id})
    CHECKS.not_loaded(found)
