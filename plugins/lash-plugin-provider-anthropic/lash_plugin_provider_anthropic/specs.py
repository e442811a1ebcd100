"""The provider spec of `anthropic`."""

from __future__ import annotations

from lash_hookspecs.llm import Provider, ProviderContext, ProviderSpec

__all__ = ["ANTHROPIC"]


def _settings() -> type:
    from lash_plugin_provider_anthropic.settings import AnthropicSettings

    return AnthropicSettings


def _open(context: ProviderContext) -> Provider:
    from lash_plugin_provider_anthropic.provider import open_anthropic

    return open_anthropic(context)


ANTHROPIC = ProviderSpec(
    provider_id="anthropic",
    settings=_settings,
    open=_open,
    models=("claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-4-5"),
    summary="Anthropic's Messages: Claude, with thinking, prompt caching, images and PDF.",
)
