"""Requests as Chat Completions wants them: JSON bytes, encoded once per message and joined per request.

A conversation grows by a few messages per turn and is sent whole each time. So each `LlmMessage` keeps its encoding in
its memo, tools are kept by the identity of their tuple, and of a long conversation all but the last messages are kept
joined: a request of ten thousand messages costs a copy.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import orjson

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import (
    GenerationOptions,
    ImageBlock,
    JsonObjectOutput,
    LlmAttachment,
    LlmCallError,
    LlmMessage,
    LlmOutputSpec,
    LlmRequest,
    LlmRole,
    LlmToolChoice,
    LlmToolSpec,
    ProviderFailureKind,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from lash_plugin_provider_openai.settings import OpenAiChatSettings

__all__ = ["MEMO_KEY", "RequestEncoder"]

MEMO_KEY = "openai-chat"
_IMAGE_TYPES = frozenset({"image/gif", "image/jpeg", "image/png", "image/webp"})
_DEFAULT_EFFORTS = frozenset({"", "default", "provider-default"})
_KEPT_TOOLSETS = 32
_RUN = 64
"""How many further messages are joined one by one before they are kept as one piece with all that came before."""


class RequestEncoder:
    """Makes request bodies for one set of settings. Raises `LlmCallFailed` of kind validation."""

    def __init__(self, settings: OpenAiChatSettings) -> None:
        self._settings = settings
        replay = settings.reasoning_replay
        self._reasoning_field = None if replay == "omit" else replay
        # Two providers with other replay settings may see one message, so the key says whose encoding it is.
        self._memo_key = MEMO_KEY if self._reasoning_field is None else f"{MEMO_KEY}:{replay}"
        self._run_key = f"{self._memo_key}:run"
        self._tools: dict[int, tuple[Sequence[LlmToolSpec], bytes]] = {}

    def encode(self, request: LlmRequest) -> bytes:
        """The body of `request`."""
        return b"".join(self.pieces(request))

    def pieces(self, request: LlmRequest) -> tuple[bytes, ...]:
        """The body of `request`, in pieces: nearly all of a long conversation's is one that an earlier request made."""
        # The order is by how long a prefix stays the same from call to call.
        start = b'{"model":%b%b,"messages":[' % (_dumps(request.model), self._tools_part(request))
        return (start, *self._messages_part(request), b"]%b}" % self._options(request))

    # ---- messages

    def _messages_part(self, request: LlmRequest) -> tuple[bytes, ...]:
        """All messages with commas between them, in pieces: what earlier requests joined already, and the rest."""
        key, run_key, messages = self._memo_key, self._run_key, request.messages
        start, joined = 0, b""
        # None is kept for short conversations, nor further back than this.
        for end in range(len(messages), max(_RUN, len(messages) - 2 * _RUN), -1):
            run = messages[end - 1].memo.get(run_key)
            if run is not None and run[0] == messages[:end]:  # the same objects: compared in C, without looking inside
                start, joined = end, run[1]
                break
        encoded: list[bytes] = []
        for message in messages[start:]:
            body = message.memo.get(key)
            if body is None:
                body = self._message(message, request.attachments)
            if body:
                encoded.append(body)
        rest = b",".join(encoded)
        pieces = (joined, b",", rest) if joined and rest else (joined, rest)
        if len(messages) - start > _RUN and all(key in message.memo for message in messages[start:]):
            # Kept with the last message, so that it lives as long as the conversation; only the longest run is.
            messages[start - 1].memo.pop(run_key, None)
            messages[-1].memo[run_key] = (messages, b"".join(pieces))
        return pieces

    def _message(self, message: LlmMessage, attachments: tuple[LlmAttachment, ...]) -> bytes:
        body = b",".join(_dumps(each) for each in self._wire_messages(message, attachments))
        # An image without a reference is a place in this request's attachments, which means nothing in the next one.
        if all(block.attachment is not None for block in message.blocks if isinstance(block, ImageBlock)):
            message.memo[self._memo_key] = body
        return body

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
            wire.append({"role": message.role.value, "content": _content(content)})
        return wire

    def _assistant(self, message: LlmMessage) -> list[dict[str, Any]]:
        wire: dict[str, Any] = {"role": "assistant"}
        text = "\n".join(block.text for block in message.blocks if isinstance(block, TextBlock))
        calls = [
            {
                "id": block.call_id,
                "type": "function",
                "function": {"name": block.tool_name, "arguments": _arguments(block.input_json)},
            }
            for block in message.blocks
            if isinstance(block, ToolCallBlock)
        ]
        if text:
            wire["content"] = text
        if calls:
            wire["tool_calls"] = calls
        if self._reasoning_field is not None:
            reasoning = "\n".join(block.text for block in message.blocks if isinstance(block, ReasoningBlock))
            if reasoning:
                wire[self._reasoning_field] = reasoning
        return [wire] if text or calls else []

    def _data_url(self, block: ImageBlock, attachments: tuple[LlmAttachment, ...]) -> str:
        found = _attachment(block, attachments)
        media_type = found.reference.media_type.lower()
        if media_type not in _IMAGE_TYPES or not self._settings.images:
            what = f"`{media_type}`" if self._settings.images else "images"
            _refuse(
                f"this model doesn't take {what} (jpeg, png, gif and webp are what Chat Completions has)", _UNSUPPORTED
            )
        if not found.data:
            _refuse(f"the bytes of attachment `{found.reference.id}` weren't loaded", "attachment_not_loaded")
        return f"data:{media_type};base64,{b64encode(found.data).decode()}"

    # ---- tools

    def _tools_part(self, request: LlmRequest) -> bytes:
        if not request.tools:
            if request.tool_choice is LlmToolChoice.REQUIRED:
                _refuse("a tool call is required, but no tools are offered", "tool_choice_without_tools")
            return b""
        kept = self._tools.get(id(request.tools))
        if kept is None:
            if len(self._tools) >= _KEPT_TOOLSETS:
                del self._tools[next(iter(self._tools))]
            # Keeping the tuple keeps its id from being given to another one.
            kept = (request.tools, _dumps([_tool(tool) for tool in request.tools]))
            self._tools[id(request.tools)] = kept
        return b',"tools":' + kept[1] + b',"tool_choice":' + _dumps(request.tool_choice.value)

    # ---- everything else

    def _options(self, request: LlmRequest) -> bytes:
        options: dict[str, Any] = {"stream": True}
        if self._settings.include_usage:
            options["stream_options"] = {"include_usage": True}
        options |= self._generation(request.generation)
        effort = self._effort(request.model_variant)
        if effort is not None:
            options["reasoning_effort"] = effort
        if request.output_spec is not None:
            options["response_format"] = self._response_format(request.output_spec)
        options |= _plain(self._settings.extra_body, "extra_body")
        return b"," + _dumps(options)[1:-1]

    def _generation(self, generation: GenerationOptions) -> dict[str, Any]:
        options: dict[str, Any] = {}
        cap, temperature, seed = generation.output_token_cap, generation.temperature, generation.seed
        if cap is not None:
            if not _is_integer(cap) or cap < 1:
                _refuse(f"`output_token_cap` must be a whole number of at least 1, not {cap!r}", _INVALID_OPTION)
            options[self._settings.max_tokens_field] = cap
        if temperature is not None:
            if isinstance(temperature, bool) or not math.isfinite(temperature) or temperature < 0:
                _refuse(f"`temperature` must be a finite number of at least 0, not {temperature!r}", _INVALID_OPTION)
            options["temperature"] = temperature
        if seed is not None:
            if not _is_integer(seed) or not -(2**63) <= seed < 2**63:
                _refuse(f"`seed` must be a whole number of 64 bits, not {seed!r}", _INVALID_OPTION)
            options["seed"] = seed
        if generation.stop_sequences:
            options["stop"] = list(generation.stop_sequences)
        return options

    def _effort(self, variant: str | None) -> str | None:
        if variant is None or variant in _DEFAULT_EFFORTS:
            return None
        effort = "none" if variant == "disabled" else variant
        known = self._settings.reasoning_efforts
        if known and effort not in known:
            _refuse(f"this model has no reasoning effort `{variant}`; it has {', '.join(known)}", "unsupported_effort")
        return effort

    def _response_format(self, spec: LlmOutputSpec) -> dict[str, Any]:
        if not self._settings.structured_output:
            _refuse(
                "structured output is asked for, and switched off by `structured_output = false`", _UNSUPPORTED_OUTPUT
            )
        if isinstance(spec, JsonObjectOutput):
            return {"type": "json_object"}
        schema = {"name": spec.name, "schema": _plain(spec.schema, "the output's schema"), "strict": spec.strict}
        return {"type": "json_schema", "json_schema": schema}


