"""Against servers of the protocol that others wrote, each a process of its own on this machine.

They come from PyPI and pin their web frameworks, so they are best installed beside the project rather than into it:
`LASH_GATEWAY_PYTHON` names the Pythons that may have them, as a PATH (by default this one). What isn't there is
skipped by name.

- llmock speaks the wires of ten vendors, with tools, and breaks on demand, streams included.
- mock-ai-api answers from fixed scenarios, and checks requests with its own schema.
- LiteLLM is a gateway that many people use. It stands between us and our own test server: our requests are read by its
  schema and sent on by the openai SDK, whose reading of our server's answers is then streamed back to us.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from attrs import evolve

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import (
    GenerationOptions,
    LlmAttachment,
    LlmRequest,
    LlmResponse,
    LlmStreamEvent,
    LlmTerminalReason,
    LlmToolSpec,
    ProviderFailureKind,
    StreamDelta,
    ToolCallOutputPart,
)
from lash_hookspecs.llm_messages import (
    ImageBlock,
    LlmMessage,
    LlmRole,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from lash_hookspecs.messages import AttachmentRef
from lash_plugin_provider_openai import OpenAiChatProvider, OpenAiChatSettings
from lash_provider_kit.testing import ChatServer, status, text, tools

PYTHONS = os.environ.get("LASH_GATEWAY_PYTHON", sys.executable).split(os.pathsep)
MASTER_KEY = f"sk-{secrets.token_hex(24)}"
PNG = AttachmentRef(id="sha256:" + "0" * 64, media_type="image/png", size=1)


def message(role: LlmRole, *blocks: Any) -> LlmMessage:
    return LlmMessage(role, blocks)


CONVERSATION = LlmRequest(
    model="test-model",
    messages=(
        message(LlmRole.SYSTEM, TextBlock(text="Be brief.")),
        message(LlmRole.USER, TextBlock(text="Look"), ImageBlock(attachment_idx=0, attachment=PNG)),
        message(LlmRole.ASSISTANT, ToolCallBlock(call_id="call_1", tool_name="now", input_json='{"tz": "UTC"}')),
        message(LlmRole.USER, ToolResultBlock(call_id="call_1", content="noon")),
    ),
    attachments=(LlmAttachment(reference=PNG, data=b"\x89PNG"),),
    tools=(LlmToolSpec(name="now", description="The time.", input_schema={"type": "object", "properties": {}}),),
    generation=GenerationOptions(output_token_cap=50, temperature=0.5, seed=7, stop_sequences=("END",)),
)


def ask(url: str, request: LlmRequest, key: str = MASTER_KEY) -> tuple[LlmResponse, str]:
    """The answer, and the text as it was streamed."""
    streamed: list[str] = []

    async def send(events: Sequence[LlmStreamEvent]) -> None:
        streamed.extend(event.text for event in events if isinstance(event, StreamDelta))

    async def call() -> LlmResponse:
        provider = OpenAiChatProvider(OpenAiChatSettings(base_url=url, api_key=key, retry="off"))
        try:
            return await provider.complete(request, send)
        finally:
            await provider.aclose()

    return asyncio.run(call()), "".join(streamed)


def serve(package: str, command: list[str], path: str, log: Path, **environment: str) -> Iterator[str]:
    """Run a server of `package`; its origin, once `path` answers. `{port}` in the command is a free port."""
    probe = f"import importlib.metadata as m; m.version({package!r})"
    having = (
        each
        for each in PYTHONS
        if which(each) and subprocess.run([each, "-c", probe], capture_output=True).returncode == 0
    )
    python = next(having, None)
    if python is None:
        pytest.skip(f"{package} isn't installed for {', '.join(PYTHONS)}; LASH_GATEWAY_PYTHON may name another Python")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    kept.pop("PYTHONPATH", None)
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [python, *(part.format(port=port) for part in command)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=kept | environment,
        ) as process,
    ):
        try:
            deadline = time.monotonic() + 90
            while not _answers(f"http://127.0.0.1:{port}{path}"):
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"{package} didn't start:\n{log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.1)  # another program's start can only be polled
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=2):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


# ---- mock-ai-api


@pytest.fixture(scope="module")
def mock_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    command = ["-m", "uvicorn", "app.openai_app:app", "--host", "127.0.0.1", "--port", "{port}"]
    for origin in serve("mock-ai-api", command, "/health", tmp_path_factory.mktemp("mock") / "log"):
        yield f"{origin}/v1"


def test_mock_api_text(mock_api: str) -> None:
    response, streamed = ask(mock_api, CONVERSATION)
    assert response.full_text == streamed
    assert response.full_text
    assert response.terminal_reason is LlmTerminalReason.STOP
    assert response.served_model == "test-model"
    assert response.usage.output > 0
    assert not response.usage.at_least


def test_mock_api_tool_call(mock_api: str) -> None:
    response, _ = ask(mock_api, evolve(CONVERSATION, model="gpt-4.1:mock-tool-stream"))
    (call,) = (part for part in response.parts if isinstance(part, ToolCallOutputPart))
    assert call.call_id
    assert call.tool_name == "Write"
    assert '"path"' in call.input_json
    assert response.terminal_reason is LlmTerminalReason.TOOL_USE


@pytest.mark.parametrize(
    ("scenario", "kind", "retryable"),
    [
        ("mock-400", ProviderFailureKind.VALIDATION, False),
        ("mock-401", ProviderFailureKind.AUTH, False),
        ("mock-429", ProviderFailureKind.QUOTA, True),
        ("mock-500", ProviderFailureKind.HTTP, True),
        ("mock-503", ProviderFailureKind.HTTP, True),
    ],
)
def test_mock_api_errors(mock_api: str, scenario: str, kind: ProviderFailureKind, retryable: bool) -> None:
    with pytest.raises(LlmCallFailed) as caught:
        ask(mock_api, evolve(CONVERSATION, model=f"gpt-4.1:{scenario}"))
    assert (caught.value.error.kind, caught.value.error.retryable) == (kind, retryable)


# ---- llmock


@pytest.fixture(scope="module")
def llmock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    starter = "import sys; from llmock.cli import app; sys.exit(app())"
    command = ["-c", starter, "serve", "--port", "{port}", "--host", "127.0.0.1", "--response-style", "echo"]
    yield from serve("llmock", command, "/health", tmp_path_factory.mktemp("llmock") / "log")


def broken(origin: str, **behavior: Any) -> None:
    """Have the next answer broken."""
    body = json.dumps({"behaviors": [behavior]}).encode()
    headers = {"content-type": "application/json"}
    told = urllib.request.Request(f"{origin}/_llmock/scenario", body, headers)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(told, timeout=5):
        pass


def test_llmock_text(llmock: str) -> None:
    response, streamed = ask(f"{llmock}/v1", evolve(CONVERSATION, tools=(), model="gpt-4o"))
    assert response.full_text == streamed
    assert response.full_text
    assert response.terminal_reason in (LlmTerminalReason.STOP, LlmTerminalReason.OUTPUT_LIMIT)
    assert response.usage.input > 0


def test_llmock_tool_call(llmock: str) -> None:
    asked = evolve(CONVERSATION, model="gpt-4o", messages=CONVERSATION.messages[:2])
    response, _ = ask(f"{llmock}/v1", asked)
    (call,) = (part for part in response.parts if isinstance(part, ToolCallOutputPart))
    assert (call.tool_name, response.terminal_reason) == ("now", LlmTerminalReason.TOOL_USE)
    assert isinstance(json.loads(call.input_json), dict)


@pytest.mark.parametrize(
    ("status_code", "kind", "retryable"),
    [
        (400, ProviderFailureKind.VALIDATION, False),
        (401, ProviderFailureKind.AUTH, False),
        (429, ProviderFailureKind.QUOTA, True),
        (500, ProviderFailureKind.HTTP, True),
        (503, ProviderFailureKind.HTTP, True),
    ],
)
def test_llmock_errors(llmock: str, status_code: int, kind: ProviderFailureKind, retryable: bool) -> None:
    broken(llmock, type="fail", status=status_code)
    with pytest.raises(LlmCallFailed) as caught:
        ask(f"{llmock}/v1", evolve(CONVERSATION, model="gpt-4o"))
    assert (caught.value.error.kind, caught.value.error.retryable) == (kind, retryable)


@pytest.mark.parametrize("kind", ["disconnect", "truncate", "malformed"])
def test_llmock_broken_streams(llmock: str, kind: str) -> None:
    """A stream that is cut, or damaged, is never taken for an answer."""
    broken(llmock, type="stream_fault", kind=kind, after_chunks=3)
    with pytest.raises(LlmCallFailed) as caught:
        ask(f"{llmock}/v1", evolve(CONVERSATION, tools=(), model="gpt-4o"))
    assert caught.value.error.kind in (ProviderFailureKind.STREAM, ProviderFailureKind.TRANSPORT)
    assert not caught.value.error.retryable


# ---- LiteLLM, with our own server behind it


@pytest.fixture(scope="module")
def upstream() -> Iterator[ChatServer]:
    with ChatServer() as server:
        yield server


@pytest.fixture(scope="module")
def litellm(upstream: ChatServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("litellm")
    config = folder / "config.yaml"
    config.write_text(
        "model_list:\n"
        "  - model_name: test-model\n"
        "    litellm_params:\n"
        "      model: openai/test-model\n"
        f"      api_base: {upstream.url}\n"
        "      api_key: sk-upstream-0123456789\n"
        "litellm_settings: {num_retries: 0, telemetry: false}\n"
        "router_settings: {num_retries: 0, disable_cooldowns: true}\n"
    )
    starter = "import sys; from litellm import run_server; sys.exit(run_server())"
    command = [
        "-c",
        starter,
        "--config",
        str(config),
        "--host",
        "127.0.0.1",
        "--port",
        "{port}",
        "--telemetry",
        "False",
    ]
    # Nothing leaves this machine: no price list is fetched, no usage reported.
    private = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "LITELLM_MASTER_KEY": MASTER_KEY}
    for origin in serve("litellm", command, "/health/liveliness", folder / "log", **private):
        yield f"{origin}/v1"


def test_litellm_text(litellm: str, upstream: ChatServer) -> None:
    upstream.answer(text("Grüße, ", "你好 ", "🌍"))
    response, streamed = ask(litellm, CONVERSATION)
    assert response.full_text == streamed == "Grüße, 你好 🌍"
    assert response.terminal_reason is LlmTerminalReason.STOP
    assert (response.usage.input_total, response.usage.output) == (12, 7)


def test_litellm_passes_on_what_we_asked(litellm: str, upstream: ChatServer) -> None:
    """What reaches the far end, after a reader and a writer that aren't ours, is what we meant."""
    upstream.answer(text("ok"))
    ask(litellm, CONVERSATION)
    sent = upstream.requests[-1].json
    assert [each["role"] for each in sent["messages"]] == ["system", "user", "assistant", "tool"]
    assert sent["messages"][1]["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")
    assert sent["messages"][2]["tool_calls"][0]["function"] == {"name": "now", "arguments": '{"tz": "UTC"}'}
    assert sent["messages"][3]["tool_call_id"] == "call_1"
    assert sent["tools"][0]["function"]["name"] == "now"
    assert (sent["temperature"], sent["seed"], sent["stop"]) == (0.5, 7, ["END"])
    assert sent["max_completion_tokens"] == 50
    assert sent["stream_options"]["include_usage"] is True


