"""The provider `google`: settings checked, requests encoded, answers decoded; the kit does the rest."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
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
from lash_plugin_provider_google.decode import GeminiDecoder
from lash_plugin_provider_google.encode import RequestEncoder
from lash_plugin_provider_google.endpoint import endpoint_of
from lash_plugin_provider_google.failures import refine
from lash_plugin_provider_google.models import Model, models_of
from lash_plugin_provider_google.options import OptionsEncoder
from lash_plugin_provider_google.settings import GoogleSettings
from lash_plugin_provider_google.tokens import tokens_of
from lash_provider_kit.opening import CallGate, headers_of, service_of
from lash_provider_kit.reader import Limits
from lash_provider_kit.redact import checked_header
from lash_provider_kit.token_counts import tier_of

if TYPE_CHECKING:
    import httpx

__all__ = ["GoogleProvider", "open_google"]

_SET_THE_KEY = (
    "type `export GEMINI_API_KEY=…`, or pass `--set provider.google.api_key=…`; "
    "`--model scripted:demo` works without a key"
)
_SET_A_TOKEN = (
    "set `provider.google.project`, and `provider.google.token_command` to `gcloud auth print-access-token`, "
    "or `provider.google.api_key`"
)
_UNKNOWN = Model()


class GoogleProvider:
    """Gemini at one base URL.

    `models` is what the user says of models. Raises ConfigurationError for settings that can't work. `transport`,
    `sleep` (seconds), `wall_clock` (seconds since the epoch) and `limits` are there for tests.
    """

    def __init__(
        self,
        settings: GoogleSettings,
        *,
        provider_id: str = "google",
        models: Mapping[str, ModelCapability] = {},
        live_calls_allowed: bool = True,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        wall_clock: Callable[[], float] = time.time,
        limits: Limits = Limits(),
    ) -> None:
        self._settings = settings
        self._tier = tier_of(settings.extra_body.get("serviceTier"))
        self._endpoint = endpoint_of(settings, provider_id)
        # Vertex AI has other prices in some of its regions, and a gateway its own.
        priced = self._endpoint.is_google and (not settings.vertex or settings.location == "global")
        self._models = models_of(models, settings.quirks, priced=priced)
        tokens = tokens_of(settings.token_command, provider_id, wall_clock)
        headers = _headers(settings, provider_id)
        has_key = "x-goog-api-key" in headers
        # Vertex AI knows by a key whose project it is, and not by a token.
        named = has_key or not settings.vertex or bool(settings.project.strip())
        has_any = has_key or tokens is not None or "authorization" in headers
        needs_key = self._endpoint.is_google and not (named and has_any)
        self._encoder = RequestEncoder(self._endpoint, OptionsEncoder(settings), provider_id)
        hint = _SET_A_TOKEN if settings.vertex else _SET_THE_KEY
        what = "API key, or project and token," if settings.vertex else "API key or token"
        self._gate = CallGate(
            provider_id,
            self._endpoint.name,
            live_calls_allowed=live_calls_allowed,
            transport=transport,
            missing=what if needs_key else "",
            hint=hint,
        )
        self._service = service_of(
            settings,
            provider=provider_id,
            url=self._endpoint.url,
            headers=headers,
            secrets=[settings.api_key, settings.access_token],
            limits=limits,
            auth_hint=f"is the {'key' if has_key else 'token'} right? {hint}",
            refine=refine,
            credentials=tokens,
            transport=transport,
            sleep=sleep,
            wall_clock=wall_clock,
        )

    def __repr__(self) -> str:
        return f"<GoogleProvider at {self._endpoint.name}>"

    def capability(self, model: str) -> ModelCapability:
        """What the user says of it, and the table."""
        return evolve(self._model(model).capability, endpoint=self._endpoint.name, service_tier=self._tier)

    def _model(self, name: str) -> Model:
        return self._models.get(name.removeprefix("models/"), _UNKNOWN)

    async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
        """Ask, streaming unless the settings say otherwise.

        Raises `LlmCallFailed`, or `ConfigurationError` where a key, or the permission for live calls, is missing.
        """
        self._gate.check()
        return await self._service.call(
            self._encoder.pieces(request, self._model(request.model)),
            partial(GeminiDecoder, _salt(request)),
            send,
            url=self._endpoint.url_of(request.model, stream=self._settings.stream),
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self._service.aclose()


def open_google(context: ProviderContext) -> GoogleProvider:
    """The provider for a host's settings."""
    return GoogleProvider(
        context.settings,
        provider_id=context.provider_id,
        models=context.models,
        live_calls_allowed=context.live_calls_allowed,
    )


def _headers(settings: GoogleSettings, provider_id: str) -> dict[str, str]:
    key = checked_header("x-goog-api-key", settings.api_key, f"provider.{provider_id}.api_key")
    has_token = settings.access_token.strip() or settings.token_command.strip()
    own = {
        "authorization": ("access_token", settings.access_token),
        "x-goog-api-key": ("api_key", "" if has_token else key),
    }
    return headers_of(settings, provider_id, own)


def _salt(request: LlmRequest) -> str:
    """What tells this request from all others of its conversation, and is the same when it is sent again."""
    scope = request.scope
    return f"{scope.session_id}\n{scope.request_id}" if scope is not None else str(len(request.messages))
