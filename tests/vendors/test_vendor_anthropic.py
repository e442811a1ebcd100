"""Messages against Anthropic's own SDK: its types read our requests, its client reads our wire scripts.

`tox -e vendors` installs the SDK; nothing else here has it, and the tests are skipped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from lash_hookspecs.llm import (
    GenerationOptions,
    JsonSchemaOutput,
    LlmAttachment,
    LlmRequest,
    LlmResponse,
    LlmTerminalReason as Reason,
    LlmToolChoice,
    LlmToolSpec,
    ReasoningOutput,
    TokenUsage,
    ToolCallOutputPart,
)
from lash_hookspecs.llm_messages import (
    ImageBlock,
    LlmMessage,
    LlmRole,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
    llm_text,
)
from lash_hookspecs.messages import AttachmentRef, ProviderReasoningMeta
from lash_hookspecs.testing.provider import Call, Ends, Fails, Fault, Novelty, Reasoning, Said, Sealed, Text, Used
from lash_hookspecs.testing.provider.server import WireServer, document, raw, status

anthropic = pytest.importorskip("anthropic", reason="Anthropic's SDK isn't installed: `tox -e vendors`")
pydantic = pytest.importorskip("pydantic")

from anthropic.types.message_create_params import MessageCreateParamsStreaming  # noqa: E402 - where there is one

sys.path.append(str(Path(__file__).parents[2] / "plugins" / "lash-plugin-provider-anthropic" / "tests"))

from anthropic_wire import STOP_REASONS, AnthropicWire  # noqa: E402 - found only now

from lash_plugin_provider_anthropic import AnthropicSettings  # noqa: E402 - with the others
from lash_plugin_provider_anthropic.encode import RequestEncoder  # noqa: E402 - the same

# ---- requests


def user(*blocks: Any) -> LlmMessage:
    return LlmMessage(LlmRole.USER, blocks)


def assistant(*blocks: Any) -> LlmMessage:
    return LlmMessage(LlmRole.ASSISTANT, blocks)


def attached(name: str, media_type: str, data: bytes = b"abc") -> LlmAttachment:
    return LlmAttachment(reference=AttachmentRef(id=name, media_type=media_type, size=len(data)), data=data)


ATTACHMENTS = (
    attached("png", "image/png"),
    attached("pdf", "application/pdf"),
    attached("txt", "text/plain"),
    attached("https://example.com/x.jpg", "image/jpeg", b""),
    attached("https://example.com/x.pdf", "application/pdf", b""),
)
TOOL = LlmToolSpec(name="add", description="Adds.", input_schema={"type": "object", "properties": {}})
ASKED = LlmRequest(model="claude-opus-4-8", messages=(user(TextBlock(text="hi")),))
SEARCH = '{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{"query":"q"}}'
FOUND = '{"type":"web_search_tool_result","tool_use_id":"srvtoolu_1","content":[]}'
CONVERSATION = (
    llm_text(LlmRole.SYSTEM, "be brief"),
    user(TextBlock(text="see", cache_breakpoint=True), *(ImageBlock(attachment_idx=at) for at in range(5))),
    assistant(
        ReasoningBlock(text="hm", replay=ProviderReasoningMeta(signature="sig")),
        ReasoningBlock(text="", replay=ProviderReasoningMeta(encrypted_content="x", redacted=True)),
        ReasoningBlock(text="", replay=ProviderReasoningMeta(item_id="srvtoolu_1", encrypted_content=SEARCH)),
        ReasoningBlock(text="", replay=ProviderReasoningMeta(item_id="srvtoolu_1", encrypted_content=FOUND)),
        TextBlock(text="so"),
        ToolCallBlock(call_id="call|1", tool_name="add", input_json='{"a": 1}'),
        ToolCallBlock(call_id="c2", tool_name="add", input_json="broken"),
    ),
    user(ToolResultBlock(call_id="call|1", content="3"), ToolResultBlock(call_id="c2", content="")),
    llm_text(LlmRole.SYSTEM, "later"),
)
OWN_TOOL = {"type": "web_search_20250305", "name": "web_search"}
SPEC = JsonSchemaOutput(name="n", schema={"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}})

REQUESTS: dict[str, tuple[LlmRequest, dict[str, Any]]] = {
    "plain": (ASKED, {}),
    "all kinds of blocks": (evolve(ASKED, messages=CONVERSATION, attachments=ATTACHMENTS, tools=(TOOL,)), {}),
    "cached for an hour": (evolve(ASKED, messages=CONVERSATION, attachments=ATTACHMENTS), {"cache": "long"}),
    "uncached": (ASKED, {"cache": "off"}),
    "any tool": (evolve(ASKED, tools=(TOOL,), tool_choice=LlmToolChoice.REQUIRED), {}),
    "no tool": (evolve(ASKED, tools=(TOOL,), tool_choice=LlmToolChoice.NONE), {}),
    "effort and schema": (evolve(ASKED, model_variant="xhigh", output_spec=SPEC), {}),
    "budget": (evolve(ASKED, model="claude-haiku-4-5", model_variant="high"), {"thinking_display": "omitted"}),
    "disabled": (evolve(ASKED, model_variant="disabled"), {}),
    "between tools": (evolve(ASKED, model="claude-sonnet-5-5", model_variant="disabled"), {}),
    "stop": (evolve(ASKED, generation=GenerationOptions(stop_sequences=("a",), output_token_cap=5)), {}),
    "the service's own tools": (
        ASKED,
        {"extra_body": {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}},
    ),
}


TYPES = pydantic.TypeAdapter(MessageCreateParamsStreaming)


@pytest.mark.parametrize(("request_", "settings"), REQUESTS.values(), ids=REQUESTS.keys())
def test_the_vendors_types_read_our_requests(request_: LlmRequest, settings: dict[str, Any]) -> None:
    """What comes out is what went in: a field that the types don't know would be missing."""
    sent = json.loads(RequestEncoder(AnthropicSettings(**settings)).encode(request_))
    read = TYPES.validate_python(sent)
    assert _listed(read) == sent


