"""The whole provider against a real server: answers, failures, settings, and what it costs to have it around."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import attrs
import pytest

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.llm import (
    AttemptReset,
    LlmAttachment,
    LlmRequest,
    LlmTerminalReason,
    LlmToolSpec,
    Provider,
    ProviderContext,
    ProviderFailureKind,
    RetryStatus,
    StreamDelta,
    TextOutput,
    TokenUsage,
    ToolCallOutputPart,
)
from lash_hookspecs.llm_messages import ImageBlock, LlmMessage, LlmRole
from lash_hookspecs.messages import AttachmentRef
from lash_hookspecs.testing.plugins import imported_by
from lash_hookspecs.testing.provider import KEY, Caller, asked, check_settings
from lash_plugin_provider_openai import OpenAiChatProvider, OpenAiChatSettings, plugin
from lash_plugin_provider_openai.responses_provider import OpenAiProvider
from lash_plugin_provider_openai.responses_settings import OpenAiSettings
from lash_provider_kit.testing import (
    Answer,
    ChatServer,
    chunk,
    cut,
    document,
    error_event,
    hang,
    raw,
    refused_url,
    sse,
    status,
    stream,
    text,
    tools,
)


def calling(url: str, **settings: Any) -> Caller:
    made = OpenAiChatSettings(**{"base_url": url, "api_key": KEY, **settings})
    caller = Caller()
    caller.provider = OpenAiChatProvider(made, live_calls_allowed=False, sleep=caller.sleep)
    return caller


async def test_text() -> None:
    with ChatServer(text("Hel", "lo")) as server:
        caller = calling(server.url)
        response = await caller.ask()
        assert response.parts == (TextOutput(text="Hello"),)
        assert response.terminal_reason is LlmTerminalReason.STOP
        assert (response.response_id, response.served_model) == ("chatcmpl-test", "test-model")
        assert caller.events[:2] == [StreamDelta("Hel"), StreamDelta("lo")]
        request = server.requests[0]
        assert request.target == "/v1/chat/completions"
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.headers["content-type"] == "application/json"
        assert request.json["stream"] is True


async def test_tool_calls() -> None:
    tool = LlmToolSpec(name="add", description="", input_schema={"type": "object"})
    with ChatServer(tools(("c1", "add", '{"a": 1}'), ("c2", "now", "{}"), content="So.")) as server:
        response = await calling(server.url).ask(asked(tools=(tool,)))
        calls = [part for part in response.parts if isinstance(part, ToolCallOutputPart)]
        assert [(call.call_id, call.tool_name, call.input_json) for call in calls] == [
            ("c1", "add", '{"a": 1}'),
            ("c2", "now", "{}"),
        ]
        assert response.terminal_reason is LlmTerminalReason.TOOL_USE


async def test_many_calls_at_once_share_the_provider() -> None:
    import anyio

    with ChatServer() as server:
        caller = calling(server.url)
        answers: list[str] = []

        async def one() -> None:
            answers.append((await caller.call()).full_text)

        async with anyio.create_task_group() as group:
            for _ in range(30):
                group.start_soon(one)
        assert answers == ["Hello from the test server."] * 30
        await caller.provider.aclose()


FAILURES: dict[str, tuple[Answer, str, ProviderFailureKind, bool]] = {
    "bad key": (status(401), "test_error", ProviderFailureKind.AUTH, False),
    "bad request": (status(400), "test_error", ProviderFailureKind.VALIDATION, False),
    "throttled": (status(429), "unsafe_retry_response_observed", ProviderFailureKind.QUOTA, True),
    "server error": (status(500), "unsafe_retry_response_observed", ProviderFailureKind.HTTP, True),
    "cut after text": (cut("x"), "unsafe_retry_after_output_started", ProviderFailureKind.TRANSPORT, False),
    "ended without a reason": (
        stream(chunk({"content": "x"})),
        "unsafe_retry_after_output_started",
        ProviderFailureKind.STREAM,
        False,
    ),
    "error after text": (
        error_event({"message": "m", "code": "server_error"}, chunk({"content": "x"})),
        "unsafe_retry_after_output_started",
        ProviderFailureKind.HTTP,
        False,
    ),
    "error at once": (
        error_event({"message": "m", "code": "server_error"}),
        "unsafe_retry_response_observed",
        ProviderFailureKind.HTTP,
        True,
    ),
    "cut after usage": (
        stream(chunk(usage={"prompt_tokens": 3}), done=False, end="cut"),
        "unsafe_retry_response_observed",
        ProviderFailureKind.TRANSPORT,
        True,
    ),
    "a page": (
        document(b"<html></html>", content_type="text/html"),
        "unexpected_content",
        ProviderFailureKind.HTTP,
        False,
    ),
}


@pytest.mark.parametrize(("answer", "code", "kind", "retryable"), FAILURES.values(), ids=FAILURES.keys())
async def test_failures(answer: Answer, code: str, kind: ProviderFailureKind, retryable: bool) -> None:
    with ChatServer(answer) as server:
        caller = calling(server.url)
        error = await caller.fail()
        assert (error.code, error.kind, error.retryable) == (code, kind, retryable)
        assert len(server.requests) == 1
        assert caller.waits == []


async def test_a_junk_event_is_not_asked_for_again_and_says_what_was_wrong() -> None:
    """A response was observed, so a repetition might be paid for twice; it used to be repeated three times."""
    for junk, words in ((b"data: {oops}\n\n", "no JSON"), (b'data: {"choices": [7]}\n\n', "no chunk")):
        with ChatServer(raw(junk)) as server:
            caller = calling(server.url)
            error = await caller.fail()
            assert error.code == "unsafe_retry_response_observed"
            assert len(server.requests) == 1
            assert caller.waits == []
            assert words in error.message
            assert junk.decode()[6:].strip() in error.message
            assert f"{server.url}/chat/completions" in error.message
            assert error.usage == TokenUsage(at_least=True)


async def test_a_failure_after_usage_keeps_the_counters() -> None:
    with ChatServer(stream(chunk(usage={"prompt_tokens": 3}), done=False, end="cut"), status(401)) as server:
        assert (await calling(server.url).fail()).usage == TokenUsage(input=3, at_least=True)
        assert (await calling(server.url).fail()).usage is None


async def test_a_refused_connection_names_the_url_at_once() -> None:
    url = refused_url()
    caller = calling(url)
    error = await caller.fail()
    assert error.code == "connection_refused"
    assert url in error.message
    assert (caller.waits, caller.events) == ([], [])


async def test_an_overflow_is_one() -> None:
    with ChatServer(status(400, {"error": {"message": "m", "code": "context_length_exceeded"}})) as server:
        assert (await calling(server.url).fail()).terminal_reason is LlmTerminalReason.CONTEXT_OVERFLOW


async def test_retries_are_told_and_streamed_text_is_taken_back() -> None:
    with ChatServer(cut("wro"), status(503), text("right")) as server:
        caller = calling(server.url, retry="lenient")
        assert (await caller.ask()).full_text == "right"
        assert caller.waits == [2.0, 4.0]
        assert [type(event) for event in caller.events[:4]] == [StreamDelta, AttemptReset, RetryStatus, RetryStatus]


async def test_an_event_cut_in_half_is_a_cut_not_bad_data() -> None:
    whole = sse(chunk({"content": "x"}))
    with ChatServer(raw(whole, whole[:30], end="cut"), raw(whole[:30])) as server:
        assert (await calling(server.url).fail()).kind is ProviderFailureKind.TRANSPORT
        caller = calling(server.url, max_attempts=1)
        assert (
            await caller.fail()
        ).code == "unsafe_retry_response_observed"  # a part of an event is a part of an answer


async def test_an_answer_that_is_complete_but_never_closed_ends_soon() -> None:
    """After `[DONE]` only the connection's end is missing; a second is all that is given to it."""
    import anyio

    with ChatServer(attrs.evolve(text("a"), end="hang")) as server:
        with anyio.fail_after(5):
            assert (await calling(server.url).ask()).full_text == "a"


