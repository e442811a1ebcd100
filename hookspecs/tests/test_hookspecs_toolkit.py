"""`@tool`: what a typed function tells a model, and how it is called."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Literal, Optional, Union

import anyio
import anyio.lowlevel
import pytest
from attrs import Factory, field, frozen, validators

from lash_hookspecs import (
    ConfigurationError,
    FunctionTool,
    Tool,
    ToolActivation,
    ToolCallContext,
    ToolEffect,
    ToolError,
    ToolFailureClass,
    ToolSet,
    decode,
    encode,
    json_schema,
    tool,
)
from lash_hookspecs._threads import AT_ONCE
from lash_hookspecs.tools import ToolManifest

CTX = ToolCallContext(
    session_id="s", turn_id="t", call_id="c", tool_name="x", plugin_id="p", idempotency_key="k", state="remembered"
)

STRING, INTEGER, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Odd(Enum):
    THING = object()


@frozen
class Point:
    x: int
    y: float = 0.0
    label: str | None = None
    hidden: int = field(default=0, init=False)


@frozen
class Line:
    points: tuple[Point, ...]
    colour: Colour = Colour.RED
    tags: list[str] = Factory(list)


@frozen
class Positive:
    n: int = field(validator=validators.gt(0))


@frozen
class Circle:
    tag = "circle"
    r: float


@frozen
class Square:
    tag = "square"
    side: float


POINT = {
    "type": "object",
    "properties": {"x": INTEGER, "y": NUMBER, "label": {"anyOf": [STRING, {"type": "null"}]}},
    "required": ["x"],
    "additionalProperties": False,
}

POINT_WITH_DEFAULTS = {
    **POINT,
    "properties": {
        "x": INTEGER,
        "y": {**NUMBER, "default": 0.0},
        "label": {"anyOf": [STRING, {"type": "null"}], "default": None},
    },
}
"""What a tool says of it: a model that leaves a field out should know what it gets."""

SCHEMAS: dict[str, tuple[Any, dict[str, Any]]] = {
    "str": (str, STRING),
    "int": (int, INTEGER),
    "float": (float, NUMBER),
    "bool": (bool, {"type": "boolean"}),
    "None": (type(None), {"type": "null"}),
    "Any": (Any, {}),
    "list": (list, {"type": "array"}),
    "dict": (dict, {"type": "object"}),
    "tuple": (tuple, {"type": "array"}),
    "list-of": (list[int], {"type": "array", "items": INTEGER}),
    "list-of-lists": (list[list[str]], {"type": "array", "items": {"type": "array", "items": STRING}}),
    "set-of": (set[str], {"type": "array", "items": STRING}),
    "frozenset-of": (frozenset[str], {"type": "array", "items": STRING}),
    "sequence-of": (Sequence[int], {"type": "array", "items": INTEGER}),
    "iterable-of": (Iterable[int], {"type": "array", "items": INTEGER}),
    "tuple-of-many": (tuple[int, ...], {"type": "array", "items": INTEGER}),
    "tuple-of-two": (
        tuple[int, str],
        {"type": "array", "prefixItems": [INTEGER, STRING], "minItems": 2, "maxItems": 2},
    ),
    "tuple-of-none": (tuple[()], {"type": "array", "prefixItems": [], "minItems": 0, "maxItems": 0}),
    "dict-of": (dict[str, int], {"type": "object", "additionalProperties": INTEGER}),
    "mapping-of": (Mapping[str, Any], {"type": "object", "additionalProperties": {}}),
    "optional": (Optional[int], {"anyOf": [INTEGER, {"type": "null"}]}),  # noqa: UP045  # the old spelling works too
    "or-none": (int | None, {"anyOf": [INTEGER, {"type": "null"}]}),
    "union": (Union[int, str], {"anyOf": [INTEGER, STRING]}),  # the old spelling works too
    "literal": (Literal["a", 1, True, None], {"enum": ["a", 1, True, None]}),
    "text-enum": (Colour, {"enum": ["red", "blue"]}),
    "number-enum": (Level, {"enum": [1, 2]}),
    "annotated": (Annotated[int, "unit: metres"], {"type": "integer", "description": "unit: metres"}),
    "class": (Point, POINT),
    "list-of-classes": (list[Point], {"type": "array", "items": POINT}),
    "class-in-class": (
        Line,
        {
            "type": "object",
            "properties": {
                "points": {"type": "array", "items": POINT},
                "colour": {"enum": ["red", "blue"]},
                "tags": {"type": "array", "items": STRING},
            },
            "required": ["points"],
            "additionalProperties": False,
        },
    ),
    "tagged-classes": (
        Circle | Square,
        {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {"r": NUMBER, "type": {"const": "circle"}},
                    "required": ["r", "type"],
                    "additionalProperties": False,
                },
                {
                    "type": "object",
                    "properties": {"side": NUMBER, "type": {"const": "square"}},
                    "required": ["side", "type"],
                    "additionalProperties": False,
                },
            ]
        },
    ),
}


@pytest.mark.parametrize(("tp", "schema"), SCHEMAS.values(), ids=SCHEMAS)
def test_a_type_has_this_schema(tp: Any, schema: dict[str, Any]) -> None:
    assert json_schema(tp) == schema


NO_SCHEMA = {
    "bytes": bytes,
    "complex": complex,
    "date": datetime,
    "object": object,
    "function": Callable[[int], int],
    "type": type[int],
    "class": FunctionTool,
    "odd-enum": Odd,
    "bytes-literal": Literal[b"x"],
    "enum-literal": Literal[Colour.RED],
    "numbers-as-keys": dict[int, str],
    "inside-a-list": list[bytes],
    "inside-a-union": int | bytes,
    "inside-a-tuple": tuple[int, bytes],
}


@pytest.mark.parametrize("tp", NO_SCHEMA.values(), ids=NO_SCHEMA)
def test_a_type_without_a_json_form_is_refused(tp: Any) -> None:
    with pytest.raises(ConfigurationError, match="has no JSON form"):
        json_schema(tp)


# ---- the manifest ---------------------------------------------------------------------------------------------------


@tool
async def weather(
    ctx: ToolCallContext,
    city: str,
    days: int = 3,
    unit: Literal["C", "F"] = "C",
    at: Point | None = None,
    colour: Colour = Colour.BLUE,
    *,
    deep: bool = False,
    extras: tuple[str, ...] = (),
    untyped=None,  # type: ignore[no-untyped-def]  # what somebody who doesn't type would write
) -> str:
    """The weather to come.

    Ask for one city
      at a time.
    """
    return f"{ctx.call_id} {city} {days} {unit} {at} {colour!r} {deep} {extras}"


def test_the_function_is_its_manifest() -> None:
    assert weather.manifest == ToolManifest(
        name="weather",
        description="The weather to come.\n\nAsk for one city\n  at a time.",
        input_schema={
            "type": "object",
            "properties": {
                "city": STRING,
                "days": {"type": "integer", "default": 3},
                "unit": {"enum": ["C", "F"], "default": "C"},
                "at": {"anyOf": [POINT_WITH_DEFAULTS, {"type": "null"}], "default": None},
                "colour": {"enum": ["red", "blue"], "default": "blue"},
                "deep": {"type": "boolean", "default": False},
                "extras": {"type": "array", "items": STRING},
                "untyped": {"default": None},
            },
            "required": ["city"],
            "additionalProperties": False,
        },
    )
    assert type(weather.manifest.input_schema["properties"]["colour"]["default"]) is str
    assert decode(ToolManifest, encode(weather.manifest)) == weather.manifest


def test_a_default_that_json_cant_say_is_left_out() -> None:
    @tool
    def odd(a: float = float("nan"), b: Any = object, c: list[Any] = [object()], d: Any = {1: 2}) -> None:  # noqa: B006
        """Odd."""

    properties = odd.manifest.input_schema["properties"]
    assert all("default" not in schema for schema in properties.values())
    assert odd.manifest.input_schema["required"] == []


def test_options_override_what_the_function_says() -> None:
    @tool(
        name="fetch",
        description="  Get it.\n  Whole.",
        timeout_s=2.5,
        effect=ToolEffect.PURE,
        activation=ToolActivation.INTERNAL,
    )
    def get(url: str) -> str:
        """Not this."""
        return url.upper()

    schema = {"type": "object", "properties": {"url": STRING}, "required": ["url"], "additionalProperties": False}
    assert get.manifest == ToolManifest(
        name="fetch",
        description="Get it.\nWhole.",
        input_schema=schema,
        timeout_s=2.5,
        effect=ToolEffect.PURE,
        activation=ToolActivation.INTERNAL,
    )
    assert repr(get) == "<tool fetch>"
    assert get("x") == "X"


def test_without_a_docstring_there_is_no_description() -> None:
    @tool
    def silent() -> None: ...

    assert silent.manifest.description == ""
    assert silent.manifest.effect is ToolEffect.UNSAFE
    assert silent.manifest.timeout_s is None


async def test_it_can_still_be_called_as_the_function_that_it_is() -> None:
    assert await weather(CTX, "Rome", days=1) == "c Rome 1 C None <Colour.BLUE: 'blue'> False ()"
    as_port: Tool = weather
    assert as_port.manifest.name == "weather"


def args(*paths: str) -> None: ...
def kwargs(**options: int) -> None: ...
def positional(path: str, /) -> None: ...
def positional_ctx(ctx: ToolCallContext, /, path: str) -> None: ...
def unsupported(path: bytes) -> None: ...
def nested_unsupported(path: str, when: dict[str, list[datetime]]) -> None: ...
def unresolved(path: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821  # that is the point


REFUSED: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "args": (args, ("`args`", "*paths")),
    "kwargs": (kwargs, ("`kwargs`", "**options")),
    "positional-only": (positional, ("`positional`", "path")),
    "positional-only-ctx": (positional_ctx, ("`positional_ctx`", "ctx")),
    "unsupported": (unsupported, ("`unsupported`", "`path`", "bytes")),
    "nested": (nested_unsupported, ("`nested_unsupported`", "`when`", "datetime")),
    "unresolved": (unresolved, ("`unresolved`", "Nowhere")),
}


@pytest.mark.parametrize(("function", "words"), REFUSED.values(), ids=REFUSED)
def test_a_signature_that_json_cant_fill_is_refused_by_name(
    function: Callable[..., Any], words: tuple[str, ...]
) -> None:
    """The text names the tool and the parameter."""
    with pytest.raises(ConfigurationError) as caught:
        tool(function)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    "thing", ["name", 7, functools.partial(args), Point], ids=["text", "number", "partial", "class"]
)
def test_only_functions_are_made_tools(thing: Any) -> None:
    """`@tool("name")` is the slip that somebody will make."""
    with pytest.raises(ConfigurationError, match="is for functions"):
        tool(thing)


# ---- calls ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_async", [True, False])
async def test_a_tool_may_say_what_a_call_would_do(is_async: bool) -> None:
    """With the arguments that the tool would get; and a set's tool says what its own does."""

    def says(n: int, colour: Colour = Colour.RED) -> str:
        return f"{n} {colour.name}"

    async def later(n: int, colour: Colour = Colour.RED) -> str:
        return says(n, colour)

    @tool(preview=later if is_async else says)
    async def paint(n: int, colour: Colour = Colour.RED) -> None:
        "Paint."

    (within,) = ToolSet([paint], prefix="a_")
    assert await paint.preview({"n": 1}) == "1 RED"
    assert await within.preview({"n": 2}) == "2 RED"  # type: ignore[attr-defined]  # a tool may have it
    (plain,) = ToolSet([nothing])
    assert await plain.preview({}) is None  # type: ignore[attr-defined]  # as above


