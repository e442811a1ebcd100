"""`lash sessions`, `plugins`, `modes`, `explain`, `doctor`, `demo`: what people look at."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cli_kit import Cli, Terminal

pytestmark = pytest.mark.costly


@pytest.fixture
def lash(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def asked(lash: Cli, sql: str) -> Any:
    """What the database says."""
    with closing(sqlite3.connect(lash.folder / "test.db")) as db:
        return db.execute(sql).fetchone()


def plugin(lash: Cli, name: str, source: str) -> dict[str, str]:
    """An installed distribution with one plugin, made by hand; returns the environment that sees it."""
    site = lash.folder / "site"
    info = site / f"{name.replace('-', '_')}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[lash]\n{name} = {name.replace('-', '_')}\n")
    (site / f"{name.replace('-', '_')}.py").write_text(source)
    return {"PYTHONPATH": str(site)}


GOOD = """
from lash_hookspecs import PluginInfo, hookimpl

@hookimpl
def lash_plugin_info():
    return PluginInfo(id="extra", version="1.2", after=("mode-standard",), summary="A test.")

@hookimpl
def lash_prompt_contributions(ctx):
    from lash_hookspecs import PromptContribution
    return [PromptContribution(content="Mention the moon.", title="Moon")]
"""
GUARD = """
from lash_hookspecs import DenyToolCall, hookimpl

@hookimpl
def lash_before_tool_call(ctx, call):
    return DenyToolCall("Not now.", "closed") if ctx.tool_name == "now" else None
"""
SQUEEZE = """
from lash_hookspecs import FrameSeed, hookimpl

@hookimpl
def lash_compact(ctx):
    return FrameSeed(messages=ctx.messages[-1:]) if ctx.instructions != "nothing" else None
