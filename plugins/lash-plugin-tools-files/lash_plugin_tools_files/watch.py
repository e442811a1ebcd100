"""How long a search may still take, and whether anybody waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable

from lash_hookspecs.tools import ToolError, ToolFailureClass

__all__ = ["Watch"]

_OFTEN = 64


class Watch:
    """Asked at each step of a search, it raises once nobody wants it any more, or its time is over."""

    def __init__(self, limit_s: float, wanted: Callable[[], None] = lambda: None) -> None:
        self._limit_s = limit_s
        self._until = time.monotonic() + limit_s
        self._wanted = wanted
        self._steps = 0

    def look(self) -> None:
        """Look at both: for steps that may take long."""
        self._wanted()
        _ = self.left

    def glance(self) -> None:
        """The same for steps that are many: whether it is wanted is looked at now and then."""
        self._steps += 1
        if self._steps % _OFTEN == 0:
            self._wanted()
        _ = self.left

    @property
    def left(self) -> float:
        """In seconds. Raises `ToolError` if there is nothing left."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise self.over
        return left

    @property
    def over(self) -> ToolError:
        """What is said at the end of the time."""
        return ToolError(
            f"the search took longer than {self._limit_s:g} s: search less, or for something simpler",
            code="search_timeout",
            failure_class=ToolFailureClass.TIMEOUT,
        )
