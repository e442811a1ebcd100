"""`lash.lock`: what the installed plugins were, and said that they do, when somebody looked at them.

A host that starts with a lock refuses what has grown since: another plugin before it is even imported, another hook,
tool, mode or capability before anything runs. Capabilities are what plugins say of themselves, all else what they
register. Nothing keeps a plugin from doing more than it says: the file makes a change visible, and is no sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import field

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.specs import HOOKS
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    import pluggy

    from lash_framework.action_table import ActionTable
    from lash_framework.composition import Composition
    from lash_framework.discovery import Candidate
    from lash_framework.plugins import LoadedPlugin
    from lash_framework.settings import Settings

__all__ = [
    "FORMAT",
    "LOCK_NAME",
    "LockMismatch",
    "LockedPlugin",
    "PluginLock",
    "actions_of",
    "hooks_by_plugin",
    "lock_of",
    "read_lock",
    "tools_of",
]

FORMAT = 1
LOCK_NAME = "lash.lock"

_TOOLSET = "toolset "  # no tool's name has a blank
_ACTION = "action "
_LISTS = {"hooks": "hook", "tools": "tool", "registers": "registration", "capabilities": "capability"}


class LockMismatch(ConfigurationError):
    """The installed plugins are not what was locked. `rows` say what grew, one each."""

    def __init__(self, place: str, rows: Sequence[str], lacking: Sequence[str] = ()) -> None:
        self.rows = tuple(rows)
        text = f"{place}: the plugins here are not those that were locked:\n  " + "\n  ".join(rows)
        if lacking:
            named = ", ".join(f"`{each}`" for each in lacking)
            text += f"\n  the lock may be of another machine: {named} of it {_is(lacking)} not installed here"
        super().__init__(
            f"{text}\n  to accept this, run `lash plugins lock` again and read what it says; to keep a plugin out, "
            "name it in `plugins.disabled`"
        )


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


@frozen(kw_only=True)
class LockedPlugin:
    """One plugin: what it is, its hooks and tools, what else it registers, and what it says that it reaches for."""

    version: str | None = None
    distribution: str | None = None
    hooks: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    registers: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, plugin: LoadedPlugin, hooks: Iterable[str], tools: Iterable[str], registers: Iterable[str]
    ) -> LockedPlugin:
        """A loaded plugin, with all that it registered."""
        return cls(
            version=plugin.version,
            distribution=plugin.distribution,
            hooks=tuple(sorted(hooks)),
            tools=tuple(sorted(tools)),
            registers=tuple(sorted(registers)),
            capabilities=tuple(sorted(map(str, plugin.info.capabilities))),
        )

    def growth(self, plugin_id: str, now: LockedPlugin, *, versions: bool) -> Iterator[str]:
        """What `now` is or does beyond this, a line each."""
        if now.distribution != self.distribution:
            yield f"plugin `{plugin_id}` comes from `{now.distribution}`, and was locked as `{self.distribution}`'s"
        if versions and now.version != self.version:
            yield f"plugin `{plugin_id}` is {now.version}, and was locked at {self.version}"
        for name, what in _LISTS.items():
            for each in sorted({*getattr(now, name)} - {*getattr(self, name)}):
                yield _new(plugin_id, what, each)


@frozen(kw_only=True)
class PluginLock:
    """The locked plugins by id. `place` is the file for people; `versions`: whether other ones are refused."""

    plugins: Mapping[str, LockedPlugin] = field(factory=dict)
    place: str = LOCK_NAME
    versions: bool = False

    def encode(self) -> str:
        """The file: the same for the same plugins, on every machine."""
        plugins = {
            plugin_id: {
                "version": each.version,
                "distribution": each.distribution,
                **{name: sorted(getattr(each, name)) for name in _LISTS},
            }
            for plugin_id, each in sorted(self.plugins.items())
        }
        return json.dumps({"format": FORMAT, "plugins": plugins}, indent=2, ensure_ascii=False) + "\n"

    # ---- what a host asks, in this order ----------------------------------------------------------------------------

    def check_found(self, found: Sequence[Candidate]) -> None:
        """Before anything is imported. Raises `LockMismatch` for a plugin that isn't locked."""
        new = [each for each in found if each.plugin_id not in self.plugins]
        if new:
            here = {each.plugin_id for each in found}
            rows = [f"plugin `{each.plugin_id}` of `{each.distribution}` {each.version} is new" for each in new]
            raise LockMismatch(self.place, rows, [each for each in self.plugins if each not in here])

    def check_loaded(
        self,
        loaded: Sequence[LoadedPlugin],
        known: Iterable[str],
        hooks: Mapping[str, Sequence[str]],
        registered: Mapping[str, Sequence[str]],
    ) -> None:
        """Hooks, registrations, capabilities, and what is gone: `known` are all ids that are installed, loaded or not.

        What the application passed in code is the application's, and in no lock. Raises `LockMismatch`.
        """
        here = {*known}
        rows: list[str] = []
        for each in loaded:
            if each.source == "entry point" and (locked := self.plugins.get(each.plugin_id)) is not None:
                mine = registered.get(each.plugin_id, ())
                now = LockedPlugin.of(each, hooks.get(each.plugin_id, ()), locked.tools, mine)
                rows += locked.growth(each.plugin_id, now, versions=self.versions)
        lacking = [each for each in self.plugins if each not in here]
        if rows or lacking:
            gone = [f"plugin `{each}` is locked, and not installed here" for each in lacking]
            raise LockMismatch(self.place, rows + gone)

    def check_tools(self, plugins: Sequence[LoadedPlugin], tools: Iterable[tuple[str, str]]) -> None:
        """The tools of a composition, as `tools_of` has them. Raises `LockMismatch`."""
        self._check("tools", plugins, tools)

    def check_actions(self, plugins: Sequence[LoadedPlugin], actions: Iterable[tuple[str, str]]) -> None:
        """Actions, as `actions_of` has them: they are asked for when somebody wants one. Raises `LockMismatch`."""
        self._check("registers", plugins, actions)

    def _check(self, kind: str, plugins: Sequence[LoadedPlugin], found: Iterable[tuple[str, str]]) -> None:
        installed = {each.plugin_id for each in plugins if each.source == "entry point"} & self.plugins.keys()
        rows = [
            _new(plugin_id, _LISTS[kind], name)
            for name, plugin_id in found
            if plugin_id in installed and name not in getattr(self.plugins[plugin_id], kind)
        ]
        if rows:
            raise LockMismatch(self.place, sorted(rows))

    def changes(self, now: PluginLock) -> list[str]:
        """All that is otherwise in `now`, growth or not."""
        rows: list[str] = []
        for plugin_id, each in now.plugins.items():
            locked = self.plugins.get(plugin_id)
            if locked is None:
                rows.append(f"plugin `{plugin_id}` of `{each.distribution}` {each.version} is new")
                continue
            rows += locked.growth(plugin_id, each, versions=True)
            for name in _LISTS:
                lost = sorted({*getattr(locked, name)} - {*getattr(each, name)})
                rows += [f"plugin `{plugin_id}` no longer has the {_LISTS[name]} `{gone}`" for gone in lost]
        return rows + [f"plugin `{each}` is gone" for each in self.plugins if each not in now.plugins]


