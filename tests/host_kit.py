"""Plugins out of a few functions, and hosts that have no others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from attrs import frozen

from lash_framework.host import PluginHost
from lash_hookspecs import Mode, ModeDriver, PluginInfo, ProviderSpec, Tool, hookimpl, tool

MODE = Mode(mode_id="base", driver=ModeDriver(make=SimpleNamespace))


@frozen
class NoSettings:
    """A provider without settings."""


def plugin(plugin_id: str, info: Mapping[str, Any] | None = None, **hooks: Callable[..., Any]) -> Any:
    """A plugin with these hooks (`tools=…` is `lash_tools`); `info` goes into its `PluginInfo`."""
    made = {f"lash_{name}": hookimpl(function) for name, function in hooks.items()}
    made["lash_plugin_info"] = hookimpl(lambda: PluginInfo(id=plugin_id, **(info or {})))
    return SimpleNamespace(**made)


def host(*plugins: object, **options: Any) -> PluginHost:
    """A host with these plugins and the mode `base`, and without any that are installed."""
    options.setdefault("modes", [MODE])
    return PluginHost(plugins, only=(), **options)


def make_tool(name: str, **options: Any) -> Tool:
    """A tool that does nothing."""

    async def function() -> None:
        """Do nothing."""

    made: Tool = tool(name=name, **options)(function)
    return made


def provider(provider_id: str) -> ProviderSpec:
    """A provider that is never opened."""
    return ProviderSpec(provider_id=provider_id, settings=NoSettings, open=lambda ctx: SimpleNamespace())


def failures(of: PluginHost) -> dict[str, str]:
    """What the report says of failed plugins: id to `stage: message`."""
    return {each.plugin_id: f"{each.stage}: {each.message}" for each in of.report.failed}
