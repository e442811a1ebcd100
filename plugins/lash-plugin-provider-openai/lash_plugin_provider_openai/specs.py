"""The provider specs: `openai` for the Responses API, and `openai-chat` for Chat Completions."""

from __future__ import annotations

from lash_hookspecs.llm import Provider, ProviderContext, ProviderSpec
from lash_plugin_provider_openai.responses_settings import OpenAiSettings
from lash_plugin_provider_openai.settings import OpenAiChatSettings

__all__ = ["OPENAI", "OPENAI_CHAT"]


def _open_chat(context: ProviderContext) -> Provider:
    from lash_plugin_provider_openai.provider import open_openai_chat

    return open_openai_chat(context)


def _open_responses(context: ProviderContext) -> Provider:
    from lash_plugin_provider_openai.responses_provider import open_openai

    return open_openai(context)


OPENAI_CHAT = ProviderSpec(
    provider_id="openai-chat",
    settings=OpenAiChatSettings,
    open=_open_chat,
    models=("gpt-5", "gpt-5-mini"),
    summary="OpenAI's Chat Completions, and every service that speaks it (set its base_url).",
)

OPENAI = ProviderSpec(
    provider_id="openai",
    settings=OpenAiSettings,
    open=_open_responses,
    models=("gpt-5", "gpt-5-mini"),
    summary="OpenAI's Responses API.",
)
