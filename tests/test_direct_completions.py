"""`ctx.completions`: what hooks and tools ask models on their own. Paid once, recorded at once, counted, replayed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import agent, plugin
from crash_kit import url_in

from lash_framework import Lash
from lash_framework.settings import load_settings
from lash_hookspecs import (
    AssembledTurn,
    CapabilityMissing,
    ChildUsage,
    DirectCompletion,
    FrameSeed,
    LlmCallError,
    LlmCallFailed,
    LlmMessage,
    LlmRequest,
    LlmRole,
    MessageRole,
    ReplayError,
    TextBlock,
    TokenUsage,
    TurnBlocked,
    text_message,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply

KEEPS = load_settings(env={}, sets=["durability.keep_journal_h=1", "plugins.disabled=hello"])
COST = TokenUsage(input=10, output=5)
ASIDE = TokenUsage(input=3, output=2)


def last(request: LlmRequest) -> str:
    return "".join(getattr(each, "text", "") for each in request.messages[-1].blocks)


class Model:
    """Answers what is asked aside, `aside …`, and has a turn with one tool call, then an answer. Counts both."""

    def __init__(self, tool_name: str | None = None) -> None:
        self.asked = Counter[str]()
        self._tool_name = tool_name

    def __call__(self, request: LlmRequest) -> Reply:
        if (text := last(request)).startswith("aside"):
            self.asked[text] += 1
            return Reply(text=f"<{text}>", usage=ASIDE)
        said = sum(each.role is LlmRole.ASSISTANT for each in request.messages)
        self.asked[f"turn {said}"] += 1
        if self._tool_name and not said:
            return Reply(text="I do.", tool_calls=[Call(self._tool_name, {}, "call")], usage=COST)
        return Reply(text="Done.", usage=COST)


async def run(lash: Lash, turn_id: str = "t") -> AssembledTurn:
    return await (await lash.session("s")).run("Hello", turn_id=turn_id)


def everywhere(answers: list[str]) -> object:
    """A plugin that asks in every hook that can."""

    async def ask(ctx: Any, what: str) -> None:
        answers.append((await ctx.completions.complete(f"aside {what}")).text)

    async def lash_prepare_context(ctx: Any) -> None:
        await ask(ctx, "prepare")

    async def lash_before_turn(ctx: Any) -> None:
        await ask(ctx, "before turn")

    async def lash_before_llm_call(ctx: Any) -> None:
        await ask(ctx, f"before llm {ctx.iteration}")

    async def lash_assistant_response(ctx: Any) -> None:
        await ask(ctx, f"response {ctx.iteration}")

    async def lash_checkpoint(ctx: Any) -> None:
        await ask(ctx, f"{ctx.kind} {ctx.iteration}")

    async def lash_before_tool_call(ctx: Any) -> None:
        await ask(ctx, "before tool")

    async def lash_after_tool_call(ctx: Any) -> None:
        await ask(ctx, "after tool")

    async def lash_tool_result_view(ctx: Any) -> None:
        await ask(ctx, "view")

    async def lash_after_turn(ctx: Any) -> None:
        await ask(ctx, "after turn")

    hooks = [each for name, each in locals().items() if name.startswith("lash_")]
    return plugin("asks", *hooks)


@tool(effect="pure")
async def look(ctx: Any) -> str:
    "Look."
    return str((await ctx.completions.complete("aside look")).text)


EVERYWHERE = [
    "prepare",
    "before turn",
    "before llm 0",
    "response 0",
    "before tool",
    "after tool",
    "view",
    "after_work 1",
    "before llm 1",
    "response 1",
    "before_completion 1",
    "after turn",
]


@pytest.mark.statement(26, page="effects")
async def test_every_hook_within_an_effect_and_every_tool_may_ask_and_a_replay_asks_nobody(tmp_path: Path) -> None:
    """Amended: what an effect asks aside has a record of its own, so that nobody pays for it again."""
    url, model, answers = url_in(tmp_path / "one"), Model("look"), list[str]()
    async with agent(model, store=url, plugins=[everywhere(answers)], tools=[look], settings=KEEPS) as lash:
        turn = await run(lash)
    assert turn.is_success, turn.errors
    assert answers == [f"<aside {each}>" for each in EVERYWHERE]
    assert model.asked == Counter([*(f"aside {each}" for each in EVERYWHERE), "aside look", "turn 0", "turn 1"])
    counted = {(each.source, each.model): each.usage for each in turn.children_usage}
    times = len(EVERYWHERE)
    assert counted == {
        ("asks", "test:model"): TokenUsage(input=3 * times, output=2 * times),
        ("application", "test:model"): ASIDE,
    }
    assert turn.usage == TokenUsage(input=20 + 3 * (times + 1), output=10 + 2 * (times + 1))
    answers.clear()
    async with agent([], store=url, plugins=[everywhere(answers)], tools=[look], settings=KEEPS) as lash:
        assert (await lash.replay("t")).differences == ()
        usage = (await (await lash.session("s")).usage()).entries
    assert answers == []
    assert {each.source: each.usage for each in usage}["application"] == ASIDE


async def test_a_turn_whose_plugins_ask_nothing_has_the_same_records_and_writes(tmp_path: Path) -> None:
    """And asking costs two writes: what was begun, and what came of it."""
    written: dict[str, list[list[str]]] = {}

    async def lash_checkpoint(ctx: Any) -> None:
        assert ctx.completions is not None

    async def asking(ctx: Any) -> None:
        await ctx.completions.complete("aside")

    asking.__name__ = "lash_checkpoint"
    for name, hooks in {"none": [], "quiet": [lash_checkpoint], "asks": [asking]}.items():
        async with agent(Model(), store=url_in(tmp_path / name), plugins=[plugin("p", *hooks)]) as lash:
            writes: list[list[str]] = []
            append = lash.store.append_journal

            async def append_journal(lease: Any, no: int, rows: Any, append: Any = append, **options: Any) -> None:
                writes.append([f"{row.kind} {row.status}" for row in rows])  # noqa: B023
                await append(lease, no, rows, **options)

            lash.store.append_journal = append_journal  # type: ignore[method-assign]  # for one
            await run(lash)
            written[name] = writes
    assert [each for each in written["none"] if "direct" in str(each)] == []
    flat = {name: [row for rows in each for row in rows] for name, each in written.items()}
    assert [row for row in flat["asks"] if "direct" in row] == ["direct intent", "direct done"]
    assert written["quiet"] == written["none"]
    assert len(written["asks"]) == len(written["quiet"]) + 2


# ---- keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.statement(27, page="effects")
async def test_calls_without_a_key_at_once_are_refused_and_those_with_keys_run_at_once() -> None:
    """Calls without a key are told apart by their order, which calls at once don't have."""
    model, found = Model(), list[object]()

    async def lash_before_turn(ctx: Any) -> None:
        async def ask(**options: Any) -> None:
            try:
                found.append((await ctx.completions.complete("aside", **options)).text)
            except Exception as error:
                found.append(str(error))

        async with anyio.create_task_group() as group:
            group.start_soon(lambda: ask(key="a"))
            group.start_soon(lambda: ask(key="b"))
            group.start_soon(ask)
            group.start_soon(ask)

    async with agent(model, plugins=[plugin("asks", lash_before_turn)]) as lash:
        assert (await run(lash)).is_success
    assert found.count("<aside>") == 3
    (refused,) = (each for each in found if each != "<aside>")
    assert "plugin `asks`" in str(refused)
    assert "give each a `key=`" in str(refused)


