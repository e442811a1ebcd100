"""A composition: which plugins, in which order, with which tools; and what is refused, naming everybody involved."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from attrs import frozen
from host_kit import MODE, host, make_tool, plugin

from lash_framework.provenance import Provenance
from lash_hookspecs import (
    CatalogEdit,
    CompositionContext,
    ConfigurationError,
    Mode,
    ModeDriver,
    ModeExtension,
    PluginConflictError,
    PluginError,
    PluginInfo,
    Tool,
    ToolActivation,
    ToolManifest,
    UnknownName,
    hookimpl,
)


def tools(*names: str, **options: Any) -> Callable[[object], list[Any]]:
    return lambda ctx: [make_tool(each, **options) for each in names]


def ids(composition: Any) -> list[str]:
    return [each.plugin_id for each in composition.plugins]


# ---- resolved once --------------------------------------------------------------------------------------------------


class Inspected:
    """A plugin that counts how often somebody looks for hooks in it, as registering does."""

    looks = 0

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls

    def __dir__(self) -> list[str]:
        self.looks += 1
        return ["lash_tools"]

    @hookimpl
    def lash_tools(self, ctx: CompositionContext) -> None:
        self.calls.append(ctx.mode_id)


def test_a_composition_is_resolved_once_and_registers_nothing_more() -> None:
    calls: list[str] = []

    def make() -> Any:
        calls.append("driver")
        return SimpleNamespace()

    inspected = Inspected(calls)
    mine = host(inspected, modes=[Mode(mode_id="m", driver=ModeDriver(make=make))])
    looks = inspected.looks
    first = mine.composition("m")
    assert mine.composition("m") is first
    assert calls == ["m", "driver"]
    assert inspected.looks == looks


def test_every_hook_has_an_entry() -> None:
    hooks = host().composition("base").hooks
    assert hooks["lash_checkpoint"] == ()
    assert all(each == () for each in hooks.values())
    with pytest.raises(KeyError):
        hooks["lash_chekpoint"]


@pytest.mark.statement(70, page="plugin-system")
def test_it_can_be_a_weak_key_and_its_specs_stay_the_same_object() -> None:
    """70: what the model is told of tools is made once for a composition."""
    mine = host(plugin("a", tools=tools("t")))
    composition = mine.composition("base")
    assert len({composition, mine.composition("base")}) == 1
    assert composition.tool_specs is mine.composition("base").tool_specs


# ---- order ----------------------------------------------------------------------------------------------------------


class Ordered:
    """A plugin whose checkpoint hook is marked."""

    def __init__(self, plugin_id: str, after: tuple[str, ...] = (), **marks: bool) -> None:
        self.lash_plugin_info = hookimpl(lambda: PluginInfo(id=plugin_id, after=after))
        self.lash_checkpoint = hookimpl(lambda ctx: None, **marks)


@pytest.mark.parametrize(
    ("plugins", "order"),
    [
        ([Ordered("c"), Ordered("a"), Ordered("b")], "abc"),
        ([Ordered("a", after=("c",)), Ordered("b"), Ordered("c")], "bca"),
        ([Ordered("a"), Ordered("b", tryfirst=True), Ordered("c")], "bac"),
        ([Ordered("a", trylast=True), Ordered("b"), Ordered("c")], "bca"),
        ([Ordered("a", after=("b",), tryfirst=True), Ordered("b")], "ab"),
        ([Ordered("b", tryfirst=True), Ordered("a"), Ordered("c", tryfirst=True)], "bca"),
        ([Ordered("b", trylast=True), Ordered("c"), Ordered("a", trylast=True)], "cab"),
        ([Ordered("a", after=("b",), trylast=True), Ordered("b", trylast=True)], "ba"),
    ],
)  # fmt: skip
def test_hooks_run_in_the_plugins_order_with_marked_ones_first_and_last(plugins: list[Ordered], order: str) -> None:
    impls = host(*plugins).composition("base").hooks["lash_checkpoint"]
    assert "".join(each.plugin_id for each in impls) == order
    assert {(each.hook, each.argnames) for each in impls} == {("lash_checkpoint", ("ctx",))}


# ---- which plugins --------------------------------------------------------------------------------------------------

OFF = {"enabled_by_default": False}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ({}, ["on", "on2"]),
        ({"plugins": ("off",)}, ["off", "on", "on2"]),
        ({"without": ("on",)}, ["on2"]),
        ({"plugins": ("off",), "without": ("on", "on2")}, ["off"]),
    ],
)
def test_a_mode_has_what_is_on_by_default_and_what_it_names_but_not_what_it_leaves_out(
    mode: dict[str, Any], expected: list[str]
) -> None:
    modes = [MODE, Mode(mode_id="m", extends="base", **mode)]
    mine = host(plugin("on"), plugin("on2"), plugin("off", OFF), plugin("off2", OFF), modes=modes)
    assert ids(mine.composition("m")) == expected


@pytest.mark.parametrize("where", ["plugins", "without"])
def test_a_plugin_that_a_mode_names_must_be_there(where: str) -> None:
    """In `without` as well: a slip there would leave on what was to be off."""
    mine = host(plugin("tools-shell"), modes=[Mode(mode_id="m", driver=MODE.driver, **{where: ("tool-shell",)})])
    with pytest.raises(UnknownName, match=r"unknown plugin `tool-shell`: .*did you mean `tools-shell`.*application"):
        mine.composition("m")


def test_a_plugin_that_failed_or_is_off_says_so_where_it_is_missed() -> None:
    bad = plugin("bad", providers=lambda: 1 / 0)
    modes = [MODE, *(Mode(mode_id=each, extends="base", plugins=(each,)) for each in ("bad", "off"))]
    modes.append(Mode(mode_id="fine", extends="base", without=("bad", "off")))
    mine = host(bad, plugin("off"), disabled=["off"], modes=modes)
    with pytest.raises(UnknownName, match=r"`bad`: it was left out .*ZeroDivisionError"):
        mine.composition("bad")
    with pytest.raises(UnknownName, match="`off`: it is switched off"):
        mine.composition("off")
    mine.composition("fine")  # what isn't there is certainly left out


def test_an_unknown_mode_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown mode `bas`: did you mean `base`"):
        host().composition("bas")


def test_a_requirement_that_the_mode_leaves_out_is_refused_with_what_to_do() -> None:
    modes = [MODE, Mode(mode_id="m", extends="base", plugins=("b",))]
    mine = host(plugin("a", {"requires": ("b",)}), plugin("b", OFF), modes=modes)
    with pytest.raises(ConfigurationError, match="plugin `a` requires `b`: add `b` to the mode's plugins, or `a` to"):
        mine.composition("base")
    assert ids(mine.composition("m")) == ["a", "b"]


def test_a_mode_without_a_driver_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="mode `m` has no driver"):
        host(modes=[Mode(mode_id="m")]).composition("m")


def test_a_driver_that_can_not_be_made_names_its_owner() -> None:
    mode = Mode(mode_id="m", driver=ModeDriver(make=lambda: 1 / 0))  # type: ignore[arg-type,return-value]  # it raises
    mine = host(plugin("p", modes=lambda: [mode]), modes=[Mode(mode_id="n", extends="m")])
    with pytest.raises(PluginError, match=r"plugin `p`.*driver of mode `n`.*ZeroDivisionError"):
        mine.composition("n")


# ---- conflicts ------------------------------------------------------------------------------------------------------


@pytest.mark.statement(7, page="plugin-system")
def test_all_conflicts_are_raised_together_naming_both_sides() -> None:
    """7: a tool's name is taken once, and who has it and who wants it are both named."""
    mine = host(
        plugin("a", {"conflicts": ("c",)}, tools=tools("x", "y")),
        plugin("b", tools=tools("x")),
        plugin("c", {"conflicts": ("a", "absent")}, tool_catalog=lambda ctx: CatalogEdit(add=[make_tool("y")])),
        plugin("d", tools=tools("z", "z")),
    )
    with pytest.raises(PluginConflictError) as caught:
        mine.composition("base")
    assert caught.value.conflicts == (
        "mode `base`, they can't be on together: plugin `a` of the application and plugin `c` of the application",
        "mode `base`, tool `x`: plugin `a` of the application and plugin `b` of the application",
        "mode `base`, tool `z`: plugin `d` of the application and plugin `d` of the application",
        "mode `base`, tool `y`: plugin `a` of the application and plugin `c` of the application",
    )
    assert "replaces" in str(caught.value)  # how to choose


