"""What goes over the wire, and that it is encoded once."""

from __future__ import annotations

import base64
import json
import math
from collections import UserDict
from collections.abc import Sequence
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, strategies as st

from lash_hookspecs.llm import (
    GenerationOptions,
    JsonObjectOutput,
    JsonSchemaOutput,
    LlmAttachment,
    LlmOutputSpec,
    LlmRequest,
    LlmToolChoice,
    LlmToolSpec,
)
from lash_hookspecs.llm_messages import (
    ImageBlock,
    LlmMessage,
    LlmMessages,
    LlmRole,
    MessageRun,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
    llm_text,
)
from lash_hookspecs.testing.provider import LOADED, NOT_LOADED, PNG, any_message, assistant, refused, user
from lash_plugin_provider_openai import OpenAiChatSettings, chat_messages
from lash_plugin_provider_openai.chat_messages import MessageEncoder
from lash_plugin_provider_openai.chat_models import chat_capability
from lash_plugin_provider_openai.encode import RequestEncoder

DATA_URL = "data:image/png;base64," + base64.b64encode(b"abc").decode()
TOOL = LlmToolSpec(name="add", description="Adds.", input_schema={"type": "object", "properties": {}})


def asking(*messages: LlmMessage, **fields: Any) -> LlmRequest:
    return LlmRequest(model="m", messages=messages or (user(TextBlock(text="hi")),), **fields)


def body(request: LlmRequest, **settings: Any) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(RequestEncoder(OpenAiChatSettings(**settings)).encode(request))
    return decoded


def refusal(request: LlmRequest, **settings: Any) -> str | None:
    return refused(lambda: body(request, **settings)).code


CALL = ToolCallBlock(call_id="c1", tool_name="add", input_json='{"a": 1}')
WIRE_CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}

MESSAGES: dict[str, tuple[LlmMessage, list[dict[str, Any]]]] = {
    "system": (LlmMessage(LlmRole.SYSTEM, (TextBlock(text="be brief"),)), [{"role": "system", "content": "be brief"}]),
    "user": (user(TextBlock(text="hi")), [{"role": "user", "content": "hi"}]),
    "several texts": (user(TextBlock(text="a"), TextBlock(text="b")), [{"role": "user", "content": "a\nb"}]),
    "assistant": (assistant(TextBlock(text="yes")), [{"role": "assistant", "content": "yes"}]),
    "call without text": (assistant(CALL), [{"role": "assistant", "tool_calls": [WIRE_CALL]}]),
    "text and call": (
        assistant(TextBlock(text="so"), CALL),
        [{"role": "assistant", "content": "so", "tool_calls": [WIRE_CALL]}],
    ),
    "reasoning stays here": (
        assistant(ReasoningBlock(text="hm"), TextBlock(text="a")),
        [{"role": "assistant", "content": "a"}],
    ),
    "only reasoning": (assistant(ReasoningBlock(text="hm")), []),
    "nothing": (user(), []),
    "two results": (
        user(ToolResultBlock(call_id="c1", content="3"), ToolResultBlock(call_id="c2", content="")),
        [
            {"role": "tool", "tool_call_id": "c1", "content": "3"},
            {"role": "tool", "tool_call_id": "c2", "content": ""},
        ],
    ),
    "results before what follows them": (
        user(
            TextBlock(text="see"),
            ImageBlock(attachment_idx=0, attachment=PNG),
            ToolResultBlock(call_id="c", content="3"),
        ),
        [
            {"role": "tool", "tool_call_id": "c", "content": "3"},
            {
                "role": "user",
                "content": [{"type": "text", "text": "see"}, {"type": "image_url", "image_url": {"url": DATA_URL}}],
            },
        ],
    ),
    "image by its place": (
        user(ImageBlock(attachment_idx=0)),
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": DATA_URL}}]}],
    ),
    "text that JSON must escape": (
        user(TextBlock(text='"\\\n\u2028🌍')),
        [{"role": "user", "content": '"\\\n\u2028🌍'}],
    ),
    "half a surrogate pair": (user(TextBlock(text="a\ud800b")), [{"role": "user", "content": "a?b"}]),
}


