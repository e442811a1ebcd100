"""Typed settings of providers, stores and plugins: conversion, order of sources, and secrets that stay secret."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
from attrs import field, frozen
from attrs.validators import gt

from lash_framework.settings import (
    Settings,
    load_settings,
    model_settings,
    plugin_settings,
    provider_settings,
    secret_fields,
    store_settings,
)
from lash_framework.settings.typed import Mismatch, from_text, from_value
from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.llm import ProviderSpec
from lash_hookspecs.models import ModelCapability, ModelPrices
from lash_hookspecs.stores import StoreSpec


class Color(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


@frozen
class Inner:
    x: int = 0


def no_secret_in(instance: object, attribute: Any, value: str) -> None:
    if " " in value:
        raise ValueError(f"`{value}` has a blank in it")


@frozen(kw_only=True)
class Wanted:
    base_url: str = field(default="https://x", metadata={"env": ("OPENAI_BASE_URL", "OTHER_BASE_URL")})
    api_key: str = field(
        default="", repr=False, metadata={"env": "OPENAI_API_KEY", "secret": True}, validator=no_secret_in
    )
    timeout_s: float = field(default=1.0, validator=gt(0))
    tags: tuple[str, ...] = ()
    kind: Literal["full", "normal"] = "full"
    rank: Literal["hidden-a", "hidden-b"] = field(default="hidden-a", metadata={"secret": True})
    inner: Mapping[str, Inner] = field(factory=dict)


SPEC = ProviderSpec(provider_id="openai-chat", settings=Wanted, open=lambda context: context.settings)
FITS: list[tuple[Any, Any, Any]] = [
    ("a", str, "a"),
    (1, int, 1),
    (1, float, 1.0),
    (True, bool, True),
    (["a"], tuple[str, ...], ("a",)),
    (["a"], list[str], ["a"]),
    (["a", "a"], frozenset[str], frozenset({"a"})),
    (["a"], Sequence[str], ("a",)),
    ({"a": 1}, Mapping[str, int], {"a": 1}),
    ({"a": [1]}, dict[str, Any], {"a": [1]}),
    ("red", Color, Color.RED),
    ("a", Literal["a", "b"], "a"),
    (3, int | None, 3),
    ("~/x", Path, Path("~/x").expanduser()),
    ({"x": 3}, Inner, Inner(3)),
    ([1, "b"], Any, [1, "b"]),
]
TEXTS: list[tuple[str, Any, Any]] = [
    ("5", str, "5"),
    ("true", str, "true"),
    ("5", int, 5),
    ("5", float, 5.0),
    ("yes", bool, True),
    ("0", bool, False),
    ("a, b,", tuple[str, ...], ("a", "b")),
    ("1, 2", tuple[int, ...], (1, 2)),
    ('["a,b"]', tuple[str, ...], ("a,b",)),
    ("a", list[str], ["a"]),
    ("{a = 1}", dict[str, int], {"a": 1}),
    ("red", Color, Color.RED),
    ("b", Literal["a", "b"], "b"),
    ("2", Literal[1, 2], 2),
    ("5", int | None, 5),
    ("5", str | None, "5"),
    ("5", Any, 5),
    ("x y", Any, "x y"),
]
MISFITS: list[tuple[Any, Any, str]] = [
    (1, str, "must be text, not a whole number"),
    ("1", int, "must be a whole number, not text"),
    (True, int, "must be a whole number, not true or false"),
    (1.5, int, "must be a whole number, not a number"),
    (1, bool, "must be true or false, not a whole number"),
    ("a", tuple[str, ...], "must be an array, not text"),
    ([1], tuple[str, ...], "must be text, not a whole number"),
    ([1], dict[str, int], "must be a table, not an array"),
    ("green", Color, "must be `red` or `blue`, not `green`"),
    ("full text", Literal["a", "b", "c"], "must be `a`, `b` or `c`, not `full text`"),
    ("ful", Literal["full", "normal"], "must be `full` or `normal`, not `ful`: did you mean `full`?"),
    (["a"], Literal["a"], "must be `a`"),
    ("a", int | None, "must be a whole number, not text"),
    ({"y": 1}, Inner, "has the unknown key `y`: known: `x`"),
]


@pytest.mark.parametrize(("value", "tp", "made"), FITS)
def test_a_value_becomes_its_type(value: Any, tp: Any, made: Any) -> None:
    assert from_value(value, tp) == made
    assert type(from_value(value, tp)) is type(made)


@pytest.mark.parametrize(("text", "tp", "made"), TEXTS)
def test_a_text_is_read_by_the_wanted_type(text: str, tp: Any, made: Any) -> None:
    assert from_text(text, tp) == made
    assert type(from_text(text, tp)) is type(made)


@pytest.mark.parametrize(("value", "tp", "says"), MISFITS)
def test_what_does_not_fit_is_named(value: Any, tp: Any, says: str) -> None:
    with pytest.raises(Mismatch) as caught:
        from_value(value, tp)
    assert caught.value.with_value() == says


def load(folder: Path, toml: str = "", *sets: str, **env: str) -> Settings:
    (folder / "lash.toml").write_text(toml)
    return load_settings(cwd=folder, env={"LASH_TRUSTED": str(folder), **env}, sets=sets)


def test_the_order_is_default_file_variable_lash_variable_command_line(tmp_path: Path) -> None:
    toml = '[provider.openai-chat]\nbase_url = "file"\n'
    variable = {"OTHER_BASE_URL": "variable"}
    lash = {"LASH_PROVIDER__OPENAI_CHAT__BASE_URL": "lash"}
    typed = "provider.openai-chat.base_url=typed"

    def url(settings: Settings, env: Mapping[str, str]) -> str:
        made: Wanted = provider_settings(SPEC, settings, env)
        return made.base_url

    assert url(load(tmp_path), {}) == "https://x"
    assert url(load(tmp_path, toml), {}) == "file"
    assert url(load(tmp_path, toml), variable) == "variable"
    assert url(load(tmp_path, toml), {"OPENAI_BASE_URL": "first", **variable}) == "first"
    assert url(load(tmp_path, toml), {"OPENAI_BASE_URL": ""}) == "file"
    assert url(load(tmp_path, toml, **lash), {**variable, **lash}) == "lash"
    assert url(load(tmp_path, toml, typed, **lash), {**variable, **lash}) == "typed"


def test_a_typed_text_keeps_its_spelling_where_text_is_wanted(tmp_path: Path) -> None:
    settings = load(tmp_path, "", "provider.openai-chat.api_key=0123", "provider.openai-chat.tags=a,b")
    made: Wanted = provider_settings(SPEC, settings, {})
    assert (made.api_key, made.tags) == ("0123", ("a", "b"))


MISTAKES = {
    "unknown": ("bse_url = 'hunter2'", "lash.toml:2: unknown setting `provider.openai-chat.bse_url`: did you mean"),
    "type": ("api_key = ['hunter2']", "lash.toml:2: `provider.openai-chat.api_key` must be text, not an array"),
    "choice": (
        "kind = 'ful'",
        "lash.toml:2: `provider.openai-chat.kind` must be `full` or `normal`, not `ful`: did you mean `full`?",
    ),
    "secret choice": ("rank = 'hunter2'", "lash.toml:2: `provider.openai-chat.rank` must be `hidden-a` or `hidden-b`"),
    "member": ("tags = ['a', 1]", "lash.toml:2: `provider.openai-chat.tags[1]` must be text, not a whole number"),
    "deep": (
        "inner = { a = { x = 'b' } }",
        "lash.toml:2: `provider.openai-chat.inner.a.x` must be a whole number, not text",
    ),
    "validator": ("timeout_s = -1", "lash.toml:2: `provider.openai-chat.timeout_s` isn't valid: "),
    "secret": ("api_key = 'hunter2 x'", "lash.toml:2: `provider.openai-chat.api_key` isn't valid: `***` has a blank"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_named_with_its_place_and_without_its_value(case: str, tmp_path: Path) -> None:
    line, says = MISTAKES[case]
    with pytest.raises(ConfigurationError) as caught:
        provider_settings(SPEC, load(tmp_path, f"[provider.openai-chat]\n{line}\n"), {})
    assert str(caught.value).startswith(says)
    assert "hunter2" not in str(caught.value)


def test_a_mistake_in_a_variable_names_the_variable(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"env OPENAI_API_KEY: `provider.openai-chat.api_key` isn't valid"):
        provider_settings(SPEC, load(tmp_path), {"OPENAI_API_KEY": "a b"})


def test_stores_and_plugins_have_typed_settings_too(tmp_path: Path) -> None:
    async def never(context: Any) -> Any:
        raise AssertionError("not opened here")

    spec = StoreSpec(schemes=("x",), open=never, settings=Inner)
    assert store_settings(spec, load(tmp_path, "[store_options]\nx = 2"), {}) == Inner(2)
    assert plugin_settings("plan", Inner, load(tmp_path, "[plugin.plan]\nx = 3"), {}) == Inner(3)
    none = StoreSpec(schemes=("x",), open=never)
    assert store_settings(none, load(tmp_path), {}) is None
    with pytest.raises(ConfigurationError, match=r"lash.toml:2: the store for `x:` has no settings"):
        store_settings(none, load(tmp_path, "[store_options]\nx = 2"), {})


def test_secret_fields_are_known_by_their_metadata() -> None:
    assert secret_fields(Wanted) == {"api_key", "rank"}
    assert secret_fields(None) == frozenset()


def test_a_member_of_an_array_of_tables_is_named_with_its_number_and_line(tmp_path: Path) -> None:
    """The second prompt's slot was misspelt, and the message pointed at the first prompt."""
    prompts = '[[modes.x.prompt]]\ncontent = "a"\n[[modes.x.prompt]]\ncontent = "b"\nslot = "guidence"\n'
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, prompts)
    assert str(caught.value).startswith("lash.toml:5: `modes.x.prompt[1].slot` must be `intro`, `execution`, ")
    assert str(caught.value).endswith(" or `environment`, not `guidence`: did you mean `guidance`?")


