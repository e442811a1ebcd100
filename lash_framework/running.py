"""A turn while it runs: its activities as an async iterator, its end as a result.

Leaving the block early cancels the turn; an exception in the block, or a cancel scope around it, interrupts it.

The turn runs in the host's background, under a scope of its own, and not in a task group around the block: the block
may stand in an async generator, which another task may close than the one that began it (asyncio does so with one that
nobody reads to its end), and a task group that is left elsewhere cancels whoever entered it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from lash_hookspecs.activity import TurnActivity
from lash_hookspecs.errors import StoreUnavailable, TurnCancelled, TurnInterrupted
from lash_hookspecs.sessions import AssembledTurn

if TYPE_CHECKING:
    from lash_framework.session import Session
    from lash_framework.stream import Sink

__all__ = ["RunningTurn"]

log = logging.getLogger("lash.session")


class Job(Protocol):
    """A turn from its beginning to its commit."""

    turn_id: str
    committed: AssembledTurn | None

    def cancel(self, reason: str) -> bool:
        """Ask it to end."""
        ...

    async def run(self, sink: Sink | None) -> AssembledTurn:
        """Run it."""
        ...


class RunningTurn:
    """A turn while it runs: an async iterator of its activities, once; `result()` is the committed turn.

    Only this iterator slows the turn down if it is slow. `break` out of the block cancels the turn, which is committed
    as cancelled, and so does closing a generator that has the block; an exception in the block interrupts it, and
    nothing is committed unless the commit was on its way.
    """

    def __init__(self, job: Job, session: Session) -> None:
        self._job = job
        # Whoever has the same session open must stand in the same line, so it lives as long as its turn.
        self._session = session
        self._scope: anyio.CancelScope | None = None
        self._send: MemoryObjectSendStream[Sequence[TurnActivity]]
        self._receive: MemoryObjectReceiveStream[Sequence[TurnActivity]]
        self._read: Iterator[TurnActivity] = iter(())
        self._reader: int | None = None
        self._turn: AssembledTurn | None = None
        self._error: Exception | None = None
        self._told = False
        self._ended = anyio.Event()

    @property
    def turn_id(self) -> str:
        """The turn's id."""
        return self._job.turn_id

    def cancel(self, reason: str = "cancelled by the caller") -> bool:
        """Ask the turn to end now, committed as cancelled. False: it completed first."""
        return self._job.cancel(reason)

    async def result(self) -> AssembledTurn:
        """The committed turn; activities that nobody reads are dropped. Raises what ended the turn without a commit.

        `TurnCancelled` if that was a cancel before it began, `TurnInterrupted` if its block was left by an exception.
        """
        self._require_entered()
        if self._reader in (None, anyio.get_current_task().id):
            self._receive.close()  # nobody reads any more, and the turn must not wait for a reader
        await self._ended.wait()
        self._tell()
        if self._turn is None:
            raise TurnInterrupted(f"turn `{self.turn_id}` was interrupted; nothing of it was committed")
        return self._turn

    def _require_entered(self) -> None:
        if self._scope is None:
            raise RuntimeError("the turn isn't running: `async with session.turn(…) as running:` starts it")

    def _tell(self) -> None:
        if self._error is not None:
            self._told = True
            raise self._error

    # ---- iteration --------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TurnActivity:
        self._require_entered()
        self._reader = anyio.get_current_task().id
        for activity in self._read:
            return activity
        try:
            self._read = iter(await self._receive.receive())
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            self._reader = None
            await self._ended.wait()
            self._tell()
            raise StopAsyncIteration from None
        return next(self._read)

    # ---- the block --------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._scope is not None:
            raise RuntimeError(f"turn `{self.turn_id}` runs only once: call `session.turn` again")
        lash = self._session._resident.lash
        if lash.background is None:
            raise StoreUnavailable(f"the store `{lash.location}` is closed")
        lash.background.require_here()
        self._send, self._receive = anyio.create_memory_object_stream[Sequence[TurnActivity]](0)
        self._scope = anyio.CancelScope()
        lash.background.start_soon(self._work, name=f"lash turn {self.turn_id}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._scope is not None  # entered
        left = kind is None or kind is GeneratorExit
        if not left:
            self._scope.cancel()
        elif not self._ended.is_set():
            self.cancel("the caller left the turn")
        self._receive.close()
        if not self._ended.is_set():
            await self._end(kind)
        # Who leaves a turn before it began gets what was asked for: nothing.
        if kind is None and not self._told and not isinstance(self._error, TurnCancelled):
            self._tell()

    async def _end(self, kind: type[BaseException] | None) -> None:
        """Wait until the turn has ended; who is cancelled meanwhile interrupts it, and waits on."""
        assert self._scope is not None  # entered
        if kind is GeneratorExit:
            await self._ended.wait()  # trio lets such a generator wait for nothing: then the turn ends by itself
            return
        interruption: BaseException | None = None
        while not self._ended.is_set():
            try:
                # What cancelled the block would cut this short; asyncio's own cancelling does in spite of the shield.
                with anyio.CancelScope(shield=self._scope.cancel_called):
                    await self._ended.wait()
            except anyio.get_cancelled_exc_class() as error:
                interruption = error
                self._scope.cancel()
        if interruption is not None:
            raise interruption

    async def _work(self) -> None:
        assert self._scope is not None  # entered
        try:
            with self._scope:
                self._turn = await self._job.run(self._hand_over)
        except Exception as error:
            self._error = error
        finally:
            self._turn = self._turn or self._job.committed  # whoever was interrupted after that
            self._ended.set()
            self._send.close()

    async def _hand_over(self, batch: Sequence[TurnActivity]) -> None:
        try:
            await self._send.send(batch)
        except anyio.BrokenResourceError:
            log.debug("nobody reads turn %s any more", self.turn_id)