def nothing() -> None:
    "Do nothing."


async def test_a_coroutine_function_runs_where_it_is_called() -> None:
    @tool
    async def here() -> int:
        return threading.get_ident()

    assert await here.call(CTX, {}) == threading.get_ident()


async def test_a_plain_function_runs_in_a_thread() -> None:
    @tool
    def there(n: int) -> tuple[int, int]:
        return n, threading.get_ident()

    result = await there.call(CTX, {"n": 4})
    assert isinstance(result, tuple)
    assert result[0] == 4
    assert result[1] != threading.get_ident()


async def test_a_call_fills_context_and_defaults() -> None:
    result = await weather.call(CTX, {"city": "Rome", "extras": ["a"]})
    assert result == "c Rome 3 C None <Colour.BLUE: 'blue'> False ('a',)"


@tool
def typed(
    point: Point | None = None,
    line: Line | None = None,
    lines: dict[str, list[Line]] | None = None,
    colour: Colour = Colour.RED,
    level: Level | str = "",
    either: Point | float = 0,
    shape: Circle | Square | None = None,
    names: frozenset[str] = frozenset(),
    pair: tuple[int, str] = (0, ""),
    free: Any = None,
) -> dict[str, Any]:
    """What it was called with."""
    return dict(locals())


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"point": {"x": 1}}, Point(1)),
        ({"point": {"x": 1, "y": 2, "label": "a"}}, Point(1, 2.0, "a")),
        ({"point": None}, None),
        ({"line": {"points": [{"x": 1}], "colour": "blue", "tags": ["a"]}}, Line((Point(1),), Colour.BLUE, ["a"])),
        ({"lines": {"a": [{"points": []}]}}, {"a": [Line(())]}),
        ({"colour": "blue"}, Colour.BLUE),
        ({"level": 2}, Level.HIGH),
        ({"level": "low"}, "low"),
        ({"either": {"x": 1}}, Point(1)),
        ({"either": 2}, 2.0),
        ({"shape": {"type": "square", "side": 2}}, Square(2.0)),
        ({"names": ["b", "a", "b"]}, frozenset({"a", "b"})),
        ({"pair": [1, "a"]}, (1, "a")),
        ({"free": {"x": [1]}}, {"x": [1]}),
    ],
    ids=itertools.count(),
)
async def test_arguments_arrive_as_what_the_annotation_says(given: dict[str, Any], value: Any) -> None:
    (name,) = given
    result = await typed.call(CTX, given)
    assert isinstance(result, dict)
    assert result[name] == value
    assert type(result[name]) is type(value)


