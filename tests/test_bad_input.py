"""What is bad beyond repair: each is answered with an error that says what to do, and the session goes on afterwards.

The first table is of turns: the model, or a person, reads what went wrong, and the session's next turn is as any other.
The second is of what stops a session or host before any turn: it says how to start all the same, and that works.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import agent, plugin
from attrs import frozen

from lash_framework.lock import LOCK_NAME
from lash_framework.settings import load_settings
from lash_framework.tool_calls import MAX_FAILURE_CHARS, MAX_RESULT_BYTES
from lash_hookspecs import (
    AssembledTurn,
    CreateSession,
    FailControl,
    FinishControl,
    HandoffSession,
    ReplaceToolArgs,
    SessionStateSpec,
    ToolCallCancelled,
    ToolCallFailure,
    ToolCallOutput,
    ToolCallSuccess,
    ToolError,
    ToolFailureClass,
    ToolManifest,
    tool,
)
from lash_hookspecs.errors import LashError
from lash_plugin_provider_scripted import Call, Reply

# ---- turns ----------------------------------------------------------------------------------------------------------


class Tool:
    """A tool that is told what to do, with any schema."""

    def __init__(self, function: Callable[[], Any] = lambda: "ok", schema: Mapping[str, Any] | None = None) -> None:
        self.manifest = ToolManifest(name="look", input_schema=dict(schema or {"type": "object"}))
        self.calls = 0
        self._function = function

    async def call(self, ctx: object, args: object) -> Any:
        self.calls += 1
        return self._function()

    def lash_tools(self) -> list[Tool]:
        return [self]


def hook(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    function.__name__ = f"lash_{name}"
    return function


def offering(made: Any, *hooks: Callable[..., Any], **info: Any) -> object:
    return plugin("bad", hook("tools", lambda: [made]), *hooks, **info)


def raises(error: Exception) -> Any:
    raise error


def failed(**control: Any) -> ToolCallOutput:
    outcome = ToolCallFailure(failure_class=ToolFailureClass.EXECUTION, code="no", message="it did not work")
    return ToolCallOutput(outcome, **control)


def nested(levels: int) -> Any:
    data: Any = {}
    for _ in range(levels):
        data = {"children": [data]}
    return data


@frozen
class Tree:
    """Holds its like."""

    children: tuple[Tree, ...] = ()


@tool(name="look")
def plant(tree: Tree) -> str:
    """Plant a tree."""
    return "ok"


@frozen
class Loose:
    """A state that takes anything."""

    value: Any = None


def state(value: Any) -> tuple[Callable[..., Any], ...]:
    """A plugin that remembers this, in the first turn only."""
    declared = SessionStateSpec(state=Loose)
    remember = hook("before_turn", lambda ctx: ctx.set_state(Loose(value)) if not ctx.turn_index else None)
    return hook("session_state", lambda: declared), remember


def own_turn() -> Callable[..., Any]:
    """A hook that runs a turn of the session whose turn waits for it."""

    async def lash_before_turn(ctx: Any) -> None:
        if not ctx.turn_index:
            await OPEN[0].run("And this?")

    return lash_before_turn


def own_turn_by_another() -> Callable[..., Any]:
    """The same, by way of another session's turn."""

    async def lash_before_turn(ctx: Any) -> None:
        if ctx.session_id == "s" and not ctx.turn_index:
            (issue,) = (await OPEN[1].run("And you?")).errors
            raise RuntimeError(f"the other session's turn failed: {issue.message}")
        elif ctx.session_id == "other":
            await OPEN[0].run("And you?")

    return lash_before_turn


def each_waits() -> list[object]:
    """Two plugins, each of which goes on when the other has."""
    one, other = anyio.Event(), anyio.Event()

    def waits(mine: anyio.Event, its: anyio.Event) -> Callable[..., Any]:
        async def lash_before_turn(ctx: Any) -> None:
            if not ctx.turn_index:
                await its.wait()
                mine.set()

        return lash_before_turn

    limits = {"hook_limit_s": 0.01}
    return [plugin("bad", waits(one, other), **limits), plugin("worse", waits(other, one), **limits)]


def changing(plugin_id: str, text: str) -> object:
    return plugin(plugin_id, hook("before_tool_call", lambda: ReplaceToolArgs({"text": text})))


OPEN: list[Any] = []
"""The sessions that are open while a case runs."""

MUCH = "x" * 50_000_000

