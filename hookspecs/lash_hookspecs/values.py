"""`frozen`, as attrs has it, for a contract of some hundred classes that every process imports.

attrs writes the source of `__init__`, `__repr__`, `__eq__` and `__hash__` for each class and compiles it, which is most
of what a class costs. The last three work alike for every class: here all have the same, which look the names of the
fields up by class. Constructors differ in little but names: `_plain_values` makes them. What is less usual is made by
attrs, with its constructor. A plugin's own classes are few: it may use attrs itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

import attrs

from lash_hookspecs._plain_values import declared, plain_class

__all__ = ["frozen", "mutable"]

if TYPE_CHECKING:
    from attrs import define as mutable, frozen as frozen  # type checkers know these, and what they make
else:

    def frozen(cls: type | None = None, /, *, eq: bool = True, **options: Any) -> Any:
        """Make a class of immutable values, as `attrs.frozen` does, with its options.

        Equal means: of the same class, with equal fields. `field(eq=…, hash=…, repr=…)` count; `eq` may not be a key
        function, which is a TypeError. A method that the class has itself stays.
        """
        if cls is None:
            return lambda cls: frozen(cls, eq=eq, **options)
        return _made(cls, eq, options, is_frozen=True)

    def mutable(cls: type | None = None, /, *, eq: bool = True, **options: Any) -> Any:
        """The same with fields that may be set again, as `attrs.define` has it: equal ones are no keys then."""
        if cls is None:
            return lambda cls: mutable(cls, eq=eq, **options)
        return _made(cls, eq, options, is_frozen=False)


def _made(cls: type, eq: bool, options: dict[str, Any], *, is_frozen: bool) -> Any:
    methods = _METHODS[is_frozen, eq]
    fields = declared(cls, options, frozen=is_frozen)
    if fields is not None:
        return plain_class(cls, fields, methods)
    own = vars(cls)
    made = (attrs.frozen if is_frozen else attrs.define)(cls, eq=False, repr=False, **options)
    for each in attrs.fields(made):
        if each.eq_key is not None:
            raise TypeError(f"`{cls.__qualname__}.{each.name}`: `field(eq=KEY)` needs `attrs.frozen`")
    for name, method in methods.items():
        if name not in own:
            setattr(made, name, method)
    return made


# ---- the methods of all ---------------------------------------------------------------------------------------------


class _ByClass(dict[type, Any]):
    """What a method needs to know of a class, made when it is first called for it; classes last as the process does."""

    def __init__(self, make: Callable[[type], Any]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, cls: type) -> Any:
        made = self[cls] = self._make(cls)
        return made


def _values(names: list[str]) -> Callable[[Any], Any]:
    """What gets these attributes of an object, all in one call."""
    return attrgetter(*names) if names else lambda _: ()


_compared = _ByClass(lambda cls: _values([each.name for each in attrs.fields(cls) if each.eq]))
_hashed = _ByClass(
    lambda cls: _values([each.name for each in attrs.fields(cls) if (each.eq if each.hash is None else each.hash)])
)
_shown = _ByClass(
    lambda cls: [(each.name, repr if each.repr is True else each.repr) for each in attrs.fields(cls) if each.repr]
)


def __eq__(self: Any, other: object) -> Any:
    cls = self.__class__
    if other.__class__ is not cls:
        return NotImplemented
    values = _compared[cls]
    return values(self) == values(other)


def __hash__(self: Any) -> int:
    cls = self.__class__
    return hash((cls, _hashed[cls](self)))


@recursive_repr()
def __repr__(self: Any) -> str:
    cls = self.__class__
    name = cls.__qualname__.rpartition(">.")[2]
    return f"{name}({', '.join([f'{field}={show(getattr(self, field))}' for field, show in _shown[cls]])})"


_METHODS: Mapping[tuple[bool, bool], Mapping[str, Any]] = {
    (is_frozen, eq): {"__repr__": __repr__}
    | ({"__eq__": __eq__, "__hash__": __hash__ if is_frozen else None} if eq else {})
    for is_frozen in (True, False)
    for eq in (True, False)
}
"""By frozen, eq. A class that has one itself keeps it: Python gives one with `__eq__` alone a `__hash__`, None."""
