"""The provider specs: `openai` for the Responses API, and `openai-chat` for Chat Completions."""

from __future__ import annotations

from lash_hookspecs.llm import Provider, ProviderContext, ProviderSpec

__all__ = ["OPENAI", "OPENAI_CHAT"]


def _chat_settings() -> type:
    from lash_plugin_provider_openai.settings import OpenAiChatSettings

    return OpenAiChatSettings


def _responses_settings() -> type:
    from lash_plugin_provider_openai.responses_settings import OpenAiSettings

    return OpenAiSettings


def _open_chat(context: ProviderContext) -> Provider:
    from lash_plugin_provider_openai.provider import open_openai_chat

    return open_openai_chat(context)


def _open_responses(context: ProviderContext) -> Provider:
    from lash_plugin_provider_openai.responses_provider import open_openai

    return open_openai(context)


OPENAI_CHAT = ProviderSpec(
    provider_id="openai-chat",
    settings=_chat_settings,
    open=_open_chat,
    models=("gpt-5", "gpt-5-mini"),
    summary="OpenAI's Chat Completions, and every service that speaks it (set its base_url).",
)

OPENAI = ProviderSpec(
    provider_id="openai",
    settings=_responses_settings,
    open=_open_responses,
    models=("gpt-5", "gpt-5-mini"),
    summary="OpenAI's Responses API.",
)
