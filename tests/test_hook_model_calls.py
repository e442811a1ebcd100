"""Hooks at the model seam: a decision before a call, the reply's pieces, and the whole reply."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from agents import agent, inline_agent, plugin
from attrs import evolve
from crash_kit import url_in
from model_call_kit import HELLO, Model, count, counting, run, shown, watched

from lash_framework.settings import load_settings
from lash_hookspecs import (
    AbortTurn,
    AssistantChunk,
    AssistantProseDelta,
    AssistantReasoningDelta,
    AssistantReply,
    AttemptReset,
    FailLlmCall,
    LlmCallError,
    LlmEventSender,
    LlmRequest,
    LlmResponse,
    PluginSurface,
    Stopped,
    StopReason,
    StreamDelta,
    StreamReasoningDelta,
    SurfaceEvent,
    TextOutput,
    TokenUsage,
    ToolCallOutputPart,
    TurnBlocked,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply, ScriptedProvider

KEEPS = load_settings(env={}, sets=["durability.keep_journal_h=1"])


# ---- lash_before_llm_call -------------------------------------------------------------------------------------------


async def test_hook_lash_before_llm_call_is_told_of_the_request_and_lets_it_be_made() -> None:
    seen: list[Any] = []

    async def lash_before_llm_call(ctx: Any, request: LlmRequest) -> None:
        seen.append((ctx.turn_id, ctx.iteration, request.messages[-1].blocks[0].text))  # type: ignore[union-attr]  # text

    model = Model(HELLO)
    async with agent(model, plugins=[plugin("p", lash_before_llm_call)]) as lash:
        turn = await run(lash)
    assert (turn.text, model.calls) == ("Hello you.", 1)
    assert seen == [("t", 0, "Hello")]


async def test_hook_lash_before_llm_call_fails_the_call_before_anything_is_spent() -> None:
    """The first that decides has decided: nobody behind it is asked, and the model isn't."""
    asked: list[str] = []

    def lash_before_llm_call() -> FailLlmCall:
        return FailLlmCall("over_budget", "the day's budget is spent")

    def behind() -> None:
        asked.append("behind")

    behind.__name__ = "lash_before_llm_call"
    model = Model(HELLO)
    async with agent(model, plugins=[plugin("a", lash_before_llm_call), plugin("b", behind)]) as lash:
        turn = await run(lash)
    assert turn.outcome == Stopped(StopReason.PROVIDER_ERROR)
    (issue,) = turn.errors
    assert (issue.code, issue.message) == (
        "over_budget",
        "plugin `a` did not let the model be asked: the day's budget is spent",
    )
    assert (model.calls, asked, turn.usage) == (0, [], TokenUsage())


@pytest.mark.statement(24, page="plugin-system")
async def test_hook_lash_before_llm_call_aborts_the_turn_and_no_model_is_called() -> None:
    """As an abort before the turn does, but at any of its calls."""

    @tool
    def look() -> str:
        "Look."
        return "seen"

    def lash_before_llm_call(ctx: Any) -> AbortTurn | None:
        return AbortTurn("enough", "once is enough") if ctx.iteration else None

    model = Model(Reply(tool_calls=[Call("look", {}, "c")]), HELLO)
    async with agent(model, plugins=[plugin("p", lash_before_llm_call)], tools=[look]) as lash:
        turn = await run(lash)
    assert turn.outcome == Stopped(StopReason.PLUGIN_ABORT)
    assert [(each.code, each.plugin_id) for each in turn.errors if each.blocking] == [("enough", "p")]
    assert (model.calls, len(turn.tool_calls)) == (1, 1)
    assert turn.usage.total == 15


@pytest.mark.parametrize("fault", ["raises", "returns something else"])
async def test_hook_lash_before_llm_call_that_goes_wrong_fails_the_turn(fault: str) -> None:
    def lash_before_llm_call() -> Any:
        if fault == "raises":
            raise RuntimeError("it is broken")
        return True

    model = Model(HELLO)
    async with agent(model, plugins=[plugin("bad", lash_before_llm_call)]) as lash:
        turn = await run(lash)
    assert turn.outcome == Stopped(StopReason.RUNTIME_ERROR)
    assert "plugin `bad`, hook `lash_before_llm_call`" in turn.errors[0].message
    assert model.calls == 0


