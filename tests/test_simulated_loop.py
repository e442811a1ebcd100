"""The simulated world: one seed, one run; and whatever can't be simulated, or never ends, is told."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from agents import agent
from simulation_kit import settings

from lash_framework.testing import Simulation, SimulationError, explore, simulate
from lash_hookspecs import LlmCallError, LlmEventSender, LlmRequest, LlmResponse, ProviderFailureKind, tool
from lash_plugin_provider_scripted import Call, Reply, ScriptedProvider
from lash_provider_kit.failures import AttemptFailed, Seen
from lash_provider_kit.retry import RetryPolicy, with_retries

pytestmark = pytest.mark.costly

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def seeds_of_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LASH_TEST_SEED", "LASH_TEST_SEEDS"):
        monkeypatch.delenv(name, raising=False)


@tool(effect="idempotent")
async def look(at: str) -> str:
    "Look."
    await anyio.sleep(0.05)
    return f"saw {at}"


@tool(effect="pure")
def touch(at: str) -> str:
    "Touch."
    return f"touched {at}"


def say(request: LlmRequest) -> Reply:
    if getattr(request.messages[-1].blocks[0], "call_id", None) is None:
        number = len(request.messages)
        calls = [Call("look", {"at": "it"}, f"look-{number}"), Call("touch", {"at": "it"}, f"touch-{number}")]
        return Reply(tool_calls=calls)
    return Reply(text="Done.")


async def three_sessions(simulation: Simulation) -> None:
    async with agent(say, tools=[look, touch], settings=settings()) as lash:

        async def talk(name: str) -> None:
            session = await lash.session(name)
            for number in range(2):
                assert (await session.run(f"Question {number}.")).is_success

        async with anyio.create_task_group() as group:
            for name in "abc":
                group.start_soon(talk, name)


# ---- one seed, one run ----------------------------------------------------------------------------------------------


def test_the_same_seed_writes_the_same_and_another_one_something_else() -> None:
    once, again, other = (simulate(three_sessions, seed=seed) for seed in (1, 1, 2))
    assert once == again
    assert once.journal_hash != other.journal_hash


def test_the_same_seed_writes_the_same_in_another_process() -> None:
    """Sets and dicts of texts have another order there, and objects lie elsewhere in memory."""
    code = (
        "from test_simulated_loop import simulate, three_sessions\nprint(simulate(three_sessions, seed=1).journal_hash)"
    )
    here = simulate(three_sessions, seed=1).journal_hash
    for hash_seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        ran = subprocess.run([sys.executable, "-c", code], cwd=HERE, env=environment, capture_output=True, text=True)
        assert ran.stdout.split() == [here], ran.stderr


def test_the_order_really_differs_between_seeds() -> None:
    explored = explore(three_sessions, seeds=50)
    assert len({run.journal_hash for run in explored.runs}) == 50
    assert explored.interleavings > 25


def test_tasks_that_could_go_on_do_so_in_any_order() -> None:
    async def race(simulation: Simulation) -> str:
        order: list[str] = []

        async def step(name: str) -> None:
            for _ in range(2):
                await anyio.lowlevel.checkpoint()
                order.append(name)

        async with anyio.create_task_group() as group:
            for name in "abc":
                group.start_soon(step, name)
        return "".join(order)

    orders = {run.value for run in explore(race, seeds=200).runs}
    assert {order[0] for order in orders} == {"a", "b", "c"}
    assert len(orders) > 30  # of the 90 that there are
    assert any(order.startswith("aa") for order in orders)  # one may get ahead of the others


def test_what_is_not_the_same_each_time_is_named() -> None:
    async def ids_of_its_own(simulation: Simulation) -> None:
        async with agent(say, tools=[look, touch], settings=settings()) as lash:
            await (await lash.session("s")).run("Look.", turn_id=secrets.token_hex(4))

    with pytest.raises(AssertionError, match=r"isn't the same each time: run twice with seed=0.*write 2, `begin_turn`"):
        explore(ids_of_its_own, seeds=3)


def test_the_module_random_follows_from_the_seed_inside_and_is_left_alone_outside() -> None:
    async def draw(simulation: Simulation) -> list[float]:
        return [random.random(), simulation.random.random()]

    random.seed("mine")
    before = random.getstate()
    once, again, other = (simulate(draw, seed=seed).value for seed in (1, 1, 2))
    assert once == again != other
    assert random.getstate() == before


# ---- time -----------------------------------------------------------------------------------------------------------


def test_sleeping_takes_no_time() -> None:
    async def sleep(simulation: Simulation) -> tuple[float, int]:
        began_s, began_ms = anyio.current_time(), simulation.now_ms()
        await anyio.sleep(3000)
        with anyio.move_on_after(60) as limit:
            await anyio.sleep_forever()
        assert limit.cancelled_caught
        return anyio.current_time() - began_s, simulation.now_ms() - began_ms

    seconds, milliseconds = simulate(sleep).value
    assert 3060 <= seconds < 3061
    assert abs(milliseconds - seconds * 1000) < 2


def test_a_retry_waits_in_simulated_time_only() -> None:
    class Unlucky(ScriptedProvider):
        """The first two attempts fail before anything was heard."""

        failures = 0

        async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
            async def attempt() -> LlmResponse:
                if self.failures < 2:
                    self.failures += 1
                    error = LlmCallError(message="refused", kind=ProviderFailureKind.TRANSPORT, retryable=True)
                    raise AttemptFailed(error, Seen.NOTHING)
                return await super(Unlucky, self).complete(request, send)

            return await with_retries(RetryPolicy(first_wait_s=300, max_wait_s=1000), attempt, send)

    async def ask(simulation: Simulation) -> float:
        async with agent(Unlucky(["At last."]), settings=settings()) as lash:
            turn = await (await lash.session("s")).run("Hello?")
            assert turn.text == "At last."
            return (turn.finished_at_ms - turn.started_at_ms) / 1000

    assert 900 <= simulate(ask).value < 901


def test_a_scenario_that_never_ends_is_given_up() -> None:
    async def poll(simulation: Simulation) -> None:
        while True:  # noqa: ASYNC110  # that is the point
            await anyio.sleep(1)

    with pytest.raises(SimulationError, match=r"hasn't ended after 100 s of simulated time(?s:.*)in .*poll"):
        simulate(poll, limit_s=100)


def test_a_scenario_in_which_nothing_happens_any_more_is_given_up_and_says_who_waits_where() -> None:
    async def deadlock(simulation: Simulation) -> None:
        one, other = anyio.Lock(), anyio.Lock()

        async def take(first: anyio.Lock, second: anyio.Lock) -> None:
            async with first:
                await anyio.sleep(1)
                async with second:
                    pass

        async with anyio.create_task_group() as group:
            group.start_soon(take, one, other)
            group.start_soon(take, other, one)

    with pytest.raises(SimulationError, match=r"nothing will ever happen again(?s:.*)in .*deadlock.<locals>.take"):
        simulate(deadlock)


# ---- what is outside ------------------------------------------------------------------------------------------------


def test_hosts_that_open_the_same_url_open_the_same_database() -> None:
    async def scenario(simulation: Simulation) -> int:
        for number in range(2):
            async with agent(["Hello."], settings=settings(), require_durable=True) as lash:
                session = await lash.session("s")
                assert len(await session.messages()) == 2 * number
                await session.run("Hello!")
        return simulation.now_ms()

    assert simulate(scenario).value > 0


def test_functions_that_would_run_in_threads_run_in_place() -> None:
    async def scenario(simulation: Simulation) -> None:
        assert await asyncio.to_thread(threading.get_ident) == threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 / 0)

    simulate(scenario)


async def _thread() -> None:
    await anyio.to_thread.run_sync(lambda: None)


async def _socket() -> None:
    async with httpx.AsyncClient() as client:
        await client.get("http://localhost:1/")


async def _process() -> None:
    await anyio.run_process([sys.executable, "-c", ""])


@pytest.mark.parametrize(
    ("use", "said"), [(_thread, "the thread `AnyIO"), (_socket, "no sockets"), (_process, "no sockets, processes")]
)
def test_there_is_no_outside(use: Callable[[], Awaitable[None]], said: str) -> None:
    async def scenario(simulation: Simulation) -> None:
        await use()

    with pytest.raises(SimulationError, match=said):
        simulate(scenario)


def test_a_thread_that_calls_is_named() -> None:
    async def scenario(simulation: Simulation) -> None:
        loop, called = asyncio.get_running_loop(), threading.Event()

        def call() -> None:
            loop.call_soon_threadsafe(lambda: None)
            called.set()

        threading.Thread(target=call, name="intruder").start()
        called.wait()
        await anyio.sleep(1)

    with pytest.raises(SimulationError, match="the thread `intruder` has called"):
        simulate(scenario)


# ---- seeds ----------------------------------------------------------------------------------------------------------


def test_a_failure_says_its_seed_and_how_to_run_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails_at_three(simulation: Simulation) -> None:
        assert simulation.seed != 3, "three"

    with pytest.raises(AssertionError, match="three") as failure:
        explore(fails_at_three, seeds=10)
    (note,) = failure.value.__notes__
    assert note.startswith("seed=3; to run it again: LASH_TEST_SEED=3 pytest ")
    assert "test_a_failure_says_its_seed" in note
    monkeypatch.setenv("LASH_TEST_SEED", "4")
    assert [run.seed for run in explore(fails_at_three, seeds=10).runs] == [4]
    assert simulate(fails_at_three).seed == 4
    monkeypatch.setenv("LASH_TEST_SEED", "3")
    with pytest.raises(AssertionError, match="three"):
        explore(fails_at_three, seeds=1)


def test_the_environment_says_how_many_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(simulation: Simulation) -> None:
        """Nothing."""

    monkeypatch.setenv("LASH_TEST_SEEDS", "7")
    assert len(explore(nothing, seeds=2).runs) == 7


async def test_it_runs_where_an_event_loop_runs_already() -> None:
    async def where(simulation: Simulation) -> Any:
        return asyncio.get_running_loop()

    assert type(simulate(where).value).__name__ == "SimulatedLoop"
