"""One contender in a process of its own: `python bench/worker.py CONTENDER FIGURE URL DATABASE [REQUEST]`.

Each line on stdin asks for a sample; each line on stdout is one: `{"wall": …, "cpu": …}` in seconds per unit of the
figure. A number instead of nothing in the line asks for so many samples at once, for profiling.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
from contenders import LASH, loaded, opened
from server import DELTA, LONG, SHORT

Sample = Callable[[], Awaitable[float]]
"""Does the work once; returns for how many units it stands."""

ANSWER = (DELTA * SHORT).rstrip()
TURNS, TOOL_TURNS, LONG_TURNS, SESSIONS, SESSION_TURNS, HISTORY_TURNS = 20, 5, 3, 200, 5, 5


class Figures:
    """The figures' samples, for one opened contender."""

    def __init__(self, agent: Any) -> None:
        self._agent = agent
        self._count = 0

    def _name(self) -> str:
        self._count += 1
        return f"session-{time.time_ns()}-{self._count}"

    async def turn(self) -> float:
        """Turns of a new session, one after the other."""
        return await self._turns(TURNS)

    async def rounds(self) -> float:
        """The same with four tool rounds each."""
        return await self._turns(TOOL_TURNS)

    async def _turns(self, count: int) -> float:
        session = await self._agent.session(self._name())
        for number in range(count):
            answer = await session.run(f"Question {number}: what is in stock?")
            assert answer.rstrip() == ANSWER, answer
        return count

    async def concurrent(self) -> float:
        """Many sessions at once."""

        async def one(name: str) -> None:
            session = await self._agent.session(name)
            for number in range(SESSION_TURNS):
                answer = await session.run(f"Question {number}: what is in stock?")
                assert answer.rstrip() == ANSWER, answer

        names = [self._name() for _ in range(SESSIONS)]
        await asyncio.gather(*map(one, names))
        return SESSIONS * SESSION_TURNS

    async def stream(self) -> float:
        """Long answers, watched delta by delta."""
        session = await self._agent.session(self._name())
        for _ in range(LONG_TURNS):
            seen: list[str] = []
            await session.stream("Tell me everything.", seen.append)
            assert "".join(seen) == DELTA * LONG
        return LONG_TURNS * LONG

    async def history(self) -> float:
        """The next turns of the session `long`, which has 5,000."""
        session = await self._agent.session("long")
        if not hasattr(self, "_kept"):
            self._kept = session
        for number in range(HISTORY_TURNS):
            answer = await self._kept.run(f"Question {number}: what is in stock?")
            assert answer.rstrip() == ANSWER, answer
        return HISTORY_TURNS


async def main(contender: str, figure: str, url: str, database: str, request: str | None = None) -> None:
    """Serve samples."""
    told = loaded(request)
    async with opened(contender, url, Path(database), told, threaded=figure == "concurrent") as agent:
        sample: Sample = getattr(Figures(agent), figure)
        await sample()  # connections, caches
        if figure == "turn" and contender == LASH:
            await sample()
        print("ready", flush=True)
        for line in sys.stdin:
            for _ in range(int(line.strip() or 1)):
                gc.collect()
                wall, cpu = time.perf_counter(), time.process_time()
                units = await sample()
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                print(orjson.dumps({"wall": wall / units, "cpu": cpu / units}).decode(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
