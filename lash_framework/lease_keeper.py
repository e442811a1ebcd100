"""Keeping what a host holds: leases are renewed while turns run, and a cancel from elsewhere reaches its turn.

One task a host, which sleeps while nothing runs.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio

from lash_framework.cancel_gate import CancelGate
from lash_hookspecs.errors import LeaseLost
from lash_hookspecs.inbox import Inbox
from lash_hookspecs.leases import Lease, Leases
from lash_hookspecs.values import mutable

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


class LeaseKeeper:
    """Looks after the leases of one host. `ttl_ms` is how long each lives without it."""

    def __init__(self, store: _Store, ttl_ms: int) -> None:
        self.ttl_ms = ttl_ms
        self.store = store
        self._held: list[_Held] = []
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

    async def _work(self) -> None:
        while True:
            if not self._held:
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
