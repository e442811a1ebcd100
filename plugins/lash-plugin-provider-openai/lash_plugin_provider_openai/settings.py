"""The settings of `openai-chat`: what a user may set, from where, and what it means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs.validators import ge, in_, optional

from lash_hookspecs.values import frozen
from lash_provider_kit.settings import CallSettings, setting, table, texts

__all__ = ["DEFAULT_BASE_URL", "OpenAiChatSettings"]

DEFAULT_BASE_URL = "https://api.openai.com/v1"


@frozen(kw_only=True)
class OpenAiChatSettings(CallSettings):
    """Settings of the provider `openai-chat`. All times in seconds."""

    base_url: str = setting(DEFAULT_BASE_URL, "where the API is, without `/chat/completions`", env=("OPENAI_BASE_URL",))
    api_key: str = setting(
        "", "the key; services on this machine usually need none", env=("OPENAI_API_KEY",), secret=True
    )
    organization: str = setting("", "sent as OpenAI-Organization", env=("OPENAI_ORG_ID",))
    project: str = setting("", "sent as OpenAI-Project", env=("OPENAI_PROJECT_ID",))
    extra_body: Mapping[str, Any] = table("further fields of every request's JSON, for what only one service knows")

    context_window: int | None = setting(None, "the model's context window, in tokens", check=optional(ge(1)))
    images: bool = setting(True, "whether the model takes images")
    structured_output: bool = setting(True, "whether the service takes `response_format`")
    reasoning_efforts: tuple[str, ...] = texts("the efforts that the model takes; empty: any is passed on")
    reasoning_replay: Literal["omit", "reasoning_content", "reasoning", "reasoning_details"] = setting(
        "omit",
        "the field in which earlier reasoning goes back, for services that want it; OpenRouter's `reasoning_details` "
        "holds opaque state",
        check=in_(("omit", "reasoning_content", "reasoning", "reasoning_details")),
    )
    reasoning_format: Literal["openai", "openrouter", "none"] = setting(
        "openai",
        "how an effort is asked for: `reasoning_effort`, OpenRouter's `reasoning` object, or not at all",
        check=in_(("openai", "openrouter", "none")),
    )
    parallel_tool_calls: bool | None = setting(None, "sent with tools where it is set; some services refuse it")
    strict_tools: bool = setting(False, "have arguments fit the tools' schemas strictly")
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] = setting(
        "max_completion_tokens",
        "the name of the output limit; older services know only `max_tokens`",
        check=in_(("max_completion_tokens", "max_tokens")),
    )
    cache_dialect: Literal["", "none", "key", "anthropic", "gemini"] = setting(
        "",
        "how the service is told what to cache: OpenAI's `prompt_cache_key`, or the marks of Anthropic's or Google's "
        "models behind a gateway; empty: the first at OpenAI, nothing elsewhere",
        check=in_(("", "none", "key", "anthropic", "gemini")),
    )
    cache_retention: Literal["short", "long"] = setting(
        "short", "how long that is kept, where the dialect can say so: `long` is an hour", check=in_(("short", "long"))
    )
    session_affinity: Literal["off", "body", "header"] = setting(
        "off",
        "name the conversation to a gateway, which then stays with one server: in the field `session_id`, or in the "
        "headers `session_id` and `x-client-request-id`",
        check=in_(("off", "body", "header")),
    )
    include_usage: bool = setting(True, "ask for usage in the stream; some old services refuse `stream_options`")
    strict_identity: bool = setting(True, "fail when an answer's id or model changes midway")
