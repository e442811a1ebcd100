"""A composition: what a mode switches on, resolved once and shared by every session of that mode.

Building one calls the plugins' composition hooks and nothing else; it knows no session, and opens nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import attrs
import pluggy
from attrs import field

from lash_framework.catalog import Catalog, OwnedTool, resolve_catalog
from lash_framework.hooks import Owned, failure_text
from lash_framework.implementations import HookImpl, hook_table
from lash_framework.mode_merging import ResolvedMode
from lash_framework.modes import check_extension, driver_options
from lash_framework.plain_values import as_plain
from lash_framework.plugin_options import PluginOptions
from lash_framework.plugins import LoadedPlugin
from lash_framework.provenance import Provenance
from lash_framework.registrations import Registrations, conflict_text
from lash_framework.settings import SaidByMode
from lash_framework.signed_drivers import signed
from lash_framework.toolsets import Toolsets
from lash_hookspecs.canonical import stable_hash
from lash_hookspecs.contexts import CompositionContext
from lash_hookspecs.errors import ConfigurationError, PluginConflictError, PluginError, UnknownName, nearest
from lash_hookspecs.llm import LlmToolSpec
from lash_hookspecs.modes import Mode, ModeDriver
from lash_hookspecs.plugins import SessionStateSpec
from lash_hookspecs.prompts import PromptLayer
from lash_hookspecs.tools import ToolManifest
from lash_hookspecs.turn_steps import ProtocolDriver
from lash_hookspecs.values import frozen

__all__ = ["Composition", "OwnedTool", "compose"]


@frozen(kw_only=True, eq=False)
class Composition:
    """A mode with everything that belongs to it. Immutable, and equal only to itself.

    `key` is a stable hash of mode, plugins with versions, and options. `hooks` has every hook's implementations in the
    order in which they are called, () for none. `tools` are all of them, and `catalog` says more of them; `manifests`,
    and `tool_specs` for the model, those that the model may call where a session says nothing else. `prompt_layers` are
    the pieces of `mode.prompt`, the lowest first. By plugin id: `versions`, and in `turn_inputs` the class of what a
    caller may say with a turn, and in `variants` which of its options in this host they are; by tool: `tool_owners`.
    `hooked` are the plugins with hooks that turns call.
    """

    key: str
    mode: Mode
    mode_owner: str
    driver: ProtocolDriver
    driver_owner: str
    plugins: tuple[LoadedPlugin, ...]
    hooks: Mapping[str, tuple[HookImpl, ...]] = field(repr=False)
    catalog: Catalog = field(repr=False)
    tools: Mapping[str, OwnedTool] = field(repr=False)
    manifests: tuple[ToolManifest, ...] = field(repr=False)
    tool_specs: tuple[LlmToolSpec, ...] = field(repr=False)
    callable_names: frozenset[str] = field(repr=False)
    states: Mapping[str, SessionStateSpec] = field(repr=False)
    options: Mapping[str, Any] = field(repr=False)
    variants: Mapping[str, str] = field(repr=False)
    driver_options: Any = field(repr=False)
    prompt_layers: tuple[Owned[PromptLayer], ...] = field(repr=False)
    versions: Mapping[str, str] = field(repr=False)
    turn_inputs: Mapping[str, type] = field(repr=False)
    tool_owners: Mapping[str, str] = field(repr=False)
    provenance: tuple[Provenance, ...] = field(repr=False)
    hooked: frozenset[str] = field(repr=False)

    def check_turn_extension(self, value: object) -> str | None:
        """The id of a turn extension's class. Raises `ConfigurationError` if the mode takes none of this class."""
        return check_extension(self.mode, "turn", value)

    def extension_owner(self, kind: Literal["turn", "session"], value: object) -> str:
        """The plugin that declared the class of an extension which the mode takes."""
        what, name = f"{kind}_extension", check_extension(self.mode, kind, value)
        added = (row.plugin_id for row in self.provenance if (row.kind, row.name) == (what, name))
        return next(added, self.driver_owner)


