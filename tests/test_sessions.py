"""Sessions over time: other processes, other settings, damaged data."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import MODEL, agent, plugin

from lash_framework import Lash
from lash_framework.settings import load_settings
from lash_hookspecs import (
    ConfigurationError,
    GenerationOptions,
    LlmRequest,
    SessionBusy,
    SessionDeleted,
    SessionPolicy,
    StoreCorrupt,
    TextItem,
    TurnContext,
    TurnInput,
    UnknownName,
)

HOLDER = """
import sys, anyio
from agents import agent

async def answer(request):
    print("running", flush=True)
    await anyio.to_thread.run_sync(sys.stdin.readline)
    return "slow answer"

async def main():
    async with agent(answer, store=sys.argv[1]) as lash:
        session = await lash.session("s")
        await session.run("slow question")

anyio.run(main)
"""


@contextmanager
def other_process(url: str) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of a turn on session `s`; a line on its standard input lets it finish."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "running\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.mark.statement(14, page="effects")
async def test_a_session_that_runs_elsewhere_is_busy_before_any_model_call(tmp_path: Path) -> None:
    """A lease that lives keeps others away."""
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with other_process(url):
        async with agent([], store=url) as lash:
            session = await lash.session("s")
            with pytest.raises(SessionBusy, match="another process"):
                await session.run("quick question")
            assert (await (await lash.session("other")).usage()).entries == ()


async def test_who_waits_goes_on_where_the_other_process_left_off(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with other_process(url) as process:
        async with agent(["quick answer"], store=url) as lash:
            session = await lash.session("s")
            async with anyio.create_task_group() as group:

                async def run() -> None:
                    with anyio.fail_after(10):
                        await session.run("quick question", wait=True)

                group.start_soon(run)
                assert process.stdin is not None
                process.stdin.write("\n")
                process.stdin.flush()
            texts = [each.text for each in await session.messages()]
            assert texts == ["slow question", "slow answer", "quick question", "quick answer"]


async def test_a_killed_process_leaves_no_lock_and_its_turn_is_gone_on_with(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    with other_process(url) as process:
        process.kill()
        process.wait()
        async with agent(["late answer", "answer"], store=url) as lash:
            session = await lash.session("s")
            await session.run("question")
            texts = [each.text for each in await session.messages()]
            assert texts == ["slow question", "late answer", "question", "answer"]


async def test_what_is_configured_is_stored_with_the_next_turn(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    async with agent(["a"], store=url) as lash:
        session = await lash.session("s")
        await session.configure(max_turns=3, generation=GenerationOptions(temperature=0.5))
        await session.run("q")
    asked: list[LlmRequest] = []

    def answer(request: LlmRequest) -> str:
        asked.append(request)
        return "b"

    async with agent(answer, store=url) as lash:
        session = await lash.session("s")
        assert session.policy.max_turns == 3
        await session.run("q")
        assert asked[0].generation.temperature == 0.5


FAULTS = {
    "unknown field": ({"modle": "x"}, "modle"),
    "unknown mode": ({"mode_id": "standrd"}, "did you mean `standard`?"),
    "unknown provider": ({"model": "tset:x"}, "did you mean `test`?"),
}


@pytest.mark.parametrize(("changes", "words"), FAULTS.values(), ids=FAULTS)
async def test_a_wrong_setting_is_refused_and_changes_nothing(changes: dict[str, Any], words: str) -> None:
    async with agent([]) as lash:
        session = await lash.session()
        before = session.policy
        with pytest.raises((ConfigurationError, UnknownName)) as raised:
            await session.configure(**changes)
        assert words in str(raised.value)
        assert session.policy is before


async def test_plugins_see_and_change_the_policy() -> None:
    seen: list[tuple[str, str]] = []

    def lash_session_config(ctx: Any, policy: SessionPolicy) -> SessionPolicy:
        from attrs import evolve

        return evolve(policy, max_turns=min(policy.max_turns or 9, 9))

    def lash_session_config_changed(ctx: Any, previous: SessionPolicy, current: SessionPolicy) -> None:
        seen.append((str(previous.max_turns), str(current.max_turns)))

    limiter = plugin("limiter", lash_session_config, lash_session_config_changed)
    async with agent([], plugins=[limiter]) as lash:
        session = await lash.session()
        assert session.policy.max_turns == 9
        await session.configure(max_turns=100)
        assert session.policy.max_turns == 9
        await session.configure(max_turns=2)
    assert seen == [("None", "9"), ("9", "2")]


async def test_a_model_given_in_code_wins_over_the_stored_one(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'a.db'}"
    async with agent(["a"], store=url) as lash:
        await (await lash.session("s")).run("q")
    async with agent(["b"], store=url) as lash:
        assert (await lash.session("s", model="scripted:demo")).policy.model == "scripted:demo"
        assert (await lash.session("t")).policy.model == MODEL


async def test_a_damaged_row_is_named_and_hurts_only_its_own_session(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    async with agent(["a", "b"], store=f"sqlite:///{path}") as lash:
        await (await lash.session("hurt")).run("q")
        await (await lash.session("well")).run("q")
    database = sqlite3.connect(path, isolation_level=None)
    hurt_no = "(SELECT no FROM sessions WHERE session_id = 'hurt')"
    database.execute(f"UPDATE nodes SET body = x'7b' WHERE kind = 'message' AND key >> 32 = {hurt_no}")
    database.close()
    async with agent(["c"], store=f"sqlite:///{path}") as lash:
        hurt = await lash.session("hurt")
        with pytest.raises(StoreCorrupt, match="session `hurt`"):
            await hurt.run("q")
        assert (await (await lash.session("well")).run("q")).text == "c"
        assert await lash.delete_session("hurt")


async def test_a_session_that_lost_its_messages_is_damaged_and_not_empty(tmp_path: Path) -> None:
    """Noise over a page made a session look new: its next turn went on without a history, and said nothing."""
    path = tmp_path / "a.db"
    async with agent(["a"], store=f"sqlite:///{path}") as lash:
        await (await lash.session("s")).run("q")
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("UPDATE sessions SET leaf = NULL, leaf_generation = -1, frame = NULL, frame_generation = -1")
    database.execute("DELETE FROM nodes")
    database.execute("DELETE FROM receipts")
    database.close()
    async with agent(["b"], store=f"sqlite:///{path}") as lash:
        with pytest.raises(StoreCorrupt, match="session `s` ran 1 turns, and none of their messages"):
            await (await lash.session("s")).run("q")
        history = await lash.load_history("s")
        assert history.unreadable == (
            "none of the messages of 1 turns is in the store",
            "1 of 1 turns are not in the store",
        )


async def test_one_session_object_per_id_while_it_is_held() -> None:
    async with agent([]) as lash:
        assert await lash.session("s") is await lash.session("s")


async def test_a_session_is_in_the_store_from_its_first_commit_on() -> None:
    """A run that failed before its turn (no key, a wrong setting) used to leave an empty session behind."""
    async with agent(["a"]) as lash:
        session = await lash.session("s")
        with pytest.raises(ConfigurationError):
            await session.run(TurnInput(items=(TextItem("q"),), context=TurnContext(model="nobody:x")))
        assert await lash.list_sessions() == []
        await session.run("q")
        (listed,) = await lash.list_sessions()
        assert (listed.session_id, listed.turn_index) == ("s", 1)


async def test_a_session_that_is_deleted_before_its_first_turn_does_not_come_back() -> None:
    async with agent([]) as lash:
        session = await lash.session("s")
        assert await lash.delete_session("s")
        with pytest.raises(SessionDeleted):
            await session.run("q")
        with pytest.raises(SessionDeleted):
            await lash.session("s")


async def test_a_blank_session_id_is_refused() -> None:
    async with Lash.open("sqlite://", model="scripted:demo") as lash:
        with pytest.raises(ConfigurationError, match="blank"):
            await lash.session(" ")


async def test_what_is_said_for_an_open_session_counts_from_its_next_turn_on() -> None:
    prompts: list[str] = []

    def answer(request: LlmRequest) -> str:
        prompts.append(str(request.messages[0]))
        return "a"

    async with agent(answer) as lash:
        session = await lash.session("s")
        await session.run("q")
        assert await lash.session("s", instructions="Speak Latin.", max_turns=4) is session
        await session.run("q")
        assert session.policy.max_turns == 4
    assert ["Speak Latin." in each for each in prompts] == [False, True]


async def test_what_is_said_of_a_session_sticks_and_what_is_said_of_the_host_does_not(tmp_path: Path) -> None:
    """As `docs/reference/python.md` has it: `--system` and `Lash.open` speak of as long as the `Lash` is open."""
    url = f"sqlite:///{tmp_path / 'x.db'}"
    settings = load_settings(env={}, cwd=tmp_path)
    async with Lash.open(url, settings=settings, model="scripted:demo", instructions="Of the host.") as lash:
        session = await lash.session("s", instructions="Of the session.", max_turns=3)
        await session.run("hi")
    async with Lash.open(url, settings=settings) as lash:
        session = await lash.session("s")
        explained = await lash.explain((await session.run("again")).turn_id)
    assert session.policy.max_turns == 3
    said = [each.text for each in explained.prompt]
    assert [any(text in each for each in said) for text in ("Of the session.", "Of the host.")] == [True, False]
