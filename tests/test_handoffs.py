"""Turns that make sessions, and turns that are handed to one: from every seam, and from a tool."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agents import agent
from attrs import frozen
from hook_kit import Plugin, Told, asked, failure, file_store, opened, system_prompt

from lash_framework import Lash
from lash_framework.accepted_job import accepted_turn
from lash_framework.settings import Settings, load_settings
from lash_hookspecs import (
    AbortTurn,
    AssembledTurn,
    Budget,
    CheckpointKind,
    CreateSession,
    DenyToolCall,
    EnqueueMessages,
    Handoff,
    HandoffSession,
    InboxState,
    LlmRequest,
    PluginOrigin,
    SessionStateSpec,
    Stopped,
    StopReason,
    ToolCallFailure,
    ToolCallOutput,
    ToolCallSuccess,
    ToolFailureClass,
    UnknownName,
    child_session_id,
    first_turn_id,
    hookimpl,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply

NEXT = Handoff(child_session_id("one", "t", "mine", "successor"), first_turn_id("one", "t", "mine", "successor"))


class Before(Plugin):
    @hookimpl
    def lash_before_turn(self, ctx: Any) -> Any:
        return self.say(ctx)

    def say(self, ctx: Any) -> Any:
        """Hand the first session's turn off."""
        self.calls.append(ctx.session_id)
        return [HandoffSession("Go on.")] if ctx.session_id == "one" else []


class AtCheckpoint(Before):
    lash_before_turn = None  # type: ignore[assignment]  # the seam is another one

    @hookimpl
    def lash_checkpoint(self, ctx: Any) -> Any:
        return self.say(ctx) if ctx.kind is CheckpointKind.BEFORE_COMPLETION else []


class BeforeModel(Before):
    lash_before_turn = None  # type: ignore[assignment]  # the seam is another one

    @hookimpl
    def lash_before_llm_call(self, ctx: Any, request: LlmRequest) -> Any:
        return next(iter(self.say(ctx)), None)


class After(Before):
    lash_before_turn = None  # type: ignore[assignment]  # the seam is another one

    @hookimpl
    def lash_after_turn(self, ctx: Any, turn: AssembledTurn) -> Any:
        return self.say(ctx)


async def waiting(lash: Lash, session_id: str) -> list[str]:
    items = await lash.require_journal("a test").store.list_inbox(session_id)
    return [f"{each.state.value} {each.turn_id}" for each in items]


@pytest.mark.statement(59, 60, page="effects")
@pytest.mark.parametrize(
    ("seam", "asked_before"), [(Before, 0), (BeforeModel, 0), (AtCheckpoint, 1), (After, 1)], ids=lambda each: str(each)
)
async def test_a_turn_is_handed_off_at_every_seam_and_its_successor_is_told_once(
    seam: type[Before], asked_before: int, tmp_path: Path
) -> None:
    """59: the turn's session stays what it was, and who follows reaches the next one; 60: a session of its own, whose
    parent is named."""
    model = Told(["One.", "Two."] if asked_before else ["Two."])
    async with opened(seam(), says=model, store=file_store(tmp_path)) as lash:
        session = await lash.session("one")
        turn = await session.run("Hello", turn_id="t")
        assert (turn.outcome, [each for each in turn.errors if each.blocking]) == (NEXT, [])
        assert len(model.requests) == asked_before
        assert await waiting(lash, NEXT.session_id) == [f"pending {NEXT.turn_id}"]
        assert await session.run("Hello", turn_id="t") == turn
        followed = await session.follow(turn)
        assert [each.text for each in followed.turns][1:] == ["Two."]
        assert (followed.handoff_count, followed.final_turn.turn_id) == (1, NEXT.turn_id)
        assert asked(model).endswith("Go on.")
        assert "Hello" not in asked(model)
        (task, _) = await (await lash.session(NEXT.session_id)).messages()
        assert task.origin == PluginOrigin("mine"), "nothing is said without the name of who says it"
        assert await session.follow(turn) == followed
        assert await waiting(lash, NEXT.session_id) == []
        meta = await lash.store.load_meta(NEXT.session_id)
        assert meta is not None
        assert meta.parent_session_id == "one"
    assert len(model.requests) == asked_before + 1


