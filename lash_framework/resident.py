"""What a session keeps in memory: nothing but its head until a turn needs more, and never more than the store has.

Shared by the `Session` that applications hold and the job that runs a turn on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from lash_framework.history import Conversation, restore
from lash_framework.state import PluginStates
from lash_hookspecs.sessions import SessionPolicy
from lash_hookspecs.stores import LoadedSession, SessionHead

if TYPE_CHECKING:
    from lash_framework.composition import Composition
    from lash_framework.lash import Lash

__all__ = ["Resident"]


class Resident:
    """One session in memory. `policy` is how its next turn runs; it is stored with that turn."""

    __slots__ = ("_conversation", "_line", "_states", "head", "lash", "policy")

    def __init__(self, lash: Lash, head: SessionHead, policy: SessionPolicy) -> None:
        self.lash = lash
        self.head = head
        self.policy = policy
        self._conversation: Conversation | None = None
        self._states: PluginStates | None = None
        self._line: anyio.Lock | None = None

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
            self._line = anyio.Lock()
        return self._line

    async def conversation(self) -> Conversation:
        """The conversation, loaded if it isn't there. Raises `StoreCorrupt`."""
        if self._conversation is None:
            loaded = await self.lash.store.load_session(self.id)
            self._conversation = restore(loaded or LoadedSession(head=self.head))
            self.head = self._conversation.head
        return self._conversation

    async def fresh(self) -> Conversation:
        """The conversation as it stands in the store now: loaded again only if somebody else moved the head."""
        if self._conversation is not None:
            head = await self.lash.store.load_head(self.id)
            if head is not None and head.head_revision != self._conversation.head.head_revision:
                self.forget()
        return await self.conversation()

    async def states(self) -> PluginStates:
        """What the plugins of its composition remember."""
        conversation, composition = await self.conversation(), self.composition
        if self._states is None or self._states.composition is not composition:
            self._states = PluginStates(composition, conversation.components)
        return self._states

    def remember(self, conversation: Conversation) -> None:
        """Take over what a commit made of the conversation, without asking the store."""
        self._conversation = conversation
        self.head = conversation.head

    def forget(self) -> None:
        """Keep nothing; the next turn loads what the store has."""
        self._conversation = None
        self._states = None
