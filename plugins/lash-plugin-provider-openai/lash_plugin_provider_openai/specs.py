"""The provider specs: `openai-chat`, and `openai`, which only gives advice."""

from __future__ import annotations

from typing import NoReturn

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.llm import Provider, ProviderContext, ProviderSpec
from lash_plugin_provider_openai.settings import NoSettings, OpenAiChatSettings

__all__ = ["OPENAI", "OPENAI_CHAT"]


def _open_chat(context: ProviderContext) -> Provider:
    from lash_plugin_provider_openai.provider import open_openai_chat

    return open_openai_chat(context)


def _advise(context: ProviderContext) -> NoReturn:
    raise ConfigurationError(
        f"`{context.provider_id}` names a company with several APIs: type `openai-chat:NAME` for Chat Completions"
    )


OPENAI_CHAT = ProviderSpec(
    provider_id="openai-chat",
    settings=OpenAiChatSettings,
    open=_open_chat,
    models=("gpt-5", "gpt-5-mini"),
    summary="OpenAI's Chat Completions, and every service that speaks it (set its base_url).",
)

# It can't reach any service, so it isn't live: its advice is worth seeing in a test too.
OPENAI = ProviderSpec(
    provider_id="openai", settings=NoSettings, open=_advise, live=False, summary="Type `openai-chat:NAME` instead."
)
