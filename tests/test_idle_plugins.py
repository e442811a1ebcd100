"""What the behaviour plugins cost a turn in which they have nothing to do: at most one write more, and no effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from meter_kit import Meter, metered_store

from lash_framework.testing import open_host

IDLE = {
    "approval": "",
    "history-rolling": "",
    "memory": "",
    "plan": "",
    "tool-budget": "",
    "tools-files": "[plugin.tools-files]\nroots = ['{folder}']\n",
    "tools-mcp": "",
    "tools-shell": "[plugin.tools-shell]\nroots = ['{folder}']\n",
    "tools-web": "",
}


async def cost(folder: Path, plugin_ids: tuple[str, ...], toml: str) -> tuple[Any, list[str]]:
    """The statements of an idle turn, with the number of their rows, and what is told of it."""
    meter = Meter()
    mode = f"[modes.idle]\nextends = 'standard'\nplugins = {list(plugin_ids)}\n"
    given: dict[str, Any] = {"toml": mode + toml, "mode": "idle", "folder": folder, "store": "metered://"}
    async with open_host(*plugin_ids, metered_store(meter), says=["Hello.", "Hello."], **given) as host:
        await host.run("Hello.", turn_id="first")
        before = len(host.activities)
        meter.reading()
        await host.run("Hello.", turn_id="other")
        return meter.reading()[0], [type(each.event).__name__ for each in host.activities[before:]]


WRITES = {"memory": 1, "plan": 1}
"""They have hooks in a turn's start or end: what was recorded is durable before a plugin may take its time."""


@pytest.mark.parametrize("plugin_id", IDLE)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # counts are the same on every event loop
async def test_an_idle_plugin_adds_no_effect_and_at_most_one_write(plugin_id: str, tmp_path: Path) -> None:
    without, told = await cost(tmp_path, (), "")
    found, told_with = await cost(tmp_path, (plugin_id,), IDLE[plugin_id].format(folder=tmp_path))
    assert told_with == told
    more = {sql: count - without[sql, rows] for (sql, rows), count in found.items() if count > without[sql, rows]}
    assert more.get("COMMIT", 0) == WRITES.get(plugin_id, 0)
    assert bool(more) == (plugin_id in WRITES)
    assert sum(count for sql, count in more.items() if sql.startswith("INSERT")) == WRITES.get(plugin_id, 0)
