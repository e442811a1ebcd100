"""`@tool`: a tool from a typed function.

The function's name, docstring and hints become the manifest, and its arguments arrive as what the hints say: text,
numbers, booleans, lists, tuples, sets and dicts of these, `Literal`s, enums, unions, attrs classes, dataclasses,
TypedDicts and NamedTuples. A plain function runs in a worker thread, a coroutine function on the event loop, where a
cancel stops it. A parameter named `ctx` gets the `ToolCallContext`.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypedDict, TypeVar, Unpack, overload

from lash_hookspecs._json_schemas import SchemaMaker
from lash_hookspecs._signatures import read_signature
from lash_hookspecs.errors import ConfigurationError, nearest
from lash_hookspecs.tool_declarations import OutputEnd, RetryIdempotent, RetryNever, RetrySafe, ToolRetryPolicy
from lash_hookspecs.tools import (
    OnUnknown,
    ToolActivation,
    ToolCallContext,
    ToolEffect,
    ToolError,
    ToolFailureClass,
    ToolManifest,
)

__all__ = ["FunctionTool", "ToolOptions", "json_schema", "tool"]

E = TypeVar("E", bound=enum.Enum)


def _uninterrupted(function: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """Call it in a worker thread. No Ctrl-C arrives there: a `KeyboardInterrupt` is the function's own failure."""
    try:
        return function(**given)
    except KeyboardInterrupt as error:
        text = f"KeyboardInterrupt: {error}".removesuffix(": ")
        raise ToolError(text, code="tool_raised", failure_class=ToolFailureClass.INTERNAL) from error


def json_schema(tp: Any) -> dict[str, Any]:
    """The JSON Schema of a Python type. Raises `ConfigurationError` for types that have no JSON form."""
    maker = SchemaMaker(defaults=False)
    return maker.with_definitions(maker.schema(tp))


class ToolOptions(TypedDict, total=False):
    """What `@tool` may be told besides the function; what has a few values may be given as its text.

    `name` and `description` win over the function's own. `timeout_s` bounds a call, in seconds. `effect` says what
    repeating it does, `on_unknown` what becomes of an unsafe call after a crash, `activation` who may call it. For
    `retry`, `max_concurrency`, `keeps`, `attaches` and `may_defer` see `ToolManifest`. `preview` is a function of the
    tool's arguments, too: what a person reads who is asked about a call (see `Tool`).
    """

    name: str | None
    description: str | None
    timeout_s: float | None
    effect: ToolEffect | str
    on_unknown: OnUnknown | str
    activation: ToolActivation | str
    retry: ToolRetryPolicy | str
    max_concurrency: int | None
    keeps: OutputEnd | str
    attaches: bool
    may_defer: bool
    preview: Callable[..., Any] | None


_CHOICES: Mapping[str, type[enum.Enum]] = {
    "effect": ToolEffect,
    "on_unknown": OnUnknown,
    "activation": ToolActivation,
    "keeps": OutputEnd,
}
_RETRIES: Mapping[str, ToolRetryPolicy] = {each.tag: each for each in (RetryNever(), RetrySafe(), RetryIdempotent())}


class FunctionTool:
    """A tool made of a function. It can still be called as that function."""

    def __init__(self, function: Callable[..., Any], **options: Unpack[ToolOptions]) -> None:
        if not inspect.isroutine(function):
            raise ConfigurationError(f"`@tool` is for functions, not for {function!r}; options are given by name")
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function)
        self._signature = read_signature(function, function.__name__)
        given = {key: value for key, value in _checked(options, function.__name__).items() if value is not None}
        self._preview: Callable[..., Any] | None = given.pop("preview", None)
        description = inspect.cleandoc(given.pop("description", "")) or self._signature.description
        self.manifest = ToolManifest(
            name=given.pop("name", function.__name__),
            description=description,
            input_schema=self._signature.schema,
            **given,
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<tool {self.manifest.name}>"

    async def call(self, ctx: ToolCallContext, args: Mapping[str, Any]) -> object:
        """Run the function with these arguments; a plain function runs in a worker thread."""
        given = self._signature.values(self.manifest.name, args)
        if self._signature.wants_context:
            given["ctx"] = ctx
        return await _run(self.function, given, self.is_async)

    async def preview(self, args: Mapping[str, Any]) -> str | None:
        """What its `preview` says of a call with these arguments; None if it has none."""
        if self._preview is None:
            return None
        given = self._signature.values(self.manifest.name, args)
        said: str | None = await _run(self._preview, given, inspect.iscoroutinefunction(self._preview))
        return said


async def _run(function: Callable[..., Any], given: Mapping[str, Any], is_async: bool) -> Any:
    if is_async:
        return await function(**given)
    from lash_hookspecs._threads import run_in_thread

    # A thread can't be stopped; an abandoned one ends by itself, or with the process, and its result is dropped.
    return await run_in_thread(partial(_uninterrupted, function, given))


@overload
def tool(function: Callable[..., Any], /) -> FunctionTool: ...
@overload
def tool(**options: Unpack[ToolOptions]) -> Callable[[Callable[..., Any]], FunctionTool]: ...
def tool(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a tool of a typed function, with or without options: see `ToolOptions`.

    Raises `ConfigurationError` for a parameter that JSON can't carry, and for options that can't be.
    """
    if function is None:
        return partial(FunctionTool, **options)
    return FunctionTool(function)


# ---- options --------------------------------------------------------------------------------------------------------


def _checked(options: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The options as the manifest has them. Raises `ConfigurationError` for those that can't be."""
    made = dict(options)
    for key in options:
        if key not in ToolOptions.__annotations__:
            raise ConfigurationError(
                f"tool `{name}`: there is no option `{key}`: {nearest(key, ToolOptions.__annotations__)}"
            )
    for key, kind in _CHOICES.items():
        if made.get(key) is not None:
            made[key] = _member(kind, made[key], name)
    retry = made.get("retry")
    if isinstance(retry, str):
        if retry not in _RETRIES:
            raise ConfigurationError(f"tool `{name}`: `{retry}` is no retry policy: {nearest(retry, _RETRIES)}")
        made["retry"] = retry = _RETRIES[retry]
    if isinstance(retry, RetryIdempotent) and made.get("effect", ToolEffect.UNSAFE) is ToolEffect.UNSAFE:
        raise ConfigurationError(
            f"tool `{name}`: a call of an `unsafe` tool must not be made again by itself: "
            'say `effect="idempotent"` if repeating it does no harm, or `retry="safe"`'
        )
    if isinstance(retry, (RetrySafe, RetryIdempotent)) and (
        retry.max_attempts < 1 or not 0 <= retry.base_delay_ms <= retry.max_delay_ms
    ):
        raise ConfigurationError(
            f"tool `{name}`: {retry!r}: it takes at least one attempt, and delays from 0 on, `max_delay_ms` the largest"
        )
    for key, least in (("timeout_s", 0), ("max_concurrency", 1)):
        value = made.get(key)
        if value is not None and not value >= least:
            raise ConfigurationError(f"tool `{name}`: `{key}` is {value!r}; the least is {least}")
    return made


def _member(kind: type[E], value: E | str, name: str) -> E:
    """The enum's member, which may be given as its text."""
    try:
        return kind(value)
    except ValueError:
        known = nearest(str(value), [each.value for each in kind])
        raise ConfigurationError(f"tool `{name}`: `{value}` is no {kind.__name__}: {known}") from None
