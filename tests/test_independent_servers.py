"""All four wires against servers that others wrote: text, tools and errors, each way at least two of them speak it.

- llmock (PyPI) speaks the wires of ten vendors, with tools, and breaks on demand, streams included.
- mock-ai-api (PyPI) answers from fixed scenarios, and checks requests with its own schema.
- llm-mock-api (PyPI) answers by rules; so does aimock (npm), which is in JavaScript.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen
from independent import ask, direct, serve, serve_node

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import (
    GenerationOptions,
    LlmAttachment,
    LlmRequest,
    LlmResponse,
    LlmTerminalReason as Reason,
    LlmToolSpec,
    ProviderFailureKind as Kind,
    ToolCallOutputPart,
)
from lash_hookspecs.llm_messages import (
    ImageBlock,
    LlmMessage,
    LlmRole,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
    llm_text,
)
from lash_hookspecs.messages import AttachmentRef
from lash_plugin_provider_anthropic import AnthropicProvider, AnthropicSettings
from lash_plugin_provider_google import GoogleProvider, GoogleSettings
from lash_plugin_provider_openai import OpenAiChatProvider, OpenAiChatSettings
from lash_plugin_provider_openai.responses_provider import OpenAiProvider
from lash_plugin_provider_openai.responses_settings import OpenAiSettings

pytestmark = pytest.mark.costly  # other programs are started, and what they say depends on no Python of ours

KEY = "sk-of-a-test-0123456789abcdef"
OPENED: Mapping[str, Callable[[str], Any]] = {
    "anthropic": lambda url: AnthropicProvider(AnthropicSettings(base_url=url, api_key=KEY, retry="off")),
    "google": lambda url: GoogleProvider(GoogleSettings(base_url=url, api_key=KEY, retry="off")),
    "openai": lambda url: OpenAiProvider(OpenAiSettings(base_url=url, api_key=KEY, retry="off")),
    "openai-chat": lambda url: OpenAiChatProvider(OpenAiChatSettings(base_url=url, api_key=KEY, retry="off")),
}
NOW = LlmToolSpec(
    name="now",
    description="The time.",
    input_schema={"type": "object", "properties": {"tz": {"type": "string"}}, "required": ["tz"]},
)
PNG = AttachmentRef(id="sha256:" + "0" * 64, media_type="image/png", size=4)


def said(role: LlmRole, *blocks: Any) -> LlmMessage:
    return LlmMessage(role, blocks)


def conversation(model: str, last: str = "hello") -> LlmRequest:
    """A tool's round, a picture and options, and then what the user says last."""
    return LlmRequest(
        model=model,
        messages=(
            said(LlmRole.SYSTEM, TextBlock(text="Be brief.")),
            said(LlmRole.USER, TextBlock(text="Look"), ImageBlock(attachment_idx=0, attachment=PNG)),
            said(LlmRole.ASSISTANT, ToolCallBlock(call_id="call_1", tool_name="now", input_json='{"tz": "UTC"}')),
            said(LlmRole.USER, ToolResultBlock(call_id="call_1", tool_name="now", content="noon")),
            said(LlmRole.ASSISTANT, TextBlock(text="It is noon.")),
            said(LlmRole.USER, TextBlock(text=last)),
        ),
        attachments=(LlmAttachment(reference=PNG, data=b"\x89PNG"),),
        tools=(NOW,),
        generation=GenerationOptions(output_token_cap=50),
    )


def calls(response: LlmResponse) -> list[ToolCallOutputPart]:
    return [part for part in response.parts if isinstance(part, ToolCallOutputPart)]


def answered(url: str, wire: str, request: LlmRequest) -> LlmResponse:
    """An answer in text, which was streamed as it is."""
    response, streamed = ask(OPENED[wire](url), request)
    assert response.full_text == streamed
    assert response.full_text
    assert not response.usage.at_least
    return response


def called(url: str, wire: str, request: LlmRequest) -> ToolCallOutputPart:
    """The one call of an answer."""
    response, _ = ask(OPENED[wire](url), request)
    (call,) = calls(response)
    assert response.terminal_reason is Reason.TOOL_USE
    assert call.call_id
    assert isinstance(json.loads(call.input_json), dict)
    return call


