"""How a watch gets to see an open host: its store, its effects and its models, each behind something that tells."""

from __future__ import annotations

import inspect
import re
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from attrs import evolve

from lash_framework.testing.crash_points import Killed, Watch, When
from lash_hookspecs.errors import CapabilityMissing
from lash_hookspecs.leases import LeaseHolder
from lash_hookspecs.llm import LlmEventSender, LlmRequest, LlmResponse, LlmStreamEvent, Provider

if TYPE_CHECKING:
    from lash_framework.lash import Lash

__all__ = ["TellsStatements", "watch_host"]

TIMERS = frozenset({"cancel_requested", "renew_lease", "sync"})
"""What the clock calls, not the turn: no golden trace has it in the same place twice. And what leaves nothing new."""

READS = re.compile(r"load_|list_|has_|get_|find_|is_on_path|session_was_deleted")
"""After one of these the world is as it was before."""


@runtime_checkable
class TellsStatements(Protocol):
    """A store that tells of its statements can be killed between them, too; it need not."""

    def on_statement(self, seen: Callable[[str, Sequence[Any], int], None] | None) -> None:
        """Have `seen` told of each statement that ran, on its thread; what `seen` raises is raised there."""
        ...


def watch_host(lash: Lash, watch: Watch, *, mortal: bool = False) -> None:
    """Let the watch see whatever the host does from now on.

    `mortal`: to everybody else the host's process looks like one that is dead already. Raises `CapabilityMissing` for a
    host whose turns don't survive their process.
    """
    journalling = lash.require_journal("a crash that is survived")
    if not lash.store.persistent:
        raise CapabilityMissing(f"the store `{lash.store.location}` doesn't outlive its host, so nothing survives")
    told = _Statements(watch)
    if isinstance(lash.store, TellsStatements):
        lash.store.on_statement(told)
    store: Any = _WatchedStore(lash.store, watch, told)
    providers: Any = _WatchedProviders(lash.providers, watch)
    lash.store, lash.providers = store, providers
    journalling.keeper.store = store
    holder = _dead(journalling.holder) if mortal else journalling.holder
    lash.journalling = evolve(journalling, store=store, holder=holder, around=watch.around)


def _dead(holder: LeaseHolder) -> LeaseHolder:
    """The same, as if its process had ended and another one had its number."""
    stamp = holder.process
    return holder if stamp is None else evolve(holder, process=evolve(stamp, started=stamp.started + 1))


# ---- the store ------------------------------------------------------------------------------------------------------


class _WatchedStore:
    """A store whose calls are places."""

    def __init__(self, store: Any, watch: Watch, told: _Statements) -> None:
        self._store = store
        self._watch = watch
        self._told = told

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return partial(self._call, name, found) if inspect.iscoroutinefunction(found) else found

    async def _call(self, name: str, method: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
        watch, is_timer = self._watch, name in TIMERS
        if watch.dead:
            await watch.stop()
        if not is_timer:
            await watch.reach(f"store {name}", When.BEFORE)
        try:
            with self._told.calling(name):
                answer = await method(*args, **options)
        except Killed:
            await watch.stop()
        if watch.dead:
            await watch.stop()
        if not is_timer and not READS.match(name):
            await watch.reach(f"store {name}", When.AFTER)
        if name == "commit":
            watch.commits -= 1
            watch.active = watch.active and watch.commits > 0
        return answer


class _Statements:
    """Each statement of a transaction that writes is a place, named after the call of the store that it is for."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._writing = threading.local()
        self._calls: list[str] = []
        self._count: Counter[str] = Counter()

    @contextmanager
    def calling(self, name: str) -> Iterator[None]:
        """While a call is on its way."""
        if name in TIMERS or READS.match(name) or not self._watch.active:
            yield
            return
        self._count[name] += 1
        call = f"{name} {self._count[name]}"
        self._calls.append(call)
        try:
            yield
        finally:
            self._calls.remove(call)

    def __call__(self, sql: str, params: Sequence[Any], rows: int) -> None:
        if self._watch.dead:
            raise Killed
        what = _short(sql)
        if what == "BEGIN IMMEDIATE":
            self._writing.on = True
        if not getattr(self._writing, "on", False):
            return
        if what in ("COMMIT", "ROLLBACK"):
            self._writing.on = False
        if calls := "+".join(self._calls):
            self._watch.reach_on_thread(f"sql {calls}: {what}", When.AFTER)


_INNERMOST = re.compile(r"\([^()]*\)")
_SHAPE = re.compile(r"\s*(?:(INSERT INTO|UPDATE|DELETE FROM)|SELECT\b.*?\bFROM)\s+(\w+)", re.DOTALL)


def _short(sql: str) -> str:
    """The verb and the table: the first one outside of all brackets."""
    while (bare := _INNERMOST.sub("", sql)) != sql:
        sql = bare
    shape = _SHAPE.match(sql)
    return f"{shape[1] or 'SELECT'} {shape[2]}" if shape else " ".join(sql.split())


# ---- the models -----------------------------------------------------------------------------------------------------


class _WatchedProviders:
    """The open providers, each watched."""

    def __init__(self, providers: Any, watch: Watch) -> None:
        self._providers = providers
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._providers, name)

    def get(self, provider_id: str) -> Any:
        return _WatchedProvider(self._providers.get(provider_id), self._watch)


class _WatchedProvider:
    """A provider whose replies have a place after each piece."""

    def __init__(self, provider: Provider, watch: Watch) -> None:
        self._provider = provider
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)

    async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
        said = sum(message.role == "assistant" for message in request.messages)

        async def watched(events: Sequence[LlmStreamEvent]) -> None:
            await send(events)
            if events:
                await self._watch.reach(f"reply {said + 1}", When.AFTER)

        return await self._provider.complete(request, watched)