# ---- lash_assistant_stream ------------------------------------------------------------------------------------------


async def test_hook_lash_assistant_stream_changes_what_is_shown_and_not_what_is_answered() -> None:
    def lash_assistant_stream(chunk: AssistantChunk) -> AssistantChunk:
        return evolve(chunk, text=chunk.text.upper(), reasoning=chunk.reasoning.upper())

    async with agent([evolve(HELLO, reasoning="why not")], plugins=[plugin("p", lash_assistant_stream)]) as lash:
        events, turn = await watched(lash)
    assert shown(events) == "HELLO YOU."
    assert "".join(each.text for each in events if isinstance(each, AssistantReasoningDelta)) == "WHY NOT"
    assert turn.text == "Hello you."


async def test_hook_lash_assistant_stream_is_a_chain_and_may_hold_text_back_to_the_last_piece() -> None:
    """`memo` is the plugin's own, per reply; `is_last` is when whoever held something back gives it."""

    def held(ctx: Any, chunk: AssistantChunk) -> AssistantChunk:
        ctx.memo["held"] = ctx.memo.get("held", "") + chunk.text
        return evolve(chunk, text=ctx.memo.pop("held") if chunk.is_last else "")

    def marked(chunk: AssistantChunk) -> AssistantChunk | None:
        return evolve(chunk, text=f"[{chunk.text}]") if chunk.text else None

    held.__name__ = marked.__name__ = "lash_assistant_stream"
    async with agent([HELLO], plugins=[plugin("a", held), plugin("b", marked)]) as lash:
        events, turn = await watched(lash)
    assert [each.text for each in events if isinstance(each, AssistantProseDelta)] == ["[Hello you.]"]
    assert turn.text == "Hello you."


async def test_hook_lash_assistant_stream_takes_text_away_for_good() -> None:
    """What was taken out of the stream isn't shown behind it, as the text of a reply that wasn't streamed is."""

    def lash_assistant_stream(chunk: AssistantChunk) -> AssistantChunk:
        return evolve(chunk, text="")

    async with agent([HELLO], plugins=[plugin("p", lash_assistant_stream)]) as lash:
        events, _ = await watched(lash)
    assert shown(events) == ""


@pytest.mark.statement(14, page="plugin-system")
async def test_hook_lash_assistant_stream_shows_events_in_the_name_of_its_plugin() -> None:
    """Plugin events reach the host as semantic turn events, each in the name of who added it."""

    def one(chunk: AssistantChunk) -> AssistantChunk:
        return evolve(chunk, events=[SurfaceEvent(name="piece", payload=chunk.text)])

    def two(chunk: AssistantChunk) -> AssistantChunk:
        assert chunk.events == ()  # what others show is their own affair
        return evolve(chunk, events=[SurfaceEvent(name="too")])

    one.__name__ = two.__name__ = "lash_assistant_stream"
    async with agent([Reply(text="Hi", deltas=["Hi"])], plugins=[plugin("a", one), plugin("b", two)]) as lash:
        events, _ = await watched(lash)
    found = [(each.plugin_id, each.name, each.payload) for each in events if isinstance(each, PluginSurface)]
    assert found == [("a", "piece", "Hi"), ("b", "too", None), ("a", "piece", ""), ("b", "too", None)]


class Endless(ScriptedProvider):
    """Streams without an end, and notes that it was stopped."""

    stopped = False

    async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
        self.requests.append(request)
        try:
            while True:
                await send([StreamDelta("word "), StreamReasoningDelta("hm ")])
        finally:
            self.stopped = True


async def test_hook_lash_assistant_stream_ends_a_reply_and_what_was_shown_is_the_answer() -> None:
    """The provider is cancelled, and not asked again; what it charges for the rest, nobody knows."""

    def lash_assistant_stream(ctx: Any, chunk: AssistantChunk) -> AssistantChunk | None:
        ctx.memo["words"] = words = ctx.memo.get("words", 0) + bool(chunk.text)
        return (
            evolve(chunk, text="end.", abort_stream="three words are enough")
            if words == 3 and not chunk.is_last
            else None
        )

    model = Endless([])
    async with agent(model, plugins=[plugin("p", lash_assistant_stream)]) as lash:
        events, turn = await watched(lash)
    assert model.stopped
    assert len(model.requests) == 1
    assert (turn.text, shown(events)) == ("word word end.", "word word end.")
    assert turn.is_success
    assert turn.usage == TokenUsage(at_least=True)