@pytest.mark.parametrize(("message", "wire"), MESSAGES.values(), ids=MESSAGES.keys())
def test_messages(message: LlmMessage, wire: list[dict[str, Any]]) -> None:
    assert body(asking(message, attachments=(LOADED,)))["messages"] == wire


@pytest.mark.parametrize(
    ("written", "sent"),
    [("", "{}"), ("  ", "{}"), ('{"a":', '{"invalid_json":"{\\"a\\":"}'), ("[1]", "[1]"), ('{"a": 1}', '{"a": 1}')],
)
def test_arguments_go_back_as_written_unless_no_json_at_all(written: str, sent: str) -> None:
    """Gateways that parse the arguments of earlier calls would refuse the conversation for ever."""
    message = assistant(ToolCallBlock(call_id="c", tool_name="t", input_json=written))
    assert body(asking(message))["messages"][0]["tool_calls"][0]["function"]["arguments"] == sent


def test_reasoning_goes_back_where_a_service_wants_it() -> None:
    message = assistant(ReasoningBlock(text="hm"), TextBlock(text="a"))
    expected = [{"role": "assistant", "content": "a", "reasoning_content": "hm"}]
    assert body(asking(message), reasoning_replay="reasoning_content")["messages"] == expected
    assert "reasoning_content" not in body(asking(message))["messages"][0]  # each has its own memo


def test_what_is_always_there() -> None:
    assert body(asking()) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert "stream_options" not in body(asking(), include_usage=False)


def test_tools_and_choice() -> None:
    sent = body(asking(tools=(TOOL,), tool_choice=LlmToolChoice.REQUIRED))
    function = {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}
    assert sent["tools"] == [{"type": "function", "function": function}]
    assert sent["tool_choice"] == "required"
    assert body(asking(tools=(TOOL,)))["tool_choice"] == "auto"
    assert "tool_choice" not in body(asking(tool_choice=LlmToolChoice.NONE))
    assert refusal(asking(tool_choice=LlmToolChoice.REQUIRED)) == "tool_choice_without_tools"


def test_schemas_may_be_any_mapping() -> None:
    tool = evolve(TOOL, input_schema=UserDict({"type": "object", "required": ("a",), "p": UserDict({})}))
    assert body(asking(tools=(tool,)))["tools"][0]["function"]["parameters"] == {
        "type": "object",
        "required": ["a"],
        "p": {},
    }


@pytest.mark.parametrize(
    ("generation", "settings", "fields"),
    [
        ({"output_token_cap": 5}, {}, {"max_completion_tokens": 5}),
        ({"output_token_cap": 5}, {"max_tokens_field": "max_tokens"}, {"max_tokens": 5}),
        ({"temperature": 0.0}, {}, {"temperature": 0.0}),
        ({"temperature": 1}, {}, {"temperature": 1}),
        ({"seed": -7}, {}, {"seed": -7}),
        ({"stop_sequences": ("a", "b")}, {}, {"stop": ["a", "b"]}),
        ({}, {"extra_body": {"top_k": 3}}, {"top_k": 3}),
    ],
)
def test_generation_options(generation: dict[str, Any], settings: dict[str, Any], fields: dict[str, Any]) -> None:
    plain = body(asking())
    assert body(asking(generation=GenerationOptions(**generation)), **settings) == {**plain, **fields}


@pytest.mark.parametrize(
    "generation",
    [
        {"temperature": -0.1},
        {"seed": 2**63},
    ],
    ids=str,
)
def test_numbers_that_make_no_sense_are_refused(generation: dict[str, Any]) -> None:
    assert refusal(asking(generation=GenerationOptions(**generation))) == "invalid_generation_option"


def test_numbers_that_json_lacks_are_refused_in_schemas_too() -> None:
    assert refusal(asking(tools=(evolve(TOOL, input_schema={"default": math.nan}),))) == "invalid_generation_option"