async def test_a_successors_turn_can_be_watched_as_it_runs_and_is_found_when_it_did(tmp_path: Path) -> None:
    async with opened(Before(), says=Told(["Two."]), store=file_store(tmp_path)) as lash:
        await (await lash.session("one")).run("Hello", turn_id="t")
        there = await lash.session(NEXT.session_id, recover=False)
        seen: list[list[str]] = []
        for _ in range(2):
            async with accepted_turn(there, NEXT.turn_id) as running:
                seen.append([each.event.tag async for each in running])
                assert (await running.result()).text == "Two."
        async with accepted_turn(there, "never") as running:
            with pytest.raises(UnknownName, match="has no such turn"):
                await running.result()
    assert "assistant_prose_delta" in seen[0]
    assert seen[1] == []


async def test_who_opens_the_successor_goes_on_with_what_it_was_told(tmp_path: Path) -> None:
    """Also in another process, that never heard of the turn: its task is in its inbox."""
    async with opened(Before(), store=file_store(tmp_path)) as lash:
        await (await lash.session("one")).run("Hello", turn_id="t")
    async with opened(store=file_store(tmp_path)) as lash:
        assert [(each.session_id, each.turn_id) for each in await lash.unfinished()] == [
            (NEXT.session_id, NEXT.turn_id)
        ]
        successor = await lash.session(NEXT.session_id)
        assert [each.text for each in await successor.messages()] == ["Go on.", "Done."]


# ---- tools ----------------------------------------------------------------------------------------------------------


def transfer(output: Callable[[], ToolCallOutput]) -> Any:
    @tool(effect="pure")
    async def transfer() -> ToolCallOutput:
        "Hand the conversation to somebody who knows."
        return output()

    return transfer


TRANSFER = [Reply(text="", tool_calls=[Call("transfer", {}, "c1")]), "Done."]


async def test_a_tool_hands_a_turn_off_by_its_control_value() -> None:
    expert = CreateSession(key="expert", instructions="You are an expert.", max_turns=5)

    def output() -> ToolCallOutput:
        return ToolCallOutput(ToolCallSuccess("An expert goes on."), HandoffSession("Explain entropy.", expert))

    model = Told(TRANSFER)
    async with opened(says=model, tools=[transfer(output)]) as lash:
        session = await lash.session("one")
        turn = await session.run("Hello", turn_id="t")
        assert turn.outcome == Handoff(
            child_session_id("one", "t", "c1", "expert"), first_turn_id("one", "t", "c1", "expert")
        )
        assert (await session.messages())[-1].parts[0].content == "An expert goes on."
        followed = await session.follow(turn)
        assert followed.final_turn.text == "Done."
        successor = await lash.session(followed.final_turn.state.session_id)
        assert successor.policy.max_turns == 5
        assert "You are an expert." in asked(model)


async def test_of_two_calls_that_hand_off_the_second_says_that_it_came_to_nothing() -> None:
    """Both said that they had; nobody was told what the second one was to tell."""

    @tool
    async def hand(to: str) -> ToolCallOutput:
        "Hand the conversation over."
        return ToolCallOutput(ToolCallSuccess("Handed."), HandoffSession(f"For {to}.", CreateSession(session_id=to)))

    calls = [Call("hand", {"to": "x"}, "c0"), Call("hand", {"to": "y"}, "c1")]
    async with opened(says=[Reply(text="", tool_calls=calls)], tools=[hand]) as lash:
        session = await lash.session("one")
        turn = await session.run("Hello")
        assert isinstance(turn.outcome, Handoff)
        assert turn.outcome.session_id == "x"
        (issue,) = turn.errors
        assert issue.code == "second_handoff"
        assert issue.message.startswith("`hand` (c1) did not hand the turn off: `hand` (c0), called beside it, had")
        first, second = (await session.messages())[-1].parts
        assert first.content == "Handed."
        assert second.content.startswith("Error: `hand` (c1) did not hand")
        assert {each.session_id for each in await lash.store.list_sessions()} == {"one", "x"}


