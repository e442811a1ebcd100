"""When a server that failed may be tried again. Pure but for the dice."""

from __future__ import annotations

import random

from lash_hookspecs.values import mutable

__all__ = ["LONGEST_S", "SHORTEST_S", "Backoff"]

SHORTEST_S, LONGEST_S = 0.5, 30.0

STEADY_S = 10.0
"""A connection that lived for less counts as failed, too: a server that dies on its first call must not spin."""


@mutable
class Backoff:
    """How often it failed in a row, and the time before which it isn't tried again. Times are of one clock."""

    failures: int = 0
    not_before: float = 0.0

    def failed(self, now: float) -> None:
        """Wait longer than after the failure before: somewhere between half and the whole of twice as long."""
        whole = min(LONGEST_S, SHORTEST_S * 2.0 ** min(self.failures + 1, 10))
        self.failures += 1
        self.not_before = now + max(SHORTEST_S, whole * random.uniform(0.5, 1.0))

    def ended(self, now: float, lived_s: float) -> None:
        """A connection that worked is over."""
        if lived_s < STEADY_S:
            self.failed(now)
        else:
            self.failures, self.not_before = 0, 0.0

    def remaining(self, now: float) -> float:
        """Seconds until the next try."""
        return max(0.0, self.not_before - now)
