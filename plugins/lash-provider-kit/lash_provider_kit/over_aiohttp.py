"""aiohttp's connections as an httpx transport.

Times are the session's, not the request's. Errors stay aiohttp's own, which say more than what httpx has for them; they
are `aiohttp.ClientError` or `OSError`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import aiohttp
import httpx
from yarl import URL

__all__ = ["AiohttpTransport"]

# What aiohttp would say of itself where the caller says nothing; httpx's own connections add no header either.
_UNASKED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends requests over a session, which is made with the first one: aiohttp wants a running loop for that."""

    def __init__(self, make_session: Callable[[], aiohttp.ClientSession]) -> None:
        self._make_session = make_session
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The status and headers of the answer; what is in it is read from the network by whoever iterates over it."""
        if self._session is None:
            self._session = self._make_session()
        try:
            data: bytes | httpx.AsyncByteStream = request.content
        except httpx.RequestNotRead:
            assert isinstance(request.stream, httpx.AsyncByteStream)
            data = request.stream
        response = await self._session.request(
            request.method,
            _as_written(request.url),
            headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw],
            skip_auto_headers=_UNASKED,
            data=data,
            allow_redirects=False,
        )
        return httpx.Response(
            response.status,
            headers=response.raw_headers,
            stream=_Content(response),
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": (response.reason or "").encode()},
        )

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


def _as_written(url: httpx.URL) -> URL:
    """The URL that httpx's connections ask for.

    `encoded` keeps yarl from writing it anew, `%3A` as `:`. Name and password stay out: aiohttp would make a header of
    them, or refuse the request for having one.
    """
    return URL(f"{url.scheme}://{url.netloc.decode('ascii')}{url.raw_path.decode('ascii')}", encoded=True)


class _Content(httpx.AsyncByteStream):
    """What an answer holds, read by read. Its own iterator, since a generator costs more to start than to run."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if read := await self._response.content.readany():
            return read
        raise StopAsyncIteration

    async def aclose(self) -> None:
        # A connection with something unread on it is closed, any other one kept.
        self._response.release()
        await self._response.wait_for_close()
