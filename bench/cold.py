"""A new process that goes on with a session of 5,000 turns.

Run: `python bench/cold.py CONTENDER URL DATABASE MODULES [REQUEST]`. Prints the seconds that loading the session and
one turn took, once the contender was open. MODULES is a file: if it is there, all modules that it names are imported
before the contender is opened; if it is not, it is written at the end, with what was imported by then.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from contenders import imported, loaded, modules, opened


async def main(contender: str, url: str, database: Path, request: dict[str, Any] | None) -> None:
    """One turn."""
    async with opened(contender, url, database, request) as agent:
        wall, cpu = time.perf_counter(), time.process_time()
        session = await agent.session("long")
        await session.run("And now?")
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(json.dumps({"wall": wall, "cpu": cpu}))


if __name__ == "__main__":
    chosen, address, path, listed, *more = sys.argv[1:]
    known = Path(listed)
    if known.exists():
        imported(chosen, json.loads(known.read_bytes()))
    asyncio.run(main(chosen, address, Path(path), loaded(*more)))
    if not known.exists():
        known.write_text(json.dumps(modules()), encoding="utf-8")