async def test_a_failed_call_hands_nothing_off() -> None:
    """Like all controls, it counts on success; and a plugin that denies the call has the last word."""
    failed = ToolCallFailure(failure_class=ToolFailureClass.IO, code="down", message="It is down.")

    class Deny(Plugin):
        @hookimpl
        def lash_after_tool_call(self) -> Any:
            return DenyToolCall("Not today.")

    for plugins, outcome in (((), failed), ((Deny(),), ToolCallSuccess("Yes."))):
        given = ToolCallOutput(outcome, HandoffSession("Explain."))
        async with opened(*plugins, says=TRANSFER, tools=[transfer(lambda given=given: given)]) as lash:  # type: ignore[misc]  # bound now
            turn = await (await lash.session("one")).run("Hello")
            assert turn.text == "Done."
            assert [each.session_id for each in await lash.store.list_sessions()] == ["one"]


# ---- which session, and how it runs ---------------------------------------------------------------------------------


@frozen
class Seen:
    turns: int = 0


class Forking(Plugin):
    """Hands a turn to a fork of its session, which then runs in another way."""

    @hookimpl
    def lash_session_state(self) -> SessionStateSpec:
        return SessionStateSpec(state=Seen)

    @hookimpl
    def lash_after_turn(self, ctx: Any) -> Any:
        ctx.set_state(Seen(ctx.state.turns + 1))
        self.calls.append((ctx.session_id, ctx.state.turns))
        if ctx.session_id == "one":
            return HandoffSession("And now?", CreateSession(fork=True, model="told:other"))
        return None


async def test_a_successor_that_is_a_fork_knows_what_was_said_and_what_plugins_remember() -> None:
    plugin, model = Forking(), Told(["One.", "Two."])
    async with opened(plugin, says=model) as lash:
        session = await lash.session("one")
        followed = await session.follow(await session.run("Hello"))
        assert [each.text for each in followed.turns] == ["One.", "Two."]
        assert "Hello\nOne.\nAnd now?" in asked(model)
        assert [each.model for each in model.requests] == ["model", "other"]
        assert [each.text for each in await session.messages()] == ["Hello", "One."]
    (first, second) = plugin.calls
    assert (first, second[1]) == (("one", 1), 2)


async def test_a_turn_may_be_handed_to_a_session_that_is_there() -> None:
    """It goes on with what was said there, and runs as it runs; an input that waits there comes first."""

    class To(Before):
        def say(self, ctx: Any) -> Any:
            return HandoffSession("One more.", CreateSession(session_id="desk")) if ctx.session_id == "one" else None

    model = Told(["Desk.", "Two."])
    async with opened(To(), says=model) as lash:
        desk = await lash.session("desk", model="told:desk", max_turns=7)
        await desk.run("First.")
        session = await lash.session("one")
        followed = await session.follow(await session.run("Hello"))
        assert [each.text for each in await desk.messages()] == ["First.", "Desk.", "One more.", "Two."]
        assert model.requests[-1].model == "desk"
        assert (desk.policy.max_turns, followed.final_turn.state.turn_index) == (7, 2)


async def test_sessions_are_made_with_the_commit_each_once() -> None:
    class Makes(Plugin):
        @hookimpl
        def lash_before_turn(self, ctx: Any) -> Any:
            if ctx.session_id != "one":
                return []
            return [CreateSession(key="a", max_turns=3), CreateSession(key="b", task="Look around.")]

        @hookimpl
        def lash_checkpoint(self, ctx: Any) -> Any:
            return CreateSession(key="a") if ctx.session_id == "one" else None

    a, b = (child_session_id("one", "t", "mine", key) for key in "ab")
    async with opened(Makes(), says=["One.", "Looked."]) as lash:
        turn = await (await lash.session("one")).run("Hello", turn_id="t")
        assert turn.text == "One."
        assert {each.session_id for each in await lash.store.list_sessions()} == {"one", a, b}
        assert (await lash.session(a)).policy.max_turns == 3
        assert [each.text for each in await (await lash.session(b)).messages()] == ["Look around.", "Looked."]
        assert (await lash.session(a)).is_stored is False


