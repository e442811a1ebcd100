"""The mode `coder` from end to end: real files, a real shell, other processes that answer, a terminal, kill -9."""

from __future__ import annotations

import os
import select
import signal
from pathlib import Path
from typing import Any

import pytest
from cli_kit import WAIT_S, Cli, Terminal

from lash_framework.testing import call
from lash_hookspecs import TurnSuspended
from lash_plugin_approval.calls import Facts
from lash_plugin_approval.rules import ruled
from lash_plugin_mode_coder.composed import CODER
from lash_plugin_tools_files.options import FilesOptions
from lash_plugin_tools_shell.options import ShellOptions

CALC = "def add(a, b):\n    return a - b\n"
TEST = """
from calc import add

for n in range(2000):
    print("checking", n)
assert add(2, 3) == 5
"""
SCRIPT = """
[[reply]]
text = "Let me look."
tool_calls = [
  { name = "grep", arguments = { pattern = "def add", glob = "*.py" } },
  { name = "read_file", arguments = { path = "calc.py" } },
  { name = "read_file", arguments = { path = "/etc/passwd" } },
  { name = "write_file", arguments = { path = "calc.py", content = "" } },
]
[[reply]]
tool_calls = [{ name = "plan_exit", arguments = { plan = "Add, and run the tests." } }]
[[reply]]
tool_calls = [
  { name = "update_plan", arguments = { steps = [{ step = "mend it", status = "in_progress" }, { step = "test" }] } },
  { name = "edit_file", arguments = { path = "calc.py", old_string = "a - b", new_string = "a + b" } },
]
[[reply]]
tool_calls = [{ name = "shell", arguments = { command = "echo $$ >began; cat gate; python3 test_calc.py" } }]
[[reply]]
tool_calls = [{ name = "shell", arguments = { command = "python3 test_calc.py" } }]
[[reply]]
tool_calls = [{ name = "read_output", arguments = { output = "out-1", find = "checking 1000" } }]
[[reply]]
text = "It is mended, and the tests pass."
"""
PARTS = ("mode-coder", "approval", "plan", "tool-budget", "tools-files", "tools-shell")
RUN = ("--mode", "coder", "--model", "scripted:script.toml")


@pytest.fixture
def lash(tmp_path: Path) -> Cli:
    cli = Cli(tmp_path)
    cli.write("calc.py", CALC)
    cli.write("test_calc.py", TEST)
    cli.write("script.toml", SCRIPT)
    os.mkfifo(tmp_path / "gate")
    return cli


def answered(lash: Cli, tool: str, choice: str) -> None:
    """Another process says this about the one call that waits."""
    (waiting,) = lash.run("pending", "list", "--json").object
    assert waiting["tool"] == tool
    assert lash.run("pending", "answer", waiting["key"], choice).code == 0


def test_what_a_command_may_not_write_no_tool_for_files_does() -> None:
    """`edit_file` wrote tasks of an editor and `.envrc`, which the sandbox held; a command wrote `.hg`."""
    assert {*FilesOptions().protected, "HEAD"} == {*ShellOptions().protected}
    assert all("protected" not in options for options in CODER.plugin_options.values())


@pytest.mark.costly
def test_a_coder_looks_asks_acts_is_killed_and_goes_on(lash: Cli) -> None:
    assert lash.run("actions", "call", "plan_enable", "--session", "s", "--mode", "coder").code == 0

    # It reads without a question, but nothing outside, and changes nothing while it plans.
    first = lash.run("run", "Why do the tests fail?", "--session", "s", "--turn-id", "t", *RUN)
    assert first.code == 3
    assert "calc.py:1:def add(a, b):" in first.err
    assert 'read_file(path="/etc/passwd") failed' in first.err
    assert "`write_file` isn't to be called now: it is hidden in this session by `plan`" in first.err
    assert (lash.folder / "calc.py").read_text() == CALC
    answered(lash, "plan_exit", "implement")

    # The plan is agreed with; each act is asked about all the same, and another process answers.
    assert lash.run("resume", "s").code == 3
    assert (lash.folder / "calc.py").read_text() == CALC
    answered(lash, "edit_file", "allow")
    assert lash.run("resume", "s").code == 3
    assert (lash.folder / "calc.py").read_text() == CALC.replace("-", "+")
    assert not (lash.folder / "began").exists()
    answered(lash, "shell", "allow")

    # Killed while the command runs: the command ends with it, and isn't run a second time without a word.
    with Terminal(lash, "resume", "s") as terminal:
        gate = os.open(lash.folder / "gate", os.O_WRONLY)  # once it reads
        os.kill(terminal.process.pid, signal.SIGKILL)
        assert terminal.ended()[0] == -signal.SIGKILL
        _until_it_is_gone(int((lash.folder / "began").read_text()))
        os.close(gate)

    # At a terminal the person is asked there.
    with Terminal(lash, "resume", "s") as terminal:
        shown = terminal.wait_for("(nothing: later) › ")
        assert 'command: "python3 test_calc.py"' in shown
        terminal.send("allow\n")
        code, rest = terminal.ended()
    assert code == 0
    assert "It is mended, and the tests pass." in rest

    assert lash.run("actions", "call", "plan_show", "--session", "s", "--mode", "coder").object["enabled"] is False

    # What the model was shown of the long output was cut, and it read the rest; of the killed command it was told.
    told = lash.run("sessions", "export", "s").out
    assert "unknown_after_crash" in told
    assert "are cut out here" in told
    assert "checking 1000" in told


