"""A function's signature as a model sees it, and what a model gave as the values that the function wants."""

from __future__ import annotations

import enum
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from lash_hookspecs._docstrings import documented
from lash_hookspecs._fields import NO_DEFAULT
from lash_hookspecs._json_schemas import SchemaMaker, described
from lash_hookspecs.errors import CodecError, ConfigurationError
from lash_hookspecs.tools import ToolCallContext, ToolError, ToolFailureClass
from lash_hookspecs.values import frozen

__all__ = ["ToolSignature", "read_signature"]

_MOST_FAULTS = 5


@frozen
class ToolSignature:
    """`typed` are the parameters whose values JSON doesn't have: their hints, by name."""

    schema: Mapping[str, Any]
    description: str
    wants_context: bool
    typed: Mapping[str, Any]

    def values(self, tool_name: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments as the hints say.

        Raises `ToolError` for what a class's own checks refuse; the model can mend it.
        """
        given = dict(args)
        faults = []
        for name, tp in self.typed.items():
            if name not in given:
                continue
            from lash_hookspecs.codec import structure

            try:
                given[name] = structure(given[name], tp)
            except CodecError as error:
                faults.append(f"`{name}`: {error}")
        if faults:
            more = f"; and {len(faults) - _MOST_FAULTS} more" if len(faults) > _MOST_FAULTS else ""
            raise ToolError(
                f"the arguments of `{tool_name}` don't fit: {'; '.join(faults[:_MOST_FAULTS])}{more}",
                code="invalid_arguments",
                failure_class=ToolFailureClass.INVALID_REQUEST,
            )
        return given


def read_signature(function: Callable[..., Any], name: str) -> ToolSignature:
    """Read a function's signature and docstring. Raises `ConfigurationError` for what no model could fill."""
    try:
        hints = get_type_hints(function, include_extras=True)
        plain = get_type_hints(function)
    except NameError as error:
        text = f"tool `{name}`: an annotation can't be resolved: {error}; define it at the top of the module"
        raise ConfigurationError(text) from error
    parameters = inspect.signature(function).parameters
    arguments = {key: each for key, each in parameters.items() if key != "ctx"}
    for key, each in parameters.items():
        if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD, each.POSITIONAL_ONLY):
            raise ConfigurationError(
                f"tool `{name}`: parameter `{each}` can't be given by name; a tool's parameters must be nameable"
            )
        if key != "ctx" and plain.get(key) is ToolCallContext:
            raise ConfigurationError(
                f"tool `{name}`: parameter `{key}` is the call's context, and only one that is named `ctx` gets it"
            )
    doc = documented(function.__doc__, parameters.keys())
    maker = SchemaMaker(defaults=True)
    properties = {}
    for key, each in arguments.items():
        default = NO_DEFAULT if each.default is each.empty else each.default
        try:
            properties[key] = described(maker.schema(hints.get(key, Any)), doc.parameters.get(key), default)
        except ConfigurationError as error:
            raise ConfigurationError(f"tool `{name}`, parameter `{key}`: {error}") from None
    schema = {
        "type": "object",
        "properties": properties,
        "required": [key for key, each in arguments.items() if each.default is each.empty],
        "additionalProperties": False,
    }
    return ToolSignature(
        schema=maker.with_definitions(schema),
        description=doc.text,
        wants_context="ctx" in parameters,
        typed={key: plain[key] for key in arguments if key in plain and not _is_as_it_comes(plain[key])},
    )


def _is_as_it_comes(tp: Any) -> bool:
    """Whether what JSON holds is a value of the type already."""
    if tp in (str, bool, type(None), Any, list, dict, Mapping):
        return True
    origin, args = get_origin(tp), get_args(tp)
    if origin is Literal:
        return not any(isinstance(each, enum.Enum) for each in args)
    if origin in (Union, types.UnionType, list, dict, Mapping, Annotated):
        return all(_is_as_it_comes(each) for each in args)
    return False
