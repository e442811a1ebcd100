"""What one turn's hooks and tools are given besides the turn: the services of the contract, on this host.

Which of them a hook has says the table `SERVICES`; here is what they do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from attrs import evolve

from lash_framework.conversation import Conversation, restore
from lash_framework.session_tools import tool_state
from lash_framework.turn_plan import TurnPlan, answering
from lash_hookspecs.errors import UnknownName
from lash_hookspecs.handoffs import CreateSession, HandoffSession
from lash_hookspecs.messages import AttachmentRef, Message
from lash_hookspecs.services import BlobService, SessionStateService
from lash_hookspecs.sessions import SessionPolicy, SessionSnapshot, SessionStateEnvelope, SessionUsageReport
from lash_hookspecs.tool_catalog import ToolState

if TYPE_CHECKING:
    from lash_framework.call_limits import Slot
    from lash_framework.direct_calls import DirectCalls, DirectPlace
    from lash_framework.resident import Resident
    from lash_framework.session import Session

__all__ = ["HookServices", "snapshot_of"]

_COMMITTED = "lash_turn_committed"

Moment = Callable[[], tuple[int, Sequence[Message]]]


class HookServices:
    """Makes the services of one turn on a session, which is `attach`ed to them when it begins."""

    def __init__(self, session: Resident) -> None:
        self.session = session
        self._plan: TurnPlan | None = None
        self._directs: DirectCalls | None = None
        self._moment: Moment | None = None
        self._kept: dict[str, Session] = {}

    def attach(self, plan: TurnPlan, directs: DirectCalls, moment: Moment) -> None:
        """The turn's plan, what asks models for its plugins, and where it stands."""
        self._plan, self._directs, self._moment = plan, directs, moment

    def __call__(
        self, name: str, where: str, plugin_id: str, place: DirectPlace | None = None, slot: Slot | None = None
    ) -> Any:
        """A service by name, for a plugin in a hook, or within the `place` of a tool, whose call may hold a `slot`."""
        assert self._plan is not None  # hooks are called, and tools run, in a turn
        assert self._directs is not None
        assert self._moment is not None
        match name:
            case "completions":
                return self._directs.client(plugin_id, place)
            case "sessions":
                return _SessionState(self.session, self._plan, None if where == _COMMITTED else self._moment)
            case "lifecycle":
                from lash_framework.child_turns import ChildTurns  # most turns have none
                from lash_framework.other_sessions import SessionLifecycle

                children = None if place is None else ChildTurns(self._directs, place, plugin_id)
                return SessionLifecycle(self.session, plugin_id, self._kept, slot, children)
            case "blobs":
                return _Blobs(self.session.lash.store)
            case "graph":
                from lash_framework.other_sessions import SessionGraph

                return SessionGraph(self.session, plugin_id)
        raise AssertionError(f"unreachable: no hook has `ctx.{name}`")

    def refuse_unfit(self, plugin_id: str, asked: CreateSession | HandoffSession) -> None:
        """Raise `PluginError` for sessions that can't be made on this host."""
        assert self._plan is not None
        from lash_framework.successors import refuse_unfit

        refuse_unfit(self.session.lash, self._plan.policy, self.session.id, plugin_id, asked)

    def with_model(self, model: str | None) -> TurnPlan:
        """The turn's plan with another model, `provider:name`, if one is given. Raises `ConfigurationError`."""
        assert self._plan is not None
        return self._plan if model is None else evolve(self._plan, **answering(self.session.lash, model))


# ---- reading --------------------------------------------------------------------------------------------------------


class _Blobs(BlobService):
    """The store's blobs."""

    def __init__(self, store: Any) -> None:
        self._store = store

    async def put(self, data: bytes, media_type: str = "application/octet-stream") -> AttachmentRef:
        reference: AttachmentRef = await self._store.put_blob(data, media_type)
        return reference

    async def get(self, reference: AttachmentRef) -> bytes | None:
        data: bytes | None = await self._store.get_blob(reference.id)
        return data


class _SessionState(SessionStateService):
    """Reads the store and the turn. `moment` is where the turn stands, or None when it is committed."""

    def __init__(self, session: Resident, plan: TurnPlan, moment: Moment | None) -> None:
        self._session = session
        self._plan = plan
        self._moment = moment

    async def snapshot_current(self) -> SessionSnapshot:
        if self._moment is None:
            conversation = await self._session.conversation()
            await conversation.load()
            return snapshot_of(conversation, self._plan.policy, conversation.messages)
        await self._plan.conversation.load()
        return snapshot_of(self._plan.conversation, self._plan.policy, self._moment()[1])

    async def snapshot_session(self, session_id: str) -> SessionSnapshot:
        if session_id == self._plan.session_id:
            return await self.snapshot_current()
        loaded = await self._session.lash.store.load_session(session_id)
        if loaded is None:
            raise UnknownName("session", session_id, hint="nothing was committed on it, or it was deleted")
        conversation = restore(loaded)
        return snapshot_of(conversation, conversation.policy or self._plan.policy, conversation.messages)

    async def tool_state(self) -> ToolState:
        return tool_state(self._plan.tools.catalog, self._plan.states.tool_words)


def snapshot_of(conversation: Conversation, policy: SessionPolicy, messages: Sequence[Message]) -> SessionSnapshot:
    """A session as a value."""
    head, usage = conversation.head, SessionUsageReport(conversation.usage)
    return SessionSnapshot(
        session_id=head.session_id,
        policy=policy,
        state=SessionStateEnvelope(
            session_id=head.session_id,
            turn_index=head.turn_index,
            head_revision=head.head_revision,
            leaf_node_id=head.leaf_node_id,
            token_usage=usage.total,
        ),
        messages=tuple(each for each in messages if not each.is_transient),
        usage=usage,
    )
