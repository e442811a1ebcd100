"""The command `lash` itself: a table of commands, each loaded when it is called.

`lash --help` is drawn from the table, so it imports click and nothing else.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from lash_framework.cli.exits import ReaderLeft, State, settle

__all__ = ["COMMANDS", "LazyGroup", "cli", "run"]

# name -> (module, object, one line of help)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "run": ("lash_framework.cli.run", "run", "Run one turn and print the answer."),
    "chat": ("lash_framework.cli.chat", "chat", "Talk with a model, line by line."),
    "resume": ("lash_framework.cli.resume", "resume", "Go on with interrupted turns."),
    "cancel": ("lash_framework.cli.resume", "cancel", "Cancel a session's turn, whichever process runs it."),
    "pending": ("lash_framework.cli.pending", "pending", "Calls that wait for somebody: list, resolve."),
    "sessions": ("lash_framework.cli.sessions", "sessions", "List, show, export, compact and delete sessions."),
    "plugins": (
        "lash_framework.cli.plugins",
        "plugins",
        "Which plugins are loaded, and why; write one, or suspect one.",
    ),
    "modes": ("lash_framework.cli.modes", "modes", "Modes, and who added each of their pieces."),
    "explain": ("lash_framework.cli.explain", "explain", "Which plugin put each part of a turn before the model."),
    "replay": ("lash_framework.cli.replay", "replay", "Replay a turn from its journal; nothing is executed."),
    "upgrade-check": (
        "lash_framework.cli.replay",
        "upgrade_check",
        "Whether unfinished turns would go on with this set.",
    ),
    "doctor": ("lash_framework.cli.doctor", "doctor", "What is wrong with this installation."),
    "demo": ("lash_framework.cli.demo", "demo", "A real turn, offline, killed halfway and gone on with."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported at their first use. `lazy` maps names to module, object and help line."""

    def __init__(self, *args: Any, lazy: dict[str, tuple[str, str, str]] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table: the first things first."""
        return [*self.lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command that is called."""
        if cmd_name in self.lazy:
            module, name, _ = self.lazy[cmd_name]
            command: click.Command = getattr(import_module(module), name)
            return command
        return super().get_command(ctx, cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, with the nearest right name for a wrong one."""
        name = args[0]
        if not name.startswith("-") and name not in self.list_commands(ctx):
            from lash_hookspecs.errors import nearest

            raise click.UsageError(f"unknown command `{name}`: {nearest(name, self.list_commands(ctx))}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """As click does it, but a reader that left is no failure (click would exit with 1)."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise ReaderLeft from error
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table, without importing anything."""
        rows = [(name, line) for name, (_, _, line) in self.lazy.items()]
        rows += [(name, command.get_short_help_str()) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import PackageNotFoundError, version

        try:
            number = version("lash-framework")
        except PackageNotFoundError:
            number = "(not installed: run from a checkout)"
        click.echo(f"lash {number} on Python {sys.version.split()[0]}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    lazy=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Settings: lash.toml, LASH_… variables, --set; every command takes --store, --model, --mode, --session, "
    "--config.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)
@click.option("-v", "--verbose", count=True, help="Log what happens (-vv: everything, with tracebacks).")
@click.pass_obj
def cli(state: State, verbose: int) -> None:
    """A durable runtime for LLM agents, made of plugins.

    Start with `lash demo`, then `lash run --model openai-chat:NAME "your question"`.
    """
    state.verbosity += verbose


def run(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; no exception leaves, and no code but those of `ExitCode`."""
    state = State()
    _open_standard_files()
    for stream in (sys.stdout, sys.stderr):
        # A terminal or pipe that can't show a character must not end a turn that was paid for.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        args = None if argv is None else list(argv)
        code = cli.main(args=args, prog_name="lash", standalone_mode=False, obj=state)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except BaseException as error:
        return settle(error, state)


def _open_standard_files() -> None:
    """Where the shell closed standard files (`>&-`), put /dev/null: no database must become file number 1."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  # lives as long as we
