"""Naming a hook that blocks the event loop while it still does.

Nothing can stop a plain function that doesn't return, and measuring every call from inside says nothing until it does.
So a thread looks, once in a while, at what the event loop's thread is doing: a hook's call that is on its stack twice
in a row keeps everybody else waiting. The hooks' runners pay nothing for it.
"""

from __future__ import annotations

import logging
import sys
import threading
from types import FrameType, TracebackType
from typing import Self

from lash_framework import hooks, wrapping
from lash_framework.implementations import HookImpl

__all__ = ["Watchdog"]

log = logging.getLogger("lash.hooks")

_RUNNERS = (hooks.__file__, wrapping.__file__)

INTERVAL_S = 2.0
"""How long a hook may block before it is named; a look takes some 20 µs."""


class Watchdog:
    """Watches the thread that enters it, until it is left."""

    def __init__(self, interval_s: float = INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._stop = threading.Event()
        self._watched = 0

    def __enter__(self) -> Self:
        self._watched = threading.get_ident()
        threading.Thread(target=self._watch, name="lash-watchdog", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()

    def _watch(self) -> None:
        last: FrameType | None = None
        named = False
        while not self._stop.wait(self._interval_s):
            frame = _runner(sys._current_frames().get(self._watched))
            if frame is None or frame is not last:
                last, named = frame, False
            elif not named:
                named = True
                impl = frame.f_locals.get("impl")
                if isinstance(impl, HookImpl):
                    log.warning(
                        "plugin `%s`, hook `%s`: has blocked everything else for over %.1f s and still does; %s",
                        impl.plugin_id,
                        impl.hook,
                        self._interval_s,
                        "do less in it" if impl.registers else "make it suspend, or move the work to a thread",
                    )


def _runner(frame: FrameType | None) -> FrameType | None:
    """The innermost call of a hook runner on this stack."""
    while frame is not None and frame.f_code.co_filename not in _RUNNERS:
        frame = frame.f_back
    return frame
