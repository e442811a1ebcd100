"""Classes of values made as attrs would make them, in a tenth of the time.

Such a class differs from the next in the names of its fields, their types and defaults. So its constructor needs no
compiling: it is the code of any other with as many fields, under other names; what single fields need beside that
(factories, converters, validators) is done after it. All that is attrs' own (how a field is described, how a frozen
value refuses a change) is taken from a model that attrs made. A process makes values of a third of the classes that it
imports, so a class's constructor, and the descriptions of its fields, are made when somebody first asks for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from types import CodeType, FunctionType, MappingProxyType
from typing import Any, Literal, NamedTuple

import attrs

__all__ = ["Declared", "Plain", "declared", "plain_class"]

_GIVEN: Any = type(attrs.field())
_FACTORY: Any = attrs.Factory
_BASES = (object,)
_MADE: dict[type, Declared] = {}
"""The classes that were made here, for those that have one as their base; classes last as the process does."""
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


class Declared:
    """How a class was declared, which says all of the class that is `made` of it."""

    __slots__ = ("annotations", "base", "defaults", "frozen", "kw_only", "made", "names")
    made: type

    def __init__(
        self,
        names: list[str],
        annotations: Mapping[str, str],
        defaults: Mapping[str, Any],
        kw_only: bool,
        frozen: bool,
        base: Declared | None,
    ) -> None:
        self.base = base
        self.names = names
        self.annotations = annotations
        self.defaults = defaults
        self.kw_only = kw_only
        self.frozen = frozen

    def fields(self) -> list[Plain]:
        """The fields, in their order."""
        return [self._field(name) for name in self.names]

    def is_argument(self, name: str) -> bool:
        """Whether the constructor takes this field."""
        given: Any = self.defaults.get(name)
        return given.__class__ is not _GIVEN or bool(given.init)

    def _field(self, name: str) -> Plain:
        default = self.defaults.get(name, attrs.NOTHING)
        given = default if default.__class__ is _GIVEN else None
        default = default if given is None else given._default
        return Plain(name, name.lstrip("_"), self.annotations[name], default, given)


def declared(cls: type, options: Mapping[str, Any], *, frozen: bool) -> Declared | None:
    """How the class is declared, if `plain_class` can make it; None if attrs should look at it.

    That is one with a base (unless that was made here as well, and all is given by keyword), with settings of which
    nothing is known here, or with a mistake, which attrs can explain.
    """
    own = vars(cls)
    base = _MADE.get(cls.__bases__[0]) if len(cls.__bases__) == 1 else None
    if (cls.__bases__ != _BASES and base is None) or type(cls) is not type or options.keys() - {"kw_only"}:
        return None
    kw_only = options.get("kw_only", False)
    if base is not None and not (kw_only and base.kw_only and base.frozen is frozen):
        return None
    names, defaults, given = [], {}, 0
    needs_no_more = False  # an optional field was seen: a required one can't come after it
    annotations = own.get("__annotations__", {})
    for name, annotation in annotations.items():
        if annotation.__class__ is not str or name.startswith("__"):
            return None
        if "ClassVar" in annotation:
            if annotation.startswith("ClassVar"):
                continue
            return None
        names.append(name)
        default = own.get(name, attrs.NOTHING)
        if default is not attrs.NOTHING:
            defaults[name] = default
            if default.__class__ is _GIVEN:
                given += 1
                if not _is_usual(default):
                    return None
                default = default._default
            if default.__class__ is _FACTORY and default.takes_self:
                return None
        if default is not attrs.NOTHING:
            needs_no_more = True
        elif needs_no_more and not kw_only:
            return None
    for member in own.values():
        kind = member.__class__
        if kind is _GIVEN:
            given -= 1
        elif kind is cached_property or (kind in _METHODS and _names_its_class(member)):
            return None
    if given or not _SPECIAL.isdisjoint(own):  # one without an annotation, or what attrs knows how to treat
        return None
    if base is not None:
        if not set(base.names).isdisjoint(names):
            return None
        names = [*base.names, *names]
        annotations, defaults = {**base.annotations, **annotations}, {**base.defaults, **defaults}
    return Declared(names, annotations, defaults, kw_only, frozen, base)


def _is_usual(given: Any) -> bool:
    """Whether it has nothing but a default, a factory, a validator, a converter, a note, and its part in methods."""
    has_more = given.kw_only or given.alias or given.on_setattr or given.type is not None or given.eq_key is not None
    is_set = given.init or given._default is not attrs.NOTHING
    return is_set and not has_more and given.converter.__class__ is not attrs.Converter


_METHODS = frozenset({FunctionType, property, classmethod, staticmethod})


def _names_its_class(member: Any) -> bool:
    """Whether a method has `super()` or `__class__` in it, which would be those of the class as it was before."""
    function = member.fget if member.__class__ is property else getattr(member, "__func__", member)
    return function.__class__ is FunctionType and "__class__" in function.__code__.co_freevars


def plain_class(cls: type, fields: Declared, methods: Mapping[str, Any]) -> Any:
    """The class with slots, fields and a constructor, and with those of the methods that it hasn't itself."""
    space = {**methods, **vars(cls), **_from_the_model(fields.frozen, fields.kw_only)}
    for name in ("__dict__", "__weakref__", *fields.defaults):
        space.pop(name, None)
    names = tuple(fields.names)
    base = fields.base
    space["__slots__"] = (*names, "__weakref__") if base is None else names[len(base.names) :]
    space["__qualname__"] = cls.__qualname__
    space["__match_args__"] = () if fields.kw_only else tuple(filter(fields.is_argument, names))
    space["__attrs_attrs__"] = _Later("__attrs_attrs__", _descriptions, fields)
    space["__init__"] = _Later("__init__", _constructor, fields)
    made = fields.made = type(cls.__name__, () if base is None else (base.made,), space)
    _MADE[made] = fields
    return made