_UNSUPPORTED = "unsupported_attachment_capability"
_UNSUPPORTED_OUTPUT = "unsupported_structured_output"
_INVALID_OPTION = "invalid_generation_option"


def _content(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    # Plain text where there's nothing else: many services that speak this wire know only that.
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _arguments(input_json: str) -> str:
    """A call's arguments as the model wrote them, if they are JSON at all.

    A model may write broken JSON, and is told so by the call's result; but gateways that parse what they are sent would
    refuse every later request of that conversation, so broken text goes back as a value.
    """
    try:
        orjson.loads(input_json)
    except ValueError:
        return _dumps({"invalid_json": input_json}).decode() if input_json.strip() else "{}"
    return input_json


def _tool(tool: LlmToolSpec) -> dict[str, Any]:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": _plain(tool.input_schema, f"the schema of tool `{tool.name}`"),
    }
    return {"type": "function", "function": function}


def _attachment(block: ImageBlock, attachments: tuple[LlmAttachment, ...]) -> LlmAttachment:
    if block.attachment is not None:
        for each in attachments:
            if each.reference.id == block.attachment.id:
                return each
        return LlmAttachment(reference=block.attachment)
    if not 0 <= block.attachment_idx < len(attachments):
        _refuse(f"there is no attachment {block.attachment_idx} in this request", "attachment_not_loaded")
    return attachments[block.attachment_idx]


def _plain(value: Any, where: str) -> Any:
    """`value` as plain dicts and lists, which is what the encoder takes; refuses numbers that JSON doesn't have."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each, where) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, where) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        _refuse(f"{where} holds {value!r}, which JSON can't", _INVALID_OPTION)
    return value


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _dumps(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        # Text from files or processes may hold half a surrogate pair, which UTF-8 has no bytes for.
        return orjson.dumps(_mended(value))


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_mended(name): _mended(each) for name, each in value.items()}
    return [_mended(each) for each in value] if isinstance(value, list) else value


def _refuse(message: str, code: str) -> NoReturn:
    error = LlmCallError(message=f"openai-chat: {message}", kind=ProviderFailureKind.VALIDATION, code=code)
    raise LlmCallFailed(error)
