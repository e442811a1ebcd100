"""What the system must have: asked before anything is imported that isn't everywhere."""

from __future__ import annotations

from importlib.util import find_spec

from lash_hookspecs.errors import ConfigurationError

__all__ = ["require_process_groups"]

_MODULES = ("fcntl", "resource", "termios")
"""Without them Python has no process groups, limits, locks and terminals."""


def require_process_groups() -> None:
    """Raise `ConfigurationError` where commands can't be held together, as on Windows."""
    if any(find_spec(each) is None for each in _MODULES):
        raise ConfigurationError("plugin `tools-shell` needs process groups, which this system doesn't have")
