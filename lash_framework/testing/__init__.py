"""Kits for the tests of whoever builds on lash. They know no test framework: what isn't right is an `AssertionError`.

`crash_at_every_effect` runs a turn with your tools, hooks and modes, kills it wherever a process can die, lets a new
host go on, and says whether anything was lost or done twice::

    async def test_my_tools_survive_a_crash():
        await crash_at_every_effect(lambda url: Lash.open(url, tools=[book, cancel], plugins=[model]), "Book a table.")

With pytest, the fixtures of `lash_framework.testing.pytest_plugin` are there without an import: `lash_host`,
`lash_crashes`, `lash_clock`. Everything here is loaded at first use, so that they cost a test run nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lash_framework.testing.crash_matrix import (
        Crash as Crash,
        CrashReport as CrashReport,
        crash_at_every_effect as crash_at_every_effect,
    )
    from lash_framework.testing.crash_points import CrashPoint as CrashPoint, When as When
    from lash_framework.testing.hosts import (
        HostInTest as HostInTest,
        VirtualClock as VirtualClock,
        crash_host as crash_host,
        open_host as open_host,
    )
    from lash_framework.testing.model import ScriptedModel as ScriptedModel, ToolUse as ToolUse, call as call
    from lash_framework.testing.simulated_loop import SimulationError as SimulationError
    from lash_framework.testing.simulation import (
        Exploration as Exploration,
        SimulatedRun as SimulatedRun,
        Simulation as Simulation,
        explore as explore,
        simulate as simulate,
    )

_OWNERS = {
    "Crash": "crash_matrix",
    "CrashPoint": "crash_points",
    "CrashReport": "crash_matrix",
    "Exploration": "simulation",
    "HostInTest": "hosts",
    "ScriptedModel": "model",
    "SimulatedRun": "simulation",
    "Simulation": "simulation",
    "SimulationError": "simulated_loop",
    "ToolUse": "model",
    "VirtualClock": "hosts",
    "When": "crash_points",
    "call": "model",
    "crash_at_every_effect": "crash_matrix",
    "crash_host": "hosts",
    "explore": "simulation",
    "open_host": "hosts",
    "simulate": "simulation",
}

__all__ = [
    "Crash",
    "CrashPoint",
    "CrashReport",
    "Exploration",
    "HostInTest",
    "ScriptedModel",
    "SimulatedRun",
    "Simulation",
    "SimulationError",
    "ToolUse",
    "VirtualClock",
    "When",
    "call",
    "crash_at_every_effect",
    "crash_host",
    "explore",
    "open_host",
    "simulate",
]


def __getattr__(name: str) -> Any:
    module = _OWNERS.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value
