"""aiohttp's connections as an httpx transport.

Times are the session's, not the request's, but for the writing of a body, which aiohttp doesn't time. Errors stay
aiohttp's own, which say more than what httpx has for them; they are `aiohttp.ClientError` or `OSError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import aiohttp
import httpx
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

__all__ = ["AiohttpTransport"]

# What aiohttp would say of itself where the caller says nothing; httpx's own connections add no header either.
_UNASKED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends requests over a session, which is made with the first one: aiohttp wants a running loop for that."""

    def __init__(self, make_session: Callable[[], aiohttp.ClientSession], *, write_s: float) -> None:
        self._make_session = make_session
        self._write_s = write_s
        self._session: aiohttp.ClientSession | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The status and headers of the answer; what is in it is read from the network by whoever iterates over it."""
        if self._session is None:
            self._session = self._make_session()
        try:
            data: bytes | _Body = request.content
        except httpx.RequestNotRead:
            assert isinstance(request.stream, httpx.AsyncByteStream)
            data = _Body(request.stream, self._write_s)
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


class WriteTimeout(TimeoutError):
    """The service took nothing of a body for too long."""


class _Body(aiohttp.Payload):
    """A body whose pieces must each be taken in time: aiohttp waits for ever, and times only what comes after it."""

    def __init__(self, stream: httpx.AsyncByteStream, write_s: float) -> None:
        super().__init__(stream)
        self._stream = stream
        self._write_s = write_s

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a streamed body is written, never shown")

    async def write(self, writer: AbstractStreamWriter) -> None:
        transport, now = writer.transport, asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(None) as limit:
                async for piece in self._stream:
                    limit.reschedule(now() + self._write_s)
                    await writer.write(piece)
                limit.reschedule(now() + self._write_s)
                await writer.drain()
        except BaseException as exc:
            if transport is not None:
                transport.abort()  # closing it would wait until the rest is taken
            if isinstance(exc, TimeoutError):
                raise WriteTimeout from None
            raise


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
