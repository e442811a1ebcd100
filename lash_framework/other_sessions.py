"""What plugins may do with sessions besides the turn that they are in: create, run, close them, and append to them.

A session of a plugin's is one like any other. Nobody here waits for a session that runs another turn than the one that
is asked for: two that wait for each other would wait for ever.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from lash_framework.admission import busy
from lash_framework.inputs import normalized
from lash_hookspecs.errors import ConfigurationError, UnknownName
from lash_hookspecs.messages import PluginOrigin
from lash_hookspecs.prompts import PromptLayer
from lash_hookspecs.services import SessionCreateRequest, SessionGraphService, SessionHandle, SessionLifecycleService
from lash_hookspecs.sessions import AppendSessionNodesRequest, AppendSessionNodesResult, AssembledTurn, TurnInput

if TYPE_CHECKING:
    from lash_framework.call_limits import Slot
    from lash_framework.child_turns import ChildTurns
    from lash_framework.resident import Resident
    from lash_framework.session import Session

__all__ = ["SessionGraph", "SessionLifecycle"]


async def _stored(here: Resident, session_id: str) -> Session:
    """A session that is in the store, as it is. Raises `UnknownName`."""
    from lash_framework.session import Session  # it knows of turns, and they of us

    if session_id == here.id:
        return Session(here)
    if await here.lash.store.load_head(session_id) is None:
        raise UnknownName("session", session_id, hint="create it first, with `ctx.lifecycle.create_session(…)`")
    return await here.lash.session(session_id, recover=False)


class SessionLifecycle(SessionLifecycleService):
    """For one turn of the session `here`. `kept` are those that were created in it: perhaps nobody else holds them.

    What is said to a model has the plugin's name on it. A tool's call that waits here for a turn gives its `slot` away
    meanwhile: that turn may call the same tool. What `children` of a turn cost is a part of what it costs.
    """

    def __init__(
        self,
        here: Resident,
        plugin_id: str,
        kept: dict[str, Session],
        slot: Slot | None = None,
        children: ChildTurns | None = None,
    ) -> None:
        self._here = here
        self._plugin_id = plugin_id
        self._kept = kept
        self._slot = slot
        self._children = children

    async def create_session(self, request: SessionCreateRequest) -> SessionHandle:
        if not request.session_id.strip():
            raise ConfigurationError("the session id is blank; one that follows from what it is for is found again")
        session = await self._here.lash.session(
            request.session_id,
            mode=request.mode_id,
            model=request.model,
            max_turns=request.max_turns,
            recover=False,
        )
        if request.instructions is not None:
            policy = evolve(session.policy, prompt=PromptLayer())
            await session.set_policy(policy.with_instructions(request.instructions, self._plugin_id), {"prompt"})
        self._kept[session.id] = session
        return SessionHandle(session_id=session.id, policy=session.policy, is_stored=session.is_stored)

    async def close_session(self, session_id: str) -> None:
        session = self._kept.get(session_id) or await _stored(self._here, session_id)
        if session._resident.line.locked():
            raise busy(session_id)
        session._resident.forget()
        self._kept.pop(session_id, None)

    async def start_turn(self, session_id: str, turn_id: str, input: TurnInput | str) -> AssembledTurn:
        session = self._kept.get(session_id) or await _stored(self._here, session_id)
        given = evolve(normalized(input), told_by=self._plugin_id)
        waits = session_id == self._here.id  # which says itself what it waits for
        waits = waits or (self._children is not None and self._children.waits_for(session_id, turn_id))
        if session._resident.line.locked() and not waits:
            raise busy(session_id)
        if self._slot is not None:
            self._slot.give()
        try:
            if self._children is None:
                return await session.run(given, turn_id=turn_id)
            return await self._children.run(session, turn_id, given)
        finally:
            if self._slot is not None:
                await self._slot.take_back()


class SessionGraph(SessionGraphService):
    """For one turn of the session `here`, which it may append to as to any other, once the turn is committed.

    Messages have the plugin's name on them, whoever was named before.
    """

    def __init__(self, here: Resident, plugin_id: str) -> None:
        self._here = here
        self._origin = PluginOrigin(plugin_id)

    async def append_session_nodes(
        self, session_id: str, request: AppendSessionNodesRequest
    ) -> AppendSessionNodesResult:
        nodes = [
            each if each.message is None else evolve(each, message=evolve(each.message, origin=self._origin))
            for each in request.nodes
        ]
        return await (await _stored(self._here, session_id)).append(evolve(request, nodes=tuple(nodes)))
