"""LiteLLM, a gateway that many people use, between us and our own test server.

Our requests are read by its schema and sent on by the openai SDK, whose reading of our server's answers is then
streamed back to us. Nothing here installs it, CI neither: with its proxy it takes some 600 MB, and 26 s of CPU to
import, which is more than all others together. `independent` says where it is looked for.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import evolve
from independent import ask as asked_of, serve

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import (
    GenerationOptions,
    LlmAttachment,
    LlmRequest,
    LlmResponse,
    LlmTerminalReason,
    LlmToolSpec,
    ProviderFailureKind,
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


def ask(url: str, request: LlmRequest) -> tuple[LlmResponse, str]:
    """The answer, and the text as it was streamed."""
    return asked_of(OpenAiChatProvider(OpenAiChatSettings(base_url=url, api_key=MASTER_KEY, retry="off")), request)


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
