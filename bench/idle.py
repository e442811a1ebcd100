"""What each behaviour plugin adds to a turn in which it has nothing to do. At most 2 ms are asked for.

Run: `python bench/idle.py` (half a minute). CPU time, least of 60 turns each, of sessions that take turns; the store is
in memory, so a write that a disk syncs is not in it: `tests/test_idle_plugins.py` counts these.
"""

from __future__ import annotations

import gc
import time
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from lash_framework.testing import open_host

PLUGINS = (
    "approval",
    "history-rolling",
    "memory",
    "plan",
    "tool-budget",
    "tools-files",
    "tools-mcp",
    "tools-shell",
    "tools-web",
)
ROOTED = ("tools-files", "tools-shell")
TURNS = 60


async def measure(folder: Path) -> None:
    found: dict[str, list[float]] = {}
    async with AsyncExitStack() as stack:
        sessions = {}
        for name in ("", *PLUGINS):
            plugins = [name] if name else []
            toml = f"[modes.idle]\nextends = 'standard'\nplugins = {plugins}\n"
            toml += f"[plugin.{name}]\nroots = ['{folder}']\n" if name in ROOTED else ""
            opened = open_host(*plugins, says=lambda _: "ok", toml=toml, folder=folder, mode="idle")
            sessions[name] = await (await stack.enter_async_context(opened)).lash.session("s")
            await sessions[name].run("warm")
        for _ in range(TURNS):
            for name, session in sessions.items():
                gc.collect()
                began = time.process_time()
                await session.run("go")
                found.setdefault(name, []).append((time.process_time() - began) * 1000)
    base = min(found[""])
    print(f"a turn without any of them: {base:.2f} ms CPU\n\n| plugin | more, ms | asked |\n| --- | --- | --- |")
    for name in PLUGINS:
        print(f"| {name} | {min(found[name]) - base:.2f} | ≤ 2 |")


def main() -> None:
    with TemporaryDirectory() as folder:
        anyio.run(measure, Path(folder))


if __name__ == "__main__":
    main()