async def test_a_key_is_good_for_one_call_in_an_effect() -> None:
    async def lash_before_turn(ctx: Any) -> None:
        for _ in range(2):
            await ctx.completions.complete("aside", key="a")

    async with agent(Model(), plugins=[plugin("asks", lash_before_turn)]) as lash:
        turn = await run(lash)
    assert "the key `a` was used before" in turn.errors[0].message
    assert turn.usage == ASIDE  # which was paid, though the turn failed


async def test_two_plugins_may_have_the_same_key() -> None:
    def asks(name: str) -> object:
        async def lash_before_turn(ctx: Any) -> None:
            await ctx.completions.complete(f"aside {name}", key="title")

        return plugin(name, lash_before_turn)

    async with agent(model := Model(), plugins=[asks("a"), asks("b")]) as lash:
        turn = await run(lash)
    assert turn.is_success, turn.errors
    assert [each.source for each in turn.children_usage] == ["a", "b"]
    assert sum(model.asked.values()) == 3


async def test_one_plugin_more_shifts_nobody_elses_calls(tmp_path: Path) -> None:
    """The keys of one plugin's calls don't count those of another."""
    url = url_in(tmp_path / "one")

    def asks(name: str) -> object:
        async def lash_checkpoint(ctx: Any) -> None:
            await ctx.completions.complete(f"aside {name}")
            if stops:
                raise KeyboardInterrupt

        return plugin(name, lash_checkpoint)

    stops, model = [True], Model()
    with pytest.raises(BaseException):  # noqa: B017, PT011  # an interrupt, in a group or not
        async with agent(model, store=url, plugins=[asks("b")]) as lash:
            await run(lash)
    stops.clear()
    async with agent(model, store=url, plugins=[asks("a"), asks("b")]) as lash:
        turn = await run(lash)
    assert turn.is_success, turn.errors
    assert (model.asked["aside b"], model.asked["aside a"]) == (1, 1)


