"""An event loop without a world: its clock jumps, the order of its tasks is drawn, and nothing comes from outside.

asyncio's tasks and futures run on whatever has the methods of `AbstractEventLoop`; this is as little of one as anyio
and lash need. Tasks that are ready at the same time take their steps in any order, and any of them may fall behind.
Callbacks that are no task's keep their places: asyncio promises their order, and code relies on it.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import logging
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextvars import Context
from itertools import count
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, NoReturn, TypeVar, TypeVarTuple
from weakref import WeakSet

__all__ = ["SimulatedLoop", "SimulationError"]

log = logging.getLogger("lash.simulation")

T = TypeVar("T")
Args = TypeVarTuple("Args")

ROUND_S = 0.001
"""A round of the loop takes up to so many seconds of simulated time, so that timers fire amid other work."""

FALLS_BEHIND = 0.25
"""How often a task that could go on is left for the next round, where there is another one to go on."""


GRACE_S = 0.2
"""Before a run is given up in which nothing happens: how long a thread may take to show that it was waited for."""

COLLECTS_EVERY = 20_000
"""Rounds after which garbage is collected: what ends with it should end at the same moment each time."""


class SimulationError(Exception):
    """What can't be simulated, or will never end."""


class _Task(asyncio.Task[Any]):
    """A task with a number: sets, from which anyio cancels its tasks, have another order in each process."""

    number = 0


