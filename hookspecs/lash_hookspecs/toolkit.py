"""`@tool`: a tool from a typed function.

The function's name, docstring and annotations become the manifest. Arguments may be text, numbers, booleans, lists and
dicts of these, `Literal`s, enums, optionals and attrs classes. A plain function runs in a worker thread, a coroutine
function on the event loop, where a cancel stops it. A parameter named `ctx` gets the `ToolCallContext`.
"""

from __future__ import annotations

import enum
import inspect
import types
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, overload

import attrs

from lash_hookspecs.canonical import canonical_bytes
from lash_hookspecs.errors import CodecError, ConfigurationError
from lash_hookspecs.tools import (
    ToolActivation,
    ToolCallContext,
    ToolEffect,
    ToolError,
    ToolFailureClass,
    ToolManifest,
)

__all__ = ["FunctionTool", "json_schema", "tool"]

_SCALARS: dict[Any, dict[str, Any]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
    inspect.Parameter.empty: {},
}


def json_schema(tp: Any) -> dict[str, Any]:
    """The JSON Schema of a Python type. Raises `ConfigurationError` for types that have no JSON form."""
    if tp in _SCALARS:
        return dict(_SCALARS[tp])
    origin, args = get_origin(tp), get_args(tp)
    if origin in (Union, types.UnionType):
        return {"anyOf": [json_schema(each) for each in args]}
    if origin is Literal:
        return {"enum": list(args)}
    if tp in (list, tuple, dict):
        return {"type": "object" if tp is dict else "array"}
    if origin in (list, tuple, set, frozenset) or (inspect.isclass(origin) and issubclass(origin, (list, tuple))):
        return {"type": "array", "items": json_schema(args[0])}
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": json_schema(args[1])}
    if origin is not None and inspect.isclass(origin) and issubclass(list, origin):
        return {"type": "array", "items": json_schema(args[0])}
    if inspect.isclass(tp) and issubclass(tp, enum.Enum):
        return {"enum": [member.value for member in tp]}
    if inspect.isclass(tp) and attrs.has(tp):
        return _attrs_schema(tp)
    raise ConfigurationError(f"`{tp}` has no JSON form; use text, numbers, booleans, lists, dicts or attrs classes")


def _attrs_schema(cls: type) -> dict[str, Any]:
    fields = [each for each in attrs.fields(attrs.resolve_types(cls)) if each.init]
    return {
        "type": "object",
        "properties": {each.name: json_schema(each.type) for each in fields},
        "required": [each.name for each in fields if each.default is attrs.NOTHING],
        "additionalProperties": False,
    }


class FunctionTool:
    """A tool made of a function. It can still be called as that function."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        timeout_s: float | None = None,
        effect: ToolEffect = ToolEffect.UNSAFE,
        activation: ToolActivation = ToolActivation.ALWAYS,
    ) -> None:
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        self._hints = _hints(function)
        parameters = inspect.signature(function).parameters
        self._wants_context = "ctx" in parameters
        arguments = {key: each for key, each in parameters.items() if key != "ctx"}
        for each in arguments.values():
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
            effect=effect,
            activation=activation,
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
            elif _is_json(each.default):
                schema["default"] = each.default
            properties[key] = schema
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    async def call(self, ctx: ToolCallContext, args: Mapping[str, Any]) -> object:
        """Run the function with these arguments; a plain function runs in a worker thread."""
        given = dict(args)
        if self._typed:
            from lash_hookspecs.codec import structure

            given.update({key: structure(given[key], tp) for key, tp in self._typed.items() if key in given})
        if self._wants_context:
            given["ctx"] = ctx
        if self.is_async:
            return await self.function(**given)
        import anyio.to_thread

        # A thread can't be stopped; an abandoned one ends by itself and its result is dropped.
        return await anyio.to_thread.run_sync(partial(self.function, **given), abandon_on_cancel=True)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except NameError as error:
        raise ConfigurationError(f"tool `{function.__name__}`: an annotation can't be resolved: {error}") from error


def _needs_structure(tp: Any) -> bool:
    if inspect.isclass(tp) and (attrs.has(tp) or issubclass(tp, enum.Enum)):
        return True
    return any(_needs_structure(each) for each in get_args(tp))


def _is_json(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float, bool, list, dict))


@overload
def tool(function: Callable[..., Any], /) -> FunctionTool: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    timeout_s: float | None = None,
    effect: ToolEffect = ToolEffect.UNSAFE,
    activation: ToolActivation = ToolActivation.ALWAYS,
) -> Callable[[Callable[..., Any]], FunctionTool]: ...
def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a tool of a typed function, with or without options.

    `timeout_s` bounds a call, in seconds. `effect` says what repeating it does. Raises `ConfigurationError` for a
    parameter that JSON can't carry.
    """
    if function is None:
        return partial(FunctionTool, **options)
    return FunctionTool(function)
