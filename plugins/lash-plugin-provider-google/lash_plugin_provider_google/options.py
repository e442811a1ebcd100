"""All of a request that isn't its messages: tools, sampling, thinking, the form of the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.llm import (
    GenerationOptions,
    JsonSchemaOutput,
    LlmRequest,
    LlmToolChoice,
    LlmToolSpec,
)
from lash_plugin_provider_google.models import Model
from lash_plugin_provider_google.settings import GoogleSettings
from lash_plugin_provider_google.wire import CHECKS
from lash_provider_kit.request_parts import INVALID_OPTION, UNSUPPORTED_OUTPUT, Toolsets, asked_effort, merged
from lash_provider_kit.wire_json import dumps

__all__ = ["OptionsEncoder"]

_MODES = {LlmToolChoice.AUTO: "AUTO", LlmToolChoice.NONE: "NONE", LlmToolChoice.REQUIRED: "ANY"}
_FIELDS = ("level", "budget")
_OFF = frozenset({"disabled", "none", "off"})
_MOST_STOPS = 5
_OURS = frozenset({"contents", "systemInstruction", "system_instruction"})


class OptionsEncoder:
    """Encodes for one set of settings; raises `ConfigurationError` for an `extra_body` that can't be merged."""

    def __init__(self, settings: GoogleSettings) -> None:
        extra = dict(settings.extra_body)
        if ours := sorted(_OURS & extra.keys()):
            raise ConfigurationError(f"`provider.google.extra_body` can't hold `{ours[0]}`: that is the conversation")
        tools, config = extra.pop("tools", ()), extra.pop("toolConfig", {})
        if not isinstance(tools, list | tuple) or not isinstance(config, Mapping):
            raise ConfigurationError("in `provider.google.extra_body`, `tools` is a list and `toolConfig` a table")
        self._more_tools: Sequence[Any] = tools
        self._tool_config: Mapping[str, Any] = config
        self._extra = extra
        self._thoughts = settings.include_thoughts
        self._tools = Toolsets(self._declared)

    # ---- tools

    def tools(self, request: LlmRequest, model: Model) -> bytes:
        """The fields `tools` and `toolConfig` with a comma behind each, or nothing."""
        if not request.tools:
            CHECKS.no_tools(request.tool_choice)
        config: dict[str, Any] = {}
        if request.tools:
            config["functionCallingConfig"] = {"mode": _MODES[request.tool_choice]}
        config = merged(config, CHECKS.plain(self._tool_config, "extra_body"))
        declared = self._tools(request.tools)
        fields = b'"tools":[%b],' % declared if declared else b""
        return fields + (b'"toolConfig":%b,' % dumps(config) if config else b"")

    def _declared(self, tools: Sequence[LlmToolSpec]) -> bytes:
        wire = [{"functionDeclarations": [_declaration(tool) for tool in tools]}] if tools else []
        return dumps([*wire, *CHECKS.plain(self._more_tools, "extra_body")])[1:-1]

    # ---- everything else

    def rest(self, request: LlmRequest, model: Model) -> bytes:
        """The remaining fields, with a comma before each."""
        config = _sampling(request.generation, model)
        config |= self._thinking(request.model_variant, model)
        config |= _form(request, model)
        fields: dict[str, Any] = {"generationConfig": config} if config else {}
        fields = merged(fields, CHECKS.plain(self._extra, "extra_body"))
        return b"," + dumps(fields)[1:-1] if fields else b""

    def _thinking(self, variant: str | None, model: Model) -> dict[str, Any]:
        """What a reasoning effort is for this model: a level, or a budget in tokens."""
        shown: dict[str, Any] = {"includeThoughts": True} if self._thoughts else {}
        effort = asked_effort(variant)
        if effort is None:
            thinks = model.capability.reasoning_encoding in _FIELDS
            return {"thinkingConfig": shown} if shown and thinks else {}
        value = _effort(effort, model)
        name = "thinkingLevel" if isinstance(value, str) else "thinkingBudget"
        return {"thinkingConfig": {name: value, **({} if value == 0 else shown)}}


def _effort(variant: str, model: Model) -> str | int:
    """The level, or the budget, that a reasoning effort is for a model."""
    can, off = model.capability, variant in _OFF
    known, encoding, tokens = can.reasoning_efforts, can.reasoning_encoding, model.quirks.budget
    if encoding == "none":
        CHECKS.refuse(f"this model doesn't think, so it has no reasoning effort `{variant}`", "effort_not_configurable")
    if encoding not in (None, *_FIELDS):
        CHECKS.refuse(
            f"`reasoning_encoding` can't be `{encoding}`: it is {', '.join(_FIELDS)} or none", "malformed_capability"
        )
    has = f"it has {', '.join(known)}" + (f", and {tokens[0]} to {tokens[1]} tokens" if tokens else "")
    if off and can.reasoning_required:
        CHECKS.refuse(f"this model always thinks; {has}", "effort_required")
    effort = (can.reasoning_off or "disabled") if off else variant
    if effort in can.reasoning_budgets:
        return can.reasoning_budgets[effort]
    if tokens and effort.isdecimal() and tokens[0] <= int(effort) <= tokens[1]:
        return int(effort)
    if known and effort not in known:
        CHECKS.refuse(f"this model has no reasoning effort `{variant}`; {has}", "unsupported_effort")
    if encoding == "budget":
        CHECKS.refuse(f"`reasoning_budgets` doesn't say how many tokens `{effort}` is", "malformed_capability")
    return 0 if off and effort not in known else effort.upper()


def _sampling(generation: GenerationOptions, model: Model) -> dict[str, Any]:
    options: dict[str, Any] = {}
    cap, temperature, seed = generation.output_token_cap, generation.temperature, generation.seed
    stops = generation.stop_sequences
    if cap is not None:
        options["maxOutputTokens"] = CHECKS.output_token_cap(cap)
    if temperature is not None:
        CHECKS.temperature(temperature)
        if not model.capability.sampling_pinned:
            options["temperature"] = temperature
    if seed is not None:
        options["seed"] = CHECKS.seed(seed, 32)
    if stops:
        if len(stops) > _MOST_STOPS:
            CHECKS.refuse(f"there may be {_MOST_STOPS} stop sequences here, not {len(stops)}", INVALID_OPTION)
        options["stopSequences"] = list(stops)
    return options


def _form(request: LlmRequest, model: Model) -> dict[str, Any]:
    spec = request.output_spec
    if spec is None:
        return {}
    if model.capability.structured_output is False:
        CHECKS.refuse("structured output is asked for, and this model has none", UNSUPPORTED_OUTPUT)
    if request.tools and not model.quirks.schema_with_tools:
        CHECKS.refuse(
            "this model takes tools or a required form of the answer, not both in one request (Gemini 3 takes both)",
            UNSUPPORTED_OUTPUT,
        )
    form: dict[str, Any] = {"responseMimeType": "application/json"}
    if isinstance(spec, JsonSchemaOutput):
        form["responseJsonSchema"] = CHECKS.plain(spec.schema, "the output's schema")
    return form


def _declaration(tool: LlmToolSpec) -> dict[str, Any]:
    return {
        "name": tool.name,
        "description": tool.description,
        "parametersJsonSchema": CHECKS.schema(tool),
    }
