"""What hooks are shown: nothing of it can be changed in place, which would count with nobody's name on it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs
import pytest
from hook_kit import Plugin

from lash_framework.testing import call
from lash_hookspecs import (
    HOOKS,
    FinishControl,
    HookContext,
    HookRunnerKind,
    SessionPolicy,
    Tool,
    ToolCallOutput,
    ToolCallSuccess,
    ToolManifest,
    TurnInput,
    hookimpl,
    own_copy,
    read_only,
    specs,
    tool,
)

HostInTest = Any

OWN = {"host", "state", "memo"}
"""What is the plugin's own, or (a memo of a message) the runtime's, and no data."""


def changeable(value: Any, path: str, seen: dict[int, Any]) -> Iterator[str]:
    """The places of dicts, lists and sets that whoever holds `value` could change."""
    if id(value) in seen:
        return
    seen[id(value)] = value
    if type(value) in (dict, list, set, bytearray):
        yield path
    inner: list[tuple[str, Any]] = []
    if isinstance(value, Mapping):
        inner = [(f"{path}[{key!r}]", each) for key, each in value.items()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        inner = [(f"{path}[]", each) for each in value]
    elif isinstance(value, HookContext):
        properties = (name for name, member in inspect.getmembers(type(value)) if isinstance(member, property))
        inner = [(f"{path}.{name}", told(value, name)) for name in properties if name not in OWN]
    elif attrs.has(type(value)):
        names = (each.name for each in attrs.fields(type(value)))
        inner = [(f"{path}.{name}", getattr(value, name)) for name in names if name not in OWN and name[0] != "_"]
    for where, each in inner:
        yield from changeable(each, where, seen)


def told(ctx: Any, name: str) -> Any:
    """A property of a context; None for a service that the hook hasn't."""
    try:
        return getattr(ctx, name)
    except Exception:
        return None


def looking() -> Mapping[str, Any]:
    """An implementation of each hook that lash calls in a session: it looks through all that it is given."""

    def implementation(hook: str, arguments: list[str], is_sync: bool) -> Any:
        async def around(self: Any, **given: Any) -> Any:
            made = await given.pop("call_next")()
            self.look(hook, {**given, "made": made})
            return made

        async def look(self: Any, **given: Any) -> None:
            self.look(hook, given)

        def look_at_once(self: Any, **given: Any) -> None:
            self.look(hook, given)

        function: Any = around if "call_next" in arguments else look_at_once if is_sync else look
        made: dict[str, Any] = {}
        listed = ", ".join(arguments)
        given = ", ".join(f"{each}={each}" for each in arguments)
        kind, wait = ("def", "") if is_sync else ("async def", "await ")
        exec(f"{kind} {hook}(self, {listed}):\n    return {wait}function(self, {given})", {"function": function}, made)
        return hookimpl(made[hook])

    return {
        name: implementation(name, list(inspect.signature(getattr(specs, name)).parameters), policy.sync)
        for name, policy in HOOKS.items()
        if policy.runner not in (HookRunnerKind.REGISTER, HookRunnerKind.LIFESPAN)
    }


class Looking(Plugin):
    """Notes what it could change, and which hooks it was called by."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.seen: set[str] = set()

    def look(self, hook: str, given: Mapping[str, Any]) -> None:
        self.seen.add(hook)
        for name, value in given.items():
            self.found += changeable(value, f"{hook}: {name}", {})


@tool(effect="pure")
async def look_up(where: dict[str, Any]) -> dict[str, Any]:
    "Look something up."
    return {"found": where.get("name"), "more": [1]}


async def test_nothing_that_a_hook_is_shown_can_be_changed_in_place(lash_host: HostInTest) -> None:
    """Schemas of tools, in requests and manifests, whose tool it is, options, inputs: all could be."""
    looks: Any = type("LooksAtAll", (Looking,), looking())()
    says = [call("look_up", where={"name": "Ada", "in": [1, {"a": []}]}), "Done.", "Once more."]
    async with lash_host(looks, says=says, tools=[look_up], toml='[plugin.mine]\nwords = ["a"]\n') as host:
        session = await host.lash.session("test")
        await session.configure(max_turns=9)
        await session.run(TurnInput.text("Hello").with_image("i", b"\x89PNG\r\n\x1a\n" + bytes(24)))
        await session.compact()
    assert looks.found == []
    called = {name for name, policy in HOOKS.items() if policy.runner.value not in ("register", "lifespan")}
    assert called - looks.seen == {"lash_person_answered"}  # which is shown what `lash_before_tool_call` is


class Renames(Plugin):
    """Changes what it is shown of the tool, wherever it is."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    @hookimpl
    def lash_before_llm_call(self, ctx: Any, request: Any) -> None:
        if self.where == "a request":
            request.tools[0].input_schema["properties"].clear()
        elif self.where == "the tools":
            ctx.tools[0].input_schema["properties"].clear()
        elif self.where == "the owners":
            ctx.tool_owners["look_up"] = "somebody else"


