"""Typed tools: every kind of hint as the model is told it, as its arguments arrive, and what can't be."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field as dataclass_field
from datetime import date
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, Required, TypedDict
from uuid import UUID

import jsonschema_rs
import pytest
from attrs import field, frozen, validators

from lash_hookspecs import (
    ConfigurationError,
    FunctionTool,
    Ge,
    Gt,
    Le,
    Lt,
    MaxLen,
    MinLen,
    MultipleOf,
    OutputEnd,
    Pattern,
    RetryIdempotent,
    RetryNever,
    RetrySafe,
    ToolCallContext,
    ToolError,
    ToolManifest,
    decode,
    encode,
    json_schema,
    own_copy,
    tool,
)

CTX = ToolCallContext(session_id="s", turn_id="t", call_id="c", tool_name="x", plugin_id="p", idempotency_key="k")
STRING, INTEGER = {"type": "string"}, {"type": "integer"}


class Unit(StrEnum):
    METRE = "m"
    FOOT = "ft"


@frozen
class Tree:
    """A tree.

    Attributes:
        label: What is written on it.
    """

    label: str
    children: list[Tree] = field(factory=list)


@dataclass(frozen=True)
class Size:
    width: int
    unit: Unit = Unit.METRE
    tags: list[str] = dataclass_field(default_factory=list)
    area: int = dataclass_field(init=False, default=0)


@dataclass
class Person:
    """Somebody.

    :param name: what they are called
    """

    name: str
    boss: Person | None = None


@frozen
class House:
    rooms: tuple[Room, ...]


@frozen
class Room:
    house: House | None = None
    size: Size | None = None


class Movie(TypedDict):
    title: str
    year: NotRequired[int]
    size: NotRequired[Size]


class Loose(TypedDict, total=False):
    title: Required[str]
    year: int


class Place(NamedTuple):
    lat: Annotated[float, Ge(-90), Le(90)]
    lon: float


UserId = NewType("UserId", int)


def parameter(tp: Any) -> dict[str, Any]:
    """What a tool says of a parameter with this hint."""

    def function(given: Any) -> None: ...

    function.__annotations__["given"] = tp
    schema = tool(function).manifest.input_schema
    return dict(schema["properties"]["given"])


# ---- constraints ----------------------------------------------------------------------------------------------------

CONSTRAINTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "ge": (Annotated[int, Ge(1)], {**INTEGER, "minimum": 1}),
    "gt-lt": (Annotated[float, Gt(0), Lt(1)], {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}),
    "le": (Annotated[int, Le(9)], {**INTEGER, "maximum": 9}),
    "multiple": (Annotated[int, MultipleOf(5)], {**INTEGER, "multipleOf": 5}),
    "text": (Annotated[str, MinLen(1), MaxLen(9)], {**STRING, "minLength": 1, "maxLength": 9}),
    "list": (Annotated[list[int], MinLen(1)], {"type": "array", "items": INTEGER, "minItems": 1}),
    "dict": (
        Annotated[dict[str, int], MaxLen(2)],
        {"type": "object", "additionalProperties": INTEGER, "maxProperties": 2},
    ),
    "pattern": (Annotated[str, Pattern("^a+$")], {**STRING, "pattern": "^a+$"}),
    "optional": (Annotated[int | None, Ge(1)], {"anyOf": [INTEGER, {"type": "null"}], "minimum": 1}),
    "either": (
        Annotated[str | list[str], MinLen(1)],
        {"anyOf": [STRING, {"type": "array", "items": STRING}], "minLength": 1, "minItems": 1},
    ),
    "inside": (list[Annotated[int, Ge(0)]], {"type": "array", "items": {**INTEGER, "minimum": 0}}),
    "anything": (
        Annotated[Any, MinLen(1)],
        {"minLength": 1, "minItems": 1, "minProperties": 1},
    ),
    "description": (Annotated[str, "where to"], {**STRING, "description": "where to"}),
    "foreign": (Annotated[int, SimpleNamespace(ge=1), object()], {**INTEGER, "minimum": 1}),
    "unhashable": (Annotated[int, [], Ge(1)], {**INTEGER, "minimum": 1}),
}


@pytest.mark.parametrize(("tp", "schema"), CONSTRAINTS.values(), ids=CONSTRAINTS)
def test_a_constraint_is_a_keyword(tp: Any, schema: dict[str, Any]) -> None:
    assert json_schema(tp) == schema
    jsonschema_rs.validator_for(schema)


UNFIT = {
    "length of a number": (Annotated[int, MinLen(1)], "array or object or string"),
    "bound of text": (Annotated[str, Ge(1)], "integer or number"),
    "bound of a flag": (Annotated[bool, Ge(1)], "integer or number"),
    "bound of a literal": (Annotated[Literal[1, 2], Ge(1)], "integer or number"),
    "broken pattern": (Annotated[str, Pattern("[")], "no regular expression"),
    "bound that is a date": (Annotated[int, SimpleNamespace(ge=date(2026, 1, 1))], "given as a number"),
}


@pytest.mark.parametrize(("tp", "words"), UNFIT.values(), ids=UNFIT)
def test_a_constraint_that_fits_no_value_is_refused_with_tool_and_parameter(tp: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        parameter(tp)
    assert "tool `function`, parameter `given`" in str(caught.value)


# ---- classes --------------------------------------------------------------------------------------------------------


def test_a_dataclass_is_an_object() -> None:
    assert parameter(Size) == {
        "type": "object",
        "properties": {
            "width": INTEGER,
            "unit": {"enum": ["m", "ft"], "default": "m"},
            "tags": {"type": "array", "items": STRING},
        },
        "required": ["width"],
        "additionalProperties": False,
    }


def test_a_typed_dict_is_an_object_whose_keys_may_be_left_out_where_it_says_so() -> None:
    """Hints are text in this module, so that Python's own list of required keys is wrong."""
    assert json_schema(Movie)["required"] == ["title"]
    assert set(json_schema(Movie)["properties"]) == {"title", "year", "size"}
    assert json_schema(Loose)["required"] == ["title"]


