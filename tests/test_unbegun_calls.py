"""Unsafe calls that never began aren't told as unknown: their intents are taken back, or not written before it is so.

They are written with those of their batch, in one write, so that a call may still wait when its intent is there.
"""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import agent, plugin

from lash_hookspecs import AssembledTurn, LlmRequest, ToolCallCompleted, ToolCallStarted, tool
from lash_plugin_provider_scripted import Call, Reply

CALLS = 3


class Deeds:
    """A tool that counts which calls began, and doesn't end before it may; a hook that may stand in its way.

    `first` is what the first of its calls is called with.
    """

    def __init__(
        self, folder: Path, *, limit: int | None = None, waits_before: bool = False, first: int | str = 0
    ) -> None:
        self.url = f"sqlite:///{folder / 'lash.db'}"
        self.asked_for = [first, *range(1, CALLS)]
        self.begun: list[int] = []
        self.go_on = anyio.Event()
        self.reached = anyio.Event()

        @tool(effect="unsafe", max_concurrency=limit)
        async def deed(n: int) -> str:
            "Do it."
            self.begun.append(n)
            self.reached.set()
            await self.go_on.wait()
            return f"did {n}"

        async def lash_around_effect(envelope: Any, call_next: Any) -> Any:
            if envelope.command.kind == "tool_call" and isinstance(envelope.command.call.args["n"], int):
                self.reached.set()
                await self.go_on.wait()
            return await call_next()

        self.tools = [deed]
        self.plugins = [plugin("limiter", lash_around_effect)] if waits_before else []

    def say(self, request: LlmRequest) -> Reply | str:
        said = any(message.role == "assistant" for message in request.messages)
        return "Done." if said else Reply(tool_calls=[Call("deed", {"n": n}, f"c{n}") for n in self.asked_for])

    def open(self, url: str | None = None) -> Any:
        return agent(self.say, store=url or self.url, tools=self.tools, plugins=self.plugins)

    async def gone_on_with(self, url: str | None = None) -> AssembledTurn:
        self.go_on.set()
        async with self.open(url) as lash:
            (recovered,) = await (await lash.session("s", recover=False)).recover()
            turn: AssembledTurn = recovered.turn
            return turn


def unknown(turn: AssembledTurn) -> list[int]:
    return [each.args["n"] for each in turn.tool_calls if "may or may not have happened" in str(each.output)]


@pytest.mark.parametrize("waits", ["for its place", "in a hook around it"])
async def test_what_waits_when_a_turn_is_interrupted_is_known_never_to_have_begun(waits: str, tmp_path: Path) -> None:
    deeds = Deeds(tmp_path, limit=1 if waits == "for its place" else None, waits_before=waits != "for its place")
    async with deeds.open() as lash, anyio.create_task_group() as group:
        session = await lash.session("s")
        group.start_soon(lambda: session.run("q", turn_id="t"))
        await deeds.reached.wait()
        group.cancel_scope.cancel()
    begun = list(deeds.begun)
    assert unknown(await deeds.gone_on_with()) == begun


async def test_a_call_that_ended_without_its_tool_keeps_nobody_from_taking_intents_back(tmp_path: Path) -> None:
    """It hadn't begun either, and has a record: no row takes that one's place, and nothing at all was written."""
    deeds, ended = Deeds(tmp_path, waits_before=True, first="no number"), anyio.Event()
    async with deeds.open() as lash, anyio.create_task_group() as group:
        session = await lash.session("s")

        async def watch() -> None:
            async with session.turn("q", turn_id="t") as running:
                async for each in running:
                    if isinstance(each.event, ToolCallCompleted):
                        ended.set()

        group.start_soon(watch)
        with anyio.fail_after(30):
            await ended.wait()
            await deeds.reached.wait()
        group.cancel_scope.cancel()
    assert deeds.begun == []
    turn = await deeds.gone_on_with()
    assert unknown(turn) == []
    assert sorted(deeds.begun) == [1, 2]
    assert "no number" in str(turn.tool_calls[0].args)


async def test_what_waits_for_its_place_when_the_process_is_killed_has_no_intent(tmp_path: Path) -> None:
    deeds, folder = Deeds(tmp_path, limit=1), tmp_path / "killed"
    folder.mkdir()
    async with deeds.open() as lash, anyio.create_task_group() as group:
        session = await lash.session("s")
        group.start_soon(lambda: session.run("q", turn_id="t"))
        await deeds.reached.wait()
        for each in tmp_path.glob("lash.db*"):
            shutil.copy(each, folder)
        begun = list(deeds.begun)
        group.cancel_scope.cancel()
    copy = f"sqlite:///{folder / 'lash.db'}"
    async with deeds.open(copy) as lash:
        store = lash.require_journal("this test").store
        lease = await store.load_lease("s")
        assert lease is not None
        await store.release_lease(lease)  # its holder is no more
    assert unknown(await deeds.gone_on_with(copy)) == begun


async def test_a_call_whose_beginning_is_being_told_has_not_begun(tmp_path: Path) -> None:
    """Whoever reads that may be slow, and interrupt the turn meanwhile."""
    deeds = Deeds(tmp_path)
    async with deeds.open() as lash:
        with suppress(TimeoutError):
            async with (await lash.session("s")).turn("q", turn_id="t") as running:
                async for activity in running:
                    if isinstance(activity.event, ToolCallStarted):
                        raise TimeoutError
    begun = list(deeds.begun)
    assert len(begun) < CALLS
    assert unknown(await deeds.gone_on_with()) == begun


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # trio knows no `Task.cancel()`
@pytest.mark.parametrize("times", [1, 2, 3, 4])
async def test_a_task_that_is_cancelled_while_intents_are_written_has_begun_no_call(times: int, tmp_path: Path) -> None:
    """Again and again: amid that write, and amid the one which takes them back."""
    deeds, left = Deeds(tmp_path), times
    async with deeds.open() as lash:
        store = lash.require_journal("this test").store
        append = store.append_journal

        async def cancelled_meanwhile(lease: Any, no: int, rows: Any, **options: Any) -> None:
            nonlocal left
            await append(lease, no, rows, **options)
            if left and (left < times or any(each.status == "intent" for each in rows)):
                left -= 1
                running.cancel()
                await anyio.lowlevel.checkpoint()

        store.append_journal = cancelled_meanwhile
        running = asyncio.ensure_future((await lash.session("s")).run("q", turn_id="t"))
        with pytest.raises(asyncio.CancelledError):
            await running
        assert left == 0
        assert await store.load_lease("s") is None
    assert deeds.begun == []
    assert unknown(await deeds.gone_on_with()) == []