TURNS: dict[str, tuple[Callable[[], list[object]], str, Any]] = {
    # name: plugins, the message (a pattern), the arguments of the call that the model makes; None: it makes none
    "a schema that is nothing but itself": (
        lambda: [offering(Tool(schema={"$ref": "#"}))],
        "the input schema of tool `look` (plugin `bad`) is broken: a reference leads to itself without going down into "
        "the data; it would never end",
        {},
    ),
    "two schemas that are each other": (
        lambda: [offering(Tool(schema={"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#"}]}}}))],
        "the input schema of tool `look` (plugin `bad`) is broken: *leads to itself*",
        {},
    ),
    "arguments of a recursive schema, deeper than JSON goes": (
        lambda: [offering(plant)],
        "The arguments of this call to `look` are not a JSON object, so it was not run. Call it again with one JSON "
        "object that fits the tool's schema.",
        {"tree": nested(100)},
    ),
    "50 MB": (
        lambda: [offering(Tool(lambda: MUCH))],
        f"the result has 50,000,002 bytes, and may have {MAX_RESULT_BYTES:,}: ask for less, or for a part",
        {},
    ),
    "50 MB in many pieces": (
        lambda: [offering(Tool(lambda: {"rows": [MUCH[:1_000_000]] * 50}))],
        f"the result has 50,000,160 bytes, and may have {MAX_RESULT_BYTES:,}: ask for less, or for a part",
        {},
    ),
    "50 MB of an error's text": (
        lambda: [offering(Tool(lambda: raises(ToolError(MUCH))))],
        f"{MUCH[:MAX_FAILURE_CHARS]} … (and {len(MUCH) - MAX_FAILURE_CHARS} more characters)",
        {},
    ),
    "a failure that wants to finish the turn": (
        lambda: [offering(Tool(lambda: failed(control=FinishControl("all is well"))))],
        "it did not work (its `FinishControl` is dropped, and the turn goes on: it counts with a success only)",
        {},
    ),
    "a failure that wants to fail the turn": (
        lambda: [offering(Tool(lambda: failed(control=FailControl("give up"))))],
        "it did not work (its `FailControl` is dropped, and the turn goes on: it counts with a success only)",
        {},
    ),
    "a failure that wants to hand the turn off": (
        lambda: [offering(Tool(lambda: failed(control=HandoffSession("go", CreateSession(key="other")))))],
        "it did not work (its `HandoffSession` is dropped, and the turn goes on: it counts with a success only)",
        {},
    ),
    "a call that says it was stopped, and wants to finish the turn": (
        lambda: [offering(Tool(lambda: ToolCallOutput(ToolCallCancelled(message="no time"), FinishControl(1))))],
        "no time (its `FinishControl` is dropped, and the turn goes on: it counts with a success only)",
        {},
    ),
    "a control that can't be stored": (
        lambda: [offering(Tool(lambda: ToolCallOutput(ToolCallSuccess(1), FinishControl(object()))))],
        "the tool returned a `ToolCallOutput`, which has no JSON form: *",
        {},
    ),
    "a hook that runs a turn of its own session": (
        lambda: [plugin("bad", own_turn())],
        "plugin `bad`, hook `lash_before_turn`: SessionBusy: a tool or hook of session `s` can't run a turn or append "
        "on the session that waits for it; use another session, or `EnqueueMessages`",
        None,
    ),
    "the same by way of another session": (
        lambda: [plugin("bad", own_turn_by_another())],
        "plugin `bad`, hook `lash_before_turn`: RuntimeError: the other session's turn failed: *a tool or hook of "
        "session `s` can't run a turn or append on the session that waits for it*",
        None,
    ),
    "two plugins that wait for each other": (
        each_waits,
        "plugin `bad`, hook `lash_before_turn`: took longer than 0.01 s and was cancelled; does it wait for another "
        "plugin, or for this turn? Who has to wait longer says so with `PluginInfo(hook_limit_s=…)`",
        None,
    ),
    "two plugins that want other arguments": (
        lambda: [offering(Tool()), changing("one", "1"), changing("other", "2")],
        "`look` was not called: plugins `one` and `other` both change its arguments, each time in another way; "
        "let one change say all, or switch one of the plugins off",
        {},
    ),
    "a state that is no data": (
        lambda: [plugin("bad", *state(object()))],
        "plugin `bad`, hook `lash_session_state`: its state *",
        None,
    ),
    "a state that holds itself": (
        lambda: [plugin("bad", *state(_circle()))],
        "plugin `bad`, hook `lash_session_state`: its state *",
        None,
    ),
    "a state that no text can hold": (
        lambda: [plugin("bad", *state("\ud800"))],
        "plugin `bad`, hook `lash_session_state`: its state *",
        None,
    ),
}


def _circle() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


def told(turn: AssembledTurn) -> list[str]:
    """All that the turn says went wrong."""
    outcomes = [each.output.outcome for each in turn.tool_calls]
    failed = [each.message for each in outcomes if not isinstance(each, ToolCallSuccess)]
    return failed + [each.message for each in turn.errors]