def test_a_named_tuple_is_a_list_with_titles() -> None:
    assert json_schema(Place) == {
        "type": "array",
        "prefixItems": [
            {"title": "lat", "type": "number", "minimum": -90, "maximum": 90},
            {"title": "lon", "type": "number"},
        ],
        "minItems": 2,
        "maxItems": 2,
    }


def test_a_new_type_is_what_it_stands_for() -> None:
    assert json_schema(UserId) == INTEGER
    assert json_schema(list[UserId]) == {"type": "array", "items": INTEGER}


def test_a_class_that_holds_itself_is_a_definition() -> None:
    tree = {"$ref": "#/$defs/Tree"}

    @tool
    def plant(tree: Tree, more: list[Tree]) -> None: ...

    schema = plant.manifest.input_schema
    assert schema["properties"] == {"tree": tree, "more": {"type": "array", "items": tree}}
    assert schema["$defs"] == {
        "Tree": {
            "type": "object",
            "properties": {
                "label": {**STRING, "description": "What is written on it."},
                "children": {"type": "array", "items": tree},
            },
            "required": ["label"],
            "additionalProperties": False,
            "description": "A tree.",
        }
    }
    assert decode(ToolManifest, encode(plant.manifest)) == plant.manifest


def test_a_root_that_holds_itself_is_an_object_all_the_same() -> None:
    """Model services want an object at the root, not a reference."""
    schema = json_schema(Person)
    assert (schema["type"], schema["description"]) == ("object", "Somebody.")
    assert schema["$defs"]["Person"]["properties"]["boss"] == {"anyOf": [{"$ref": "#/$defs/Person"}, {"type": "null"}]}
    assert jsonschema_rs.validator_for(schema).is_valid({"name": "a", "boss": {"name": "b"}})
    assert not jsonschema_rs.validator_for(schema).is_valid({"name": "a", "boss": {"nam": "b"}})


def test_classes_that_hold_each_other_are_described_once() -> None:
    schema = parameter(list[House | Room])
    assert schema["items"]["anyOf"][0] == {"$ref": "#/$defs/House"}


def test_two_classes_of_one_name_have_a_definition_each() -> None:
    def make() -> type:
        @frozen
        class Node:
            next: Node | None = None

        return Node

    one, other = make(), make()

    def function(a: Any, b: Any) -> None: ...

    function.__annotations__ |= {"a": one, "b": other}
    schema = tool(function).manifest.input_schema
    assert schema["properties"] == {"a": {"$ref": "#/$defs/Node"}, "b": {"$ref": "#/$defs/Node_2"}}
    assert set(schema["$defs"]) == {"Node", "Node_2"}


# ---- values ---------------------------------------------------------------------------------------------------------


@tool
def typed(
    size: Size | None = None,
    person: Person | None = None,
    tree: Tree | None = None,
    movie: Movie | None = None,
    place: Place | None = None,
    user: UserId | None = None,
    either: Size | Person | Movie | str = "",
    ratio: Annotated[float, Ge(0)] = 0,
    unit: Unit | None = None,
    count: int = 0,
) -> dict[str, Any]:
    """What it was called with."""
    return dict(locals())


