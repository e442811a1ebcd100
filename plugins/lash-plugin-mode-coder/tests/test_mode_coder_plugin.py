"""The plugin by itself: one mode, of nothing but a list of plugins, what they are set to, and a few lines of prompt."""

from __future__ import annotations

import tomllib
from pathlib import Path

from attrs import evolve

from lash_hookspecs.modes import Mode
from lash_hookspecs.testing.plugins import hooks_of, imported_by
from lash_plugin_mode_coder import plugin
from lash_plugin_mode_coder.composed import CODER

FOLDER = Path(__file__).parents[1]


def test_its_hooks_are_hooks() -> None:
    assert hooks_of(plugin) == {"lash_plugin_info", "lash_modes"}
    assert plugin.lash_plugin_info().id == "mode-coder"
    assert plugin.lash_modes() == [CODER]


def test_the_mode_is_nothing_but_composed() -> None:
    """No driver, no wrap, no hook of its own."""
    said = {name: getattr(CODER, name) for name in ("plugins", "plugin_options", "prompt", "summary")}
    assert evolve(Mode(mode_id="coder", extends="standard"), **said) == CODER


def test_what_it_composes_is_installed_with_it() -> None:
    needed = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {each.partition(">")[0] for each in needed} - {"lash-hookspecs"}
    assert names == {f"lash-plugin-{each}" for each in ("mode-standard", *CODER.plugins)}


def test_it_is_cheap_to_look_at() -> None:
    """The mode is made when it is asked for."""
    assert "lash_plugin_mode_coder.composed" not in imported_by("import lash_plugin_mode_coder.plugin")
