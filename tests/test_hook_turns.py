"""Hooks of a turn, in the order in which a turn calls them."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from attrs import frozen
from hook_kit import Plugin, Told, asked, failure, opened, system_prompt

from lash_hookspecs import (
    AbortTurn,
    AssembledTurn,
    CheckpointKind,
    EmitEvents,
    EnqueueMessages,
    MessageRole,
    PluginMessage,
    PluginOrigin,
    PluginSurface,
    PromptContribution,
    PromptSlot,
    QueuedMessagesCommitted,
    SessionStateSpec,
    Stopped,
    StopReason,
    SurfaceEvent,
    Tool,
    TurnContext,
    TurnInput,
    hookimpl,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply

SHOUT = Reply(text="Let me shout.", tool_calls=[Call("shout", {"text": "hi"}, "c1")])


@tool
async def shout(text: str) -> str:
    "The text in capital letters."
    return text.upper()


class Shouting(Plugin):
    @hookimpl
    def lash_tools(self) -> list[Tool]:
        return [shout]


class Raising(Plugin):
    """A base for hooks that raise, or return what they shouldn't."""

    def __init__(self, fault: str) -> None:
        super().__init__("bad")
        self.fault = fault

    def go_wrong(self) -> Any:
        if self.fault == "raises":
            raise RuntimeError("it is broken")
        return {"not": "a directive"}


either_fault = pytest.mark.parametrize("fault", ["raises", "returns something else"])


async def watched(session: Any, given: str) -> tuple[list[Any], AssembledTurn]:
    """A turn's events, and its result."""
    async with session.turn(given) as running:
        events = [activity.event async for activity in running]
        return events, await running.result()


# ---- lash_before_turn -----------------------------------------------------------------------------------------------


async def test_hook_lash_before_turn_is_told_of_the_turn() -> None:
    @frozen
    class Wish:
        tone: str = "soft"

    class Noted(Shouting):
        @hookimpl
        async def lash_before_turn(self, ctx: Any) -> None:
            assert [each.name for each in ctx.tools if each.name == "shout"] == ["shout"]
            assert ctx.turn_input.items[0].text == "Hello"
            self.calls.append(
                (ctx.session_id, ctx.turn_id, ctx.turn_index, ctx.iteration, ctx.mode_id, ctx.messages[-1].text)
            )
            self.calls.append((ctx.plugin_input(Wish), ctx.plugin_input(dict), ctx.policy.model))

    plugin = Noted(turn_input=Wish)
    given = TurnInput.text("Hello")
    async with opened(plugin, says=["One.", "Two."]) as lash:
        session = await lash.session("one")
        await session.run("Hello", turn_id="first")
        wishing = TurnInput(items=given.items, context=TurnContext(plugin_inputs={"mine": Wish("loud")}))
        await session.run(wishing, turn_id="second")
    assert plugin.calls == [
        ("one", "first", 0, 0, "standard", "Hello"),
        (None, None, "told:model"),
        ("one", "second", 1, 0, "standard", "Hello"),
        (Wish("loud"), None, "told:model"),
    ]


async def test_hook_lash_before_turn_adds_messages_that_stay_and_messages_that_do_not() -> None:
    class Adding(Plugin):
        @hookimpl
        async def lash_before_turn(self, ctx: Any) -> list[EnqueueMessages]:
            if ctx.turn_index:
                return []
            return [EnqueueMessages.note("Remember this."), EnqueueMessages.note("Forget this.", transient=True)]

    model = Told(["One.", "Two."])
    async with opened(Adding(), says=model) as lash:
        session = await lash.session("one")
        await session.run("Hello")
        await session.run("And now?")
        messages = await session.messages()
    assert "Remember this." in asked(model, 0)
    assert "Forget this." in asked(model, 0)
    assert "Remember this." in asked(model, 1)
    assert "Forget this." not in asked(model, 1)
    (note,) = [each for each in messages if each.role is MessageRole.SYSTEM]
    assert (note.text, note.origin) == ("Remember this.", PluginOrigin("mine"))


