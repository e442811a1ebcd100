"""The settings of `anthropic`: what a user may set, from where, and what it means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from attrs import field
from attrs.validators import ge, gt, in_

from lash_hookspecs.values import frozen

__all__ = ["DEFAULT_BASE_URL", "AnthropicSettings"]

DEFAULT_BASE_URL = "https://api.anthropic.com"


def _setting(default: Any, help: str, *, env: tuple[str, ...] = (), secret: bool = False, check: Any = None) -> Any:
    metadata = {"help": help, **({"env": env} if env else {}), **({"secret": True} if secret else {})}
    return field(default=default, repr=not secret, metadata=metadata, validator=check)


def _tuple(value: Iterable[str]) -> tuple[str, ...]:
    # attrs looks at a converter's signature, and at that of the builtin `tuple` for several milliseconds.
    return tuple(value)


@frozen(kw_only=True)
class AnthropicSettings:
    """Settings of the provider `anthropic`. All times in seconds. What a model can do is said in `[models]`."""

    base_url: str = _setting(DEFAULT_BASE_URL, "where the API is, without `/v1/messages`", env=("ANTHROPIC_BASE_URL",))
    api_key: str = _setting("", "the key, sent as X-Api-Key", env=("ANTHROPIC_API_KEY",), secret=True)
    auth_token: str = _setting(
        "", "a token, sent as Authorization: Bearer; for gateways", env=("ANTHROPIC_AUTH_TOKEN",), secret=True
    )
    betas: tuple[str, ...] = field(
        default=(), converter=_tuple, metadata={"help": "sent as Anthropic-Beta, to switch on what isn't general yet"}
    )
    headers: Mapping[str, str] = field(
        factory=dict,
        repr=lambda headers: f"<{len(headers)} headers>",  # their values may be secret
        metadata={"help": "further headers of every request, such as a gateway's key", "secret": True},
    )
    extra_body: Mapping[str, Any] = field(
        factory=dict,
        metadata={"help": "further fields of every request's JSON; `tools` in it are sent before the turn's own"},
    )

    default_max_tokens: int = _setting(
        32_000, "`max_tokens` where a request sets no limit; at most the model's", check=ge(1)
    )
    thinking_display: Literal["", "summarized", "omitted"] = _setting(
        "", "whether thinking is shown; empty: as the model does by default", check=in_(("", "summarized", "omitted"))
    )
    cache: Literal["off", "short", "long"] = _setting(
        "short", "prompt caching: `short` lasts five minutes, `long` an hour", check=in_(("off", "short", "long"))
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
