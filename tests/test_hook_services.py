"""The services of hooks and tools: which hook has which, as the table says, and what they do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import agent, plugin
from attrs import frozen

from lash_framework import Lash
from lash_framework.settings import load_settings
from lash_hookspecs import (
    SERVICES,
    AppendedNodes,
    AppendSessionNodesRequest,
    AskPerson,
    AssembledTurn,
    AttachmentRef,
    CapabilityMissing,
    CompactRequest,
    CompositionContext,
    HostContext,
    LashError,
    LlmRequest,
    SessionAppendNode,
    SessionBusy,
    SessionCreateRequest,
    SessionStateSpec,
    StaleBranch,
    ToolCallContext,
    TurnInput,
    TurnSuspended,
    UnknownName,
    tool,
)
from lash_hookspecs.hook_services import TOOLS
from lash_hookspecs.specs import HOOKS
from lash_plugin_provider_scripted import Call, Reply

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "hooks.md"
ALL = ("sessions", "completions", "lifecycle", "graph", "blobs")
QUIET = load_settings(env={}, sets=["plugins.disabled=hello"])


async def run(lash: Lash, text: str = "Hello", session_id: str = "s") -> AssembledTurn:
    return await (await lash.session(session_id)).run(text)


# ---- the table ------------------------------------------------------------------------------------------------------


def offered(ctx: Any, hook: str = "") -> tuple[str, ...]:
    """The services that a `ctx` has; all others say where they are, and where they aren't."""
    found = []
    for name in ALL:
        try:
            assert getattr(ctx, name) is not None
            found.append(name)
        except CapabilityMissing as error:
            refusal = str(error)
        else:
            continue
        here = "here" if not hook else "in tools" if hook == TOOLS else f"in `{hook}`"
        assert refusal.startswith(f"`ctx.{name}` is unavailable {here}; it is available in ")
        assert all(each in refusal for each, names in SERVICES.items() if name in names)
    return tuple(found)


HOOKS_WITH_CTX = sorted(name for name in HOOKS if name not in ("lash_lifespan",) and HOOKS[name].runner != "register")


async def test_every_hook_has_exactly_the_services_of_the_table() -> None:
    """Each hook is called once at least, in a session with tools, a compaction and another policy."""
    seen: dict[str, tuple[str, ...]] = {}

    def looks(name: str) -> Any:
        async def call(ctx: Any) -> None:
            seen[name] = offered(ctx, name)

        def at_once(ctx: Any) -> None:  # when a mode is composed: of which hook a `ctx` is, it doesn't know
            seen[name] = offered(ctx)

        async def around(ctx: Any, call_next: Any) -> Any:
            seen[name] = offered(ctx, name)
            return await call_next()

        async def asks(ctx: Any) -> Any:  # so that there is an answer to be told of
            seen[name] = offered(ctx, name)
            return AskPerson("May it?")

        special = {"lash_around_effect": around, "lash_before_tool_call": asks}
        made = special.get(name, at_once if HOOKS[name].sync else call)
        made.__name__ = name
        return made

    @tool
    async def look(ctx: Any) -> str:
        "Look."
        seen[TOOLS] = offered(ctx, TOOLS)
        return "seen"

    script = [Reply(tool_calls=[Call("look", {}, "a")]), "Done.", "Done again."]
    async with agent(script, plugins=[plugin("looks", *map(looks, HOOKS_WITH_CTX))], tools=[look]) as lash:
        session = await lash.session("s")
        await session.configure(max_turns=7)
        with pytest.raises(TurnSuspended) as waits:
            await session.run("Hello", turn_id="t")
        await lash.answer(waits.value.keys[0], "allow")
        assert (await session.run("Hello", turn_id="t")).is_success
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


# ---- other sessions -------------------------------------------------------------------------------------------------


async def test_a_tool_creates_a_session_and_runs_turns_on_it_each_id_once() -> None:
    found: list[Any] = []

    @tool
    async def delegate(ctx: Any) -> str:
        "Delegate."
        wanted = SessionCreateRequest(session_id="child", instructions="Be brief.", max_turns=3)
        found.append(await ctx.lifecycle.create_session(wanted))
        found.append(await ctx.lifecycle.start_turn("child", "child-1", "Help."))
        found.append(await ctx.lifecycle.start_turn("child", "child-1", "Help."))
        await ctx.lifecycle.close_session("child")
        return str(found[-1].text)

    asked: list[LlmRequest] = []

    def say(request: LlmRequest) -> Reply:
        asked.append(request)
        return Reply(tool_calls=[Call("delegate", {}, "a")]) if len(asked) == 1 else Reply(text=f"Done {len(asked)}.")

    async with agent(say, tools=[delegate], settings=QUIET) as lash:
        turn = await run(lash)
        child = await (await lash.session("child")).messages()
    handle, first, again = found
    assert (handle.session_id, handle.policy.max_turns, handle.is_stored) == ("child", 3, False)
    assert turn.is_success, turn.errors
    assert first == again
    assert first.text == "Done 2."
    assert [each.text for each in child] == ["Help.", "Done 2."]
    assert len(asked) == 3
    assert first.usage.input == 10
    assert turn.token_usage.input == 20
    assert [(each.model, each.usage.input) for each in turn.children_usage] == [("test:model", 10)]
    assert turn.usage.input == 30  # once, though the tool asked for it twice


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("own", "the session that waits for it"),
        ("absent", "unknown session `absent`"),
        ("blank", "the turn id is blank"),
        ("blank session", "the session id is blank"),
        ("close own", "is running a turn"),
    ],
)
async def test_what_a_tool_cant_do_with_sessions(what: str, says: str) -> None:
    errors: list[str] = []

    @tool
    async def delegate(ctx: Any) -> None:
        "Delegate."
        try:
            match what:
                case "own":
                    await ctx.lifecycle.start_turn("s", "t-2", "Help.")
                case "absent":
                    await ctx.lifecycle.start_turn("absent", "t-2", "Help.")
                case "blank":
                    await ctx.lifecycle.create_session(SessionCreateRequest(session_id="child"))
                    await ctx.lifecycle.start_turn("child", " ", "Help.")
                case "blank session":
                    await ctx.lifecycle.create_session(SessionCreateRequest(session_id=" "))
                case "close own":
                    await ctx.lifecycle.close_session("s")
        except LashError as error:
            errors.append(str(error))

    async with agent([Reply(tool_calls=[Call("delegate", {}, "a")]), "Done."], tools=[delegate]) as lash:
        assert (await run(lash)).is_success
    assert says in "".join(errors)


