"""The actions that plugins offer, by name, each with its owner. Asked once per open host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pluggy

from lash_framework.hooks import Owned, collect_sync
from lash_framework.implementations import hook_impls
from lash_framework.plugins import LoadedPlugin
from lash_hookspecs.errors import PluginConflictError

if TYPE_CHECKING:
    from lash_hookspecs.actions import Action

__all__ = ["ActionTable", "actions_of"]

ActionTable = Mapping[str, Owned["Action"]]


def actions_of(manager: pluggy.PluginManager, loaded: Sequence[LoadedPlugin]) -> ActionTable:
    """All actions. Raises `PluginError` for a hook that fails, and `PluginConflictError` with all names taken twice."""
    impls = hook_impls(manager, "lash_actions", [each.plugin_id for each in loaded])
    found: dict[str, Owned[Action]] = {}
    if not impls:
        return found
    from lash_hookspecs.actions import Action

    conflicts = []
    for owned in collect_sync(impls, None, item=Action):
        taken = found.setdefault(owned.value.name, owned)
        if taken is not owned:
            conflicts.append(
                f"action `{owned.value.name}`: plugin `{taken.plugin_id}` offers it as a {taken.value.kind}, and "
                f"plugin `{owned.plugin_id}` as a {owned.value.kind}"
            )
    if conflicts:
        raise PluginConflictError(conflicts, "switch one of the plugins off, or let it name its action otherwise")
    return found
