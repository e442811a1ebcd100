"""The host's side of plugins: loads them once, knows what they offer, resolves modes, and holds their lifespans.

A host is one object; two of them in one process share nothing but the plugins' modules.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from lash_framework.action_table import ActionTable, actions_of
from lash_framework.call_limits import CallLimits
from lash_framework.catalog import Catalog
from lash_framework.composition import Composition, compose
from lash_framework.hooks import Owned, collect_sync
from lash_framework.implementations import HookImpl, hook_impls
from lash_framework.lifespans import CLOSE_LIMIT_S, Held, Lifespans, Make
from lash_framework.lock import PluginLock, hooks_by_plugin
from lash_framework.mode_merging import extend, merge
from lash_framework.modes import ModeTable
from lash_framework.plugin_options import PluginOptions
from lash_framework.plugins import LoadFailure, LoadReport, failure_of, load_plugins
from lash_framework.registrations import drop, register
from lash_framework.toolsets import Toolsets
from lash_hookspecs.commands import CommandSpec
from lash_hookspecs.contexts import HostContext
from lash_hookspecs.effect_hosts import EffectHostSpec
from lash_hookspecs.errors import ConfigurationError, PluginError, nearest
from lash_hookspecs.llm import ProviderSpec
from lash_hookspecs.modes import Mode, ModeExtension
from lash_hookspecs.stores import StoreSpec

if TYPE_CHECKING:
    from lash_hookspecs.trace import TraceSink

__all__ = ["PluginHost"]


class PluginHost:
    """The plugins of one application.

    `plugins` are modules or objects with hooks, besides the installed ones. `disabled` ids are not loaded, `only`
    (None: no limit) chooses among the installed ones. `modes` are the application's own, or `Owned("lash.toml", mode)`,
    the lower layer first. `options` are the plugins', by id; `read_options` makes them an instance of the class that a
    plugin has for them, with what modes have `said` of them, and knows where each was said.

    A plugin that can't be loaded, or collides with another one, is a row of `report`; only `strict` makes it a
    `ConfigurationError`. Modes that collide with each other are a `PluginConflictError`; installed plugins that are or
    do more than the `lock` says, a `LockMismatch`.
    """

    def __init__(
        self,
        plugins: Sequence[object] = (),
        *,
        disabled: Iterable[str] = (),
        only: Iterable[str] | None = None,
        modes: Sequence[Owned[Mode] | Mode] = (),
        options: Mapping[str, Mapping[str, Any]] | None = None,
        read_options: Callable[..., Any] | None = None,
        strict: bool = False,
        close_limit_s: float = CLOSE_LIMIT_S,
        lock: PluginLock | None = None,
    ) -> None:
        self._options = PluginOptions(options or {}, read_options)
        self._manager, report = load_plugins(plugins, disabled=disabled, only=only, lock=lock)
        self._registrations = register(self._manager, report, self._options.read)
        self._table, self._extensions = self._settle_modes(modes)
        self.report: LoadReport = self._registrations.report.without(
            _unknown_options(options or {}, self._registrations.report)
        )
        self._compositions: dict[str, Composition] = {}
        self._lifespans = Lifespans(close_limit_s)
        self.toolsets = Toolsets(self._lifespans)
        self.limits = CallLimits()
        self._lock = lock
        if lock is not None:
            lock.check_loaded(self.report.loaded, self.report.known, self.implemented, self.registered())
        if strict:
            self.report.require_clean()

    @property
    def providers(self) -> Mapping[str, Owned[ProviderSpec]]:
        """The model providers by id."""
        return self._registrations.providers

    @property
    def stores(self) -> Mapping[str, Owned[StoreSpec]]:
        """The stores by URL scheme."""
        return self._registrations.stores

    @property
    def modes(self) -> Mapping[str, Owned[Mode]]:
        """The modes by id, as they were given: `composition` says what becomes of one."""
        return self._table.modes

    @property
    def effect_hosts(self) -> Mapping[str, Owned[EffectHostSpec]]:
        """What plugins offer for `durability.effects`, by id."""
        return self._registrations.effect_hosts

    @property
    def commands(self) -> Mapping[str, Owned[CommandSpec]]:
        """The plugins' commands, by name."""
        return self._registrations.commands

    @property
    def sinks(self) -> Sequence[Owned[TraceSink]]:
        """Who writes down what the host does."""
        return self._registrations.sinks

    def actions(self) -> ActionTable:
        """The plugins' actions, by name. Raises `PluginError` for a hook that fails, and `PluginConflictError`."""
        table = actions_of(self._manager, self.report.loaded)
        if self._lock is not None:
            from lash_framework import lock  # few have one

            self._lock.check_actions(self.report.loaded, lock.actions_of(table))
        return table

    def registered(self) -> Mapping[str, Sequence[str]]:
        """What a lock holds of each plugin but hooks, tools and actions, a line each."""
        from lash_framework.lock_registered import registered_by_plugin

        return registered_by_plugin(self._registrations, self._extensions)

    def options_of(self, plugin_id: str) -> Any:
        """The options of a plugin that is loaded. Raises `ConfigurationError` for those that can't be."""
        return self._options.read(next(each for each in self.report.loaded if each.plugin_id == plugin_id))

    @property
    def implemented(self) -> Mapping[str, Sequence[str]]:
        """The names of the hooks that each plugin implements, by its id."""
        return hooks_by_plugin(self._manager)

    def composition(self, mode_id: str) -> Composition:
        """What a mode switches on. Resolved at the first call; later ones look it up.

        Raises `UnknownName` for a mode, or a plugin in it, that isn't here; `ConfigurationError`, `PluginConflictError`
        and `PluginError` for a mode that can't be put together.
        """
        known = self._compositions.get(mode_id)
        if known is None:
            resolved = extend(merge(self._table.chain(mode_id)), self._extensions.get(mode_id, ()))
            known = compose(self._manager, self._registrations, resolved, self._options, self.toolsets)
            if self._lock is not None:
                from lash_framework.lock import tools_of  # few have one

                self._lock.check_tools(known.plugins, tools_of(known))
            self._compositions[mode_id] = known
        return known

    def catalog(self, composition: Composition) -> Catalog:
        """A composition's tools, with what its toolsets offered last."""
        toolsets = composition.catalog.toolsets
        return composition.catalog.with_toolsets(self.toolsets.known(toolsets)) if toolsets else composition.catalog

    # ---- lifespans --------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def run(self) -> AsyncIterator[PluginHost]:
        """Where the plugins' lifespans live: `async with host.run(): …`. Leaving it closes them, also after an error.

        A host whose plugins have no lifespans works without it.
        """
        async with self._lifespans.run():
            yield self

    async def enter(self, composition: Composition) -> Mapping[str, Any]:
        """What the lifespans of a composition's plugins yielded, by plugin; entered at the first call.

        Any task may call it, at any time while the host runs. Raises `PluginError` for a lifespan that fails to start;
        a later call tries again.
        """
        impls = composition.hooks["lash_lifespan"]
        # Of different options a plugin holds different things.
        names = {impl.plugin_id: Held(impl.plugin_id, composition.variants[impl.plugin_id]) for impl in impls}
        made = {names[impl.plugin_id]: self._lifespan(impl, composition) for impl in impls}
        entered = await self._lifespans.enter(made)
        return {plugin_id: entered[name] for plugin_id, name in names.items()}

    def _lifespan(self, impl: HookImpl, composition: Composition) -> Make:
        host = HostContext(plugin_id=impl.plugin_id, options=composition.options[impl.plugin_id])
        return lambda: impl.function(*impl.pick({"host": host}))

    async def aclose(self) -> None:
        """Leave the lifespans in reverse order, from any task; `run` does it too. Raises an `ExceptionGroup`."""
        await self._lifespans.aclose()

    # ---- modes ------------------------------------------------------------------------------------------------------

    def _settle_modes(
        self, own: Sequence[Owned[Mode] | Mode]
    ) -> tuple[ModeTable, Mapping[str, Sequence[Owned[ModeExtension]]]]:
        """All modes, and what plugins add to each. A plugin that fails here is left out, and with it its modes."""
        while True:
            table = ModeTable(self._registrations.modes, own)
            extensions, failures = self._ask_for_extensions(table)
            if not failures:
                return table, extensions
            self._registrations = drop(self._manager, self._registrations, failures)

    def _ask_for_extensions(self, table: ModeTable) -> tuple[dict[str, list[Owned[ModeExtension]]], list[LoadFailure]]:
        loaded = {each.plugin_id: each for each in self._registrations.report.loaded}
        impls = hook_impls(self._manager, "lash_mode_extensions", list(loaded))
        extensions: dict[str, list[Owned[ModeExtension]]] = {}
        failures: dict[str, LoadFailure] = {}
        for mode_id in table.modes if impls else ():
            try:
                resolved = merge(table.chain(mode_id))
            except ConfigurationError:
                continue  # said to whoever asks for this mode; the others are fine
            for impl in impls:
                if impl.plugin_id in resolved.removed or impl.plugin_id in failures:
                    continue
                try:
                    found = collect_sync((impl,), None, item=ModeExtension, mode=resolved.mode)
                except PluginError as error:
                    plugin = loaded[impl.plugin_id]
                    failures[impl.plugin_id] = failure_of(plugin, "registration", str(error), error.__cause__ or error)
                else:
                    extensions.setdefault(mode_id, []).extend(found)
        return extensions, list(failures.values())


def _unknown_options(options: Mapping[str, object], report: LoadReport) -> list[LoadFailure]:
    """Rows for options of plugins that nobody knows: most likely a slip, and else it would go unnoticed."""
    known = {each.plugin_id for each in report.loaded}
    known |= {each.plugin_id for each in report.failed} | {each.plugin_id for each in report.blocked}
    return [
        LoadFailure(
            plugin_id=plugin_id,
            distribution=None,
            stage="options",
            message=f"there are options for it, but no such plugin is installed: {nearest(plugin_id, known)}",
            remedy=f"correct or remove `[plugin.{plugin_id}]` in lash.toml",
        )
        for plugin_id in options
        if plugin_id not in known
    ]