async def test_another_question_under_the_same_key_is_a_mismatch(tmp_path: Path) -> None:
    """Nothing is committed, and the plugin can't swallow it."""
    url, stops = url_in(tmp_path / "one"), [True]

    async def lash_before_turn(ctx: Any) -> None:
        try:
            await ctx.completions.complete("aside one" if stops else "aside two")
        except ReplayError:
            return
        if stops:
            raise KeyboardInterrupt

    asks = plugin("asks", lash_before_turn)
    with pytest.raises(BaseException):  # noqa: B017, PT011  # an interrupt, in a group or not
        async with agent(Model(), store=url, plugins=[asks]) as lash:
            await run(lash)
    stops.clear()
    async with agent(model := Model(), store=url, plugins=[asks]) as lash:
        with pytest.raises(TurnBlocked, match="direct turn_start:asks:0 is not what was recorded"):
            await run(lash)
    assert model.asked == {}


async def test_a_client_that_outlives_its_hook_is_refused() -> None:
    kept: list[Any] = []

    async def lash_before_turn(ctx: Any) -> None:
        kept.append(ctx.completions)

    async def lash_checkpoint(ctx: Any) -> None:
        await kept[0].complete("aside")

    async with agent(model := Model(), plugins=[plugin("asks", lash_before_turn, lash_checkpoint)]) as lash:
        turn = await run(lash)
    assert "had returned" in turn.errors[0].message
    assert model.asked["aside"] == 0


# ---- what is asked --------------------------------------------------------------------------------------------------


