"""Processes that die at random in a batch of calls: nothing recorded runs again, and nothing unsafe runs twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import anyio
import pytest
from asked_kit import answer, asked, call
from attrs import define, field, frozen
from hypothesis import given, settings, strategies as st
from journal_kit import Killed, MemoryJournal

from lash_framework.journal import JournalController
from lash_framework.journal_errors import EffectSuspended
from lash_hookspecs import (
    JournalStatus,
    OnUnknown,
    RuntimeEffectEnvelope,
    RuntimeEffectOutcome,
    ToolEffect,
)

pytestmark = pytest.mark.costly


@frozen
class Kill:
    """Where a process dies: at a write of its own, before or after it was made, or in a call, done or not."""

    write: int | None = None
    call: int | None = None
    after: bool = False


@define
class Batch:
    """Calls, the order in which they end, and what happened to them in all processes so far.

    `power`: processes die of a loss of power, which takes what isn't on the disk.
    """

    calls: list[RuntimeEffectEnvelope]
    order: list[int]
    power: bool
    journal: MemoryJournal = field(factory=MemoryJournal)
    attempt: int = 0
    happened: Counter[str] = field(factory=Counter)
    settled: dict[str, RuntimeEffectOutcome] = field(factory=dict)

    async def process(self, kill: Kill) -> set[str] | None:
        """One process: None if it was killed, else the keys of the calls that wait for a person."""
        self.attempt += 1
        self.journal = self.journal.after_power() if self.power else self.journal.left()
        self.journal.dies_at, self.journal.after = kill.write, kill.after
        rows = {row.key: row.status for row in self.journal.rows}
        later = self.journal.later if self.power else None
        controller = JournalController(self.journal.rows, self.journal.append, later=later, died=self.attempt > 1)
        ended = [anyio.Event() for _ in self.calls]
        waiting: set[str] = set()
        killed = False

        async def one(index: int) -> None:
            nonlocal killed
            envelope = self.calls[index]

            async def run(envelope: RuntimeEffectEnvelope) -> RuntimeEffectOutcome:
                status = rows.get(envelope.key)
                assert status is not JournalStatus.DONE
                assert status is None or "unsafe" not in str(envelope.command)
                if index == kill.call and not kill.after:
                    raise Killed
                place = self.order.index(index)
                if place and not killed:
                    await ended[self.order[place - 1]].wait()
                self.happened[envelope.key] += 1
                if index == kill.call:
                    raise Killed
                return await answer(envelope)

            try:
                outcome = await controller.execute(envelope, run)
                assert self.settled.setdefault(envelope.key, outcome) == outcome
            except EffectSuspended:
                waiting.add(envelope.key)
            except Killed:
                killed = True
                group.cancel_scope.cancel()
            finally:
                ended[index].set()

        try:
            await controller.execute(asked("llm"), answer)
            await controller.prepare(self.calls)
        except Killed:
            return None
        async with anyio.create_task_group() as group:
            for index in range(len(self.calls)):
                group.start_soon(one, index)
        # What it answered before it died isn't settled unless the next process finds it recorded.
        if killed:
            left = self.journal.on_disk if self.power else self.journal.rows
            recorded = {row.key for row in left if row.status is JournalStatus.DONE}
            if self.power:
                self.settled = {key: outcome for key, outcome in self.settled.items() if key in recorded}
            assert set(self.settled) <= recorded
            return None
        await controller.flush()  # as the turn's commit does
        return waiting


KINDS = st.tuples(st.sampled_from(ToolEffect), st.sampled_from(OnUnknown))
KILLS = st.builds(
    Kill,
    write=st.one_of(st.none(), st.integers(0, 9)),
    call=st.one_of(st.none(), st.integers(0, 7)),
    after=st.booleans(),
)


@given(st.lists(KINDS, min_size=8, max_size=8), st.permutations(range(8)), st.lists(KILLS, max_size=3), st.booleans())
@settings(deadline=None, max_examples=160)
async def test_random_kills_in_a_batch_of_eight(
    kinds: list[Any], order: list[int], kills: list[Kill], power: bool
) -> None:
    batch = Batch([call(f"t{at}", effect, policy) for at, (effect, policy) in enumerate(kinds)], order, power)
    for kill in kills:
        await batch.process(kill)
    waiting = await batch.process(Kill())
    assert waiting is not None
    for envelope, (effect, policy) in zip(batch.calls, kinds, strict=True):
        if effect is ToolEffect.UNSAFE:
            assert batch.happened[envelope.key] <= 1
        else:
            assert batch.happened[envelope.key] >= 1
        if envelope.key in waiting:
            assert (effect, policy) == (ToolEffect.UNSAFE, OnUnknown.WAIT)
        else:
            assert envelope.key in batch.settled
    again = await batch.process(Kill())  # whoever asks now reads the same, and nothing happens
    assert again == waiting
    assert batch.journal.writes in ([], [["llm_call 1 of iteration 0: done"]])
