"""What the plugin says of itself."""

from __future__ import annotations

from lash_hookspecs.plugins import PluginInfo
from lash_plugin_tools_web.options import WebOptions

__all__ = ["INFO"]

INFO = PluginInfo(
    id="tools-web",
    version="0.1.0",
    summary="Fetches pages of the public web, and searches it.",
    options=WebOptions,
    # What a model may say to the outside goes with each URL: a mode names it.
    enabled_by_default=False,
    capabilities=["network", "secrets", "subprocess"],
)
