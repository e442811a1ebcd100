"""What hooks at the model seam leave in a journal, and what of it a replay, a crash, a cancel make."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest
from agents import agent, plugin
from attrs import evolve, frozen
from crash_kit import url_in

from lash_framework import Lash
from lash_framework.settings import load_settings
from lash_hookspecs import (
    AssembledTurn,
    AssistantChunk,
    AssistantReply,
    FailLlmCall,
    LlmRequest,
    LlmResponse,
    SessionStateSpec,
    Stopped,
    StopReason,
    SurfaceEvent,
    TextOutput,
    TokenUsage,
    ToolCallOutputPart,
    tool,
)
from lash_plugin_provider_scripted import Call, Reply

# `hello`'s hook makes every reply durable.
KEEPS = load_settings(env={}, sets=["durability.keep_journal_h=1", "plugins.disabled=hello"])
COST = TokenUsage(input=10, output=5)


@frozen
class Seen:
    """What the plugin remembers: its hooks, in the order of their calls."""

    hooks: tuple[str, ...] = ()


class Everything:
    """A plugin with every hook of the seam. Each of them counts its calls, remembers them, and does something."""

    def __init__(self) -> None:
        self.calls = Counter[str]()

    def happened(self, what: str, ctx: Any = None) -> None:
        self.calls[what] += 1
        if ctx is not None:
            ctx.set_state(evolve(ctx.state, hooks=(*ctx.state.hooks, f"{what} {self.calls[what]}")))

    def plugin(self) -> object:
        def lash_session_state() -> SessionStateSpec:
            return SessionStateSpec(state=Seen)

        async def lash_before_llm_call(ctx: Any, request: LlmRequest) -> FailLlmCall | None:
            self.happened("before", ctx)
            return FailLlmCall("enough", "two are enough") if ctx.iteration == 2 else None

        def lash_assistant_stream(ctx: Any, chunk: AssistantChunk) -> AssistantChunk | None:
            if chunk.is_last:
                self.happened("stream", ctx)
            return evolve(chunk, text=chunk.text.upper())

        async def lash_assistant_response(ctx: Any, response: LlmResponse) -> AssistantReply:
            self.happened("response", ctx)
            calls = [each for each in response.parts if isinstance(each, ToolCallOutputPart)]
            said = TextOutput(text=f"{response.full_text} ({self.calls['response']})")
            return AssistantReply(
                response=evolve(response, full_text=said.text, parts=(said, *calls)),
                events=[SurfaceEvent(name="rewritten", payload=self.calls["response"])],
            )

        async def lash_around_effect(call_next: Any) -> Any:
            self.happened("around")
            return await call_next()

        return plugin(
            "everything",
            lash_session_state,
            lash_before_llm_call,
            lash_assistant_stream,
            lash_assistant_response,
            lash_around_effect,
        )


@tool(effect="pure")
def look() -> str:
    "Look."
    return "seen"


LOOKS = [
    Reply(text="I look.", tool_calls=[Call("look", {}, "a")]),
    Reply(text="Again.", tool_calls=[Call("look", {}, "b")]),
]


async def run(lash: Lash) -> AssembledTurn:
    return await (await lash.session("s")).run("Hello", turn_id="t")


def kinds(effects: Any) -> Counter[str]:
    return Counter(each.split()[0] for each in effects)


@pytest.mark.statement(30, page="plugin-system")
async def test_a_turn_with_every_hook_of_the_model_seam_is_replayed_to_the_same_bytes_and_nothing_is_called(
    tmp_path: Path,
) -> None:
    """Events of hooks are shown again from their entry; states, decisions and answers come from it, too."""
    live, url = Everything(), url_in(tmp_path / "one")
    async with agent(LOOKS, store=url, plugins=[live.plugin()], tools=[look], settings=KEEPS) as lash:
        turn = await run(lash)
        assert [each.code for each in turn.errors if each.blocking] == ["enough"]
        assert live.calls == {"before": 3, "stream": 2, "response": 2, "around": 4}
        session = await lash.session("s")
        said = [each.text for each in await session.messages() if each.role == "assistant"]
        assert said == ["I look. (1)", "Again. (2)"]
    again = Everything()
    async with agent([], store=url, plugins=[again.plugin()], tools=[look], settings=KEEPS) as lash:
        replayed = await lash.replay("t")
    assert replayed.differences == ()
    assert again.calls == {}
    assert kinds(replayed.effects)["assistant_response"] == 2


async def test_there_is_a_record_for_an_answers_hooks_only_where_a_plugin_has_them(tmp_path: Path) -> None:
    """And a decision, the stream's hooks and wrappers cost none at all."""
    found = {}
    for name in ("nothing", "all but the answer", "everything"):
        made = Everything().plugin()
        if name == "all but the answer":
            del made.lash_assistant_response  # type: ignore[attr-defined]  # it is a namespace
        plugins = [] if name == "nothing" else [made]
        script = [LOOKS[0], "Done."]
        async with agent(script, store=url_in(tmp_path / name), plugins=plugins, tools=[look], settings=KEEPS) as lash:
            await run(lash)
            found[name] = kinds((await lash.replay("t")).effects)
    assert found["all but the answer"] == found["nothing"]
    assert found["everything"] - found["nothing"] == {"assistant_response": 2}


