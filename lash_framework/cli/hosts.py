"""A plugin host without a store: for commands that look at plugins and modes, also when the store is broken."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from lash_framework.cli.options import Invocation

if TYPE_CHECKING:
    from lash_framework.composition import Composition
    from lash_framework.hooks import Owned
    from lash_framework.host import PluginHost
    from lash_framework.lock import PluginLock
    from lash_framework.plugins import LoadReport
    from lash_framework.settings import Settings
    from lash_hookspecs.errors import ConfigurationError, UnknownName

__all__ = ["composed", "explained", "hooks_of", "offered", "offers", "open_host", "read_report", "switched_off_by"]


def open_host(invocation: Invocation, lock: PluginLock | None = None) -> PluginHost:
    """The host that these settings make. Raises `PluginConflictError` when plugins claim the same thing.

    Plugins are held to the `lock` only where one is given: who looks at them must be able to.
    """
    from lash_framework.hooks import Owned
    from lash_framework.host import PluginHost
    from lash_framework.provenance import SETTINGS, TOML
    from lash_framework.settings import plugin_settings

    settings = invocation.settings
    return PluginHost(
        disabled=settings.plugins.disabled,
        only=settings.plugins.only,
        modes=tuple(
            Owned(TOML if settings.is_from_file(f"modes.{name}") else SETTINGS, mode)
            for name, mode in settings.modes.items()
        ),
        options=settings.plugin,
        read_options=partial(plugin_settings, settings=settings),
        lock=lock,
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


def hooks_of(plugin: object) -> list[str]:
    """The names of the hooks that a plugin implements, in the order of the specification."""
    from lash_hookspecs.markers import PROJECT
    from lash_hookspecs.specs import HOOKS

    marked = {
        (getattr(getattr(plugin, name, None), f"{PROJECT}_impl", None) or {}).get("specname") or name
        for name in dir(plugin)
        if getattr(getattr(plugin, name, None), f"{PROJECT}_impl", None) is not None
    }
    return [name for name in HOOKS if name in marked]


def offered(invocation: Invocation) -> dict[str, list[str]]:
    """What each plugin offers, by its id, such as `mode standard`; nothing where plugins don't work together."""
    from lash_hookspecs.errors import ConfigurationError

    try:
        host = open_host(invocation)
    except ConfigurationError:
        return {}
    found: dict[str, list[str]] = {}
    for what, table in offers(host).items():
        for name, owned in table.items():
            found.setdefault(owned.plugin_id, []).append(f"{what} {name}")
    for owned in host.sinks:
        found.setdefault(owned.plugin_id, []).append("a trace sink")
    return found


def offers(host: PluginHost) -> Mapping[str, Mapping[str, Owned[Any]]]:
    """What the plugins of a host offer under a name, by what it is."""
    from lash_hookspecs.errors import LashError

    actions: Mapping[str, Owned[Any]] = {}
    with suppress(LashError):  # told to whoever opens the host
        actions = host.actions()
    return {
        "mode": host.modes,
        "provider": host.providers,
        "store scheme": host.stores,
        "effect host": host.effect_hosts,
        "command": host.commands,
        "action": actions,
    }


def composed(invocation: Invocation, host: PluginHost, mode_id: str) -> Composition:
    """What a mode switches on. An unknown name is explained as by `explained`."""
    from lash_hookspecs.errors import ConfigurationError

    try:
        return host.composition(mode_id)
    except ConfigurationError as error:
        raise explained(invocation, error) from error


_OFFERED = ("mode", "provider", "store scheme", "effect host")  # what plugins bring


def explained(invocation: Invocation, error: ConfigurationError) -> ConfigurationError:
    """The error, saying where a wrong name is written, and which plugins are off or failed if it may be of theirs."""
    from lash_hookspecs.errors import UnknownName

    if isinstance(error, UnknownName) and error.kind in _OFFERED:
        error = _with_absent(invocation, error)
    return _placed(invocation.settings, error)


def _with_absent(invocation: Invocation, error: UnknownName) -> UnknownName:
    from lash_hookspecs.errors import UnknownName

    report, _ = read_report(invocation)
    if "did you mean" in str(error) or "type `" in str(error):
        return error
    absent = [_switched_off(invocation, report)] if report.blocked else []
    if report.failed:
        absent.append("failed: " + ", ".join(f"`{each.plugin_id}` ({each.stage})" for each in report.failed))
    if not absent:
        return error
    return UnknownName(error.kind, error.name, hint=f"nothing offers it; {', '.join(absent)}; see `lash plugins list`")


def switched_off_by(settings: Settings, plugin_id: str) -> str:
    """Which setting keeps a plugin that is off from being loaded."""
    only = settings.plugins.only
    return "plugins.only" if only is not None and plugin_id not in only else "plugins.disabled"


def _placed(settings: Settings, error: ConfigurationError) -> ConfigurationError:
    """The error, beginning with the place of the model or mode that it is about, unless that was typed just now."""
    from lash_framework.settings import Rank
    from lash_hookspecs.errors import UnknownName

    model = settings.model or ""
    named = (error.kind, error.name) if isinstance(error, UnknownName) else None
    about = {
        "mode": named == ("mode", settings.mode),
        "durability.effects": named == ("effect host", settings.durability.effects),
        "model": named == ("provider", model.partition(":")[0]) or str(error).startswith(f"model `{model}` "),
    }
    for key, meant in about.items():
        if meant and settings.origin_of(key).rank in (Rank.FILE, Rank.ENVIRONMENT):
            error.args = (f"{settings.source_of(key)}: {error}",)
    return error


def _switched_off(invocation: Invocation, report: LoadReport) -> str:
    """Names with the places that switched them off, one place after the other."""
    settings = invocation.settings
    by_place: dict[str, list[str]] = {}
    for each in report.blocked:
        place = settings.source_of(switched_off_by(settings, each.plugin_id))
        by_place.setdefault(place, []).append(f"`{each.plugin_id}`")
    listed = ", ".join(f"{', '.join(names)} ({place})" for place, names in by_place.items())
    return f"these plugins are off: {listed}"
