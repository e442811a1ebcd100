"""A composition's tools: what its plugins offer, and what is left of it for the model after their edits.

Toolsets that connect to something add to it in each turn, by their records: `Catalog.with_toolsets`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve, field

from lash_framework.hooks import Owned, collect_sync
from lash_framework.implementations import HookImpl
from lash_framework.plugins import LoadedPlugin
from lash_framework.provenance import Provenance
from lash_framework.registrations import conflict_text, takes_over
from lash_framework.toolsets import TOOL_NAME, ConnectedTool, OwnedToolSet, Toolsets
from lash_hookspecs.connected_tools import ConnectedToolSet, ToolSetRecord
from lash_hookspecs.contexts import CompositionContext
from lash_hookspecs.errors import PluginError
from lash_hookspecs.llm import LlmToolSpec
from lash_hookspecs.read_only_data import read_only_table
from lash_hookspecs.tool_catalog import CatalogEdit
from lash_hookspecs.tools import Tool, ToolActivation, ToolManifest
from lash_hookspecs.values import frozen

if TYPE_CHECKING:
    from lash_framework.schemas import Validator

__all__ = ["Absent", "Catalog", "OwnedTool", "resolve_catalog"]

log = logging.getLogger("lash.hooks")

KEPT = 4
"""Offers of toolsets whose catalogs are at hand: turns that go on have those that they began with."""


@frozen
class OwnedTool:
    """A tool and the plugin that it is from."""

    tool: Tool
    plugin_id: str


@frozen
class Absent:
    """A toolset, or a tool of one, that isn't there: whose it is, and why."""

    plugin_id: str
    reason: str


@frozen(kw_only=True)
class Catalog:
    """All tools by name; what the model may call, as manifests and as it is told; who did what; conflicts, if any.

    `annotated` are the manifests of all tools, with what plugins added to them. By name: `hidden`, with who hides it;
    `internal` and `deferred`; `guarded`, those that may be out of reach; `connected`, those of `toolsets`, of which
    `absent` says what is missing. `validators` are the schemas that were compiled.
    """

    tools: Mapping[str, OwnedTool]
    annotated: Mapping[str, ToolManifest]
    hidden: Mapping[str, str]
    internal: frozenset[str]
    deferred: tuple[str, ...]
    guarded: tuple[str, ...]
    manifests: tuple[ToolManifest, ...]
    specs: tuple[LlmToolSpec, ...]
    callable_names: frozenset[str]
    provenance: tuple[Provenance, ...]
    conflicts: tuple[str, ...]
    owners: Mapping[str, str]
    toolsets: tuple[OwnedToolSet, ...] = ()
    connected: frozenset[str] = frozenset()
    absent: Mapping[str, Absent] = field(factory=dict)
    validators: dict[str, Validator] = field(factory=dict, init=False, repr=False, eq=False)

    def with_toolsets(self, records: Sequence[ToolSetRecord]) -> Catalog:
        """The same with what toolsets offered; the same object for the same records. Raises nothing.

        A name that is taken stays with who has it. If a plugin's edits of it all can't be, all of it is absent.
        """
        if not records:
            return self
        for at, (offered, made) in enumerate(self._derived):
            if offered == records:
                if at:
                    self._derived.insert(0, self._derived.pop(at))
                return made
        try:
            made = self._resolve(self, records)
            problem = "; ".join(made.conflicts)
        except PluginError as error:
            problem = str(error)
        if problem:
            log.warning("the tools of toolsets are left out: %s", problem)
            made = self._resolve(self, [evolve(each, tools=(), reason=each.reason or problem) for each in records])
        self._derived[:] = [(records, made), *self._derived[: KEPT - 1]]
        return made

    def spec(self, name: str) -> LlmToolSpec:
        """A tool as the model is told of it; the same object for the same tool."""
        made = self._specs.get(name)
        if made is None:
            made = self._specs[name] = _spec(self.annotated[name])
        return made

    _specs: dict[str, LlmToolSpec] = field(factory=dict, init=False, repr=False, eq=False)
    _resolve: Callable[[Catalog, Sequence[ToolSetRecord]], Catalog] = field(repr=False, eq=False)
    _derived: list[tuple[Sequence[ToolSetRecord], Catalog]] = field(factory=list, init=False, repr=False, eq=False)


