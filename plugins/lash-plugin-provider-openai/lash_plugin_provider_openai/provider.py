"""The provider `openai-chat`: settings checked, requests encoded, answers decoded; the kit does the rest."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

import anyio

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.llm import (
    LlmEventSender,
    LlmRequest,
    LlmResponse,
    ProviderContext,
)
from lash_hookspecs.models import ModelCapability
from lash_plugin_provider_openai.decode import ChatDecoder
from lash_plugin_provider_openai.encode import RequestEncoder
from lash_plugin_provider_openai.models import OPENAI_MODELS
from lash_plugin_provider_openai.responses_settings import OpenAiSettings
from lash_plugin_provider_openai.settings import DEFAULT_BASE_URL, OpenAiChatSettings
from lash_provider_kit.limiter import RateLimiter, RateLimits
from lash_provider_kit.reader import Limits
from lash_provider_kit.redact import checked_header, checked_url, is_loopback, with_path, without_query
from lash_provider_kit.retry import RetryPolicy
from lash_provider_kit.service import StreamingService
from lash_provider_kit.transport import Timeouts

if TYPE_CHECKING:
    import httpx

__all__ = ["OpenAiChatProvider", "open_openai_chat", "require_call"]

_SET_THE_KEY = (
    "type `export OPENAI_API_KEY=…`, or pass `--set provider.openai-chat.api_key=…`; "
    "`--model scripted:demo` works without a key"
)


class OpenAiChatProvider:
    """Chat Completions at one base URL.

    Raises ConfigurationError for settings that can't work. `transport`, `sleep` (seconds), `wall_clock` (seconds
    since the epoch) and `limits` are there for tests.
    """

    def __init__(
        self,
        settings: OpenAiChatSettings,
        *,
        provider_id: str = "openai-chat",
        live_calls_allowed: bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        wall_clock: Callable[[], float] = time.time,
        limits: Limits = Limits(),
    ) -> None:
        self._settings = settings
        self._provider_id = provider_id
        base_url = checked_url(settings.base_url, f"provider.{provider_id}.base_url")
        self._is_openai = base_url == DEFAULT_BASE_URL
        self._needs_key = self._is_openai and not settings.api_key.strip()
        self._may_call = live_calls_allowed or is_loopback(base_url) or transport is not None
        self._base_url = base_url
        self._encoder = RequestEncoder(settings)
        self._new_decoder = partial(ChatDecoder, strict_identity=settings.strict_identity)
        self._capability = ModelCapability(
            context_window=settings.context_window,
            structured_output=settings.structured_output,
            images=settings.images,
            reasoning_efforts=settings.reasoning_efforts,
            endpoint=without_query(base_url),  # some gateways want their key in the query
        )
        self._service = StreamingService(
            provider=provider_id,
            url=with_path(base_url, "/chat/completions"),
            headers=_headers(settings, provider_id),
            secrets=[settings.api_key.strip(), *settings.headers.values()],
            timeouts=Timeouts(
                connect_s=settings.connect_timeout_s, chunk_s=settings.chunk_timeout_s, deadline_s=settings.deadline_s
            ),
            limits=limits,
            retry=RetryPolicy(mode=settings.retry, max_attempts=settings.max_attempts),
            capture=settings.capture_requests,
            limiter=_limiter(settings),
            auth_hint=f"is the key right? {_SET_THE_KEY}",
            http2=settings.http2,
            transport=transport,
            sleep=sleep,
            wall_clock=wall_clock,
        )

    def __repr__(self) -> str:
        return f"<OpenAiChatProvider at {without_query(self._base_url)}>"

    def capability(self, model: str) -> ModelCapability:
        """What the settings say, and where OpenAI itself answers, the table; a model elsewhere is another one."""
        return self._capability.over(OPENAI_MODELS.capability(model)) if self._is_openai else self._capability

    async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
        """Ask, always streaming.

        Raises `LlmCallFailed`, or `ConfigurationError` where a key, or the permission for live calls, is missing.
        """
        require_call(
            self._provider_id,
            self._base_url,
            may_call=self._may_call,
            needs_key=self._needs_key,
            set_the_key=_SET_THE_KEY,
        )
        return await self._service.call(self._encoder.pieces(request), self._new_decoder, send)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._service.aclose()


def open_openai_chat(context: ProviderContext) -> OpenAiChatProvider:
    """The provider for a host's settings."""
    return OpenAiChatProvider(
        context.settings, provider_id=context.provider_id, live_calls_allowed=context.live_calls_allowed
    )


def require_call(provider_id: str, base_url: str, *, may_call: bool, needs_key: bool, set_the_key: str) -> None:
    """Raise `ConfigurationError` where a key, or the permission for live calls, is missing."""
    base_url = without_query(base_url)
    if not may_call:
        raise ConfigurationError(
            f"{provider_id}: a call to {base_url} may cost money, and live calls aren't allowed here "
            "(`live_calls_allowed` is false, as in tests): set `LASH_ALLOW_LIVE_CALLS=1` if that is meant, or use "
            "a service on this machine, or `scripted:demo`"
        )
    if needs_key:
        # The user's to mend before anything is asked, so no failed turn is worth keeping.
        raise ConfigurationError(f"{provider_id}: there is no API key for {base_url}: {set_the_key}")


def _limiter(settings: OpenAiChatSettings | OpenAiSettings) -> RateLimiter | None:
    limits = RateLimits(
        concurrent=settings.max_concurrent, requests=settings.requests_per_minute, tokens=settings.tokens_per_minute
    )
    return None if limits == RateLimits() else RateLimiter(limits)


def _headers(settings: OpenAiChatSettings | OpenAiSettings, provider_id: str) -> dict[str, str]:
    prefix = f"provider.{provider_id}"
    headers = {"content-type": "application/json", "user-agent": "lash"}
    if key := checked_header("authorization", settings.api_key, f"{prefix}.api_key"):
        headers["authorization"] = f"Bearer {key}"
    for name, setting in (("openai-organization", "organization"), ("openai-project", "project")):
        if value := checked_header(name, getattr(settings, setting), f"{prefix}.{setting}"):
            headers[name] = value
    for name, value in settings.headers.items():
        headers[name.lower()] = checked_header(name, value, f"{prefix}.headers")
    return headers
