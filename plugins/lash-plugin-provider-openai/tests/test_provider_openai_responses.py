"""The Responses API: what is asked, item by item, and what its events mean; from the vendor's documentation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import evolve
from openai_responses_wire import event, response

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.llm import (
    GenerationOptions,
    JsonObjectOutput,
    JsonSchemaOutput,
    LlmAttachment,
    LlmCallError,
    LlmRequest,
    LlmRequestScope,
    LlmResponse,
    LlmTerminalReason as Reason,
    LlmToolChoice,
    LlmToolSpec,
    ProviderContext,
    ReasoningOutput,
    StreamReasoningDelta,
    StreamUsage,
    TokenUsage,
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
from lash_hookspecs.testing.provider import Caller, refused
from lash_plugin_provider_openai.models import OPENAI_MODELS
from lash_plugin_provider_openai.responses_decode import ResponsesDecoder
from lash_plugin_provider_openai.responses_encode import ResponsesEncoder
from lash_plugin_provider_openai.responses_provider import OpenAiProvider
from lash_plugin_provider_openai.responses_settings import OpenAiSettings
from lash_plugin_provider_openai.specs import OPENAI
from lash_provider_kit.reader import decoded

HELLO = (llm_text(LlmRole.USER, "Hi"),)


def body(
    *messages: LlmMessage, capability: ModelCapability = ModelCapability(), settings: Any = None, **fields: Any
) -> dict[str, Any]:
    encoder = ResponsesEncoder(settings or OpenAiSettings(), lambda model: capability)
    request = LlmRequest(model="m", messages=messages or HELLO, **fields)
    first = encoder.encode(request)
    assert encoder.encode(request) == first  # from what is kept, too
    found: dict[str, Any] = json.loads(first)
    return found


def refusal(capability: ModelCapability = ModelCapability(), **fields: Any) -> str | None:
    error = refused(lambda: body(capability=capability, **fields))
    assert error.message.startswith("openai: ")
    return error.code


# ---- what is asked --------------------------------------------------------------------------------------------------


def test_nothing_is_kept_by_the_service() -> None:
    found = body(LlmMessage(LlmRole.SYSTEM, (TextBlock(text="Be brief."),)), *HELLO)
    assert found == {
        "model": "m",
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "instructions": "Be brief.",
        "input": [{"role": "user", "content": "Hi"}],
    }


def test_a_round_with_reasoning_goes_back_item_by_item() -> None:
    sealed = ProviderReasoningMeta(item_id="rs", encrypted_content="secret", summary=("I think.",))
    said = LlmMessage(
        LlmRole.ASSISTANT,
        (
            ReasoningBlock(text="I think.", replay=sealed),
            ReasoningBlock(text="only words"),
            TextBlock(text="Now.", response_meta=ResponseTextMeta(id="msg", status="completed", phase="commentary")),
            TextBlock(text="Plain."),
            ToolCallBlock(call_id="c", tool_name="now", input_json="{}", replay=ProviderReplayMeta(item_id="fc")),
            ToolCallBlock(call_id="d", tool_name="now", input_json="{broken"),
        ),
    )
    answered = LlmMessage(LlmRole.USER, (TextBlock(text="So?"), ToolResultBlock(call_id="c", content="noon")))
    assert body(said, answered)["input"] == [
        {
            "type": "reasoning",
            "id": "rs",
            "summary": [{"type": "summary_text", "text": "I think."}],
            "encrypted_content": "secret",
        },
        {
            "type": "message",
            "id": "msg",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Now.", "annotations": []}],
            "phase": "commentary",
        },
        {"role": "assistant", "content": "Plain."},
        {"type": "function_call", "call_id": "c", "name": "now", "arguments": "{}", "id": "fc"},
        {"type": "function_call", "call_id": "d", "name": "now", "arguments": '{"invalid_json":"{broken"}'},
        {"type": "function_call_output", "call_id": "c", "output": "noon"},
        {"role": "user", "content": "So?"},
    ]


def attached(media_type: str) -> dict[str, Any]:
    attachment = LlmAttachment(reference=AttachmentRef(id="a" * 20, media_type=media_type, size=3), data=b"abc")
    message = LlmMessage(LlmRole.USER, (ImageBlock(attachment_idx=0),))
    return {"messages": (message,), "attachments": (attachment,)}


def asks_with(media_type: str, capability: ModelCapability = ModelCapability()) -> Any:
    given = attached(media_type)
    encoder = ResponsesEncoder(OpenAiSettings(), lambda model: capability)
    return json.loads(encoder.encode(LlmRequest(model="m", **given)))["input"][0]["content"][0]


def test_tools_are_encoded_once_per_tuple() -> None:
    """They come with every request of a conversation, and may be most of it."""
    encoder = ResponsesEncoder(OpenAiSettings(), lambda model: ModelCapability())
    schema = {"type": "object"}
    tools = (LlmToolSpec(name="look", description="", input_schema=schema),)
    first = encoder.encode(LlmRequest(model="m", messages=HELLO, tools=tools))
    schema["type"] = "changed behind the value's back"
    assert encoder.encode(LlmRequest(model="m", messages=HELLO, tools=tools)) == first


def test_images_and_files_go_inline() -> None:
    assert asks_with("image/png") == {
        "type": "input_image",
        "image_url": "data:image/png;base64,YWJj",
        "detail": "auto",
    }
    assert asks_with("application/pdf") == {
        "type": "input_file",
        "filename": "a" * 16 + ".pdf",
        "file_data": "data:application/pdf;base64,YWJj",
    }


@pytest.mark.parametrize(
    ("media_type", "capability"),
    [
        ("image/tiff", ModelCapability()),
        ("image/png", ModelCapability(images=False)),
        ("application/pdf", ModelCapability(documents=False)),
        ("video/mp4", ModelCapability()),
    ],
)
def test_what_a_model_can_not_take_is_refused_before_the_wire(media_type: str, capability: ModelCapability) -> None:
    assert refused(lambda: asks_with(media_type, capability)).code == "unsupported_attachment_capability"


def test_tools_and_choice() -> None:
    spec = LlmToolSpec(name="now", description="The time.", input_schema={"type": "object"})
    found = body(tools=(spec,), tool_choice=LlmToolChoice.REQUIRED)
    assert (found["tools"], found["tool_choice"]) == (
        [
            {
                "type": "function",
                "name": "now",
                "description": "The time.",
                "parameters": {"type": "object"},
                "strict": False,
            }
        ],
        "required",
    )
    assert refusal(tool_choice=LlmToolChoice.REQUIRED) == "tool_choice_without_tools"


def test_structured_output_is_a_format_of_text() -> None:
    schema = JsonSchemaOutput(name="answer", schema={"type": "object"})
    assert body(output_spec=schema)["text"] == {
        "format": {"type": "json_schema", "name": "answer", "schema": {"type": "object"}, "strict": True}
    }
    assert body(output_spec=JsonObjectOutput())["text"] == {"format": {"type": "json_object"}}
    assert refusal(ModelCapability(structured_output=False), output_spec=schema) == "unsupported_structured_output"


PINNED = ModelCapability(sampling_pinned=True, reasoning_off="none", reasoning_encoding="effort")
# Capability, variant; what `reasoning` and `temperature` become.
SAMPLED: dict[str, tuple[ModelCapability, str | None, Any, Any]] = {
    "unknown": (ModelCapability(), None, None, 0.5),
    "pinned": (PINNED, None, None, None),
    "pinned while it reasons": (PINNED, "high", {"effort": "high"}, None),
    "not while it doesn't": (PINNED, "none", {"effort": "none"}, 0.5),
    "disabled": (PINNED, "disabled", {"effort": "none"}, 0.5),
    "default": (PINNED, "default", None, None),
    "no reasoning": (OPENAI_MODELS.capability("gpt-4.1"), None, None, 0.5),
    "a model of the table": (OPENAI_MODELS.capability("gpt-5"), "minimal", {"effort": "minimal"}, None),
}


@pytest.mark.parametrize("name", SAMPLED)
def test_temperature_goes_only_where_it_is_taken(name: str) -> None:
    capability, variant, reasoning, temperature = SAMPLED[name]
    generation = GenerationOptions(temperature=0.5, output_token_cap=9, seed=1)
    found = body(capability=capability, model_variant=variant, generation=generation)
    assert (found.get("reasoning"), found.get("temperature")) == (reasoning, temperature)
    assert (found["max_output_tokens"], "seed" in found) == (9, False)
    assert ("include" in found) == (capability.reasoning_encoding != "none")


def test_an_effort_that_can_not_be_is_refused() -> None:
    gpt5, gpt41 = (OPENAI_MODELS.capability(name) for name in ("gpt-5", "gpt-4.1"))
    assert refusal(gpt5, model_variant="xhigh") == "unsupported_effort"
    assert refusal(gpt5, model_variant="disabled") == "effort_required"
    assert refusal(gpt41, model_variant="low") == "effort_not_configurable"
    assert refusal(generation=GenerationOptions(stop_sequences=("x",))) == "unsupported_generation_option"


def test_settings_ask_for_summaries_and_a_longer_cache() -> None:
    settings = OpenAiSettings(reasoning_summary="auto", cache_retention="24h", extra_body={"service_tier": "flex"})
    scope = LlmRequestScope(session_id="s", agent_frame_id="f", request_id="r")
    found = body(settings=settings, scope=scope)
    assert (found["reasoning"], found["prompt_cache_retention"], found["service_tier"]) == (
        {"summary": "auto"},
        "24h",
        "flex",
    )
    assert found["prompt_cache_key"] == "s::f"
    long = LlmRequestScope(session_id="s" * 80, agent_frame_id="f", request_id="r")
    assert len(body(scope=long)["prompt_cache_key"]) == 64


# ---- what comes back ------------------------------------------------------------------------------------------------


def answer(*events: bytes) -> tuple[Any, Any]:
    return decoded(ResponsesDecoder(), events)


def test_paragraphs_of_a_summary_stay_apart_and_sealed_reasoning_is_kept() -> None:
    item = {"id": "rs", "type": "reasoning", "encrypted_content": "x", "status": "completed"}
    summary = [{"type": "summary_text", "text": each} for each in ("One.", "Two.")]
    events, made = answer(
        event("response.reasoning_summary_text.delta", output_index=0, summary_index=0, delta="One."),
        event("response.reasoning_summary_text.delta", output_index=0, summary_index=1, delta="Two."),
        event("response.output_item.done", output_index=0, item={**item, "summary": summary}),
        event("response.completed", response=response(status="completed")),
    )
    assert "".join(each.text for each in events if isinstance(each, StreamReasoningDelta)) == "One.\n\nTwo."
    assert isinstance(made, LlmResponse)
    (part,) = made.parts
    assert isinstance(part, ReasoningOutput)
    assert part.text == "One.\n\nTwo."
    assert part.replay == ProviderReasoningMeta(item_id="rs", encrypted_content="x", summary=("One.", "Two."))


ENDS: dict[str, tuple[dict[str, Any], Reason, str | None]] = {
    "completed": ({"status": "completed"}, Reason.STOP, None),
    "output limit": (
        {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
        Reason.OUTPUT_LIMIT,
        None,
    ),
    "filter": (
        {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
        Reason.CONTENT_FILTER,
        None,
    ),
    "new": (
        {"status": "incomplete", "incomplete_details": {"reason": "boredom"}},
        Reason.PROVIDER_ERROR,
        "unknown end `boredom`",
    ),
    "cancelled": ({"status": "cancelled"}, Reason.CANCELLED, None),
}


@pytest.mark.parametrize("name", ENDS)
def test_each_end_has_its_reason_streamed_or_not(name: str) -> None:
    fields, reason, diagnostic = ENDS[name]
    whole = response(**fields)
    _, streamed = answer(event(f"response.{fields['status']}", response=whole))
    _, single = decoded(ResponsesDecoder(), [json.dumps(whole).encode()], document=True)
    assert isinstance(streamed, LlmResponse)
    assert (streamed.terminal_reason, streamed.terminal_diagnostic) == (reason, diagnostic)
    assert single == streamed


def test_a_response_that_failed_and_an_error_event_are_failures() -> None:
    error = {"code": "server_error", "message": "It broke."}
    for each in (
        event("response.failed", response=response(status="failed", error=error)),
        event("error", code="server_error", message="It broke.", param=None),
        event("error", error=error),
    ):
        _, made = answer(each)
        assert isinstance(made, LlmCallError)
        assert (made.code, "It broke." in made.message, made.retryable) == ("server_error", True, True)


def test_another_answer_s_id_fails_it() -> None:
    other = response(status="completed", id="resp-other")
    _, made = answer(event("response.created", response=response(status="in_progress")), event("x", response=other))
    assert isinstance(made, LlmCallError)  # cut off
    _, made = answer(
        event("response.created", response=response(status="in_progress")), event("response.completed", response=other)
    )
    assert isinstance(made, LlmCallError)
    assert made.code == "identity_drift"


@pytest.mark.parametrize(
    "odd",
    [
        event("response.output_text.delta", output_index="0", content_index=0, delta="Hi"),
        event("response.output_text.delta", output_index=0, content_index=[0], delta="Hi"),
        event("response.reasoning_summary_text.delta", output_index=0, summary_index="0", delta="Hi"),
    ],
)
def test_a_place_that_is_no_number_is_the_service_s_mistake_and_no_crash(odd: bytes) -> None:
    # It was sorted among numbers at the end, where a TypeError lost what the call had cost.
    begun = event("response.created", response=response(status="in_progress", usage={"input_tokens": 7}))
    good = event("response.output_text.delta", output_index=0, content_index=0, delta="Hi")
    events, made = answer(begun, good, odd, event("response.completed", response=response(status="completed")))
    assert isinstance(made, LlmCallError)
    assert made.code == "unexpected_content"
    assert [each.usage.input for each in events if isinstance(each, StreamUsage)] == [7]


@pytest.mark.parametrize(
    "odd",
    [
        {"incomplete_details": {"reason": ["max_output_tokens"]}, "status": "incomplete"},
        {"status": {"completed": True}},
        {"output": [{"type": "message", "id": 7, "content": [{"type": "output_text", "text": "Hi"}]}]},
        {"output": [{"type": "function_call", "call_id": 7, "name": "now", "arguments": "{}"}]},
        {"output": [{"type": "reasoning", "encrypted_content": "x", "summary": [None]}]},
        {"output": [{"type": "reasoning", "encrypted_content": ["x"], "summary": [{"text": "hm"}]}]},
    ],
)
def test_an_end_that_is_misshapen_is_the_service_s_mistake_and_no_crash(odd: dict[str, Any]) -> None:
    """The soak's seed 58,660: a reason that is a list, looked up when all had come, where nobody expected it."""
    _, made = answer(event("response.completed", response=response(**{"status": "completed", **odd})))
    assert isinstance(made, LlmCallError)
    assert made.code == "unexpected_content"


