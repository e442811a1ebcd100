"""A command that runs: its supervisor, the end of its output, and how it ended."""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.leftovers import end_leftovers
from lash_hookspecs.tools import ToolError, ToolFailureClass
from lash_plugin_tools_shell.environment import COOKIE, environment
from lash_plugin_tools_shell.folders import Folders
from lash_plugin_tools_shell.options import ShellOptions
from lash_plugin_tools_shell.output import Tail
from lash_plugin_tools_shell.sandbox import Entered, find_sandbox

__all__ = ["SIGNALS", "Command", "Place"]

log = logging.getLogger("lash.shell")

_SUPERVISOR = str(Path(__file__).with_name("supervisor.py"))
_READ_AT_ONCE = 64 * 1024
_LAST_READS = 64
_ROWS, _COLUMNS = 50, 200

SLACK_S = 10.0
"""How much longer than it should a supervisor may take to end a command, before it is taken to be stuck itself."""


class Place:
    """What all commands have in common: options, folders, shell and sandbox. Raises `ConfigurationError`."""

    def __init__(self, options: ShellOptions) -> None:
        self.options = options
        self.folders = Folders(options.roots)
        self.sandbox, self._why_none = find_sandbox(options, self.folders.roots)
        shell = shutil.which(options.shell) or (shutil.which("sh") if options.shell == "bash" else None)
        if shell is None:
            raise ConfigurationError(f"`plugin.tools-shell.shell`: there is no program `{options.shell}`")
        self.shell = shell

    def warn(self) -> None:
        """Say once, as a command is started, that there is no sandbox though one is wanted where it works."""
        if self._why_none:
            why, self._why_none = self._why_none, ""
            log.warning('commands run without a sandbox: %s (`sandbox = "none"` says that it is meant)', why)

    def argv(self, command: str, entered: Entered | None) -> list[str]:
        """What is executed for a command."""
        plain = [self.shell, "-c", command]
        return plain if self.sandbox is None or entered is None else self.sandbox.wrapped(plain, entered.mounts)