def test_a_conflict_in_one_mode_leaves_the_others_alone() -> None:
    modes = [MODE, Mode(mode_id="m", extends="base", without=("b",))]
    mine = host(plugin("a", tools=tools("x")), plugin("b", tools=tools("x")), modes=modes)
    with pytest.raises(PluginConflictError):
        mine.composition("base")
    assert mine.composition("m").callable_names == {"x"}


@pytest.mark.parametrize(("winner", "loser"), [("a", "b"), ("b", "a")])
def test_replaces_resolves_a_tool_conflict(winner: str, loser: str) -> None:
    replacing = plugin(winner, {"replaces": (loser,)}, tools=tools("x"))
    composition = host(replacing, plugin(loser, tools=tools("x", "y"))).composition("base")
    assert {name: owned.plugin_id for name, owned in composition.tools.items()} == {"x": winner, "y": loser}


# ---- tools ----------------------------------------------------------------------------------------------------------


def test_edits_of_all_plugins_are_united_and_every_editor_sees_what_was_offered() -> None:
    seen: list[tuple[str, ...]] = []

    def edit(**changes: Any) -> Callable[..., CatalogEdit]:
        def lash_tool_catalog(ctx: CompositionContext, catalog: tuple[ToolManifest, ...]) -> CatalogEdit:
            seen.append(tuple(each.name for each in catalog))
            return CatalogEdit(**changes)

        return lash_tool_catalog

    composition = host(
        plugin("a", tools=tools("x", "y", "z")),
        plugin("b", tool_catalog=edit(hide=frozenset({"y", "absent"}), annotate={"x": "First."})),
        plugin("c", tool_catalog=edit(add=[make_tool("w"), make_tool("v")], annotate={"x": "Second.", "w": "New."})),
        plugin("d", tool_catalog=edit(hide=frozenset({"v"}))),
    ).composition("base")
    assert seen == [("x", "y", "z")] * 3
    assert list(composition.tools) == ["x", "y", "z", "w", "v"]
    assert {each.name: each.description for each in composition.manifests} == {
        "x": "Do nothing.\n\nFirst.\n\nSecond.",
        "z": "Do nothing.",
        "w": "Do nothing.\n\nNew.",
    }
    assert [(each.name, each.description) for each in composition.tool_specs] == [
        (each.name, each.description) for each in composition.manifests
    ]
    assert composition.tools["x"].tool.manifest.description == "Do nothing."


