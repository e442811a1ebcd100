"""Plain data as values: what `codec` reads, as long as nothing is wrong with it.

What data becomes follows from its type alone, so a table of fields per class does it, made when the first of that class
comes. Whatever is doubtful raises, no matter what: `_converter`, cattrs, is asked then, which knows what to say of it.
It is also asked for types that aren't here: a plugin's dataclass, for example.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Mapping, Sequence, Set as AbstractSet
from enum import StrEnum
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, Union, get_args, get_origin

import attrs

from lash_hookspecs._fields import fields_of
from lash_hookspecs._unstructured import tag_field, tag_of

if TYPE_CHECKING:
    from cattrs import Converter

__all__ = ["COLLECTIONS", "is_union", "shaped_like", "structured", "tagged_members"]

_Way = Callable[[Any], Any]


def structured(data: Any, tp: Any) -> Any:
    """Plain data as a value of `tp`. Raises anything at all for data that may not be one."""
    try:
        way = _ways[tp]
    except KeyError:
        way = _way_of(tp)
    return way(data)


# ---- by type --------------------------------------------------------------------------------------------------------

_ways: dict[Any, _Way] = {}
_PLAIN = frozenset({str, int, bool})


def _way_of(tp: Any) -> _Way:
    """How to read data as this type; types last as long as the process, and so do their ways."""
    way = _ways.get(tp)
    if way is None:
        way = _ways[tp] = _made(tp)
    return way


def _made(tp: Any) -> _Way:
    if tp in _PLAIN:
        return partial(_exactly, tp)
    if tp is Any:
        return lambda data: data
    if tp is float:
        return lambda data: data if data.__class__ is float else float(_exactly(int, data))
    if is_union(tp):
        return _union(tp)
    origin = get_origin(tp)
    if origin is Annotated:
        return _way_of(get_args(tp)[0])
    if origin in COLLECTIONS:
        return _collection(tp, COLLECTIONS[origin])
    if origin in (dict, Mapping):
        return _mapping(*(get_args(tp) or (Any, Any)))
    if isinstance(tp, type) and origin is None:
        if issubclass(tp, StrEnum):
            return tp._value2member_map_.__getitem__
        if attrs.has(tp) and tp.__name__ != "TurnActivity":  # which lies beside its event
            return _tagged(tp) if tag_of(tp) is not None else _object(tp)
    return _by_cattrs(tp)


def _exactly(tp: type, data: Any) -> Any:
    return data if data.__class__ is tp else _doubt(data)


def _doubt(data: object) -> NoReturn:
    raise ValueError(f"a `{type(data).__name__}` is doubtful here")


def _object(cls: type) -> _Way:
    """What the data says of the class's fields; whatever else it says is passed over."""
    fields: dict[str, tuple[str, Any, _Way]] | None = None

    def read(data: Any) -> Any:
        nonlocal fields
        if fields is None:
            fields = _fields(cls)  # not before the first comes: mostly none does, and a class may hold itself
        if data.__class__ is not dict and not isinstance(data, Mapping):
            _doubt(data)
        given = {}
        for name, inner in data.items():
            field = fields.get(name)
            if field is not None:
                argument, kind, way = field
                given[argument] = inner if inner.__class__ is kind else way(inner)
        return cls(**given)

    return read


def _fields(cls: type) -> dict[str, tuple[str, Any, _Way]]:
    """For each field its argument, a class whose values are taken as they are, and the way of all others."""
    made = {}
    for each in attrs.fields(attrs.resolve_types(cls)):
        if each.init:
            tp = Any if each.type is None else each.type
            plain = _PLAIN.intersection((tp, *(get_args(tp) if is_union(tp) else ())))
            made[each.name] = (each.alias or each.name, next(iter(plain), None), _way_of(tp))
    return made


def _tagged(cls: type) -> _Way:
    """Apart from a union: a newer lash may know more members of it, and a class that is alone may leave its tag out."""
    read, name, tag = _object(cls), tag_field(cls), tag_of(cls)
    return lambda data: read(data) if data.get(name, tag) == tag else _doubt(data)


