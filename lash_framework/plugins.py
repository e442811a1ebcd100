"""Finding and loading plugins: entry points of the group `lash`, and objects that an application passes.

Each plugin is loaded alone. What goes wrong with one becomes a row of the load report, with what to do about it; the
others, and the host, go on. What plugins offer, and how a mode puts them together, is known elsewhere.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pluggy
from attrs import evolve, field

from lash_framework.discovery import Candidate, installed
from lash_framework.hook_checks import HookManager, class_fault, hook_faults, marked, unknown_arguments
from lash_framework.ordering import CycleError, dependents_of_missing, plugin_order
from lash_framework.versions import satisfies
from lash_hookspecs import specs
from lash_hookspecs.errors import ConfigurationError, nearest
from lash_hookspecs.markers import PROJECT
from lash_hookspecs.plugins import HOOK_API, PluginInfo
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from lash_framework.lock import PluginLock

__all__ = ["BlockedPlugin", "LoadFailure", "LoadReport", "LoadedPlugin", "Stage", "load_plugins"]

Stage = Literal[
    "metadata", "import", "info", "api", "hooks", "registration", "requires", "order", "selection", "options"
]
"""Where a plugin failed. `metadata`: its distribution can't be read. `selection`: it was asked for and isn't there."""


@frozen(kw_only=True)
class LoadedPlugin:
    """A plugin that is ready. `version` is its distribution's, or what it says of itself when it has none."""

    plugin_id: str
    info: PluginInfo
    plugin: object = field(repr=False)
    distribution: str | None = None
    version: str | None = None
    source: Literal["entry point", "code"] = "code"

    @property
    def origin(self) -> str:
        """Where it is from, for people."""
        return f"`{self.distribution}`" if self.distribution else "the application"


@frozen(kw_only=True)
class LoadFailure:
    """A plugin that was left out: where it failed, why, and what can be done. `traceback` is empty without one.

    `from_code`: the application passed it as an object.
    """

    plugin_id: str
    distribution: str | None
    stage: Stage
    message: str
    from_code: bool = False
    traceback: str = field(default="", repr=False)
    remedy: str = ""


@frozen(kw_only=True)
class BlockedPlugin:
    """A plugin that was switched off, and so not even imported."""

    plugin_id: str
    distribution: str | None
    reason: str


@frozen(kw_only=True)
class LoadReport:
    """What became of every plugin that was found. `loaded` is in the order in which their hooks run."""

    loaded: tuple[LoadedPlugin, ...] = ()
    failed: tuple[LoadFailure, ...] = ()
    blocked: tuple[BlockedPlugin, ...] = ()

    @property
    def known(self) -> tuple[str, ...]:
        """The ids of all of them."""
        ids = [each.plugin_id for each in self.loaded]
        ids += [each.plugin_id for each in self.failed]
        return (*ids, *(each.plugin_id for each in self.blocked))

    def why_absent(self, plugin_id: str) -> str | None:
        """Why a plugin isn't loaded, if the report knows."""
        for failure in self.failed:
            if failure.plugin_id == plugin_id:
                return f"it was left out ({failure.stage}): {failure.message}"
        for blocked in self.blocked:
            if blocked.plugin_id == plugin_id:
                return f"it is switched off: {blocked.reason}"
        return None

    def without(self, failures: Sequence[LoadFailure]) -> LoadReport:
        """This report after some loaded plugins failed as well."""
        gone = {failure.plugin_id for failure in failures}
        loaded = tuple(each for each in self.loaded if each.plugin_id not in gone)
        return evolve(self, loaded=loaded, failed=(*self.failed, *failures))

    def require_clean(self) -> None:
        """Raise `ConfigurationError`, naming every failure, if there is any."""
        if self.failed:
            rows = "\n  ".join(f"`{each.plugin_id}` ({each.stage}): {each.message}" for each in self.failed)
            raise ConfigurationError(f"{len(self.failed)} plugin(s) failed to load:\n  {rows}")

    def require_code(self) -> None:
        """Raise `ConfigurationError` if a plugin failed that the application passed: its author is the one who asks."""
        faults = [each for each in self.failed if each.from_code]
        if faults:
            rows = "\n  ".join(f"`{each.plugin_id}` ({each.stage}): {each.message}; {each.remedy}" for each in faults)
            raise ConfigurationError(f"`plugins=`: what can't be loaded was passed:\n  {rows}")


class _Refused(Exception):
    """Why a plugin is not loaded; `stage` says how far it came."""

    def __init__(self, stage: Stage, message: str) -> None:
        self.stage = stage
        super().__init__(message)


# ---- entry point ----------------------------------------------------------------------------------------------------


