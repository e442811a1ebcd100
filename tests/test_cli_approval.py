"""Approvals at a terminal and without one: asked, answered by any process, but not by a model's command."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from approval_kit import ASK, MODE
from cli_kit import WAIT_S, Cli, Terminal

TOOLS = """
from lash_hookspecs import tool

@tool(effect="unsafe")
async def act(what: str) -> str:
    "Act."
    return f"did {what}"
"""
SCRIPT = """
[[reply]]
tool_calls = [
    { name = "act", arguments = { what = "a\\u001b[31m\\u202e" } },
    { name = "act", arguments = { what = "b" } },
]

[[reply]]
text = "All done."
"""


@pytest.fixture
def lash(tmp_path: Path) -> Cli:
    cli = Cli(tmp_path)
    cli.write("lash.toml", f"mode = 'careful'\n{MODE}{ASK}")
    cli.write("tools.py", TOOLS)
    cli.write("script.toml", SCRIPT)
    return cli


RUN = ("--tools", "tools.py", "--model", "scripted:script.toml")


def test_at_a_terminal_lash_run_asks_all_of_a_batch_and_goes_on(lash: Cli) -> None:
    """What is to be called is shown as it is: nothing in it steers the terminal or hides."""
    with Terminal(lash, "run", "go", "--session", "s", *RUN) as terminal:
        terminal.send("allow\n1\n")  # before there is a question: it answered this one, and the next
        shown = terminal.wait_for("(nothing: later) › ")
        assert "approval asks (1 of 2): May `act` of plugin `application` be called?" in shown
        assert 'what: "a\\u001b[31m⟨U+202E⟩"' in shown
        terminal.send("perhaps\n")
        terminal.wait_for("that is none of them")
        terminal.send("a test first\n")
        terminal.wait_for("that is none of them")
        terminal.send("1\n1\n")
        terminal.wait_for("(2 of 2)")
        terminal.wait_for("(nothing: later) › ")
        terminal.send("deny not that one\n")
        code, rest = terminal.ended()
    assert code == 0
    assert "All done." in rest


def test_at_a_terminal_lash_chat_asks_and_what_is_left_open_waits(lash: Cli) -> None:
    with Terminal(lash, "chat", "--session", "s", *RUN) as terminal:
        terminal.wait_for("› ")
        terminal.send("go\n")
        terminal.wait_for("(nothing: later) › ")
        terminal.send("\n")
        terminal.wait_for("(nothing: later) › ")
        terminal.send("tool\n")
        terminal.wait_for("waits for")
        terminal.wait_for("› ")
        terminal.send("/quit\n")
        terminal.ended()
    (left,) = lash.run("pending", "list", "--json").object
    assert (left["asked_by"], left["choices"]) == ("approval", ["allow", "same", "tool", "deny"])
    with Terminal(lash, "resume", "s", *RUN[:2], "--model", RUN[3]) as terminal:
        terminal.wait_for("(nothing: later) › ")
        assert lash.run("pending", "answer", left["key"], "deny").code == 0
        terminal.send("allow\n")
        terminal.wait_for("somebody else has answered that meanwhile")
        code, rest = terminal.ended()
    assert code == 0
    assert "All done." in rest
    assert "denied_by_person" in lash.run("sessions", "export", "s").out


def test_without_a_terminal_lash_run_says_how_to_answer_and_any_process_may(lash: Cli) -> None:
    ended = lash.run("run", "go", "--session", "s", *RUN)
    assert ended.code == 3
    assert "`lash pending answer KEY CHOICE`" in ended.err
    one, two = lash.run("pending", "list", "--json").object
    assert "pending show KEY` shows a call whole" in lash.run("pending", "list").err
    shown = lash.run("pending", "show", one["key"][:12]).out
    assert 'act\n  what: "a\\u001b[31m⟨U+202E⟩"\napproval asks: May `act` of plugin' in shown
    assert lash.run("pending", "show", one["key"], "--json").object == one
    said = lash.run("pending", "answer", two["key"][:12], "deny", "--note", "no")
    assert (said.code, 'what: "b"\napproval asks: May' in said.err) == (0, True)
    assert lash.run("pending", "answer", one["key"][:12], "allow").code == 0
    done = lash.run("resume", "s", *RUN)
    assert done.code == 0
    assert "All done." in done.out


BY_A_COMMAND = """
KEEP="LASH_STORE=$LASH_STORE LASH_TRUSTED=$LASH_TRUSTED XDG_STATE_HOME=$XDG_STATE_HOME"
{lash} pending answer {key} allow
{lash} pending resolve {key} --result 1
{lash} actions call plan_disable --session s --mode both
env -i $KEEP {lash} pending answer {key} allow
(env -i $KEEP setsid sh -c '{lash} pending answer {key} allow; echo >gate' &)
read -r gone <gate
env -i $KEEP {python} -c 'import pty; pty.spawn("{lash} resume s {run}".split())'
{lash} pending show {key} >shown
"""
"""What a model's command may try, which finds the key in the store: each is refused, but for the last, which looks."""


