"""Messages as Chat Completions wants them, for one model: JSON that is made once, and kept with them."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import orjson

from lash_hookspecs.llm import LlmAttachment
from lash_hookspecs.llm_messages import (
    EncodedRun,
    ImageBlock,
    LlmMessage,
    LlmRole,
    LlmTextMessage,
    MessageRun,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from lash_hookspecs.models import ModelCapability
from lash_plugin_provider_openai.cache_marks import MARKED, Piece, joined, spoken
from lash_provider_kit.request_parts import IMAGE_TYPES, UNSUPPORTED_ATTACHMENT, RequestChecks, is_lasting, taken
from lash_provider_kit.wire_json import dumps

__all__ = ["CHECKS", "MEMO_KEY", "MessageEncoder", "arguments"]

CHECKS = RequestChecks("openai-chat")
MEMO_KEY = "openai-chat"
DETAILS = "reasoning_details"
_LONG = 256
"""A longer run comes from a store: its messages are encoded at once, and only the run keeps the result."""


class MessageEncoder:
    """Encodes messages for a model that can do this. `reasoning` is the field in which reasoning goes back, if any.

    Raises `LlmCallFailed` of kind validation.
    """

    def __init__(self, reasoning: str | None, can: ModelCapability) -> None:
        self.can = can
        self.dialect = can.cache_dialect or "none"
        self._reasoning_field = reasoning
        self._is_marked = self.dialect in MARKED
        # Whoever encodes otherwise may see the same message, so the key says whose encoding it is: what is refused here
        # mustn't come from what another one has encoded.
        self._key = f"{MEMO_KEY}:{reasoning or ''}:{taken(can)}{':parts' if self._is_marked else ''}"

    def run(self, run: MessageRun, attachments: tuple[LlmAttachment, ...]) -> Piece:
        """A run's messages with commas between them; empty if there's nothing to send of them."""
        made: Piece | None = run.memo.get(self._key)
        if made is None:
            if type(run) is EncodedRun and not self._is_marked:
                return Piece(run.encoded)  # it is what this wire says
            if self._is_marked:
                made, lasts = self._in_parts(run.messages, attachments)
            else:
                encode = self._one_by_one if len(run.messages) <= _LONG else self._at_once
                bodies, lasts = encode(run.messages, attachments)
                made = Piece(b",".join(bodies))
            if lasts:
                run.memo[self._key] = made
        return made

    def _in_parts(self, messages: tuple[LlmMessage, ...], attachments: tuple[LlmAttachment, ...]) -> tuple[Piece, bool]:
        """Messages whose texts are parts, since only those can be marked, and whether all could be kept."""
        pieces, lasts = [], True
        keep = len(messages) <= _LONG
        for message in messages:
            piece = message.memo.get(self._key) if keep else None
            if piece is None:
                piece = self._parts(message, attachments)
                if not is_lasting(message):
                    lasts = False
                elif keep:
                    message.memo[self._key] = piece
            if piece.body:
                pieces.append(piece)
        return joined(pieces), lasts

    def _parts(self, message: LlmMessage, attachments: tuple[LlmAttachment, ...]) -> Piece:
        wire = self._wire_messages(message, attachments)
        if message.role is LlmRole.ASSISTANT or not wire or wire[-1]["role"] == "tool":
            return Piece(dumps(wire)[1:-1])
        texts = [block for block in message.blocks if isinstance(block, TextBlock | ImageBlock)]
        asked = [isinstance(block, TextBlock) and block.cache_breakpoint for block in texts]
        content = wire[-1]["content"]
        told = [
            (dumps(part), bool(part.get("text", "").strip()), is_asked)
            for part, is_asked in zip(content, asked, strict=True)
        ]
        return spoken(message.role.value, dumps(wire[:-1])[1:-1], told)

    def _one_by_one(
        self, messages: tuple[LlmMessage, ...], attachments: tuple[LlmAttachment, ...]
    ) -> tuple[list[bytes], bool]:
        """The bodies of messages, kept in their memos, and whether all could be kept."""
        bodies, lasts = [], True
        for message in messages:
            body = message.memo.get(self._key)
            if body is None:
                body = dumps(self._wire_messages(message, attachments))[1:-1]
                if is_lasting(message):
                    message.memo[self._key] = body
                else:
                    lasts = False
            if body:
                bodies.append(body)
        return bodies, lasts

    def _at_once(
        self, messages: tuple[LlmMessage, ...], attachments: tuple[LlmAttachment, ...]
    ) -> tuple[list[bytes], bool]:
        """The same in few pieces, each of as many messages as have no body in their memos; they get none."""
        bodies: list[bytes] = []
        new: list[dict[str, Any]] = []
        key, lasts = self._key, True
        for message in messages:
            if type(message) is LlmTextMessage and message.text:  # nearly all of a long history, and without a memo
                new.append({"role": message.role._value_, "content": message.text})
                continue
            body = message.memo.get(key)
            if body is None:
                new += self._wire_messages(message, attachments)
                lasts = lasts and is_lasting(message)
                continue
            if new:
                bodies.append(dumps(new)[1:-1])
                new = []
            if body:
                bodies.append(body)
        if new:
            bodies.append(dumps(new)[1:-1])
        return bodies, lasts

    def _wire_messages(self, message: LlmMessage, attachments: tuple[LlmAttachment, ...]) -> list[dict[str, Any]]:
        if message.role is LlmRole.ASSISTANT:
            return self._assistant(message)
        wire: list[dict[str, Any]] = []
        content: list[dict[str, Any]] = []
        for block in message.blocks:
            match block:
                case ToolResultBlock():
                    # Results come first, whatever their place: they must follow the calls that they answer.
                    wire.append({"role": "tool", "tool_call_id": block.call_id, "content": block.content})
                case TextBlock():
                    content.append({"type": "text", "text": block.text})
                case ImageBlock():
                    content.append({"type": "image_url", "image_url": {"url": self._data_url(block, attachments)}})
                case ToolCallBlock() | ReasoningBlock():
                    pass  # only an assistant's
        if content:
            told = content if self._is_marked else _content(content)
            wire.append({"role": message.role.value, "content": told})
        return wire

    def _assistant(self, message: LlmMessage) -> list[dict[str, Any]]:
        wire: dict[str, Any] = {"role": "assistant"}
        text = "\n".join(block.text for block in message.blocks if isinstance(block, TextBlock))
        calls = [
            {
                "id": block.call_id,
                "type": "function",
                "function": {"name": block.tool_name, "arguments": arguments(block.input_json)},
            }
            for block in message.blocks
            if isinstance(block, ToolCallBlock)
        ]
        if text:
            wire["content"] = text
        if calls:
            wire["tool_calls"] = calls
        if self._reasoning_field is not None:
            blocks = [block for block in message.blocks if isinstance(block, ReasoningBlock)]
            reasoning = (
                _details(blocks) if self._reasoning_field == DETAILS else "\n".join(each.text for each in blocks)
            )
            if reasoning:
                wire[self._reasoning_field] = reasoning
        return [wire] if text or calls else []

    def _data_url(self, block: ImageBlock, attachments: tuple[LlmAttachment, ...]) -> str:
        found = CHECKS.attachment(block, attachments)
        media_type = found.reference.media_type.lower()
        takes_images = self.can.images is not False
        if media_type not in IMAGE_TYPES or not takes_images:
            what = f"`{media_type}`" if takes_images else "images"
            CHECKS.refuse(
                f"this model doesn't take {what} (jpeg, png, gif and webp are what Chat Completions has)",
                UNSUPPORTED_ATTACHMENT,
            )
        if not found.data:
            CHECKS.not_loaded(found)
        return f"data:{media_type};base64,{b64encode(found.data).decode()}"


def _content(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    # Plain text where there's nothing else: many services that speak this wire know only that.
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def arguments(input_json: str) -> str:
    """A call's arguments as the model wrote them, if they are JSON at all.

    A model may write broken JSON, and is told so by the call's result; but gateways that parse what they are sent would
    refuse every later request of that conversation, so broken text goes back as a value.
    """
    try:
        orjson.loads(input_json)
    except ValueError:
        return dumps({"invalid_json": input_json}).decode() if input_json.strip() else "{}"
    return input_json


def _details(blocks: Sequence[ReasoningBlock]) -> list[Any]:
    """OpenRouter's opaque state of reasoning, as the decoder kept it."""
    kept = (block.replay.encrypted_content for block in blocks if block.replay is not None)
    return [each for text in kept if text for each in orjson.loads(text)]
