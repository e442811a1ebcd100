"""A message of the Responses API goes back as what it was."""

from __future__ import annotations

import json

import pytest

from lash_hookspecs.llm import LlmRequest
from lash_hookspecs.llm_messages import LlmMessage, LlmRole, TextBlock
from lash_hookspecs.messages import ResponseTextMeta
from lash_hookspecs.models import ModelCapability
from lash_plugin_provider_openai.responses_encode import ResponsesEncoder
from lash_plugin_provider_openai.responses_settings import OpenAiSettings


@pytest.mark.parametrize(
    ("said", "sent"), [("completed", "completed"), ("incomplete", "incomplete"), (None, "completed")]
)
def test_a_message_that_was_cut_off_is_not_called_complete(said: str | None, sent: str) -> None:
    message = LlmMessage(LlmRole.ASSISTANT, (TextBlock(text="On", response_meta=ResponseTextMeta("msg", said)),))
    encoder = ResponsesEncoder(OpenAiSettings(), lambda _: ModelCapability())
    (item,) = json.loads(encoder.encode(LlmRequest(model="m", messages=(message,))))["input"]
    assert (item["id"], item["status"]) == ("msg", sent)
