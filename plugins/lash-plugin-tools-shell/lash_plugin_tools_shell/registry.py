"""The commands of a host that go on: each belongs to a session, and ends with the host at the latest."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup

from lash_hookspecs.tools import ToolError, ToolFailureClass
from lash_plugin_tools_shell.commands import Command, Place
from lash_plugin_tools_shell.options import ShellOptions

__all__ = ["Commands", "open_commands"]

_KEPT = 64
"""How many are kept that have ended, to be read."""


class Commands:
    """What runs, and what ran, by session and id. An id is never used again, also not by another process."""

    def __init__(self, group: TaskGroup, options: ShellOptions) -> None:
        self._group = group
        self._most = options.max_running
        self._known: dict[tuple[str, str], Command] = {}
        self.made: set[str] = set()
        """The ids of all that were started here, of those too that aren't kept any more."""
        self.looked: set[str] = set()
        """Sessions whose model was told what other processes had started."""

    async def start(self, session_id: str, place: Place, command: str, folder: str) -> tuple[str, Command]:
        """Start a command that goes on, with a terminal. Raises `ToolError`."""
        running = sum(not each.ended.is_set() for each in self._known.values())
        if running >= self._most:
            raise ToolError(
                f"{running} commands run already (`plugin.tools-shell.max_running`): stop one with `shell_stop`",
                code="too_many_commands",
                failure_class=ToolFailureClass.RESOURCE_LIMIT,
            )
        made = Command(place, command, pty=True)
        id = f"sh-{os.urandom(4).hex()}"
        await made.start(folder, None)
        self._known[session_id, id] = made
        self.made.add(id)
        self._group.start_soon(made.run)
        over = [each for each, known in self._known.items() if known.ended.is_set()]
        for each in over[: max(0, len(over) - _KEPT)]:
            del self._known[each]
        return id, made

    def get(self, session_id: str, id: str) -> Command:
        """A session's command. Raises `ToolError` if it has none of that id."""
        made = self._known.get((session_id, id))
        if made is None:
            mine = ", ".join(f"`{each}`" for each in self.of(session_id)) or "none"
            raise ToolError(
                f"there is no command `{id}` in this session (there are: {mine})",
                code="no_such_command",
                failure_class=ToolFailureClass.INVALID_REQUEST,
            )
        return made

    def of(self, session_id: str) -> dict[str, Command]:
        """A session's commands, in the order in which they were started."""
        return {id: made for (session, id), made in self._known.items() if session == session_id}


@asynccontextmanager
async def open_commands(options: ShellOptions) -> AsyncIterator[Commands]:
    """A host's commands; leaving it ends them."""
    async with anyio.create_task_group() as group:
        yield Commands(group, options)
        group.cancel_scope.cancel()