def says(pattern: str, text: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None


@pytest.mark.parametrize("case", TURNS)
async def test_a_turn_says_what_was_bad_and_the_next_one_is_as_any_other(case: str) -> None:
    made, message, args = TURNS[case]
    script: list[Any] = ["Done."] if args is None else [Reply(tool_calls=[Call("look", args)]), "Done."]
    async with agent([*script, "Fine."] + ["Fine."] * 4, plugins=made()) as lash:
        session = await lash.session("s")
        OPEN[:] = [session, await lash.session("other")]
        turn = await session.run("Go")
        assert [text for text in told(turn) if says(message, text)], [text[:1000] for text in told(turn)]
        assert turn.is_success is (args is not None), "the model goes on with a call that failed, and nothing else"
        assert turn.text == ("" if args is None else "Done."), "nothing but the model's answer ended it"
        again = await session.run("And now?")
        assert (again.is_success, told(again)) == (True, [])
    OPEN.clear()


# ---- before any turn ------------------------------------------------------------------------------------------------


@frozen
class Tally:
    """A state that was stored by an older version."""

    total: int = 0


def counting(version: int, migrate: Callable[[int, Any], Any] | None = None) -> object:
    spec = SessionStateSpec(state=Tally, version=version, migrate=migrate)
    count = hook("before_turn", lambda ctx: ctx.set_state(Tally(ctx.state.total + 1)))
    return plugin("bad", hook("session_state", lambda: spec), count)


MIGRATIONS: dict[str, tuple[Any, str]] = {
    "raises": (lambda old, data: data["nothing like it"], "`migrate` failed on version 1: KeyError: 'nothing like it'"),
    "recurses": (lambda old, data: (f := lambda: f())(), "`migrate` failed on version 1: RecursionError: "),
    "gives something else": (lambda old, data: data, "`migrate` returned a `dict`, not a `Tally`"),
    "is missing": (None, "is of version 1 of `Tally`, the plugin has 2 and no `migrate`"),
}


@pytest.mark.parametrize("case", MIGRATIONS)
async def test_a_migration_that_fails_names_its_plugin_and_loses_nothing(case: str, tmp_path: Path) -> None:
    """The session opens without the plugin, and with a better one again, which finds what was stored."""
    migrate, message = MIGRATIONS[case]
    store = f"sqlite:///{tmp_path / 'sessions.db'}"

    async def run(*plugins: object) -> AssembledTurn:
        # What could not be run was accepted all the same, so the next host begins with it.
        async with agent(["Yes."] * 3, store=store, plugins=plugins) as lash:
            return await (await lash.session("s")).run("Hello")

    assert (await run(counting(1))).is_success
    with pytest.raises(LashError, match=re.escape(message)) as caught:
        await run(counting(2, migrate))
    assert str(caught.value).startswith("plugin `bad`, hook `lash_session_state`: ")
    assert (await run()).is_success
    seen: list[Any] = []
    turn = await run(counting(2, lambda old, data: seen.append(data) or Tally(**data)))
    assert turn.is_success, told(turn)
    assert seen == [{"total": 1}]


MODES: dict[str, tuple[list[str], str]] = {
    "itself": (
        ["modes.m.extends=m"],
        "mode `m` of lash.toml extends itself, and no plugin here offers one like it: install the plugin that does, "
        "or drop `extends`",
    ),
    "itself by another": (
        ["modes.m.extends=n", "modes.n.extends=m"],
        "modes extend each other in a circle: `m` extends `n` extends `m`",
    ),
}


@pytest.mark.parametrize("case", MODES)
async def test_a_mode_that_extends_itself_is_named_and_the_others_work(case: str) -> None:
    sets, message = MODES[case]
    async with agent(["Yes."], settings=load_settings(env={}, sets=sets)) as lash:
        with pytest.raises(LashError) as caught:
            await lash.session("s", mode="m")
        assert str(caught.value) == message
        assert (await (await lash.session("s", mode="standard")).run("Hello")).is_success


FOREIGN = {"version": "1", "distribution": "elsewhere", "hooks": [], "tools": [], "registers": [], "capabilities": []}

LOCKS: dict[str, tuple[bytes, str]] = {
    "corrupt": (b'{"format": 1,\n"plu', ":2: the plugins' lock is damaged (*); write it anew with `lash plugins lock`"),
    "newer": (
        b'{"format": 7, "plugins": "as nobody knows yet"}',
        ": the plugins' lock has format 7, and this lash reads 1: upgrade `lash-framework`, or write it anew with "
        "`lash plugins lock`",
    ),
    "of another machine": (
        json.dumps({"format": 1, "plugins": {"calendar": FOREIGN}}).encode(),
        ": the plugins here are not those that were locked:*the lock may be of another machine: `calendar` of it is "
        "not installed here*to accept this, run `lash plugins lock` again and read what it says; to keep a plugin out, "
        "name it in `plugins.disabled`",
    ),
}


@pytest.mark.parametrize("case", LOCKS)
async def test_a_lock_that_is_none_of_this_machine_says_so_and_can_be_put_off(case: str, tmp_path: Path) -> None:
    data, message = LOCKS[case]
    (tmp_path / "lash.toml").write_text("")
    (tmp_path / LOCK_NAME).write_bytes(data)
    settings = load_settings(tmp_path / "lash.toml", env={})
    with pytest.raises(LashError) as caught:
        async with agent(["Yes."], settings=settings):
            pass
    assert says(f"*{LOCK_NAME}{message}", str(caught.value)), str(caught.value)
    settings = load_settings(tmp_path / "lash.toml", env={}, sets=["plugins.lock=off"])
    async with agent(["Yes."], settings=settings) as lash:
        assert (await (await lash.session("s")).run("Hello")).is_success
