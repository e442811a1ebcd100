"""What a user adds to each request (`extra_body`) stands beside what the request says itself, and nothing twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.llm import JsonSchemaOutput, LlmRequest, LlmToolSpec
from lash_hookspecs.llm_messages import LlmRole, llm_text
from lash_hookspecs.models import ModelCapability
from lash_plugin_provider_openai.encode import RequestEncoder
from lash_plugin_provider_openai.responses_encode import ResponsesEncoder
from lash_plugin_provider_openai.responses_settings import OpenAiSettings
from lash_plugin_provider_openai.settings import OpenAiChatSettings

TOOL = LlmToolSpec(name="add", description="Adds.", input_schema={"type": "object"})
ANSWER = JsonSchemaOutput(name="answer", schema={"type": "object"})
SEARCH = {"type": "web_search"}


def once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    assert len({*names}) == len(names), f"a name stands there twice: {names}"
    return dict(pairs)


def asked(**fields: Any) -> LlmRequest:
    return LlmRequest(model="m", messages=(llm_text(LlmRole.USER, "Hi"),), **fields)


def chat(extra: dict[str, Any], **fields: Any) -> Any:
    made = RequestEncoder(OpenAiChatSettings(extra_body=extra)).encode(asked(**fields))
    return json.loads(made, object_pairs_hook=once)


def responses(extra: dict[str, Any], **fields: Any) -> Any:
    made = ResponsesEncoder(OpenAiSettings(extra_body=extra), lambda _: ModelCapability()).encode(asked(**fields))
    return json.loads(made, object_pairs_hook=once)


def test_a_form_that_is_asked_for_survives_how_much_is_to_be_said() -> None:
    sent = responses({"text": {"verbosity": "low"}}, output_spec=ANSWER)
    assert sent["text"]["verbosity"] == "low"
    assert sent["text"]["format"]["type"] == "json_schema"


def test_an_effort_survives_how_it_is_summarized() -> None:
    sent = responses({"reasoning": {"summary": "auto"}}, model_variant="high")
    assert sent["reasoning"] == {"effort": "high", "summary": "auto"}
    assert chat({"stream_options": {"include_obfuscation": False}})["stream_options"] == {
        "include_usage": True,
        "include_obfuscation": False,
    }


def test_tools_of_the_services_own_stand_behind_the_turns() -> None:
    for sent in (responses({"tools": [SEARCH]}, tools=(TOOL,)), chat({"tools": [SEARCH]}, tools=(TOOL,))):
        assert [each["type"] for each in sent["tools"]] == ["function", "web_search"]
        assert sent["tool_choice"] == "auto"
    for sent in (responses({"tools": [SEARCH]}), chat({"tools": [SEARCH]})):
        assert sent["tools"] == [SEARCH]
        assert "tool_choice" not in sent


def test_what_is_said_before_the_conversation_can_be_changed() -> None:
    only = {"type": "function", "name": "add"}
    extra = {"store": True, "stream": False, "include": ["web_search_call.action.sources"], "tool_choice": only}
    sent = responses(extra, tools=(TOOL,))
    assert (sent["store"], sent["stream"], sent["tool_choice"]) == (True, False, only)
    assert sent["include"] == ["reasoning.encrypted_content", "web_search_call.action.sources"]
    assert chat({"tool_choice": only}, tools=(TOOL,))["tool_choice"] == only
    assert "tool_choice" not in chat(extra)  # a choice among nothing is refused
    assert "tool_choice" not in responses(extra)


def test_a_table_of_another_type_takes_the_place_of_ours() -> None:
    sent = chat({"response_format": {"type": "json_object"}}, output_spec=ANSWER)
    assert sent["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize(("name", "value"), [("model", "x"), ("messages", []), ("tools", {})])
def test_the_conversation_itself_cannot_be_set_for_chat(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"provider\.openai-chat\.extra_body.*" + name):
        chat({name: value})


@pytest.mark.parametrize(("name", "value"), [("model", "x"), ("input", []), ("instructions", ""), ("tools", {})])
def test_the_conversation_itself_cannot_be_set_for_responses(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"provider\.openai\.extra_body.*" + name):
        responses({name: value})


def test_a_model_that_is_told_not_to_reason_is_asked_for_no_summary() -> None:
    settings = OpenAiSettings(reasoning_summary="auto")
    encoder = ResponsesEncoder(settings, lambda _: ModelCapability())
    sent = [json.loads(encoder.encode(asked(model_variant=each)))["reasoning"] for each in ("none", "low", None)]
    assert sent == [{"effort": "none"}, {"effort": "low", "summary": "auto"}, {"summary": "auto"}]
