"""lash: a durable runtime for LLM agents, made of plugins."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lash_framework.archive import HistoryExport as HistoryExport
    from lash_framework.lash import Lash as Lash
    from lash_framework.observing import Observer as Observer
    from lash_framework.running import RunningTurn as RunningTurn
    from lash_framework.session import Session as Session
    from lash_framework.settings import Settings as Settings

__version__ = "0.1.0"

# Loaded at first use: `lash --help` needs none of it.
_OWNERS = {
    "HistoryExport": "archive",
    "Lash": "lash",
    "Observer": "observing",
    "RunningTurn": "running",
    "Session": "session",
    "Settings": "settings",
}

__all__ = ["HistoryExport", "Lash", "Observer", "RunningTurn", "Session", "Settings"]


def __getattr__(name: str) -> Any:
    module = _OWNERS.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
