"""Options that modes have for their plugins: who is stronger, what adds up, what is held apart, what is refused."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from agents import agent, plugin
from attrs import field, frozen

from lash_framework.hooks import Owned
from lash_framework.host import PluginHost
from lash_framework.provenance import TOML
from lash_framework.settings import load_settings, plugin_settings
from lash_hookspecs import ConfigurationError, ConnectedToolSet, LashError, Mode, ModeExtension, PluginInfo, hookimpl


@frozen
class Limits:
    """Options of the plugin `counts`."""

    limit: int = 20
    loud: bool = False
    words: tuple[str, ...] = field(default=(), metadata={"adds": True})
    names: tuple[str, ...] = ()
    key: str = field(default="", metadata={"secret": True})


def counting(*seen: list[Any]) -> object:
    async def lash_before_turn(ctx: Any) -> None:
        for each in seen:
            each.append(ctx.options)

    return plugin("counts", lash_before_turn, options=Limits, enabled_by_default=False)


COMPOSED = Mode(
    mode_id="composed",
    extends="standard",
    plugins=("counts",),
    plugin_options={"counts": {"limit": 1, "loud": True, "words": ["a"], "names": ["a"]}},
)


class Composing:
    """A plugin that offers a mode with options for another one."""

    @hookimpl
    def lash_plugin_info(self) -> PluginInfo:
        return PluginInfo(id="composing")

    @hookimpl
    def lash_modes(self) -> list[Mode]:
        return [COMPOSED]


def options(folder: Path, text: str, mode: str = "composed", env: dict[str, str] | None = None) -> Any:
    file = folder / "lash.toml"
    file.write_text(text, encoding="utf-8")
    settings = load_settings(file, env=env or {})
    host = PluginHost(
        [counting(), Composing()],
        modes=[Owned(TOML, each) for each in settings.modes.values()],
        options=settings.plugin,
        read_options=partial(plugin_settings, settings=settings, env={}),
    )
    return host.composition(mode).options["counts"]


OWN = "[modes.own]\nextends = 'composed'\n[modes.own.plugin_options.counts]\n"


@pytest.mark.parametrize(
    ("text", "mode", "env", "expected"),
    [
        ("", "composed", {}, Limits(1, True, ("a",), ("a",))),
        ("[plugin.counts]\nlimit = 2", "composed", {}, Limits(2, True, ("a",), ("a",))),
        ("[plugin.counts]\nwords = ['b']\nnames = ['b']", "composed", {}, Limits(1, True, ("b", "a"), ("b",))),
        (f"{OWN}limit = 3", "composed", {}, Limits(1, True, ("a",), ("a",))),
        (f"{OWN}limit = 3\nwords = ['c']", "own", {}, Limits(3, True, ("c", "a"), ("a",))),
        (
            f"[plugin.counts]\nlimit = 2\nwords = ['b']\n{OWN}limit = 3\nwords = ['c']",
            "own",
            {},
            Limits(3, True, ("c", "b", "a"), ("a",)),
        ),
        (
            f"[plugin.counts]\nlimit = 2\n{OWN}limit = 3\nwords = ['c']",
            "own",
            {"LASH_PLUGIN__COUNTS__LIMIT": "4", "LASH_PLUGIN__COUNTS__WORDS": "['d']"},
            Limits(4, True, ("d",), ("a",)),
        ),
    ],
    ids=["mode", "toml over it", "adds", "other mode", "own mode", "own mode over toml", "environment over all"],
)
def test_who_uses_a_mode_is_stronger_than_who_made_it(
    tmp_path: Path, text: str, mode: str, env: dict[str, str], expected: Limits
) -> None:
    """Modes of plugins give way to `[plugin.<id>]`, that to the user's modes, those to the environment."""
    assert options(tmp_path, text, mode, env) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{OWN}limt = 1", "mode `own` of lash.toml: unknown setting `plugin.counts.limt`: did you mean `limit`"),
        (f"{OWN}limit = 'x'", "mode `own` of lash.toml: `plugin.counts.limit` must be a whole number"),
        (
            "[modes.own]\nextends = 'standard'\n[modes.own.plugin_options.counts]\nlimit = 1",
            "mode `own` of lash.toml has options for plugin `counts`, which mode `own` lacks: add it to its `plugins`",
        ),
        (
            "[modes.own]\nextends = 'standard'\n[modes.own.plugin_options.count]\nlimit = 1",
            r"has options for plugin `count`: it is not installed, did you mean `counts`",
        ),
        ("[modes.own]\nextends = 'composed'\nplugin_options = 3", "lash.toml:3: `modes.own.plugin_options` must be a"),
        (
            "[modes.own]\nextends = 'composed'\nplugin_options = {counts = 3}",
            "lash.toml:3: `modes.own.plugin_options.*` must be a table",
        ),
    ],
    ids=["unknown key", "wrong type", "not in the mode", "no such plugin", "no table", "no table of a plugin"],
)
def test_a_slip_is_named_with_the_mode(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        options(tmp_path, text, "own")


def test_options_of_a_plugin_that_was_taken_out_are_no_slip(tmp_path: Path) -> None:
    text = "[modes.own]\nextends = 'composed'\nwithout = ['counts']\n"
    with pytest.raises(KeyError, match="counts"):
        options(tmp_path, text, "own")


def extending(name: str, *plugins: str, **said: Any) -> object:
    """A plugin that adds to each mode that has this plugin, or by itself."""

    def lash_mode_extensions(mode: Mode) -> ModeExtension | None:
        wanted = mode.mode_id == "composed" or (plugins and mode.mode_id == "standard")
        return ModeExtension(plugins=plugins, plugin_options={"counts": said}) if wanted else None

    return plugin(name, lash_mode_extensions)


@pytest.mark.parametrize(
    ("mode", "others", "expected"),
    [
        ("standard", [extending("a", "counts", limit=7, words=["x"])], Limits(7, False, ("x",))),
        ("composed", [extending("a", limit=7, words=["x"])], Limits(1, True, ("a", "x"), ("a",))),
        ("standard", [extending("a", "counts", limit=7), extending("b", "counts", limit=7)], Limits(7)),
        (
            "standard",
            [extending("a", "counts", words=["x"]), extending("b", "counts", words=["y"])],
            Limits(words=("y", "x")),
        ),
        (
            "standard",
            [extending("a", "counts", limit=7), extending("b", "counts", limit=8)],
            "mode `standard`, option `counts.limit`: extensions of plugin `a` and plugin `b`\n"
            "  choose: set it in `plugin_options` of mode `standard`, or name one plugin in its `without`",
        ),
        ("composed", [extending("a", limit=7), extending("b", limit=8)], Limits(1, True, ("a",), ("a",))),
        (
            "standard",
            [extending("a", "counts", limt=7)],
            "extension of mode `standard` of a: unknown setting `plugin.counts.limt`: did you mean `limit`?",
        ),
    ],
    ids=["added", "the mode is stronger", "agree", "adds", "conflict", "a mode settles it", "a slip"],
)
def test_who_adds_a_plugin_to_a_mode_says_its_options_too(mode: str, others: list[object], expected: Any) -> None:
    made = PluginHost([counting(), Composing(), *others])
    if isinstance(expected, str):
        with pytest.raises(LashError) as caught:
            made.composition(mode)
        assert expected in str(caught.value)
        return
    found = made.composition(mode)
    assert found.options["counts"] == expected
    said = [each.name for each in found.provenance if each.detail == f"extension of mode `{mode}`"]
    assert "counts.limit" in said or "counts.words" in said


def test_in_code_it_is_told_what_is_no_table() -> None:
    with pytest.raises(TypeError, match="has 3 for `counts`"):
        Mode(mode_id="m", plugin_options={"counts": 3})  # type: ignore[dict-item]  # that is the point


class Holding:
    """Holds its options for a host, and connects a toolset; it has no class for options."""

    def __init__(self) -> None:
        self.held: list[Any] = []
        self.connected: list[Any] = []

    @hookimpl
    def lash_plugin_info(self) -> PluginInfo:
        return PluginInfo(id="holding")

    @hookimpl
    def lash_modes(self) -> list[Mode]:
        return [
            Mode(mode_id=name, extends="standard", plugin_options={"holding": {"at": at}})
            for name, at in (("one", 1), ("two", 2), ("again", 1))
        ]

    @hookimpl
    def lash_lifespan(self, host: Any) -> Any:
        @contextlib.asynccontextmanager
        async def held() -> Any:
            self.held.append(host.options)
            yield host.options

        return held()

    @hookimpl
    def lash_tools(self, ctx: Any) -> list[Any]:
        @contextlib.asynccontextmanager
        async def connect() -> Any:
            self.connected.append(ctx.options)

            async def tools() -> list[Any]:
                return []

            yield tools

        return [ConnectedToolSet(name="t", connect=connect)]

    @hookimpl
    async def lash_before_turn(self, ctx: Any) -> None:
        assert ctx.host == ctx.options


async def test_what_is_held_for_a_host_is_held_once_for_each_options() -> None:
    """Two modes with the same options share it, one with others has its own; nobody gets what is another mode's."""
    mine = Holding()
    async with agent(["hi"] * 5, plugins=[mine]) as lash:
        for name in ("standard", "one", "two", "again", "one"):
            await (await lash.session(mode=name)).run("q")
    assert mine.held == mine.connected == [{}, {"at": 1}, {"at": 2}]
