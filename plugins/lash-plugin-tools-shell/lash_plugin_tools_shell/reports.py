"""What a model is told of a command: how it ended, and the end of what it printed."""

from __future__ import annotations

import signal

from lash_hookspecs.tools import ToolError, ToolFailureClass
from lash_plugin_tools_shell.commands import Command
from lash_plugin_tools_shell.options import ShellOptions
from lash_plugin_tools_shell.output import readable

__all__ = ["ending", "report"]

_MOST_OF_FAILURE = 32 * 1024
_CLASSES = {"timeout": ToolFailureClass.TIMEOUT, "supervisor_killed": ToolFailureClass.EXTERNAL}


def report(command: Command, options: ShellOptions, timeout_s: float) -> str:
    """Of one that has ended by itself. Raises `ToolError` for one that had to be ended, with what it printed."""
    said = _why(command, options, timeout_s)
    if said is None:
        return _with_output(ending(command), command, options.max_kept_bytes)
    assert command.reason is not None  # what it says
    raise ToolError(
        _with_output(said, command, min(_MOST_OF_FAILURE, options.max_kept_bytes)),
        code=command.reason,
        failure_class=_CLASSES.get(command.reason, ToolFailureClass.RESOURCE_LIMIT),
    )


def _why(command: Command, options: ShellOptions, timeout_s: float) -> str | None:
    match command.reason:
        case "timeout":
            return f"the command took longer than {timeout_s:g} s and was stopped, with all that it had started"
        case "too_many_processes":
            return f"the command had more than {options.max_processes} processes and was stopped"
        case "too_much_output":
            return f"the command printed more than {options.max_output_bytes:,} bytes and was stopped"
        case "supervisor_killed":
            return "the process that watched the command was killed, and so was the command: how it went isn't known"
        case _:
            return None


def ending(command: Command) -> str:
    """How it ended, in a line."""
    if not command.ended.is_set():
        return "running"
    status = command.status
    if status is None:
        said = "ended; its exit code isn't known"
    elif status < 0:
        said = f"killed by signal {-status} ({_name(-status)})"
    else:
        said = f"exit code {status}"
    if command.stopped:
        some = "1 process that it had left was" if command.stopped == 1 else f"{command.stopped} processes it left were"
        said += f" ({some} stopped)"
    if command.left:
        said += f" ({command.left} processes could not be stopped)"
    return said


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _with_output(first: str, command: Command, most: int) -> str:
    data, _ = command.tail.after(max(0, command.tail.total - most))
    text = readable(data).rstrip("\n")
    if not text:
        return f"{first}, no output"
    if command.tail.total > len(data):
        first += f" (of {command.tail.total:,} bytes of output, the last {len(data):,})"
    return f"{first}\n{text}"