async def test_arguments_are_not_changed_by_a_call() -> None:
    given = {"point": {"x": 1}}
    await typed.call(CTX, given)
    assert given == {"point": {"x": 1}}


async def test_what_a_classs_own_checks_refuse_is_the_models_fault() -> None:
    """The schema can't say everything; the model gets a text that names the tool and the place."""

    @tool
    def count(given: Positive) -> int:
        """Count."""
        return given.n

    with pytest.raises(ToolError, match=r"`count` don't fit: .*must be > 0") as caught:
        await count.call(CTX, {"given": {"n": 0}})
    assert (caught.value.code, caught.value.failure_class) == ("invalid_arguments", ToolFailureClass.INVALID_REQUEST)


async def test_an_exception_of_the_body_comes_out_as_it_is() -> None:
    @tool
    def fails_there() -> None:
        raise ToolError("no", code="x")

    @tool
    async def fails_here() -> None:
        raise LookupError("no")

    with pytest.raises(ToolError, match="no"):
        await fails_there.call(CTX, {})
    with pytest.raises(LookupError, match="no"):
        await fails_here.call(CTX, {})


async def test_a_cancel_stops_the_body_of_a_coroutine_function() -> None:
    seen: list[str] = []
    started = anyio.Event()

    @tool
    async def forever() -> None:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("stopped")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(forever.call, CTX, {})
        await started.wait()
        tasks.cancel_scope.cancel()
    assert seen == ["stopped"]


