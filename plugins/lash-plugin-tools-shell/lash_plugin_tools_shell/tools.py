"""The tools: `shell` for a command that ends, and six for commands that go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import anyio
from attrs import evolve

from lash_hookspecs.constraints import Ge, Gt, Le, MinLen
from lash_hookspecs.toolkit import FunctionTool
from lash_hookspecs.tools import Tool, ToolCallContext, ToolError, ToolFailureClass
from lash_plugin_tools_shell.commands import SIGNALS, Command, Place
from lash_plugin_tools_shell.lost import Lost, commands_told_of, notice
from lash_plugin_tools_shell.options import ShellOptions
from lash_plugin_tools_shell.output import readable
from lash_plugin_tools_shell.registry import Commands
from lash_plugin_tools_shell.reports import ending, report

__all__ = ["Shell", "shell_tools"]

SHOW_EVERY_S = 0.25
"""How often whoever watches is shown what is new."""

_SHOWN = 4096
_QUIET_S = 0.15

Text = Annotated[str, MinLen(1)]
Seconds = Annotated[float, Gt(0), Le(86_400)]
Waits = Annotated[float, Ge(0), Le(60)]


def shell_tools(options: ShellOptions) -> Sequence[Tool]:
    """The tools for these options. Raises `ConfigurationError` for what isn't there: a root, a shell, the sandbox."""
    place = Place(options)
    shell = Shell(place)
    one: dict[str, Any] = {"keeps": "tail", "max_concurrency": options.max_running}
    made = [FunctionTool(shell.shell, effect="unsafe", **one)]
    if options.background:
        made += [
            FunctionTool(shell.shell_start, effect="unsafe", keeps="tail"),
            FunctionTool(shell.shell_read, effect="pure", keeps="tail"),
            FunctionTool(shell.shell_write, effect="unsafe", keeps="tail"),
            FunctionTool(shell.shell_signal, effect="unsafe"),
            FunctionTool(shell.shell_stop, effect="idempotent", keeps="tail"),
            FunctionTool(shell.shell_list, effect="pure"),
        ]
    if place.sandbox is not None:
        for each in made:
            if each.manifest.name in ("shell", "shell_start"):
                text = f"{each.manifest.description}\n\n{place.sandbox.told}"
                each.manifest = evolve(each.manifest, description=text)
    return made


