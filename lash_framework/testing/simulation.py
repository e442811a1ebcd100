"""Simulations: a scenario whose time, order and chance all follow from a seed, so that what fails fails again.

A `Lash` that is opened in a scenario lives in a simulated world: sleeps and timeouts take no time, tasks that could go
on at once do so in an order that is drawn, functions that would run in threads run in place, and hosts that open
the same URL open the same database. What was written is one hash: the same for the same seed, in every process.
"""

from __future__ import annotations

import gc
import os
import random
import shlex
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from random import Random
from typing import Any, Generic, TypeVar

import anyio
from attrs import evolve

from lash_framework.sync import run_anywhere
from lash_framework.testing.simulated_loop import SimulatedLoop
from lash_framework.testing.simulated_store import SharedStore, Writes
from lash_framework.world import World, enter_world
from lash_hookspecs._threads import instead_of_threads
from lash_hookspecs.stores import StoreContext, StoreSpec
from lash_hookspecs.values import frozen

__all__ = ["Exploration", "SimulatedRun", "Simulation", "explore", "simulate"]

T = TypeVar("T")

SEED, SEEDS = "LASH_TEST_SEED", "LASH_TEST_SEEDS"
"""In the environment: the one seed to run, and how many `explore` tries."""

LIMIT_S = 3600.0

BEGINS_MS = 1_767_225_600_000
"""When every simulation begins: with the year 2026."""

THREAD_S = 0.01
"""What runs in a thread waits up to so many seconds for one, and so long again until somebody hears of its end."""


class Simulation:
    """What a scenario gets: its `seed`, chance of its own (`random`), and the time. Hosts are opened as anywhere."""

    def __init__(self, seed: int, limit_s: float) -> None:
        self.seed = seed
        self.random = self._draws("scenario")
        self.writes = Writes()
        self._names = self._draws("names")
        self._delays = self._draws("threads")
        self._stores: dict[str, Any] = {}
        self._opening: anyio.Lock | None = None
        # Sockets and the like are left out on purpose.
        self._loop = SimulatedLoop(self._draws("order"), limit_s=limit_s)  # type: ignore[abstract]  # lacks files and sockets

    def now_ms(self) -> int:
        """Milliseconds since 1970, by the simulated clock, as hosts and stores see them."""
        return BEGINS_MS + int(self._loop.time() * 1000)

    # ---- the world --------------------------------------------------------------------------------------------------

    def _draws(self, what: str) -> Random:
        """Chance for one purpose, so that a scenario that draws more doesn't change the order of tasks."""
        return Random(f"lash {self.seed} {what}")

    def _token_hex(self, size: int) -> str:
        return f"{self._names.getrandbits(8 * size):0{2 * size}x}"

    async def _open_store(self, spec: StoreSpec, context: StoreContext) -> SharedStore:
        if self._opening is None:
            self._opening = anyio.Lock()
        async with self._opening:
            if context.url not in self._stores:
                self._stores[context.url] = await spec.open(evolve(context, now_ms=self.now_ms))
        return SharedStore(self._stores[context.url], self.writes)

    async def _instead_of_a_thread(self, function: Callable[[], T]) -> T:
        await anyio.sleep(self._delays.random() * THREAD_S)
        try:
            return copy_context().run(function)
        finally:
            await anyio.sleep(self._delays.random() * THREAD_S)

    # ---- a run ------------------------------------------------------------------------------------------------------

    def run(self, scenario: Callable[[Simulation], Awaitable[T]]) -> T:
        """Run the scenario in this world, once. Raises what it raises."""

        async def main() -> T:
            enter_world(
                World(
                    now_ms=self.now_ms,
                    token_hex=self._token_hex,
                    process=lambda: None,  # nobody can look whether a simulated process lives
                    open_store=self._open_store,
                )
            )
            instead_of_threads.set(self._instead_of_a_thread)
            try:
                return await scenario(self)
            finally:
                with anyio.CancelScope(shield=True):
                    for store in self._stores.values():
                        await store.aclose()

        with _same_each_time(f"lash {self.seed}"):
            try:
                return run_anywhere(main, backend="asyncio", backend_options={"loop_factory": lambda: self._loop})
            except BaseException:
                if self._loop.failure is not None:
                    raise self._loop.failure from None  # what its end has broken is no news
                raise


