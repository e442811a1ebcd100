"""Google's own SDK as a judge: its types take our bodies, its client asks as we do, and it can read our wire scripts.

Runs in the tox environment `vendors`; the SDK is no dependency of anything here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lash_hookspecs.llm import (
    GenerationOptions,
    JsonObjectOutput,
    JsonSchemaOutput,
    LlmAttachment,
    LlmRequest,
    LlmToolChoice,
    LlmToolSpec,
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
from lash_plugin_provider_google import GoogleSettings
from lash_plugin_provider_google.decode import _FINISH
from lash_plugin_provider_google.encode import RequestEncoder
from lash_plugin_provider_google.endpoint import endpoint_of
from lash_plugin_provider_google.models import Model, Quirks, models_of
from lash_plugin_provider_google.options import OptionsEncoder
from lash_plugin_provider_google.testing import error, event, parts, stream, text, tools, whole
from lash_provider_kit.testing import Answer, ChatServer

genai = pytest.importorskip("google.genai")
pydantic = pytest.importorskip("pydantic")
errors, types = genai.errors, genai.types


class Body(pydantic.BaseModel):
    """The body of `generateContent`, in the SDK's own types; a field that it doesn't know is an error."""

    model_config = pydantic.ConfigDict(extra="forbid")

    contents: list[types.Content]
    systemInstruction: types.Content | None = None
    tools: list[types.Tool] | None = None
    toolConfig: types.ToolConfig | None = None
    generationConfig: types.GenerationConfig | None = None
    safetySettings: list[types.SafetySetting] | None = None


SIGNATURE = "c2lnbmVk"  # the SDK holds signatures as bytes, so it wants base64
SCHEMA = {
    "type": "object",
    "properties": {"a": {"$ref": "#/$defs/A"}, "b": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
    "required": ["a"],
    "additionalProperties": False,
    "$defs": {"A": {"type": "integer", "minimum": 1}},
}
TOOL = LlmToolSpec(name="add", description="Adds.", input_schema=SCHEMA)
PDF = AttachmentRef(id="sha256:" + "0" * 64, media_type="application/pdf", size=3)
FILE = AttachmentRef(id="https://generativelanguage.googleapis.com/v1beta/files/abc", media_type="video/mp4", size=0)
HI = llm_text(LlmRole.USER, "hi")
CALL = ToolCallBlock(call_id="c1", tool_name="add", input_json='{"a": 1}', replay=ProviderReplayMeta(opaque=SIGNATURE))
RESULT = LlmMessage(LlmRole.USER, (ToolResultBlock(call_id="c1", content="3", tool_name="add"),))
LEVELS = models_of({}, {})["gemini-3.8-flash"]
BUDGETS = models_of({}, {})["gemini-2.5-flash"]


def asking(*messages: LlmMessage, **fields: Any) -> LlmRequest:
    return LlmRequest(model="m", messages=messages or (HI,), **fields)


REQUESTS: dict[str, tuple[LlmRequest, Model, dict[str, Any]]] = {
    "text": (asking(), Model(), {}),
    "system": (asking(llm_text(LlmRole.SYSTEM, "be brief"), HI), Model(), {}),
    "only system": (asking(llm_text(LlmRole.SYSTEM, "be brief")), Model(), {}),
    "a tool's round": (
        asking(HI, LlmMessage(LlmRole.ASSISTANT, (CALL,)), RESULT, tools=(TOOL,)),
        LEVELS,
        {},
    ),
    "foreign calls": (
        asking(HI, LlmMessage(LlmRole.ASSISTANT, (ToolCallBlock(call_id="x", tool_name="y", input_json="{"),)), RESULT),
        Model(quirks=Quirks(signed_calls=True)),
        {},
    ),
    "everything that is signed": (
        asking(
            HI,
            LlmMessage(
                LlmRole.ASSISTANT,
                (
                    ReasoningBlock(text="hm", replay=ProviderReasoningMeta(signature=SIGNATURE)),
                    ReasoningBlock(
                        text="",
                        replay=ProviderReasoningMeta(
                            encrypted_content=json.dumps({"text": "", "thoughtSignature": SIGNATURE})
                        ),
                    ),
                    TextBlock(
                        text="abc",
                        response_meta=ResponseTextMeta(provider_payload=json.dumps([[1, 3, SIGNATURE]])),
                    ),
                    CALL,
                ),
            ),
            RESULT,
        ),
        Model(),
        {},
    ),
    "attachments": (
        asking(
            LlmMessage(
                LlmRole.USER,
                (ImageBlock(attachment_idx=0, attachment=PDF), ImageBlock(attachment_idx=0, attachment=FILE)),
            ),
            attachments=(LlmAttachment(reference=PDF, data=b"pdf"),),
        ),
        Model(),
        {},
    ),
    **{
        f"choice {choice}": (asking(tools=(TOOL,), tool_choice=choice), Model(), {})
        for choice in (LlmToolChoice.AUTO, LlmToolChoice.NONE, LlmToolChoice.REQUIRED)
    },
    "sampling": (
        asking(generation=GenerationOptions(output_token_cap=5, temperature=0.5, seed=-7, stop_sequences=("a", "b"))),
        Model(),
        {},
    ),
    **{
        f"effort {effort} of {model.capability.reasoning_encoding}s": (asking(model_variant=effort), model, {})
        for model in (LEVELS, BUDGETS)
        for effort in model.capability.reasoning_efforts
    },
    "a form": (asking(output_spec=JsonSchemaOutput(name="n", schema=SCHEMA), tools=(TOOL,)), LEVELS, {}),
    "some object": (asking(output_spec=JsonObjectOutput()), Model(), {}),
    "further fields": (
        asking(tools=(TOOL,)),
        Model(),
        {
            "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
            "generationConfig": {"topK": 3},
            "tools": [{"googleSearch": {}}],
        },
    ),
}


def body(request: LlmRequest, model: Model, extra: dict[str, Any]) -> dict[str, Any]:
    settings = GoogleSettings(extra_body=extra)
    encoder = RequestEncoder(endpoint_of(settings, "google"), OptionsEncoder(settings))
    sent: dict[str, Any] = json.loads(encoder.encode(request, model))
    return sent


@pytest.mark.parametrize(("request_", "model", "extra"), REQUESTS.values(), ids=REQUESTS.keys())
def test_the_sdk_s_types_take_our_bodies(request_: LlmRequest, model: Model, extra: dict[str, Any]) -> None:
    """And say the same again: nothing was taken for something else."""
    sent = body(request_, model, extra)
    again = Body.model_validate(sent).model_dump(by_alias=True, exclude_none=True, mode="json")
    for part in (part for content in [*sent["contents"], *again["contents"]] for part in content["parts"]):
        if "thoughtSignature" in part:  # the SDK writes base64 with its other alphabet
            part["thoughtSignature"] = part["thoughtSignature"].replace("-", "+").replace("_", "/")
    assert again == sent


def test_every_reason_that_the_sdk_knows_is_known() -> None:
    known = {each.value for each in types.FinishReason} - {"FINISH_REASON_UNSPECIFIED"}
    assert known == set(_FINISH) - {"FUNCTION_CALL"}


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with ChatServer() as running:
        yield running


@pytest.fixture
def client(server: ChatServer) -> Iterator[Any]:
    with genai.Client(api_key="test-key", http_options={"base_url": server.origin, "api_version": "v1beta"}) as made:
        yield made


# ---- what the SDK's client sends for the same


def test_its_client_asks_as_we_do(server: ChatServer, client: Any) -> None:
    """A round with a tool, a system prompt, sampling and thinking: the same JSON, at the same place, the same key."""
    server.answer(text("hi"))
    history = [
        types.Content(role="user", parts=[types.Part(text="hi")]),
        types.Content(
            role="model",
            parts=[
                types.Part(
                    function_call=types.FunctionCall(id="c1", name="add", args={"a": 1}),
                    thought_signature=b"signed",
                )
            ],
        ),
        types.Content(
            role="user",
            parts=[types.Part(function_response=types.FunctionResponse(id="c1", name="add", response={"output": "3"}))],
        ),
    ]
    config = types.GenerateContentConfig(
        system_instruction="be brief",
        temperature=0.5,
        seed=7,
        max_output_tokens=5,
        stop_sequences=["a"],
        response_mime_type="application/json",
        response_json_schema=SCHEMA,
        thinking_config=types.ThinkingConfig(include_thoughts=True, thinking_level=types.ThinkingLevel.HIGH),
        tools=[
            types.Tool(
                function_declarations=[
                    types.FunctionDeclaration(name="add", description="Adds.", parameters_json_schema=SCHEMA)
                ]
            )
        ],
        tool_config=types.ToolConfig(
            function_calling_config=types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.ANY)
        ),
    )
    list(client.models.generate_content_stream(model="m", contents=history, config=config))
    theirs = server.requests[0]
    request = asking(
        llm_text(LlmRole.SYSTEM, "be brief"),
        HI,
        LlmMessage(LlmRole.ASSISTANT, (CALL,)),
        RESULT,
        tools=(TOOL,),
        tool_choice=LlmToolChoice.REQUIRED,
        model_variant="high",
        generation=GenerationOptions(temperature=0.5, seed=7, output_token_cap=5, stop_sequences=("a",)),
        output_spec=JsonSchemaOutput(name="n", schema=SCHEMA),
    )
    sent = theirs.json
    sent["systemInstruction"].pop("role")  # which the service ignores
    # Some fields the SDK hands on in the spelling of its arguments; the service takes both.
    config, camel = sent["generationConfig"], pydantic.alias_generators.to_camel
    config["thinkingConfig"] = {camel(name): value for name, value in config["thinkingConfig"].items()}
    for tool in sent["tools"]:
        tool["functionDeclarations"] = [
            {camel(name): value for name, value in each.items()} for each in tool["functionDeclarations"]
        ]
    assert sent == body(request, LEVELS, {})
    url = endpoint_of(GoogleSettings(base_url=server.origin), "google").url_of("m", stream=True)
    assert server.origin + theirs.target == url
    assert theirs.headers["x-goog-api-key"] == "test-key"


def test_its_vertex_client_asks_at_the_same_place(server: ChatServer) -> None:
    server.answer(whole({"text": "hi"}))
    from google.oauth2.credentials import Credentials

    options = {"base_url": server.origin}
    place = {"project": "p", "location": "europe-west4"}
    with genai.Client(vertexai=True, credentials=Credentials("token"), http_options=options, **place) as vertex:
        vertex.models.generate_content(model="m", contents="hi")
    assert server.requests[0].headers["authorization"] == "Bearer token"
    settings = GoogleSettings(base_url=server.origin, vertex=True, project="p", location="europe-west4")
    assert server.origin + server.requests[0].target == endpoint_of(settings, "google").url_of("m", stream=False)


# ---- what it reads of our scripts


@pytest.fixture
def read(server: ChatServer, client: Any) -> Callable[[Answer], list[Any]]:
    """What the SDK's client makes of an answer."""

    def read(answer: Answer) -> list[Any]:
        server.answer(answer)
        return list(client.models.generate_content_stream(model="m", contents="hi"))

    return read