def test_an_internal_tool_is_there_but_not_for_the_model() -> None:
    offered = tools("secret", activation=ToolActivation.INTERNAL)
    composition = host(plugin("a", tools=offered), plugin("b", tools=tools("open"))).composition("base")
    assert list(composition.tools) == ["secret", "open"]
    assert composition.callable_names == {"open"}


def forgotten() -> None:
    """A function without `@tool`."""


@pytest.mark.parametrize(
    ("hooks", "tells"),
    [
        ({"tools": lambda ctx: [forgotten]}, "hook `lash_tools`: `forgotten` is no tool: put `@tool`"),
        ({"tools": lambda ctx: [make_tool("x"), "y"]}, "`str` is no tool"),
        ({"tools": lambda ctx: 1 / 0}, "hook `lash_tools`: ZeroDivisionError"),
        ({"tool_catalog": lambda ctx: ["x"]}, "`lash_tool_catalog`: returned a `str`; expected is None, `CatalogEdit`"),
        ({"tool_catalog": lambda ctx: CatalogEdit(add=[cast("Tool", forgotten)])}, "`forgotten` is no tool"),
    ],
)
def test_a_broken_tool_hook_fails_the_composition_naming_the_plugin(hooks: dict[str, Any], tells: str) -> None:
    mine = host(plugin("bad", **hooks), modes=[MODE, Mode(mode_id="m", extends="base", without=("bad",))])
    with pytest.raises(PluginError, match="plugin `bad`") as caught:
        mine.composition("base")
    assert tells in str(caught.value)
    mine.composition("m")


def test_a_composition_hook_is_told_mode_and_options() -> None:
    seen: list[CompositionContext] = []
    mine = host(plugin("a", tools=lambda ctx: seen.append(ctx)), options={"a": {"root": "."}})
    assert mine.composition("base").options == {"a": {"root": "."}}
    assert seen == [CompositionContext(plugin_id="a", mode_id="base", options={"root": "."})]


# ---- provenance -----------------------------------------------------------------------------------------------------