async def test_silence_is_a_timeout() -> None:
    with ChatServer(hang("x")) as server:
        assert (await calling(server.url, chunk_timeout_s=0.3).fail()).kind is ProviderFailureKind.TIMEOUT


async def test_a_document_instead_of_a_stream() -> None:
    body = {"id": "i", "model": "m", "choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}]}
    with ChatServer(document(body), document(b"{")) as server:
        caller = calling(server.url)
        assert (await caller.ask()).full_text == "whole"
        assert caller.events == [StreamDelta("whole")]
        assert (await calling(server.url).fail()).code == "unsafe_retry_response_observed"


async def test_an_unsupported_attachment_fails_before_any_request() -> None:
    reference = AttachmentRef(id="sha256:" + "0" * 64, media_type="application/pdf", size=1)
    message = LlmMessage(LlmRole.USER, (ImageBlock(attachment_idx=0),))
    request = LlmRequest(model="m", messages=(message,), attachments=(LlmAttachment(reference=reference, data=b"x"),))
    with ChatServer() as server:
        error = await calling(server.url).fail(request)
        assert error.code == "unsupported_attachment_capability"
        assert error.kind is ProviderFailureKind.VALIDATION
        assert server.connections == 0


async def test_settings_become_headers_and_a_query_stays_at_the_end() -> None:
    with ChatServer() as server:
        await calling(
            f"{server.url}/?api-version=7",
            api_key=" ",
            organization="org",
            project="proj",
            headers={"X-Gateway": "secret-gateway-key"},
        ).ask()
        request = server.requests[0]
        assert request.target == "/v1/chat/completions?api-version=7"
        assert "authorization" not in request.headers
        assert request.headers["openai-organization"] == "org"
        assert request.headers["openai-project"] == "proj"
        assert request.headers["x-gateway"] == "secret-gateway-key"


@pytest.mark.parametrize("before", [80, 1000])
@pytest.mark.parametrize("form", ["%s", '{"error":{"message":"%s"}}'])
async def test_a_key_across_a_cut_of_what_the_stream_said_is_not_half_shown(before: int, form: str) -> None:
    with ChatServer(raw(sse(form % ("x" * before + KEY)))) as server:
        error = await calling(server.url).fail()
        assert KEY[:8] not in repr(error)


async def test_a_key_in_the_base_url_s_query_is_not_shown() -> None:
    url = "https://gw.example/v1?key=key-of-the-gateway"
    for provider in (
        OpenAiChatProvider(OpenAiChatSettings(base_url=url), live_calls_allowed=False),
        OpenAiProvider(OpenAiSettings(base_url=url), live_calls_allowed=False),
    ):
        with pytest.raises(ConfigurationError, match="may cost money") as caught:
            await Caller(provider).ask()
        assert "key-of-the-gateway" not in f"{provider!r} {caught.value}"
    with pytest.raises(ConfigurationError) as caught:
        OpenAiChatProvider(OpenAiChatSettings(base_url=url.removeprefix("https://")))
    assert "key-of-the-gateway" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "https://user:hunter22@api.example.com/v1"},
        {"base_url": "api.example.com"},
        {"api_key": "sk-line\nbreak-hunter22"},
        {"headers": {"x key": "v"}},
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused_without_quoting_secrets(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"provider\.openai-chat\.") as caught:
        OpenAiChatProvider(OpenAiChatSettings(**wrong))
    assert "hunter22" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("retry", "always"), ("max_attempts", 0), ("deadline_s", 0), ("context_window", 0), ("reasoning_replay", "x")],
)
def test_values_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        OpenAiChatSettings(**{name: value})


