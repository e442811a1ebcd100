"""A journal in memory, and a host that runs turns on it: what a store's journal does, without a store."""

from __future__ import annotations

from collections.abc import Sequence

import anyio.lowlevel
from attrs import define, evolve, field

from lash_framework.journal import JournalController
from lash_framework.journal_queue import Later
from lash_hookspecs import (
    EffectController,
    JournalRow,
    JournalStatus,
    RuntimeScope,
    StoreCorrupt,
)


class Killed(Exception):
    """The process is gone: nothing of it goes on."""


@define
class MemoryJournal:
    """A turn's rows, as they survive its processes. `dies_at` kills at a write, before it or `after` it was made.

    `on_disk` are those that survive a loss of power, too: rows that are written `later` do after `sync`, or a write.
    `under_way` are those that will in a moment: this disk is the slowest, and does nothing that nobody waits for.
    """

    rows: list[JournalRow] = field(factory=list)
    on_disk: list[JournalRow] = field(factory=list)
    under_way: list[JournalRow] = field(factory=list)
    syncs: int = 0
    writes: list[list[str]] = field(factory=list)
    claims: list[int] = field(factory=list)
    dies_at: int | None = None
    after: bool = False
    on_its_way: bool = False

    @property
    def later(self) -> Later:
        return Later(self.post, self.sync)

    async def append(self, rows: Sequence[JournalRow], claims: Sequence[int]) -> None:
        await self.post(rows, claims)
        self.on_disk = self.under_way = list(self.rows)

    async def sync(self, *, wait: bool = True) -> None:
        self.under_way = list(self.rows)
        if not wait:
            return
        assert not self.on_its_way, "a sync is a write, too"
        self.on_its_way = True
        await anyio.lowlevel.checkpoint()
        self.on_its_way = False
        self.on_disk = list(self.rows)
        self.syncs += 1

    async def post(self, rows: Sequence[JournalRow], claims: Sequence[int]) -> None:
        assert not self.on_its_way, "one write is on its way at a time"
        self.on_its_way = True
        await anyio.lowlevel.checkpoint()  # a store takes its time
        self.on_its_way = False
        dies = len(self.writes) == self.dies_at
        if dies and not self.after:
            raise Killed
        for row in rows:
            at = next((at for at, each in enumerate(self.rows) if each.key == row.key), None)
            if at is None:
                self.rows.append(row)
            elif self.rows[at].status is JournalStatus.INTENT:
                self.rows[at] = row
            elif self.rows[at] != row:  # the same again is for who doesn't know whether it arrived
                raise StoreCorrupt(f"{row.label} has a row")
        self.claims += claims
        self.writes.append([f"{each.label}: {each.status}" for each in rows])
        if dies:
            raise Killed

    def left(self, length: int | None = None) -> MemoryJournal:
        """What a process left behind that died after this many rows."""
        return MemoryJournal(list(self.rows[:length]))

    def after_power(self) -> MemoryJournal:
        """What a loss of power left behind."""
        return MemoryJournal(list(self.on_disk), list(self.on_disk))


@define
class JournalHost:
    """Runs turns on a journal; `controller` is the last turn's."""

    journal: MemoryJournal = field(factory=MemoryJournal)
    attempt: int = 1
    controller: JournalController | None = None

    def scoped(self, scope: RuntimeScope) -> EffectController:
        self.controller = JournalController(self.journal.rows, self.journal.append, died=self.attempt > 1)
        return self.controller

    def again(self) -> JournalHost:
        """The next process."""
        return JournalHost(self.journal.left(), self.attempt + 1)

    def committed(self) -> MemoryJournal:
        """The whole journal after the turn's commit, which takes along what was held."""
        assert self.controller is not None
        return MemoryJournal([*self.journal.rows, *self.controller.held])


def altered(row: JournalRow, **changes: object) -> JournalRow:
    """The row as somebody else might have written it."""
    return evolve(row, **changes)
