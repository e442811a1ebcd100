"""Requests as the Responses API wants them: one list of items, each message's encoded once.

State stays here: `store` is false and no earlier response is named. What a model needs back of its reasoning travels
with the conversation, encrypted. As in `encode`, messages and runs keep their encoding in their memos.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from lash_hookspecs.llm import (
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
    MessageRun,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from lash_hookspecs.models import ModelCapability
from lash_plugin_provider_openai.chat_messages import arguments
from lash_plugin_provider_openai.efforts import effort_of, takes_temperature
from lash_plugin_provider_openai.encode import conversation_key
from lash_plugin_provider_openai.responses_settings import OpenAiSettings
from lash_provider_kit.request_parts import (
    IMAGE_TYPES,
    UNSUPPORTED_ATTACHMENT,
    UNSUPPORTED_OUTPUT,
    RequestChecks,
    Toolsets,
    further_fields,
    is_lasting,
    merged,
    option_receipt,
    taken,
)
from lash_provider_kit.wire_json import dumps

__all__ = ["MEMO_KEY", "ResponsesEncoder"]

_CHECKS = RequestChecks("openai")
MEMO_KEY = "openai-responses"

_OFFICE = "application/vnd.openxmlformats-officedocument."
_FILES: Mapping[str, str] = {
    "application/pdf": "pdf",
    "application/json": "json",
    "text/csv": "csv",
    "text/html": "html",
    "text/markdown": "md",
    "text/plain": "txt",
    f"{_OFFICE}wordprocessingml.document": "docx",
    f"{_OFFICE}spreadsheetml.sheet": "xlsx",
    f"{_OFFICE}presentationml.presentation": "pptx",
}
"""What `input_file` takes, and the ending of its name, by which the service knows it."""

Encoded = tuple[bytes, tuple[str, ...]]
"""Items with commas between them, and the instructions among them."""


class ResponsesEncoder:
    """Makes request bodies for one set of settings. Raises `LlmCallFailed` of kind validation.

    `capability` says what a model can do: what it can't is refused here, before anything is sent.
    """

    def __init__(self, settings: OpenAiSettings, capability: Callable[[str], ModelCapability]) -> None:
        self._settings = settings
        self._capability = capability
        extra, self._more_tools = further_fields(settings.extra_body, "openai", ("input", "instructions", "model"))
        self._included = extra.pop("include", ())
        self._head = {name: extra.pop(name) for name in ("store", "stream") if name in extra}
        self._choice = extra.pop("tool_choice", None)
        self._extra = extra
        self._toolset = Toolsets(
            lambda tools: dumps([*map(_tool, tools), *_CHECKS.plain(self._more_tools, "extra_body")])
        )

    def encode(self, request: LlmRequest) -> bytes:
        """The body of `request`."""
        return b"".join(self.pieces(request))

    def pieces(self, request: LlmRequest) -> tuple[bytes, ...]:
        """The body of `request`, in pieces, of which a long conversation's are kept."""
        model = self._capability(request.model)
        bodies: list[bytes] = []
        instructions: list[str] = []
        for run in LlmMessages.of(request.messages).runs:
            body, said = self._run(run, request.attachments, model)
            instructions += said
            if body:
                bodies += (b",", body) if bodies else (body,)
        # The order is by how long a prefix stays the same from call to call.
        head: dict[str, Any] = {"model": request.model, "store": False, "stream": True}
        sealed = [] if model.reasoning_encoding == "none" else ["reasoning.encrypted_content"]
        if included := [*dict.fromkeys([*sealed, *self._included])]:
            head["include"] = included
        head |= self._tools(request)
        head = merged(head, _CHECKS.plain(self._head, "extra_body"))
        if instructions:
            head["instructions"] = "\n\n".join(instructions)
        options = self._options(request, model)
        tail = b"," + dumps(options)[1:-1] if options else b""
        return (dumps(head)[:-1] + b',"input":[', *bodies, b"]" + tail + b"}")

    def receipt(self, request: LlmRequest) -> Mapping[str, str]:
        """What becomes of each option that `request` asks for."""
        model = self._capability(request.model)
        pinned = not takes_temperature(effort_of(request.model_variant, model, _CHECKS), model)
        otherwise = {"seed": "omitted_unsupported", **({"temperature": "omitted_sampling_pinned"} if pinned else {})}
        return option_receipt(request.generation, otherwise)

    # ---- items

    def _run(self, run: MessageRun, attachments: tuple[LlmAttachment, ...], model: ModelCapability) -> Encoded:
        key = f"{MEMO_KEY}:{taken(model)}"  # what is refused here mustn't come from what is kept for another model
        kept: Encoded | None = run.memo.get(key)
        if kept is not None:
            return kept
        bodies: list[bytes] = []
        said: list[str] = []
        lasts = True
        for message in run.messages:
            if message.role is LlmRole.SYSTEM:
                said += [block.text for block in message.blocks if isinstance(block, TextBlock) and block.text]
                continue
            body = message.memo.get(key)
            if body is None:
                body = dumps(self._items(message, attachments, model))[1:-1]
                if is_lasting(message):
                    message.memo[key] = body
                else:
                    lasts = False
            if body:
                bodies.append(body)
        made = b",".join(bodies), tuple(said)
        if lasts:
            run.memo[key] = made
        return made

    def _items(
        self, message: LlmMessage, attachments: tuple[LlmAttachment, ...], model: ModelCapability
    ) -> list[dict[str, Any]]:
        if message.role is LlmRole.ASSISTANT:
            return [item for block in message.blocks for item in _said(block)]
        items: list[dict[str, Any]] = []
        content: list[dict[str, Any]] = []
        for block in message.blocks:
            match block:
                case ToolResultBlock():
                    # Results come first, whatever their place: they must follow the calls that they answer.
                    items.append({"type": "function_call_output", "call_id": block.call_id, "output": block.content})
                case TextBlock():
                    content.append({"type": "input_text", "text": block.text})
                case ImageBlock():
                    content.append(self._file(block, attachments, model))
        if content:
            alone = content[0]["text"] if len(content) == 1 and content[0]["type"] == "input_text" else None
            items.append({"role": "user", "content": alone if alone is not None else content})
        return items

    def _file(
        self, block: ImageBlock, attachments: tuple[LlmAttachment, ...], model: ModelCapability
    ) -> dict[str, Any]:
        found = _CHECKS.attachment(block, attachments)
        media_type = found.reference.media_type.lower()
        ending = _FILES.get(media_type)
        takes = model.images if media_type in IMAGE_TYPES else model.documents if ending is not None else False
        if takes is False:
            _CHECKS.refuse(f"this model doesn't take `{media_type}`", UNSUPPORTED_ATTACHMENT)
        if not found.data:
            _CHECKS.not_loaded(found)
        url = f"data:{media_type};base64,{b64encode(found.data).decode()}"
        if ending is None:
            return {"type": "input_image", "image_url": url, "detail": "auto"}
        return {"type": "input_file", "filename": f"{found.reference.id[:16]}.{ending}", "file_data": url}

    # ---- options

    def _tools(self, request: LlmRequest) -> dict[str, Any]:
        if not request.tools:
            _CHECKS.no_tools(request.tool_choice)
        if not (request.tools or self._more_tools):
            return {}
        choice = self._choice or (request.tool_choice.value if request.tools else None)
        told = {"tool_choice": _CHECKS.plain(choice, "extra_body")} if choice else {}
        return {"tools": orjson.Fragment(self._toolset(request.tools)), **told}

    def _options(self, request: LlmRequest, model: ModelCapability) -> dict[str, Any]:
        options: dict[str, Any] = {}
        effort = effort_of(request.model_variant, model, _CHECKS)
        reasoning: dict[str, Any] = {} if effort is None else {"effort": effort}
        summary = self._settings.reasoning_summary
        if summary != "off" and model.reasoning_encoding != "none" and effort != "none":
            reasoning["summary"] = summary
        if reasoning:
            options["reasoning"] = reasoning
        if request.output_spec is not None:
            if model.structured_output is False:
                _CHECKS.refuse("this model has no structured output", UNSUPPORTED_OUTPUT)
            options["text"] = {"format": _format(request.output_spec)}
        options |= _generation(request, model, effort)
        if request.scope is not None:
            options["prompt_cache_key"] = conversation_key(request.scope)
            if self._settings.cache_retention == "24h":
                options["prompt_cache_retention"] = "24h"
        return merged(options, _CHECKS.plain(self._extra, "extra_body"))


