"""A process that runs one command, and sees to it that nothing of it is left.

It is a script of its own, without any import but the standard library's, run by `commands`. It talks to the process
that wants the command over a socket: lines of JSON. It ends the command when it is told so, when the time is up, when
there are too many processes, and when that other process is gone, however that one died.

Whatever the command starts stays below this process: as a "subreaper" it becomes the parent of those whose parent has
died, so that a daemon in a session of its own is found, too. Only on Linux; elsewhere the process group is ended.
"""

# ruff: noqa: PTH116, PTH123, PTH208  # it is started for every command, and `pathlib` would take half of its start
from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import select
import signal
import sys
import termios
import time
from contextlib import suppress
from typing import Any

LINUX = sys.platform == "linux"
LOOK_S = 0.05
"""How often the processes are counted."""

KILL_S = 5.0
"""How long to wait for killed processes; those in the kernel may take longer, or for ever."""

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def prctl(option: int, value: int) -> None:
    """Ask the kernel for something that only Linux has."""
    if LINUX:
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


# ---- what there is --------------------------------------------------------------------------------------------------


def children(pid: int) -> list[int]:
    """Those that a process has by now, by all its threads."""
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as file:
                found += map(int, file.read().split())
    except OSError:
        pass  # it has ended
    return found


def parents() -> dict[int, list[int]]:
    """The children of all processes, where the kernel has no list of one's own."""
    found: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split()[1])
            except OSError:
                continue
            found.setdefault(parent, []).append(int(name))
    return found


def name_of(pid: int) -> str:
    """The name of its program; nothing if it has ended."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def descendants() -> list[int]:
    """All processes below this one, those that have ended and wait for their parents among them."""
    if not LINUX:
        return []
    if os.path.exists(f"/proc/self/task/{os.getpid()}/children"):  # noqa: PTH110
        below = children
    else:
        table = parents()

        def below(pid: int) -> list[int]:
            return table.get(pid, [])

    found, waiting = [], [os.getpid()]
    while waiting:
        new = below(waiting.pop())
        found += new
        waiting += new
    return found


# ---- the command ----------------------------------------------------------------------------------------------------


def start(asked: dict[str, Any], stdin: int, output: int, folder: int) -> int:
    """Start the command, and return its process; it leads a session and a group of its own."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # should somebody kill this process, the command ends at least
        if os.getppid() != parent:
            os._exit(127)
        os.setsid()
        if asked["pty"]:
            fcntl.ioctl(stdin, termios.TIOCSCTTY, 0)
        for name, value in asked["limits"].items():
            limit(getattr(resource, name), value)
        for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.fchdir(folder)
        for to, fd in enumerate((stdin, output, output)):
            os.dup2(fd, to)
        os.execve(asked["argv"][0], asked["argv"], asked["env"])
    except BaseException as error:
        os.write(2, f"{asked['argv'][0]}: {error}\n".encode())
    os._exit(127)


def limit(what: int, value: int) -> None:
    """Set a limit, as far as the system lets us."""
    _, hard = resource.getrlimit(what)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(what, (value, value))


def user_processes() -> int:
    """How many processes and threads the user has."""
    mine, count = os.getuid(), 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid == mine:
                    count += len(os.listdir(f"/proc/{name}/task"))
            except OSError:
                continue
    return count


# ---- the supervisor -------------------------------------------------------------------------------------------------