def test_a_field_that_the_types_dont_know_would_be_noticed() -> None:
    sent = json.loads(RequestEncoder(AnthropicSettings()).encode(ASKED))
    sent["messages"][0]["content"][0]["novelty"] = 1
    read = TYPES.validate_python(sent)
    assert _listed(read) != sent


def _listed(value: Any) -> Any:
    """With pydantic's lazy iterables read."""
    if isinstance(value, Mapping):
        return {name: _listed(each) for name, each in value.items()}
    return [_listed(each) for each in value] if isinstance(value, Iterable) and not isinstance(value, str) else value


# ---- answers

WIRE = AnthropicWire()
USED = Used(TokenUsage(input=12, output=9, cache_read_input=3, cache_write_input=4, reasoning_output=2))
CALLS = (Call("toolu_1", "add", ('{"a"', ": 1}")), Call("toolu_2", "now", ()))

ENDS = {reason: name for reason, name in STOP_REASONS.items() if reason is not Reason.TOOL_USE}
ANSWERS: dict[str, tuple[Said, ...]] = {
    "text": (Text("Hel"), Text("lo ß🌍"), USED, Ends(Reason.STOP)),
    "calls": (Text("So."), *CALLS, USED, Ends(Reason.TOOL_USE)),
    "thinking": (Reasoning("h"), Reasoning("m"), Sealed("sig"), Text("a"), USED, Ends(Reason.STOP)),
    "redacted thinking": (Sealed("xx"), Text("a"), USED, Ends(Reason.STOP)),
    "usage by and by": (Text("a"), Used(TokenUsage(input=12, output=3)), Text("b"), USED, Ends(Reason.STOP)),
    **{
        f"ends with {name}": (Text("a"), USED, Ends(reason))
        for reason, name in STOP_REASONS.items()
        if name != "tool_use"
    },
}


