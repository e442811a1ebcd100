"""How values become plain data and come back: one cattrs converter for everything that reaches disk or wire."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set as AbstractSet
from enum import StrEnum
from operator import length_hint
from typing import Any, get_args, get_origin, is_typeddict

import attrs
from cattrs import Converter
from cattrs.errors import ClassValidationError, IterableValidationError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from lash_hookspecs._fields import fields_of, is_named_tuple, is_object
from lash_hookspecs._structured import COLLECTIONS, is_union, shaped_like, tagged_members
from lash_hookspecs._unstructured import is_omitted, refuse_bytes, tag_field, tag_of
from lash_hookspecs.errors import CodecError, UnknownTag

__all__ = ["first_fault", "make_converter"]


def _union_name(tp: Any) -> str:
    return " | ".join(member.__name__ for member in get_args(tp))


def make_converter(*, tells: bool) -> Converter:
    """A new converter; `codec` keeps one, and one that `tells` where a fault is."""
    from lash_hookspecs.activity import TurnActivity

    converter = Converter(detailed_validation=tells, forbid_extra_keys=False, prefer_attrib_converters=False)
    # For subclasses as well: an enum of a plugin's may be text or a number, and is made of it.
    converter.register_structure_hook(str, _structure_text)
    converter.register_structure_hook(bool, _structure_flag)
    converter.register_structure_hook(int, _structure_number)
    converter.register_structure_hook(float, _structure_number)
    converter.register_unstructure_hook(bytes, refuse_bytes)
    converter.register_structure_hook(bytes, refuse_bytes)
    # cattrs takes a text enum for text and leaves the member as it is, which is no key of an object.
    converter.register_unstructure_hook(StrEnum, lambda member: member.value)
    converter.register_structure_hook(StrEnum, _structure_enum)
    converter.register_structure_hook_factory(_is_tagged_union, lambda tp: _structure_tagged_union(converter, tp))
    converter.register_structure_hook_factory(attrs.has, lambda cls: _structure_class(converter, cls))
    converter.register_unstructure_hook_factory(attrs.has, lambda cls: _unstructure_class(converter, cls))
    # A union's members are told apart by what they are, so the declared type must not decide how they are written.
    converter.register_unstructure_hook_func(is_union, lambda value: converter.unstructure(value))
    converter.register_structure_hook_factory(is_named_tuple, lambda tp: _structure_named_tuple(converter, tp))
    converter.register_structure_hook_factory(is_typeddict, lambda tp: _structure_typed_dict(converter, tp))
    converter.register_structure_hook_factory(_is_plain_union, lambda tp: _structure_plain_union(converter, tp))
    converter.register_structure_hook_factory(_is_collection, lambda tp: _structure_collection(converter, tp))
    converter.register_structure_hook_factory(_is_mapping, lambda tp: _structure_mapping(converter, tp))
    converter.register_unstructure_hook_func(_is_set, lambda value: sorted(map(converter.unstructure, value)))
    converter.register_unstructure_hook_func(_is_row, lambda value: [converter.unstructure(each) for each in value])
    plain_activity = _structure_class(converter, TurnActivity)

    def unstructure_activity(value: TurnActivity) -> dict[str, Any]:
        return {"id": value.id, "correlation_id": value.correlation_id, **converter.unstructure(value.event)}

    def structure_activity(data: Any, tp: type[TurnActivity]) -> TurnActivity:
        # The event's own fields are among these; what belongs to the activity is unknown to it and passed over.
        activity: TurnActivity = plain_activity({**data, "event": data} if isinstance(data, Mapping) else data, tp)
        return activity

    converter.register_unstructure_hook(TurnActivity, unstructure_activity)
    converter.register_structure_hook(TurnActivity, structure_activity)
    return converter


# ---- classes and unions with tags -----------------------------------------------------------------------------------


def _unstructure_class(converter: Converter, cls: type) -> Callable[[Any], Any]:
    fields = {
        each.name: override(omit=True) if not each.init else override(omit_if_default=is_omitted(each))
        for each in attrs.fields(attrs.resolve_types(cls))
    }
    plain: Any = make_dict_unstructure_fn(cls, converter, **fields)  # type: ignore[arg-type]  # overrides are kwargs
    tag = tag_of(cls)
    if tag is None:
        return lambda value: plain(value)
    name = tag_field(cls)
    return lambda value: {name: tag, **plain(value)}


def _structure_class(converter: Converter, cls: type) -> Callable[[Any, Any], Any]:
    fields = {each.name: override(omit=True) for each in attrs.fields(attrs.resolve_types(cls)) if not each.init}
    plain: Any = make_dict_structure_fn(cls, converter, **fields)  # type: ignore[arg-type]  # overrides are kwargs
    tag, name = tag_of(cls), tag_field(cls)

    def structure_one(data: Any, tp: Any) -> Any:
        if type(data) is not dict and not isinstance(data, Mapping):
            raise CodecError(f"expected an object for {cls.__name__}, got {type(data).__name__}")
        if tag is not None and data.get(name, tag) != tag:
            # A union of one, such as `RuntimeSubject`: a newer lash may know more members.
            raise UnknownTag(cls.__name__, name, data[name], [tag])
        return plain(data, tp)

    return structure_one


def _is_tagged_union(tp: Any) -> bool:
    return tagged_members(tp) is not None


def _structure_tagged_union(converter: Converter, tp: Any) -> Callable[[Any, Any], Any]:
    members = tagged_members(tp) or []
    by_tag = {str(tag_of(member)): member for member in members}
    names = sorted({tag_field(member) for member in members})
    optional = type(None) in get_args(tp)
    hooks: dict[tuple[str, Any], Callable[[Any, Any], Any]] = {}  # of the members that came so far

    def structure_one(data: Any, _: Any) -> Any:
        if data is None and optional:
            return None
        if type(data) is not dict and not isinstance(data, Mapping):
            raise CodecError(f"expected an object for {_union_name(tp)}, got {type(data).__name__}")
        for name in names:
            tag = data.get(name)
            member = by_tag.get(tag) if isinstance(tag, str) else None
            if member is None:
                continue
            hook = hooks.get((name, tag))
            if hook is None and tag_field(member) == name:
                hook = hooks[name, tag] = converter.get_structure_hook(member)
            if hook is not None:
                return hook(data, member)
        raise UnknownTag(_union_name(tp), names[0], data.get(names[0]), by_tag)

    return structure_one


# ---- what is plain --------------------------------------------------------------------------------------------------


def _structure_enum(data: Any, tp: type[StrEnum]) -> StrEnum:
    if not isinstance(data, str):
        raise CodecError(f"expected text for {tp.__name__}, got {type(data).__name__}")
    # A newer peer may know more names; enums that have an UNKNOWN member say so instead of failing.
    found = tp._value2member_map_.get(data)  # `tp(data)` takes ten times as long
    if found is None and "_missing_" in vars(tp):  # it takes more than its members
        found = tp._missing_(data)
    if found is not None:
        return found  # type: ignore[return-value]  # the map is of plain enums
    if "UNKNOWN" in tp.__members__:
        return tp["UNKNOWN"]
    raise UnknownTag(tp.__name__, "value", data, [str(member.value) for member in tp])


def _structure_number(data: Any, tp: type) -> Any:
    if type(data) is tp:
        return data
    # JSON knows one kind of number: 2.0 is a whole one.
    whole = isinstance(data, int) or (isinstance(data, float) and data.is_integer())
    if isinstance(data, bool) or not (whole or (isinstance(data, float) and issubclass(tp, float))):
        raise CodecError(f"expected {tp.__name__}, got {type(data).__name__}")
    return tp(data)


def _structure_text(data: Any, tp: type) -> Any:
    if type(data) is tp:
        return data
    if not isinstance(data, str):
        raise CodecError(f"expected text, got {type(data).__name__}")
    return tp(data)


def _structure_flag(data: Any, _: Any) -> bool:
    if not isinstance(data, bool):
        raise CodecError(f"expected true or false, got {type(data).__name__}")
    return data


# ---- collections ----------------------------------------------------------------------------------------------------
# cattrs takes whatever can be iterated for a list, so that the text "abc" would be read as three texts.


def _is_collection(tp: Any) -> bool:
    return get_origin(tp) in COLLECTIONS


def _is_mapping(tp: Any) -> bool:
    return get_origin(tp) in (dict, Mapping)


def _is_set(tp: Any) -> bool:
    return get_origin(tp) in (set, frozenset, AbstractSet)


def _is_row(tp: Any) -> bool:
    """A tuple whose places have a type each, such as `tuple[int, CompletedToolCall]`."""
    return get_origin(tp) is tuple and get_args(tp)[1:] != (...,)


def _structure_collection(converter: Converter, tp: Any) -> Callable[[Any, Any], Any]:
    make: Any = COLLECTIONS[get_origin(tp)]
    args = get_args(tp) or (() if get_origin(tp) is tuple else (Any,))
    row = args if _is_row(tp) else None

    def structure_all(data: Any, _: Any) -> Any:
        if not isinstance(data, (list, tuple)):
            raise CodecError(f"expected a list, got {type(data).__name__}")
        if row is not None and len(row) != len(data):
            raise CodecError(f"expected {len(row)} entries, got {len(data)}")
        if row is not None:
            entries = enumerate(zip(data, row, strict=True))
            return make(_each(converter, tp, ((index, item, inner) for index, (item, inner) in entries)))
        inner, items = args[0], iter(data)
        hook = converter.get_structure_hook(inner)
        try:
            values = [hook(item, inner) for item in items]
        except Exception as error:
            # The iterator knows how far it came: a second pass would double the work at every level of what is nested.
            raise _fault(tp, len(data) - length_hint(items) - 1, inner, error) from None
        return make(values)

    return structure_all


def _structure_mapping(converter: Converter, tp: Any) -> Callable[[Any, Any], Any]:
    key_type, value_type = get_args(tp) or (Any, Any)

    def structure_all(data: Any, _: Any) -> Any:
        if not isinstance(data, Mapping):
            raise CodecError(f"expected an object, got {type(data).__name__}")
        keys = _each(converter, tp, [(repr(key), key, key_type) for key in data])
        return dict(zip(keys, _each(converter, tp, [(repr(key), data[key], value_type) for key in data]), strict=True))

    return structure_all


def _structure_typed_dict(converter: Converter, tp: Any) -> Callable[[Any, Any], Any]:
    """What cattrs does for it goes by the class's own list of required keys, which is wrong where hints are text."""
    fields = fields_of(tp)
    types = {each.name: each.type for each in fields}
    needed = [each.name for each in fields if each.required]

    def structure_all(data: Any, _: Any) -> Any:
        if not isinstance(data, Mapping):
            raise CodecError(f"expected an object for {tp.__name__}, got {type(data).__name__}")
        for name in needed:
            if name not in data:
                raise CodecError(f"field {name!r} is missing")
        entries = [(repr(key), value, types[key]) for key, value in data.items() if key in types]
        names = [key for key in data if key in types]
        return dict(zip(names, _each(converter, tp, entries), strict=True))

    return structure_all


