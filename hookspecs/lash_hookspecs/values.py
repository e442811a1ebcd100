"""`frozen`, as attrs has it, for a contract of some hundred classes that every process imports.

attrs writes the source of `__init__`, `__repr__`, `__eq__` and `__hash__` for each class and compiles it, which is most
of what a class costs. The last three work alike for every class; here they are closures over the names of its fields.
Constructors differ in little but names: `_plain_values` makes them. What is less usual is made by attrs, with its
constructor. A plugin's own classes are few: it may use attrs itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

import attrs

from lash_hookspecs._plain_values import plain_class, plain_fields

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
    own = vars(cls)
    fields = plain_fields(cls, options)
    if fields is not None:
        made = plain_class(cls, fields, kw_only=options.get("kw_only", False), frozen=is_frozen)
        parts = [(each.name, each.given) for each in fields]
    else:
        made = (attrs.frozen if is_frozen else attrs.define)(cls, eq=False, repr=False, **options)
        parts = [(each.name, each) for each in attrs.fields(made)]
    if keyed := [name for name, given in parts if given is not None and given.eq_key is not None]:
        raise TypeError(f"`{cls.__qualname__}.{keyed[0]}`: `field(eq=KEY)` needs `attrs.frozen`")
    if "__repr__" not in own:
        made.__repr__ = _repr([(name, True if given is None else given.repr) for name, given in parts])
    if eq and "__eq__" not in own:
        made.__eq__ = _eq(_values([name for name, given in parts if given is None or given.eq]))
        if "__hash__" not in own:
            hashed = [
                name for name, given in parts if given is None or (given.eq if given.hash is None else given.hash)
            ]
            made.__hash__ = _hash(made, _values(hashed)) if is_frozen else None
    return made


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


def _repr(fields: Iterable[tuple[str, Any]]) -> Callable[[Any], str]:
    shown = [(name, repr if how is True else how) for name, how in fields if how]

    @recursive_repr()
    def __repr__(self: Any) -> str:
        name = type(self).__qualname__.rpartition(">.")[2]
        return f"{name}({', '.join([f'{field}={show(getattr(self, field))}' for field, show in shown])})"

    return __repr__
