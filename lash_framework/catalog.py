"""A composition's tools: what its plugins offer, and what is left of it for the model after their edits."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from attrs import evolve, field

from lash_framework.hooks import Owned, collect_sync
from lash_framework.implementations import HookImpl
from lash_framework.plugins import LoadedPlugin
from lash_framework.provenance import Provenance
from lash_framework.registrations import conflict_text, takes_over
from lash_hookspecs.contexts import CompositionContext
from lash_hookspecs.errors import PluginError
from lash_hookspecs.llm import LlmToolSpec
from lash_hookspecs.tool_catalog import CatalogEdit
from lash_hookspecs.tools import Tool, ToolActivation, ToolManifest
from lash_hookspecs.values import frozen

__all__ = ["Catalog", "OwnedTool", "resolve_catalog"]


# What all model services take; one name of another shape fails every request of the session.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@frozen
class OwnedTool:
    """A tool and the plugin that it is from."""

    tool: Tool
    plugin_id: str


@frozen(kw_only=True)
class Catalog:
    """All tools by name; what the model may call, as manifests and as it is told; who did what; conflicts, if any.

    `annotated` are the manifests of all tools, with what plugins added to them. By name: `hidden`, with who hides it;
    `internal` and `deferred`; `guarded`, those that may be out of reach.
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

    def spec(self, name: str) -> LlmToolSpec:
        """A tool as the model is told of it; the same object for the same tool."""
        made = self._specs.get(name)
        if made is None:
            made = self._specs[name] = _spec(self.annotated[name])
        return made

    _specs: dict[str, LlmToolSpec] = field(factory=dict, init=False, repr=False, eq=False)


def resolve_catalog(
    plugins: Mapping[str, LoadedPlugin],
    hooks: Mapping[str, tuple[HookImpl, ...]],
    bind: Callable[[str], CompositionContext],
) -> Catalog:
    """Ask for tools, then for edits, and unite them. Every editor sees the tools as they were offered.

    A name that an edit hides or annotates may be absent. Raises `PluginError` for a hook that fails or errs.
    """
    tools: dict[str, OwnedTool] = {}
    rows: list[Provenance] = []
    conflicts: list[str] = []

    def add(hook: str, owned: Owned[Any]) -> None:
        plugin, tool = plugins[owned.plugin_id], owned.value
        name = _checked(owned.plugin_id, hook, tool).name
        earlier = tools.get(name)
        if earlier is not None:
            other = plugins[earlier.plugin_id]
            if takes_over(other, plugin):
                return
            if not takes_over(plugin, other):
                conflicts.append(conflict_text(f"tool `{name}`", other, plugin))
                return
            rows.append(Provenance("tool", name, owned.plugin_id, f"instead of the one of `{other.plugin_id}`"))
        else:
            rows.append(Provenance("tool", name, owned.plugin_id, "" if hook == "lash_tools" else "catalog edit"))
        tools[name] = OwnedTool(tool, owned.plugin_id)

    for owned in collect_sync(hooks["lash_tools"], bind):
        add("lash_tools", owned)
    offered = tuple(each.tool.manifest for each in tools.values())
    edits: list[Owned[CatalogEdit]] = collect_sync(hooks["lash_tool_catalog"], bind, item=CatalogEdit, catalog=offered)
    hidden: dict[str, str] = {}
    notes: dict[str, list[str]] = {}
    for plugin_id, edit in edits:
        for tool in edit.add:
            add("lash_tool_catalog", Owned(plugin_id, tool))
        for name in edit.hide:
            hidden.setdefault(name, plugin_id)
        rows += [Provenance("hide", name, plugin_id) for name in sorted(edit.hide)]
        for name, text in edit.annotate.items():
            notes.setdefault(name, []).append(text)
            rows.append(Provenance("annotate", name, plugin_id, text))
    deferred = tuple(name for name, each in tools.items() if _activation(each) is ToolActivation.DEFERRED)
    if deferred and "search_tools" not in tools:
        from lash_hookspecs.tool_search import search_tools

        owner = tools[deferred[0]].plugin_id
        tools["search_tools"] = OwnedTool(search_tools, owner)
        rows.append(Provenance("tool", "search_tools", owner, f"finds `{deferred[0]}`, and what else is deferred"))
    annotated = {name: _annotated(each.tool.manifest, notes.get(name, [])) for name, each in tools.items()}
    manifests = tuple(
        each for name, each in annotated.items() if name not in hidden and each.activation is ToolActivation.ALWAYS
    )
    catalog = Catalog(
        tools=tools,
        annotated=annotated,
        hidden={name: by for name, by in hidden.items() if name in tools},
        internal=frozenset(name for name, each in tools.items() if _activation(each) is ToolActivation.INTERNAL),
        deferred=deferred,
        guarded=tuple(name for name, each in tools.items() if _is_guarded(each.tool)),
        manifests=manifests,
        specs=tuple(map(_spec, manifests)),
        callable_names=frozenset(each.name for each in manifests),
        provenance=tuple(rows),
        conflicts=tuple(conflicts),
    )
    catalog._specs.update((each.name, each) for each in catalog.specs)
    return catalog


def _activation(owned: OwnedTool) -> ToolActivation:
    return owned.tool.manifest.activation


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
    if not isinstance(manifest.name, str) or not _NAME.fullmatch(manifest.name):
        rule = "a tool's name has 1 to 64 ASCII letters, digits, `_` and `-`"
        raise PluginError(plugin_id, hook, f"no model service takes the tool name `{manifest.name}`: {rule}")
    return manifest


def _annotated(manifest: ToolManifest, notes: list[str]) -> ToolManifest:
    if not notes:
        return manifest
    return evolve(manifest, description="\n\n".join(each for each in (manifest.description, *notes) if each))
