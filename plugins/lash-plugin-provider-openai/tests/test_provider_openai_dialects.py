"""Dialect flags: what a setting changes in a request, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.llm import LlmRequest, LlmToolSpec
from lash_hookspecs.llm_messages import LlmRole, llm_text
from lash_plugin_provider_openai import OpenAiChatProvider, OpenAiChatSettings
from lash_plugin_provider_openai.details import ReasoningDetails
from lash_plugin_provider_openai.encode import RequestEncoder

TOOL = LlmToolSpec(name="now", description="The time.", input_schema={"type": "object", "properties": {}})


def body(variant: str | None = None, *, tools: bool = False, **settings: Any) -> dict[str, Any]:
    request = LlmRequest(
        model="m",
        messages=(llm_text(LlmRole.USER, "hi"),),
        model_variant=variant,
        tools=(TOOL,) if tools else (),
    )
    decoded: dict[str, Any] = json.loads(RequestEncoder(OpenAiChatSettings(**settings)).encode(request))
    return decoded


@pytest.mark.parametrize(
    ("dialect", "variant", "added"),
    [
        ("openai", "low", {"reasoning_effort": "low"}),
        ("openai", "disabled", {"reasoning_effort": "none"}),
        ("openrouter", "low", {"reasoning": {"effort": "low"}}),
        ("openrouter", "disabled", {"reasoning": {"enabled": False}}),
        ("none", "low", {}),
    ],
)
def test_an_effort_is_asked_for_in_the_services_way(dialect: str, variant: str, added: dict[str, Any]) -> None:
    assert body(variant, reasoning_format=dialect) == body() | added


def test_parallel_calls_are_spoken_of_with_tools_only() -> None:
    assert body(parallel_tool_calls=False) == body()
    assert body(tools=True, parallel_tool_calls=False) == body(tools=True) | {"parallel_tool_calls": False}


def test_strict_tools() -> None:
    (tool,) = body(tools=True, strict_tools=True)["tools"]
    assert tool["function"]["strict"] is True
    (tool,) = body(tools=True)["tools"]
    assert "strict" not in tool["function"]


def test_http2_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said when the provider is opened, not when the first call fails."""
    monkeypatch.setattr("lash_provider_kit.transport.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="pip install h2"):
        OpenAiChatProvider(OpenAiChatSettings(base_url="http://localhost", http2=True))


def test_pieces_of_a_detail_are_joined() -> None:
    """OpenRouter streams the state of one piece of reasoning in several deltas of one index; nulls say nothing."""
    details = ReasoningDetails()
    details.take([{"type": "reasoning.text", "index": 0, "text": "Let me ", "signature": None}])
    details.take([{"type": "reasoning.text", "index": 0, "text": "see.", "signature": "c2ln"}, "nonsense", None])
    (part,) = details.kept_in([])
    assert part.replay is not None
    kept = json.loads(part.replay.encrypted_content or "")
    assert kept == [{"type": "reasoning.text", "index": 0, "text": "Let me see.", "signature": "c2ln"}]


def test_details_that_are_only_shown_need_no_way_back() -> None:
    details = ReasoningDetails()
    details.take([{"type": "reasoning.text", "index": 0, "text": "hm", "signature": None}])
    assert details.kept_in([]) == []


@pytest.mark.parametrize("odd", ["\ud800", 2**70])
def test_a_detail_that_cant_go_back_isnt_kept(odd: object) -> None:
    """The fuzzer's find: such a detail made the whole answer fail, which had been paid for."""
    details = ReasoningDetails()
    details.take([{"type": "reasoning.encrypted", "index": 0, "data": odd}])
    assert details.kept_in([]) == []
