"""Hosts for tests of plugins: nothing of the machine's settings, only the plugins that are named, a scripted model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from attrs import evolve, field

from lash_framework.lash import Lash
from lash_framework.settings import PluginChoice, Settings, load_settings
from lash_framework.testing.model import MODEL, Says, ScriptedModel
from lash_framework.world import REAL, World, enter_world, this_world
from lash_hookspecs.activity import TurnActivity
from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.sessions import AssembledTurn, TurnInput
from lash_hookspecs.stores import StoreContext, StoreSpec
from lash_hookspecs.values import mutable

__all__ = ["NEEDED", "HostInTest", "VirtualClock", "crash_host", "open_host"]

NEEDED = ("mode-standard", "store-sql")
"""The installed plugins that are on beside those that are named, where there are any: a mode, and a store in memory."""

BEGINS_MS = 1_700_000_000_000


class VirtualClock:
    """The time that hosts and stores of a test see; it stands still until `advance`.

    It is what they write down, and by which leases lapse. What sleeps does so in real time: to have hours pass in an
    instant, run the test in `simulate`.
    """

    def __init__(self, now_ms: int = BEGINS_MS) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return self._now_ms

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        self._now_ms += int(seconds * 1000)

    def world(self) -> World:
        """The real world but for the time."""

        def open_store(spec: StoreSpec, context: StoreContext) -> Awaitable[Any]:
            return spec.open(evolve(context, now_ms=self.now_ms))

        return evolve(REAL, now_ms=self.now_ms, open_store=open_store)


@mutable
class HostInTest:
    """An open host, its model, and what its turns did: `activities` are all that `run` saw, in order."""

    lash: Lash
    model: ScriptedModel
    clock: VirtualClock
    activities: list[TurnActivity] = field(factory=list)

    async def run(self, prompt: TurnInput | str, *, session: str = "test", **options: Any) -> AssembledTurn:
        """Run a turn to its end, and record its activities. The options are those of `Session.run`."""
        opened = await self.lash.session(session)
        async with opened.turn(prompt, **options) as running:
            async for activity in running:
                self.activities.append(activity)
            return await running.result()

    def events(self, *tags: str) -> list[Any]:
        """The recorded events with one of these tags, such as `tool_call_completed`; all without any."""
        return [each.event for each in self.activities if not tags or each.event.tag in tags]


@asynccontextmanager
async def open_host(
    *plugins: object,
    says: Says = ("Done.",),
    store: str = "sqlite://",
    toml: str = "",
    folder: Path | None = None,
    clock: VirtualClock | None = None,
    by_request: bool = False,
    **options: Any,
) -> AsyncIterator[HostInTest]:
    """A host with these plugins: objects with hooks, or ids of installed ones, which are then found as a user's are.

    Nothing else that is installed is loaded, but `NEEDED`. `says` is the model; another one is chosen with `model`.
    `toml` is the text of a `lash.toml`, for which `folder` is needed; `options` are those of `Lash.open`. Raises
    `ConfigurationError`, with its traceback, for a plugin that can't be loaded.
    """
    wanted = [each for each in plugins if isinstance(each, str)]
    given = [each for each in plugins if not isinstance(each, str)]
    clock, model = clock or VirtualClock(), ScriptedModel(says, by_request=by_request)
    settings = _settings(toml, folder)
    chosen = settings.plugins
    only = (*NEEDED, *wanted, *(chosen.only or ()))
    settings = evolve(settings, plugins=PluginChoice(disabled=chosen.disabled, only=only, lock="off"))
    if store.startswith("sqlite:") and not settings.store_options:
        # No test's process dies, whatever is made of its hosts: nothing has to reach the disk.
        settings = evolve(settings, store_options={"synchronous": "normal"})
    options = {"model": settings.model or MODEL, **options}
    with _at(clock):
        async with Lash.open(store, settings=settings, plugins=[*given, model], **options) as lash:
            _require(lash, wanted)
            yield HostInTest(lash, model, clock)


def crash_host(*plugins: object, says: Says, **options: Any) -> Callable[[str], AbstractAsyncContextManager[Lash]]:
    """What `crash_at_every_effect` opens its hosts with: those of `open_host`, each as a process of its own."""

    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Lash]:
        async with open_host(*plugins, says=says, store=url, by_request=True, **options) as host:
            yield host.lash

    return opened


def _settings(toml: str, folder: Path | None) -> Settings:
    """Those of this text alone."""
    if not toml:
        return load_settings(env={}, cwd=Path("/"))
    if folder is None:
        raise ConfigurationError("`toml` needs a `folder`, where the file is written")
    (folder / "lash.toml").write_text(toml, encoding="utf-8")
    return load_settings(folder / "lash.toml", env={})


def _require(lash: Lash, wanted: Sequence[str]) -> None:
    for failed in lash.host.report.failed:
        if failed.plugin_id in wanted or (failed.plugin_id in NEEDED and failed.stage != "selection"):
            trace = f"\n{failed.traceback}" if failed.traceback else ""
            raise ConfigurationError(f"plugin `{failed.plugin_id}` ({failed.stage}): {failed.message}{trace}")


@contextmanager
def _at(clock: VirtualClock) -> Any:
    """Where hosts live by this clock, unless they live in a simulation, which has its own."""
    before = this_world()
    if before is not REAL:
        yield
        return
    enter_world(clock.world())
    try:
        yield
    finally:
        enter_world(before)