async def test_a_text_with_instructions_or_a_whole_request_is_asked_of_any_model() -> None:
    requests: list[LlmRequest] = []

    def say(request: LlmRequest) -> Reply:
        requests.append(request)
        return Reply(text="Hm.", usage=ASIDE)

    found: list[DirectCompletion] = []

    async def lash_before_turn(ctx: Any) -> None:
        found.append(await ctx.completions.complete("Why?", instructions="Be brief.", model="test:small"))
        whole = LlmRequest(model="", messages=[LlmMessage(LlmRole.USER, (TextBlock(text="How?"),))])
        found.append(await ctx.completions.complete(whole, source="curiosity"))

    async with agent(say, plugins=[plugin("asks", lash_before_turn)]) as lash:
        turn = await run(lash)
    assert [(each.text, each.usage, each.response.full_text) for each in found] == [("Hm.", ASIDE, "Hm.")] * 2
    first, second, _ = requests
    assert (first.model, second.model) == ("small", "model")
    assert [each.role for each in first.messages] == [LlmRole.SYSTEM, LlmRole.USER]
    assert [(each.source, each.model) for each in turn.children_usage] == [
        ("asks", "test:small"),
        ("curiosity", "test:model"),
    ]


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "no text": (5, {}, "asked is a `int`, not a text or an `LlmRequest`"),
    "instructions for a request": (
        LlmRequest(model="", messages=[LlmMessage(LlmRole.USER, (TextBlock(text="x"),))]),
        {"instructions": "Be brief."},
        "a request has messages of its own",
    ),
    "an unknown provider": ("x", {"model": "nobody:small"}, "unknown provider `nobody`"),
}


@pytest.mark.parametrize(("asked", "options", "says"), WRONG.values(), ids=WRONG)
async def test_what_cant_be_asked_is_the_plugins_error(asked: Any, options: dict[str, Any], says: str) -> None:
    async def lash_before_turn(ctx: Any) -> None:
        await ctx.completions.complete(asked, **options)

    async with agent(model := Model(), plugins=[plugin("asks", lash_before_turn)]) as lash:
        turn = await run(lash)
    (issue,) = turn.errors
    assert says in issue.message
    assert issue.plugin_id == "asks"
    assert turn.usage == TokenUsage()
    assert model.asked == {}


async def test_text_that_no_store_can_hold_is_mended_before_it_is_asked() -> None:
    async def lash_before_turn(ctx: Any) -> None:
        await ctx.completions.complete("aside \ud800", instructions="\udc00")

    async with agent(model := Model(), plugins=[plugin("asks", lash_before_turn)]) as lash:
        assert (await run(lash)).is_success
    assert sum(model.asked.values()) == 2


async def test_a_failing_model_is_an_error_that_the_plugin_may_catch_and_its_record_fails_again(tmp_path: Path) -> None:
    url, errors = url_in(tmp_path / "one"), list[str]()

    async def lash_before_turn(ctx: Any) -> None:
        try:
            await ctx.completions.complete("aside")
        except LlmCallFailed as error:
            errors.append(str(error))

    def say(request: LlmRequest) -> Any:
        return (
            Reply(error=LlmCallError(message="no power", usage=ASIDE))
            if last(request) == "aside"
            else Reply(text="Done.")
        )

    asks = plugin("asks", lash_before_turn)
    async with agent(say, store=url, plugins=[asks], settings=KEEPS) as lash:
        turn = await run(lash)
        assert (await lash.replay("t")).differences == ()
    assert turn.text == "Done."
    assert errors == ["no power"]
    assert [each.usage for each in turn.children_usage] == [ASIDE]


async def test_wrappers_stand_around_what_is_asked_aside() -> None:
    """They may answer in its place; whose usage it is they can't change."""
    seen: list[str] = []

    async def lash_around_effect(envelope: Any, call_next: Any) -> Any:
        seen.append(envelope.command.kind)
        return await call_next()

    async def lash_before_turn(ctx: Any) -> None:
        await ctx.completions.complete("aside")

    async with agent(Model(), plugins=[plugin("asks", lash_before_turn, lash_around_effect)]) as lash:
        turn = await run(lash)
    assert seen == ["direct", "llm_call"]
    assert [each.source for each in turn.children_usage] == ["asks"]


async def test_who_watches_a_turn_sees_what_is_spent_aside() -> None:
    async def lash_before_turn(ctx: Any) -> None:
        for _ in range(2):
            await ctx.completions.complete("aside")

    async with agent(Model(), plugins=[plugin("asks", lash_before_turn)]) as lash:
        session = await lash.session("s")
        async with session.turn("Hello") as running:
            seen = [each.event async for each in running if isinstance(each.event, ChildUsage)]
    assert [(each.source, each.usage) for each in seen] == [("asks", ASIDE)] * 2
    assert seen[-1].cumulative == ASIDE + ASIDE


