"""What a host makes of its plugins: who loads, who offers what, and who loses."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import define, frozen
from host_kit import MODE, failures, host, make_tool, plugin, provider
from hypothesis import given, strategies as st

from lash_framework.hooks import Owned
from lash_framework.host import PluginHost
from lash_framework.ordering import CycleError, plugin_order
from lash_framework.plugins import load_plugins
from lash_framework.versions import satisfies
from lash_hookspecs import (
    ConfigurationError,
    Mode,
    ModeExtension,
    PluginConflictError,
    PluginInfo,
    SessionStateSpec,
    StoreSpec,
    hookimpl,
)


def offers(*ids: str) -> Callable[[], list[Any]]:
    return lambda: [provider(each) for each in ids]


# ---- what plugins offer ---------------------------------------------------------------------------------------------


def test_offers_are_found_by_name_with_their_owner() -> None:
    store = StoreSpec(schemes=("memo", "memory"), open=SimpleNamespace)
    mine = host(
        plugin("a", providers=offers("x", "y")), plugin("b", stores=lambda: [store], modes=lambda: MODE), modes=()
    )
    assert {name: owned.plugin_id for name, owned in mine.providers.items()} == {"x": "a", "y": "a"}
    assert mine.stores == {"memo": Owned("b", store), "memory": Owned("b", store)}
    assert mine.modes == {"base": Owned("b", MODE)}
    assert mine.report.failed == ()


def test_a_plugin_is_a_module_an_object_or_a_class_instance() -> None:
    class Plugin:
        @hookimpl
        def lash_tools(self, ctx: object) -> list[object]:
            return [make_tool("t")]

    module = SimpleNamespace(__name__="my_module", lash_tools=hookimpl(lambda ctx: [make_tool("m")]))
    tools = host(Plugin(), module).composition("base").tools
    assert {name: owned.plugin_id for name, owned in tools.items()} == {"t": "Plugin", "m": "my_module"}


def test_a_plugin_of_the_application_can_be_disabled_too() -> None:
    mine = host(plugin("a"), plugin("b"), disabled=["a", "c"])
    assert [each.plugin_id for each in mine.report.loaded] == ["b"]
    assert [each.plugin_id for each in mine.report.blocked if each.distribution is None] == ["a"]


def test_two_hosts_in_one_process_share_nothing() -> None:
    one, other = plugin("same", providers=offers("x")), plugin("same", providers=offers("y"))
    hosts = host(one), host(other), host(one)
    assert [list(each.providers) for each in hosts] == [["x"], ["y"], ["x"]]
    assert hosts[0].composition("base") is not hosts[2].composition("base")


# ---- collisions -----------------------------------------------------------------------------------------------------


def test_the_same_id_twice_is_a_row() -> None:
    assert failures(host(plugin("a"), plugin("a"))) == {
        "a": "registration: the id `a` is taken by another plugin of the application"
    }


def test_the_same_object_twice_is_a_row() -> None:
    same = plugin("a")
    assert failures(host(same, same)) == {"a": "registration: the same object is loaded already, as `a`"}


CLAIMS: dict[str, Callable[[], list[Any]]] = {
    "providers": offers("x"),
    "stores": lambda: [StoreSpec(schemes=("s", "x"), open=SimpleNamespace)],
    "modes": lambda: [Mode(mode_id="x")],
}


@pytest.mark.parametrize("hook", CLAIMS)
def test_of_two_that_offer_the_same_the_later_is_left_out_naming_both(hook: str) -> None:
    """As a whole: what else it offers is gone, too. The host starts."""
    hooks = {hook: CLAIMS[hook]}
    if hook != "providers":
        hooks["providers"] = offers("more")
    first, second = plugin("b", **{hook: CLAIMS[hook]}), plugin("c", **hooks)
    mine = host(second, first, plugin("a"))
    assert [each.plugin_id for each in mine.report.loaded] == ["a", "b"]
    ((plugin_id, message),) = failures(mine).items()
    assert plugin_id == "c"
    assert "plugin `b` of the application and plugin `c` of the application" in message
    assert "more" not in mine.providers
    mine.composition("base")


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_replaces_resolves_a_collision_whoever_comes_first(order: tuple[str, str]) -> None:
    """The replaced one stays, without the claims that it lost."""
    winner, loser = order
    plugins = plugin(winner, {"replaces": (loser,)}, providers=offers("x")), plugin(loser, providers=offers("x", "y"))
    mine = host(*plugins)
    assert mine.report.failed == ()
    assert {name: owned.plugin_id for name, owned in mine.providers.items()} == {"x": winner, "y": loser}


def test_who_lost_takes_its_dependents_along() -> None:
    mine = host(
        plugin("a", providers=offers("x")),
        plugin("b", {"requires": ("c",)}),
        plugin("c", providers=offers("x")),
        plugin("d", {"requires": ("b",)}, providers=offers("z")),
    )
    assert [each.plugin_id for each in mine.report.loaded] == ["a"]
    assert [text.partition(":")[0] for _, text in sorted(failures(mine).items())] == [
        "requires",
        "registration",
        "requires",
    ]
    assert "z" not in mine.providers


def test_a_replacement_meets_a_requirement() -> None:
    mine = host(plugin("a", {"requires": ("old",)}), plugin("new", {"replaces": ("old",)}))
    assert [each.plugin_id for each in mine.report.loaded] == ["a", "new"]
    mine.composition("base")


def test_the_host_shows_conflicts_of_its_own_modes_at_once() -> None:
    """They are not a plugin's fault, so they are no row: whoever wrote them is told all of them."""
    modes = [Mode(mode_id="x"), Mode(mode_id="x"), Owned("lash.toml", Mode(mode_id="y"))]
    with pytest.raises(PluginConflictError) as caught:
        host(plugin("p", modes=lambda: [Mode(mode_id="y")]), modes=modes)
    assert [text.split(":")[0] for text in caught.value.conflicts] == [
        "mode `x` of application has the name of one of application",
        "mode `y` of lash.toml has the name of one of p",
    ]


