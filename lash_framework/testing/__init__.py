"""Kits for the tests of whoever builds on lash. They know no test framework: what isn't right is an `AssertionError`.

`crash_at_every_effect` runs a turn with your tools, hooks and modes, kills it wherever a process can die, lets a new
host go on, and says whether anything was lost or done twice::

    async def test_my_tools_survive_a_crash():
        await crash_at_every_effect(lambda url: Lash.open(url, tools=[book, cancel], plugins=[model]), "Book a table.")
"""

from __future__ import annotations

from lash_framework.testing.crash_matrix import Crash, CrashReport, crash_at_every_effect
from lash_framework.testing.crash_points import CrashPoint, When
from lash_framework.testing.simulated_loop import SimulationError
from lash_framework.testing.simulation import Exploration, SimulatedRun, Simulation, explore, simulate

__all__ = [
    "Crash",
    "CrashPoint",
    "CrashReport",
    "Exploration",
    "SimulatedRun",
    "Simulation",
    "SimulationError",
    "When",
    "crash_at_every_effect",
    "explore",
    "simulate",
]
