"""Calling a plugin's action: its value checked, its context made, what it remembers stored, its result checked.

A query reads. A command or a task may besides change its plugin's state, which is stored when it returns, and only if
nothing else was committed on the session meanwhile: nobody waits for an action, and it loses nobody's change.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypedDict, cast

import anyio
from attrs import frozen

from lash_framework.arguments import check_given
from lash_framework.faults import failure_text, pass_on
from lash_framework.hooks import Owned, settled
from lash_framework.other_sessions import SessionGraph, SessionLifecycle
from lash_framework.schemas import schema_fault
from lash_framework.session import Session
from lash_framework.state import PluginStates
from lash_framework.turn_services import snapshot_of
from lash_hookspecs.actions import Action, ActionCall, ActionContext, ActionKind, ActionProgress, ActionSession
from lash_hookspecs.codec import encode, structure, unstructure
from lash_hookspecs.contexts import PluginScope, binding
from lash_hookspecs.errors import CodecError, ConfigurationError, HeadConflict, PluginError, SessionBusy, UnknownName
from lash_hookspecs.services import SessionStateService
from lash_hookspecs.sessions import SessionPolicy, SessionSnapshot
from lash_hookspecs.stores import OperationId, RuntimeCommit
from lash_hookspecs.tool_catalog import ToolState

if TYPE_CHECKING:
    from lash_framework.lash import Lash
    from lash_framework.resident import Resident

__all__ = ["CallOptions", "call_action"]

_HOOK = "lash_actions"


class CallOptions(TypedDict, total=False):
    """How an action is called. `kind`: what it must be; one of another kind is unknown. `on_progress` is told."""

    kind: ActionKind | str | None
    on_progress: Callable[[ActionProgress], None] | None


async def call_action(lash: Lash, name: str, value: object, session: Session | str | None, options: CallOptions) -> Any:
    """Call it; see `Lash.call`."""
    if isinstance(session, str):
        session = await lash.session(session, recover=False)
    if session is not None:
        check_given("the session", session, (Session, "a `Session`, or its id"))
    plugin_id, action = _found(lash, name, options.get("kind"))
    if session is None and action.session is ActionSession.REQUIRED:
        raise ConfigurationError(f"action `{name}` is called on a session: name one (`session=`, or `--session`)")
    if session is not None and action.session is ActionSession.FORBIDDEN:
        raise ConfigurationError(f"action `{name}` is called on no session: use `lash.call`")
    given = _taken(action, value)
    scope, before = await _scope(lash, plugin_id, action, session)
    tell = options.get("on_progress") or (lambda progress: None)
    services = _Services(lash, session)
    call = ActionCall(
        session_id=session.id if session is not None else "",
        mode_id=session.policy.mode_id if session is not None else "",
        policy=session.policy if session is not None else SessionPolicy(model=""),
        turn_index=session._resident.head.turn_index if session is not None else 0,
        hook=_HOOK,
        kind=action.kind,
        name=name,
        tell=tell,
        provide=services,
    )
    ctx = binding(ActionContext, {plugin_id: scope}, call)(plugin_id)
    arguments: dict[str, Any] = {"ctx": ctx} if action.wants_context else {}
    if action.argument is not None:
        arguments[action.argument] = given
    try:
        result = await settled(action.run(**arguments))
    except BaseException as error:
        pass_on(error)
        raise PluginError(plugin_id, _HOOK, f"action `{name}` failed: {failure_text(error)}") from error
    came = _returned(plugin_id, action, result)
    if session is not None and scope.state is not before:
        await _store_state(session, plugin_id, before, scope.state)
    return came


def _found(lash: Lash, name: str, kind: ActionKind | str | None) -> Owned[Action]:
    """The action of this name, and of this kind if one is asked for."""
    check_given("the action", name, (str, "its name"))
    known = {key: each for key, each in lash.actions().items() if kind is None or each.value.kind == kind}
    if name not in known:
        raise UnknownName("action" if kind is None else str(kind), name, known)
    return known[name]


# ---- values ---------------------------------------------------------------------------------------------------------


def _taken(action: Action, value: object) -> Any:
    """The value as the function wants it. Raises `ConfigurationError` for one that doesn't fit."""
    try:
        plain = unstructure(value)
        fault = schema_fault(action.input_schema)(plain)
        if fault is None:
            return None if plain is None else structure(plain, action.input)
    except (CodecError, TypeError) as error:
        fault = str(error)
    raise ConfigurationError(f"action `{action.name}`: what it was given doesn't fit: {fault}")


def _returned(plugin_id: str, action: Action, result: object) -> Any:
    """The result as its type. Raises `PluginError` for one that it isn't."""
    try:
        plain = unstructure(result)
        fault = schema_fault(action.output_schema)(plain)
        if fault is None:
            return None if plain is None else structure(plain, action.output)
    except (CodecError, TypeError) as error:
        fault = str(error)
    raise PluginError(plugin_id, _HOOK, f"action `{action.name}` returned what isn't its output: {fault}")


# ---- what it is given -----------------------------------------------------------------------------------------------


