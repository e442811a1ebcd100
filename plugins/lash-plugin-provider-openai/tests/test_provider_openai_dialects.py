"""Dialect flags: what a setting changes in a request, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from lash_hookspecs.errors import ConfigurationError
from lash_hookspecs.llm import GenerationOptions, LlmRequest, LlmRequestScope, LlmToolSpec
from lash_hookspecs.llm_messages import LlmMessage, LlmMessages, LlmRole, MessageRun, TextBlock, llm_text
from lash_hookspecs.models import ModelCapability
from lash_hookspecs.testing.provider import Caller, refused
from lash_plugin_provider_openai import OpenAiChatProvider, OpenAiChatSettings
from lash_plugin_provider_openai.chat_models import chat_capability
from lash_plugin_provider_openai.details import ReasoningDetails
from lash_plugin_provider_openai.encode import RequestEncoder
from lash_provider_kit.testing import ChatServer, text

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


# ---- what is known of a model


def chat(**fields: Any) -> LlmRequest:
    return LlmRequest(**{"model": "m", "messages": (llm_text(LlmRole.USER, "hi"),), **fields})


def at_openai(request: LlmRequest, **said: ModelCapability) -> dict[str, Any]:
    settings = OpenAiChatSettings()
    encoder = RequestEncoder(settings, lambda model: chat_capability(settings, model, said, is_openai=True))
    decoded: dict[str, Any] = json.loads(encoder.encode(request))
    return decoded | {"receipt": dict(encoder.receipt(request))}


def refusal(request: LlmRequest, **said: ModelCapability) -> str | None:
    return refused(lambda: at_openai(request, **said)).code


def test_openai_s_table_decides_what_is_sent_to_openai() -> None:
    """It was used for prices alone: a temperature for a model that reasons was sent, and refused by the service."""
    warm = GenerationOptions(temperature=0.5, seed=3)
    reasons, plain = (at_openai(chat(model=name, generation=warm)) for name in ("gpt-5", "gpt-4.1"))
    assert "temperature" not in reasons
    assert reasons["receipt"] == {"temperature": "omitted_sampling_pinned", "seed": "applied"}
    assert plain["temperature"] == 0.5
    assert plain["receipt"] == {"temperature": "applied", "seed": "applied"}
    off = at_openai(chat(model="gpt-5.1", model_variant="disabled", generation=warm))
    assert (off["reasoning_effort"], off["temperature"]) == ("none", 0.5)


@pytest.mark.parametrize(
    ("model", "variant", "code"),
    [
        ("gpt-4.1", "low", "effort_not_configurable"),
        ("gpt-5", "disabled", "effort_required"),
        ("gpt-5", "heroic", "unsupported_effort"),
    ],
)
def test_an_effort_that_the_table_knows_isn_t_there_is_refused(model: str, variant: str, code: str) -> None:
    assert refusal(chat(model=model, model_variant=variant)) == code


def test_what_the_user_says_of_a_model_is_stronger_than_settings_and_table() -> None:
    said = {"gpt-4.1": ModelCapability(reasoning_encoding="effort", reasoning_efforts=("low",))}
    assert at_openai(chat(model="gpt-4.1", model_variant="low"), **said)["reasoning_effort"] == "low"
    settings = OpenAiChatSettings(images=False, context_window=9, structured_output=False)
    own = {"m": ModelCapability(images=True, structured_output=True, context_window=10)}
    assert chat_capability(settings, "other", own).images is False
    known = chat_capability(settings, "m", own)
    assert (known.images, known.structured_output, known.context_window) == (True, True, 10)
    assert known.documents is False  # the wire has none, whoever says otherwise


def test_a_model_elsewhere_is_not_openai_s_of_that_name() -> None:
    assert body("low")["reasoning_effort"] == "low"
    assert chat_capability(OpenAiChatSettings(), "gpt-4.1").prices is None


# ---- caches, and who keeps a conversation together

SCOPE = LlmRequestScope(session_id="s", agent_frame_id="f", request_id="r")
MARK = {"type": "ephemeral"}


def asked(text: str) -> TextBlock:
    return TextBlock(text=text, cache_breakpoint=True)


def marked(
    dialect: str, *messages: LlmMessage, tools: bool = True, **settings: Any
) -> tuple[dict[str, Any], list[str]]:
    """A request's body, and what it has marked: tools by name, texts as they are."""
    request = chat(messages=messages, tools=(TOOL, TOOL) if tools else ())
    decoded = json.loads(RequestEncoder(OpenAiChatSettings(cache_dialect=dialect, **settings)).encode(request))
    found = [tool["function"]["name"] for tool in decoded.get("tools", ()) if "cache_control" in tool]
    parts = (part for each in decoded["messages"] if isinstance(each["content"], list) for part in each["content"])
    return decoded, [*found, *(part["text"] for part in parts if "cache_control" in part)]


def user(*texts: TextBlock) -> LlmMessage:
    return LlmMessage(LlmRole.USER, texts)


