"""Law 5, over random sets of plugins: observers cannot be silenced, whatever the others do."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
import trio.testing
from agents import agent, plugin
from hypothesis import example, given, settings, strategies as st
from test_hooks import bind

from lash_framework.hooks import HookImpl, observe
from lash_framework.testing import Simulation, simulate
from lash_hookspecs import HOOKS, HookRunnerKind, hookimpl

OBSERVERS = sorted(name for name, policy in HOOKS.items() if policy.runner is HookRunnerKind.OBSERVE)


class Nonsense:
    """A value that answers nothing, not even what it is."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("ask me nothing")


class BadAwaitable:
    """It says that it can be awaited, and can't."""

    def __await__(self) -> Any:
        return 3


class Yields:
    """It hands the event loop something that no event loop knows."""

    def __await__(self) -> Any:
        yield "what is this?"


async def fine_later() -> None:
    await anyio.lowlevel.checkpoint()
    await anyio.sleep(0.01)


async def never() -> None:
    await anyio.sleep_forever()


async def stubborn() -> None:
    try:
        await anyio.sleep_forever()
    finally:
        raise ValueError("not even that goes well")


async def cancels_itself() -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anyio.lowlevel.checkpoint()
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever)
        group.cancel_scope.cancel()


async def times_out() -> None:
    with anyio.fail_after(0.01):
        await anyio.sleep_forever()


async def raises_later() -> None:
    await anyio.lowlevel.checkpoint()
    raise ExceptionGroup("several", [OSError(), ValueError()])


async def exits() -> None:
    sys.exit(3)


async def raises_a_cancellation() -> None:
    """On asyncio that of a task that was cancelled."""
    if not _on_asyncio():
        raise OSError
    task = asyncio.ensure_future(anyio.sleep_forever())
    await anyio.lowlevel.checkpoint()
    task.cancel()
    await task


def _on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def fails() -> None:
    raise RuntimeError("no")


def stops() -> None:
    raise StopIteration


async def gives(value: Any) -> Any:
    return value


DEEDS: dict[str, tuple[Callable[[], Any], bool]] = {
    # what an observer does, and whether that is an issue
    "nothing": (lambda: None, False),
    "something, later": (fine_later, False),
    "raises": (fails, True),
    "stops an iteration": (stops, True),
    "raises, later": (raises_later, True),
    "exits": (exits, True),
    "never ends": (never, True),
    "fails at its end": (stubborn, True),
    "cancels a scope of its own": (cancels_itself, False),
    "times out": (times_out, True),
    "raises a cancellation": (raises_a_cancellation, True),
    "returns a value": (lambda: 17, False),
    "returns nonsense": (Nonsense, True),
    "returns nonsense, later": (lambda: gives(Nonsense()), False),
    "can't be awaited": (BadAwaitable, True),
    "confuses the event loop": (Yields, True),
}
SETS = st.lists(st.sampled_from(sorted(DEEDS)), max_size=8)


def observers(names: list[str], called: Counter[str]) -> tuple[HookImpl, ...]:
    def made(number: int, name: str) -> HookImpl:
        def observer() -> Any:
            called[f"{number} {name}"] += 1
            return DEEDS[name][0]()

        return HookImpl(f"p{number}", observer, (), "lash_x")

    return tuple(made(number, name) for number, name in enumerate(names))


async def all_are_told(names: list[str]) -> None:
    called = Counter[str]()
    began = anyio.current_time()
    issues = await observe(observers(names, called), bind, time_limit_s=30)
    assert called == {f"{number} {name}": 1 for number, name in enumerate(names)}
    expected = sorted(f"p{number}" for number, name in enumerate(names) if DEEDS[name][1])
    assert sorted(each.plugin_id for each in issues) == expected
    assert anyio.current_time() - began <= 31
    await anyio.lowlevel.checkpoint()  # nobody has left a cancellation behind


@settings(max_examples=60, deadline=None)
@given(SETS, st.integers(0, 1000))
@example(["fails at its end", "never ends"], 0)  # the second one's overtime was lost with the first one's failure
def test_law_5_whatever_observers_do_each_is_called_once_and_each_fault_is_its_own(names: list[str], seed: int) -> None:
    """In any order of the tasks, with time that jumps, so that who never ends costs nothing."""

    async def told(_: Simulation) -> None:
        await all_are_told(names)

    simulate(told, seed=seed)