@pytest.mark.statement(14, page="plugin-system")
async def test_hook_lash_before_turn_shows_events_in_the_name_of_its_plugin() -> None:
    """Whoever watches the turn sees them, with the plugin's id."""

    class Showing(Plugin):
        @hookimpl
        async def lash_before_turn(self) -> EmitEvents:
            return EmitEvents((SurfaceEvent(name="weather", payload={"rain": True}),))

    async with opened(Showing()) as lash:
        events, _ = await watched(await lash.session("one"), "Hello")
    assert PluginSurface(plugin_id="mine", name="weather", payload={"rain": True}) in events


@pytest.mark.statement(24, page="plugin-system")
async def test_hook_lash_before_turn_aborts_before_the_model_is_called_and_what_was_enqueued_is_kept() -> None:
    """The model isn't asked, and the messages of the plugin stay."""

    class Aborting(Plugin):
        @hookimpl
        async def lash_before_turn(self) -> list[Any]:
            return [AbortTurn("first", "no"), EnqueueMessages.note("Why not."), AbortTurn("last", "really not")]

    model = Told([])
    async with opened(Aborting(), says=model) as lash:
        session = await lash.session("one")
        turn = await session.run("Hello")
        texts = [each.text for each in await session.messages()]
    assert model.requests == []
    assert turn.outcome == Stopped(StopReason.PLUGIN_ABORT)
    assert turn.errors[-1].code == "last"
    assert turn.errors[-1].plugin_id == "mine"
    assert texts == ["Hello", "Why not."]


async def test_hook_lash_before_turn_may_not_speak_for_the_assistant() -> None:
    class Pretending(Plugin):
        @hookimpl
        async def lash_before_turn(self) -> EnqueueMessages:
            return EnqueueMessages((PluginMessage(role=MessageRole.ASSISTANT, content="Yes."),))

    async with opened(Pretending()) as lash:
        turn = await (await lash.session("one")).run("Hello")
    assert failure(turn)[0] == "runtime_error"
    assert "plugin `mine`" in turn.errors[0].message


@either_fault
async def test_hook_lash_before_turn_that_raises_fails_the_turn(fault: str) -> None:
    class Bad(Raising):
        @hookimpl
        async def lash_before_turn(self) -> Any:
            return self.go_wrong()

    model = Told(["Done."])
    async with opened(Bad(fault), says=model) as lash:
        session = await lash.session("one")
        turn = await session.run("Hello")
        texts = [each.text for each in await session.messages()]
    assert failure(turn) == ("runtime_error", "lash_before_turn")
    assert "plugin `bad`" in turn.errors[0].message
    assert (model.requests, texts) == ([], ["Hello"])


# ---- lash_prompt_contributions --------------------------------------------------------------------------------------


class Telling(Shouting):
    @hookimpl
    async def lash_prompt_contributions(self, ctx: Any) -> list[PromptContribution]:
        self.calls.append(ctx.iteration)
        return [
            PromptContribution(content=f"Asked {ctx.iteration} times.", slot=PromptSlot.RUNTIME_CONTEXT),
            PromptContribution(content="Shouting hurts.", tools=frozenset({"shout"})),
            PromptContribution(content="Whispering is fine.", tools=frozenset({"whisper"})),
        ]


async def test_hook_lash_prompt_contributions_are_asked_for_before_every_iteration() -> None:
    plugin, model = Telling(), Told([SHOUT, "Done."])
    async with opened(plugin, says=model) as lash:
        await (await lash.session("one")).run("Hello")
    assert plugin.calls == [0, 1]
    assert "Asked 0 times." in system_prompt(model, 0)
    assert "Asked 1 times." in system_prompt(model, 1)


async def test_hook_lash_prompt_contributions_are_explained_by_plugin_and_dropped_without_their_tools() -> None:
    model = Told(["Done."])
    async with opened(Telling(), says=model) as lash:
        turn = await (await lash.session("one")).run("Hello")
        explained = await lash.explain(turn.turn_id)
    assert "Shouting hurts." in system_prompt(model)
    assert "Whispering is fine." not in system_prompt(model)
    mine = [each for each in explained.prompt if "mine" in each.plugin_ids]
    assert "Asked 0 times." in "".join(each.text for each in mine)
    assert [each.dropped is not None for each in mine].count(True) == 1


