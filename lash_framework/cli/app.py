"""The command `lash` itself: a table of commands, each loaded when it is called.

`lash --help` is drawn from the table, so it imports click and nothing else, unless a plugin adds commands.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from lash_framework.cli.commands import COMMANDS
from lash_framework.cli.exits import ReaderLeft, State, settle
from lash_framework.cli.streams import forgiving_stderr

__all__ = ["COMMANDS", "LazyGroup", "cli", "run"]


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
            from lash_framework.cli.plugin_commands import find_command
            from lash_hookspecs.errors import nearest

            command, others = find_command(name)
            if command is not None:
                return name, command, args[1:]
            raise click.UsageError(
                f"unknown command `{name}`: {nearest(name, [*self.list_commands(ctx), *others])}", ctx
            )
        return super().resolve_command(ctx, args)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """As click does it, where `--help` and `--version` write."""
        with _without_readers():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """As click does it, where commands write."""
        with _without_readers():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """From the table, without importing anything; and what plugins add, if one may."""
        rows = [(name, line) for name, (_, _, line) in self.lazy.items()]
        rows += [(name, command.get_short_help_str()) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
        from lash_framework.cli.plugin_commands import command_lines

        lines, fault = command_lines()
        if lines:
            with formatter.section("Commands of plugins"):
                formatter.write_dl(lines)
        if fault is not None:
            formatter.write_paragraph()
            formatter.write_text(f"Commands of plugins aren't shown: {fault}")


@contextmanager
def _without_readers() -> Iterator[None]:
    """A reader that left is no failure: click would exit with 1."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise ReaderLeft from error
        raise


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
    with forgiving_stderr():
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