def _until_it_is_gone(pid: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], WAIT_S)[0], "the command outlived the process that ran it"
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("path", [".env", "sub/.env.local", "./sub/../.env", ".ssh/config", ".SSH/id_rsa"])
async def test_a_coder_asks_before_what_is_often_secret_is_read(
    path: str, lash_host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is read goes to the model's service."""
    monkeypatch.chdir(tmp_path)
    says = [call("read_file", path=path), "Read."]
    async with lash_host(*PARTS, mode="coder", says=says) as host:
        with pytest.raises(TurnSuspended):
            await host.run("look")
        (waiting,) = await host.lash.pending()
        assert "Rule `secrets` asks" in waiting.said


async def test_a_coder_who_may_edit_is_asked_no_more_about_files_but_about_secrets_and_commands(
    lash_host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One key for a session that changes many files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("one\n")
    asks = [
        call("write_file", path="b.txt", content="x"),
        call("edit_file", path="a.txt", old_string="one", new_string="two"),
        call("write_file", path=".env", content="x"),
        call("shell", command="touch c"),
    ]
    async with lash_host(*PARTS, mode="coder", says=[*asks, "Done."]) as host:
        session = await host.lash.session("s", recover=False)
        waiting = []
        for choice in ("edits", "deny", "deny"):
            with pytest.raises(TurnSuspended):
                await session.run("go", turn_id="t")
            (asked,) = await host.lash.pending()
            waiting.append((asked.tool_name, asked.said.partition(" be called? ")[2]))
            await host.lash.answer(asked.key, choice)
        await session.run("go", turn_id="t")
    assert waiting == [
        ("write_file", "Rule `default` asks."),
        ("write_file", "Rule `secrets` asks."),
        ("shell", "Rule `default` asks."),
    ]
    assert sorted(each.name for each in tmp_path.iterdir() if each.suffix == ".txt") == ["a.txt", "b.txt"]
    assert (tmp_path / "a.txt").read_text() == "two\n"
    assert not (tmp_path / ".env").exists()


async def test_a_coders_searches_pass_over_what_is_often_secret(
    lash_host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They showed lines of it without a question. Whoever names it is asked about, as for reading it."""
    monkeypatch.chdir(tmp_path)
    for name in (".env", "sub/.ENV.local", ".ssh/config", "a.pem", "id_rsa", "told.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("TOKEN=1\n")
    looks = [call("grep", pattern="TOKEN"), call("glob", pattern="*")]
    async with lash_host(*PARTS, mode="coder", says=[looks, call("grep", pattern="TOKEN", path=".ssh")]) as host:
        with pytest.raises(TurnSuspended):
            await host.run("look")
        (waiting,) = await host.lash.pending()
        assert "Rule `secrets` asks" in waiting.said
        shown = str([each.blocks for each in host.model.requests[-1].messages])
    assert "told.txt:1:TOKEN=1" in shown
    for name in (".env", ".ENV", "config", "a.pem", "id_rsa"):
        assert name not in shown


async def test_a_coder_asks_before_what_can_change_something_and_before_nothing_else(
    lash_host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One answer of the model with all of it: what is pure ran, the rest waits, none of it is done."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("one\n")
    asks = {
        "write_file": {"path": "b.txt", "content": "x"},
        "edit_file": {"path": "a.txt", "old_string": "one", "new_string": "two"},
        "shell": {"command": "touch c"},
        "shell_start": {"command": "touch d"},
        "shell_write": {"id": "x", "text": "y"},
        "shell_signal": {"id": "x", "signal": "KILL"},
    }
    free = {"read_file": {"path": "a.txt"}, "glob": {"pattern": "*"}, "shell_list": {}, "shell_stop": {"id": "x"}}
    says = [call("batch", calls=[{"tool": name, "parameters": args} for name, args in free.items()])]
    async with lash_host(*PARTS, mode="coder", says=[*says, "Looked."]) as host:
        turn = await host.run("look")
        assert turn.text == "Looked."
        composition = host.lash.host.composition("coder")
        effects = {each.name: each.effect.value for each in composition.manifests}
    assert {name for name, effect in effects.items() if effect != "pure"} - {
        "batch",
        "roll",
        "shell_stop",
    } == asks.keys()

    options = composition.options["approval"]
    for name, args in {**asks, **free}.items():
        owner = composition.tool_owners[name]
        facts = Facts(tool=name, owner=owner, effect=effects[name], args=args, leaves={}, places=())
        assert ruled(options, facts).decision == ("ask" if name in asks else "allow"), name
    assert sorted(each.name for each in tmp_path.iterdir() if each.suffix != ".db") == ["a.txt"]