def resolve_catalog(
    plugins: Mapping[str, LoadedPlugin],
    hooks: Mapping[str, tuple[HookImpl, ...]],
    bind: Callable[[str], CompositionContext],
    hub: Toolsets,
    variants: Mapping[str, str],
) -> Catalog:
    """Ask for tools, then for edits, and unite them. Every editor sees the tools as they were offered.

    A name that an edit hides or annotates may be absent. Raises `PluginError` for a hook that fails or errs.
    """
    offered: list[Owned[Any]] = []
    toolsets: dict[str, OwnedToolSet] = {}
    for owned in collect_sync(hooks["lash_tools"], bind):
        if not isinstance(owned.value, ConnectedToolSet):
            offered.append(owned)
            continue
        made = OwnedToolSet(owned.value, owned.plugin_id, variants[owned.plugin_id])
        if toolsets.setdefault(made.name, made) is not made:
            text = f"there are two toolsets `{made.toolset.name}`: give each a name of its own"
            raise PluginError(made.plugin_id, "lash_tools", text)

    def resolve(base: Catalog | None, records: Sequence[ToolSetRecord]) -> Catalog:
        return _united(plugins, hooks, bind, offered, _Connected(hub, toolsets, base, records), resolve)

    return resolve(None, ())


@frozen
class _Connected:
    """What toolsets offered, and the catalog without it."""

    hub: Toolsets
    toolsets: Mapping[str, OwnedToolSet]
    base: Catalog | None
    records: Sequence[ToolSetRecord]

    def add_to(self, tools: dict[str, OwnedTool], rows: list[Provenance], absent: dict[str, Absent]) -> frozenset[str]:
        """Add the tools whose names are free, and return these names."""
        taken = {} if self.base is None else self.base.owners
        added = set()
        for record in self.records:
            owned = self.toolsets.get(f"{record.plugin_id}/{record.name}")
            if owned is None:
                continue  # the record is older than the plugin, which has none of this name
            if record.reason:
                _note(absent, f"toolset {record.name}", record.plugin_id, record.reason)
            for manifest in record.tools:
                name = manifest.name
                if name in taken or name in tools:
                    other = taken.get(name) or tools[name].plugin_id
                    reason = f"there is a tool `{name}` of plugin `{other}`"
                    _note(absent, f"{name} of toolset {record.name}", record.plugin_id, reason)
                    continue
                tools[name] = OwnedTool(ConnectedTool(self.hub, owned, manifest), record.plugin_id)
                rows.append(Provenance("tool", name, record.plugin_id, f"toolset {record.name}"))
                added.add(name)
        return frozenset(added)


def _note(absent: dict[str, Absent], what: str, plugin_id: str, reason: str) -> None:
    """Two plugins may each have a toolset of that name."""
    label = f"{what} of plugin {plugin_id}" if what in absent else what
    absent[label] = Absent(plugin_id, reason)


def _united(
    plugins: Mapping[str, LoadedPlugin],
    hooks: Mapping[str, tuple[HookImpl, ...]],
    bind: Callable[[str], CompositionContext],
    found: Sequence[Owned[Any]],
    toolsets: _Connected,
    resolve: Callable[[Catalog, Sequence[ToolSetRecord]], Catalog],
) -> Catalog:
    draft = _Draft(plugins, toolsets)
    draft.offer(found)
    if impls := hooks["lash_tool_catalog"]:
        offered = tuple(each.tool.manifest for each in draft.tools.values())
        edits: list[Owned[CatalogEdit]] = collect_sync(impls, bind, item=CatalogEdit, catalog=offered)
        for owned in edits:
            draft.edit(owned.plugin_id, owned.value)
    draft.add_search()
    return draft.catalog(resolve)


