"""`lash plugins trace`: the times of a real turn's hooks, by plugin; the stopwatch itself runs on a counted clock."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest
from cli_kit import Cli
from hook_kit import Plugin, installed, opened

from lash_framework.cli import hook_times
from lash_framework.cli.hook_times import HookTimes
from lash_hookspecs import PromptContribution, hookimpl, tool


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that a second passes on whenever somebody looks."""
    ticks = count()
    monkeypatch.setattr(hook_times, "perf_counter", lambda: float(next(ticks)))


class Patient(Plugin):
    """Hooks of all kinds; one that waits, and one that fails."""

    @hookimpl
    @asynccontextmanager
    async def lash_lifespan(self) -> AsyncIterator[str]:
        await anyio.lowlevel.checkpoint()
        yield "held"

    @hookimpl
    def lash_prompt_contributions(self, ctx: Any) -> PromptContribution:
        self.calls.append(ctx.host)
        return PromptContribution(content="Be patient.")

    @hookimpl
    async def lash_checkpoint(self) -> None:
        for _ in range(3):
            await anyio.lowlevel.checkpoint()

    @hookimpl
    async def lash_turn_committed(self) -> None:
        await anyio.lowlevel.checkpoint()
        raise RuntimeError("nobody minds")


async def test_every_call_is_timed_and_does_what_it_did(ticking: None) -> None:
    times, plugin = HookTimes(), Patient()
    with times.kept():
        async with opened(plugin) as lash:
            turn = await (await lash.session()).run("Hello")
    assert turn.text == "Done."
    assert plugin.calls[0] == "held"
    rows = {each.hook: each for each in times.rows if each.plugin_id == "mine"}
    assert {name: each.calls for name, each in rows.items()} == {
        "lash_lifespan": 2,  # entered and left
        "lash_prompt_contributions": 1,
        "lash_checkpoint": 1,
        "lash_turn_committed": 1,
    }
    assert all(0 < each.busy_s <= each.total_s for each in rows.values())
    waits = rows["lash_checkpoint"]
    assert waits.total_s == waits.slowest_s
    assert waits.busy_s < waits.total_s, "what a hook waits for keeps nobody else"


async def test_a_hook_that_is_cancelled_notices(ticking: None) -> None:
    class Stuck(Plugin):
        @hookimpl
        async def lash_checkpoint(self) -> None:
            try:
                scope.cancel()
                await anyio.sleep_forever()
            finally:
                self.calls.append("left")

    times, plugin = HookTimes(), Stuck()
    with times.kept(), anyio.CancelScope() as scope:
        async with opened(plugin) as lash:
            await (await lash.session()).run("Hello")
    assert scope.cancelled_caught
    assert plugin.calls == ["left"]
    assert [each.calls for each in times.rows if each.plugin_id == "mine"] == [1]


async def test_nobody_is_timed_unasked() -> None:
    times = HookTimes()
    with times.kept():
        pass
    async with opened(Patient()) as lash:
        await (await lash.session()).run("Hello")
    assert times.rows == []


# ---- the command ----------------------------------------------------------------------------------------------------


@tool
def look() -> str:
    """Look."""
    return "seen"


class Looking(Plugin):
    @hookimpl
    def lash_tools(self) -> list[Any]:
        return [look]

    @hookimpl
    async def lash_checkpoint(self) -> None:
        await anyio.lowlevel.checkpoint()


SCRIPT = """
[[reply]]
tool_calls = [{ name = "look" }]
[[reply]]
text = "Seen."
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    lash = Cli(tmp_path)
    lash.write("look.toml", SCRIPT)

    def run(*args: str) -> Any:
        with installed({"looking": Looking("looking")}):
            return lash.here(monkeypatch, capsys, "plugins", "trace", "--model", "scripted:look.toml", *args)

    return run


def test_a_real_turn_as_an_object(here: Callable[..., Any]) -> None:
    done = here("--json", "Look", "around")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    rows = {(each["plugin"], each["hook"]): each for each in told["rows"]}
    assert rows["looking", "lash_checkpoint"]["calls"] == 2
    assert rows["looking", "tool look"]["calls"] == 1
    assert rows["store-sql", "lash_stores"]["calls"] == 1
    assert told["turns"] == 1
    assert told["turns_ms"] > 0


def test_a_real_turn_as_a_table_and_committed(here: Callable[..., Any], tmp_path: Path) -> None:
    done = here("--session", "s")
    assert done.out.splitlines()[0].startswith("plugin ")
    assert "looking" in done.out
    assert "opening the host took" in done.out
    assert (tmp_path / "test.db").exists()


def test_a_turn_that_stops_is_the_last_and_tells_so(here: Callable[..., Any]) -> None:
    done = here("--turns", "3", "--session", "s", "--json")  # the script has no reply left for the second one
    assert (done.code, json.loads(done.out)["turns"]) == (1, 2)
    assert "script" in done.err
