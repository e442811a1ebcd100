"""Calls over HTTP/2 that nobody waits for any more: the service is told so.

On a connection of its own, closing it says that. Here calls share one, and httpcore lets go of a stream without a word:
the service would go on, and be paid for it, and what it sent would use the connection's window up. httpcore has no
public way to reset a stream, nor httpx one to say what a connection is made of, so their insides are looked into.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import httpx

from lash_provider_kit.whole_writes import GRACE_S, WholeWrites

__all__ = ["Http2Transport", "reset_given_up"]

log = logging.getLogger("lash.provider")

_CANCEL = 8
"""The code of a reset by which a client says that it doesn't need the stream any more."""


class Http2Transport(httpx.AsyncBaseTransport):
    """httpx's own transport, whose given up streams are reset, and on whose connections all is written whole.

    Wrap it before its first request.
    """

    def __init__(self, inner: httpx.AsyncHTTPTransport) -> None:
        self._inner = inner
        pool: Any = inner._pool
        pool._network_backend = WholeWrites(pool._network_backend)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it."""
        try:
            response = await self._inner.handle_async_request(request)
        except BaseException:
            # While another call's body is stalled, nothing can be written: the next one who writes sends this, too.
            with anyio.move_on_after(GRACE_S, shield=True):
                await self._reset(request)
            raise
        response.stream = _Reset(response.stream, self, request)
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        await self._inner.aclose()

    async def _reset(self, request: httpx.Request) -> None:
        """Reset the streams to which nobody listens.

        It is a courtesy: what fails of it, as on a connection that is broken, must not replace why the call ended.
        """
        for connection in _connections(self._inner):
            try:
                if _reset_streams(connection):
                    await connection._write_outgoing_data(request)
            except Exception as exc:
                log.debug("a stream that nobody reads couldn't be reset: %r", exc)


def reset_given_up(client: httpx.AsyncClient) -> None:
    """The same for all transports of a client, which it has made for the proxies of the environment."""
    client._transport = _over(client._transport)
    for pattern, each in client._mounts.items():
        client._mounts[pattern] = each and _over(each)


def _over(inner: httpx.AsyncBaseTransport) -> httpx.AsyncBaseTransport:
    return Http2Transport(inner) if isinstance(inner, httpx.AsyncHTTPTransport) else inner


class _Reset(httpx.AsyncByteStream):
    """An answer's bytes. Closed before its end, it is reset."""

    def __init__(self, stream: Any, transport: Http2Transport, request: httpx.Request) -> None:
        self._stream, self._transport, self._request = stream, transport, request

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            await self._transport._reset(self._request)


def _connections(transport: httpx.AsyncHTTPTransport) -> Iterator[Any]:
    """Those of httpcore's that speak HTTP/2; what stands around one, a tunnel say, has it as its `_connection`."""
    for outer in transport._pool.connections:
        found: Any = outer
        while found is not None and not hasattr(found, "_h2_state"):
            found = getattr(found, "_connection", None)
        if found is not None and not found.is_closed():
            yield found


def _reset_streams(connection: Any) -> bool:
    """Whether there were any: open ones whose events httpcore doesn't keep. What they sent unread is acknowledged."""
    http, listened = connection._h2_state, connection._events
    left = [no for no, stream in http.streams.items() if no not in listened and not stream.closed]
    for no in left:
        window = http.streams[no]._inbound_window_manager
        unread = window.max_window_size - window.current_window_size - window._bytes_processed
        if unread > 0:
            http.acknowledge_received_data(unread, no)
        http.reset_stream(no, error_code=_CANCEL)
    return bool(left)