def refused(url: str, wire: str, request: LlmRequest, kind: Kind, retryable: bool) -> None:
    with pytest.raises(LlmCallFailed) as caught:
        ask(OPENED[wire](url), request)
    error = caught.value.error
    assert (error.kind, error.retryable) == (kind, retryable)
    assert KEY not in repr(error)


ERRORS = [
    (400, Kind.VALIDATION, False),
    (401, Kind.AUTH, False),
    (429, Kind.QUOTA, True),
    (500, Kind.HTTP, True),
    (503, Kind.HTTP, True),
]


# ---- llmock


@pytest.fixture(scope="module")
def llmock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    starter = "import sys; from llmock.cli import app; sys.exit(app())"
    command = ["-c", starter, "serve", "--port", "{port}", "--host", "127.0.0.1", "--response-style", "echo"]
    yield from serve("llmock", command, "/health", tmp_path_factory.mktemp("llmock") / "log")


LLMOCK = pytest.mark.parametrize(
    ("wire", "path", "model"),
    [
        ("openai-chat", "/v1", "gpt-4o"),
        ("openai", "/v1", "gpt-4o"),
        ("anthropic", "/anthropic", "claude-opus-4-6"),
        ("google", "/gemini", "gemini-2.5-pro"),
    ],
    ids=["openai-chat", "openai", "anthropic", "google"],
)


def breaks(origin: str, **behavior: Any) -> None:
    """Have the next answer broken."""
    body = json.dumps({"behaviors": [behavior]}).encode()
    with direct(
        urllib.request.Request(f"{origin}/_llmock/scenario", body, {"content-type": "application/json"}), timeout=5
    ):
        pass


@LLMOCK
def test_llmock_text_and_tools(llmock: str, wire: str, path: str, model: str) -> None:
    request = conversation(model)
    response = answered(llmock + path, wire, evolve(request, tools=()))
    assert response.terminal_reason in (Reason.STOP, Reason.OUTPUT_LIMIT)
    assert response.usage.input > 0
    assert response.usage.output > 0
    asked = evolve(request, messages=request.messages[:2])
    call = called(llmock + path, wire, asked)
    assert call.tool_name == "now"
    assert "tz" in json.loads(call.input_json)
    # Its own call goes back with a result, and is answered in text.
    block = ToolCallBlock(call_id=call.call_id, tool_name="now", input_json=call.input_json, replay=call.replay)
    result = ToolResultBlock(call_id=call.call_id, tool_name="now", content="noon")
    back = (*asked.messages, said(LlmRole.ASSISTANT, block), said(LlmRole.USER, result))
    answered(llmock + path, wire, evolve(request, messages=back))


@LLMOCK
def test_llmock_errors(llmock: str, wire: str, path: str, model: str) -> None:
    """Each status, and then streams that are cut or damaged, which are never taken for an answer."""
    request = conversation(model)
    for status, kind, retryable in ERRORS:
        breaks(llmock, type="fail", status=status)
        refused(llmock + path, wire, request, kind, retryable)
    for fault in ("disconnect", "truncate", "malformed"):
        breaks(llmock, type="stream_fault", kind=fault, after_chunks=6)
        with pytest.raises(LlmCallFailed) as caught:
            ask(OPENED[wire](llmock + path), evolve(request, tools=()))
        assert caught.value.error.kind in (Kind.STREAM, Kind.TRANSPORT), fault
        assert not caught.value.error.retryable  # it had said something


# ---- mock-ai-api


@frozen
class Scenarios:
    """How mock-ai-api's application for a vendor is started, and named things of it."""

    module: str
    path: str
    model: str


MOCK_AI = {
    "openai-chat": Scenarios("app.openai_app:app", "/v1", "gpt-4.1"),
    "anthropic": Scenarios("app.anthropic_app:app", "", "claude-sonnet-4-20250514"),
}


@pytest.mark.parametrize("wire", MOCK_AI)
def test_mock_ai_api(wire: str, tmp_path: Path) -> None:
    """Text, a call, and errors by their status."""
    about = MOCK_AI[wire]
    command = ["-m", "uvicorn", about.module, "--host", "127.0.0.1", "--port", "{port}"]
    for origin in serve("mock-ai-api", command, "/health", tmp_path / "log"):
        url = origin + about.path
        assert answered(url, wire, conversation(about.model)).terminal_reason is Reason.STOP
        assert called(url, wire, conversation(f"{about.model}:mock-tool-stream")).tool_name
        for status, kind, retryable in ERRORS:
            refused(url, wire, conversation(f"{about.model}:mock-{status}"), kind, retryable)