def _new(plugin_id: str, what: str, name: str) -> str:
    if name.startswith(_TOOLSET):
        what, name = "toolset", name.removeprefix(_TOOLSET)
    return f"plugin `{plugin_id}` has the new {what} `{name}`"


def tools_of(composition: Composition) -> Iterator[tuple[str, str]]:
    """What a lock holds of a composition's tools, with their plugins: their names, and toolsets by theirs.

    The tools of a toolset that connects to something are known as a turn starts, and not to a lock.
    """
    yield from composition.tool_owners.items()
    for each in composition.catalog.toolsets:
        yield _TOOLSET + each.toolset.name, each.plugin_id


def actions_of(table: ActionTable) -> Iterator[tuple[str, str]]:
    """What a lock holds of actions: their names, with their plugins."""
    for name, owned in table.items():
        yield _ACTION + name, owned.plugin_id


def hooks_by_plugin(manager: pluggy.PluginManager) -> dict[str, list[str]]:
    """The names of the hooks that each plugin implements."""
    found: dict[str, list[str]] = {}
    for name in HOOKS:
        for impl in getattr(manager.hook, name).get_hookimpls():
            found.setdefault(impl.plugin_name, []).append(name)
    return found


# ---- the file -------------------------------------------------------------------------------------------------------


def lock_of(settings: Settings) -> PluginLock | None:
    """The lock that these settings name, or the one beside their file; None if there is none."""
    chosen = settings.plugins
    if chosen.lock == "off":
        return None
    if chosen.lock is not None:
        return read_lock(Path(chosen.lock).expanduser(), versions=chosen.lock_versions)
    beside = None if settings.file is None else settings.file.parent / LOCK_NAME
    if beside is None or beside.is_dir() or not beside.exists():  # a folder is how a sandbox holds that there is none
        return None
    return read_lock(beside, versions=chosen.lock_versions)


def read_lock(path: Path, *, versions: bool = False) -> PluginLock:
    """A lock from its file. Raises `ConfigurationError`, naming the place, for one that can't be read."""
    shown = str(path)
    anew = "write it anew with `lash plugins lock`"
    named = f"{shown}: the plugins' lock"
    try:
        document = json.loads(path.read_bytes().decode("utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"{named} can't be read: {error.strerror or error}; {anew}, or set `plugins.lock` to `off`"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{named} is no text in UTF-8; {anew}") from error
    except (json.JSONDecodeError, RecursionError) as error:
        at = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise ConfigurationError(f"{shown}{at}: the plugins' lock is damaged ({error}); {anew}") from error
    number = document.get("format") if isinstance(document, dict) else None
    if isinstance(number, int) and number > FORMAT:
        raise ConfigurationError(
            f"{named} has format {number}, and this lash reads {FORMAT}: upgrade `lash-framework`, or {anew}"
        )
    try:
        if number != FORMAT:
            raise _Misfit("format", f"{FORMAT}")
        plugins = {name: _locked(name, each) for name, each in _table("plugins", document.get("plugins")).items()}
    except _Misfit as error:
        raise ConfigurationError(f"{named} is damaged: {error}; {anew}") from error
    return PluginLock(plugins=plugins, place=shown, versions=versions)


class _Misfit(ValueError):
    def __init__(self, where: str, wanted: str) -> None:
        super().__init__(f"`{where}` must be {wanted}")


def _table(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Misfit(where, "an object")
    return value


def _locked(plugin_id: str, value: Any) -> LockedPlugin:
    where, given = f"plugins.{plugin_id}", dict(_table(f"plugins.{plugin_id}", value))
    read: dict[str, Any] = {}
    for name in ("version", "distribution"):
        read[name] = given.pop(name, None)
        if not isinstance(read[name], (str, type(None))):
            raise _Misfit(f"{where}.{name}", "text or null")
    for name in _LISTS:
        listed = given.pop(name, None)
        if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
            raise _Misfit(f"{where}.{name}", "an array of text")
        read[name] = tuple(listed)
    if given:
        raise _Misfit(f"{where}.{min(given)}", "left out: nothing is known by that name")
    return LockedPlugin(**read)
