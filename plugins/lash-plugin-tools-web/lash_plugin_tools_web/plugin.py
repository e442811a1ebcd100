"""Adds `fetch_url` and `search_web`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lash_hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractAsyncContextManager

    from lash_hookspecs.contexts import CompositionContext, HostContext
    from lash_hookspecs.plugins import PluginInfo
    from lash_hookspecs.tools import Tool
    from lash_plugin_tools_web.web import Web


@hookimpl
def lash_plugin_info() -> PluginInfo:
    """Who this is."""
    from lash_plugin_tools_web.info import INFO

    return INFO


@hookimpl
def lash_lifespan(host: HostContext) -> AbstractAsyncContextManager[Web]:
    """What is kept between fetches: nothing is opened here."""
    from lash_plugin_tools_web.web import open_web

    return open_web(host.options)


@hookimpl
def lash_tools(ctx: CompositionContext) -> Sequence[Tool]:
    """`fetch_url`, and `search_web`, which is out of reach without a key."""
    from lash_plugin_tools_web.tools import tools

    return tools(ctx.options)
