"""What a host takes from the world around it, and no program can work out: the time, fresh names, a place for data.

The kernel asks here and nowhere else. `lash_framework.testing.simulate` puts a world in its place whose every answer
follows from a seed.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

from anyio.lowlevel import RunVar

from lash_hookspecs.leases import ProcessStamp
from lash_hookspecs.liveness import process_stamp
from lash_hookspecs.stores import StoreContext, StoreSpec
from lash_hookspecs.values import frozen

__all__ = ["REAL", "World", "enter_world", "this_world"]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _open_store(spec: StoreSpec, context: StoreContext) -> Awaitable[Any]:
    return spec.open(context)


@frozen(kw_only=True)
class World:
    """`now_ms` is milliseconds since 1970. `token_hex` makes a name of so many bytes that nobody else has.

    `process` is the stamp by which others can tell that this process is gone. `open_store` opens one of the stores that
    plugins offer.
    """

    now_ms: Callable[[], int] = _now_ms
    token_hex: Callable[[int], str] = secrets.token_hex
    process: Callable[[], ProcessStamp | None] = process_stamp
    open_store: Callable[[StoreSpec, StoreContext], Awaitable[Any]] = _open_store


REAL = World()

_world: RunVar[World] = RunVar("lash_framework.world", REAL)


def this_world() -> World:
    """The world of the event loop that runs."""
    return _world.get(REAL)


def enter_world(world: World) -> None:
    """Let hosts that are opened on the running event loop, from now on, live in this world."""
    _world.set(world)