@settings(max_examples=60, deadline=None)
@given(SETS)
def test_the_same_holds_on_trio(names: list[str]) -> None:
    trio.run(all_are_told, names, clock=trio.testing.MockClock(autojump_threshold=0))


def test_who_keeps_everybody_waiting_costs_nobody_else_his_time() -> None:
    """The limit is for all together. Those who had no chance to begin within it get one behind it."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    called: list[str] = []

    async def blocks() -> None:
        clock.jump(29)
        await anyio.lowlevel.checkpoint()

    async def patient() -> None:
        await anyio.sleep(10)
        called.append("patient")

    async def main() -> list[str]:
        impls = tuple(HookImpl(each.__name__, each, (), "lash_x") for each in (blocks, patient, never, blocks, patient))
        return [each.plugin_id for each in await observe(impls, None)]

    assert trio.run(main, clock=clock) == ["never"]
    assert called == ["patient", "patient"]


# ---- every hook that observes, in a host ----------------------------------------------------------------------------


def test_these_are_all_hooks_that_observe() -> None:
    assert OBSERVERS == ["lash_session_config_changed", "lash_session_opened", "lash_turn_committed"]


HOST_DEEDS = sorted(set(DEEDS) - {"never ends", "fails at its end"})  # the limit of a host is no test's to wait for


@pytest.mark.parametrize("hook", OBSERVERS)
@settings(max_examples=8, deadline=None)
@given(names=st.lists(st.sampled_from(HOST_DEEDS), max_size=6))
async def test_each_observer_of_a_host_is_told_and_the_turn_stands(hook: str, names: list[str]) -> None:
    called = Counter[str]()

    def made(number: int, name: str) -> object:
        def observer() -> Any:
            called[f"{number}"] += 1
            return DEEDS[name][0]()

        observer.__name__ = hook
        return plugin(f"p{number}", observer)

    plugins = [made(number, name) for number, name in enumerate(names)]
    async with agent(["Hello."], plugins=plugins) as lash:
        session = await lash.session("s")
        await session.configure(max_turns=7)
        turn = await session.run("Hello")
    assert turn.is_success
    assert called == {f"{number}": 1 for number in range(len(names))}
    if hook == "lash_turn_committed":
        faulty = sorted(f"p{number}" for number, name in enumerate(names) if DEEDS[name][1])
        assert sorted(str(each.plugin_id) for each in turn.errors) == faulty


async def test_a_lifespan_that_fails_silences_no_observer_of_another_plugin() -> None:
    """Its turn fails, and is committed as that; whoever watches commits is told."""
    told: list[str] = []

    def lash_turn_committed(ctx: Any, turn: Any) -> None:
        told.append(ctx.plugin_id)

    broken = plugin("broken", lash_turn_committed)
    broken.lash_lifespan = hookimpl(fails)  # type: ignore[attr-defined]  # it is a namespace
    async with agent(["Hello."], plugins=[broken, plugin("good", lash_turn_committed)]) as lash:
        turn = await (await lash.session("s")).run("Hello")
    assert not turn.is_success
    assert told == ["good"]
    assert [each.code for each in turn.errors if not each.blocking] == ["lash_lifespan"]


def test_a_host_ends_an_observer_that_never_does_and_tells_the_next_one() -> None:
    """By its time limit, on a clock that nobody waits for; the turn is committed all the same, and says who it was."""
    told: list[str] = []

    async def scenario(_: Any) -> Any:
        async def lash_turn_committed(ctx: Any) -> None:
            if ctx.plugin_id == "endless":
                await anyio.sleep_forever()
            told.append(ctx.plugin_id)

        plugins = [plugin("endless", lash_turn_committed), plugin("next", lash_turn_committed)]
        async with agent(["Hi."], plugins=plugins) as lash:
            return await (await lash.session("s")).run("Hello")

    turn = simulate(scenario).value
    assert turn.is_success
    assert told == ["next"]
    assert [each.plugin_id for each in turn.errors] == ["endless"]
