"""A model provider that works offline: `scripted:demo`, scripts in files, and `ScriptedProvider` for tests."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lash_plugin_provider_scripted.provider import ScriptedProvider, ScriptedSettings, open_scripted
    from lash_plugin_provider_scripted.script import Call, Reply, load_script

__all__ = ["Call", "Reply", "ScriptedProvider", "ScriptedSettings", "load_script", "open_scripted"]


def __getattr__(name: str) -> object:
    # Discovery imports this package at every start, to reach `plugin`; only who uses these names pays for them.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "script" if name in ("Call", "Reply", "load_script") else "provider"
    return getattr(import_module(f"{__name__}.{module}"), name)
