"""A plugin host without a store: for commands that look at plugins and modes, also when the store is broken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lash_framework.cli.options import Invocation

if TYPE_CHECKING:
    from lash_framework.host import PluginHost
    from lash_framework.plugins import LoadReport

__all__ = ["open_host", "read_report"]


def open_host(invocation: Invocation) -> PluginHost:
    """The host that these settings make. Raises `PluginConflictError` when plugins claim the same thing."""
    from lash_framework.hooks import Owned
    from lash_framework.host import PluginHost
    from lash_framework.provenance import TOML

    settings = invocation.settings
    return PluginHost(
        disabled=settings.plugins.disabled,
        only=settings.plugins.only,
        modes=tuple(Owned(TOML, mode) for mode in settings.modes.values()),
        options=settings.plugin,
    )


def read_report(invocation: Invocation) -> tuple[LoadReport, str | None]:
    """What became of every plugin, and the conflict that keeps them from working together, if there is one."""
    from lash_hookspecs.errors import ConfigurationError

    try:
        return open_host(invocation).report, None
    except ConfigurationError as error:
        from lash_framework.plugins import load_plugins

        plugins = invocation.settings.plugins
        return load_plugins(disabled=plugins.disabled, only=plugins.only)[1], str(error)
