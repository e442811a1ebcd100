"""Classes of values made as attrs would make them, in a fifth of the time.

Such a class differs from the next in the names of its fields, their types and defaults. So its constructor needs no
compiling: it is the code of any other with as many fields, under other names; what single fields need beside that
(factories, converters, validators) is done after it. All that is attrs' own (how a field is described, how a frozen
value refuses a change) is taken from a model that attrs made, the descriptions when somebody first asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from types import CodeType, FunctionType, MappingProxyType
from typing import Any, NamedTuple

import attrs

__all__ = ["Plain", "plain_class", "plain_fields"]


class _Model:
    field: Any


_GIVEN: Any = type(attrs.field())
_FACTORY: Any = attrs.Factory
_MODELS: Mapping[tuple[bool, bool], Any] = {
    (frozen, kw_only): (attrs.frozen if frozen else attrs.define)(kw_only=kw_only, eq=False, repr=False)(
        type("_Model", (), {"__annotations__": _Model.__annotations__})
    )
    for frozen in (False, True)
    for kw_only in (False, True)
}
_SPECIAL = {"__init__", "__slots__", "__setattr__", "__delattr__", "__getstate__", "__setstate__", "__match_args__"}
_SPECIAL |= {"__attrs_pre_init__", "__attrs_init_subclass__"}


class Plain(NamedTuple):
    """A field of a class that is to be made: an `argument` of its constructor, `given` by `attrs.field` or as it is."""

    name: str
    argument: str
    annotation: str
    default: Any
    given: Any = None

    @property
    def is_argument(self) -> bool:
        """Whether the constructor takes it."""
        return self.given is None or self.given.init


def plain_fields(cls: type, options: Mapping[str, Any]) -> list[Plain] | None:
    """The fields of a class that `plain_class` can make; None if attrs should look at it.

    That is one with a base, with settings of which nothing is known here, or with a mistake, which attrs can explain.
    """
    own = vars(cls)
    if options.keys() - {"kw_only"} or cls.__bases__ != (object,) or type(cls) is not type:
        return None
    fields, given = [], 0
    needs_no_more = False  # an optional field was seen: a required one can't come after it
    for name, annotation in own.get("__annotations__", {}).items():
        if annotation.__class__ is not str or name.startswith("__"):
            return None
        if "ClassVar" in annotation:
            if annotation.startswith("ClassVar"):
                continue
            return None
        argument, default = name.lstrip("_"), own.get(name, attrs.NOTHING)
        field = Plain(name, argument, annotation, default)
        if default.__class__ is _GIVEN:
            field, given = Plain(name, argument, annotation, default._default, default), given + 1
            if not _is_usual(field):
                return None
        if field.default.__class__ is _FACTORY and field.default.takes_self:
            return None
        if field.default is not attrs.NOTHING:
            needs_no_more = True
        elif needs_no_more and not options.get("kw_only"):
            return None
        fields.append(field)
    for name, member in own.items():
        kind = member.__class__
        if kind is _GIVEN:
            given -= 1
        elif kind is cached_property or name in _SPECIAL or (kind in _METHODS and _names_its_class(member)):
            return None
    return None if given else fields  # one without an annotation


def _is_usual(field: Plain) -> bool:
    """Whether it has nothing but a default, a factory, a validator, a converter, a note, and its part in methods."""
    given = field.given
    has_more = given.kw_only or given.alias or given.on_setattr or given.type is not None
    is_set = given.init or field.default is not attrs.NOTHING
    return is_set and not has_more and given.converter.__class__ is not attrs.Converter


_METHODS = frozenset({FunctionType, property, classmethod, staticmethod})


def _names_its_class(member: Any) -> bool:
    """Whether a method has `super()` or `__class__` in it, which would be those of the class as it was before."""
    function = member.fget if member.__class__ is property else getattr(member, "__func__", member)
    return function.__class__ is FunctionType and "__class__" in function.__code__.co_freevars


def plain_class(cls: type, fields: Sequence[Plain], *, kw_only: bool, frozen: bool = True) -> Any:
    """The class with slots, fields and a constructor; `__eq__`, `__hash__` and `__repr__` are the caller's."""
    names = [each.name for each in fields]
    space = {name: value for name, value in vars(cls).items() if name not in names}
    for name in ("__dict__", "__weakref__"):
        space.pop(name, None)
    model = _MODELS[frozen, kw_only]
    space |= {name: value for name, value in vars(model).items() if name in _FROM_THE_MODEL}
    space["__slots__"] = (*names, "__weakref__")
    space["__qualname__"] = cls.__qualname__
    space["__match_args__"] = () if kw_only else tuple(each.name for each in fields if each.is_argument)
    space["__attrs_attrs__"] = _Described(fields, model)
    space["__getstate__"], space["__setstate__"] = _pickling(names)
    init = space["__init__"] = _constructor(cls, fields, kw_only)
    made = type(cls.__name__, (), space)
    order = [*(each for each in fields if each.is_argument), *(each for each in fields if not each.is_argument)]
    init.__globals__.update({f"_set{at}": vars(made)[each.name].__set__ for at, each in enumerate(order)})
    return made


_FROM_THE_MODEL = {"__setattr__", "__delattr__", "__replace__", "__attrs_props__"}


# ---- descriptions ---------------------------------------------------------------------------------------------------


