"""`frozen` of the contract: values that behave as those of `attrs.frozen`, and cost less to declare."""

from __future__ import annotations

import copy
import linecache
import pickle
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from attrs import field
from hookspecs_kit import ATTRS_CLASSES

from lash_hookspecs import PluginScope, SessionCall, TurnCall
from lash_hookspecs.values import frozen

Decorator = Callable[..., Any]
both = pytest.mark.parametrize("decorator", [frozen, attrs.frozen], ids=["frozen", "attrs"])


def point(decorator: Decorator, **options: Any) -> Any:
    """A class with every kind of field, made by the one or by the other."""

    class Point:
        x: int
        names: list[str] = field(factory=list)
        note: dict[str, int] = field(factory=dict, eq=False, repr=False, init=False)
        key: str = field(default="secret", repr=lambda key: "*" * len(key), kw_only=True)
        late: int = field(default=0, hash=False, kw_only=True)

    return decorator(**options)(Point)


@frozen
class Empty:
    pass


@frozen
class One:
    value: object


@frozen
class Two(One):
    more: int = 0


@both
def test_values_of_one_class_with_equal_fields_are_equal(decorator: Decorator) -> None:
    made = point(decorator)
    one = made(1, ["a"])
    one.note["seen"] = 1
    assert one == made(1, ["a"])
    assert one != made(2, ["a"])
    assert one != made(1, ["b"])
    assert one != made(1, ["a"], key="other")
    assert one != made(1, ["a"], late=1)
    assert one != point(decorator)(1, ["a"])
    assert one != 1


@both
def test_they_show_what_may_be_shown(decorator: Decorator) -> None:
    made = point(decorator)
    assert repr(made(1, ["a"])) == "Point(x=1, names=['a'], key=******, late=0)"
    names: list[Any] = []
    one = made(1, names)
    names.append(one)
    assert repr(one) == "Point(x=1, names=[...], key=******, late=0)"


@both
def test_equal_values_are_one_key(decorator: Decorator) -> None:
    made = point(decorator)
    assert {made(1, ()): "found"}[made(1, ())] == "found"
    assert hash(made(1, ())) == hash(made(1, (), late=7))
    assert len({made(1, ()), made(2, ()), made(1, (), key="other")}) == 3
    with pytest.raises(TypeError, match="unhashable type: 'list'"):
        hash(made(1, []))


@both
def test_what_a_class_defines_itself_stays(decorator: Decorator) -> None:
    class Loud:
        word: str

        def __repr__(self) -> str:
            return self.word.upper()

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Loud) and self.word.upper() == other.word.upper()

        def __hash__(self) -> int:
            return hash(self.word.upper())

    made: Any = decorator(Loud)
    assert repr(made("hey")) == "HEY"
    assert hash(made("hey")) == hash(made("HEY"))
    assert made("hey") != made("ho")


@both
def test_without_eq_each_is_only_itself(decorator: Decorator) -> None:
    made = point(decorator, eq=False)
    one = made(1)
    assert one == one
    assert one != made(1)
    assert len({one, made(1)}) == 2


def test_fields_may_be_none_or_one_or_inherited() -> None:
    assert Empty() == Empty() != One(1)
    assert (repr(Empty()), repr(One(1)), repr(Two(1, 2))) == ("Empty()", "One(value=1)", "Two(value=1, more=2)")
    assert One(1) == One(1) != One(2)
    assert One(1) != Two(1)
    assert len({Empty(), Empty(), One(1), One(1), Two(1), Two(1, 1)}) == 4


def test_they_are_attrs_classes() -> None:
    assert attrs.evolve(Two(1, 2), more=3) == Two(1, 3)
    assert [each.name for each in attrs.fields(Two)] == ["value", "more"]
    for same in (copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))):
        assert same(Two([1], 2)) == Two([1], 2)
    match Two(1, 2):
        case Two(value, more=more):
            assert (value, more) == (1, 2)
        case _:
            pytest.fail("it doesn't match")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        One(1).value = 2  # type: ignore[misc]  # that is the point


def test_only_constructors_are_compiled_in_the_contract() -> None:
    """Every process declares all of these: what attrs compiles for them is most of the import."""
    for cls in ATTRS_CLASSES:
        if cls in (PluginScope, SessionCall, TurnCall):  # they change, and so are no values
            continue
        source = "".join(linecache.getlines(cls.__init__.__code__.co_filename))
        assert source.count("def ") == source.count("def __init__(") == 1, f"{cls.__name__} has attrs' own methods"


def test_a_key_function_of_a_field_is_refused() -> None:
    """It would be passed over otherwise, and unequal things be equal or equal ones not."""
    with pytest.raises(TypeError, match=r"name.*attrs.frozen"):

        @frozen
        class Named:
            name: str = attrs.field(eq=str.lower)
