"""The facade: a `Lash` is an open host with a store, and makes sessions."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack
from weakref import WeakKeyDictionary, WeakValueDictionary

import anyio
from attrs import evolve

from lash_framework.admission import BUSY_POLL_S, Journalling, busy
from lash_framework.arguments import OPENED_WITH, SESSION_WITH, Said, budget_of, check_arguments
from lash_framework.background import Background, background
from lash_framework.composition import Composition
from lash_framework.effect_hosts import chosen_host, open_effect_host
from lash_framework.effects import InlineEffectHost
from lash_framework.host import PluginHost
from lash_framework.modes import load_extension
from lash_framework.opening import (
    FullStore,
    instructions_layer,
    open_journalling,
    open_plugins,
    open_store,
    open_traces,
    providers_of,
    shielded,
    spoken_by,
)
from lash_framework.prompt import PromptRenderer
from lash_framework.provenance import APPLICATION
from lash_framework.providers import Providers, split_model
from lash_framework.resident import Resident
from lash_framework.session import Session, end_observers
from lash_framework.session_policies import DEFAULT_MODEL, policy_with, said_in_settings
from lash_framework.setting_sources import attribute_opened
from lash_framework.settings import Settings, load_settings
from lash_framework.unfinished import UnfinishedTurn, all_items, unfinished_turns
from lash_framework.watchdog import Watchdog
from lash_framework.world import REAL, World, this_world
from lash_hookspecs.codec import decode
from lash_hookspecs.connected_tools import ConnectedToolSet
from lash_hookspecs.costs import Budget
from lash_hookspecs.effects import EffectHost
from lash_hookspecs.errors import CapabilityMissing, ConfigurationError, SessionBusy
from lash_hookspecs.llm import GenerationOptions
from lash_hookspecs.sessions import AssembledTurn, SessionPolicy, TurnInput
from lash_hookspecs.stores import CommitBudget, SessionHead, SessionMeta, SessionSummary, attachment_id
from lash_hookspecs.tools import Tool

if TYPE_CHECKING:
    from lash_framework.action_table import ActionTable
    from lash_framework.actions import CallOptions
    from lash_framework.archive import HistoryExport
    from lash_framework.explain import Explanation
    from lash_framework.pending import PendingCall
    from lash_framework.replaying import Replayed
    from lash_framework.tracing import Tracer
    from lash_framework.upgrade_check import UpgradeCheck

__all__ = ["DEFAULT_MODEL", "Lash"]

log = logging.getLogger("lash")


class Lash:
    """An open host. Get one with `async with Lash.open(…) as lash`."""

    def __init__(
        self,
        settings: Settings,
        host: PluginHost,
        store: FullStore,
        providers: Providers,
        journalling: Journalling | None = None,
        world: World = REAL,
    ) -> None:
        self.settings = settings
        self.host = host
        self.store = store
        self.providers = providers
        self.journalling = journalling
        self.effects: EffectHost = InlineEffectHost()
        self.tracer: Tracer | None = None
        self._actions: ActionTable = {}
        self.background: Background | None = None
        self.world = world
        self.budget = CommitBudget()
        self.layer = instructions_layer(settings)
        self.sources = {path: spoken_by(origin.label) for path, origin in settings.origins.items()}
        self.layer_source = self.sources.get("instructions", APPLICATION)
        self._sessions: WeakValueDictionary[str, Session] = WeakValueDictionary()
        self._renderers: WeakKeyDictionary[Composition, PromptRenderer] = WeakKeyDictionary()
        self._explained: tuple[tuple[object, ...], bytes, str] | None = None

    # ---- opening ----------------------------------------------------------------------------------------------------

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        store: str | None = None,
        *,
        model: str | None = None,
        mode: str | None = None,
        tools: Sequence[Tool | ConnectedToolSet | Callable[..., Any]] = (),
        instructions: str | None = None,
        plugins: Sequence[object] = (),
        max_turns: int | None = None,
        max_cost: float | None = None,
        max_tokens: int | None = None,
        settings: Settings | None = None,
        config: Path | None = None,
        effects: str | None = None,
        require_durable: bool = False,
    ) -> AsyncIterator[Lash]:
        """Open a host: find plugins, open the store. Everything has a default.

        `store`: a URL, `sqlite:///agent.db` for instance. `model`: `provider:name`. `tools`: functions made with
        `@tool`, or plain typed functions. `plugins`: objects with hooks, besides those that are installed; one that
        can't be loaded is an error here, where an installed one is only a row of `lash.host.report`. `max_cost`
        (US dollars) and `max_tokens` bound each turn. `settings`, or else `lash.toml` (found from the current folder
        upwards, and trusted, or at `config`) and the environment, fill in the rest. `effects`: where turns run, as
        `durability.effects` says. `require_durable`: refuse a store or a setting with which turns don't survive their
        process. Raises `ConfigurationError` for what can't work, `StoreUnavailable` and `StoreVersionError` for the
        store.
        """
        given = {"store": store, "model": model, "mode": mode, "instructions": instructions, "max_turns": max_turns}
        given["effects"] = effects
        more = {"tools": tools, "plugins": plugins, "settings": settings, "config": config}
        spent = {"max_cost": max_cost, "max_tokens": max_tokens}
        check_arguments({**given, **more, **spent, "require_durable": require_durable}, OPENED_WITH, where="Lash.open")
        settings = settings if settings is not None else load_settings(config)
        settings = settings.override("code", **given, budget=budget_of("Lash.open", max_cost, max_tokens))
        host = open_plugins(settings, plugins, tools)
        effects_of, actions = chosen_host(settings, host), host.actions()
        providers = providers_of(settings, host)
        async with AsyncExitStack() as stack:
            stack.enter_context(Watchdog())
            opened = await open_store(settings, host, world := this_world())
            stack.push_async_callback(shielded, opened.aclose)
            stack.push_async_callback(shielded, providers.aclose)
            await stack.enter_async_context(host.run())
            journalling = await open_journalling(settings, opened, stack, require_durable, world, effects_of)
            lash = cls(settings, host, opened, providers, journalling, world=world)
            lash._actions = actions
            if effects_of is not None:
                lash.effects = await open_effect_host(effects_of, host, stack)
            lash.tracer = open_traces(host, stack, world)
            await stack.enter_async_context(background(lash))  # it ends before what it uses
            stack.callback(end_observers, lash._sessions)
            yield lash

    @staticmethod
    def run_sync(
        given: TurnInput | str,
        *,
        session: str | None = None,
        turn_id: str | None = None,
        output: type | None = None,
        **options: Any,
    ) -> AssembledTurn:
        """Open, run one turn, close: for scripts. Works inside a running event loop too (in a thread of its own).

        `options` are those of `Lash.open`.
        """
        from lash_framework.sync import run_anywhere

        async def run() -> AssembledTurn:
            async with Lash.open(**options) as lash:
                opened = await lash.session(session)
                return await opened.run(given, turn_id=turn_id, output=output)

        turn: AssembledTurn = run_anywhere(run)
        return turn

    def require_journal(self, what: str) -> Journalling:
        """What turns with a journal need. Raises `CapabilityMissing` for `what` where there is none."""
        if self.journalling is None:
            raise CapabilityMissing(
                f"{what} needs a journal: set `durability.effects` to `journal`, and use a store that can keep one"
            )
        return self.journalling

    # ---- sessions ---------------------------------------------------------------------------------------------------

    @property
    def location(self) -> str:
        """Where the data is, for people."""
        return self.store.location

    async def session(
        self,
        session_id: str | None = None,
        *,
        mode: str | None = None,
        model: str | None = None,
        instructions: str | None = None,
        generation: GenerationOptions | None = None,
        max_turns: int | None = None,
        budget: Budget | None = None,
        extension: object = None,
        recover: bool | None = None,
    ) -> Session:
        """The session with this id; without an id, a new one. What is new is in the store from its first commit on.

        What is given here, or set in code, environment or `lash.toml`, wins over what is stored with the session.
        `budget` bounds what its turns, and it as a whole, may spend. `extension` is data for the mode's driver, of a
        class that it declared. With `recover` (by default as the setting `durability.recover` says) what was begun or
        accepted on it, and not committed, is run to its end first, unless somebody else does so; what can't go on is
        logged. Raises `SessionDeleted` for an id that was deleted.
        """
        texts = {"session_id": session_id, "model": model, "mode": mode, "instructions": instructions}
        numbers = {"max_turns": max_turns, "generation": generation, "budget": budget}
        check_arguments({**texts, **numbers, "recover": recover}, SESSION_WITH, where="Lash.session")
        if session_id is not None and not session_id.strip():
            raise ConfigurationError("the session id is blank; leave it out to get a fresh one")
        given = {"model": model, "mode_id": mode, "max_turns": max_turns}
        said = Said(fields=given, instructions=instructions, generation=generation, budget=budget, extension=extension)
        if session_id is not None and (known := self._sessions.get(session_id)) is not None:
            await known.set_policy(policy_with(self.host, known.policy, said), said.names)
            return known
        id = session_id or self.world.token_hex(16)
        head = await self.store.load_head(id) if session_id is not None else None
        reason = "opened"
        if head is None:
            reason = "created"
            head = SessionHead(session_id=id)
        stored = decode(SessionPolicy, head.config) if head.config else None
        resident = self._resident(head, stored, said)
        split_model(resident.policy.model, self.host.providers)
        load_extension(resident.composition.mode, "session", resident.policy.extension)
        session = Session(resident)
        await session.opened(reason)
        # Somebody else may have opened it while we waited; the first one stays, and hears what was said here.
        winner = self._sessions.setdefault(id, session)
        if winner is not session:
            await winner.set_policy(policy_with(self.host, winner.policy, said), said.names)
        elif reason == "opened" and (self.settings.durability.recover if recover is None else recover):
            from lash_framework.recovery import recover_quietly

            await recover_quietly(resident)
        return winner

    def _resident(self, head: SessionHead, stored: SessionPolicy | None, said: Said) -> Resident:
        """A session in memory with its policy: what is stored, under the settings, under what the caller says."""
        fields = said_in_settings(self.settings, self.sources, stored)
        settled = evolve(stored or SessionPolicy(model=DEFAULT_MODEL), **fields)
        policy = policy_with(self.host, settled, said)
        resident = Resident(self, head, policy, said.names.union(fields))
        attribute_opened(resident.sources, stored, settled, policy, self.sources, APPLICATION)
        return resident

    async def list_sessions(self, *, limit: int = 100) -> Sequence[SessionSummary]:
        """Sessions, the latest used first; those in which nothing was committed, or is to be done, apart."""
        found = await self.store.list_sessions(limit=limit)
        if all(each.head_revision for each in found):
            return found
        waits: set[str] = set()
        if self.journalling is not None:
            waits = {each.session_id async for each in all_items(self.journalling.store)}
        return [each for each in found if each.head_revision or each.session_id in waits]

    async def latest_session_id(self) -> str | None:
        """The session that was used last; None if there is none."""
        return next((each.session_id for each in await self.store.list_sessions(limit=1)), None)

    async def delete_session(self, session_id: str) -> bool:
        """Delete a session for good; its id can't be used again. False if there was none.

        Raises `SessionBusy` while a turn runs on it, here or elsewhere.
        """
        check_arguments({"session_id": session_id}, SESSION_WITH, where="Lash.delete_session")
        if await self.store.session_was_deleted(session_id):
            return True
        if session_id not in self._sessions and await self.store.load_head(session_id) is None:
            return False  # to hold it would make it known
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self.holding(session_id))
            except SessionBusy as error:
                text = f"session `{session_id}` is running a turn; delete it when that has ended"
                raise SessionBusy(text) from error
            known = self._sessions.get(session_id)
            if known is not None and not known.is_stored:  # who holds it must not bring it back
                await self.store.create_session(SessionMeta(session_id=session_id, created_at_ms=0))
            deleted = await self.store.delete_session(session_id)
            if (known := self._sessions.pop(session_id, None)) is not None:
                end_observers({session_id: known}, deleted=True)
            return deleted

    @asynccontextmanager
    async def holding(self, session_id: str, *, wait: bool = False) -> AsyncIterator[None]:
        """Hold a session for something else than a turn. Raises `SessionBusy` if somebody runs it; or waits."""
        if self.journalling is not None:
            async with self.journalling.lease(session_id, wait=wait):
                yield
            return
        while (held := self.store.try_lock(session_id)) is None:
            if not wait:
                raise busy(session_id)
            await anyio.sleep(BUSY_POLL_S)
        with held:
            yield

    async def pending(self) -> Sequence[PendingCall]:
        """Calls that wait for somebody, of all sessions: to be allowed, to be completed, or left unknown by a crash."""
        from lash_framework.pending import pending_calls

        return await pending_calls(self.require_journal("`lash pending`"))

    async def resolve(
        self, key: str, *, result: object = None, error: str | None = None, happened: bool = True, wait: bool = False
    ) -> PendingCall:
        """Say what became of a pending call: its result, or why it failed, or that it never happened.

        A beginning of the key is enough; `Session.recover` goes on. Raises `UnknownName` (`AlreadyAnswered` if somebody
        was faster), `ConfigurationError` for a result that is too large, and `SessionBusy` (or waits).
        """
        from lash_framework.pending import resolve

        journalling = self.require_journal("`lash pending`")
        return await resolve(journalling, key, result=result, error=error, happened=happened, wait=wait)

    async def answer(self, key: str, choice: str, *, note: str = "", wait: bool = False) -> PendingCall:
        """Say what a person answers to a plugin's question about a pending call; `note` is for the model to read.

        A beginning of the key is enough; `Session.recover` goes on. Raises `UnknownName` (`AlreadyAnswered` if somebody
        was faster), `ConfigurationError` for no choice of it, or one too late, and `SessionBusy` (or waits).
        """
        from lash_framework.pending import answer

        return await answer(self.require_journal("`lash pending`"), key, choice, note, wait=wait)

    async def replay(self, turn_id: str, session_id: str | None = None) -> Replayed:
        """Replay a committed turn from its journal: nothing is executed, nothing is written.

        A beginning of the id is enough if it is unique. Raises `UnknownName` for a turn that isn't known, or whose
        journal wasn't kept.
        """
        from lash_framework.archive import find_turn
        from lash_framework.replaying import replay_turn  # few want it

        found = await find_turn(self.store, turn_id, session_id)
        return await replay_turn(self, *found)

    async def unfinished(self, session_id: str | None = None) -> Sequence[UnfinishedTurn]:
        """Turns that were accepted and aren't committed, of one session or of all; none without a journal."""
        return () if self.journalling is None else await unfinished_turns(self.journalling, session_id)

    async def upgrade_check(self, session_id: str | None = None) -> Sequence[UpgradeCheck]:
        """What would become of all unfinished turns with what is installed now; nothing is executed or written."""
        from lash_framework.upgrade_check import check_unfinished  # few want it

        return await check_unfinished(self, session_id)

    async def load_history(self, session_id: str) -> HistoryExport:
        """A session, whole, with placeholders for what can't be read. Raises `UnknownName` if there is none."""
        from lash_framework.archive import load_history

        return await load_history(self.store, session_id)

    async def explain(self, turn_id: str, session_id: str | None = None) -> Explanation:
        """Which plugin put what before the model in that turn. A beginning of the id is enough if it is unique."""
        from lash_framework.archive import explain_turn

        return await explain_turn(self.store, turn_id, session_id)

    def actions(self) -> ActionTable:
        """What plugins offer to be called, by name, each with its owner."""
        return self._actions

    async def call(
        self, name: str, value: object = None, *, session: Session | str | None = None, **options: Unpack[CallOptions]
    ) -> Any:
        """Call an action with a value of its type, or plain data for one; on a session if one is given.

        Cancelled by the scope that it runs in. Raises `ConfigurationError` for what doesn't fit, and `PluginError`.
        """
        from lash_framework.actions import call_action  # few want it

        return await call_action(self, name, value, session, options)

    # ---- what sessions of one composition share ---------------------------------------------------------------------

    def renderer(self, composition: Composition) -> PromptRenderer:
        """The composition's prompt renderer, with its cache."""
        return self._renderers.setdefault(composition, PromptRenderer())

    def explained(self, parts: tuple[object, ...], make: Callable[[], bytes]) -> tuple[bytes, str]:
        """The provenance of these parts and its blob's id; equal turns in a row are encoded once."""
        last = self._explained
        if last is None or last[0] != parts:
            data = make()
            last = self._explained = (parts, data, attachment_id(data))
        return last[1], last[2]
