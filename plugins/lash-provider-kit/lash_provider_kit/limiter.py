"""How much is asked of a service at a time: calls at once, and requests and tokens in a sliding window.

A service's own throttle answers with an error; waiting here costs nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
from attrs import field
from attrs.validators import ge, gt

from lash_hookspecs.values import frozen

__all__ = ["RateLimiter", "RateLimits"]

_TOKEN_BYTES = 4


@frozen(kw_only=True)
class RateLimits:
    """What is allowed; 0 is no limit. `requests` and `tokens` count within any `window_s` seconds."""

    concurrent: int = field(default=0, validator=ge(0))
    requests: int = field(default=0, validator=ge(0))
    tokens: int = field(default=0, validator=ge(0))
    window_s: float = field(default=60.0, validator=gt(0))


class RateLimiter:
    """Admits attempts in the order in which they come. `clock` and `sleep` (seconds) are there for tests.

    A request's tokens are estimated from its size, four bytes each. One that is larger than the whole window is charged
    just that window: it waits until nothing else is in it, rather than for ever.
    """

    def __init__(
        self,
        limits: RateLimits,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._sleep = sleep
        self._running = anyio.Semaphore(limits.concurrent) if limits.concurrent else None
        self._turn = anyio.Lock() if limits.requests or limits.tokens else None
        self._window: deque[tuple[float, int]] = deque()
        self._tokens = 0

    @asynccontextmanager
    async def admitted(self, size: int) -> AsyncIterator[None]:
        """Wait until a request of `size` bytes may be made; it runs inside. Cancelled, it leaves nothing taken."""
        if self._running is None:
            await self._enter(size)
            yield
            return
        async with self._running:
            await self._enter(size)
            yield

    async def _enter(self, size: int) -> None:
        if self._turn is None:
            return
        limits = self._limits
        tokens = -(-size // _TOKEN_BYTES)
        if limits.tokens:
            tokens = min(tokens, limits.tokens)
        async with self._turn:  # whoever waits, waits here, so nobody is overtaken
            while (wait := self._until_free(tokens)) > 0:
                await self._sleep(wait)
            self._window.append((self._clock(), tokens))
            self._tokens += tokens

    def _until_free(self, tokens: int) -> float:
        """Seconds until the oldest of what is in the way leaves the window; 0 or less if nothing is."""
        limits, window, now = self._limits, self._window, self._clock()
        while window and window[0][0] + limits.window_s <= now:
            self._tokens -= window.popleft()[1]
        full = limits.requests and len(window) >= limits.requests
        if full or (limits.tokens and self._tokens + tokens > limits.tokens):
            return window[0][0] + limits.window_s - now
        return 0.0
