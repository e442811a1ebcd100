"""Importing httpx without what a program doesn't use of it: two thirds of the time that it takes.

All is only for what nobody else has imported, and nearly all for the moment of the import only.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

__all__ = ["import_httpx"]


def import_httpx() -> None:
    """Have httpx, and the httpcore below it, in `sys.modules`."""
    if "httpcore" not in sys.modules:
        _with_trio_later()
    if "httpx" not in sys.modules:
        sys.modules.setdefault("idna", _Later("idna"))  # httpx asks it about hosts that aren't ASCII
        _without_its_command_line()


def _without_its_command_line() -> None:
    # httpx's package imports its command line, and that click, rich and pygments where they are installed, for a
    # program that nobody runs here. A module that is None can't be imported, which httpx takes for "not installed".
    sys.modules["httpx._main"] = None  # type: ignore[assignment]  # this is how an import is blocked
    try:
        import_module("httpx")
    finally:
        del sys.modules["httpx._main"]


def _with_trio_later() -> None:
    # httpcore imports trio wherever it is installed, and looks into it only on trio.
    if "trio" not in sys.modules and find_spec("trio") is not None:
        sys.modules["trio"] = later = _Later("trio")
        try:
            import_module("httpcore")
        finally:
            later.step_aside()


class _Later(ModuleType):
    """Stands for a module, which is imported when somebody looks into it."""

    def step_aside(self) -> None:
        """From now on whoever imports the module gets the real one."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]

    def __getattr__(self, name: str) -> Any:
        self.step_aside()
        found = getattr(import_module(self.__name__), name)
        setattr(self, name, found)
        return found