def _tool(tool: LlmToolSpec) -> dict[str, Any]:
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": _CHECKS.schema(tool),
        "strict": False,  # left out, it would mean true, and a schema that isn't written for it be refused
    }


def _said(block: object) -> Sequence[dict[str, Any]]:
    """One block of an assistant's message as items."""
    match block:
        case ReasoningBlock(replay=replay) if replay is not None and replay.encrypted_content:
            # Anything else is only words about reasoning, which the service would refuse.
            item = {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": each} for each in replay.summary],
                "encrypted_content": replay.encrypted_content,
            }
            return [item | ({"id": replay.item_id} if replay.item_id else {})]
        case TextBlock(text=text, response_meta=meta) if text:
            if meta is None or not meta.id:
                return [{"role": "assistant", "content": text}]
            item = {
                "type": "message",
                "id": meta.id,
                "role": "assistant",
                "status": meta.status or "completed",
                "content": [{"type": "output_text", "text": text, "annotations": []}],
            }
            return [item | ({"phase": meta.phase} if meta.phase else {})]
        case ToolCallBlock():
            item = {
                "type": "function_call",
                "call_id": block.call_id,
                "name": block.tool_name,
                "arguments": arguments(block.input_json),
            }
            known = block.replay is not None and block.replay.item_id
            return [item | ({"id": known} if known else {})]
    return ()


def _generation(request: LlmRequest, model: ModelCapability, effort: str | None) -> dict[str, Any]:
    """Sampling; the wire has no seed, and a model that reasons may take no temperature: both are then left out."""
    generation = request.generation
    options: dict[str, Any] = {}
    cap, temperature = generation.output_token_cap, generation.temperature
    if cap is not None:
        options["max_output_tokens"] = _CHECKS.output_token_cap(cap)
    if temperature is not None:
        _CHECKS.temperature(temperature)
        if takes_temperature(effort, model):
            options["temperature"] = temperature
    if generation.stop_sequences:
        _CHECKS.refuse(
            "the Responses API has no `stop_sequences`; `openai-chat:NAME` has", "unsupported_generation_option"
        )
    return options


def _format(spec: LlmOutputSpec) -> dict[str, Any]:
    if isinstance(spec, JsonObjectOutput):
        return {"type": "json_object"}
    schema = _CHECKS.plain(spec.schema, "the output's schema")
    return {"type": "json_schema", "name": spec.name, "schema": schema, "strict": spec.strict}
