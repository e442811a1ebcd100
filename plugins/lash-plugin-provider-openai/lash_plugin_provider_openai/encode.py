"""Requests as Chat Completions wants them: JSON bytes, encoded once per message and joined per request.

A conversation grows by a few messages per turn and is sent whole each time. So each `LlmMessage` keeps its encoding in
its memo, each run of messages the joined one, and tools are kept by the identity of their tuple: of a long conversation
nothing is encoded, joined or copied again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from lash_hookspecs.llm import (
    JsonObjectOutput,
    LlmOutputSpec,
    LlmRequest,
    LlmRequestScope,
    LlmToolSpec,
)
from lash_hookspecs.llm_messages import LlmMessages
from lash_hookspecs.models import ModelCapability
from lash_plugin_provider_openai.cache_marks import MARKED, MARKERS, Place, chosen, cut
from lash_plugin_provider_openai.chat_messages import CHECKS, MessageEncoder
from lash_plugin_provider_openai.chat_models import chat_capability
from lash_plugin_provider_openai.efforts import effort_of, takes_temperature
from lash_plugin_provider_openai.settings import OpenAiChatSettings
from lash_provider_kit.request_parts import UNSUPPORTED_OUTPUT, Toolsets, further_fields, merged, option_receipt
from lash_provider_kit.wire_json import dumps

__all__ = ["RequestEncoder", "conversation_key"]

_KEY_LENGTH = 64


class RequestEncoder:
    """Makes request bodies for one set of settings. Raises `LlmCallFailed` of kind validation.

    `capability` says what a model can do: what it can't is refused here, before anything is sent.
    """

    def __init__(
        self, settings: OpenAiChatSettings, capability: Callable[[str], ModelCapability] | None = None
    ) -> None:
        self._settings = settings
        self._capability = capability or (lambda model: chat_capability(settings, model))
        replay = settings.reasoning_replay
        self._reasoning_field = None if replay == "omit" else replay
        self._models: dict[str, MessageEncoder] = {}
        self._extra, self._more_tools = further_fields(settings.extra_body, "openai-chat", ("messages", "model"))
        self._choice = self._extra.pop("tool_choice", None)
        self._tools = Toolsets(self._declared)

    def encode(self, request: LlmRequest) -> bytes:
        """The body of `request`."""
        return b"".join(self.pieces(request))

    def pieces(self, request: LlmRequest) -> tuple[bytes, ...]:
        """The body of `request`, in pieces: nearly all of a long conversation's is one that an earlier request made."""
        one = self._model(request.model)
        read = (one.run(run, request.attachments) for run in LlmMessages.of(request.messages).runs)
        runs = [each for each in read if each.body]
        marker, mark_tools = b"", False
        places: list[Place] = []
        if one.dialect in MARKED:
            marker = MARKERS[self._settings.cache_retention]
            mark_tools, places = chosen(one.dialect, runs, tools=bool(request.tools or self._more_tools))
        tools = self._tools_part(request, marker if mark_tools else b"")
        # The order is by how long a prefix stays the same from call to call.
        pieces = [b'{"model":%b%b,"messages":[' % (dumps(request.model), tools)]
        for number, body in enumerate(cut(runs, places, marker)):
            pieces += (b",", *body) if number else body
        return (*pieces, b"]%b}" % self._options(request, one))

    def receipt(self, request: LlmRequest) -> Mapping[str, str]:
        """What becomes of each option that `request` asks for."""
        can = self._model(request.model).can
        pinned = not takes_temperature(effort_of(request.model_variant, can, CHECKS), can)
        return option_receipt(request.generation, {"temperature": "omitted_sampling_pinned"} if pinned else {})

    def _model(self, model: str) -> MessageEncoder:
        found = self._models.get(model)
        if found is None:
            found = self._models[model] = MessageEncoder(self._reasoning_field, self._capability(model))
        return found

    # ---- tools

    def _tools_part(self, request: LlmRequest, marker: bytes) -> bytes:
        if not request.tools:
            CHECKS.no_tools(request.tool_choice)
        if not (request.tools or self._more_tools):
            return b""
        choice = self._choice or (request.tool_choice.value if request.tools else None)
        told = b',"tool_choice":%b' % dumps(CHECKS.plain(choice, "extra_body")) if choice else b""
        tools = self._tools(request.tools)
        if marker:
            tools = b"%b%b}]" % (tools[:-2], marker)
        return b',"tools":%b%b' % (tools, told)

    def _declared(self, tools: Sequence[LlmToolSpec]) -> bytes:
        own = [_tool(tool, strict=self._settings.strict_tools) for tool in tools]
        return dumps([*own, *CHECKS.plain(self._more_tools, "extra_body")])

    # ---- everything else

    def _options(self, request: LlmRequest, one: MessageEncoder) -> bytes:
        settings, can = self._settings, one.can
        effort = effort_of(request.model_variant, can, CHECKS)
        options: dict[str, Any] = {"stream": True}
        if settings.include_usage:
            options["stream_options"] = {"include_usage": True}
        options |= self._generation(request, can, effort)
        if request.tools and settings.parallel_tool_calls is not None:
            options["parallel_tool_calls"] = settings.parallel_tool_calls
        if effort is not None and settings.reasoning_format == "openai":
            options["reasoning_effort"] = effort
        elif effort is not None and settings.reasoning_format == "openrouter":
            options["reasoning"] = {"enabled": False} if effort == "none" else {"effort": effort}
        if request.output_spec is not None:
            options["response_format"] = self._response_format(request.output_spec, can)
        if request.scope is not None:
            if one.dialect == "key":
                options["prompt_cache_key"] = conversation_key(request.scope)
            if settings.session_affinity == "body":
                options["session_id"] = conversation_key(request.scope)
        return b"," + dumps(merged(options, CHECKS.plain(self._extra, "extra_body")))[1:-1]

    def _generation(self, request: LlmRequest, can: ModelCapability, effort: str | None) -> dict[str, Any]:
        generation = request.generation
        options: dict[str, Any] = {}
        cap, temperature, seed = generation.output_token_cap, generation.temperature, generation.seed
        if cap is not None:
            options[self._settings.max_tokens_field] = CHECKS.output_token_cap(cap)
        if temperature is not None:
            CHECKS.temperature(temperature)
            if takes_temperature(effort, can):
                options["temperature"] = temperature
        if seed is not None:
            options["seed"] = CHECKS.seed(seed, 64)
        if generation.stop_sequences:
            options["stop"] = list(generation.stop_sequences)
        return options

    def _response_format(self, spec: LlmOutputSpec, can: ModelCapability) -> dict[str, Any]:
        if can.structured_output is False:
            CHECKS.refuse(
                "structured output is asked for, and this model has none (`structured_output = false` says so)",
                UNSUPPORTED_OUTPUT,
            )
        if isinstance(spec, JsonObjectOutput):
            return {"type": "json_object"}
        schema = {"name": spec.name, "schema": CHECKS.plain(spec.schema, "the output's schema"), "strict": spec.strict}
        return {"type": "json_schema", "json_schema": schema}


def _tool(tool: LlmToolSpec, *, strict: bool) -> dict[str, Any]:
    function: dict[str, Any] = {
        "name": tool.name,
        "description": tool.description,
        "parameters": CHECKS.schema(tool),
    }
    if strict:
        function["strict"] = True
    return {"type": "function", "function": function}


def conversation_key(scope: LlmRequestScope, *, header: bool = False) -> str:
    """What requests of one conversation have in common: a service keeps them together by it.

    Where the ids are too long for that, or hold what no `header` may, it is a digest of them.
    """
    key = f"{scope.session_id}::{scope.agent_frame_id}"
    fits = len(key) <= _KEY_LENGTH and not (header and not (key.isascii() and key.isprintable() and key == key.strip()))
    return key if fits else sha256(key.encode("utf-8", "replace")).hexdigest()
