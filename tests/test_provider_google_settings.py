"""The provider `google` finds its settings where the vendor's tools look, and in tables of `lash.toml`."""

from __future__ import annotations

from lash_framework.settings import load_settings, provider_settings
from lash_plugin_provider_google import GoogleSettings
from lash_plugin_provider_google.specs import GOOGLE


def test_settings_come_from_where_the_vendor_s_tools_look() -> None:
    env = {
        "GOOGLE_API_KEY": "second",
        "GOOGLE_GENAI_USE_VERTEXAI": "true",
        "GOOGLE_CLOUD_PROJECT": "p",
        "GOOGLE_CLOUD_LOCATION": "eu",
        "GOOGLE_GEMINI_BASE_URL": "https://gw.example",
    }
    made = provider_settings(GOOGLE, load_settings(env={}), env)
    assert made == GoogleSettings(
        api_key="second", vertex=True, project="p", location="eu", base_url="https://gw.example"
    )
    both = provider_settings(GOOGLE, load_settings(env={}), {**env, "GEMINI_API_KEY": "first"})
    assert both.api_key == "first"
    sets = ["provider.google.quirks.m.budget=[1, 9]", "provider.google.quirks.m.signed_calls=true"]
    nested = provider_settings(GOOGLE, load_settings(env={}, sets=sets), {})
    assert nested.quirks == {"m": {"budget": [1, 9], "signed_calls": True}}
