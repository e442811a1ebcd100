"""Connections for few calls at first, and for many once there are many.

httpx's own connections are there at once, and slow: half a millisecond more per call, and far more with hundreds of
calls at a time. aiohttp's take a tenth of a second to import. Most processes make a handful of calls and end, so those
are opened only when they pay: as soon as two calls overlap, or after a few in a row.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import httpx

from lash_provider_kit.carriers import Answer, Carrier

__all__ = ["FEW", "GrowingCarrier"]

log = logging.getLogger("lash.provider")

FEW = 4
"""So many calls, one after the other, are served by the first carrier."""


class GrowingCarrier:
    """A carrier over a first one, and from some call on over a second one, which is made then.

    What runs on the first one ends there, undisturbed; then its idle connections are closed. Where the second one can't
    be imported, the first one goes on.
    """

    def __init__(self, first: Carrier, second: Callable[[], Carrier]) -> None:
        self._first = first
        self._make_second: Callable[[], Carrier] | None = second
        self._second: Carrier | None = None
        self._calls = 0
        self._running = 0

    async def post(self, body: Sequence[bytes], headers: Mapping[str, str], url: str | None) -> Answer:
        """Send it over whichever serves now."""
        if self._make_second is not None and (self._running or self._calls >= FEW):
            make, self._make_second = self._make_second, None  # it is tried once
            try:
                self._second = make()
            except ImportError as exc:
                log.warning("httpx's connections carry all calls, since those for many can't be imported: %s", exc)
            await self._retire_first()
        if self._second is None:
            return await self._by_first(body, headers, url)
        return await self._second.post(body, headers, url)

    async def aclose(self) -> None:
        """Close the connections of both."""
        try:
            await self._first.aclose()
        finally:
            if self._second is not None:
                await self._second.aclose()

    async def _by_first(self, body: Sequence[bytes], headers: Mapping[str, str], url: str | None) -> Answer:
        self._calls += 1
        self._running += 1
        try:
            response = await self._first.post(body, headers, url)
        except BaseException:
            await self._ended()
            raise
        response.stream = _Told(response.stream, self._ended)
        return response

    async def _ended(self) -> None:
        self._running -= 1
        await self._retire_first()

    async def _retire_first(self) -> None:
        if self._second is not None and not self._running:
            try:
                await self._first.aclose()
            except Exception as exc:  # whoever makes a call now has nothing to do with it
                log.warning("httpx's connections, no longer needed, couldn't be closed: %r", exc)


class _Told(httpx.AsyncByteStream):
    """An answer's bytes; whoever counts it is told when it is closed."""

    def __init__(self, stream: Any, closed: Callable[[], Awaitable[None]]) -> None:
        self._stream = stream
        self._closed = closed

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._stream)

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            await self._closed()
