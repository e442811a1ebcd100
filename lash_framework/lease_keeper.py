"""Keeping what a host holds: leases are renewed while turns run, and a cancel from elsewhere reaches its turn.

One task a host, which sleeps while nothing runs.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import anyio

from lash_framework.cancel_gate import CancelGate
from lash_hookspecs.errors import LeaseLost, SessionDeleted
from lash_hookspecs.inbox import Inbox
from lash_hookspecs.leases import Lease, Leases
from lash_hookspecs.values import frozen, mutable

__all__ = ["LeaseKeeper"]

log = logging.getLogger("lash.leases")

LOOK_S = 0.25
"""How often is looked for a cancel that another process asked for, in seconds: a person should not wait."""


class _Store(Leases, Inbox):
    """What the keeper needs of a store."""


@mutable(eq=False)
class _Held:
    lease: Lease
    no: int
    gate: CancelGate
    renew_at: float
    lost: LeaseLost | None = None
    scope: anyio.CancelScope | None = None


@frozen(eq=False)
class _Owed:
    release: Callable[[], Awaitable[None]]
    until: float


class LeaseKeeper:
    """Looks after the leases of one host. `ttl_ms` is how long each lives without it.

    One that couldn't be released, since the store failed, is owed: that is tried again until it would have lapsed, and
    before the session is claimed anew.
    """

    def __init__(self, store: _Store, ttl_ms: int) -> None:
        self.ttl_ms = ttl_ms
        self.store = store
        self._held: list[_Held] = []
        self._owed: dict[str, _Owed] = {}
        self._busy = anyio.Event()

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Where the keeper works."""
        # Told of no error, the group raises none of its own, so that the body's comes out as it is.
        group = anyio.create_task_group()
        await group.__aenter__()
        try:
            group.start_soon(self._work, name="lash lease keeper")
            yield
        finally:
            group.cancel_scope.cancel()
            await group.__aexit__(None, None, None)
            with anyio.CancelScope(shield=True):
                for session_id in self._due():  # once more; else its time runs out
                    await self._try_to_settle(session_id)

    @contextmanager
    def holding(self, lease: Lease, no: int, gate: CancelGate) -> Iterator[None]:
        """Keep the lease while the block runs. Raises `LeaseLost` if the block was cancelled for that."""
        held = _Held(lease, no, gate, anyio.current_time() + self.ttl_ms / 3000)
        self._held.append(held)
        self._busy.set()
        try:
            with anyio.CancelScope() as held.scope:
                yield
            if held.lost is not None and held.scope.cancelled_caught:  # else it came to its end all the same
                raise held.lost
        finally:
            self._held.remove(held)

    def holds(self, session_id: str) -> bool:
        """Whether a turn of this host runs on the session."""
        return any(each.lease.session_id == session_id for each in self._held)

    def owe(self, session_id: str, release: Callable[[], Awaitable[None]]) -> None:
        """Have the session's lease released as soon as the store can."""
        self._owed[session_id] = _Owed(release, anyio.current_time() + self.ttl_ms / 1000)
        self._busy.set()

    async def settle(self, session_id: str) -> None:
        """Release what is owed of a session now. Raises the store's errors."""
        owed = self._owed.get(session_id)
        if owed is None:
            return
        with suppress(LeaseLost, SessionDeleted):  # then there is nothing left to release
            await owed.release()
        if self._owed.get(session_id) is owed:
            del self._owed[session_id]

    def _due(self) -> list[str]:
        """The sessions whose leases are owed, and haven't lapsed: after that nobody waits for them."""
        now = anyio.current_time()
        self._owed = {session_id: owed for session_id, owed in self._owed.items() if now < owed.until}
        return list(self._owed)

    async def _work(self) -> None:
        while True:
            if not self._held and not self._due():
                self._busy = anyio.Event()
                await self._busy.wait()
            await anyio.sleep(min(LOOK_S, self.ttl_ms / 4000))
            due = [held for held in self._held if anyio.current_time() >= held.renew_at]
            if due:
                # At once, so that they share a commit: one after the other, many would come too late on a slow disk.
                async with anyio.create_task_group() as group:
                    for held in due:
                        group.start_soon(self._look_after, held, self._renew)
            for held in tuple(self._held):
                await self._look_after(held, self._look)
            async with anyio.create_task_group() as group:
                for session_id in self._due():
                    group.start_soon(self._try_to_settle, session_id)

    async def _try_to_settle(self, session_id: str) -> None:
        try:
            await self.settle(session_id)
        except Exception as error:  # as of `_look_after`
            log.debug("the lease of session `%s` isn't released yet: %s", session_id, error)

    async def _look_after(self, held: _Held, how: Callable[[_Held], Awaitable[None]]) -> None:
        try:
            await how(held)
        except LeaseLost as error:
            held.lost = error
            if held.scope is not None:
                held.scope.cancel()
        except Exception as error:  # the host, and the other leases, must not end with it
            log.warning("the lease of session `%s` couldn't be looked after: %s", held.lease.session_id, error)

    async def _renew(self, held: _Held) -> None:
        held.lease = await self.store.renew_lease(held.lease, ttl_ms=self.ttl_ms)
        held.renew_at = anyio.current_time() + self.ttl_ms / 3000  # if it failed, the next look tries again

    async def _look(self, held: _Held) -> None:
        reason = await self.store.cancel_requested(held.lease, held.no)
        if reason is not None:
            held.gate.request(reason)