async def test_a_compactor_asks_for_its_summary_and_is_not_asked_again_for_a_record(tmp_path: Path) -> None:
    model, url = Model(), url_in(tmp_path / "one")

    async def lash_compact(ctx: Any) -> FrameSeed:
        said = await ctx.completions.complete("aside summary", key="summary")
        return FrameSeed(messages=(text_message("m", MessageRole.USER, said.text),))

    compacts = plugin("compacts", lash_compact)
    async with agent(model, store=url, plugins=[compacts], settings=KEEPS) as lash:
        session = await lash.session("s")
        await session.run("Hello")
        assert await session.compact(turn_id="t") is not None
        assert [each.text for each in await session.messages()] == ["<aside summary>"]
        assert (await lash.replay("t")).differences == ()
        found = {each.source: each.usage for each in (await session.usage()).entries}
    assert found["compacts"] == ASIDE
    assert model.asked["aside summary"] == 1


# ---- ends -----------------------------------------------------------------------------------------------------------


async def test_a_cancelled_call_is_counted_as_at_least_and_so_replayed(tmp_path: Path) -> None:
    url, reached = url_in(tmp_path / "one"), anyio.Event()

    async def lash_before_turn(ctx: Any) -> None:
        await ctx.completions.complete("aside one")
        await ctx.completions.complete("aside two")

    async def say(request: LlmRequest) -> Reply:
        if last(request) == "aside two":
            reached.set()
            await anyio.sleep_forever()
        return Reply(text="Hm.", usage=ASIDE)

    async with agent(say, store=url, plugins=[plugin("asks", lash_before_turn)], settings=KEEPS) as lash:
        session = await lash.session("s")
        async with session.turn("Hello", turn_id="t") as running:
            await reached.wait()
            running.cancel()
            turn = await running.result()
        assert turn.usage == ASIDE + TokenUsage(at_least=True)
        assert (await lash.replay("t")).differences == ()


async def test_what_an_unsafe_tool_has_paid_counts_though_nobody_knows_what_became_of_the_call(tmp_path: Path) -> None:
    url, stops = url_in(tmp_path / "one"), [True]

    @tool
    async def charge(ctx: Any) -> str:
        "Charge."
        await ctx.completions.complete("aside")
        raise KeyboardInterrupt

    with pytest.raises(BaseException):  # noqa: B017, PT011  # an interrupt, in a group or not
        async with agent(Model("charge"), store=url, tools=[charge]) as lash:
            await run(lash)
    stops.clear()
    async with agent(model := Model("charge"), store=url, tools=[charge]) as lash:
        turn = await run(lash)
    assert "nobody knows" in str(turn.tool_calls[0].output)
    assert model.asked == {"turn 1": 1}
    assert [(each.source, each.usage) for each in turn.children_usage] == [("application", ASIDE)]


async def test_an_abandoned_turn_counts_what_was_paid_and_what_was_cut(tmp_path: Path) -> None:
    """The second call was begun when the turn was interrupted; nobody asks for either again."""
    url, reached = url_in(tmp_path / "one"), anyio.Event()

    async def lash_before_turn(ctx: Any) -> None:
        await ctx.completions.complete("aside one")
        await ctx.completions.complete("aside two")

    async def say(request: LlmRequest) -> Reply:
        if last(request) == "aside two":
            reached.set()
            await anyio.sleep_forever()
        return Reply(text="Hm.", usage=ASIDE)

    asks = plugin("asks", lash_before_turn)
    async with agent(say, store=url, plugins=[asks]) as lash, anyio.create_task_group() as group:
        group.start_soon(run, lash)
        await reached.wait()
        group.cancel_scope.cancel()
    async with agent([], store=url, plugins=[asks]) as lash:
        session = await lash.session("s", recover=False)
        turn = (await session.abandon("t")).turn
    assert [each.source for each in turn.children_usage] == ["asks"]
    assert turn.usage == ASIDE + TokenUsage(at_least=True)