class _Described:
    """Stands for a class's descriptions until somebody asks for them: of most classes nobody does."""

    def __init__(self, fields: Sequence[Plain], model: Any) -> None:
        self._fields = fields
        self._model = model

    def __get__(self, value: object, cls: type) -> _Fields:
        made = cls.__attrs_attrs__ = _Fields(_described(each, self._model) for each in self._fields)  # type: ignore[attr-defined]  # it is there
        return made


class _Fields(tuple[Any, ...]):
    """What `attrs.fields` gives: descriptions in their order, which are attributes by name as well."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        for each in self:
            if each.name == name:
                return each
        raise AttributeError(name)


# attrs describes a field the same way in every class but for these; what can be pickled has a state that is known.
_DESCRIBED: Any = attrs.Attribute
_SETTINGS = ("repr", "eq", "eq_key", "order", "order_key", "hash", "init", "converter")


def _described(field: Plain, model: Any) -> Any:
    state = list(attrs.fields(model)[0].__getstate__())
    said = {"name": field.name, "alias": field.argument, "type": field.annotation, "default": field.default}
    if field.given is not None:
        said |= {name: getattr(field.given, name) for name in _SETTINGS} | {"validator": field.given._validator}
        said["metadata"] = MappingProxyType({**field.given.metadata})
    for name, value in said.items():
        state[_DESCRIBED.__slots__.index(name)] = value
    described = _DESCRIBED.__new__(_DESCRIBED)
    described.__setstate__(state)  # what unpickling calls
    return described


# ---- constructors ---------------------------------------------------------------------------------------------------

_bound = object.__setattr__.__get__
_After = Callable[[Any, Callable[[str, Any], None]], None]


def _constructor(cls: type, fields: Sequence[Plain], kw_only: bool) -> FunctionType:
    """An `__init__` that sets what is given and what is made, and then does what comes after.

    Its globals still lack the setters of the slots, `_set0` and so on, which the class has when it is made.
    """
    arguments = [each for each in fields if each.is_argument]
    made = [each for each in fields if not each.is_argument]
    after = _afterwards(cls, fields)
    code = _assigning(len(arguments), len(made), after is not None)
    code = code.replace(
        co_varnames=("self", *[each.argument for each in arguments]),
        co_qualname=f"{cls.__qualname__}.__init__",
        co_argcount=1 if kw_only else code.co_argcount,
        co_kwonlyargcount=len(arguments) if kw_only else 0,
    )
    space: dict[str, Any] = {"_bound": _bound, "_after": after}
    space |= {f"_make{index}": _maker(each.default) for index, each in enumerate(made, len(arguments))}
    init = FunctionType(code, space, "__init__")
    # As in a signature of attrs': what a factory makes is NOTHING until it is made.
    defaults = {
        each.argument: attrs.NOTHING if each.default.__class__ is _FACTORY else each.default
        for each in arguments
        if each.default is not attrs.NOTHING
    }
    if kw_only:
        init.__kwdefaults__ = defaults
    else:
        init.__defaults__ = tuple(defaults.values())
    init.__module__ = cls.__module__
    # As attrs has it: with a converter, anybody may give anything.
    typed = {each.argument: each.annotation for each in arguments if each.given is None or not each.given.converter}
    init.__annotations__ = {**typed, "return": None}
    return init


@cache
def _assigning(count: int, made: int, has_after: bool) -> CodeType:
    # Each slot's own setter is a global of it: `object.__setattr__`, as attrs has it, looks for the slot each time.
    lines = [f"def __init__(self, {', '.join([f'_{at}' for at in range(count)])}):", " pass"]
    lines += [f" _set{at}(self, _{at})" for at in range(count)]
    lines += [f" _set{at}(self, _make{at}())" for at in range(count, count + made)]
    if has_after:
        lines.append(" _after(self, _bound(self))")
    space: dict[str, Any] = {}
    exec("\n".join(lines), space)
    code: CodeType = space["__init__"].__code__
    return code


def _maker(default: Any) -> Callable[[], Any]:
    make: Callable[[], Any] = default.factory if default.__class__ is _FACTORY else lambda: default
    return make


def _afterwards(cls: type, fields: Sequence[Plain]) -> _After | None:
    """What is done once all that was given is set, in the order of attrs: values, validators, the class's own."""
    own: Callable[[Any], None] | None = vars(cls).get("__attrs_post_init__")
    if own is None and not any(each.given or each.default.__class__ is _FACTORY for each in fields):
        return None
    made = [
        (each.name, each.default.factory) for each in fields if each.is_argument and each.default.__class__ is _FACTORY
    ]
    converted = [(each.name, each.given.converter) for each in fields if each.given and each.given.converter]
    checked = [
        (index, each.name, each.given._validator)
        for index, each in enumerate(fields)
        if each.given and each.given._validator
    ]
    if not (made or converted or checked or own):
        return None

    def after(self: Any, put: Callable[[str, Any], None]) -> None:
        for name, factory in made:
            if getattr(self, name) is attrs.NOTHING:
                put(name, factory())
        for name, convert in converted:
            put(name, convert(getattr(self, name)))
        if checked and not attrs.validators.get_disabled():
            described = self.__attrs_attrs__
            for index, name, check in checked:
                check(self, described[index], getattr(self, name))
        if own is not None:
            own(self)

    return after


def _pickling(names: Sequence[str]) -> tuple[Callable[[Any], Any], Callable[[Any, Any], None]]:
    def __getstate__(self: Any) -> dict[str, Any]:
        return {name: getattr(self, name) for name in names}

    def __setstate__(self: Any, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)

    return __getstate__, __setstate__
