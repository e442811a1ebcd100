"""What a call of an MCP server costs through the plugin, over the SDK by hand, and what the plugin costs who has none.

Run: `python bench/mcp_calls.py` (a minute; a script named `mcp.py` would hide the SDK). The server is a process on
stdio that answers at once. Calls through the plugin and by hand take turns, in one process; the least of each kind
counts, since a shared machine only ever adds time. The second table is of whole turns without a call, in CPU time:
without the plugin, with it but no server, and with one connected.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from mcp.client import Client
from mcp.client.stdio import StdioServerParameters

from lash_framework.testing import open_host
from lash_hookspecs import ToolCallContext
from lash_plugin_tools_mcp.connection import Connection
from lash_plugin_tools_mcp.options import ServerOptions

ROUNDS, CALLS, TURNS = 15, 100, 60

TOOLS = 20
SERVER = f"""
import json, sys
tools = [{{"name": f"tool{{n}}", "description": "It does." * 20, "inputSchema": {{"type": "object", "properties":
    {{"a": {{"type": "integer"}}}}}}}} for n in range({TOOLS})]
done = {{"content": [{{"type": "text", "text": "done"}}]}}
for line in sys.stdin:
    m = json.loads(line)
    answers = {{"tools/list": {{"tools": tools}}, "tools/call": done}}
    if m["method"] == "initialize":
        answers["initialize"] = {{"protocolVersion": m["params"]["protocolVersion"], "capabilities": {{"tools": {{}}}},
            "serverInfo": {{"name": "s", "version": "1"}}}}
    if "id" in m:
        unknown = {{"error": {{"code": -32601, "message": ""}}}}
        said = {{"result": answers[m["method"]]}} if m["method"] in answers else unknown
        print(json.dumps({{"jsonrpc": "2.0", "id": m["id"], **said}}), flush=True)
"""


def context() -> ToolCallContext:
    return ToolCallContext(
        session_id="s", turn_id="t", call_id="c", tool_name="tool0", plugin_id="tools-mcp", idempotency_key="k" * 64
    )


async def least(calls: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """Wall and CPU time of one call, in ms, as of the quickest of `CALLS`."""
    walls, began = [], time.process_time()
    for _ in range(CALLS):
        at = time.perf_counter()
        await calls()
        walls.append(time.perf_counter() - at)
    return min(walls) * 1000, (time.process_time() - began) / CALLS * 1000


async def calls(script: Path) -> None:
    options = ServerOptions(command=sys.executable, args=("-S", str(script)), protocol="legacy")
    by_hand = Client(StdioServerParameters(command=sys.executable, args=["-S", str(script)]), mode="legacy")
    samples: dict[str, list[tuple[float, float]]] = {"by hand": [], "plugin": []}
    async with by_hand as client, Connection("s", options).open() as list_tools:
        (tool, *_) = await list_tools()
        await client.list_tools()
        ctx = context()
        ways: dict[str, Callable[[], Awaitable[object]]] = {
            "by hand": lambda: client.call_tool("tool0", {"a": 1}),
            "plugin": lambda: tool.call(ctx, {"a": 1}),  # type: ignore[union-attr]  # it is there by now
        }
        for _ in range(ROUNDS):
            for name, way in ways.items():
                samples[name].append(await least(way))
    best = {name: [min(each[at] for each in found) for at in (0, 1)] for name, found in samples.items()}
    print("| a call | by hand, ms | through the plugin, ms | more, ms | asked |")
    print("| --- | --- | --- | --- | --- |")
    for at, what in enumerate(("wall", "CPU")):
        one, other = best["by hand"][at], best["plugin"][at]
        print(f"| {what} | {one:.3f} | {other:.3f} | {other - one:.3f} | ≤ 1 |")


async def turns(folder: Path, script: Path) -> None:
    toml = f"[plugin.tools-mcp.servers.s]\ncommand = '{sys.executable}'\nargs = ['-S', '{script}']\n"
    kinds: dict[str, tuple[tuple[str, ...], str]] = {
        "without it": ((), ""),
        "no server": (("tools-mcp",), ""),
        f"a server with {TOOLS} tools": (("tools-mcp",), toml),
    }
    found: dict[str, list[float]] = {name: [] for name in kinds}
    async with AsyncExitStack() as stack:
        sessions = {}
        for name, (plugins, text) in kinds.items():
            host = await stack.enter_async_context(open_host(*plugins, says=lambda _: "ok", toml=text, folder=folder))
            sessions[name] = await host.lash.session("s")
            await sessions[name].run("warm")
        for _ in range(TURNS):
            for name, session in sessions.items():
                gc.collect()
                began = time.process_time()
                await session.run("go")
                found[name].append((time.process_time() - began) * 1000)
    base = min(found["without it"])
    print("\n| a turn | CPU, ms | more, ms | asked |\n| --- | --- | --- | --- |")
    for name, each in found.items():
        print(f"| {name} | {min(each):.2f} | {min(each) - base:.2f} | {'' if name == 'without it' else '≤ 2'} |")


async def measure(folder: Path, script: Path) -> None:
    await calls(script)
    await turns(folder, script)


def main() -> None:
    with TemporaryDirectory() as folder:
        script = Path(folder, "server.py")
        script.write_text(SERVER, encoding="utf-8")
        anyio.run(measure, Path(folder), script)


if __name__ == "__main__":
    main()