def test_litellm_tool_calls(litellm: str, upstream: ChatServer) -> None:
    upstream.answer(tools(("call_a", "now", '{"tz": "UTC"}'), ("call_b", "add", '{"a": 1, "b": 2}')))
    response, _ = ask(litellm, CONVERSATION)
    calls = [part for part in response.parts if isinstance(part, ToolCallOutputPart)]
    assert [(each.call_id, each.tool_name, each.input_json) for each in calls] == [
        ("call_a", "now", '{"tz": "UTC"}'),
        ("call_b", "add", '{"a": 1, "b": 2}'),
    ]
    assert response.terminal_reason is LlmTerminalReason.TOOL_USE


def test_litellm_length(litellm: str, upstream: ChatServer) -> None:
    upstream.answer(text("cut sho", finish="length"))
    assert ask(litellm, CONVERSATION)[0].terminal_reason is LlmTerminalReason.OUTPUT_LIMIT


@pytest.mark.parametrize(
    ("code", "body", "kind", "reason"),
    [
        (429, None, ProviderFailureKind.QUOTA, LlmTerminalReason.PROVIDER_ERROR),
        (500, None, ProviderFailureKind.HTTP, LlmTerminalReason.PROVIDER_ERROR),
        (
            400,
            {"error": {"message": "maximum context length is 9 tokens", "code": "context_length_exceeded"}},
            ProviderFailureKind.VALIDATION,
            LlmTerminalReason.CONTEXT_OVERFLOW,
        ),
    ],
)
def test_litellm_errors(
    litellm: str, upstream: ChatServer, code: int, body: Any, kind: ProviderFailureKind, reason: LlmTerminalReason
) -> None:
    upstream.answer(status(code, body))
    with pytest.raises(LlmCallFailed) as caught:
        ask(litellm, CONVERSATION)
    assert (caught.value.error.kind, caught.value.error.terminal_reason) == (kind, reason)


def test_litellm_unknown_model(litellm: str, upstream: ChatServer) -> None:
    with pytest.raises(LlmCallFailed, match="Invalid model name") as caught:
        ask(litellm, evolve(CONVERSATION, model="no-such-model"))
    assert caught.value.error.kind is ProviderFailureKind.VALIDATION
    assert MASTER_KEY not in repr(caught.value.error)
