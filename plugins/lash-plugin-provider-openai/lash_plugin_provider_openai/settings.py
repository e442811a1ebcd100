"""The settings of `openai-chat`: what a user may set, from where, and what it means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from attrs import field
from attrs.validators import ge, gt, in_, optional

from lash_hookspecs.values import frozen

__all__ = ["DEFAULT_BASE_URL", "OpenAiChatSettings"]

DEFAULT_BASE_URL = "https://api.openai.com/v1"


def _setting(default: Any, help: str, *, env: tuple[str, ...] = (), secret: bool = False, check: Any = None) -> Any:
    metadata = {"help": help, **({"env": env} if env else {}), **({"secret": True} if secret else {})}
    return field(default=default, repr=not secret, metadata=metadata, validator=check)


def _tuple(value: Iterable[str]) -> tuple[str, ...]:
    # attrs looks at a converter's signature, and at that of the builtin `tuple` for several milliseconds.
    return tuple(value)


@frozen(kw_only=True)
class OpenAiChatSettings:
    """Settings of the provider `openai-chat`. All times in seconds."""

    base_url: str = _setting(
        DEFAULT_BASE_URL, "where the API is, without `/chat/completions`", env=("OPENAI_BASE_URL",)
    )
    api_key: str = _setting(
        "", "the key; services on this machine usually need none", env=("OPENAI_API_KEY",), secret=True
    )
    organization: str = _setting("", "sent as OpenAI-Organization", env=("OPENAI_ORG_ID",))
    project: str = _setting("", "sent as OpenAI-Project", env=("OPENAI_PROJECT_ID",))
    headers: Mapping[str, str] = field(
        factory=dict,
        repr=lambda headers: f"<{len(headers)} headers>",  # their values may be secret
        metadata={"help": "further headers of every request, such as a gateway's key", "secret": True},
    )
    extra_body: Mapping[str, Any] = field(
        factory=dict, metadata={"help": "further fields of every request's JSON, for what only one service knows"}
    )

    context_window: int | None = _setting(None, "the model's context window, in tokens", check=optional(ge(1)))
    images: bool = _setting(True, "whether the model takes images")
    structured_output: bool = _setting(True, "whether the service takes `response_format`")
    reasoning_efforts: tuple[str, ...] = field(
        default=(), converter=_tuple, metadata={"help": "the efforts that the model takes; empty: any is passed on"}
    )
    reasoning_replay: Literal["omit", "reasoning_content", "reasoning", "reasoning_details"] = _setting(
        "omit",
        "the field in which earlier reasoning goes back, for services that want it; OpenRouter's `reasoning_details` "
        "holds opaque state",
        check=in_(("omit", "reasoning_content", "reasoning", "reasoning_details")),
    )
    reasoning_format: Literal["openai", "openrouter", "none"] = _setting(
        "openai",
        "how an effort is asked for: `reasoning_effort`, OpenRouter's `reasoning` object, or not at all",
        check=in_(("openai", "openrouter", "none")),
    )
    parallel_tool_calls: bool | None = _setting(None, "sent with tools where it is set; some services refuse it")
    strict_tools: bool = _setting(False, "have arguments fit the tools' schemas strictly")
    max_tokens_field: Literal["max_completion_tokens", "max_tokens"] = _setting(
        "max_completion_tokens",
        "the name of the output limit; older services know only `max_tokens`",
        check=in_(("max_completion_tokens", "max_tokens")),
    )
    include_usage: bool = _setting(True, "ask for usage in the stream; some old services refuse `stream_options`")
    strict_identity: bool = _setting(True, "fail when an answer's id or model changes midway")

    connect_timeout_s: float = _setting(15.0, "for name lookup, connection and TLS", check=gt(0))
    chunk_timeout_s: float = _setting(120.0, "the longest silence, first answer included", check=gt(0))
    deadline_s: float = _setting(300.0, "for a whole attempt, whatever keeps arriving", check=gt(0))
    retry: Literal["charge_safe", "lenient", "off"] = _setting(
        "charge_safe",
        "`charge_safe` repeats only where no answer was seen; `lenient` also 5xx and cut answers",
        check=in_(("charge_safe", "lenient", "off")),
    )
    max_attempts: int = _setting(4, "how often a call is tried, courtesy waits aside", check=ge(1))
    http2: bool = _setting(False, "speak HTTP/2 where the service does; needs the package `h2`")
    max_concurrent: int = _setting(0, "calls at a time; 0: no limit", check=ge(0))
    requests_per_minute: int = _setting(0, "requests in any minute; 0: no limit", check=ge(0))
    tokens_per_minute: int = _setting(0, "tokens sent in any minute, by estimate; 0: no limit", check=ge(0))
    capture_requests: bool = _setting(False, "keep the body of each request, without secrets, in the call's record")