def compose(
    manager: pluggy.PluginManager,
    registrations: Registrations,
    resolved: ResolvedMode,
    options: PluginOptions,
    toolsets: Toolsets,
) -> Composition:
    """Resolve a mode into a composition. `options` and `toolsets` are the host's.

    Raises `UnknownName` for a plugin that isn't here, `ConfigurationError` for one whose requirements the mode lacks or
    a mode without a driver, `PluginConflictError` with all conflicts, `PluginError` for a hook that fails.
    """
    mode = resolved.mode
    plugins, plugin_rows = _choose(registrations, resolved)
    _check_requirements(mode, plugins)
    if mode.driver is None:
        raise ConfigurationError(
            f'mode `{mode.mode_id}` has no driver: let it extend one that has, such as `extends = "standard"`'
        )
    hooks = hook_table(manager, list(plugins), {key: each.info.hook_limit_s for key, each in plugins.items()})
    _check_options(mode, resolved, registrations, plugins)
    _check_extensions_agree(mode, resolved, plugins)
    mine = {key: options.read(each, resolved.plugin_options.get(key, ())) for key, each in plugins.items()}
    variants = {key: options.variant(key, each) for key, each in mine.items()}
    option_rows = [row for key, each in resolved.plugin_options.items() if key in plugins for row in _rows(key, each)]
    chosen = driver_options(mode, mode.options)
    catalog = resolve_catalog(
        plugins,
        hooks,
        lambda plugin_id: CompositionContext(plugin_id=plugin_id, mode_id=mode.mode_id, options=mine[plugin_id]),
        toolsets,
        variants,
    )
    _check_conflicts(mode, plugins, catalog)
    driver = _made(mode.driver, mode.mode_id, resolved.driver_owner)
    versions = [[each.plugin_id, each.info.version, each.version] for each in plugins.values()]
    return Composition(
        key=stable_hash("lash.composition", [as_plain(mode), versions, as_plain(mine)]),
        mode=mode,
        mode_owner=resolved.owner,
        driver=driver,
        driver_owner=resolved.driver_owner,
        plugins=tuple(plugins.values()),
        hooks=hooks,
        hooked=frozenset(each.plugin_id for impls in hooks.values() for each in impls if not each.registers),
        catalog=catalog,
        tools=catalog.tools,
        manifests=catalog.manifests,
        tool_specs=catalog.specs,
        callable_names=catalog.callable_names,
        states={key: spec for key, spec in registrations.states.items() if key in plugins},
        options=mine,
        variants=variants,
        driver_options=chosen,
        prompt_layers=resolved.prompts,
        versions={each.plugin_id: each.info.version for each in plugins.values()},
        turn_inputs={key: each.info.turn_input for key, each in plugins.items() if each.info.turn_input is not None},
        tool_owners=catalog.owners,
        provenance=(*resolved.provenance, *plugin_rows, *option_rows, *catalog.provenance),
    )


def _made(driver: ModeDriver, mode_id: str, owner: str) -> ProtocolDriver:
    try:
        return cast(ProtocolDriver, signed(driver.make(), owner))
    except PluginError:
        raise
    except Exception as error:
        text = f"the driver of mode `{mode_id}` can't be made: {failure_text(error)}"
        raise PluginError(owner, "lash_modes", text) from error


# ---- which plugins --------------------------------------------------------------------------------------------------


def _choose(registrations: Registrations, resolved: ResolvedMode) -> tuple[dict[str, LoadedPlugin], list[Provenance]]:
    """The plugins of the mode in their order, and why each is there or not."""
    loaded = {each.plugin_id: each for each in registrations.report.loaded}
    for plugin_id in (*resolved.named, *resolved.removed):
        if plugin_id not in loaded:
            why = registrations.report.why_absent(plugin_id)
            if why is None or plugin_id in resolved.named:
                said = resolved.named.get(plugin_id, (resolved.removed.get(plugin_id, ""), "in `without`"))
                hint = why or f"it is not installed, {nearest(plugin_id, loaded)}"
                raise UnknownName("plugin", plugin_id, hint=f"{hint} ({said[1]} of {said[0]})")
    chosen: dict[str, LoadedPlugin] = {}
    rows = []
    for plugin_id, plugin in loaded.items():
        if plugin_id in resolved.removed:
            rows.append(Provenance("without", plugin_id, resolved.removed[plugin_id]))
        elif plugin_id in resolved.named:
            owner, how = resolved.named[plugin_id]
            chosen[plugin_id] = plugin
            rows.append(Provenance("plugin", plugin_id, owner, how))
        elif plugin.info.enabled_by_default:
            chosen[plugin_id] = plugin
            rows.append(Provenance("plugin", plugin_id, plugin_id, "on by default"))
    return chosen, rows


