"""Where a host runs what nobody waits for, and turns that are watched: in the event loop in which it was opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from threading import get_ident
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup

if TYPE_CHECKING:
    from lash_framework.lash import Lash

__all__ = ["Background", "background"]


class Background:
    """The task group of an open host."""

    __slots__ = ("_group", "_thread")

    def __init__(self, group: TaskGroup) -> None:
        self._group = group
        self._thread = get_ident()

    def start_soon(self, work: Callable[..., Coroutine[Any, Any, object]], *args: Any, name: str) -> None:
        """Run it; it is interrupted when the host closes. Raises as `require_here` does."""
        self.require_here()
        self._group.start_soon(work, *args, name=name)

    def require_here(self) -> None:
        """Raise `RuntimeError` in another thread: its loop can't wait for what happens in this one's."""
        if get_ident() != self._thread:
            raise RuntimeError(
                "this `Lash` was opened in another thread, in whose event loop its turns run: call it there, with "
                "`asyncio.run_coroutine_threadsafe(session.run(…), loop)` or `anyio.from_thread.run(session.run, …)`, "
                "or open another one here"
            )


@asynccontextmanager
async def background(lash: Lash) -> AsyncIterator[None]:
    """A host's background, while it is open."""
    # Told of no error, the group raises none of its own, so that the body's comes out as it is.
    group = anyio.create_task_group()
    await group.__aenter__()
    lash.background = Background(group)
    try:
        yield
    finally:
        lash.background = None
        group.cancel_scope.cancel()
        await group.__aexit__(None, None, None)
