"""`frozen` of the contract: values that behave as those of `attrs.frozen`, and cost less to declare."""

from __future__ import annotations

import copy
import inspect
import linecache
import pickle
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar
from weakref import ref

import attrs
import pytest
from attrs import field
from hookspecs_kit import ATTRS_CLASSES

from lash_hookspecs import (
    ActionCall,
    CompositionContext,
    ContextCall,
    HostContext,
    PluginScope,
    SessionCall,
    ToolCallContext,
    TurnCall,
)
from lash_hookspecs.values import frozen, mutable

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


def compiled_for(cls: type) -> str:
    """The source that attrs wrote for this class; from 3.13 on `<string>`, the others' name, has one of its own."""
    name = cls.__init__.__code__.co_filename  # type: ignore[misc]  # only read
    return "".join(linecache.getlines(name)) if name.startswith("<attrs") else ""


def test_next_to_nothing_is_compiled_in_the_contract() -> None:
    """Every process declares all of these: what attrs compiles for them is most of the import."""
    change = (ActionCall, ContextCall, PluginScope, SessionCall, TurnCall)
    have_a_base = (CompositionContext, HostContext, ToolCallContext)
    values = [cls for cls in ATTRS_CLASSES if cls not in (*change, *have_a_base)]
    compiled = [cls for cls in values if compiled_for(cls)]
    assert not compiled


# ---- plain ones -----------------------------------------------------------------------------------------------------


def plain(decorator: Decorator, **options: Any) -> Any:
    """A class with every kind of plain field and of method, made by the one or by the other."""

    class Plain:
        """A class."""

        tag: ClassVar[str] = "plain"
        first: int
        second: str | None = None
        third: tuple[int, ...] = ()
        _hidden: int = 0
        made: list[int] = field(factory=list)
        also: dict[str, int] = attrs.Factory(dict)
        shown: str = field(default="secret", repr=len, hash=False)
        whole: int = field(default=1, validator=attrs.validators.instance_of(int), metadata={"help": "x"})
        texts: tuple[str, ...] = field(default=("a",), converter=tuple, validator=attrs.validators.max_len(3))
        derived: dict[str, int] = field(factory=dict, eq=False, repr=False, init=False)
        fixed: int = field(default=5, init=False)

        def __attrs_post_init__(self) -> None:
            self.derived["first"] = self.first

        def method(self) -> int:
            return self.first

        @property
        def double(self) -> int:
            return self.first * 2

        @classmethod
        def of(cls, first: int) -> Any:
            return cls(first=first)

        @staticmethod
        def one() -> int:
            return 1

    return decorator(**options)(Plain)


each_kind = pytest.mark.parametrize("kw_only", [False, True], ids=["positional", "keywords"])


