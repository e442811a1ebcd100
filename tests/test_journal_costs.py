"""What a turn with a journal costs, counted in statements, rows and bytes: a change is to be seen, and meant."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from agents import agent
from meter_kit import metered_store

from lash_framework import envelope_hash
from lash_framework.settings import load_settings
from lash_hookspecs import tool
from lash_plugin_provider_scripted.script import Call, Reply

pytestmark = [
    pytest.mark.costly,
    pytest.mark.parametrize("anyio_backend", ["asyncio"]),  # counts are the same on every event loop
]

ROUNDS = 4
ALONE = load_settings(env={}, sets=["plugins.disabled=hello"])  # whose checkpoint hook makes every reply durable


class Transactions:
    """The statements of each writing transaction, as verb and table, with the rows and the bytes of its parameters."""

    def __init__(self) -> None:
        self.done: list[list[tuple[str, int, int]]] = []
        self._open = False

    def __call__(self, sql: str, params: Sequence[Any], rows: int) -> None:
        verb, *rest = sql.split()
        if sql == "BEGIN IMMEDIATE":
            self.done.append([])
            self._open = True
        elif verb in ("COMMIT", "ROLLBACK"):
            self._open = False
        elif self._open:
            table = rest[1] if verb in ("INSERT", "DELETE") else rest[0] if verb == "UPDATE" else ""
            size = sum(len(each) for each in params if isinstance(each, str | bytes))
            self.done[-1].append((f"{verb} {table}".strip(), rows, size))


@tool
def shout(text: str) -> str:
    """Say it louder."""
    return text.upper()


@tool(name="shout")
async def whisper(text: str) -> str:
    """Say it at once: no thread decides which of several ends first."""
    return text.upper()


SCRIPT = [*[Reply(tool_calls=[Call("shout", {"text": "hey"})])] * ROUNDS, Reply(text="done")] * 4


async def test_a_turn_of_four_rounds_is_ten_writes_and_nearly_all_of_them_two_statements() -> None:
    seen = Transactions()
    async with agent(SCRIPT, store="metered://", plugins=[metered_store(seen)], tools=[shout], settings=ALONE) as lash:
        session = await lash.session("s")
        for _ in range(2):
            await session.run("hello")
        seen.done.clear()
        await session.run("hello")
    begin, *records, commit = [[verb for verb, *_ in each] for each in seen.done[:10]]
    assert begin == ["SELECT", "SELECT", "INSERT inbox", "UPDATE sessions"]
    assert records == [["SELECT", "INSERT journal"]] * 2 * ROUNDS
    assert [each for each in commit if each != "SELECT"] == [
        "UPDATE sessions",
        "INSERT nodes",
        "INSERT receipts",
        "INSERT usage",
        "DELETE inbox",
        "DELETE journal",
    ]
    rows = [count for each in seen.done for verb, count, _ in each if verb == "INSERT journal"]
    # The start, a reply and an intent; an outcome; from then on one row before them tells of a checkpoint and a look at
    # the environment, which came to nothing.
    assert rows == [3, 1, 3, 1, 3, 1, 3, 1]


async def test_a_round_of_eight_tools_is_four_writes() -> None:
    """Input, reply with intents, outcomes, commit; by hand it would be a commit for each result."""
    seen, calls = Transactions(), [Call("shout", {"text": "hey"}, f"call-{number}") for number in range(8)]
    script = [Reply(tool_calls=calls), Reply(text="done")]
    plugins = [metered_store(seen)]
    async with agent(script, store="metered://", plugins=plugins, tools=[whisper], settings=ALONE) as lash:
        session = await lash.session("s")
        seen.done.clear()
        await session.run("hello")
    rows = [sum(count for verb, count, _ in each if verb == "INSERT journal") for each in seen.done]
    assert rows == [0, 2 + 8, 8, 0]


async def test_a_record_says_what_is_new() -> None:
    """A prompt as long as a book is in the record of the turn's start, and in no other."""
    seen, long = Transactions(), "All that one could want to know. " * 1000
    plugins, options = [metered_store(seen)], {"tools": [shout], "instructions": long, "settings": ALONE}
    async with agent(SCRIPT, store="metered://", plugins=plugins, **options) as lash:
        session = await lash.session("s")
        await session.run("hello")
        seen.done.clear()
        await session.run("hello")
    start, *others = [size for each in seen.done for verb, _, size in each if verb == "INSERT journal"]
    assert start > len(long)
    assert max(others) < 4000


async def test_what_requests_have_in_common_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: Counter[str] = Counter()

    def counted(name: str) -> Any:
        function = getattr(envelope_hash, name)

        def call(*args: Any) -> Any:
            made[name] += 1
            return function(*args)

        return call

    parts = ("_head_of", "_tools_of", "_prompt_pieces")
    for name in parts:
        monkeypatch.setattr(envelope_hash, name, counted(name))  # counters around our own functions
    async with agent(SCRIPT, tools=[shout], settings=ALONE) as lash:
        for name in "st":
            for _ in range(2):
                await (await lash.session(name)).run("hello")
    assert made == dict.fromkeys(parts, 1)


async def test_a_session_of_many_turns_leaves_nothing_but_its_turns(tmp_path: Path) -> None:
    """No row of journal or inbox stays, and the file is no larger than twice what there is to say."""
    path = tmp_path / "a.db"
    async with agent(SCRIPT * 30, store=f"sqlite:///{path}", tools=[shout], settings=ALONE) as lash:
        session = await lash.session("s")
        for number in range(100):
            await session.run("What is in stock? " * 5, turn_id=f"turn-{number}")
    db = sqlite3.connect(path)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    count = "SELECT (SELECT count(*) FROM inbox), (SELECT count(*) FROM journal)"
    assert db.execute(count).fetchone() == (0, 0)
    sums = ("sum(length(body)) FROM nodes", "sum(length(result)) FROM receipts", "sum(length(data)) FROM blobs")
    payload = sum(db.execute(f"SELECT {each}").fetchone()[0] for each in sums)
    db.close()
    assert path.stat().st_size <= 2 * payload
