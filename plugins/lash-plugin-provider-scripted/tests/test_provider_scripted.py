"""A model that says what it was told to say: scripts in code and in files, and the demo."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest
from attrs import evolve

from lash_hookspecs.errors import ConfigurationError, LlmCallFailed
from lash_hookspecs.llm import (
    LlmCallError,
    LlmRequest,
    LlmResponse,
    LlmStreamEvent,
    LlmTerminalReason,
    LlmToolSpec,
    Provider,
    ProviderContext,
    ReasoningOutput,
    StreamDelta,
    StreamReasoningDelta,
    StreamUsage,
    TextOutput,
    TokenUsage,
    ToolCallOutputPart,
)
from lash_hookspecs.llm_messages import (
    LlmMessage,
    LlmRole,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from lash_hookspecs.testing.plugins import imported_by
from lash_hookspecs.testing.provider import Caller, assistant, user
from lash_plugin_provider_scripted import Call, Reply, ScriptedProvider, ScriptedSettings, load_script, plugin

ASKED = LlmRequest(model="demo", messages=(user("What time is it?"),))
TOOLS = tuple(LlmToolSpec(name=name, description="", input_schema={}) for name in ("add", "now", "other"))


async def ask(provider: Provider, request: LlmRequest = ASKED) -> tuple[LlmResponse, list[list[LlmStreamEvent]]]:
    batches: list[list[LlmStreamEvent]] = []

    async def send(events: Sequence[LlmStreamEvent]) -> None:
        batches.append(list(events))

    return await provider.complete(request, send), batches


async def test_text_is_streamed_in_several_deltas_and_returned_whole() -> None:
    provider = ScriptedProvider([Reply(text="Let me  think.\n", reasoning="Well, hm.")])
    response, batches = await ask(provider)
    assert response.parts == (ReasoningOutput(text="Well, hm."), TextOutput(text="Let me  think.\n"))
    assert response.full_text == "Let me  think.\n"
    assert response.terminal_reason is LlmTerminalReason.STOP
    events = [event for batch in batches for event in batch]
    assert [event.text for event in events if isinstance(event, StreamDelta)] == ["Let ", "me  ", "think.\n"]
    assert "".join(event.text for event in events if isinstance(event, StreamReasoningDelta)) == "Well, hm."
    assert events[-1] == StreamUsage(response.usage)


async def test_deltas_may_be_given() -> None:
    response, batches = await ask(ScriptedProvider([Reply(deltas=["<la", "sh>"])]))
    assert response.full_text == "<lash>"
    assert batches[:2] == [[StreamDelta("<la")], [StreamDelta("sh>")]]


async def test_tool_calls() -> None:
    calls = [Call("add", {"a": 1}), Call("add", {"a": 1}), Call("broken", '{"a":', "mine")]
    response, _ = await ask(ScriptedProvider([Reply(tool_calls=calls)]))
    made = [part for part in response.parts if isinstance(part, ToolCallOutputPart)]
    assert [(part.tool_name, part.input_json) for part in made] == [
        ("add", '{"a": 1}'),
        ("add", '{"a": 1}'),
        ("broken", '{"a":'),
    ]
    assert len({part.call_id for part in made}) == 3
    assert made[2].call_id == "mine"
    assert response.terminal_reason is LlmTerminalReason.TOOL_USE


async def test_replies_are_used_up_in_order_and_requests_kept() -> None:
    provider = ScriptedProvider(["one", Reply(text="two")])
    assert (await ask(provider))[0].full_text == "one"
    other = evolve(ASKED, model="other")
    assert (await ask(provider, other))[0].full_text == "two"
    assert provider.requests == [ASKED, other]


async def test_a_script_that_is_used_up_says_so() -> None:
    provider = ScriptedProvider(["only"])
    await ask(provider)
    with pytest.raises(LlmCallFailed, match="1 replies: add one") as caught:
        await ask(provider)
    assert caught.value.error.code == "script_exhausted"
    assert not caught.value.error.retryable


async def test_a_reply_may_be_a_failure_after_text() -> None:
    error = LlmCallError(message="down", code="x")
    caller = Caller(ScriptedProvider([Reply(text="so far", error=error)]))
    assert await caller.fail() == error
    assert caller.events == [StreamDelta("so "), StreamDelta("far")]


async def test_a_function_decides_from_the_request() -> None:
    provider = ScriptedProvider(lambda request: f"you asked {request.model}")
    assert (await ask(provider))[0].full_text == "you asked demo"


async def test_an_async_function_may_wait_as_a_slow_model_does() -> None:
    gate = anyio.Event()

    async def slow(request: LlmRequest) -> Reply:
        await gate.wait()
        return Reply(text="at last")

    async with anyio.create_task_group() as group:
        group.start_soon(ask, ScriptedProvider(slow))
        await anyio.wait_all_tasks_blocked()
        gate.set()


async def test_it_is_a_provider_and_closes() -> None:
    provider = ScriptedProvider([], context_window=7)
    assert isinstance(provider, Provider)
    assert provider.capability("any").context_window == 7
    await provider.aclose()
    assert provider.closed


# ---- files

SCRIPT = """
[[reply]]
text = "Let me look."
reasoning = "hm"
tool_calls = [
    { name = "now", arguments = { tz = "Asia/Tokyo" } },
    { name = "add", arguments = '{"a":', id = "c2" },
]