def test_everything_says_who_put_it_there() -> None:
    edit = CatalogEdit(hide=frozenset({"x"}), annotate={"x": "Hm."}, add=[make_tool("y")])
    composition = host(
        plugin("a", tools=tools("x")),
        plugin("b", OFF, tool_catalog=lambda: edit),
        plugin("c", mode_extensions=lambda mode: ModeExtension(plugins=("b",), options={"depth": 2})),
        plugin("d"),
        modes=[MODE, Mode(mode_id="m", extends="base", without=("d",), options={"wide": True})],
    ).composition("m")
    assert set(composition.provenance) == {
        Provenance("mode", "base", "application"),
        Provenance("mode", "m", "application", "extends `base`"),
        Provenance("driver", "base", "application", "mode `base`"),
        Provenance("option", "wide", "application", "mode `m`"),
        Provenance("option", "depth", "c", "mode extension"),
        Provenance("plugin", "a", "a", "on by default"),
        Provenance("plugin", "b", "c", "added by the extension of `c`"),
        Provenance("plugin", "c", "c", "on by default"),
        Provenance("without", "d", "application"),
        Provenance("tool", "x", "a"),
        Provenance("tool", "y", "b", "catalog edit"),
        Provenance("hide", "x", "b"),
        Provenance("annotate", "x", "b", "Hm."),
    }


# ---- the key --------------------------------------------------------------------------------------------------------


@frozen
class Choice:
    level: int = 1


def key_of(*plugins: object, mode: dict[str, Any] | None = None, **options: Any) -> str:
    modes = [Mode(mode_id="m", driver=MODE.driver, **(mode or {}))]
    key: str = host(*plugins, modes=modes, **options).composition("m").key
    return key


def test_the_key_is_equal_for_equal_compositions_and_differs_with_all_that_counts() -> None:
    def base() -> object:
        return plugin("a", {"version": "1"})

    keys = [
        key_of(base()),
        key_of(plugin("a", {"version": "2"})),
        key_of(base(), plugin("b")),
        key_of(base(), options={"a": {"x": 1}}),
        key_of(base(), options={"a": {"x": {"y": [1, "2", None, 2.5]}}}),
        key_of(base(), mode={"max_turns": 3}),
        key_of(base(), mode={"options": {"choice": Choice()}}),
        key_of(base(), mode={"options": {"choice": Choice(2)}}),
        key_of(base(), mode={"options": {"choice": Choice}}),
    ]
    assert len(set(keys)) == len(keys)
    assert key_of(base()) == keys[0]


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        (object(), object(), SimpleNamespace),
        (partial(print, 1), partial(print, 1), partial(print, 2)),
        (float("nan"), float("nan"), float("inf")),
        (date(2026, 1, 2), date(2026, 1, 2), date(2026, 1, 3)),
        (Path("a"), Path("a"), Path("b")),
        (b"a", b"a", b"b"),
        ({"b", "a"}, {"a", "b"}, {"a"}),
        (Choice(1), Choice(), Choice(2)),
        (ToolActivation.ALWAYS, "always", "internal"),
    ],
    ids=["object", "partial", "float", "date", "path", "bytes", "set", "frozen", "enum"],
)
def test_the_key_tells_options_apart_by_what_they_are(one: object, same: object, other: object) -> None:
    def key(value: object) -> str:
        return key_of(plugin("a"), options={"a": {"x": value}})

    assert key(one) == key(same) != key(other)


def test_the_key_is_the_same_in_every_process() -> None:
    """Sets and memory addresses differ between processes; a record of last week must still compare equal."""
    code = """
import json, sys
from functools import partial
from host_kit import MODE, host, make_tool, plugin
from lash_hookspecs import Mode, PromptContribution, PromptLayer
prompt = PromptLayer().with_contribution(PromptContribution(content="x", tools=frozenset("abcdefgh")))
options = {"f": print, "p": partial(host, 1), "s": {"u", "v", "w"}, "o": object()}
mode = Mode(mode_id="m", driver=MODE.driver, prompt=prompt, options=options)
print(json.dumps(host(plugin("a"), modes=[mode]).composition("m").key))
"""
    keys = set()
    for seed in ("1", "2"):
        environment = {"PYTHONPATH": ":".join(filter(None, sys.path)), "PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        keys.add(json.loads(done.stdout))
    assert len(keys) == 1
