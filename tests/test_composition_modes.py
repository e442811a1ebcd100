"""Modes: from plugins, from `lash.toml`, from code; what `extends` and mode extensions make of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from attrs import frozen
from host_kit import MODE, host, plugin
from hypothesis import given, strategies as st

from lash_framework.hooks import Owned
from lash_framework.mode_merging import merge
from lash_framework.modes import ModeTable, check_extension, load_extension, store_extension
from lash_framework.provenance import TOML, Provenance
from lash_hookspecs import (
    CodecError,
    ConfigurationError,
    GenerationOptions,
    Mode,
    ModeDriver,
    ModeExtension,
    PluginConflictError,
    PromptContribution,
    PromptLayer,
    PromptSlot,
    UnknownName,
)


def says(text: str) -> PromptLayer:
    return PromptLayer().with_contribution(PromptContribution(content=text))


def texts(layer: PromptLayer) -> list[str]:
    return [each.content for said in layer.slots.values() for each in said.contributions]


# ---- extends --------------------------------------------------------------------------------------------------------


def test_a_mode_takes_what_it_leaves_open_from_the_mode_that_it_extends() -> None:
    base = Mode(
        mode_id="base",
        driver=ModeDriver(make=SimpleNamespace),
        plugins=("a", "b"),
        without=("x", "y"),
        prompt=says("base"),
        options={"one": 1, "two": 2},
        generation=GenerationOptions(temperature=0.5, seed=1),
        max_turns=5,
        summary="The base.",
    )
    child = Mode(
        mode_id="child",
        extends="base",
        plugins=("c", "x"),
        without=("a",),
        prompt=says("child"),
        options={"two": 3},
        generation=GenerationOptions(seed=2),
    )
    resolved = merge(ModeTable({}, [base, child]).chain("child"))
    assert resolved.mode == Mode(
        mode_id="child",
        driver=base.driver,
        plugins=("b", "c", "x"),
        without=("y", "a"),
        prompt=says("child").over(says("base")),
        options={"one": 1, "two": 3},
        generation=GenerationOptions(temperature=0.5, seed=2),
        max_turns=5,
        summary="The base.",
    )


def test_each_piece_of_a_resolved_mode_has_the_owner_that_set_it() -> None:
    base = Owned("p", Mode(mode_id="base", driver=MODE.driver, prompt=says("Be kind."), options={"a": 1, "b": 1}))
    mine = Owned(
        TOML,
        Mode(
            mode_id="m",
            extends="base",
            prompt=says("Be brief."),
            options={"b": 2},
            generation=GenerationOptions(seed=7),
        ),
    )
    resolved = merge(ModeTable({"base": base}, [mine]).chain("m"))
    assert (resolved.owner, resolved.driver_owner) == (TOML, "p")
    assert [(owner, texts(layer)) for owner, layer in resolved.prompts] == [("p", ["Be kind."]), (TOML, ["Be brief."])]
    assert set(resolved.provenance) == {
        Provenance("mode", "base", "p"),
        Provenance("mode", "m", TOML, "extends `base`"),
        Provenance("driver", "base", "p", "mode `base`"),
        Provenance("option", "a", "p", "mode `base`"),
        Provenance("option", "b", TOML, "mode `m`"),
        Provenance("generation", "seed", TOML, "mode `m`: 7"),
        Provenance("prompt", "guidance", "p", "mode `base`: Be kind."),
        Provenance("prompt", "guidance", TOML, "mode `m`: Be brief."),
    }


def test_modes_come_from_plugins_from_the_file_and_from_code() -> None:
    mine = host(
        plugin("p", modes=lambda: [Mode(mode_id="standard", driver=MODE.driver, plugins=("p",))]),
        modes=[
            Owned(TOML, Mode(mode_id="review", extends="standard", max_turns=2)),
            Mode(mode_id="deep-review", extends="review", max_turns=20),
        ],
    )
    assert {name: owned.plugin_id for name, owned in mine.modes.items()} == {
        "standard": "p",
        "review": TOML,
        "deep-review": "application",
    }
    composition = mine.composition("deep-review")
    assert (composition.mode.max_turns, composition.mode.extends, composition.mode_owner) == (20, None, "application")
    assert composition.driver_owner == "p"


@pytest.mark.statement(4, page="plugin-system")
def test_a_higher_layer_may_change_a_mode_by_extending_it_under_its_own_name() -> None:
    """And whoever extends that mode then extends the changed one."""
    standard = Mode(mode_id="standard", driver=MODE.driver, options={"by": "plugin", "plugin": 1})
    mine = host(
        plugin("p", modes=lambda: [standard, Mode(mode_id="other", extends="standard")]),
        modes=[
            Owned(TOML, Mode(mode_id="standard", extends="standard", options={"by": "toml", "toml": 1})),
            Mode(mode_id="standard", extends="standard", options={"by": "code", "code": 1}),
        ],
    )
    everything = {"plugin": 1, "toml": 1, "code": 1, "by": "code"}
    assert mine.composition("standard").mode.options == everything
    assert mine.composition("other").mode.options == everything


@pytest.mark.parametrize(
    ("modes", "message"),
    [
        ([Mode(mode_id="a", extends="b"), Mode(mode_id="b", extends="a")], "circle: `a` extends `b` extends `a`"),
        (
            [Mode(mode_id="a", extends="b"), Mode(mode_id="b", extends="c"), Mode(mode_id="c", extends="b")],
            "circle: `a` extends `b` extends `c` extends `b`",
        ),
        ([Mode(mode_id="a", extends="a")], "mode `a` of application extends itself, and no plugin"),
        ([Mode(mode_id="a", extends="bee"), Mode(mode_id="be")], "unknown mode `bee`: mode `a` of .*did you mean `be`"),
        ([Mode(mode_id="a", plugins=("p",), without=("p",))], "plugin `p` in both"),
    ],
)
def test_what_can_not_be_resolved_fails_for_that_mode_only(modes: list[Mode], message: str) -> None:
    mine = host(modes=[MODE, *modes])
    mine.composition("base")
    with pytest.raises(ConfigurationError, match=message):
        mine.composition("a")


NAMES = st.sampled_from("abcde")


@given(st.lists(st.tuples(NAMES, st.none() | NAMES)))
def test_every_chain_ends_or_is_refused(pairs: list[tuple[str, str | None]]) -> None:
    modes = {mode_id: Mode(mode_id=mode_id, extends=extends) for mode_id, extends in pairs}
    table = ModeTable({}, list(modes.values()))
    for mode_id in modes:
        try:
            chain = table.chain(mode_id)
        except ConfigurationError:
            continue
        assert chain[0].value.extends is None
        assert chain[-1].value is modes[mode_id]
        assert merge(chain).mode.mode_id == mode_id


# ---- mode extensions ------------------------------------------------------------------------------------------------


@frozen
class Hint:
    """A turn extension."""

    text: str
    weight: int = 1


@frozen
class Persona:
    """A session extension."""

    name: str = "nobody"


@frozen
class Unknown:
    """Neither."""


DRIVER = ModeDriver(make=SimpleNamespace, turn_extensions={"hint": Hint})
OFF = {"enabled_by_default": False}


def test_a_plugin_may_extend_a_mode_of_another() -> None:
    def extend(mode: Mode) -> ModeExtension | None:
        if mode.mode_id != "m":
            return None
        return ModeExtension(
            plugins=("extra",),
            prompt=says("more"),
            options={"depth": 2},
            turn_extensions={"hint": Hint},
            session_extensions={"persona": Persona},
        )

    mine = host(
        plugin("extender", mode_extensions=extend),
        plugin("extra", OFF),
        modes=[
            Mode(mode_id="m", driver=DRIVER, prompt=says("own")),
            Mode(mode_id="n", driver=DRIVER),
        ],
    )
    composition = mine.composition("m")
    assert [each.plugin_id for each in composition.plugins] == ["extender", "extra"]
    assert texts(composition.mode.prompt) == ["own", "more"]
    assert [(owner, texts(layer)) for owner, layer in composition.prompt_layers] == [
        ("application", ["own"]),
        ("extender", ["more"]),
    ]
    assert composition.mode.options == {"depth": 2}
    assert composition.mode.driver is not None
    assert composition.mode.driver.session_extensions == {"persona": Persona}
    other = mine.composition("n")
    assert ([each.plugin_id for each in other.plugins], other.mode.options) == (["extender"], {})


def test_an_extension_is_told_the_mode_with_all_that_it_extends() -> None:
    seen: dict[str, Mode] = {}

    def extend(mode: Mode) -> None:
        seen[mode.mode_id] = mode

    host(plugin("p", mode_extensions=extend), modes=[MODE, Mode(mode_id="m", extends="base", options={"a": 1})])
    assert (seen["m"].driver, seen["m"].extends, seen["m"].options) == (MODE.driver, None, {"a": 1})


def test_what_a_mode_says_itself_wins_over_extensions() -> None:
    """Its options stay, and what it leaves out is neither added nor asked."""
    asked: list[str] = []

    def extend(plugin_id: str) -> Any:
        def lash_mode_extensions(mode: Mode) -> ModeExtension:
            asked.append(plugin_id)
            return ModeExtension(plugins=("shell",), options={"depth": 9})

        return lash_mode_extensions

    mine = host(
        plugin("a", mode_extensions=extend("a")),
        plugin("b", mode_extensions=extend("b")),
        plugin("shell", OFF),
        modes=[Mode(mode_id="m", driver=DRIVER, options={"depth": 1}, without=("shell", "b"))],
    )
    composition = mine.composition("m")
    assert asked == ["a"]
    assert composition.mode.options == {"depth": 1}
    assert [each.plugin_id for each in composition.plugins] == ["a"]
    assert Provenance("option", "depth", "a", "not taken: the mode sets it") in composition.provenance


def test_extensions_that_contradict_each_other_conflict() -> None:
    def extend(depth: int, cls: type) -> Any:
        return lambda mode: ModeExtension(options={"depth": depth, "same": 1}, turn_extensions={"hint": cls})

    mine = host(
        plugin("a", mode_extensions=extend(1, Persona)),
        plugin("b", mode_extensions=extend(2, Hint)),
        modes=[Mode(mode_id="m", driver=DRIVER)],
    )
    with pytest.raises(PluginConflictError) as caught:
        mine.composition("m")
    assert caught.value.conflicts == (
        "mode `m`, turn extension `hint`: the driver of application and plugin `a` offer different classes, of which "
        "only one can be, so one of them has to be left out",
        "mode `m`, option `depth`: extensions of plugin `a` and plugin `b`",
    )
    assert str(caught.value).endswith(
        "name one plugin in the `without` of mode `m`, or set an option there, which wins"
    )


def test_a_reset_of_an_extension_shows() -> None:
    layer = PromptLayer().without_slot(PromptSlot.GUIDANCE)
    mine = host(
        plugin("p", mode_extensions=lambda mode: ModeExtension(prompt=layer)),
        modes=[Mode(mode_id="m", driver=DRIVER, prompt=says("own"))],
    )
    composition = mine.composition("m")
    assert texts(composition.mode.prompt) == []
    row = Provenance("prompt", "guidance", "p", "mode extension: drops what was said before")
    assert row in composition.provenance


# ---- turn and session extensions ------------------------------------------------------------------------------------


def test_what_a_mode_does_not_accept_is_refused_by_name() -> None:
    composition = host(modes=[Mode(mode_id="m", driver=DRIVER), MODE]).composition("m")
    assert composition.check_turn_extension(Hint("x")) == "hint"
    assert composition.check_turn_extension(None) is None
    with pytest.raises(ConfigurationError, match=r"turn extension of class `Unknown`; it takes: `hint`"):
        composition.check_turn_extension(Unknown())
    with pytest.raises(ConfigurationError, match="mode `m` takes no session extension of class `Hint`; it takes: none"):
        check_extension(composition.mode, "session", Hint("x"))


def test_a_mode_accepts_none_unless_it_says_so() -> None:
    with pytest.raises(ConfigurationError, match="it takes: none"):
        host().composition("base").check_turn_extension(Hint("x"))


def test_extensions_are_data() -> None:
    mode = Mode(mode_id="m", driver=ModeDriver(make=SimpleNamespace, turn_extensions={"hint": Hint, "who": Persona}))
    for value in (Hint("x", 3), Persona()):
        data = store_extension(mode, "turn", value)
        assert load_extension(mode, "turn", data) == value
    assert store_extension(mode, "turn", Hint("x", 3)) == {"id": "hint", "value": {"text": "x", "weight": 3}}
    assert store_extension(mode, "turn", None) is None
    assert load_extension(mode, "turn", None) is None


def test_loading_makes_only_declared_classes() -> None:
    mode = Mode(mode_id="m", driver=DRIVER)
    with pytest.raises(UnknownName, match="unknown turn extension `hnt`: did you mean `hint`"):
        load_extension(mode, "turn", {"id": "hnt", "value": {}})
    with pytest.raises(UnknownName, match=r"unknown turn extension `builtins\.eval`"):
        load_extension(mode, "turn", {"id": "builtins.eval", "value": "1"})
    with pytest.raises(CodecError, match="text"):
        load_extension(mode, "turn", {"id": "hint", "value": {}})
