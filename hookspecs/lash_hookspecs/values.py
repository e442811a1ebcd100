"""`frozen`, as attrs has it, for a contract of some hundred classes that every process imports.

attrs writes the source of `__init__`, `__repr__`, `__eq__` and `__hash__` for each class and compiles it, which is most
of what a class costs. The last three work alike for every class; here they are closures over the names of its fields.
Constructors differ in the names alone where a class has only plain fields, as most have: `_plain_values` makes these.
What is less plain is made by attrs, with its constructor. A plugin's own classes are few: it may use attrs itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

import attrs

from lash_hookspecs._plain_values import is_plain, plain_class

__all__ = ["frozen"]

if TYPE_CHECKING:
    from attrs import frozen as frozen  # type checkers know this one, and what it makes
else:

    def frozen(cls: type | None = None, /, *, eq: bool = True, **options: Any) -> Any:
        """Make a class of immutable values, as `attrs.frozen` does, with its options.

        Equal means: of the same class, with equal fields. `field(eq=…, hash=…, repr=…)` count; `eq` may not be a key
        function, which is a TypeError. A method that the class has itself stays.
        """
        if cls is None:
            return lambda cls: frozen(cls, eq=eq, **options)
        own = vars(cls)
        if is_plain(cls, options):
            made = plain_class(cls, kw_only=options.get("kw_only", False))
        else:
            made = attrs.frozen(cls, eq=False, repr=False, **options)
        fields = attrs.fields(made)
        if keyed := [each.name for each in fields if each.eq_key is not None]:
            raise TypeError(f"`{cls.__qualname__}.{keyed[0]}`: `field(eq=KEY)` needs `attrs.frozen`")
        if "__repr__" not in own:
            made.__repr__ = _repr(fields)
        if eq and "__eq__" not in own:
            made.__eq__ = _eq(_values([each.name for each in fields if each.eq]))
            if "__hash__" not in own:
                hashed = [each.name for each in fields if (each.eq if each.hash is None else each.hash)]
                made.__hash__ = _hash(made, _values(hashed))
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


def _repr(fields: Iterable[attrs.Attribute[Any]]) -> Callable[[Any], str]:
    shown = [(each.name, repr if each.repr is True else each.repr) for each in fields if each.repr]

    @recursive_repr()
    def __repr__(self: Any) -> str:
        name = type(self).__qualname__.rpartition(">.")[2]
        return f"{name}({', '.join([f'{field}={show(getattr(self, field))}' for field, show in shown])})"

    return __repr__
