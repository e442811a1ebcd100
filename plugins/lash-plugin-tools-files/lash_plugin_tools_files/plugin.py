"""What the plugin registers: five tools for files, for modes that name it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lash_hookspecs.markers import hookimpl
from lash_hookspecs.plugins import PluginCapability, PluginInfo

if TYPE_CHECKING:
    from lash_hookspecs.contexts import CompositionContext
    from lash_hookspecs.tools import Tool


@hookimpl
def lash_plugin_info() -> PluginInfo:
    from lash_plugin_tools_files.options import FilesOptions

    return PluginInfo(
        id="tools-files",
        version="0.1.0",
        summary="Reads, writes and searches files within the folders that you name.",
        options=FilesOptions,
        capabilities=frozenset({PluginCapability.FILESYSTEM, PluginCapability.SUBPROCESS}),  # a process: ripgrep
        enabled_by_default=False,
    )


@hookimpl
def lash_tools(ctx: CompositionContext) -> Sequence[Tool]:
    from lash_plugin_tools_files.tools import files_tools

    return files_tools(ctx.options)