@either_fault
async def test_hook_lash_prompt_contributions_that_raise_fail_the_turn(fault: str) -> None:
    class Bad(Raising):
        @hookimpl
        async def lash_prompt_contributions(self) -> Any:
            return self.go_wrong()

    model = Told(["Done."])
    async with opened(Bad(fault), says=model) as lash:
        turn = await (await lash.session("one")).run("Hello")
    assert failure(turn)[0] == "runtime_error"
    assert "plugin `bad`" in turn.errors[0].message
    assert model.requests == []


async def test_hook_lash_prompt_contributions_that_raise_later_fail_the_turn_too() -> None:
    class Bad(Shouting):
        @hookimpl
        async def lash_prompt_contributions(self, ctx: Any) -> None:
            if ctx.iteration == 1:
                raise RuntimeError("it is broken")

    model = Told([SHOUT, "Done."])
    async with opened(Bad(), says=model) as lash:
        turn = await (await lash.session("one")).run("Hello")
    assert failure(turn)[0] == "runtime_error"
    assert "plugin `mine`" in turn.errors[0].message
    assert len(model.requests) == 1


# ---- lash_checkpoint ------------------------------------------------------------------------------------------------


async def test_hook_lash_checkpoint_comes_after_work_and_before_completion() -> None:
    class Noted(Shouting):
        contexts: list[Any]

        @hookimpl
        async def lash_checkpoint(self, ctx: Any) -> None:
            self.calls.append((ctx.kind, ctx.iteration, ctx.messages[-1].role))
            self.contexts.append(ctx)

    plugin = Noted()
    plugin.contexts = []
    async with opened(plugin, says=[SHOUT, "Done."]) as lash:
        await (await lash.session("one")).run("Hello")
    (after_work, before_completion) = plugin.calls
    assert plugin.contexts[0] is plugin.contexts[1]  # a turn makes one per plugin, and brings it up to date
    assert after_work[:2] == (CheckpointKind.AFTER_WORK, 1)
    # The answer is there already when its checkpoint comes.
    assert before_completion == (CheckpointKind.BEFORE_COMPLETION, 1, MessageRole.ASSISTANT)


@pytest.mark.statement(25, page="plugin-system")
@pytest.mark.parametrize("transient", [False, True])
async def test_hook_lash_checkpoint_before_completion_makes_the_model_think_again(transient: bool) -> None:
    """What a checkpoint adds is in the model's next request."""

    class Doubting(Plugin):
        @hookimpl
        async def lash_checkpoint(self, ctx: Any) -> EnqueueMessages | None:
            return EnqueueMessages.note("Are you sure?", transient=transient) if ctx.iteration == 0 else None

    model = Told(["Four.", "Five."])
    async with opened(Doubting(), says=model) as lash:
        session = await lash.session("one")
        events, turn = await watched(session, "2 + 2?")
        texts = [each.text for each in await session.messages()]
    assert turn.text == "Five."
    assert "Are you sure?" in asked(model, 1)
    assert ("Are you sure?" in texts) is not transient
    (committed,) = [each for each in events if isinstance(each, QueuedMessagesCommitted)]
    assert committed.checkpoint is CheckpointKind.BEFORE_COMPLETION
    assert committed.messages[0].origin == PluginOrigin("mine", transient)


async def test_hook_lash_checkpoint_stays_within_the_limit_of_the_turn() -> None:
    class Never(Plugin):
        @hookimpl
        async def lash_checkpoint(self, ctx: Any) -> EnqueueMessages:
            self.calls.append(ctx.iteration)
            return EnqueueMessages.note("Again.")

    plugin, model = Never(), Told(["No."] * 9)
    async with opened(plugin, says=model, max_turns=3) as lash:
        turn = await (await lash.session("one")).run("Hello")
    assert turn.outcome == Stopped(StopReason.MAX_TURNS)
    assert len(model.requests) <= 4