# ---- what a user says of models -------------------------------------------------------------------------------------


def test_what_is_said_of_a_model_is_typed_and_named_by_line(tmp_path: Path) -> None:
    text = (
        '[models."openai:gpt-5.1"]\ncontext_window = 9\nreasoning_efforts = ["low"]\n'
        'prices = {input = 2, output = 3.5, as_of = "2026-11-26"}\n[models."other:m"]\nimages = false\n'
    )
    settings = load(tmp_path, text)
    prices = ModelPrices(input=2, output=3.5, as_of="2026-11-26")
    said = ModelCapability(context_window=9, reasoning_efforts=("low",), prices=prices)
    assert model_settings(settings, "openai") == {"gpt-5.1": said}
    assert model_settings(settings, "other") == {"m": ModelCapability(images=False)}
    assert model_settings(settings, "nobody") == {}


WRONG = {
    "context_windw = 9": "lash.toml:2: unknown setting `models.o:m.context_windw`: did you mean `context_window`?",
    'context_window = "9"': "lash.toml:2: `models.o:m.context_window` must be a whole number, not text",
    "prices = {input = -1}": (
        "lash.toml:2: `models.o:m.prices` isn't valid: `ModelPrices.input` must be from 0 to 1000000 US dollars for a "
        "million tokens, and is -1.0"
    ),
    "prices = {inptu = 1}": "lash.toml:2: `models.o:m.prices` has the unknown key `inptu`: did you mean `input`?",
    'endpoint = "x"': "lash.toml:2: `models.o:m.endpoint` is the provider's to say",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_slip_in_what_is_said_of_a_model_is_shown(line: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        model_settings(load(tmp_path, f'[models."o:m"]\n{line}\n'), "o")
    assert str(caught.value) == WRONG[line]


def test_a_model_is_named_with_its_provider(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="names no model"):
        model_settings(load(tmp_path, "[models.gpt-5]\nimages = true\n"), "openai")
