"""The whole provider against a real server: answers, failures, settings, and what it costs to have it around."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import pytest
from anthropic_wire import AnthropicWire

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.llm import (
    AttemptDecision,
    GenerationOptions,
    LlmRequest,
    LlmRequestScope,
    LlmTerminalReason as Reason,
    Provider,
    ProviderContext,
    ProviderFailureKind as Kind,
    StreamDelta,
    TokenUsage,
)
from lash_hookspecs.llm_messages import (
    LlmMessage,
    ReasoningBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from lash_hookspecs.messages import ProviderReasoningMeta
from lash_hookspecs.models import ModelCapability
from lash_hookspecs.testing.plugins import imported_by
from lash_hookspecs.testing.provider import (
    KEY,
    Caller,
    Ends,
    Fails,
    Fault,
    Said,
    Text,
    Used,
    asked,
    assistant,
    check_settings,
    system,
    user,
)
from lash_hookspecs.testing.provider.server import Answer, WireServer, document, raw, status
from lash_plugin_provider_anthropic import AnthropicProvider, AnthropicSettings, plugin

WIRE = AnthropicWire()
USED = Used(TokenUsage(input=12, output=7))


def say(*said: Said, **options: Any) -> Answer:
    return raw(*WIRE.stream(said), **options)


def hello(text: str = "Hello", **options: Any) -> Answer:
    return say(Text(text), USED, Ends(Reason.STOP), **options)


def calling(url: str, **settings: Any) -> Caller:
    made = AnthropicSettings(**{"base_url": url, "api_key": KEY, **settings})
    caller = Caller()
    caller.provider = AnthropicProvider(made, live_calls_allowed=False, sleep=caller.sleep)
    return caller


async def test_what_is_sent() -> None:
    with WireServer(hello()) as server:
        caller = calling(server.origin, betas=("one-2026", "two-2026"))
        response = await caller.ask()
        assert response.full_text == "Hello"
        assert StreamDelta("Hello") in caller.events
        (request,) = server.requests
        assert (request.method, request.target) == ("POST", "/v1/messages")
        headers = {"x-api-key": KEY, "anthropic-version": "2023-06-01", "anthropic-beta": "one-2026,two-2026"}
        assert headers.items() <= request.headers.items()
        assert request.headers["content-type"] == "application/json"
        assert "authorization" not in request.headers
        assert request.json["stream"] is True


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("", "/v1/messages"),
        ("/v1", "/v1/messages"),
        ("/v1/?key=7", "/v1/messages?key=7"),
        ("/anthropic", "/anthropic/v1/messages"),
    ],
)
async def test_base_urls_with_and_without_the_version(path: str, target: str) -> None:
    with WireServer(hello()) as server:
        await calling(f"{server.origin}{path}").ask()
        assert server.requests[0].target == target


async def test_a_token_and_headers_of_a_gateway() -> None:
    with WireServer(hello()) as server:
        await calling(server.origin, api_key=" ", auth_token=KEY, headers={"X-Gateway": "secret-gateway"}).ask()
        (request,) = server.requests
        assert "x-api-key" not in request.headers
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.headers["x-gateway"] == "secret-gateway"


async def test_the_answer_says_what_became_of_the_options() -> None:
    options = GenerationOptions(output_token_cap=9, temperature=1.5, seed=1)
    with WireServer(hello(), hello()) as server:
        response = await calling(server.origin).ask(asked(generation=options))
        told = {"output_token_cap": "applied", "temperature": "clamped", "seed": "omitted_unsupported"}
        assert response.generation_receipt == told
        assert (await calling(server.origin).ask()).generation_receipt is None


def refused(code: int, kind: str, words: str = "words", headers: Mapping[str, str] | None = None) -> Answer:
    body = {"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_1"}
    return status(code, body, headers=headers)


SEEN, BEGUN = "unsafe_retry_response_observed", "unsafe_retry_after_output_started"

FAILURES: dict[str, tuple[Answer, str, Kind, bool]] = {
    "400": (refused(400, "invalid_request_error"), "invalid_request_error", Kind.VALIDATION, False),
    "401": (refused(401, "authentication_error"), "authentication_error", Kind.AUTH, False),
    "402": (refused(402, "billing_error"), "billing_error", Kind.QUOTA, False),
    "403": (refused(403, "permission_error"), "permission_error", Kind.AUTH, False),
    "404": (refused(404, "not_found_error"), "not_found_error", Kind.HTTP, False),
    "413": (refused(413, "request_too_large"), "request_too_large", Kind.VALIDATION, False),
    "429": (refused(429, "rate_limit_error"), SEEN, Kind.QUOTA, True),
    "500": (refused(500, "api_error"), SEEN, Kind.HTTP, True),
    "504": (refused(504, "timeout_error"), SEEN, Kind.HTTP, True),
    "529": (refused(529, "overloaded_error", headers={"retry-after": "2"}), SEEN, Kind.HTTP, True),
    "overloaded within the stream": (say(USED, Fails(Fault.OVERLOADED, "m")), SEEN, Kind.HTTP, True),
    "overloaded after text": (say(Text("x"), Fails(Fault.OVERLOADED, "m")), BEGUN, Kind.HTTP, False),
    "cut after text": (say(Text("x"), end="cut"), BEGUN, Kind.TRANSPORT, False),
    "ended after text": (say(Text("x"), USED), BEGUN, Kind.STREAM, False),
    "cut after usage": (say(USED, end="cut"), SEEN, Kind.TRANSPORT, True),
    "a page": (document(b"<html>", content_type="text/html"), "unexpected_content", Kind.HTTP, False),
}


@pytest.mark.parametrize(("answer", "code", "kind", "retryable"), FAILURES.values(), ids=FAILURES.keys())
async def test_failures(answer: Answer, code: str, kind: Kind, retryable: bool) -> None:
    with WireServer(answer) as server:
        caller = calling(server.origin)
        error = await caller.fail()
        assert (error.code, error.kind, error.retryable) == (code, kind, retryable)
        assert (len(server.requests), caller.waits) == (1, [])
        assert error.message.startswith("anthropic: ")


async def test_an_overflow_is_one() -> None:
    for words in (
        "prompt is too long: 208310 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000, decrease input length",
    ):
        with WireServer(refused(400, "invalid_request_error", words)) as server:
            assert (await calling(server.origin).fail()).terminal_reason is Reason.CONTEXT_OVERFLOW


async def test_a_refused_key_is_never_shown_and_says_what_to_do() -> None:
    with WireServer(refused(401, "authentication_error", f"invalid x-api-key {KEY}")) as server:
        error = await calling(server.origin).fail()
        assert "export ANTHROPIC_API_KEY=" in error.message
        assert error.usage is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "https://user:hunter22@api.example.com"},
        {"base_url": "api.example.com"},
        {"api_key": "sk-line\nbreak-hunter22"},
        {"auth_token": "sk-line\nbreak-hunter22"},
        {"betas": ("a\nb",)},
        {"headers": {"x key": "v"}},
        {"extra_body": {"messages": []}},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused_without_quoting_secrets(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"provider\.anthropic\.") as caught:
        AnthropicProvider(AnthropicSettings(**wrong))
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retry", "always"),
        ("max_attempts", 0),
        ("deadline_s", 0),
        ("default_max_tokens", 0),
        ("cache", "x"),
        ("thinking_display", "x"),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        AnthropicSettings(**{name: value})


def test_every_setting_has_a_default_and_a_help_text_and_secrets_are_marked() -> None:
    env = {
        "base_url": ("ANTHROPIC_BASE_URL",),
        "api_key": ("ANTHROPIC_API_KEY",),
        "auth_token": ("ANTHROPIC_AUTH_TOKEN",),
    }
    check_settings(AnthropicSettings, secrets={"api_key", "auth_token", "headers"}, env=env)


# ---- as a plugin


def spec() -> Any:
    (only,) = plugin.lash_providers()
    return only


async def test_the_registered_provider_works_and_is_one() -> None:
    with WireServer(hello()) as server:
        settings = spec().settings_class()(base_url=server.origin)
        said = {"any": ModelCapability(context_window=9)}
        context = ProviderContext(provider_id="anthropic", settings=settings, live_calls_allowed=False, models=said)
        provider = spec().open(context)
        assert isinstance(provider, Provider)
        assert provider.capability("any").context_window == 9
        assert provider.capability("claude-haiku-4-5").reasoning_efforts == ("low", "medium", "high")
        assert provider.capability("any").endpoint == server.origin
        assert provider.capability("claude-haiku-4-5").prices is None  # what a gateway charges is its own affair
        assert AnthropicProvider(AnthropicSettings()).capability("claude-haiku-4-5").prices is not None
        assert (await Caller(provider).ask()).full_text == "Hello"


async def test_without_a_key_the_message_says_what_to_type() -> None:
    context = ProviderContext(provider_id="anthropic", settings=AnthropicSettings())
    with pytest.raises(ConfigurationError) as caught:
        await Caller(spec().open(context)).ask()
    for words in ("export ANTHROPIC_API_KEY=", "--set provider.anthropic.api_key=", "scripted:demo"):
        assert words in str(caught.value)


async def test_a_live_call_that_nobody_allowed_is_an_error() -> None:
    settings = AnthropicSettings(api_key=KEY)
    context = ProviderContext(provider_id="anthropic", settings=settings, live_calls_allowed=False)
    with pytest.raises(ConfigurationError, match="live_calls_allowed"):
        await Caller(spec().open(context)).ask()


def test_discovery_imports_nothing_heavy() -> None:
    """`plugin` is imported at every start of every command."""
    found = imported_by("import lash_plugin_provider_anthropic.plugin")
    assert not {"attrs", "anyio", "httpx", "orjson", "lash_provider_kit"} & found
    listed = imported_by("from lash_plugin_provider_anthropic import plugin; plugin.lash_providers()")
    assert not {"anyio", "httpx", "orjson", "lash_provider_kit"} & listed


def test_what_is_cached_for_an_hour_has_its_price_where_the_settings_ask_for_that() -> None:
    """It was told as unknown, and a budget took it for five minutes: a call could cost more than it was judged by."""
    short, long = (
        AnthropicProvider(AnthropicSettings(api_key=KEY, cache=each), live_calls_allowed=False)
        for each in ("short", "long")
    )
    usual, dear = (each.capability("claude-opus-5-5").prices for each in (short, long))
    assert usual is not None
    assert dear is not None
    assert usual.input is not None
    assert (usual.cache_write, dear.cache_write) == (1.25 * usual.input, 2 * usual.input)
    assert dear.tiers["fast"].cache_write == 4 * usual.input
    assert dear.most(1000, 0) == 1.6 * usual.most(1000, 0)
    said = ModelCapability(prices=usual)
    own = AnthropicProvider(AnthropicSettings(api_key=KEY, cache="long"), models={"claude-opus-5-5": said})
    assert own.capability("claude-opus-5-5").prices == usual  # who says prices says what he pays


# ---- thinking that the service doesn't take back ---------------------------------------------------------------------


def thinking(signature: str) -> LlmMessage:
    replay = ProviderReasoningMeta(signature=signature)
    return assistant(ReasoningBlock(text="hm", replay=replay), "Yes.")


def not_taken(words: str) -> Answer:
    return refused(400, "invalid_request_error", words)


def signatures(request: Any) -> list[str]:
    blocks = [block for said in request.json["messages"] for block in said["content"]]
    return [block["signature"] for block in blocks if block["type"] == "thinking"]


SCOPE = LlmRequestScope(session_id="s", agent_frame_id="f", request_id="r")
HISTORY = (system("Be brief."), user("a"), thinking("one"), user("b"))
NEXT = (*HISTORY, thinking("two"), user("c"))


@pytest.mark.parametrize(
    "said",
    [
        "messages.1.content.0: Invalid `signature` in `thinking` block",
        "messages.1.content.0: `thinking` or `redacted_thinking` blocks in the latest assistant message cannot be "
        "modified. These blocks must remain as they were in the original response.",
        "messages.3.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`. When "
        "`thinking` is enabled, a final `assistant` message must start with a thinking block.",
        "messages.1.content.0: When providing `thinking` or `redacted_thinking` blocks, the blocks must match the "
        "parameters during the original request.",
    ],
)
async def test_a_conversation_goes_on_without_thinking_that_is_refused(said: str) -> None:
    """Every further turn ended with the same 400, once instructions or tools of the session had changed."""
    with WireServer(not_taken(said), hello(), hello()) as server:
        caller = calling(server.origin)
        request = LlmRequest(model="claude-opus-5-5", messages=HISTORY, scope=SCOPE)
        first = await caller.call(request)
        second = await caller.ask(attrs.evolve(request, messages=NEXT))
        assert [signatures(each) for each in server.requests] == [["one"], [], ["two"]]
        assert [each.json["system"][0]["text"] for each in server.requests] == ["Be brief."] * 3
    (attempt,) = first.failed_attempts
    assert (attempt.code, attempt.decision, attempt.status) == ("stale_thinking", AttemptDecision.TRIMMED, 400)
    assert said in attempt.message
    assert second.failed_attempts == ()
    assert first.usage == TokenUsage(input=12, output=7)


@pytest.mark.parametrize(
    ("messages", "answers", "code"),
    [
        pytest.param(
            (user("a"),),
            [not_taken("Invalid `signature` in `thinking` block")],
            "invalid_request_error",
            id="nothing to leave out",
        ),
        pytest.param(HISTORY, [not_taken("max_tokens is too large")], "invalid_request_error", id="something else"),
        pytest.param(
            HISTORY, [not_taken("Invalid `signature` in `thinking` block")] * 2, "invalid_request_error", id="in vain"
        ),
    ],
)
async def test_it_is_tried_once_and_only_where_it_can_help(
    messages: Sequence[LlmMessage], answers: list[Answer], code: str
) -> None:
    with WireServer(*answers) as server:
        error = await calling(server.origin).fail(LlmRequest(model="claude-opus-5-5", messages=messages))
        assert len(server.requests) == len(answers)
    assert error.code == code
    assert [each.decision for each in error.failed_attempts] == [AttemptDecision.TRIMMED] * (len(answers) - 1)


async def test_a_model_that_thinks_by_budget_stops_thinking_where_its_thinking_is_left_out() -> None:
    """It wants the thinking before a call back, or none at all."""
    with WireServer(not_taken("Invalid `signature` in `thinking` block"), hello()) as server:
        request = LlmRequest(model="claude-opus-4-5", messages=HISTORY, model_variant="low")
        await calling(server.origin).ask(request)
        kinds = [each.json["thinking"]["type"] for each in server.requests]
    assert kinds == ["enabled", "disabled"]


CALL = (
    assistant(ToolCallBlock(call_id="c", tool_name="now", input_json="{}")),
    user(ToolResultBlock(call_id="c", tool_name="now", content="noon")),
)
NOTE = system("It is getting late.")


async def test_such_a_model_thinks_again_only_when_its_calls_are_over() -> None:
    """Each round of tools was refused once more: its calls had no thinking before them, which was switched on again."""
    rounds = [HISTORY, (*HISTORY, *CALL), (*HISTORY, *CALL, *CALL, NOTE)]
    later = (*rounds[-1], assistant("It is noon."), user("c"))
    thought = assistant(*thinking("three").blocks, *CALL[0].blocks)
    rounds += [later, (*later, thought, CALL[1]), (*later, thought, CALL[1], *CALL)]
    with WireServer(not_taken("Invalid `signature` in `thinking` block"), *[hello()] * len(rounds)) as server:
        caller = calling(server.origin)
        for messages in rounds:
            request = LlmRequest(model="claude-opus-4-5", messages=messages, model_variant="low", scope=SCOPE)
            await caller.call(request)
        await caller.provider.aclose()
        kinds = [each.json["thinking"]["type"] for each in server.requests]
    assert kinds == ["enabled", "disabled", "disabled", "disabled", "enabled", "enabled", "enabled"]


async def test_a_receipt_tells_of_the_request_that_was_answered() -> None:
    """It told of the one that was refused: a temperature that was sent was said to be left out."""
    generation = GenerationOptions(temperature=0.5)
    request = LlmRequest(
        model="claude-opus-4-5", messages=HISTORY, model_variant="low", generation=generation, scope=SCOPE
    )
    with WireServer(not_taken("Invalid `signature` in `thinking` block"), *[hello()] * 2) as server:
        caller = calling(server.origin)
        answers = [await caller.call(request)]
        request = attrs.evolve(request, messages=(*HISTORY, *CALL))
        answers.append(await caller.ask(request))
        sent = [each.json.get("temperature") for each in server.requests]
    assert sent == [None, 0.5, 0.5]
    assert [each.generation_receipt for each in answers] == [{"temperature": "applied"}] * 2


@pytest.mark.parametrize(
    "said",
    [
        "`max_tokens` must be greater than `thinking.budget_tokens`: room for the text block behind it is missing",
        "thinking: a text block can't be empty",
        "tools.0.custom.description: the signature of `set_thinking` is too long",
        "`clear_thinking_20251015` strategy requires `thinking` to be enabled: found a block without it",
        "messages.1.content.1: a thinking block can't have a `cache_control`",
    ],
)
async def test_another_refusal_that_speaks_of_thinking_is_told_as_it_is(said: str) -> None:
    """Any words about thinking and a block, or a signature, made a second request, in vain."""
    with WireServer(not_taken(said)) as server:
        error = await calling(server.origin).fail(LlmRequest(model="claude-opus-5-5", messages=HISTORY))
        assert len(server.requests) == 1
    assert error.failed_attempts == ()
    assert said in error.message
