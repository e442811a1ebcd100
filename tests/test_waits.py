"""Durable waits (group L of the catalogue, by its ids): a call that a crash left unknown, and a person's word about it.

L.09 and the timeouts of L.11 have no test: nobody can answer before the turn waits, and nothing that waits for a person
gives up by itself. L.26 has none either: a turn's end is asked for in the inbox, where no sweep of waits comes by.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import agent

from lash_framework import Lash
from lash_framework.pending import PendingCall
from lash_hookspecs import LlmRequest, OnUnknown, TurnSuspended, UnknownName, tool
from lash_hookspecs.errors import SessionBusy, SessionDeleted
from lash_plugin_provider_scripted import Call, Reply


class Bank:
    """An agent that wires money, whose process is interrupted while it does; `wired` counts how often it began."""

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder / 'lash.db'}"
        self.wired = 0
        self._begun = anyio.Event()

        @tool(on_unknown=OnUnknown.WAIT)
        async def wire(amount: int) -> str:
            "Wire money."
            self.wired += 1
            self._begun.set()
            await anyio.sleep_forever()
            raise AssertionError

        self._tools = [wire]

    def _say(self, request: LlmRequest) -> Reply | str:
        said = [message for message in request.messages if message.role == "assistant"]
        if said:
            return f"The bank said: {request.messages[-1].blocks[-1]}"
        return Reply(tool_calls=[Call("wire", {"amount": 7}, "call-1"), Call("wire", {"amount": 8}, "call-2")])

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Lash]:
        """A host; each stands for a process of its own."""
        async with agent(self._say, store=self.url, tools=self._tools) as lash:
            yield lash

    async def leave_waiting(self, session_id: str = "s") -> Sequence[PendingCall]:
        """Have a turn interrupted amid its calls and gone on with until it waits; what it waits for."""
        self._begun = anyio.Event()
        async with self.open() as lash, anyio.create_task_group() as group:
            session = await lash.session(session_id)
            group.start_soon(lambda: session.run("Wire it.", turn_id="t"))
            await self._begun.wait()
            group.cancel_scope.cancel()
        async with self.open() as lash:
            return await self.suspended(lash, session_id)

    async def suspended(self, lash: Lash, session_id: str = "s") -> Sequence[PendingCall]:
        """Go on with a session until it waits; what for."""
        with pytest.raises(TurnSuspended) as waits:
            await (await lash.session(session_id, recover=False)).recover()
        calls = [each for each in await lash.pending() if each.session_id == session_id]
        assert {each.key for each in calls} == set(waits.value.keys)
        return calls

    async def finished(self, lash: Lash, session_id: str = "s") -> Any:
        """Go on with a session to the end of its turn."""
        (recovered,) = await (await lash.session(session_id, recover=False)).recover()
        return recovered.turn


@pytest.fixture
def bank(tmp_path: Path) -> Bank:
    return Bank(tmp_path)


def outputs(turn: Any) -> list[str]:
    return [str(each.output) for each in turn.tool_calls]


@pytest.mark.statement(29, page="effects")
async def test_a_wait_keeps_its_key_over_every_process(bank: Bank) -> None:
    """L.08: whoever goes on with the turn, and however often, waits under the same keys; nothing runs again for it."""
    calls = await bank.leave_waiting()
    assert [each.args for each in calls] == [{"amount": 7}, {"amount": 8}]
    for _ in range(2):
        async with bank.open() as lash:
            assert await bank.suspended(lash) == calls
    assert bank.wired == 2


async def test_an_answer_is_final(bank: Bank) -> None:
    """L.10: the second answer is refused, whatever it says, and the first one is what the model reads."""
    first, second = await bank.leave_waiting()
    async with bank.open() as lash:
        await lash.resolve(first.key, result="it went through")
        for again in ({"result": "it went through"}, {"result": "other"}, {"error": "it did not"}):
            with pytest.raises(UnknownName):
                await lash.resolve(first.key, **again)
        await lash.resolve(second.key, error="no such account")
        turn = await bank.finished(lash)
        with pytest.raises(UnknownName):
            await lash.resolve(second.key, result="late")
    assert "it went through" in outputs(turn)[0]
    assert "no such account" in outputs(turn)[1]


async def test_a_cancel_ends_what_waits(bank: Bank) -> None:
    """L.11, L.13: a turn that is cancelled while it waits is committed as that, and nobody can answer for it then."""
    first, _ = await bank.leave_waiting()
    async with bank.open() as lash:
        session = await lash.session("s", recover=False)
        asked = await session.cancel("enough")
        assert asked is not None
        assert await asked.won()
        assert await lash.pending() == []
        with pytest.raises(UnknownName):
            await lash.resolve(first.key, result="late")
        (receipt,) = await lash.store.list_receipts("s")
        assert b"cancelled" in receipt.result
    async with bank.open() as lash:
        assert list(await (await lash.session("s")).recover()) == []
    assert bank.wired == 2


@pytest.mark.statement(32, page="effects")
async def test_deleting_a_session_revokes_its_waits_and_no_others(bank: Bank) -> None:
    """L.12, L.24, L.58: nobody can answer for a deleted session, in this process or the next; another one waits on."""
    gone, stays = await bank.leave_waiting("s"), await bank.leave_waiting("other")
    assert not {each.key for each in gone} & {each.key for each in stays}
    async with bank.open() as lash:
        await lash.delete_session("s")
    for _ in range(2):
        async with bank.open() as lash:
            assert await lash.pending() == stays
            with pytest.raises(UnknownName):
                await lash.resolve(gone[0].key, result="late")
            with pytest.raises(SessionDeleted):
                await lash.session("s")


@pytest.mark.statement(31, page="effects")
async def test_a_key_that_nobody_waits_under_is_refused(bank: Bank) -> None:
    """L.14: a key that was made up, cut off too soon or changed answers nothing."""
    calls = await bank.leave_waiting()
    key = calls[0].key
    changed = f"{key[:-1]}{'0' if key[-1] != '0' else '1'}"
    async with bank.open() as lash:
        for wrong in ("", "nonsense", changed, f"{key}0", f" {key}"):
            with pytest.raises(UnknownName):
                await lash.resolve(wrong, result="it went through")
        assert await lash.pending() == calls


async def test_one_process_waits_another_one_answers_a_third_one_goes_on(bank: Bank) -> None:
    """L.22, L.24: the wait and its answer are in the database, and no process needs to be there for both."""
    for call in await bank.leave_waiting():
        async with bank.open() as lash:
            await lash.resolve(call.key, result=f"{call.args['amount']} went through")
    async with bank.open() as lash:
        assert await lash.pending() == []
        turn = await bank.finished(lash)
    assert ["7 went through" in outputs(turn)[0], "8 went through" in outputs(turn)[1]] == [True, True]
    assert bank.wired == 2


@pytest.mark.statement(30, page="effects")
async def test_of_answers_at_once_one_counts(bank: Bank) -> None:
    """L.23: the first writer wins, and the others are told that they didn't."""
    first, second = await bank.leave_waiting()
    won: list[str] = []

    async def answer(lash: Lash, said: str) -> None:
        try:
            await lash.resolve(first.key, result=said)
        except (UnknownName, SessionBusy):
            return
        won.append(said)

    async with bank.open() as here, bank.open() as there:
        async with anyio.create_task_group() as group:
            for index in range(3):
                group.start_soon(answer, here, f"here {index}")
                group.start_soon(answer, there, f"there {index}")
        (said,) = won
        await here.resolve(second.key, error="no")
        assert said in outputs(await bank.finished(there))[0]


@pytest.mark.statement(30, page="effects")
@pytest.mark.parametrize("asked_before", [True, False])
async def test_it_is_the_same_whether_one_asks_or_is_answered_first(asked_before: bool, bank: Bank) -> None:
    """L.25: who goes on before the answer is there waits, and goes on with it then; who comes later has it at once."""
    first, second = await bank.leave_waiting()
    async with bank.open() as lash, bank.open() as other:
        if asked_before:
            assert await bank.suspended(lash) == [first, second]
        await other.resolve(first.key, result="it went through")
        if asked_before:
            assert await bank.suspended(lash) == [second]
        await other.resolve(second.key, result="this one too")
        turn = await bank.finished(lash)
    assert ["it went through" in outputs(turn)[0], "this one too" in outputs(turn)[1]] == [True, True]
    assert bank.wired == 2
