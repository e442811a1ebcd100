"""From a Python type to its JSON Schema.

A class is described where it stands, so that a model reads it there; one that holds itself goes to `$defs`.
"""

from __future__ import annotations

import enum
import inspect
import types
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import attrs

from lash_hookspecs._constrained import constrained
from lash_hookspecs._docstrings import Documented, documented
from lash_hookspecs._fields import NO_DEFAULT, fields_of, is_named_tuple, is_object
from lash_hookspecs.canonical import canonical_bytes
from lash_hookspecs.errors import CodecError, ConfigurationError

__all__ = ["SchemaMaker", "described", "documentation", "is_json"]

Schema = dict[str, Any]

_SCALARS: Mapping[Any, Mapping[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
    inspect.Parameter.empty: {},
}
_AS_TEXT = frozenset({"bytes", "date", "datetime", "time", "timedelta", "Decimal", "Path", "UUID"})
"""Classes of the standard library that people want as parameters; a model can only write them as text."""


class SchemaMaker:
    """Makes the schemas of several types that share their definitions. `defaults`: say those of classes' fields."""

    def __init__(self, *, defaults: bool) -> None:
        self._defaults = defaults
        self._within: list[type] = []
        self._names: dict[type, str] = {}
        self._definitions: dict[str, Schema] = {}

    def with_definitions(self, schema: Schema) -> Schema:
        """A root schema with the definitions that were needed; one that is a definition says so itself."""
        if not self._definitions:
            return schema
        at_root = self._definitions.get(schema.get("$ref", "").removeprefix("#/$defs/"))
        if at_root is not None:
            schema = {**at_root, **{key: value for key, value in schema.items() if key != "$ref"}}
        return {**schema, "$defs": self._definitions}

    def schema(self, tp: Any) -> Schema:
        """The schema of a type. Raises `ConfigurationError` if it has no JSON form."""
        for each, plain in _SCALARS.items():
            if tp is each:  # not by its hash, which metadata may lack
                return dict(plain)
        origin, args = get_origin(tp), get_args(tp)
        if origin is Annotated:
            return constrained(self.schema(args[0]), args[1:])
        if origin in (Union, types.UnionType):
            return {"anyOf": [self.schema(each) for each in args]}
        if origin is Literal and all(type(each) in (str, int, bool, type(None)) for each in args):
            return {"enum": list(args)}
        alias = _meaning(tp)
        if alias is not None:
            return self._once(tp, lambda: self.schema(alias))
        kind = origin or tp
        if inspect.isclass(kind) and kind is not str:
            if issubclass(kind, enum.Enum) and all(is_json(member.value) for member in kind):
                return {"enum": [member.value for member in kind]}
            if is_object(kind):
                return self._once(kind, lambda: self._object(kind))
            if is_named_tuple(kind):
                return self._once(kind, lambda: self._row(kind))
            if kind in (dict, Mapping) and (not args or args[0] in (str, Any)):
                return {"type": "object", "additionalProperties": self.schema(args[1])} if args else {"type": "object"}
            if kind is tuple and args[1:] != (...,) and (args or origin):
                return _row_schema([self.schema(each) for each in args])
            if kind in (list, tuple, set, frozenset) or (origin and issubclass(list, kind)):
                return {"type": "array", "items": self.schema(args[0])} if args else {"type": "array"}
        name = getattr(tp, "__name__", None)
        hint = (
            "take text, and make one of it in the function"
            if name in _AS_TEXT
            else "use text, numbers, booleans, lists, dicts, or classes with fields of these"
        )
        raise ConfigurationError(f"`{tp}` has no JSON form; {hint}")

    # ---- classes ----------------------------------------------------------------------------------------------------

    def _once(self, cls: Any, make: Any) -> Schema:
        """Describe a class here, or, if it holds itself, in a definition of its own."""
        if cls in self._within:
            name = self._names.setdefault(cls, self._free_name(cls))
            return {"$ref": f"#/$defs/{name}"}
        if cls in self._names:
            return {"$ref": f"#/$defs/{self._names[cls]}"}
        self._within.append(cls)
        try:
            schema: Schema = make()
        finally:
            self._within.pop()
        if cls not in self._names:
            return schema
        self._definitions[self._names[cls]] = schema
        return {"$ref": f"#/$defs/{self._names[cls]}"}

    def _free_name(self, cls: Any) -> str:
        name: str = cls.__name__
        count = 1
        while name in self._names.values():
            count += 1
            name = f"{cls.__name__}_{count}"
        return name

    def _object(self, cls: type) -> Schema:
        from lash_hookspecs._unstructured import tag_field, tag_of

        fields = fields_of(cls)
        doc = documentation(cls, [each.name for each in fields])
        properties: dict[str, Schema] = {}
        for each in fields:
            shown = each.default if self._defaults else NO_DEFAULT
            try:
                properties[each.name] = described(self.schema(each.type), doc.parameters.get(each.name), shown)
            except ConfigurationError as error:
                raise _at(f"{cls.__name__}.{each.name}", error) from None
        required = [each.name for each in fields if each.required]
        tag = tag_of(cls) if attrs.has(cls) else None
        if tag is not None:
            # How the codec tells the members of a union apart.
            properties[tag_field(cls)] = {"const": tag}
            required.append(tag_field(cls))
        schema: Schema = {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }
        return {**schema, "description": doc.text} if doc.text else schema

    def _row(self, cls: Any) -> Schema:
        """A NamedTuple: a list, as JSON has no names for its places."""
        fields = fields_of(cls)
        doc = documentation(cls, [each.name for each in fields])
        row = []
        for each in fields:
            try:
                row.append({"title": each.name, **described(self.schema(each.type), doc.parameters.get(each.name))})
            except ConfigurationError as error:
                raise _at(f"{cls.__name__}.{each.name}", error) from None
        schema = _row_schema(row)
        return {**schema, "description": doc.text} if doc.text else schema


def _at(place: str, error: ConfigurationError) -> ConfigurationError:
    """The error with its place; of a class within a class, only the innermost is named."""
    text = str(error)
    return ConfigurationError(text if text.startswith("field ") else f"field `{place}`: {text}")


def _row_schema(row: Sequence[Schema]) -> Schema:
    return {"type": "array", "prefixItems": list(row), "minItems": len(row), "maxItems": len(row)}


def _meaning(tp: Any) -> Any:
    """What a `NewType` or an alias (`type X = …`) stands for; None for all others."""
    return getattr(tp, "__supertype__", None) or (getattr(tp, "__value__", None) if not inspect.isclass(tp) else None)


# ---- descriptions and defaults --------------------------------------------------------------------------------------


def documentation(cls: type, names: Collection[str]) -> Documented:
    """What a class's own docstring says; those that are made by machine say nothing new."""
    doc = cls.__doc__
    return documented(None if doc is None or doc.startswith(f"{cls.__name__}(") else doc, names)


def described(schema: Schema, text: str | None, default: Any = NO_DEFAULT) -> Schema:
    """A schema with what is said of the place where it is used. The hint's own description wins."""
    made = schema if text is None or "description" in schema else {**schema, "description": text}
    value = default.value if isinstance(default, enum.Enum) else default
    return {**made, "default": value} if value is not NO_DEFAULT and is_json(value) else made


def is_json(value: Any) -> bool:
    """Whether it is JSON as it stands."""
    if value is None or isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**53):
        return True  # most defaults, and nothing has to be imported to see it
    if not isinstance(value, (str, int, float, list, dict)):
        return False
    try:
        canonical_bytes(value)
    except CodecError:
        return False
    return True