async def test_two_tools_that_want_each_others_sessions_dont_wait_for_each_other() -> None:
    """Each session runs a turn: whoever waited would wait for ever."""
    begun = {"one": anyio.Event(), "two": anyio.Event()}
    over, refused = anyio.Event(), list[str]()

    @tool
    async def reach(ctx: Any) -> None:
        "Reach."
        other = {"one": "two", "two": "one"}[ctx.session_id]
        begun[ctx.session_id].set()
        await begun[other].wait()
        try:
            await ctx.lifecycle.start_turn(other, f"by-{ctx.session_id}", "Help.")
        except SessionBusy as error:
            refused.append(str(error))
        if len(refused) == 2:
            over.set()
        await over.wait()

    def say(request: LlmRequest) -> Reply:
        said = any(each.role == "assistant" for each in request.messages[-2:])
        return Reply(text="Done.") if said else Reply(tool_calls=[Call("reach", {}, "a")])

    async with agent(say, tools=[reach]) as lash:
        for each in begun:  # so that they are known
            await (await lash.session(each)).append(
                AppendSessionNodesRequest(operation_id="o", nodes=(SessionAppendNode.user("m", "Before."),))
            )
        with anyio.fail_after(30):
            async with anyio.create_task_group() as group:
                for each in begun:
                    group.start_soon(run, lash, "Go.", each)
    assert len(refused) == 2


async def test_who_learns_of_a_commit_appends_once_per_operation_and_says_what_it_follows() -> None:
    results: list[Any] = []

    async def lash_turn_committed(ctx: Any, turn: AssembledTurn) -> None:
        if turn.turn_id != "first":
            return
        leaf = turn.state.leaf_node_id
        for operation, ancestor in [("note", leaf), ("note", leaf), ("stale", "no such node")]:
            note = SessionAppendNode.user(f"m-{operation}", "Noted.")
            wanted = AppendSessionNodesRequest(
                operation_id=operation, nodes=(note,), requires_ancestor_node_id=ancestor
            )
            results.append(await ctx.graph.append_session_nodes(ctx.session_id, wanted))
        with pytest.raises(UnknownName, match="unknown session `absent`"):
            await ctx.graph.append_session_nodes("absent", wanted)
        await ctx.lifecycle.create_session(SessionCreateRequest(session_id="child"))
        results.append(await ctx.lifecycle.start_turn("child", "child-1", "Help."))

    async with agent(lambda request: Reply(text="Done."), plugins=[plugin("notes", lash_turn_committed)]) as lash:
        session = await lash.session("s")
        turn = await session.run("Hello", turn_id="first")
        assert turn.errors == ()
        said = [each.text for each in await session.messages()]
        again = await session.run("Again")
    one, same, stale, child = results
    assert isinstance(one, AppendedNodes)
    assert one == same
    assert isinstance(stale, StaleBranch)
    assert child.text == "Done."
    assert said == ["Hello", "Done.", "Noted."]
    assert again.state.turn_index == 2


# ---- bytes ----------------------------------------------------------------------------------------------------------


@frozen
class Kept:
    """What a plugin remembers: references, however deep."""

    outputs: tuple[AttachmentRef, ...] = ()


async def test_bytes_are_kept_with_the_session_whose_plugin_remembers_them() -> None:
    """And given up with it: others, which nobody remembers, are kept for a day only."""
    put: list[AttachmentRef] = []
    read: list[bytes | None] = []

    def lash_session_state() -> SessionStateSpec:
        return SessionStateSpec(state=Kept)

    async def lash_tool_result_view(ctx: Any, call: Any, view: Any) -> None:
        put.extend([await ctx.blobs.put(text, "text/plain") for text in (b"remembered", b"forgotten")])
        ctx.set_state(Kept((*ctx.state.outputs, put[0])))

    @tool
    async def look(ctx: ToolCallContext) -> str:
        "Look."
        read.extend([await ctx.blobs.get(each) for each in put])
        return "seen"

    def script(request: LlmRequest) -> Reply:
        last = request.messages[-1].blocks[0].tag
        return Reply(text="Done.") if last == "tool_result" else Reply(tool_calls=[Call("look", {}, "a")])

    keeper = plugin("keeper", lash_session_state, lash_tool_result_view)
    adopted: list[tuple[str, ...]] = []
    async with agent(script, plugins=[keeper], tools=[look]) as lash:
        store: Any = lash.store
        commit = store.commit

        async def watched(made: Any, *rest: Any) -> Any:
            adopted.append(made.adopted_blobs)
            return await commit(made, *rest)

        store.commit = watched
        await run(lash, "one")
        await run(lash, "two")
    assert put[0].size == len(b"remembered")
    assert read == [b"remembered", b"forgotten"]
    assert put[0].id in adopted[0]
    assert put[1].id not in adopted[0]
    assert put[0].id not in adopted[1]  # it is the session's by then
