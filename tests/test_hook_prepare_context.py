"""`lash_prepare_context`: what a model is shown of the conversation, for one turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from attrs import evolve
from context_kit import View, summary, talk
from hook_kit import Told, asked, failure, opened, system_prompt
from machine_kit import PICTURE
from test_replay import Records

from lash_hookspecs import (
    AppendSessionNodesRequest,
    Message,
    MessageRole,
    Part,
    PartKind,
    PluginOrigin,
    PreparedContext,
    PromptContribution,
    SessionAppendNode,
    decode,
    hookimpl,
    tool,
)
from lash_hookspecs.effect_outcomes import RuntimeEffectOutcome, TurnStartOutcome
from lash_plugin_provider_scripted import Call, Reply

# ---- what is shown --------------------------------------------------------------------------------------------------


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


# ---- its record -----------------------------------------------------------------------------------------------------


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


# ---- what goes wrong ------------------------------------------------------------------------------------------------


def result_alone(ctx: Any, prepared: PreparedContext) -> PreparedContext:
    part = Part(id="r.p0", kind=PartKind.TOOL_RESULT, content="x", tool_call_id="c1", tool_name="look")
    return prepared.showing([Message(id="r", role=MessageRole.USER, parts=(part,))])


def lost_image(ctx: Any, prepared: PreparedContext) -> PreparedContext:
    part = Part(id="i.p0", kind=PartKind.IMAGE, content="", attachment=PICTURE)
    return prepared.showing([Message(id="i", role=MessageRole.USER, parts=(part,))])


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