async def test_a_cancel_leaves_a_thread_behind() -> None:
    """A thread can't be stopped, so nobody waits for it: the call ends at once, the thread by itself."""
    let_go, ended = threading.Event(), threading.Event()
    started = anyio.Event()
    from anyio import from_thread

    @tool
    def stubborn() -> None:
        from_thread.run_sync(started.set)
        let_go.wait(20)
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stubborn.call, CTX, {})
        await started.wait()
        tasks.cancel_scope.cancel()
    assert not ended.is_set()
    let_go.set()
    assert ended.wait(20)


async def test_an_abandoned_function_can_learn_that_nobody_waits() -> None:
    """`anyio.from_thread` works in a tool's thread, so a tool that asks now and then stops when it is cancelled."""
    from anyio import from_thread

    started, stopped = anyio.Event(), threading.Event()

    @tool
    def patient() -> None:
        from_thread.run_sync(started.set)
        try:
            while True:
                from_thread.check_cancelled()
                threading.Event().wait(0.001)
        finally:
            stopped.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(patient.call, CTX, {})
        await started.wait()
        tasks.cancel_scope.cancel()
    assert stopped.wait(20)


async def test_a_thread_sees_the_context_and_may_run_an_event_loop_of_its_own() -> None:
    seen: ContextVar[str] = ContextVar("seen")
    seen.set("here")

    @tool
    def nested() -> str:
        async def inside() -> str:
            await anyio.lowlevel.checkpoint()
            return seen.get()

        return anyio.run(inside)

    assert await nested.call(CTX, {}) == "here"


