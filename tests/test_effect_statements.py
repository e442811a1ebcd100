"""Statements about effects that no other test tells by itself: who waits for a turn, and who gives up."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from agents import agent

from lash_framework import Lash
from lash_framework.session import Session
from lash_hookspecs import AssembledTurn, LlmRequest, TurnCancelled, tool
from lash_hookspecs.turn_outcomes import Finished, Stopped, StopReason
from lash_plugin_provider_scripted import Call, Reply

CANCELLED = Stopped(StopReason.CANCELLED)


def url_in(folder: Path) -> str:
    return f"sqlite:///{folder / 'lash.db'}"


class Slow:
    """A model that answers when it may, and a tool that runs until it is cancelled, and then as long as it may."""

    def __init__(self) -> None:
        self.begun, self.cancelled, self.go_on = anyio.Event(), anyio.Event(), anyio.Event()

    async def answers(self, request: LlmRequest) -> str:
        self.begun.set()
        await self.go_on.wait()
        return "done"

    def tool(self) -> object:
        @tool(effect="pure")
        async def stall() -> str:
            "Take a while."
            self.begun.set()
            try:
                await anyio.sleep_forever()
            finally:
                self.cancelled.set()
                with anyio.move_on_after(30, shield=True):
                    await self.go_on.wait()

        return stall


async def elsewhere(lash: Lash) -> Session:
    """The session, as another host sees it."""
    return await lash.session("s", recover=False)


@pytest.mark.statement(33, page="effects")
async def test_who_stops_waiting_for_a_cancel_neither_takes_it_back_nor_settles_it(tmp_path: Path) -> None:
    """Two ask, one goes away before the turn has ended: it ends as cancelled, and who still waits is told."""
    slow, url = Slow(), url_in(tmp_path)
    script = [Reply(tool_calls=[Call("stall", {}, "a")]), "never asked"]
    async with agent(script, store=url, tools=[slow.tool()]) as lash, agent([], store=url) as other:
        turns: list[AssembledTurn] = []

        async def run() -> None:
            turns.append(await (await lash.session("s")).run("q", turn_id="t"))

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await slow.begun.wait()
            first = await (await elsewhere(other)).cancel("enough")
            second = await (await elsewhere(other)).cancel("enough, I said")
            assert first is not None
            assert second is not None
            await slow.cancelled.wait()
            with anyio.move_on_after(0) as gone:
                await first.won()
            slow.go_on.set()
            with anyio.fail_after(30):
                assert await second.won()
        assert gone.cancelled_caught
    assert [each.outcome for each in turns] == [CANCELLED]


@pytest.mark.statement(37, page="effects")
@pytest.mark.parametrize("gives_up", ["by its deadline", "by its scope"])
async def test_who_stops_waiting_for_a_turn_that_runs_elsewhere_spoils_nothing(gives_up: str, tmp_path: Path) -> None:
    """The turn ends as it would have, and whoever asks for it then has its result, the one who gave up too."""
    slow, url = Slow(), url_in(tmp_path)
    async with agent(slow.answers, store=url) as lash, agent([], store=url) as other:
        turns: list[AssembledTurn] = []

        async def run() -> None:
            turns.append(await (await lash.session("s")).run("q", turn_id="t"))

        async with anyio.create_task_group() as group:
            group.start_soon(run)
            await slow.begun.wait()
            waits = await elsewhere(other)
            if gives_up == "by its deadline":
                with pytest.raises(TurnCancelled):
                    await waits.run("q", turn_id="t", wait=True, deadline_s=0.05)
            else:
                with anyio.move_on_after(0.05):
                    await waits.run("q", turn_id="t", wait=True)
            slow.go_on.set()
        (turn,) = turns
        assert isinstance(turn.outcome, Finished)
        assert turn.text == "done"
        assert await waits.run("q", turn_id="t") == turn


@pytest.mark.statement(45, page="effects")
async def test_all_who_wait_for_one_turn_get_the_same(tmp_path: Path) -> None:
    """Of this host and of another, before and after its end: it runs once, and nobody waits for ever."""
    slow, url, asked = Slow(), url_in(tmp_path), 0

    async def answers(request: LlmRequest) -> str:
        nonlocal asked
        asked += 1
        return await slow.answers(request)

    async with agent(answers, store=url) as lash, agent(answers, store=url) as other:
        turns: list[AssembledTurn] = []
        sessions = [await lash.session("s"), await elsewhere(other)]

        async def run(session: Session) -> None:
            turns.append(await session.run("q", turn_id="t", wait=True))

        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                for session in [*sessions, *sessions]:
                    group.start_soon(run, session)
                await slow.begun.wait()
                slow.go_on.set()
        for session in sessions:
            await run(session)
    assert turns == turns[:1] * 6
    assert asked == 1


@pytest.mark.statement(68, page="effects")
async def test_what_two_hosts_call_the_same_is_not_the_same(tmp_path: Path) -> None:
    """One session id and one turn id in two databases: to cancel the one turn doesn't end the other."""
    first, second = Slow(), Slow()
    one, two = (url_in(tmp_path / name) for name in ("one", "two"))
    async with agent(first.answers, store=one) as lash, agent(second.answers, store=two) as other:
        turns: dict[str, AssembledTurn] = {}

        async def run(name: str, host: Lash) -> None:
            turns[name] = await (await host.session("s")).run("q", turn_id="t")

        async with anyio.create_task_group() as group:
            group.start_soon(run, "one", lash)
            group.start_soon(run, "two", other)
            await first.begun.wait()
            await second.begun.wait()
            asked = await (await elsewhere(lash)).cancel("enough")
            assert asked is not None
            assert await asked.won()
            assert [each.state for each in await other.unfinished("s")] == ["running"]
            second.go_on.set()
    assert turns["one"].outcome == CANCELLED
    assert turns["two"].text == "done"
