"""What a session keeps in memory: nothing but its head until a turn needs more, and never more than the store has.

Shared by the `Session` that applications hold and the job that runs a turn on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import anyio
import attrs
from attrs import evolve

from lash_framework.conversation import Conversation, restore
from lash_framework.observing import Feed
from lash_framework.setting_sources import STORED, attribute
from lash_framework.state import PluginStates
from lash_hookspecs.errors import SessionBusy, SessionDeleted
from lash_hookspecs.sessions import SessionPolicy
from lash_hookspecs.stores import LoadedSession, SessionHead

if TYPE_CHECKING:
    from lash_framework.composition import Composition
    from lash_framework.lash import Lash

__all__ = ["Resident"]

_FIELDS = tuple(each.name for each in attrs.fields(SessionPolicy))


class _Turns:
    """Turns that run on a session, for as long as they do: tasks that one of them leaves behind are a part of none."""

    __slots__ = ("session",)

    def __init__(self, session: Resident) -> None:
        self.session: Resident | None = session


_running: ContextVar[tuple[_Turns, ...]] = ContextVar("lash_running_turns", default=())
"""The turns that this code is a part of: a tool or hook must not wait for the turn that waits for it."""


class Resident:
    """One session in memory. `policy` is how its next turn runs; it is stored with that turn.

    `said` are the policy's fields that were said here and aren't stored yet: also one that was said to be what it was.
    `tool_edits` is the same of its tools. `feed` is what observers read.
    """

    __slots__ = (
        "_conversation",
        "_line",
        "_states",
        "_storing",
        "feed",
        "head",
        "lash",
        "policy",
        "said",
        "sources",
        "tool_edits",
    )

    def __init__(self, lash: Lash, head: SessionHead, policy: SessionPolicy, said: Iterable[str]) -> None:
        self.lash = lash
        self.head = head
        self.policy = policy
        self.said = frozenset(said)
        self.sources: dict[str, str] = {}
        self.tool_edits: list[Mapping[str, bool]] = []
        self.feed = Feed(head.session_id, lash.settings.observers.ring, lash.world.token_hex)
        self._conversation: Conversation | None = None
        self._states: PluginStates | None = None
        self._line: anyio.Lock | None = None
        self._storing: anyio.Lock | None = None

    @property
    def id(self) -> str:
        """The session's id."""
        return self.head.session_id

    @property
    def composition(self) -> Composition:
        """The plugins, tools and driver of its mode, resolved."""
        return self.lash.host.composition(self.policy.mode_id)

    @property
    def line(self) -> anyio.Lock:
        """Where this process's turns stand in line."""
        if self._line is None:
            self._line = anyio.Lock(fast_acquire=True)
        return self._line

    @property
    def storing(self) -> anyio.Lock:
        """Where those stand in line who store something beside turns, and wait for none."""
        if self._storing is None:
            self._storing = anyio.Lock(fast_acquire=True)
        return self._storing

    def refuse_from_within(self) -> None:
        """Raise `SessionBusy` if the caller is a part of this session's running turn, which could never end then.

        Raises `RuntimeError` in another thread than the host's.
        """
        if self.lash.background is not None:
            self.lash.background.require_here()
        if any(each.session is self for each in _running.get()):
            raise SessionBusy(
                f"a tool or hook of session `{self.id}` can't run a turn or append on the session that waits for it; "
                "use another session, or `EnqueueMessages`"
            )

    @staticmethod
    @contextmanager
    def apart() -> Iterator[None]:
        """What happens inside is a part of nobody's turn, though a tool or hook may have started it."""
        token = _running.set(())
        try:
            yield
        finally:
            _running.reset(token)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Mark what happens inside as a part of this session's turn."""
        turns = _Turns(self)
        token = _running.set((*_running.get(), turns))
        try:
            yield
        finally:
            turns.session = None
            _running.reset(token)

    # ---- the conversation -------------------------------------------------------------------------------------------

    async def conversation(self) -> Conversation:
        """The conversation, whose history may come later. Raises `StoreCorrupt` and `SessionDeleted`."""
        if self._conversation is None:
            loaded = await self.lash.store.load_session(self.id, later=True)
            if loaded is None and self.head.head_revision:
                raise SessionDeleted(self.id)
            loaded = loaded or LoadedSession(head=self.head)  # a new one, which its first commit makes known
            self._conversation = restore(loaded)
            self.head = self._conversation.head
            self._take_stored(self._conversation.policy)
        return self._conversation

    async def fresh(self, revision: int | None = None) -> Conversation:
        """The conversation as it stands in the store now: loaded again only if somebody else moved the head.

        `revision` is the head's, if the caller knows it.
        """
        if self._conversation is not None:
            if revision is None:
                revision = await self.lash.store.load_revision(self.id)
            if (revision or 0) != self._conversation.head.head_revision:
                self.forget()
        return await self.conversation()

    def remember(self, conversation: Conversation, states: PluginStates) -> None:
        """Take over what a commit made of the conversation, without asking the store."""
        self._conversation = conversation
        self._states = states
        self.head = conversation.head
        if self.said:
            self.stored(conversation.policy)

    def forget(self) -> None:
        """Keep nothing; the next turn loads what the store has."""
        self._conversation = None
        self._states = None

    def end(self, *, deleted: bool = False) -> None:
        """The host closes, or the session is `deleted`, of which nothing stays in memory either."""
        self.feed.end(deleted=deleted)
        if deleted:
            self.forget()

    # ---- the policy -------------------------------------------------------------------------------------------------

    def say(self, policy: SessionPolicy, fields: Iterable[str] = ()) -> None:
        """Run with this policy from the next turn on; `fields` were said, besides those that it changes."""
        self.said = self.said.union(fields, _differing(self.policy, policy))
        self.policy = policy

    def stored(self, policy: SessionPolicy | None) -> None:
        """What was said is in the store now, except for what was said anew meanwhile."""
        self.said &= frozenset(_FIELDS if policy is None else _differing(self.policy, policy))

    def _take_stored(self, stored: SessionPolicy | None) -> None:
        """Follow what another host stored, except for what was said here."""
        if stored is None:
            return
        policy = evolve(stored, **{name: getattr(self.policy, name) for name in self.said})
        attribute(self.sources, self.policy, policy, STORED)
        self.policy = policy

    # ---- the plugins ------------------------------------------------------------------------------------------------

    async def states(self, composition: Composition, *, keep: bool) -> PluginStates:
        """What the plugins of a composition remember. `keep` it for later, unless a turn has its own in use."""
        conversation = await self.conversation()
        if self._states is not None and self._states.composition is composition:
            return self._states
        made = PluginStates(composition, conversation.components)
        if keep:
            self._states = made
        return made


def _differing(one: SessionPolicy, other: SessionPolicy) -> list[str]:
    return [name for name in _FIELDS if getattr(one, name) != getattr(other, name)]
