"""Starts `lash` without waiting half a second for its imports: processes forked from one that has imported it.

What comes out is a process of its own, with its own files, folder, environment and end, only born warm. Hundreds of
tests start one. What a cold start does has tests of its own (`test_cli_start.py`), and who needs what is settled when a
Python starts (`PYTHONUTF8`, a terminal, signals) starts one.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from warm_client import asked

CLIENT = Path(__file__).with_name("warm_client.py")
IMPORTED = """
    anyio._backends._asyncio importlib_metadata rich.console sqlite3 tomllib
    lash_hookspecs.codec lash_framework.lash lash_framework.explain
    lash_framework.cli.app lash_framework.cli.run lash_framework.cli.turns lash_framework.cli.sessions
    lash_framework.cli.plugins lash_framework.cli.tool_files
    lash_plugin_store_sql.store lash_plugin_mode_standard.driver lash_plugin_provider_scripted.provider
    lash_plugin_provider_openai.provider lash_provider_kit.service
"""  # what nearly every command comes to; the plugins' entry points aren't, since the host decides about them
_AT_START = ("PYTHON", "LC_", "LANG")


def can_run(env: Mapping[str, str]) -> bool:
    """Whether nothing that is settled when a Python starts differs from what the tests have."""
    settled = {name for name in {*env, *os.environ} if name.startswith(_AT_START)} - {"PYTHONPATH"}
    return all(env.get(name) == os.environ.get(name) for name in settled)


def run(args: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: bytes, wait_s: float) -> tuple[int, str, str]:
    """`lash ARGS`, until it has ended: its exit code, and what it wrote. Raises `TimeoutError`."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin)
        given.seek(0)
        files = [each.fileno() for each in (given, out, err)]
        code = asked(_server(), ["lash", *args], str(cwd), dict(env), files, wait_s)
        out.seek(0)
        err.seek(0)
        return code, out.read().decode(), err.read().decode()


@cache
def programs(warnings: str) -> Path:
    """A folder for PATH, with a `lash` and a `python` that are born warm."""
    address = _server(warnings)
    folder = Path(address).parent
    for name in ("lash", "python"):
        command = [sys.executable, "-IS", str(CLIENT), name, address]
        (folder / name).write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


@cache
def _server(warnings: str = "") -> str:
    """The address of a warm process that ends with this one."""
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    address = str(folder / "socket")
    env = {**os.environ, "PYTHONWARNINGS": warnings}
    process = subprocess.Popen([sys.executable, __file__, address], stdout=subprocess.PIPE, env=env)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"

    def end() -> None:
        process.kill()
        process.wait()
        shutil.rmtree(folder)

    atexit.register(end)
    return address


# ---- the warm process -----------------------------------------------------------------------------------------------


def serve(address: str) -> None:
    """Fork a process for each request, for ever. Returns in such a process, which has become what was asked for."""
    own_path = [each for each in os.environ.get("PYTHONPATH", "").split(os.pathsep) if each]
    inherited = [each for each in sys.path[1:] if each not in own_path]
    for name in IMPORTED.split():
        __import__(name)
    gc.freeze()  # what is there stays, and stays shared
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those in between, who tell who asked
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address)
        listening.listen(16)
        os.write(1, b"ready\n")
        while True:
            connection, _ = listening.accept()
            if os.fork() == 0:
                break
            connection.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with connection:
        size, files, _, _ = socket.recv_fds(connection, 4, 3)
        request = json.loads(connection.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL))
        if child := os.fork():
            _, status = os.waitpid(child, 0)
            connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
            os._exit(0)
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    _become(request, inherited)


def _become(request: Mapping[str, Any], inherited: list[str]) -> None:
    # New ones: those that are there believe that they are what the warm process had.
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", errors="backslashreplace", buffering=1, closefd=False)
    program, *arguments = sys.argv = request["command"]
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    first = str(Path(arguments[0]).parent) if program == "python" else request["cwd"]
    more = [each for each in request["env"].get("PYTHONPATH", "").split(os.pathsep) if each]
    sys.path[:] = [first, *more, *inherited]


def main() -> int:
    """Be `lash`, or a Python that runs a file."""
    serve(sys.argv[1])
    program, *arguments = sys.argv
    if program == "python":
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")
        return 0
    import lash_framework.cli as cli

    sys.argv[0] = str(Path(cli.__file__).with_name("__main__.py"))  # as `python -m lash_framework.cli` has it
    return cli.main()


def _leave(code: int) -> NoReturn:
    """End as a Python does, but for taking a thousand modules apart, which would copy the memory that they are in."""
    threading._shutdown()  # type: ignore[attr-defined] # waits for the threads that are no daemons
    atexit._run_exitfuncs()
    for file in (sys.stdout, sys.stderr):
        with suppress(BrokenPipeError, ValueError):
            file.flush()
    os._exit(code)


if __name__ == "__main__":
    _leave(main())
