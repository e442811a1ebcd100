"""Runs the real command line: as a process with pipes, or on a pseudo-terminal where keys and signals are real."""

from __future__ import annotations

import codecs
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import warm

from lash_framework.cli import main

WAIT_S = 60.0  # for output that is certain to come; only a failing test waits that long
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]")

SLOW_TOOL = '''
import anyio
from lash_hookspecs import tool

@tool
async def wait_long() -> str:
    """Never returns."""
    await anyio.sleep_forever()
'''
SLOW_SCRIPT = """
[[reply]]
text = "Let me wait."
tool_calls = [{ name = "wait_long" }]
[[reply]]
text = "The second answer."
[[reply]]
text = "The third answer."
"""


class Ended(NamedTuple):
    """A process that ended."""

    code: int
    out: str
    err: str

    @property
    def object(self) -> Any:
        """Its output as the one JSON value that it must be."""
        return json.loads(self.out)


class Cli:
    """`lash` in a folder of its own: no settings, stores or keys of the machine's user are seen."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = f"sqlite:///{folder / 'test.db'}"

    def env(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("LASH_", "OPENAI_", "XDG_", "COV_"))
        }
        homes = {f"XDG_{kind}_HOME": str(self.folder / kind.lower()) for kind in ("DATA", "STATE", "CONFIG", "CACHE")}
        ours = {"LASH_STORE": self.store, "LASH_TRUSTED": str(self.folder)}
        return {**kept, **homes, **ours, "TERM": "xterm", "COLUMNS": "200", **(more or {})}

    def command(self, *args: str) -> list[str]:
        return [sys.executable, "-m", "lash_framework.cli", *args]

    def start(self, *args: str, env: Mapping[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(self.command(*args), cwd=self.folder, env=self.env(env), **{**pipes, **options})

    def run(self, *args: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Ended:
        wanted = self.env(env)
        if warm.can_run(wanted):
            return Ended(*warm.run(args, cwd=self.folder, env=wanted, stdin=stdin, wait_s=WAIT_S * 2))
        done = subprocess.run(
            self.command(*args),
            cwd=self.folder,
            env=wanted,
            input=stdin,
            capture_output=True,
            check=False,
            timeout=WAIT_S * 2,
        )
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())

    def here(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *args: str, stdin: bytes = b""
    ) -> Ended:
        """The same within this process, which is much quicker."""
        wanted = self.env()
        for name in set(os.environ) - wanted.keys() - {"LASH_ALLOW_LIVE_CALLS"}:
            monkeypatch.delenv(name)
        for name, value in wanted.items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(self.folder)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capsys.readouterr()
        code = main(args)
        return Ended(code, *capsys.readouterr())

    def write(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text, encoding="utf-8")
        return name

    def slow(self) -> tuple[str, ...]:
        """Options for a turn that calls a tool which never returns."""
        return (
            "--tools",
            self.write("slow.py", SLOW_TOOL),
            "--model",
            f"scripted:{self.write('slow.toml', SLOW_SCRIPT)}",
        )


def _as_a_shell_does(terminal: int) -> None:
    """In the child: the terminal is its own, and Ctrl-C reaches it, though whoever runs the tests may ignore that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.login_tty(terminal)


class Terminal:
    """A process on a pseudo-terminal. `wait_for` returns what came up to a text, without colours and cursor moves."""

    def __init__(self, cli: Cli, *args: str, env: Mapping[str, str] | None = None) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            cli.command(*args), cwd=cli.folder, env=cli.env(env), preexec_fn=partial(_as_a_shell_does, slave)
        )
        os.close(slave)
        self._pending = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)

    def send(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, text: str) -> str:
        until = time.monotonic() + WAIT_S
        while text not in self._pending:
            if time.monotonic() > until or not self._read(until - time.monotonic()):
                raise AssertionError(f"{text!r} never came; what did: {self._pending!r}")
        before, _, self._pending = self._pending.partition(text)
        return before + text

    def wait_until_it_reads(self) -> None:
        """Until its main thread sleeps: between readline's prompt and its wait for keys, Python loses a Ctrl-C."""
        stat = Path(f"/proc/{self.process.pid}/stat")
        until = time.monotonic() + WAIT_S
        while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "S" and time.monotonic() < until:
            pass

    def ended(self) -> tuple[int, str]:
        """The exit code, and all that was still written."""
        while self._read(WAIT_S):
            pass
        return self.process.wait(WAIT_S), self._pending

    def _read(self, seconds: float) -> bool:
        readable, _, _ = select.select([self._master], [], [], seconds)
        try:
            data = os.read(self._master, 65536) if readable else b""
        except OSError:  # how Linux says that the other side is closed
            data = b""
        self._pending = _ESCAPES.sub("", self._pending + self._decoder.decode(data)).replace("\r\n", "\n")
        return bool(data)