@contextmanager
def _same_each_time(seed: str) -> Iterator[None]:
    """Where chance that anybody draws follows from the seed, and nothing ends when the garbage collector feels like it.

    The simulated loop collects after so many rounds.
    """
    state, collects = random.getstate(), gc.isenabled()
    random.seed(seed)
    gc.disable()
    try:
        yield
    finally:
        random.setstate(state)
        if collects:
            gc.enable()


@frozen(kw_only=True)
class SimulatedRun(Generic[T]):
    """A run of a scenario that ended well.

    `journal_hash` is of everything that was written: rows of journals, items of the inbox, leases, commits.
    `interleaving` names the writes in their order, without what was in them. `value` is what the scenario returned.
    """

    seed: int
    journal_hash: str
    interleaving: Sequence[str]
    value: T


@frozen(kw_only=True)
class Exploration(Generic[T]):
    """Runs of one scenario under many seeds."""

    runs: Sequence[SimulatedRun[T]]

    @property
    def interleavings(self) -> int:
        """How many orders of writes were seen. If it is 1, either nothing runs at once, or too few seeds were tried."""
        return len({tuple(each.interleaving) for each in self.runs})

    def __str__(self) -> str:
        return f"{len(self.runs):,} runs, {self.interleavings:,} interleavings"


def simulate(
    scenario: Callable[[Simulation], Awaitable[T]], *, seed: int | None = None, limit_s: float = LIMIT_S
) -> SimulatedRun[T]:
    """Run a scenario once, from a seed: the given one, that of `LASH_TEST_SEED`, or 0.

    What the scenario raises comes out with a note that says how to run it again. Raises `SimulationError` for what
    can't be simulated (a thread, a socket), for a scenario in which nothing happens any more, and for one that hasn't
    ended after `limit_s` seconds of its own time.
    """
    return _run(scenario, _seed_of_environment() or 0 if seed is None else seed, limit_s)[0]


def explore(
    scenario: Callable[[Simulation], Awaitable[T]], *, seeds: int = 100, limit_s: float = LIMIT_S
) -> Exploration[T]:
    """Run a scenario under so many seeds; with `LASH_TEST_SEED`, under that one; `LASH_TEST_SEEDS` is their number.

    The first one is run twice: an `AssertionError` says where a scenario isn't the same each time. Else as `simulate`.
    """
    alone = _seed_of_environment()
    chosen = range(int(os.environ.get(SEEDS, seeds))) if alone is None else [alone]
    runs = []
    for number, seed in enumerate(chosen):
        run, writes = _run(scenario, seed, limit_s)
        runs.append(run)
        if number == 0:
            again = _run(scenario, seed, limit_s)[1]
            if (difference := writes.difference(again)) is not None:
                raise AssertionError(
                    f"the scenario isn't the same each time: run twice with seed={seed}, it differed in {difference}. "
                    "Something in it asks the clock, `secrets`, or a set's order: `anyio.current_time()`, "
                    "`simulation.now_ms()`, `simulation.random` and the module `random` follow from the seed"
                )
    return Exploration(runs=runs)


def _run(scenario: Callable[[Simulation], Awaitable[T]], seed: int, limit_s: float) -> tuple[SimulatedRun[T], Writes]:
    simulation = Simulation(seed, limit_s)
    try:
        value = simulation.run(scenario)
    except Exception as error:
        error.add_note(f"seed={seed}; to run it again: {_command(seed)}")
        raise
    writes = simulation.writes
    run = SimulatedRun(seed=seed, journal_hash=writes.hash, interleaving=tuple(writes.order), value=value)
    return run, writes


def _seed_of_environment() -> int | None:
    given = os.environ.get(SEED)
    return None if given is None else int(given)


def _command(seed: int) -> str:
    """The line that runs this again, as far as we can know it."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" ")[0]
    command = f"pytest {shlex.quote(test)}" if test else shlex.join(["python", *sys.argv])
    return f"{SEED}={seed} {command}"
