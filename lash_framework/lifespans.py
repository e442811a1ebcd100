"""What plugins hold for a host: entered at first use, each in a task of its own, left in reverse order.

So are the connections of toolsets; these may break, which is no error of the host.

A lifespan may hold task groups and cancel scopes, and these must be left in the task that entered them. Whoever uses a
plugin first, and whoever closes the host, are different tasks; so a third one, a child of the host's task group, lives
as long as the lifespan does. One task each, and not one for all: what goes wrong in one lifespan then cancels no other.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from lash_framework.faults import failure_text, pass_on
from lash_hookspecs.errors import ConfigurationError, PluginError

if TYPE_CHECKING:
    import anyio
    from anyio.abc import TaskGroup

__all__ = ["CLOSE_LIMIT_S", "Begun", "Held", "Lifespans"]

CLOSE_LIMIT_S = 10.0
"""How long, in seconds, each lifespan may take to close before it is cancelled: Docker stops containers like that."""

_log = logging.getLogger("lash.hooks")

Make = Callable[[], AbstractAsyncContextManager[Any]]


class Held(NamedTuple):
    """What is held: a plugin's lifespan, or the connection of its toolset; `variant`: for which of its options."""

    plugin_id: str
    variant: str = ""
    toolset: str = ""

    def __str__(self) -> str:
        return (
            f"toolset `{self.toolset}` of plugin `{self.plugin_id}`" if self.toolset else f"plugin `{self.plugin_id}`"
        )


class Begun:
    """One of them, from the request to enter it to its end."""

    def __init__(self, key: Held, limit_s: float, may_break: bool) -> None:
        import anyio

        self.key = key
        self.limit_s = limit_s  # for its start
        self.may_break = may_break
        self.entered = anyio.Event()  # or failed to
        self.leave = anyio.Event()
        self.left = anyio.Event()
        # A cancelled host still closes in order, so the cancellation must not reach the lifespans by itself.
        self.scope: anyio.CancelScope = anyio.CancelScope(shield=True)
        self.is_open = False
        self.value: Any = None
        self.error: BaseException | None = None

    async def live(self, make: Make) -> None:
        import anyio

        try:
            with self.scope:
                self.scope.deadline = anyio.current_time() + self.limit_s
                async with make() as self.value:
                    self.scope.deadline = math.inf
                    self.is_open = True
                    self.entered.set()
                    await self.leave.wait()
            if self.scope.cancelled_caught and not (self.is_open or self.leave.is_set()):
                self.error = TimeoutError(f"it took longer than {self.limit_s:g} s (`limit_s`)")
        except BaseException as error:  # a `sys.exit()` in a plugin ends no host
            pass_on(error)
            self.error = error
        finally:
            self.entered.set()
            self.left.set()

    def failure(self, what: str) -> PluginError:
        hook, whose = ("lash_tools", f"toolset `{self.key.toolset}`: ") if self.key.toolset else ("lash_lifespan", "")
        why = f": {failure_text(self.error)}" if self.error else ""
        failure = PluginError(self.key.plugin_id, hook, f"{whose}{what}{why}")
        failure.__cause__ = self.error
        return failure


