"""Worker threads that nobody has to wait for: a function that never returns doesn't keep the process alive.

anyio's worker threads are joined when the interpreter exits, on asyncio; these are daemons, as trio's are. In them
`anyio.from_thread` works as in anyio's own: a function that asks `from_thread.check_cancelled()` now and then learns
that nobody wants its result any more.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import Context, copy_context
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

__all__ = ["AT_ONCE", "instead_of_threads", "run_in_thread"]

T = TypeVar("T")

AT_ONCE = 40
"""How many functions of one event loop run at once; further ones wait. Abandoned ones don't count."""

_IDLE_S = 10.0

InsteadOfThread = Callable[[Callable[[], Any]], Awaitable[Any]]

instead_of_threads: anyio.lowlevel.RunVar[InsteadOfThread] = anyio.lowlevel.RunVar("lash_hookspecs._threads.instead")
"""What runs a function on this event loop, where no thread should: a simulation, say, whose order must be its own."""

_limiter: anyio.lowlevel.RunVar[anyio.CapacityLimiter] = anyio.lowlevel.RunVar("lash_hookspecs._threads.limiter")


async def run_in_thread(function: Callable[[], T]) -> T:
    """Run it in a thread, with a copy of the context variables, and return its value or raise its error.

    A cancel ends the wait at once and abandons the thread: it ends by itself, and its outcome is dropped.
    """
    try:
        limiter = _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(AT_ONCE)
        _limiter.set(limiter)
    async with limiter:
        try:
            instead = instead_of_threads.get()
        except LookupError:
            pass
        else:
            return await instead(function)  # type: ignore[no-any-return]  # it is what the function returned
        loop = _asyncio_loop()
        if loop is None:
            # Trio's threads are daemons already; its limiter would count abandoned ones until they end.
            free = anyio.CapacityLimiter(math.inf)
            return await anyio.to_thread.run_sync(function, abandon_on_cancel=True, limiter=free)
        return await _on_asyncio(loop, function)


def _asyncio_loop() -> asyncio.AbstractEventLoop | None:
    """The loop whose task this is; None on trio, also where trio is a guest of an asyncio loop."""
    with suppress(RuntimeError):
        if asyncio.current_task() is not None:
            return asyncio.get_running_loop()
    return None


async def _on_asyncio(loop: asyncio.AbstractEventLoop, function: Callable[[], T]) -> T:
    context = copy_context()
    if (sniffio := sys.modules.get("sniffio")) is not None:
        # In the thread no event loop runs: the function may start one.
        context.run(sniffio.current_async_library_cvar.set, None)
    with anyio.CancelScope() as scope:
        job = _Job(function, context, loop, loop.create_future(), scope)
        _idle_worker().jobs.put(job)
        value, error = await job.done
        if error is not None:
            try:
                raise error
            finally:
                del error, job  # the error's traceback holds this frame
        return value  # type: ignore[no-any-return] # it is what the function returned
    raise AssertionError("unreachable: nobody but this function cancels its scope")


class _Job:
    """`done` gets the value and the error as its result: an exception that nobody fetches would be complained about."""

    def __init__(
        self,
        function: Callable[[], Any],
        context: Context,
        loop: asyncio.AbstractEventLoop,
        done: asyncio.Future[tuple[Any, BaseException | None]],
        scope: anyio.CancelScope,
    ) -> None:
        self.function = function
        self.context = context
        self.loop = loop
        self.done = done
        self.scope = scope

    def run(self, worker: _Worker) -> None:
        value, error = None, None
        with _as_anyio_worker(self.loop, self.scope):
            try:
                value = self.context.run(self.function)
            except BaseException as caught:
                error = caught
        # First, so that whoever gets the value finds this thread ready for the next job.
        _IDLE.append(worker)
        # A loop that is closed has nobody who waits.
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._deliver, value, error)
        del error

    def _deliver(self, value: Any, error: BaseException | None) -> None:
        if not self.done.done():
            self.done.set_result((value, error))


class _Worker(Thread):
    """A thread that takes one job after the other, and ends when none comes for a while."""

    def __init__(self) -> None:
        super().__init__(name="lash worker", daemon=True)
        self.jobs: SimpleQueue[_Job] = SimpleQueue()
        self.start()

    def run(self) -> None:
        while True:
            try:
                job = self.jobs.get(timeout=_IDLE_S)
            except Empty:
                try:
                    _IDLE.remove(self)
                except ValueError:
                    continue  # somebody has just taken it: the job is on its way
                return
            job.run(self)
            del job


_IDLE: deque[_Worker] = deque()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_IDLE.clear)  # threads don't live on in a forked process


def _idle_worker() -> _Worker:
    try:
        return _IDLE.pop()
    except IndexError:  # none, or another thread's loop was quicker
        return _Worker()


@contextmanager
def _as_anyio_worker(loop: asyncio.AbstractEventLoop, scope: anyio.CancelScope) -> Iterator[None]:
    """Let `anyio.from_thread` find the way back to `loop`; anyio has no public way to say it for a thread."""
    try:
        from anyio._core._eventloop import claim_worker_thread, get_async_backend, threadlocals
    except ImportError:
        yield  # another anyio: the function has to give `from_thread` a token itself
        return
    with claim_worker_thread(get_async_backend("asyncio"), loop):
        threadlocals.current_cancel_scope = scope
        try:
            yield
        finally:
            del threadlocals.current_cancel_scope
