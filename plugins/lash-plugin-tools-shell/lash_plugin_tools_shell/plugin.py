"""What the plugin registers: a shell, for modes that name it, and the commands that a host runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lash_hookspecs.markers import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from lash_hookspecs.contexts import CompositionContext, HostContext
    from lash_hookspecs.plugins import PluginInfo
    from lash_hookspecs.tools import Tool


@hookimpl
def lash_plugin_info() -> PluginInfo:
    from lash_plugin_tools_shell.options import INFO

    return INFO


@hookimpl
def lash_tools(ctx: CompositionContext) -> Sequence[Tool]:
    from lash_plugin_tools_shell.needs import require_process_groups

    require_process_groups()
    from lash_plugin_tools_shell.tools import shell_tools

    return shell_tools(ctx.options)


@hookimpl
def lash_lifespan(host: HostContext) -> AbstractAsyncContextManager[Any]:
    from lash_plugin_tools_shell.registry import open_commands

    return open_commands(host.options)
