"""How long a list must be: the service takes no bound but that there is something in it at all."""

from __future__ import annotations

from typing import Any

import pytest

from lash_plugin_provider_anthropic.schemas import output_schema


@pytest.mark.parametrize(
    ("least", "expected"),
    [
        (0, {"type": "array", "minItems": 0}),
        (1, {"type": "array", "minItems": 1}),
        (2, {"type": "array", "description": "(minItems: 2)"}),
    ],
)
def test_a_list_of_at_least_so_many(least: int, expected: dict[str, Any]) -> None:
    assert output_schema({"type": "array", "minItems": least}) == expected