SYSTEM, SAID = llm_text(LlmRole.SYSTEM, "be brief"), llm_text(LlmRole.ASSISTANT, "ok")
ONE, TWO = user(TextBlock(text="one")), user(TextBlock(text="two a"), TextBlock(text="two b"))


@pytest.mark.parametrize(
    ("dialect", "messages", "tools", "marks"),
    [
        ("none", (SYSTEM, ONE), True, []),
        ("key", (SYSTEM, ONE), True, []),
        ("anthropic", (SYSTEM, ONE, SAID, TWO), True, ["now", "be brief", "two b"]),
        ("anthropic", (ONE, SAID, TWO), False, ["two b"]),
        ("anthropic", (SYSTEM, user(asked("a")), SAID, TWO), True, ["now", "be brief", "a"]),
        (
            "anthropic",
            (SYSTEM, *(user(asked(each)) for each in "abcd")),
            True,
            ["now", "be brief", "c", "d"],
        ),
        ("anthropic", (ONE, SAID, user(TextBlock(text="b"), TextBlock(text=" "))), False, ["b"]),
        ("anthropic", (ONE, SAID, user(TextBlock(text="b"), asked(" "))), False, ["b"]),
        ("anthropic", (ONE, SAID, user(asked("b"), asked("\n"))), False, ["b"]),
        ("anthropic", (ONE, SAID, user(asked(""), TextBlock(text="b"))), False, ["b"]),
        ("anthropic", (user(asked(" ")),), False, []),
        ("gemini", (SYSTEM, ONE, SAID, TWO), True, ["be brief"]),
        ("gemini", (ONE, SAID, TWO), True, ["two b"]),
        ("gemini", (SYSTEM, user(asked("a")), user(asked("b")), ONE), True, ["b"]),
    ],
)
def test_each_dialect_of_a_cache_marks_its_own_places(
    dialect: str, messages: tuple[LlmMessage, ...], tools: bool, marks: list[str]
) -> None:
    """They are those of the services: tools, system and the last text, or what was asked for; for Gemini only one."""
    decoded, found = marked(dialect, *messages, tools=tools)
    assert found == marks
    assert ("prompt_cache_key" in decoded) is False


def test_a_long_cache_says_so() -> None:
    decoded, _ = marked("anthropic", SYSTEM, ONE, cache_retention="long")
    assert decoded["messages"][0]["content"] == [
        {"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    ]


@given(st.lists(st.sampled_from([SYSTEM, ONE, SAID, TWO, user(asked("x"))]), min_size=1, max_size=8), st.integers(1, 4))
def test_but_for_its_marks_a_request_begins_with_the_one_before(messages: list[LlmMessage], runs: int) -> None:
    """However the messages come in runs, and whatever was kept of them; else marks that move would cost the cache."""
    encoder = RequestEncoder(OpenAiChatSettings(cache_dialect="anthropic"))
    size = -(-len(messages) // runs)
    parts = [MessageRun(tuple(messages[at : at + size])) for at in range(0, len(messages), size)]
    more = MessageRun((user(TextBlock(text="more")),))

    def sent(*runs: MessageRun) -> bytes:
        whole = encoder.encode(chat(messages=LlmMessages(runs)))
        json.loads(whole)
        return whole.replace(b',"cache_control":{"type":"ephemeral"}', b"")

    before, after = sent(*parts), sent(*parts, more)
    assert after.startswith(before[: before.index(b'],"stream"')])
    assert sent(*parts, more) == after


def test_openai_is_told_which_requests_belong_together() -> None:
    at_home = at_openai(chat(scope=SCOPE))
    assert at_home["prompt_cache_key"] == "s::f"
    settings = OpenAiChatSettings()
    elsewhere = json.loads(RequestEncoder(settings).encode(chat(scope=SCOPE)))
    assert not {"prompt_cache_key", "session_id"} & elsewhere.keys()
    named = json.loads(RequestEncoder(OpenAiChatSettings(session_affinity="body")).encode(chat(scope=SCOPE)))
    assert named["session_id"] == "s::f"


async def test_a_gateway_is_told_by_headers_which_conversation_it_is() -> None:
    """Ids that no header may hold made every call of their session an error of the settings."""
    odd = [LlmRequestScope(session_id=each, agent_frame_id="f", request_id="r") for each in ("Käse", "a\nb", " a")]
    with ChatServer(*map(text, "abcde")) as server:
        for affinity, scope in (("header", SCOPE), ("off", SCOPE), *(("header", each) for each in odd)):
            settings = OpenAiChatSettings(base_url=server.url, session_affinity=affinity)
            await Caller(OpenAiChatProvider(settings)).ask(chat(scope=scope))
        named, unnamed, *digests = server.requests
    assert len({each.headers["session_id"] for each in digests}) == 3
    assert {len(each.headers["session_id"]) for each in digests} == {64}
    assert (named.headers["session_id"], named.headers["x-client-request-id"]) == ("s::f", "s::f")
    assert not {"session_id", "x-client-request-id"} & unnamed.headers.keys()
