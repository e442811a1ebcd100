"""Both of OpenAI's wires against its own SDK: its types read our requests, its client reads our wire scripts.

`tox -e vendors` installs the SDK; nothing else here has it, and the tests are skipped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from lash_hookspecs.llm import (
    GenerationOptions,
    JsonObjectOutput,
    JsonSchemaOutput,
    LlmAttachment,
    LlmRequest,
    LlmRequestScope,
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
from lash_hookspecs.messages import AttachmentRef, ProviderReasoningMeta, ProviderReplayMeta, ResponseTextMeta
from lash_hookspecs.models import ModelCapability
from lash_hookspecs.testing.provider import Call, Ends, Fault, Novelty, Reasoning, Refusal, Said, Sealed, Text, Used
from lash_hookspecs.testing.provider.server import WireServer, document, raw, status

openai = pytest.importorskip("openai", reason="OpenAI's SDK isn't installed: `tox -e vendors`")
pydantic = pytest.importorskip("pydantic")

from openai.types.chat.completion_create_params import CompletionCreateParamsStreaming  # noqa: E402 - where there is one
from openai.types.responses.response_create_params import ResponseCreateParamsStreaming  # noqa: E402 - the same

sys.path.append(str(Path(__file__).parents[2] / "plugins" / "lash-plugin-provider-openai" / "tests"))

from openai_chat_wire import ChatWire  # noqa: E402 - found only now
from openai_responses_wire import ResponsesWire  # noqa: E402 - the same

from lash_plugin_provider_openai.chat_models import chat_capability  # noqa: E402 - the same
from lash_plugin_provider_openai.encode import RequestEncoder  # noqa: E402 - with the others
from lash_plugin_provider_openai.responses_encode import ResponsesEncoder  # noqa: E402 - the same
from lash_plugin_provider_openai.responses_settings import OpenAiSettings  # noqa: E402 - the same
from lash_plugin_provider_openai.settings import OpenAiChatSettings  # noqa: E402 - the same

# ---- requests


def attached(name: str, media_type: str) -> LlmAttachment:
    return LlmAttachment(reference=AttachmentRef(id=name, media_type=media_type, size=3), data=b"abc")


TOOL = LlmToolSpec(name="add", description="Adds.", input_schema={"type": "object", "properties": {}})
SPEC = JsonSchemaOutput(name="n", schema={"type": "object", "properties": {"a": {"type": "integer"}}})
SCOPE = LlmRequestScope(session_id="s", agent_frame_id="f", request_id="r")
ASKED = LlmRequest(model="gpt-5", messages=(llm_text(LlmRole.USER, "hi"),), scope=SCOPE)
SEALED = ProviderReasoningMeta(item_id="rs_1", encrypted_content="x", summary=("hm",))
CONVERSATION = (
    llm_text(LlmRole.SYSTEM, "be brief"),
    LlmMessage(LlmRole.USER, (TextBlock(text="see"), ImageBlock(attachment_idx=0))),
    LlmMessage(
        LlmRole.ASSISTANT,
        (
            ReasoningBlock(text="hm", replay=SEALED),
            TextBlock(text="so", response_meta=ResponseTextMeta(id="msg_1", status="completed", phase="commentary")),
            ToolCallBlock(call_id="c1", tool_name="add", input_json='{"a": 1}', replay=ProviderReplayMeta("fc_1")),
            ToolCallBlock(call_id="c2", tool_name="add", input_json="broken"),
        ),
    ),
    LlmMessage(LlmRole.USER, (ToolResultBlock(call_id="c1", content="3"), ToolResultBlock(call_id="c2", content=""))),
    llm_text(LlmRole.ASSISTANT, "Well."),
    llm_text(LlmRole.USER, "Go on."),
)
IMAGE = (attached("png", "image/png"),)
PDF = (attached("pdf", "application/pdf"),)
REQUESTS: dict[str, LlmRequest] = {
    "plain": ASKED,
    "all kinds of blocks": evolve(ASKED, messages=CONVERSATION, attachments=IMAGE, tools=(TOOL,)),
    "any tool": evolve(ASKED, tools=(TOOL,), tool_choice=LlmToolChoice.REQUIRED),
    "no tool": evolve(ASKED, tools=(TOOL,), tool_choice=LlmToolChoice.NONE),
    "effort and schema": evolve(ASKED, model_variant="high", output_spec=SPEC),
    "some object": evolve(ASKED, output_spec=JsonObjectOutput()),
    "sampling": evolve(ASKED, generation=GenerationOptions(temperature=0.5, output_token_cap=50)),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "summaries": {"reasoning_summary": "auto"},
    "a longer cache": {"cache_retention": "24h"},
}
RESPONSES = pydantic.TypeAdapter(ResponseCreateParamsStreaming)
CHAT = pydantic.TypeAdapter(CompletionCreateParamsStreaming)


def responses_body(request: LlmRequest, **settings: Any) -> Any:
    return json.loads(ResponsesEncoder(OpenAiSettings(**settings), lambda model: ModelCapability()).encode(request))


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS.keys())
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS.keys())
def test_the_vendors_types_read_our_responses_requests(request_: LlmRequest, settings: dict[str, Any]) -> None:
    """What comes out is what went in: a field that the types don't know would be missing."""
    sent = responses_body(request_, **settings)
    assert _listed(RESPONSES.validate_python(sent)) == sent


def test_the_vendors_types_read_our_files() -> None:
    asked = evolve(ASKED, messages=(LlmMessage(LlmRole.USER, (ImageBlock(attachment_idx=0),)),), attachments=PDF)
    sent = responses_body(asked)
    assert _listed(RESPONSES.validate_python(sent)) == sent


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS.keys())
def test_the_vendors_types_read_our_chat_requests(request_: LlmRequest) -> None:
    settings = OpenAiChatSettings()
    for at_openai in (True, False):
        capability = partial(chat_capability, settings, is_openai=at_openai)
        sent = json.loads(RequestEncoder(settings, capability).encode(request_))
        assert ("prompt_cache_key" in sent) is at_openai
        assert _listed(CHAT.validate_python(sent)) == sent


