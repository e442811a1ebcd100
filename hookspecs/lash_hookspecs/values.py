"""`frozen`, as attrs has it, for a contract of some hundred classes that every process imports and few use whole.

What attrs does for a class takes the time of a hundred of its objects: it writes the source of `__init__`, `__repr__`,
`__eq__` and `__hash__`, and compiles it. Here it does so for a class when its first object is made, or its fields are
asked for; and only for `__init__`, since the others work alike for all classes and need only the names of the fields.

A plugin's own classes are few: it may use attrs itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from inspect import get_annotations
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

import attrs

__all__ = ["frozen"]

# What attrs, or we, give a class. In this order, so that whoever finds one that is there finds the earlier ones too.
_LATE = (
    *("__repr__", "__eq__", "__hash__", "__getstate__", "__setstate__", "__setattr__", "__delattr__"),
    *("__match_args__", "__signature__", "__attrs_attrs__", "__init__"),
)

if TYPE_CHECKING:
    from attrs import frozen as frozen  # type checkers know this one, and what it makes
else:

    def frozen(cls: type | None = None, /, **options: Any) -> Any:
        """Make a class of immutable values, as `attrs.frozen` does, with its options.

        Equal means: of the same class, with equal fields. `field(eq=…, hash=…, repr=…)` count, but `eq` has no key
        functions; a method that the class has itself stays. Its methods can't use `super()`. What is wrong with the
        fields shows when the class is first used.
        """
        if cls is None:
            return lambda cls: frozen(cls, **options)
        late = [name for name in _LATE if name not in vars(cls)]
        if not options.get("eq", True):
            late = [name for name in late if name not in ("__eq__", "__hash__")]
        made = _with_slots(cls, {name: _Late(name, lambda: _complete(made, cls, late, **options)) for name in late})
        return made


class _Late:
    """An attribute of a class that is there as soon as it is looked at, with all the others."""

    def __init__(self, name: str, complete: Callable[[], None]) -> None:
        self._name = name
        self._complete = complete

    def __get__(self, instance: object, owner: type) -> Any:
        self._complete()
        return getattr(owner if instance is None else instance, self._name)


def _with_slots(cls: type, more: dict[str, Any]) -> type:
    """The class again, with a slot for each field instead of a default, and more attributes."""
    annotations = get_annotations(cls)
    names = [name for name, kind in annotations.items() if not str(kind).startswith(("ClassVar", "typing.ClassVar"))]
    body = {name: value for name, value in vars(cls).items() if name not in {*names, "__dict__", "__weakref__"}}
    taken = {name for base in cls.__mro__[1:-1] for name in vars(base).get("__slots__", ())}
    body["__slots__"] = tuple(name for name in (*names, "__weakref__") if name not in taken)
    return type(cls)(cls.__name__, cls.__bases__, body | more)


def _complete(made: type, cls: type, late: Iterable[str], **options: Any) -> None:
    """Let attrs make its own class of the original, and move over what that has more.

    Two threads may do so at once; both move the same.
    """
    theirs = attrs.frozen(cls, **{**options, "eq": False, "repr": False})
    found = {**vars(theirs), **_generic(made, attrs.fields(theirs))}
    for name in (*(name for name in vars(theirs) if name not in vars(made)), *late):
        setattr(made, name, found.get(name))


# ---- what works alike for all classes -------------------------------------------------------------------------------


def _generic(cls: type, fields: Sequence[attrs.Attribute[Any]]) -> dict[str, Any]:
    compared = [each.name for each in fields if each.eq]
    hashed = [each.name for each in fields if (each.eq if each.hash is None else each.hash)]
    return {"__repr__": _repr(fields), "__eq__": _eq(_values(compared)), "__hash__": _hash(cls, _values(hashed))}


def _values(names: list[str]) -> Callable[[Any], Any]:
    """What gets these attributes of an object, all in one call."""
    return attrgetter(*names) if names else lambda _: ()


def _eq(values: Callable[[Any], Any]) -> Callable[[Any, object], Any]:
    def __eq__(self: Any, other: object) -> Any:
        return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented

    return __eq__


def _hash(cls: type, values: Callable[[Any], Any]) -> Callable[[Any], int]:
    def __hash__(self: Any) -> int:
        return hash((cls, values(self)))

    return __hash__


def _repr(fields: Iterable[attrs.Attribute[Any]]) -> Callable[[Any], str]:
    shown = [(each.name, repr if each.repr is True else each.repr) for each in fields if each.repr]

    @recursive_repr()
    def __repr__(self: Any) -> str:
        name = type(self).__qualname__.rpartition(">.")[2]
        return f"{name}({', '.join([f'{field}={show(getattr(self, field))}' for field, show in shown])})"

    return __repr__
