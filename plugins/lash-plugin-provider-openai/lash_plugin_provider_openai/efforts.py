"""The reasoning effort that a request asks for, by what is known of the model; alike on both of OpenAI's wires."""

from __future__ import annotations

from lash_hookspecs.models import ModelCapability
from lash_provider_kit.request_parts import RequestChecks, asked_effort

__all__ = ["effort_of", "is_off", "takes_temperature"]


def effort_of(variant: str | None, model: ModelCapability, checks: RequestChecks) -> str | None:
    """The service's word for it; None where that is the model's own affair. Refuses what the model hasn't."""
    if asked_effort(variant) is None:
        return None
    if model.reasoning_encoding == "none":
        checks.refuse("this model doesn't reason, so no effort can be chosen", "effort_not_configurable")
    known = model.reasoning_efforts
    effort = (model.reasoning_off or "none") if variant == "disabled" else variant
    if variant == "disabled" and model.reasoning_required:
        checks.refuse("this model can't be told not to reason", "effort_required")
    if known and effort not in known:
        checks.refuse(
            f"this model has no reasoning effort `{variant}`; it has {', '.join(known)}", "unsupported_effort"
        )
    return effort


def is_off(effort: str | None, model: ModelCapability) -> bool:
    """Whether the model is told not to reason."""
    return effort is not None and effort == model.reasoning_off


def takes_temperature(effort: str | None, model: ModelCapability) -> bool:
    """A model that reasons may take none."""
    return not model.sampling_pinned or is_off(effort, model)
