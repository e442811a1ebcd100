"""Where a wish to stop meets a turn that runs."""

from __future__ import annotations

import math

import anyio

from lash_hookspecs.values import mutable

__all__ = ["CancelGate"]


@mutable(eq=False)
class CancelGate:
    """Cancel races completion; exactly one wins, and the first request's reason stays.

    While it is `shut`, a request waits: what is recorded belongs to the turn however it ends.
    """

    reason: str | None = None
    sealed: bool = False
    scope: anyio.CancelScope | None = None
    shut: bool = False
    _deadline: float = math.inf

    def request(self, reason: str) -> bool:
        """Ask for the end. False: the turn completed first."""
        if self.sealed:
            return False
        if self.reason is None:
            self.reason = reason
        if self.scope is not None and not self.shut:
            self.scope.cancel()
        return True

    def attach(self, scope: anyio.CancelScope, deadline: float) -> None:
        """The turn runs in this scope, until `deadline` on the event loop's clock."""
        self.scope, self._deadline = scope, deadline
        if not self.shut:
            self.open()

    def detach(self) -> None:
        """The turn has left its scope: completed, asked to end, or out of time."""
        self.scope = None
        if not self.sealed and self.reason is None:
            self.reason = "deadline"

    def open(self) -> None:
        """Let requests and the deadline reach the turn."""
        self.shut = False
        if self.scope is not None:
            self.scope.deadline = self._deadline
            if self.requested:
                self.scope.cancel()

    @property
    def requested(self) -> bool:
        """Whether cancel won, or will."""
        return self.reason is not None