ARRIVE: dict[str, tuple[str, Any, Any]] = {
    "dataclass": ("size", {"width": 2, "unit": "ft"}, Size(2, Unit.FOOT)),
    "recursive dataclass": ("person", {"name": "a", "boss": {"name": "b"}}, Person("a", Person("b"))),
    "recursive class": ("tree", {"label": "a", "children": [{"label": "b"}]}, Tree("a", [Tree("b")])),
    "typed dict": ("movie", {"title": "a", "size": {"width": 1}}, {"title": "a", "size": Size(1)}),
    "named tuple": ("place", [1.5, 2], Place(1.5, 2.0)),
    "new type": ("user", 7, 7),
    "union, dataclass": ("either", {"width": 1, "tags": ["a"]}, Size(1, tags=["a"])),
    "union, other dataclass": ("either", {"name": "a"}, Person("a")),
    "union, typed dict": ("either", {"title": "a", "year": 1}, {"title": "a", "year": 1}),
    "union, text": ("either", "a", "a"),
    "a number without a point": ("ratio", 2, 2.0),
    "a whole number with a point": ("count", 2.0, 2),
    "enum": ("unit", "ft", Unit.FOOT),
}


@pytest.mark.parametrize(("name", "given", "value"), ARRIVE.values(), ids=ARRIVE)
async def test_an_argument_arrives_as_its_hint_says(name: str, given: Any, value: Any) -> None:
    assert jsonschema_rs.validator_for(own_copy(typed.manifest.input_schema)).is_valid({name: given})
    result: Any = await typed.call(CTX, {name: given})
    assert result[name] == value
    assert type(result[name]) is type(value)


async def test_of_two_classes_that_would_fit_the_one_that_knows_all_fields_is_taken() -> None:
    """The schema lets the data pass as the second only; the first would have lost a field without a word."""

    @frozen
    class Few:
        x: int
        z: int = 0

    @frozen
    class More:
        x: int
        y: int = 0

    def show(given: Any) -> Any:
        return given

    show.__annotations__["given"] = Few | More
    assert await tool(show).call(CTX, {"given": {"x": 1, "y": 2}}) == More(1, 2)


async def test_what_classes_refuse_is_told_of_all_arguments_at_once() -> None:
    @frozen
    class Even:
        n: int = field(validator=validators.in_([2, 4]))

    def pair(a: Any, b: Any) -> None: ...

    pair.__annotations__ |= {"a": Even, "b": Even}
    with pytest.raises(ToolError, match=r"`pair` don't fit: `a`: .*; `b`: ") as caught:
        await tool(pair).call(CTX, {"a": {"n": 1}, "b": {"n": 3}})
    assert caught.value.code == "invalid_arguments"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`type` is a statement from 3.12 on")
async def test_an_alias_is_what_it_stands_for_even_if_it_holds_itself() -> None:
    space: dict[str, Any] = {}
    exec("type Json = str | list[Json] | dict[str, Json]\ndef show(given: Json): return given", space)
    made = tool(space["show"])
    assert made.manifest.input_schema["properties"] == {"given": {"$ref": "#/$defs/Json"}}
    assert await made.call(CTX, {"given": ["a", {"b": ["c"]}]}) == ["a", {"b": ["c"]}]


# ---- descriptions ---------------------------------------------------------------------------------------------------


def google(ctx: ToolCallContext, city: str, days: int = 1, *, deep: bool = False) -> str:
    """The weather.

    Ask early.

    Args:
        ctx: the call
        city (str): Where it is to be,
            by its English name.
        days: How many days.

    Returns:
        A text.
    """
    return ""


def numpy(ctx: ToolCallContext, city: str, days: int = 1, *, deep: bool = False) -> str:
    """The weather.

    Ask early.

    Parameters
    ----------
    ctx : ToolCallContext
        the call
    city : str
        Where it is to be,
        by its English name.
    days : int, optional
        How many days.

    Returns
    -------
    A text.
    """
    return ""


def sphinx(ctx: ToolCallContext, city: str, days: int = 1, *, deep: bool = False) -> str:
    """The weather.

    Ask early.

    :param ctx: the call
    :param str city: Where it is to be,
        by its English name.
    :type days: int
    :param days: How many days.
    :returns: A text.
    """
    return ""


RESTS = {
    "google": (google, "Returns:\n    A text."),
    "numpy": (numpy, "Returns\n-------\nA text."),
    "sphinx": (sphinx, ":returns: A text."),
}


@pytest.mark.parametrize(("function", "rest"), RESTS.values(), ids=RESTS)
def test_what_a_docstring_says_of_a_parameter_is_said_there_and_only_there(
    function: Callable[..., str], rest: str
) -> None:
    manifest = tool(function).manifest
    assert manifest.description == f"The weather.\n\nAsk early.\n\n{rest}"
    assert manifest.input_schema["properties"] == {
        "city": {**STRING, "description": "Where it is to be, by its English name."},
        "days": {**INTEGER, "description": "How many days.", "default": 1},
        "deep": {"type": "boolean", "default": False},
    }


