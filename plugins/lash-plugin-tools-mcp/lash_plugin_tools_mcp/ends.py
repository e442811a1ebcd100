"""How a connection ends: once, for the first reason that is told."""

from __future__ import annotations

import anyio

__all__ = ["TOO_LARGE", "UNREADABLE", "End"]

TOO_LARGE, UNREADABLE = -32050, -32051
"""The codes of answers that weren't read, beside the protocol's own: they are longer than allowed, or broken."""


class End:
    """Whether a connection is over, and why.

    `hint` is what may have to do with an error, such as the status of a response. `is_hopeless`: its server hears
    nothing any more, so that it isn't worth waiting for.
    """

    def __init__(self) -> None:
        self.reason = self.hint = ""
        self.is_hopeless = False
        self._over = anyio.Event()

    @property
    def is_over(self) -> bool:
        """Whether it is."""
        return self._over.is_set()

    def tell(self, reason: str, *, hopeless: bool = False) -> None:
        """It is over; what is told after the first reason is a consequence of it."""
        self.reason = self.reason or reason
        self.is_hopeless = self.is_hopeless or hopeless
        self._over.set()

    async def wait(self) -> None:
        """Until it is."""
        await self._over.wait()
