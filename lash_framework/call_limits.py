"""How many calls of a tool run at once in a host, for tools that declare `max_concurrency`.

A call holds its place while code of its own runs, and gives it away while it waits for a call that it makes, or for a
turn that it runs on another session. So nobody holds one place and waits for another: tools may call themselves, and
one another, here and in other sessions, and none waits for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import anyio

    from lash_framework.catalog import OwnedTool

__all__ = ["CallLimits", "Slot"]


class CallLimits:
    """A host's places, by tool: what is limited is mostly outside, and knows nothing of sessions."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, str], anyio.Semaphore] = {}

    def slot(self, owned: OwnedTool | None) -> Slot | None:
        """A place to wait for; None for a tool without a limit."""
        most = owned.tool.manifest.max_concurrency if owned is not None else None
        if owned is None or most is None:
            return None
        import anyio  # here because `lash --help` makes hosts possible, and runs nothing

        key = owned.plugin_id, owned.tool.manifest.name
        if key not in self._places:
            self._places[key] = anyio.Semaphore(most, fast_acquire=True)
        return Slot(self._places[key], anyio.Lock(fast_acquire=True))


class Slot:
    """One call's place: `async with` waits for it, first come, first served; a cancel ends the wait."""

    def __init__(self, places: anyio.Semaphore, taking: anyio.Lock) -> None:
        self._places = places
        self._taking = taking
        self._is_held = self._is_open = False
        self._given = 0

    async def __aenter__(self) -> None:
        self._is_open = True
        await self._take()

    async def __aexit__(self, *_: object) -> None:
        self._is_open = False
        self._free()

    def give(self) -> None:
        """The call waits for one that it makes."""
        self._given += 1
        self._free()

    async def take_back(self) -> None:
        """That one has ended. If others haven't, the call may go on without a place: they may wait for the same."""
        self._given -= 1
        if self._is_open and not self._given:
            await self._take()

    async def _take(self) -> None:
        async with self._taking:  # once for the whole call, however many of its own calls have ended
            if self._is_held or self._given or not self._is_open:
                return
            await self._places.acquire()
            self._is_held = True
            if self._given or not self._is_open:
                self._free()  # it waits again, or is over: nobody would give this place back

    def _free(self) -> None:
        if self._is_held:
            self._is_held = False
            self._places.release()
