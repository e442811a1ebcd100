"""Processes that are really killed, stopped and woken up: what is promised of them, sentence by sentence."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_kit import Cli
from crash_kit import SESSION, TURN, Row, World, crash_agent, paused_agent, url_in
from test_crash_matrix import FIRST_TURN, SECOND_TURN, Tables, drift, row_for

from lash_framework.testing import CrashPoint, When
from lash_hookspecs import OperationId, SessionBusy

CHILDREN = Path(__file__).with_name("crash_children.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}


@pytest.mark.chaos
@pytest.mark.crash_level_2
@pytest.mark.costly
@pytest.mark.parametrize(
    ("which", "tables", "text"),
    [
        ("first", FIRST_TURN, "All is done: {'Be brief.': 1, 'And hurry.': 1}"),
        ("second", SECOND_TURN, "Fetched 2."),
    ],
    ids=["a session's first turn", "its second"],
)
def test_law_2_every_place_is_survived_by_kill_minus_nine(
    which: str, tables: Tables, text: str, tmp_path: Path
) -> None:
    """Law 2, at every place, by SIGKILL; the tables are those of `test_crash_matrix`."""
    ran = subprocess.run(
        [sys.executable, CHILDREN, "matrix", tmp_path, which], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    told = [json.loads(line) for line in ran.stdout.splitlines()]
    points = [CrashPoint(each["name"], When(each["when"]), each["nth"]) for each in (line["point"] for line in told)]
    assert drift(points, tables) == []
    for point, line in zip(points, told, strict=True):
        assert not line["fault"]
        assert Row(**line["row"]) == row_for(point, tables), str(point)
        assert line["text"] == text, str(point)


on_asyncio = pytest.mark.parametrize("anyio_backend", ["asyncio"])  # what waits here are processes


def killed(folder: Path, name: str, when: str = "before", nth: int = 1) -> str:
    """The database of a process that was killed (SIGKILL) at this place of the turn."""
    url = url_in(folder)
    child = subprocess.run(
        [sys.executable, CHILDREN, "dies", folder, name, when, str(nth)], env=ENVIRONMENT, check=False
    )
    assert child.returncode == -signal.SIGKILL
    return url


@on_asyncio
async def test_an_accepted_prompt_survives_an_immediate_kill_and_runs_on_restart(tmp_path: Path) -> None:
    """Killed as soon as its prompt is in the database; nobody asks again, the session is merely opened."""
    url = killed(tmp_path / "one", "sql begin_turn 1: COMMIT", "after")
    assert World(url).deeds["model 1"] == 0
    async with crash_agent(url) as lash:
        session = await lash.session(SESSION)
        assert (await session.messages())[0].text == "Do it all."
        assert [each.operation for each in await lash.store.list_receipts(SESSION)] == [OperationId("turn", TURN)]
        assert await session.inbox() == []
    assert World(url).deeds["model 1"] == 1


@on_asyncio
async def test_a_holder_that_is_provably_dead_on_this_host_is_expired_at_once(tmp_path: Path) -> None:
    """Its lease has half a minute to go, and who comes next waits for none of it."""
    url = killed(tmp_path / "one", "effect llm_call 2 of iteration 0")
    async with crash_agent(url) as lash:
        lease = await lash.require_journal("this test").store.load_lease(SESSION)
        assert lease is not None
        assert lease.expires_at_ms - time.time_ns() // 1_000_000 > 10_000
        session = await lash.session(SESSION, recover=False)
        (recovered,) = await session.recover()  # it never waits: a session that is held is a `SessionBusy`
        assert recovered.turn.is_success


@pytest.fixture
def paused() -> Iterator[Any]:
    """Starts a process that stops itself somewhere in its turn; whatever is left of it at the end is killed."""
    children: list[subprocess.Popen[str]] = []

    def start(folder: Path, where: str, ttl_s: str = "1") -> subprocess.Popen[str]:
        command = [sys.executable, CHILDREN, "pauses", folder, where, ttl_s]
        child = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        children.append(child)
        _, status = os.waitpid(child.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        return child

    yield start
    for child in children:
        if child.returncode is None:
            child.kill()
            child.communicate()


@pytest.mark.statement(63, page="effects")
@on_asyncio
@pytest.mark.parametrize(
    ("where", "steps_of_the_first", "error"),
    [("in the model", 0, "LeaseLost"), ("append_journal", 0, "LeaseLost"), ("commit", 1, "ReceiptConflict")],
    ids=str,
)
async def test_a_paused_first_owner_that_wakes_up_cannot_commit_over_its_successor(
    where: str, steps_of_the_first: int, error: str, paused: Any, tmp_path: Path
) -> None:
    """Stopped for longer than its lease, it finds on waking up that the turn has ended without it."""
    url = url_in(tmp_path / "one")
    first = paused(tmp_path / "one", where)
    async with paused_agent(url, "the second") as lash:
        session = await lash.session(SESSION, recover=False)
        turn = await session.run("Go.", turn_id=TURN, wait=True)
        before = await lash.store.load_session(SESSION)
        first.send_signal(signal.SIGCONT)
        told = json.loads(first.communicate()[0])
        assert await lash.store.load_session(SESSION) == before
        assert [each.operation for each in await lash.store.list_receipts(SESSION)] == [OperationId("turn", TURN)]
        assert await session.inbox() == []
        assert await lash.require_journal("this test").store.load_journal(SESSION, TURN) == ()
    assert turn.text == "I am the second."
    assert World(url).deeds["step of the first"] == steps_of_the_first
    assert told["error"] == error, told["message"]


@on_asyncio
async def test_who_is_stopped_is_not_dead_until_it_is_killed(paused: Any, tmp_path: Path) -> None:
    """A lease of half a minute: it keeps others away while its holder merely sleeps, and not a moment longer."""
    url = url_in(tmp_path / "one")
    first = paused(tmp_path / "one", "in the model", "30")
    async with paused_agent(url, "the second") as lash:
        session = await lash.session(SESSION, recover=False)
        with pytest.raises(SessionBusy):
            await session.run("Go.", turn_id=TURN)
        first.kill()
        first.communicate()
        assert (await session.run("Go.", turn_id=TURN)).text == "I am the second."


@pytest.mark.statement(35, page="effects")
@pytest.mark.costly
def test_a_cancel_from_another_process_that_comes_too_late_says_so(paused: Any, tmp_path: Path) -> None:
    """The turn is over and its commit on its way when `lash cancel` asks: it is committed as it was."""
    lash, folder = Cli(tmp_path), tmp_path / "one"
    lash.store = url_in(folder)
    first = paused(folder, "commit", "30")
    canceller = lash.start("cancel", SESSION)
    assert canceller.stdout is not None
    assert canceller.stdout.readline() == f"{SESSION}: asked turn {TURN} to end\n".encode()
    first.send_signal(signal.SIGCONT)
    assert json.loads(first.communicate()[0]) == {"text": "I am the first."}
    out, err = canceller.communicate()
    assert (canceller.returncode, out.decode(), err) == (1, f"{SESSION}: turn {TURN} had completed first\n", b"")


def test_sigterm_interrupts_and_the_turn_is_resumable(tmp_path: Path) -> None:
    """The first model call is neither made nor paid again; the tool that was interrupted is told as unknown."""
    lash = Cli(tmp_path)
    process = lash.start("run", "hi", "--jsonl", "--session", "s", "--turn-id", "t", *lash.slow())
    assert process.stdout is not None
    assert any(b"tool_call_started" in line for line in process.stdout)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 143
    resumed = lash.run("resume", "s", "--tools", "slow.py")
    assert resumed.code == 0, resumed.err
    assert "turn t is committed" in resumed.out
    again = lash.run("run", "hi", "--session", "s", "--turn-id", "t", *lash.slow())
    assert (again.code, again.out) == (0, "The second answer.\n")
