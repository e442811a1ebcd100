"""Everything of a request that isn't said by somebody: limits, thinking, sampling, the form of the answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lash_hookspecs.llm import GenerationOptions, JsonObjectOutput, LlmOutputSpec, LlmRequest
from lash_hookspecs.models import ModelCapability
from lash_plugin_provider_anthropic.blocks import CHECKS
from lash_plugin_provider_anthropic.models import BUDGET, BUDGETS, NO_REASONING, OFF
from lash_plugin_provider_anthropic.schemas import output_schema
from lash_plugin_provider_anthropic.settings import AnthropicSettings
from lash_provider_kit.request_parts import INVALID_OPTION, UNSUPPORTED_OUTPUT, asked_effort

__all__ = ["options", "receipt", "require_forcible"]

_LEAST_BUDGET = 1024
_HIGHEST_TEMPERATURE = 1.0


def options(request: LlmRequest, can: ModelCapability, settings: AnthropicSettings) -> dict[str, Any]:
    """The fields of `request` but model, tools and messages. Raises `LlmCallFailed` of kind validation."""
    generation = request.generation
    effort = _effort(request.model_variant, can)
    limit = _limit(generation, can, settings)
    made: dict[str, Any] = {"max_tokens": limit, "stream": True}
    output: dict[str, Any] = {}
    if effort == OFF:
        made["thinking"] = {"type": can.reasoning_off or OFF}
    elif effort is not None:
        shown = {"display": settings.thinking_display} if settings.thinking_display else {}
        if can.reasoning_encoding == BUDGET:
            budget, made["max_tokens"] = _budget(effort, limit, generation, can)
            made["thinking"] = {"type": "enabled", "budget_tokens": budget, **shown}
        else:
            made["thinking"] = {"type": "adaptive", **shown}
            output["effort"] = effort
    temperature = generation.temperature
    if temperature is not None:
        CHECKS.temperature(temperature)
        if _takes_temperature(effort, can):
            made["temperature"] = min(temperature, _HIGHEST_TEMPERATURE)
    if generation.stop_sequences:
        made["stop_sequences"] = list(generation.stop_sequences)
    if request.output_spec is not None:
        output["format"] = _format(request.output_spec, can)
    if output:
        made["output_config"] = output
    return made


def receipt(request: LlmRequest, can: ModelCapability) -> Mapping[str, str]:
    """What became of each option that `request` asks for: `applied`, `clamped`, or the reason why it isn't sent."""
    asked = request.generation
    told: dict[str, str] = {}
    if asked.output_token_cap is not None:
        fits = can.output_cap is None or asked.output_token_cap <= can.output_cap
        told["output_token_cap"] = "applied" if fits else "clamped"
    if asked.temperature is not None:
        if not _takes_temperature(_effort(request.model_variant, can), can):
            told["temperature"] = "omitted_sampling_pinned"
        else:
            told["temperature"] = "applied" if asked.temperature <= _HIGHEST_TEMPERATURE else "clamped"
    if asked.seed is not None:
        told["seed"] = "omitted_unsupported"
    if asked.stop_sequences:
        told["stop_sequences"] = "applied"
    return told


def require_forcible(request: LlmRequest, can: ModelCapability) -> None:
    """Refuse to require a call of a model that can't be held to one, as none can that thinks with a budget."""
    if can.forced_tools is False:
        CHECKS.refuse(
            "this model can't be required to call a tool: ask for it in words, with the choice left to it",
            "unsupported_tool_choice",
        )
    if can.reasoning_encoding == BUDGET and _effort(request.model_variant, can) not in (None, OFF):
        CHECKS.refuse(
            "a call can't be required of a model that thinks: set the effort to `disabled`, or leave the choice to it",
            "unsupported_tool_choice",
        )


def _takes_temperature(effort: str | None, can: ModelCapability) -> bool:
    """Whoever thinks, samples as the service wants."""
    return not can.sampling_pinned and effort in (None, OFF)


def _limit(generation: GenerationOptions, can: ModelCapability, settings: AnthropicSettings) -> int:
    cap = generation.output_token_cap
    if cap is None:
        cap = settings.default_max_tokens
    else:
        CHECKS.output_token_cap(cap)
    return cap if can.output_cap is None else min(cap, can.output_cap)


def _effort(variant: str | None, can: ModelCapability) -> str | None:
    """The effort that is meant, `disabled`, or None where it is the model's own affair."""
    if asked_effort(variant) is None:
        return None
    if variant == OFF:
        if can.reasoning_encoding == NO_REASONING:
            return None
        if can.reasoning_required:
            CHECKS.refuse(
                f"this model always thinks: take an effort ({', '.join(can.reasoning_efforts) or 'any'}) or none",
                "effort_required",
            )
        return OFF
    if can.reasoning_encoding == NO_REASONING:
        CHECKS.refuse(f"this model doesn't think, so it has no effort `{variant}`", "effort_not_configurable")
    known = can.reasoning_efforts or (tuple(_budgets(can)) if can.reasoning_encoding == BUDGET else ())
    if known and variant not in known:
        CHECKS.refuse(
            f"this model has no reasoning effort `{variant}`; it has {', '.join(known)}", "unsupported_effort"
        )
    return variant


def _budgets(can: ModelCapability) -> Mapping[str, int]:
    return can.reasoning_budgets or BUDGETS


def _budget(effort: str, limit: int, generation: GenerationOptions, can: ModelCapability) -> tuple[int, int]:
    """The tokens for thinking, and `max_tokens`, which counts them: more, unless the request or the model limits it."""
    budget = _budgets(can).get(effort)
    if budget is None:
        CHECKS.refuse(
            f"how many tokens the effort `{effort}` is, isn't known: say so in `reasoning_budgets`", INVALID_OPTION
        )
    if generation.output_token_cap is None:
        limit = limit + budget if can.output_cap is None else min(limit + budget, can.output_cap)
    if limit <= _LEAST_BUDGET:
        CHECKS.refuse(
            f"`output_token_cap` of {limit} leaves no room for thinking, which takes more than {_LEAST_BUDGET}: "
            "raise it, or set the effort to `disabled`",
            INVALID_OPTION,
        )
    return min(budget, max(_LEAST_BUDGET, limit // 2)), limit


def _format(spec: LlmOutputSpec, can: ModelCapability) -> dict[str, Any]:
    if can.structured_output is False or isinstance(spec, JsonObjectOutput):
        what = "any JSON object" if can.structured_output is not False else "structured output"
        CHECKS.refuse(
            f"this model can't be held to {what}: give a schema, or ask for it in words",
            UNSUPPORTED_OUTPUT,
        )
    return {"type": "json_schema", "schema": output_schema(CHECKS.plain(spec.schema, "the output's schema"))}
