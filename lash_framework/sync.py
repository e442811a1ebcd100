"""Running async work to its end from code that isn't async."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Generic, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel

__all__ = ["run_anywhere"]

T = TypeVar("T")


def run_anywhere(work: Callable[[], Awaitable[T]], **options: Any) -> T:
    """Run it to its end: here, or, if an event loop runs here already, in a thread with a loop of its own.

    Ctrl-C interrupts it, in either case. `options` are those of `anyio.run`.
    """
    if not _in_event_loop():
        return anyio.run(work, **options)
    # A notebook's loop can't be entered again, and blocking it is what the caller of a sync function asked for.
    running = _Stoppable(work)
    with ThreadPoolExecutor(1, thread_name_prefix="lash-run-sync") as pool:
        ended = pool.submit(partial(anyio.run, running, **options))
        try:
            return ended.result()
        except KeyboardInterrupt:
            running.stop()  # it comes in this thread only, and leaving the block waits for the other one
            raise


class _Stoppable(Generic[T]):
    """Work that another thread may interrupt, whether or not it has begun."""

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self._stopped = threading.Event()
        self._scope: tuple[anyio.CancelScope, anyio.lowlevel.EventLoopToken] | None = None

    async def __call__(self) -> T:
        with anyio.CancelScope() as scope:
            self._scope = scope, anyio.lowlevel.current_token()
            if self._stopped.is_set():
                scope.cancel()
            return await self._work()
        raise KeyboardInterrupt

    def stop(self) -> None:
        """Ask it to end, from another thread."""
        self._stopped.set()
        if self._scope is not None:
            scope, loop = self._scope
            with suppress(anyio.RunFinishedError):
                anyio.from_thread.run_sync(scope.cancel, token=loop)


def _in_event_loop() -> bool:
    try:
        anyio.lowlevel.current_token()
    except anyio.NoEventLoopError:
        return False
    return True