def test_every_setting_has_a_default_and_a_help_text_and_secrets_are_marked() -> None:
    env = {
        "base_url": ("OPENAI_BASE_URL",),
        "api_key": ("OPENAI_API_KEY",),
        "organization": ("OPENAI_ORG_ID",),
        "project": ("OPENAI_PROJECT_ID",),
    }
    check_settings(OpenAiChatSettings, secrets={"api_key", "headers"}, env=env)


# ---- as a plugin


def specs() -> dict[str, Any]:
    return {spec.provider_id: spec for spec in plugin.lash_providers()}


async def test_the_registered_provider_works_and_is_one() -> None:
    spec = specs()["openai-chat"]
    with ChatServer() as server:
        settings = spec.settings_class()(base_url=server.url, context_window=9)
        context = ProviderContext(provider_id="openai-chat", settings=settings, live_calls_allowed=False)
        provider = spec.open(context)
        assert isinstance(provider, Provider)
        assert provider.capability("any").context_window == 9
        assert provider.capability("any") is provider.capability("any")  # each turn asks
        assert (await Caller(provider).ask()).full_text == "Hello from the test server."


async def test_without_a_key_the_message_says_what_to_type() -> None:
    context = ProviderContext(provider_id="openai-chat", settings=OpenAiChatSettings())
    with pytest.raises(ConfigurationError) as caught:
        await Caller(specs()["openai-chat"].open(context)).ask()
    for words in ("export OPENAI_API_KEY=", "--set provider.openai-chat.api_key=", "scripted:demo"):
        assert words in str(caught.value)


async def test_a_live_call_that_nobody_allowed_is_an_error() -> None:
    context = ProviderContext(
        provider_id="openai-chat", settings=OpenAiChatSettings(api_key=KEY), live_calls_allowed=False
    )
    with pytest.raises(ConfigurationError, match="live_calls_allowed"):
        await Caller(specs()["openai-chat"].open(context)).ask()


def test_discovery_imports_nothing_heavy() -> None:
    """`plugin` is imported at every start of every command."""
    found = imported_by("import lash_plugin_provider_openai.plugin")
    assert not {"attrs", "anyio", "httpx", "orjson", "lash_provider_kit"} & found
    listed = imported_by("from lash_plugin_provider_openai import plugin; plugin.lash_providers()")
    assert not {"anyio", "httpx", "orjson", "lash_provider_kit"} & listed


def test_the_server_runs_as_a_process() -> None:
    """For benchmarks, and for whoever wants a model on a port."""
    command = [sys.executable, "-m", "lash_provider_kit.testing", "--deltas", "3", "--delta-text", "x"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        try:
            assert asyncio.run(calling(url).ask()).full_text == "xxx"
        finally:
            process.terminate()


def test_requests_are_json_that_any_parser_reads() -> None:
    with ChatServer() as server:
        asyncio.run(calling(server.url).ask())
        assert json.loads(server.requests[0].body)["model"] == "test-model"
