"""What the runtime does for plugins. Every method has a default that says it is unavailable here.

An embedding that offers only some of these overrides only those; a plugin that needs more gets an error by name.
"""

from __future__ import annotations

from typing import NoReturn

from lash_hookspecs.errors import CapabilityMissing
from lash_hookspecs.sessions import (
    AppendSessionNodesRequest,
    AppendSessionNodesResult,
    AssembledTurn,
    SessionSnapshot,
    TurnInput,
)

__all__ = ["SessionGraphService", "SessionLifecycleService", "SessionStateService"]


def _unavailable(what: str) -> NoReturn:
    raise CapabilityMissing(f"{what} is unavailable in this runtime")


class SessionStateService:
    """Reading sessions."""

    async def snapshot_current(self) -> SessionSnapshot:
        """The session at hand."""
        _unavailable("reading the session")

    async def snapshot_session(self, session_id: str) -> SessionSnapshot:
        """Another session."""
        _unavailable("reading other sessions")


class SessionLifecycleService:
    """Running sessions."""

    async def close_session(self, session_id: str) -> None:
        """Let go of a session; its data stays."""
        _unavailable("closing sessions")

    async def start_turn(self, session_id: str, turn_id: str, input: TurnInput) -> AssembledTurn:
        """Run a turn on a session. `turn_id` must not be blank."""
        _unavailable("running turns")


class SessionGraphService:
    """Adding to a session's graph outside a turn."""

    async def append_session_nodes(
        self, session_id: str, request: AppendSessionNodesRequest
    ) -> AppendSessionNodesResult:
        """Append nodes, or say that the branch is stale."""
        _unavailable("appending to sessions")