class _Draft:
    """A catalog while tools are added to it and edited."""

    def __init__(self, plugins: Mapping[str, LoadedPlugin], toolsets: _Connected) -> None:
        self._plugins = plugins
        self._toolsets = toolsets
        self.tools: dict[str, OwnedTool] = {}
        self._connected: frozenset[str] = frozenset()
        self._absent: dict[str, Absent] = {}
        self._hidden: dict[str, str] = {}
        self._notes: dict[str, list[str]] = {}
        self._rows: list[Provenance] = []
        self._conflicts: list[str] = []

    def offer(self, found: Sequence[Owned[Any]]) -> None:
        """Add what plugins offer, then what their toolsets do."""
        for owned in found:
            self._add("lash_tools", owned.plugin_id, owned.value)
        self._rows += [
            Provenance("toolset", each.toolset.name, each.plugin_id, "asked as each turn starts")
            for each in self._toolsets.toolsets.values()
        ]
        self._connected = self._toolsets.add_to(self.tools, self._rows, self._absent)

    def _add(self, hook: str, plugin_id: str, tool: Any) -> None:
        plugin, name = self._plugins[plugin_id], _checked(plugin_id, hook, tool).name
        detail = "" if hook == "lash_tools" else "catalog edit"
        earlier = self.tools.get(name)
        if earlier is not None:
            other = self._plugins[earlier.plugin_id]
            if takes_over(other, plugin):
                return
            if not takes_over(plugin, other):
                self._conflicts.append(conflict_text(f"tool `{name}`", other, plugin))
                return
            detail = f"instead of the one of `{other.plugin_id}`"
        self._rows.append(Provenance("tool", name, plugin_id, detail))
        self.tools[name] = OwnedTool(tool, plugin_id)

    def edit(self, plugin_id: str, edit: CatalogEdit) -> None:
        """Add, hide and annotate what a plugin says."""
        for tool in edit.add:
            self._add("lash_tool_catalog", plugin_id, tool)
        for name in edit.hide:
            self._hidden.setdefault(name, plugin_id)
        self._rows += [Provenance("hide", name, plugin_id) for name in sorted(edit.hide)]
        for name, text in edit.annotate.items():
            self._notes.setdefault(name, []).append(text)
            self._rows.append(Provenance("annotate", name, plugin_id, text))

    def add_search(self) -> None:
        """Where a tool is deferred, add the one that finds it."""
        deferred = self._named(ToolActivation.DEFERRED)
        if deferred and "search_tools" not in self.tools:
            from lash_hookspecs.tool_search import search_tools

            owner = self.tools[deferred[0]].plugin_id
            self.tools["search_tools"] = OwnedTool(search_tools, owner)
            detail = f"finds `{deferred[0]}`, and what else is deferred"
            self._rows.append(Provenance("tool", "search_tools", owner, detail))

    def _named(self, activation: ToolActivation) -> tuple[str, ...]:
        return tuple(name for name, each in self.tools.items() if each.tool.manifest.activation is activation)

    def catalog(self, resolve: Callable[[Catalog, Sequence[ToolSetRecord]], Catalog]) -> Catalog:
        """The catalog of all that was added."""
        tools, hidden = self.tools, self._hidden
        annotated = {name: _annotated(each.tool.manifest, self._notes.get(name, [])) for name, each in tools.items()}
        manifests = tuple(
            each for name, each in annotated.items() if name not in hidden and each.activation is ToolActivation.ALWAYS
        )
        made = Catalog(
            tools=tools,
            annotated=annotated,
            hidden={name: by for name, by in hidden.items() if name in tools},
            internal=frozenset(self._named(ToolActivation.INTERNAL)),
            deferred=self._named(ToolActivation.DEFERRED),
            guarded=tuple(name for name, each in tools.items() if _is_guarded(each.tool)),
            manifests=manifests,
            specs=tuple(map(_spec, manifests)),
            callable_names=frozenset(each.name for each in manifests),
            provenance=tuple(self._rows),
            conflicts=tuple(self._conflicts),
            owners=read_only_table({name: each.plugin_id for name, each in tools.items()}),
            toolsets=tuple(self._toolsets.toolsets.values()),
            connected=self._connected,
            absent=self._absent,
            resolve=resolve,
        )
        made._specs.update((each.name, each) for each in made.specs)
        return made


def _is_guarded(tool: object) -> bool:
    return hasattr(type(tool), "unavailable") or "unavailable" in getattr(tool, "__dict__", ())


def _spec(manifest: ToolManifest) -> LlmToolSpec:
    return LlmToolSpec(
        name=manifest.name,
        description=manifest.description,
        input_schema=manifest.input_schema,
        output_schema=manifest.output_schema,
    )


def _checked(plugin_id: str, hook: str, tool: object) -> ToolManifest:
    manifest = getattr(tool, "manifest", None)
    if not isinstance(manifest, ToolManifest) or not callable(getattr(tool, "call", None)):
        what = f"`{getattr(tool, '__name__', type(tool).__name__)}` is no tool"
        raise PluginError(plugin_id, hook, f"{what}: put `@tool` above a function, or give it `manifest` and `call`")
    if not manifest.name:
        raise PluginError(plugin_id, hook, "a tool has no name")
    if not isinstance(manifest.name, str) or not TOOL_NAME.fullmatch(manifest.name):
        rule = "a tool's name has 1 to 64 ASCII letters, digits, `_` and `-`"
        raise PluginError(plugin_id, hook, f"no model service takes the tool name `{manifest.name}`: {rule}")
    return manifest


def _annotated(manifest: ToolManifest, notes: list[str]) -> ToolManifest:
    if not notes:
        return manifest
    return evolve(manifest, description="\n\n".join(each for each in (manifest.description, *notes) if each))
