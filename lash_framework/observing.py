"""Observers of a session: any number, in any task of the host; none slows a turn down, and none misses anything unseen.

A session's activities go into a bounded ring as soon as somebody observed it, and for as long as a cursor that was
given out could be answered from there: when nobody observes, and as many activities as it holds have come since, the
ring is dropped. What a ring can't answer is told as a gap, with the state as it is then. A ring has a name of its own,
which its cursors carry; those of another process, or of a ring that was dropped, lead to a gap.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Self
from weakref import WeakSet

import anyio

from lash_framework.ring import Ring
from lash_hookspecs.activity import TurnActivity, TurnEnd
from lash_hookspecs.canonical import content_hash
from lash_hookspecs.errors import InvalidCursor, SessionDeleted, StoreError
from lash_hookspecs.observation import GapReason, Observation, ObservationGap, Observed
from lash_hookspecs.sessions import AssembledTurn

if TYPE_CHECKING:
    from lash_framework.resident import Resident
    from lash_framework.stream import ActivityStream
    from lash_framework.turn import TurnRun

__all__ = ["Feed", "Observer"]

_CURSOR = re.compile(r"([0-9a-f]{8})-([0-9a-f]{16})-(0|[1-9][0-9]{0,17})")


class _NamedRing(Ring[TurnActivity]):
    """A ring whose name is in its cursors."""

    __slots__ = ("cursors", "name")

    def __init__(self, session_id: str, name: str, size: int) -> None:
        super().__init__(size)
        self.name = name
        self.cursors = f"{_tag(session_id)}-{self.name}-"


def _tag(session_id: str) -> str:
    return content_hash(session_id.encode("utf-8", "surrogatepass"))[:8]


class Feed:
    """Where the turns of a session say what happens. `ring` is None while nobody could ask for it.

    `running` is the turn that runs here, and its stream. `ends` counts the turns that ran here.
    """

    __slots__ = (
        "_ended", "_more", "_observers", "_session_id", "_size", "_unobserved", "ends", "ring", "running", "token_hex",
    )  # fmt: skip

    def __init__(self, session_id: str, size: int, token_hex: Callable[[int], str]) -> None:
        self._session_id = session_id
        self._size = size
        self._observers: WeakSet[Observer] = WeakSet()
        self._unobserved = 0
        self._more: anyio.Event | None = None
        self._ended: str | None = None
        self.ring: _NamedRing | None = None
        self.running: tuple[TurnRun, ActivityStream] | None = None
        self.ends = 0
        self.token_hex = token_hex

    # ---- from turns -------------------------------------------------------------------------------------------------

    def begin(self, run: TurnRun, stream: ActivityStream) -> None:
        """A turn runs here."""
        self.running = (run, stream)
        stream.began()

    def close(self, end: TurnEnd, turn: AssembledTurn | None = None) -> None:
        """It runs no more; nothing is said of one that never began."""
        if self.running is not None:
            _, stream = self.running
            self.running = None
            self.ends += 1
            stream.ended(end, turn)

    def publish(self, batch: Sequence[TurnActivity]) -> None:
        """Hand activities to whoever observes, without waiting for anybody."""
        ring = self.ring
        if ring is None:
            return
        ring.publish(batch)
        if self._observers:
            self._wake()
            return
        self._unobserved += len(batch)
        if self._unobserved > ring.size:
            self.ring = None  # from here on no cursor that was given out could be answered

    def skip(self) -> None:
        """Something won't be shown: observers get the state instead."""
        if self.ring is not None:
            self.ring.skip()
            self._wake()

    def end(self, *, deleted: bool = False) -> None:
        """Observers read what is there, and then end: the host closes, or the session is deleted."""
        self._ended = "deleted" if deleted else "closed"
        self._wake()

    def _wake(self) -> None:
        if self._more is not None:
            self._more.set()
            self._more = None

    # ---- to observers -----------------------------------------------------------------------------------------------

    def join(self, observer: Observer) -> _NamedRing:
        """Keep activities from now on."""
        self._observers.add(observer)
        self._unobserved = 0
        if self.ring is None:
            self.ring = _NamedRing(self._session_id, self.token_hex(8), self._size)
        return self.ring

    def require_going_on(self) -> None:
        """Raise `SessionDeleted`, or `StopAsyncIteration` where the host is closed."""
        if self._ended == "deleted":
            raise SessionDeleted(self._session_id)
        if self._ended is not None:
            raise StopAsyncIteration

    async def more(self) -> None:
        """Wait until something was published. Raises as `require_going_on` does."""
        self.require_going_on()
        if self._more is None:
            self._more = anyio.Event()
        await self._more.wait()


class Observer:
    """What happens in a session, as an async iterator: `Observed` activities, and a gap with the state in between.

    It reads at its own speed, for one task at a time. It ends when the host closes, and raises `SessionDeleted` when
    the session is deleted. There is nothing to close: leave the loop, and come back with `cursor`.
    """

    def __init__(self, session: Resident, cursor: str | None, keeps: object) -> None:
        self._session = session
        self._keeps = keeps  # whoever opens the session meanwhile must find this one, and its feed
        place = None if cursor is None else _read_cursor(session.id, cursor)
        ring = session.feed.join(self)
        self._ring = ring
        self._place = 0
        self._gap: GapReason | None = None
        if place is None:
            self._gap = GapReason.NEW
        elif place[0] != ring.name:
            self._gap = GapReason.OTHER_RUN
        elif place[1] > ring.end:
            raise InvalidCursor(cursor or "", session.id, "it is ahead of everything that has happened")
        else:
            self._place = place[1]

    @property
    def cursor(self) -> str | None:
        """Where to go on from after the last thing that was read; None before the first."""
        return None if self._gap is not None else f"{self._ring.cursors}{self._place}"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Observation:
        feed, ring = self._session.feed, self._ring
        while True:
            if self._gap is None and not ring.holds(self._place):
                self._gap = GapReason.REPLAYED if self._place < ring.hole else GapReason.OVERTAKEN
            if self._gap is not None:
                return await self._fresh(self._gap)
            if self._place < ring.end:
                activity = ring.after(self._place)
                self._place += 1
                return Observed(cursor=f"{ring.cursors}{self._place}", activity=activity)
            await feed.more()

    async def _fresh(self, reason: GapReason) -> ObservationGap:
        feed = self._session.feed
        feed.require_going_on()
        try:
            from lash_framework.session_view import session_view

            state = await session_view(self._session)
        except StoreError:
            feed.require_going_on()  # the store was closed meanwhile
            raise
        # Nothing happens between the state and this: what follows comes after it.
        self._place, self._gap = self._ring.end, None
        return ObservationGap(cursor=f"{self._ring.cursors}{self._place}", reason=reason, state=state)


def _read_cursor(session_id: str, cursor: str) -> tuple[str, int]:
    found = _CURSOR.fullmatch(cursor) if isinstance(cursor, str) else None
    if found is None:
        raise InvalidCursor(str(cursor), session_id, "it is none")
    if found[1] != _tag(session_id):
        raise InvalidCursor(cursor, session_id, "it is of another session")
    return found[2], int(found[3])
