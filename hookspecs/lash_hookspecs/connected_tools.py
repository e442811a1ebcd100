"""Tools that are known only once something is connected: how a plugin says so, and what a turn's record says of it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Union

from attrs import field

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.tools import Tool, ToolError, ToolManifest
from lash_hookspecs.values import frozen

__all__ = ["ConnectedToolSet", "ListTools", "ToolSetRecord", "ToolsNotReady"]

ListTools = Callable[[], Awaitable[Iterable[Union[Tool, Callable[..., Any]]]]]
"""What a connection yields: it is asked for the tools as each turn starts, and raises if the connection is gone."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@frozen(kw_only=True, eq=False)
class ConnectedToolSet:
    """One item of what `lash_tools` returns, or of `Lash.open(tools=…)`, in the place of the tools of a connection.

    `connect` makes an async context manager that yields a function (`ListTools`). It is entered before the first turn
    of a host that needs it, kept for all its turns and sessions, entered anew where the function raises, and left when
    the host closes. `prefix` is put before each tool's name. A turn waits at most `limit_s` seconds for it all; without
    a connection it goes on without these tools, says why (`ToolState.absent`, `lash explain`), and the next one tries
    again. `name` is the plugin's own for it.
    """

    name: str
    connect: Callable[[], AbstractAsyncContextManager[ListTools]]
    prefix: str = ""
    limit_s: float = 10.0

    def __attrs_post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            text = f"a toolset can't be named {self.name!r}: use 1 to 64 ASCII letters, digits, `_` and `-`"
            raise ConfigurationError(text)
        if isinstance(self.connect, AbstractAsyncContextManager) or not callable(self.connect):
            text = (
                f"toolset `{self.name}`: `connect` is a `{type(self.connect).__name__}`: give the function that makes"
            )
            raise ConfigurationError(f"{text} the context manager, without calling it")
        if inspect.isasyncgenfunction(self.connect) or inspect.iscoroutinefunction(self.connect):
            text = (
                f"toolset `{self.name}`: `connect` makes no context manager: put `@asynccontextmanager` above it, and"
            )
            raise ConfigurationError(f"{text} let it yield an async function that returns the tools")
        if not self.limit_s > 0:
            raise ConfigurationError(f"toolset `{self.name}`: limit_s is {self.limit_s}, but it must be above 0")


class ToolsNotReady(ToolError):
    """Raised by a `ListTools` that has no tools now, and whose connection is kept all the same: it is coming up, say.

    The turn goes on without these tools; the message is the reason that is told.
    """


@frozen(kw_only=True)
class ToolSetRecord:
    """What a toolset offered as a turn started, or the reason why it offers nothing."""

    plugin_id: str
    name: str
    tools: tuple[ToolManifest, ...] = field(default=())
    reason: str = ""
