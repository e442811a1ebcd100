"""`lash explain` says what plugins did to a turn: who ended it, handed it off, or changed what was said and shown."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import agent, plugin
from hook_kit import file_store

from lash_framework.settings import load_settings
from lash_hookspecs import (
    AbortTurn,
    CheckpointKind,
    CreateSession,
    EnqueueMessages,
    FailLlmCall,
    FinishControl,
    HandoffSession,
    ToolCallOutput,
    ToolCallSuccess,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply

NEXT = CreateSession(session_id="next")


def hook(name: str, says: Callable[[Any], Any], *, last: bool = False) -> Callable[..., Any]:
    """A hook of that name; a checkpoint only before the turn's completion, where `last` says so."""

    def made(ctx: Any) -> Any:
        return says(ctx) if not last or ctx.kind is CheckpointKind.BEFORE_COMPLETION else None

    def before_model(ctx: Any, request: Any) -> Any:
        return says(ctx)

    def response(ctx: Any, response: Any) -> Any:
        return says(response)

    def prepare(ctx: Any, prepared: Any) -> Any:
        return says(prepared)

    def stream(ctx: Any, chunk: Any) -> Any:
        return says((ctx, chunk))

    async def around(envelope: Any, call_next: Any) -> Any:
        return await says((envelope.command.kind, call_next))

    given = {
        "lash_assistant_stream": stream,
        "lash_around_effect": around,
        "lash_before_llm_call": before_model,
        "lash_assistant_response": response,
        "lash_prepare_context": prepare,
    }
    function = given.get(name, made)
    function.__name__ = name
    return function


def once(ctx: Any) -> Any:
    return EnqueueMessages.note("Think again.") if ctx.iteration < 2 else None


def rewritten(response: Any) -> Any:
    from attrs import evolve

    return evolve(response, full_text="Better.", parts=())


def shorter(prepared: Any) -> Any:
    from attrs import evolve

    return evolve(prepared, messages=prepared.messages[2:]) if len(prepared.messages) else None


def redacts(given: Any) -> Any:
    from attrs import evolve

    _, chunk = given
    return evolve(chunk, text=chunk.text.replace("One", "***"))


def holds_back(given: Any) -> Any:
    """All of the reply comes at its end: late, and as it was."""
    from attrs import evolve

    ctx, chunk = given
    held = ctx.memo.pop("held", "") + chunk.text
    if not chunk.is_last:
        ctx.memo["held"], held = held, ""
    return evolve(chunk, text=held)


def cuts(given: Any) -> Any:
    from attrs import evolve

    return evolve(given[1], abort_stream="too long") if given[1].text else None


async def answers(given: Any) -> Any:
    from attrs import evolve

    kind, call_next = given
    outcome = await call_next()
    return evolve(outcome, result=evolve(outcome.result, full_text="Two.", parts=())) if kind == "llm_call" else outcome


async def measures(given: Any) -> Any:
    from attrs import evolve

    return evolve(await given[1]())


def handed(_: Any) -> Any:
    return HandoffSession("Go on.", NEXT)


def aborts(code: str) -> Callable[[Any], Any]:
    return lambda _: AbortTurn(code, "it is late")