async def test_hook_lash_checkpoint_may_abort() -> None:
    class Strict(Shouting):
        @hookimpl
        async def lash_checkpoint(self, ctx: Any) -> list[Any]:
            if ctx.kind is CheckpointKind.BEFORE_COMPLETION:
                return []
            return [AbortTurn("shouting", "no shouting here"), EmitEvents((SurfaceEvent(name="stopped"),))]

    model = Told([SHOUT, "Done."])
    async with opened(Strict(), says=model) as lash:
        session = await lash.session("one")
        events, turn = await watched(session, "Hello")
        again = await session.run("Go on")
    assert turn.outcome == Stopped(StopReason.PLUGIN_ABORT)
    assert [each.code for each in turn.errors if each.blocking] == ["shouting"]
    assert PluginSurface(plugin_id="mine", name="stopped") in events
    assert again.is_success  # the conversation is still a valid one


async def test_hook_lash_checkpoint_that_aborts_lets_plugins_keep_what_they_remember() -> None:
    """An aborted turn is committed, and with it the states that its hooks set."""

    @frozen
    class Count:
        aborts: int = 0

    class Counting(Plugin):
        @hookimpl
        def lash_session_state(self) -> SessionStateSpec:
            return SessionStateSpec(state=Count)

        @hookimpl
        async def lash_checkpoint(self, ctx: Any) -> AbortTurn:
            self.calls.append(ctx.state.aborts)
            ctx.set_state(Count(ctx.state.aborts + 1))
            return AbortTurn("enough", "no more")

    plugin = Counting()
    async with opened(plugin, says=["One.", "Two."]) as lash:
        session = await lash.session("one")
        for _ in range(2):
            assert (await session.run("Hello")).outcome == Stopped(StopReason.PLUGIN_ABORT)
    assert plugin.calls == [0, 1]


@either_fault
async def test_hook_lash_checkpoint_that_raises_fails_the_turn(fault: str) -> None:
    class Bad(Raising):
        @hookimpl
        async def lash_checkpoint(self) -> Any:
            return self.go_wrong()

    async with opened(Bad(fault)) as lash:
        turn = await (await lash.session("one")).run("Hello")
    assert failure(turn) == ("runtime_error", "lash_checkpoint")
    assert "plugin `bad`" in turn.errors[0].message


# ---- lash_after_turn ------------------------------------------------------------------------------------------------


async def test_hook_lash_after_turn_gets_the_turn_and_adds_to_it() -> None:
    class Closing(Shouting):
        @hookimpl
        async def lash_after_turn(self, ctx: Any, turn: AssembledTurn) -> EnqueueMessages | None:
            self.calls.append((ctx.turn_id, turn.turn_id, turn.text, len(turn.tool_calls), ctx.messages[-1].text))
            return None if ctx.turn_index else EnqueueMessages.note("That took long.")

    plugin, model = Closing(), Told([SHOUT, "Done.", "Again."])
    async with opened(plugin, says=model) as lash:
        session = await lash.session("one")
        await session.run("Hello", turn_id="first")
        texts = [each.text for each in await session.messages()]
        await session.run("And now?")
    assert plugin.calls[0] == ("first", "first", "Done.", 1, "Done.")
    assert texts[-2:] == ["Done.", "That took long."]
    assert "That took long." in asked(model)


async def test_hook_lash_after_turn_is_called_for_a_turn_that_stopped() -> None:
    class Closing(Plugin):
        @hookimpl
        async def lash_after_turn(self, turn: AssembledTurn) -> None:
            self.calls.append(turn.outcome)

    plugin = Closing()
    async with opened(plugin, says=[]) as lash:
        await (await lash.session("one")).run("Hello")
    assert plugin.calls == [Stopped(StopReason.PROVIDER_ERROR)]


async def test_hook_lash_after_turn_shows_events() -> None:
    class Showing(Plugin):
        @hookimpl
        async def lash_after_turn(self) -> EmitEvents:
            return EmitEvents((SurfaceEvent(name="weather"),))

    async with opened(Showing()) as lash:
        events, _ = await watched(await lash.session("one"), "Hello")
    assert PluginSurface(plugin_id="mine", name="weather") in events