def _check_requirements(mode: Mode, plugins: Mapping[str, LoadedPlugin]) -> None:
    there = set(plugins).union(*(each.info.replaces for each in plugins.values()))
    missing = [
        f"plugin `{plugin_id}` requires `{each}`: add `{each}` to the mode's plugins, or `{plugin_id}` to its `without`"
        for plugin_id, plugin in plugins.items()
        for each in plugin.info.requires
        if each not in there
    ]
    if missing:
        raise ConfigurationError(
            f"mode `{mode.mode_id}` lacks plugins that others of it need:\n  " + "\n  ".join(missing)
        )


def _check_options(
    mode: Mode, resolved: ResolvedMode, registrations: Registrations, plugins: Mapping[str, LoadedPlugin]
) -> None:
    """Options of a plugin that the mode hasn't are a slip, unless it was taken out of the mode."""
    for plugin_id, said in resolved.plugin_options.items():
        if plugin_id in plugins or plugin_id in resolved.removed:
            continue
        loaded = [each.plugin_id for each in registrations.report.loaded]
        text = f"{said[-1]} of {said[-1].owner} has options for plugin `{plugin_id}`"
        if plugin_id in loaded:
            raise ConfigurationError(f"{text}, which mode `{mode.mode_id}` lacks: add it to its `plugins`")
        why = registrations.report.why_absent(plugin_id) or f"it is not installed, {nearest(plugin_id, loaded)}"
        raise ConfigurationError(f"{text}: {why}")


def _check_extensions_agree(mode: Mode, resolved: ResolvedMode, plugins: Mapping[str, LoadedPlugin]) -> None:
    """Two extensions may say different values of an option only if some mode settles it, or if values add up."""
    conflicts = []
    for plugin_id, said in resolved.plugin_options.items():
        cls = plugins[plugin_id].info.options if plugin_id in plugins else None
        settled = {each.name for each in attrs.fields(cls) if each.metadata.get("adds")} if cls is not None else set()
        settled |= {key for each in said if not each.is_extension for key in each.values}
        first: dict[str, SaidByMode] = {}
        for each in said:
            for key in each.values.keys() - settled:
                other = first.setdefault(key, each)
                if other.values[key] != each.values[key]:
                    both = f"extensions of plugin `{other.owner}` and plugin `{each.owner}`"
                    conflicts.append(f"mode `{mode.mode_id}`, option `{plugin_id}.{key}`: {both}")
    if conflicts:
        choose = f"choose: set it in `plugin_options` of mode `{mode.mode_id}`, or name one plugin in its `without`"
        raise PluginConflictError(sorted(conflicts), choose)


def _rows(plugin_id: str, said: Sequence[SaidByMode]) -> list[Provenance]:
    return [
        Provenance("plugin_option", f"{plugin_id}.{key}", each.owner, str(each)) for each in said for key in each.values
    ]


def _check_conflicts(mode: Mode, plugins: Mapping[str, LoadedPlugin], catalog: Catalog) -> None:
    conflicts = [*_declared_conflicts(plugins), *catalog.conflicts]
    if conflicts:
        choose = f"choose: name one in `without` of mode `{mode.mode_id}`, or let one say `PluginInfo(replaces=…)`"
        raise PluginConflictError([f"mode `{mode.mode_id}`, {each}" for each in conflicts], choose)


def _declared_conflicts(plugins: Mapping[str, LoadedPlugin]) -> list[str]:
    pairs = {
        tuple(sorted((plugin_id, other)))
        for plugin_id, plugin in plugins.items()
        for other in plugin.info.conflicts
        if other in plugins and other != plugin_id
    }
    return [conflict_text("they can't be on together", plugins[one], plugins[other]) for one, other in sorted(pairs)]
