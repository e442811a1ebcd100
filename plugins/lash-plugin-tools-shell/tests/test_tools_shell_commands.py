"""Commands that go on: starting, typing, reading, signals, and their end with the call, the host or the worker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from shell_kit import ShellInTest, open_shell

from lash_plugin_tools_shell import commands

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is left is looked for in /proc")


async def started(shell: ShellInTest, command: str, **args: object) -> str:
    return (await shell.call("shell_start", command=command, **args)).partition(":")[0]


async def until(shell: ShellInTest, id: str, text: str) -> str:
    """Read until it has printed that."""
    with anyio.fail_after(20):
        while text not in (said := await shell.call("shell_read", id=id, wait_s=0.2)):
            pass
    return said


async def test_what_is_typed_is_answered(tmp_path: Path) -> None:
    async with open_shell(tmp_path) as shell:
        id = await started(shell, 'while read line; do echo "<$line>"; done; echo bye', wait_s=0)
        await shell.call("shell_write", id=id, text="one\ntwo\n")
        said = await until(shell, id, "<two>")
        assert said.split("\n")[1:] == ["<one>", "<two>"]  # what was typed isn't repeated
        await shell.call("shell_write", id=id, text="\u0004")
        assert (await until(shell, id, "bye")).startswith(f"{id}: ")
        assert (await until(shell, id, "exit code 0")).startswith(f"{id}: exit code 0; output from byte 0 to ")


async def test_reading_goes_on_where_it_ended(tmp_path: Path) -> None:
    async with open_shell(tmp_path, max_kept_bytes=20) as shell:
        id = await started(
            shell, "printf one; read x; printf two; read x; head -c 100 /dev/zero | tr '\\0' z; read x", wait_s=0
        )
        first = await until(shell, id, "one")
        assert first == f"{id}: running; output from byte 0 to 3; read on with after=3\none"
        await shell.call("shell_write", id=id, text="\n", wait_s=0)
        await until(shell, id, "two")
        assert (await shell.call("shell_read", id=id, after=3)).endswith("from byte 3 to 6; read on with after=6\ntwo")
        await shell.call("shell_write", id=id, text="\n", wait_s=0)
        await until(shell, id, "to 106")
        said = await shell.call("shell_read", id=id, after=6)
        assert said == (
            f"{id}: running; output from byte 86 to 106 (80 bytes before it are no longer kept); "
            f"read on with after=106\n{'z' * 20}"
        )


async def test_it_has_a_terminal(tmp_path: Path) -> None:
    async with open_shell(tmp_path) as shell:
        id = await started(shell, "tty >/dev/null && test -t 1 && stty size; cat </dev/tty", wait_s=0)
        await until(shell, id, "50 200")
        await shell.call("shell_write", id=id, text="x\n")
        await until(shell, id, "x")


async def test_signals(tmp_path: Path) -> None:
    async with open_shell(tmp_path) as shell:
        id = await started(
            shell,
            "trap 'echo got usr1' USR1; trap 'echo got int; exit 4' INT; echo up; while :; do sleep 0.02; done",
            wait_s=0,
        )
        await until(shell, id, "up")
        assert await shell.call("shell_signal", id=id, signal="USR1") == f"{id}: sent USR1"
        await until(shell, id, "got usr1")
        await shell.call("shell_write", id=id, text="\u0003")  # as Ctrl-C does
        await until(shell, id, "exit code 4")
        assert (await shell.call("shell_signal", id=id, signal="KILL")).endswith("exit code 4; nothing was sent")
        assert (await shell.said("shell_write", id=id, text="x")).startswith("not_taken: ")


async def test_what_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    async with open_shell(tmp_path) as shell:
        id = await started(shell, "trap '' TERM; setsid sleep 1000 & echo up; while :; do sleep 0.02; done", wait_s=0)
        await until(shell, id, "up")
        assert shell.alive()
        assert (await shell.call("shell_stop", id=id)).startswith(f"{id}: killed by signal 9 (SIGKILL)")
        assert shell.alive() == []
        assert (await shell.call("shell_stop", id=id)).startswith(f"{id}: killed by signal 9")  # again: nothing more


async def test_what_has_stopped_its_supervisor_is_stopped_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "SLACK_S", 0.3)
    async with open_shell(tmp_path) as shell:
        command = "kill -STOP $PPID; echo up; exec sleep 1000"
        id = await started(shell, command, wait_s=0)
        await until(shell, id, "up")
        assert (await shell.call("shell_stop", id=id)).startswith(f"{id}: ended; its exit code isn't known")
        another = await started(shell, command, wait_s=0)
        await until(shell, another, "up")
    assert shell.alive() == []


async def test_the_list_is_a_sessions_own(tmp_path: Path) -> None:
    async with open_shell(tmp_path) as shell:
        assert await shell.call("shell_list") == "(no commands)"
        id = await started(shell, "sleep 1000\n# more", wait_s=0)
        assert await shell.call("shell_list") == f"{id}: running; 0 bytes of output; sleep 1000"
        shell.session_id = "another"
        assert await shell.call("shell_list") == "(no commands)"
        for name, args in {"shell_read": {}, "shell_write": {"text": "x"}, "shell_stop": {}}.items():
            assert (await shell.said(name, id=id, **args)).startswith("no_such_command: ")


async def test_there_are_not_more_than_may_be(tmp_path: Path) -> None:
    async with open_shell(tmp_path, max_running=1) as shell:
        id = await started(shell, "sleep 1000", wait_s=0)
        assert (await shell.said("shell_start", command="sleep 1000")).startswith("too_many_commands: 1 ")
        await shell.call("shell_stop", id=id)
        await started(shell, "true", wait_s=0)


async def test_they_end_with_their_host(tmp_path: Path) -> None:
    async with open_shell(tmp_path) as shell:
        id = await started(
            shell, "trap '' TERM HUP; (setsid sleep 1000 &); echo up; while :; do sleep 0.02; done", wait_s=0
        )
        await until(shell, id, "up")
        assert shell.alive()
    assert shell.alive() == []


async def test_a_cancelled_call_leaves_nothing(tmp_path: Path) -> None:
    async with open_shell(tmp_path) as shell, anyio.create_task_group() as group:
        command = "trap '' TERM; (setsid sleep 1000 &); echo up; while :; do sleep 0.02; done"
        group.start_soon(lambda: shell.call("shell", command=command))
        with anyio.fail_after(20):
            while not shell.shown:
                await anyio.lowlevel.checkpoint()
        assert shell.alive()
        group.cancel_scope.cancel()
    assert shell.alive() == []


async def test_a_call_that_is_cancelled_at_once_starts_nothing_that_stays(tmp_path: Path) -> None:
    async with open_shell(tmp_path) as shell:
        for steps in range(12):
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: shell.call("shell", command="sleep 1000"))
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
        assert shell.alive() == []


async def test_whoever_watches_sees_the_output_before_the_end(tmp_path: Path) -> None:
    async with open_shell(tmp_path) as shell:
        fifo = tmp_path / "go"
        os.mkfifo(fifo)
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: shell.call("shell", command=f"printf 'first\\n\\033[1mbold'; cat {fifo}"))
            with anyio.fail_after(20):
                while not shell.shown:
                    await anyio.lowlevel.checkpoint()
            assert shell.shown[0] == ("output", {"text": "first\nbold"})
            await anyio.to_thread.run_sync(fifo.write_text, "go on")


WORKER = """
import sys, anyio
sys.path.insert(0, {tests!r})
from pathlib import Path
from shell_kit import open_shell

async def main():
    async with open_shell(Path({folder!r})) as shell:
        await shell.call("shell_start", command={command!r}, wait_s=0)
        await shell.call("shell", command={command!r})

anyio.run(main, backend={backend!r})
"""


def _started(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code])


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_nothing_outlives_a_worker_that_is_killed(tmp_path: Path, backend: str, anyio_backend: str) -> None:
    """All that either command starts holds a pipe open; its end is the end of the last of them."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    command = textwrap.dedent(f"""
        exec 9>{fifo}
        trap '' TERM HUP INT
        setsid sleep 1000 &
        env -i setsid sh -c 'trap "" TERM; sleep 1000; sleep 1000' &
        echo up >&9
        while :; do sleep 1; done
    """)
    code = WORKER.format(tests=str(Path(__file__).parent), folder=str(tmp_path), command=command, backend=backend)
    with _started(code) as worker, anyio.fail_after(60):
        reading = await anyio.to_thread.run_sync(lambda: fifo.open("rb", buffering=0))
        with reading:
            said = b""
            while said.count(b"up\n") < 2:
                said += await anyio.to_thread.run_sync(reading.read, 100)
            worker.send_signal(signal.SIGKILL)
            while await anyio.to_thread.run_sync(reading.read, 100):
                pass
