"""What the runtime does for plugins. Every method has a default that says it is unavailable here.

An embedding that offers only some of these overrides only those; a plugin that needs more gets an error by name.
"""

from __future__ import annotations

from typing import NoReturn

from lash_hookspecs.errors import CapabilityMissing
from lash_hookspecs.llm import LlmRequest, LlmResponse, TokenUsage
from lash_hookspecs.messages import AttachmentRef
from lash_hookspecs.sessions import (
    AppendSessionNodesRequest,
    AppendSessionNodesResult,
    AssembledTurn,
    SessionPolicy,
    SessionSnapshot,
    TurnInput,
)
from lash_hookspecs.tool_catalog import ToolState
from lash_hookspecs.values import frozen

__all__ = [
    "BlobService",
    "DirectCompletion",
    "DirectCompletionClient",
    "SessionCreateRequest",
    "SessionGraphService",
    "SessionHandle",
    "SessionLifecycleService",
    "SessionStateService",
]


def _unavailable(what: str) -> NoReturn:
    raise CapabilityMissing(f"{what} is unavailable in this runtime")


class SessionStateService:
    """Reading sessions."""

    async def snapshot_current(self) -> SessionSnapshot:
        """The session at hand. In a turn: as it was before it, but with the conversation as it stands."""
        _unavailable("reading the session")

    async def snapshot_session(self, session_id: str) -> SessionSnapshot:
        """Another session, as it is stored. Raises `UnknownName`."""
        _unavailable("reading other sessions")

    async def tool_state(self) -> ToolState:
        """The tools of the session at hand: which the model may call, and why not the others."""
        _unavailable("reading the session's tools")


@frozen(kw_only=True)
class SessionCreateRequest:
    """The session that is wanted. `session_id` says it: asked for again, after a crash too, it is the same session.

    What is None is as the host has it.
    """

    session_id: str
    mode_id: str | None = None
    model: str | None = None
    instructions: str | None = None
    max_turns: int | None = None


@frozen(kw_only=True)
class SessionHandle:
    """A session that is there, and how it runs. `is_stored`: turns were committed on it before."""

    session_id: str
    policy: SessionPolicy
    is_stored: bool = False


class SessionLifecycleService:
    """Running sessions. All of them raise `SessionBusy` rather than wait for a session that runs a turn."""

    async def create_session(self, request: SessionCreateRequest) -> SessionHandle:
        """Have a session: the one with this id, or a new one, which is in the store from its first turn on."""
        _unavailable("creating sessions")

    async def close_session(self, session_id: str) -> None:
        """Let go of a session; its data stays."""
        _unavailable("closing sessions")

    async def start_turn(self, session_id: str, turn_id: str, input: TurnInput | str) -> AssembledTurn:
        """Run a turn on a session and return it, committed. The same id with the same input is the same turn.

        Its usage is that session's own. Raises `UnknownName` for a session that isn't there, and what a turn raises.
        """
        _unavailable("running turns")


class SessionGraphService:
    """Adding to a session's graph outside a turn."""

    async def append_session_nodes(
        self, session_id: str, request: AppendSessionNodesRequest
    ) -> AppendSessionNodesResult:
        """Append nodes, once per operation id, or say that the branch is stale. Raises `UnknownName`, `SessionBusy`."""
        _unavailable("appending to sessions")


@frozen(kw_only=True)
class DirectCompletion:
    """What a model answered to a question of a plugin's own: its text, what that cost, and all of it."""

    text: str
    usage: TokenUsage
    response: LlmResponse


class BlobService:
    """Bytes beside the conversation: kept by content, with a session that shows them to its model or names them."""

    async def put(self, data: bytes, media_type: str = "application/octet-stream") -> AttachmentRef:
        """Store bytes. What is returned goes with a result (`attachments`), or into the plugin's state, to be kept."""
        _unavailable("storing bytes")

    async def get(self, reference: AttachmentRef) -> bytes | None:
        """The bytes, or None if nobody kept them."""
        _unavailable("reading stored bytes")


class DirectCompletionClient:
    """Asking a model outside of the turn's conversation."""

    async def complete(
        self,
        asked: str | LlmRequest,
        *,
        key: str | None = None,
        instructions: str | None = None,
        model: str | None = None,
        source: str | None = None,
    ) -> DirectCompletion:
        """Ask the turn's model, or another `model` (`provider:name`), which also stands for that of a request.

        Recorded at once: when the hook or tool around it is run again after a crash, the answer is that of the record.
        Such a question is known by its `key`, or by how many without a key the plugin asked before, within the same
        effect; it must be the same question then. `instructions` stand before a text. The usage counts in the turn's,
        under `source`: the plugin's id, if none is given. Raises `LlmCallFailed`.
        """
        _unavailable("asking a model directly")