class _Later:
    """Stands for what a class has until somebody asks for it.

    Two threads that ask at once may make two of it; they are alike.
    """

    __slots__ = ("_fields", "_make", "_name")

    def __init__(self, name: str, make: Callable[[Declared], Any], fields: Declared) -> None:
        self._name = name
        self._make = make
        self._fields = fields

    def __get__(self, value: object, cls: type) -> Any:
        made = self._make(self._fields)
        setattr(self._fields.made, self._name, made)
        # As what was made would answer: `inspect` binds a constructor to its class to read the signature, from 3.13 on.
        return made.__get__(value, cls) if isinstance(made, FunctionType) else made


# ---- what attrs knows -----------------------------------------------------------------------------------------------


class _Model:
    field: Any


@cache
def _model(frozen: bool, kw_only: bool) -> Any:
    make: Any = attrs.frozen if frozen else attrs.define
    cls = type("_Model", (), {"__annotations__": _Model.__annotations__})
    return make(cls, kw_only=kw_only, eq=False, repr=False)


@cache
def _from_the_model(frozen: bool, kw_only: bool) -> Mapping[str, Any]:
    """What is the same in all classes, and attrs' own."""
    same = {name: value for name, value in vars(_model(frozen, kw_only)).items() if name in _SAME}
    return {**same, "__getstate__": _getstate, "__setstate__": _setstate}


_SAME = {"__setattr__", "__delattr__", "__replace__", "__attrs_props__"}


def _getstate(self: Any) -> dict[str, Any]:
    return {each.name: getattr(self, each.name) for each in self.__attrs_attrs__}


def _setstate(self: Any, state: Mapping[str, Any]) -> None:
    for name, value in state.items():
        object.__setattr__(self, name, value)


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
_PLACES = {name: place for place, name in enumerate(_DESCRIBED.__slots__)}
_SETTINGS = ("repr", "eq", "eq_key", "order", "order_key", "hash", "init", "converter")


def _descriptions(fields: Declared) -> _Fields:
    start = attrs.fields(_model(fields.frozen, fields.kw_only))[0].__getstate__()
    inherited = 0 if fields.base is None else len(fields.base.names)
    return _Fields(_described(each, list(start), at < inherited) for at, each in enumerate(fields.fields()))


