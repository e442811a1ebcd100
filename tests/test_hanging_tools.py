"""A plain function that never returns: the turn goes on or ends, and the process ends with it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_kit import WAIT_S, Cli

TOOL = '''
import os, signal, threading
from lash_hookspecs import tool

@tool(timeout_s={timeout})
def stuck() -> str:
    """Never returns."""
    if {number}:
        os.kill(os.getpid(), {number})
    threading.Event().wait()
'''
SCRIPT = """
[[reply]]
tool_calls = [{ name = "stuck" }]
[[reply]]
text = "On without it."
"""


def arguments(cli: Cli, *, timeout: float | None = None, number: int = 0) -> list[str]:
    tools = cli.write("stuck.py", TOOL.format(timeout=timeout, number=int(number)))
    return ["run", "go", "--tools", tools, "--model", f"scripted:{cli.write('stuck.toml', SCRIPT)}"]


def test_after_its_timeout_the_process_ends(tmp_path: Path) -> None:
    cli = Cli(tmp_path)
    ended = cli.run(*arguments(cli, timeout=0.1))
    assert ended.code == 0
    assert "On without it." in ended.out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_after_a_signal_the_process_ends(tmp_path: Path, number: int, code: int) -> None:
    """It used to hang until it was killed: anyio's threads are joined when the interpreter exits."""
    cli = Cli(tmp_path)
    ended = cli.run(*arguments(cli, number=number))
    assert ended.code == code


CANCELS = """
import sys, anyio
from lash_framework import Lash
from stuck import stuck

async def main():
    async with Lash.open("sqlite://", model="scripted:stuck.toml", tools=[stuck]) as lash:
        async with (await lash.session()).turn("go") as running:
            async for activity in running:
                if type(activity.event).__name__ == "ToolCallStarted":
                    running.cancel("enough")
            print((await running.result()).outcome)

anyio.run(main, backend=sys.argv[1])
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_after_a_cancel_the_process_ends(tmp_path: Path, backend: str) -> None:
    cli = Cli(tmp_path)
    arguments(cli)
    (tmp_path / "main.py").write_text(CANCELS)
    done = subprocess.run(
        [sys.executable, "-W", "error", "main.py", backend],
        cwd=tmp_path,
        env=cli.env(),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "ancelled" in done.stdout
