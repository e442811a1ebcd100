"""aiohttp's connections, with nothing of httpx between: its requests and answers cost a third as much as the rest.

Times are the session's, not the request's, but for the writing of a body, which aiohttp doesn't time. Errors stay
aiohttp's own, which say more than what httpx has for them; they are `aiohttp.ClientError` or `OSError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from inspect import signature
from typing import Any

import aiohttp
import httpx
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict
from yarl import URL

from lash_provider_kit.aiohttp_heads import LenientHandler
from lash_provider_kit.carriers import JOINED, few_pieces

__all__ = ["UNASKED", "OverAiohttp", "connector", "head_limits"]

UNASKED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""What aiohttp would say of itself where the caller says nothing; httpx's own connections add no header either."""

_HEAD = 100 * 1024
"""What httpx's own connections take for all of an answer's head."""
_HEADERS = 1000


def head_limits() -> dict[str, Any]:
    """A session's limits for an answer's head: what httpx's own connections take, these mustn't refuse.

    Versions of aiohttp before 3.13.4 don't count headers.
    """
    limits = {"max_line_size": _HEAD, "max_field_size": _HEAD, "max_headers": _HEADERS}
    taken = signature(aiohttp.ClientSession).parameters
    return {name: limit for name, limit in limits.items() if name in taken}


def connector(**options: Any) -> aiohttp.TCPConnector:
    """One that reads all heads that httpx's own connections read. aiohttp has no public way to say what reads them."""
    made = aiohttp.TCPConnector(**options)
    setattr(made, "_factory", partial(LenientHandler, loop=asyncio.get_running_loop()))  # noqa: B010 - it isn't typed so
    return made


class OverAiohttp:
    """Sends requests over a session, which is made with the first one: aiohttp wants a running loop for that."""

    def __init__(
        self,
        make_session: Callable[[], aiohttp.ClientSession],
        *,
        url: httpx.URL,
        headers: Sequence[tuple[str, str]],
        write_s: float,
    ) -> None:
        self._make_session = make_session
        self._headers = CIMultiDict(headers)
        self._write_s = write_s
        self._session: aiohttp.ClientSession | None = None
        self._url = _as_written(url)
        self._urls: dict[str, URL] = {}  # a service has few of them

    async def post(self, body: Sequence[bytes], headers: Mapping[str, str], url: str | None) -> AiohttpAnswer:
        """The status and headers of the answer; what is in it is read from the network by whoever iterates over it."""
        session = self._session
        if session is None:
            session = self._session = self._make_session()
        size = sum(map(len, body))
        sized = self._headers.copy()
        sized["content-length"] = str(size)
        if headers:
            sized.update(headers)
        response = await session.post(
            self._url if url is None else self._parsed(url),
            headers=sized,
            data=_Body(body, self._write_s) if size > JOINED else b"".join(body),
            allow_redirects=False,
        )
        return AiohttpAnswer(response)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    def _parsed(self, url: str) -> URL:
        found = self._urls.get(url)
        if found is None:
            found = self._urls[url] = _as_written(httpx.URL(url))
        return found


class WriteTimeout(TimeoutError):
    """The service took nothing of a body for too long."""


class _Body(aiohttp.Payload):
    """A body whose pieces must each be taken in time: aiohttp waits for ever, and times only what comes after it."""

    def __init__(self, pieces: Sequence[bytes], write_s: float) -> None:
        super().__init__(pieces)
        self._pieces = pieces
        self._write_s = write_s

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        raise TypeError("a streamed body is written, never shown")

    async def write(self, writer: AbstractStreamWriter) -> None:
        transport, now = writer.transport, asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(None) as limit:
                for piece in few_pieces(self._pieces):
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


class _Headers:
    """aiohttp's headers, read as httpx reads them."""

    __slots__ = ("_headers",)

    def __init__(self, headers: Any) -> None:
        self._headers = headers

    def get(self, key: str, default: Any = None, /) -> Any:
        values = self._headers.getall(key, None)
        if values is None:
            return default
        return _readable(values[0] if len(values) == 1 else ", ".join(values))


def _readable(text: str) -> str:
    # What is no UTF-8 came through as half surrogate pairs, which nothing can store.
    if text.isascii():
        return text
    value = text.encode("utf-8", "surrogateescape")
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


class AiohttpAnswer:
    """An answer. It is its own `stream`, since a generator costs more to start than to run."""

    __slots__ = ("_response", "headers", "status_code", "stream")

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status_code = response.status
        self.headers = _Headers(response.headers)
        self.stream: Any = self

    @property
    def reason_phrase(self) -> str:
        """The words beside the status."""
        return _readable(self._response.reason or "")

    @property
    def is_success(self) -> bool:
        """Whether the status is one of 200 to 299."""
        return 200 <= self.status_code < 300

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if read := await self._response.content.readany():
            return read
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Let go of the connection: one with something unread on it is closed, any other one kept."""
        self._response.release()
        await self._response.wait_for_close()
