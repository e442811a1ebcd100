"""Who watches a turn, and from where: generators, other tasks, hosts that close, tasks that a tool leaves behind."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import pytest
from agents import agent

from lash_framework import Session
from lash_framework.unfinished import TurnState
from lash_hookspecs import LlmRequest, Stopped, StopReason, StoreUnavailable, TurnInterrupted, tool
from lash_hookspecs.activity import ModelRequestStarted, TurnActivity
from lash_plugin_provider_scripted.script import Call, Reply


class Halting:
    """A model whose first answer never comes."""

    def __init__(self) -> None:
        self.calls = 0
        self.asked = anyio.Event()

    async def __call__(self, request: LlmRequest) -> str:
        self.calls += 1
        if self.calls > 1:
            return "answer"
        self.asked.set()
        await anyio.sleep_forever()
        raise AssertionError("unreachable")


async def stream(session: Session) -> AsyncIterator[TurnActivity]:
    """What a web service gives to its framework."""
    async with session.turn("q", turn_id="t") as running:
        async for activity in running:
            yield activity


async def test_a_generator_around_a_turn_may_be_closed_by_another_task() -> None:
    """The task group around the block was left in the wrong task: whoever had begun it was cancelled, and its host."""
    async with agent(Halting()) as lash:
        session = await lash.session("s")
        activities: Any = stream(session)
        assert isinstance((await anext(activities)).event, ModelRequestStarted)

        async def close() -> None:
            await activities.aclose()

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(close)
            await anyio.lowlevel.checkpoint()  # here it was cancelled
            assert (await session.run("q", turn_id="t")).outcome == Stopped(StopReason.CANCELLED)
            assert (await session.run("and now?")).text == "answer"


def test_a_generator_around_a_turn_that_nobody_reads_to_its_end_cancels_the_turn() -> None:
    """Asyncio closes it in a task of its own as soon as nobody has it any more."""

    async def first(session: Session) -> TurnActivity:
        async for activity in stream(session):
            return activity
        raise AssertionError("unreachable")

    async def main() -> list[str]:
        async with agent(Halting()) as lash:
            session = await lash.session("s")
            await first(session)
            async with asyncio.timeout(10):
                assert (await session.run("q", turn_id="t")).outcome == Stopped(StopReason.CANCELLED)
                await session.run("and now?")
            return [each.text for each in await session.messages()]

    assert asyncio.run(main()) == ["q", "and now?", "answer"]


def test_who_is_cancelled_again_and_again_leaves_no_turn_behind() -> None:
    """Asyncio's own cancelling reaches who waits behind a shield, too; a store must not be closed under a turn."""
    asked, clears_up, may_end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def model(request: LlmRequest) -> str:
        asked.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                clears_up.set()
                await may_end.wait()
        raise AssertionError("unreachable")

    async def watch(session: Session) -> None:
        async with session.turn("q") as running:
            async for _ in running:
                pass

    async def main() -> None:
        async with agent(model) as lash, asyncio.timeout(10):
            task = asyncio.create_task(watch(await lash.session("s")))
            await asked.wait()
            for _ in range(3):
                task.cancel()
                await clears_up.wait()
                await asyncio.wait([task], timeout=0)
                assert not task.done()
            may_end.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert TurnState.RUNNING not in [each.state for each in await lash.unfinished()]

    asyncio.run(main())


async def test_a_host_that_closes_under_a_turn_interrupts_it(tmp_path: Path) -> None:
    """The turn went on, with a store that was closed, until it wanted to commit."""
    told: list[BaseException] = []
    model = Halting()
    store = f"sqlite:///{tmp_path}/a.db"

    async def watch(session: Session) -> None:
        try:
            async with session.turn("q") as running:
                await running.result()
        except TurnInterrupted as error:
            told.append(error)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group, agent(model, store=store) as lash:
            session = await lash.session("s")
            group.start_soon(watch, session)
            await model.asked.wait()
        assert len(told) == 1
        with pytest.raises(StoreUnavailable, match="closed"):
            async with session.turn("again"):
                pass
        async with agent(["answer"], store=store) as lash:
            assert [each.text for each in await (await lash.session("s")).messages()] == ["q", "answer"]


async def test_a_task_that_a_tool_leaves_behind_may_run_a_turn_when_the_tools_turn_has_ended() -> None:
    """It was refused for good, as a part of a turn that waits for it, though that turn was long over."""
    sessions: list[Session] = []
    may_run, reminded, answers = anyio.Event(), anyio.Event(), list[str]()

    async def remind() -> None:
        await may_run.wait()
        answers.append((await sessions[0].run("remember the milk")).text)
        reminded.set()

    async with anyio.create_task_group() as group:

        @tool
        async def later() -> str:
            """Reminds of it later."""
            group.start_soon(remind)
            return "ok"

        async with agent([Reply(tool_calls=[Call("later")]), "I will.", "Milk!"], tools=[later]) as lash:
            sessions.append(await lash.session("s"))
            with anyio.fail_after(10):
                assert (await sessions[0].run("remind me")).text == "I will."
                may_run.set()
                await reminded.wait()
    assert answers == ["Milk!"]


async def test_a_host_is_used_from_the_thread_that_opened_it(tmp_path: Path) -> None:
    """With a loop in another thread it seemed to work, until that loop's end cancelled the task that held the host."""
    async with agent(["one", "two"], store=f"sqlite:///{tmp_path}/a.db") as lash:
        session = await lash.session("s")

        async def watched() -> None:
            async with session.turn("q"):
                pass

        def elsewhere() -> str:
            for call in (partial(session.run, "q"), partial(session.enqueue, "q"), watched, session.recover):
                with pytest.raises(RuntimeError, match="opened in another thread"):
                    anyio.run(call)
            return anyio.from_thread.run(session.run, "a question").text

        with anyio.fail_after(10):
            assert await anyio.to_thread.run_sync(elsewhere) == "one"
            assert (await session.run("another")).text == "two"


def test_ctrl_c_interrupts_run_sync_in_a_notebook_too(tmp_path: Path) -> None:
    """In a loop it runs in a thread, which a notebook's stop button didn't reach: it waited for the turn to end."""
    script = '''
import asyncio, os, signal
import anyio
from lash_framework import Lash
from lash_hookspecs import tool

@tool
async def press_stop() -> str:
    """What a notebook does when its user presses stop."""
    os.kill(os.getpid(), signal.SIGINT)
    await anyio.sleep(30)
    raise AssertionError("nobody heard it")

async def cell():
    try:
        Lash.run_sync("go", store="sqlite://", model="scripted:stop.toml", tools=[press_stop])
    except KeyboardInterrupt:
        print("stopped")

signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may have it ignored, as a shell's `&`
loop = asyncio.new_event_loop()  # run by hand: asyncio.run() keeps the first Ctrl-C to itself
loop.run_until_complete(cell())
loop.close()
'''
    (tmp_path / "stop.toml").write_text('[[reply]]\ntool_calls = [{ name = "press_stop" }]\n', encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=25, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "stopped\n", "")
