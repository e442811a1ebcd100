"""Tools, sampling, thinking and the form of the answer, on the wire; and the table of models that decides them."""

from __future__ import annotations

import json
import math
from collections import UserDict
from typing import Any

import pytest
from attrs import evolve, fields_dict

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.llm import (
    GenerationOptions,
    JsonObjectOutput,
    JsonSchemaOutput,
    LlmOutputSpec,
    LlmRequest,
    LlmToolChoice,
    LlmToolSpec,
)
from lash_hookspecs.llm_messages import LlmRole, llm_text
from lash_hookspecs.models import ModelCapability, ModelPrices
from lash_hookspecs.testing.provider import refused
from lash_plugin_provider_google import GoogleSettings
from lash_plugin_provider_google.encode import RequestEncoder
from lash_plugin_provider_google.endpoint import endpoint_of
from lash_plugin_provider_google.models import GEMINI_MODELS, Model, Quirks, models_of
from lash_plugin_provider_google.options import OptionsEncoder

TOOL = LlmToolSpec(name="add", description="Adds.", input_schema={"type": "object", "properties": {}})
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
    error = refused(lambda: body(request, model))
    return error.code, error.message


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
    thinking = LEVELS
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


def test_where_sampling_is_pinned_no_temperature_is_sent() -> None:
    pinned = Model(ModelCapability(sampling_pinned=True))
    sent = body(asking(generation=GenerationOptions(temperature=0.5, seed=1)), pinned)
    assert sent["generationConfig"] == {"seed": 1}


@pytest.mark.statement(25, page="providers")
@pytest.mark.parametrize(
    "generation", [{"temperature": -0.1}, {"seed": 2**31}, {"stop_sequences": tuple("abcdef")}], ids=str
)
def test_sampling_that_cannot_be_meant_is_refused(generation: dict[str, Any]) -> None:
    assert refusal(asking(generation=GenerationOptions(**generation)))[0] == "invalid_generation_option"


# ---- thinking


def changed(model: Model, **fields: Any) -> Model:
    return Model(evolve(model.capability, **fields), model.quirks)


LEVELS = Model(
    ModelCapability(reasoning_efforts=("minimal", "high"), reasoning_encoding="level", reasoning_required=True)
)
BUDGETS = Model(
    ModelCapability(
        reasoning_efforts=("disabled", "low"),
        reasoning_encoding="budget",
        reasoning_budgets={"disabled": 0, "low": 1024, "dynamic": -1},
        reasoning_off="disabled",
    ),
    Quirks(budget=(512, 4096)),
)
TOGGLE = Model(
    ModelCapability(
        reasoning_efforts=("no", "yes"),
        reasoning_encoding="budget",
        reasoning_budgets={"no": 0, "yes": -1},
        reasoning_off="no",
    )
)
NEVER = Model(ModelCapability(reasoning_encoding="none"))


@pytest.mark.parametrize(
    ("model", "variant", "config"),
    [
        (ANY, None, None),
        (ANY, "high", {"thinkingLevel": "HIGH", "includeThoughts": True}),
        (ANY, "disabled", {"thinkingBudget": 0}),
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
        (TOGGLE, "yes", {"thinkingBudget": -1, "includeThoughts": True}),
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
        (Model(ModelCapability(reasoning_encoding="words")), "low", "malformed_capability"),
        (changed(BUDGETS, reasoning_budgets={}), "low", "malformed_capability"),
    ],
)
def test_an_effort_that_the_model_lacks_is_refused(model: Model, variant: str, code: str) -> None:
    found, message = refusal(asking(model_variant=variant), model)
    assert found == code
    if code in ("unsupported_effort", "effort_required"):
        assert model.capability.reasoning_efforts[-1] in message


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
    assert refusal(request, Model(ModelCapability(structured_output=False)))[0] == "unsupported_structured_output"
    either = Model(quirks=Quirks(schema_with_tools=False))
    assert body(request, either)["generationConfig"] == form
    code, message = refusal(asking(output_spec=spec, tools=(TOOL,)), either)
    assert code == "unsupported_structured_output"
    assert "not both" in message


# ---- the table


def test_the_table_is_dated_and_whole() -> None:
    assert GEMINI_MODELS.version.count("-") == 2
    for name, model in models_of({}, {}).items():
        can, prices = model.capability, model.capability.prices
        assert can.context_window, name
        assert can.output_cap, name
        assert can.reasoning_efforts, name
        assert prices is not None, name
        assert prices.as_of <= GEMINI_MODELS.version, name
        assert prices.source, name
        assert prices.long is None or prices.long.input == 2 * (prices.input or 0), name
        assert 0 < (prices.cache_read or 0) < (prices.input or 0) < (prices.output or 0), name
        budgets = can.reasoning_budgets.values()
        assert (can.reasoning_encoding == "budget") is bool(budgets) is (model.quirks.budget is not None), name
        low, high = model.quirks.budget or (0, 0)
        assert all(value == 0 or low <= value <= high for value in budgets), name
        assert can.reasoning_required is (can.reasoning_off is None), name
        for effort in can.reasoning_efforts:
            assert body(asking(model_variant=effort), model)["generationConfig"]["thinkingConfig"], (name, effort)


def test_what_a_user_says_of_models_is_stronger() -> None:
    said = {"gemini-2.5-pro": ModelCapability(context_window=7), "mine": ModelCapability(images=False)}
    models = models_of(said, {"mine": {"signed_calls": True, "budget": [1, 9]}})
    pro = GEMINI_MODELS.models["gemini-2.5-pro"]
    assert models["gemini-2.5-pro"].capability == evolve(pro, context_window=7)
    assert models["gemini-2.5-pro"].quirks.schema_with_tools is False
    assert models["mine"] == Model(ModelCapability(images=False), Quirks(signed_calls=True, budget=(1, 9)))
    assert models["gemini-2.5-flash"].capability is GEMINI_MODELS.models["gemini-2.5-flash"]


def test_what_somebody_else_answers_costs_what_he_says() -> None:
    mine = ModelPrices(input=1.0, output=2.0)
    models = models_of({"gemini-2.5-pro": ModelCapability(prices=mine)}, {}, priced=False)
    assert models["gemini-2.5-flash"].capability.prices is None
    assert models["gemini-2.5-flash"].capability.context_window
    assert models["gemini-2.5-pro"].capability.prices is mine


WRONG: list[dict[str, Any]] = [
    {"budget": [9, 1]},
    {"budget": [-1, 1]},
    {"budget": [1, 2, 3]},
    {"budget": 7},
    {"signed_calls": "yes"},
    {"schema_with_tools": 1},
]


@pytest.mark.parametrize("fields", WRONG, ids=str)
def test_quirks_that_cannot_be_meant_are_refused_by_name(fields: dict[str, Any]) -> None:
    (name,) = fields
    with pytest.raises(ConfigurationError, match=rf"provider\.google\.quirks\.m\.{name}.*malformed_capability"):
        models_of({}, {"m": fields})


def test_unknown_quirks_are_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="no field `windows`") as caught:
        models_of({}, {"m": {"windows": 1}})
    assert all(name in str(caught.value) for name in fields_dict(Quirks))
    with pytest.raises(ConfigurationError, match="must be a table"):
        models_of({}, {"m": 1})