class SimulatedLoop(asyncio.AbstractEventLoop):
    """The loop. `draws` is where all chance comes from; after `limit_s` of simulated time a run is given up."""

    def __init__(self, draws: Random, *, limit_s: float) -> None:
        self._chance = draws.random
        self._limit_s = limit_s
        self._now_s = 0.0
        self._rounds = 0
        self._ready: list[tuple[asyncio.Handle, object]] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = count()
        self._stopping = self._closed = False
        self._thread: int | None = None
        self._intruder: str | None = None
        self._called = threading.Event()
        self._handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None = None
        self._factory: Any = None
        self._generators: WeakSet[AsyncGenerator[Any, Any]] = WeakSet()
        self.failure: SimulationError | None = None

    # ---- running ----------------------------------------------------------------------------------------------------

    def run_forever(self) -> None:
        if self._closed or self._thread is not None:
            raise RuntimeError("the simulated event loop is closed, or runs already")
        self._thread = threading.get_ident()
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(firstiter=self._generators.add, finalizer=self._finalize)
        asyncio._set_running_loop(self)
        try:
            while not self._stopping:
                self._round()
        finally:
            self._stopping, self._thread = False, None
            asyncio._set_running_loop(None)
            sys.set_asyncgen_hooks(*hooks)

    def _round(self) -> None:
        """Let everything that is ready take a step, in an order that is drawn."""
        self._now_s += self._chance() * ROUND_S
        self._rounds += 1
        if self._rounds % COLLECTS_EVERY == 0:
            gc.collect()
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not self._ready:
            if not timers:
                self._called.wait(GRACE_S)
                self._refuse_threads()
                self._give_up("nothing will ever happen again, but not everything has ended")
            self._now_s = max(self._now_s, timers[0][0])
        if self._now_s > self._limit_s:
            self._give_up(f"it hasn't ended after {self._limit_s:,g} s of simulated time (`limit_s`)")
        while timers and timers[0][0] <= self._now_s:
            self._ready.append((heapq.heappop(timers)[2], None))
        batch, self._ready = self._ready, []
        for handle, _ in batch if len(batch) == 1 else self._drawn(batch):
            if not handle.cancelled():
                handle._run()
        if self._intruder is not None:
            self._refuse_threads()

    def _refuse_threads(self) -> None:
        name, self._intruder = self._intruder, None
        if name is not None:
            self._give_up(f"the thread `{name}` has called, and when it does follows from no seed: use no threads")

    def _drawn(self, batch: list[tuple[asyncio.Handle, object]]) -> Iterator[tuple[asyncio.Handle, object]]:
        """The batch with its tasks in another order; those that fall behind wait for the next round."""
        places = [at for at, (_, owner) in enumerate(batch) if isinstance(owner, _Task)]
        if len(places) < 2:
            yield from batch
            return
        chance = self._chance
        tasks = sorted((batch[at] for at in places), key=_number)
        for at in range(len(tasks) - 1, 0, -1):
            other = int(chance() * (at + 1))
            tasks[at], tasks[other] = tasks[other], tasks[at]
        left = len(tasks)
        for each in batch:
            if isinstance(each[1], _Task):
                each = tasks.pop()
                if left > 1 and chance() < FALLS_BEHIND:
                    left -= 1  # somebody goes on, so that each round has an end
                    self._ready.append(each)
                    continue
            yield each

    def run_until_complete(self, future: Any) -> Any:
        task: asyncio.Future[Any] = asyncio.ensure_future(future, loop=self)
        task.add_done_callback(self._stop_with)
        try:
            self.run_forever()
        finally:
            task.remove_done_callback(self._stop_with)
        if not task.done():
            raise RuntimeError("the simulated event loop was stopped before its work was done")
        return task.result()

    def _stop_with(self, _: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stopping = True

    def is_running(self) -> bool:
        return self._thread is not None

    def is_closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        self._closed = True
        self._ready.clear()
        self._timers.clear()

    async def shutdown_asyncgens(self) -> None:
        for each in list(self._generators):
            await each.aclose()

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109  # asyncio calls it so
        """There is none."""

    def _finalize(self, generator: AsyncGenerator[Any, Any]) -> None:
        self._generators.discard(generator)
        if not self._closed:
            self.create_task(generator.aclose())

    def _give_up(self, why: str) -> NoReturn:
        waiting = "\n".join(sorted(map(_told, asyncio.all_tasks(self))))
        self.failure = SimulationError(f"the simulation was given up: {why}. These still wait:\n{waiting}")
        raise self.failure

    # ---- time and callbacks -----------------------------------------------------------------------------------------

    def time(self) -> float:
        return self._now_s

    def call_soon(
        self, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append((handle, getattr(callback, "__self__", None)))
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*Args], object], *args: *Args, context: Context | None = None
    ) -> asyncio.Handle:
        if self._thread is not None and threading.get_ident() != self._thread:
            self._intruder = threading.current_thread().name
            self._called.set()
        return self.call_soon(callback, *args, context=context)

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Args], object],
        *args: *Args,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now_s + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Args], object],
        *args: *Args,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time has come."""

    # ---- tasks and futures ------------------------------------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, **options: Any) -> Any:
        if self._factory is not None:
            return self._factory(self, coro, **options)
        task = _Task(coro, loop=self, **options)
        task.number = next(self._numbers)
        return task

    def set_task_factory(self, factory: Any) -> None:
        self._factory = factory

    def get_task_factory(self) -> Any:
        return self._factory

    def run_in_executor(self, executor: Any, func: Callable[[*Args], T], *args: *Args) -> asyncio.Future[T]:
        """Run it in place, a little later."""
        done: asyncio.Future[T] = self.create_future()

        def run() -> None:
            if done.cancelled():
                return
            try:
                done.set_result(func(*args))
            except Exception as error:
                done.set_exception(error)

        self.call_soon(run)
        return done

    # ---- errors and debugging ---------------------------------------------------------------------------------------

    def set_exception_handler(self, handler: Any) -> None:
        self._handler = handler

    def get_exception_handler(self) -> Any:
        return self._handler

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        (self._handler or _log)(self, context)

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        _log(self, context)

    def get_debug(self) -> bool:
        return False

    def set_debug(self, enabled: bool) -> None:
        """There is nothing more to be told."""


def _log(loop: object, context: dict[str, Any]) -> None:
    log.error("%s", context.get("message"), exc_info=context.get("exception"))


def _absent(name: str) -> Callable[..., NoReturn]:
    def absent(self: SimulatedLoop, *args: object, **options: object) -> NoReturn:
        raise SimulationError(f"`{name}`: in a simulation there are no sockets, processes and signals; use a stand-in")

    return absent


for _name in (
    "add_reader",
    "add_signal_handler",
    "connect_read_pipe",
    "connect_write_pipe",
    "create_connection",
    "create_datagram_endpoint",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "getaddrinfo",
    "sock_connect",
    "subprocess_exec",
    "subprocess_shell",
):
    setattr(SimulatedLoop, _name, _absent(_name))


def _number(entry: tuple[asyncio.Handle, object]) -> int:
    assert isinstance(entry[1], _Task)  # the others keep their places
    return entry[1].number


_INNER = ("/asyncio/", "/anyio/")


def _told(task: asyncio.Task[Any]) -> str:
    """A task, and where in code of its own it waits."""
    awaited: Any = task.get_coro()
    place: FrameType | None = None
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
        if frame is not None and not any(each in Path(frame.f_code.co_filename).as_posix() for each in _INNER):
            place = frame
        awaited = getattr(awaited, "cr_await", None)
    where = "" if place is None else f" at {place.f_code.co_filename}:{place.f_lineno}, in {place.f_code.co_qualname}"
    return f"  {task.get_name()}{where}"
