"""What the command line says of a turn is true, whatever else is printed, logged, misspelt or broken around it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from agents import plugin
from cli_kit import Cli, Terminal
from hook_kit import installed
from test_cli_screens import turn

from lash_framework.cli import main
from lash_framework.cli.exits import State, settle
from lash_framework.cli.lines import problems
from lash_framework.cli.prompts import read_prompt
from lash_hookspecs.errors import TurnCancelled, TurnInterrupted
from lash_hookspecs.llm import LlmTerminalReason
from lash_hookspecs.sessions import TurnIssue
from lash_hookspecs.turn_outcomes import Stopped, StopReason

ONE_CALL = '[[reply]]\ntext = "First."\ntool_calls = [{{ name = "{name}" }}]\n[[reply]]\ntext = "Done."\n'


pytestmark = pytest.mark.costly


@pytest.fixture
def lash(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def with_tool(lash: Cli, body: str, *, top: str = "") -> tuple[str, ...]:
    """Options for a turn in which the model calls the tool `act`, with this body."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    source = f'from lash_hookspecs import tool\n{top}\n\n@tool\ndef act() -> str:\n    """Acts."""\n{lines}\n'
    return (
        *("--tools", lash.write("tools.py", source)),
        *("--model", f"scripted:{lash.write('script.toml', ONE_CALL.format(name='act'))}"),
    )


LONG_REPLY = f"""
[[reply]]
text = "{"x" * 400_000}"
"""

# ---- a turn that the store refuses ----------------------------------------------------------------------------------


def test_an_answer_that_could_not_be_stored_is_told_and_kept_in_the_object(lash: Cli) -> None:
    """It used to exit with 2, "nothing was called", and an empty text: what was paid for was gone."""
    # A database that may not grow is a disk that is full, once it holds what every database holds.
    model = ("--model", f"scripted:{lash.write('long.toml', LONG_REPLY)}")
    full = (*model, "--set", "store_options.max_page_count=80")
    done = lash.run("run", "hi", "--json", "--session", "s", *full)
    assert done.code == 1
    assert "; the model has answered, but the turn was not committed; make room, then `" in done.err
    assert done.err.endswith(" resume s` goes on with it\n")
    assert done.object["outcome"] == {"type": "none"}
    assert done.object["text"].startswith("xxx")
    assert done.object["usage"]["output"] > 0
    assert done.object["errors"][0]["kind"] == "StoreUnavailable"
    resumed = lash.run("resume", "s", *full)
    assert resumed.code == 1
    assert "; the turn is not committed; make room, then `" in resumed.err
    assert resumed.err.endswith(" resume s` goes on with it\n")
    chat = lash.run("chat", "--session", "t", *full, stdin=b"hi\n")
    assert "the model has answered, but the turn was not committed" in chat.err
    assert lash.run("run", "short", "--model", "scripted:demo", "--set", "store_options.max_page_count=80").code == 0
    assert lash.run("resume", "s", *model).code == 0


def test_a_question_that_could_not_be_stored_is_not_asked(lash: Cli) -> None:
    full = ("--model", "scripted:demo", "--set", "store_options.max_page_count=80")
    done = lash.run("run", "--json", *full, stdin=b"x" * 400_000)
    assert (done.code, done.object["text"], done.object["usage"]["total"]) == (2, "", 0)
    assert "the model" not in done.err


def test_a_store_that_can_not_be_opened_is_still_a_matter_of_configuration(lash: Cli) -> None:
    done = lash.run("run", "hi", "--json", "--store", "sqlite:////dev/null/x.db")
    assert (done.code, done.object["text"], done.object["usage"]["at_least"]) == (2, "", False)


def test_a_terminated_turn_says_what_was_heard_of_it(lash: Cli) -> None:
    process = lash.start("run", "hi", "--jsonl", *lash.slow())
    assert process.stdout is not None
    assert any(b"tool_call_started" in line for line in process.stdout)
    process.terminate()
    out, _ = process.communicate()
    last = json.loads(out.splitlines()[-1])
    assert (last["outcome"], last["text"]) == ({"type": "none"}, "Let me wait.")
    assert last["usage"]["output"] == 5


# ---- standard output is the answer's --------------------------------------------------------------------------------

NOISE = "import subprocess\nsubprocess.run(['echo', 'noise'], check=True)\nprint('printed')\nreturn 'quiet'"


@pytest.mark.parametrize("form", ["--json", "--jsonl", None])
def test_what_a_tools_subprocess_prints_goes_to_stderr(lash: Cli, form: str | None) -> None:
    ended = lash.run("run", "hi", *with_tool(lash, NOISE, top="print('imported')"), *([form] if form else []))
    assert ended.code == 0
    for noise in ("noise\n", "printed\n", "imported\n"):
        assert noise in ended.err
    if form is None:
        assert ended.out == "First.\nDone.\n"
    else:
        assert [json.loads(line) for line in ended.out.splitlines()][-1]["text"] == "Done."


def test_a_tools_subprocess_writes_to_a_closed_stdout_or_a_terminal_without_harm(lash: Cli) -> None:
    options = with_tool(lash, NOISE)
    shell = " ".join([*lash.command("run", "hi", "--session", "s", *options), ">&-"])
    assert subprocess.run(["sh", "-c", shell], cwd=lash.folder, env=lash.env(), check=False).returncode == 0
    assert lash.run("sessions", "show", "s", "--json").object["turns"]
    with Terminal(lash, "run", "hi", *options) as terminal:
        terminal.wait_for("noise")
        terminal.wait_for("Done.")
        assert terminal.ended()[0] == 0


def test_in_an_application_only_pythons_stdout_is_redirected(
    lash: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = lash.here(monkeypatch, capsys, "run", "hi", "--json", *with_tool(lash, "print('printed')\nreturn ''"))
    assert (done.code, done.object["text"]) == (0, "Done.")
    assert "printed" in done.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_below_a_json_answer_is_one_line(lash: Cli) -> None:
    with Path("/dev/full").open("wb") as full:
        process = lash.start("run", "hi", "--json", "--model", "scripted:demo", stdout=full)
        _, err = process.communicate()
    assert process.returncode == 1
    assert err == b"lash: standard output can't be written: No space left on device; the turn was committed\n"


# ---- logging --------------------------------------------------------------------------------------------------------


def test_a_tool_that_raises_shows_no_traceback_until_it_is_asked_for(lash: Cli) -> None:
    """The traceback used to stand in the middle of the answer."""
    options = with_tool(lash, "raise ValueError('too loud')")
    quiet = lash.run("run", "hi", *options)
    assert (quiet.code, quiet.out, "Traceback" in quiet.err) == (0, "First.\nDone.\n", False)
    assert "failed: ValueError: too loud" in quiet.err
    assert "Traceback" not in lash.run("run", "hi", *options, "-v").err
    assert "Traceback" in lash.run("run", "hi", *options, "-vv").err


def test_verbose_says_where_things_are_from_and_how_the_turn_ended(lash: Cli) -> None:
    lash.write("lash.toml", 'model = "scripted:demo"\n')
    err = lash.run("run", "hi", "--session", "s", "-v").err
    for part in (
        f"settings from {lash.folder / 'lash.toml'}",
        "0 failed, 0 off",
        f"store opened: {lash.folder / 'test.db'}",
        "session s opened: model scripted:demo, mode standard",
    ):
        assert part in err, part
    assert re.search(r"turn \w+ ended after \d+\.\d\d s: \d+ tokens in, \d+ out", err)
    assert "INFO" not in lash.run("run", "hi", "--session", "s").err
    both = lash.start("run", "hi", "-v", stderr=subprocess.STDOUT)
    together = both.communicate()[0].decode()
    assert both.returncode == 0
    assert "\nINFO lash.cli: turn " in together, "in one place, each has a line of its own"


# ---- slips in the settings ------------------------------------------------------------------------------------------

SLIPS = """
[provider.openai-cat]
base_url = "x"
[provider.openai-chat]
max_attempts = "many"
[plugins]
disabled = ["nope"]
[modes.a]
extends = "b"
[modes.b]
extends = "a"
[modes.c]
extends = "standrad"
[plugin.mode-standrd]
x = 1
"""


def test_doctor_finds_what_is_misspelt_in_tables_that_nothing_uses(lash: Cli) -> None:
    lash.write("lash.toml", SLIPS)
    done = lash.run("doctor", "--json")
    assert done.code == 1
    broken = [each["found"] for each in done.object if each["state"] == "broken"]
    for part in (
        "lash.toml:2: `provider.openai-cat` is for an unknown provider: did you mean `openai-chat`?",
        "lash.toml:5: `provider.openai-chat.max_attempts` must be a whole number, not text",
        "lash.toml:7: `plugins.disabled` names the unknown plugin `nope`: known: ",
        "lash.toml:8: modes extend each other in a circle: `a` extends `b` extends `a`",
        "lash.toml:12: unknown mode `standrad`: mode `c` of lash.toml extends it; did you mean `standard`?",
        "options: there are options for it, but no such plugin is installed: did you mean `mode-standard`?",
    ):
        assert any(each.startswith(part) for each in broken), (part, broken)


@pytest.mark.parametrize("command", [("run", "hi"), ("chat",)], ids=["run", "chat"])
def test_run_and_chat_warn_of_slips_once(lash: Cli, command: tuple[str, ...]) -> None:
    lash.write("lash.toml", SLIPS)
    done = lash.run(*command, "--model", "scripted:demo", stdin=b"one\ntwo\n" if command == ("chat",) else b"")
    assert done.code == 0
    warnings = [line for line in done.err.splitlines() if line.startswith("lash: warning: ")]
    assert [line.count("openai-cat") for line in warnings] == [0, 1, 0]
    assert "plugin `mode-standrd` is left out" in warnings[0]
    assert "`nope`" in warnings[2]


def test_a_name_that_a_switched_off_plugin_offers_is_explained(lash: Cli) -> None:
    lash.write("lash.toml", '[plugins]\ndisabled = ["mode-standard"]\n')
    says = "unknown mode `standard`: nothing offers it; these plugins are off: `mode-standard` (lash.toml:2); "
    for command in (("run", "hi"), ("modes", "show"), ("doctor",)):
        done = lash.run(*command)
        assert f"{says}see `lash plugins list`" in done.out + done.err, command
    none = lash.run("run", "hi", "--no-plugins", "--set", "plugins.disabled=mode-standard", "--json")
    assert none.code == 2
    assert none.object["errors"][0]["kind"] == "UnknownName"
    assert "`store-sql`, " in none.err
    assert " (--no-plugins); see" in none.err


def test_a_misspelt_provider_is_told_the_nearest(lash: Cli) -> None:
    assert "`openai`" in lash.run("run", "hi", "--model", "opnai:x").err
    assert "`openai-chat`" in lash.run("run", "hi", "--model", "opnai-chat:x").err


# ---- stores ---------------------------------------------------------------------------------------------------------

LOOKS = [
    ("sessions", "list"),
    ("sessions", "show", "s"),
    ("sessions", "export", "s"),
    ("sessions", "delete", "s", "--yes"),
    ("explain", "t"),
    ("run", "hi", "--continue"),
    ("chat", "--continue"),
    ("doctor",),
]


@pytest.mark.parametrize("command", LOOKS, ids=" ".join)
def test_a_mistyped_path_is_named_and_no_database_is_made_there(lash: Cli, command: tuple[str, ...]) -> None:
    done = lash.run(*command, "--store", "sqlite:///typo.db")
    assert not list(lash.folder.glob("typo.db*"))
    if command == ("doctor",):
        assert "none yet at typo.db" in done.out
    else:
        assert (done.code, done.err) == (2, "lash: there is no database at `typo.db`; `lash run` makes one there\n")


def test_a_path_is_read_alike_by_who_looks_for_the_database_and_who_opens_it(lash: Cli) -> None:
    """A `?` was where the path ended to one, and `~` was a folder of that name to the other."""
    home = {"HOME": str(lash.folder / "home")}
    (lash.folder / "home").mkdir()
    for path, there in (("what? #1 %41.db", "what? #1 %41.db"), ("~/a.db", "home/a.db")):
        store = ("--store", f"sqlite:///{path}")
        assert lash.run("run", "hi", "--session", "s", *store, env=home).code == 0
        assert (lash.folder / there).exists()
        assert lash.run("sessions", "show", "s", *store, env=home).code == 0


def test_a_folder_that_is_there_no_more_is_told(
    lash: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = lash.folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main(["sessions", "list"]) == 1
    assert capsys.readouterr().err == "lash: the current folder is there no more: `cd` to another one\n"


def test_a_default_folder_that_can_not_be_made_says_what_to_do(lash: Cli) -> None:
    (lash.folder / "data").write_text("a file, where the folder should be")
    done = lash.run("run", "hi", env={"LASH_STORE": ""})
    assert done.code == 2
    assert "choose another place with `--store sqlite:///FILE.db` or LASH_STORE" in done.err


def test_continue_passes_by_sessions_without_a_turn(lash: Cli) -> None:
    lash.run("run", "hi", "--session", "s", "--model", "scripted:demo")
    lash.run("chat", "--session", "empty", "--model", "scripted:demo")
    done = lash.run("run", "more", "--continue", "--json")
    assert (done.code, done.object["session_id"]) == (0, "s")


def test_a_busy_session_is_waited_for(lash: Cli) -> None:
    gate = lash.folder / "gate"
    os.mkfifo(gate)
    script = with_tool(lash, f"return open({str(gate)!r}).read()")
    first = lash.start("run", "hi", "--jsonl", "--session", "s", *script)
    assert first.stdout is not None
    assert any(b"tool_call_started" in line for line in first.stdout)
    waiting = ("run", "hi", "--session", "s", "--model", "scripted:demo", "--wait")
    second = lash.start(*waiting)
    assert second.stderr is not None
    assert b"lash: waiting for session s, which runs a turn elsewhere\n" in iter(second.stderr.readline, b"")
    with Terminal(lash, *waiting) as third:
        third.wait_for("waiting for session s …")
        gate.write_text("x")
        third.wait_for('You said: "hi"')
        assert third.ended()[0] == 0
    first.communicate()
    assert b"waiting" not in second.communicate()[1], "it is said once"
    assert (first.returncode, second.returncode) == (0, 0)
    assert len(lash.run("sessions", "show", "s", "--json").object["turns"]) == 3


# ---- what is typed --------------------------------------------------------------------------------------------------


def test_piped_text_comes_after_the_prompt(lash: Cli) -> None:
    assert 'You said: "Shorten:\n\na text\n"' in lash.run("run", "Shorten:", stdin=b"a text\n").out
    assert 'You said: "alone"' in lash.run("run", "alone", stdin=b"").out


def test_an_inherited_socket_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    ours, theirs = socket.socketpair()
    with ours, theirs, os.fdopen(os.dup(theirs.fileno())) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        began = time.monotonic()
        assert read_prompt(["hi"]) == "hi"
        assert time.monotonic() - began < 20


REFUSED = {
    "both forms": (("run", "hi", "--json", "--jsonl"), "--json and --jsonl exclude each other"),
    "control in a session id": (("run", "hi", "--session", "a\x1bb"), "the control character '\\x1b'"),
    "no turn": (("explain", " "), "which turn?"),
    "a kind that is left out": (("plugins", "new", "acme"), "Missing option '--kind'. Choose from: hook, tool,"),
    "a command": (("runn",), "unknown command `runn`: did you mean `run`? `lash --help` tells more"),
    "a command of a group": (
        ("sessions", "lst"),
        "unknown command `sessions lst`: did you mean `list`? `lash sessions --help` tells more",
    ),
    "a command of a group that is like none": (
        ("modes", "zzz"),
        "unknown command `modes zzz`: known: `list`, `show`; `lash modes --help` tells more",
    ),
    "a provider for a model": (
        ("run", "hi", "--model", "openai-chat"),
        "model `openai-chat` names a provider, and none of its models: type `openai-chat:NAME`",
    ),
    "a number of tokens": (("run", "hi", "--max-tokens", "-5"), "Invalid value for '--max-tokens': -5 is not in the"),
    "instructions from nowhere": (("chat", "--system", "@nope.md"), "--system @nope.md: No such file or directory"),
    "an option": (("chat", "--nope"), "No such option '--nope'"),
    "a number": (("sessions", "list", "--limit", "x"), "Invalid value for '--limit': 'x' is not a valid integer"),
    "a mode to show": (("modes", "show", "nope"), "unknown mode `nope`: known: `coder`,"),
    "an action": (("actions", "call", "nope"), "unknown action `nope`: known: `plan_disable`,"),
    "an action's session": (
        ("actions", "call", "plan_show"),
        "action `plan_show` is called on a session: name one (`session=`, or `--session`)",
    ),
    "an action of another mode": (
        ("actions", "call", "plan_show", "--session", "s"),
        "which mode `standard` of session `s` lacks: name `plan` in the mode's `plugins`, or open the session in a",
    ),
    "an action's value": (("actions", "call", "plan_show", "{"), "VALUE must be JSON: "),
    "no database": (("sessions", "list"), "; `lash run` makes one there"),
    "a plugin": (("plugins", "why", "aproval"), "did you mean `approval`?"),
    "a price": (("run", "hi", "--max-cost", "-1"), "Invalid value for '--max-cost': -1.0 is not in the range x>=0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused(lash: Cli, case: str) -> None:
    args, says = REFUSED[case]
    done = lash.run(*args)
    assert (done.code, says in done.err) == (2, True), done.err
    assert (done.err[:6], done.err.count("\n"), done.out) == ("lash: ", 1, ""), done.err


def test_a_sessions_id_may_be_begun(lash: Cli) -> None:
    for name in ("alpha", "alphabet", "beta"):
        lash.run("run", "hi", "--session", name, "--turn-id", "t", "--model", "scripted:demo")
    assert lash.run("sessions", "show", "be", "--json").object["session_id"] == "beta"
    assert lash.run("sessions", "show", "alpha", "--json").object["session_id"] == "alpha"
    assert "session `alp` is ambiguous: `alpha" in lash.run("sessions", "show", "alp").err
    assert lash.run("sessions", "delete", "be", "--yes").code == 2, "what is gone for good is named in full"
    assert "`lash sessions list` lists them" in lash.run("sessions", "show", "zzz").err
    assert lash.run("explain", "t").code == 2
    assert "session beta" in lash.run("explain", "t", "--session", "beta").out


def test_the_help_of_session_fits_its_command(lash: Cli) -> None:
    assert "made if there is none" in lash.run("run", "--help").out
    assert "in place of SESSION" in lash.run("sessions", "show", "--help").out
    assert "made if there is none" not in lash.run("sessions", "list", "--help").out
    assert "The session that the action is called on." in lash.run("actions", "call", "--help").out


# ---- how it ends ----------------------------------------------------------------------------------------------------


def test_an_answer_that_was_cut_is_one_line() -> None:
    cut = TurnIssue(kind="llm_provider", message="x", terminal_reason=LlmTerminalReason.OUTPUT_LIMIT)
    noted = TurnIssue(
        kind="runtime",
        code="assistant_output_recovered_from_state",
        message="the last answer was taken",
        blocking=False,
    )
    assert list(problems(turn(Stopped(StopReason.INCOMPLETE), errors=[cut, noted]))) == [
        "the answer was cut at the output limit; raise generation.output_token_cap "
        "(or --set generation.output_token_cap=N)"
    ]


def test_a_cut_answer_is_told_once_by_the_command(lash: Cli) -> None:
    lash.write("cut.toml", '[[reply]]\ntext = "Half of it"\nterminal_reason = "output_limit"\n')
    done = lash.run("run", "hi", "--model", "scripted:cut.toml")
    assert (done.code, done.out) == (1, "Half of it\n")
    assert [line[:40] for line in done.err.splitlines() if line.startswith("lash:")] == [
        "lash: the answer was cut at the output l"
    ]


def test_a_turn_that_never_began_is_cancelled(capsys: pytest.CaptureFixture[str]) -> None:
    assert settle(TurnCancelled("x"), State()) == 130
    assert capsys.readouterr().err == "lash: cancelled before it began; nothing was asked or stored\n"
    assert settle(TurnInterrupted("x"), State()) == 130
    assert capsys.readouterr().err == (
        "lash: interrupted; nothing of the turn was committed; `lash resume` goes on with what is recorded\n"
    )


def test_a_tool_that_ends_the_program_is_a_tool_that_failed(lash: Cli) -> None:
    done = lash.run("run", "hi", *with_tool(lash, "raise SystemExit(130)"))
    assert (done.code, done.out) == (0, "First.\nDone.\n")
    assert "act() failed: SystemExit: 130" in done.err


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_a_foreign_exit_code_does_not_become_ours(lash: Cli, form: tuple[str, ...]) -> None:
    done = lash.run("run", "hi", *with_tool(lash, "return ''", top="import sys; sys.exit(130)"), *form)
    assert done.code == 1
    assert "ended the program (SystemExit: 130)" in done.err
    if form:
        assert done.object["outcome"] == {"type": "none"}


# ---- hooks that fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", ["lash_before_turn", "lash_turn_committed"])
def test_a_hook_that_failed_is_told_once_with_its_name(
    lash: Cli, hook: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was a warning of the log, and then the turn's error with the plugin's name twice or without the hook."""

    def fail(ctx: Any) -> None:
        raise KeyError("k")

    fail.__name__ = hook
    with installed({"words": plugin("words", fail)}):
        done = lash.here(monkeypatch, capsys, "run", "--json", "--model", "scripted:demo", "q")
    text = f"plugin `words`, hook `{hook}`: KeyError: 'k'"
    assert done.err.count("KeyError") == done.err.count("`words`") == 1
    assert text in done.err
    assert [each["message"] for each in done.object["errors"]] == [text]