async def test_a_call_that_was_cut_is_made_again_and_its_usage_says_at_least(tmp_path: Path) -> None:
    """That of the turn's own model calls is known."""
    url, reached = url_in(tmp_path / "one"), anyio.Event()
    stops = [True]

    async def lash_before_llm_call(ctx: Any) -> None:
        await ctx.completions.complete("aside")

    async def say(request: LlmRequest) -> Reply:
        if stops:
            reached.set()
            await anyio.sleep_forever()
        return Reply(text="Hm.", usage=ASIDE)

    asks = plugin("asks", lash_before_llm_call)
    async with agent(say, store=url, plugins=[asks]) as lash, anyio.create_task_group() as group:
        group.start_soon(run, lash)
        await reached.wait()
        group.cancel_scope.cancel()
    stops.clear()
    async with agent(say, store=url, plugins=[asks]) as lash:
        turn = await run(lash)
    assert turn.token_usage == ASIDE
    assert [each.usage for each in turn.children_usage] == [ASIDE + TokenUsage(at_least=True)]


async def test_what_a_model_call_costs_is_not_forgotten_because_a_hook_asked_before_it(tmp_path: Path) -> None:
    """The turn's own call is cut: the reply that follows says "at least", though what was asked aside is recorded."""
    url, reached, stops = url_in(tmp_path / "one"), anyio.Event(), [True]

    async def lash_before_llm_call(ctx: Any) -> None:
        await ctx.completions.complete("aside")

    async def say(request: LlmRequest) -> Reply:
        if stops and last(request) != "aside":
            reached.set()
            await anyio.sleep_forever()
        return Reply(text="Hm.", usage=ASIDE)

    asks = plugin("asks", lash_before_llm_call)
    async with agent(say, store=url, plugins=[asks]) as lash, anyio.create_task_group() as group:
        group.start_soon(run, lash)
        await reached.wait()
        group.cancel_scope.cancel()
    stops.clear()
    async with agent(say, store=url, plugins=[asks]) as lash:
        turn = await run(lash)
    assert turn.token_usage == ASIDE + TokenUsage(at_least=True)
    assert [each.usage for each in turn.children_usage] == [ASIDE]


async def test_a_checkpoint_that_is_asked_again_in_one_process_asks_no_model_again(tmp_path: Path) -> None:
    """An input is cancelled between the look and the claim: the checkpoint looks again, and its hook runs again."""
    url, calls = url_in(tmp_path / "one"), list[str]()

    async def lash_checkpoint(ctx: Any) -> None:
        calls.append((await ctx.completions.complete("aside")).text)
        if len(calls) == 1:
            for each in await session.inbox():
                if each.turn_id != "t":
                    await session.cancel_queued(each.no)

    async def lash_before_turn(ctx: Any) -> None:
        await session.enqueue("And this.")

    model = Model()
    async with agent(model, store=url, plugins=[plugin("asks", lash_checkpoint, lash_before_turn)]) as lash:
        session = await lash.session("s")
        turn = await session.run("Hello", turn_id="t")
    assert turn.is_success
    assert calls == ["<aside>"] * 2
    assert model.asked["aside"] == 1


# ---- where it isn't -------------------------------------------------------------------------------------------------


async def test_a_hook_without_it_is_told_which_have_it() -> None:
    found: list[str] = []

    async def lash_turn_committed(ctx: Any) -> None:
        with pytest.raises(CapabilityMissing) as error:
            _ = ctx.completions
        found.append(str(error.value))

    async with agent(Model(), plugins=[plugin("asks", lash_turn_committed)]) as lash:
        await run(lash)
    (text,) = found
    assert text.startswith("`ctx.completions` is unavailable in `lash_turn_committed`; it is available in")
    assert "`lash_before_turn`" in text
    assert text.endswith("tools")
