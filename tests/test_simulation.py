"""Sessions, tools and hooks under many seeds, in simulated time: whatever the order, the promises hold."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import anyio
import pytest
from simulation_kit import Outside, host, mortal, run, verify

from lash_framework import Lash
from lash_framework.testing import Simulation, explore
from lash_hookspecs import Ingress, ToolEffect, TurnCancelled

SEEDS = int(os.environ.get("LASH_TEST_SEEDS", "8"))
"""A thousand take ten minutes: `LASH_TEST_SEEDS=1000 pytest tests/test_simulation.py`."""

pytestmark = pytest.mark.costly


async def many_at_once(simulation: Simulation) -> None:
    """Three sessions of one host, with queued inputs, cancels and deadlines."""
    chance, outside = simulation.random, Outside(simulation)
    sent: dict[str, set[str]] = {name: set() for name in "abc"}

    async def talk(lash: Lash, name: str) -> None:
        session = await lash.session(name)
        for number in range(3):
            text = f"do {name}{number}"
            try:
                if chance.random() < 0.3:
                    async with session.turn(text) as running:
                        await anyio.sleep(chance.uniform(0, 8))
                        running.cancel()
                        await running.result()
                else:
                    await session.run(text, deadline_s=2.0 if chance.random() < 0.2 else None)
            except TurnCancelled:
                continue  # before it began: nothing is stored
            sent[name].add(text)

    async def queue(lash: Lash, name: str) -> None:
        session = await lash.session(name)
        for number in range(2):
            await anyio.sleep(chance.uniform(0, 10))
            text = f"do {name}-queued-{number}"
            await session.enqueue(text, ingress=chance.choice(list(Ingress)))
            sent[name].add(text)

    async with host(outside) as (lash, _), anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(talk, lash, name)
            group.start_soon(queue, lash, name)
    await verify(outside, sent)


async def competing_hosts(simulation: Simulation, *, lateness: float = 0.1) -> Outside:
    """Two hosts on one database want the same sessions; both crash, and are late with their leases."""
    outside = Outside(simulation, lateness)
    sent = {name: {f"do {name}{who}{number}" for who in "xy" for number in range(2)} for name in "ab"}

    async def work(who: str, lash: Lash) -> None:
        async def talk(name: str) -> None:
            session = await lash.session(name, recover=False)
            for number in range(2):
                await run(session, f"do {name}{who}{number}", f"{name}-{who}-{number}")

        async with anyio.create_task_group() as group:
            for name in "ab":
                group.start_soon(talk, name)

    async with anyio.create_task_group() as group:
        for who in "xy":
            group.start_soon(mortal, outside, partial(work, who))
    await verify(outside, sent)
    return outside


async def cancelled_from_elsewhere(simulation: Simulation) -> None:
    """A host that crashes runs a session; another one queues inputs for it, each twice, and cancels what it finds."""
    chance, outside = simulation.random, Outside(simulation, lateness=0.05)
    texts = {f"turn-{number}": f"do s{number}" for number in range(4)}
    done = False

    async def work(lash: Lash) -> None:
        session = await lash.session("s", recover=False)
        for number in range(4):
            try:
                await run(session, f"do s{number}", f"turn-{number}")
            except TurnCancelled:
                texts.pop(f"turn-{number}", None)  # before it began

    async def meddle() -> None:
        number = 0
        async with host(outside) as (lash, _):
            session = await lash.session("s", recover=False)
            while not done and number < 4:
                await anyio.sleep(chance.uniform(0, 10))
                if chance.random() < 0.5:
                    key, ingress = f"queued-{number}", chance.choice(list(Ingress))
                    for _ in range(2):
                        item = await session.enqueue(f"do s-{key}", ingress=ingress, source_key=key)
                    texts[item.turn_id or ""] = f"do s-{key}"
                    number += 1
                elif (request := await session.cancel()) is not None and request.waited:
                    texts.pop(request.turn_id, None)

    async with anyio.create_task_group() as group:
        group.start_soon(meddle)
        await mortal(outside, work)
        done = True
    await verify(outside, {"s": set(texts.values())})


@pytest.mark.parametrize("scenario", [many_at_once, competing_hosts, cancelled_from_elsewhere])
def test_promises_hold_in_any_order(scenario: Any) -> None:
    explored = explore(scenario, seeds=SEEDS)
    assert explored.interleavings > len(explored.runs) / 2


def test_hosts_do_crash_and_come_too_late() -> None:
    runs = explore(competing_hosts, seeds=10).runs
    assert sum(run.value.crashes for run in runs) > 10
    assert sum(run.value.late for run in runs) > 5
    assert any(count > 1 for run in runs for count in run.value.began.values())  # what wasn't recorded runs again


def test_a_kernel_that_forgets_what_is_unsafe_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenario can fail: here no intent is written, and an unsafe tool is called again."""
    monkeypatch.setattr("lash_framework.journal.repeatability", lambda command: ToolEffect.PURE)
    with pytest.raises(AssertionError, match="is unsafe") as failure:
        explore(competing_hosts, seeds=30)
    assert failure.value.__notes__[0].startswith("seed=")
