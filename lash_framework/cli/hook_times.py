"""How long each plugin's hooks take: a stopwatch in each implementation's place."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import partial
from time import perf_counter
from typing import Any

from lash_framework.implementations import HookImpl, watching
from lash_hookspecs.specs import HOOKS, HookRunnerKind
from lash_hookspecs.values import mutable

__all__ = ["HookTime", "HookTimes"]


@mutable
class HookTime:
    """What one plugin's implementation of one hook took, in seconds.

    `total_s` is from the calls to their ends, `busy_s` the part of it in which nothing else could run: a hook that
    waits for a service is long, and keeps nobody waiting.
    """

    plugin_id: str
    hook: str
    calls: int = 0
    total_s: float = 0.0
    busy_s: float = 0.0
    slowest_s: float = 0.0

    @contextmanager
    def call(self) -> Iterator[None]:
        """One call, from beginning to end."""
        began = perf_counter()
        try:
            yield
        finally:
            self.add(perf_counter() - began)

    def add(self, took_s: float) -> None:
        """A call that took so long."""
        self.calls += 1
        self.total_s += took_s
        self.slowest_s = max(self.slowest_s, took_s)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """A stretch of one in which the event loop does nothing else."""
        began = perf_counter()
        try:
            yield
        finally:
            self.busy_s += perf_counter() - began


class HookTimes:
    """The times of all hooks of the hosts that are opened within `with times.kept(): …`."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], HookTime] = {}

    @property
    def rows(self) -> list[HookTime]:
        """Those that were called, the longest first."""
        called = [each for each in self._rows.values() if each.calls]
        return sorted(called, key=lambda each: (-each.total_s, each.plugin_id, each.hook))

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Put the stopwatches in place."""
        token = watching.set(self._timed)
        try:
            yield
        finally:
            watching.reset(token)

    def _timed(self, impl: HookImpl) -> HookImpl:
        row = self._rows.setdefault((impl.plugin_id, impl.hook), HookTime(impl.plugin_id, impl.hook))
        is_lifespan = HOOKS[impl.hook].runner is HookRunnerKind.LIFESPAN
        function = partial(_Lifespan, impl.function, row) if is_lifespan else _watched(impl.function, row)
        return HookImpl(impl.plugin_id, function, impl.argnames, impl.hook, impl.limit_s)


def _watched(function: Callable[..., Any], row: HookTime) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        began = perf_counter()
        outcome = None
        try:
            outcome = function(*args)
        finally:
            took = perf_counter() - began
            row.busy_s += took
            if not hasattr(outcome, "__await__"):
                row.add(took)
        return _awaited(outcome, row) if hasattr(outcome, "__await__") else outcome

    return call


async def _awaited(awaitable: Any, row: HookTime) -> Any:
    with row.call():
        return await _Steps(awaitable, row)


class _Steps:
    """An awaitable whose every step is timed; what it asks of the event loop, and is answered, passes through."""

    def __init__(self, awaitable: Any, row: HookTime) -> None:
        self._awaitable = awaitable
        self._row = row

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self._awaitable.__await__()
        step: Callable[[], Any] = partial(next, inner)
        try:
            while True:
                with self._row.busy():
                    try:
                        asked = step()
                    except StopIteration as done:
                        return done.value
                try:
                    answer = yield asked
                except GeneratorExit:
                    raise
                except BaseException as error:
                    step = partial(inner.throw, error)
                else:
                    step = partial(next, inner) if answer is None else partial(inner.send, answer)
        finally:
            if hasattr(inner, "close"):
                inner.close()


class _Lifespan:
    """A lifespan whose entering and leaving are timed as one call each."""

    def __init__(self, function: Callable[..., AbstractAsyncContextManager[Any]], row: HookTime, *args: Any) -> None:
        self._row = row
        with row.busy():
            self._inner = function(*args)

    async def __aenter__(self) -> Any:
        return await _awaited(self._inner.__aenter__(), self._row)

    async def __aexit__(self, *raised: Any) -> Any:
        return await _awaited(self._inner.__aexit__(*raised), self._row)