Read = Callable[[Answer], list[Any]]


def test_it_reads_our_text(read: Read) -> None:
    chunks = read(text("Hel", "lo"))
    assert "".join(chunk.text for chunk in chunks) == "Hello"
    assert chunks[-1].candidates[0].finish_reason is types.FinishReason.STOP
    assert chunks[-1].usage_metadata.prompt_token_count == 12
    assert (chunks[0].response_id, chunks[0].model_version) == ("test-response", "test-model")


def test_it_reads_our_calls_and_signatures(read: Read) -> None:
    (chunk,) = read(tools(("c1", "add", {"a": 1}), (None, "now", {}), signature=SIGNATURE))
    first, second = chunk.candidates[0].content.parts
    assert (first.function_call.id, first.function_call.name, first.function_call.args) == ("c1", "add", {"a": 1})
    assert first.thought_signature == b"signed"
    assert second.function_call.id is None


def test_it_reads_our_thoughts(read: Read) -> None:
    thinking, said = read(parts({"text": "hm", "thought": True}, {"text": "a"}))
    assert thinking.candidates[0].content.parts[0].thought is True
    assert said.text == "a"


def test_it_reads_our_blocks(read: Read) -> None:
    (blocked,) = read(stream({"promptFeedback": {"blockReason": "SAFETY"}}))
    assert blocked.prompt_feedback.block_reason is types.BlockedReason.SAFETY
    (filtered,) = read(stream(event(finish="RECITATION")))
    assert filtered.candidates[0].finish_reason is types.FinishReason.RECITATION


def test_it_reads_our_documents(server: ChatServer, client: Any) -> None:
    server.answer(whole({"text": "whole"}))
    assert client.models.generate_content(model="m", contents="hi").text == "whole"


def test_it_reads_our_errors(server: ChatServer, client: Any) -> None:
    server.answer(
        error(400, "INVALID_ARGUMENT", "API key not valid.", {"@type": "ErrorInfo", "reason": "API_KEY_INVALID"})
    )
    with pytest.raises(errors.ClientError) as caught:
        client.models.generate_content(model="m", contents="hi")
    assert (caught.value.code, caught.value.status) == (400, "INVALID_ARGUMENT")