def _structure_named_tuple(converter: Converter, tp: Any) -> Callable[[Any, Any], Any]:
    """A row with names, which cattrs reads only if its hints are no text."""
    row: Any = tuple[tuple(each.type for each in fields_of(tp))]  # type: ignore[misc]  # made at run time
    return lambda data, _: tp._make(converter.structure(data, row))


def _each(converter: Converter, tp: Any, entries: Iterable[tuple[int | str, Any, Any]]) -> list[Any]:
    """Every entry as a value of its type."""
    values = []
    for place, item, inner in entries:
        try:
            values.append(converter.structure(item, inner))
        except Exception as error:
            raise _fault(tp, place, inner, error) from None
    return values


def _fault(tp: Any, place: int | str, inner: Any, error: Exception) -> IterableValidationError:
    """The first fault among entries, with its place, as cattrs itself tells of it."""
    error.__notes__ = [*getattr(error, "__notes__", []), IterableValidationNote(f"at {place}", place, inner)]
    return IterableValidationError(f"while structuring {tp}", [error], tp)


# ---- unions that carry no tag ---------------------------------------------------------------------------------------


def _is_plain_union(tp: Any) -> bool:
    """Unions with one untagged side, such as `LlmResponse | LlmCallError` and `ExecResponse | str`."""
    return is_union(tp) and not _is_tagged_union(tp) and len(_non_none(tp)) >= 2