def client(server: WireServer) -> Any:
    return anthropic.Anthropic(base_url=server.origin, api_key="k", max_retries=0)


def asked(server: WireServer) -> Any:
    """The message that the vendor's client reads from the server."""
    with client(server) as asking:
        said = [{"role": "user", "content": "hi"}]
        with asking.messages.stream(model="m", max_tokens=10, messages=said) as stream:
            return stream.get_final_message()


@pytest.mark.parametrize("said", ANSWERS.values(), ids=ANSWERS.keys())
def test_the_vendors_client_reads_our_scripts_as_we_do(said: tuple[Said, ...]) -> None:
    events = WIRE.stream(said)
    with WireServer(raw(*events)) as server:
        same(asked(server), WIRE.decode(events).outcome)


@pytest.mark.parametrize("name", ["text", "calls", "thinking", "redacted thinking"])
def test_the_vendors_client_reads_our_documents_as_we_do(name: str) -> None:
    body = WIRE.document(ANSWERS[name])
    with WireServer(document(body)) as server, client(server) as asking:
        message = asking.messages.create(model="m", max_tokens=10, messages=[{"role": "user", "content": "hi"}])
    same(message, WIRE.decode([body], document=True).outcome)


def same(theirs: Any, ours: Any) -> None:
    assert isinstance(ours, LlmResponse)
    assert ours.full_text == "".join(block.text for block in theirs.content if block.type == "text")
    calls = [part for part in ours.parts if isinstance(part, ToolCallOutputPart)]
    assert [(part.call_id, part.tool_name, json.loads(part.input_json)) for part in calls] == [
        (block.id, block.name, block.input) for block in theirs.content if block.type == "tool_use"
    ]
    state = [
        (part.text, part.replay.signature, part.replay.encrypted_content)
        for part in ours.parts
        if isinstance(part, ReasoningOutput) and part.replay is not None
    ]
    assert state == [
        (block.thinking, block.signature, None) if block.type == "thinking" else ("", None, block.data)
        for block in theirs.content
        if block.type in ("thinking", "redacted_thinking")
    ]
    assert STOP_REASONS[ours.terminal_reason] == theirs.stop_reason
    assert (ours.response_id, ours.served_model) == (theirs.id, theirs.model)
    used = theirs.usage
    assert (ours.usage.input, ours.usage.output) == (used.input_tokens, used.output_tokens)
    assert ours.usage.cache_read_input == used.cache_read_input_tokens
    assert ours.usage.cache_write_input == used.cache_creation_input_tokens


def test_the_vendors_client_passes_novelties_and_pings_over_too() -> None:
    events = WIRE.stream((Novelty(), Text("a"), USED, Ends(Reason.STOP)))
    with WireServer(raw(*(piece for event in events for piece in (event, WIRE.keep_alive())))) as server:
        assert asked(server).content[0].text == "a"


THEIR_ERRORS = {
    Fault.AUTH: "AuthenticationError",
    Fault.INVALID: "BadRequestError",
    Fault.NO_MODEL: "NotFoundError",
    Fault.RATE: "RateLimitError",
    Fault.OVERLOADED: "OverloadedError",
    Fault.SERVER: "InternalServerError",
}


@pytest.mark.parametrize(("fault", "name"), THEIR_ERRORS.items(), ids=THEIR_ERRORS.values())
def test_the_vendors_client_reads_our_errors(fault: Fault, name: str) -> None:
    answer = status(WIRE.statuses[fault], WIRE.error(fault, "words"))
    with WireServer(answer) as server, pytest.raises(anthropic.APIStatusError) as caught:
        asked(server)
    assert type(caught.value).__name__ == name
    assert "words" in str(caught.value)


def test_the_vendors_client_fails_where_our_stream_does() -> None:
    events = WIRE.stream((Text("a"), USED, Fails(Fault.OVERLOADED, "words")))
    with WireServer(raw(*events)) as server, pytest.raises(anthropic.APIError, match="words"):
        asked(server)