# ---- llm-mock-api


# Its files of rules have no errors, so it is told in its own words.
RULES = """
import asyncio, sys
from llm_mock_api import ErrorReply, MockServer, MockServerOptions, ReplyObject, ToolCall

server = MockServer(MockServerOptions(port=int(sys.argv[1]), host="127.0.0.1", log_level="none"))
server.when("add").reply(ReplyObject(text="Let me see.", tools=[ToolCall(name="now", args={"tz": "CET"})]))
server.when("busy").reply(ReplyObject(error=ErrorReply(status=429, message="Rate limited")))
server.when("broken").reply(ReplyObject(error=ErrorReply(status=500, message="Out of order")))
server.when("wrong").reply(ReplyObject(error=ErrorReply(status=400, message="No such field")))
server.when("hello").reply("Grüße, 你好 🌍, this is no model at all.")
asyncio.run(server.run_until_shutdown())
"""


def by_rules(url: str, wire: str, model: str) -> None:
    assert answered(url, wire, conversation(model, "hello")).full_text == "Grüße, 你好 🌍, this is no model at all."
    response, streamed = ask(OPENED[wire](url), conversation(model, "please add"))
    (call,) = calls(response)
    assert (call.tool_name, json.loads(call.input_json)) == ("now", {"tz": "CET"})
    assert response.terminal_reason is Reason.TOOL_USE
    assert streamed == response.full_text == "Let me see."
    refused(url, wire, conversation(model, "busy"), Kind.QUOTA, True)
    refused(url, wire, conversation(model, "broken"), Kind.HTTP, True)
    refused(url, wire, conversation(model, "wrong"), Kind.VALIDATION, False)


def test_llm_mock_api(tmp_path: Path) -> None:
    """Three wires, each with text, tools and errors."""
    for origin in serve("llm-mock-api", ["-c", RULES, "{port}"], "/", tmp_path / "log"):
        for wire, path in (("openai-chat", "/v1"), ("openai", "/v1"), ("anthropic", "")):
            by_rules(origin + path, wire, "test-model")


# ---- aimock


FIXTURES = [
    {
        "match": {"userMessage": "add"},
        "response": {"content": "Let me see.", "toolCalls": [{"name": "now", "arguments": '{"tz": "CET"}'}]},
    },
    {"match": {"userMessage": "busy"}, "response": {"error": {"message": "Rate limited"}, "status": 429}},
    {"match": {"userMessage": "broken"}, "response": {"error": {"message": "Out of order"}, "status": 500}},
    {"match": {"userMessage": "wrong"}, "response": {"error": {"message": "No such field"}, "status": 400}},
    {"match": {"userMessage": "think"}, "response": {"content": "thought about it", "reasoning": "let me see"}},
    {"match": {"userMessage": "hello"}, "response": {"content": "Grüße, 你好 🌍, this is no model at all."}},
]


def test_aimock(tmp_path: Path) -> None:
    """All four wires, each with text, tools and errors; Gemini also without a stream."""
    (tmp_path / "fixtures.json").write_text(json.dumps({"fixtures": FIXTURES}))
    options = ["--port", "{port}", "--fixtures", str(tmp_path / "fixtures.json"), "--log-level", "silent"]
    for origin in serve_node("@copilotkit/aimock", "dist/cli.js", options, tmp_path / "log"):
        for wire, path in (("openai-chat", "/v1"), ("openai", "/v1"), ("anthropic", ""), ("google", "")):
            by_rules(origin + path, wire, "gemini-3.8-flash" if wire == "google" else "test-model")
        whole = GoogleProvider(GoogleSettings(base_url=origin, api_key=KEY, stream=False, retry="off"))
        asked = LlmRequest(model="gemini-3.8-flash", messages=(llm_text(LlmRole.USER, "think"),))
        response, shown = ask(whole, asked)
        assert response.full_text == shown == "thought about it"
