"""A plugin host without a store: for commands that look at plugins and modes, also when the store is broken."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from lash_framework.cli.options import Invocation

if TYPE_CHECKING:
    from lash_framework.composition import Composition
    from lash_framework.host import PluginHost
    from lash_framework.plugins import LoadReport
    from lash_hookspecs.errors import UnknownName

__all__ = ["composed", "explained", "open_host", "read_report"]


def open_host(invocation: Invocation) -> PluginHost:
    """The host that these settings make. Raises `PluginConflictError` when plugins claim the same thing."""
    from lash_framework.hooks import Owned
    from lash_framework.host import PluginHost
    from lash_framework.provenance import TOML
    from lash_framework.settings import plugin_settings

    settings = invocation.settings
    return PluginHost(
        disabled=settings.plugins.disabled,
        only=settings.plugins.only,
        modes=tuple(Owned(TOML, mode) for mode in settings.modes.values()),
        options=settings.plugin,
        read_options=partial(plugin_settings, settings=settings),
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


def composed(invocation: Invocation, host: PluginHost, mode_id: str) -> Composition:
    """What a mode switches on. An unknown name is explained as by `explained`."""
    from lash_hookspecs.errors import UnknownName

    try:
        return host.composition(mode_id)
    except UnknownName as error:
        raise explained(invocation, error) from error


_OFFERED = ("mode", "provider", "store scheme")  # what plugins bring


def explained(invocation: Invocation, error: UnknownName) -> UnknownName:
    """The error, saying which plugins are off or failed if the name may be one of theirs."""
    from lash_framework.cli.slips import main_names
    from lash_hookspecs.errors import UnknownName

    if error.kind not in _OFFERED:
        return error
    report, _ = read_report(invocation)
    if error.kind == "provider":
        names = main_names(open_host(invocation).providers)
        if error.name not in names and not any(each.startswith(f"{error.name}-") for each in names):
            error = UnknownName("provider", error.name, names)
    if "did you mean" in str(error) or "type `" in str(error):
        return error
    absent = [_switched_off(invocation, report)] if report.blocked else []
    if report.failed:
        absent.append("failed: " + ", ".join(f"`{each.plugin_id}` ({each.stage})" for each in report.failed))
    if not absent:
        return error
    return UnknownName(error.kind, error.name, hint=f"nothing offers it; {', '.join(absent)}; see `lash plugins list`")


def _switched_off(invocation: Invocation, report: LoadReport) -> str:
    """Names with the places that switched them off, one place after the other."""
    settings = invocation.settings
    by_place: dict[str, list[str]] = {}
    for each in report.blocked:
        key = "plugins.disabled" if each.plugin_id in settings.plugins.disabled else "plugins.only"
        by_place.setdefault(settings.source_of(key), []).append(f"`{each.plugin_id}`")
    listed = ", ".join(f"{', '.join(names)} ({place})" for place, names in by_place.items())
    return f"these plugins are off: {listed}"