@pytest.mark.parametrize(
    ("variant", "effort"),
    [(None, None), ("", None), ("default", None), ("provider-default", None), ("disabled", "none"), ("high", "high")],
)
def test_reasoning_effort(variant: str | None, effort: str | None) -> None:
    assert body(asking(model_variant=variant)).get("reasoning_effort") == effort


def test_an_effort_that_the_model_lacks_is_refused() -> None:
    assert refusal(asking(model_variant="max"), reasoning_efforts=("low", "high")) == "unsupported_effort"


@pytest.mark.parametrize(
    ("spec", "wire"),
    [
        (JsonObjectOutput(), {"type": "json_object"}),
        (
            JsonSchemaOutput(name="n", schema={"type": "object"}),
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}},
        ),
    ],
)
def test_structured_output(spec: LlmOutputSpec, wire: dict[str, Any]) -> None:
    assert body(asking(output_spec=spec))["response_format"] == wire
    assert refusal(asking(output_spec=spec), structured_output=False) == "unsupported_structured_output"


@pytest.mark.parametrize("media_type", ["image/png", "image/jpeg", "image/gif", "image/webp", "IMAGE/PNG"])
def test_image_types_that_are_taken(media_type: str) -> None:
    attachment = evolve(LOADED, reference=evolve(PNG, media_type=media_type))
    sent = body(asking(user(ImageBlock(attachment_idx=0)), attachments=(attachment,)))
    assert sent["messages"][0]["content"][0]["image_url"]["url"].startswith(f"data:{media_type.lower()};base64,")


@pytest.mark.parametrize("media_type", ["image/heic", "application/pdf", "audio/wav", ""])
def test_attachment_types_that_are_refused(media_type: str) -> None:
    attachment = evolve(LOADED, reference=evolve(PNG, media_type=media_type))
    request = asking(user(ImageBlock(attachment_idx=0)), attachments=(attachment,))
    assert refusal(request) == "unsupported_attachment_capability"


def test_images_are_refused_for_a_model_without_them() -> None:
    request = asking(user(ImageBlock(attachment_idx=0)), attachments=(LOADED,))
    assert refusal(request, images=False) == "unsupported_attachment_capability"


@pytest.mark.parametrize(("block", "attachments"), NOT_LOADED)
def test_an_image_whose_bytes_are_missing_is_refused(block: ImageBlock, attachments: tuple[LlmAttachment, ...]) -> None:
    assert refusal(asking(user(block), attachments=attachments)) == "attachment_not_loaded"


# ---- encoded once

MEMO_KEY = MessageEncoder(None, chat_capability(OpenAiChatSettings(), "any"))._key


def test_a_message_is_encoded_once_and_kept_with_it() -> None:
    encoder = RequestEncoder(OpenAiChatSettings())
    messages = [user(TextBlock(text=str(index))) for index in range(5)]
    encoder.encode(asking(*messages))
    kept = [message.memo[MEMO_KEY] for message in messages]
    messages[2].memo[MEMO_KEY] = b'{"role":"user","content":"from the memo"}'
    again = json.loads(encoder.encode(asking(*messages, user(TextBlock(text="new")))))
    assert again["messages"][2]["content"] == "from the memo"
    assert all(
        message.memo[MEMO_KEY] is old for message, old in zip(messages, kept, strict=True) if message is not messages[2]
    )


def test_the_next_request_begins_with_the_same_bytes() -> None:
    """What a service caches by prefix stays cached: everything before the new message is the same."""
    encoder = RequestEncoder(OpenAiChatSettings())
    first = [user(TextBlock(text="a")), assistant(CALL)]
    tools = (TOOL,)
    before = encoder.encode(asking(*first, tools=tools))
    after = encoder.encode(asking(*first, user(ToolResultBlock(call_id="c1", content="3")), tools=tools))
    shared = before.index(b'],"stream"')
    assert after[:shared] == before[:shared]