@pytest.mark.parametrize(("kind", "seen"), [("message", False), ("function_call", True), ("reasoning", True)])
def test_a_call_or_reasoning_that_has_begun_is_output(kind: str, seen: bool) -> None:
    decoder = ResponsesDecoder()
    decoded(decoder, [event("response.output_item.added", output_index=0, item={"type": kind, "name": "pay"})])
    assert decoder.output_seen is seen


def test_cached_and_written_input_is_not_counted_twice() -> None:
    usage = {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 15},
    }
    done = response(status="completed", usage=usage, service_tier="priority")
    _, made = answer(event("response.completed", response=done))
    wanted = TokenUsage(input=10, output=20, cache_read_input=60, cache_write_input=30, reasoning_output=15)
    wanted = evolve(wanted, service_tier="priority")
    assert isinstance(made, LlmResponse)
    assert made.usage == wanted


# ---- the provider ---------------------------------------------------------------------------------------------------


async def test_without_a_key_the_message_says_what_to_type() -> None:
    provider = OPENAI.open(ProviderContext(provider_id="openai", settings=OpenAiSettings()))
    with pytest.raises(ConfigurationError, match=r"export OPENAI_API_KEY=.* provider\.openai\.api_key="):
        await Caller(provider).ask()


async def test_the_table_is_of_openai_alone_and_the_user_is_stronger() -> None:
    said = {"gpt-5": ModelCapability(context_window=7), "mine": ModelCapability(images=False)}
    here = OpenAiProvider(OpenAiSettings(api_key="k"), models=said)
    there = OpenAiProvider(OpenAiSettings(base_url="http://127.0.0.1:1/v1"), models=said)
    assert (here.capability("gpt-5").context_window, here.capability("gpt-5").prices is None) == (7, False)
    assert (there.capability("gpt-5").context_window, there.capability("gpt-5").prices) == (7, None)
    assert (here.capability("mine").images, here.capability("unheard-of").prices) == (False, None)
    await here.aclose()
    await there.aclose()
