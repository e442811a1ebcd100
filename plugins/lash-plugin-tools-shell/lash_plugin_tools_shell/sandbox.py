"""bubblewrap around a command, where that is wanted. Pure but for looking what is installed.

What it holds: nothing is written but the roots, `writable`, `/tmp` and what else is in memory only; no process outside
is seen, signalled or read; folders with keys are empty; with `network = false` there is none; and all of it ends with
its first process, whatever it did to go on. What it doesn't: all else that the user may read can be read.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from lash_hookspecs.errors import ConfigurationError
from lash_plugin_tools_shell.options import ShellOptions

__all__ = ["Sandbox", "find_sandbox"]


class Sandbox:
    """bubblewrap, as it is called for these options."""

    def __init__(self, program: str, roots: Sequence[str], options: ShellOptions) -> None:
        self.program = program
        self._roots = roots
        self._options = options

    def wrapped(self, argv: list[str]) -> list[str]:
        """The command within; it is started in the folder that it would be in."""
        options = self._options
        made = [
            self.program,
            "--die-with-parent",
            "--unshare-pid",
            "--unshare-ipc",
            "--unshare-uts",
            "--cap-drop",
            "ALL",
        ]
        if not options.network:
            made.append("--unshare-net")
        made += ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
        for folder in options.hidden:
            path = os.path.realpath(os.path.expanduser(folder))  # noqa: PTH111
            if os.path.isdir(path):  # noqa: PTH112
                made += ["--tmpfs", path]
        for folder in (*options.writable, *self._roots):
            path = os.path.realpath(os.path.expanduser(folder))  # noqa: PTH111
            made += ["--bind", path, path]
        return [*made, "--", *argv]

    @property
    def told(self) -> str:
        """What a model is told of it."""
        network = "" if self._options.network else " There is no network."
        return f"They run in a sandbox: only the project's folders and `/tmp` can be written.{network}"


def find_sandbox(options: ShellOptions, roots: Sequence[str]) -> Sandbox | None:
    """The sandbox for these options, if any. Raises `ConfigurationError` if it is asked for and not installed."""
    if options.sandbox == "none":
        return None
    program = shutil.which("bwrap")
    if program is not None:
        return Sandbox(program, roots, options)
    if options.sandbox == "bwrap":
        raise ConfigurationError(
            '`plugin.tools-shell.sandbox` is "bwrap", and there is no such program: install bubblewrap, or say "none"'
        )
    return None
