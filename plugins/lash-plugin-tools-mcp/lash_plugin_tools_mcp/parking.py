"""A call that waits for a person on a connection that lives on: it goes on with the answer, and isn't made again.

Only old protocols need it, whose servers ask over the connection while the call waits. A wait that outlives the
connection, or is in another call's way, ends as if nobody had answered: then the call is made again, from the start.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import anyio

from lash_hookspecs.tools import ToolError

if TYPE_CHECKING:
    import mcp_types as types

    from lash_plugin_tools_mcp.asking import Leg

__all__ = ["KEEP_S", "Parked", "Timer"]

KEEP_S = 900.0
"""How long a call is kept open for a person, who may answer later all the same."""

END_S = 2.0
"""How long a server may take to end a call that nobody answered."""

Who = tuple[str, ...]


class Timer:
    """How long a call may be silent, and take in all; while a person is asked neither runs."""

    def __init__(self, idle_s: float, total_s: float) -> None:
        self._idle_s = idle_s
        self._left = total_s
        self._most = math.inf
        self._scope = anyio.CancelScope()

    def begun(self) -> anyio.CancelScope:
        """`with timer.begun()`: a call, of which it is the time."""
        self._scope = anyio.CancelScope()
        self.go_on()
        return self._scope

    @property
    def is_over(self) -> bool:
        """Whether it took too long in all, rather than was silent."""
        return anyio.current_time() >= self._most

    def heard(self) -> None:
        """A sign of life."""
        self._scope.deadline = min(anyio.current_time() + self._idle_s, self._most)

    def pause(self) -> None:
        """From now on nobody expects anything of the server."""
        self._left = self._most - anyio.current_time()
        self._scope.deadline = math.inf

    def go_on(self) -> None:
        """Now it is expected to go on."""
        self._most = anyio.current_time() + self._left
        self.heard()


class Parked:
    """One call at a server, run by a task of its connection's, so that it outlives the step that began it.

    `who` is the call that it is a part of: only that one may go on with it.
    """

    def __init__(self, who: Who, leg: Leg, timer: Timer) -> None:
        self._who = who
        self.leg = leg
        self._timer = timer
        self._news, self._answered = anyio.Event(), anyio.Event()
        self._scope = anyio.CancelScope()
        self._wanted: str | None = None
        self._done = anyio.Event()
        self._result: types.CallToolResult | None = None
        self._error: Exception | None = None

    async def run(self, call: Callable[[], Awaitable[types.CallToolResult]]) -> None:
        """Make the call, whatever comes of it."""
        try:
            with self._scope:
                self._result = await call()
        except Exception as error:
            self._error = error
        finally:
            self._done.set()
            self._news.set()

    async def settled(self) -> types.CallToolResult | None:
        """What came of it; None if it asks what nobody has answered yet. Raises what it raised."""
        try:
            await self._news.wait()
        except BaseException:
            await self._end()
            raise
        if not self._done.is_set():
            return None
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise ToolError(
                "the call was ended with its connection; whether it did anything is unknown", code="mcp_lost"
            )
        return self._result

    @property
    def waits(self) -> bool:
        """Whether it waits for a person."""
        return self._wanted is not None and not self._done.is_set()

    async def hold(self, key: str) -> None:
        """Called where the server asks: wait until there is an answer under this key, or there will be none."""
        self._wanted = key
        self._timer.pause()
        self._news.set()
        with anyio.move_on_after(KEEP_S):
            await self._answered.wait()
        self._wanted = None
        self._timer.go_on()

    def goes_on(self, who: Who, answers: Mapping[str, Any]) -> bool:
        """Whether it waits for one of these answers, for this call."""
        return self.waits and who == self._who and self._wanted in answers

    def answer(self, leg: Leg) -> None:
        """Go on, in another step's name."""
        self.leg.take_over(leg)
        self._news = anyio.Event()
        answered, self._answered = self._answered, anyio.Event()
        answered.set()

    async def dismiss(self) -> None:
        """Let it end without an answer, which its server is told."""
        self._answered.set()
        with anyio.move_on_after(END_S):
            await self._done.wait()
        await self._end()

    def abandon(self) -> None:
        """Its connection is closed."""
        self._answered.set()
        self._scope.cancel()

    async def _end(self) -> None:
        self.abandon()
        with anyio.CancelScope(shield=True):
            await self._done.wait()
