"""MCP servers that others wrote, installed from their registries, as processes of their own (`.ci/peers.py`)."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import mcp_kit
import pytest

from lash_framework.testing import ToolUse, call, open_host
from lash_hookspecs import ToolCallSuccess, TurnSuspended

SERVERS = Path(os.environ.get("LASH_MCP_SERVERS", "nowhere"))
PYTHON, NODE = SERVERS / "bin", SERVERS / "node" / "node_modules" / ".bin"

# They come out the same on every Python, and start for seconds. On trio, httpx2 leaves generators behind.
pytestmark = [
    pytest.mark.costly,
    pytest.mark.filterwarnings(r"ignore:Async generator 'http(x|core)2\.:ResourceWarning"),
]


def needs(folder: Path, *names: str) -> list[str]:
    """The commands, or the test is skipped by the name of what isn't there."""
    for name in names:
        if not (folder / name).exists():
            pytest.skip(
                f"`{name}` isn't installed: `python .ci/peers.py FOLDER`, and LASH_MCP_SERVERS=FOLDER/mcp-servers"
            )
    return [str(folder / name) for name in names]


def server(name: str, command: Sequence[str], **options: Any) -> str:
    return mcp_kit.server(name, command=command[0], args=list(command[1:]), wait_s=60.0, **options)


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
    toml = server("all", [everything], resources=True, prompts=True, roots=[str(tmp_path)])
    calls = [
        call("mcp__all__echo", message="hello"),
        call("mcp__all__get-sum", a=2, b=3),
        call("mcp__all__get-tiny-image"),
        call("mcp__all__trigger-long-running-operation", duration=0.6, steps=3),
        call("mcp__all__get-structured-content", location="New York"),
        call("mcp__all__get-roots-list"),
        call("mcp__all__list_resources"),
        call("mcp__all__list_prompts"),
        call("mcp__all__get_prompt", name="args-prompt", arguments={"city": "Graz"}),
    ]
    outcomes, tools, told = await values(toml, calls, tmp_path)
    echo, total, image, long, weather, roots, resources, prompts, prompt = outcomes
    assert value(echo) == "Echo: hello"
    assert "5" in value(total)
    assert [each.media_type for each in image.attachments] == ["image/png"]
    assert "completed" in value(long)
    assert told
    assert value(weather)["temperature"]
    assert tmp_path.name in value(roots)
    assert value(resources)
    assert "mcp__all__read_resource" in tools
    listed = {each["name"]: [one["name"] for one in each["arguments"]] for each in value(prompts)}
    assert listed["args-prompt"][0] == "city"
    assert "Graz" in value(prompt)


async def test_the_servers_for_files_and_for_memory(tmp_path: Path) -> None:
    files, memory = needs(NODE, "mcp-server-filesystem", "mcp-server-memory")
    (tmp_path / "note.txt").write_text("a note", encoding="utf-8")
    toml = server("files", [files, str(tmp_path)])
    toml += server("memory", [memory], env={"MEMORY_FILE_PATH": str(tmp_path / "graph.json")})
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


async def test_the_server_with_everything_as_a_service(tmp_path: Path, free_tcp_port: int) -> None:
    (everything,) = needs(NODE, "mcp-server-everything")
    env = {**os.environ, "PORT": str(free_tcp_port)}
    toml = mcp_kit.server("all", url=f"http://127.0.0.1:{free_tcp_port}/mcp", wait_s=60.0)
    calls = [
        call("mcp__all__echo", message="hello"),
        call("mcp__all__trigger-long-running-operation", duration=0.6, steps=3),
        call("mcp__all__get-tiny-image"),
    ]
    async with await anyio.open_process([everything, "streamableHttp"], env=env, stdout=None, stderr=None) as process:
        with anyio.fail_after(60):
            while not await listens(free_tcp_port):  # noqa: ASYNC110  # no event tells of it
                await anyio.sleep(0.05)
        (echo, long, image), _, told = await values(toml, calls, tmp_path)
        process.terminate()
    assert value(echo) == "Echo: hello"
    assert "completed" in value(long)
    assert told
    assert len(image.attachments) == 1


async def listens(port: int) -> bool:
    try:
        async with await anyio.connect_tcp("127.0.0.1", port):
            return True
    except OSError:
        return False


async def test_a_server_of_the_sdk_on_the_newest_protocol_learns_and_asks(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("mcp_newest.py"))]
    toml = server("n", command, elicitation="ask")
    says = [call("mcp__n__grow"), "grown", call("mcp__n__extra"), "called", call("mcp__n__order"), "ordered"]
    async with open_host("tools-mcp", says=says, toml=toml, folder=tmp_path) as host:
        grown, learned = await host.run("go"), await host.run("go")
        with pytest.raises(TurnSuspended) as suspended:
            await host.run("go")
        await host.lash.resolve(suspended.value.keys[0], result={"size": "XL"})
        (recovered,) = await (await host.lash.session("test", recover=False)).recover()
    said = [value(turn.tool_calls[0].output.outcome) for turn in (grown, learned, recovered.turn)]
    assert said == [{"result": each} for each in ("grown", "called extra", "ordered in XL")]
