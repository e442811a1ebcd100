"""The provider `openai-chat`: settings checked, requests encoded, answers decoded; the kit does the rest."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

import anyio
from attrs import evolve

from lash_hookspecs.llm import (
    LlmEventSender,
    LlmRequest,
    LlmResponse,
    ProviderContext,
)
from lash_hookspecs.models import ModelCapability
from lash_plugin_provider_openai.chat_models import chat_capability
from lash_plugin_provider_openai.decode import ChatDecoder
from lash_plugin_provider_openai.encode import RequestEncoder, conversation_key
from lash_plugin_provider_openai.settings import DEFAULT_BASE_URL, OpenAiChatSettings
from lash_provider_kit.opening import CallGate, headers_of, service_of
from lash_provider_kit.reader import Limits
from lash_provider_kit.redact import checked_url, with_path, without_query

if TYPE_CHECKING:
    import httpx

    from lash_plugin_provider_openai.responses_settings import OpenAiSettings

__all__ = ["OpenAiChatProvider", "open_openai_chat", "openai_headers"]

_SET_THE_KEY = (
    "type `export OPENAI_API_KEY=…`, or pass `--set provider.openai-chat.api_key=…`; "
    "`--model scripted:demo` works without a key"
)


class OpenAiChatProvider:
    """Chat Completions at one base URL.

    Raises ConfigurationError for settings that can't work. `models` is what the user says of models. `transport`,
    `sleep` (seconds), `wall_clock` (seconds since the epoch) and `limits` are there for tests.
    """

    def __init__(
        self,
        settings: OpenAiChatSettings,
        *,
        provider_id: str = "openai-chat",
        live_calls_allowed: bool = True,
        models: Mapping[str, ModelCapability] = MappingProxyType({}),
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        wall_clock: Callable[[], float] = time.time,
        limits: Limits = Limits(),
    ) -> None:
        base_url = checked_url(settings.base_url, f"provider.{provider_id}.base_url")
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
        self._base_url = base_url
        self._settings = settings
        self._models = models
        self._capabilities: dict[str, ModelCapability] = {}
        self._encoder = RequestEncoder(settings, self.capability)
        replayed = (
            settings.reasoning_replay if settings.reasoning_replay in ("reasoning", "reasoning_content") else None
        )
        self._new_decoder = partial(ChatDecoder, strict_identity=settings.strict_identity, replayed=replayed)
        self._service = service_of(
            settings,
            provider=provider_id,
            url=with_path(base_url, "/chat/completions"),
            headers=openai_headers(settings, provider_id),
            secrets=[settings.api_key],
            limits=limits,
            auth_hint=f"is the key right? {_SET_THE_KEY}",
            transport=transport,
            sleep=sleep,
            wall_clock=wall_clock,
        )

    def __repr__(self) -> str:
        return f"<OpenAiChatProvider at {without_query(self._base_url)}>"

    def capability(self, model: str) -> ModelCapability:
        """What the user says, the settings, and where OpenAI itself answers, the table: once, since each turn asks."""
        known = self._capabilities.get(model)
        if known is None:
            known = self._capabilities[model] = chat_capability(
                self._settings,
                model,
                self._models,
                is_openai=self._is_openai,
                endpoint=without_query(self._base_url),  # some gateways want their key in the query
            )
        return known

    async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
        """Ask, always streaming.

        Raises `LlmCallFailed`, or `ConfigurationError` where a key, or the permission for live calls, is missing.
        """
        self._gate.check()
        headers: Mapping[str, str] = {}
        if request.scope is not None and self._settings.session_affinity == "header":
            named = conversation_key(request.scope, header=True)
            headers = {"session_id": named, "x-client-request-id": named}
        answer = await self._service.call(self._encoder.pieces(request), self._new_decoder, send, headers=headers)
        told = self._encoder.receipt(request)
        return evolve(answer, generation_receipt=told) if told else answer

    async def aclose(self) -> None:
        """Close all connections."""
        await self._service.aclose()


def open_openai_chat(context: ProviderContext) -> OpenAiChatProvider:
    """The provider for a host's settings."""
    return OpenAiChatProvider(
        context.settings,
        provider_id=context.provider_id,
        live_calls_allowed=context.live_calls_allowed,
        models=context.models,
    )


def openai_headers(settings: OpenAiChatSettings | OpenAiSettings, provider_id: str) -> dict[str, str]:
    """The headers of every request to either API."""
    return headers_of(
        settings,
        provider_id,
        {
            "authorization": ("api_key", settings.api_key),
            "openai-organization": ("organization", settings.organization),
            "openai-project": ("project", settings.project),
        },
    )