@each_kind
def test_a_plain_class_is_the_one_that_attrs_makes(kw_only: bool) -> None:
    ours, theirs = plain(frozen, kw_only=kw_only), plain(attrs.frozen, kw_only=kw_only)
    assert not compiled_for(ours)
    assert vars(theirs).keys() - vars(ours).keys() == {"__ne__"}  # which Python has itself
    assert not vars(ours).keys() - vars(theirs).keys()
    for name in ("__doc__", "__slots__", "__match_args__", "__qualname__", "__module__", "__annotations__", "tag"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert tuple(attrs.fields(ours)) == tuple(attrs.fields(theirs))
    assert attrs.fields(ours).second == attrs.fields(theirs).second
    assert not hasattr(attrs.fields(ours), "fourth")
    assert inspect.signature(ours) == inspect.signature(theirs)
    one, other = (cls(first=1, hidden=2, texts=["b"]) for cls in (ours, theirs))
    assert repr(one) == repr(other)
    assert (one.derived, one.made, one.also, one.fixed, one.texts, one._hidden) == ({"first": 1}, [], {}, 5, ("b",), 2)
    assert one.made is not ours(first=1).made
    assert ours.__init__.__annotations__ == theirs.__init__.__annotations__
    assert (ours.of(2).method(), ours.of(2).double, ours.one()) == (2, 4, 1)
    assert attrs.asdict(ours.of(2)) == attrs.asdict(theirs.of(2))
    assert attrs.evolve(ours.of(2), third=(1,)) == ours(first=2, third=(1,))
    assert ref(value := ours.of(2))() is value


def extended(decorator: Decorator, base: Any) -> Any:
    class Extended(base):
        required: int
        more: list[str] = field(factory=list)
        fourth: int = field(default=4, validator=attrs.validators.ge(4))

    return decorator(kw_only=True)(Extended)


def test_a_plain_class_with_a_plain_base_is_the_one_that_attrs_makes() -> None:
    bases = plain(frozen, kw_only=True), plain(attrs.frozen, kw_only=True)
    ours, theirs = extended(frozen, bases[0]), extended(attrs.frozen, bases[1])
    assert not compiled_for(ours)
    assert (ours.__slots__, ours.__match_args__) == (theirs.__slots__, theirs.__match_args__)
    assert tuple(attrs.fields(ours)) == tuple(attrs.fields(theirs))
    assert [each.inherited for each in attrs.fields(ours)] == [each.inherited for each in attrs.fields(theirs)]
    assert inspect.signature(ours) == inspect.signature(theirs)
    one, other = (cls(first=1, required=2) for cls in (ours, theirs))
    assert repr(one) == repr(other)
    assert isinstance(one, bases[0])
    assert (one.derived, one.double, one.more) == ({"first": 1}, 2, [])
    assert one == ours(first=1, required=2) != attrs.evolve(one, more=["x"])
    with pytest.raises(ValueError, match="'fourth' must be >= 4"):
        ours(first=1, required=2, fourth=3)


def test_what_a_class_needs_is_made_when_it_is_first_asked_for() -> None:
    """Of two thirds of the classes that a process imports it never makes a value."""

    @frozen
    class Late:
        value: int = 1

    class Later(Late):
        pass

    assert not {type(vars(Late)[name]).__name__ for name in ("__init__", "__attrs_attrs__")} - {"_Later"}
    assert Later(2).value == 2  # what is made for a class that inherits it is kept where it belongs
    assert "__init__" not in vars(Later)
    assert vars(Late)["__init__"] is Late.__init__
    assert attrs.fields(Late).value is vars(Late)["__attrs_attrs__"][0]


WRONG: dict[str, Callable[[Any], Any]] = {
    "missing": lambda cls: cls(),
    "too many": lambda cls: cls(*range(20)),
    "of a wrong type": lambda cls: cls(first=1, whole="1"),
    "made wrong": lambda cls: cls(first=1, texts=4),
    "too long": lambda cls: cls(first=1, texts="abcd"),
    "unknown": lambda cls: cls(first=1, fourth=4),
    "changed": lambda cls: setattr(cls(first=1), "first", 2),
    "deleted": lambda cls: delattr(cls(first=1), "first"),
    "new": lambda cls: setattr(cls(first=1), "fourth", 2),
}


@each_kind
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_plain_class_is_said_as_attrs_says_it(wrong: Callable[[Any], Any], kw_only: bool) -> None:
    said = []
    for decorator in (frozen, attrs.frozen):
        with pytest.raises((TypeError, ValueError, AttributeError)) as caught:
            wrong(plain(decorator, kw_only=kw_only))
        said.append((type(caught.value), str(caught.value)))
    assert said[0] == said[1]


def cached(decorator: Decorator) -> Any:
    class Cached:
        value: int

        @cached_property
        def double(self) -> int:
            return self.value * 2

    return decorator(Cached)


def naming_itself(decorator: Decorator) -> Any:
    class Named:
        value: int

        @property
        def mine(self) -> bool:
            return isinstance(self, __class__)  # type: ignore[name-defined]  # the compiler knows it

    return decorator(Named)


def with_alias(decorator: Decorator) -> Any:
    class Aliased:
        value: int = field(default=0, alias="number")

    return decorator(Aliased)


def made_of_itself(decorator: Decorator) -> Any:
    class Doubled:
        value: int
        double: int = attrs.Factory(lambda self: self.value * 2, takes_self=True)

    return decorator(Doubled)


@both
def test_what_is_less_plain_is_made_by_attrs(decorator: Decorator) -> None:
    assert cached(decorator)(2).double == 4
    assert naming_itself(decorator)(2).mine is True
    assert with_alias(decorator)(number=1).value == 1
    assert made_of_itself(decorator)(2).double == 4
    for make in (cached, naming_itself, with_alias, made_of_itself):
        assert compiled_for(make(decorator)), make.__name__


@both
def test_an_optional_field_before_a_required_one_is_refused(decorator: Decorator) -> None:
    with pytest.raises(ValueError, match="No mandatory attributes allowed after an attribute with a default value"):

        @decorator
        class Wrong:
            first: int = 0
            second: str


def test_a_key_function_of_a_field_is_refused() -> None:
    """It would be passed over otherwise, and unequal things be equal or equal ones not."""
    with pytest.raises(TypeError, match=r"name.*attrs.frozen"):

        @frozen
        class Named:
            name: str = attrs.field(eq=str.lower)


def test_validators_can_be_switched_off_as_those_of_attrs() -> None:
    with attrs.validators.disabled():
        assert plain(frozen)(1, whole="1").whole == "1"


# ---- those that change ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decorator", [mutable, attrs.define], ids=["mutable", "attrs"])
def test_a_mutable_class_is_the_one_that_attrs_makes(decorator: Decorator) -> None:
    @decorator
    class Counter:
        count: int = 0
        seen: list[int] = field(factory=list)

    one, other = Counter(), Counter()
    one.count = 1
    one.seen.append(1)
    assert (repr(one), repr(other)) == tuple(
        each.replace("<>", Counter.__qualname__.rpartition(">.")[2])
        for each in ("<>(count=1, seen=[1])", "<>(count=0, seen=[])")
    )
    assert one != other
    assert one == Counter(1, [1])
    assert Counter.__hash__ is None
    with pytest.raises(AttributeError):
        one.more = 1
    assert bool(compiled_for(Counter)) is (decorator is attrs.define)


def test_the_signature_of_a_class_is_right_before_anything_is_made_of_it() -> None:
    """From 3.13 on `inspect` asks the class's constructor as a bound one; it was told of a `self`."""

    @frozen
    class Fresh:
        first: int
        second: str = "a"

    assert list(inspect.signature(Fresh).parameters) == ["first", "second"]