@pytest.mark.costly
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_models_command_answers_no_question(lash: Cli, anyio_backend: str) -> None:
    """`lash pending answer`, run by the shell that a model has, allowed the model's own call."""
    from lash_plugin_tools_shell.commands import Command, Place
    from lash_plugin_tools_shell.options import ShellOptions

    lash.write(
        "lash.toml",
        f"{lash.folder.joinpath('lash.toml').read_text()}[modes.both]\nextends = 'careful'\nplugins = ['plan']\n",
    )
    assert lash.run("run", "go", "--session", "s", *RUN).code == 3
    asked = lash.run("pending", "list", "--json").object
    os.mkfifo(lash.folder / "gate")
    env = {name: value for name, value in lash.env().items() if name.startswith(("XDG_", "LASH_"))}
    run = {"lash": f"{sys.executable} -m lash_framework.cli", "python": sys.executable, "run": " ".join(RUN)}
    place = Place(ShellOptions(roots=(str(lash.folder),), env=env))
    command = Command(place, BY_A_COMMAND.format(key=asked[0]["key"], **run), pty=False)
    await command.start(".", WAIT_S)
    await command.run()
    said = command.tail.after(0)[0].decode()
    assert said.count("a model's command may not answer a question") == 3, said
    assert "a model's command may not say what became of a call" in said
    assert "a model's command may not call the action `plan_disable`" in said, said
    assert "your answer" not in said
    assert "waits for" in said
    assert "May `act` of plugin" in (lash.folder / "shown").read_text()
    assert lash.run("pending", "list", "--json").object == asked
    assert lash.run("pending", "answer", asked[0]["key"], "deny").code == 0


def test_a_question_survives_kill_9(lash: Cli) -> None:
    """Of the process that asks, while it asks; it is asked once more, and the call is made once."""
    with Terminal(lash, "run", "go", "--session", "s", *RUN) as terminal:
        terminal.wait_for("(nothing: later) › ")
        terminal.send("allow\n")
        terminal.wait_for("(2 of 2)")
        terminal.wait_for("(nothing: later) › ")
        os.kill(terminal.process.pid, signal.SIGKILL)
        assert terminal.ended()[0] == -signal.SIGKILL
    (left,) = lash.run("pending", "list", "--json").object
    assert left["args"] == {"what": "b"}
    assert lash.run("pending", "answer", left["key"], "allow").code == 0
    done = lash.run("resume", "s", *RUN)
    assert "All done." in done.out


@pytest.mark.parametrize("rule", ["", "args = { what = 'b' }\ndecide = 'allow'"], ids=["all are asked", "one is made"])
def test_to_go_on_without_the_tools_that_were_allowed_loses_nothing(rule: str, lash: Cli) -> None:
    """It wrote down that there is no such tool, and so the turn fitted neither set of tools any more."""
    if rule:
        lash.write("lash.toml", f"mode = 'careful'\n{MODE}\n[[plugin.approval.rules]]\ntool = 'act'\n{rule}\n")
    assert lash.run("run", "go", "--session", "s", *RUN).code == 3
    for each in lash.run("pending", "list", "--json").object:
        assert lash.run("pending", "answer", each["key"], "allow").code == 0
    forgot = lash.run("resume", "s", *RUN[2:])
    assert forgot.code == 1
    assert "name them again with `--tools`" in forgot.err
    done = lash.run("resume", "s", *RUN)
    assert done.code == 0, done.err
    (turn,) = lash.run("sessions", "show", "s", "--json").object["turns"]
    assert all("value" in each["output"]["outcome"] for each in turn["tool_calls"]), turn["tool_calls"]