# ---- broken offers --------------------------------------------------------------------------------------------------


@define
class Mutable:
    count: int = 0


@frozen
class NoDefault:
    count: int


class NoAttrs:
    pass


@frozen
class Good:
    count: int = 0


BROKEN = {
    "raises": ({"providers": lambda: 1 / 0}, "ZeroDivisionError"),
    "wrong type": ({"stores": lambda: [provider("x")]}, "`StoreSpec`"),
    "twice": ({"providers": offers("x", "x")}, "offers provider `x` twice"),
    "nameless": ({"modes": lambda: [Mode(mode_id="")]}, "offers a mode without a name"),
    "mutable state": ({"session_state": lambda: SessionStateSpec(state=Mutable)}, "`@attrs.frozen`"),
    "state without default": ({"session_state": lambda: SessionStateSpec(state=NoDefault)}, "count"),
    "state that is no attrs class": ({"session_state": lambda: SessionStateSpec(state=NoAttrs)}, "no attrs class"),
    "two states": ({"session_state": lambda: [SessionStateSpec(state=Good)] * 2}, "at most one"),
    "extension raises": ({"mode_extensions": lambda mode: 1 / 0}, "lash_mode_extensions"),
    "extension of a wrong type": ({"mode_extensions": lambda mode: mode}, "`ModeExtension`"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_offer_is_a_row_and_the_others_go_on(name: str) -> None:
    """Law 6."""
    hooks, tells = BROKEN[name]
    mine = host(plugin("bad", **hooks), plugin("good", tools=lambda ctx: [make_tool("t")]))
    (row,) = mine.report.failed
    assert (row.plugin_id, row.stage) == ("bad", "registration")
    assert tells in row.message
    assert "take it out" in row.remedy
    assert mine.composition("base").callable_names == {"t"}


def test_who_fails_at_a_late_step_takes_its_modes_along() -> None:
    """Extensions are asked for once all modes are known; the others' extensions of its modes then concern nothing."""
    seen: list[str] = []

    def extend(mode: Mode) -> ModeExtension:
        seen.append(mode.mode_id)
        return ModeExtension()

    bad = plugin("bad", mode_extensions=lambda mode: 1 / 0, modes=lambda: [Mode(mode_id="of-bad")])
    mine = host(bad, plugin("good", mode_extensions=extend))
    assert sorted(mine.modes) == ["base"]
    assert seen == ["base", "of-bad", "base"] or seen == ["of-bad", "base", "base"]


def test_strict_refuses_late_failures_as_well() -> None:
    with pytest.raises(ConfigurationError, match="`bad`"):
        host(plugin("bad", providers=lambda: 1 / 0), strict=True)


def test_options_for_a_plugin_that_nobody_knows_are_a_row() -> None:
    """A slip in `lash.toml` would otherwise go unnoticed. A plugin that is switched off may keep its options."""
    options = {"tools-fils": {"root": "."}, "off": {"a": 1}, "tools-files": {}}
    mine = host(plugin("tools-files"), plugin("off"), disabled=["off"], options=options)
    (row,) = mine.report.failed
    assert (row.plugin_id, row.stage) == ("tools-fils", "options")
    assert "did you mean `tools-files`" in row.message


class Odd:
    """Even looking at it fails."""

    def __dir__(self) -> list[str]:
        raise RuntimeError("don't look")


def test_an_object_that_can_not_even_be_looked_at_is_a_row() -> None:
    assert failures(host(Odd(), plugin("good"))) == {"Odd": "hooks: RuntimeError: don't look"}


def test_nothing_is_called_but_what_a_start_needs() -> None:
    """Opening a host must be cheap: no tool, no lifespan, no driver."""
    called: list[str] = []

    def note(name: str) -> Callable[..., Any]:
        return lambda: called.append(name)

    hooks = {name: note(name) for name in ("providers", "stores", "modes", "session_state", "tools", "lifespan")}
    host(plugin("a", **hooks))
    assert called == ["providers", "stores", "modes", "session_state"]


def test_without_a_host_the_report_alone_can_be_had() -> None:
    manager, report = load_plugins([plugin("a")], only=())
    assert [each.plugin_id for each in report.loaded] == ["a"]
    assert manager.has_plugin("a")
    assert isinstance(PluginHost(only=()).report.loaded, tuple)


# ---- order ----------------------------------------------------------------------------------------------------------


def infos(after: dict[str, tuple[str, ...]]) -> dict[str, PluginInfo]:
    return {key: PluginInfo(id=key, after=before) for key, before in after.items()}


@pytest.mark.statement(1, page="plugin-system")
@pytest.mark.parametrize(
    ("after", "order"),
    [
        ({"c": (), "a": (), "b": ()}, "abc"),
        ({"a": ("c",), "b": (), "c": ()}, "bca"),
        ({"a": ("z",), "b": ("a",)}, "ab"),
        ({"a": ("b",), "b": ("c",), "c": ("d",), "d": ()}, "dcba"),
        ({"a": ("d",), "b": ("d",), "c": (), "d": ()}, "cdab"),
        ({}, ""),
    ],
)
def test_plugins_come_after_what_they_name_and_else_by_id(after: dict[str, tuple[str, ...]], order: str) -> None:
    """1: the order is that of `after`, then of ids, however they were given."""
    assert "".join(plugin_order(infos(after))) == order


@pytest.mark.parametrize(
    ("after", "members"),
    [
        ({"a": ("a",)}, ("a",)),
        ({"a": ("b",), "b": ("a",), "c": ()}, ("a", "b")),
        ({"a": ("b",), "b": ("c",), "c": ("d",), "d": ("b",)}, ("b", "c", "d")),
    ],
)
def test_a_circle_is_found_without_who_only_waits_for_it(
    after: dict[str, tuple[str, ...]], members: tuple[str]
) -> None:
    with pytest.raises(CycleError) as caught:
        plugin_order(infos(after))
    assert caught.value.members == members


NAMES = st.sampled_from("abcdef")


@given(st.dictionaries(NAMES, st.lists(NAMES, max_size=3).map(tuple)))
def test_an_order_keeps_every_wish_or_names_a_circle(after: dict[str, tuple[str, ...]]) -> None:
    try:
        order = plugin_order(infos(after))
    except CycleError as error:
        ring = (*error.members, error.members[0])
        assert all(later in after[one] for one, later in pairwise(ring))
    else:
        place = {key: index for index, key in enumerate(order)}
        assert sorted(order) == sorted(after)
        assert all(place[each] < place[key] for key, before in after.items() for each in before if each in place)


# ---- versions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("specifier", "fits", "fails"),
    [
        ("", ["0.1", "9"], []),
        (">=0.1,<1", ["0.1", "0.9.9"], ["0.0.9", "1", "1.0"]),
        (">=0.1, <1", ["0.1"], ["1"]),
        ("==0.1", ["0.1", "0.1.0"], ["0.1.1", "0"]),
        ("==0.*", ["0", "0.1", "0.99.1"], ["1"]),
        ("!=0.1", ["0.2"], ["0.1", "0.1.0"]),
        ("!=0.1.*", ["0.2", "1"], ["0.1", "0.1.5"]),
        ("~=0.1", ["0.1", "0.9"], ["0.0", "1.0"]),
        ("~=0.1.2", ["0.1.2", "0.1.9"], ["0.1.1", "0.2"]),
        ("<=1", ["1.0", "0.5"], ["1.0.1"]),
        (">1", ["1.1"], ["1", "1.0"]),
    ],
)
def test_specifiers_are_understood_as_pep_440_has_them(specifier: str, fits: list[str], fails: list[str]) -> None:
    def release(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in text.split("."))

    assert [each for each in fits if not satisfies(release(each), specifier)] == []
    assert [each for each in fails if satisfies(release(each), specifier)] == []


@pytest.mark.parametrize("specifier", ["1", "=1", "===1", ">=1rc1", ">=", ">=1,", "about 1", "~=1", ">=1.*", ">=1 <2"])
def test_other_specifiers_are_refused(specifier: str) -> None:
    with pytest.raises(ValueError, match="`"):
        satisfies((9,), specifier)
