"""Tools, sampling, thinking and the form of the answer, on the wire; and the table of models that decides them."""

from __future__ import annotations

import json
import math
from collections import UserDict
from typing import Any

import pytest
from attrs import evolve, fields_dict

from lash_hookspecs.errors import ConfigurationError, LlmCallFailed
from lash_hookspecs.llm import (
    GenerationOptions,
    JsonObjectOutput,
    JsonSchemaOutput,
    LlmOutputSpec,
    LlmRequest,
    LlmToolChoice,
    LlmToolSpec,
    ProviderFailureKind,
)
from lash_hookspecs.llm_messages import LlmRole, llm_text
from lash_plugin_provider_google import GoogleSettings
from lash_plugin_provider_google.encode import RequestEncoder
from lash_plugin_provider_google.endpoint import endpoint_of
from lash_plugin_provider_google.models import TABLE_DATE, Model, models_over
from lash_plugin_provider_google.options import OptionsEncoder

TOOL = LlmToolSpec(name="add", description="Adds.", input_schema={"type": "object", "properties": {}})
TABLE = models_over({})
ANY = Model()


def asking(**fields: Any) -> LlmRequest:
    return LlmRequest(model="m", messages=(llm_text(LlmRole.USER, "hi"),), **fields)


def encoder(**settings: Any) -> RequestEncoder:
    made = GoogleSettings(**settings)
    return RequestEncoder(endpoint_of(made, "google"), OptionsEncoder(made))


def body(request: LlmRequest, model: Model = ANY, **settings: Any) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(encoder(**settings).encode(request, model))
    return decoded


def refusal(request: LlmRequest, model: Model = ANY) -> tuple[str | None, str]:
    with pytest.raises(LlmCallFailed) as caught:
        body(request, model)
    assert caught.value.error.kind is ProviderFailureKind.VALIDATION
    return caught.value.error.code, caught.value.error.message


