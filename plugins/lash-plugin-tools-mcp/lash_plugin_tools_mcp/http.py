"""A server of streamable HTTP: the SDK's transport over a client that lets in only so much."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx2
from mcp.client.streamable_http import streamable_http_client

from lash_plugin_tools_mcp.ends import End
from lash_plugin_tools_mcp.options import Auth, expanded

if TYPE_CHECKING:
    from mcp.client._transport import TransportStreams
    from mcp.shared.auth import OAuthClientInformationFull, OAuthToken

__all__ = ["http"]

CONNECT_S = 15.0


class _Measured(httpx2.AsyncByteStream):
    """A body that ends in an error where it gets longer than `limit`. No generator: trio minds one that isn't ended."""

    def __init__(self, body: httpx2.AsyncByteStream, limit: int) -> None:
        self._body = body
        self._left = self._limit = limit
        self._pieces: AsyncIterator[bytes] | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._pieces = aiter(self._body)
        return self

    async def __anext__(self) -> bytes:
        assert self._pieces is not None
        piece = await anext(self._pieces)
        self._left -= len(piece)
        if self._left < 0:
            told = f"has more than {self._limit:,} bytes (`max_message_bytes`)" if self._limit else "is compressed"
            raise httpx2.StreamError(f"the answer {told}")
        return piece

    async def aclose(self) -> None:
        close = getattr(self._pieces, "aclose", None)
        if close is not None:
            await close()
        await self._body.aclose()


def _limiting(limit: int, end: End) -> Callable[[httpx2.Response], Awaitable[None]]:
    """A hook for responses: the SDK limits the events of a stream, but reads any other body whole."""

    async def measure(response: httpx2.Response) -> None:
        if response.is_error:
            end.hint = f"HTTP {response.status_code} {response.reason_phrase}".strip()
        kind = response.headers.get("content-type", "")
        coded = response.headers.get("content-encoding", "identity") != "identity"  # of which nobody knows the size
        if coded or not kind.startswith("text/event-stream"):
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            response.stream = _Measured(response.stream, 0 if coded else limit)

    return measure


class _Tokens:
    """OAuth tokens, for as long as the host lives."""

    def __init__(self) -> None:
        self._tokens: OAuthToken | None = None
        self._client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self._tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self._tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self._client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self._client = client_info


@asynccontextmanager
async def http(
    url: str, headers: Mapping[str, str], auth: Auth, limit: int, idle_s: float, end: End
) -> AsyncIterator[TransportStreams]:
    """Yield the streams that the SDK talks to a server with. Nothing is sent before it does."""
    given = {"Accept-Encoding": "identity", **headers}
    if auth.bearer:
        given["Authorization"] = f"Bearer {expanded(auth.bearer)}"
    timeout = httpx2.Timeout(CONNECT_S, read=idle_s)
    credentials = _credentials(url, auth) if auth.client_id else None
    hooks = {"response": [_limiting(limit, end)]}
    client = httpx2.AsyncClient(headers=given, auth=credentials, timeout=timeout, event_hooks=hooks)
    try:
        async with client, streamable_http_client(url, http_client=client, max_sse_event_size=limit) as streams:
            yield streams
    finally:
        end.tell("it was left")


def _credentials(url: str, auth: Auth) -> httpx2.Auth:
    from mcp.client.auth.extensions.client_credentials import ClientCredentialsOAuthProvider

    return ClientCredentialsOAuthProvider(
        server_url=url,
        storage=_Tokens(),
        client_id=expanded(auth.client_id),
        client_secret=expanded(auth.client_secret),
        scope=" ".join(auth.scopes) or None,
        issuer=expanded(auth.issuer),
    )
