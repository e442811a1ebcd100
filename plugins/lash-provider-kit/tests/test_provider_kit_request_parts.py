"""What requests of all wires have in common."""

from __future__ import annotations

import json
from collections.abc import Sequence

from lash_hookspecs.llm import LlmToolSpec
from lash_provider_kit.request_parts import Toolsets
from lash_provider_kit.wire_json import dump, dumps, load

TOOL = LlmToolSpec(name="look", description="", input_schema={})


def test_tools_are_encoded_once_per_tuple_and_a_few_tuples_are_kept() -> None:
    made: list[int] = []

    def encode(tools: Sequence[LlmToolSpec]) -> bytes:
        made.append(len(tools))
        return b"%d" % len(tools)

    toolsets = Toolsets(encode)
    tools = (TOOL, TOOL)
    assert [toolsets(tools), toolsets(tools)] == [b"2", b"2"]
    assert made == [2]
    for _ in range(100):
        toolsets((TOOL, TOOL, TOOL))
    assert len(toolsets) <= 32
    assert toolsets(tools) == b"2"


def test_half_a_surrogate_pair_is_read_and_kept_and_not_sent() -> None:
    """UTF-8 has no bytes for it, so a conversation that sent it would end there."""
    value = load(rb'{"text":"\ud83d"}')
    assert value == {"text": "\ud83d"}
    assert json.loads(dump(value)) == value
    assert dumps(value) == b'{"text":"?"}'
