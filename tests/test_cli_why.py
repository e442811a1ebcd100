"""`lash plugins why`: whose a plugin, a tool, an offer or a line of the prompt is, and why it is or isn't there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from cli_kit import Cli, Ended
from hook_kit import Plugin, installed
from host_kit import make_tool

from lash_hookspecs import CatalogEdit, ConnectedToolSet, PluginInfo, PromptContribution, hookimpl

Here = Callable[..., Ended]


class Weather(Plugin):
    """Tools, and things to say about them."""

    def __init__(self) -> None:
        super().__init__("weather", capabilities=["network"])

    @hookimpl
    def lash_tools(self) -> list[Any]:
        return [make_tool("forecast"), make_tool("launch")]

    @hookimpl
    def lash_prompt_contributions(self) -> list[PromptContribution]:
        return [
            PromptContribution(content="Ask `forecast` about the  weather,\nnever guess it."),
            PromptContribution(content="Count down before `launch`.", tools=frozenset({"launch"}), title="Rockets"),
        ]


class Peace:
    """Hides what is dangerous, and notes what is left."""

    @hookimpl
    def lash_plugin_info(self) -> PluginInfo:
        return PluginInfo(id="peace")

    @hookimpl
    def lash_tool_catalog(self) -> CatalogEdit:
        return CatalogEdit(hide=frozenset({"launch"}), annotate={"forecast": "For peaceful use."})


class Quiet(Plugin):
    """A plugin that only modes have which name it."""

    def __init__(self) -> None:
        super().__init__("quiet", enabled_by_default=False)

    @hookimpl
    def lash_tools(self) -> list[Any]:
        return [make_tool("whisper"), ConnectedToolSet(name="radar", connect=nullcontext)]


TOML = """
[modes.library]
extends = "standard"
plugins = ["quiet"]
prompt = "Speak low, please."
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Here]:
    lash = Cli(tmp_path)
    lash.write("lash.toml", TOML)
    with installed({"weather": Weather(), "peace": Peace(), "quiet": Quiet()}):
        yield lambda *args: lash.here(monkeypatch, capsys, *args)


def why(here: Here, *args: str, code: int = 0) -> str:
    done = here("plugins", "why", *args)
    assert done.code == code, done
    return done.out + done.err


def test_a_plugin_tells_what_it_declares(here: Here) -> None:
    said = why(here, "weather")
    assert "weather is loaded" in said
    assert "declares:     network" in said


def test_a_plugin_that_declares_nothing_says_so_and_the_list_shows_what_each_does(here: Here) -> None:
    assert "declares:     nothing that it reaches for" in why(here, "quiet")
    rows = {line.split()[0]: line for line in here("plugins", "list").out.splitlines()}
    assert "declares" in rows["plugin"]
    assert " loaded  network " in rows["weather"]
    assert " loaded  - " in rows["quiet"]


def test_a_tool_that_only_a_connection_knows_is_told_of_by_its_toolset(here: Here) -> None:
    said = why(here, "cloudy", code=2)
    assert "unknown plugin or tool `cloudy`" in said
    assert "the tools of toolset `radar` of plugin `quiet` are known as a turn starts" in said
    shown = here("modes", "show", "library").out
    assert re.search(r"^toolset +radar +quiet +asked as each turn starts$", shown, re.MULTILINE)


def test_a_tool_that_is_there(here: Here) -> None:
    said = why(here, "forecast")
    assert "tool forecast is there for the model, in mode standard" in said
    assert "plugin:       weather" in said
    assert "annotate:     by peace: For peaceful use." in said


def test_a_tool_that_is_hidden_names_who_hid_it(here: Here) -> None:
    said = why(here, "launch")
    assert "tool launch is not there for the model, in mode standard" in said
    assert "hidden by:    peace" in said


def test_a_tool_of_another_mode(here: Here) -> None:
    said = why(here, "whisper")
    assert "tool whisper is not in mode standard" in said
    assert "it is in mode library, of plugin quiet: take `--mode library`" in said
    assert "is there for the model, in mode library" in why(here, "whisper", "--mode", "library")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("standard", "mode standard is of plugin mode-standard"),
        ("scripted", "provider scripted is of plugin provider-scripted"),
        ("sqlite", "store scheme sqlite is of plugin store-sql"),
    ],
)
def test_what_plugins_offer(here: Here, name: str, said: str) -> None:
    assert said in why(here, name)


def test_an_unknown_name_is_told_the_nearest(here: Here) -> None:
    assert "unknown plugin or tool `forcast`: did you mean `forecast`?" in why(here, "forcast", code=2)


def test_a_line_of_the_prompt_names_its_owner(here: Here, tmp_path: Path) -> None:
    said = why(here, "about the weather")
    assert "said by:      weather" in said
    assert "in it:        yes, the prompt of mode standard" in said
    assert list(tmp_path.glob("*.db")) == [], "the turn was begun in memory"


def test_a_line_that_was_left_out_says_why(here: Here) -> None:
    said = why(here, "count DOWN before")
    assert "said by:      weather" in said
    assert "in it:        no: none of the tools that it is about can be called in this mode" in said


def test_a_line_of_a_mode_is_the_settings(here: Here) -> None:
    assert "said by:      lash.toml" in why(here, "Speak low,", "--mode", "library")
    assert "nothing in the prompt of mode standard holds `Speak low,`" in why(here, "Speak low,", code=1)


def test_a_line_of_a_stored_turn(here: Here) -> None:
    assert here("run", "Hello", "--turn-id", "t-1", "--model", "scripted:demo").code == 0
    assert "in it:        yes, turn t-1" in why(here, "never guess it", "--turn", "t-1")
    assert "in it:        no: " in why(here, "Rockets", "--turn", "t-1")
    assert "nothing in turn t-1 holds" in why(here, "no such words", "--turn", "t-1", code=1)


def test_a_blank_line_is_no_question(here: Here) -> None:
    assert "give some of its words" in why(here, " ", code=2)