async def test_a_journal_with_an_answer_that_hooks_rewrote_is_replayed_without_their_plugin(tmp_path: Path) -> None:
    """What is recorded belongs to the turn, whatever is installed by then."""
    url = url_in(tmp_path / "one")

    def lash_assistant_response(response: LlmResponse) -> LlmResponse:
        return evolve(response, full_text="", parts=(TextOutput(text="rewritten"),))

    async with agent(["raw"], store=url, plugins=[plugin("p", lash_assistant_response)], settings=KEEPS) as lash:
        assert (await run(lash)).text == "rewritten"
    async with agent([], store=url, settings=KEEPS) as lash:
        assert (await lash.replay("t")).differences == ()


async def test_a_hook_that_comes_in_between_is_not_called_for_an_answer_that_was_given_without_it(
    tmp_path: Path,
) -> None:
    """Whether there is a record behind an answer's is said in the answer's."""
    url, called = url_in(tmp_path / "one"), list[str]()

    def lash_assistant_response() -> None:
        called.append("once more")

    async with agent(["raw"], store=url, settings=KEEPS) as lash:
        await run(lash)
    async with agent([], store=url, plugins=[plugin("p", lash_assistant_response)], settings=KEEPS) as lash:
        assert (await lash.replay("t")).differences == ()
    assert called == []


@pytest.mark.parametrize("end", ["cancelled", "interrupted"])
async def test_a_reply_that_was_paid_is_counted_once_though_the_turn_ends_in_its_hook(end: str, tmp_path: Path) -> None:
    """Cancelled, its cost is the turn's; interrupted, only the hook runs again."""
    url, reached, waits = url_in(tmp_path / "one"), anyio.Event(), [True]
    asked: list[LlmRequest] = []

    async def lash_assistant_response(response: LlmResponse) -> None:
        reached.set()
        if waits:
            await anyio.sleep_forever()

    def say(request: LlmRequest) -> Reply:
        asked.append(request)
        return Reply(text="Hello.", usage=COST)

    hooked = plugin("slow", lash_assistant_response)
    async with agent(say, store=url, plugins=[hooked], settings=KEEPS) as lash:
        session = await lash.session("s")
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: session.run("Hello", turn_id="t"))
            await reached.wait()
            if end == "interrupted":
                group.cancel_scope.cancel()
            else:
                assert await session.cancel()
    waits.clear()
    async with agent(say, store=url, plugins=[hooked], settings=KEEPS) as lash:
        turn = await run(lash)
        replayed = await lash.replay("t")
    assert replayed.differences == ()
    assert turn.usage == COST
    assert turn.outcome == Stopped(StopReason.CANCELLED) if end == "cancelled" else turn.is_success
    assert len(asked) == 1


async def test_a_turn_that_was_given_up_in_an_answers_hook_is_replayed_with_what_it_has_cost(tmp_path: Path) -> None:
    url = url_in(tmp_path / "one")

    def lash_assistant_response() -> None:
        raise RuntimeError("it is broken")

    bad = plugin("bad", lash_assistant_response)
    async with agent([Reply(text="secret", usage=COST)], store=url, plugins=[bad], settings=KEEPS) as lash:
        with pytest.raises(Exception, match="it is broken"):
            await run(lash)
        session = await lash.session("s")
        turn = (await session.abandon("t")).turn
        assert turn.usage == COST
        assert (await lash.replay("t")).differences == ()
        assert "secret" not in "".join(each.text for each in await session.messages())


async def test_states_that_hooks_at_the_model_seam_change_are_stored_with_the_turn(tmp_path: Path) -> None:
    url, made = url_in(tmp_path / "one"), Everything()
    seen: list[Any] = []

    def lash_turn_committed(ctx: Any) -> None:
        seen.append(ctx.state)

    mine = made.plugin()
    mine.lash_turn_committed = plugin("x", lash_turn_committed).lash_turn_committed  # type: ignore[attr-defined]  # a namespace
    async with agent(["Hello."], store=url, plugins=[mine], settings=KEEPS) as lash:
        await run(lash)
    assert seen == [Seen(("before 1", "stream 1", "response 1"))]