async def _scope(lash: Lash, plugin_id: str, action: Action, session: Session | None) -> tuple[PluginScope, Any]:
    """The plugin's corner of the session, of its own so that no turn sees it change; and the state in it."""
    mode_id = session.policy.mode_id if session is not None else lash.settings.mode
    composition = lash.host.composition(mode_id)
    is_there = any(each.plugin_id == plugin_id for each in composition.plugins)
    if session is not None and not is_there:
        raise ConfigurationError(
            f"action `{action.name}` is of plugin `{plugin_id}`, which mode `{mode_id}` of session `{session.id}` lacks"
            f": name `{plugin_id}` in the mode's `plugins`, or open the session in a mode that has it"
        )
    held = (
        (await lash.host.enter(composition)).get(plugin_id) if is_there and composition.hooks["lash_lifespan"] else None
    )
    options = composition.options[plugin_id] if is_there else lash.host.options_of(plugin_id)
    scope = PluginScope(plugin_id, held, options)
    if session is not None:
        conversation = await session._resident.fresh()
        mine = PluginStates(composition, conversation.components).scopes[plugin_id]
        scope.state, scope.state_type = mine.state, mine.state_type
    scope.read_only = action.kind is ActionKind.QUERY
    return scope, scope.state


@frozen
class _Nowhere:
    """Stands for the session where there is none: no session has a blank id."""

    lash: Lash
    id: str = ""


class _Services:
    """Makes an action's services; which of them it has, its kind says."""

    def __init__(self, lash: Lash, session: Session | None) -> None:
        self._lash = lash
        self._session = session
        self._kept: dict[str, Session] = {}

    def __call__(self, name: str, where: str, plugin_id: str) -> Any:
        here = cast("Resident", _Nowhere(self._lash) if self._session is None else self._session._resident)
        match name:
            case "sessions":
                return _Reading(self._lash, self._session)
            case "lifecycle":
                return SessionLifecycle(here, plugin_id, self._kept)
            case "graph":
                return SessionGraph(here, plugin_id)
        raise AssertionError(f"unreachable: no action has `ctx.{name}`")


class _Reading(SessionStateService):
    def __init__(self, lash: Lash, session: Session | None) -> None:
        self._lash = lash
        self._session = session

    @property
    def _current(self) -> Session:
        if self._session is None:
            raise ConfigurationError("the action is called on no session, so that there is none at hand")
        return self._session

    async def snapshot_current(self) -> SessionSnapshot:
        conversation = await self._current._resident.fresh()
        await conversation.load()
        return snapshot_of(conversation, self._current.policy, conversation.messages)

    async def snapshot_session(self, session_id: str) -> SessionSnapshot:
        if self._session is not None and session_id == self._session.id:
            return await self.snapshot_current()
        if await self._lash.store.load_head(session_id) is None:
            raise UnknownName("session", session_id, hint="nothing was committed on it, or it was deleted")
        return await _Reading(self._lash, await self._lash.session(session_id, recover=False)).snapshot_current()

    async def tool_state(self) -> ToolState:
        return await self._current.tools()


# ---- what it remembers ----------------------------------------------------------------------------------------------


async def _store_state(session: Session, plugin_id: str, before: Any, after: Any) -> None:
    """Commit a plugin's new state.

    Raises `SessionBusy` if a turn, or somebody else, changed it since it was read, or a turn runs that could.
    """
    resident, lash = session._resident, session._resident.lash
    resident.refuse_from_within()
    async with _without_a_turn(session, plugin_id), lash.holding(session.id):
        await session.require_no_begun_turn()
        conversation = await resident.fresh()
        states = PluginStates(resident.composition, conversation.components)
        if states.scopes[plugin_id].state != before:
            raise _changed(session.id, plugin_id)
        mark, states.scopes[plugin_id].state = states.mark(), after
        states.recorded(mark)  # what can't be stored, or not read again, fails here
        head, policy = conversation.head, session.policy
        commit = RuntimeCommit(
            session_id=session.id,
            operation=OperationId("action", lash.world.token_hex(16)),
            expected_head_revision=head.head_revision,
            committed_at_ms=lash.world.now_ms(),
            config=encode(policy),
            components=states.components(conversation.components),
            turn_index=head.turn_index,
            budget=lash.budget,
        )
        try:
            await lash.store.commit(commit)
            resident.stored(policy)
        except HeadConflict:
            raise _changed(session.id, plugin_id) from None
        finally:
            resident.forget()


@asynccontextmanager
async def _without_a_turn(session: Session, plugin_id: str) -> AsyncIterator[None]:
    """Hold the session's line, for which only those wait who store something, too: a turn may wait for the caller."""
    async with session._resident.storing:
        line = session._resident.line
        try:
            line.acquire_nowait()
        except anyio.WouldBlock:
            raise SessionBusy(
                f"session `{session.id}` runs a turn, and what plugin `{plugin_id}` remembers can't be stored "
                "meanwhile; call the action again when it is over"
            ) from None
        try:
            yield
        finally:
            line.release()


def _changed(session_id: str, plugin_id: str) -> SessionBusy:
    return SessionBusy(
        f"session `{session_id}`: what plugin `{plugin_id}` remembers was changed while its action ran; call it again"
    )
