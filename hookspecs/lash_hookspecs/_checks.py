"""Validators and converters for the values that plugins and applications make.

A wrong value is refused where it is made, with a text that says which field it is. Values that only the runtime makes
have none of these: they would cost time with every message that is loaded.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Collection
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from attrs import Attribute

T = TypeVar("T")
Check = Callable[[Any, "Attribute[Any]", Any], None]


def _refuse(instance: object, attribute: Attribute[Any], value: object, expected: str) -> TypeError:
    what = "None" if value is None else f"a `{type(value).__name__}`"
    if isinstance(value, str | bytes | int | float):
        what += f" ({reprlib.repr(value)})"
    return TypeError(f"`{type(instance).__name__}.{attribute.name}` must be {expected}, and is {what}")


def _require_encodable(instance: object, attribute: Attribute[Any], value: str) -> None:
    if value.isascii():
        return
    try:
        value.encode()
    except UnicodeEncodeError as error:
        where = f"`{type(instance).__name__}.{attribute.name}`"
        raise ValueError(f"{where} can't be stored as UTF-8: {error.reason} (at character {error.start})") from None


def text(instance: object, attribute: Attribute[Any], value: object) -> None:
    """Text, and such that UTF-8 has bytes for it."""
    if not isinstance(value, str):
        raise _refuse(instance, attribute, value, "text")
    _require_encodable(instance, attribute, value)


def optional_text(instance: object, attribute: Attribute[Any], value: object) -> None:
    """The same, or None."""
    if value is None:
        return
    if not isinstance(value, str):
        raise _refuse(instance, attribute, value, "text or None")
    _require_encodable(instance, attribute, value)


def optional_attrs_class(instance: object, attribute: Attribute[Any], value: object) -> None:
    """An attrs class, or None."""
    import attrs

    if value is not None and not (isinstance(value, type) and attrs.has(value)):
        raise TypeError(f"`{type(instance).__name__}.{attribute.name}` must be an attrs class, and is {value!r}")


def optional_class_of_defaults(instance: object, attribute: Attribute[Any], value: object) -> None:
    """An attrs class that can be made without arguments, or None."""
    import attrs

    if value is None:
        return
    needed: list[str] = []
    if isinstance(value, type) and attrs.has(value):
        needed = [each.name for each in attrs.fields(value) if each.init and each.default is attrs.NOTHING]
        if not needed:
            return
    what = f"`{value.__name__}`, whose `{needed[0]}` has no default" if needed else repr(value)  # type: ignore[attr-defined]  # a class
    where = f"`{type(instance).__name__}.{attribute.name}`"
    raise TypeError(f"{where} must be an attrs class whose every field has a default, and is {what}")


def flag(instance: object, attribute: Attribute[Any], value: object) -> None:
    """True or False."""
    if not isinstance(value, bool):
        raise _refuse(instance, attribute, value, "True or False")


def _require_64_bits(instance: object, attribute: Attribute[Any], value: int) -> None:
    if not -(2**63) <= value < 2**64:
        where = f"`{type(instance).__name__}.{attribute.name}`"
        raise ValueError(f"{where} must have no more than 64 bits, and is {reprlib.repr(value)}")


def whole(instance: object, attribute: Attribute[Any], value: object) -> None:
    """A whole number."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise _refuse(instance, attribute, value, "a whole number")
    _require_64_bits(instance, attribute, value)


def optional_whole(instance: object, attribute: Attribute[Any], value: object) -> None:
    """A whole number or None."""
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool):
        raise _refuse(instance, attribute, value, "a whole number or None")
    _require_64_bits(instance, attribute, value)


def optional_count(instance: object, attribute: Attribute[Any], value: object) -> None:
    """A whole number from 0 on, or None."""
    optional_whole(instance, attribute, value)
    if isinstance(value, int) and value < 0:
        raise ValueError(f"`{type(instance).__name__}.{attribute.name}` must be at least 0, and is {value}")


def optional_positive(instance: object, attribute: Attribute[Any], value: object) -> None:
    """A whole number from 1 on, or None."""
    optional_whole(instance, attribute, value)
    if isinstance(value, int) and value < 1:
        raise ValueError(f"`{type(instance).__name__}.{attribute.name}` must be at least 1, and is {value}")


def optional_finite(instance: object, attribute: Attribute[Any], value: object) -> None:
    """A finite number or None."""
    if value is None:
        return
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise _refuse(instance, attribute, value, "a number or None")
    if not isfinite(value):
        raise ValueError(f"`{type(instance).__name__}.{attribute.name}` must be a finite number, and is {value}")


def a(*classes: type, optional: bool = False) -> Check:
    """An instance of one of these, or None where that is allowed."""
    names = " or ".join([*(f"a `{each.__name__}`" for each in classes), *(["None"] if optional else [])])

    def check(instance: object, attribute: Attribute[Any], value: object) -> None:
        if not isinstance(value, classes) and not (optional and value is None):
            raise _refuse(instance, attribute, value, names)

    return check


def tuple_of(cls: type) -> Check:
    """A tuple of such ones; of texts, each such that UTF-8 has bytes for it."""

    def check(instance: object, attribute: Attribute[Any], value: object) -> None:
        if not isinstance(value, tuple):
            raise _refuse(instance, attribute, value, f"a tuple of `{cls.__name__}`")
        for each in value:
            if not isinstance(each, cls):
                raise _refuse(instance, attribute, each, f"a tuple of `{cls.__name__}` only; one of it")
            if isinstance(each, str):
                _require_encodable(instance, attribute, each)

    return check


def names(instance: object, attribute: Attribute[Any], value: object) -> None:
    """A frozen set of texts."""
    if not isinstance(value, frozenset) or not all(isinstance(each, str) for each in value):
        raise _refuse(instance, attribute, value, "a set of texts")


def as_tuple(value: tuple[T, ...] | list[T]) -> tuple[T, ...]:
    """A list as a tuple; all else as it is, for the validator to judge."""
    return tuple(value) if isinstance(value, list) else value


def as_frozenset(value: Collection[str]) -> frozenset[str]:
    """A set, list or tuple as a frozen set; all else as it is, for the validator to judge."""
    return frozenset(value) if isinstance(value, (set, list, tuple)) else value  # type: ignore[return-value]  # the same
