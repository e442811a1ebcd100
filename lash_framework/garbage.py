"""Making very many values at once without the garbage collector looking at each of them again and again."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collector_paused"]


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep the cyclic garbage collector from running inside, unless somebody else has switched it off.

    It runs after every 700 new containers, now and then through everything there is, and finds nothing in values that
    all stay: with a long history that takes longer than making them. It pauses for the whole process, so what is inside
    should be short.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
