"""Classes of values that have nothing but plain fields, made as attrs would make them, in a sixth of the time.

Such a class differs from the next in the names of its fields, their types and defaults. So its constructor needs no
compiling: it is the code of any other with as many fields, under other names. All that is attrs' own (how a field is
described, how a frozen value refuses a change) is taken from a model that attrs made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache, cached_property
from itertools import dropwhile
from types import CellType, CodeType, FunctionType
from typing import Any

import attrs

__all__ = ["is_plain", "plain_class"]


class _Model:
    field: Any


# attrs describes a field the same way in every class but for these; what can be pickled has a state that is known.
_DESCRIBED: Any = attrs.Attribute
_MODELS: Mapping[bool, Any] = {each: attrs.frozen(kw_only=each, eq=False, repr=False)(_Model) for each in (False, True)}
_PLACES = {name: _DESCRIBED.__slots__.index(name) for name in ("name", "type", "alias", "default")}
_STATES = {kw_only: attrs.fields(model)[0].__getstate__() for kw_only, model in _MODELS.items()}

_FIELD = type(attrs.field())
_SPECIAL = {"__init__", "__slots__", "__setattr__", "__delattr__", "__getstate__", "__setstate__", "__match_args__"}
_SPECIAL |= {f"__attrs_{name}__" for name in ("pre_init", "post_init", "init_subclass")}


def is_plain(cls: type, options: Mapping[str, Any]) -> bool:
    """Whether `plain_class` can make it: fields that are annotations with or without a value, and no base."""
    own = vars(cls)
    if options.keys() - {"kw_only"} or cls.__bases__ != (object,) or type(cls) is not type or _SPECIAL & own.keys():
        return False
    if any(isinstance(each, cached_property) or _names_its_class(each) for each in own.values()):
        return False
    names = _field_names(cls)
    if names is None or any(isinstance(own.get(each), (_FIELD, attrs.Factory)) for each in names):  # type: ignore[arg-type]  # a class at runtime
        return False
    # An optional field before a required one is a mistake, of which attrs knows what to say.
    return bool(options.get("kw_only")) or all(each in own for each in dropwhile(lambda name: name not in own, names))


def _field_names(cls: type) -> list[str] | None:
    """The names of the fields; None if attrs should look at them."""
    names = []
    for name, annotation in vars(cls).get("__annotations__", {}).items():
        if not isinstance(annotation, str) or name.startswith("_"):
            return None
        if annotation.startswith("ClassVar"):
            continue
        if "ClassVar" in annotation:
            return None
        names.append(name)
    return names


def _names_its_class(member: Any) -> bool:
    """Whether a method has `super()` or `__class__` in it, which would be those of the class as it was before."""
    function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
    return isinstance(function, FunctionType) and "__class__" in function.__code__.co_freevars


def plain_class(cls: type, *, kw_only: bool) -> Any:
    """The class with slots, fields and a constructor; `__eq__`, `__hash__` and `__repr__` are the caller's."""
    own, names = vars(cls), _field_names(cls) or []
    space = {name: value for name, value in own.items() if name not in names}
    for name in ("__dict__", "__weakref__"):
        space.pop(name, None)
    model = _MODELS[kw_only]
    space |= {name: value for name, value in vars(model).items() if name in _FROM_THE_MODEL}
    annotations = own.get("__annotations__", {})
    defaults = {name: own[name] for name in names if name in own}
    space["__slots__"] = (*names, "__weakref__")
    space["__qualname__"] = cls.__qualname__
    space["__match_args__"] = () if kw_only else tuple(names)
    space["__attrs_attrs__"] = _Fields(_described(name, annotations[name], defaults, kw_only) for name in names)
    space["__getstate__"], space["__setstate__"] = _pickling(names)
    setters = tuple(CellType() for _ in names)
    init = FunctionType(_constructor(names, cls.__qualname__, kw_only), {}, "__init__", None, setters)
    if kw_only:
        init.__kwdefaults__ = defaults
    else:
        init.__defaults__ = tuple(defaults.values())
    init.__module__ = cls.__module__
    init.__annotations__ = {**{name: annotations[name] for name in names}, "return": None}
    space["__init__"] = init
    made = type(cls.__name__, (), space)
    for name, cell in zip(names, setters, strict=True):
        cell.cell_contents = vars(made)[name].__set__
    return made


_FROM_THE_MODEL = {"__setattr__", "__delattr__", "__replace__", "__attrs_props__"}


class _Fields(tuple[Any, ...]):
    """What `attrs.fields` gives: descriptions in their order, which are attributes by name as well."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        for each in self:
            if each.name == name:
                return each
        raise AttributeError(name)


def _described(name: str, annotation: str, defaults: Mapping[str, Any], kw_only: bool) -> Any:
    state: list[Any] = list(_STATES[kw_only])
    state[_PLACES["name"]] = state[_PLACES["alias"]] = name
    state[_PLACES["type"]] = annotation
    state[_PLACES["default"]] = defaults.get(name, attrs.NOTHING)
    described = _DESCRIBED.__new__(_DESCRIBED)
    described.__setstate__(state)  # what unpickling calls
    return described


# ---- constructors ---------------------------------------------------------------------------------------------------


def _constructor(names: list[str], qualname: str, kw_only: bool) -> CodeType:
    """The code of an `__init__` that sets these."""
    code = _assigning(len(names))
    return code.replace(
        co_varnames=("self", *names),
        co_qualname=f"{qualname}.__init__",
        co_argcount=1 if kw_only else code.co_argcount,
        co_kwonlyargcount=len(names) if kw_only else 0,
    )


@cache
def _assigning(count: int) -> CodeType:
    # Each slot's own setter is free in it: `object.__setattr__`, as attrs has it, looks for the slot anew each time.
    names, setters = [f"_{index}" for index in range(count)], [f"_set_{index:03}" for index in range(count)]
    lines = [f"def outer({', '.join(setters)}):", f" def __init__(self, {', '.join(names)}):", "  pass"]
    lines += [f"  {setter}(self, {name})" for name, setter in zip(names, setters, strict=True)]
    made: dict[str, Any] = {}
    exec("\n".join([*lines, " return __init__"]), made)
    code: CodeType = made["outer"](*setters).__code__
    return code


def _pickling(names: Iterable[str]) -> tuple[Callable[[Any], Any], Callable[[Any, Any], None]]:
    def __getstate__(self: Any) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names}

    def __setstate__(self: Any, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)

    return __getstate__, __setstate__