def test_a_field_that_the_types_dont_know_would_be_noticed() -> None:
    sent = responses_body(ASKED)
    sent["text"] = {"format": {"type": "json_object"}, "novelty": 1}
    assert _listed(RESPONSES.validate_python(sent)) != sent


def _listed(value: Any) -> Any:
    """With pydantic's lazy iterables read."""
    if isinstance(value, Mapping):
        return {name: _listed(each) for name, each in value.items()}
    return [_listed(each) for each in value] if isinstance(value, Iterable) and not isinstance(value, str) else value


# ---- answers

WIRE, CHAT_WIRE = ResponsesWire(), ChatWire()
USED = Used(TokenUsage(input=12, output=9, cache_read_input=3, reasoning_output=2))
CALLS = (Call("call_1", "add", ('{"a"', ": 1}")), Call("call_2", "now", ("{}",)))
ANSWERS: dict[str, tuple[Said, ...]] = {
    "text": (Text("Hel"), Text("lo ß🌍"), USED, Ends(Reason.STOP)),
    "calls": (Text("So."), *CALLS, USED, Ends(Reason.TOOL_USE)),
    "reasoning": (Reasoning("h"), Reasoning("m"), Sealed("x"), Text("a"), USED, Ends(Reason.STOP)),
    "refusal": (Refusal("no"), USED, Ends(Reason.STOP)),
    "limit": (Text("a"), USED, Ends(Reason.OUTPUT_LIMIT)),
    "novelty": (Novelty(), Text("a"), USED, Ends(Reason.STOP)),
}


def client(server: WireServer) -> Any:
    return openai.OpenAI(base_url=f"{server.origin}/v1", api_key="k", max_retries=0)


@pytest.mark.parametrize("said", ANSWERS.values(), ids=ANSWERS.keys())
def test_the_vendors_client_reads_our_responses_scripts_as_we_do(said: tuple[Said, ...]) -> None:
    events = WIRE.stream(said)
    with WireServer(raw(*events)) as server, client(server) as asking:
        *_, last = asking.responses.create(model="m", input="hi", stream=True)
    same(last.response, WIRE.decode(events).outcome)


@pytest.mark.parametrize("name", ["text", "calls", "reasoning", "refusal", "limit"])
def test_the_vendors_client_reads_our_documents_as_we_do(name: str) -> None:
    body = WIRE.document(ANSWERS[name])
    with WireServer(document(body)) as server, client(server) as asking:
        same(asking.responses.create(model="m", input="hi"), WIRE.decode([body], document=True).outcome)


@pytest.mark.parametrize("name", ["text", "calls", "refusal", "limit", "novelty"])
def test_the_vendors_client_reads_our_chat_scripts_as_we_do(name: str) -> None:
    events = CHAT_WIRE.stream(ANSWERS[name])
    ours = CHAT_WIRE.decode(events).outcome
    assert isinstance(ours, LlmResponse)
    text, calls, usage = "", dict[int, list[str]](), None
    with WireServer(raw(*events)) as server, client(server) as asking:
        for chunk in asking.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hi"}], stream=True
        ):
            usage = chunk.usage or usage
            for choice in chunk.choices or ():
                text += choice.delta.content or ""
                for call in choice.delta.tool_calls or ():
                    calls.setdefault(call.index, []).append(call.function.arguments or "")
    assert ours.full_text == text
    assert [part.input_json for part in ours.parts if isinstance(part, ToolCallOutputPart)] == [
        "".join(each) for each in calls.values()
    ]
    assert usage is not None
    assert (ours.usage.input_total, ours.usage.output) == (usage.prompt_tokens, usage.completion_tokens)


def same(theirs: Any, ours: Any) -> None:
    assert isinstance(ours, LlmResponse)
    assert ours.full_text == theirs.output_text
    assert [
        (part.call_id, part.tool_name, part.input_json) for part in ours.parts if isinstance(part, ToolCallOutputPart)
    ] == [(item.call_id, item.name, item.arguments) for item in theirs.output if item.type == "function_call"]
    assert [
        part.replay.encrypted_content for part in ours.parts if isinstance(part, ReasoningOutput) and part.replay
    ] == [item.encrypted_content for item in theirs.output if item.type == "reasoning"]
    assert (ours.response_id, ours.served_model) == (theirs.id, theirs.model)
    used = theirs.usage
    assert (ours.usage.input_total, ours.usage.output) == (used.input_tokens, used.output_tokens)
    assert ours.usage.cache_read_input == used.input_tokens_details.cached_tokens
    assert ours.usage.reasoning_output == used.output_tokens_details.reasoning_tokens


THEIR_ERRORS = {
    Fault.AUTH: "AuthenticationError",
    Fault.INVALID: "BadRequestError",
    Fault.NO_MODEL: "NotFoundError",
    Fault.RATE: "RateLimitError",
    Fault.SERVER: "InternalServerError",
}


@pytest.mark.parametrize(("fault", "name"), THEIR_ERRORS.items(), ids=THEIR_ERRORS.values())
def test_the_vendors_client_reads_our_errors(fault: Fault, name: str) -> None:
    answer = status(WIRE.statuses[fault], WIRE.error(fault, "words"))
    says = pytest.raises(openai.APIStatusError, match="words")
    with WireServer(answer) as server, client(server) as asking, says as caught:
        asking.responses.create(model="m", input="hi")
    assert type(caught.value).__name__ == name
