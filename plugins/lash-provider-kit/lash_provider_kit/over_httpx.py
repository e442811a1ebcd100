"""httpx's connections, or whatever a test puts in their place, driven directly."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from functools import cache

import httpx

from lash_provider_kit.carriers import JOINED, few_pieces

__all__ = ["OverHttpx"]


class OverHttpx:
    """Sends requests by `handle`, a method of `owner`. `timeout` is httpx's extension of that name, in seconds."""

    def __init__(
        self,
        handle: Callable[[httpx.Request], Awaitable[httpx.Response]],
        owner: httpx.AsyncBaseTransport | httpx.AsyncClient,
        *,
        url: httpx.URL,
        headers: Sequence[tuple[str, str]],
        timeout: Mapping[str, float],
    ) -> None:
        self._handle = handle
        self._owner = owner
        self._url = url
        self._headers = httpx.Headers(list(headers))
        self._extensions = {"timeout": timeout}
        self._parsed = cache(httpx.URL)  # a service has few of them

    async def post(self, body: Sequence[bytes], headers: Mapping[str, str], url: str | None) -> httpx.Response:
        """Send it."""
        size = sum(map(len, body))
        sized = self._headers.copy()  # as they are: nothing is encoded and looked at once more
        sized["content-length"] = str(size)
        if headers:
            sized.update(headers)
        # With `stream`, httpx works no headers out; with `content` that takes longer than all else here.
        stream = _Pieces(body) if size > JOINED else _Whole(b"".join(body))
        target = self._url if url is None else self._parsed(url)
        request = httpx.Request("POST", target, headers=sized, stream=stream, extensions=self._extensions)
        if size <= JOINED:
            request.read()  # from here on it has its content at hand, for a test that looks
        return await self._handle(request)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._owner.aclose()


class _Steps:
    """An iterator. Not a generator: one that a failure leaves halfway would be the garbage collector's."""

    def __init__(self, steps: Iterator[bytes]) -> None:
        self._steps = steps

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if (step := next(self._steps, None)) is not None:
            return step
        raise StopAsyncIteration


class _Whole(httpx.ByteStream):
    """A small body."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self._body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Steps(iter((self._body,)))


class _Pieces(httpx.AsyncByteStream):
    """A body that nobody joins: a long conversation is copied to the socket, and nowhere else."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Steps(few_pieces(self._pieces))
