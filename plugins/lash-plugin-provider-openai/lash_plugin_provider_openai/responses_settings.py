"""The settings of `openai`: what a user may set of the Responses API, from where, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs.validators import in_

from lash_hookspecs.values import frozen
from lash_plugin_provider_openai.settings import DEFAULT_BASE_URL
from lash_provider_kit.settings import CallSettings, setting, table

__all__ = ["OpenAiSettings"]


@frozen(kw_only=True)
class OpenAiSettings(CallSettings):
    """Settings of the provider `openai`. All times in seconds. What a model can do is said of models, not here."""

    base_url: str = setting(DEFAULT_BASE_URL, "where the API is, without `/responses`", env=("OPENAI_BASE_URL",))
    api_key: str = setting("", "the key", env=("OPENAI_API_KEY",), secret=True)
    organization: str = setting("", "sent as OpenAI-Organization", env=("OPENAI_ORG_ID",))
    project: str = setting("", "sent as OpenAI-Project", env=("OPENAI_PROJECT_ID",))
    extra_body: Mapping[str, Any] = table("further fields of every request's JSON, such as `service_tier`")
    reasoning_summary: Literal["off", "auto", "concise", "detailed"] = setting(
        "off",
        "whether models that reason summarize it; OpenAI wants a verified organization for that",
        check=in_(("off", "auto", "concise", "detailed")),
    )
    cache_retention: Literal["default", "24h"] = setting(
        "default", "how long OpenAI keeps what requests have in common", check=in_(("default", "24h"))
    )
