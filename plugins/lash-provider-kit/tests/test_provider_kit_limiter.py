"""The rate limiter: calls at once, requests and tokens in a window, and nothing left taken."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from lash_provider_kit.limiter import RateLimiter, RateLimits


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds
        await anyio.lowlevel.checkpoint()

    def limiter(self, **limits: float) -> RateLimiter:
        return RateLimiter(RateLimits(**limits), clock=lambda: self.now, sleep=self.sleep)


async def times_of(time: Time, limiter: RateLimiter, *sizes: int) -> list[float]:
    """When each request was admitted, one after the other."""
    times = []
    for size in sizes:
        async with limiter.admitted(size):
            times.append(time.now)
    return times


async def test_nothing_is_limited_by_default() -> None:
    time = Time()
    assert await times_of(time, time.limiter(), *[10**9] * 100) == [0.0] * 100
    assert time.waits == []


async def test_requests_in_a_window() -> None:
    time = Time()
    assert await times_of(time, time.limiter(requests=2), 1, 1, 1, 1, 1) == [0, 0, 60, 60, 120]


async def test_the_window_slides() -> None:
    """What left the window makes room, one by one: no window begins at a full minute."""
    time = Time()
    limiter = time.limiter(requests=2)
    await times_of(time, limiter, 1)
    time.now = 50.0
    assert await times_of(time, limiter, 1, 1, 1) == [50, 60, 110]


async def test_tokens_in_a_window() -> None:
    time = Time()
    assert await times_of(time, time.limiter(tokens=100), 200, 200, 4) == [0, 0, 60]


@pytest.mark.statement(23, page="providers")
async def test_an_oversized_request_waits_one_window_and_no_longer() -> None:
    time = Time()
    assert await times_of(time, time.limiter(tokens=100), 4, 10_000, 4) == [0, 60, 120]


async def test_calls_at_once() -> None:
    limiter = RateLimiter(RateLimits(concurrent=3))
    running = most = 0

    async def one() -> None:
        nonlocal running, most
        async with limiter.admitted(1):
            running += 1
            most = max(most, running)
            await anyio.lowlevel.checkpoint()
            running -= 1

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(one)
    assert most == 3


async def test_who_is_cancelled_leaves_nothing_taken() -> None:
    """Cancelled while running, while waiting for a place, and while waiting for the window."""
    full = RateLimiter(RateLimits(concurrent=1, requests=1))
    async with full.admitted(1):
        pass
    for _ in range(3):
        with anyio.CancelScope() as scope:
            scope.cancel()
            async with full.admitted(1):
                raise AssertionError("the window is full")
    assert len(full._window) == 1
    assert full._running is not None
    assert full._running.value == 1
    free = RateLimiter(RateLimits(concurrent=1))
    with anyio.CancelScope() as scope:
        async with free.admitted(1):
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    with anyio.fail_after(30):
        async with free.admitted(1):
            pass


async def test_who_came_first_is_served_first() -> None:
    """A small request doesn't overtake a large one, which would else wait for ever."""
    time = Time()
    limiter = time.limiter(tokens=100)
    order: list[str] = []

    async def one(name: str, size: int) -> None:
        async with limiter.admitted(size):
            order.append(name)

    await one("before", 200)
    async with anyio.create_task_group() as group:
        group.start_soon(one, "large", 400)
        await anyio.lowlevel.checkpoint()
        group.start_soon(one, "small", 4)
    assert order[0] == "before"
    assert set(order) == {"before", "large", "small"}
    assert order.index("large") < order.index("small")