async def test_hook_lash_assistant_stream_that_ends_a_reply_before_a_word_fails_the_call() -> None:
    def lash_assistant_stream(chunk: AssistantChunk) -> AssistantChunk:
        return evolve(chunk, text="", abort_stream="nothing to see")

    async with agent(Endless([]), plugins=[plugin("p", lash_assistant_stream)]) as lash:
        turn = await run(lash)
    assert turn.outcome == Stopped(StopReason.PROVIDER_ERROR)
    assert turn.errors[0].code == "plugin_abort_stream"
    assert turn.errors[0].message == "plugin `p` ended the reply: nothing to see; nothing had been said"


class Retrying(Endless):
    """Takes every failure of its stream for one to try again, as some do."""

    async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
        for _ in range(3):
            try:
                return await super().complete(request, send)
            except Exception:
                await send([AttemptReset()])
        raise AssertionError("unreachable")


@pytest.mark.parametrize("fault", ["raises", "returns something else"])
async def test_hook_lash_assistant_stream_that_goes_wrong_fails_the_call_and_nothing_is_tried_again(fault: str) -> None:
    def lash_assistant_stream(ctx: Any) -> Any:
        count(ctx)
        if fault == "raises":
            raise RuntimeError("it is broken")
        return "text"

    model = Retrying([])
    bad = plugin("bad", counting, lash_assistant_stream)
    async with agent(model, plugins=[bad]) as lash:
        turn = await run(lash)
        assert await lash.store.load_session("s") is not None
    assert len(model.requests) == 1
    assert turn.outcome == Stopped(StopReason.PROVIDER_ERROR)
    (issue,) = [each for each in turn.errors if each.blocking]
    assert (issue.code, issue.retryable) == ("plugin_assistant_stream", False)
    assert "call_failed" in [each.kind for each in turn.interventions]
    assert "plugin `bad`, hook `lash_assistant_stream`" in issue.message
    assert turn.usage.at_least


class Again(ScriptedProvider):
    """Takes a first attempt back."""

    async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
        await send([StreamDelta("wrong")])
        await send([AttemptReset()])
        await send([StreamDelta("right")])
        return LlmResponse(full_text="right", parts=(TextOutput(text="right"),))


async def test_hook_lash_assistant_stream_begins_anew_with_a_new_attempt() -> None:
    def lash_assistant_stream(ctx: Any, chunk: AssistantChunk) -> AssistantChunk:
        ctx.memo["all"] = ctx.memo.get("all", "") + chunk.text
        return evolve(chunk, text=f"<{ctx.memo['all']}>" if chunk.is_last else "")

    async with agent(Again([]), plugins=[plugin("p", lash_assistant_stream)]) as lash:
        events, _ = await watched(lash)
    assert shown(events) == "<right>"


async def test_hook_lash_assistant_stream_sees_whole_characters() -> None:
    """Services cut between the halves of a surrogate pair; a hook that looks for something is not to see halves."""
    seen: list[str] = []

    class Cut(ScriptedProvider):
        async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
            await send([StreamDelta("\ud83d")])
            await send([StreamDelta("\ude00!")])
            return LlmResponse(full_text="😀!", parts=(TextOutput(text="😀!"),))

    def lash_assistant_stream(chunk: AssistantChunk) -> None:
        seen.append(chunk.text)

    async with agent(Cut([]), plugins=[plugin("p", lash_assistant_stream)]) as lash:
        await run(lash)
    assert seen == ["😀!", ""]


async def test_a_turn_without_a_stream_hook_hands_the_providers_events_straight_on() -> None:
    """The sender that a provider gets is the stream's own: a piece costs nothing for hooks that nobody has."""
    senders: list[Any] = []

    class Noting(ScriptedProvider):
        async def complete(self, request: LlmRequest, send: LlmEventSender) -> LlmResponse:
            senders.append(send)
            return await super().complete(request, send)

    async with agent(Noting([HELLO])) as lash:
        await run(lash)
    assert senders[0].__qualname__ == "ActivityStream.receive"