@pytest.mark.parametrize("where", ["a request", "the tools", "the owners"])
async def test_what_a_hook_changes_of_a_tool_is_refused_with_its_name(lash_host: HostInTest, where: str) -> None:
    """The model was told of another tool, in this turn and all others, and nobody knew by whom."""
    async with lash_host(Renames(where), says=["Yes."], tools=[look_up]) as host:
        (issue,) = (await host.run("Hello")).errors
        assert host.model.requests == []
    assert "plugin `mine`, hook `lash_before_llm_call`: TypeError: this is only shown" in issue.message
    assert "where" in look_up.manifest.input_schema["properties"]


async def test_what_a_turn_ends_with_is_not_changed_by_whoever_is_shown_it(lash_host: HostInTest) -> None:
    """A tool's control value was the one thing of its output that could be."""

    @tool(effect="pure")
    async def finish() -> ToolCallOutput:
        "End the turn."
        return ToolCallOutput(ToolCallSuccess("done"), control=FinishControl({"answer": 1}))

    class Changes(Plugin):
        @hookimpl
        def lash_after_tool_call(self, result: Any) -> None:
            result.control.value["answer"] = 2

    async with lash_host(Changes(), says=[call("finish"), "Done."], tools=[finish]) as host:
        (done,) = (await host.run("Go on.")).tool_calls
    assert "plugin `mine`, hook `lash_after_tool_call`: TypeError: this is only shown" in done.output.outcome.message


async def test_hooks_about_the_conversations_size_know_whose_each_tool_is(lash_host: HostInTest) -> None:
    """Nobody's, they were told: of no tool."""

    class Asks(Plugin):
        @hookimpl
        def lash_prepare_context(self, ctx: Any) -> None:
            self.calls.append(dict(ctx.tool_owners))

        @hookimpl
        def lash_tools(self) -> list[Tool]:
            return [look_up]

    asks = Asks()
    async with lash_host(asks, says=["Yes."]) as host:
        await host.run("Hello")
    assert [each["look_up"] for each in asks.calls] == ["mine"]


DATA: Mapping[str, Callable[[Any], Any]] = {
    "a schema": lambda data: ToolManifest(name="t", input_schema=data).input_schema,
    "options": lambda data: SessionPolicy(model="m", options=data).options,
}


@pytest.mark.parametrize("kind", DATA)
def test_a_value_has_data_of_its_own(kind: str) -> None:
    """Whoever made it could change it afterwards by what it was made of."""
    given = {"type": "object", "properties": {"a": {"enum": [1]}}}
    held = DATA[kind](given)
    given["properties"]["a"]["enum"].append(2)  # type: ignore[index]  # it is what it is
    assert held["properties"]["a"]["enum"] == [1]
    mine = own_copy(held)
    mine["properties"]["a"]["enum"].append(3)
    assert held["properties"]["a"]["enum"] == [1]


def test_data_that_holds_itself_is_taken_as_it_is() -> None:
    """It is refused where it is written down, with the name of who has it."""
    circle: dict[str, Any] = {}
    circle["again"] = [circle]
    assert read_only(circle) is circle