class Says(Plugin):
    """Returns these from the first session's turn: before the model is asked, and after."""

    def __init__(self, id: str, before: Any = None, after: Any = None) -> None:
        super().__init__(id)
        self.before, self.after = before, after

    @hookimpl
    def lash_before_turn(self, ctx: Any) -> Any:
        return self.before if ctx.session_id == "one" else None

    @hookimpl
    def lash_after_turn(self, ctx: Any, turn: AssembledTurn) -> Any:
        return self.after if ctx.session_id == "one" else None


DESK = CreateSession(session_id="desk", key="successor")


async def test_a_session_that_is_made_is_told_all_that_it_is_told() -> None:
    """Of several tasks for one session only the first was kept: a handoff was committed, and never told."""
    one = Says("one", CreateSession(session_id="desk", instructions="Be brief.", task="1"), HandoffSession("3", DESK))
    two = Says("two", CreateSession(session_id="desk", task="2"))
    model = Told(["Hi.", "A", "B", "C"])
    async with opened(one, two, says=model) as lash:
        session = await lash.session("one")
        followed = await session.follow(await session.run("Hello"))
        assert [each.text for each in followed.turns] == ["Hi.", "C"]
        assert [each.text for each in await (await lash.session("desk")).messages()] == ["1", "A", "2", "B", "3", "C"]
        assert all("Be brief." in system_prompt(model, call) for call in (1, 2, 3)), "it runs as it was made"


async def test_two_tasks_with_one_key_are_an_error_of_who_says_so() -> None:
    """Their ids are the same, so one of them was lost."""
    async with opened(Says("mine", [CreateSession(task="1"), CreateSession(task="2")])) as lash:
        turn = await (await lash.session("one")).run("Hello")
        assert failure(turn)[0] == "runtime_error"
        assert "`mine`, hook `CreateSession`: key `child` stands for two different tasks" in turn.errors[0].message
        assert [each.session_id for each in await lash.list_sessions()] == ["one"]


async def test_of_a_plugins_handoffs_at_two_seams_the_last_counts() -> None:
    last = HandoffSession("Last.", CreateSession(key="successor", max_turns=3))
    async with opened(Says("mine", HandoffSession("First."), last)) as lash:
        session = await lash.session("one")
        turn = await session.run("Hello", turn_id="t")
        assert turn.outcome == NEXT
        await session.follow(turn)
        successor = await lash.session(NEXT.session_id)
        assert ([each.text for each in await successor.messages()], successor.policy.max_turns) == (
            ["Last.", "Done."],
            3,
        )


async def test_nothing_is_handed_to_a_session_that_was_deleted() -> None:
    """It looked like a success, and nobody went on."""
    async with opened(Says("mine", HandoffSession("Go on.", DESK))) as lash:
        await (await lash.session("desk")).run("Hi")
        await lash.delete_session("desk")
        turn = await (await lash.session("one")).run("Hello")
        assert failure(turn)[0] == "runtime_error"
        assert "`mine`, hook `HandoffSession`: session `desk` was deleted" in turn.errors[0].message


async def test_handoffs_are_followed_from_session_to_session_and_not_for_ever() -> None:
    class Always(Plugin):
        @hookimpl
        def lash_before_turn(self) -> Any:
            return HandoffSession("Go on.")

    async with opened(Always()) as lash:
        session = await lash.session("one")
        followed = await session.follow(await session.run("Hello"), at_most=3)
        assert (len(followed.turns), followed.handoff_count) == (4, 4)
        assert len({each.state.session_id for each in followed.turns}) == 4
        assert (await session.follow(followed.final_turn, at_most=1)).handoff_count == 2


