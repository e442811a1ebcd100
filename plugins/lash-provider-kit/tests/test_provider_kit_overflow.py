"""How services say that a conversation is too long, or that they won't answer it: bodies as they send them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lash_hookspecs.llm import LlmTerminalReason, ProviderFailureKind
from lash_provider_kit.failures import ServiceError, classify, error_object

VALIDATION = ProviderFailureKind.VALIDATION
ERROR, FILTER = LlmTerminalReason.PROVIDER_ERROR, LlmTerminalReason.CONTENT_FILTER
OVERFLOW = LlmTerminalReason.CONTEXT_OVERFLOW

TOO_LONG: dict[str, Any] = {
    # The code only repeats the type, so it is no reason to disbelieve the text.
    "DeepSeek": {
        "error": {
            "message": "This model's maximum context length is 131072 tokens. However, you requested 131134 tokens "
            "(122942 in the messages, 8192 in the completion). Please reduce the length of the messages or completion.",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_request_error",
        }
    },
    "xAI": {
        "code": "Client specified an invalid argument",
        "error": "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
    },
    "Moonshot": {
        "error": {
            "message": "Invalid request: Your request exceeded model token limit: 131072 (requested: 140000)",
            "type": "invalid_request_error",
        }
    },
    "GitHub Copilot": {"error": {"message": "prompt token count of 130000 exceeds the limit of 128000", "code": ""}},
    "Alibaba": {"error": {"message": "Range of input length should be [1, 129024]", "type": "invalid_request_error"}},
    "OpenAI": {
        "error": {
            "message": "Your input exceeds the context window of this model. Please adjust your input and try again.",
            "type": "invalid_request_error",
            "param": "input",
            "code": "context_length_exceeded",
        }
    },
    "Anthropic": {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "prompt is too long: 213462 tokens > 200000 maximum"},
    },
    "Anthropic with max_tokens": {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "message": "input length and `max_tokens` exceed context limit: 195000 + 8000 > 200000, decrease input "
            "length or `max_tokens` and try again",
        },
    },
}


@pytest.mark.parametrize("service", TOO_LONG)
def test_a_conversation_that_is_too_long_is_known_as_that(service: str) -> None:
    said = error_object(json.dumps(TOO_LONG[service]).encode())
    assert classify(said, 400) == (VALIDATION, False, OVERFLOW)


def test_a_code_that_says_something_is_still_believed_over_the_text() -> None:
    said = ServiceError(code="unsupported_value", type="invalid_request_error", message="prompt is too long")
    assert classify(said, 400) == (VALIDATION, False, ERROR)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("invalid_prompt", ERROR),
        ("bio_policy", FILTER),
        ("cyber_policy", FILTER),
        ("image_content_policy_violation", FILTER),
        ("invalid_image", ERROR),
        ("image_too_large", ERROR),
        ("failed_to_download_image", ERROR),
    ],
)
def test_what_an_answer_refuses_to_say_is_not_worth_asking_again(code: str, reason: LlmTerminalReason) -> None:
    """`response.failed` comes in a 200, so there is no status that would tell."""
    assert classify(ServiceError(code=code, message="No."), None) == (VALIDATION, False, reason)