def test_a_section_that_names_no_parameter_stays_where_it_is() -> None:
    def odd(city: str) -> None:
        """Odd.

        Args:
            they are explained elsewhere.

        Parameters
        ----------

        Note: so it is.
        """

    manifest = tool(odd).manifest
    assert manifest.description == (
        "Odd.\n\nArgs:\n    they are explained elsewhere.\n\nParameters\n----------\n\nNote: so it is."
    )
    assert manifest.input_schema["properties"] == {"city": STRING}


def test_the_hints_own_description_wins_and_options_win_over_the_docstring() -> None:
    def go(city: Annotated[str, "from the hint"]) -> None:
        """From the docstring.

        Args:
            city: from the docstring
        """

    manifest = tool(description="From the option.")(go).manifest
    assert manifest.description == "From the option."
    assert manifest.input_schema["properties"] == {"city": {**STRING, "description": "from the hint"}}


def test_two_parameters_of_one_line_and_a_colon_in_a_text() -> None:
    def go(x: int, y: int, url: str) -> None:
        """Go.

        Parameters
        ----------
        x, y : int
            Where to.
        url
            Such as http://a: it is.
        """

    said = {name: each["description"] for name, each in tool(go).manifest.input_schema["properties"].items()}
    assert said == {"x": "Where to.", "y": "Where to.", "url": "Such as http://a: it is."}


# ---- what can't be --------------------------------------------------------------------------------------------------


@frozen
class Deep:
    inner: Inner


@frozen
class Inner:
    when: date


@frozen
class Lost:
    to: Nowhere  # type: ignore[name-defined]  # noqa: F821  # that is the point


IMPOSSIBLE = {
    "date": (date, "take text, and make one of it in the function"),
    "path": (Path, "take text"),
    "uuid": (UUID, "take text"),
    "decimal": (Decimal, "take text"),
    "function": (Callable[[], None], "use text, numbers"),
    "deep inside": (dict[str, Deep], r"field `Inner.when`: .*date.* take text"),
    "unresolved field": (Lost, "a hint of `Lost` can't be resolved: .*Nowhere.*at the top of the module"),
    "the context": (ToolCallContext, "only one that is named `ctx` gets it"),
}


@pytest.mark.parametrize(("tp", "words"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_no_model_can_say_is_refused_with_tool_parameter_and_next_step(tp: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        parameter(tp)
    assert str(caught.value).startswith("tool `function`")
    assert "parameter `given`" in str(caught.value)


def nothing() -> None: ...


def made(**options: Any) -> FunctionTool:
    return tool(**options)(nothing)


OPTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"timeout": 3}, "there is no option `timeout`: did you mean `timeout_s`?"),
    "effect": ({"effect": "pur"}, "`pur` is no ToolEffect: did you mean `pure`?"),
    "keeps": ({"keeps": "tial"}, "`tial` is no OutputEnd: did you mean `tail`?"),
    "retry": ({"retry": "saf"}, "`saf` is no retry policy: did you mean `safe`?"),
    "retry of an unsafe tool": ({"retry": "idempotent"}, "must not be made again by itself: say `effect="),
    "no attempt": ({"retry": RetrySafe(max_attempts=0)}, "at least one attempt"),
    "delays": ({"retry": RetrySafe(base_delay_ms=9, max_delay_ms=8)}, "`max_delay_ms` the largest"),
    "time": ({"timeout_s": -1}, "`timeout_s` is -1; the least is 0"),
    "not a time": ({"timeout_s": float("nan")}, "`timeout_s` is nan"),
    "at once": ({"max_concurrency": 0}, "`max_concurrency` is 0; the least is 1"),
}


@pytest.mark.statement(5, page="effects")
@pytest.mark.parametrize(("options", "words"), OPTIONS.values(), ids=OPTIONS)
def test_options_that_can_not_be_are_refused_by_the_tools_name(options: dict[str, Any], words: str) -> None:
    """A tool that is to be tried less than once is refused where it is made, as all options that can't be."""
    with pytest.raises(ConfigurationError, match="tool `nothing`: ") as caught:
        made(**options)
    assert words in str(caught.value)


def test_what_is_declared_is_in_the_manifest() -> None:
    plain = made().manifest
    assert (plain.retry, plain.max_concurrency, plain.keeps, plain.attaches) == (
        RetryNever(),
        None,
        OutputEnd.HEAD,
        False,
    )
    said = made(effect="pure", retry="idempotent", max_concurrency=2, keeps="tail", attaches=True).manifest
    assert (said.retry, said.max_concurrency, said.keeps, said.attaches) == (RetryIdempotent(), 2, OutputEnd.TAIL, True)
    policy = RetrySafe(max_attempts=5, base_delay_ms=10, max_delay_ms=100)
    assert made(retry=policy).manifest.retry == policy
    for each in (plain, said, made(retry=policy).manifest):
        assert decode(ToolManifest, encode(each)) == each