def test_what_is_always_there() -> None:
    assert body(asking()) == {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


# ---- tools


@pytest.mark.parametrize(
    ("choice", "mode"),
    [(LlmToolChoice.AUTO, "AUTO"), (LlmToolChoice.NONE, "NONE"), (LlmToolChoice.REQUIRED, "ANY")],
)
def test_tools_and_choice(choice: LlmToolChoice, mode: str) -> None:
    sent = body(asking(tools=(TOOL,), tool_choice=choice))
    assert sent["tools"] == [
        {
            "functionDeclarations": [
                {
                    "name": "add",
                    "description": "Adds.",
                    "parametersJsonSchema": {"type": "object", "properties": {}},
                }
            ]
        }
    ]
    assert sent["toolConfig"] == {"functionCallingConfig": {"mode": mode}}


def test_no_tools() -> None:
    assert body(asking(tool_choice=LlmToolChoice.NONE)).keys() == {"contents"}
    assert refusal(asking(tool_choice=LlmToolChoice.REQUIRED))[0] == "tool_choice_without_tools"


def test_schemas_may_be_any_mapping_and_hold_only_numbers_that_json_has() -> None:
    tool = evolve(TOOL, input_schema=UserDict({"type": "object", "required": ("a",), "p": UserDict({})}))
    declared = body(asking(tools=(tool,)))["tools"][0]["functionDeclarations"][0]
    assert declared["parametersJsonSchema"] == {"type": "object", "required": ["a"], "p": {}}
    broken = evolve(TOOL, input_schema={"default": math.nan})
    assert refusal(asking(tools=(broken,)))[0] == "invalid_generation_option"


def test_tools_are_encoded_once_per_tuple_and_a_few_tuples_are_kept() -> None:
    made = encoder()
    schema = {"type": "object"}
    tools = (evolve(TOOL, input_schema=schema),)
    first = made.encode(asking(tools=tools), ANY)
    schema["type"] = "changed behind the value's back"
    assert made.encode(asking(tools=tools), ANY) == first
    assert made.encode(asking(tools=(evolve(TOOL, input_schema=schema),)), ANY) != first
    for index in range(100):
        sent = json.loads(made.encode(asking(tools=(evolve(TOOL, name=f"t{index}"),)), ANY))
        assert sent["tools"][0]["functionDeclarations"][0]["name"] == f"t{index}"
    assert len(made._options._tools) <= 32


# ---- further fields


def test_further_fields_are_merged_and_tools_appended() -> None:
    extra = {
        "safetySettings": [{"category": "C", "threshold": "BLOCK_NONE"}],
        "generationConfig": {"topK": 3, "thinkingConfig": {"thinkingBudget": 5}},
        "tools": [{"googleSearch": {}}],
        "toolConfig": {"includeServerSideToolInvocations": True},
    }
    thinking = Model(efforts={"low": "LOW"})
    sent = body(asking(tools=(TOOL,), generation=GenerationOptions(seed=1)), thinking, extra_body=extra)
    assert sent["generationConfig"] == {
        "seed": 1,
        "topK": 3,
        "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 5},
    }
    assert [list(each) for each in sent["tools"]] == [["functionDeclarations"], ["googleSearch"]]
    assert sent["toolConfig"] == {
        "functionCallingConfig": {"mode": "AUTO"},
        "includeServerSideToolInvocations": True,
    }
    assert sent["safetySettings"] == extra["safetySettings"]
    alone = body(asking(), extra_body={"tools": [{"googleSearch": {}}]})
    assert alone["tools"] == [{"googleSearch": {}}]
    assert "toolConfig" not in alone


@pytest.mark.parametrize(
    "extra", [{"contents": []}, {"systemInstruction": {}}, {"tools": {}}, {"toolConfig": []}], ids=str
)
def test_further_fields_that_cannot_be_merged_are_refused(extra: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="extra_body"):
        OptionsEncoder(GoogleSettings(extra_body=extra))


# ---- sampling


@pytest.mark.parametrize(
    ("generation", "fields"),
    [
        ({"output_token_cap": 5}, {"maxOutputTokens": 5}),
        ({"temperature": 0.0}, {"temperature": 0.0}),
        ({"temperature": 1}, {"temperature": 1}),
        ({"seed": -7}, {"seed": -7}),
        ({"stop_sequences": ("a", "b", "c", "d", "e")}, {"stopSequences": ["a", "b", "c", "d", "e"]}),
    ],
)
def test_sampling(generation: dict[str, Any], fields: dict[str, Any]) -> None:
    assert body(asking(generation=GenerationOptions(**generation)))["generationConfig"] == fields


@pytest.mark.statement(25, page="providers")
@pytest.mark.parametrize(
    "generation", [{"temperature": -0.1}, {"seed": 2**31}, {"stop_sequences": tuple("abcdef")}], ids=str
)
def test_sampling_that_cannot_be_meant_is_refused(generation: dict[str, Any]) -> None:
    assert refusal(asking(generation=GenerationOptions(**generation)))[0] == "invalid_generation_option"


# ---- thinking

LEVELS = Model(efforts={"minimal": "MINIMAL", "high": "HIGH"})
BUDGETS = Model(efforts={"disabled": 0, "low": 1024, "dynamic": -1}, budget=(512, 4096))
TOGGLE = Model(efforts={"disabled": 0, "enabled": -1})
NEVER = Model(efforts={})


@pytest.mark.parametrize(
    ("model", "variant", "config"),
    [
        (ANY, None, None),
        (ANY, "high", {"thinkingLevel": "HIGH", "includeThoughts": True}),
        (LEVELS, None, {"includeThoughts": True}),
        (LEVELS, "", {"includeThoughts": True}),
        (LEVELS, "default", {"includeThoughts": True}),
        (LEVELS, "provider-default", {"includeThoughts": True}),
        (LEVELS, "minimal", {"thinkingLevel": "MINIMAL", "includeThoughts": True}),
        (BUDGETS, "low", {"thinkingBudget": 1024, "includeThoughts": True}),
        (BUDGETS, "dynamic", {"thinkingBudget": -1, "includeThoughts": True}),
        (BUDGETS, "disabled", {"thinkingBudget": 0}),
        (BUDGETS, "none", {"thinkingBudget": 0}),
        (BUDGETS, "600", {"thinkingBudget": 600, "includeThoughts": True}),
        (TOGGLE, "enabled", {"thinkingBudget": -1, "includeThoughts": True}),
        (TOGGLE, "disabled", {"thinkingBudget": 0}),
        (NEVER, None, None),
    ],
)
def test_thinking(model: Model, variant: str | None, config: dict[str, Any] | None) -> None:
    sent = body(asking(model_variant=variant), model).get("generationConfig", {})
    assert sent.get("thinkingConfig") == config


def test_summaries_of_thoughts_can_be_left_out() -> None:
    assert "generationConfig" not in body(asking(), LEVELS, include_thoughts=False)
    sent = body(asking(model_variant="high"), LEVELS, include_thoughts=False)
    assert sent["generationConfig"] == {"thinkingConfig": {"thinkingLevel": "HIGH"}}


@pytest.mark.parametrize(
    ("model", "variant", "code"),
    [
        (LEVELS, "max", "unsupported_effort"),
        (LEVELS, "600", "unsupported_effort"),
        (LEVELS, "disabled", "effort_required"),
        (BUDGETS, "5000", "unsupported_effort"),
        (NEVER, "low", "effort_not_configurable"),
        (NEVER, "disabled", "effort_not_configurable"),
    ],
)
def test_an_effort_that_the_model_lacks_is_refused(model: Model, variant: str, code: str) -> None:
    found, message = refusal(asking(model_variant=variant), model)
    assert found == code
    if model.efforts:
        assert next(iter(model.efforts)) in message


# ---- the form of the answer

SCHEMA = {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("spec", "form"),
    [
        (JsonObjectOutput(), {"responseMimeType": "application/json"}),
        (
            JsonSchemaOutput(name="n", schema=SCHEMA),
            {"responseMimeType": "application/json", "responseJsonSchema": SCHEMA},
        ),
    ],
)
def test_structured_output(spec: LlmOutputSpec, form: dict[str, Any]) -> None:
    request = asking(output_spec=spec)
    assert body(request)["generationConfig"] == form
    assert refusal(request, Model(structured_output=False))[0] == "unsupported_structured_output"
    either = Model(schema_with_tools=False)
    assert body(request, either)["generationConfig"] == form
    code, message = refusal(asking(output_spec=spec, tools=(TOOL,)), either)
    assert code == "unsupported_structured_output"
    assert "not both" in message


# ---- the table


def test_the_table_is_dated_and_whole() -> None:
    assert TABLE_DATE.count("-") == 2
    for name, model in TABLE.items():
        assert model.context_window, name
        assert model.output_limit, name
        assert model.efforts, name
        assert model.prices is not None, name
        assert 0 < model.prices.cache_read < model.prices.input < model.prices.output, name
        if model.budget is not None:
            low, high = model.budget
            assert all(value in (0, -1) or low <= value <= high for value in model.efforts.values()), name  # type: ignore[operator]
        else:
            assert all(isinstance(value, str) for value in model.efforts.values()), name


def test_settings_change_and_add_models() -> None:
    models = models_over(
        {
            "gemini-2.5-pro": {"context_window": 7},
            "mine": {
                "efforts": {"on": -1, "off": 0, "hard": "HIGH"},
                "budget": [1, 9],
                "signed_calls": True,
                "media": ["image"],
                "prices": {"input": 1, "cache_read": 0.1, "output": 2},
            },
        }
    )
    assert models["gemini-2.5-pro"] == evolve(TABLE["gemini-2.5-pro"], context_window=7)
    assert models["mine"].budget == (1, 9)
    assert models["mine"].prices is not None
    assert models["mine"].prices.output == 2
    assert models["gemini-2.5-flash"] is TABLE["gemini-2.5-flash"]


WRONG: list[dict[str, Any]] = [
    {"context_window": 0},
    {"context_window": True},
    {"efforts": ["low"]},
    {"efforts": {"low": 1.5}},
    {"efforts": {"low": -2}},
    {"budget": [9, 1]},
    {"budget": 7},
    {"signed_calls": "yes"},
    {"media": "image"},
    {"prices": {"input": 1}},
    {"prices": {"input": 1, "cache_read": 1, "output": -1}},
]


@pytest.mark.parametrize("fields", WRONG, ids=str)
def test_what_cannot_be_meant_is_refused_by_name(fields: dict[str, Any]) -> None:
    (name,) = fields
    with pytest.raises(ConfigurationError, match=rf"provider\.google\.models\.m\.{name}.*malformed_capability"):
        models_over({"m": fields})


def test_unknown_fields_are_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="no field `windows`") as caught:
        models_over({"m": {"windows": 1}})
    assert all(name in str(caught.value) for name in fields_dict(Model))
    with pytest.raises(ConfigurationError, match="must be a table"):
        models_over({"m": 1})
