"""Which tools may be called while a model plans: one answer, for what it is told of and for what it calls. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from lash_hookspecs.tools import ToolEffect, ToolManifest
from lash_hookspecs.values import frozen

__all__ = ["EXIT", "UPDATE", "PlanPolicy"]

EXIT, UPDATE = "plan_exit", "update_plan"


@frozen
class PlanPolicy:
    """While `planning`, tools that change nothing, and those of the plugins that `allow` names; leaving it only then.

    By its name alone a tool is anybody's: the next plugin, or a server, may call one of its own the same.
    """

    planning: bool
    allow: tuple[str, ...] = ()

    def refusal(self, manifest: ToolManifest, owner: str) -> tuple[str, str] | None:
        """The code and the reason if this tool, of the plugin `owner`, may not be called."""
        name = manifest.name
        if not self.planning:
            return ("not_planning", "plan mode isn't on, so there is nothing to leave") if name == EXIT else None
        if manifest.effect is ToolEffect.PURE or any(fnmatchcase(f"{owner}:{name}", each) for each in self.allow):
            return None
        text = (
            f"`{name}` may change something, and plan mode is on: look, plan, and call `{EXIT}` to begin with the work"
        )
        return "plan_mode", text

    def to_hide(self, tools: Iterable[ToolManifest], owners: Mapping[str, str]) -> list[str]:
        """Those of these tools that the model needn't be told of."""
        return [each.name for each in tools if self.refusal(each, owners[each.name]) is not None]
