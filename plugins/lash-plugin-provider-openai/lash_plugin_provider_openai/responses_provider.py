"""The provider `openai`: the Responses API at one base URL."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

import anyio
from attrs import evolve

from lash_hookspecs.llm import LlmEventSender, LlmRequest, LlmResponse, ProviderContext
from lash_hookspecs.models import UNKNOWN_MODEL, ModelCapability
from lash_plugin_provider_openai.models import OPENAI_MODELS
from lash_plugin_provider_openai.provider import openai_headers
from lash_plugin_provider_openai.responses_decode import ResponsesDecoder
from lash_plugin_provider_openai.responses_encode import ResponsesEncoder
from lash_plugin_provider_openai.responses_settings import OpenAiSettings
from lash_plugin_provider_openai.settings import DEFAULT_BASE_URL
from lash_provider_kit.opening import CallGate, service_of
from lash_provider_kit.reader import Limits
from lash_provider_kit.redact import checked_url, with_path, without_query
from lash_provider_kit.token_counts import tier_of

if TYPE_CHECKING:
    import httpx

__all__ = ["OpenAiProvider", "open_openai"]

_SET_THE_KEY = (
    "type `export OPENAI_API_KEY=…`, or pass `--set provider.openai.api_key=…`; "
    "`--model scripted:demo` works without a key"
)


class OpenAiProvider:
    """Raises ConfigurationError for settings that can't work. `models` is what the user says of models.

    `transport`, `sleep` (seconds), `wall_clock` (seconds since the epoch) and `limits` are there for tests.
    """

    def __init__(
        self,
        settings: OpenAiSettings,
        *,
        provider_id: str = "openai",
        live_calls_allowed: bool = True,
        models: Mapping[str, ModelCapability] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        wall_clock: Callable[[], float] = time.time,
        limits: Limits = Limits(),
    ) -> None:
        self._base_url = base_url = checked_url(settings.base_url, f"provider.{provider_id}.base_url")
        self._is_openai = base_url == DEFAULT_BASE_URL
        missing = "API key" if self._is_openai and not settings.api_key.strip() else ""
        self._gate = CallGate(
            provider_id,
            base_url,
            live_calls_allowed=live_calls_allowed,
            transport=transport,
            missing=missing,
            hint=_SET_THE_KEY,
        )
        self._models = models or {}
        self._tier = tier_of(settings.extra_body.get("service_tier"))
        self._encoder = ResponsesEncoder(settings, self.capability)
        self._service = service_of(
            settings,
            provider=provider_id,
            url=with_path(base_url, "/responses"),
            headers=openai_headers(settings, provider_id),
            secrets=[settings.api_key],
            limits=limits,
            auth_hint=f"is the key right? {_SET_THE_KEY}",
            transport=transport,
            sleep=sleep,
            wall_clock=wall_clock,
        )

    def __repr__(self) -> str:
        return f"<OpenAiProvider at {without_query(self._base_url)}>"

    def capability(self, model: str) -> ModelCapability:
        """What the user says, and where OpenAI itself answers, the table; a model elsewhere is another one."""
        known = OPENAI_MODELS.capability(model, self._models)
        if not self._is_openai:
            known = self._models.get(model, UNKNOWN_MODEL)
        return evolve(known, endpoint=without_query(self._base_url), service_tier=self._tier)

    async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
        """Ask, always streaming.

        Raises `LlmCallFailed`, or `ConfigurationError` where a key, or the permission for live calls, is missing.
        """
        self._gate.check()
        answer = await self._service.call(self._encoder.pieces(request), ResponsesDecoder, send)
        told = self._encoder.receipt(request)
        return evolve(answer, generation_receipt=told) if told else answer

    async def aclose(self) -> None:
        """Close all connections."""
        await self._service.aclose()


def open_openai(context: ProviderContext) -> OpenAiProvider:
    """The provider for a host's settings."""
    return OpenAiProvider(
        context.settings,
        provider_id=context.provider_id,
        live_calls_allowed=context.live_calls_allowed,
        models=context.models,
    )