class Lifespans:
    """The lifespans of one host."""

    def __init__(self, close_limit_s: float = CLOSE_LIMIT_S) -> None:
        self._close_limit_s = close_limit_s
        self._tasks: TaskGroup | None = None
        self._held: dict[Held, Begun] = {}
        self._dropped: dict[Held, Begun] = {}
        self._in_order: list[Begun] = []
        self._errors: list[PluginError] = []
        self._is_closed = False

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Where the lifespans live; leaving it closes them.

        What the body raises comes out unchanged; errors of closing are then only logged.
        """
        import anyio

        alone: BaseException | None = None
        try:
            async with anyio.create_task_group() as self._tasks:
                try:
                    yield
                except BaseException as error:
                    alone = error if isinstance(error, Exception) else None
                    try:
                        await self._close_shielded()
                    except ExceptionGroup as errors:
                        _log.error("%s", errors, exc_info=errors)
                    raise
                await self._close_shielded()
        except BaseExceptionGroup as group:
            if len(group.exceptions) > 1:
                raise
            # Of the body, or of closing; the task group only wrapped it (and on trio copied it, if it is a group).
            alone = alone or group.exceptions[0]
        if alone is not None:
            raise alone

    async def enter(self, wanted: Mapping[Held, Make]) -> dict[Held, Any]:
        """Enter what isn't entered yet, in this order, and return what each yielded.

        Callers may overlap. Raises `PluginError` for one that fails; whoever needs it later tries again.
        """
        values = {}
        for key, make in wanted.items():
            held = await self._entered(key, make)
            if not held.is_open:
                raise held.failure("it failed to start" if held.error else "the host was closed before it was ready")
            values[key] = held.value
        return values

    async def connect(self, key: Held, make: Make, limit_s: float, begun: Begun | None = None) -> Any:
        """The same for a connection, which may take so long, and may break. Raises what it raised.

        `begun` is what `begin` said: an attempt that has failed by now isn't made again.
        """
        while begun is None and (left := self._dropped.get(key)) is not None:
            await left.left.wait()  # what it holds may be what the next one needs
        held = await self._entered(key, make, limit_s, may_break=True, begun=begun)
        if not held.is_open:
            if held.error is None:
                raise ConfigurationError("the host was closed before it was ready")
            raise held.error if isinstance(held.error, Exception) else RuntimeError(failure_text(held.error))
        return held.value

    def begin(self, key: Held, make: Make, limit_s: float) -> Begun | None:
        """Begin to enter a connection, which sets its place in the order; `connect` then waits for it.

        None while the one before it is being left.
        """
        if key in self._dropped:
            return None
        return self._held.get(key) or self._start(key, make, limit_s, may_break=True)

    def is_open(self, key: Held) -> bool:
        """Whether it is entered."""
        return key in self._held and self._held[key].is_open

    def drop(self, key: Held, value: object) -> None:
        """Leave a connection that yielded this, and don't wait for it: who needs it next does, and enters it anew."""
        import anyio

        held = self._held.get(key)
        if held is None or not held.is_open or held.value is not value:
            return  # it is another one by now
        self._dropped[key] = self._held.pop(key)
        self._in_order.remove(held)
        held.scope.deadline = anyio.current_time() + self._close_limit_s
        held.leave.set()

    async def _entered(
        self,
        key: Held,
        make: Make,
        limit_s: float = math.inf,
        may_break: bool = False,
        begun: Begun | None = None,
    ) -> Begun:
        held = begun or self._held.get(key) or self._start(key, make, limit_s, may_break)
        if not held.is_open:
            await held.entered.wait()
        return held

    def _start(self, key: Held, make: Make, limit_s: float, may_break: bool) -> Begun:
        if self._is_closed or self._tasks is None:
            state = "closed" if self._is_closed else "not running: use it inside of `async with host.run()`"
            raise ConfigurationError(f"{key} holds resources for its host, but the host is {state}")
        held = self._held[key] = Begun(key, limit_s, may_break)
        self._in_order.append(held)
        self._tasks.start_soon(self._watch, held, make, name=f"lifespan of {key}")
        return held

    async def _watch(self, held: Begun, make: Make) -> None:
        await held.live(make)
        if held.is_open and held.leave.is_set():
            if self._dropped.get(held.key) is held:
                del self._dropped[held.key]
                if held.error is not None:
                    _log.info("%s", held.failure("closing it failed"), exc_info=held.error)
            return  # as it should be
        # It never started, or it broke: forget it, so that the next one who needs it starts it anew.
        del self._held[held.key]
        self._in_order.remove(held)
        if held.is_open:
            failure = held.failure("it ended while it was in use")
            if held.may_break:
                _log.warning("%s", failure, exc_info=held.error)
            else:
                _log.error("%s", failure, exc_info=held.error)
                self._errors.append(failure)

    async def _close_shielded(self) -> None:
        import anyio

        with anyio.CancelScope(shield=True):
            await self.aclose()

    async def aclose(self) -> None:
        """Leave all in reverse order; nothing can be entered after that. Calling it again goes on where it stopped.

        Raises an `ExceptionGroup` of `PluginError`s once all are left, also for those that ended before their time.
        """
        self._is_closed = True
        while self._in_order:
            held = self._in_order[-1]
            await self._leave(held)
            if self._in_order and self._in_order[-1] is held:
                self._in_order.pop()
        errors, self._errors = self._errors, []
        if errors:
            raise ExceptionGroup("plugins failed to close", errors)

    async def _leave(self, held: Begun) -> None:
        import anyio

        if not held.is_open:
            held.scope.cancel()  # it is still starting, and nobody waits for it any more
        was_open = held.is_open
        held.leave.set()
        with anyio.move_on_after(self._close_limit_s) as limit:
            await held.left.wait()
        if limit.cancelled_caught and not held.left.is_set():
            held.scope.cancel()
            await held.left.wait()
            held.error = held.error or TimeoutError(f"took longer than {self._close_limit_s:g} s and was cancelled")
        if was_open and held.error is not None and held in self._in_order:
            self._errors.append(held.failure("closing it failed"))
