"""Reasoning that a service leaves out of the output it reports, and charges for."""

from __future__ import annotations

from typing import Any

import pytest

from lash_plugin_provider_openai.usage import UsageMeter


def usage(**report: Any) -> tuple[int, int, int]:
    meter = UsageMeter()
    assert meter.update(report)
    found = meter.usage
    return found.input + found.cache_read_input + found.cache_write_input, found.output, found.reasoning_output


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        pytest.param(
            {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 300}, "total_tokens": 341},
            (32, 309, 300),
            id="xAI",
        ),
        pytest.param({"completion_tokens": 9, "total_tokens": 341}, (32, 309, 0), id="Gemini, compatible"),
        pytest.param(
            {"completion_tokens": 309, "completion_tokens_details": {"reasoning_tokens": 300}, "total_tokens": 341},
            (32, 309, 300),
            id="OpenAI",
        ),
        pytest.param(
            {"completion_tokens": 9, "prompt_tokens_details": {"cached_tokens": 30}, "total_tokens": 71},
            (32, 9, 0),
            id="a total that counts what was cached once more",
        ),
        pytest.param({"completion_tokens": 9, "total_tokens": 0}, (32, 9, 0), id="no total"),
        pytest.param({"completion_tokens": 9}, (32, 9, 0), id="none at all"),
    ],
)
def test_what_the_total_holds_beyond_prompt_and_output_is_output(report: Any, expected: tuple[int, int, int]) -> None:
    assert usage(prompt_tokens=32, **report) == expected