def _described(field: Plain, state: list[Any], inherited: bool) -> Any:
    said = {"name": field.name, "alias": field.argument, "type": field.annotation, "default": field.default}
    said["inherited"] = inherited
    if field.given is not None:
        said |= {name: getattr(field.given, name) for name in _SETTINGS} | {"validator": field.given._validator}
        said["metadata"] = MappingProxyType({**field.given.metadata})
    for name, value in said.items():
        state[_PLACES[name]] = value
    described = _DESCRIBED.__new__(_DESCRIBED)
    described.__setstate__(state)  # what unpickling calls
    return described


# ---- constructors ---------------------------------------------------------------------------------------------------

_bound = object.__setattr__.__get__
_After = Callable[[Any, Callable[[str, Any], None]], None]


def _constructor(declared: Declared) -> FunctionType:
    """An `__init__` that sets what is given and what is made, and then does what comes after."""
    fields, cls, kw_only = declared.fields(), declared.made, declared.kw_only
    arguments = [each for each in fields if each.is_argument]
    made = [each for each in fields if not each.is_argument]
    converted = {at: each for at, each in enumerate(arguments) if _is_converted_at_once(each)}
    own: Callable[[Any], None] | None = getattr(cls, "__attrs_post_init__", None)
    more = _afterwards(fields, own)
    kind: Literal["", "own", "more"] = "more" if more else "own" if own else ""
    code = _assigning(len(arguments), len(made), tuple(converted), kind)
    code = code.replace(
        co_varnames=("self", *[each.argument for each in arguments]),
        co_qualname=f"{cls.__qualname__}.__init__",
        co_argcount=1 if kw_only else code.co_argcount,
        co_kwonlyargcount=len(arguments) if kw_only else 0,
    )
    space: dict[str, Any] = {"_bound": _bound, "_after": more or own}
    space |= {f"_convert{at}": each.given.converter for at, each in converted.items()}
    space |= {f"_make{index}": _maker(each.default) for index, each in enumerate(made, len(arguments))}
    space |= {f"_set{at}": getattr(cls, each.name).__set__ for at, each in enumerate([*arguments, *made])}
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
def _assigning(count: int, made: int, converted: tuple[int, ...], after: Literal["", "own", "more"]) -> CodeType:
    # Each slot's own setter is a global of it: `object.__setattr__`, as attrs has it, looks for the slot each time.
    lines = [f"def __init__(self, {', '.join([f'_{at}' for at in range(count)])}):", " pass"]
    lines += [f" _set{at}(self, {f'_convert{at}(_{at})' if at in converted else f'_{at}'})" for at in range(count)]
    lines += [f" _set{at}(self, _make{at}())" for at in range(count, count + made)]
    if after:
        lines.append(" _after(self)" if after == "own" else " _after(self, _bound(self))")
    space: dict[str, Any] = {}
    exec("\n".join(lines), space)
    code: CodeType = space["__init__"].__code__
    return code


def _is_converted_at_once(field: Plain) -> bool:
    """Whether what is given is converted where it is set: what a factory makes isn't there yet."""
    return field.is_argument and bool(field.given and field.given.converter) and field.default.__class__ is not _FACTORY


def _maker(default: Any) -> Callable[[], Any]:
    make: Callable[[], Any] = default.factory if default.__class__ is _FACTORY else lambda: default
    return make


def _afterwards(fields: Sequence[Plain], own: Callable[[Any], None] | None) -> _After | None:
    """What is done once all that was given is set, in the order of attrs: values, validators, the class's own.

    None where there is nothing but that.
    """
    made = [
        (each.name, each.default.factory) for each in fields if each.is_argument and each.default.__class__ is _FACTORY
    ]
    converted = [
        (each.name, each.given.converter)
        for each in fields
        if each.given and each.given.converter and not _is_converted_at_once(each)
    ]
    checked = [
        (index, each.name, each.given._validator)
        for index, each in enumerate(fields)
        if each.given and each.given._validator
    ]
    if not (made or converted or checked):
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