# ---- unions ---------------------------------------------------------------------------------------------------------


def is_union(tp: Any) -> bool:
    return get_origin(tp) in (Union, types.UnionType)


def tagged_members(tp: Any) -> list[type] | None:
    """The tagged classes of a union, or None if it isn't one of ours."""
    if not is_union(tp):
        return None
    members = [arg for arg in get_args(tp) if arg is not type(None)]
    if len(members) >= 2 and all(attrs.has(member) and tag_of(member) is not None for member in members):
        return members
    return None


@cache
def _shape(cls: type) -> tuple[frozenset[str], frozenset[str]]:
    """The fields without which no data is one of the class, and all that it has."""
    fields = fields_of(cls)
    return frozenset(each.name for each in fields if each.required), frozenset(each.name for each in fields)


def shaped_like(data: Mapping[Any, Any], classes: Iterable[type]) -> type | None:
    """The class that the data has the fields of: one that knows all of them, or else the one that needs the most."""
    there = data.keys()
    shapes = [(*_shape(cls), cls) for cls in classes]
    fitting = [(there <= fields, len(needed), cls) for needed, fields, cls in shapes if needed <= there]
    return max(fitting, key=lambda each: each[:2])[2] if fitting else None


def _union(tp: Any) -> _Way:
    members = [each for each in get_args(tp) if each is not type(None)]
    optional = len(members) < len(get_args(tp))
    tagged = tagged_members(tp)
    if len(members) == 1:
        way = _way_of(members[0])
    elif tagged:
        way = _by_tag(tagged)
    elif all(each in _PLAIN or attrs.has(each) for each in members):
        way = _by_shape(members)
    else:
        return _by_cattrs(tp)
    return (lambda data: None if data is None else way(data)) if optional else way


def _by_tag(members: Iterable[type]) -> _Way:
    by_tag = {tag_of(each): each for each in members}
    ways = {(tag_field(each), tag): _object(each) for tag, each in by_tag.items()}
    names = sorted({name for name, _ in ways})

    def read(data: Any) -> Any:
        for name in names:
            way = ways.get((name, data.get(name)))
            if way is not None:
                return way(data)
        _doubt(data)

    return read


def _by_shape(members: Sequence[Any]) -> _Way:
    """Unions with an untagged side: the class whose fields the data has, or the type that it is of."""
    ways = {each: _way_of(each) for each in members if attrs.has(each)}
    others = _PLAIN.intersection(members)

    def read(data: Any) -> Any:
        if isinstance(data, Mapping):
            cls = shaped_like(data, ways)
            return _doubt(data) if cls is None else ways[cls](data)
        return data if data.__class__ in others else _doubt(data)

    return read


# ---- collections ----------------------------------------------------------------------------------------------------

COLLECTIONS: Mapping[Any, Any] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    Sequence: list,
    AbstractSet: frozenset,
    Iterable: list,
}


def _collection(tp: Any, make: Callable[[Any], Any]) -> _Way:
    args = get_args(tp) or (Any,)
    if get_origin(tp) is tuple and args[1:] != (...,):
        row = [_way_of(each) for each in args]
        return lambda data: make([way(each) for way, each in zip(row, _list(data), strict=True)])
    way = _way_of(args[0])
    return lambda data: make([way(each) for each in _list(data)])


def _list(data: Any) -> Any:
    return data if data.__class__ is list or data.__class__ is tuple else _doubt(data)


def _mapping(key_type: Any, value_type: Any) -> _Way:
    key, value = _way_of(key_type), _way_of(value_type)

    def read(data: Any) -> Any:
        if not isinstance(data, Mapping):
            _doubt(data)
        return {key(name): value(inner) for name, inner in data.items()}

    return read


# ---- types that aren't here -----------------------------------------------------------------------------------------


def _by_cattrs(tp: Any) -> _Way:
    return lambda data: _converter().structure(data, tp)


def _converter() -> Converter:
    from lash_hookspecs import codec  # which reads by way of this module

    return codec._converter()
