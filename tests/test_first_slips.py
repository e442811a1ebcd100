"""What goes wrong in a first plugin: each slip is told with the plugin, and with what to write instead."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from agents import agent, plugin
from attrs import evolve, frozen

from lash_hookspecs import (
    AbortTurn,
    CheckpointKind,
    ConnectedToolSet,
    DriverWrap,
    EnqueueMessages,
    LashError,
    Mode,
    PluginInfo,
    PluginMessage,
    StartCheckpoint,
    StartLlm,
    Tool,
    ToolCallFailure,
    hookimpl,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply

KIND = CheckpointKind("paced:before-model")


def mine(name: str, function: Callable[..., Any]) -> object:
    function.__name__ = f"lash_{name}"
    return plugin("mine", function)


@frozen
class Paced:
    """A driver that forgets to pass on what it leaves to the inner one."""

    inner: Any

    def prepare_protocol_iteration(self, ctx: Any) -> Any:
        step = self.inner.prepare_protocol_iteration(ctx)
        if isinstance(step.next, StartLlm):
            return evolve(step, next=StartCheckpoint(kind=KIND, on_empty=step.next))
        return step


@frozen
class Forgetful:
    """A driver whose first step begins with a checkpoint."""

    inner: Any
    make: Callable[[], StartCheckpoint]

    def prepare_protocol_iteration(self, ctx: Any) -> Any:
        return evolve(self.inner.prepare_protocol_iteration(ctx), next=self.make())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def forgetful(make: Callable[[], StartCheckpoint]) -> object:
    wrap = DriverWrap(around=lambda inner: Forgetful(inner, make), checkpoints={KIND: "before each call"})
    return mine("modes", lambda: [Mode(mode_id="paced", extends="standard", wrap=wrap)])


def mode(**wrap: Any) -> object:
    return mine("modes", lambda: [Mode(mode_id="paced", extends="standard", wrap=DriverWrap(around=Paced, **wrap))])


def toolset(connect: Any) -> object:
    return mine("tools", lambda ctx: [ConnectedToolSet(name="calc", connect=connect, limit_s=5)])


@tool
async def count() -> Any:
    """Forget to await."""
    return inner()


async def inner() -> int:
    return 1


async def yields() -> AsyncIterator[Any]:
    yield None


def gives(what: Any) -> Any:
    @asynccontextmanager
    async def connect() -> AsyncIterator[Any]:
        yield what

    return connect


async def forgets(ctx: Any) -> Any:
    return inner()


class Unmade:
    """A plugin as a class, which nobody has made one of."""

    @hookimpl
    def lash_plugin_info(self) -> PluginInfo:
        return PluginInfo(id="unmade")

    @hookimpl
    def lash_checkpoint(self, ctx: Any) -> None:
        """Nothing to say."""


OPENING: dict[str, tuple[Callable[[], object], str]] = {
    "an argument that nobody passes": (
        lambda: mine("checkpoint", lambda context: None),
        "`mine` (hooks): `lash_checkpoint` has no argument `context`; it may take: `ctx`",
    ),
    "a class for a plugin": (
        lambda: Unmade,
        "`Unmade` is a class, and its `lash_checkpoint` takes `self`: pass an instance, `Unmade()`",
    ),
    "a hook that nobody calls": (
        lambda: mine("chekpoint", lambda ctx: None),
        "`mine` (hooks): `lash_chekpoint` is no hook: did you mean `lash_checkpoint`?",
    ),
    "checkpoints in a list": (
        lambda: mode(checkpoints=[KIND]),
        "`checkpoints` is a `list`: say of each kind when it comes, in a mapping",
    ),
    "a mode whose prompt is text": (
        lambda: mine("modes", lambda: [Mode(mode_id="m", extends="standard", prompt="Be brief.")]),  # type: ignore[arg-type]  # the slip
        "plugin `mine`, hook `lash_modes`: TypeError: `Mode.prompt` must be a `PromptLayer`, and is text: "
        "write `PromptLayer().with_contribution(PromptContribution(content=…))`",
    ),
    "a mode's plugins as text": (
        lambda: mine("modes", lambda: [Mode(mode_id="m", extends="standard", plugins="plan")]),  # type: ignore[arg-type]  # the slip
        "`Mode.plugins` must be a tuple of `str`, and is a `str` ('plan')",
    ),
    "a mode's generation as a table": (
        lambda: mine("modes", lambda: [Mode(mode_id="m", extends="standard", generation={"seed": 1})]),  # type: ignore[arg-type]  # the slip
        "`Mode.generation` must be a `GenerationOptions`, and is a `dict`",
    ),
    "a driver that answers one question": (
        lambda: mode(checkpoints={KIND: "before each call"}),
        "plugin `mine`, hook `lash_modes`: the driver that mode `paced` lays around another one lacks "
        "`handle_llm_success`, `handle_tool_results`, `handle_exec_result`: pass on what it leaves to the inner one",
    ),
    "a connection without its decorator": (lambda: toolset(yields), "put `@asynccontextmanager` above it"),
    "a connection that is made at once": (
        lambda: toolset(gives(None)()),
        "`connect` is a `_AsyncGeneratorContextManager`: give the function that makes the context manager",
    ),
}


@pytest.mark.parametrize("case", OPENING)
async def test_a_slip_is_told_before_any_turn(case: str) -> None:
    made, message = OPENING[case]
    with pytest.raises(LashError) as caught:
        async with agent([], plugins=[made()]) as lash:
            lash.host.composition("paced" if "paced" in lash.host.modes else "standard")
    assert message in str(caught.value)


TURNS: dict[str, tuple[Callable[[], object], str]] = {
    "text in the place of a message": (
        lambda: mine("checkpoint", lambda ctx: "think again"),
        "plugin `mine`, hook `lash_checkpoint`: returned a `str`; expected is None, *: text for the model is "
        "`EnqueueMessages.note(text)`",
    ),
    "text in a directive": (
        lambda: mine("checkpoint", lambda ctx: EnqueueMessages("think again")),  # type: ignore[arg-type]  # the slip
        "plugin `mine`, hook `lash_checkpoint`: TypeError: `EnqueueMessages.messages` must be a tuple of "
        "`PluginMessage`, and is a `str` ('think again'): write `EnqueueMessages.note('think again')`",
    ),
    "texts in a directive": (
        lambda: mine("before_turn", lambda ctx: EnqueueMessages(["think"])),  # type: ignore[list-item]  # the slip
        "plugin `mine`, hook `lash_before_turn`: TypeError: `EnqueueMessages.messages` must be a tuple of "
        "`PluginMessage` only; one of it, and is a `str` ('think'): write `EnqueueMessages.note('think')`",
    ),
    "one message in a directive": (
        lambda: mine("before_turn", lambda ctx: EnqueueMessages(PluginMessage(role="user", content="x"))),  # type: ignore[arg-type]  # the slip
        "plugin `mine`, hook `lash_before_turn`: *: put it into a tuple",
    ),
    "something else in a directive": (
        lambda: mine("before_turn", lambda ctx: EnqueueMessages({"text": "x"})),  # type: ignore[arg-type]  # the slip
        'plugin `mine`, hook `lash_before_turn`: *: write `(PluginMessage(role="user", content="…"),)`',
    ),
    "a note that is no text": (
        lambda: mine("checkpoint", lambda ctx: EnqueueMessages.note(5)),  # type: ignore[arg-type]  # the slip
        "plugin `mine`, hook `lash_checkpoint`: TypeError: `PluginMessage.content` must be text, and is a `int` (5)",
    ),
    "a message without its text": (
        lambda: mine("checkpoint", lambda ctx: EnqueueMessages((PluginMessage(role="user"),))),  # type: ignore[call-arg]  # the slip
        "plugin `mine`, hook `lash_checkpoint`: a `PluginMessage` was made without `content`: "
        "write `PluginMessage(role=…, content=…)`",
    ),
    "fields without names": (
        lambda: mine("checkpoint", lambda ctx: EnqueueMessages((PluginMessage("user", "x"),))),  # type: ignore[misc]  # the slip
        "plugin `mine`, hook `lash_checkpoint`: a `PluginMessage` was made with fields that have no name: "
        "write `PluginMessage(role=…, content=…)`",
    ),
    "a field that there isn't": (
        lambda: mine("checkpoint", lambda ctx: AbortTurn(code="c", text="t")),  # type: ignore[call-arg]  # the slip
        "plugin `mine`, hook `lash_checkpoint`: a `AbortTurn` has no `text`, but `code`, `message`: "
        "write `AbortTurn(code=…, message=…)`",
    ),
    "the model's role": (
        lambda: mine("checkpoint", lambda ctx: EnqueueMessages((PluginMessage(role="assistant", content="x"),))),
        "plugin `mine`, hook `lash_checkpoint`: a message of its `EnqueueMessages` has the role `assistant`, which "
        "can't be enqueued; use user or system",
    ),
    "a checkpoint that says no way on": (
        lambda: forgetful(lambda: StartCheckpoint(kind=KIND)),  # type: ignore[call-arg]  # the slip
        "the protocol driver of mode `paced` (plugin `mine`) failed: "
        "a `StartCheckpoint` was made without `on_empty`: write `StartCheckpoint(kind=…, on_empty=…)`",
    ),
    "a checkpoint whose way on is none": (
        lambda: forgetful(lambda: StartCheckpoint(kind=KIND, on_empty=None)),  # type: ignore[arg-type]  # the slip
        "the protocol driver of mode `paced` (plugins `mine`, `mode-standard`) failed: "
        "`prepare_protocol_iteration`: `on_empty` must prepare the iteration, ask the model or end the turn, got None",
    ),
    "a hook that forgets to await": (
        lambda: mine("before_turn", forgets),
        "plugin `mine`, hook `lash_before_turn`: returned a `coroutine`; *: put `await` before the call of `inner`",
    ),
    "a tool that forgets to await": (
        lambda: mine("tools", lambda ctx: [count]),
        "the tool returned a `coroutine`, which has no JSON form: put `await` before the call of `inner`",
    ),
    "a connection that yields its tools": (
        lambda: toolset(gives([])),
        "`connect` yields a `list`: let it yield an async function that returns the tools",
    ),
    "a connection that lists without async": (
        lambda: toolset(gives(lambda: list[Tool]())),
        "`connect` yields a function that returns a `list`: let it yield an async function that returns the tools",
    ),
}


@pytest.mark.parametrize("case", TURNS)
async def test_a_slip_is_told_in_the_turn(case: str) -> None:
    made, message = TURNS[case]
    calls = [Reply(tool_calls=[Call("count", {})])] if "tool" in case.split() else []
    name = "paced" if "checkpoint" in case.split() else "standard"
    async with agent([*calls, "Done."], plugins=[made()], mode=name) as lash:
        session = await lash.session("s")
        turn = await session.run("Go")
        outcomes = [each.output.outcome for each in turn.tool_calls]
        told = [each.message for each in turn.errors] + [*(await session.tools()).absent.values()]
        told += [each.message for each in outcomes if isinstance(each, ToolCallFailure)]
    first, _, last = message.partition("*")
    assert [each for each in told if each.startswith(first) and each.endswith(last)], told