"""
BROKEN = "import no_such_module\n"


# ---- sessions -------------------------------------------------------------------------------------------------------


def test_sessions_are_listed_shown_exported_and_deleted(lash: Cli) -> None:
    turn = lash.run("run", "What?", "--json", "--session", "s").object
    listed = lash.run("sessions", "list").out.splitlines()
    assert re.split(r"  +", listed[0]) == ["session", "last used", "turns", "unfinished", "usage"]
    assert listed[1].startswith("s  ")
    assert [each["session_id"] for each in lash.run("sessions", "list", "--json").object] == ["s"]

    shown = lash.run("sessions", "show", "s").out
    for part in ("session s", turn["turn_id"], "user\nWhat?", "assistant\nYou said"):
        assert part in shown
    exported = lash.run("sessions", "export", "s").object
    assert (exported["format"], exported["version"], exported["session_id"]) == ("lash-session", 1, "s")
    assert exported["turns"] == [turn]
    assert [each["role"] for each in exported["messages"]] == ["user", "assistant"]
    assert lash.run("sessions", "export", "s", "--format", "markdown").out.startswith(
        "# Session s\n\n**user**\n\nWhat?"
    )

    assert lash.run("sessions", "export", "s", "-o", "out.json").code == 0
    assert json.loads((lash.folder / "out.json").read_text()) == exported
    twice = lash.run("sessions", "export", "s", "-o", "out.json")
    assert (twice.code, "exists already" in twice.err) == (2, True)

    unasked = lash.run("sessions", "delete", "s")
    assert (unasked.code, "--yes" in unasked.err) == (2, True)
    assert lash.run("sessions", "delete", "s", "--yes").out == "deleted s\n"
    assert lash.run("sessions", "list", "--json").object == []
    spent = lash.run("run", "again", "--session", "s")
    assert (spent.code, "was deleted; session ids are single-use" in spent.err) == (2, True)


def test_a_list_that_is_cut_says_so(
    lash: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in "abc":
        lash.here(monkeypatch, capsys, "run", "hi", "--session", name)
    for form, count in (((), 3), (("--json",), None)):
        cut = lash.here(monkeypatch, capsys, "sessions", "list", "--limit", "2", *form)
        assert cut.err == "lash: 1 more; `--limit 3` lists them all\n"
        assert len(cut.object if form else cut.out.splitlines()) == (count or 2)
    assert lash.here(monkeypatch, capsys, "sessions", "list", "--limit", "3").err == ""


def test_deleting_asks_on_a_terminal(lash: Cli) -> None:
    lash.run("run", "hi", "--session", "s")
    for key, code in (("n", 130), ("y", 0)):
        with Terminal(lash, "sessions", "delete", "s") as terminal:
            terminal.wait_for("[y/N]")
            terminal.send(f"{key}\n")
            assert terminal.ended()[0] == code
    assert lash.run("sessions", "list", "--json").object == []


@pytest.mark.parametrize("command", ["show", "export", "delete"])
def test_an_unknown_session_names_the_known_ones(lash: Cli, command: str) -> None:
    lash.run("run", "hi", "--session", "mine")
    done = lash.run("sessions", command, "mime", *(["--yes"] if command == "delete" else []))
    assert (done.code, done.err) == (
        2,
        "lash: unknown session `mime`: did you mean `mine`? `lash sessions list` lists them\n",
    )
    assert lash.run("sessions", command).code == 2


# ---- plugins --------------------------------------------------------------------------------------------------------


def test_plugins_are_listed_with_hooks_and_failures(lash: Cli) -> None:
    env = {**plugin(lash, "extra", GOOD), "LASH_PLUGINS_DISABLED": "provider-openai"}
    plugin(lash, "wrecked", BROKEN)
    done = lash.run("plugins", "list", env=env)
    rows = {line.split()[0]: re.split(r"  +", line) for line in done.out.splitlines()}
    assert rows["extra"] == ["extra", "1.2", "extra", "loaded", "-", "plugin_info, prompt_contributions"]
    assert rows["wrecked"][3] == "failed"
    assert rows["provider-openai"][3] == "off"
    assert "plugin `wrecked` failed, import: ModuleNotFoundError" in done.err
    assert "lash plugins why wrecked" in done.err
    assert done.code == 0
    states = {each["id"]: each["state"] for each in lash.run("plugins", "list", "--json", env=env).object}
    assert states["extra"] == "loaded"
    assert states["store-sql"] == "loaded"


def test_why_tells_of_a_tool_whose_it_is_and_whether_the_model_may_call_it(lash: Cli) -> None:
    done = lash.run("plugins", "why", "batch")
    assert done.out.startswith("tool batch is there for the model, in mode standard\nplugin:       mode-standard\n")


def test_why_tells_a_plugins_place_or_its_traceback(lash: Cli) -> None:
    env = plugin(lash, "extra", GOOD)
    plugin(lash, "wrecked", BROKEN)
    good = lash.run("plugins", "why", "extra", env=env)
    assert good.code == 0
    for part in ("extra is loaded", "A test.", "after mode-standard", "lash_prompt_contributions  collect"):
        assert part in good.out
    bad = lash.run("plugins", "why", "wrecked", env=env)
    assert bad.code == 1
    for part in (
        "wrecked failed at stage `import`",
        "Traceback",
        "no_such_module",
        "LASH_PLUGINS_DISABLED=wrecked",
    ):
        assert part in bad.out
    lash.write("lash.toml", '[plugins]\ndisabled = ["extra"]\n')
    off = lash.run("plugins", "why", "extra", env=env)
    assert "extra is switched off" in off.out
    assert off.out.endswith("set by:       `plugins.disabled` in lash.toml:2\n")
    lash.write("lash.toml", '[plugins]\nonly = ["store-sql"]\n')
    assert lash.run("plugins", "why", "extra", env=env).out.endswith("set by:       `plugins.only` in lash.toml:2\n")
    unknown = lash.run("plugins", "why", "extr", env=env)
    assert (unknown.code, unknown.err) == (2, "lash: unknown plugin or tool `extr`: did you mean `extra`?\n")


def test_a_broken_plugin_stops_no_turn(lash: Cli) -> None:
    env = plugin(lash, "wrecked", BROKEN)
    assert lash.run("run", "hi", env=env).code == 0


def test_without_plugins_the_message_says_what_is_missing(lash: Cli) -> None:
    assert {each["state"] for each in lash.run("plugins", "list", "--json", "--no-plugins").object} == {"off"}
    done = lash.run("run", "hi", "--no-plugins")
    assert done.code == 2
    assert "`plugins.only` in --no-plugins" in lash.run("plugins", "why", "store-sql", "--no-plugins").out


# ---- modes and explain ----------------------------------------------------------------------------------------------

TOML = """
[modes.review]
extends = "standard"
summary = "Reads, writes nothing."
prompt = "Be strict."
max_turns = 3
"""


def test_modes_are_listed_and_shown_with_their_owners(lash: Cli) -> None:
    lash.write("lash.toml", TOML)
    env = plugin(lash, "extra", GOOD)
    rows = {each["mode"]: each for each in lash.run("modes", "list", "--json", env=env).object}
    assert rows["review"] == {
        "mode": "review",
        "extends": "standard",
        "from": "lash.toml:2",
        "default": False,
        "summary": "Reads, writes nothing.",
    }
    assert rows["standard"]["default"] is True
    assert "standard (default)" in lash.run("modes", "list", env=env).out
    shown = lash.run("modes", "show", "review", env=env).out
    assert "mode review (extends standard)" in shown
    assert re.search(r"^max_turns +\S+ +lash\.toml", shown, re.MULTILINE)
    assert re.search(r"^extra +1\.2 +extra", shown, re.MULTILINE)
    whole = lash.run("modes", "show", "review", "--json", env=env).object
    assert whole["max_turns"] == 3
    assert {"kind": "driver", "name": "standard", "plugin": "mode-standard"}.items() <= next(
        each for each in whole["provenance"] if each["kind"] == "driver"
    ).items()
    assert lash.run("modes", "show", env=env).out.startswith("mode standard\n")


def test_a_session_is_compacted_by_a_plugin_and_nothing_is_lost_of_it(lash: Cli) -> None:
    lash.run("run", "What?", "--session", "s")
    alone = lash.run("sessions", "compact", "s")
    assert (alone.code, "has no plugin that compacts: add one with the hook `lash_compact`" in alone.err) == (2, True)
    env = plugin(lash, "squeeze", SQUEEZE)
    done = lash.run("sessions", "compact", "s", env=env)
    assert (done.code, done.out) == (0, "plugin squeeze: 2 messages became 1\n")
    assert lash.run("sessions", "show", "s").out.count("user\nWhat?") == 1
    again = lash.run("sessions", "compact", "s", "--instructions", "nothing", env=env)
    assert (again.code, again.out) == (0, "nothing to compact\n")


def test_explain_names_the_plugin_of_every_piece(lash: Cli) -> None:
    env = plugin(lash, "extra", GOOD)
    turn = lash.run("run", "hi", "--json", "--set", "max_turns=7", "--model", "scripted:demo", env=env)
    shown = lash.run("explain", turn.object["turn_id"][:10], "--text", env=env)
    assert shown.code == 0
    assert re.search(r"^extra +Mention the moon\.$", shown.out, re.MULTILINE)
    assert re.search(r"^lash-framework +## Guidance$", shown.out, re.MULTILINE)
    assert re.search(r"^batch +mode-standard", shown.out, re.MULTILINE)
    assert re.search(r"^model +scripted:demo +--model$", shown.out, re.MULTILINE)
    assert re.search(r"^max_turns +7 +--set max_turns$", shown.out, re.MULTILINE)
    assert re.search(r"^extra +1\.2 +extra$", shown.out, re.MULTILINE)
    whole = lash.run("explain", turn.object["turn_id"], "--json", env=env).object
    assert whole["turn_id"] == turn.object["turn_id"]
    assert all(each["plugin_ids"] for each in whole["prompt"])
    assert {"plugin_ids": ["extra"], "text": "Mention the moon."} in whole["lines"]
    lash.write("lash.toml", 'instructions = "Be strict."\n[generation]\ntemperature = 0.1\n')
    edited = lash.run("explain", turn.object["turn_id"][:10], "--text")
    assert edited.out == shown.out, "neither settings nor plugins of today change what was"
    nothing = lash.run("explain", "nope")
    assert (nothing.code, "unknown turn `nope`: `lash sessions show SESSION` lists" in nothing.err) == (2, True)


# ---- doctor and demo ------------------------------------------------------------------------------------------------


def test_doctor_finds_nothing_where_nothing_is_wrong(lash: Cli) -> None:
    done = lash.run("doctor", "--json")
    assert done.code == 0, done.out
    found = {each["check"]: each for each in done.object}
    assert found["store"]["found"] == f"none yet at {lash.folder / 'test.db'}: the first turn makes it"
    assert not (lash.folder / "test.db").exists(), "a look makes nothing"
    lash.run("run", "hi")
    there = {each["check"]: each for each in lash.run("doctor", "--json").object}
    said = re.escape(f"{lash.folder / 'test.db'}: 1 session, can be written, ")
    assert re.fullmatch(rf"{said}\d+\.\d GB free", there["store"]["found"])
    assert found["model"]["found"].startswith("scripted:demo")
    assert "lash-framework" in found["packages"]["found"]


def test_doctor_finds_every_broken_thing_and_shows_no_key(lash: Cli) -> None:
    env = plugin(lash, "wrecked", BROKEN)
    (lash.folder / "notes.db").write_text("this is no database, but a text that is long enough to be read as one" * 9)
    broken = lash.run(
        "doctor",
        "--json",
        "--model",
        "openai-chat:gpt-5",
        "--store",
        f"sqlite:///{lash.folder / 'notes.db'}",
        "--mode",
        "standrad",
        env={**env, "LASH_MODLE": "x"},
    )
    assert broken.code == 1
    states = {(each["check"], each["state"]) for each in broken.object}
    assert {("plugin wrecked", "broken"), ("mode", "broken"), ("key", "broken")} <= states
    assert ("store", "not checked: see mode") in {(each["check"], each["found"]) for each in broken.object}
    assert "did you mean `standard`?" in broken.out
    assert any("LASH_MODLE" in each["found"] for each in broken.object)
    assert any("OPENAI_API_KEY" in each["remedy"] for each in broken.object)

    store = lash.run("doctor", "--json", "--store", f"sqlite:///{lash.folder / 'notes.db'}")
    assert ("store", "broken") in {(each["check"], each["state"]) for each in store.object}

    keyed = lash.run("doctor", "--model", "openai-chat:gpt-5", env={"OPENAI_API_KEY": "sk-very-secret"})
    assert keyed.code == 0, keyed.out
    assert "a key for `openai-chat` is there (not shown, not tried)" in keyed.out
    assert "sk-very-secret" not in keyed.out + keyed.err
    assert "aiohttp" in keyed.out or "httpx" in keyed.out


@pytest.mark.parametrize("folder", ["a file", "proc"])
def test_doctor_says_where_no_store_can_be_made(lash: Cli, folder: str) -> None:
    """It promised one "at the first turn", where `lash run` exits with 2."""
    (lash.folder / "data").write_text("a file, where the folder should be")
    env = {"LASH_STORE": ""} if folder == "a file" else {"LASH_STORE": "sqlite:////proc/x.db"}
    assert lash.run("run", "hi", env=env).code == 2
    [store] = [each for each in lash.run("doctor", "--json", env=env).object if each["check"] == "store"]
    assert (store["state"], store["found"].startswith("none can be made at ")) == ("broken", True), store
    assert "--store sqlite:///FILE.db" in store["remedy"]


def test_doctor_looks_at_the_options_of_all_plugins(lash: Cli) -> None:
    """It said `ok` of a key that is wrong as soon as another mode is used."""
    lash.write("lash.toml", "[plugin.plan]\nstrat = true\n")
    (found,) = [each for each in lash.run("doctor", "--json").object if each["check"] == "plugin"]
    assert "lash.toml:2: unknown setting `plugin.plan.strat`: did you mean `start`?" in found["found"]
    lash.write(
        "lash.toml", "mode = 'careful'\n[modes.careful]\nextends = 'standard'\nplugins = ['plan']\n[plugin.plan]\nx = 1"
    )
    assert lash.run("doctor").out.count("unknown setting `plugin.plan.x`") == 1


def test_doctor_writes_to_the_store_to_see_whether_it_can_be_written(lash: Cli) -> None:
    """It opened one on a full disk, read its sessions, and called it ok; the next turn was lost."""
    lash.run("run", "hi")
    pages = asked(lash, "PRAGMA page_count")[0]
    done = lash.run("doctor", "--json", "--set", f"store_options.max_page_count={pages}")
    (store,) = [each for each in done.object if each["check"] == "store"]
    assert (done.code, store["state"]) == (1, "broken")
    assert "full" in store["found"]
    before = asked(lash, "SELECT count(*) FROM sessions")
    assert lash.run("doctor").code == 0
    assert asked(lash, "SELECT count(*) FROM sessions") == before


def test_doctor_notes_that_there_is_little_room(
    lash: Cli, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lash.run("run", "hi")
    monkeypatch.setattr("lash_framework.cli.doctor.LITTLE_BYTES", 10**18)
    done = lash.here(monkeypatch, capsys, "doctor", "--json")
    (store,) = [each for each in done.object if each["check"] == "store"]
    assert (done.code, store["state"]) == (0, "note")
    assert "make room" in store["remedy"]


def test_doctor_tells_what_plugins_found_of_this_machine(lash: Cli) -> None:
    """Such as a sandbox that is installed, and forbidden."""
    shell = "mode = 'shell'\n[modes.shell]\nextends = 'standard'\nplugins = ['tools-shell']\n[plugin.tools-shell]\n"
    shell += "roots = ['project']\n"
    (lash.folder / "project").mkdir()
    (lash.folder / "bwrap").write_text("#!/bin/sh\necho 'no namespaces for you' >&2\nexit 1\n")
    (lash.folder / "bwrap").chmod(0o755)
    env = {"PATH": f"{lash.folder}:/usr/bin:/bin"}
    lash.write("lash.toml", f"{shell}sandbox = 'auto'\n")
    (found,) = [each for each in lash.run("doctor", "--json", env=env).object if each["check"] == "plugin tools-shell"]
    assert found["state"] == "note"
    assert "commands run without a sandbox" in found["found"]
    assert "no namespaces for you" in found["found"]
    assert "user namespaces" in found["remedy"]
    lash.write("lash.toml", f"{shell}sandbox = 'bwrap'\n")
    assert "no namespaces for you" in lash.run("doctor", env=env).out


def test_doctor_tells_one_mistake_once(lash: Cli) -> None:
    lash.write("lash.toml", "modle = 1\n")
    rows = lash.run("doctor", "--json").object
    assert [each["check"] for each in rows if each["state"] == "broken"] == ["settings"]
    unchecked = {each["check"] for each in rows if each["found"] == "not checked: see settings"}
    assert unchecked == {"plugins", "lock", "names", "mode", "store", "model"}


@pytest.mark.parametrize("command", [("demo",), ("plugins", "bisect", "--", "false")], ids=["demo", "bisect"])
def test_the_processes_of_a_command_import_nothing_from_the_folder_they_are_in(
    command: tuple[str, ...], lash: Cli
) -> None:
    """Who has just cloned a folder, and tried `lash demo` in it, ran the `click.py` that somebody had put there."""
    for name in ("click", "json", "attrs"):
        lash.write(f"{name}.py", "open('evil', 'w').close()\nraise SystemExit('evil')\n")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "lash_framework", *command],
        cwd=lash.folder,
        env=lash.env({"TMPDIR": str(lash.folder)}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert not (lash.folder / "evil").exists(), done
    assert "evil" not in done.stderr + done.stdout


def test_the_demo_is_a_real_turn_that_can_be_looked_at(lash: Cli) -> None:
    done = lash.run("demo", env={"TMPDIR": str(lash.folder)})
    assert done.code == 0
    for part in ("→ now(tz=", "- add returned 42", "That is all this demo can do.", "✓ committed in", "lash-demo.db"):
        assert part in done.out
    journalled, ran = done.out.partition("from the journal:")[2].split("run now:")
    assert "tool_call `now`" in journalled
    assert "llm_call" in journalled
    assert "tool_call `now`" not in ran
    assert "tool_call `add`" in ran
    assert "2 model calls, 1 before the kill and 1 after it; nothing that was recorded was run or paid twice" in ran
    typed = re.search(r"^  \S+ -m lash_framework (explain \S+ --store \S+)$", done.out, re.MULTILINE)
    assert typed is not None
    explained = lash.run(*typed[1].split())
    assert explained.code == 0
    assert re.search(r"^add +application", explained.out, re.MULTILINE)
    assert lash.run("demo", "--store", lash.store).code == 0
    assert len(lash.run("sessions", "list", "--json").object) == 1


def test_explain_says_why_a_contribution_was_left_out(lash: Cli) -> None:
    gated = 'title="Moon"), PromptContribution(content="No x.", title="X", tools=frozenset({"x"}))]'
    env = plugin(lash, "extra", GOOD.replace('title="Moon")]', gated))
    turn = lash.run("run", "hi", "--json", "--model", "scripted:demo", env=env)
    assert "left out: gated (no tool of `x`)" in lash.run("explain", turn.object["turn_id"], env=env).out


def test_explain_names_the_plugin_that_denied_or_changed_a_call(lash: Cli) -> None:
    """And shows no such section where nobody did."""
    env = plugin(lash, "guard", GUARD)
    lash.write("t.py", 'from lash_hookspecs import tool\n\n@tool\ndef now() -> str:\n    "Now."\n    return "noon"\n')
    lash.write("s.toml", '[[reply]]\ntool_calls = [{ name = "now", id = "c1" }]\n[[reply]]\ntext = "Done."\n')
    turn = lash.run("run", "hi", "--json", "--tools", "t.py", "--model", "scripted:s.toml", env=env).object
    shown = lash.run("explain", turn["turn_id"], env=env)
    assert re.search(r"^c1 +now +guard +denied: closed$", shown.out, re.MULTILINE)
    quiet = lash.run("run", "hi", "--json", "--model", "scripted:demo", env=env).object
    assert "Tool calls" not in lash.run("explain", quiet["turn_id"], env=env).out


def test_a_session_is_forked_and_goes_on_by_itself(lash: Cli) -> None:
    lash.run("run", "What?", "--session", "s", "--turn-id", "t")
    done = lash.run("sessions", "fork", "s", "copy")
    assert done.code == 0
    assert re.fullmatch("session copy begins where s stands; `.* chat --session copy` goes on\n", done.out)
    lash.run("run", "And?", "--session", "copy")
    assert lash.run("sessions", "show", "copy").out.count("user\n") == 2
    assert lash.run("sessions", "show", "s").out.count("user\n") == 1
    assert lash.run("sessions", "fork", "s", "copy").code == 0, "the same again"
    assert lash.run("sessions", "fork", "s", "other", "--at", "t").code == 0
    for given, code, text in (
        (("copy", "s"), 2, "there is a session `s`: choose another id for the fork"),
        (("s", "new", "--at", "never"), 2, "session `s` has committed no such turn of its own"),
        (("nothing",), 2, "nothing"),
    ):
        failed = lash.run("sessions", "fork", *given)
        assert (failed.code, text in failed.err) == (code, True), failed.err


@pytest.mark.parametrize("columns", ["0", "1", "40"])
def test_a_narrow_terminal_leaves_nothing_out(lash: Cli, columns: str) -> None:
    """At 40 columns `lash sessions list` showed ids only; without a width the answer of `lash run` was lost."""
    narrow = {"COLUMNS": columns}
    with Terminal(lash, "run", "hello", "--session", "narrow", env=narrow) as terminal:
        terminal.wait_for("I am a script")
        assert terminal.ended()[0] == 0
    with Terminal(lash, "sessions", "list", env=narrow) as terminal:
        code, out = terminal.ended()
    assert code == 0
    assert re.search(r"session +narrow\nlast used +\d{4}-.*\nturns +1\nunfinished +-\nusage +40 tokens in", out)
