"""Everything of a request that isn't said by somebody: limits, thinking, sampling, the form of the answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lash_hookspecs.llm import GenerationOptions, JsonObjectOutput, LlmOutputSpec, LlmRequest
from lash_plugin_provider_anthropic.blocks import refuse
from lash_plugin_provider_anthropic.models import BUDGETS, ModelFacts
from lash_plugin_provider_anthropic.plain import plain
from lash_plugin_provider_anthropic.schemas import output_schema
from lash_plugin_provider_anthropic.settings import AnthropicSettings

__all__ = ["options", "receipt"]

_DEFAULT_EFFORTS = frozenset({"", "default", "provider-default"})
_DISABLED = "disabled"
_LEAST_BUDGET = 1024
_HIGHEST_TEMPERATURE = 1.0
_INVALID_OPTION = "invalid_generation_option"


def options(request: LlmRequest, facts: ModelFacts, settings: AnthropicSettings) -> dict[str, Any]:
    """The fields of `request` but model, tools and messages. Raises `LlmCallFailed` of kind validation."""
    generation = request.generation
    effort = _effort(request.model_variant, facts)
    limit = _limit(generation, facts, settings)
    made: dict[str, Any] = {"max_tokens": limit, "stream": True}
    output: dict[str, Any] = {}
    if effort == _DISABLED:
        made["thinking"] = {"type": "disabled"}
    elif effort is not None:
        shown = {"display": settings.thinking_display} if settings.thinking_display else {}
        if facts.reasoning == "budget":
            budget, made["max_tokens"] = _budget(effort, limit, generation, facts)
            made["thinking"] = {"type": "enabled", "budget_tokens": budget, **shown}
        else:
            made["thinking"] = {"type": "adaptive", **shown}
            output["effort"] = effort
    temperature = generation.temperature
    if temperature is not None:
        if isinstance(temperature, bool) or not math.isfinite(temperature) or temperature < 0:
            refuse(f"`temperature` must be a finite number of at least 0, not {temperature!r}", _INVALID_OPTION)
        if _takes_temperature(effort, facts):
            made["temperature"] = min(temperature, _HIGHEST_TEMPERATURE)
    if generation.stop_sequences:
        made["stop_sequences"] = list(generation.stop_sequences)
    if request.output_spec is not None:
        output["format"] = _format(request.output_spec, facts)
    if output:
        made["output_config"] = output
    return made


def receipt(request: LlmRequest, facts: ModelFacts) -> Mapping[str, str]:
    """What became of each option that `request` asks for: `applied`, `clamped`, or the reason why it isn't sent."""
    asked = request.generation
    told: dict[str, str] = {}
    if asked.output_token_cap is not None:
        fits = facts.max_output is None or asked.output_token_cap <= facts.max_output
        told["output_token_cap"] = "applied" if fits else "clamped"
    if asked.temperature is not None:
        if not _takes_temperature(_effort(request.model_variant, facts), facts):
            told["temperature"] = "omitted_sampling_pinned"
        else:
            told["temperature"] = "applied" if asked.temperature <= _HIGHEST_TEMPERATURE else "clamped"
    if asked.seed is not None:
        told["seed"] = "omitted_unsupported"
    if asked.stop_sequences:
        told["stop_sequences"] = "applied"
    return told


def _takes_temperature(effort: str | None, facts: ModelFacts) -> bool:
    """Whoever thinks, samples as the service wants."""
    return facts.sampling and effort in (None, _DISABLED)


def _limit(generation: GenerationOptions, facts: ModelFacts, settings: AnthropicSettings) -> int:
    cap = generation.output_token_cap
    if cap is None:
        cap = settings.default_max_tokens
    elif not isinstance(cap, int) or isinstance(cap, bool) or cap < 1:
        refuse(f"`output_token_cap` must be a whole number of at least 1, not {cap!r}", _INVALID_OPTION)
    return cap if facts.max_output is None else min(cap, facts.max_output)


def _effort(variant: str | None, facts: ModelFacts) -> str | None:
    """The effort that is meant, `disabled`, or None where it is the model's own affair."""
    if variant is None or variant in _DEFAULT_EFFORTS:
        return None
    if variant == _DISABLED:
        if facts.reasoning == "none":
            return None
        if not facts.reasoning_optional:
            refuse(f"this model always thinks: take an effort ({_known(facts)}) or none", "effort_required")
        return _DISABLED
    if facts.reasoning == "none":
        refuse(f"this model doesn't think, so it has no effort `{variant}`", "effort_not_configurable")
    if (facts.efforts and variant not in facts.efforts) or (facts.reasoning == "budget" and variant not in BUDGETS):
        refuse(f"this model has no reasoning effort `{variant}`; it has {_known(facts)}", "unsupported_effort")
    return variant


def _known(facts: ModelFacts) -> str:
    return ", ".join(facts.efforts or BUDGETS)


def _budget(effort: str, limit: int, generation: GenerationOptions, facts: ModelFacts) -> tuple[int, int]:
    """The tokens for thinking, and `max_tokens`, which counts them: more, unless the request or the model limits it."""
    budget = BUDGETS[effort]
    if generation.output_token_cap is None:
        limit = limit + budget if facts.max_output is None else min(limit + budget, facts.max_output)
    if limit <= _LEAST_BUDGET:
        refuse(
            f"`output_token_cap` of {limit} leaves no room for thinking, which takes more than {_LEAST_BUDGET}: "
            "raise it, or set the effort to `disabled`",
            _INVALID_OPTION,
        )
    return min(budget, max(_LEAST_BUDGET, limit // 2)), limit


def _format(spec: LlmOutputSpec, facts: ModelFacts) -> dict[str, Any]:
    if not facts.structured_output or isinstance(spec, JsonObjectOutput):
        what = "any JSON object" if facts.structured_output else "structured output"
        refuse(
            f"this model can't be held to {what}: give a schema, or ask for it in words",
            "unsupported_structured_output",
        )
    return {"type": "json_schema", "schema": output_schema(plain(spec.schema, "the output's schema"))}
