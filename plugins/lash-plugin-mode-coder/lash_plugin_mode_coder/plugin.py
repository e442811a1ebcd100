"""What the plugin registers: the mode `coder`, which is made of other plugins."""

from __future__ import annotations

from lash_hookspecs.markers import hookimpl
from lash_hookspecs.modes import Mode
from lash_hookspecs.plugins import PluginInfo


@hookimpl
def lash_plugin_info() -> PluginInfo:
    return PluginInfo(id="mode-coder", version="0.1.0", summary="Works on the files of a folder, and asks first.")


@hookimpl
def lash_modes() -> list[Mode]:
    from lash_plugin_mode_coder.composed import CODER

    return [CODER]
