"""A turn that is handed off is killed at every place: there is one successor then, and it is told once."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from agents import agent, plugin

from lash_framework import Lash
from lash_framework.testing import Crash, crash_at_every_effect
from lash_hookspecs import (
    CreateSession,
    Handoff,
    HandoffSession,
    LlmRequest,
    TextItem,
    ToolCallOutput,
    ToolCallSuccess,
    ToolResultBlock,
    TurnInput,
    child_session_id,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply

pytestmark = [pytest.mark.costly, pytest.mark.parametrize("anyio_backend", ["asyncio"])]


@tool(effect="unsafe")
async def transfer() -> ToolCallOutput:
    """Hand over to somebody who knows."""
    return ToolCallOutput(ToolCallSuccess("Somebody goes on."), HandoffSession("Explain.", CreateSession(fork=True)))


async def lash_checkpoint(ctx: Any) -> Any:
    return CreateSession(key="watch", task="Watch.") if ctx.session_id == "crash" else []


async def lash_before_turn(ctx: Any) -> Any:
    return CreateSession(key="notes") if ctx.session_id == "crash" else []


def say(request: LlmRequest) -> Reply:
    seen = any(isinstance(block, ToolResultBlock) for message in request.messages for block in message.blocks)
    return Reply(text="Done.") if seen else Reply(text="", tool_calls=[Call("transfer", {}, "c1")])


def host(url: str) -> Any:
    return agent(say, store=url, tools=[transfer], plugins=[plugin("makes", lash_before_turn, lash_checkpoint)])


class Databases:
    """Where each crash leaves its database, and what is in the last one."""

    def __init__(self, template: Path | None = None) -> None:
        self.last = Path()
        self._template = template

    def __call__(self, folder: Path) -> str:
        self.last = Path(folder) / "crash.db"
        if self._template is not None:
            shutil.copytree(self._template.parent, folder, dirs_exist_ok=True)
        return f"sqlite:///{self.last}"

    def rows(self, sql: str) -> list[Any]:
        with closing(sqlite3.connect(self.last)) as db:
            return db.execute(sql).fetchall()

    def told(self) -> dict[str, int]:
        """How often each session was told something that waits there, or that it has done."""
        found = self.rows(
            "SELECT session_id, (SELECT count(*) FROM inbox WHERE session_no = sessions.no) + "
            "(SELECT count(*) FROM receipts WHERE (key >> 32) = sessions.no) FROM sessions"
        )
        return dict(found)


NOTES = child_session_id("crash", "crash", "makes", "notes")


async def test_a_turn_that_is_killed_anywhere_has_one_successor() -> None:
    databases = Databases()

    def one(crash: Crash) -> None:
        assert isinstance(crash.turn.outcome, Handoff) != bool(crash.unknown), str(crash.point)
        told = databases.told()
        if crash.unknown:  # nobody knows whether the tool ran, so the model was asked again, and nothing handed off
            assert set(told) - {NOTES} >= {"crash"}, str(crash.point)
            return
        assert told == {"crash": 1, NOTES: 0, crash.turn.outcome.session_id: 1}, str(crash.point)  # type: ignore[union-attr]  # it was handed off

    report = await crash_at_every_effect(host, "Go.", checks=[one], database=databases)
    assert isinstance(report.golden.turn.outcome, Handoff)
    assert sum(not crash.unknown for crash in report.crashes) > 10


async def test_a_successor_that_is_killed_anywhere_does_what_it_was_told_once(tmp_path: Path) -> None:
    """Killed in its first turn, or before it: whoever follows, or opens the session, goes on with that turn."""
    template = tmp_path / "crash.db"
    async with host(f"sqlite:///{template}") as lash:
        turn = await (await lash.session("crash")).run("Go.", turn_id="crash")
    databases, successor = Databases(template), turn.outcome
    assert isinstance(successor, Handoff)

    def once(crash: Crash) -> None:
        assert databases.told()[successor.session_id] == 1, str(crash.point)
        assert crash.turn.text == "Done."

    report = await crash_at_every_effect(
        host,
        TurnInput(items=(TextItem("Explain."),), told_by="application"),
        session_id=successor.session_id,
        turn_id=successor.turn_id,
        checks=[once],
        database=databases,
    )
    assert all(crash.ending.was_accepted or crash.ending.was_committed for crash in report.crashes)
    async with Lash.open(f"sqlite:///{template}") as lash:
        assert [each.turn_id for each in await lash.unfinished(successor.session_id)] == [successor.turn_id]