class Supervisor:
    """Runs the command until nothing of it is left."""

    def __init__(self, control: int, asked: dict[str, Any]) -> None:
        self.control = control
        self.asked = asked
        self.reason: str | None = None
        self.status: int | None = None
        self.stopped = 0
        self.kill_at: float | None = None
        self.deadline = time.monotonic() + asked["timeout_s"] if asked["timeout_s"] is not None else None
        self.left = b""

    def run(self, stdin: int, output: int, folder: int) -> dict[str, Any]:
        """What is to be told of it in the end."""
        wake, woken = os.pipe()
        for fd in (wake, woken):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.pid = start(self.asked, stdin, output, folder)
        for fd in (stdin, output, folder):
            os.close(fd)
        self.tell({"pid": self.pid})
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(wake, select.POLLIN)
        while self.runs():
            for fd, _ in poll.poll(self.pause() * 1000):
                if fd == wake:
                    os.read(wake, 4096)
                else:
                    self.listen()
            self.judge()
        self.finish()
        left = len(descendants()) if self.reap() else 0
        return {"status": self.status, "reason": self.reason, "stopped": self.stopped, "left": left}

    def runs(self) -> bool:
        """Whether the command itself still runs."""
        self.reap()
        return self.status is None

    def reap(self) -> bool:
        """Take note of what has ended; whether there is any child.

        That is what counts in the end: the list of `/proc` may miss one that changes its parent while it is read.
        """
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.pid:
                self.status = os.waitstatus_to_exitcode(status)

    def pause(self) -> float:
        now = time.monotonic()
        times = [at - now for at in (self.deadline, self.kill_at) if at is not None]
        return max(0.0, min([LOOK_S, *times]))

    def judge(self) -> None:
        """End what has to be ended."""
        now = time.monotonic()
        if self.deadline is not None and now >= self.deadline:
            self.deadline = None
            self.stop("timeout")
        if self.kill_at is not None and now >= self.kill_at:
            self.kill()
        if self.are_too_many():
            self.kill()

    def are_too_many(self) -> bool:
        """Whether there are more processes than may be."""
        if len(descendants()) <= self.asked["max_processes"]:
            return False
        self.reason = self.reason or "too_many_processes"
        return True

    def listen(self) -> None:
        """Do what is said; end everything if nobody is there any more."""
        try:
            data = os.read(self.control, 65536)
        except OSError:
            data = b""
        if not data:
            self.reason = "orphaned"
            self.kill()
            return
        *lines, self.left = (self.left + data).split(b"\n")
        for line in lines:
            said = json.loads(line)
            if "signal" in said:
                self.signal_group(said["signal"])
            else:
                self.stop(said["stop"])

    def signal_group(self, number: int) -> None:
        with suppress(OSError):  # nobody is left in it
            os.killpg(self.pid, number)

    def stop(self, reason: str) -> None:
        """Ask all to end, and kill them after a while."""
        if self.reason is None:
            self.reason = reason
            self.kill_at = time.monotonic() + self.asked["grace_s"]
            self.signal_group(signal.SIGTERM)
            for pid in descendants():
                send(pid, signal.SIGTERM)
            # A stopped process takes notice of nothing else.
            self.signal_group(signal.SIGCONT)

    def finish(self) -> None:
        """The command has ended: so does what it left."""
        if self.reap() or not LINUX:
            left = descendants()
            self.stopped = sum(name_of(pid) != self.asked["wrapper"] for pid in left)
            self.signal_group(signal.SIGTERM)
            for pid in left:
                send(pid, signal.SIGTERM)
                send(pid, signal.SIGCONT)
            until = time.monotonic() + (0 if self.reason else self.asked["grace_s"])
            while self.reap() and time.monotonic() < until and not self.are_too_many():
                if select.select([self.control], [], [], 0.01)[0] and not os.read(self.control, 65536):
                    break  # nobody waits for them to end well
            self.kill()

    def kill(self) -> None:
        """Kill all. Those that make new ones are held first, or they might be quicker."""
        self.kill_at = None
        until = time.monotonic() + KILL_S
        self.signal_group(signal.SIGKILL)
        held: set[int] = set()
        while new := set(descendants()) - held:
            for pid in new:
                send(pid, signal.SIGSTOP)
            held |= new
            if time.monotonic() > until:
                break
        while self.reap() and time.monotonic() < until:
            for pid in descendants():
                send(pid, signal.SIGKILL)
            select.select([], [], [], 0.002)

    def tell(self, what: dict[str, Any]) -> None:
        with suppress(OSError):  # nobody is there; the next thing that is read says so
            os.write(self.control, json.dumps(what).encode() + b"\n")


def send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except OSError as error:
        if error.errno not in (errno.ESRCH, errno.EPERM):
            raise


def main() -> None:
    """`supervisor.py CONTROL STDIN OUTPUT FOLDER`, all of them descriptors."""
    control, stdin, output, folder = descriptors = [int(each) for each in sys.argv[1:]]
    for fd in descriptors:
        os.set_inheritable(fd, False)  # who wrote to `control` could say how the command went
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(control, 65536)
        if not piece:
            return
        line += piece
    asked = json.loads(line)
    # The system counts all that the user has; it counts nothing of root's.
    if LINUX and os.getuid() != 0:
        asked["limits"]["RLIMIT_NPROC"] = user_processes() + asked["max_processes"] + 1
    supervisor = Supervisor(control, asked)
    supervisor.tell(supervisor.run(stdin, output, folder))


if __name__ == "__main__":
    main()