async def test_only_so_many_plain_functions_run_at_once_and_abandoned_ones_do_not_count() -> None:
    from anyio import from_thread

    gate, free = threading.Event(), threading.Event()
    running: list[int] = []
    full = anyio.Event()

    @tool
    def wait() -> None:
        running.append(1)
        if len(running) == AT_ONCE:
            from_thread.run_sync(full.set)
        gate.wait(20)

    @tool
    def quick() -> int:
        free.set()
        return 7

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE + 5):
            tasks.start_soon(wait.call, CTX, {})
        with anyio.fail_after(20):
            await full.wait()
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(0.05):
            await quick.call(CTX, {})
        assert len(running) == AT_ONCE
        assert not free.is_set()
        tasks.cancel_scope.cancel()
    # All are still there, and nobody waits for them.
    assert await quick.call(CTX, {}) == 7
    gate.set()


async def test_threads_are_used_again() -> None:
    @tool
    def which() -> threading.Thread:
        return threading.current_thread()

    found = {await which.call(CTX, {}) for _ in range(20)}
    assert len(found) < 20  # a thread delivers first and is free again a moment later: on a busy machine, too late


HANGS = """
import os, signal, sys, threading, anyio
from lash_hookspecs import ToolCallContext, tool

# Who runs the tests in the background of a shell ignores it, and so would we.
signal.signal(signal.SIGINT, signal.default_int_handler)

@tool
def hang() -> None:
    threading.Event().wait()

async def main():
    ctx = ToolCallContext(
        session_id="s", turn_id="t", call_id="c", tool_name="x", plugin_id="p", idempotency_key="k", state=None
    )
    if sys.argv[2] == "signal":
        threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()
        await hang.call(ctx, {})
    with anyio.move_on_after(0.05):
        await hang.call(ctx, {})
    print("went on")

anyio.run(main, backend=sys.argv[1])
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("how", ["cancel", "signal"])
def test_a_function_that_hangs_does_not_keep_the_process_alive(backend: str, how: str) -> None:
    """anyio's own worker threads are joined when the interpreter exits, so `lash` hung after Ctrl-C."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HANGS, backend, how], capture_output=True, text=True, timeout=30
    )
    if how == "cancel":
        assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")
    else:
        assert done.returncode != 0
        assert done.stderr.rstrip().endswith("KeyboardInterrupt")


def test_a_result_for_a_loop_that_is_gone_is_dropped_without_a_word() -> None:
    let_go = threading.Event()

    @tool
    def late() -> None:
        let_go.wait(20)
        raise LookupError("nobody hears this")

    async def main() -> threading.Thread:
        found: list[threading.Thread] = []

        @tool
        def which() -> None:
            found.append(threading.current_thread())
            late()

        async with anyio.create_task_group() as group:
            group.start_soon(which.call, CTX, {})
            while not found:  # noqa: ASYNC110 - a thread's deed, which may come any time
                await anyio.sleep(0.002)
            group.cancel_scope.cancel()
        return found[0]

    thread = anyio.run(main)
    let_go.set()
    assert anyio.run(quiet) == "quiet"
    assert thread.daemon


async def quiet() -> str:
    return "quiet"
