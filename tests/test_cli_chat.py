"""`lash chat`: real keys on a real pseudo-terminal, and lines through a pipe."""

from __future__ import annotations

import signal
import stat
from pathlib import Path

import pytest
from cli_kit import Cli, Terminal

PROMPT = "› "


@pytest.fixture
def lash(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def test_ctrl_c_cancels_the_turn_and_keeps_the_session(lash: Cli) -> None:
    with Terminal(lash, "chat", "--session", "s", *lash.slow()) as terminal:
        terminal.wait_for(PROMPT)
        terminal.send("hello\n")
        terminal.wait_for("wait_long()")
        terminal.send("\x03")
        terminal.wait_for("cancelled; your message is stored, the unfinished answer is not")
        terminal.wait_for(PROMPT)
        terminal.send("and now?\n")
        terminal.wait_for("The second answer.")
        terminal.wait_for(PROMPT)
        terminal.send("\x04")
        code, rest = terminal.ended()
    assert code == 0
    assert "-m lash_framework chat --session s" in rest
    outcomes = [each["outcome"] for each in lash.run("sessions", "show", "s", "--json").object["turns"]]
    assert [each["type"] for each in outcomes] == ["stopped", "finished"]


def test_ctrl_c_at_the_prompt_warns_and_a_second_one_leaves(lash: Cli) -> None:
    with Terminal(lash, "chat") as terminal:
        terminal.wait_for(PROMPT)
        terminal.wait_until_it_reads()
        terminal.send("\x03")
        terminal.wait_for("Ctrl-C again, or Ctrl-D, leaves")
        terminal.wait_for(PROMPT)
        terminal.wait_until_it_reads()
        terminal.send("\x03")
        assert terminal.ended()[0] == 130


def test_sigterm_leaves_and_commits_nothing(lash: Cli) -> None:
    with Terminal(lash, "chat", "--session", "s", *lash.slow()) as terminal:
        terminal.wait_for(PROMPT)
        terminal.send("hello\n")
        terminal.wait_for("wait_long()")
        terminal.process.send_signal(signal.SIGTERM)
        code, rest = terminal.ended()
    assert code == 143
    assert "Traceback" not in rest
    assert [each["turns"] for each in lash.run("sessions", "list", "--json").object] == [0]


def test_lines_are_edited_and_remembered(lash: Cli) -> None:
    with Terminal(lash, "chat", "--session", "s") as terminal:
        terminal.wait_for(PROMPT)
        terminal.send("hxllo\x01\x06\x1b[3~e\x05!\n")  # home, right, delete, `e`, end
        terminal.wait_for('You said: "hello!"')
        terminal.wait_for(PROMPT)
        terminal.send("/quit\n")
        assert terminal.ended()[0] == 0
    history = lash.folder / "state" / "lash" / "history"
    assert history.read_text().splitlines()[-2:] == ["hello!", "/quit"]
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    with Terminal(lash, "chat", "--continue") as terminal:
        terminal.wait_for(PROMPT)
        terminal.send("\x1b[A\x1b[A\n")  # up, up
        terminal.wait_for('You said: "hello!"')
        terminal.wait_for(PROMPT)
        terminal.send("\x04")
        assert terminal.ended()[0] == 0
    assert len(lash.run("sessions", "show", "s", "--json").object["turns"]) == 2


def test_a_failed_turn_leaves_the_chat_usable(lash: Cli) -> None:
    script = lash.write("script.toml", '[[reply]]\ntext = "x"\nerror = "on fire"\n')
    done = lash.run("chat", "--session", "s", "--model", f"scripted:{script}", stdin=b"one\n/session\ntwo\n")
    assert done.code == 1
    assert done.err.count("on fire") >= 1
    assert "-m lash_framework chat --session s" in done.out
    assert len(lash.run("sessions", "show", "s", "--json").object["turns"]) == 2


FAILS = '[[reply]]\ntext = "x"\nerror = "on fire"\n'
ANSWERS = '[[reply]]\ntext = "Fine."\n'
ENDINGS = {
    "all finished": (("scripted:script.toml", ANSWERS * 2), b"one\ntwo\n", 0),
    "nothing said": (("scripted:script.toml", ANSWERS), b"", 0),
    "all stopped": (("scripted:script.toml", FAILS * 2), b"one\ntwo\n", 1),
    "one stopped": (("scripted:script.toml", FAILS + ANSWERS), b"one\ntwo\n/quit\n", 1),
    "no key": (("openai-chat:gpt-5", ""), b"one\ntwo\n", 2),
}


@pytest.mark.parametrize("case", ENDINGS)
def test_a_pipe_is_told_how_its_turns_ended(lash: Cli, case: str) -> None:
    (model, script), lines, code = ENDINGS[case]
    lash.write("script.toml", script)
    done = lash.run("chat", "--model", model, stdin=lines)
    assert done.code == code, done.err


def test_instructions_may_be_in_a_file_as_for_a_run(lash: Cli) -> None:
    """`--system` is that of `lash run`, says the page; the model was told the file's name."""
    rules = lash.write("rules.md", "Answer in verse.")
    assert lash.run("chat", "--session", "s", "--system", f"@{rules}", stdin=b"hi\n").code == 0
    (turn,) = lash.run("sessions", "show", "s", "--json").object["turns"]
    assert "Answer in verse." in lash.run("explain", turn["turn_id"], "--text").out


def test_a_pipe_gives_one_turn_a_line(lash: Cli) -> None:
    done = lash.run("chat", "--session", "s", stdin=b"one\n\n/help\n/nope\ntwo \\\nlines\n")
    assert done.code == 0
    assert 'You said: "one"' in done.out
    assert 'You said: "two \nlines"' in done.out
    assert "Ctrl-C" in done.out
    assert "unknown command `/nope`" in done.err
    assert PROMPT not in done.out


def test_binary_on_standard_input_names_its_place(lash: Cli) -> None:
    done = lash.run("chat", "--session", "s", stdin=b"one\n\xff\xfe\n")
    assert done.code == 2
    assert "no UTF-8 text: byte 0xff at offset 4" in done.err
    assert lash.run("run", "hi", "--session", "s").code == 0


def test_continue_needs_a_session(lash: Cli) -> None:
    done = lash.run("chat", "--continue")
    assert (done.code, "there is no database at `" in done.err) == (2, True)
    assert not (lash.folder / "test.db").exists()
