"""Commands that misbehave, each a row: the call ends in time, says what became of it, and nothing of it is left.

None of these can do harm if it isn't stopped: bombs are bounded, and no signal goes to anybody but their own.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path
from typing import Any

import pytest
from shell_kit import open_shell

from lash_plugin_tools_shell import commands

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is left is looked for in /proc")

# 255 processes, which wait for one another.
DOUBLING = "f() { if [ $1 -gt 0 ]; then f $(($1 - 1)) & f $(($1 - 1)) & wait; else sleep 1000; fi; }"

# Name of the row, the command, what the model reads (its beginning), and options.
ROWS: list[tuple[str, str, str | tuple[str, ...], dict[str, Any]]] = [
    # exit codes and signals
    ("an exit code is data", "echo out; echo err >&2; exit 3", "exit code 3\nout\nerr", {}),
    ("a command that isn't there", "no-such-command", "exit code 127\n", {}),
    ("it kills itself", "kill -9 $$", "killed by signal 9 (SIGKILL), no output", {}),
    ("it kills its group", "sleep 1000 & kill -9 0", "killed by signal 9 (SIGKILL)", {}),
    ("it crashes, without a core", "ulimit -c unlimited; kill -SEGV $$", "killed by signal 11 (SIGSEGV)", {}),
    # it goes on
    ("a loop without end", "while :; do :; done", "timeout: ", {"timeout_s": 0.3}),
    ("it sleeps", "exec sleep 1000", "timeout: ", {"timeout_s": 0.3}),
    ("it ignores TERM", "trap '' TERM; echo on; while :; do sleep 0.05; done", "timeout: ", {"timeout_s": 0.3}),
    (
        "it ignores all that can be ignored",
        "trap '' HUP INT QUIT USR1 USR2 ALRM TERM TSTP TTIN TTOU; while :; do sleep 0.05; done",
        "timeout: ",
        {"timeout_s": 0.3},
    ),
    ("it stops itself", "kill -STOP $$", "timeout: ", {"timeout_s": 0.3}),
    ("its child ignores TERM", "(trap '' TERM; while :; do sleep 0.05; done)", "timeout: ", {"timeout_s": 0.3}),
    ("it waits for input", "cat; echo done", "exit code 0\ndone", {}),
    ("it waits for a terminal's input", "read x </dev/tty; echo done", "exit code 0\n", {}),
    ("it asks for a password", "test -t 0 || echo 'no terminal'", "exit code 0\nno terminal", {}),
    # what it leaves
    ("a background child", "sleep 1000 & echo left", "exit code 0 (1 process that it had left was stopped)\nleft", {}),
    ("a child without hangup", "nohup sleep 1000 >/dev/null 2>&1 & exit 0", "exit code 0 (1 process that", {}),
    (
        "a job of its own group",
        "set -m; sleep 1000 & exit 0",
        "exit code 0 (1 process that it had left was stopped)",
        {},
    ),
    ("a daemon of its own session", "setsid sleep 1000 & exit 0", "exit code 0 (1 process that it had left", {}),
    ("a daemon of a daemon", "(setsid sh -c 'setsid sleep 1000 & exec sleep 1000' &) ; exit 0", "exit code 0 (", {}),
    (
        "a daemon that ignores TERM",
        "setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' & exit 0",
        "exit code 0 (",
        {},
    ),
    (
        "a daemon without anything of ours",
        "env -i setsid sleep 1000 <&- >&- 2>&- & exit 0",
        "exit code 0 (1 process",
        {},
    ),
    ("a child that makes new ones", "(while :; do sleep 0.01; sleep 0.01 & done) & exit 0", "exit code 0 (", {}),
    ("zombies", "(true & true & true & exec sleep 0.1); echo done", "exit code 0\ndone", {}),
    # too many
    ("a bomb that doubles", f"{DOUBLING}; f 7", "too_many_processes: ", {}),
    (
        "a bomb in a row",
        "i=0; while [ $i -lt 300 ]; do sleep 1000 & i=$((i+1)); done; wait",
        "too_many_processes: ",
        {},
    ),
    ("a bomb without its parent", f"{DOUBLING}; f 7 & exit 0", ("too_many_processes: ", "exit code 0 ("), {}),
    (
        "a bomb of sessions",
        "i=0; while [ $i -lt 150 ]; do setsid sleep 1000 & i=$((i+1)); done; wait",
        "too_many_processes: ",
        {},
    ),
    # too much
    ("a flood", "yes", "too_much_output: ", {}),
    ("a flood of errors", "yes >&2", "too_much_output: ", {}),
    ("a flood of its child", "yes & wait", "too_much_output: ", {}),
    ("a line without end", "head -c 1500000 /dev/zero | tr '\\0' x", "exit code 0 (of 1,500,000 bytes of output, ", {}),
    ("no text at all", "head -c 50000 /dev/urandom", "exit code 0 (of 50,000 bytes of output, ", {}),
    ("a large file", "head -c 3000000 /dev/zero >big", "exit code 1", {"max_file_bytes": 100_000}),
    ("memory", "ulimit -v", "exit code 0\n200000", {"max_memory_bytes": 200_000 * 1024}),
    # output that is closed, or means something to a terminal
    ("it closes its output", "exec >&- 2>&-; exit 7", "exit code 7, no output", {}),
    (
        "it closes all that it has",
        'for i in 0 1 2 3 4 5 6 7 8 9; do eval "exec $i>&-"; done; exit 7',
        "exit code 7",
        {},
    ),
    ("a child keeps the output", "(sleep 1000 >&1) & echo done", "exit code 0 (", {}),
    ("colours and a title", r"printf '\033[31mred\033[0m\033]0;title\007 \033[2Jend\n'", "exit code 0\nred end", {}),
    ("a bar of progress", r"printf '1%%\r50%%\r100%%\n'", "exit code 0\n100%", {}),
    ("letters struck over", r"printf 'a\bbc\b\b\bx\n'", "exit code 0\n", {}),
    ("bytes that are no text", r"printf 'a\377\000\001b\n'", "exit code 0\na\ufffdb", {}),
    # what it is given
    ("a secret of lash's own", "env | grep -c LASH_TEST_SECRET", "exit code 1\n0", {}),
    (
        "a secret of its supervisor",
        "tr '\\0' '\\n' </proc/$PPID/environ | grep -c -e SECRET -e HOME",
        "exit code 1\n0",
        {},
    ),
    ("descriptors", "ls /proc/$$/fd | tr '\\n' ' '", "exit code 0\n0 1 2", {}),
    ("the supervisor's socket", 'echo \'{"stop": "timeout"}\' >&3', "exit code 1\n", {}),
    # who watches it
    ("it kills its supervisor", "kill -9 $PPID; sleep 1000", "supervisor_killed: ", {}),
    (
        "it kills its supervisor, and leaves children",
        "sleep 1000 & kill -9 $PPID; sleep 1000",
        "supervisor_killed: ",
        {},
    ),
    (
        "it kills its supervisor, and leaves a daemon",
        "setsid sleep 1000 & sleep 0.05; kill -9 $PPID; wait",
        "supervisor_killed: ",
        {},
    ),
    (
        "it asks its supervisor to end",
        "kill -TERM $PPID; kill -HUP $PPID; kill -INT $PPID; echo on",
        "exit code 0\non",
        {},
    ),
    ("it stops its supervisor", "kill -STOP $PPID; sleep 0.1; kill -CONT $PPID; echo on", "exit code 0\non", {}),
    ("it stops its supervisor, and goes on", "kill -STOP $PPID; exec sleep 1000", "timeout: ", {"timeout_s": 0.3}),
    ("it stops its supervisor, and prints", "kill -STOP $PPID; yes", "too_much_output: ", {}),
]


@pytest.mark.parametrize(
    ("anyio_backend", "command", "says", "options"),
    [(("asyncio", "trio")[at % 2], *row[1:]) for at, row in enumerate(ROWS)],  # all on both would show nothing more
    ids=[row[0] for row in ROWS],
)
@pytest.mark.statement(89, page="plugin-system")
@pytest.mark.costly
async def test_it_ends_and_leaves_nothing(
    tmp_path: Path,
    command: str,
    says: str | tuple[str, ...],
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    anyio_backend: str,
) -> None:
    """Whatever a command does, it ends: what isn't done in time is killed, with all that it started."""
    monkeypatch.setenv("LASH_TEST_SECRET", "hunter2")
    if "-STOP $PPID" in command:
        monkeypatch.setattr(commands, "SLACK_S", 0.5)
    async with open_shell(tmp_path, **{"timeout_s": 20.0, **options}) as shell:
        said = await shell.said("shell", command=command)
        assert said.startswith(says)
        assert shell.alive() == []
        assert len(said) < 32_000
        assert not set(said) & set(map(chr, (*range(9), *range(11, 32), 127)))
    assert not list(shell.root.glob("core*"))


