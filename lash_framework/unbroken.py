"""Work that is done to its end though its task is cancelled, also by a `Task.cancel()`, which knows no shield."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

__all__ = ["unbroken"]

T = TypeVar("T")


async def unbroken(work: Callable[[], Awaitable[T]]) -> tuple[T, BaseException | None]:
    """What comes of it, and the cancellation that came meanwhile, if one did, for the caller to raise.

    The work is done again after a `Task.cancel()`, with which its answer is lost: that must change nothing. What it
    raises takes the cancellation's place: work by which that would be lost raises nothing.
    """
    interrupted: BaseException | None = None
    with anyio.CancelScope(shield=True):
        while True:
            try:
                made = await work()
                break
            except anyio.get_cancelled_exc_class() as error:
                interrupted = error
    return made, interrupted
