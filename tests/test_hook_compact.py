"""`lash_compact`: a conversation that is made shorter for good, where somebody asks for it or it has no room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import orjson
import pytest
from agents import agent, cancelled_when, plugin
from attrs import evolve
from context_kit import COMPACT, OVERFLOW, Compactor, small, summary, talk
from hook_kit import Told, asked, failure, file_store, opened

from lash_hookspecs import (
    AppendSessionNodesRequest,
    CompactRequest,
    ConfigurationError,
    EnqueueMessages,
    FrameSeed,
    LlmRequest,
    LlmTerminalReason,
    NodeKind,
    PluginError,
    SessionAppendNode,
    Stopped,
    StopReason,
    TokenUsage,
    TurnInput,
    hookimpl,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply

# ---- asked for ------------------------------------------------------------------------------------------------------


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


# ---- before the window overflows ------------------------------------------------------------------------------------


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


# ---- after a call that didn't fit -----------------------------------------------------------------------------------


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
        turn = await cancelled_when(began, session.turn("second"), "enough")
        assert [each.text for each in await session.messages()] == ["first", "said 2", "second"]
    assert turn.outcome == Stopped(StopReason.CANCELLED)
    assert turn.token_usage.input == 50  # the call that didn't fit was paid, and its record isn't a part of the turn
    assert not turn.token_usage.at_least
    assert turn.compaction is None
