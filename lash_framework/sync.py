"""Running async work to its end from code that isn't async."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.lowlevel

__all__ = ["run_anywhere"]

T = TypeVar("T")


def run_anywhere(work: Callable[[], Awaitable[T]], **options: Any) -> T:
    """Run it to its end: here, or, if an event loop runs here already, in a thread with a loop of its own.

    `options` are those of `anyio.run`.
    """
    if not _in_event_loop():
        return anyio.run(work, **options)
    # A notebook's loop can't be entered again, and blocking it is what the caller of a sync function asked for.
    with ThreadPoolExecutor(1, thread_name_prefix="lash-run-sync") as pool:
        return pool.submit(partial(anyio.run, work, **options)).result()


def _in_event_loop() -> bool:
    try:
        anyio.lowlevel.current_token()
    except anyio.NoEventLoopError:
        return False
    return True
