"""The fields of a class, whoever made it: attrs, a dataclass, a TypedDict, a NamedTuple."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from inspect import isclass
from typing import Any, NotRequired, Required, get_args, get_origin, get_type_hints, is_typeddict

import attrs

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.values import frozen

__all__ = ["NO_DEFAULT", "ClassField", "fields_of", "is_named_tuple", "is_object"]

NO_DEFAULT: Any = object()
"""There is no default, or none that could be shown without making one."""


@frozen
class ClassField:
    """A field as data has it; `required`: data without it is none of the class."""

    name: str
    type: Any
    required: bool
    default: Any = NO_DEFAULT


def is_named_tuple(cls: Any) -> bool:
    """Whether it is a NamedTuple, which in JSON is a list."""
    return isclass(cls) and issubclass(cls, tuple) and hasattr(cls, "_fields")


def is_object(cls: Any) -> bool:
    """Whether its values are JSON objects with fields of a type each."""
    return isclass(cls) and (attrs.has(cls) or hasattr(cls, "__dataclass_fields__") or is_typeddict(cls))


def fields_of(cls: Any) -> tuple[ClassField, ...]:
    """Its fields, hints resolved. Raises `ConfigurationError` for a hint that can't be."""
    try:
        return tuple(_fields(cls))
    except NameError as error:
        text = f"a hint of `{cls.__name__}` can't be resolved: {error}; define what it names at the top of the module"
        raise ConfigurationError(text) from None


def _fields(cls: Any) -> Iterator[ClassField]:
    if attrs.has(cls):
        # A class that is defined in a function and holds itself is known by its name nowhere else.
        for each in attrs.fields(attrs.resolve_types(cls, localns={cls.__name__: cls})):
            if each.init:
                tp, needed = Any if each.type is None else each.type, each.default is attrs.NOTHING
                shown = NO_DEFAULT if needed or isinstance(each.default, attrs.Factory) else each.default  # type: ignore[arg-type]  # a class at runtime
                yield ClassField(each.name, tp, needed, shown)
        return
    hints = get_type_hints(cls, localns={cls.__name__: cls}, include_extras=True)
    if is_typeddict(cls):
        for name, tp in hints.items():
            # Where hints are text, `__required_keys__` knows only whether the class is total.
            said = get_origin(tp)
            needed = said is Required or (said is not NotRequired and name in cls.__required_keys__)
            yield ClassField(name, get_args(tp)[0] if said in (Required, NotRequired) else tp, needed)
    elif is_named_tuple(cls):
        for name in cls._fields:
            yield ClassField(name, hints.get(name, Any), True, cls._field_defaults.get(name, NO_DEFAULT))
    else:
        dataclasses = sys.modules["dataclasses"]  # there, since there is a dataclass
        for each in dataclasses.fields(cls):
            if each.init:
                without = each.default is dataclasses.MISSING
                needed = without and each.default_factory is dataclasses.MISSING
                yield ClassField(each.name, hints[each.name], needed, NO_DEFAULT if without else each.default)