# ---- lash_assistant_response ----------------------------------------------------------------------------------------


def redact(response: LlmResponse) -> LlmResponse:
    text = response.full_text.replace("you", "***")
    return evolve(response, full_text=text, parts=(TextOutput(text=text),), usage=TokenUsage())


redact.__name__ = "lash_assistant_response"


async def test_hook_lash_assistant_response_rewrites_what_is_stored_and_what_watchers_have_in_the_end() -> None:
    """Whoever saw the reply come is told to take it back; what it has cost is not the hook's to say."""
    async with agent([HELLO], plugins=[plugin("p", redact)]) as lash:
        events, turn = await watched(lash)
        messages = await (await lash.session("s")).messages()
    assert turn.text == messages[-1].text == "Hello ***."
    assert shown(events) == "Hello ***."
    assert turn.usage.total == 15


async def test_hook_lash_assistant_response_is_a_chain_of_which_none_passes_on() -> None:
    def first(response: LlmResponse) -> LlmResponse:
        return evolve(response, full_text="a", parts=(TextOutput(text="a"),))

    def second() -> None:
        return None

    def third(response: LlmResponse) -> AssistantReply:
        changed = evolve(response, full_text="", parts=(TextOutput(text=response.full_text + "c"),))
        return AssistantReply(response=changed, events=[SurfaceEvent(name="done", payload=1)])

    first.__name__ = second.__name__ = third.__name__ = "lash_assistant_response"
    plugins = [plugin("a", first), plugin("b", second), plugin("c", third)]
    async with agent([HELLO], plugins=plugins) as lash:
        events, turn = await watched(lash)
    assert turn.text == "ac"
    assert [each for each in events if isinstance(each, PluginSurface)] == [
        PluginSurface(plugin_id="c", name="done", payload=1)
    ]


async def test_a_reply_of_which_only_the_parts_are_rewritten_is_rewritten_for_watchers_too() -> None:
    """Its `full_text` stayed what it was, and so whoever watched kept the words that were to be taken out."""

    def lash_assistant_response(response: LlmResponse) -> LlmResponse:
        return evolve(response, parts=(TextOutput(text=response.full_text.replace("you", "***")),))

    async with agent([HELLO], plugins=[plugin("p", lash_assistant_response)]) as lash:
        events, turn = await watched(lash)
    assert turn.text == shown(events) == "Hello ***."


async def test_a_reply_of_which_only_the_full_text_is_rewritten_is_refused() -> None:
    """Nothing of it counted: the words that were to be taken out were shown and stored, and nobody was told."""

    def lash_assistant_response(response: LlmResponse) -> LlmResponse:
        return evolve(response, full_text=response.full_text.replace("you", "***"))

    async def lash_around_effect(call_next: Any) -> Any:
        made = await call_next()
        return evolve(made, result=lash_assistant_response(made.result))

    for hook, returned in ((lash_assistant_response, "a response"), (lash_around_effect, "an outcome")):
        async with agent([HELLO], plugins=[plugin("p", hook)], effects="inline") as lash:
            _, turn = await watched(lash)
            messages = await (await lash.session("s")).messages()
        (issue,) = [each for each in turn.errors if each.blocking]
        assert f"plugin `p`, hook `{hook.__name__}`: returned {returned} that has another `full_text`" in issue.message
        assert "change both" in issue.message
        assert [each.role for each in messages] == ["user"]


async def test_a_reply_without_parts_is_its_full_text() -> None:
    def lash_assistant_response(response: LlmResponse) -> LlmResponse:
        return evolve(response, full_text="Hello ***.", parts=())

    async with agent([HELLO], plugins=[plugin("p", lash_assistant_response)]) as lash:
        events, turn = await watched(lash)
    assert turn.text == shown(events) == "Hello ***."


async def test_hook_lash_assistant_response_may_add_a_tool_call() -> None:
    @tool
    def look() -> str:
        "Look."
        return "seen"

    def lash_assistant_response(ctx: Any, response: LlmResponse) -> LlmResponse | None:
        if ctx.iteration:
            return None
        call = ToolCallOutputPart(call_id="x", tool_name="look", input_json="{}")
        return evolve(response, parts=(*response.parts, call))

    async with agent([HELLO, "Seen."], plugins=[plugin("p", lash_assistant_response)], tools=[look]) as lash:
        turn = await run(lash)
    assert (turn.text, [each.call_id for each in turn.tool_calls]) == ("Seen.", ["x"])


