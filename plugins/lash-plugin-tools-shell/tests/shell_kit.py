"""The tools by name, in a folder of their own; and a look at what a command has left."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from attrs import define, evolve, field

from lash_hookspecs import ToolCallContext, ToolError
from lash_plugin_tools_shell.options import ShellOptions
from lash_plugin_tools_shell.registry import Commands, open_commands
from lash_plugin_tools_shell.tools import shell_tools

CTX = ToolCallContext(session_id="s", turn_id="t", call_id="c", tool_name="x", plugin_id="p", idempotency_key="k")


@define
class ShellInTest:
    """`root` is where commands start; `shown` is what whoever watches has seen."""

    root: Path
    mark: str
    tools: dict[str, Any]
    commands: Commands
    shown: list[Any] = field(factory=list)
    session_id: str = "s"

    async def call(self, name: str, **args: Any) -> str:
        async def show(name: str, payload: Any = None) -> None:
            self.shown.append((name, payload))

        ctx = evolve(CTX, host=self.commands, show=show, session_id=self.session_id)
        said = await self.tools[name].call(ctx, args)
        assert isinstance(said, str)
        return said

    async def said(self, name: str, **args: Any) -> str:
        """What the model reads, whether it worked or not; a failure behind its code."""
        try:
            return await self.call(name, **args)
        except ToolError as error:
            return f"{error.code}: {error}"

    def alive(self) -> list[int]:
        """The processes that some command of this test has left: they have its mark in their environment."""
        found = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
        return [pid for pid in found if self._is_one(pid)]

    def _is_one(self, pid: int) -> bool:
        try:
            if b") Z " in Path(f"/proc/{pid}/stat").read_bytes():
                return False
            return f"LASH_TEST_MARK={self.mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            return False


@asynccontextmanager
async def open_shell(folder: Path, **options: Any) -> AsyncIterator[ShellInTest]:
    root, mark = folder / "project", os.urandom(8).hex()
    (root / "sub").mkdir(parents=True, exist_ok=True)
    (folder / "outside").mkdir(exist_ok=True)
    given = {
        "roots": (str(root),),
        "sandbox": "none",
        "grace_s": 0.1,
        "max_processes": 40,
        "max_output_bytes": 2_000_000,
        "max_kept_bytes": 10_000,
        "env": {"LASH_TEST_MARK": mark},
        **options,
    }
    made = ShellOptions(**given)
    async with open_commands(made) as commands:
        yield ShellInTest(root, mark, {each.manifest.name: each for each in shell_tools(made)}, commands)
