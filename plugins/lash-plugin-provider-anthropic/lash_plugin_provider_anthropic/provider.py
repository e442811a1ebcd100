"""The provider `anthropic`: settings checked, requests encoded, answers decoded; the kit does the rest."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

import anyio
from attrs import evolve

from lash_hookspecs.errors import ConfigurationError, LlmCallFailed
from lash_hookspecs.llm import LlmCallError, LlmEventSender, LlmRequest, LlmResponse, ProviderContext
from lash_hookspecs.models import ModelCapability
from lash_plugin_provider_anthropic.decode import MessageDecoder
from lash_plugin_provider_anthropic.encode import RequestEncoder
from lash_plugin_provider_anthropic.models import ANTHROPIC_MODELS, for_an_hour
from lash_plugin_provider_anthropic.settings import DEFAULT_BASE_URL, AnthropicSettings
from lash_plugin_provider_anthropic.stale import StaleThinking, is_stale, recovered, refused_again
from lash_provider_kit.opening import CallGate, headers_of, service_of
from lash_provider_kit.reader import Limits
from lash_provider_kit.redact import checked_url, with_path, without_query
from lash_provider_kit.token_counts import tier_of

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
        self._tier = tier_of(settings.extra_body.get("speed"))  # how a `service_tier` is priced is agreed upon apart
        base_url = checked_url(settings.base_url, f"provider.{provider_id}.base_url")
        if owned := [name for name in _OWN_FIELDS if name in settings.extra_body]:
            raise ConfigurationError(f"`provider.{provider_id}.extra_body` can't set `{owned[0]}`: each request does")
        secrets = [settings.api_key, settings.auth_token]
        self._is_anthropic = base_url == DEFAULT_BASE_URL
        self._gate = CallGate(
            provider_id,
            base_url,
            live_calls_allowed=live_calls_allowed,
            transport=transport,
            missing="API key" if self._is_anthropic and not any(map(str.strip, secrets)) else "",
            hint=_SET_THE_KEY,
        )
        self._endpoint = without_query(base_url)  # some gateways want their key in the query
        self._encoder = RequestEncoder(settings, provider_id=provider_id, endpoint=self._endpoint, models=models)
        self._stale = StaleThinking()
        self._is_for_an_hour = settings.cache == "long"
        self._new_decoder = partial(MessageDecoder, cached_for_an_hour=self._is_for_an_hour)
        # Most gateways' documentation gives a base URL that has the version in it.
        path = "/messages" if self._endpoint.rstrip("/").endswith("/v1") else "/v1/messages"
        own = {
            "anthropic-version": ("headers", API_VERSION),
            "x-api-key": ("api_key", settings.api_key),
            "authorization": ("auth_token", settings.auth_token),
            "anthropic-beta": ("betas", ",".join(settings.betas)),
        }
        self._service = service_of(
            settings,
            provider=provider_id,
            url=with_path(base_url, path),
            headers=headers_of(settings, provider_id, own),
            secrets=secrets,
            limits=limits,
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
        elif self._is_for_an_hour and known.prices is not None:
            known = evolve(known, prices=for_an_hour(known.prices))
        said = self._models.get(model)
        known = known if said is None else said.over(known)
        return evolve(known, endpoint=self._endpoint, service_tier=self._tier)

    async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
        """Ask, always streaming.

        Raises `LlmCallFailed`, or `ConfigurationError` where a key, or the permission for live calls, is missing.
        """
        self._gate.check()
        stale = self._stale.until(request)
        pieces = self._encoder.pieces(request, stale)
        refused: LlmCallError | None = None
        try:
            answer = await self._service.call(pieces, self._new_decoder, send)
        except LlmCallFailed as failed:
            if not is_stale(failed.error) or failed.error.failed_attempts:
                raise
            stale = len(request.messages)
            bare = self._encoder.pieces(request, stale)
            if b"".join(bare) == b"".join(pieces):
                raise  # there was nothing to leave out
            refused = failed.error
        if refused is not None:  # outside of the `except`: the second failure has no chain behind it
            try:
                answer = recovered(await self._service.call(bare, self._new_decoder, send), refused)
            except LlmCallFailed as failed:
                raise refused_again(failed, refused) from None
            self._stale.found(request)  # now that it helped: the refusal may have been about something else
        told = self._encoder.receipt(request, stale)
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
