"""The provider spec."""

from __future__ import annotations

from lash_hookspecs.llm import Provider, ProviderContext, ProviderSpec

__all__ = ["GOOGLE"]


def _settings() -> type:
    from lash_plugin_provider_google.settings import GoogleSettings

    return GoogleSettings


def _open(context: ProviderContext) -> Provider:
    from lash_plugin_provider_google.provider import open_google

    return open_google(context)


GOOGLE = ProviderSpec(
    provider_id="google",
    settings=_settings,
    open=_open,
    models=("gemini-3.8-flash", "gemini-3.1-pro-preview"),
    summary="Google's Gemini, by its own API or by Vertex AI.",
)
