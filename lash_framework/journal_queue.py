"""The queue of a journal's records: one write is on its way at a time, and who comes meanwhile joins the next.

A record can be written and not yet synced: then it survives this process, and a loss of power takes it. Whatever the
outside remembers waits for the disk. A model call doesn't, for which the disk is only set to it: power that fails while
it is at it takes no more than if it had failed just before. Nor do pure tools, whose outcomes are to be synced anyway.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import anyio

from lash_framework.journal_errors import JournalRefusal
from lash_framework.silences import silence_row
from lash_framework.unbroken import unbroken
from lash_hookspecs.errors import ClaimLost
from lash_hookspecs.journal_rows import JournalRow

__all__ = ["Append", "JournalQueue", "Later", "Record"]

Append = Callable[[Sequence[JournalRow], Sequence[int]], Awaitable[None]]
"""Writes rows, and claims inbox items by their numbers, in one transaction. Raises the store's errors."""


class Later(NamedTuple):
    """Writes that needn't be synced when `append` returns, but are once `sync`, or another write, has returned."""

    append: Append
    sync: Sync


class Sync(Protocol):
    """Waits for the disk; without `wait`, only sets it to its work. Raises the store's errors."""

    def __call__(self, *, wait: bool = True) -> Awaitable[None]:
        """What was written by now, that is."""
        ...


Record = Callable[[], JournalRow]
"""Makes the row of a record."""


class JournalQueue:
    """The queue of records that are to be written, and the one write on its way.

    A record becomes a row when it is written: the commit makes many needless before that. After a write that failed
    nothing is written any more: everything raises what it raised.
    """

    def __init__(self, append: Append, later: Later | None = None) -> None:
        self._append = append
        self._later = later
        self._held: list[Record] = []
        self._claims: list[int] = []
        self._added = 0
        self._written = 0
        self._synced = 0 if later is None else -1  # the turn's beginning needn't be yet, either
        self._set_to = 0
        self._external = 0
        self._silences: list[str] | None = None
        self._is_writing = False
        self._written_once: anyio.Event | None = None
        self.failure: Exception | None = None

    @property
    def held(self) -> tuple[JournalRow, ...]:
        """What no write was begun for."""
        return tuple(record() for record in self._held)

    @property
    def has_external(self) -> bool:
        """Whether the outcome of an effect outside was added."""
        return self._external > 0

    @property
    def owes(self) -> bool:
        """Whether there is an external outcome that isn't durable, or never will be."""
        return self._synced < self._external or self.failure is not None

    def add(self, record: Record, *, external: bool = False) -> None:
        """Put a record at the end. `external` marks the outcome of an effect outside."""
        self._held.append(record)
        self._added += 1
        if external:
            self._external = self._added

    def add_silence(self, key: str) -> None:
        """Note that hooks said nothing: with all others that are noted before the next write, in one record."""
        if self._silences is None:
            self._silences = []
            self.add(partial(silence_row, self._silences))
        self._silences.append(key)

    async def claim(self, record: Record, claims: Sequence[int]) -> None:
        """Write a record together with the claim of inbox items, after all before it.

        `ClaimLost` means that an item isn't to be had: then the record isn't there, and everything else goes on.
        """
        await self.write()
        assert not self._is_writing  # a checkpoint overlaps no other effect,
        assert not self._held  # so the record is alone, and nothing else is lost with it
        self._held.append(record)
        self._claims.extend(claims)
        self._added += 1
        await self.write()

    async def write(self) -> None:
        """Have everything durable that was added so far."""
        await self._up_to(self._added)

    async def write_last(self, behind: Sequence[Record]) -> None:
        """Have everything durable, and then these, which may take the place of rows among it, whatever is cancelled.

        That comes out once it is done.
        """
        interrupted: BaseException | None = None
        for records in ((), behind):  # no write has two rows of one key
            for record in records:
                self.add(record)
            _, again = await unbroken(self.write)
            interrupted = again or interrupted
        if interrupted is not None:
            raise interrupted

    async def post(self) -> None:
        """Have everything written that was added so far, and durable if that is the same."""
        await self._up_to(self._added, synced=self._later is None)

    async def write_external(self) -> None:
        """Have every external outcome durable that was added so far."""
        await self._up_to(self._external)

    async def post_external(self, *, sync: bool) -> None:
        """Have every external outcome written that was added so far, and the turn's beginning durable.

        With `sync` the disk is set to what isn't.
        """
        if self._later is None or self._synced < 0:
            return await self._up_to(self._external)
        await self._up_to(self._external, synced=False)
        if sync and self._set_to < self._written > self._synced:
            await self._sync(self._later, wait=False)

    async def _up_to(self, wanted: int, *, synced: bool = True) -> None:
        while True:
            if self.failure is not None:
                raise self.failure
            if wanted <= (self._synced if synced else self._written):
                return
            if self._is_writing:
                self._written_once = self._written_once or anyio.Event()
                await self._written_once.wait()
            elif self._later is not None and wanted <= self._written:
                await self._sync(self._later)
            else:
                rows, self._held, self._silences = self.held, [], None
                claims, self._claims = self._claims, []
                append = self._append if synced or self._later is None else self._later.append
                await self._once(rows, partial(append, rows, claims), synced=synced)

    async def _sync(self, later: Later, *, wait: bool = True) -> None:
        """Wait for the disk. Who is cancelled meanwhile, and asks again, waits again: nothing is lost with that."""
        written = self._written
        try:
            await later.sync(wait=wait)
        except Exception as error:
            self.failure = self.failure or error
            raise
        self._set_to = max(self._set_to, written)
        if wait:
            self._synced = max(self._synced, written)

    async def _once(
        self, rows: Sequence[JournalRow], write: Callable[[], Awaitable[None]], *, synced: bool = True
    ) -> None:
        self._is_writing = True
        interrupted: BaseException | None = None
        try:
            with anyio.CancelScope(shield=True):  # a submitted write is awaited: nobody knows otherwise what is there
                while True:
                    try:
                        await write()
                        break
                    except anyio.get_cancelled_exc_class() as error:  # `Task.cancel()` knows no shield
                        interrupted = error  # once more: that changes nothing if the rows are there
            self._written += len(rows)
            if synced:
                self._synced = self._written
        except ClaimLost:
            self._written += len(rows)  # `claim` put them there alone: they are gone, and nobody waits for them
            self._synced = self._written
            if interrupted is None:  # else whoever looks again would go on, though its task was cancelled
                raise
        except Exception as error:
            self.failure = error
            raise
        except BaseException:
            text = "a write was interrupted, so nobody knows what the journal holds"
            self.failure = JournalRefusal("runtime_effect_journal", text, label="the journal")
            raise
        finally:
            self._is_writing = False
            if self._written_once is not None:
                self._written_once.set()
                self._written_once = None
        if interrupted is not None:
            raise interrupted
