"""What the plugin registers: the mode `research`, which is made of other plugins."""

from __future__ import annotations

from lash_hookspecs.markers import hookimpl
from lash_hookspecs.modes import Mode
from lash_hookspecs.plugins import PluginInfo


@hookimpl
def lash_plugin_info() -> PluginInfo:
    return PluginInfo(id="mode-research", version="0.1.0", summary="Reads the web, and notes what was found.")


@hookimpl
def lash_modes() -> list[Mode]:
    from lash_plugin_mode_research.composed import RESEARCH

    return [RESEARCH]