async def test_hook_lash_assistant_response_is_not_called_for_a_call_that_failed() -> None:
    failed = Reply(text="Hel", error=LlmCallError(message="the line is dead"))
    called: list[object] = []

    def lash_assistant_response(response: LlmResponse) -> None:
        called.append(response)

    async with agent([failed], plugins=[plugin("p", lash_assistant_response)]) as lash:
        turn = await run(lash)
    assert (turn.is_success, called) == (False, [])


FAULTS = {
    "raises": (RuntimeError("it is broken"), "RuntimeError: it is broken"),
    "returns something else": ("text", "returned a `str`; expected is None or `LlmResponse` or `AssistantReply`"),
    "returns what can't be stored": (
        LlmResponse(parts=(), provider_usage={"x": object()}),
        "returned a response that",
    ),
}


def going_wrong(fault: str) -> Any:
    value, _ = FAULTS[fault]

    def lash_assistant_response() -> Any:
        if isinstance(value, Exception):
            raise value
        return value

    return plugin("bad", lash_assistant_response)


@pytest.mark.parametrize("fault", FAULTS)
async def test_hook_lash_assistant_response_that_goes_wrong_fails_the_turn_where_nothing_would_be_left(
    fault: str,
) -> None:
    """In memory, or without a journal, there is nothing to go back to; what was paid is counted."""
    for opened in (agent, inline_agent):
        async with opened([HELLO], plugins=[going_wrong(fault)]) as lash:
            turn = await run(lash)
        assert turn.outcome == Stopped(StopReason.RUNTIME_ERROR)
        assert "plugin `bad`, hook `lash_assistant_response`" in turn.errors[0].message
        assert FAULTS[fault][1] in turn.errors[0].message
        assert turn.usage.total == 15


@pytest.mark.statement(29, page="plugin-system")
@pytest.mark.parametrize("fault", FAULTS)
async def test_hook_lash_assistant_response_that_goes_wrong_keeps_the_paid_reply_and_only_it_runs_again(
    fault: str, tmp_path: Path
) -> None:
    """The reply that was paid for stays though a hook on it fails, and the next attempt calls that hook alone."""
    model, url = Model(HELLO), url_in(tmp_path / "one")
    async with agent(model, store=url, plugins=[going_wrong(fault)]) as lash:
        with pytest.raises(TurnBlocked) as blocked:
            await run(lash)
    assert "plugin `bad`, hook `lash_assistant_response`" in str(blocked.value)
    good = plugin("bad", redact)
    async with agent(model, store=url, plugins=[good], settings=KEEPS) as lash:
        turn = await run(lash)
    assert (turn.text, model.calls) == ("Hello ***.", 1)
    assert turn.usage == TokenUsage(input=10, output=5)
    assert turn.durable


async def test_a_reply_whose_hook_was_switched_off_goes_on_as_it_is(tmp_path: Path) -> None:
    model, url = Model(HELLO), url_in(tmp_path / "one")
    async with agent(model, store=url, plugins=[going_wrong("raises")]) as lash:
        with pytest.raises(TurnBlocked):
            await run(lash)
    async with agent(model, store=url) as lash:
        assert (await run(lash)).text == "Hello you."
    assert model.calls == 1


async def test_a_turn_whose_hook_never_works_is_blocked_and_can_be_given_up_with_what_it_has_cost(
    tmp_path: Path,
) -> None:
    """A reply that nobody could rewrite isn't committed as it came: that may be what the hook is there for."""
    model, url = Model(HELLO), url_in(tmp_path / "one")
    async with agent(model, store=url, plugins=[going_wrong("raises")], settings=KEEPS) as lash:
        for _ in range(4):
            with pytest.raises(TurnBlocked):
                await run(lash)
        session = await lash.session("s", recover=False)
        turn = (await session.abandon("t")).turn
        assert turn.outcome == Stopped(StopReason.ABANDONED)
        assert turn.usage == TokenUsage(input=10, output=5)
        assert "you" not in turn.text
    assert model.calls == 1