def _non_none(tp: Any) -> list[Any]:
    return [arg for arg in get_args(tp) if arg is not type(None)]


def _structure_plain_union(converter: Converter, tp: Any) -> Callable[[Any, Any], Any]:
    """Tell members apart by their shape: the class whose fields the data has, or the first type that fits."""
    members = _non_none(tp)
    classes = [each for each in members if is_object(each)]
    others = [each for each in members if not is_object(each)]

    def structure_one(data: Any, _: Any) -> Any:
        if data is None and type(None) in get_args(tp):
            return None
        cls = shaped_like(data, classes) if isinstance(data, Mapping) else None
        if cls is not None:
            return converter.structure(data, cls)
        for other in sorted(others, key=lambda other: type(data) is not other):
            try:
                return converter.structure(data, other)
            except Exception:  # not this one; the text below says it for all of them
                continue
        raise CodecError(f"no member of {_union_name(tp)} has this shape")

    return structure_one


# ---- faults ---------------------------------------------------------------------------------------------------------


def first_fault(error: BaseException, path: str) -> tuple[BaseException, str]:
    """The first fault in what cattrs raised, with its path."""
    if isinstance(error, ClassValidationError):
        with_notes, without = error.group_exceptions()
        if with_notes:
            inner, note = with_notes[0]
            return first_fault(inner, f"{path}.{note.name}")
        return (without[0] if without else error), path
    if isinstance(error, IterableValidationError):
        with_places, without_places = error.group_exceptions()
        if with_places:
            member, place = with_places[0]
            return first_fault(member, f"{path}[{place.index}]")
        return (without_places[0] if without_places else error), path
    if isinstance(error, KeyError):
        return CodecError(f"field {error} is missing"), path
    return error, path
