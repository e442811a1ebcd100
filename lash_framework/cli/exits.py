"""Exit codes, and how anything that ends a command becomes one of them and a line on stderr."""

from __future__ import annotations

import errno
import os
import signal
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from lash_hookspecs.turn_outcomes import TurnOutcome

__all__ = [
    "ExitCode",
    "Interrupted",
    "OutputFailed",
    "ReaderLeft",
    "State",
    "code_of_error",
    "complain",
    "exit_code_of",
    "leave",
    "settle",
    "told",
]


class ExitCode(IntEnum):
    """What `lash` tells the shell. `docs/reference/cli.md` lists them for people."""

    FINISHED = 0
    STOPPED = 1
    USAGE = 2
    SUSPENDED = 3
    BUG = 70  # EX_SOFTWARE of sysexits.h
    CANCELLED = 130  # 128 + SIGINT
    READER_LEFT = 141  # 128 + SIGPIPE
    TERMINATED = 143  # 128 + SIGTERM


class State:
    """What the error handler must know of the command line: how much it may say."""

    def __init__(self) -> None:
        self.verbosity = 0


class Interrupted(Exception):
    """A signal ended the work without a commit. `again` is what to type to go on with its turn, if that can be."""

    def __init__(self, number: int, again: str | None = None) -> None:
        self.number = number
        self.again = again
        super().__init__(signal.Signals(number).name)

    def __str__(self) -> str:
        how = "terminated" if self.number == signal.SIGTERM else "stopped"
        if self.again is None:
            return f"{how}; nothing of the turn was committed"
        return f"{how}; the turn is interrupted, and `{self.again}` goes on with it"


class ReaderLeft(Exception):
    """Whoever read our output has closed it."""


class OutputFailed(Exception):
    """Standard output can't be written: a full disk below it. The turn was committed."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(f"standard output can't be written: {cause.strerror or cause}; the turn was committed")


_BY_NAME = {
    "TurnCancelled": "cancelled before it began; nothing was asked or stored",
    "TurnInterrupted": "interrupted; nothing of the turn was committed; `lash resume` goes on with what is recorded",
}
_BY_ERROR = {
    "ConfigurationError": ExitCode.USAGE,
    "SessionDeleted": ExitCode.USAGE,
    "StoreUnavailable": ExitCode.USAGE,
    "StoreVersionError": ExitCode.USAGE,
    "TurnCancelled": ExitCode.CANCELLED,
    "TurnInterrupted": ExitCode.CANCELLED,
    "TurnSuspended": ExitCode.SUSPENDED,
}


def told(error: BaseException) -> str:
    """What to say of an error of ours."""
    return _BY_NAME.get(type(error).__name__, str(error))


def complain(message: str) -> None:
    """One message for people, on stderr."""
    from lash_hookspecs.texts import without_controls

    click.echo(f"lash: {without_controls(message)}", err=True)


def exit_code_of(outcome: TurnOutcome) -> ExitCode:
    """A turn's end as an exit code."""
    if outcome.tag != "stopped":
        return ExitCode.FINISHED
    return ExitCode.CANCELLED if getattr(outcome, "reason", None) == "cancelled" else ExitCode.STOPPED


def code_of_error(error: BaseException) -> ExitCode | None:
    """The exit code of an error of ours; None for any other."""
    from lash_hookspecs.errors import LashError

    named = next((_BY_ERROR[each.__name__] for each in type(error).__mro__ if each.__name__ in _BY_ERROR), None)
    return ExitCode.STOPPED if named is None and isinstance(error, LashError) else named


def settle(error: BaseException, state: State) -> int:
    """Say what happened, once, and return the exit code. With `-vv` the traceback is shown as well."""
    error = _innermost(error)
    if state.verbosity >= 2 and not isinstance(error, (click.ClickException, KeyboardInterrupt)):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return error.exit_code
    if isinstance(error, click.UsageError):
        message = " ".join(error.format_message().split()).rstrip(".")
        where = f"`{error.ctx.command_path} --help` tells more" if error.ctx is not None else ""
        complain(f"{message}{' ' if message.endswith('?') else '; '}{where}" if where else message)
        return error.exit_code
    if isinstance(error, click.ClickException):
        complain(error.format_message())
        return error.exit_code
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        complain("cancelled")
        return ExitCode.CANCELLED
    if isinstance(error, Interrupted):
        complain(str(error))
        return ExitCode.TERMINATED if error.number == signal.SIGTERM else ExitCode.CANCELLED
    if _is_closed_pipe(error):
        return _drop_stdout()
    return _settle_error(error, state)


def _settle_error(error: BaseException, state: State) -> int:
    if (code := code_of_error(error)) is not None:
        complain(told(error))
        for note in getattr(error, "__notes__", ()):
            complain(note)
        return code
    if isinstance(error, (OSError, OutputFailed)):
        _drop_stdout()
        complain(_of_the_system(error) if isinstance(error, OSError) else str(error))
        return ExitCode.STOPPED
    if isinstance(error, SystemExit):  # a plugin's or a tool's: its code could be mistaken for one of ours
        complain(f"a plugin or a tool ended the program (SystemExit: {error.code}); nothing more was committed")
        return ExitCode.STOPPED
    more = "" if state.verbosity >= 2 else "; run it again with -vv for the traceback, and please report it"
    complain(f"a bug: {type(error).__name__}: {error}{more}")
    return ExitCode.BUG


def _of_the_system(error: OSError) -> str:
    said = error.strerror or str(error)
    if error.errno == errno.ENOENT and not error.filename:  # what `getcwd` says
        return "the current folder is there no more: `cd` to another one"
    if error.filename:
        return f"{said}: {error.filename}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
        return f"standard output can't be written: {said}"
    return said


def _innermost(error: BaseException) -> BaseException:
    """The one error in a group of one; groups of several stay."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def _is_closed_pipe(error: BaseException) -> bool:
    return isinstance(error, (BrokenPipeError, ReaderLeft)) or (
        isinstance(error, OSError) and error.errno in (errno.EPIPE, errno.ESHUTDOWN)
    )


def _drop_stdout() -> ExitCode:
    # The interpreter flushes stdout once more at its end; that must not fail with a second message.
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        pass
    return ExitCode.READER_LEFT


def leave(code: ExitCode) -> NoReturn:
    """End the command with this code, its message told already."""
    raise click.exceptions.Exit(code)