[[reply]]
text = "It is late."
usage = { input = 100, output = 9 }
terminal_reason = "output_limit"

[[reply]]
error = "out of order"
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "replies.toml"
    path.write_text(SCRIPT)
    return path


def registered() -> Provider:
    (spec,) = plugin.lash_providers()
    assert (spec.provider_id, spec.live) == ("scripted", False)
    context = ProviderContext(provider_id="scripted", settings=ScriptedSettings(), live_calls_allowed=False)
    provider: Provider = spec.open(context)
    return provider


def test_a_file_holds_replies(script: Path) -> None:
    first, second, third = load_script(script)
    assert first.tool_calls == (Call("now", {"tz": "Asia/Tokyo"}), Call("add", '{"a":', "c2"))
    assert second.usage == TokenUsage(input=100, output=9)
    assert second.terminal_reason is LlmTerminalReason.OUTPUT_LIMIT
    assert third.error is not None


async def test_a_file_is_followed_by_the_conversation_not_by_a_counter(script: Path) -> None:
    """A process that resumes the conversation gets the reply that the first one would have got."""
    first = evolve(ASKED, model=str(script))
    second = evolve(first, messages=(*first.messages, assistant("Let me look."), user("and?")))
    assert (await ask(registered(), first))[0].full_text == "Let me look."
    assert (await ask(registered(), second))[0].full_text == "It is late."
    assert (await ask(registered(), first))[0].full_text == "Let me look."
    third = evolve(second, messages=(*second.messages, assistant("It is late.")))
    with pytest.raises(LlmCallFailed, match="out of order"):
        await ask(registered(), third)
    with pytest.raises(LlmCallFailed, match="has 3 replies"):
        await ask(registered(), evolve(third, messages=(*third.messages, assistant("?"))))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", r"no `\[\[reply\]\]`"),
        ("[[reply", "no valid TOML"),
        ("[[answer]]", "unknown key `answer`"),
        ("reply = 3", r"no `\[\[reply\]\]`"),
        ("reply = [3]", "reply 1 must be a table"),
        ('[[reply]]\ntxt = "x"', "reply 1: unknown key `txt`: did you mean `text`"),
        ("[[reply]]\ntext = 3", "reply 1: `text` must be text"),
        ("[[reply]]\ntool_calls = 3", "`tool_calls` must be an array"),
        ("[[reply]]\ntool_calls = [{}]", "tool call 1: `name` is missing"),
        ('[[reply]]\ntool_calls = [{name = "f", arguments = 3}]', "`arguments` must be"),
        ('[[reply]]\ntool_calls = [{name = "f", arguments = {d = 2020-01-01}}]', "tool call 1: `arguments`"),
        ('[[reply]]\nterminal_reason = "bored"', "reply 1: .*bored"),
        ("[[reply]]\nusage = {inputs = 3}", "usage: unknown key `inputs`"),
    ],
)
def test_mistakes_in_a_file_are_named(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=words) as caught:
        load_script(path)
    assert str(path) in str(caught.value)


