"""The hooks about what a model is shown: `lash_prepare_context` for one turn, `lash_compact` for good."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
from agents import agent, plugin
from attrs import evolve, frozen
from hook_kit import Plugin, Told, asked, failure, file_store, opened, system_prompt
from machine_kit import PICTURE
from test_flat_costs import Meter, metered_store
from test_replay import Records

from lash_framework import Lash, lease_keeper
from lash_framework.settings import load_settings
from lash_framework.testing import Crash, crash_at_every_effect
from lash_hookspecs import (
    AppendSessionNodesRequest,
    CompactRequest,
    ConfigurationError,
    EnqueueMessages,
    FrameSeed,
    LlmCallError,
    LlmRequest,
    LlmTerminalReason,
    Message,
    MessageRole,
    NodeKind,
    Part,
    PartKind,
    PluginError,
    PluginOrigin,
    PreparedContext,
    PromptContribution,
    SessionAppendNode,
    SessionStateSpec,
    Stopped,
    StopReason,
    TokenUsage,
    TurnBlocked,
    TurnInput,
    decode,
    hookimpl,
    text_message,
    tool,
)
from lash_hookspecs.effect_outcomes import RuntimeEffectOutcome, TurnStartOutcome
from lash_plugin_provider_scripted import Call, Reply

SYSTEM, USER = MessageRole.SYSTEM, MessageRole.USER
COMPACT = TurnInput(compact=CompactRequest())


def summary(id: str = "sum", text: str = "SUMMARY") -> Message:
    return text_message(id, SYSTEM, text)


class View(Plugin):
    """Shows what its function makes of the context."""

    def __init__(self, make: Callable[[Any, PreparedContext], Any], id: str = "mine") -> None:
        super().__init__(id)
        self.make = make

    @hookimpl
    async def lash_prepare_context(self, ctx: Any, prepared: PreparedContext) -> Any:
        self.calls.append(ctx)
        return self.make(ctx, prepared)


class Compactor(Plugin):
    """Returns what its function makes of the conversation; counts the calls, also in its state."""

    def __init__(self, make: Callable[[Any], Any] = lambda ctx: FrameSeed(messages=(summary(),))) -> None:
        super().__init__("squeeze")
        self.make = make

    @hookimpl
    def lash_session_state(self) -> SessionStateSpec:
        return SessionStateSpec(state=Count)

    @hookimpl
    async def lash_compact(self, ctx: Any) -> Any:
        self.calls.append((ctx.why, len(ctx.messages), ctx.instructions, ctx.context_window, ctx.context_tokens))
        ctx.set_state(Count(ctx.state.n + 1))
        return self.make(ctx)


@frozen
class Count:
    n: int = 0


async def talk(lash: Lash, *texts: str) -> Any:
    """A session in which these were said."""
    session = await lash.session("s")
    for text in texts:
        assert (await session.run(text)).is_success
    return session


# ---- lash_prepare_context: what is shown ----------------------------------------------------------------------------


async def test_hook_lash_prepare_context_shows_another_history_in_its_turn_only() -> None:
    view = View(lambda ctx, prepared: prepared.showing([summary(), *prepared.messages[-2:]]))
    model = Told(["one", "two", "three"])
    async with opened(view, says=model) as lash:
        session = await talk(lash, "first", "second")
        before = len(await session.messages())
        turn = await session.run("third")
        messages = await session.messages()
    assert turn.is_success
    shown = asked(model)
    assert "SUMMARY" in shown
    assert "second" in shown
    assert "third" in shown
    assert "first" not in shown
    assert [each.text for each in messages] == ["first", "one", "second", "two", "third", "three"]
    assert len(messages) == before + 2  # the plugin's message was for the prompt only
    ctx = view.calls[-1]
    assert (ctx.turn_input.items[0].text, len(ctx.messages), ctx.context_window) == ("third", 4, None)
    assert ctx.context_tokens == 15  # what the last call took, as its provider said


async def test_what_hooks_and_the_result_see_of_the_conversation_is_what_is_stored_not_the_view() -> None:
    seen: list[int] = []

    class Looks(View):
        @hookimpl
        async def lash_checkpoint(self, ctx: Any) -> None:
            seen.append(len(ctx.messages))

    async with opened(Looks(lambda ctx, prepared: prepared.showing(())), says=["one", "two"]) as lash:
        await talk(lash, "first", "second")
    assert seen == [2, 4]


async def test_a_view_holds_in_every_call_of_its_turn_and_costs_what_is_new_in_it() -> None:
    """The same messages come back in each request of the turn, so that what a provider keeps in them is used."""

    @tool
    def look() -> str:
        """Look."""
        return "seen"

    view = View(lambda ctx, prepared: prepared.showing([summary(), *prepared.messages[-1:]]))
    model = Told(["one", Reply(tool_calls=[Call("look")]), Reply(tool_calls=[Call("look")]), "done"])
    async with opened(view, says=model, tools=[look]) as lash:
        await talk(lash, "first", "second")
    first, second, third = model.requests[1:]
    assert [m.blocks[0].text for m in first.messages[1:]] == ["Runtime note: SUMMARY", "one", "second"]
    assert len(view.calls) == 2
    for before, after in ((first, second), (second, third)):
        assert all(a is b for a, b in zip(before.messages, after.messages, strict=False))
        assert len(after.messages) == len(before.messages) + 2


async def test_its_prompt_is_shown_in_all_iterations_of_the_turn_with_its_owner() -> None:
    @tool
    def look() -> str:
        """Look."""
        return "seen"

    hint = PromptContribution(content="Mind the gap.")
    view = View(lambda ctx, prepared: prepared.with_prompt(hint))
    model = Told([Reply(tool_calls=[Call("look")]), "done"])
    async with opened(view, says=model, tools=[look]) as lash:
        session = await lash.session("s")
        turn = await session.run("go", turn_id="t")
        explained = await lash.explain("t")
    assert turn.is_success
    assert all("Mind the gap." in system_prompt(model, call) for call in (0, 1))
    assert [each.plugin_ids for each in explained.prompt if each.text == "Mind the gap."] == [("mine",)]


async def test_a_later_plugin_may_leave_out_of_the_prompt_what_an_earlier_one_added() -> None:
    hint, other = PromptContribution(content="Mind the gap."), PromptContribution(content="Stand back.")
    adds = View(lambda ctx, prepared: prepared.with_prompt(hint, other), "a")
    drops = View(lambda ctx, prepared: evolve(prepared, prompt=prepared.prompt[1:]), "b")
    model = Told(["done"])
    async with opened(adds, drops, says=model) as lash:
        await (await lash.session("s")).run("go", turn_id="t")
        explained = await lash.explain("t")
    assert "Mind the gap." not in system_prompt(model)
    assert [each.plugin_ids for each in explained.prompt if each.text == "Stand back."] == [("a",)]


async def test_each_gets_what_the_one_before_it_returned_and_each_message_its_plugins_name() -> None:
    def add(name: str) -> Callable[[Any, PreparedContext], PreparedContext]:
        return lambda ctx, prepared: prepared.showing([*prepared.messages, summary(name, name)])

    model, records = Told(["one", "two"]), Records()
    async with opened(View(add("a"), "a"), View(add("b"), "b"), View(lambda *_: None, "c"), says=model) as lash:
        session = await talk(lash, "first")
        lash.journalling = None
        lash.effects = records
        await session.run("second")
    (start,) = [each for each in map(read, records.outcomes.values()) if isinstance(each, TurnStartOutcome)]
    assert start.context is not None
    assert start.context.plugin_ids == ("a", "b")
    made = [each.message.origin for each in start.context.pieces or () if each.tag == "made"]
    assert made == [PluginOrigin("a", True), PluginOrigin("b", True)]


def read(body: bytes) -> Any:
    return decode(RuntimeEffectOutcome, body)  # type: ignore[arg-type]  # a union is a type here


# ---- lash_prepare_context: its record -------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [4, 40])
async def test_the_record_names_what_is_kept_and_never_holds_the_history(length: int) -> None:
    said = [SessionAppendNode.user(f"u{at}", f"text {at}") for at in range(length)]
    view = View(lambda ctx, prepared: prepared.showing([prepared.messages[0], summary(), *prepared.messages[2:]]))
    records = Records()
    async with opened(view, says=["one"]) as lash:
        session = await lash.session("s")
        await session.append(AppendSessionNodesRequest(operation_id="a", nodes=tuple(said)))
        lash.journalling, lash.effects = None, records
        await session.run("go")
    (start,) = [each for each in map(read, records.outcomes.values()) if isinstance(each, TurnStartOutcome)]
    assert start.context is not None
    told = [(each.tag, getattr(each, "first", ""), getattr(each, "count", 1)) for each in start.context.pieces or ()]
    assert told == [("kept", "u0", 1), ("made", "", 1), ("kept", "u2", length - 2)]


async def test_a_replay_shows_the_same_and_calls_nobody() -> None:
    async def run(view: View, model: Told, records: Records) -> bytes:
        async with opened(view, says=model) as lash:
            lash.journalling, lash.effects = None, records
            session = await lash.session("s")
            await session.append(
                AppendSessionNodesRequest(operation_id="a", nodes=(SessionAppendNode.user("u0", "first"),))
            )
            await session.run("go", turn_id="t")
            return (await lash.store.list_receipts("s", limit=1))[0].result

    records = Records()
    live = View(lambda ctx, prepared: prepared.showing([summary()]).with_prompt(PromptContribution(content="Hm.")))
    model = Told(["one"])
    committed = await run(live, model, records)
    replay, again, silent = evolve(records, ran=[]), View(lambda *_: 1 / 0), Told([])
    assert await run(again, silent, replay) == committed
    assert (replay.ran, again.calls, silent.requests) == ([], [], [])
    assert "SUMMARY" in asked(model)


# ---- lash_prepare_context: what goes wrong --------------------------------------------------------------------------


def result_alone(ctx: Any, prepared: PreparedContext) -> PreparedContext:
    part = Part(id="r.p0", kind=PartKind.TOOL_RESULT, content="x", tool_call_id="c1", tool_name="look")
    return prepared.showing([Message(id="r", role=USER, parts=(part,))])


def lost_image(ctx: Any, prepared: PreparedContext) -> PreparedContext:
    part = Part(id="i.p0", kind=PartKind.IMAGE, content="", attachment=PICTURE)
    return prepared.showing([Message(id="i", role=USER, parts=(part,))])


BAD = [
    (lambda ctx, prepared: 1 / 0, "division by zero"),
    (lambda ctx, prepared: "text", "returned a `str`"),
    (lambda ctx, prepared: PreparedContext(messages="text"), "as messages"),
    (lambda ctx, prepared: prepared.showing(["text"]), "among the messages"),
    (lambda ctx, prepared: prepared.showing([summary(), summary()]), "message `sum` twice"),
    (lambda ctx, prepared: prepared.showing([summary(text="\ud800")]), "message `sum` can't be recorded"),
    (result_alone, "shows the result of call `c1`"),
    (lost_image, "is not in the store"),
]


@pytest.mark.parametrize(("make", "text"), BAD, ids=[text for _, text in BAD])
async def test_a_view_that_fails_ends_the_turn_and_names_the_plugin(make: Any, text: str) -> None:
    async with opened(View(make), says=[]) as lash:
        session = await lash.session("s")
        turn = await session.run("go")
        messages = await session.messages()
    assert failure(turn) == ("runtime_error", "lash_prepare_context")
    (issue,) = turn.errors
    assert issue.plugin_id == "mine"
    assert text in issue.message
    assert [each.text for each in messages] == ["go"]


async def test_a_call_is_kept_together_with_its_result() -> None:
    @tool
    def look() -> str:
        """Look."""
        return "seen"

    view = View(lambda ctx, prepared: prepared.showing(prepared.messages[:2]) if len(prepared.messages) else None)
    async with opened(view, says=[Reply(tool_calls=[Call("look")]), "done", "more"], tools=[look]) as lash:
        session = await talk(lash, "first")
        turn = await session.run("second")
    assert "without its result: keep both" in turn.errors[0].message


# ---- lash_compact: asked for ----------------------------------------------------------------------------------------


async def test_hook_lash_compact_opens_a_new_frame_and_the_old_one_stays(tmp_path: Path) -> None:
    squeeze = Compactor(lambda ctx: FrameSeed(messages=[summary(), *ctx.messages[-2:]]))
    model = Told(["one", "two", "three"])
    async with opened(squeeze, says=model, store=file_store(tmp_path)) as lash:
        session = await talk(lash, "first", "second")
        done = await session.compact("keep names")
        assert done is not None
        assert (done.plugin_id, done.reason, done.before, done.after) == ("squeeze", "requested", 4, 3)
        in_memory = [each.text for each in await session.messages()]
        assert in_memory == ["SUMMARY", "second", "two"]
        loaded = await lash.store.load_session("s")
        assert loaded is not None
        assert [each.kind for each in loaded.nodes] == [NodeKind.FRAME_OPEN] + [NodeKind.MESSAGE] * 3
        assert loaded.head.frame_node_id == loaded.nodes[0].node_id
        whole = await lash.store.load_session("s", all_frames=True)
        assert whole is not None
        assert len(whole.nodes) == 1 + 4 + 4
        exported = await lash.load_history("s")
        assert [each.text for each in exported.messages] == ["first", "one", "second", "two", "SUMMARY"]
    assert squeeze.calls == [("requested", 4, "keep names", None, 15)]
    async with opened(Compactor(), says=model, store=file_store(tmp_path)) as lash:
        session = await lash.session("s")
        assert [each.text for each in await session.messages()] == in_memory
        assert (await session.run("third")).is_success
        loaded = await lash.store.load_session("s")
        assert loaded is not None
        assert len(loaded.nodes) == 4 + 2
        assert read_count(loaded.components["plugin/squeeze"].body) == 1
    assert "first" not in asked(model)
    assert "SUMMARY" in asked(model)


def read_count(body: bytes) -> int:
    return int(orjson.loads(body).get("state", {}).get("n", 0))


async def test_a_compaction_asks_no_model_calls_no_other_hook_and_may_be_done_again() -> None:
    class Busy(Compactor):
        @hookimpl
        async def lash_before_turn(self, ctx: Any) -> Any:
            self.calls.append("before")
            return EnqueueMessages.note("x")

        @hookimpl
        async def lash_after_turn(self, ctx: Any, turn: Any) -> Any:
            self.calls.append("after")

        @hookimpl
        async def lash_prompt_contributions(self, ctx: Any) -> None:
            self.calls.append("prompt")

    squeeze = Busy()
    async with opened(squeeze, says=["one"]) as lash:
        session = await talk(lash, "first")
        squeeze.calls.clear()
        assert await session.compact() is not None
        again = await session.compact()
        assert again is not None
        assert (again.before, again.after) == (1, 1)
        turns = (await lash.load_history("s")).turns
    assert [each[:2] for each in squeeze.calls] == [("requested", 3), ("requested", 1)]
    assert [each.compaction is not None for each in turns] == [False, True, True]


async def test_the_same_turn_id_compacts_once() -> None:
    squeeze = Compactor()
    async with opened(squeeze, says=["one"]) as lash:
        session = await talk(lash, "first")
        assert await session.compact(turn_id="c") == await session.compact(turn_id="c")
    assert len(squeeze.calls) == 1


async def test_nothing_is_compacted_where_there_is_nothing_or_nobody_wants_to() -> None:
    squeeze = Compactor(lambda ctx: None)
    async with opened(squeeze, says=["one"]) as lash:
        session = await lash.session("s")
        assert await session.compact() is None
        assert squeeze.calls == []
        await session.run("first")
        assert await session.compact() is None
        assert [each.text for each in await session.messages()] == ["first", "one"]
    assert len(squeeze.calls) == 1


async def test_the_first_plugin_that_compacts_decides() -> None:
    """Those behind it aren't asked: one frame is opened, with one plugin's words."""
    told: list[str] = []

    def compactor(name: str, says: FrameSeed | None) -> object:
        def lash_compact(ctx: Any) -> FrameSeed | None:
            told.append(name)
            return says

        return plugin(name, lash_compact)

    seed = FrameSeed(messages=(summary(),))
    async with agent(["One."], plugins=[compactor("a", None), compactor("b", seed), compactor("c", seed)]) as lash:
        session = await lash.session("s")
        await session.run("x")
        assert (await session.compact()).plugin_id == "b"
    assert told == ["a", "b"]


async def test_without_a_plugin_that_compacts_it_is_refused_before_anything_is_accepted() -> None:
    async with opened(says=["one"]) as lash:
        session = await talk(lash, "first")
        with pytest.raises(ConfigurationError, match=r"has no plugin that compacts: add one with the hook"):
            await session.compact()
        assert await session.inbox() == []
        with pytest.raises(ConfigurationError, match="says nothing else"):
            await session.run(evolve(TurnInput.text("hi"), compact=CompactRequest()))


async def test_a_compactor_that_fails_is_named_and_changes_nothing() -> None:
    async with opened(Compactor(lambda ctx: 1 / 0), says=["one", "two"]) as lash:
        session = await talk(lash, "first")
        with pytest.raises(PluginError, match=r"^plugin `squeeze`, hook `lash_compact`: .*division by zero"):
            await session.compact()
        loaded = await lash.store.load_session("s")
        assert loaded is not None
        assert "plugin/squeeze" not in loaded.components  # its state is as it was
        assert [each.text for each in await session.messages()] == ["first", "one"]
        assert (await session.run("second")).is_success


async def test_a_compaction_can_be_queued_behind_a_turn() -> None:
    squeeze = Compactor()
    async with opened(squeeze, says=["one"]) as lash:
        session = await talk(lash, "first")
        await session.enqueue(COMPACT)
        await session.recover()
        assert [each.text for each in await session.messages()] == ["SUMMARY"]


# ---- lash_compact: before the window overflows ----------------------------------------------------------------------


async def test_a_session_is_compacted_when_the_last_call_came_near_the_end_of_the_window(tmp_path: Path) -> None:
    squeeze, store = Compactor(), file_store(tmp_path)
    model = Told([Reply(text="one", usage=TokenUsage(input=70, output=9)), "two"], context_window=100)
    async with opened(squeeze, says=model, store=store) as lash:
        session = await talk(lash, "first", "second")
        assert squeeze.calls == []
        assert [each.text for each in await session.messages()] == ["first", "one", "second", "two"]
    full = Told([Reply(text="three", usage=TokenUsage(input=70, output=10)), "four"], context_window=100)
    async with opened(squeeze, says=full, store=store) as lash:
        session = await talk(lash, "third")
    async with opened(squeeze, says=full, store=store) as lash:  # the next process knows it from the last turn
        session = await lash.session("s")
        turn = await session.run("fourth")
        assert [each.text for each in await session.messages()] == ["SUMMARY", "fourth", "four"]
    assert squeeze.calls == [("threshold", 6, "", 100, 80)]
    assert turn.compaction is not None
    assert turn.compaction.reason == "threshold"
    assert "first" not in asked(full)


@pytest.mark.parametrize(("toml", "times"), [("compact_at = 0", 0), ("compact_at = 0.05", 1)])
async def test_the_threshold_is_a_setting(tmp_path: Path, toml: str, times: int) -> None:
    squeeze = Compactor()
    model = Told(["one", "two"], context_window=100)
    async with opened(squeeze, says=model, toml=f"[context]\n{toml}\n", folder=tmp_path) as lash:
        await talk(lash, "first", "second")
    assert len(squeeze.calls) == times


async def test_hooks_of_a_turn_that_compacts_at_its_start_see_the_new_frame() -> None:
    seen: list[list[str]] = []

    class Looks(Compactor):
        @hookimpl
        async def lash_prepare_context(self, ctx: Any, prepared: Any) -> None:
            seen.append([each.text for each in prepared.messages])

        @hookimpl
        async def lash_before_turn(self, ctx: Any) -> None:
            seen.append([each.text for each in ctx.messages])

        @hookimpl
        async def lash_checkpoint(self, ctx: Any) -> None:
            seen.append([each.text for each in ctx.messages])

    model = Told([Reply(text="one", usage=TokenUsage(input=90)), "two"], context_window=100)
    async with opened(Looks(), says=model) as lash:
        await talk(lash, "first", "second")
    assert seen[3:] == [["SUMMARY"], ["SUMMARY", "second"], ["SUMMARY", "second", "two"]]


# ---- lash_compact: after a call that didn't fit ---------------------------------------------------------------------


OVERFLOW = LlmCallError(message="too long", terminal_reason=LlmTerminalReason.CONTEXT_OVERFLOW, retryable=False)


def small(limit: int = 4) -> Callable[[LlmRequest], Reply]:
    """A model that takes so many messages, its prompt included."""

    def say(request: LlmRequest) -> Reply:
        if len(request.messages) > limit:
            return Reply(error=evolve(OVERFLOW, usage=TokenUsage(input=50)))
        return Reply(text=f"said {len(request.messages)}")

    return say


async def test_an_overflow_is_recovered_from_by_compacting_once_and_asking_again() -> None:
    squeeze, model = Compactor(), Told(small(3))
    async with opened(squeeze, says=model) as lash:
        session = await talk(lash, "first")
        assert squeeze.calls == []
        turn = await session.run("second", turn_id="t")
        assert turn.is_success
        assert [each.text for each in await session.messages()] == ["SUMMARY", "second", "said 3"]
        again = await session.run("third")  # a turn each may compact
        assert [each.text for each in await session.messages()] == ["SUMMARY", "third", "said 3"]
    assert [each.compaction.reason for each in (turn, again)] == ["overflow"] * 2
    assert (turn.compaction.before, turn.errors, turn.execution.llm_calls) == (2, (), 2)
    assert turn.token_usage.input == 50 + 10
    assert [each[:2] for each in squeeze.calls] == [("overflow", 2), ("overflow", 3)]


async def test_an_overflow_in_a_later_iteration_keeps_what_the_turn_has_done() -> None:
    ran: list[int] = []

    @tool
    def look() -> str:
        """Look."""
        ran.append(1)
        return "seen"

    def say(request: LlmRequest) -> Reply:
        if len(request.messages) > 6:
            return Reply(error=evolve(OVERFLOW, usage=TokenUsage(input=50)))
        if "tool_result" not in [block.tag for message in request.messages for block in message.blocks]:
            return Reply(tool_calls=[Call("look")]) if len(request.messages) > 3 else Reply(text="ok")
        return Reply(text="done")

    class Notes(Compactor):
        @hookimpl
        async def lash_before_turn(self, ctx: Any) -> Any:
            return EnqueueMessages.note("now", transient=True)

        @hookimpl
        async def lash_prepare_context(self, ctx: Any, prepared: Any) -> Any:
            return prepared.showing([*prepared.messages, summary("view", "VIEW")])

    squeeze, model = Notes(), Told(say)
    async with opened(squeeze, says=model, tools=[look]) as lash:
        session = await lash.session("s")
        await session.append(
            AppendSessionNodesRequest(operation_id="a", nodes=(SessionAppendNode.user("u0", "before"),))
        )
        turn = await session.run("go")
        stored = [each.text for each in await session.messages()]
    assert turn.is_success
    assert ran == [1]
    assert turn.compaction is not None
    assert turn.token_usage.input == 10 + 50 + 10
    assert "VIEW" not in asked(model)  # it was one of the old frame
    assert "now" in asked(model)
    assert stored == ["SUMMARY", "go", "", "", "done"]


async def test_a_turn_compacts_at_most_once_and_then_says_what_to_do() -> None:
    squeeze = Compactor(lambda ctx: FrameSeed(messages=ctx.messages[:]))
    async with opened(squeeze, says=Told(small(3))) as lash:
        session = await lash.session("s")
        await session.append(
            AppendSessionNodesRequest(
                operation_id="a", nodes=tuple(SessionAppendNode.user(f"u{at}", "x") for at in range(5))
            )
        )
        turn = await session.run("go")
        assert [each.text for each in await session.messages()] == ["x"] * 5 + ["go"]
    assert failure(turn)[0] == "provider_error"
    assert turn.errors[0].message.startswith("too long; the conversation was compacted in this turn already")
    assert len(squeeze.calls) == 1


@pytest.mark.parametrize(
    ("plugins", "hint"),
    [((), "add a plugin that compacts"), ((Compactor(lambda ctx: None),), "no plugin made the conversation shorter")],
)
async def test_an_overflow_that_nobody_makes_room_for_says_what_to_do(plugins: Any, hint: str) -> None:
    async with opened(*plugins, says=Told(small(2))) as lash:
        session = await talk(lash, "first")
        turn = await session.run("second")
        assert (await session.messages())[-1].text == "second"
    (issue,) = turn.errors
    assert issue.terminal_reason is LlmTerminalReason.CONTEXT_OVERFLOW
    assert issue.message.startswith("too long; ")
    assert hint in issue.message


async def test_a_reply_without_room_for_a_word_counts_as_an_overflow() -> None:
    cut = Reply(usage=TokenUsage(input=98), terminal_reason=LlmTerminalReason.OUTPUT_LIMIT)
    squeeze = Compactor()
    async with opened(squeeze, says=Told(["one", cut, "two"], context_window=100)) as lash:
        session = await talk(lash, "first")
        turn = await session.run("second")
    assert turn.is_success
    assert turn.token_usage.input == 98 + 10
    assert [each[0] for each in squeeze.calls] == ["overflow"]


async def test_a_compactor_that_fails_after_an_overflow_fails_the_turn_by_name() -> None:
    async with opened(Compactor(lambda ctx: 1 / 0), says=Told(small(2))) as lash:
        session = await talk(lash, "first")
        turn = await session.run("second")
        loaded = await lash.store.load_session("s")
    assert failure(turn) == ("runtime_error", "lash_compact")
    assert turn.token_usage.input == 50
    assert turn.errors[0].plugin_id == "squeeze"
    assert loaded is not None
    assert "plugin/squeeze" not in loaded.components  # its state is as it was


async def test_a_turn_that_is_cancelled_while_it_compacts_leaves_the_conversation_as_it_was() -> None:
    began = anyio.Event()

    class Slow(Compactor):
        @hookimpl
        async def lash_compact(self, ctx: Any) -> Any:
            began.set()
            await anyio.sleep_forever()

    async with opened(Slow(), says=Told(small(3))) as lash:
        session = await talk(lash, "first")
        async with session.turn("second") as running, anyio.create_task_group() as tasks:

            async def cancel() -> None:
                await began.wait()
                running.cancel("enough")

            tasks.start_soon(cancel)
            turn = await running.result()
        assert [each.text for each in await session.messages()] == ["first", "said 2", "second"]
    assert turn.outcome == Stopped(StopReason.CANCELLED)
    assert turn.token_usage.input == 50  # the call that didn't fit was paid, and its record isn't a part of the turn
    assert not turn.token_usage.at_least
    assert turn.compaction is None


# ---- killed, and replayed -------------------------------------------------------------------------------------------


def _settings(*sets: str) -> Any:
    return load_settings(env={}, cwd=Path("/"), sets=[*sets])


def host(url: str, compactors: list[Compactor], limit: int = 4) -> Any:
    compactors.append(Compactor())
    plugins = [compactors[-1], Told(small(limit))]
    return Lash.open(url, settings=_settings(), plugins=plugins, model="told:model")


async def history_in(folder: Path) -> Callable[[Path], str]:
    """A database with a conversation, and copies of it."""
    async with host(file_store(folder), []) as lash:
        session = await lash.session("crash")
        nodes = tuple(SessionAppendNode.user(f"u{at}", f"said {at}") for at in range(6))
        await session.append(AppendSessionNodesRequest(operation_id="a", nodes=nodes))

    def copied(to: Path) -> str:
        for each in folder.glob("sessions.db*"):
            shutil.copy(each, to / each.name)
        return file_store(to)

    return copied


@pytest.mark.costly
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("prompt", [COMPACT, TurnInput.text("go")], ids=["asked for", "overflow"])
async def test_killed_anywhere_a_session_is_compacted_once(prompt: TurnInput, tmp_path: Path) -> None:
    def whole(crash: Crash) -> None:
        ending = crash.ending
        assert ending.turn.compaction is not None
        assert [each.text for each in ending.messages].count("SUMMARY") == 1
        assert [each.scope for each in ending.receipts] == ["turn", "append"]
        recorded = {row.kind for row in ending.rows}
        if recorded & {"compact"} or (recorded and prompt == COMPACT):
            assert compactors[-1].calls == []  # the survivor has it from the record

    compactors: list[Compactor] = []
    database = await history_in(tmp_path)
    report = await crash_at_every_effect(
        lambda url: host(url, compactors),
        prompt,
        points=lambda point: point.kind in ("effect", "store"),  # statements are those of any other turn
        checks=[whole],
        database=database,
    )
    assert report.unreached == ()
    assert ("after effect compact 2 of iteration 0" in map(str, report.trace)) is (prompt != COMPACT)


async def test_a_recorded_compaction_is_not_asked_for_again(tmp_path: Path) -> None:
    """The second process goes on behind the record: with another compactor, which is never called."""

    async def run(compactor: Compactor, records: Records) -> tuple[Any, bytes, list[str]]:
        async with opened(compactor, says=Told(small(4))) as lash:
            lash.journalling, lash.effects = None, records
            session = await lash.session("s")
            nodes = tuple(SessionAppendNode.user(f"u{at}", "x") for at in range(5))
            await session.append(AppendSessionNodesRequest(operation_id="a", nodes=nodes))
            turn = await session.run("go", turn_id="t")
            receipt = (await lash.store.list_receipts("s", limit=1))[0]
            return turn, receipt.result, list(receipt.node_ids)

    whole = Records()
    turn, committed, nodes = await run(Compactor(), whole)
    assert turn.compaction.reason == "overflow"
    begun, asked_over = ["turn_start", "llm_call"], ["llm_call", "checkpoint", "turn_end"]
    assert whole.ran == [*begun, "compact", *asked_over]
    for length in range(len(whole.ran) + 1):
        left, other = whole.up_to(length), Compactor()
        _, again, same = await run(other, left)
        assert same == nodes
        assert len(other.calls) == (length <= whole.ran.index("compact"))
        assert left.ran == whole.ran[length:]
    assert again == committed


async def test_a_committed_turn_that_compacted_replays_to_the_same_bytes(tmp_path: Path) -> None:
    plugins = [Compactor(), Told(small(4))]
    settings = _settings("durability.keep_journal_h=1")
    async with Lash.open(file_store(tmp_path), settings=settings, plugins=plugins, model="told:model") as lash:
        session = await lash.session("s")
        nodes = tuple(SessionAppendNode.user(f"u{at}", "x") for at in range(5))
        await session.append(AppendSessionNodesRequest(operation_id="a", nodes=nodes))
        for turn_id in ("overflows", "fits"):
            assert (await session.run("go", turn_id=turn_id)).is_success
        assert await session.compact(turn_id="asked") is not None
        assert (await session.run("go", turn_id="after")).is_success
        for turn_id in ("overflows", "fits", "asked", "after"):
            replayed = await lash.replay(turn_id)
            assert replayed.differences == (), turn_id


async def test_a_compaction_whose_plugin_is_gone_waits_for_it(tmp_path: Path) -> None:
    """Done without it, it would have done nothing, and nobody would know."""
    store, began = file_store(tmp_path), anyio.Event()

    class Slow(Compactor):
        @hookimpl
        async def lash_compact(self, ctx: Any) -> Any:
            began.set()
            await anyio.sleep_forever()

    async with opened(Slow(), says=["one"], store=store) as lash:
        session = await talk(lash, "first")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.compact)
            await began.wait()
            tasks.cancel_scope.cancel()
    async with opened(store=store) as lash:
        session = await lash.session("s", recover=False)
        with pytest.raises(TurnBlocked, match="has no plugin that compacts: add one with the hook `lash_compact`"):
            await session.recover()
    async with opened(Compactor(), store=store) as lash:
        session = await lash.session("s")
        assert [each.text for each in await session.messages()] == ["SUMMARY"]


async def test_without_a_journal_a_session_is_compacted_too(tmp_path: Path) -> None:
    inline = "[durability]\neffects = 'inline'\n"
    squeeze = Compactor()
    async with opened(squeeze, says=["one"], toml=inline, folder=tmp_path) as lash:
        session = await talk(lash, "first")
        assert await session.compact() is not None
        assert [each.text for each in await session.messages()] == ["SUMMARY"]
    async with opened(says=["one"], toml=inline, folder=tmp_path) as lash:
        session = await talk(lash, "first")
        with pytest.raises(ConfigurationError, match="has no plugin that compacts"):
            await session.compact()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # counts are the same on every event loop
async def test_plugins_that_have_nothing_to_say_cost_no_statement_and_no_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor does the next turn's cost grow with a frame that was left."""
    monkeypatch.setattr(lease_keeper, "LOOK_S", 1000.0)  # no look after the lease falls into a turn that is metered
    settings = _settings("durability.lease_ttl_s=1000000")

    async def second_turn(*plugins: object, before: int = 1, compacted: bool = False) -> tuple[Any, list[str]]:
        meter, records = Meter(), Records()
        options = {"store": "metered://", "plugins": [metered_store(meter), *plugins], "settings": settings}
        async with agent(lambda request: "ok", **options) as lash:
            session = await lash.session("s")
            for turn in range(before):
                await session.run(f"said {turn}")
            if compacted:
                await session.compact()
            meter.reading()
            await session.run("go")
            statements, _ = meter.reading()
            lash.journalling, lash.effects = None, records
            await session.run("go again")
        return statements, records.ran

    idle = View(lambda ctx, prepared: None), Compactor(lambda ctx: None)
    usual = await second_turn()
    assert await second_turn(*idle) == usual
    assert await second_turn(Compactor(), before=12, compacted=True) == await second_turn(Compactor(), compacted=True)
