"""Each plugin's options: the host's, and those of modes that say otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from lash_framework.plugins import LoadedPlugin
from lash_framework.settings import SaidByMode, Settings, plugin_settings, with_modes
from lash_hookspecs.read_only_data import read_only

__all__ = ["PluginOptions"]


class PluginOptions:
    """Reads options, and knows apart which ones are in use in a host.

    `raw` are the settings, by plugin; `read_typed` makes them an instance of the class that a plugin has for them, and
    knows where each was said.
    """

    def __init__(self, raw: Mapping[str, Mapping[str, Any]], read_typed: Callable[..., Any] | None) -> None:
        self._settings = Settings(plugin=raw)
        self._read_typed = read_typed or partial(plugin_settings, settings=self._settings, env={})
        self._seen: dict[str, list[Any]] = {}

    def read(self, plugin: LoadedPlugin, said: Sequence[SaidByMode] = ()) -> Any:
        """A plugin's options, in a mode that has `said` something of them. Raises `ConfigurationError`."""
        if plugin.info.options is None:
            return read_only(with_modes(plugin.plugin_id, self._settings, said).plugin[plugin.plugin_id])
        return self._read_typed(plugin.plugin_id, plugin.info.options, said=said)

    def variant(self, plugin_id: str, options: Any) -> str:
        """Tells what is made of different options of one plugin apart; of the first ones it is empty."""
        seen = self._seen.setdefault(plugin_id, [])
        if options not in seen:
            seen.append(options)
        at = seen.index(options)
        return f"#{at + 1}" if at else ""
