"""A session of 5,000 turns in each contender's database: a real turn's messages, repeated under ids of their own."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

from attrs import evolve
from contenders import LASH, loaded, opened

TURNS = 5000
NAME = "long"
_BATCH = 500


def question(number: int) -> str:
    """What the user asks in a turn of the history."""
    return f"Question {number}: is item {number} in stock, and if it is, where would I find it in the large hall?"


async def _fill_lash(url: str, database: Path) -> None:
    from lash_hookspecs.sessions import AppendSessionNodesRequest, SessionAppendNode

    async with opened(LASH, url, database) as agent:
        session = (await agent.session(NAME)).session
        await session.run(question(0))
        asked, answered = await session.messages()

        def copies(number: int) -> list[Any]:
            made = []
            for message in (asked, answered):
                id = f"{message.id}.{number}"
                parts = tuple(evolve(part, id=f"{part.id}.{number}") for part in message.parts)
                if message is asked:
                    parts = (evolve(parts[0], content=question(number)),)
                made.append(SessionAppendNode(message=evolve(message, id=id, parts=parts)))
            return made

        for start in range(1, TURNS, _BATCH):
            nodes = [each for number in range(start, min(start + _BATCH, TURNS)) for each in copies(number)]
            await session.append(AppendSessionNodesRequest(operation_id=f"fill-{start}", nodes=tuple(nodes)))


async def _fill_raw(contender: str, url: str, database: Path, request: dict[str, Any]) -> None:
    async with opened(contender, url, database, request) as agent:
        session = await agent.session(NAME)
        await session.run(question(0))
        *_, asked, answered = session.messages
        store = agent.agent._database
        for number in range(1, TURNS):
            turn = [{**asked, "content": question(number)}, answered]
            # Not FULL commits: nobody measures this.
            store._db.execute("PRAGMA synchronous = OFF")
            await store.commit(NAME, number, turn, {"prompt_tokens": 1, "completion_tokens": 1})


def fill(contender: str, url: str, database: Path, request: dict[str, Any] | None) -> None:
    """Make the session."""
    if contender == LASH:
        asyncio.run(_fill_lash(url, database))
    else:
        assert request is not None
        asyncio.run(_fill_raw(contender, url, database, request))


if __name__ == "__main__":
    chosen, address, path, *more = sys.argv[1:]
    fill(chosen, address, Path(path), loaded(*more))
