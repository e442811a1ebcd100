"""What goes over the wire, where its cache markers are, and that it is encoded once."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from attrs import evolve
from hypothesis import example, given, strategies as st

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
    LlmMessages,
    LlmRole,
    MessageRun,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
    llm_text,
)
from lash_hookspecs.messages import AttachmentRef, ProviderReasoningMeta, ProviderRoute
from lash_hookspecs.models import ModelCapability
from lash_hookspecs.testing.provider import LOADED, NOT_LOADED, PNG, any_message, assistant, refused, system, user
from lash_plugin_provider_anthropic import AnthropicSettings, encode
from lash_plugin_provider_anthropic.blocks import wire_id
from lash_plugin_provider_anthropic.encode import RequestEncoder
from lash_plugin_provider_anthropic.models import ANTHROPIC_MODELS
from lash_plugin_provider_anthropic.options import receipt
from lash_plugin_provider_anthropic.schemas import output_schema

TOOL = LlmToolSpec(name="add", description="Adds.", input_schema={"type": "object", "properties": {}})
WIRE_TOOL = {"name": "add", "description": "Adds.", "input_schema": {"type": "object", "properties": {}}}
ADAPTIVE, BUDGET, ALWAYS = "claude-opus-4-6", "claude-haiku-4-5", "claude-opus-5-5"


def T(text: str, mark: bool = False) -> TextBlock:
    return TextBlock(text=text, cache_breakpoint=mark)


def asking(*messages: LlmMessage, model: str = "m", **fields: Any) -> LlmRequest:
    return LlmRequest(model=model, messages=messages or (user(T("hi")),), **fields)


def body(request: LlmRequest, **settings: Any) -> dict[str, Any]:
    """What is sent, by default without cache markers."""
    said = {request.model: ModelCapability(**settings.pop("can", {}))}
    made = AnthropicSettings(**{"cache": "off", **settings})
    decoded: dict[str, Any] = json.loads(RequestEncoder(made, models=said).encode(request))
    return decoded


def messages(*blocks_of: LlmMessage, **fields: Any) -> Any:
    return body(asking(*blocks_of, **fields))["messages"]


def refusal(request: LlmRequest, **settings: Any) -> str | None:
    return refused(lambda: body(request, **settings)).code


CALL = ToolCallBlock(call_id="c1", tool_name="add", input_json='{"a": 1}')
WIRE_CALL = {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}}
RESULT = ToolResultBlock(call_id="c1", content="3")
WIRE_RESULT = {"type": "tool_result", "tool_use_id": "c1", "content": "3"}
SIGNED = ReasoningBlock(text="hm", replay=ProviderReasoningMeta(signature="sig"))
SEALED = ReasoningBlock(text="", replay=ProviderReasoningMeta(encrypted_content="xx", redacted=True))
PICTURE = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(b"abc").decode()}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def said(role: str, *blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "content": list(blocks)}


CONVERSATIONS: dict[str, tuple[tuple[LlmMessage, ...], list[dict[str, Any]]]] = {
    "user": ((user(T("hi")),), [said("user", text("hi"))]),
    "neighbours of one role are one message": (
        (user(T("a")), user(T("b"), T("c")), assistant(T("d")), assistant(T("e"))),
        [said("user", text("a"), text("b"), text("c")), said("assistant", text("d"), text("e"))],
    ),
    "blank text is dropped": (
        (user(T("a")), assistant(T(" \n")), user(T(""), T("b"))),
        [said("user", text("a"), text("b"))],
    ),
    "nothing": ((user(),), []),
    "a later system message is the user's": (
        (user(T("a")), system("note"), assistant(T("b"))),
        [said("user", text("a"), text("note")), said("assistant", text("b"))],
    ),
    "call and result": (
        (assistant(T("so"), CALL), user(RESULT)),
        [said("assistant", text("so"), WIRE_CALL), said("user", WIRE_RESULT)],
    ),
    "results stand first in what the user says, whoever says it": (
        (assistant(CALL), user(T("see"), RESULT), user(ToolResultBlock(call_id="c2", content=""), T("more"))),
        [
            said("assistant", WIRE_CALL),
            said("user", WIRE_RESULT, {"type": "tool_result", "tool_use_id": "c2"}, text("see"), text("more")),
        ],
    ),
    "an image": (
        (user(T("see"), ImageBlock(attachment_idx=0, attachment=PNG)),),
        [said("user", text("see"), {"type": "image", "source": PICTURE})],
    ),
    "an image by its place": (
        (user(ImageBlock(attachment_idx=0)),),
        [said("user", {"type": "image", "source": PICTURE})],
    ),
    "signed thinking goes back": (
        (assistant(SIGNED, SEALED, T("a")),),
        [
            said(
                "assistant",
                {"type": "thinking", "thinking": "hm", "signature": "sig"},
                {"type": "redacted_thinking", "data": "xx"},
                text("a"),
            )
        ],
    ),
    "unsigned thinking is plain text": (
        (assistant(ReasoningBlock(text="hm"), T("a")),),
        [said("assistant", text("hm"), text("a"))],
    ),
    "no assistant's message ends with thinking": (
        (user(T("q")), assistant(T("a"), SIGNED), user(T("b")), assistant(SIGNED), user(T("c"))),
        [said("user", text("q")), said("assistant", text("a")), said("user", text("b"), text("c"))],
    ),
    "what JSON must escape": ((user(T('"\\\n\u2028🌍')),), [said("user", text('"\\\n\u2028🌍'))]),
    "half a surrogate pair": ((user(T("a\ud800b")),), [said("user", text("a?b"))]),
    "what only the other one says": ((user(CALL, SIGNED), assistant(T("a"), RESULT)), [said("assistant", text("a"))]),
}


@pytest.mark.parametrize(("conversation", "wire"), CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
def test_conversations(conversation: tuple[LlmMessage, ...], wire: list[dict[str, Any]]) -> None:
    assert messages(*conversation, attachments=(LOADED,)) == wire


def test_the_first_messages_of_the_system_stand_apart() -> None:
    sent = body(asking(system("be brief"), system(" "), system("be kind"), user(T("hi"))))
    assert sent["system"] == [text("be brief"), text("be kind")]
    assert sent["messages"] == [said("user", text("hi"))]
    assert "system" not in body(asking())


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("", {}),
        ("  ", {}),
        ('{"a":', {"invalid_json": '{"a":'}),
        ("[1]", {"arguments": [1]}),
        ('{"a": NaN}', {"invalid_json": '{"a": NaN}'}),
        ('{"a": "é"}', {"a": "é"}),
    ],
)
def test_arguments_are_always_an_object(written: str, sent: Any) -> None:
    block = ToolCallBlock(call_id="c", tool_name="t", input_json=written)
    assert messages(assistant(block))[0]["content"][0]["input"] == sent


IDS = ["call|fc_1", "a" * 65, "", "ü", "a b", "a_b", "a/b", "x" * 64, "toolu_01-Az", "a\ud800"]


def test_ids_are_fit_for_the_service_and_results_stay_with_their_calls() -> None:
    """Ids of other services (`call|item`, long ones) are refused; each gets one of its own, the same each time."""
    made = [wire_id(each) for each in IDS]
    assert all(re.fullmatch("[A-Za-z0-9_-]{1,64}", each) for each in made)
    assert len(set(made)) == len(IDS)
    assert made == [wire_id(each) for each in IDS]
    assert wire_id("toolu_01-Az") == "toolu_01-Az"
    sent = messages(assistant(evolve(CALL, call_id="call|1")), user(ToolResultBlock(call_id="call|1", content="x")))
    assert sent[0]["content"][0]["id"] == sent[1]["content"][0]["tool_use_id"]


@given(st.text(), st.text())
def test_no_two_ids_become_one(one: str, other: str) -> None:
    assert (wire_id(one) == wire_id(other)) == (one == other)


# ---- opaque state

ROUTE = ProviderRoute(provider_id="anthropic", endpoint="https://e", model="m")


@pytest.mark.statement(18)
@pytest.mark.parametrize(
    ("origin", "kept"),
    [
        (None, True),
        (ROUTE, True),
        (evolve(ROUTE, endpoint="https://other"), False),
        (evolve(ROUTE, model="n"), False),
        (evolve(ROUTE, provider_id="openai"), False),
    ],
)
def test_opaque_state_goes_back_only_to_where_it_is_from(origin: ProviderRoute | None, kept: bool) -> None:
    def own(**meta: Any) -> ProviderReasoningMeta:
        return ProviderReasoningMeta(origin=origin, **meta)

    message = assistant(
        ReasoningBlock(text="hm", replay=own(signature="sig")),
        ReasoningBlock(text="", replay=own(encrypted_content="xx", redacted=True)),
        ReasoningBlock(text="", replay=own(item_id="s1", encrypted_content='{"type":"server_tool_use","id":"s1"}')),
        T("a"),
    )
    encoder = RequestEncoder(AnthropicSettings(cache="off"), endpoint="https://e")
    blocks = json.loads(encoder.encode(asking(message)))["messages"][0]["content"]
    kinds = ["thinking", "redacted_thinking", "server_tool_use", "text"] if kept else ["text", "text"]
    assert [block["type"] for block in blocks] == kinds
    # The same message for another model: what is kept of it is the first one's own.
    other = json.loads(encoder.encode(asking(message, model="another")))["messages"][0]["content"]
    assert len(other) == (4 if origin is None else 2)


def test_state_of_another_service_is_never_taken_for_ours() -> None:
    block = ReasoningBlock(text="hm", replay=ProviderReasoningMeta(item_id="rs_1", encrypted_content="gAAAA"))
    assert messages(assistant(block, T("a"))) == [said("assistant", text("hm"), text("a"))]


# ---- attachments


@pytest.mark.parametrize("media_type", ["image/png", "image/jpeg", "image/gif", "image/webp", "IMAGE/PNG"])
def test_image_types_that_are_taken(media_type: str) -> None:
    attachment = evolve(LOADED, reference=evolve(PNG, media_type=media_type))
    (block,) = messages(user(ImageBlock(attachment_idx=0)), attachments=(attachment,))[0]["content"]
    assert block == {"type": "image", "source": {**PICTURE, "media_type": media_type.lower()}}


def test_documents() -> None:
    pdf = evolve(LOADED, reference=evolve(PNG, id="p", media_type="application/pdf"))
    plain = LlmAttachment(reference=evolve(PNG, id="t", media_type="text/plain"), data="ü\n".encode())
    sent = messages(user(ImageBlock(attachment_idx=0), ImageBlock(attachment_idx=1)), attachments=(pdf, plain))
    assert sent[0]["content"] == [
        {"type": "document", "source": {**PICTURE, "media_type": "application/pdf"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "ü\n"}},
    ]


@pytest.mark.parametrize(("media_type", "kind"), [("image/png", "image"), ("application/pdf", "document")])
def test_what_is_elsewhere_is_never_fetched(media_type: str, kind: str) -> None:
    reference = AttachmentRef(id="https://example.com/x", media_type=media_type, size=0)
    block = ImageBlock(attachment_idx=0, attachment=reference)
    source = {"type": "url", "url": "https://example.com/x"}
    assert messages(user(block))[0]["content"] == [{"type": kind, "source": source}]


@pytest.mark.statement(20)
@pytest.mark.parametrize(
    ("media_type", "settings"),
    [
        ("image/heic", {}),
        ("audio/wav", {}),
        ("", {}),
        ("image/png", {"images": False}),
        ("application/pdf", {"documents": False}),
        ("text/plain", {"documents": False}),
    ],
)
def test_what_the_model_cant_take_is_refused(media_type: str, settings: dict[str, bool]) -> None:
    attachment = evolve(LOADED, reference=evolve(PNG, media_type=media_type))
    request = asking(user(ImageBlock(attachment_idx=0)), attachments=(attachment,))
    assert refusal(request, can=settings) == "unsupported_attachment_capability"


@pytest.mark.parametrize(("block", "attachments"), NOT_LOADED)
def test_what_isnt_loaded_is_refused(block: ImageBlock, attachments: tuple[LlmAttachment, ...]) -> None:
    assert refusal(asking(user(block), attachments=attachments)) == "attachment_not_loaded"


# ---- tools and options


def test_what_is_always_there() -> None:
    assert body(asking()) == {
        "model": "m",
        "messages": [said("user", text("hi"))],
        "max_tokens": 32_000,
        "stream": True,
    }


@pytest.mark.parametrize(
    ("choice", "sent"),
    [(LlmToolChoice.AUTO, "auto"), (LlmToolChoice.NONE, "none"), (LlmToolChoice.REQUIRED, "any")],
)
def test_tools_and_choice(choice: LlmToolChoice, sent: str) -> None:
    made = body(asking(tools=(TOOL,), tool_choice=choice))
    assert made["tools"] == [WIRE_TOOL]
    assert made["tool_choice"] == {"type": sent}


@pytest.mark.parametrize(
    ("model", "variant", "code"),
    [
        ("claude-opus-5-5", None, "unsupported_tool_choice"),
        ("claude-sonnet-5-5", None, "unsupported_tool_choice"),
        ("claude-haiku-4-5", "low", "unsupported_tool_choice"),
        ("claude-haiku-4-5", "disabled", None),
        ("claude-haiku-4-5", None, None),
        ("claude-opus-5", "low", None),
        ("unheard-of", "low", None),
    ],
)
def test_a_call_is_required_only_of_a_model_that_can_be_held_to_one(
    model: str, variant: str | None, code: str | None
) -> None:
    """The newest models refuse it, and those that think with a budget; it was the service that said so."""
    request = asking(tools=(TOOL,), tool_choice=LlmToolChoice.REQUIRED, model=model, model_variant=variant)
    if code is None:
        assert body(request)["tool_choice"] == {"type": "any"}
    else:
        assert refusal(request) == code
    assert body(evolve(request, tool_choice=LlmToolChoice.AUTO))["tool_choice"] == {"type": "auto"}


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("claude-opus-5", {"type": "disabled"}),
        ("claude-sonnet-5-5", {"type": "between_tools"}),
        ("claude-opus-5-5", None),
    ],
)
def test_thinking_is_switched_off_in_the_model_s_own_word(model: str, sent: dict[str, str] | None) -> None:
    request = asking(model=model, model_variant="disabled")
    if sent is None:
        assert refusal(request) == "effort_required"
    else:
        assert body(request)["thinking"] == sent


def test_tools_of_the_services_own_come_first() -> None:
    search = {"type": "web_search_20250305", "name": "web_search"}
    made = body(asking(tools=(TOOL,)), extra_body={"tools": [search], "service_tier": "auto"})
    assert made["tools"] == [search, WIRE_TOOL]
    assert made["service_tier"] == "auto"
    assert body(asking(), extra_body={"tools": [search]})["tool_choice"] == {"type": "auto"}


def test_a_tool_without_words_or_type() -> None:
    made = body(asking(tools=(evolve(TOOL, description="", input_schema={}),)))
    assert made["tools"] == [{"name": "add", "input_schema": {"type": "object"}}]
    assert "tool_choice" not in body(asking(tool_choice=LlmToolChoice.NONE))
    assert refusal(asking(tool_choice=LlmToolChoice.REQUIRED)) == "tool_choice_without_tools"


EFFORTS: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "the model's own": (ADAPTIVE, None, {}),
    "by another name": (ADAPTIVE, "provider-default", {}),
    "adaptive": (ADAPTIVE, "max", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}),
    "unknown model": ("m", "any", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "any"}}),
    "budget": (BUDGET, "low", {"thinking": {"type": "enabled", "budget_tokens": 2048}, "max_tokens": 34_048}),
    "disabled": (ADAPTIVE, "disabled", {"thinking": {"type": "disabled"}}),
    "always on": (ALWAYS, "xhigh", {"thinking": {"type": "adaptive"}, "output_config": {"effort": "xhigh"}}),
}


@pytest.mark.parametrize(("model", "variant", "fields"), EFFORTS.values(), ids=EFFORTS.keys())
def test_effort(model: str, variant: str | None, fields: dict[str, Any]) -> None:
    plain = body(asking(model=model))
    assert body(asking(model=model, model_variant=variant)) == {**plain, **fields}


@pytest.mark.parametrize(
    ("model", "variant", "settings", "code"),
    [
        (ADAPTIVE, "xhigh", {}, "unsupported_effort"),
        (BUDGET, "max", {}, "unsupported_effort"),
        ("m", "low", {"reasoning_efforts": ("high",)}, "unsupported_effort"),
        ("m", "low", {"reasoning_encoding": "none"}, "effort_not_configurable"),
        (ALWAYS, "disabled", {}, "effort_required"),
    ],
)
def test_efforts_that_the_model_lacks_are_refused(
    model: str, variant: str, settings: dict[str, Any], code: str
) -> None:
    assert refusal(asking(model=model, model_variant=variant), can=settings) == code


def test_a_budget_leaves_room_for_the_answer() -> None:
    def limited(cap: int) -> dict[str, Any]:
        return body(asking(model=BUDGET, model_variant="high", generation=GenerationOptions(output_token_cap=cap)))

    assert limited(40_000)["thinking"]["budget_tokens"] == 16_384
    assert limited(10_000)["thinking"]["budget_tokens"] == 5000
    assert limited(1100)["thinking"]["budget_tokens"] == 1024
    generation = GenerationOptions(output_token_cap=1024)
    assert refusal(asking(model=BUDGET, model_variant="high", generation=generation)) == "invalid_generation_option"


GENERATION: list[tuple[str, str | None, dict[str, Any], dict[str, Any], dict[str, str]]] = [
    ("m", None, {"output_token_cap": 5}, {"max_tokens": 5}, {"output_token_cap": "applied"}),
    (BUDGET, None, {"output_token_cap": 65_000}, {"max_tokens": 64_000}, {"output_token_cap": "clamped"}),
    ("m", None, {"temperature": 0.5}, {"temperature": 0.5}, {"temperature": "applied"}),
    ("m", None, {"temperature": 1.5}, {"temperature": 1.0}, {"temperature": "clamped"}),
    ("m", "disabled", {"temperature": 0.0}, {"temperature": 0.0}, {"temperature": "applied"}),
    ("m", "low", {"temperature": 0.5}, {}, {"temperature": "omitted_sampling_pinned"}),
    (ALWAYS, None, {"temperature": 0.5}, {}, {"temperature": "omitted_sampling_pinned"}),
    ("m", None, {"seed": 7}, {}, {"seed": "omitted_unsupported"}),
    ("m", None, {"stop_sequences": ("a",)}, {"stop_sequences": ["a"]}, {"stop_sequences": "applied"}),
    ("m", None, {}, {}, {}),
]


@pytest.mark.parametrize(("model", "variant", "asked", "fields", "told"), GENERATION, ids=str)
def test_generation_options_and_their_receipt(
    model: str, variant: str | None, asked: dict[str, Any], fields: dict[str, Any], told: dict[str, str]
) -> None:
    plain = body(asking(model=model, model_variant=variant))
    request = asking(model=model, model_variant=variant, generation=GenerationOptions(**asked))
    assert body(request) == {**plain, **fields}
    assert receipt(request, ANTHROPIC_MODELS.capability(model)) == told


@pytest.mark.statement(25)
def test_numbers_that_make_no_sense_are_refused() -> None:
    assert refusal(asking(generation=GenerationOptions(temperature=-0.1))) == "invalid_generation_option"
    tool = evolve(TOOL, input_schema={"default": math.nan})
    assert refusal(asking(tools=(tool,))) == "invalid_generation_option"


def test_structured_output() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"]}
    made = body(asking(output_spec=JsonSchemaOutput(name="n", schema=schema), model_variant="high"))
    assert made["output_config"] == {
        "effort": "high",
        "format": {
            "type": "json_schema",
            "schema": {
                "type": "object",
                "properties": {"a": {"type": "integer", "description": "(minimum: 1)"}},
                "required": ["a"],
                "additionalProperties": False,
            },
        },
    }
    assert refusal(asking(output_spec=JsonObjectOutput())) == "unsupported_structured_output"
    spec = JsonSchemaOutput(name="n", schema=schema)
    assert refusal(asking(output_spec=spec), can={"structured_output": False}) == "unsupported_structured_output"


@pytest.mark.parametrize(
    ("schema", "sent"),
    [
        ({"type": "string"}, {"type": "string"}),
        ({"type": "string", "format": "uuid"}, {"type": "string", "format": "uuid"}),
        (
            {"type": "string", "format": "odd", "description": "A word."},
            {"type": "string", "description": 'A word. (format: "odd")'},
        ),
        ({"type": "array", "minItems": 1, "items": {"maximum": 2}}, None),
        ({"oneOf": [{"type": "object"}, {"type": "null"}]}, None),
        ({"$defs": {"A": {"properties": {"maximum": {"type": "string"}}}}, "$ref": "#/$defs/A"}, None),
    ],
)
def test_schemas_are_as_the_service_takes_them(schema: dict[str, Any], sent: dict[str, Any] | None) -> None:
    whole = {
        "minItems": {"type": "array", "minItems": 1, "items": {"description": "(maximum: 2)"}},
        "oneOf": {"anyOf": [{"type": "object", "additionalProperties": False}, {"type": "null"}]},
        "$defs": {
            "$defs": {"A": {"properties": {"maximum": {"type": "string"}}, "additionalProperties": False}},
            "$ref": "#/$defs/A",
        },
    }
    before = json.dumps(schema)
    assert output_schema(schema) == (sent or next(value for name, value in whole.items() if name in schema))
    assert json.dumps(schema) == before


def test_the_table_of_models_is_sound() -> None:
    """Each has a window and a limit, and what it says of thinking fits together."""
    for model, known in ANTHROPIC_MODELS.models.items():
        assert known.context_window is not None, model
        assert known.output_cap is not None, model
        assert known.reasoning_encoding in ("adaptive", "budget"), model
        assert known.reasoning_efforts, model
        assert known.reasoning_required is (known.reasoning_off is None), model
        assert (known.reasoning_encoding == "budget") is bool(known.reasoning_budgets), model
        price = known.prices
        assert price is not None, model
        assert price.as_of <= ANTHROPIC_MODELS.version, model
        assert all(each.source for each in (price, *price.tiers.values())), model
        row = [each for each in (price.cache_read, price.input, price.cache_write, price.output) if each is not None]
        assert row == sorted(row), model


def test_budgets_of_the_users_own() -> None:
    can: dict[str, Any] = {
        "reasoning_encoding": "budget",
        "reasoning_efforts": ("deep",),
        "reasoning_budgets": {"deep": 5000},
    }
    assert body(asking(model_variant="deep"), can=can)["thinking"] == {"type": "enabled", "budget_tokens": 5000}
    del can["reasoning_budgets"]
    assert refusal(asking(model_variant="deep"), can=can) == "invalid_generation_option"


def test_nothing_is_concluded_from_a_part_of_a_name() -> None:
    request = asking(model="claude-haiku-4-5-but-not-quite", model_variant="max")
    assert body(request)["thinking"] == {"type": "adaptive"}


# ---- cache markers

SHORT = {"type": "ephemeral"}


def marks(sent: dict[str, Any]) -> list[str]:
    """Where markers are: `system.0`, `tools.1`, `messages.2.0`."""
    found = [
        f"{name}.{number}"
        for name in ("system", "tools")
        for number, each in enumerate(sent.get(name, []))
        if marked(each)
    ]
    return found + [
        f"messages.{number}.{at}"
        for number, message in enumerate(sent["messages"])
        for at, each in enumerate(message["content"])
        if marked(each)
    ]


def marked(block: dict[str, Any]) -> bool:
    return "cache_control" in block


MARKS: dict[str, tuple[LlmRequest, list[str]]] = {
    "only the user": (asking(), ["messages.0.0"]),
    "system, tools and the user's last block": (
        asking(system("a"), system("b"), user(T("hi"), T("ho")), tools=(evolve(TOOL, name="x"), TOOL)),
        ["system.1", "tools.1", "messages.0.1"],
    ),
    "a result": (asking(user(T("q")), assistant(CALL), user(RESULT)), ["messages.2.0"]),
    "the user's last block, though the assistant speaks last": (
        asking(user(T("a")), assistant(T("b"))),
        ["messages.0.0"],
    ),
    "nothing of a user's": (asking(assistant(T("b"))), []),
    "what is marked, and nothing else": (
        asking(user(T("a", mark=True), T("b")), assistant(T("c")), user(T("d"))),
        ["messages.0.0"],
    ),
    "a mark behind results": (
        asking(assistant(CALL), user(T("a", mark=True), RESULT, T("b"))),
        ["messages.1.1"],
    ),
    "the last of many": (
        asking(system("s"), *(user(T(str(number), mark=True)) for number in range(6)), tools=(TOOL,)),
        ["system.0", "tools.0", "messages.0.4", "messages.0.5"],
    ),
    "four where there is nothing else": (
        asking(*(user(T(str(number), mark=True)) for number in range(6))),
        [f"messages.0.{number}" for number in (2, 3, 4, 5)],
    ),
}


@pytest.mark.statement(21)
@pytest.mark.parametrize(("request_", "places"), MARKS.values(), ids=MARKS.keys())
def test_cache_markers(request_: LlmRequest, places: list[str]) -> None:
    sent = body(request_, cache="short")
    assert marks(sent) == places
    assert marks(body(request_)) == []
    assert json.dumps(SHORT) in json.dumps(sent) or not places
    long = json.dumps(body(request_, cache="long"))
    assert long.count('"cache_control": {"type": "ephemeral", "ttl": "1h"}') == len(places)


def test_a_marker_of_the_settings_counts() -> None:
    """Automatic caching of the service is a marker too, and five are refused."""
    request = asking(system("s"), *(user(T(str(number), mark=True)) for number in range(6)), tools=(TOOL,))
    sent = body(request, cache="short", extra_body={"cache_control": SHORT})
    assert marks(sent) == ["system.0", "tools.0", "messages.0.5"]


# ---- encoded once


def unmarked(sent: bytes) -> bytes:
    return re.sub(rb',"cache_control":\{[^}]*\}', b"", sent)


TURNS = [
    user(T("a")),
    assistant(SIGNED, T("so"), CALL),
    user(RESULT, T("see", mark=True)),
    user(T("and")),
    system("note"),
    assistant(T("b"), evolve(CALL, call_id="c2")),
    user(ToolResultBlock(call_id="c2", content="x"), ImageBlock(attachment_idx=0, attachment=PNG)),
]


@pytest.mark.statement(22)
@pytest.mark.parametrize("count", range(1, len(TURNS)))
def test_the_next_request_begins_with_the_bytes_of_the_one_before(count: int) -> None:
    """Up to its breakpoint, and but for the markers; what follows it may grow into the same message."""
    encoder = RequestEncoder(AnthropicSettings())
    fields: dict[str, Any] = {"tools": (TOOL,), "attachments": (LOADED,)}
    first = [system("s"), *TURNS[:count]]
    before = encoder.encode(asking(*first, **fields))
    after = encoder.encode(asking(*first, TURNS[count], assistant(T("z")), user(T("new")), **fields))
    end = before.rindex(b',"cache_control"')
    shared = unmarked(before[:end])
    assert unmarked(after).startswith(shared)


def test_a_message_is_encoded_once_and_kept_with_it() -> None:
    encoder = RequestEncoder(AnthropicSettings())
    conversation = [user(T(str(index))) for index in range(5)]
    encoder.encode(asking(*conversation))
    kept = [dict(message.memo) for message in conversation]
    encoder.encode(asking(*conversation, user(T("new"))))
    assert all(len(memo) == 1 for memo in kept)
    for message, memo in zip(conversation, kept, strict=True):
        assert all(message.memo[name] is value for name, value in memo.items())


def test_tools_are_encoded_once_per_tuple_and_a_few_are_kept() -> None:
    encoder = RequestEncoder(AnthropicSettings())
    schema = {"type": "object"}
    tools = (evolve(TOOL, input_schema=schema),)
    first = encoder.encode(asking(tools=tools))
    schema["title"] = "changed behind the value's back"
    assert encoder.encode(asking(tools=tools)) == first
    for index in range(100):
        sent = json.loads(encoder.encode(asking(tools=(evolve(TOOL, name=f"t{index}"),))))
        assert sent["tools"][0]["name"] == f"t{index}"
    assert len(encoder._tools) <= 32


def test_an_image_without_a_reference_is_not_kept() -> None:
    encoder = RequestEncoder(AnthropicSettings())
    by_place = user(ImageBlock(attachment_idx=0))
    run = MessageRun((by_place,))
    encoder.encode(LlmRequest(model="m", messages=LlmMessages([run]), attachments=(LOADED,)))
    assert run.memo == by_place.memo == {}
    other = evolve(LOADED, data=b"other")
    sent = json.loads(encoder.encode(asking(by_place, attachments=(other,))))
    assert sent["messages"][0]["content"][0]["source"]["data"] == base64.b64encode(b"other").decode()


ANY_MESSAGE = any_message(T("mark", mark=True), CALL, RESULT, SIGNED, ReasoningBlock(text="hm"))


def asking_of(messages: Sequence[LlmMessage]) -> LlmRequest:
    return LlmRequest(model="m", messages=messages, attachments=(LOADED,))


HI, ANSWERED = user(T("hi")), user(RESULT)


@example([[HI], [HI], [ANSWERED]], 256)
@given(st.lists(st.lists(ANY_MESSAGE, max_size=5), max_size=4), st.sampled_from([0, 2, 256]))
def test_however_messages_come_in_runs_the_bytes_are_the_same(runs: list[list[LlmMessage]], long: int) -> None:
    """One by one or at once, kept or not, before and after: what is sent depends on the messages only."""
    flat = [LlmMessage(message.role, message.blocks) for run in runs for message in run]
    expected = RequestEncoder(AnthropicSettings()).encode(asking_of(flat))
    divided = asking_of(LlmMessages(MessageRun(tuple(run)) for run in runs))
    encoder = RequestEncoder(AnthropicSettings())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode, "_LONG", long)
        assert encoder.encode(divided) == expected
        assert encoder.encode(divided) == expected
    check(json.loads(expected))


def check(sent: dict[str, Any]) -> None:
    """What the service asks of any conversation: roles by turns, results first, no blank text, four markers."""
    roles = [message["role"] for message in sent["messages"]]
    assert all(one != other for one, other in pairwise(roles))
    for message in sent["messages"]:
        kinds = [block["type"] for block in message["content"]]
        assert kinds
        assert kinds == sorted(kinds, key=lambda kind: kind != "tool_result")
        assert message["role"] == "user" or kinds[-1] != "thinking"
        assert all(block["text"].strip() for block in message["content"] if block["type"] == "text")
    assert len(marks(sent)) <= 4


@pytest.mark.parametrize("count", [3, 300])
def test_a_runs_bytes_are_made_once_and_handed_on_uncopied(count: int) -> None:
    """Of a long one, no message keeps bytes beside it."""
    encoder = RequestEncoder(AnthropicSettings())
    run = MessageRun(tuple(llm_text(LlmRole.USER, f"text {number}") for number in range(count)))
    encoder.pieces(LlmRequest(model="m", messages=LlmMessages([run])))
    grown = LlmMessages([run, MessageRun((llm_text(LlmRole.USER, "new"),))])
    after = encoder.pieces(LlmRequest(model="m", messages=grown))
    (kept,) = run.memo.values()
    assert any(piece is kept.body for piece in after)
    assert all(bool(message.memo) == (count == 3) for message in run.messages)
    assert b"".join(after) == encoder.encode(LlmRequest(model="m", messages=tuple(grown)))