TOLD: dict[str, tuple[list[tuple[str, Any]], list[tuple[str, str]]]] = {
    "nobody": ([], []),
    "ends": ([("a", hook("lash_before_turn", aborts("late")))], [("a", "ended the turn: late")]),
    "ends before the model": (
        [("a", hook("lash_before_llm_call", aborts("late")))],
        [("a", "ended the turn: late")],
    ),
    "two end it": (
        [("a", hook("lash_before_turn", aborts("one"))), ("b", hook("lash_before_turn", aborts("two")))],
        [("a", "wanted to end the turn: one"), ("b", "ended the turn: two")],
    ),
    "hands off": (
        [("a", hook("lash_before_turn", handed))],
        [("a", "handed the turn off to session `next`")],
    ),
    "hands off at its end": (
        [("a", hook("lash_after_turn", lambda _: HandoffSession("Go on.", NEXT)))],
        [("a", "handed the turn off to session `next`")],
    ),
    "an end beats a handoff": (
        [("a", hook("lash_before_turn", handed)), ("b", hook("lash_before_turn", aborts("late")))],
        [("a", "wanted to hand the turn off to session `next`"), ("b", "ended the turn: late")],
    ),
    "adds messages": (
        [("a", hook("lash_checkpoint", once, last=True))],
        [("a", "added messages (2 times)")],
    ),
    "makes a session": ([("a", hook("lash_before_turn", lambda _: NEXT))], [("a", "made session `next`")]),
    "refuses the call": (
        [("a", hook("lash_before_llm_call", lambda _: FailLlmCall("quota", "enough")))],
        [("a", "did not let the model be asked: quota")],
    ),
    "changes the reply": (
        [("a", hook("lash_assistant_response", rewritten))],
        [("a", "changed what the model had answered")],
    ),
    "changes a reply on its way": (
        [("a", hook("lash_assistant_stream", redacts))],
        [("a", "changed a reply on its way to whoever watches")],
    ),
    "only holds it back": ([("a", hook("lash_assistant_stream", holds_back))], []),
    "ends a reply": ([("a", hook("lash_assistant_stream", cuts))], [("a", "ended a reply: too long")]),
    "changes a call": (
        [("a", hook("lash_around_effect", answers)), ("b", hook("lash_around_effect", measures))],
        [("a", "stood around a model call, and changed what came of it")],
    ),
    "changes the view": (
        [("a", hook("lash_prepare_context", shorter))],
        [("a", "changed what the model was shown of the conversation before")],
    ),
    "fails": (
        [("a", hook("lash_before_turn", lambda _: 1 // 0))],
        [("a", "failed: plugin `a`, hook `lash_before_turn`: ZeroDivisionError: integer division or modulo by zero")],
    ),
}


async def acts(tmp_path: Path, script: Any, **options: Any) -> list[tuple[str, str]]:
    """What is said of the second turn of a session, which replays to the same."""
    settings = load_settings(env={}, sets=["durability.keep_journal_h=1"])
    async with agent(script, store=file_store(tmp_path), settings=settings, **options) as lash:
        session = await lash.session("s")
        await session.run("Hello", turn_id="t")
        assert (await lash.replay("t")).differences == ()
        explained = await lash.explain("t")
    return [(each.plugin_id, each.what) for each in explained.acts]


@pytest.mark.parametrize("case", TOLD)
async def test_a_turn_says_what_plugins_did_to_it(case: str, tmp_path: Path) -> None:
    hooks, told = TOLD[case]
    async with agent(["Before."], store=file_store(tmp_path)) as lash:
        await (await lash.session("s")).run("First", turn_id="first")
    plugins = [plugin(plugin_id, function) for plugin_id, function in hooks]
    assert await acts(tmp_path, ["One."] * 4, plugins=plugins) == told


ASK = Reply(tool_calls=[Call("ask", {})])
IN_BATCH = Reply(tool_calls=[Call("batch", {"calls": [{"tool": "ask", "parameters": {}}]})])


@pytest.mark.parametrize("reply", [ASK, IN_BATCH], ids=["alone", "in a batch"])
@pytest.mark.parametrize(
    ("control", "what"),
    [
        (HandoffSession("Go on.", NEXT), "handed the turn off, with tool `ask`"),
        (FinishControl(1), "ended the turn, with tool `ask`"),
        (None, None),
    ],
    ids=["handoff", "finish", "nothing"],
)
async def test_a_tool_that_ends_the_turn_is_named_with_its_plugin(
    control: Any, what: str | None, reply: Reply, tmp_path: Path
) -> None:
    @tool(effect="pure")
    async def ask() -> ToolCallOutput:
        """Ask."""
        return ToolCallOutput(ToolCallSuccess("done"), control)

    def lash_tools() -> list[Any]:
        return [ask]

    found = await acts(tmp_path, [reply, "Done."], plugins=[plugin("asks", lash_tools)])
    assert found == ([("asks", what)] if what else [])


async def test_what_a_hook_around_a_call_has_said_is_counted_once(tmp_path: Path) -> None:
    """It is in the call's record, and said at the next checkpoint."""

    @tool(effect="pure")
    async def ask() -> str:
        """Ask."""
        return "done"

    def lash_after_tool_call(ctx: Any, call: Any, result: Any) -> EnqueueMessages:
        return EnqueueMessages.note("Mind the result.")

    found = await acts(tmp_path, [ASK, "Done."], tools=[ask], plugins=[plugin("minds", lash_after_tool_call)])
    assert found == [("minds", "added messages")]


async def test_who_changed_a_tools_result_from_around_it_is_told_with_the_call(tmp_path: Path) -> None:
    from attrs import evolve

    @tool
    async def look() -> str:
        """Look."""
        return "seen"

    async def says(given: Any) -> Any:
        kind, call_next = given
        outcome = await call_next()
        if kind != "tool_call":
            return outcome
        result = evolve(outcome.launch.result, output=ToolCallOutput(ToolCallSuccess("***")))
        return evolve(outcome, launch=evolve(outcome.launch, result=result))

    settings = load_settings(env={}, sets=["durability.keep_journal_h=1"])
    plugins = [plugin("a", hook("lash_around_effect", says)), plugin("b", hook("lash_around_effect", measures))]
    script = [Reply(tool_calls=[Call("look", {})]), "Done."]
    async with agent(script, store=file_store(tmp_path), settings=settings, plugins=plugins, tools=[look]) as lash:
        await (await lash.session("s")).run("Hello", turn_id="t")
        assert (await lash.replay("t")).differences == ()
        explained = await lash.explain("t")
    assert [(each.plugin_id, each.what) for each in explained.calls] == [("a", "result replaced: around the call")]
    assert explained.acts == ()
