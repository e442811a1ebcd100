"""The services of hooks and tools: which hook has which, as the table says, and what they do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from agents import agent, plugin

from lash_framework import Lash
from lash_framework.settings import load_settings
from lash_hookspecs import (
    SERVICES,
    AssembledTurn,
    CapabilityMissing,
    CompactRequest,
    CompositionContext,
    HostContext,
    LlmRequest,
    ToolCallContext,
    TurnInput,
    UnknownName,
    tool,
)
from lash_hookspecs.hook_services import TOOLS
from lash_hookspecs.specs import HOOKS
from lash_plugin_provider_scripted import Call, Reply

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "hooks.md"
ALL = ("sessions", "completions", "lifecycle", "graph")
QUIET = load_settings(env={}, sets=["plugins.disabled=hello"])


async def run(lash: Lash, text: str = "Hello", session_id: str = "s") -> AssembledTurn:
    return await (await lash.session(session_id)).run(text)


# ---- the table ------------------------------------------------------------------------------------------------------


def offered(ctx: Any) -> tuple[str, ...]:
    """The services that a `ctx` has; all others say where they are."""
    found = []
    for name in ALL:
        try:
            assert getattr(ctx, name) is not None
            found.append(name)
        except CapabilityMissing as error:
            refusal = str(error)
        else:
            continue
        assert refusal.startswith(f"`ctx.{name}` is unavailable ")
        assert all(each in refusal for each, names in SERVICES.items() if name in names)
    return tuple(found)


HOOKS_WITH_CTX = sorted(name for name in HOOKS if name not in ("lash_lifespan",) and HOOKS[name].runner != "register")


async def test_every_hook_has_exactly_the_services_of_the_table() -> None:
    """Each hook is called once at least, in a session with tools, a compaction and another policy."""
    seen: dict[str, tuple[str, ...]] = {}

    def looks(name: str) -> Any:
        async def call(ctx: Any) -> None:
            seen[name] = offered(ctx)

        def at_once(ctx: Any) -> None:
            seen[name] = offered(ctx)

        async def around(ctx: Any, call_next: Any) -> Any:
            seen[name] = offered(ctx)
            return await call_next()

        made = around if name == "lash_around_effect" else at_once if HOOKS[name].sync else call
        made.__name__ = name
        return made

    @tool
    async def look(ctx: Any) -> str:
        "Look."
        seen[TOOLS] = offered(ctx)
        return "seen"

    script = [Reply(tool_calls=[Call("look", {}, "a")]), "Done.", "Done again."]
    async with agent(script, plugins=[plugin("looks", *map(looks, HOOKS_WITH_CTX))], tools=[look]) as lash:
        session = await lash.session("s")
        await session.configure(max_turns=7)
        assert (await session.run("Hello")).is_success
        await session.run(TurnInput(compact=CompactRequest()))
    assert set(seen) == {*HOOKS_WITH_CTX, TOOLS}
    for name, found in seen.items():
        assert set(found) == set(SERVICES.get(name, ())), name


def test_contexts_without_a_session_have_none() -> None:
    assert offered(HostContext(plugin_id="p")) == ()
    assert offered(CompositionContext(plugin_id="p", mode_id="m")) == ()


def test_an_embedding_without_services_says_so() -> None:
    ctx = ToolCallContext(session_id="s", turn_id="t", call_id="c", tool_name="n", plugin_id="p", idempotency_key="k")
    with pytest.raises(CapabilityMissing, match=r"^`ctx.completions` is unavailable in this runtime$"):
        _ = ctx.completions


def test_the_table_is_that_of_the_documentation() -> None:
    """`docs/reference/hooks.md` has it by service."""
    assert set(SERVICES) - {TOOLS} <= set(HOOKS)
    page = PAGE.read_text(encoding="utf-8")
    for name in ALL:
        (row,) = re.findall(rf"^\| `ctx\.{name}` .*$", page, re.MULTILINE)
        where = {*re.findall(r"`(lash_\w+)`", row), *([TOOLS] if "tools" in row.rpartition("|")[0] else [])}
        assert where == {each for each, names in SERVICES.items() if name in names}, name


# ---- reading --------------------------------------------------------------------------------------------------------


async def test_a_hook_reads_the_session_as_it_stands_and_others_as_they_are_stored() -> None:
    found: dict[str, Any] = {}

    async def lash_checkpoint(ctx: Any) -> None:
        found["here"] = await ctx.sessions.snapshot_current()
        found["same"] = await ctx.sessions.snapshot_session("s")
        found["tools"] = await ctx.sessions.tool_state()
        if ctx.turn_index:
            found["other"] = await ctx.sessions.snapshot_session("other")
        else:
            with pytest.raises(UnknownName, match="unknown session `other`"):
                await ctx.sessions.snapshot_session("other")

    async def lash_turn_committed(ctx: Any) -> None:
        found["committed"] = await ctx.sessions.snapshot_current()

    @tool
    def look() -> str:
        "Look."
        return "seen"

    def say(request: LlmRequest) -> Reply:
        return Reply(text="Done.")

    reads = plugin("reads", lash_checkpoint, lash_turn_committed)
    async with agent(say, plugins=[reads], tools=[look]) as lash:
        await run(lash)
        here = found["here"]
        assert [each.text for each in here.messages] == ["Hello", "Done."]
        assert (here.session_id, here.state.turn_index, here.usage.entries) == ("s", 0, ())
        assert found["same"] == here
        assert "look" in found["tools"].tools
        committed = found["committed"]
        assert committed.state.turn_index == 1
        assert committed.messages == here.messages
        assert committed.usage.total.input == 10


async def test_another_session_is_read_as_it_is_stored() -> None:
    found: list[Any] = []

    async def lash_before_turn(ctx: Any) -> None:
        if ctx.session_id == "s":
            found.append(await ctx.sessions.snapshot_session("other"))

    async with agent(lambda request: Reply(text="Done."), plugins=[plugin("reads", lash_before_turn)]) as lash:
        await run(lash, "Before.", "other")
        assert (await run(lash)).is_success
    (other,) = found
    assert (other.session_id, other.state.turn_index) == ("other", 1)
    assert [each.text for each in other.messages] == ["Before.", "Done."]