def load_plugins(
    plugins: Sequence[object] = (),
    *,
    disabled: Iterable[str] = (),
    only: Iterable[str] | None = None,
    lock: PluginLock | None = None,
) -> tuple[pluggy.PluginManager, LoadReport]:
    """Load what is installed and what is passed; return the manager that they are registered with, and the report.

    `plugins` are modules or objects with hooks; one that has the id of an installed plugin wins over it. `disabled`
    ids are blocked wherever they are from; `only` (None: no limit) chooses among the installed ones. Nothing blocked
    is imported. Raises `LockMismatch`, before anything is imported, for an installed plugin that isn't in the `lock`.
    """
    manager = HookManager(PROJECT)
    manager.add_hookspecs(specs)
    loader = _Loader(manager, frozenset(disabled), None if only is None else frozenset(only), lock)
    for plugin in plugins:
        loader.load_object(plugin)
    loader.load_installed()
    loader.check_selection()
    return manager, settle_order(manager, loader.report())


def settle_order(manager: pluggy.PluginManager, report: LoadReport) -> LoadReport:
    """Leave out plugins whose requirements are not there or whose order is a circle; put the rest in order."""
    infos = {each.plugin_id: each.info for each in report.loaded}
    origins = {each.plugin_id: each for each in report.loaded}
    failures: list[LoadFailure] = []
    while True:
        gone: dict[str, tuple[Stage, str]] = {}
        for plugin_id, missing in dependents_of_missing(infos).items():
            hint = (
                report.without(failures).why_absent(missing) or f"install `lash-plugin-{missing}`, or whatever has it"
            )
            gone[plugin_id] = "requires", f"it requires the plugin `{missing}`, which is not here: {hint}"
        if not gone:
            try:
                order = plugin_order(infos)
                break
            except CycleError as error:
                gone = {plugin_id: ("order", str(error)) for plugin_id in error.members}
        for plugin_id, (stage, message) in gone.items():
            failures.append(failure_of(origins[plugin_id], stage, message))
            del infos[plugin_id]
            manager.unregister(name=plugin_id)
    report = report.without(failures)
    return evolve(report, loaded=tuple(origins[plugin_id] for plugin_id in order))


def failure_of(
    plugin: LoadedPlugin | Candidate, stage: Stage, message: str, error: BaseException | None = None
) -> LoadFailure:
    """A report's row for a plugin, with the way to get rid of it."""
    plugin_id, distribution = plugin.plugin_id, plugin.distribution
    if distribution is None:
        remedy = "mend it, or take it out of the plugins that the application passes"
    else:
        remedy = (
            f"upgrade or mend `{distribution}`, or switch the plugin off with LASH_PLUGINS_DISABLED={plugin_id} "
            f'or `[plugins] disabled = ["{plugin_id}"]` in lash.toml'
        )
    trace = "".join(traceback.format_exception(error)) if error is not None else ""
    return LoadFailure(
        plugin_id=plugin_id,
        distribution=distribution,
        stage=stage,
        message=message,
        from_code=plugin.source == "code",
        traceback=trace,
        remedy=remedy,
    )


