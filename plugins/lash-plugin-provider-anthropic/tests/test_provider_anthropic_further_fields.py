"""What a user adds to each request (`extra_body`) is merged with what the request says itself."""

from __future__ import annotations

import json
from typing import Any

from lash_hookspecs.llm import JsonSchemaOutput, LlmRequest, LlmToolSpec
from lash_hookspecs.llm_messages import LlmRole, llm_text
from lash_plugin_provider_anthropic.encode import RequestEncoder
from lash_plugin_provider_anthropic.settings import AnthropicSettings

TOOL = LlmToolSpec(name="add", description="Adds.", input_schema={"type": "object"})
ANSWER = JsonSchemaOutput(name="answer", schema={"type": "object"})


def sent(extra: dict[str, Any], **fields: Any) -> Any:
    request = LlmRequest(model="m", messages=(llm_text(LlmRole.USER, "Hi"),), **fields)
    return json.loads(RequestEncoder(AnthropicSettings(extra_body=extra)).encode(request))


def test_a_form_that_is_asked_for_survives_an_effort() -> None:
    made = sent({"output_config": {"effort": "low"}}, output_spec=ANSWER)
    assert made["output_config"]["effort"] == "low"
    assert made["output_config"]["format"]["type"] == "json_schema"


def test_one_call_at_a_time_leaves_the_choice_what_it_is() -> None:
    made = sent({"tool_choice": {"disable_parallel_tool_use": True}}, tools=(TOOL,))
    assert made["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}


def test_another_way_to_think_takes_the_place_of_ours() -> None:
    budget = {"type": "enabled", "budget_tokens": 2048}
    assert sent({"thinking": budget}, model_variant="high")["thinking"] == budget
