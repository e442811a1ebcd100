"""A new process that goes on with a session of 5,000 turns: `python bench/cold.py CONTENDER URL DATABASE [REQUEST]`.

Prints the seconds from its first line to the committed turn, and of these from the end of the imports.
"""

import time

STARTED = time.perf_counter()

import asyncio  # noqa: E402 - the clock runs already
import json  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from contenders import loaded, opened  # noqa: E402


async def main(contender: str, url: str, database: str, request: str | None = None) -> None:
    """One turn."""
    told = loaded(request)
    async with opened(contender, url, Path(database), told) as agent:
        entered = time.perf_counter()
        session = await agent.session("long")
        await session.run("And now?")
        done = time.perf_counter()
    print(json.dumps({"wall": done - STARTED, "opened": entered - STARTED, "turn": done - entered}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
