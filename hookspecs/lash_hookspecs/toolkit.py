"""`@tool`: a tool from a typed function.

The function's name, docstring and annotations become the manifest. Arguments may be text, numbers, booleans, lists,
tuples, sets and dicts of these, `Literal`s, enums, optionals and attrs classes. A plain function runs in a worker
thread, a coroutine function on the event loop, where a cancel stops it. A parameter named `ctx` gets the
`ToolCallContext`.
"""

from __future__ import annotations

import enum
import inspect
import types
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints, overload

import attrs

from lash_hookspecs.canonical import canonical_bytes
from lash_hookspecs.errors import CodecError, ConfigurationError, nearest
from lash_hookspecs.tools import (
    OnUnknown,
    ToolActivation,
    ToolCallContext,
    ToolEffect,
    ToolError,
    ToolFailureClass,
    ToolManifest,
)

__all__ = ["FunctionTool", "json_schema", "tool"]

E = TypeVar("E", bound=enum.Enum)

_SCALARS: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
    inspect.Parameter.empty: {},
}


def _uninterrupted(function: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """Call it in a worker thread. No Ctrl-C arrives there: a `KeyboardInterrupt` is the function's own failure."""
    try:
        return function(**given)
    except KeyboardInterrupt as error:
        text = f"KeyboardInterrupt: {error}".removesuffix(": ")
        raise ToolError(text, code="tool_raised", failure_class=ToolFailureClass.INTERNAL) from error


def json_schema(tp: Any) -> dict[str, Any]:
    """The JSON Schema of a Python type. Raises `ConfigurationError` for types that have no JSON form."""
    return _schema(tp, ())


def _schema(tp: Any, within: tuple[type, ...]) -> dict[str, Any]:
    # `within` are the classes that are being described: one that holds itself has no finite schema.
    if tp in _SCALARS:
        return dict(_SCALARS[tp])
    origin, args = get_origin(tp), get_args(tp)
    if origin is Annotated:
        return _schema(args[0], within)
    if origin in (Union, types.UnionType):
        return {"anyOf": [_schema(each, within) for each in args]}
    if origin is Literal and all(type(each) in (str, int, bool, type(None)) for each in args):
        return {"enum": list(args)}
    kind = origin or tp
    if inspect.isclass(kind) and kind is not str:
        if issubclass(kind, enum.Enum) and all(_is_json(member.value) for member in kind):
            return {"enum": [member.value for member in kind]}
        if attrs.has(kind) and kind not in within:
            return _attrs_schema(kind, (*within, kind))
        if kind in (dict, Mapping) and (not args or args[0] in (str, Any)):
            return {"type": "object", "additionalProperties": _schema(args[1], within)} if args else {"type": "object"}
        if kind is tuple and args[1:] != (...,) and (args or origin):
            items = [_schema(each, within) for each in args]
            return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
        if kind in (list, tuple, set, frozenset) or (origin and issubclass(list, kind)):
            return {"type": "array", "items": _schema(args[0], within)} if args else {"type": "array"}
    raise ConfigurationError(f"`{tp}` has no JSON form; use text, numbers, booleans, lists, dicts or attrs classes")


def _attrs_schema(cls: type, within: tuple[type, ...]) -> dict[str, Any]:
    from lash_hookspecs._unstructured import tag_field, tag_of

    fields = [each for each in attrs.fields(attrs.resolve_types(cls)) if each.init]
    properties = {each.name: _schema(Any if each.type is None else each.type, within) for each in fields}
    required = [each.name for each in fields if each.default is attrs.NOTHING]
    tag = tag_of(cls)
    if tag is not None:
        # How the codec tells the members of a union apart.
        properties[tag_field(cls)] = {"const": tag}
        required.append(tag_field(cls))
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _member(kind: type[E], value: E | str, function: Callable[..., Any]) -> E:
    """The enum's member, which may be given as its text."""
    try:
        return kind(value)
    except ValueError:
        known = nearest(str(value), [each.value for each in kind])
        text = f"tool `{function.__name__}`: `{value}` is no {kind.__name__}: {known}"
        raise ConfigurationError(text) from None


class FunctionTool:
    """A tool made of a function. It can still be called as that function."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        timeout_s: float | None = None,
        effect: ToolEffect | str = ToolEffect.UNSAFE,
        on_unknown: OnUnknown | str = OnUnknown.FAIL,
        activation: ToolActivation | str = ToolActivation.ALWAYS,
    ) -> None:
        if not inspect.isroutine(function):
            raise ConfigurationError(f"`@tool` is for functions, not for {function!r}; options are given by name")
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        self._hints = _hints(function)
        parameters = inspect.signature(function).parameters
        self._wants_context = "ctx" in parameters
        arguments = {key: each for key, each in parameters.items() if key != "ctx"}
        for each in parameters.values():
            if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD, each.POSITIONAL_ONLY):
                raise ConfigurationError(
                    f"tool `{function.__name__}`: parameter `{each}` can't be given by name; "
                    "a tool's parameters must be nameable"
                )
        self._typed = {key: tp for key, tp in self._hints.items() if key in arguments and _needs_structure(tp)}
        self.manifest = ToolManifest(
            name=name or function.__name__,
            description=inspect.cleandoc(description or function.__doc__ or ""),
            input_schema=self._schema(arguments),
            timeout_s=timeout_s,
            effect=_member(ToolEffect, effect, function),
            on_unknown=_member(OnUnknown, on_unknown, function),
            activation=_member(ToolActivation, activation, function),
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<tool {self.manifest.name}>"

    def _schema(self, arguments: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
        properties: dict[str, Any] = {}
        required = []
        for key, each in arguments.items():
            try:
                schema = json_schema(self._hints.get(key, Any))
            except ConfigurationError as error:
                raise ConfigurationError(f"tool `{self.function.__name__}`, parameter `{key}`: {error}") from None
            if each.default is each.empty:
                required.append(key)
            else:
                default = each.default.value if isinstance(each.default, enum.Enum) else each.default
                if _is_json(default):
                    schema["default"] = default
            properties[key] = schema
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    async def call(self, ctx: ToolCallContext, args: Mapping[str, Any]) -> object:
        """Run the function with these arguments; a plain function runs in a worker thread."""
        given = dict(args)
        if self._typed:
            from lash_hookspecs.codec import structure

            try:
                given.update({key: structure(given[key], tp) for key, tp in self._typed.items() if key in given})
            except CodecError as error:
                # The schema lets through what a class's own checks refuse; the model can mend it.
                text = f"the arguments of `{self.manifest.name}` don't fit: {error}"
                kind = ToolFailureClass.INVALID_REQUEST
                raise ToolError(text, code="invalid_arguments", failure_class=kind) from error
        if self._wants_context:
            given["ctx"] = ctx
        if self.is_async:
            return await self.function(**given)
        from lash_hookspecs._threads import run_in_thread

        # A thread can't be stopped; an abandoned one ends by itself, or with the process, and its result is dropped.
        return await run_in_thread(partial(_uninterrupted, self.function, given))


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except NameError as error:
        raise ConfigurationError(f"tool `{function.__name__}`: an annotation can't be resolved: {error}") from error


def _needs_structure(tp: Any) -> bool:
    if inspect.isclass(tp) and (attrs.has(tp) or issubclass(tp, enum.Enum)):
        return True
    if (get_origin(tp) or tp) in (tuple, set, frozenset):
        return True
    return any(_needs_structure(each) for each in get_args(tp))


def _is_json(value: Any) -> bool:
    if not (value is None or isinstance(value, (str, int, float, bool, list, dict))):
        return False
    try:
        canonical_bytes(value)
    except CodecError:
        return False
    return True


@overload
def tool(function: Callable[..., Any], /) -> FunctionTool: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    timeout_s: float | None = None,
    effect: ToolEffect | str = ToolEffect.UNSAFE,
    on_unknown: OnUnknown | str = OnUnknown.FAIL,
    activation: ToolActivation | str = ToolActivation.ALWAYS,
) -> Callable[[Callable[..., Any]], FunctionTool]: ...
def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a tool of a typed function, with or without options.

    `timeout_s` bounds a call, in seconds. `effect` says what repeating it does, `on_unknown` what becomes of an unsafe
    call after a crash; both may be given as text. Raises `ConfigurationError` for a parameter that JSON can't carry.
    """
    if function is None:
        return partial(FunctionTool, **options)
    return FunctionTool(function)
