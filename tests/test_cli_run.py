"""`lash run`: where the prompt comes from, what is printed where, signals and pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from cli_kit import Cli, Terminal

pytestmark = pytest.mark.costly

OBJECT_KEYS = ["session_id", "turn_id", "outcome", "text", "usage", "calls", "durable", "tool_calls", "errors"]
TWO_REPLIES = """
[[reply]]
text = "First."
[[reply]]
text = "Second."
"""
TOOLS = '''
from lash_hookspecs import tool

@tool
async def greet(name: str, times: int = 1) -> str:
    """Greets."""
    return "hello " * times + name

def shout(text: str) -> str:
    """Shouts."""
    raise ValueError("too loud")

TOOLS = [shout]
'''
TOOL_SCRIPT = """
[[reply]]
text = "Calling."
tool_calls = [
    { name = "greet", arguments = { name = "Ada", times = 2 } },
    { name = "shout", arguments = { text = "x" } },
]
[[reply]]
text = "Called."
"""


@pytest.fixture
def lash(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


# ---- the prompt -----------------------------------------------------------------------------------------------------


def test_a_prompt_is_an_argument_a_file_or_standard_input(lash: Cli) -> None:
    lash.write("question.txt", "from a file")
    assert 'You said: "one two"' in lash.run("run", "one", "two").out
    assert 'You said: "from a file"' in lash.run("run", "@question.txt").out
    assert 'You said: "from a pipe"' in lash.run("run", stdin=b"from a pipe").out
    assert 'You said: "Explain:\n\nthis"' in lash.run("run", "Explain:", "-", stdin=b"this").out
    assert 'You said: "@all"' in lash.run("run", "@@all").out


def test_an_argument_that_is_no_text_is_refused(lash: Cli) -> None:
    done = subprocess.run(
        [*lash.command("run"), b"ab\xff"], cwd=lash.folder, env=lash.env(), capture_output=True, check=False
    )
    assert done.returncode == 2
    assert b"the prompt is no valid text: character 2 can't be decoded" in done.stderr


def test_a_prompt_of_ten_megabytes_works(lash: Cli) -> None:
    done = lash.run("run", "--json", stdin=b"x" * 10_000_000)
    assert done.code == 0
    assert done.object["text"].startswith('You said: "xxx')
    (lash.folder / "big.txt").write_bytes(b"y" * 10_000_000)
    again = lash.run("run", "--json", "--continue", "@big.txt")
    assert again.code == 0
    assert again.object["session_id"] == done.object["session_id"]


# ---- what is printed ------------------------------------------------------------------------------------------------


def test_in_a_pipe_only_the_answer_is_on_stdout(lash: Cli) -> None:
    tools = lash.write("tools.py", TOOLS)
    script = lash.write("script.toml", TOOL_SCRIPT)
    done = lash.run("run", "hi", "--tools", tools, "--model", f"scripted:{script}")
    assert done.code == 0
    assert done.out == "Calling.\nCalled.\n"
    lines = done.err.splitlines()
    assert any(line.startswith('→ greet(name="Ada", times=2) = hello hello Ada  (') for line in lines)
    assert any(line.startswith('→ shout(text="x") failed: ') for line in lines)
    assert lines[-1].startswith("20 tokens in, 10 out · session ")
    assert lines[-1].endswith(f"committed to {lash.folder / 'test.db'}")


def test_json_is_exactly_one_object_of_the_documented_shape(lash: Cli) -> None:
    tools = lash.write("tools.py", TOOLS)
    script = lash.write("script.toml", TOOL_SCRIPT)
    done = lash.run("run", "hi", "--json", "--tools", tools, "--model", f"scripted:{script}", "--session", "s")
    assert done.out.count("\n") == 1
    assert list(done.object) == OBJECT_KEYS
    assert done.object["session_id"] == "s"
    assert done.object["outcome"]["type"] == "finished"
    assert done.object["text"] == "Called."
    assert done.object["usage"] == {
        "input": 20,
        "output": 10,
        "cache_read_input": 0,
        "cache_write_input": 0,
        "reasoning_output": 0,
        "total": 30,
        "at_least": False,
        "cost": {"usd": "0.000000000000", "at_least": False},
    }
    assert [each["total"] for each in done.object["calls"]] == [15, 15]
    assert [call["tool_name"] for call in done.object["tool_calls"]] == ["greet", "shout"]
    assert [call["output"]["outcome"]["status"] for call in done.object["tool_calls"]] == ["success", "failure"]
    assert isinstance(done.object["durable"], bool)
    assert done.object["errors"] == []


def test_jsonl_is_one_activity_a_line_and_the_object_last(lash: Cli) -> None:
    done = lash.run("run", "hi", "--jsonl")
    *activities, last = [json.loads(line) for line in done.out.splitlines()]
    assert list(last) == OBJECT_KEYS
    assert all({"id", "correlation_id", "type"} <= each.keys() for each in activities)
    assert "".join(each["text"] for each in activities if each["type"] == "assistant_prose_delta") == last["text"]


def test_a_failed_command_prints_the_object_too(lash: Cli) -> None:
    done = lash.run("run", "hi", "--json", "--mode", "nope")
    assert done.code == 2
    assert list(done.object) == OBJECT_KEYS
    assert done.object["outcome"] == {"type": "none"}
    assert done.object["errors"][0]["kind"] == "UnknownName"
    assert "unknown mode `nope`" in done.err
    assert lash.run("run", "--json").object["errors"][0]["kind"] == "UsageError"


def test_a_stopped_turn_is_exit_code_1_and_committed(lash: Cli) -> None:
    script = lash.write("script.toml", '[[reply]]\ntext = "half"\nerror = "the service is on fire"\n')
    done = lash.run("run", "hi", "--json", "--session", "s", "--model", f"scripted:{script}")
    assert done.code == 1
    assert done.object["outcome"] == {"type": "stopped", "reason": "provider_error"}
    assert "the service is on fire" in done.err
    assert lash.run("sessions", "show", "s", "--json").object["turns"][0]["turn_id"] == done.object["turn_id"]


def test_who_answers_is_said_when_nobody_chose_a_model(lash: Cli) -> None:
    assert "no model is chosen, so this is `scripted:demo`" in lash.run("run", "hi").err
    assert "no model" not in lash.run("run", "hi", "--model", "scripted:demo").err


# ---- sessions -------------------------------------------------------------------------------------------------------


def test_continue_goes_on_with_the_session_used_last(lash: Cli) -> None:
    none = lash.run("run", "hi", "--continue")
    assert (none.code, "there is no database at `" in none.err) == (2, True)
    script = f"scripted:{lash.write('script.toml', TWO_REPLIES)}"
    first = lash.run("run", "one", "--json", "--model", script).object
    second = lash.run("run", "two", "--json", "-c").object
    assert (first["text"], second["text"]) == ("First.", "Second.")
    assert first["session_id"] == second["session_id"]
    both = lash.run("run", "x", "-c", "--session", "y")
    assert (both.code, "exclude each other" in both.err) == (2, True)


def test_a_turn_id_runs_once(lash: Cli) -> None:
    first = lash.run("run", "one", "--json", "--session", "s", "--turn-id", "t")
    again = lash.run("run", "one", "--session", "s", "--turn-id", "t")
    assert again.out.strip() == first.object["text"]
    assert len(lash.run("sessions", "show", "s", "--json").object["turns"]) == 1
    other = lash.run("run", "another", "--session", "s", "--turn-id", "t")
    assert (other.code, "with another input; choose another turn id" in other.err) == (1, True)


def test_system_instructions_reach_the_prompt_with_their_source(lash: Cli) -> None:
    lash.write("rules.md", "Answer in Latin.")
    done = lash.run("run", "hi", "--system", "@rules.md", "--json").object
    shown = lash.run("explain", done["turn_id"], "--text").out
    assert "Answer in Latin." in shown


# ---- signals and pipes ----------------------------------------------------------------------------------------------


def _until_the_tool_runs(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if b"tool_call_started" in line:
            return
    raise AssertionError("the tool never ran")


def test_ctrl_c_cancels_and_commits(lash: Cli) -> None:
    process = lash.start("run", "hi", "--jsonl", "--session", "s", *lash.slow())
    _until_the_tool_runs(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    last = json.loads(out.splitlines()[-1])
    assert last["outcome"] == {"type": "stopped", "reason": "cancelled"}
    assert b"cancelled; your message is stored, the unfinished answer is not" in err
    assert b"Traceback" not in err
    turns = lash.run("sessions", "show", "s", "--json").object["turns"]
    assert [each["turn_id"] for each in turns] == [last["turn_id"]]
    again = lash.run("run", "hi", "--session", "s", "--model", "scripted:slow.toml")
    assert (again.code, again.out) == (0, "The second answer.\n")


def test_ctrl_c_on_a_terminal_cancels(lash: Cli) -> None:
    with Terminal(lash, "run", "hi", *lash.slow()) as terminal:
        terminal.wait_for("wait_long()")
        terminal.send("\x03")
        terminal.wait_for("cancelled; your message is stored, the unfinished answer is not")
        assert terminal.ended()[0] == 130


def test_sigterm_interrupts_and_commits_nothing(lash: Cli) -> None:
    process = lash.start("run", "hi", "--jsonl", "--session", "s", *lash.slow())
    _until_the_tool_runs(process)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert process.returncode == 143
    last = json.loads(out.splitlines()[-1])
    assert last["outcome"] == {"type": "none"}
    assert last["turn_id"]
    assert err.startswith(b"lash: terminated; the turn is interrupted, and `")
    (session,) = lash.run("sessions", "list", "--json").object
    assert session["turns"] == 0


@pytest.mark.parametrize("form", [(), ("--jsonl",)], ids=["text", "jsonl"])
def test_a_reader_that_leaves_ends_the_run_quietly_and_is_committed(lash: Cli, form: tuple[str, ...]) -> None:
    text = "a line of text\\n" * 20_000  # more than any pipe holds
    lash.write("long.toml", f'[[reply]]\ntext = "{text}"\n')
    process = lash.start("run", "hi", "--session", "s", "--model", "scripted:long.toml", *form)
    assert process.stdout is not None
    os.read(process.stdout.fileno(), 10)
    process.stdout.close()
    assert process.stderr is not None
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 141
    assert err == b""
    assert len(lash.run("sessions", "show", "s", "--json").object["turns"]) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_below_the_output_is_named_and_the_turn_is_kept(lash: Cli) -> None:
    with Path("/dev/full").open("wb") as full:
        process = lash.start("run", "hi", "--session", "s", stdout=full)
        _, err = process.communicate()
    assert process.returncode == 1
    assert err.endswith(b"lash: standard output can't be written: No space left on device; the turn was committed\n")
    assert len(lash.run("sessions", "show", "s", "--json").object["turns"]) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_below_the_messages_loses_nothing(lash: Cli) -> None:
    """Of a run whose log couldn't be written there was neither a turn nor a code that the table of codes has (120)."""
    with Path("/dev/full").open("wb") as full:
        process = lash.start("run", "hi", "--json", "--session", "s", stderr=full)
        out, _ = process.communicate()
        assert (process.returncode, json.loads(out)["outcome"]["type"]) == (0, "finished")
        wrong = lash.start("run", "--nope", stderr=full)
        wrong.communicate()
        assert wrong.returncode == 2
    assert len(lash.run("sessions", "show", "s", "--json").object["turns"]) == 1


