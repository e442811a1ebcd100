"""bubblewrap around a command, where that is wanted, and works.

What it holds: nothing is written but the roots, `writable`, `/tmp` and what else is in memory only; in these, what is
`protected` is neither written nor made, and the Python that lash runs with isn't written; no process outside is seen,
signalled or read; folders with keys are empty, also below a root, and so are those with the sockets of the user's
services, which would run things outside, and lash's own, with what was said and what was approved; with
`network = false` there is none; and all of it ends with its first process, whatever it did to go on. What it doesn't:
all else that the user may read can be read, a store within a root written, and what is protected once somebody outside
has put something else in its place.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.plugins import Examined
from lash_hookspecs.programs import find_program, own_environment
from lash_hookspecs.values import frozen
from lash_plugin_tools_shell.folders import Folders
from lash_plugin_tools_shell.held import Held, Mount
from lash_plugin_tools_shell.options import ShellOptions

__all__ = ["Entered", "Sandbox", "examined", "find_sandbox"]

TRY_S = 10.0
"""How long it may take to run nothing in a sandbox."""


@frozen
class Entered:
    """What a command in the sandbox has while it runs: descriptors, and what is mounted."""

    opened: Sequence[int]
    mounts: Sequence[Mount]


class Sandbox:
    """bubblewrap, as it is called for these options."""

    def __init__(self, program: str, roots: Sequence[str], options: ShellOptions) -> None:
        self.program = program
        self._options = options
        self._writable = [*map(_real, options.writable), *roots]
        folders = [each for each in self._writable if os.path.isdir(each)]  # noqa: PTH112
        self._held = Held(folders, options.protected, own_environment())

    def enter(self) -> Entered:
        """To be called before a command is `wrapped`; `leave` once that has ended."""
        hidden = self._hidden()
        opened, held = self._held.enter(hidden, self._writable)
        return Entered(opened, [*self._mounts(hidden), *held])

    def leave(self, entered: Entered) -> None:
        self._held.leave(entered.opened)

    def fault(self) -> str:
        """Why nothing can be run so: some systems, and most containers, forbid namespaces. Nothing is made for it."""
        return _tried(tuple(self.wrapped(["/bin/sh", "-c", ":"], self._mounts(self._hidden()))))

    def _hidden(self) -> list[str]:
        return [path for path in map(_real, self._options.hidden) if os.path.exists(path)] + _own_folders()  # noqa: PTH110

    def _mounts(self, hidden: Sequence[str]) -> list[Mount]:
        return [*map(_hiding, hidden), *(("--bind", path, path) for path in self._writable)]

    def wrapped(self, argv: list[str], mounts: Sequence[Mount]) -> list[str]:
        """The command within; it is started in the folder that it would be in."""
        made = [
            self.program,
            "--die-with-parent",
            "--unshare-pid",
            "--unshare-ipc",
            "--unshare-uts",
            "--cap-drop",
            "ALL",
        ]
        if not self._options.network:
            made.append("--unshare-net")
        made += ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp"]
        # What is mounted later covers what is below it: so folders come before those within them.
        for each in sorted(mounts, key=lambda mount: mount[-1].rstrip("/").count("/")):
            made += each
        return [*made, "--", *argv]

    @property
    def told(self) -> str:
        """What a model is told of it."""
        network = "" if self._options.network else " There is no network."
        names = ", ".join(f"`{each}`" for each in self._options.protected)
        held = (
            f" In these, nothing can be changed in, or made as, {names}, which may seem to be empty." if names else ""
        )
        return f"They run in a sandbox: only the project's folders and `/tmp` can be written.{held}{network}"


def _real(path: str) -> str:
    return os.path.realpath(os.path.expanduser(path))  # noqa: PTH111


def _own_folders() -> list[str]:
    """Where lash keeps what was said, and what was approved. They are made, lest a command makes them."""
    from platformdirs import user_data_path, user_state_path

    found = [_real(str(each("lash", appauthor=False))) for each in (user_data_path, user_state_path)]
    for each in found:
        os.makedirs(each, mode=0o700, exist_ok=True)  # noqa: PTH103
    return found


def _hiding(path: str) -> Mount:
    """A folder is empty instead; a file, or a socket, a device that nobody may open."""
    return ("--tmpfs", path) if os.path.isdir(path) else ("--ro-bind", "/dev/null", path)  # noqa: PTH112


def find_sandbox(options: ShellOptions, roots: Sequence[str]) -> tuple[Sandbox | None, str]:
    """The sandbox for these options, which was seen to work; or why there is none, unless that is meant.

    Raises `ConfigurationError` if it is asked for, and isn't installed or doesn't work here.
    """
    sandbox, why = _looked_for(options, roots)
    if why and options.sandbox == "bwrap":
        raise ConfigurationError(f'`plugin.tools-shell.sandbox` is "bwrap", and {why}: {_REMEDY}, or say "none"')
    return sandbox, why


def examined(options: ShellOptions) -> list[Examined]:
    """What `lash doctor` says of it."""
    sandbox, why = _looked_for(options, Folders(options.roots).roots)
    if sandbox is not None:
        return [Examined(f"commands run in bubblewrap ({sandbox.program}), which works here")]
    if options.sandbox == "none":
        return [Examined('commands run without a sandbox, as you (`sandbox = "none"`)')]
    return [Examined(f"commands run without a sandbox: {why}", _REMEDY)]


_REMEDY = "install bubblewrap, and let it make user namespaces"


def _looked_for(options: ShellOptions, roots: Sequence[str]) -> tuple[Sandbox | None, str]:
    """The sandbox, or why there is none."""
    if options.sandbox == "none":
        return None, ""
    program = find_program("bwrap", [*map(_real, options.writable), *roots])
    if program is None:
        inside = shutil.which("bwrap")
        return None, f"`{inside}` is where commands can write" if inside else "there is no program `bwrap`"
    sandbox = Sandbox(program, roots, options)
    why = sandbox.fault()
    return (None, f"`{program}` doesn't work here ({why})") if why else (sandbox, "")


@cache
def _tried(argv: tuple[str, ...]) -> str:
    """What comes of it; once a process."""
    try:
        done = subprocess.run(argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=TRY_S, check=False)
    except subprocess.TimeoutExpired:
        return f"it took longer than {TRY_S:g} s to run nothing"
    except OSError as error:
        return str(error)
    if done.returncode == 0:
        return ""
    said = done.stderr.decode(errors="replace").strip().splitlines()
    return said[-1][:200] if said else f"exit code {done.returncode}"
