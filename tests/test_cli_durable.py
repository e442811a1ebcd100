"""`resume`, `cancel`, `pending`, `replay`, `upgrade-check`, and what the other commands say of unfinished turns."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO

import anyio
import pytest
from cli_kit import Cli, Ended

from lash_framework import Lash
from lash_hookspecs import Ingress

Here = Callable[..., Ended]
KILLED = -signal.SIGKILL

TOOLS = '''
import os
import signal
from pathlib import Path

from lash_hookspecs import tool


def perish():
    if Path("die").exists():
        os.kill(os.getpid(), signal.SIGKILL)


@tool
async def pay() -> str:
    """Unsafe: whoever runs it may be killed in it."""
    perish()
    return "paid"


@tool(effect="pure")
async def look() -> str:
    """Runs again after a crash, and dies again."""
    perish()
    return "seen"


@tool(on_unknown="wait")
async def wire() -> str:
    """The same; a person decides after a crash."""
    perish()
    return "wired"
'''
SCRIPT = """
[[reply]]
text = "Let me."
tool_calls = [{{ name = "{tool}" }}]
[[reply]]
text = "The second answer."
[[reply]]
text = "The third answer."
"""
MODEL = ("--model", "scripted:script.toml")
WITH_TOOLS = ("--tools", "tools.py", *MODEL)


pytestmark = pytest.mark.costly


@pytest.fixture
def lash(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


@pytest.fixture
def here(lash: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    return lambda *args: lash.here(monkeypatch, capsys, *args)


def killed_in(lash: Cli, tool: str) -> None:
    """Turn `t` of session `s` was killed in this tool."""
    lash.write("tools.py", TOOLS)
    lash.write("script.toml", SCRIPT.format(tool=tool))
    die = lash.folder / "die"
    die.touch()
    assert lash.run("run", "hi", "--session", "s", "--turn-id", "t", *WITH_TOOLS).code == KILLED
    die.unlink()


def state_in(ended: Ended) -> list[str]:
    (session,) = [each for each in ended.object if each["session_id"] == "s"]
    return [each["state"] for each in session["unfinished"]]


# ---- an interrupted turn --------------------------------------------------------------------------------------------


def test_an_interrupted_turn_is_listed_and_goes_on(lash: Cli, here: Here) -> None:
    killed_in(lash, "pay")
    assert state_in(here("sessions", "list", "--json")) == ["interrupted"]
    assert "  interrupted  " in here("sessions", "list").out
    shown = here("sessions", "show", "s")
    assert "turn t is interrupted: `" in shown.out
    assert "resume s --store" not in shown.out  # LASH_STORE says where
    assert "resume s --tools FILE.py` goes on with it\n" in shown.out  # without them it couldn't
    assert here("sessions", "show", "s", "--json").object["unfinished"] == [
        {"turn_id": "t", "state": "interrupted", "attempts": 1, "reason": None}
    ]
    resumed = here("resume", "s", *WITH_TOOLS)
    assert resumed.code == 0
    assert resumed.out.startswith("s: turn t is committed (finished, ")
    assert "2 effects from its records, " in resumed.out
    unknown, answer = resumed.out.splitlines()
    assert unknown.endswith(" run now; nobody knows whether `pay` happened: find out before doing it again")
    assert answer == "The second answer."
    assert state_in(here("sessions", "list", "--json")) == []
    assert here("resume", "s").out == "s: nothing to resume\n"
    assert here("resume").out.startswith("nothing to resume in ")


def test_a_turn_that_kills_its_process_keeps_lash_resume_from_no_other_session(lash: Cli, here: Here) -> None:
    """It was tried again each time that all were gone on with, so that nobody ever came to the next session."""
    killed_in(lash, "look")
    (lash.folder / "die").touch()
    for _ in range(3):  # the first time something was recorded
        assert lash.run("resume", *WITH_TOOLS).code == KILLED
    assert "turn t is interrupted, begun 4 times: `" in here("sessions", "show", "s").out
    other = ("--model", f"scripted:{lash.write('other.toml', SCRIPT.format(tool='pay'))}")
    assert lash.run("run", "hi", "--session", "z", "--turn-id", "tz", "--tools", "tools.py", *other).code == KILLED
    resumed = lash.run("resume", "--tools", "tools.py")
    assert resumed.code == 1, resumed.err
    assert resumed.out.startswith("z: turn tz is committed (finished, ")
    told = "s: turn `t` of session `s` can't go on: its process died 3 times in a row before anything more was recorded"
    assert told in resumed.err
    assert "run `lash resume s`" in resumed.err
    (lash.folder / "die").unlink()
    assert here("resume", "s", "--tools", "tools.py").out.startswith("s: turn t is committed (finished, ")


@pytest.mark.parametrize("command", ["explain", "replay"])
def test_a_turn_that_is_not_committed_yet_is_not_called_unknown(command: str, lash: Cli, here: Here) -> None:
    """`lash sessions show` listed a turn of which `lash explain` said that there is none."""
    killed_in(lash, "pay")
    told = here(command, "t")
    assert told.code == 2
    assert "turn `t`: it isn't committed yet; `lash resume s` goes on with it" in told.err
    assert "unknown turn `other`: " in here(command, "other").err


def test_resume_without_a_session_goes_on_with_all(lash: Cli, here: Here) -> None:
    killed_in(lash, "pay")
    ended = here("resume", *WITH_TOOLS)
    assert (ended.code, ended.out.splitlines()[-1]) == (0, "The second answer.")


def test_a_run_on_its_session_goes_on_with_it_first_and_says_what_it_took(lash: Cli, here: Here) -> None:
    killed_in(lash, "pay")
    ended = here("run", "And now?", "--session", "s", *WITH_TOOLS)
    assert ended.code == 0
    first, second, *_ = ended.err.splitlines()
    assert first == "lash: turn t of this session is interrupted: going on with it first"
    assert second.startswith("lash: turn t is committed (finished, ")
    assert ended.out == "The third answer.\n"


def test_continue_finds_a_session_whose_first_turn_was_interrupted(lash: Cli, here: Here) -> None:
    killed_in(lash, "pay")
    ended = here("run", "-c", "And now?", "--json", *WITH_TOOLS)
    assert ended.code == 0, ended.err
    assert (ended.object["session_id"], ended.object["text"]) == ("s", "The third answer.")


def test_a_chat_on_its_session_does_the_same(lash: Cli) -> None:
    killed_in(lash, "pay")
    ended = lash.run("chat", "--session", "s", *WITH_TOOLS, stdin=b"And now?\n")
    assert "turn t of this session is interrupted: going on with it first" in ended.err
    assert "The third answer." in ended.out


def test_sigterm_names_the_command_that_goes_on(lash: Cli) -> None:
    process = lash.start("run", "hi", "--jsonl", "--session", "s", *lash.slow())
    _until_the_tool_runs(process)
    assert state_in(lash.run("sessions", "list", "--json")) == ["running"]
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()
    assert process.returncode == 143
    assert err.startswith(b"lash: terminated; the turn is interrupted, and `")
    assert err.endswith(b" resume s --tools slow.py` goes on with it\n")
    last = json.loads(out.splitlines()[-1])
    told = last["errors"][0]
    assert told["kind"] == "Interrupted"
    assert told["message"] in err.decode()
    assert last["durable"] is True  # all of it is recorded
    (call,) = last["tool_calls"]
    assert (call["tool_name"], call["args"], call["output"]) == ("wait_long", {}, None)


def _until_the_tool_runs(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    assert any(b"tool_call_started" in line for line in process.stdout)


def test_a_turn_that_runs_elsewhere_is_not_abandoned_here(lash: Cli) -> None:
    """It said to pass `wait=True`, which no command takes."""
    process = lash.start("run", "hi", "--jsonl", "--session", "s", "--turn-id", "t", *lash.slow())
    _until_the_tool_runs(process)
    ended = lash.run("resume", "s", "--abandon", "t")
    busy = "lash: session `s` is running a turn elsewhere; `lash cancel s` asks that to end\n"
    assert ended[:3] == (1, "", busy)
    code, out, *_ = lash.run("resume", "s")
    assert (code, out.partition(";")[0]) == (0, "s: a turn runs elsewhere")
    assert out.endswith(" resume s`\n")
    process.terminate()
    process.communicate()


# ---- cancel ---------------------------------------------------------------------------------------------------------


def test_a_turn_of_another_process_is_cancelled_and_committed(lash: Cli) -> None:
    process = lash.start("run", "hi", "--jsonl", "--session", "s", *lash.slow())
    _until_the_tool_runs(process)
    ended = lash.run("cancel", "s")
    out, _ = process.communicate()
    assert ended.code == 0, ended.err
    assert ended.out.endswith("is committed as cancelled\n")
    assert process.returncode == 130
    assert json.loads(out.splitlines()[-1])["outcome"] == {"type": "stopped", "reason": "cancelled"}
    assert lash.run("cancel", "s")[:2] == (1, "s: no turn runs or waits\n")


def test_an_interrupted_turn_is_cancelled_here(lash: Cli, here: Here) -> None:
    killed_in(lash, "pay")
    ended = here("cancel", "s")
    assert ended.code == 0, ended.err
    assert [each["outcome"] for each in here("sessions", "show", "s", "--json").object["turns"]] == [
        {"type": "stopped", "reason": "cancelled"}
    ]


def test_what_waits_behind_a_turn_is_listed_and_cancelled(lash: Cli, here: Here) -> None:
    process = lash.start("run", "hi", "--jsonl", "--session", "s", *lash.slow())
    _until_the_tool_runs(process)

    async def enqueue() -> list[int]:
        async with Lash.open(lash.store, model="scripted:demo") as opened:
            session = await opened.session("s", recover=False)
            wanted = (Ingress.NEXT_TURN, *Ingress)
            return [(await session.enqueue(f"Then {each}.", ingress=each)).no for each in wanted]

    first, second, third = anyio.run(enqueue)
    lines = here("sessions", "queue", "s").out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["1", str(first), str(second), str(third)]
    assert lines[2].split()[3:] == ["pending", "next_turn", "Then", "next_turn."]
    listed = here("sessions", "queue", "s", "--json").object
    assert [(each["state"], each["text"]) for each in listed[:2]] == [("claimed", "hi"), ("pending", "Then next_turn.")]
    assert here("sessions", "queue", "s", "--cancel", str(first))[:2] == (0, f"{first}: cancelled\n")
    ended = here("sessions", "queue", "s", "--cancel-from", str(second))
    assert ended[:2] == (0, f"{second}: cancelled\n{third}: cancelled\n")
    ended = here("sessions", "queue", "s", "--cancel", "99")
    assert (ended.code, ended.out.split(";")[0]) == (1, "99: unknown: session s has no such input, or no more")
    assert here("sessions", "queue", "s", "--cancel", "1").out.startswith("1: running: its turn is asked to end")
    process.communicate()
    assert process.returncode == 130
    assert here("sessions", "queue", "s", "--cancel", "1", "--json").object == [{"no": 1, "outcome": "unknown"}]
    assert here("sessions", "queue", "s")[:2] == (0, "nothing is queued in session s\n")
    assert here("sessions", "queue", "s", "--cancel", "1", "--cancel-from", "1").code == 2


WAITS = '''
import anyio
from lash_hookspecs import tool

@tool(effect="pure")
async def wait_long() -> str:
    """Never returns, whoever runs it."""
    print("it runs", flush=True)
    await anyio.sleep_forever()
'''


def interrupted(lash: Cli) -> tuple[str, ...]:
    """Options for turn `t` of session `s`, which SIGTERM interrupted in a tool that never ends."""
    options = lash.slow()
    lash.write("slow.py", WAITS)
    process = lash.start("run", "hi", "--jsonl", "--session", "s", "--turn-id", "t", *options)
    _until_the_tool_runs(process)
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == 143
    return options


def stopped(process: subprocess.Popen[bytes], where: IO[bytes] | None, stdin: bytes | None = None) -> tuple[str, str]:
    """What a process says that gets a Ctrl-C while the tool runs."""
    assert where is not None
    assert any(line == b"it runs\n" for line in where)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(stdin)
    return out.decode(), err.decode()


def outcomes(lash: Cli) -> list[str]:
    turns = lash.run("sessions", "show", "s", "--json").object["turns"]
    return [each["outcome"].get("reason", each["outcome"]["type"]) for each in turns]


def test_ctrl_c_cancels_a_turn_that_is_resumed(lash: Cli) -> None:
    """It interrupted it, so that the next resume ran it again."""
    process = lash.start("resume", "s", *interrupted(lash))
    out, err = stopped(process, process.stdout)
    assert process.returncode == 130, err
    assert out.startswith("s: turn t is committed (stopped: cancelled, ")
    assert outcomes(lash) == ["cancelled"]
    assert lash.run("resume", "s").out == "s: nothing to resume\n"


def test_ctrl_c_cancels_the_turn_that_a_run_goes_on_with_first_and_begins_no_other(lash: Cli) -> None:
    process = lash.start("run", "And now?", "--session", "s", "--json", *interrupted(lash))
    out, err = stopped(process, process.stderr)
    assert process.returncode == 130, err
    assert json.loads(out)["errors"][0]["kind"] == "TurnCancelled"
    first, second = err.splitlines()
    assert first.startswith("lash: turn t is committed (stopped: cancelled, ")
    assert second == "lash: cancelled before it began; nothing was asked or stored"
    assert outcomes(lash) == ["cancelled"]


def test_ctrl_c_cancels_the_turn_that_a_chat_goes_on_with_first_and_keeps_the_session(lash: Cli) -> None:
    process = lash.start("chat", "--session", "s", *interrupted(lash), stdin=subprocess.PIPE)
    out, err = stopped(process, process.stdout, b"And now?\n")
    assert process.returncode == 1, err  # one turn was cancelled, and one is finished
    assert "turn t is committed (stopped: cancelled, " in err
    assert "The second answer." in out
    assert sorted(outcomes(lash)) == ["cancelled", "finished"]


# ---- a turn that waits for a person ---------------------------------------------------------------------------------


def test_a_suspended_turn_is_listed_resolved_and_goes_on(lash: Cli, here: Here) -> None:
    killed_in(lash, "wire")
    waits = here("resume", "s", *WITH_TOOLS)
    assert waits.code == 3
    assert "see `lash pending list`, answer with `lash pending resolve KEY`, then `lash resume s`" in waits.err
    assert state_in(here("sessions", "list", "--json")) == ["suspended"]
    ran = here("run", "And now?", "--session", "s", "--json", *WITH_TOOLS)
    assert ran.code == 3
    assert ran.object["session_id"] == "s"
    assert ran.object["outcome"] == {"type": "none"}
    assert ran.object["errors"][0]["kind"] == "TurnSuspended"
    assert ran.err.count("waits for") == 1  # once is enough
    checked = here("upgrade-check", "--tools", "tools.py")
    assert checked.code == 0
    waits = "t: it waits for somebody to say what became of tool_call `wire` ("
    (line,) = [each for each in checked.out.splitlines() if each.startswith(waits)]
    assert line.endswith("): see `lash pending list`")
    (found,) = here("upgrade-check", "--tools", "tools.py", "--json").object
    assert (found["verdict"], len(found["waits_for"])) == ("safe", 1)
    (call,) = here("pending", "list", "--json").object
    assert (call["session_id"], call["turn_id"], call["tool"], call["args"]) == ("s", "t", "wire", {})
    assert call["key"][:12] in here("pending", "list").out
    for broken in ('{"a": 1', "[1, 2", '"it went', " {'a': 1}"):
        refused = here("pending", "resolve", call["key"][:8], "--result", broken)
        assert refused.code == 2
        assert "--result looks like JSON, but is broken: " in refused.err
        assert "say --text if it is meant as text" in refused.err
    resolved = here("pending", "resolve", call["key"][:8], "--text", '{"it went through')
    assert resolved.code == 0
    says = "turn t is suspended: `lash pending list` says what it waits for; once that is answered, `"
    assert says in here("sessions", "show", "s").out
    assert "resume s` goes on with it" in resolved.out
    assert here("pending", "list").out.startswith("nothing waits in ")
    second = here("pending", "resolve", call["key"][:8], "--result", "1")
    assert second.code == 2
    assert "was answered already, and the first answer counts: `lash resume s` goes on with its turn" in second.err
    assert here("resume", "s", *WITH_TOOLS).code == 0
    (turn,) = here("sessions", "show", "s", "--json").object["turns"]
    assert turn["tool_calls"][0]["output"]["outcome"]["value"] == '{"it went through'


# ---- a turn that can't go on ----------------------------------------------------------------------------------------


def test_a_turn_whose_tools_are_missing_says_so_is_blocked_at_last_and_can_be_abandoned(lash: Cli, here: Here) -> None:
    killed_in(lash, "pay")
    check = here("upgrade-check")
    assert check.code == 1
    assert "  old_set  " in check.out
    assert "it began with tools of a file: name them again with `--tools`" in check.out
    assert "its program's own tools and plugins are not here" in check.out
    lash.write("other.py", TOOLS.replace("@tool\n", '@tool(effect="pure")\n'))
    (found,) = here("upgrade-check", "--json", "--tools", "other.py").object
    assert (found["verdict"], found["at_effect"]) == ("mismatch", 3)
    assert "1 path differs: `effect` of plugin `application`" in found["reason"]
    (found,) = here("upgrade-check", "--json", "--tools", "tools.py").object
    assert (found["verdict"], found["at_effect"]) == ("safe", 3)
    for _ in range(3):
        first = here("run", "And now?", "--session", "s", *MODEL)
        assert first.code == 1
        assert "it began with tools of a file: name them again with `--tools`" in first.err
    assert state_in(here("sessions", "list", "--json")) == ["blocked"]
    assert "resume s --abandon t`" in here("sessions", "show", "s").out
    blocked = here("run", "And now?", "--session", "s", "--json", *MODEL)
    assert blocked.code == 1
    assert blocked.object["errors"][0]["kind"] == "TurnBlocked"
    assert "it began with tools of a file" in blocked.err  # also where nothing is tried any more
    assert "`lash resume s --abandon t`" in blocked.err
    forced = here("resume", "s")
    assert forced.err.startswith("lash: s: it began with tools of a file: name them again with `--tools`; turn `t` of")
    wrong = here("resume", "s", "--abandon", "u")
    assert (wrong.code, wrong.err) == (2, "lash: unknown turn `u`: session `s` would go on with turn `t`\n")
    ended = here("resume", "s", "--abandon", "t")
    assert ended.code == 0
    assert ended.out == "s: turn t is committed as stopped, with 2 recorded effects\n"
    assert state_in(here("sessions", "list", "--json")) == []


# ---- replay ---------------------------------------------------------------------------------------------------------


def test_a_turn_whose_journal_was_kept_is_replayed_to_the_same_bytes(lash: Cli, here: Here) -> None:
    keep = ("--set", "durability.keep_journal_h=1")
    assert here("run", "hi", "--session", "s", "--turn-id", "kept", *keep).code == 0
    assert here("run", "hi", "--session", "s", "--turn-id", "gone").code == 0
    replayed = here("replay", "kept")
    assert replayed.code == 0
    assert replayed.out.splitlines()[0].split() == ["1", "turn_start"]
    assert "effects from the journal, none executed: the same " in replayed.out
    tools = ("--tools", "tools.py")
    lash.write("tools.py", TOOLS)
    lash.write("script.toml", SCRIPT.format(tool="pay"))
    assert here("run", "hi", "--session", "p", "--turn-id", "paid", *keep, *WITH_TOOLS).code == 0
    assert here("replay", "paid", *tools).code == 0
    without = here("replay", "paid")
    assert without.code == 1
    assert "lash: it began with tools of a file: name them again with `--tools`\n" in without.err
    gone = here("replay", "gone")
    assert gone.code == 2
    assert "its journal wasn't kept: turns that run with `durability.keep_journal_h` above 0 keep theirs" in gone.err
    # Whoever opens the store with that setting later drops what is older.
    assert here("run", "hi", "--session", "s", "--set", "durability.keep_journal_h=1e-9").code == 0
    assert here("replay", "kept").code == 2


# ---- bad input ------------------------------------------------------------------------------------------------------

COMMANDS = [
    ("resume",),
    ("resume", "s"),
    ("resume", "s", "--abandon", "t"),
    ("cancel", "s"),
    ("pending", "list"),
    ("pending", "resolve", "k", "--result", "1"),
    ("replay", "t"),
    ("upgrade-check",),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_a_database_none_is_made(command: tuple[str, ...], lash: Cli, here: Here) -> None:
    ended = here(*command)
    assert ended.code == 2
    assert ended.err.startswith("lash: there is no database at `")
    assert not (lash.folder / "test.db").exists()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_a_journal_each_command_says_what_to_set(command: tuple[str, ...], here: Here) -> None:
    inline = ("--set", "durability.effects=inline")
    assert here("run", "hi", "--session", "s", "--turn-id", "t", *inline).code == 0
    ended = here(*command, *inline)
    assert ended.code == 2
    assert "needs a journal: set `durability.effects` to `journal`" in ended.err or "unknown turn `t`" in ended.err


WRONG = {
    ("resume", "nobody"): "unknown session `nobody`: `lash sessions list` lists them",
    ("resume", "--abandon", "t"): "--abandon needs the SESSION too",
    ("resume", "", "--abandon", "t"): "--abandon needs the SESSION too",
    ("resume", ""): "the session's name is empty; `lash resume` without one goes on with all of them",
    ("resume", "--session", ""): "the session's name is empty; `lash resume` without one goes on with all of them",
    ("resume", "some", "--abandon", "t"): "unknown turn `t`: nothing of session `some` waits to be gone on with",
    ("resume", "nobody", "--abandon", "t"): "unknown session `nobody`",
    ("resume", "some", "--session", "other"): "which session: `some` or `other`?",
    ("resume", "some", "--session", "other", "--abandon", "t"): "which session: `some` or `other`?",
    ("cancel", "some", "--session", "other"): "which session: `some` or `other`?",
    ("sessions", "show", "some", "--session", "other"): "which session: `some` or `other`?",
    ("sessions", "delete", "some", "--session", "other", "--yes"): "which session: `some` or `other`?",
    ("cancel",): "which session? Name one; `lash sessions list` lists them",
    ("cancel", "sume"): "unknown session `sume`: did you mean `some`?",
    ("pending", "resolve", "k", "--result", "1"): "unknown pending call `k`: `lash pending list` lists them",
    ("pending", "resolve", "", "--result", "1"): "unknown pending call ``: `lash pending list` lists them",
    ("pending", "resolve", "k"): "say either --result, --text, --error or --not-done",
    ("pending", "resolve", "k", "--result", "1", "--error", "2"): "say either --result, --text, --error or --not-done",
    ("replay", "nothing"): "unknown turn `nothing`: `lash sessions show SESSION` lists a session's turns",
    ("upgrade-check", "--session", "nobody"): "unknown session `nobody`",
    ("run", "hi", "--set", "durability.lease_ttl_s=0"): "`durability.lease_ttl_s` must be at least 0.1",
    ("run", "hi", "--set", "durability.lease_ttl_s=nan"): "`durability.lease_ttl_s` must be a finite number",
    ("run", "hi", "--set", "durability.keep_journal_h=-1"): "`durability.keep_journal_h` must be at least 0",
    ("run", "hi", "--set", "durability.effects=all"): "unknown effect host `all`",
}


def test_what_is_wrong_is_named(here: Here) -> None:
    assert here("run", "hi", "--session", "some").code == 0
    for command, text in WRONG.items():
        ended = here(*command)
        assert (ended.code, text in ended.err) == (2, True), (command, ended)
        assert ended.err.startswith("lash: ")
        assert "Traceback" not in ended.err


def test_nothing_to_do_is_said(here: Here) -> None:
    assert here("run", "hi", "--session", "some").code == 0
    assert here("resume").out.startswith("nothing to resume in ")
    assert here("resume", "so")[:2] == (0, "some: nothing to resume\n")
    assert here("resume", "some", "--session", "some")[:2] == (0, "some: nothing to resume\n")
    assert here("cancel", "some")[:2] == (1, "some: no turn runs or waits\n")
    assert here("pending", "list").out.startswith("nothing waits in ")
    assert here("pending", "list", "--json").object == []
    assert here("upgrade-check").out.startswith("no unfinished turns in ")
    assert here("upgrade-check", "--json").object == []