async def test_a_successor_whose_task_was_cancelled_is_not_made_up() -> None:
    async with opened(Before()) as lash:
        session = await lash.session("one")
        turn = await session.run("Hello", turn_id="t")
        store = lash.require_journal("a test").store
        (item,) = await store.list_inbox(NEXT.session_id, states=frozenset({InboxState.PENDING}))
        await store.cancel_items(NEXT.session_id, [item.no], "no need")
        with pytest.raises(UnknownName, match="it was cancelled in its inbox"):
            await session.follow(turn)


# ---- what goes wrong ------------------------------------------------------------------------------------------------


async def test_an_abort_beats_a_handoff_and_what_is_enqueued_beside_it_is_kept() -> None:
    class Both(Before):
        def say(self, ctx: Any) -> Any:
            return [HandoffSession("Go on."), EnqueueMessages.note("Noted."), *self.more]

        more: tuple[Any, ...] = ()

    for more, outcome in (((), NEXT), ((AbortTurn("no", "not now"),), Stopped(StopReason.PLUGIN_ABORT))):
        plugin = Both()
        plugin.more = more
        async with opened(plugin) as lash:
            session = await lash.session("one")
            assert (await session.run("Hello", turn_id="t")).outcome == outcome
            assert [each.text for each in await session.messages()] == ["Hello", "Noted."]
            assert len(await lash.store.list_sessions()) == (1 if more else 2)


@pytest.mark.parametrize("at", [Before, After, AtCheckpoint])
async def test_two_plugins_that_hand_one_turn_off_are_named(at: type[Before]) -> None:
    async with opened(at("a"), at("b")) as lash:
        turn = await (await lash.session("one")).run("Hello")
        assert turn.outcome == Stopped(StopReason.RUNTIME_ERROR)
        (issue,) = [each for each in turn.errors if each.blocking]
        assert issue.plugin_id == "b"
        assert "plugin `a` hands this turn off already: a turn has one successor" in issue.message
        assert len(await lash.store.list_sessions()) == 1


UNFIT = {
    "mode": (CreateSession(mode_id="stander"), "unknown mode `stander`"),
    "model": (CreateSession(model="tolt:x"), "unknown provider `tolt`"),
    "itself": (CreateSession(session_id="one"), "session `one` is the turn's own"),
    "blank": (CreateSession(session_id=" "), "the session id is blank"),
    "key": (CreateSession(key=" "), "the key is blank"),
}


@pytest.mark.parametrize(("wish", "text"), UNFIT.values(), ids=UNFIT)
@pytest.mark.parametrize("by", ["hook", "tool"])
async def test_what_can_not_be_made_fails_the_turn_in_the_name_of_who_wants_it(
    by: str, wish: CreateSession, text: str
) -> None:
    class Wants(Before):
        def say(self, ctx: Any) -> Any:
            return HandoffSession("Go on.", wish)

    given = ToolCallOutput(ToolCallSuccess("Yes."), HandoffSession("Go on.", wish))
    plugins = [Wants()] if by == "hook" else []
    async with opened(*plugins, says=TRANSFER, tools=[transfer(lambda: given)]) as lash:
        session = await lash.session("one")
        turn = await session.run("Hello", turn_id="t")
        assert turn.outcome == Stopped(StopReason.RUNTIME_ERROR)
        (issue,) = [each for each in turn.errors if each.blocking]
        assert (issue.plugin_id, text in issue.message) == ("mine" if by == "hook" else "application", True)
        assert "`HandoffSession`" in issue.message
        assert [each.session_id for each in await lash.store.list_sessions()] == ["one"]