class Command:
    """One command. `start` it, and `run` it until it has `ended`.

    `status` is its exit code, or the negative number of the signal that killed it; `reason` why it was ended, if it
    was; `stopped` how many processes it left, which were ended; `left` how many could not be.
    """

    def __init__(self, place: Place, command: str, *, pty: bool) -> None:
        self._place = place
        self.command = command
        self.pty = pty
        self.tail = Tail(place.options.max_kept_bytes)
        self.changed = anyio.Event()
        self.ended = anyio.Event()
        self._asked_to_stop = anyio.Event()
        self._timeout_s: float | None = None
        self.status: int | None = None
        self.reason: str | None = None
        self.stopped = self.left = 0
        self.pid: int | None = None
        self._cookie = os.urandom(12).hex()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._output = -1
        self._entered: Entered | None = None
        self._told = b""

    # ---- from the start to the end ----------------------------------------------------------------------------------

    async def start(self, folder: str, timeout_s: float | None) -> None:
        """Start it; it must be `run` right afterwards. Raises `ToolError` if its folder, or the system, refuses it."""
        self._timeout_s = timeout_s
        self._place.warn()
        await anyio.to_thread.run_sync(self._start, folder, timeout_s)

    def _asked(self, timeout_s: float | None) -> dict[str, Any]:
        """What its supervisor is told."""
        options, sandbox = self._place.options, self._place.sandbox
        limits = {
            "RLIMIT_CORE": 0,
            "RLIMIT_AS": options.max_memory_bytes,
            "RLIMIT_FSIZE": options.max_file_bytes,
        }
        return {
            "argv": self._place.argv(self.command, self._entered),
            "env": environment(options, os.environ, self._cookie),
            "pty": self.pty,
            "wrapper": None if sandbox is None else Path(sandbox.program).name,
            "timeout_s": timeout_s,
            "grace_s": options.grace_s,
            "max_processes": options.max_processes,
            "limits": {name: value for name, value in limits.items() if value is not None},
        }

    def _start(self, folder: str, timeout_s: float | None) -> None:
        theirs: list[int] = []
        try:
            if self._place.sandbox is not None:
                self._entered = self._place.sandbox.enter()
            asked = self._asked(timeout_s)
            theirs.append(self._place.folders.open(folder))
            if self.pty:
                self._output, terminal = os.openpty()
                theirs += [terminal, os.dup(terminal)]
                _set_terminal(terminal)
            else:
                self._output, written = os.pipe()
                theirs += [os.open(os.devnull, os.O_RDONLY), written]
            self._control, there = socket.socketpair()
            theirs.append(there.detach())
            where, stdin, output, control = theirs
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", _SUPERVISOR, *map(str, (control, stdin, output, where))],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                # What it is given, its command can read. It stays above all of them, and so it is marked, too.
                env={"PATH": asked["env"]["PATH"], COOKIE: "supervisor"},
                pass_fds=theirs,
                start_new_session=True,
                cwd="/",
            )
            self._control.sendall(json.dumps(asked).encode() + b"\n")
            self._control.setblocking(False)
            os.set_blocking(self._output, False)
        except BaseException as error:
            self._close()
            if isinstance(error, OSError):
                raise ToolError(
                    f"the command could not be started: {error}",
                    code="not_started",
                    failure_class=ToolFailureClass.EXTERNAL,
                ) from error
            raise
        finally:
            for fd in theirs:
                os.close(fd)

    async def run(self) -> None:
        """Take its output, and wait for its end; cancelled, end it. Nothing of it is left when this returns."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._listen, group)
                group.start_soon(self._watch)
                await self._read()
                await self.ended.wait()
        finally:
            with anyio.CancelScope(shield=True):
                if not self.ended.is_set():
                    self.stop("cancelled")
                    with anyio.move_on_after(self._patience):
                        await self._listen(None)
                    if not self.ended.is_set():
                        self._give_up()
                        await self._listen(None)
                await anyio.to_thread.run_sync(self._wait)

    async def _watch(self) -> None:
        """See to it that its supervisor does. It keeps the time itself; but its command may have stopped it."""
        with anyio.move_on_after(math.inf if self._timeout_s is None else self._timeout_s):
            await self._asked_to_stop.wait()
        await anyio.sleep(self._patience)
        self.reason = self.reason or "timeout"
        self._give_up()

    @property
    def _patience(self) -> float:
        return self._place.options.grace_s + SLACK_S

    def _give_up(self) -> None:
        """Kill the supervisor, and with it the command; what else there is, is looked for once it is gone."""
        assert self._process is not None  # it was started
        self._process.kill()

    async def _listen(self, group: TaskGroup | None) -> None:
        """Hear of its end from its supervisor."""
        assert self._control is not None
        while not self.ended.is_set():
            await anyio.wait_readable(self._control)
            try:
                data = self._control.recv(65536)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            *lines, self._told = (self._told + data).split(b"\n")
            for line in lines:
                self._hear(json.loads(line))
            if not data and not self.ended.is_set():
                # Somebody has killed the supervisor, and so its command. What that had started is found by its session
                # and its environment; who has left both isn't found: only a sandbox holds that.
                await anyio.to_thread.run_sync(partial(end_leftovers, COOKIE, self._cookie, session=self.pid))
                self.reason = self.reason or "supervisor_killed"
                self.ended.set()
        if group is not None:
            for _ in range(_LAST_READS):  # what it had printed, and nobody has read yet
                if not self._take():
                    break
            group.cancel_scope.cancel()  # what is left, if anything, may keep the output open

    def _hear(self, said: dict[str, Any]) -> None:
        if "pid" in said:
            self.pid = said["pid"]
            return
        self.status, self.stopped, self.left = said["status"], said["stopped"], said["left"]
        self.reason = self.reason or said["reason"]
        self.ended.set()

    async def _read(self) -> None:
        while True:
            await anyio.wait_readable(self._output)
            if self._take() == 0:
                return

    def _take(self) -> int | None:
        """Take what there is, as much as is taken at once, and say how much: None is nothing yet, 0 the end."""
        try:
            data = os.read(self._output, _READ_AT_ONCE)
        except BlockingIOError:
            return None
        except OSError:  # the terminal's other side is closed
            return 0
        if data:
            self.tail.take(data)
            self.changed.set()
            self.changed = anyio.Event()
            if self.tail.total > self._place.options.max_output_bytes:
                self.stop("too_much_output")
        return len(data)

    # ---- while it runs ----------------------------------------------------------------------------------------------

    def stop(self, reason: str) -> None:
        """Ask its supervisor to end all of it: first with TERM, and then with KILL."""
        self.reason = self.reason or reason
        self._asked_to_stop.set()
        self._say({"stop": reason})

    def signal(self, number: int) -> None:
        """Send a signal to the group of the command."""
        self._say({"signal": number})

    def _say(self, what: dict[str, Any]) -> None:
        if self._control is not None and not self.ended.is_set():
            with suppress(OSError):  # it has ended, which is heard next
                self._control.send(json.dumps(what).encode() + b"\n")

    async def write(self, data: bytes) -> None:
        """Type this on its terminal. Raises `ToolError` if it doesn't take it."""
        left = memoryview(data)
        with anyio.move_on_after(5):
            while left and not self.ended.is_set():
                try:
                    left = left[os.write(self._output, left) :]
                except BlockingIOError:
                    await anyio.wait_writable(self._output)
                except OSError:
                    break
        if left:
            raise ToolError(
                f"the command took {len(data) - len(left)} of {len(data)} bytes: it doesn't read, or has ended",
                code="not_taken",
                failure_class=ToolFailureClass.EXTERNAL,
            )

    # ---- the end ----------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
        self._close()

    def _close(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._output >= 0:
            os.close(self._output)
            self._output = -1
        if self._place.sandbox is not None and self._entered is not None:
            self._place.sandbox.leave(self._entered)
            self._entered = None


def _set_terminal(terminal: int) -> None:
    """A terminal of a usual size, which doesn't repeat what is typed."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", _ROWS, _COLUMNS, 0, 0))
    attributes: list[Any] = termios.tcgetattr(terminal)
    attributes[3] &= ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)


SIGNALS: dict[str, int] = {
    name: getattr(signal, f"SIG{name}")
    for name in ("INT", "TERM", "KILL", "HUP", "QUIT", "USR1", "USR2", "STOP", "CONT", "WINCH")
}
"""What may be sent, by name."""
