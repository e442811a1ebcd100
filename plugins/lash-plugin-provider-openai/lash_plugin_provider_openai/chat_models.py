"""What is known of a model behind Chat Completions: what the user says of it, the settings, and OpenAI's table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from attrs import evolve

from lash_hookspecs.models import UNKNOWN_MODEL, ModelCapability
from lash_plugin_provider_openai.models import OPENAI_MODELS
from lash_plugin_provider_openai.settings import OpenAiChatSettings
from lash_provider_kit.token_counts import tier_of

__all__ = ["chat_capability"]


def chat_capability(
    settings: OpenAiChatSettings,
    model: str,
    said: Mapping[str, ModelCapability] = MappingProxyType({}),
    *,
    is_openai: bool = False,
    endpoint: str = "",
) -> ModelCapability:
    """The strongest is what is `said` of it, then come the settings. The table is of OpenAI's own models only.

    The wire has images and no other attachments.
    """
    known = ModelCapability(
        context_window=settings.context_window,
        structured_output=None if settings.structured_output else False,
        images=None if settings.images else False,
        parallel_tools=settings.parallel_tool_calls,
        reasoning_efforts=settings.reasoning_efforts,
        cache_dialect=settings.cache_dialect or ("key" if is_openai else None),
    )
    known = known.over(OPENAI_MODELS.capability(model) if is_openai else UNKNOWN_MODEL)
    if (own := said.get(model)) is not None:
        known = own.over(known)
    tier = tier_of(settings.extra_body.get("service_tier"))
    return evolve(known, documents=False, audio=False, video=False, endpoint=endpoint, service_tier=tier)
