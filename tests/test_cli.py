"""The command `lash` itself: help, version, lazy loading, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from cli_kit import Cli

from lash_framework.cli import main
from lash_framework.cli.app import COMMANDS, cli
from lash_framework.cli.exits import ExitCode, Interrupted, ReaderLeft, State, exit_code_of, settle
from lash_hookspecs import errors
from lash_hookspecs.turn_outcomes import AssistantMessage, Finished, Handoff, Stopped, StopReason

DOCS = Path(__file__).parent.parent / "docs" / "reference" / "cli.md"

HEAVY = ("cattrs", "anyio", "httpx", "rich", "pluggy", "attrs", "asyncio", "lash_hookspecs", "lash_framework.lash")


@pytest.fixture
def lash(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def test_help_imports_nothing_that_a_command_needs() -> None:
    program = (
        "import sys\n"
        "from lash_framework.cli import main\n"
        "code = main(['--help'])\n"
        f"heavy = [name for name in sys.modules if name in {HEAVY!r} or name.startswith('lash_plugin')]\n"
        "assert not heavy, heavy\n"
        "sys.exit(code)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in COMMANDS)


def test_the_table_of_commands_says_what_the_commands_say() -> None:
    ctx = click.Context(cli)
    for name, (_, _, line) in COMMANDS.items():
        command = cli.get_command(ctx, name)
        assert command is not None
        assert command.name == name
        assert line.endswith(".")


def all_commands() -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        inner = getattr(command, "commands", None)
        found += [(name, each) for each in inner] if inner else [(name,)]
    return found


@pytest.mark.parametrize("path", all_commands(), ids=" ".join)
def test_every_command_takes_the_same_options(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*path, "--help"]) == 0
    shown = capsys.readouterr().out
    for option in ("--store", "--model", "--mode", "--session", "--config", "--set", "--no-plugins", "--verbose"):
        assert f"{option} " in shown or f"{option}\n" in shown, option


@pytest.mark.parametrize("path", all_commands(), ids=" ".join)
def test_every_command_is_documented(path: tuple[str, ...]) -> None:
    assert f"`lash {' '.join(path)}" in DOCS.read_text()


def test_every_option_is_documented() -> None:
    text = DOCS.read_text()
    for path in all_commands():
        command: click.Command | None = cli
        for name in path:
            assert isinstance(command, click.Group)
            command = command.get_command(click.Context(command), name)
        assert command is not None
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert f"`{parameter.opts[-1]}" in text, (path, parameter.opts)


def test_every_exit_code_is_documented() -> None:
    text = DOCS.read_text()
    for code in ExitCode:
        assert f"| {code.value} |" in text


@pytest.mark.parametrize("module", ["lash_framework", "lash_framework.cli"])
def test_it_runs_as_a_module(module: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("lash ")


def test_a_wrong_command_names_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rnu"]) == ExitCode.USAGE
    assert capsys.readouterr().err == ("lash: unknown command `rnu`: did you mean `run`? `lash --help` tells more\n")


def test_without_a_command_it_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == ExitCode.USAGE
    assert "Commands:" in capsys.readouterr().err


ENDS = {
    "finished": (Finished(AssistantMessage("x")), 0),
    "handed off": (Handoff("other"), 0),
    "cancelled": (Stopped(StopReason.CANCELLED), 130),
    **{reason.value: (Stopped(reason), 1) for reason in StopReason if reason is not StopReason.CANCELLED},
}


@pytest.mark.parametrize("case", ENDS)
def test_each_outcome_has_its_exit_code(case: str) -> None:
    outcome, code = ENDS[case]
    assert exit_code_of(outcome) == code


class TurnSuspended(errors.LashError):
    """Stands in for the runtime's, which is known by its name."""


def _noted() -> Exception:
    error = errors.LashError("broken")
    error.add_note("a note")
    return error


FAILURES: dict[str, tuple[BaseException, int, str]] = {
    "configuration": (errors.ConfigurationError("no such thing"), 2, "lash: no such thing\n"),
    "unknown name": (errors.UnknownName("mode", "x", ["y"]), 2, "lash: unknown mode `x`: known: `y`\n"),
    "store away": (errors.StoreUnavailable("no disk"), 2, "lash: no disk\n"),
    "store newer": (errors.StoreVersionError("too new"), 2, "lash: too new\n"),
    "deleted": (errors.SessionDeleted("s"), 2, "lash: session `s` was deleted; session ids are single-use, "),
    "busy": (errors.SessionBusy("another process"), 1, "lash: another process\n"),
    "other": (_noted(), 1, "lash: broken\nlash: a note\n"),
    "group of one": (ExceptionGroup("x", [ExceptionGroup("y", [errors.ConfigurationError("z")])]), 2, "lash: z\n"),
    "suspended": (TurnSuspended("waits for `k`"), 3, "lash: waits for `k`\n"),
    "usage": (click.UsageError("wrong."), 2, "lash: wrong\n"),
    "ctrl-c": (KeyboardInterrupt(), 130, "lash: cancelled\n"),
    "aborted": (click.Abort(), 130, "lash: cancelled\n"),
    "sigterm": (Interrupted(15), 143, "lash: terminated; nothing of the turn was committed\n"),
    "sigterm with a journal": (
        Interrupted(15, "lash resume s"),
        143,
        "lash: terminated; the turn is interrupted, and `lash resume s` goes on with it\n",
    ),
    "second ctrl-c": (
        Interrupted(2, "lash resume s"),
        130,
        "lash: stopped; the turn is interrupted, and `lash resume s`",
    ),
    "bug": (ZeroDivisionError("division"), 70, "lash: a bug: ZeroDivisionError: division; run it again with -vv"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_each_failure_has_its_exit_code_and_its_line(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    error, code, text = FAILURES[case]
    assert settle(error, State()) == code
    assert capsys.readouterr().err.startswith(text)


def test_a_closed_pipe_is_told_to_nobody(lash: Cli) -> None:
    program = "import sys; from lash_framework.cli.exits import *; sys.exit(settle(ReaderLeft(), State()))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (141, b"", b"")
    assert ReaderLeft.__doc__


@pytest.mark.parametrize("args", [("--help",), ("--version",), ("run", "--help"), ("plugins", "list")], ids="_".join)
def test_whoever_read_the_help_may_leave(lash: Cli, args: tuple[str, ...]) -> None:
    """Of `lash --help | true` a plugin was said to have ended the program."""
    reads, writes = os.pipe()
    os.close(reads)
    process = lash.start(*args, stdout=writes)
    os.close(writes)
    _, err = process.communicate()
    assert (process.returncode, err) == (141, b"")


def test_ctrl_c_while_lash_is_imported_is_one_line() -> None:
    """It was a traceback through click's modules."""
    program = (
        "import sys\n"
        "class Keys:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'click': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Keys())\n"
        "from lash_framework.cli import main\n"
        "sys.exit(main(['run', 'hi']))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\nlash: cancelled\n")


def test_a_traceback_is_shown_with_vv_only(lash: Cli) -> None:
    quiet = lash.run("run", "hi", "--mode", "nope")
    assert "Traceback" not in quiet.err
    loud = lash.run("run", "hi", "--mode", "nope", "-vv")
    assert "Traceback" in loud.err
    assert (quiet.code, loud.code) == (2, 2)
    assert "Traceback" in lash.run("-vv", "run", "hi", "--mode", "nope").err