async def test_a_successor_that_could_ask_no_model_is_not_made(tmp_path: Path) -> None:
    """It was, and blocked: its budget is in dollars, and its model has no price. A replay judges nothing again."""
    url, keep = file_store(tmp_path), ["plugins.disabled=hello", "durability.keep_journal_h=1"]
    priced, unpriced = (
        'models."test:model".prices={input = 1, output = 1}',
        'models."test:other".prices={as_of = "never"}',
    )

    def settings(*more: str) -> Settings:
        return load_settings(env={}, sets=[*keep, *more])

    plugins = [Says("one", HandoffSession("Go.", CreateSession(session_id="desk", model="test:other")))]
    dollar = Budget(max_cost=1.0)
    async with agent(["A."] * 3, store=url, plugins=plugins, settings=settings(priced, unpriced)) as lash:
        turn = await (await lash.session("one", budget=dollar)).run("Hello")
        assert turn.outcome == Stopped(StopReason.RUNTIME_ERROR)
        (issue,) = [each for each in turn.errors if each.blocking]
        assert issue.plugin_id == "one"
        assert "nobody can hold `max_cost` with model `test:other`" in issue.message
        assert [each.session_id for each in await lash.store.list_sessions()] == ["one"]
    both = settings(priced, priced.replace('model"', 'other"'))
    async with agent(["A."] * 3, store=url, plugins=plugins, settings=both) as lash:
        turn = await (await lash.session("one")).run("Hello", turn_id="t")
        assert isinstance(turn.outcome, Handoff)
    async with agent([], store=url, plugins=plugins, settings=settings(priced, unpriced)) as lash:
        assert (await lash.replay("t")).differences == ()


async def test_without_a_journal_there_is_nowhere_to_keep_a_task(tmp_path: Path) -> None:
    toml = '[durability]\neffects = "inline"\n'
    async with opened(Before(), toml=toml, folder=tmp_path) as lash:
        turn = await (await lash.session("one")).run("Hello")
        assert turn.outcome == Stopped(StopReason.RUNTIME_ERROR)
        assert "`HandoffSession` with a task needs a journal" in turn.errors[0].message


async def test_a_directive_has_its_place() -> None:
    """None hands a turn off before a tool: a tool's output does that."""

    class Wrong(Plugin):
        @hookimpl
        def lash_before_tool_call(self) -> Any:
            return HandoffSession("Go on.")

    async with opened(Wrong(), says=TRANSFER, tools=[transfer(lambda: ToolCallOutput(ToolCallSuccess(1)))]) as lash:
        turn = await (await lash.session("one")).run("Hello")
        (call,) = turn.tool_calls
        assert "plugin `mine`" in call.output.outcome.message  # type: ignore[union-attr]  # it failed
        assert "HandoffSession" in call.output.outcome.message  # type: ignore[union-attr]  # the same


def test_a_handoff_has_one_task() -> None:
    with pytest.raises(ValueError, match="its own `task` is what the session is told first"):
        HandoffSession("Go on.", CreateSession(task="And this."))
    with pytest.raises(TypeError, match=r"`HandoffSession.task` must be text"):
        HandoffSession(1)  # type: ignore[arg-type]  # what a user may get wrong


# ---- replaying ------------------------------------------------------------------------------------------------------


async def test_a_turn_that_made_sessions_is_replayed_whatever_became_of_them(tmp_path: Path) -> None:
    """A replay asked its store for what that didn't have, so `lash replay` broke on each such turn."""

    class Both(Before):
        def say(self, ctx: Any) -> Any:
            both = [CreateSession(task="Take notes."), HandoffSession("Go on.", DESK)]
            return both if ctx.session_id == "one" else []

    keep = "[durability]\nkeep_journal_h = 1\n"
    async with opened(Both(), says=["Two.", "Noted."], store=file_store(tmp_path), toml=keep, folder=tmp_path) as lash:
        session = await lash.session("one")
        turn = await session.run("Hello", turn_id="t")
        assert (await lash.replay("t")).differences == ()
        followed = await session.follow(turn)
        assert (await lash.replay("t")).turn == followed.turns[0]
        await lash.delete_session("desk")
        assert (await lash.replay("t")).differences == ()
