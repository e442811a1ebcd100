"""Requests as Chat Completions wants them: JSON bytes, encoded once per message and joined per request.

A conversation grows by a few messages per turn and is sent whole each time. So each `LlmMessage` keeps its encoding in
its memo, each run of messages the joined one, and tools are kept by the identity of their tuple: of a long conversation
nothing is encoded, joined or copied again.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import orjson

from lash_hookspecs.llm import (
    GenerationOptions,
    JsonObjectOutput,
    LlmAttachment,
    LlmOutputSpec,
    LlmRequest,
    LlmToolSpec,
)
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
from lash_plugin_provider_openai.settings import OpenAiChatSettings
from lash_provider_kit.request_parts import (
    IMAGE_TYPES,
    UNSUPPORTED_ATTACHMENT,
    UNSUPPORTED_OUTPUT,
    RequestChecks,
    Toolsets,
    asked_effort,
    is_lasting,
)
from lash_provider_kit.wire_json import dumps

__all__ = ["MEMO_KEY", "RequestEncoder", "arguments"]

_CHECKS = RequestChecks("openai-chat")
MEMO_KEY = "openai-chat"
DETAILS = "reasoning_details"
_LONG = 256
"""A longer run comes from a store: its messages are encoded at once, and only the run keeps the result."""


class RequestEncoder:
    """Makes request bodies for one set of settings. Raises `LlmCallFailed` of kind validation."""

    def __init__(self, settings: OpenAiChatSettings) -> None:
        self._settings = settings
        replay = settings.reasoning_replay
        self._reasoning_field = None if replay == "omit" else replay
        # Two providers with other settings may see one message, so the key says whose encoding it is.
        self._memo_key = MEMO_KEY if self._reasoning_field is None else f"{MEMO_KEY}:{replay}"
        if not settings.images:
            self._memo_key += ":no-images"  # what is refused here mustn't come from what another one has encoded
        self._tools = Toolsets(lambda tools: dumps([_tool(tool, strict=settings.strict_tools) for tool in tools]))

    def encode(self, request: LlmRequest) -> bytes:
        """The body of `request`."""
        return b"".join(self.pieces(request))

    def pieces(self, request: LlmRequest) -> tuple[bytes, ...]:
        """The body of `request`, in pieces: nearly all of a long conversation's is one that an earlier request made."""
        # The order is by how long a prefix stays the same from call to call.
        start = b'{"model":%b%b,"messages":[' % (dumps(request.model), self._tools_part(request))
        pieces = [start]
        for run in LlmMessages.of(request.messages).runs:
            body = self._run(run, request.attachments)
            if body:
                pieces += (b",", body) if len(pieces) > 1 else (body,)
        return (*pieces, b"]%b}" % self._options(request))

    # ---- messages

    def _run(self, run: MessageRun, attachments: tuple[LlmAttachment, ...]) -> bytes:
        """A run's messages with commas between them; empty if there's nothing to send of them."""
        body: bytes | None = run.memo.get(self._memo_key)
        if body is None:
            encode = self._one_by_one if len(run.messages) <= _LONG else self._at_once
            bodies, lasts = encode(run.messages, attachments)
            body = b",".join(bodies)
            if lasts:
                run.memo[self._memo_key] = body
        return body

    def _one_by_one(
        self, messages: tuple[LlmMessage, ...], attachments: tuple[LlmAttachment, ...]
    ) -> tuple[list[bytes], bool]:
        """The bodies of messages, kept in their memos, and whether all could be kept."""
        bodies, lasts = [], True
        for message in messages:
            body = message.memo.get(self._memo_key)
            if body is None:
                body = dumps(self._wire_messages(message, attachments))[1:-1]
                if is_lasting(message):
                    message.memo[self._memo_key] = body
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
        key, lasts = self._memo_key, True
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
            wire.append({"role": message.role.value, "content": _content(content)})
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
        found = _CHECKS.attachment(block, attachments)
        media_type = found.reference.media_type.lower()
        if media_type not in IMAGE_TYPES or not self._settings.images:
            what = f"`{media_type}`" if self._settings.images else "images"
            _CHECKS.refuse(
                f"this model doesn't take {what} (jpeg, png, gif and webp are what Chat Completions has)",
                UNSUPPORTED_ATTACHMENT,
            )
        if not found.data:
            _CHECKS.not_loaded(found)
        return f"data:{media_type};base64,{b64encode(found.data).decode()}"

    # ---- tools

    def _tools_part(self, request: LlmRequest) -> bytes:
        if not request.tools:
            _CHECKS.no_tools(request.tool_choice)
            return b""
        return b',"tools":%b,"tool_choice":%b' % (self._tools(request.tools), dumps(request.tool_choice.value))

    # ---- everything else

    def _options(self, request: LlmRequest) -> bytes:
        options: dict[str, Any] = {"stream": True}
        if self._settings.include_usage:
            options["stream_options"] = {"include_usage": True}
        options |= self._generation(request.generation)
        if request.tools and self._settings.parallel_tool_calls is not None:
            options["parallel_tool_calls"] = self._settings.parallel_tool_calls
        effort = self._effort(request.model_variant)
        if effort is not None and self._settings.reasoning_format == "openai":
            options["reasoning_effort"] = effort
        elif effort is not None and self._settings.reasoning_format == "openrouter":
            options["reasoning"] = {"enabled": False} if effort == "none" else {"effort": effort}
        if request.output_spec is not None:
            options["response_format"] = self._response_format(request.output_spec)
        options |= _CHECKS.plain(self._settings.extra_body, "extra_body")
        return b"," + dumps(options)[1:-1]

    def _generation(self, generation: GenerationOptions) -> dict[str, Any]:
        options: dict[str, Any] = {}
        cap, temperature, seed = generation.output_token_cap, generation.temperature, generation.seed
        if cap is not None:
            options[self._settings.max_tokens_field] = _CHECKS.output_token_cap(cap)
        if temperature is not None:
            options["temperature"] = _CHECKS.temperature(temperature)
        if seed is not None:
            options["seed"] = _CHECKS.seed(seed, 64)
        if generation.stop_sequences:
            options["stop"] = list(generation.stop_sequences)
        return options

    def _effort(self, variant: str | None) -> str | None:
        effort = asked_effort(variant)
        if effort is None:
            return None
        effort = "none" if effort == "disabled" else effort
        known = self._settings.reasoning_efforts
        if known and effort not in known:
            _CHECKS.refuse(
                f"this model has no reasoning effort `{variant}`; it has {', '.join(known)}", "unsupported_effort"
            )
        return effort

    def _response_format(self, spec: LlmOutputSpec) -> dict[str, Any]:
        if not self._settings.structured_output:
            _CHECKS.refuse(
                "structured output is asked for, and switched off by `structured_output = false`", UNSUPPORTED_OUTPUT
            )
        if isinstance(spec, JsonObjectOutput):
            return {"type": "json_object"}
        schema = {"name": spec.name, "schema": _CHECKS.plain(spec.schema, "the output's schema"), "strict": spec.strict}
        return {"type": "json_schema", "json_schema": schema}


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


def _tool(tool: LlmToolSpec, *, strict: bool) -> dict[str, Any]:
    function: dict[str, Any] = {
        "name": tool.name,
        "description": tool.description,
        "parameters": _CHECKS.schema(tool),
    }
    if strict:
        function["strict"] = True
    return {"type": "function", "function": function}
