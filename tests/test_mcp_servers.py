"""MCP servers that others wrote, installed from their registries, as processes of their own (`.ci/mcp_servers.py`)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from lash_framework.testing import ToolUse, call, open_host
from lash_hookspecs import ToolCallSuccess

SERVERS = Path(os.environ.get("LASH_MCP_SERVERS", "nowhere"))
PYTHON, NODE = SERVERS / "bin", SERVERS / "node" / "node_modules" / ".bin"

# They come out the same on every Python, and start for seconds.
pytestmark = pytest.mark.costly


def needs(folder: Path, *names: str) -> list[str]:
    """The commands, or the test is skipped by the name of what isn't there."""
    for name in names:
        if not (folder / name).exists():
            pytest.skip(f"`{name}` isn't installed: `python .ci/mcp_servers.py FOLDER`, and LASH_MCP_SERVERS=FOLDER")
    return [str(folder / name) for name in names]


def server(name: str, command: Sequence[str], **options: Any) -> str:
    said = {"command": command[0], "args": list(command[1:]), "wait_s": 60.0, **options}
    rows = "".join(f"{key} = {json.dumps(value)}\n" for key, value in said.items())
    return f"[plugin.tools-mcp.servers.{name}]\n{rows}"


async def values(toml: str, calls: Sequence[ToolUse], folder: Path) -> tuple[list[Any], list[str], list[Any]]:
    """What calls of one turn return, the tools that there are, and the progress that was told."""
    async with open_host("tools-mcp", says=[list(calls), "done"], toml=toml, folder=folder) as host:
        turn = await host.run("go")
        state = await (await host.lash.session("test")).tools()
        assert state.absent == {}
        assert turn.is_success
        outcomes = [each.output.outcome for each in turn.tool_calls]
        told = [each.text for each in host.events("tool_call_progress")]
    return outcomes, list(state.tools), told


def value(outcome: Any) -> Any:
    assert isinstance(outcome, ToolCallSuccess), outcome
    return outcome.value


async def test_the_servers_for_time_and_git(tmp_path: Path) -> None:
    needs(PYTHON, "mcp-server-time", "mcp-server-git")
    python = str(PYTHON / "python")  # their scripts know the folder only that they were made in
    repository = tmp_path / "repository"
    await anyio.run_process(["git", "init", "-q", str(repository)])
    toml = server("time", [python, "-m", "mcp_server_time"])
    toml += server("git", [python, "-m", "mcp_server_git", "--repository", str(repository)])
    calls = [
        call("mcp__time__convert_time", source_timezone="UTC", time="12:00", target_timezone="Asia/Tokyo"),
        call("mcp__time__convert_time", source_timezone="Nowhere/At_All", time="12:00", target_timezone="UTC"),
        call("mcp__git__git_status", repo_path=str(repository)),
        call("mcp__git__git_status", repo_path="/"),
    ]
    (converted, failed, status, refused), tools, _ = await values(toml, calls, tmp_path)
    assert {"mcp__time__get_current_time", "mcp__git__git_log"} <= set(tools)
    assert "21:00" in json.dumps(value(converted))
    assert (failed.code, bool(re.search("Nowhere", failed.message))) == ("mcp_tool_error", True)
    assert "branch" in json.dumps(value(status))
    assert refused.tag == "failure"


async def test_the_server_with_everything(tmp_path: Path) -> None:
    (everything,) = needs(NODE, "mcp-server-everything")
    toml = server("all", [everything], resources=True, roots=[str(tmp_path)])
    calls = [
        call("mcp__all__echo", message="hello"),
        call("mcp__all__get-sum", a=2, b=3),
        call("mcp__all__get-tiny-image"),
        call("mcp__all__trigger-long-running-operation", duration=0.6, steps=3),
        call("mcp__all__get-structured-content", location="New York"),
        call("mcp__all__get-roots-list"),
        call("mcp__all__list_resources"),
    ]
    outcomes, tools, told = await values(toml, calls, tmp_path)
    echo, total, image, long, weather, roots, resources = outcomes
    assert value(echo) == "Echo: hello"
    assert "5" in value(total)
    assert [each.media_type for each in image.attachments] == ["image/png"]
    assert "completed" in value(long)
    assert told
    assert value(weather)["temperature"]
    assert tmp_path.name in value(roots)
    assert value(resources)
    assert "mcp__all__read_resource" in tools


async def test_the_servers_for_files_and_for_memory(tmp_path: Path) -> None:
    files, memory = needs(NODE, "mcp-server-filesystem", "mcp-server-memory")
    (tmp_path / "note.txt").write_text("a note", encoding="utf-8")
    graph = '[plugin.tools-mcp.servers.memory.env]\nMEMORY_FILE_PATH = "' + str(tmp_path / "graph.json") + '"\n'
    toml = server("files", [files, str(tmp_path)]) + server("memory", [memory]) + graph
    ada = {"name": "Ada", "entityType": "person", "observations": ["wrote the first program"]}
    calls = [
        call("mcp__files__read_text_file", path=str(tmp_path / "note.txt")),
        call("mcp__files__read_text_file", path="/etc/passwd"),
        call("mcp__memory__create_entities", entities=[ada]),
    ]
    (note, outside, created), _, _ = await values(toml, calls, tmp_path)
    assert "a note" in json.dumps(value(note))
    assert (outside.tag, bool(re.search("denied", outside.message))) == ("failure", True)
    assert "Ada" in json.dumps(value(created))
    assert "Ada" in (tmp_path / "graph.json").read_text(encoding="utf-8")
