"""Against a server of this wire that others wrote, a process of its own on this machine.

aimock comes from npm and needs Node: `LASH_TEST_AIMOCK` names the folder that it was installed in (`npm install
--prefix FOLDER @copilotkit/aimock`). Where it isn't, these tests are skipped by name.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from shutil import which

import pytest

from lash_hookspecs.errors import LlmCallFailed
from lash_hookspecs.llm import (
    LlmRequest,
    LlmResponse,
    LlmStreamEvent,
    LlmTerminalReason,
    LlmToolSpec,
    ProviderFailureKind,
    ReasoningOutput,
    StreamDelta,
    TextOutput,
    ToolCallOutputPart,
)
from lash_hookspecs.llm_messages import LlmMessage, LlmRole, TextBlock, ToolCallBlock, ToolResultBlock, llm_text
from lash_plugin_provider_google import GoogleProvider, GoogleSettings

FIXTURES = [
    {
        "match": {"userMessage": "add"},
        "response": {"toolCalls": [{"name": "add", "arguments": json.dumps({"a": 1, "b": 2})}]},
    },
    {"match": {"userMessage": "think"}, "response": {"content": "thought about it", "reasoning": "let me see"}},
    {"match": {"userMessage": "busy"}, "response": {"error": {"message": "Rate limited"}, "status": 429}},
    {"match": {"userMessage": "hello"}, "response": {"content": "Hi there, this is not a model at all."}},
]
ADD = LlmToolSpec(name="add", description="Adds.", input_schema={"type": "object"})
STREAMED = pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = os.environ.get("LASH_TEST_AIMOCK", "")
    script = Path(folder, "node_modules", "@copilotkit", "aimock", "dist", "cli.js")
    node = which("node")
    if not folder or node is None or not script.is_file():
        pytest.skip("no aimock: LASH_TEST_AIMOCK names the folder that it is installed in, and it needs Node")
    fixtures = tmp_path_factory.mktemp("aimock") / "fixtures.json"
    fixtures.write_text(json.dumps({"fixtures": FIXTURES}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [node, str(script), "--port", str(port), "--fixtures", str(fixtures), "--log-level", "silent"]
    with subprocess.Popen(command) as process:
        try:
            _wait(process, port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)  # another program's start can only be polled
    pytest.fail("aimock didn't come up")


def ask(url: str, *messages: LlmMessage, streamed: bool) -> tuple[LlmResponse, str]:
    """The answer, and the text as it was streamed."""
    shown: list[str] = []

    async def send(events: Sequence[LlmStreamEvent]) -> None:
        shown.extend(event.text for event in events if isinstance(event, StreamDelta))

    async def call() -> LlmResponse:
        settings = GoogleSettings(base_url=url, api_key="key-of-a-test", stream=streamed, retry="off")
        provider = GoogleProvider(settings)
        try:
            return await provider.complete(LlmRequest(model="gemini-3.8-flash", messages=messages, tools=(ADD,)), send)
        finally:
            await provider.aclose()

    return asyncio.run(call()), "".join(shown)


@STREAMED
def test_text_and_thoughts(url: str, streamed: bool) -> None:
    response, shown = ask(url, llm_text(LlmRole.USER, "hello"), streamed=streamed)
    assert response.full_text == shown == "Hi there, this is not a model at all."
    assert response.terminal_reason is LlmTerminalReason.STOP
    response, _ = ask(url, llm_text(LlmRole.USER, "think"), streamed=streamed)
    assert response.parts == (ReasoningOutput(text="let me see"), TextOutput(text="thought about it"))


@STREAMED
def test_a_tool_s_round(url: str, streamed: bool) -> None:
    asked = llm_text(LlmRole.USER, "please add")
    response, _ = ask(url, asked, streamed=streamed)
    assert response.terminal_reason is LlmTerminalReason.TOOL_USE
    (call,) = response.parts
    assert isinstance(call, ToolCallOutputPart)
    assert (call.tool_name, json.loads(call.input_json)) == ("add", {"a": 1, "b": 2})
    said = ToolCallBlock(call_id=call.call_id, tool_name="add", input_json=call.input_json)
    result = ToolResultBlock(call_id=call.call_id, tool_name="add", content="3")
    answered = LlmMessage(LlmRole.USER, (result, TextBlock(text="hello")))
    response, _ = ask(url, asked, LlmMessage(LlmRole.ASSISTANT, (said,)), answered, streamed=streamed)
    assert response.full_text.startswith("Hi there")


@STREAMED
def test_errors(url: str, streamed: bool) -> None:
    with pytest.raises(LlmCallFailed) as caught:
        ask(url, llm_text(LlmRole.USER, "busy"), streamed=streamed)
    assert (caught.value.error.kind, caught.value.error.retryable) == (ProviderFailureKind.QUOTA, True)
    with pytest.raises(LlmCallFailed) as caught:
        ask(url, llm_text(LlmRole.USER, "no such fixture"), streamed=streamed)
    assert (caught.value.error.kind, caught.value.error.code) == (ProviderFailureKind.VALIDATION, "NOT_FOUND")