async def test_hook_lash_after_turn_may_abort() -> None:
    class Strict(Plugin):
        @hookimpl
        async def lash_after_turn(self) -> AbortTurn:
            return AbortTurn("unwanted", "not like this")

    async with opened(Strict()) as lash:
        turn = await (await lash.session("one")).run("Hello")
    assert turn.outcome == Stopped(StopReason.PLUGIN_ABORT)
    assert [each.code for each in turn.errors if each.blocking] == ["unwanted"]


@either_fault
async def test_hook_lash_after_turn_that_raises_fails_the_turn(fault: str) -> None:
    class Bad(Raising):
        @hookimpl
        async def lash_after_turn(self) -> Any:
            return self.go_wrong()

    async with opened(Bad(fault)) as lash:
        session = await lash.session("one")
        turn = await session.run("Hello")
        stored = (await lash.load_history("one")).turns
    assert failure(turn) == ("runtime_error", "lash_after_turn")
    assert [failure(each) for each in stored] == [failure(turn)]


# ---- lash_turn_committed --------------------------------------------------------------------------------------------


async def test_hook_lash_turn_committed_is_told_after_the_commit() -> None:
    class Noted(Plugin):
        lash: Any = None

        @hookimpl
        async def lash_turn_committed(self, ctx: Any, turn: AssembledTurn) -> None:
            stored = (await self.lash.load_history(ctx.session_id)).turns
            self.calls.append((turn.turn_id, turn.text, [each.turn_id for each in stored]))

    plugin = Noted()
    async with opened(plugin) as lash:
        plugin.lash = lash
        await (await lash.session("one")).run("Hello", turn_id="first")
    assert plugin.calls == [("first", "Done.", ["first"])]


async def test_hook_lash_turn_committed_is_not_told_again_of_a_turn_that_was_stored_before() -> None:
    class Noted(Plugin):
        @hookimpl
        async def lash_turn_committed(self, turn: AssembledTurn) -> None:
            self.calls.append(turn.turn_id)

    plugin = Noted()
    async with opened(plugin) as lash:
        session = await lash.session("one")
        turns = [await session.run("Hello", turn_id="first") for _ in range(2)]
    assert plugin.calls == ["first"]
    assert turns[0].text == turns[1].text


@pytest.mark.statement(27, page="plugin-system")
async def test_hook_lash_turn_committed_that_raises_is_an_issue_and_the_commit_stands(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The turn is told with the issue, and is there."""

    class Bad(Plugin):
        @hookimpl
        async def lash_turn_committed(self) -> None:
            raise RuntimeError("it is broken")

    class Noted(Plugin):
        @hookimpl
        async def lash_turn_committed(self, turn: AssembledTurn) -> None:
            self.calls.append(turn.turn_id)

    other = Noted("z")
    with caplog.at_level(logging.WARNING):
        async with opened(Bad("a"), other) as lash:
            turn = await (await lash.session("one")).run("Hello")
            (stored,) = (await lash.load_history("one")).turns
    assert turn.is_success
    (issue,) = turn.errors
    assert (issue.plugin_id, issue.code, issue.blocking) == ("a", "lash_turn_committed", False)
    assert "it is broken" in issue.message
    assert stored.errors == ()
    assert other.calls == [turn.turn_id]


async def test_a_message_whose_id_the_conversation_has_is_not_added_again() -> None:
    """With an id of its own a plugin says something once, in whichever turn and hook."""

    class Says(Plugin):
        def _say(self) -> EnqueueMessages:
            message = PluginMessage(id="once", role=MessageRole.SYSTEM, content="Mind the gap.")
            return EnqueueMessages((message, message))

        @hookimpl
        def lash_before_turn(self) -> EnqueueMessages:
            return self._say()

        @hookimpl
        def lash_checkpoint(self) -> EnqueueMessages:
            return self._say()

        @hookimpl
        def lash_after_turn(self) -> EnqueueMessages:
            return self._say()

    async with opened(Says(), says=Told(["One.", "Two."])) as lash:
        session = await lash.session("s")
        for text in ("Hello", "And?"):
            assert (await session.run(text)).is_success
        messages = await session.messages()
    assert [each.text for each in messages] == ["Hello", "Mind the gap.", "One.", "And?", "Two."]
