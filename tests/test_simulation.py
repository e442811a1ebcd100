"""Sessions, tools and hooks under many seeds, in simulated time: whatever the order, the promises hold."""

from __future__ import annotations

import os
from typing import Any

import anyio
import pytest
from simulation_kit import Outside, host, mortal, run, verify

from lash_framework import Lash
from lash_framework.testing import Simulation, explore
from lash_hookspecs import AssembledTurn, Ingress, TurnCancelled

SEEDS = int(os.environ.get("LASH_TEST_SEEDS", "30"))

pytestmark = pytest.mark.costly


async def many_at_once(simulation: Simulation) -> None:
    """Three sessions of one host, with queued inputs, cancels and deadlines."""
    chance, outside = simulation.random, Outside(simulation)
    sent: dict[str, list[str]] = {name: [] for name in "abc"}
    ended: dict[str, AssembledTurn] = {}

    async def talk(lash: Lash, name: str) -> None:
        session = await lash.session(name)
        for number in range(3):
            text = f"do {name}{number}"
            try:
                if chance.random() < 0.3:
                    async with session.turn(text) as running:
                        await anyio.sleep(chance.uniform(0, 8))
                        running.cancel()
                        ended[text] = await running.result()
                else:
                    deadline_s = 2.0 if chance.random() < 0.2 else None
                    ended[text] = await session.run(text, deadline_s=deadline_s)
            except TurnCancelled:
                continue  # before it began: nothing is stored
            sent[name].append(text)

    async def interrupt(lash: Lash, name: str) -> None:
        session = await lash.session(name)
        for number in range(2):
            await anyio.sleep(chance.uniform(0, 10))
            text = f"do {name}-queued-{number}"
            await session.enqueue(text, ingress=chance.choice(list(Ingress)))
            sent[name].append(text)

    async with host(outside) as (lash, _), anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(talk, lash, name)
            group.start_soon(interrupt, lash, name)
    await verify(outside, sent, ended)


async def two_hosts(simulation: Simulation) -> Outside:
    """Two hosts on one database want the same sessions; both crash, and are late with their leases."""
    outside = Outside(simulation, lateness=0.1)
    sent = {name: [f"do {name}{who}{number}" for who in "xy" for number in range(2)] for name in "ab"}
    ended: dict[str, AssembledTurn] = {}

    async def work(lash: Lash, who: str) -> None:
        async def one(name: str) -> None:
            session = await lash.session(name, recover=False)
            for number in range(2):
                text = f"do {name}{who}{number}"
                ended[text] = await run(session, text, f"{name}-{who}-{number}")

        async with anyio.create_task_group() as group:
            for name in "ab":
                group.start_soon(one, name)

    async with anyio.create_task_group() as group:
        for who in "xy":
            group.start_soon(mortal, outside, lambda lash, who=who: work(lash, who))
    await verify(outside, sent, ended)
    return outside


@pytest.mark.parametrize("scenario", [many_at_once, two_hosts])
def test_promises_hold_in_any_order(scenario: Any) -> None:
    explored = explore(scenario, seeds=SEEDS)
    print(explored)
    if len(explored.runs) > 1:
        assert explored.interleavings > 1