def test_tools_are_encoded_once_per_tuple() -> None:
    encoder = RequestEncoder(OpenAiChatSettings())
    schema = {"type": "object"}
    tools = (evolve(TOOL, input_schema=schema),)
    first = encoder.encode(asking(tools=tools))
    schema["type"] = "changed behind the value's back"
    assert encoder.encode(asking(tools=tools)) == first
    assert encoder.encode(asking(tools=(evolve(TOOL, input_schema=schema),))) != first


def test_a_few_toolsets_are_kept_not_all() -> None:
    encoder = RequestEncoder(OpenAiChatSettings())
    for index in range(100):
        name = json.loads(encoder.encode(asking(tools=(evolve(TOOL, name=f"t{index}"),))))["tools"][0]["function"][
            "name"
        ]
        assert name == f"t{index}"
    assert len(encoder._tools) <= 32


def test_an_image_with_a_reference_is_encoded_once_and_one_without_is_not() -> None:
    encoder = RequestEncoder(OpenAiChatSettings())
    by_reference, by_place = user(ImageBlock(attachment_idx=0, attachment=PNG)), user(ImageBlock(attachment_idx=0))
    encoder.encode(asking(by_reference, by_place, attachments=(LOADED,)))
    assert MEMO_KEY in by_reference.memo
    other = evolve(LOADED, data=b"other")
    sent = json.loads(encoder.encode(asking(by_place, attachments=(other,))))
    assert base64.b64encode(b"other").decode() in sent["messages"][0]["content"][0]["image_url"]["url"]


# ---- runs

ANY_MESSAGE = any_message(CALL, ToolResultBlock(call_id="c1", content="3"), ReasoningBlock(text="hm"))


@given(st.lists(st.lists(ANY_MESSAGE, max_size=5), max_size=4), st.sampled_from([0, 2, 256]))
def test_however_messages_come_in_runs_the_bytes_are_the_same(runs: list[list[LlmMessage]], long: int) -> None:
    """One by one or at once, kept or not, before and after: what is sent depends on the messages only."""
    flat = [LlmMessage(message.role, message.blocks) for run in runs for message in run]
    expected = RequestEncoder(OpenAiChatSettings()).encode(asking_of(flat))
    divided = asking_of(LlmMessages(MessageRun(tuple(run)) for run in runs))
    encoder = RequestEncoder(OpenAiChatSettings())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chat_messages, "_LONG", long)
        assert encoder.encode(divided) == expected
        assert encoder.encode(divided) == expected


def asking_of(messages: Sequence[LlmMessage]) -> LlmRequest:
    return LlmRequest(model="m", messages=messages, attachments=(LOADED,))


@pytest.mark.parametrize("count", [3, 300])
def test_a_runs_bytes_are_made_once_and_handed_on_uncopied(count: int) -> None:
    """Of a long one, no message keeps bytes beside it."""
    encoder = RequestEncoder(OpenAiChatSettings())
    run = MessageRun(tuple(llm_text(LlmRole.USER, f"text {number}") for number in range(count)))
    before = encoder.pieces(LlmRequest(model="m", messages=LlmMessages([run])))
    grown = LlmMessages([run, MessageRun((llm_text(LlmRole.USER, "new"),))])
    after = encoder.pieces(LlmRequest(model="m", messages=grown))
    (kept,) = run.memo.values()
    assert before[1] is kept.body
    assert after[1] is kept.body
    assert all(bool(message.memo) == (count == 3) for message in run.messages)
    assert b"".join(after) == encoder.encode(LlmRequest(model="m", messages=tuple(grown)))


def test_a_run_with_an_image_that_has_no_name_is_not_kept() -> None:
    """Its bytes are those of a place in this request's attachments."""
    encoder = RequestEncoder(OpenAiChatSettings())
    run = MessageRun((user(ImageBlock(attachment_idx=0)), *(llm_text(LlmRole.USER, "x") for _ in range(300))))
    encoder.encode(asking_of(LlmMessages([run])))
    assert run.memo == {}