class _Loader:
    """The state of one `load_plugins` call."""

    def __init__(
        self,
        manager: pluggy.PluginManager,
        disabled: frozenset[str],
        only: frozenset[str] | None,
        lock: PluginLock | None,
    ) -> None:
        self._manager = manager
        self._lock = lock
        self._disabled = disabled
        self._only = only
        self._loaded: dict[str, LoadedPlugin] = {}
        self._failed: list[LoadFailure] = []
        self._blocked: list[BlockedPlugin] = []
        self._seen: set[str] = set()
        self._of_application: set[str] = set()

    def report(self) -> LoadReport:
        return LoadReport(loaded=tuple(self._loaded.values()), failed=tuple(self._failed), blocked=tuple(self._blocked))

    def load_object(self, plugin: object) -> None:
        """Load what the application passed."""
        self._try(Candidate(_name_of(plugin), plugin=plugin, source="code"))

    def load_installed(self) -> None:
        """Load what is installed, sorted by id and distribution, so that the outcome doesn't depend on the disk."""
        found, unreadable = installed()
        for distribution, error in unreadable:
            message = f"whether it has plugins can't be told, its metadata is broken: {_text(error)}"
            row = failure_of(Candidate(distribution, distribution), "metadata", message, error)
            self._failed.append(evolve(row, remedy=f"install `{distribution}` anew, or remove it"))
        if self._lock is not None:
            self._lock.check_found([each for each in found if self._is_wanted(each)])
        for candidate in found:
            self._seen.add(candidate.plugin_id)
            if self._only is not None and candidate.plugin_id not in self._only:
                self._block(candidate, "it is not among the plugins that `only` names")
            elif candidate.plugin_id in self._disabled:
                self._block(candidate, "it is named in `disabled`")
            else:
                self._try(candidate)

    def check_selection(self) -> None:
        """Report what was named in `only` and isn't there; a plugin to be disabled may well be absent."""
        known = self._seen | self._loaded.keys()
        for plugin_id in sorted((self._only or frozenset()) - known):
            message = f"`only` names it, but it is not installed: {nearest(plugin_id, known)}"
            remedy = "install it, or correct `[plugins] only` in lash.toml"
            self._failed.append(
                LoadFailure(plugin_id=plugin_id, distribution=None, stage="selection", message=message, remedy=remedy)
            )

    def _is_wanted(self, candidate: Candidate) -> bool:
        """Whether it would be imported."""
        blocked = candidate.plugin_id in self._disabled or candidate.plugin_id in self._of_application
        return not blocked and (self._only is None or candidate.plugin_id in self._only)

    def _block(self, candidate: Candidate, reason: str) -> None:
        blocked = BlockedPlugin(plugin_id=candidate.plugin_id, distribution=candidate.distribution, reason=reason)
        self._blocked.append(blocked)

    def _try(self, candidate: Candidate) -> None:
        if candidate.entry_point is not None and candidate.plugin_id in self._of_application:
            # Also if that one failed: whoever replaces a plugin doesn't want the original in its place.
            self._block(candidate, "the application supplies its own plugin of this id")
            return
        earlier = self._loaded.get(candidate.plugin_id)
        if candidate.entry_point is not None and earlier is not None:
            message = f"{earlier.origin} already provides a plugin of this id"
            self._failed.append(failure_of(candidate, "registration", message))
            return
        try:
            plugin = candidate.plugin
            if candidate.entry_point is not None:
                plugin = _attempt("import", candidate.entry_point.load)
            if (fault := class_fault(self._manager, plugin)) is not None:
                raise _Refused("hooks", fault)
            info = _info_of(self._manager, plugin, candidate)
            candidate = evolve(candidate, plugin_id=info.id)
            if candidate.entry_point is None:
                self._of_application.add(info.id)
            if info.id in self._disabled:
                self._block(candidate, "it is named in `disabled`")
            else:
                self._admit(candidate, plugin, info)
        except _Refused as refused:
            self._failed.append(failure_of(candidate, refused.stage, str(refused), refused.__cause__))
        except Exception as error:  # an object so odd that it can't even be looked at
            self._failed.append(failure_of(candidate, "hooks", _text(error), error))

    def _admit(self, candidate: Candidate, plugin: object, info: PluginInfo) -> None:
        """Check what it is made for and what it implements, and register it."""
        _check_api(info)
        faults = hook_faults(self._manager, plugin, needs_one=candidate.source == "code")
        if faults:
            raise _Refused("hooks", "; ".join(faults))
        taken = self._loaded.get(info.id)
        if taken is not None and taken.plugin is not plugin:
            raise _Refused("registration", f"the id `{info.id}` is taken by another plugin of {taken.origin}")
        _register(self._manager, plugin, info.id)
        self._loaded[info.id] = LoadedPlugin(
            plugin_id=info.id,
            info=info,
            plugin=plugin,
            distribution=candidate.distribution,
            version=candidate.version or info.version,
            source=candidate.source,
        )


# ---- steps of loading one plugin ------------------------------------------------------------------------------------


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _attempt(stage: Stage, action: Callable[[], Any]) -> Any:
    """Run code of a plugin. Whatever it raises, `sys.exit` included, refuses this plugin and nothing else."""
    try:
        return action()
    except (Exception, SystemExit) as error:
        raise _Refused(stage, _text(error)) from error


def _name_of(plugin: object) -> str:
    """The id of a passed plugin that says nothing of itself: a module's name, or its class's."""
    name = getattr(plugin, "__name__", None)
    return name if isinstance(name, str) else type(plugin).__name__


def _info_of(manager: pluggy.PluginManager, plugin: object, candidate: Candidate) -> PluginInfo:
    for attribute, hook, _ in marked(manager, plugin):
        if hook == "lash_plugin_info":
            info = _attempt("info", getattr(plugin, attribute))
            break
    else:
        return PluginInfo(id=candidate.plugin_id, version=candidate.version or "0")
    if not isinstance(info, PluginInfo):
        raise _Refused("info", f"`lash_plugin_info` returned a `{type(info).__name__}`, not a `PluginInfo`")
    if candidate.entry_point is not None and info.id != candidate.plugin_id:
        message = f"it says that its id is `{info.id}`, but its entry point is named `{candidate.plugin_id}`"
        raise _Refused("info", f"{message}: make them the same")
    if not info.id.strip():
        raise _Refused("info", "its id is empty")
    return info


def _check_api(info: PluginInfo) -> None:
    here = ".".join(str(number) for number in HOOK_API)
    try:
        fits = satisfies(HOOK_API, info.api)
    except ValueError as error:
        raise _Refused("api", f"its `api` can't be read: {error}") from error
    if not fits:
        raise _Refused("api", f"it is made for hook API `{info.api}`, and this host has {here}")


def _register(manager: pluggy.PluginManager, plugin: object, plugin_id: str) -> None:
    other = manager.get_name(plugin)
    if other is not None:
        raise _Refused("registration", f"the same object is loaded already, as `{other}`")
    try:
        manager.register(plugin, name=plugin_id)
    except Exception as error:
        if manager.has_plugin(plugin_id):
            manager.unregister(name=plugin_id)  # pluggy up to 1.6 leaves it half registered
        told = "; ".join(unknown_arguments(manager, plugin)) or " ".join(str(error).split())
        raise _Refused("hooks", told) from error
