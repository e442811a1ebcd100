"""The settings of `openai`: what a user may set of the Responses API, from where, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field
from attrs.validators import ge, gt, in_

from lash_hookspecs.values import frozen
from lash_plugin_provider_openai.settings import DEFAULT_BASE_URL, _setting

__all__ = ["OpenAiSettings"]


@frozen(kw_only=True)
class OpenAiSettings:
    """Settings of the provider `openai`. All times in seconds. What a model can do is said of models, not here."""

    base_url: str = _setting(DEFAULT_BASE_URL, "where the API is, without `/responses`", env=("OPENAI_BASE_URL",))
    api_key: str = _setting("", "the key", env=("OPENAI_API_KEY",), secret=True)
    organization: str = _setting("", "sent as OpenAI-Organization", env=("OPENAI_ORG_ID",))
    project: str = _setting("", "sent as OpenAI-Project", env=("OPENAI_PROJECT_ID",))
    headers: Mapping[str, str] = field(
        factory=dict,
        repr=lambda headers: f"<{len(headers)} headers>",  # their values may be secret
        metadata={"help": "further headers of every request, such as a gateway's key", "secret": True},
    )
    extra_body: Mapping[str, Any] = field(
        factory=dict, metadata={"help": "further fields of every request's JSON, such as `service_tier`"}
    )
    reasoning_summary: Literal["off", "auto", "concise", "detailed"] = _setting(
        "off",
        "whether models that reason summarize it; OpenAI wants a verified organization for that",
        check=in_(("off", "auto", "concise", "detailed")),
    )
    cache_retention: Literal["default", "24h"] = _setting(
        "default", "how long OpenAI keeps what requests have in common", check=in_(("default", "24h"))
    )

    connect_timeout_s: float = _setting(15.0, "for name lookup, connection and TLS", check=gt(0))
    chunk_timeout_s: float = _setting(120.0, "the longest silence, first answer included", check=gt(0))
    deadline_s: float = _setting(300.0, "for a whole attempt, whatever keeps arriving", check=gt(0))
    retry: Literal["charge_safe", "lenient", "off"] = _setting(
        "charge_safe",
        "`charge_safe` repeats only where no answer was seen; `lenient` also 5xx and cut answers",
        check=in_(("charge_safe", "lenient", "off")),
    )
    max_attempts: int = _setting(4, "how often a call is tried, courtesy waits aside", check=ge(1))
    max_concurrent: int = _setting(0, "calls at a time; 0: no limit", check=ge(0))
    requests_per_minute: int = _setting(0, "requests in any minute; 0: no limit", check=ge(0))
    tokens_per_minute: int = _setting(0, "tokens sent in any minute, by estimate; 0: no limit", check=ge(0))
    capture_requests: bool = _setting(False, "keep the body of each request, without secrets, in the call's record")
