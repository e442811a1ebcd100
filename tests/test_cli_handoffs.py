"""`lash run` goes on where a turn is handed to another session, and shows that one's turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_kit import Cli, Terminal

TOOLS = '''
from lash_hookspecs import CreateSession, HandoffSession, ToolCallOutput, ToolCallSuccess, tool


@tool(effect="pure")
async def ask_expert(ctx) -> ToolCallOutput:
    """Let somebody answer who knows physics."""
    expert = CreateSession(key="physics", session_id="physics", model="scripted:expert.toml")
    return ToolCallOutput(ToolCallSuccess("A physicist goes on."), HandoffSession("Why is it blue?", expert))


@tool(may_defer=True)
async def look_up(ctx) -> str:
    """Ask a person."""
    return ctx.defer()
'''
DESK = """
[[reply]]
text = "Let me ask."
tool_calls = [{ name = "ask_expert" }]
"""
EXPERT = """
[[reply]]
text = "Scattering."
"""
LATER = """
[[reply]]
text = "One moment."
tool_calls = [{ name = "look_up" }]
[[reply]]
text = "Scattering."
[[reply]]
text = "Rayleigh's."
"""


class Desk:
    """Runs a question on the session `desk`, which is handed to the session `physics`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.lash = Cli(folder)
        self._here = monkeypatch, capsys
        for name, text in {"tools.py": TOOLS, "desk.toml": DESK, "expert.toml": EXPERT}.items():
            self.lash.write(name, text)

    def __call__(self, *args: str, stdin: bytes = b"") -> Any:
        return self.lash.here(*self._here, *args, stdin=stdin)

    def ask(self, *args: str) -> Any:
        return self.run("desk", "--turn-id", "t", *args)

    def run(self, session_id: str, *args: str) -> Any:
        script = "desk" if session_id == "desk" else "expert"
        options = ("--tools", "tools.py", "--model", f"scripted:{script}.toml")
        return self("run", "Why?", "--session", session_id, *options, *args)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, monkeypatch, capsys)


def test_the_successors_turn_is_shown_behind_the_one_that_was_handed_off(desk: Desk) -> None:
    done = desk.ask()
    assert (done.code, done.out) == (0, "Let me ask.\nScattering.\n")
    assert "lash: the session `physics` goes on with this\n" in done.err, "nothing is left to be typed"
    places = [line.split(" · ")[1] for line in done.err.splitlines() if " · " in line]
    assert places == ["session desk", "session physics"]
    again = desk.ask()
    assert (again.code, again.out) == (0, "Scattering.\n"), "both are committed, and neither runs again"


def test_a_program_gets_one_object_with_the_turns_that_were_handed_off(desk: Desk) -> None:
    told = desk.ask("--json").object
    assert (told["session_id"], told["text"], told["outcome"]["type"]) == ("physics", "Scattering.", "finished")
    (before,) = told["handed_off"]
    assert (before["session_id"], before["turn_id"]) == ("desk", "t")
    assert before["outcome"] == {"type": "handoff", "session_id": "physics", "turn_id": told["turn_id"]}


def test_a_turn_with_a_limit_is_not_followed_and_says_what_to_type(desk: Desk) -> None:
    """What the successor may spend isn't the turn's to say, and nobody is to pay for more than they allowed."""
    done = desk.ask("--max-tokens", "1000")
    assert (done.code, done.out) == (0, "Let me ask.\n")
    assert "the session `physics` goes on with this: `lash resume physics` runs what it was told" in done.err
    assert "is committed (finished" in desk("resume", "physics", "--tools", "tools.py").out


def test_a_successor_that_waits_for_somebody_is_what_the_command_ends_with(desk: Desk) -> None:
    desk.lash.write("expert.toml", LATER)
    done = desk.ask("--json")
    assert (done.code, done.object["session_id"], done.object["outcome"]) == (3, "physics", {"type": "none"})
    assert done.object["text"] == "One moment."
    assert "of session `physics` waits for" in done.err


def test_what_waits_on_the_successor_comes_first(desk: Desk) -> None:
    """A session that is there goes on as it is: with what it was asked before, and then with what it was handed."""
    desk.lash.write("expert.toml", LATER)
    assert desk.run("physics").code == 3
    done = desk.ask()
    assert (done.code, done.out) == (3, "Let me ask.\n")
    assert "of session `physics` waits for" in done.err
    (waiting,) = desk("pending", "list", "--json").object
    assert desk("pending", "resolve", waiting["key"], "--result", "yes").code == 0
    ended = desk.ask()
    assert (ended.code, ended.out) == (0, "Rayleigh's.\n")
    assert "session physics" in ended.err


def test_a_chat_goes_on_with_the_session_that_its_turn_was_handed_to(desk: Desk) -> None:
    desk.lash.write("expert.toml", LATER)
    options = ("--tools", "tools.py", "--model", "scripted:desk.toml")
    with Terminal(desk.lash, "chat", "--session", "desk", *options) as terminal:
        terminal.wait_for("› ")
        terminal.send("Why?\n")
        terminal.wait_for("of session `physics` waits for")
        terminal.wait_for("session physics, model scripted:expert.toml, goes on with the conversation")
        terminal.send("/quit\n")
        code, rest = terminal.ended()
    assert (code, "chat --session physics" in rest) == (0, True), rest


def test_a_piped_chat_says_what_follows_to_the_successor(desk: Desk) -> None:
    """With the model that the successor was made with: `--model` was about the session before."""
    desk.lash.write("expert.toml", EXPERT + EXPERT.replace("Scattering", "The sun is low"))
    options = ("--tools", "tools.py", "--model", "scripted:desk.toml")
    done = desk("chat", "--session", "desk", *options, stdin=b"Why?\nAnd at night?\n")
    assert done.code == 0
    assert done.out.index("Scattering.") < done.out.index("The sun is low.")