class Shell:
    """The functions behind the tools."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._options = place.options

    async def shell(self, ctx: ToolCallContext, command: Text, cwd: str = ".", timeout_s: Seconds | None = None) -> str:
        """Run a command in a shell, and wait for it to end.

        The first line of the result is its exit code, the rest is what it printed, of long outputs the end. It has no
        terminal and no input, and what it leaves in the background is stopped; use `shell_start` for what is to go on.

        Args:
            command: As typed in a shell; may have several lines.
            cwd: The folder to start in, within the project.
            timeout_s: After how many seconds it is stopped.
        """
        limit = min(timeout_s or self._options.timeout_s, self._options.max_timeout_s)
        made = Command(self._place, command, pty=False)
        await made.start(cwd, limit)
        async with anyio.create_task_group() as group:
            group.start_soon(_show, ctx, made)
            await made.run()
            group.cancel_scope.cancel()
        return await self._noticed(ctx, report(made, self._options, limit))

    async def shell_start(self, ctx: ToolCallContext, command: Text, cwd: str = ".", wait_s: Waits = 1.0) -> str:
        """Start a command that goes on, such as a server, a watcher or a program that asks, and don't wait for it.

        It has a terminal. The result begins with its id, for `shell_read`, `shell_write`, `shell_signal` and
        `shell_stop`.

        Args:
            command: As typed in a shell.
            cwd: The folder to start in, within the project.
            wait_s: For how many seconds to wait for its first output.
        """
        id, made = await self._commands(ctx).start(ctx.session_id, self._place, command, cwd)
        await _settle(made, 0, wait_s)
        return await self._noticed(ctx, _told(id, made, 0))

    async def shell_read(
        self, ctx: ToolCallContext, id: Text, after: Annotated[int, Ge(0)] = 0, wait_s: Waits = 0.0
    ) -> str:
        """Read what a command that was started has printed, and whether it still runs.

        Args:
            id: Of the command.
            after: Only what came after so many bytes of output; the first line of each result says where to go on.
            wait_s: For how many seconds to wait for more output, or its end.
        """
        made = await self._command(ctx, id)
        await _settle(made, after, wait_s)
        return _told(id, made, after)

    async def shell_write(self, ctx: ToolCallContext, id: Text, text: str, wait_s: Waits = 1.0) -> str:
        r"""Type text on the terminal of a command that was started, and read what it answers.

        Args:
            id: Of the command.
            text: What to type; end a line with `\n`. `\u0003` is Ctrl-C, `\u0004` is Ctrl-D.
            wait_s: For how many seconds to wait for an answer.
        """
        made = await self._command(ctx, id)
        before = made.tail.total
        await made.write(text.encode())
        await _settle(made, before, wait_s)
        return _told(id, made, before)

    async def shell_signal(
        self,
        ctx: ToolCallContext,
        id: Text,
        signal: Literal["INT", "TERM", "KILL", "HUP", "QUIT", "USR1", "USR2", "STOP", "CONT", "WINCH"],
    ) -> str:
        """Send a signal to a command that was started, and to the processes of its group.

        Args:
            id: Of the command.
            signal: Its name.
        """
        made = await self._command(ctx, id)
        if made.ended.is_set():
            return f"{id}: {ending(made)}; nothing was sent"
        made.signal(SIGNALS[signal])
        return f"{id}: sent {signal}"

    async def shell_stop(self, ctx: ToolCallContext, id: Text) -> str:
        """Stop a command that was started, with all that it has started itself.

        Args:
            id: Of the command.
        """
        made = await self._command(ctx, id)
        before = made.tail.total
        made.stop("stopped")
        await made.ended.wait()
        return _told(id, made, before)

    async def shell_list(self, ctx: ToolCallContext) -> str:
        """List the commands that were started in this session, and which of them still run."""
        rows = [
            f"{id}: {ending(made)}; {made.tail.total} bytes of output; {made.command.splitlines()[0][:200]}"
            for id, made in self._commands(ctx).of(ctx.session_id).items()
        ]
        return await self._noticed(ctx, "\n".join(rows) or "(no commands)", again=True)

    async def _command(self, ctx: ToolCallContext, id: str) -> Command:
        """The command. Raises `ToolError`; for one of another process, with what the model was told of it."""
        try:
            return self._commands(ctx).get(ctx.session_id, id)
        except ToolError:
            lost = (await self._lost(ctx)).get(id)
            if lost is None:
                raise
            ran = "ended with the process of lash that had started it" if lost.ran else f"has ended ({lost.how})"
            raise ToolError(
                f"a command {ran}, and can't be reached any more: {lost}",
                code="command_lost",
                failure_class=ToolFailureClass.UNAVAILABLE,
            ) from None

    async def _noticed(self, ctx: ToolCallContext, text: str, *, again: bool = False) -> str:
        """The text, and which commands died with another process, where the model wasn't told yet."""
        commands = self._commands(ctx)
        if ctx.session_id in commands.looked and not again:
            return text
        said = notice((await self._lost(ctx)).values(), again=again)
        commands.looked.add(ctx.session_id)
        return f"{text}{said}"

    async def _lost(self, ctx: ToolCallContext) -> dict[str, Lost]:
        """The commands that the conversation tells of, and that aren't this process's."""
        if ctx.services is None or not self._options.background:
            return {}
        mine = self._commands(ctx).made
        told = commands_told_of((await ctx.sessions.snapshot_current()).messages)
        return {id: each for id, each in told.items() if id not in mine}

    @staticmethod
    def _commands(ctx: ToolCallContext) -> Commands:
        assert isinstance(ctx.host, Commands)  # what the plugin's lifespan yields
        return ctx.host


async def _show(ctx: ToolCallContext, made: Command) -> None:
    """Show what is new to whoever watches, now and then, until this is cancelled."""
    shown = 0
    while ctx.show is not None:
        changed = made.changed
        if made.tail.total == shown:
            await changed.wait()
        data, _ = made.tail.after(max(shown, made.tail.total - _SHOWN))
        shown = made.tail.total
        await ctx.show("output", {"text": readable(data)})
        await anyio.sleep(SHOW_EVERY_S)


async def _settle(made: Command, seen: int, wait_s: float) -> None:
    """Wait until it has ended, or has printed something and then nothing for a moment; at most so long."""
    with anyio.move_on_after(wait_s):
        while not made.ended.is_set():
            changed = made.changed
            if made.tail.total > seen:
                with anyio.move_on_after(_QUIET_S) as quiet:
                    await changed.wait()
                if quiet.cancelled_caught:
                    return
            else:
                async with anyio.create_task_group() as group:
                    group.start_soon(_first_of, changed, group)
                    group.start_soon(_first_of, made.ended, group)


async def _first_of(event: anyio.Event, group: Any) -> None:
    await event.wait()
    group.cancel_scope.cancel()


def _told(id: str, made: Command, after: int) -> str:
    data, begins = made.tail.after(after)
    end = begins + len(data)
    first = f"{id}: {ending(made)}; output from byte {begins} to {end}"
    if begins > after:
        first += f" ({begins - after:,} bytes before it are no longer kept)"
    if not made.ended.is_set():
        first += f"; read on with after={end}"
    text = readable(data).rstrip("\n")
    return f"{first}\n{text}" if text else first