def test_there_are_enough_rows() -> None:
    assert len(ROWS) >= 20
    assert len({row[0] for row in ROWS}) == len(ROWS)


def outside(at: Path) -> None:
    (at / "project" / "out").symlink_to(at / "outside")
    (at / "project" / "in").symlink_to(at / "project" / "sub")
    (at / "project" / "file").write_text("")


FOLDERS = [
    ("dots", "..", "outside_root: "),
    ("dots in the middle", "sub/../../outside", "outside_root: "),
    ("absolute", "{top}/outside", "outside_root: "),
    ("the system's root", "/", "outside_root: "),
    ("a link that leads out", "out", "outside_root: "),
    ("dots behind a link", "in/../../outside", "outside_root: "),
    ("the root by /proc", "/proc/self/root", "outside_root: "),
    ("a neighbour whose name begins the same", "{top}/project2", "outside_root: "),
    ("a file", "file", "no_folder: "),
    ("nothing", "nowhere", "no_folder: "),
    ("a NUL", "sub\0/../..", "outside_root: "),
    ("a link that stays inside", "in", "exit code 0\n{top}/project/sub"),
    ("absolute and inside", "{top}/project/sub", "exit code 0\n{top}/project/sub"),
]


@pytest.mark.parametrize(("cwd", "says"), [row[1:] for row in FOLDERS], ids=[row[0] for row in FOLDERS])
async def test_where_it_starts(tmp_path: Path, cwd: str, says: str) -> None:
    async with open_shell(tmp_path) as shell:
        (tmp_path / "project2").mkdir()
        outside(tmp_path)
        said = await shell.said("shell", command="pwd -P", cwd=cwd.format(top=tmp_path))
        assert said.startswith(says.format(top=tmp_path.resolve()))


