"""The settings of `anthropic`: what a user may set, from where, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs.validators import ge, in_

from lash_hookspecs.values import frozen
from lash_provider_kit.settings import CallSettings, setting, table, texts

__all__ = ["DEFAULT_BASE_URL", "AnthropicSettings"]

DEFAULT_BASE_URL = "https://api.anthropic.com"


@frozen(kw_only=True)
class AnthropicSettings(CallSettings):
    """Settings of the provider `anthropic`. All times in seconds. What a model can do is said in `[models]`."""

    base_url: str = setting(DEFAULT_BASE_URL, "where the API is, without `/v1/messages`", env=("ANTHROPIC_BASE_URL",))
    api_key: str = setting("", "the key, sent as X-Api-Key", env=("ANTHROPIC_API_KEY",), secret=True)
    auth_token: str = setting(
        "", "a token, sent as Authorization: Bearer; for gateways", env=("ANTHROPIC_AUTH_TOKEN",), secret=True
    )
    betas: tuple[str, ...] = texts("sent as Anthropic-Beta, to switch on what isn't general yet")
    extra_body: Mapping[str, Any] = table(
        "further fields of every request's JSON; `tools` in it are sent before the turn's own"
    )

    default_max_tokens: int = setting(
        32_000, "`max_tokens` where a request sets no limit; at most the model's", check=ge(1)
    )
    thinking_display: Literal["", "summarized", "omitted"] = setting(
        "", "whether thinking is shown; empty: as the model does by default", check=in_(("", "summarized", "omitted"))
    )
    cache: Literal["off", "short", "long"] = setting(
        "short", "prompt caching: `short` lasts five minutes, `long` an hour", check=in_(("off", "short", "long"))
    )