def test_closed_standard_files_do_no_harm(lash: Cli) -> None:
    shell = " ".join([*lash.command("run", "hi", "--json", "--session", "s"), "<&-", ">&-", "2>&-"])
    done = subprocess.run(["sh", "-c", shell], cwd=lash.folder, env=lash.env(), check=False)
    assert done.returncode == 0
    assert lash.run("sessions", "show", "s", "--json").object["turns"]


def test_a_terminal_gets_text_tools_and_the_place(lash: Cli) -> None:
    with Terminal(lash, "demo") as terminal:
        shown = terminal.wait_for("Type next:")
        code, rest = terminal.ended()
    assert code == 0
    for part in (
        '→ now(tz="UTC") = ',
        "was killed (SIGKILL) while `add` ran",
        "- add returned 42",
        "That is all this demo can do.",
        "✓ committed in",
    ):
        assert part in shown, part
    assert "-m lash_framework explain " in rest


def test_a_terminal_that_speaks_ascii_is_no_reason_to_fail(lash: Cli) -> None:
    done = lash.run("demo", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.code == 0
    assert '\\u2192 now(tz="UTC") = ' in done.out
    answer = lash.run("run", "é", "--json", env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert 'You said: "é"' in answer.object["text"]


PRINTING_TOOL = '''
from lash_hookspecs import tool

@tool
def chatter() -> str:
    """Prints."""
    print("noise from a tool")
    return "quiet"
'''
PRINTING_SCRIPT = """
[[reply]]
tool_calls = [{ name = "chatter" }]
[[reply]]
text = "Done."
"""


@pytest.mark.parametrize("form", ["--json", "--jsonl", None])
def test_what_a_tool_prints_never_gets_between_the_answers_lines(lash: Cli, tmp_path: Path, form: str | None) -> None:
    """A printed line used to stand before the JSON object, which no program could read then."""
    (tmp_path / "tools.py").write_text(PRINTING_TOOL)
    (tmp_path / "script.toml").write_text(PRINTING_SCRIPT)
    options = [form] if form else []
    ended = lash.run("run", "hi", "--tools", "tools.py", "--model", "scripted:script.toml", *options)
    assert ended.code == 0
    assert "noise from a tool" in ended.err
    assert "noise" not in ended.out
    if form:
        assert json.loads(ended.out.splitlines()[-1])["text"] == "Done."
    else:
        assert ended.out == "Done.\n"