async def test_only_what_is_allowed_is_given_to_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"ANTHROPIC_API_KEY": "k", "LC_ALL": "C", "MY_TOKEN": "t", "MY_COLOR": "red"}.items():
        monkeypatch.setenv(name, value)
    async with open_shell(tmp_path, env_allow=("PATH", "LC_*", "MY_C*"), env={"EXTRA": "1"}) as shell:
        given = dict(line.split("=", 1) for line in (await shell.call("shell", command="env")).split("\n")[1:])
    assert given.keys() - {"PWD", "SHLVL", "_", "OLDPWD"} == {
        *("PATH", "LC_ALL", "MY_COLOR", "EXTRA", "LASH_COMMAND"),
        *("TERM", "NO_COLOR", "PAGER", "GIT_PAGER", "GIT_TERMINAL_PROMPT"),
    }


@pytest.mark.skipif(os.name != "posix", reason="signals")
async def test_a_command_may_not_ask_for_more_time_than_there_is(tmp_path: Path) -> None:
    async with open_shell(tmp_path, max_timeout_s=0.2) as shell:
        said = await shell.said("shell", command="sleep 1000", timeout_s=500)
    assert said.startswith("timeout: the command took longer than 0.2 s")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_command_has_its_own_three_descriptors_and_no_other(tmp_path: Path, anyio_backend: str) -> None:
    """A host with thousands of them gave the next ones to the supervisor, and this one left them to the command."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 8192), most))
    taken = list[int]()
    try:
        for _ in range(4200 if most >= 8192 else 0):
            taken.append(os.open(os.devnull, os.O_RDONLY))
        async with open_shell(tmp_path) as shell:
            command = "ls /proc/$$/fd > list; tr '\\n' ' ' < list"  # a pipe would be open itself
            said = await shell.said("shell", command=command)
    finally:
        for fd in taken:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert said == "exit code 0\n0 1 2 "