async def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml"):
        await ask(registered(), evolve(ASKED, model=str(tmp_path / "none.toml")))
    with pytest.raises(ConfigurationError, match="neither `scripted:demo` nor"):
        await ask(registered(), evolve(ASKED, model="demoo"))


# ---- the demo


def answered(request: LlmRequest, response: LlmResponse) -> LlmRequest:
    """The next request of a turn in which every call was answered."""
    calls = [part for part in response.parts if isinstance(part, ToolCallOutputPart)]
    assistant = LlmMessage(
        LlmRole.ASSISTANT,
        (
            TextBlock(text=response.full_text),
            *(ToolCallBlock(call_id=c.call_id, tool_name=c.tool_name, input_json=c.input_json) for c in calls),
        ),
    )
    results = user(*(ToolResultBlock(call_id=c.call_id, content=f"result of {c.tool_name}") for c in calls))
    return evolve(request, messages=(*request.messages, assistant, results))


async def test_the_demo_calls_two_tools_at_once_and_uses_what_they_returned() -> None:
    request = evolve(ASKED, tools=TOOLS)
    first, _ = await ask(registered(), request)
    assert first.full_text
    calls = {
        part.tool_name: json.loads(part.input_json) for part in first.parts if isinstance(part, ToolCallOutputPart)
    }
    assert calls == {"now": {"tz": "UTC"}, "add": {"a": 19, "b": 23}}
    last, _ = await ask(registered(), answered(request, first))
    assert last.terminal_reason is LlmTerminalReason.STOP
    assert "result of now" in last.full_text
    assert "result of add" in last.full_text


async def test_the_demo_keeps_no_state() -> None:
    """Each answer by a fresh provider, as after a crash, equals the answer of one that lived through it."""
    one = registered()
    request = evolve(ASKED, tools=TOOLS)
    for _ in range(2):
        lived, _ = await ask(one, request)
        fresh, _ = await ask(registered(), request)
        assert lived == fresh
        request = answered(request, lived)


async def test_the_demo_s_call_ids_are_unique_in_a_conversation() -> None:
    request = evolve(ASKED, tools=TOOLS)
    first, _ = await ask(registered(), request)
    over = answered(request, first)
    final, _ = await ask(registered(), over)
    asked_again = evolve(over, messages=(*over.messages, assistant(final.full_text), user("Again!")))
    second, _ = await ask(registered(), asked_again)

    def ids(response: LlmResponse) -> set[str]:
        return {part.call_id for part in response.parts if isinstance(part, ToolCallOutputPart)}

    assert len(ids(first)) == len(ids(second)) == 2
    assert not ids(first) & ids(second)


async def test_a_note_after_the_results_does_not_make_the_demo_start_over() -> None:
    request = evolve(ASKED, tools=TOOLS)
    first, _ = await ask(registered(), request)
    over = answered(request, first)
    noted = evolve(over, messages=(*over.messages, user("A plugin's note.")))
    last, _ = await ask(registered(), noted)
    assert last.terminal_reason is LlmTerminalReason.STOP


async def test_the_demo_without_its_tools_says_what_to_do() -> None:
    response, _ = await ask(registered())
    assert "What time is it?" in response.full_text
    assert "lash demo" in response.full_text


def test_discovery_imports_nothing_heavy() -> None:
    found = imported_by("import lash_plugin_provider_scripted.plugin")
    assert not {"attrs", "anyio", "tomllib", "lash_hookspecs.llm"} & found
