"""The provider `anthropic`: settings checked, requests encoded, answers decoded; the kit does the rest."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import anyio
from attrs import evolve

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.llm import LlmEventSender, LlmRequest, LlmResponse, ProviderContext
from lash_hookspecs.models import ModelCapability
from lash_plugin_provider_anthropic.decode import MessageDecoder
from lash_plugin_provider_anthropic.encode import RequestEncoder
from lash_plugin_provider_anthropic.models import ANTHROPIC_MODELS
from lash_plugin_provider_anthropic.settings import DEFAULT_BASE_URL, AnthropicSettings
from lash_provider_kit.limiter import RateLimiter, RateLimits
from lash_provider_kit.reader import Limits
from lash_provider_kit.redact import checked_header, checked_url, is_loopback, with_path, without_query
from lash_provider_kit.retry import RetryPolicy
from lash_provider_kit.service import StreamingService
from lash_provider_kit.transport import Timeouts

if TYPE_CHECKING:
    import httpx

__all__ = ["API_VERSION", "AnthropicProvider", "open_anthropic"]

API_VERSION = "2023-06-01"
_SET_THE_KEY = (
    "type `export ANTHROPIC_API_KEY=…`, or pass `--set provider.anthropic.api_key=…`; "
    "`--model scripted:demo` works without a key"
)
# Ours, and a second one in the same object would be the one that counts.
_OWN_FIELDS = ("messages", "model", "stream", "system")


class AnthropicProvider:
    """Messages at one base URL.

    Raises ConfigurationError for settings that can't work. `transport`, `sleep` (seconds), `wall_clock` (seconds
    since the epoch) and `limits` are there for tests.
    """

    def __init__(
        self,
        settings: AnthropicSettings,
        *,
        provider_id: str = "anthropic",
        models: Mapping[str, ModelCapability] = MappingProxyType({}),
        live_calls_allowed: bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        wall_clock: Callable[[], float] = time.time,
        limits: Limits = Limits(),
    ) -> None:
        self._models = models
        self._provider_id = provider_id
        base_url = checked_url(settings.base_url, f"provider.{provider_id}.base_url")
        if owned := [name for name in _OWN_FIELDS if name in settings.extra_body]:
            raise ConfigurationError(f"`provider.{provider_id}.extra_body` can't set `{owned[0]}`: each request does")
        secrets = [settings.api_key.strip(), settings.auth_token.strip()]
        self._is_anthropic = base_url == DEFAULT_BASE_URL
        self._needs_key = self._is_anthropic and not any(secrets)
        self._may_call = live_calls_allowed or is_loopback(base_url) or transport is not None
        self._endpoint = without_query(base_url)  # some gateways want their key in the query
        self._encoder = RequestEncoder(settings, provider_id=provider_id, endpoint=self._endpoint, models=models)
        # Most gateways' documentation gives a base URL that has the version in it.
        path = "/messages" if self._endpoint.rstrip("/").endswith("/v1") else "/v1/messages"
        self._service = StreamingService(
            provider=provider_id,
            url=with_path(base_url, path),
            headers=_headers(settings, provider_id),
            secrets=[*secrets, *settings.headers.values()],
            timeouts=Timeouts(
                connect_s=settings.connect_timeout_s, chunk_s=settings.chunk_timeout_s, deadline_s=settings.deadline_s
            ),
            limits=limits,
            retry=RetryPolicy(mode=settings.retry, max_attempts=settings.max_attempts),
            capture=settings.capture_requests,
            limiter=_limiter(settings),
            auth_hint=f"is the key right? {_SET_THE_KEY}",
            transport=transport,
            sleep=sleep,
            wall_clock=wall_clock,
        )

    def __repr__(self) -> str:
        return f"<AnthropicProvider at {self._endpoint}>"

    def capability(self, model: str) -> ModelCapability:
        """What the table, and over it the user, says of `model`; only Anthropic itself has the table's prices."""
        known = ANTHROPIC_MODELS.capability(model)
        if not self._is_anthropic:
            known = evolve(known, prices=None)
        said = self._models.get(model)
        return evolve(known if said is None else said.over(known), endpoint=self._endpoint)

    async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
        """Ask, always streaming.

        Raises `LlmCallFailed`, or `ConfigurationError` where a key, or the permission for live calls, is missing.
        """
        if not self._may_call:
            raise ConfigurationError(
                f"{self._provider_id}: a call to {self._endpoint} may cost money, and live calls aren't allowed here "
                "(`live_calls_allowed` is false, as in tests): set `LASH_ALLOW_LIVE_CALLS=1` if that is meant, or use "
                "a service on this machine, or `scripted:demo`"
            )
        if self._needs_key:
            # The user's to mend before anything is asked, so no failed turn is worth keeping.
            raise ConfigurationError(f"{self._provider_id}: there is no API key for {self._endpoint}: {_SET_THE_KEY}")
        answer = await self._service.call(self._encoder.pieces(request), MessageDecoder, send)
        told = self._encoder.receipt(request)
        return evolve(answer, generation_receipt=told) if told else answer

    async def aclose(self) -> None:
        """Close all connections."""
        await self._service.aclose()


def open_anthropic(context: ProviderContext) -> AnthropicProvider:
    """The provider for a host's settings."""
    return AnthropicProvider(
        context.settings,
        provider_id=context.provider_id,
        models=context.models,
        live_calls_allowed=context.live_calls_allowed,
    )


def _limiter(settings: AnthropicSettings) -> RateLimiter | None:
    limits = RateLimits(
        concurrent=settings.max_concurrent, requests=settings.requests_per_minute, tokens=settings.tokens_per_minute
    )
    return None if limits == RateLimits() else RateLimiter(limits)


def _headers(settings: AnthropicSettings, provider_id: str) -> dict[str, str]:
    prefix = f"provider.{provider_id}"
    headers = {"content-type": "application/json", "user-agent": "lash", "anthropic-version": API_VERSION}
    if key := checked_header("x-api-key", settings.api_key, f"{prefix}.api_key"):
        headers["x-api-key"] = key
    if token := checked_header("authorization", settings.auth_token, f"{prefix}.auth_token"):
        headers["authorization"] = f"Bearer {token}"
    if betas := checked_header("anthropic-beta", ",".join(settings.betas), f"{prefix}.betas"):
        headers["anthropic-beta"] = betas
    for name, value in settings.headers.items():
        headers[name.lower()] = checked_header(name, value, f"{prefix}.headers")
    return headers
