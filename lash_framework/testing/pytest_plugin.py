"""Fixtures for the tests of plugins; pytest finds them by itself where lash is installed.

Nothing is imported here but pytest: who has no test of a plugin pays for reading this file.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lash_framework.testing.crash_matrix import CrashReport
    from lash_framework.testing.hosts import HostInTest, VirtualClock
    from lash_framework.testing.model import Says

__all__ = ["lash_clock", "lash_crashes", "lash_host"]


@pytest.fixture
def lash_clock() -> VirtualClock:
    """The time by which the test's hosts live: it passes with `lash_clock.advance(seconds)` only."""
    from lash_framework.testing.hosts import VirtualClock

    return VirtualClock()


@pytest.fixture
def lash_host(tmp_path: Path, lash_clock: VirtualClock) -> Callable[..., AbstractAsyncContextManager[HostInTest]]:
    """Open a host with these plugins: `async with lash_host("my-plugin", says=["Hello."]) as host: …`.

    Plugins are ids of installed ones, modules, or objects with hooks. `says` is what the model says; `toml` the text of
    a `lash.toml`; the rest is for `Lash.open`. `host.run(prompt)` runs a turn; then look at `host.model`,
    `host.activities` and `host.lash`.
    """

    def opened(*plugins: object, **options: Any) -> AbstractAsyncContextManager[HostInTest]:
        from lash_framework.testing.hosts import open_host

        return open_host(*plugins, **{"folder": tmp_path, "clock": lash_clock, **options})

    return opened


@pytest.fixture
def lash_crashes(tmp_path: Path) -> Callable[..., Awaitable[CrashReport]]:
    """Kill a turn at each of its effects, and look what is left: `await lash_crashes("my-plugin", says=[…])`.

    `says` is what the model says, one reply after the other. `points`, `checks` and `blur` are those of
    `crash_at_every_effect`; the rest is for `lash_host`. Raises `AssertionError`.
    """

    async def crashed(
        *plugins: object,
        says: Says,
        prompt: str = "Go ahead.",
        points: Callable[[Any], bool] | None = lambda point: point.kind == "effect",
        checks: Any = (),
        blur: Callable[[str], str] = str,
        **options: Any,
    ) -> CrashReport:
        from lash_framework.testing import crash_at_every_effect, crash_host

        opened = crash_host(*plugins, says=says, **{"folder": tmp_path, **options})
        return await crash_at_every_effect(opened, prompt, points=points, checks=checks, blur=blur)

    return crashed
